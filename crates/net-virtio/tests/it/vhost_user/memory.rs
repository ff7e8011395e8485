//! Memory that comes and goes under rings that run.

use std::fs::File;
use std::os::fd::AsRawFd;

use net_backend::NetworkBackend;
use net_backend::conformance::Peer;
use net_datapath::VirtioNetHdr;
use net_virtio::DeviceConfig;
use net_virtio::driver::{BASE, GuestRam};

use super::{
    ADD_MEM_REG, Front, Host, Machine, REM_MEM_REG, SET_MEM_TABLE, USER, addresses, pair, words,
};
use crate::guest::{Guest, Shape};

/// The body of `ADD_MEM_REG` and `REM_MEM_REG`.
fn region(guest: u64, len: u64, user: u64, offset: u64) -> Vec<u8> {
    words(&[0, guest, len, user, offset])
}

fn frame(n: usize) -> Vec<u8> {
    vec![n as u8; 100 + n % 900]
}

fn both_ways(host: &mut Host, machine: &mut Machine, n: usize) {
    assert!(machine.send(VirtioNetHdr::PLAIN, &frame(n)));
    assert_eq!(host.received(), [frame(n)]);
    assert!(host.transmit(&frame(n)));
    assert_eq!(machine.recv().unwrap().bytes, frame(n));
}

#[test]
fn slots_are_filled_and_emptied_in_mid_traffic() {
    let mut host = Host::new(DeviceConfig::default());
    let mut machine = Machine::new(&host.path, Shape::default());
    let (_ram, more) = GuestRam::shared(8 << 20).unwrap();
    let far = |n: u64| region(1 << 40 | n << 21, 2 << 20, 1 << 30 | n << 21, n << 21);
    for n in 0..300usize {
        both_ways(&mut host, &mut machine, n);
        let slot = (n / 2 % 4) as u64;
        let fd = [more.as_raw_fd()];
        match n % 2 {
            0 => machine.front.tell(ADD_MEM_REG, &far(slot), &fd),
            // QEMU sends the descriptor again when it takes memory away.
            _ if n % 3 == 0 => machine.front.tell(REM_MEM_REG, &far(slot), &fd),
            _ => machine.front.tell(REM_MEM_REG, &far(slot), &[]),
        }
    }
    assert_eq!(host.port.vhost_user_stats().faults, 0);
}

/// QEMU 7.2 says everything about memory once for each pair of queues.
#[test]
fn a_region_is_added_and_removed_by_each_pair() {
    let mut host = Host::new(DeviceConfig::default().with_pairs(2));
    let mut machine = Machine::new(&host.path, Shape::default());
    let len = machine.memory.metadata().unwrap().len();
    let fd = [machine.memory.as_raw_fd()];
    let all = region(BASE, len, USER, 0);
    for n in 0..6 {
        both_ways(&mut host, &mut machine, n);
        machine.front.tell(ADD_MEM_REG, &all, &fd);
        both_ways(&mut host, &mut machine, n);
        machine.front.tell(REM_MEM_REG, &all, &[]);
        assert!(machine.send(VirtioNetHdr::PLAIN, &frame(n)));
        assert!(host.received().is_empty(), "one word is enough");
        machine.front.tell(REM_MEM_REG, &all, &fd);
        machine.front.tell(ADD_MEM_REG, &all, &fd);
        assert_eq!(host.received(), [frame(n)]);
    }
    assert_eq!(host.port.vhost_user_stats().faults, 0);
    // The same place and another length is another region.
    let part = region(BASE, len / 2, USER, 0);
    machine.front.send(ADD_MEM_REG, super::ANSWER, &part, &fd);
    assert!(machine.front.is_closed());
}

