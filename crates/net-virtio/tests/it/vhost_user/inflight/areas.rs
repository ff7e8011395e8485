//! Areas and logs that cannot be, and whatever they hold.

use std::fs::File;
use std::os::fd::AsRawFd;

use net_backend::NetworkBackend;
use net_virtio::driver::GuestRam;
use net_virtio::{DeviceConfig, features};
use proptest::prelude::*;

use super::super::{Front, GET_INFLIGHT_FD, Host, PLAIN, SET_INFLIGHT_FD, words};
use super::*;

#[test]
fn how_long_a_log_is() {
    let host = Host::new(DeviceConfig::default());
    for (packed, entries, size) in [
        (false, 1, 64),
        (false, 256, 4160),
        (false, 0x8000, 524_352),
        (true, 1, 64),
        (true, 256, 8256),
        (true, 0x8000, 1_048_640),
    ] {
        let front = Front::connect(&host.path);
        let bits = if packed { features::RING_PACKED } else { 0 };
        front.negotiate(features::VERSION_1 | bits);
        for queues in [1, 3] {
            let log = Log::ask(&front, queues, entries);
            assert_eq!(log.body, area(u64::from(queues) * size, 0, queues, entries));
            assert_eq!(log.file.metadata().unwrap().len(), u64::from(queues) * size);
            assert!(log.file.set_len(0).is_err(), "nobody can shorten it");
            assert!(log.read().iter().all(|byte| *byte == 0));
        }
    }
}

/// Areas that cannot be: each ends its connection, and the next is served.
#[test]
fn areas_that_cannot_be() {
    let mut host = Host::new(DeviceConfig::default());
    let (_ram, sealed) = GuestRam::shared(1 << 20).unwrap();
    let loose = tempfile::tempfile().unwrap();
    loose.set_len(1 << 20).unwrap();
    let pipe = std::io::pipe().unwrap();
    let read_only = File::open(format!("/proc/self/fd/{}", sealed.as_raw_fd())).unwrap();
    let fd = sealed.as_raw_fd();
    let whole = area(1 << 20, 0, 2, SIZE);
    let cases: &[(u32, Vec<u8>, Vec<i32>)] = &[
        (GET_INFLIGHT_FD, area(0, 0, 4, SIZE), vec![]),
        (GET_INFLIGHT_FD, area(0, 0, u16::MAX, SIZE), vec![]),
        (GET_INFLIGHT_FD, area(0, 0, 0, SIZE), vec![]),
        (GET_INFLIGHT_FD, area(0, 0, 2, 0), vec![]),
        (GET_INFLIGHT_FD, area(0, 0, 2, 0x8001), vec![]),
        (GET_INFLIGHT_FD, area(0, 0, 2, SIZE), vec![fd]),
        (GET_INFLIGHT_FD, words(&[0, 0]), vec![]),
        (SET_INFLIGHT_FD, whole.clone(), vec![]),
        (SET_INFLIGHT_FD, whole.clone(), vec![fd, fd]),
        (SET_INFLIGHT_FD, whole[..16].to_vec(), vec![fd]),
        (SET_INFLIGHT_FD, area((1 << 20) + 1, 0, 2, SIZE), vec![fd]),
        (SET_INFLIGHT_FD, area(1 << 20, 1, 2, SIZE), vec![fd]),
        (SET_INFLIGHT_FD, area(2, u64::MAX, 2, SIZE), vec![fd]),
        (SET_INFLIGHT_FD, area(u64::MAX, 0, 2, SIZE), vec![fd]),
        (SET_INFLIGHT_FD, area(u64::MAX, 1, 2, SIZE), vec![fd]),
        (SET_INFLIGHT_FD, area(0, 0, 2, SIZE), vec![fd]),
        (SET_INFLIGHT_FD, area(1 << 20, 0, 0, SIZE), vec![fd]),
        (SET_INFLIGHT_FD, area(1 << 20, 0, 2, 0), vec![fd]),
        (SET_INFLIGHT_FD, area(1 << 20, 0, 2, 0x8001), vec![fd]),
        (SET_INFLIGHT_FD, whole.clone(), vec![loose.as_raw_fd()]),
        (SET_INFLIGHT_FD, whole.clone(), vec![pipe.0.as_raw_fd()]),
        (SET_INFLIGHT_FD, whole, vec![read_only.as_raw_fd()]),
    ];
    for (n, (request, body, fds)) in cases.iter().enumerate() {
        let front = Front::connect(&host.path);
        front.negotiate(0);
        front.send(*request, PLAIN, body, fds);
        assert!(front.is_closed(), "case {n}");
        host.until_disconnected();
        assert_eq!(host.port.vhost_user_stats().faults, n as u64 + 1);
    }
}

