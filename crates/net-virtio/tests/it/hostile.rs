//! Drivers that break the rules: row 72. Each costs its own queue, told by the right error, and the
//! other queues of the device go on.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use net_backend::{NetworkBackend, TxFrame};
use net_datapath::{IoSegment, VirtioNetHdr};
use net_virtio::driver::{BASE, DriverOptions};
use net_virtio::{Doorbell, QueueError, VirtioNet};
use proptest::prelude::*;

use crate::guest::{Guest, Shape};
use crate::queues::{received, transmit};

fn guest(packed: bool, indirect: bool) -> Guest {
    Guest::new(Shape {
        options: DriverOptions {
            packed,
            indirect,
            event_index: false,
        },
        size: 16,
        ..Shape::default()
    })
}

/// Writes a descriptor of a split ring, or of a table, over whatever is there.
fn split(guest: &Guest, at: u64, address: u64, len: u32, flags: u16, next: u16) {
    let mut bytes = address.to_le_bytes().to_vec();
    bytes.extend(len.to_le_bytes());
    bytes.extend(flags.to_le_bytes());
    bytes.extend(next.to_le_bytes());
    guest.ram.write(at, &bytes);
}

/// A slot of a packed ring.
fn packed(guest: &Guest, at: u64, address: u64, len: u32, id: u16, flags: u16) {
    split(guest, at, address, len, id, flags);
}

/// Puts one head into the available ring of the transmit queue and shows it.
fn show(guest: &Guest, head: u16) {
    let setup = guest.transmit.setup();
    guest.ram.write(setup.driver + 4, &head.to_le_bytes());
    guest.ram.write(setup.driver + 2, &1u16.to_le_bytes());
}

/// The transmit queue is broken by `error`, and the receive queue works.
fn broken(guest: &mut Guest, mut device: VirtioNet, wanted: impl Fn(QueueError) -> bool) {
    assert!(received(&mut device).is_empty());
    let fault = device.fault(1).expect("the queue is broken");
    assert!(wanted(fault), "{fault}");
    assert!(received(&mut device).is_empty());
    assert_eq!(device.fault(0), None);
    assert!(transmit(&mut device, &[7; 60]));
    assert_eq!(guest.recv().unwrap().1, [7; 60]);
    assert_eq!(device.fault(0), None);
}

#[test]
fn row72_split_rings() {
    const NEXT: u16 = 1;
    const WRITE: u16 = 2;
    const INDIRECT: u16 = 4;
    let run = |prepare: &dyn Fn(&Guest, u64), wanted: &dyn Fn(QueueError) -> bool| {
        for indirect in [false, true] {
            let mut guest = guest(false, indirect);
            let device = guest.device();
            prepare(&guest, guest.transmit.setup().descriptors);
            broken(&mut guest, device, wanted);
        }
    };
    // An index out of step.
    run(
        &|guest, _| {
            let at = guest.transmit.setup().driver + 2;
            guest.ram.write(at, &17u16.to_le_bytes());
        },
        &|error| matches!(error, QueueError::AvailableIndex { available: 17, .. }),
    );
    // A head, and a successor, that are not in the table.
    run(&|guest, _| show(guest, 16), &|error| {
        matches!(error, QueueError::DescriptorIndex { index: 16, len: 16 })
    });
    run(
        &|guest, at| {
            split(guest, at, BASE, 64, NEXT, 0xffff);
            show(guest, 0);
        },
        &|error| matches!(error, QueueError::DescriptorIndex { index: 0xffff, .. }),
    );
    // A chain that goes round.
    run(
        &|guest, at| {
            split(guest, at, BASE, 64, NEXT, 1);
            split(guest, at + 16, BASE, 64, NEXT, 0);
            show(guest, 0);
        },
        &|error| error == QueueError::ChainTooLong(16),
    );
    // Buffers that are not there.
    for (address, len) in [(0, 64), (BASE - 1, 64), (u64::MAX, 64), (BASE, u32::MAX)] {
        run(
            &|guest, at| {
                split(guest, at, address, len, 0, 0);
                show(guest, 0);
            },
            &|error| matches!(error, QueueError::OutOfRange { .. }),
        );
    }
    run(
        &|guest, at| {
            split(guest, at, BASE, 0, 0, 0);
            show(guest, 0);
        },
        &|error| error == QueueError::EmptyDescriptor,
    );
    // Something to write to in a queue that reads.
    run(
        &|guest, at| {
            split(guest, at, BASE, 64, WRITE, 0);
            show(guest, 0);
        },
        &|error| error == QueueError::Direction,
    );
    // No header.
    run(
        &|guest, at| {
            split(guest, at, BASE, 11, 0, 0);
            show(guest, 0);
        },
        &|error| error == QueueError::TooShort(11),
    );
    // Indirect tables where none may be, and tables that cannot be.
    let refused = |flags: u16, len: u32| {
        let mut guest = guest(false, flags != INDIRECT || len != 32);
        let device = guest.device();
        let at = guest.transmit.setup().descriptors;
        split(&guest, at, BASE, len, flags, 0);
        show(&guest, 0);
        broken(&mut guest, device, |error| {
            error == QueueError::Indirect(len)
        });
    };
    refused(INDIRECT, 32);
    refused(INDIRECT | NEXT, 16);
    for len in [0, 15, 17, 16 * 1025] {
        refused(INDIRECT, len);
    }
    // A table in a table, one that goes round, one that leaves itself, one that is not there.
    let table = BASE + 4096 * 8;
    let inside = |entries: &[(u64, u32, u16, u16)], wanted: &dyn Fn(QueueError) -> bool| {
        let mut guest = guest(false, true);
        let device = guest.device();
        let at = guest.transmit.setup().descriptors;
        for (n, (address, len, flags, next)) in entries.iter().enumerate() {
            split(&guest, table + 16 * n as u64, *address, *len, *flags, *next);
        }
        split(&guest, at, table, 16 * entries.len() as u32, INDIRECT, 0);
        show(&guest, 0);
        broken(&mut guest, device, wanted);
    };
    inside(&[(table, 16, INDIRECT, 0)], &|error| {
        error == QueueError::Indirect(16)
    });
    inside(&[(BASE, 64, NEXT, 1), (BASE, 64, NEXT, 0)], &|error| {
        error == QueueError::ChainTooLong(2)
    });
    inside(&[(BASE, 64, NEXT, 2), (BASE, 64, 0, 0)], &|error| {
        matches!(error, QueueError::DescriptorIndex { index: 2, len: 2 })
    });
    let mut guest = guest(false, true);
    let device = guest.device();
    split(
        &guest,
        guest.transmit.setup().descriptors,
        16,
        32,
        INDIRECT,
        0,
    );
    show(&guest, 0);
    broken(&mut guest, device, |error| {
        matches!(error, QueueError::OutOfRange { address: 16, .. })
    });
}

