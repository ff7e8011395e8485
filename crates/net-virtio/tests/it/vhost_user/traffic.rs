//! Frames both ways, rings that stop and go on, front-ends that come and go.

use net_backend::conformance::{self, Harness, Peer, Properties};
use net_backend::{NetworkBackend, Offloads};
use net_datapath::VirtioNetHdr;
use net_virtio::driver::{BASE, DriverOptions, DriverQueue, GuestRam};
use net_virtio::vhost_user::VhostUserPort;
use net_virtio::{DeviceConfig, features};

use super::{
    Front, GET_CONFIG, GET_MAX_MEM_SLOTS, GET_QUEUE_NUM, Host, Machine, PLAIN, RESET_DEVICE,
    RESET_OWNER, SET_VRING_ENABLE, pair,
};
use crate::guest::{Guest, Shape};

fn shapes() -> impl Iterator<Item = Shape> {
    [false, true].into_iter().map(|packed| Shape {
        options: DriverOptions {
            packed,
            event_index: true,
            indirect: true,
        },
        size: 256,
        ..Shape::default()
    })
}

fn frame(n: usize) -> Vec<u8> {
    (0..60 + n % 1400).map(|at| (at * 7 + n) as u8).collect()
}

/// A port of the host with a machine on it; the socket has to outlive the harness's step.
struct Pair {
    shape: Shape,
    host: Vec<tempfile::TempDir>,
    path: std::path::PathBuf,
}

impl Harness for Pair {
    type Backend = VhostUserPort;
    type Peer = Machine;

    fn connect(&mut self) -> (VhostUserPort, Machine) {
        let Host {
            port,
            path,
            _directory: directory,
        } = Host::new(DeviceConfig::default());
        self.host.push(directory);
        let machine = Machine::new(&path, self.shape);
        self.path = path;
        (port, machine)
    }

    fn reconnect(&mut self, gone: VhostUserPort) -> (VhostUserPort, Machine) {
        let machine = Machine::new(&self.path, self.shape);
        (gone, machine)
    }

    fn properties(&self) -> Properties {
        Properties::default().with_headers()
    }
}

#[test]
fn conformance() {
    for shape in shapes() {
        let mut pair = Pair {
            shape,
            host: Vec::new(),
            path: std::path::PathBuf::new(),
        };
        conformance::frame_sizes(&mut pair);
        conformance::batches(&mut pair);
        conformance::receive_would_block(&mut pair);
        conformance::transmit_would_block(&mut pair);
        conformance::partial_progress(&mut pair);
        conformance::invalid_frames(&mut pair);
        conformance::offloads_refused(&mut pair);
        conformance::statistics(&mut pair);
    }
}

#[test]
fn what_is_offered() {
    let mut config = DeviceConfig::default().with_pairs(4).with_mtu(9000);
    config = config.with_mac(net_wire::MacAddr([2, 0, 0, 0, 0, 9]));
    let host = Host::new(config);
    let front = Front::connect(&host.path);
    front.negotiate(0);
    assert_eq!(front.ask_u64(GET_QUEUE_NUM), 8);
    assert_eq!(front.ask_u64(GET_MAX_MEM_SLOTS), 64);
    // Offset, size and flags, then as many bytes as are asked for.
    let asked = [0, 24, 0u32].map(u32::to_ne_bytes).concat();
    let mut body = asked.clone();
    body.extend([0; 24]);
    let space = front.ask(GET_CONFIG, &body);
    assert_eq!(space[..12], asked);
    assert_eq!(space[12..18], [2, 0, 0, 0, 0, 9]);
    assert_eq!(space[20..24], [4, 0, 0x28, 0x23]);
    assert_eq!(space[24..], [0; 12]);
}

#[test]
fn kicks_wake_the_worker_and_calls_the_driver() {
    for shape in shapes() {
        let mut host = Host::new(DeviceConfig::default());
        let mut machine = Machine::new(&host.path, shape);
        assert!(host.received().is_empty());
        assert!(!host.is_rung());
        let _ = machine.bells[1].call.read();
        machine.guest.transmit.want_interrupts(true);
        assert!(machine.send(VirtioNetHdr::PLAIN, &frame(1)));
        assert!(host.is_rung());
        assert_eq!(host.received(), [frame(1)]);
        assert!(!host.is_rung());
        assert_eq!(machine.bells[1].call.read().unwrap(), 1);
        // No room for more: the kick of the receive queue tells when there is.
        machine.guest.receive.want_interrupts(true);
        let _ = machine.bells[0].call.read();
        let mut taken = 0;
        while host.transmit(&frame(taken)) {
            taken += 1;
        }
        assert!(taken >= 256 / 2 && host.port.wants_write());
        assert!(machine.bells[0].call.read().is_ok());
        assert!(!host.is_rung());
        for n in 0..taken {
            assert_eq!(machine.recv().unwrap().bytes, frame(n));
        }
        assert!(host.is_rung());
        assert!(host.transmit(&frame(taken)) && !host.port.wants_write());
    }
}

