//! What a driver has not agreed to is made up for at this edge.

use net_backend::{NetworkBackend, Offloads, TxFrame};
use net_datapath::{IoSegment, VirtioNetHdr};
use net_virtio::{DeviceConfig, VirtioNet};

use crate::guest::{Guest, Shape};

/// A TCP/IPv4 super-frame with `payload` bytes and a partial checksum.
fn super_frame(payload: usize) -> (VirtioNetHdr, Vec<u8>) {
    let mut frame = vec![0; 54 + payload];
    for (at, byte) in frame[54..].iter_mut().enumerate() {
        *byte = (at / 7) as u8;
    }
    frame[12..14].copy_from_slice(&[8, 0]);
    frame[14..24].copy_from_slice(&[0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, 6]);
    frame[16..18].copy_from_slice(&((40 + payload) as u16).to_be_bytes());
    frame[26..34].copy_from_slice(&[10, 0, 2, 2, 10, 0, 2, 3]);
    frame[46] = 0x50;
    frame[47] = 0x18;
    let header = VirtioNetHdr {
        flags: VirtioNetHdr::NEEDS_CSUM,
        gso_type: VirtioNetHdr::GSO_TCPV4,
        hdr_len: 54,
        gso_size: 1448,
        csum_start: 34,
        csum_offset: 16,
        num_buffers: 0,
    };
    (header, frame)
}

fn deliver(device: &mut VirtioNet, header: VirtioNetHdr, frame: &[u8]) -> usize {
    let segments = [IoSegment::from(frame)];
    let segments = &segments[..];
    device.transmit(&[TxFrame { header, segments }]).unwrap()
}

/// The TCP checksum of a frame is right.
fn assert_complete(frame: &[u8]) {
    let mut sum = 6 + (frame.len() as u32 - 34);
    for pair in frame[26..].chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
    }
    let folded = (sum & 0xffff) + (sum >> 16);
    assert_eq!((folded & 0xffff) + (folded >> 16), 0xffff, "TCP checksum");
}

#[test]
fn a_guest_without_gets_a_checksum_that_was_left_out() {
    let mut guest = Guest::new(Shape {
        offloads: 0,
        ..Shape::default()
    });
    let mut device = guest.device_with(Offloads::ALL);
    let (header, mut frame) = super_frame(100);
    // What the sender leaves is the sum of the pseudo header: 10.0.2.2 and 10.0.2.3, TCP, its length.
    frame[50..52].copy_from_slice(&(2 * 0x0a00 + 0x0202 + 0x0203 + 6 + 120u16).to_be_bytes());
    let header = VirtioNetHdr {
        flags: header.flags,
        csum_start: header.csum_start,
        csum_offset: header.csum_offset,
        ..VirtioNetHdr::PLAIN
    };
    assert_eq!(deliver(&mut device, header, &frame), 1);
    let (header, frame) = guest.recv().unwrap();
    assert_eq!(header, VirtioNetHdr::PLAIN);
    assert_complete(&frame);
}

#[test]
fn a_guest_with_offloads_gets_the_super_frame() {
    let mut guest = Guest::new(Shape {
        receive: 66_000,
        ..Shape::default()
    });
    let mut device = guest.device_with(Offloads::ALL);
    let (header, frame) = super_frame(40_000);
    assert_eq!(deliver(&mut device, header, &frame), 1);
    assert_eq!(guest.recv(), Some((header, frame)));
}

#[test]
fn a_guest_without_gets_segments_complete_and_in_order() {
    // Also where all of it would fit into one buffer.
    for (size, receive, segments) in [(256, 1600, 28), (64, 66_000, 28), (16, 1600, 16)] {
        let mut guest = Guest::new(Shape {
            offloads: 0,
            size,
            receive,
            ..Shape::default()
        });
        let mut device = guest.device_with(Offloads::ALL);
        let (header, frame) = super_frame(40_000);
        assert_eq!(deliver(&mut device, header, &frame), 1);
        let mut payload = Vec::new();
        for n in 0..segments {
            let (header, segment) = guest.recv().unwrap_or_else(|| panic!("segment {n}"));
            assert_eq!(header, VirtioNetHdr::PLAIN);
            assert!(segment.len() <= 1514);
            assert_complete(&segment);
            payload.extend_from_slice(&segment[54..]);
        }
        assert!(guest.recv().is_none());
        // The short ring got what it could hold, from the front.
        assert_eq!(payload, frame[54..54 + payload.len()]);
        assert_eq!(payload.len() == 40_000, segments == 28);
    }
}

#[test]
fn what_the_holder_does_not_carry_is_not_offered() {
    let mut device = VirtioNet::new(DeviceConfig::default());
    device.set_offloads(Offloads::ALL).unwrap();
    let before = device.features();
    device.set_offloads(Offloads::NONE).unwrap();
    let after = device.features();
    assert_ne!(before, after);
    assert_eq!(after & net_virtio::features::CSUM, 0);
    assert_eq!(after & net_virtio::features::GUEST_TSO4, 0);
    let (header, frame) = super_frame(3000);
    assert_eq!(deliver(&mut device, header, &frame), 1);
    assert_eq!(device.statistics().tx_invalid, 1);
}
