//! The log of pages that a front-end moves a running guest by.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::AsRawFd;

use net_backend::conformance::Peer;
use net_datapath::VirtioNetHdr;
use net_virtio::driver::{BASE, DriverOptions, GuestRam};
use net_virtio::{DeviceConfig, QueueSetup, features};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::{
    Front, GET_FEATURES, Host, Machine, PLAIN, PROTOCOL, SET_FEATURES, SET_LOG_BASE, SET_LOG_FD,
    SET_VRING_ADDR, addresses, words,
};
use crate::dirty::changed;
use crate::guest::Shape;

const PAGE: u64 = 4096;
const LOG_ALL: u64 = 1 << 26;
/// Bytes of a bitmap for 128 MiB, and where it begins in its file.
const BITMAP: u64 = 4096;
const OFFSET: u64 = 24;

struct Log {
    bits: GuestRam,
    file: File,
}

impl Log {
    fn new() -> Self {
        let (bits, file) = GuestRam::shared((OFFSET + BITMAP + 8) as usize).unwrap();
        Self { bits, file }
    }

    fn tell(&self, front: &Front) {
        let body = words(&[BITMAP, OFFSET]);
        front.send(SET_LOG_BASE, PLAIN, &body, &[self.file.as_raw_fd()]);
        assert_eq!(front.reply(), Some((SET_LOG_BASE, body)));
    }

    /// The pages that are marked, which are then marked no more.
    fn take(&self) -> BTreeSet<u64> {
        let bytes = self.bits.read(BASE, (OFFSET + BITMAP + 8) as usize);
        let (begin, end) = (OFFSET as usize, (OFFSET + BITMAP) as usize);
        assert!(
            bytes[..begin]
                .iter()
                .chain(&bytes[end..])
                .all(|byte| *byte == 0)
        );
        self.bits.write(BASE, &vec![0; bytes.len()]);
        let bit = |page: &u64| bytes[begin + *page as usize / 8] & 1 << (page % 8) != 0;
        (0..8 * BITMAP).filter(bit).collect()
    }
}

/// The body of `SET_VRING_ADDR` with writes to the ring marked at `log`, if they are.
fn marked(index: u32, setup: &QueueSetup, log: Option<u64>) -> Vec<u8> {
    let mut body = addresses(index, setup);
    if let Some(log) = log {
        body[4..8].copy_from_slice(&1u32.to_ne_bytes());
        body[32..].copy_from_slice(&log.to_ne_bytes());
    }
    body
}

fn set_features(machine: &Machine, more: u64) {
    let wanted = machine.guest.shape.features() | LOG_ALL;
    let offered = machine.front.ask_u64(GET_FEATURES);
    assert_ne!(offered & LOG_ALL, 0);
    let features = offered & wanted & !LOG_ALL | PROTOCOL | more;
    machine.front.tell(SET_FEATURES, &words(&[features]), &[]);
}

fn mark_rings(machine: &Machine, log: impl Fn(u64) -> Option<u64>) {
    let setups = [&machine.guest.receive, &machine.guest.transmit].map(|queue| queue.setup());
    for (index, setup) in (0..).zip(setups) {
        let body = marked(index, &setup, log(setup.device));
        machine.front.tell(SET_VRING_ADDR, &body, &[]);
    }
}

fn shapes() -> impl Iterator<Item = Shape> {
    (0..4).map(|bits| Shape {
        options: DriverOptions {
            packed: bits & 1 != 0,
            event_index: true,
            indirect: false,
        },
        cut: if bits & 2 != 0 { 300 } else { 0 },
        size: 32,
        ..Shape::default()
    })
}

