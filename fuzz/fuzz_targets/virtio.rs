//! virtio-net: a guest whose rings hold whatever it likes, and change while they are served.
//!
//! Bytes: two of options, then the guest's memory from its first byte on, where the three queues lie
//! and where descriptors best point; what does not fit is written over it later, between the turns.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use net_backend::{NetworkBackend, Offloads, TxFrame};
use net_datapath::{IoSegment, VirtioNetHdr};
use net_virtio::driver::{BASE, DriverOptions, DriverQueue, GuestRam};
use net_virtio::{DeviceConfig, VirtioNet, features};

/// Descriptors of a queue, and bytes of memory.
const SIZE: u16 = 8;
const MEMORY: usize = 0x8000;
/// Bytes between the starts of two queues' rings.
const QUEUE: u64 = 0x200;

fuzz_target!(|bytes: &[u8]| {
    let Some((&[first, second], bytes)) = bytes.split_first_chunk() else {
        return;
    };
    let has = |bit: u8| first & (1 << bit) != 0;
    let options = DriverOptions {
        packed: has(0),
        event_index: has(1),
        indirect: has(2),
    };
    let mut wanted = features::VERSION_1 | features::CTRL_VQ | features::CTRL_RX;
    wanted |= features::CTRL_MAC_ADDR | features::CTRL_VLAN;
    for (on, bit) in [
        (options.packed, features::RING_PACKED),
        (options.event_index, features::EVENT_IDX),
        (options.indirect, features::INDIRECT_DESC),
        (has(3), features::MRG_RXBUF),
        (has(4), features::GUEST_CSUM | features::GUEST_TSO4),
        (has(5), features::CSUM | features::HOST_TSO4),
    ] {
        if on {
            wanted |= bit;
        }
    }
    let ram = GuestRam::new(MEMORY);
    let (start, later) = bytes.split_at(bytes.len().min(MEMORY));
    ram.write(BASE, start);
    let memory = ram.memory().expect("one region");
    let mut device = VirtioNet::new(DeviceConfig::default());
    device.set_offloads(Offloads::ALL).expect("offloads");
    device
        .set_features(wanted & device.features())
        .expect("offered");
    for index in 0..device.queues() {
        let queue = DriverQueue::new(&ram, BASE + QUEUE * index as u64, SIZE, options);
        let setup = queue.setup();
        device
            .start_queue(index, &setup, Arc::clone(&memory), Box::new(|| {}))
            .expect("in range");
    }

    let frame = [second; 600];
    let header = VirtioNetHdr {
        flags: VirtioNetHdr::NEEDS_CSUM,
        gso_type: VirtioNetHdr::GSO_TCPV4,
        gso_size: 100,
        csum_start: 34,
        csum_offset: 16,
        ..VirtioNetHdr::PLAIN
    };
    let segments = [IoSegment::from(&frame[..])];
    let mut pokes = later.chunks_exact(4);
    for _ in 0..8 {
        let taken = device.receive(64, &mut |batch| {
            for packet in batch {
                let mut copy = vec![0; packet.len()];
                assert_eq!(packet.copy_range(0, &mut copy), copy.len());
                assert!((14..=65_550).contains(&copy.len()));
            }
        });
        assert!(taken.expect("a guest is never the host's error") <= 64);
        for header in [VirtioNetHdr::PLAIN, header] {
            let segments = &segments[..];
            device
                .transmit(&[TxFrame { header, segments }])
                .expect("a guest is never the host's error");
        }
        if let Some(poke) = pokes.next() {
            let at = u64::from(u16::from_le_bytes([poke[0], poke[1]])) % (MEMORY as u64 - 2);
            ram.write(BASE + at, &poke[2..]);
        }
    }
    let stats = device.statistics();
    assert!(stats.tx_frames + stats.tx_dropped() <= 16);
});