#[test]
fn a_ring_goes_on_where_it_stopped() {
    for shape in shapes() {
        let mut host = Host::new(DeviceConfig::default());
        let mut machine = Machine::new(&host.path, shape);
        let mut n = 0;
        for _ in 0..20 {
            for _ in 0..77 {
                assert!(machine.send(VirtioNetHdr::PLAIN, &frame(n)));
                assert_eq!(host.received(), [frame(n)]);
                assert!(host.transmit(&frame(n + 1)));
                assert_eq!(machine.recv().unwrap().bytes, frame(n + 1));
                n += 1;
            }
            // One that waits, and one that nobody can take.
            assert!(machine.send(VirtioNetHdr::PLAIN, &frame(n)));
            let bases = [0, 1].map(|index| machine.front.stop(index));
            assert!(host.received().is_empty());
            let lost = host.port.statistics().tx_no_peer;
            assert!(host.transmit(&frame(n)));
            assert_eq!(host.port.statistics().tx_no_peer, lost + 1);
            let setups = [
                machine.guest.receive.setup(),
                machine.guest.transmit.setup(),
            ];
            machine.bells = [0, 1].map(|at| machine.front.start(at as u32, &setups[at], bases[at]));
            assert_eq!(host.received(), [frame(n)]);
        }
    }
}

#[test]
fn a_front_end_comes_back_in_mid_traffic() {
    for shape in shapes() {
        let mut host = Host::new(DeviceConfig::default());
        let mut machine = Machine::new(&host.path, shape);
        for round in 1..=5 {
            assert!(machine.send(VirtioNetHdr::PLAIN, &frame(round)));
            assert_eq!(host.received(), [frame(round)]);
            assert!(host.transmit(&frame(round)));
            // It goes with frames under way in both directions.
            assert!(machine.send(VirtioNetHdr::PLAIN, &frame(round)));
            drop(machine);
            host.until_disconnected();
            assert!(host.port.reattaches());
            assert!(host.transmit(&frame(round)), "dropped and counted");
            assert_eq!(host.port.statistics().disconnects, round as u64);
            machine = Machine::new(&host.path, shape);
        }
        let stats = host.port.vhost_user_stats();
        assert_eq!((stats.connections, stats.faults), (6, 0));
        assert_eq!(host.port.statistics().peers, 6);
    }
}

/// The guest stays, its front-end's connection does not: QEMU's `reconnect`.
#[test]
fn a_connection_is_made_anew_for_the_same_rings() {
    for shape in shapes() {
        let mut host = Host::new(DeviceConfig::default());
        let mut machine = Machine::new(&host.path, shape);
        for round in 0..5 {
            for n in 0..150 {
                assert!(machine.send(VirtioNetHdr::PLAIN, &frame(n)));
                assert_eq!(host.received(), [frame(n)]);
            }
            let bases = [0, 1].map(|index| machine.front.stop(index));
            assert!(machine.send(VirtioNetHdr::PLAIN, &frame(round)));
            let Machine {
                guest,
                memory,
                front,
                ..
            } = machine;
            drop(front);
            host.until_disconnected();
            machine = Machine::attach(&host.path, guest, memory, bases);
            assert_eq!(host.received(), [frame(round)]);
        }
    }
}

#[test]
fn a_disabled_ring_moves_nothing_and_a_reset_device_starts_anew() {
    let shape = Shape::default();
    let mut host = Host::new(DeviceConfig::default());
    let mut machine = Machine::new(&host.path, shape);
    let enable = |machine: &Machine, on| {
        for index in [0, 1] {
            machine.front.tell(SET_VRING_ENABLE, &pair(index, on), &[]);
        }
    };
    enable(&machine, 0);
    assert!(machine.send(VirtioNetHdr::PLAIN, &frame(1)));
    assert!(host.received().is_empty());
    enable(&machine, 1);
    assert_eq!(host.received(), [frame(1)]);
    machine.front.tell(RESET_OWNER, &[], &[]);
    assert!(machine.send(VirtioNetHdr::PLAIN, &frame(2)));
    assert!(host.received().is_empty());
    enable(&machine, 1);
    assert_eq!(host.received(), [frame(2)]);
    machine.front.tell(RESET_DEVICE, &[], &[]);
    enable(&machine, 1);
    assert!(machine.send(VirtioNetHdr::PLAIN, &frame(3)));
    assert!(host.received().is_empty(), "no ring is known any more");
}

