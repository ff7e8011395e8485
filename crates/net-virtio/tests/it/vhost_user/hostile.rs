//! Front-ends that break the protocol: each loses its connection, and nobody anything else.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;

use net_backend::NetworkBackend;
use net_backend::conformance::Peer;
use net_datapath::VirtioNetHdr;
use net_virtio::DeviceConfig;
use proptest::prelude::*;
use vmm_sys_util::eventfd::EventFd;

use super::*;

/// That the port serves the next front-end.
fn serves(host: &mut Host) {
    let mut machine = Machine::new(&host.path, Shape::default());
    let frame = [5; 100];
    assert!(machine.send(VirtioNetHdr::PLAIN, &frame));
    assert_eq!(host.received(), [frame]);
    assert!(host.transmit(&frame));
    assert_eq!(machine.recv().unwrap().bytes, frame);
    drop(machine);
    host.until_disconnected();
}

#[test]
fn malformed_messages() {
    let mut host = Host::new(DeviceConfig::default());
    let eventfd = EventFd::new(0).unwrap();
    let fd = eventfd.as_raw_fd();
    let (read, write) = std::io::pipe().unwrap();
    let null = File::options().write(true).open("/dev/null").unwrap();
    let epoll = rustix::event::epoll::create(rustix::event::epoll::CreateFlags::CLOEXEC).unwrap();
    let strange = [&read as &dyn AsRawFd, &write, &null, &epoll].map(AsRawFd::as_raw_fd);
    let ring = |index: u64| words(&[index]);
    let mut cases: Vec<(u32, u32, Vec<u8>, Vec<i32>)> = vec![
        // Requests that do not exist, that are not served, and versions of the future.
        (0, 1, vec![], vec![]),
        (999, 1, vec![], vec![]),
        (u32::MAX, 1, vec![], vec![]),
        (6, 1, words(&[4096, 0]), vec![fd]),
        (19, 1, words(&[0]), vec![]),
        (21, 1, vec![], vec![fd]),
        (31, 1, vec![0; 24], vec![]),
        (32, 1, vec![0; 24], vec![fd]),
        (33, 1, vec![], vec![fd]),
        (GET_FEATURES, 2, vec![], vec![]),
        (GET_FEATURES, 1 | 4, vec![], vec![]),
        (GET_FEATURES, 1 | 16, vec![], vec![]),
        // Bodies too long and too short.
        (GET_FEATURES, 1, vec![0], vec![]),
        (SET_FEATURES, 1, vec![0; 7], vec![]),
        (SET_FEATURES, 1, vec![0; 9], vec![]),
        (SET_VRING_NUM, 1, vec![0; 4], vec![]),
        (SET_VRING_ADDR, 1, vec![0; 39], vec![]),
        (SET_VRING_KICK, 1, vec![], vec![fd]),
        (GET_CONFIG, 1, vec![0; 4], vec![]),
        (
            GET_CONFIG,
            1,
            [0, 24, 0u32].map(u32::to_ne_bytes).concat(),
            vec![],
        ),
        // Features that were not offered.
        (SET_FEATURES, 1, words(&[1 << 63]), vec![]),
        (SET_PROTOCOL_FEATURES, 1, words(&[1 << 4]), vec![]),
        (SET_PROTOCOL_FEATURES, 1, words(&[u64::MAX]), vec![]),
        // Rings that there are not, and lengths that none has.
        (SET_VRING_NUM, 1, pair(3, 64), vec![]),
        (SET_VRING_NUM, 1, pair(u32::MAX, 64), vec![]),
        (SET_VRING_NUM, 1, pair(0, 0), vec![]),
        (SET_VRING_NUM, 1, pair(0, 0x8001), vec![]),
        (SET_VRING_NUM, 1, pair(0, 0x1_0040), vec![]),
        (SET_VRING_BASE, 1, pair(3, 0), vec![]),
        (GET_VRING_BASE, 1, pair(3, 0), vec![]),
        (SET_VRING_ENABLE, 1, pair(3, 1), vec![]),
        (SET_VRING_ENABLE, 1, pair(0, 2), vec![]),
        (SET_VRING_ADDR, 1, words(&[3, 0, 0, 0, 0]), vec![]),
        (SET_VRING_ADDR, 1, words(&[0, 0, 0, 0, 0]), vec![]),
        (SET_VRING_ADDR, 1, words(&[2 << 32, 0, 0, 0, 0]), vec![]),
        // A ring without its kick, and polled ones.
        (SET_VRING_KICK, 1, ring(0), vec![]),
        (SET_VRING_KICK, 1, ring(0x100), vec![]),
        // Descriptors where none belong.
        (SET_OWNER, 1, vec![], vec![fd]),
        (SET_VRING_NUM, 1, pair(0, 64), vec![fd]),
        (SET_VRING_ENABLE, 1, pair(0, 1), vec![fd]),
        (SET_STATUS, 1, words(&[1]), vec![fd]),
        (SET_STATUS, 1, words(&[1]), vec![fd; 3]),
        (GET_STATUS, 1, vec![], vec![fd]),
        // A device status of the wrong length, version, or value.
        (SET_STATUS, 1, words(&[256]), vec![]),
        (SET_STATUS, 1, words(&[1 << 32]), vec![]),
        (SET_STATUS, 1, vec![1; 4], vec![]),
        (SET_STATUS, 1, words(&[1, 0]), vec![]),
        (SET_STATUS, 2, words(&[1]), vec![]),
        (SET_STATUS, 1 | 4, words(&[1]), vec![]),
        (GET_STATUS, 1, words(&[1]), vec![]),
        (SET_VRING_ENABLE, 1, vec![0; 9], vec![]),
    ];
    for request in [SET_VRING_KICK, SET_VRING_CALL, SET_VRING_ERR] {
        cases.push((request, 1, ring(3), vec![fd]));
        cases.push((request, 1, ring(0), vec![fd, fd]));
        cases.push((request, 1, ring(0x100), vec![fd]));
        for strange in strange {
            cases.push((request, 1, ring(0), vec![strange]));
        }
    }
    for (n, (request, flags, body, fds)) in cases.iter().enumerate() {
        let front = Front::connect(&host.path);
        front.negotiate(0);
        front.send(*request, *flags, body, fds);
        assert!(front.is_closed(), "case {n}: request {request}");
        host.until_disconnected();
        assert_eq!(host.port.vhost_user_stats().faults, n as u64 + 1);
    }
    serves(&mut host);
}