/// A region moves by being taken away and added: rings in it wait, and go on where they were.
#[test]
fn rings_wait_for_their_memory() {
    for packed in [false, true] {
        let mut shape = Shape::default();
        shape.options.packed = packed;
        let mut host = Host::new(DeviceConfig::default());
        let mut machine = Machine::new(&host.path, shape);
        let len = machine.memory.metadata().unwrap().len();
        for n in 0..50 {
            both_ways(&mut host, &mut machine, n);
            machine
                .front
                .tell(REM_MEM_REG, &region(BASE, len, USER, 0), &[]);
            assert!(machine.send(VirtioNetHdr::PLAIN, &frame(n)));
            assert!(host.received().is_empty());
            let fd = [machine.memory.as_raw_fd()];
            machine
                .front
                .tell(ADD_MEM_REG, &region(BASE, len, USER, 0), &fd);
            assert_eq!(host.received(), [frame(n)]);
        }
    }
}

#[test]
fn a_new_table_under_rings_that_run() {
    let mut host = Host::new(DeviceConfig::default());
    let mut machine = Machine::new(&host.path, Shape::default());
    for n in 0..50 {
        both_ways(&mut host, &mut machine, n);
        let memory = machine.memory.try_clone().unwrap();
        machine.front.share(&memory);
    }
}

/// A guest whose memory is in pieces, each at an offset of the file that is no page's.
#[test]
fn regions_may_begin_anywhere_in_their_file() {
    let shape = Shape::default();
    let len = Guest::footprint(shape) as u64;
    let (ram, memory) = GuestRam::shared(len as usize).unwrap();
    let mut guest = Guest::over(ram, shape);
    let mut host = Host::new(DeviceConfig::default());
    let front = Front::connect(&host.path);
    front.negotiate(shape.features());
    // The ring and the buffers are cut apart at a place of no importance to pages.
    let cut = 0x12_3450;
    let fd = [memory.as_raw_fd()];
    front.tell(ADD_MEM_REG, &region(BASE, cut, USER, 0), &fd);
    front.tell(
        ADD_MEM_REG,
        &region(BASE + cut, len - cut, USER + cut, cut),
        &fd,
    );
    let _bells = [
        front.start(0, &guest.receive.setup(), 0),
        front.start(1, &guest.transmit.setup(), 0),
    ];
    for n in 0..200 {
        assert!(guest.send(VirtioNetHdr::PLAIN, &frame(n)));
        assert_eq!(host.received(), [frame(n)]);
        assert!(host.transmit(&frame(n)));
        assert_eq!(guest.recv().unwrap().1, frame(n));
    }
}

/// What cannot be memory ends the connection; the port takes the next one.
#[test]
fn memory_that_cannot_be() {
    let mut host = Host::new(DeviceConfig::default());
    let (_ram, memory) = GuestRam::shared(1 << 20).unwrap();
    let len = 1u64 << 20;
    let fd = memory.as_raw_fd();
    let read_only = File::open(format!("/proc/self/fd/{fd}")).unwrap();
    let pipe = std::io::pipe().unwrap();
    let null = File::open("/dev/null").unwrap();
    let one = region(BASE, len, USER, 0);
    let cases: &[(u32, Vec<u8>, Vec<i32>)] = &[
        // Past the end of the file, around the end of what numbers hold, without bytes.
        (ADD_MEM_REG, region(BASE, len + 1, USER, 0), vec![fd]),
        (ADD_MEM_REG, region(BASE, len, USER, 1), vec![fd]),
        (
            ADD_MEM_REG,
            region(BASE, len, USER, u64::MAX - len + 1),
            vec![fd],
        ),
        (ADD_MEM_REG, region(BASE, u64::MAX, USER, 1), vec![fd]),
        (ADD_MEM_REG, region(u64::MAX - 5, len, USER, 0), vec![fd]),
        (ADD_MEM_REG, region(BASE, 0, USER, 0), vec![fd]),
        // Files that are none.
        (ADD_MEM_REG, one.clone(), vec![]),
        (ADD_MEM_REG, one.clone(), vec![fd, fd]),
        (ADD_MEM_REG, one.clone(), vec![pipe.0.as_raw_fd()]),
        (ADD_MEM_REG, one.clone(), vec![null.as_raw_fd()]),
        (ADD_MEM_REG, one.clone(), vec![read_only.as_raw_fd()]),
        (ADD_MEM_REG, one[..32].to_vec(), vec![fd]),
        // Tables: more regions than files, none, two in one place.
        (
            SET_MEM_TABLE,
            [pair(2, 0), words(&[0, 4096, 0, 0])].concat(),
            vec![fd],
        ),
        (
            SET_MEM_TABLE,
            [pair(1, 0), words(&[0, 4096, 0, 0])].concat(),
            vec![],
        ),
        (
            SET_MEM_TABLE,
            [pair(1, 0), words(&[0, 4096, 0, 0])].concat(),
            vec![fd, fd],
        ),
        (SET_MEM_TABLE, pair(0, 0), vec![]),
        (SET_MEM_TABLE, pair(u32::MAX, 0), vec![fd]),
        (
            SET_MEM_TABLE,
            [pair(2, 0), words(&[0, 8192, 0, 0, 4096, 4096, 9 << 30, 0])].concat(),
            vec![fd, fd],
        ),
    ];
    for (n, (request, body, fds)) in cases.iter().enumerate() {
        let front = Front::connect(&host.path);
        front.negotiate(0);
        front.send(*request, 1, body, fds);
        assert!(front.is_closed(), "case {n}");
        host.until_disconnected();
        assert_eq!(host.port.vhost_user_stats().faults, n as u64 + 1);
    }
    let mut machine = Machine::new(&host.path, Shape::default());
    both_ways(&mut host, &mut machine, 1);
}