/// Two pairs: frames come out of both, and flows go back to the pair they came from once it runs.
#[test]
fn several_pairs() {
    let size = 64;
    let queue = DriverQueue::footprint(size);
    let (ram, memory) = GuestRam::shared((4 * queue + 65 * 4096) as usize).unwrap();
    let mut queues: Vec<DriverQueue> = (0..4)
        .map(|n| DriverQueue::new(&ram, BASE + n * queue, size, DriverOptions::default()))
        .collect();
    let mut host = Host::new(DeviceConfig::default().with_pairs(2));
    let front = Front::connect(&host.path);
    front.negotiate(features::VERSION_1 | features::MQ | features::CTRL_VQ);
    front.share(&memory);
    let _bells: Vec<_> = (0..4)
        .map(|n| front.start(n, &queues[n as usize].setup(), 0))
        .collect();
    let buffer = |n: u64| BASE + 4 * queue + n * 4096;
    for (n, index) in [(0, 0), (1, 2)] {
        queues[index].add(&[], &[(buffer(n), 4096)]).unwrap();
        queues[index].publish();
    }
    let udp = |from: u16, to: u16| {
        let mut bytes = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
        bytes.extend([0x45, 0, 0, 32, 0, 0, 0, 0, 64, 17, 0, 0]);
        bytes.extend([10, 0, 0, 1, 10, 0, 0, 1]);
        bytes.extend([from, to, 12, 0].map(u16::to_be_bytes).concat());
        bytes.extend([7; 4]);
        bytes
    };
    for (index, (from, to)) in [(1, (1000, 53)), (3, (2000, 80))] {
        let mut bytes = vec![0; 12];
        bytes.extend(udp(from, to));
        ram.write(buffer(8), &bytes);
        queues[index]
            .add(&[(buffer(8), bytes.len() as u32)], &[])
            .unwrap();
        queues[index].publish();
        assert_eq!(host.received(), [udp(from, to)]);
    }
    // The answers, each to the pair of its question.
    assert!(host.transmit(&udp(80, 2000)));
    assert!(queues[0].take_used().is_none() && queues[2].take_used().is_some());
    assert!(host.transmit(&udp(53, 1000)));
    assert!(queues[0].take_used().is_some());
    // With the second pair off everything goes to the first.
    front.tell(SET_VRING_ENABLE, &pair(2, 0), &[]);
    front.tell(SET_VRING_ENABLE, &pair(3, 0), &[]);
    queues[0].add(&[], &[(buffer(2), 4096)]).unwrap();
    queues[0].publish();
    assert!(host.transmit(&udp(80, 2000)));
    assert!(queues[0].take_used().is_some());
}

/// The other way round: the front-end listens, and the port comes, again and again.
#[test]
fn the_front_end_may_be_the_one_that_listens() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("front");
    let mut port = VhostUserPort::new(DeviceConfig::default()).unwrap();
    port.set_offloads(Offloads::NONE).unwrap();
    port.connect(&path).unwrap();
    for _ in 0..3 {
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let (stream, _) = listener.accept().unwrap();
        std::fs::remove_file(&path).unwrap();
        Front { stream }.negotiate(0);
    }
}

/// A process that may open no path is given its connections.
#[test]
fn connections_may_be_made_by_somebody_else() {
    let (give, given) = std::sync::mpsc::channel();
    let mut port = VhostUserPort::new(DeviceConfig::default()).unwrap();
    port.set_offloads(Offloads::NONE).unwrap();
    port.serve_connections(move || given.recv().ok()).unwrap();
    for _ in 0..3 {
        let (stream, its) = std::os::unix::net::UnixStream::pair().unwrap();
        give.send(its).unwrap();
        Front { stream }.negotiate(0);
    }
    let (stream, its) = std::os::unix::net::UnixStream::pair().unwrap();
    give.send(its).unwrap();
    let front = Front { stream };
    front.negotiate(0);
    drop(port);
    assert!(front.is_closed());
    let (_, its) = std::os::unix::net::UnixStream::pair().unwrap();
    // The thread ends with the port, and takes no more.
    while give.send(its.try_clone().unwrap()).is_ok() {
        std::thread::yield_now();
    }
}