/// Frames both ways; the pages that the device has written.
fn traffic(host: &mut Host, machine: &mut Machine, n: u8) -> BTreeSet<u64> {
    let ram = machine.guest.ram.clone();
    let all = || ram.read(BASE, ram.mapping().1);
    for more in 0..3 {
        assert!(machine.send(VirtioNetHdr::PLAIN, &[n + more; 1000]));
    }
    let before = all();
    assert_eq!(host.received().len(), 3);
    for more in 0..3 {
        assert!(host.transmit(&[n + more + 9; 1000]));
    }
    let written = changed(&before, &all());
    assert!(written.len() >= 4);
    for _ in 0..3 {
        machine.recv().unwrap();
    }
    written
}

#[test]
fn pages_are_marked_from_the_moment_it_is_asked_for() {
    for shape in shapes() {
        let mut host = Host::new(DeviceConfig::default());
        let mut machine = Machine::new(&host.path, shape);
        let log = Log::new();
        traffic(&mut host, &mut machine, 0);
        log.tell(&machine.front);
        traffic(&mut host, &mut machine, 20);
        assert!(log.take().is_empty(), "nothing was asked for");

        // Buffers, and not the rings.
        set_features(&machine, LOG_ALL);
        let written = traffic(&mut host, &mut machine, 40);
        let buffers = BASE / PAGE + 3 * footprint(shape) / PAGE;
        let taken = log.take();
        let wanted: BTreeSet<_> = written.range(buffers..).copied().collect();
        assert!(!wanted.is_empty());
        assert_eq!(taken, wanted, "{shape:?}");

        // The rings too.
        mark_rings(&machine, Some);
        log.take();
        for n in 0..20 {
            let written = traffic(&mut host, &mut machine, 60 + n);
            let taken = log.take();
            assert!(written.is_subset(&taken), "{shape:?}");
            assert!(taken.len() <= written.len() + 4, "{shape:?}");
        }

        // The device area under another address, which is no memory.
        let shift = 64 << 20;
        mark_rings(&machine, |device| Some(device + shift));
        log.take();
        traffic(&mut host, &mut machine, 90);
        let taken = log.take();
        // Of a packed ring the device writes there only whether it wants to be told.
        let queues = [&machine.guest.transmit, &machine.guest.receive];
        for queue in &queues[..2 - usize::from(shape.options.packed)] {
            let page = (queue.setup().device + shift) / PAGE;
            assert!(taken.contains(&page), "{shape:?}");
        }

        // Only the rings, then nothing.
        set_features(&machine, 0);
        traffic(&mut host, &mut machine, 110);
        assert!(
            log.take()
                .range(buffers..(64 << 20) / PAGE)
                .next()
                .is_none()
        );
        mark_rings(&machine, |_| None);
        log.take();
        traffic(&mut host, &mut machine, 130);
        assert!(log.take().is_empty());

        // Another log instead.
        set_features(&machine, LOG_ALL);
        let other = Log::new();
        other.tell(&machine.front);
        traffic(&mut host, &mut machine, 150);
        assert!(log.take().is_empty() && !other.take().is_empty());
    }
}

fn footprint(shape: Shape) -> u64 {
    net_virtio::driver::DriverQueue::footprint(shape.size)
}

#[test]
fn whoever_wants_to_hear_of_marks_does() {
    let mut host = Host::new(DeviceConfig::default());
    let mut machine = Machine::new(&host.path, Shape::default());
    let event = EventFd::new(EFD_NONBLOCK).unwrap();
    machine.front.tell(SET_LOG_FD, &[], &[event.as_raw_fd()]);
    let log = Log::new();
    log.tell(&machine.front);
    traffic(&mut host, &mut machine, 0);
    assert!(event.read().is_err());
    set_features(&machine, LOG_ALL);
    traffic(&mut host, &mut machine, 20);
    assert!(event.read().unwrap() > 0);
}

