//! A back end that ends at any point, and another that goes on from the log.

mod areas;
mod foreign;

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

use net_backend::NetworkBackend;
use net_backend::conformance::Peer;
use net_datapath::VirtioNetHdr;
use net_virtio::DeviceConfig;
use net_virtio::driver::{BASE, DriverOptions, GuestRam};
use vmm_sys_util::sock_ctrl_msg::ScmSocket;

use super::{Front, GET_INFLIGHT_FD, Host, Machine, PLAIN, RESET_DEVICE, SET_INFLIGHT_FD, words};
use crate::guest::{Guest, Shape};

const SIZE: u16 = 16;

/// The body of both messages.
fn area(size: u64, offset: u64, queues: u16, entries: u16) -> Vec<u8> {
    let mut body = words(&[size, offset]);
    body.extend([queues, entries, 0, 0].map(u16::to_ne_bytes).concat());
    body
}

/// A log as the front-end keeps it.
struct Log {
    file: File,
    body: Vec<u8>,
}

impl Log {
    fn ask(front: &Front, queues: u16, entries: u16) -> Self {
        let body = area(0, 0, queues, entries);
        front.send(GET_INFLIGHT_FD, PLAIN, &body, &[]);
        let mut answer = [0; 12 + 24];
        let (len, file) = front.stream.recv_with_fd(&mut answer).unwrap();
        assert_eq!(len, answer.len());
        Self {
            file: file.unwrap(),
            body: answer[12..].to_vec(),
        }
    }

    fn tell(&self, front: &Front) {
        front.tell(SET_INFLIGHT_FD, &self.body, &[self.file.as_raw_fd()]);
    }

    fn len(&self) -> usize {
        u64::from_ne_bytes(self.body[..8].try_into().unwrap()) as usize
    }

    fn read(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len()];
        self.file.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    }

    fn write(&self, at: usize, bytes: &[u8]) {
        self.file.write_all_at(bytes, at as u64).unwrap();
    }

    /// Where the region of a queue begins, of two.
    fn region(&self, queue: usize) -> usize {
        queue * self.len() / 2
    }

    fn half(&self, queue: usize, at: usize) -> u16 {
        let at = self.region(queue) + at;
        u16::from_ne_bytes(self.read()[at..at + 2].try_into().unwrap())
    }
}

/// A guest whose back ends come and go, with all that outlasts them.
struct World {
    guest: Option<Guest>,
    memory: File,
    log: Option<Log>,
}

/// What memory and log held at some moment.
#[derive(Clone)]
struct Moment {
    ram: Vec<u8>,
    log: Vec<u8>,
}

fn shapes() -> Vec<Shape> {
    let mut shapes = Vec::new();
    for packed in [false, true] {
        for (cut, indirect) in [(0, false), (30, false), (30, true)] {
            let options = DriverOptions {
                packed,
                event_index: true,
                indirect,
            };
            shapes.push(Shape {
                options,
                size: SIZE,
                receive: 600,
                cut: if cut == 0 { 0 } else { 200 },
                ..Shape::default()
            });
        }
    }
    shapes
}

impl World {
    fn new(shape: Shape) -> Self {
        let (ram, memory) = GuestRam::shared(Guest::footprint(shape)).unwrap();
        Self {
            guest: Some(Guest::over(ram, shape)),
            memory,
            log: None,
        }
    }

    /// A new back end, to which the front-end says the bases of fresh rings: it knows no others.
    fn begin(&mut self) -> (Host, Machine) {
        let host = Host::new(DeviceConfig::default());
        let guest = self.guest.take().unwrap();
        let memory = self.memory.try_clone().unwrap();
        let log = &mut self.log;
        let machine = Machine::attach_with(&host.path, guest, memory, [0; 2], |front| {
            log.get_or_insert_with(|| Log::ask(front, 2, SIZE))
                .tell(front);
        });
        (host, machine)
    }

    fn moment(&self, ram: &GuestRam) -> Moment {
        Moment {
            ram: ram.read(BASE, ram.mapping().1),
            log: self.log.as_ref().unwrap().read(),
        }
    }