/// QEMU enables rings before it says which features it takes.
#[test]
fn rings_may_be_enabled_before_features_are_chosen() {
    let host = Host::new(DeviceConfig::default());
    for (index, ends) in [(0, false), (3, true)] {
        let front = Front::connect(&host.path);
        let protocol = front.ask_u64(super::GET_PROTOCOL_FEATURES);
        let body = super::words(&[protocol]);
        front.send(super::SET_PROTOCOL_FEATURES, PLAIN, &body, &[]);
        front.send(SET_VRING_ENABLE, PLAIN, &pair(index, 1), &[]);
        if ends {
            assert!(front.is_closed());
            continue;
        }
        front.tell(SET_VRING_ENABLE, &pair(index, 0), &[]);
        front.tell(SET_VRING_ENABLE, &pair(index, 1), &[]);
        front.negotiate(0);
    }
}

/// The crate's own front-end, which Cloud Hypervisor and Firecracker speak with.
#[test]
fn the_front_end_of_rust_vmm() {
    use std::os::fd::AsRawFd;
    use vhost::vhost_user::{Frontend, VhostUserFrontend};
    use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};

    let shape = Shape::default();
    let mut host = Host::new(DeviceConfig::default());
    let (ram, memory) = GuestRam::shared(Guest::footprint(shape)).unwrap();
    let mut guest = Guest::over(ram.clone(), shape);
    let mut front = Frontend::connect(&host.path, 2).unwrap();
    front.set_owner().unwrap();
    let features = front.get_features().unwrap();
    let protocol = front.get_protocol_features().unwrap();
    front.set_protocol_features(protocol).unwrap();
    front
        .set_features(features & (shape.features() | super::PROTOCOL))
        .unwrap();
    let (start, len) = ram.mapping();
    let user = start.as_ptr() as u64;
    let region = VhostUserMemoryRegionInfo {
        guest_phys_addr: BASE,
        memory_size: len as u64,
        userspace_addr: user,
        mmap_offset: 0,
        mmap_handle: memory.as_raw_fd(),
    };
    front.set_mem_table(&[region]).unwrap();
    let bells: Vec<_> = [(0, &guest.receive), (1, &guest.transmit)]
        .into_iter()
        .map(|(index, queue)| {
            let setup = queue.setup();
            let at = |guest: u64| guest - BASE + user;
            let config = VringConfigData {
                queue_max_size: setup.size,
                queue_size: setup.size,
                flags: 0,
                desc_table_addr: at(setup.descriptors),
                used_ring_addr: at(setup.device),
                avail_ring_addr: at(setup.driver),
                log_addr: None,
            };
            let bell = super::Bell::new();
            front.set_vring_num(index, setup.size).unwrap();
            front.set_vring_base(index, 0).unwrap();
            front.set_vring_addr(index, &config).unwrap();
            front.set_vring_call(index, &bell.call).unwrap();
            front.set_vring_kick(index, &bell.kick).unwrap();
            front.set_vring_enable(index, true).unwrap();
            bell
        })
        .collect();
    // An answer, so that everything before has been carried out.
    front.get_features().unwrap();
    assert!(guest.send(VirtioNetHdr::PLAIN, &frame(5)));
    assert_eq!(host.received(), [frame(5)]);
    assert!(host.transmit(&frame(6)));
    assert_eq!(guest.recv().unwrap().1, frame(6));
    assert_eq!(front.get_vring_base(1).unwrap(), 1);
    drop(bells);
}

/// A message with half of its bytes: neither the worker nor another port waits for the rest.
#[test]
fn a_silent_front_end_blocks_nobody() {
    let mut hosts = [0; 2].map(|_| Host::new(DeviceConfig::default()));
    let mut silent = Machine::new(&hosts[0].path, Shape::default());
    let header = [2u32, PLAIN, 8].map(u32::to_ne_bytes).concat();
    for bytes in [&header[..5], &header[5..]] {
        use std::io::Write;
        (&silent.front.stream).write_all(bytes).unwrap();
        let mut other = Machine::new(&hosts[1].path, Shape::default());
        for n in 0..100 {
            for (host, machine) in hosts.iter_mut().zip([&mut silent, &mut other]) {
                assert!(machine.send(VirtioNetHdr::PLAIN, &frame(n)));
                assert_eq!(host.received(), [frame(n)]);
                assert!(host.transmit(&frame(n)));
                assert_eq!(machine.recv().unwrap().bytes, frame(n));
            }
        }
        drop(other);
        hosts[1].until_disconnected();
    }
}