#[test]
fn logs_of_pages_that_cannot_be() {
    let mut host = Host::new(DeviceConfig::default());
    let (_ram, sealed) = GuestRam::shared(1 << 16).unwrap();
    let loose = tempfile::tempfile().unwrap();
    loose.set_len(1 << 16).unwrap();
    let pipe = std::io::pipe().unwrap();
    let eventfd = EventFd::new(0).unwrap();
    let read_only = File::open(format!("/proc/self/fd/{}", sealed.as_raw_fd())).unwrap();
    let (fd, event) = (sealed.as_raw_fd(), eventfd.as_raw_fd());
    let at = |size: u64, offset: u64| words(&[size, offset]);
    let setup = QueueSetup {
        size: 64,
        descriptors: BASE,
        driver: BASE + 4096,
        device: BASE + 8192,
        ..QueueSetup::default()
    };
    type Case = (u32, Vec<u8>, Vec<i32>);
    let cases: Vec<Case> = vec![
        (SET_LOG_BASE, at(1 << 16, 0), vec![]),
        (SET_LOG_BASE, at(1 << 16, 0), vec![fd, fd]),
        (SET_LOG_BASE, words(&[1 << 16]), vec![fd]),
        (SET_LOG_BASE, words(&[1 << 16, 0, 0]), vec![fd]),
        (SET_LOG_BASE, at(0, 0), vec![fd]),
        (SET_LOG_BASE, at(1 << 16, 1), vec![fd]),
        (SET_LOG_BASE, at((1 << 16) + 1, 0), vec![fd]),
        (SET_LOG_BASE, at(2, u64::MAX), vec![fd]),
        (SET_LOG_BASE, at(u64::MAX, 0), vec![fd]),
        (SET_LOG_BASE, at(1 << 31, 0), vec![fd]),
        (SET_LOG_BASE, at(1 << 16, 0), vec![loose.as_raw_fd()]),
        (SET_LOG_BASE, at(1 << 16, 0), vec![pipe.0.as_raw_fd()]),
        (SET_LOG_BASE, at(1 << 16, 0), vec![read_only.as_raw_fd()]),
        // Shorter than the memory, which ends at 2 MiB.
        (SET_LOG_BASE, at(63, 0), vec![fd]),
        (SET_LOG_FD, vec![], vec![]),
        (SET_LOG_FD, vec![], vec![event, event]),
        (SET_LOG_FD, vec![], vec![event, event, event]),
        (SET_LOG_FD, words(&[0]), vec![event]),
        (SET_LOG_FD, vec![], vec![pipe.1.as_raw_fd()]),
        (SET_LOG_FD, vec![], vec![fd]),
    ];
    let (_ram, memory) = GuestRam::shared(1 << 20).unwrap();
    for (n, (request, body, fds)) in cases.iter().enumerate() {
        let front = Front::connect(&host.path);
        front.negotiate(0);
        front.share(&memory);
        front.send(*request, PLAIN, body, fds);
        assert!(front.is_closed(), "case {n}");
        host.until_disconnected();
        assert_eq!(host.port.vhost_user_stats().faults, n as u64 + 1);
    }
    // A ring that would be marked past the end of its log, whichever comes first.
    let end = 64 * 8 * PAGE;
    for (log, fits) in [
        (end - 518, true),
        (end - 517, false),
        (u64::MAX, false),
        (u64::MAX - 600, false),
    ] {
        for log_first in [false, true] {
            let front = Front::connect(&host.path);
            front.negotiate(features::VERSION_1);
            front.share(&memory);
            let base = || front.send(SET_LOG_BASE, PLAIN, &at(64, 0), &[fd]);
            if log_first {
                base();
            }
            front.describe(0, &setup, 0);
            front.send(SET_VRING_ADDR, PLAIN, &marked(0, &setup, Some(log)), &[]);
            if !log_first {
                base();
            }
            if fits {
                front.send(GET_FEATURES, PLAIN, &[], &[]);
                assert_eq!(front.reply().unwrap().0, SET_LOG_BASE);
                assert_eq!(front.reply().unwrap().0, GET_FEATURES);
                drop(front);
            } else {
                assert!(front.is_closed(), "{log:#x}");
            }
            host.until_disconnected();
        }
    }
}
