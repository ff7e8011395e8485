//! Rings of both formats: what goes round comes back.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use net_backend::{NetworkBackend, TxFrame};
use net_datapath::{IoSegment, VirtioNetHdr};
use net_virtio::driver::{BASE, DriverOptions, DriverQueue, GuestRam};
use net_virtio::{DeviceConfig, QueueSetup, QueueState, SetupError, VirtioNet, features};

use crate::guest::{Guest, Shape};

/// Frames the device received, as bytes.
pub(crate) fn received(device: &mut VirtioNet) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    while device
        .receive(256, &mut |batch| {
            for packet in batch {
                let mut bytes = vec![0; packet.len()];
                packet.copy_range(0, &mut bytes);
                frames.push(bytes);
            }
        })
        .unwrap()
        > 0
    {}
    frames
}

/// Transmits one finished frame; whether it was taken.
pub(crate) fn transmit(device: &mut VirtioNet, frame: &[u8]) -> bool {
    let segments = [IoSegment::from(frame)];
    device.transmit(&[TxFrame::plain(&segments)]).unwrap() == 1
}

fn frame(n: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7 + n) as u8).collect()
}

#[test]
fn every_shape_carries_every_size_both_ways_many_times_round() {
    for shape in Shape::all() {
        let mut guest = Guest::new(shape);
        let mut device = guest.device();
        let sizes = [14, 15, 60, 1500, 1514, 4000, 9014, 65_550];
        for n in 0..400 {
            let len = sizes[n % sizes.len()];
            let bytes = frame(n, len);
            assert!(guest.send(VirtioNetHdr::PLAIN, &bytes), "{shape:?}");
            assert_eq!(
                received(&mut device),
                std::slice::from_ref(&bytes),
                "{shape:?} {len}"
            );
            if shape.mergeable
                && u64::from(shape.receive) * u64::from(shape.size) * 3 / 4 < len as u64
            {
                continue;
            }
            let fits = shape.mergeable || len + 12 <= shape.receive as usize;
            // A small ring of small pieces may not hold the largest frame at once.
            let pieces = len.div_ceil(shape.cut.max(1) as usize);
            if !fits || (shape.cut == 13 && !shape.options.indirect && pieces > 90) {
                continue;
            }
            assert!(transmit(&mut device, &bytes), "{shape:?} {len}");
            let got = guest.recv().expect("a frame").1;
            assert_eq!(got, bytes, "{shape:?} {len}");
        }
        assert_eq!(guest.receive.take_used(), None);
        assert_eq!(device.statistics().rx_malformed, 0);
    }
}

#[test]
fn a_full_queue_blocks_and_goes_on_where_it_stopped() {
    for options in [false, true].map(|packed| DriverOptions {
        packed,
        event_index: true,
        ..Default::default()
    }) {
        let shape = Shape {
            options,
            size: 8,
            ..Shape::default()
        };
        let mut guest = Guest::new(shape);
        let mut device = guest.device();
        let frames: Vec<Vec<u8>> = (0..20).map(|n| frame(n, 100)).collect();
        let segments: Vec<_> = frames.iter().map(|f| [IoSegment::from(&f[..])]).collect();
        let lists: Vec<_> = segments.iter().map(|s| TxFrame::plain(s)).collect();
        let mut sent = device.transmit(&lists).unwrap();
        assert_eq!(sent, 8);
        assert!(device.wants_write());
        assert_eq!(device.transmit(&lists[sent..]).unwrap(), 0);
        let mut got = Vec::new();
        while got.len() < frames.len() {
            let (_, bytes) = guest.recv().expect("a frame");
            got.push(bytes);
            sent += device.transmit(&lists[sent..]).unwrap();
        }
        assert_eq!(got, frames);
        assert!(device.flush().unwrap() && !device.wants_write());
    }
}

/// Interrupts come when they are asked for, and kicks likewise, in either format, with and
/// without event indices.
#[test]
fn nobody_is_woken_who_does_not_want_it() {
    for bits in 0..4 {
        let options = DriverOptions {
            packed: bits & 1 != 0,
            event_index: bits & 2 != 0,
            indirect: false,
        };
        let mut guest = Guest::new(Shape {
            options,
            ..Shape::default()
        });
        let mut device = guest.device();
        let count = |guest: &Guest| guest.interrupts[0].load(Ordering::Relaxed);
        guest.receive.want_interrupts(false);
        assert!(transmit(&mut device, &frame(0, 60)));
        assert_eq!(count(&guest), 0, "{options:?}");
        guest.recv().unwrap();
        guest.receive.want_interrupts(true);
        assert!(transmit(&mut device, &frame(1, 60)));
        assert_eq!(count(&guest), 1, "{options:?}");
        // With an event index one interrupt is all that was asked for.
        assert!(transmit(&mut device, &frame(2, 60)));
        assert_eq!(count(&guest), if options.event_index { 1 } else { 2 });

        // The device sleeps: the first frame rings, and while it works none does.
        assert!(received(&mut device).is_empty());
        let send = |guest: &mut Guest| guest.send_kicking(VirtioNetHdr::PLAIN, &frame(3, 60));
        assert_eq!(send(&mut guest), Some(true), "asleep: {options:?}");
        assert_eq!(device.receive(1, &mut |_| {}).unwrap(), 1);
        assert_eq!(send(&mut guest), Some(false), "at work: {options:?}");
        assert_eq!(received(&mut device).len(), 1);
        assert_eq!(send(&mut guest), Some(true), "asleep again: {options:?}");
    }
}