/// Logs that are none of the ring's: too short, at odd addresses, of the future, of another ring.
#[test]
fn logs_that_cannot_be() {
    for shape in shapes() {
        let packed = shape.options.packed;
        type Case<'a> = (&'a str, usize, &'a [u8]);
        let mut cases: Vec<Case<'_>> = vec![
            ("version", 8, &[2, 0]),
            ("version", 8, &[0xff, 0xff]),
            ("length", 10, &[15, 0]),
        ];
        if packed {
            cases.push(("slot", 16, &[16, 0]));
            cases.push(("slot", 18, &[0xff, 0xff]));
            cases.push(("half a batch", 16, &[5, 0, 0, 0, 1, 1, 1]));
            // Entry 0 is not free, and has no descriptor.
            let chain = &[
                1, 0, 1, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1,
            ];
            cases.push(("half a chain", 12, chain));
        } else {
            cases.push(("in flight", 16, &[1]));
        }
        for (what, at, bytes) in cases {
            let mut world = World::new(shape);
            let (host, machine) = world.begin();
            let ram = machine.guest.ram.clone();
            let end = world.moment(&ram);
            world.end_at(host, machine, &end);
            let log = world.log.as_ref().unwrap();
            if what == "in flight" {
                // More than the driver has made available.
                for head in 0..usize::from(SIZE) {
                    log.write(log.region(1) + at + 16 * head, bytes);
                }
            } else {
                log.write(log.region(1) + at, bytes);
            }
            if what == "half a batch" {
                // Something is available where the batch would begin.
                let guest = world.guest.as_mut().unwrap();
                assert!(guest.send(VirtioNetHdr::PLAIN, &[1; 60]));
            }
            let log = log.body.clone();
            let file = world.log.as_ref().unwrap().file.try_clone().unwrap();
            let host = Host::new(DeviceConfig::default());
            let front = Front::connect(&host.path);
            front.negotiate(shape.features());
            front.share(&world.memory);
            front.tell(SET_INFLIGHT_FD, &log, &[file.as_raw_fd()]);
            let setup = world.guest.as_ref().unwrap().transmit.setup();
            front.describe(1, &setup, 0);
            assert!(front.is_closed(), "{what} {shape:?}");
        }
    }
}

/// Areas handed over again and again leave nothing behind.
#[test]
fn areas_do_not_pile_up() {
    let host = Host::new(DeviceConfig::default());
    let front = Front::connect(&host.path);
    front.negotiate(0);
    let count = || {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        maps.matches("vhost-user-inflight").count()
    };
    for _ in 0..300 {
        let log = Log::ask(&front, 3, SIZE);
        log.tell(&front);
    }
    // Other tests have areas of their own at the same time.
    assert!(count() < 100, "{}", count());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the log holds, the ring is refused or serves; and both without harm.
    #[test]
    fn logs_without_sense(
        kind in 0usize..6,
        pokes in prop::collection::vec((0usize..2048, prop_oneof![3 => 0u8..17, 1 => any::<u8>()]), 0..40),
    ) {
        let shape = shapes()[kind];
        let mut world = World::new(shape);
        let (mut host, mut machine) = world.begin();
        send(&mut machine, 0, few(shape));
        let ram = machine.guest.ram.clone();
        let (_, lent) = receive_and_look(&world, &mut host, &ram);
        world.end_at(host, machine, &lent);
        let log = world.log.as_ref().unwrap();
        for (at, byte) in &pokes {
            log.write(at % log.len(), &[*byte]);
        }
        let mut host = Host::new(DeviceConfig::default());
        let front = Front::connect(&host.path);
        front.negotiate(shape.features());
        front.share(&world.memory);
        front.send(SET_INFLIGHT_FD, PLAIN, &log.body, &[log.file.as_raw_fd()]);
        let guest = world.guest.as_ref().unwrap();
        for (index, queue) in [(0, &guest.receive), (1, &guest.transmit)] {
            let fresh = if shape.options.packed { 0x8000_8000 } else { 0 };
            front.describe(index, &queue.setup(), fresh);
        }
        let mut gone = false;
        for _ in 0..3 {
            gone |= host.port.receive(64, &mut |_| {}).is_err();
            host.transmit(&[1; 100]);
        }
        drop(front);
        if !gone {
            host.until_disconnected();
        }
    }
}