#[test]
fn row72_packed_rings() {
    const AVAILABLE: u16 = 1 << 7;
    const NEXT: u16 = 1 | AVAILABLE;
    let run = |indirect: bool, slots: &[(u64, u32, u16)], wanted: &dyn Fn(QueueError) -> bool| {
        let mut guest = guest(true, indirect);
        let device = guest.device();
        let at = guest.transmit.setup().descriptors;
        for (n, (address, len, flags)) in slots.iter().enumerate() {
            packed(&guest, at + 16 * n as u64, *address, *len, 0, *flags);
        }
        broken(&mut guest, device, wanted);
    };
    // A chain as long as the ring, and one whose next slot is not there.
    let round = [(BASE, 64, NEXT); 16];
    run(false, &round, &|error| {
        error == QueueError::ChainTooLong(16)
    });
    run(false, &[(BASE, 64, NEXT)], &|error| {
        matches!(error, QueueError::DescriptorIndex { index: 1, .. })
    });
    run(false, &[(BASE, 0, AVAILABLE)], &|error| {
        error == QueueError::EmptyDescriptor
    });
    run(false, &[(1, 64, AVAILABLE)], &|error| {
        matches!(error, QueueError::OutOfRange { .. })
    });
    run(false, &[(BASE, 64, AVAILABLE | 2)], &|error| {
        error == QueueError::Direction
    });
    // A table that was not negotiated, within a chain, of no length, within a table.
    run(false, &[(BASE, 32, AVAILABLE | 4)], &|error| {
        error == QueueError::Indirect(32)
    });
    run(
        true,
        &[(BASE, 64, NEXT), (BASE, 32, AVAILABLE | 4)],
        &|error| error == QueueError::Indirect(32),
    );
    run(true, &[(BASE, 24, AVAILABLE | 4)], &|error| {
        error == QueueError::Indirect(24)
    });
    let mut guest = guest(true, true);
    let device = guest.device();
    let table = BASE + 4096 * 8;
    packed(&guest, table, table, 16, 0, 4);
    packed(
        &guest,
        guest.transmit.setup().descriptors,
        table,
        16,
        0,
        AVAILABLE | 4,
    );
    broken(&mut guest, device, |error| {
        error == QueueError::Indirect(16)
    });
}

#[test]
fn a_receive_buffer_without_room_for_the_header_breaks_its_queue_alone() {
    let mut guest = Guest::new(Shape {
        receive: 11,
        ..Shape::default()
    });
    let mut device = guest.device();
    assert!(transmit(&mut device, &[1; 60]));
    assert_eq!(device.fault(0), Some(QueueError::TooShort(11)));
    assert_eq!(device.statistics().tx_no_peer, 1);
    assert!(guest.send(VirtioNetHdr::PLAIN, &[2; 60]));
    assert_eq!(received(&mut device), [[2; 60]]);
    // Set up again it works again.
    assert!(transmit(&mut device, &[1; 60]));
    assert_eq!(device.statistics().tx_no_peer, 2);
}