#[test]
fn lengths_that_lie() {
    let mut host = Host::new(DeviceConfig::default());
    for len in [4097, 65_536, u32::MAX] {
        let front = Front::connect(&host.path);
        front.send_claiming(SET_FEATURES, 1, len, &[0; 8], &[]);
        assert!(front.is_closed());
        host.until_disconnected();
    }
    // More descriptors than any message has.
    let eventfd = EventFd::new(0).unwrap();
    for count in [33, 253] {
        let many = vec![eventfd.as_raw_fd(); count];
        let front = Front::connect(&host.path);
        front.send(SET_VRING_KICK, 1, &words(&[0]), &many);
        assert!(front.is_closed(), "{count} descriptors");
        host.until_disconnected();
    }
    // Everything said, then gone in the middle of a message.
    let front = Front::connect(&host.path);
    front.negotiate(0);
    front.send_claiming(SET_FEATURES, 1, 8, &[0; 3], &[]);
    drop(front);
    host.until_disconnected();
    serves(&mut host);
}

/// A kick that cannot be emptied and a call that is full hold up nobody.
#[test]
fn eventfds_that_are_full() {
    let mut host = Host::new(DeviceConfig::default());
    let mut machine = Machine::new(&host.path, Shape::default());
    for bell in &machine.bells {
        let _ = bell.call.read();
        bell.kick.write(u64::MAX - 2).unwrap();
        bell.call.write(u64::MAX - 1).unwrap();
    }
    machine.guest.transmit.want_interrupts(true);
    machine.guest.receive.want_interrupts(true);
    for n in 0..100 {
        let frame = vec![n; 100];
        assert!(machine.guest.send(VirtioNetHdr::PLAIN, &frame));
        assert_eq!(host.received(), std::slice::from_ref(&frame));
        assert!(host.transmit(&frame));
        assert_eq!(machine.guest.recv().unwrap().1, frame);
    }
    assert!(!host.is_rung());
    assert_eq!(host.port.vhost_user_stats().call_failures, 0);
}

/// The driver breaks a ring: its front-end hears of it, the other ring goes on, and setting the
/// ring up again makes it whole.
#[test]
fn a_ring_that_is_broken() {
    let mut host = Host::new(DeviceConfig::default());
    let mut machine = Machine::new(&host.path, Shape::default());
    let setup = machine.guest.transmit.setup();
    machine.guest.ram.publish(setup.driver + 2, 1000);
    assert!(host.received().is_empty());
    assert_eq!(machine.bells[1].error.read().unwrap(), 1);
    assert!(machine.bells[0].error.read().is_err());
    let memory = machine.memory.try_clone().unwrap();
    machine.front.share(&memory);
    assert!(host.received().is_empty());
    assert!(machine.bells[1].error.read().is_err(), "it stays broken");
    assert!(host.transmit(&[1; 60]));
    assert_eq!(machine.recv().unwrap().bytes, [1; 60]);
    machine.guest.ram.publish(setup.driver + 2, 0);
    machine.bells[1] = machine.front.start(1, &setup, 0);
    assert!(machine.send(VirtioNetHdr::PLAIN, &[2; 60]));
    assert_eq!(host.received(), [[2; 60]]);
}

/// A message, more or less: mostly of this protocol, mostly of the right length.
fn message() -> impl Strategy<Value = (u32, u32, Vec<u8>, u8)> {
    let small = prop_oneof![4 => 0u64..4, 1 => any::<u64>(), 1 => Just(BASE), 1 => Just(USER)];
    let body = prop_oneof![
        4 => prop::collection::vec(small, 0..6).prop_map(|fields| words(&fields)),
        1 => prop::collection::vec(any::<u8>(), 0..80),
    ];
    let flags = prop_oneof![8 => Just(PLAIN), 2 => Just(ANSWER), 1 => any::<u32>()];
    (0u32..45, flags, body, 0u8..4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Messages without sense, to a device whose rings run.
    #[test]
    fn nonsense(messages in prop::collection::vec(message(), 1..20)) {
        let mut host = Host::new(DeviceConfig::default());
        let machine = Machine::new(&host.path, Shape::default());
        let eventfd = EventFd::new(0).unwrap();
        let fds = [machine.memory.as_raw_fd(), eventfd.as_raw_fd(), eventfd.as_raw_fd()];
        let mut gone = false;
        for (request, flags, body, count) in &messages {
            let from = usize::from(*count == 1);
            let fds = fds.get(from..from + usize::from(*count).min(2)).unwrap_or_default();
            machine.front.send(*request, *flags, body, fds);
            gone |= host.port.receive(64, &mut |_| {}).is_err();
        }
        drop(machine);
        if !gone {
            host.until_disconnected();
        }
        serves(&mut host);
    }

    /// Bytes without sense.
    #[test]
    fn noise(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut host = Host::new(DeviceConfig::default());
        let front = Front::connect(&host.path);
        let _ = (&front.stream).write_all(&bytes);
        drop(front);
        host.until_disconnected();
        serves(&mut host);
    }
}
