//! Who is asked need not tell; who is not asked any more is asked once more.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use net_backend::NetworkBackend;
use net_datapath::VirtioNetHdr;
use net_virtio::VirtioNet;
use net_virtio::driver::DriverOptions;

use crate::guest::{Guest, Shape};
use crate::queues::{received, transmit};

fn shapes(size: u16) -> impl Iterator<Item = Shape> {
    (0..4).map(move |bits| Shape {
        options: DriverOptions {
            packed: bits & 1 != 0,
            event_index: bits & 2 != 0,
            indirect: false,
        },
        size,
        ..Shape::default()
    })
}

fn frame(n: usize) -> Vec<u8> {
    let mut frame = vec![0x5a; 60];
    frame[..8].copy_from_slice(&n.to_le_bytes());
    frame
}

fn send(guest: &mut Guest, n: usize) -> bool {
    let kick = guest.send_kicking(VirtioNetHdr::PLAIN, &frame(n));
    kick.expect("room in the ring")
}

#[test]
fn a_driver_that_is_asked_need_not_ring_and_rings_once_it_is_not() {
    for shape in shapes(64) {
        let mut guest = Guest::new(shape);
        let mut device = guest.device();
        assert!(received(&mut device).is_empty());
        for round in 0..300 {
            // Asleep: the one wish there is has not been passed yet.
            assert!(guest.transmit.is_awaited(), "{shape:?}");
            assert!(device.set_polling(true));
            for n in 0..3 {
                assert!(!send(&mut guest, n), "{shape:?} {round}");
                assert_eq!(received(&mut device), [frame(n)]);
                assert!(received(&mut device).is_empty());
                assert!(!guest.transmit.is_awaited());
            }
            // What comes between the last look and the wish is found.
            assert!(!send(&mut guest, 7));
            assert!(device.set_polling(false));
            assert_eq!(received(&mut device), [frame(7)]);
            assert!(send(&mut guest, 8), "{shape:?} {round}");
            assert_eq!(received(&mut device), [frame(8)]);
        }
    }
}

#[test]
fn a_driver_without_room_need_not_tell_of_it_while_it_is_asked() {
    for shape in shapes(8) {
        let mut guest = Guest::new(shape);
        let mut device = guest.device();
        assert!(device.set_polling(true));
        guest.receive_kick = false;
        for round in 0..50 {
            while transmit(&mut device, &frame(round)) {}
            assert!(device.wants_write());
            guest.recv().expect("a frame");
            assert!(!guest.receive_kick, "{shape:?} {round}");
            assert!(transmit(&mut device, &frame(round)), "{shape:?} {round}");
        }
        device.set_polling(false);
        // Once more, and then it waits for the bell.
        assert!(!transmit(&mut device, &frame(0)));
        guest.recv().expect("a frame");
        assert!(guest.receive_kick, "{shape:?}");
        assert!(transmit(&mut device, &frame(0)));
    }
}

#[test]
fn commands_are_carried_out_while_the_driver_is_asked() {
    for shape in shapes(16) {
        let mut guest = Guest::new(shape);
        let mut device = guest.device();
        device.set_polling(true);
        assert!(received(&mut device).is_empty());
        assert!(!guest.control.is_awaited(), "{shape:?}");
        // Promiscuous mode off (VIRTIO 1.3, 5.1.6.5.1).
        assert_eq!(guest.command(&mut device, &[0, 0, 0]), 0);
        assert!(!guest.control.is_awaited());
        device.set_polling(false);
        assert!(received(&mut device).is_empty());
        assert!(guest.control.is_awaited(), "{shape:?}");
    }
}

#[test]
fn there_is_nobody_to_ask_before_the_driver_comes_and_after_it_has_gone() {
    let mut device = VirtioNet::new(net_virtio::DeviceConfig::default());
    assert!(device.shares_memory());
    assert!(!device.set_polling(true));
    let guest = Guest::new(Shape::default());
    guest.attach(&mut device);
    assert!(device.set_polling(true));
    device.reset();
    assert!(!device.set_polling(true));
}

/// Two threads: the device polls for a while, which is a different one each time, then has the driver
/// ring and sleeps. Nothing is sent before what was sent before it has arrived, so that one lost
/// wake-up ends it all.
#[test]
fn no_wake_up_is_lost_between_polling_and_sleep() {
    const FRAMES: usize = 20_000;
    for shape in shapes(64) {
        let mut guest = Guest::new(shape);
        let mut device = guest.device();
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let worker = scope.spawn(|| {
                let (mut taken, mut round) = (0, 0);
                while !done.load(Ordering::Relaxed) {
                    device.set_polling(true);
                    for _ in 0..round % 40 {
                        taken += received(&mut device).len();
                    }
                    device.set_polling(false);
                    let last = received(&mut device).len();
                    taken += last;
                    round += 1;
                    if last == 0 {
                        thread::park();
                    }
                }
                taken
            });
            let limit = Instant::now() + Duration::from_secs(60);
            for n in 0..FRAMES {
                if send(&mut guest, n) {
                    worker.thread().unpark();
                }
                while guest.transmit.outstanding() > 0 {
                    guest.reclaim();
                    if Instant::now() > limit {
                        done.store(true, Ordering::Relaxed);
                        worker.thread().unpark();
                        panic!("frame {n} was left behind: {shape:?}");
                    }
                }
            }
            done.store(true, Ordering::Relaxed);
            worker.thread().unpark();
            assert_eq!(worker.join().unwrap(), FRAMES);
        });
    }
}