    /// The back end ended, and nothing was under way.
    fn end(&mut self, host: Host, machine: Machine) {
        let Machine { guest, front, .. } = machine;
        drop((front, host));
        self.guest = Some(guest);
    }

    /// The back end ended at this moment.
    fn end_at(&mut self, host: Host, machine: Machine, moment: &Moment) {
        self.end(host, machine);
        let ram = &self.guest.as_ref().unwrap().ram;
        ram.write(BASE, &moment.ram);
        self.log.as_ref().unwrap().write(0, &moment.log);
    }
}

fn frame(n: usize) -> Vec<u8> {
    (0..60 + n * 37 % 400)
        .map(|at| (at * 5 + n) as u8)
        .collect()
}

/// Receives, and keeps what memory and log hold while frames are lent: everything was taken and nothing
/// given back.
fn receive_and_look(world: &World, host: &mut Host, ram: &GuestRam) -> (Vec<Vec<u8>>, Moment) {
    let (mut frames, mut moment) = (Vec::new(), None);
    let mut keep = |batch: &mut [net_datapath::ZeroCopyPacket<'_>]| {
        for packet in batch {
            let mut bytes = vec![0; packet.len()];
            packet.copy_range(0, &mut bytes);
            frames.push(bytes);
        }
        moment.get_or_insert_with(|| world.moment(ram));
    };
    host.port.receive(64, &mut keep).unwrap();
    (frames, moment.unwrap())
}

fn send(machine: &mut Machine, from: usize, to: usize) -> Vec<Vec<u8>> {
    let frames: Vec<_> = (from..to).map(frame).collect();
    for frame in &frames {
        assert!(machine.send(VirtioNetHdr::PLAIN, frame));
    }
    frames
}

/// All that is left works, both ways and several times around.
fn goes_on(host: &mut Host, machine: &mut Machine) {
    for n in 0..3 * usize::from(SIZE) {
        let sent = send(machine, n, n + 1);
        assert_eq!(host.received(), sent);
        assert!(host.transmit(&frame(n + 7)), "{n}");
        assert_eq!(machine.recv().unwrap().bytes, frame(n + 7));
    }
    machine.guest.reclaim();
    assert_eq!(machine.guest.transmit.outstanding(), 0);
}

/// How many chains a guest of this shape has under way at most.
fn few(shape: Shape) -> usize {
    if shape.cut == 0 || shape.options.indirect {
        6
    } else {
        3
    }
}

#[test]
fn what_was_lent_when_the_back_end_ended_is_lent_again() {
    for shape in shapes() {
        let mut world = World::new(shape);
        let (mut host, mut machine) = world.begin();
        for round in 0..5 * usize::from(SIZE) {
            let sent = send(&mut machine, round, round + few(shape));
            let ram = machine.guest.ram.clone();
            let (seen, lent) = receive_and_look(&world, &mut host, &ram);
            assert_eq!(seen, sent);
            // To the guest: written, and not given back when it ended.
            world.end_at(host, machine, &lent);
            (host, machine) = world.begin();
            assert_eq!(host.received(), sent, "{shape:?} {round}");
            machine.guest.reclaim();
            assert_eq!(machine.guest.transmit.outstanding(), 0);
            assert!(host.transmit(&frame(round)));
            assert_eq!(machine.recv().unwrap().bytes, frame(round));
        }
        goes_on(&mut host, &mut machine);
    }
}

#[test]
fn what_was_given_back_when_the_back_end_ended_is_not_seen_again() {
    for shape in shapes() {
        let mut world = World::new(shape);
        let (mut host, mut machine) = world.begin();
        for round in 0..3 * usize::from(SIZE) {
            let sent = send(&mut machine, round, round + few(shape));
            let ram = machine.guest.ram.clone();
            let (seen, lent) = receive_and_look(&world, &mut host, &ram);
            assert_eq!(seen, sent);
            let mut end = world.moment(&ram);
            if round % 2 == 1 {
                // The log does not know of the last batch.
                match shape.options.packed {
                    false => end.log = lent.log,
                    true => unshow(&world, &mut end, &lent, false),
                }
            }
            world.end_at(host, machine, &end);
            (host, machine) = world.begin();
            assert!(host.received().is_empty(), "{shape:?} {round}");
            machine.guest.reclaim();
            assert_eq!(machine.guest.transmit.outstanding(), 0);
            // A frame that the guest has not taken yet is there once.
            assert!(host.transmit(&frame(round)));
            let ram = machine.guest.ram.clone();
            let end = world.moment(&ram);
            world.end_at(host, machine, &end);
            (host, machine) = world.begin();
            assert_eq!(machine.recv().unwrap().bytes, frame(round));
            assert!(machine.recv().is_none());
        }
        goes_on(&mut host, &mut machine);
    }
}