#[test]
fn a_queue_goes_on_in_another_device_where_it_stopped() {
    for packed in [false, true] {
        let options = DriverOptions {
            packed,
            ..Default::default()
        };
        let mut guest = Guest::new(Shape {
            options,
            ..Shape::default()
        });
        let mut device = guest.device();
        for n in 0..100 {
            assert!(guest.send(VirtioNetHdr::PLAIN, &frame(n, 64)));
            assert_eq!(received(&mut device), [frame(n, 64)]);
            assert!(transmit(&mut device, &frame(n, 64)));
            assert_eq!(guest.recv().unwrap().1, frame(n, 64));
            let states = [0, 1].map(|index| device.stop_queue(index).unwrap());
            let mut next = VirtioNet::new(DeviceConfig::default());
            next.set_features(guest.shape.features() & next.features())
                .unwrap();
            for (index, queue) in [&guest.receive, &guest.transmit].into_iter().enumerate() {
                let setup = QueueSetup {
                    state: states[index],
                    ..queue.setup()
                };
                next.start_queue(index, &setup, guest.ram.memory().unwrap(), Box::new(|| {}))
                    .unwrap();
            }
            device = next;
        }
    }
}

#[test]
fn queues_that_cannot_be_are_refused_with_the_reason() {
    let ram = GuestRam::new(1 << 20);
    let memory = ram.memory().unwrap();
    let queue = DriverQueue::new(&ram, BASE, 16, DriverOptions::default());
    let mut device = VirtioNet::new(DeviceConfig::default());
    let mut start =
        |setup: QueueSetup| device.start_queue(1, &setup, Arc::clone(&memory), Box::new(|| {}));
    let good = queue.setup();
    for size in [0, 3, 0x8001] {
        assert_eq!(
            start(QueueSetup { size, ..good }),
            Err(SetupError::Size(size))
        );
    }
    for bad in [0, BASE - 16, BASE + (1 << 20) - 16, u64::MAX - 15] {
        let parts = [
            QueueSetup {
                descriptors: bad & !15,
                ..good
            },
            QueueSetup {
                driver: bad & !15,
                ..good
            },
            QueueSetup {
                device: bad & !15,
                ..good
            },
        ];
        for setup in parts {
            assert!(
                matches!(start(setup), Err(SetupError::OutOfRange { .. })),
                "{setup:?}"
            );
        }
    }
    for setup in [
        QueueSetup {
            descriptors: good.descriptors + 8,
            ..good
        },
        QueueSetup {
            driver: good.driver + 1,
            ..good
        },
        QueueSetup {
            device: good.device + 2,
            ..good
        },
    ] {
        assert!(
            matches!(start(setup), Err(SetupError::Alignment { .. })),
            "{setup:?}"
        );
    }
    start(good).unwrap();
    assert_eq!(start(good), Err(SetupError::Running(1)));
    assert_eq!(
        device.start_queue(3, &good, Arc::clone(&memory), Box::new(|| {})),
        Err(SetupError::NoQueue(3))
    );
    assert_eq!(device.set_features(0), Err(SetupError::Running(1)));
    assert_eq!(
        device.stop_queue(1),
        Some(QueueState::Split { available: 0 })
    );
    assert_eq!(device.stop_queue(1), None);
    assert_eq!(
        device.set_features(1 << 60),
        Err(SetupError::Features(1 << 60))
    );
    // A packed ring may have any length, and a place past its end is none.
    device
        .set_features(features::VERSION_1 | features::RING_PACKED)
        .unwrap();
    let packed = QueueSetup {
        size: 3,
        state: QueueState::Packed {
            available: 3,
            used: 0,
        },
        ..good
    };
    assert_eq!(
        device.start_queue(1, &packed, Arc::clone(&memory), Box::new(|| {})),
        Err(SetupError::Size(3))
    );
}