/// What is written ends where the buffer does: a frame one byte longer goes on in the next one, or
/// nowhere.
#[test]
fn a_frame_never_reaches_past_the_buffer_it_does_not_fit() {
    for (packed, mergeable) in [(false, false), (false, true), (true, false), (true, true)] {
        for len in [60, 128, 129, 1500] {
            let mut guest = Guest::new(Shape {
                options: DriverOptions {
                    packed,
                    ..DriverOptions::default()
                },
                receive: 12 + len as u32 - 1,
                mergeable,
                ..Shape::default()
            });
            let mut device = guest.device();
            assert!(transmit(&mut device, &vec![0xaa; len]));
            assert!(guest.behind_receive_buffers().iter().all(|&byte| byte == 0));
            if mergeable {
                assert_eq!(guest.recv().unwrap().1, vec![0xaa; len]);
            } else {
                assert_eq!(device.statistics().tx_invalid, 1);
                assert!(guest.recv().is_none());
            }
        }
    }
}

#[test]
fn frames_of_impossible_length_are_counted_and_cost_only_themselves() {
    let mut guest = guest(false, false);
    let mut device = guest.device();
    for len in [0, 1, 13, 65_551] {
        assert!(guest.send(VirtioNetHdr::PLAIN, &vec![0; len]));
    }
    assert!(guest.send(VirtioNetHdr::PLAIN, &[3; 14]));
    assert_eq!(received(&mut device), [[3; 14]]);
    assert_eq!(device.statistics().rx_malformed, 4);
    guest.reclaim();
    assert_eq!(guest.transmit.outstanding(), 0);
    assert_eq!(device.fault(1), None);
}

#[test]
fn a_frame_that_no_ring_of_the_guest_holds_does_not_stop_those_behind_it() {
    // Buffers of one descriptor, and of two: then half as many make the ring full.
    for cut in [0, 100] {
        let mut guest = Guest::new(Shape {
            size: 8,
            receive: 200,
            cut,
            ..Shape::default()
        });
        let mut device = guest.device();
        let large = vec![1; 60_000];
        assert!(transmit(&mut device, &large), "{cut}");
        assert_eq!(device.statistics().tx_no_buffer, 1);
        assert!(transmit(&mut device, &[4; 60]));
        assert_eq!(guest.recv().unwrap().1, [4; 60]);
    }
}

/// Counts how often it is silenced.
struct Bell(Arc<AtomicUsize>);

impl Doorbell for Bell {
    #[cfg(unix)]
    fn source(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        None
    }

    fn clear(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Commands that nobody waits for cost a turn of packets each sixteen, and are all answered: the one
/// ring of their driver is heard until then.
#[test]
fn a_flood_of_commands_does_not_keep_the_device_from_others() {
    let mut guest = Guest::new(Shape {
        size: 128,
        ..Shape::default()
    });
    let mut device = guest.device();
    let address = guest.transmit.setup().descriptors + 0x2000;
    for _ in 0..40 {
        let command = [(address, 3)];
        guest.control.add(&command, &[(address + 8, 1)]).unwrap();
    }
    guest.control.publish();
    let silenced = Arc::new(AtomicUsize::new(0));
    device.set_doorbell(Some(Box::new(Bell(Arc::clone(&silenced)))));
    let mut turns = Vec::new();
    for _ in 0..4 {
        device.receive(1, &mut |_| {}).unwrap();
        let answered = core::iter::from_fn(|| guest.control.take_used()).count();
        turns.push((answered, silenced.load(Ordering::Relaxed)));
    }
    assert_eq!(turns, [(16, 0), (16, 0), (8, 1), (0, 2)]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Any bytes anywhere in the rings, at any time: no panic, no write outside of the guest's
    /// memory (the allocation's neighbours are the allocator's), no endless loop, bounded work.
    #[test]
    fn garbage_in_rings(
        is_packed in any::<bool>(),
        indirect in any::<bool>(),
        writes in prop::collection::vec((0u64..0x3000, any::<u64>(), 0usize..9), 1..40),
        valid in prop::collection::vec((0u16..16, 0u64..0x10000, 0u32..3000, 0u16..8), 0..16),
    ) {
        let guest = guest(is_packed, indirect);
        let mut device = guest.device();
        for (slot, offset, len, flags) in valid {
            for queue in [guest.receive.setup(), guest.transmit.setup()] {
                let at = queue.descriptors + 16 * u64::from(slot);
                if is_packed {
                    packed(&guest, at, BASE + offset, len, slot, flags | 1 << 7);
                } else {
                    split(&guest, at, BASE + offset, len, flags, slot / 2);
                }
            }
        }
        let frame = [5; 60];
        let segments = [IoSegment::from(&frame[..])];
        for (offset, value, len) in writes {
            guest.ram.write(BASE + offset, &value.to_le_bytes()[..len.min(8)]);
            let mut taken = 0;
            for _ in 0..4 {
                taken += device.receive(64, &mut |_| {}).unwrap();
            }
            prop_assert!(taken <= 256);
            device.transmit(&[TxFrame::plain(&segments)]).unwrap();
        }
    }
}