/// Turns the log of the transmit ring, which is packed, back to where the batch was noted, and not yet
/// shown; and the ring to where nothing of it was written, if `ring`.
fn unshow(world: &World, end: &mut Moment, lent: &Moment, ring: bool) {
    let region = world.log.as_ref().unwrap().region(1);
    // The slot and the wrap counter as they were.
    end.log[region + 18..][..2].copy_from_slice(&lent.log[region + 18..][..2]);
    end.log[region + 21] = lent.log[region + 21];
    // It is noted.
    end.log[region + 22] = 1;
    if ring {
        end.ram.copy_from_slice(&lent.ram);
    }
}

/// Between the note of a batch and the last word of it: the next back end gives it back.
#[test]
fn a_batch_that_was_noted_is_given_back() {
    for shape in shapes().into_iter().filter(|shape| shape.options.packed) {
        for written in [false, true] {
            let mut world = World::new(shape);
            let (mut host, mut machine) = world.begin();
            for round in 0..3 * usize::from(SIZE) {
                let sent = send(&mut machine, round, round + few(shape));
                let ram = machine.guest.ram.clone();
                let (seen, lent) = receive_and_look(&world, &mut host, &ram);
                assert_eq!(seen, sent);
                let mut end = world.moment(&ram);
                let shown = end.ram.clone();
                unshow(&world, &mut end, &lent, true);
                if written {
                    // All of the batch but its first word is in the ring.
                    let ring = (machine.guest.transmit.setup().descriptors - BASE) as usize;
                    let region = world.log.as_ref().unwrap().region(1);
                    let old = u16::from_ne_bytes(end.log[region + 18..][..2].try_into().unwrap());
                    for slot in (0..usize::from(SIZE)).filter(|slot| *slot != usize::from(old)) {
                        let word = ring + 16 * slot + 8;
                        end.ram[word..word + 8].copy_from_slice(&shown[word..word + 8]);
                    }
                }
                world.end_at(host, machine, &end);
                (host, machine) = world.begin();
                assert!(host.received().is_empty(), "{shape:?} {round}");
                machine.guest.reclaim();
                assert_eq!(machine.guest.transmit.outstanding(), 0);
            }
            goes_on(&mut host, &mut machine);
        }
    }
}

/// Rings that stop in order, and a device that is reset, start where the front-end says.
#[test]
fn a_log_of_a_ring_that_was_stopped_says_nothing() {
    for shape in shapes() {
        let mut world = World::new(shape);
        let (mut host, mut machine) = world.begin();
        let fresh = if shape.options.packed { 0x8000_8000 } else { 0 };
        for reset in [false, true, false] {
            goes_on(&mut host, &mut machine);
            if reset {
                machine.front.tell(RESET_DEVICE, &[], &[]);
                machine.front.negotiate(shape.features());
            } else {
                let bases = [0, 1].map(|index| machine.front.stop(index));
                assert!(bases.into_iter().all(|base| base != fresh));
            }
            // The driver is loaded anew: other rings, at their beginning, in the same memory.
            let ram = machine.guest.ram.clone();
            ram.write(BASE, &vec![0; ram.mapping().1]);
            machine.guest = Guest::over(ram, shape);
            let setups = [&machine.guest.receive, &machine.guest.transmit].map(|it| it.setup());
            machine.bells = [0, 1].map(|at| machine.front.start(at as u32, &setups[at], fresh));
        }
        goes_on(&mut host, &mut machine);
    }
}