#[test]
fn slots_and_bytes_are_bounded() {
    let mut host = Host::new(DeviceConfig::default());
    let (_ram, memory) = GuestRam::shared(1 << 20).unwrap();
    let front = Front::connect(&host.path);
    front.negotiate(0);
    let fd = [memory.as_raw_fd()];
    for n in 0..64 {
        front.tell(ADD_MEM_REG, &region(n << 20, 1 << 20, n << 20, 0), &fd);
    }
    front.send(ADD_MEM_REG, 1, &region(1 << 40, 1 << 20, 1 << 40, 0), &fd);
    assert!(front.is_closed());
    host.until_disconnected();
    // A file with holes is as long as it says.
    let huge = tempfile::tempfile().unwrap();
    huge.set_len(3 << 40).unwrap();
    let front = Front::connect(&host.path);
    front.negotiate(0);
    let fd = [huge.as_raw_fd()];
    front.tell(ADD_MEM_REG, &region(0, 3 << 40, 0, 0), &fd);
    front.send(ADD_MEM_REG, 1, &region(3 << 40, 3 << 40, 0, 0), &fd);
    assert!(front.is_closed());
    host.until_disconnected();
}

/// Where a ring lies is looked up in the memory, and a ring starts nowhere else.
#[test]
fn rings_outside_of_the_memory() {
    let shape = Shape::default();
    let mut host = Host::new(DeviceConfig::default());
    let mut setup = Machine::new(&host.path, shape).guest.receive.setup();
    host.until_disconnected();
    setup.size = 64;
    let len = Guest::footprint(shape) as u64;
    // Outside; and inside, with an end that is not.
    for break_it in [
        |setup: &mut net_virtio::QueueSetup, len| setup.descriptors = BASE + len,
        |setup: &mut net_virtio::QueueSetup, _| setup.driver = BASE - 2,
        |setup: &mut net_virtio::QueueSetup, len| setup.device = BASE + len - 4,
    ] {
        let mut broken = setup;
        break_it(&mut broken, len);
        let (_ram, memory) = GuestRam::shared(len as usize).unwrap();
        let front = Front::connect(&host.path);
        front.negotiate(shape.features());
        front.share(&memory);
        front.send(super::SET_VRING_NUM, 1, &pair(0, 64), &[]);
        front.send(super::SET_VRING_ADDR, 1, &addresses(0, &broken), &[]);
        front.send(super::SET_VRING_ENABLE, 1, &pair(0, 1), &[]);
        let bell = super::Bell::new();
        let fd = [bell.kick.as_raw_fd()];
        front.send(super::SET_VRING_KICK, 1, &words(&[0]), &fd);
        assert!(front.is_closed());
        host.until_disconnected();
    }
    assert_eq!(host.port.vhost_user_stats().faults, 3);
    assert_eq!(host.port.statistics().peers, 1);
}
