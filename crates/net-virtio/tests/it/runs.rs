//! Frames in buffers of one piece, which go many at a time, and what ends such a run.

use net_backend::{NetworkBackend, Offloads, TxFrame};
use net_datapath::{IoSegment, VirtioNetHdr};
use net_virtio::QueueError;
use net_virtio::driver::DriverOptions;

use crate::guest::{Guest, Shape};
use crate::queues::{received, transmit};

fn guests(receive: u32) -> [Guest; 2] {
    [false, true].map(|packed| {
        Guest::new(Shape {
            options: DriverOptions {
                packed,
                ..DriverOptions::default()
            },
            receive,
            ..Shape::default()
        })
    })
}

/// Makes a chain of these lengths available; what is in it does not matter.
fn offer(guest: &mut Guest, lens: &[u32]) {
    let address = guest.transmit.setup().descriptors + 0x2000;
    let parts: Vec<_> = lens.iter().map(|len| (address, *len)).collect();
    guest.transmit.add(&parts, &[]).unwrap();
    guest.transmit.publish();
}

#[test]
fn what_is_sent_behind_a_buffer_too_short_for_a_header_is_not_taken() {
    for mut guest in guests(1600) {
        let mut device = guest.device();
        assert!(guest.send(VirtioNetHdr::PLAIN, &[1; 60]));
        offer(&mut guest, &[11]);
        assert!(guest.send(VirtioNetHdr::PLAIN, &[2; 60]));
        assert_eq!(received(&mut device), [[1; 60]]);
        assert_eq!(device.fault(1), Some(QueueError::TooShort(11)));
    }
}

#[test]
fn a_run_and_the_chains_behind_it_keep_to_the_budget_together() {
    for mut guest in guests(1600) {
        let mut device = guest.device();
        for len in [60, 61, 62] {
            assert!(guest.send(VirtioNetHdr::PLAIN, &vec![1; len]));
        }
        for _ in 0..3 {
            offer(&mut guest, &[12, 64]);
        }
        let mut lens = Vec::new();
        let mut take = |batch: &mut [net_datapath::ZeroCopyPacket<'_>]| {
            lens.extend(batch.iter().map(|packet| packet.len()));
        };
        assert_eq!(device.receive(4, &mut take).unwrap(), 4);
        assert_eq!(device.receive(4, &mut take).unwrap(), 2);
        assert_eq!(lens, [60, 61, 62, 64, 64, 64]);
        let stats = device.statistics();
        assert_eq!((stats.rx_frames, stats.rx_bytes), (6, 375));
    }
}

#[test]
fn frames_in_pieces_fill_one_buffer_each() {
    for mut guest in guests(1600) {
        let mut device = guest.device();
        let bytes: Vec<u8> = (0..200).map(|at| at as u8).collect();
        let one = [&bytes[..14], &bytes[14..15], &bytes[15..]].map(IoSegment::from);
        let two = [&bytes[..133], &bytes[133..]].map(IoSegment::from);
        let frames = [TxFrame::plain(&one), TxFrame::plain(&two)];
        assert_eq!(device.transmit(&frames).unwrap(), 2);
        for _ in 0..2 {
            assert_eq!(guest.recv().unwrap().1, bytes);
        }
        let stats = device.statistics();
        assert_eq!((stats.tx_frames, stats.tx_bytes), (2, 400));
    }
}

#[test]
fn frames_of_impossible_length_end_a_run_and_are_counted() {
    for mut guest in guests(66_000) {
        let mut device = guest.device();
        for len in [0, 13, 65_551] {
            assert!(transmit(&mut device, &vec![9; len]));
        }
        assert_eq!(device.statistics().tx_invalid, 3);
        assert!(transmit(&mut device, &[3; 14]));
        assert_eq!(guest.recv().unwrap().1, [3; 14]);
        assert!(guest.recv().is_none());
    }
}

/// The driver took the offload, and the holder has agreed to less since.
#[test]
fn an_offload_that_the_holder_did_not_agree_to_is_refused() {
    for mut guest in guests(66_000) {
        let mut device = guest.device_with(Offloads::ALL);
        device.set_offloads(Offloads::NONE).unwrap();
        let header = VirtioNetHdr {
            flags: VirtioNetHdr::NEEDS_CSUM,
            csum_start: 34,
            csum_offset: 16,
            ..VirtioNetHdr::PLAIN
        };
        let segments = [IoSegment::from(&[0; 100][..])];
        let segments = &segments[..];
        let frame = TxFrame { header, segments };
        assert_eq!(device.transmit(&[frame]).unwrap(), 1);
        assert_eq!(device.statistics().tx_invalid, 1);
        assert!(guest.recv().is_none());
    }
}
