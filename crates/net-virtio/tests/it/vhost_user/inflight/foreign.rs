//! Another back end, that has chains in its hands and ends at any point.

use net_backend::conformance::Peer;
use net_datapath::VirtioNetHdr;
use net_virtio::QueueSetup;

use super::*;

/// Another back end gave chains back in an order of its own, and ended with some in its hands and its
/// last batch not struck off.
#[test]
fn chains_that_another_back_end_has_left_come_first() {
    let shape = Shape {
        size: SIZE,
        ..Shape::default()
    };
    let mut world = World::new(shape);
    let guest = world.guest.as_mut().unwrap();
    let frames: Vec<_> = (0..6).map(frame).collect();
    for frame in &frames {
        assert!(guest.send(VirtioNetHdr::PLAIN, frame));
    }
    let setup = guest.transmit.setup();
    let head = |n: u64| guest.ram.read(setup.driver + 4 + 2 * n, 2);
    let heads: Vec<u16> = (0..6)
        .map(|n| u16::from_le_bytes(head(n).try_into().unwrap()))
        .collect();
    // Chains 0 and 2 are back; 3 was taken before 1.
    for (n, chain) in [0, 2].into_iter().enumerate() {
        let mut entry = u32::from(heads[chain]).to_le_bytes().to_vec();
        entry.extend([0; 4]);
        guest.ram.write(setup.device + 4 + 8 * n as u64, &entry);
    }
    guest.ram.publish(setup.device + 2, 2);
    let (host, mut machine) = world.begin();
    let log = world.log.as_ref().unwrap();
    let fresh = log.read();
    let region = log.region(1);
    log.write(region + 12, &heads[2].to_ne_bytes());
    log.write(region + 14, &1u16.to_ne_bytes());
    for (chain, counter) in [(1, 9u64), (2, 3), (3, 7)] {
        let entry = region + 16 + 16 * usize::from(heads[chain]);
        log.write(entry, &[1]);
        log.write(entry + 8, &counter.to_ne_bytes());
    }
    let written = log.read();
    assert_ne!(written, fresh);
    let ram = machine.guest.ram.clone();
    let mut start = world.moment(&ram);
    start.log = written;
    world.end_at(host, machine, &start);
    let mut host;
    (host, machine) = world.begin();
    let order = [3, 1, 4, 5].map(|n| frames[n].clone());
    let (seen, lent) = receive_and_look(&world, &mut host, &ram);
    assert_eq!(seen, order);
    let log = world.log.as_ref().unwrap();
    assert_eq!(log.half(1, 14), 6);
    let inflight = |n: usize| log.read()[log.region(1) + 16 + 16 * usize::from(heads[n])];
    assert_eq!([1, 2, 3].map(inflight), [0; 3], "struck off");
    // It ends before it has given them back.
    world.end_at(host, machine, &lent);
    (host, machine) = world.begin();
    assert_eq!(host.received(), order);
    machine.guest.reclaim();
    assert_eq!(machine.guest.transmit.outstanding(), 0);
    goes_on(&mut host, &mut machine);
}

/// A back end that ends when it has written so many words.
struct Foreign<'a> {
    ram: &'a GuestRam,
    setup: QueueSetup,
    log: &'a Log,
    /// Where its region begins.
    region: usize,
    /// Where it takes the next chain.
    slot: u16,
    wrap: bool,
    counter: u64,
    /// Entries of the chains it has taken, in order, and the ids of their buffers.
    taken: Vec<(u16, u16)>,
    /// Those that the driver sees.
    shown: Vec<usize>,
    left: usize,
}

/// It has ended.
struct Ended;

/// Fields of the log and of an entry.
const FREE: usize = 12;
const OLD_FREE: usize = 14;
const USED: usize = 16;
const OLD_USED: usize = 18;
const WRAP: usize = 20;
const OLD_WRAP: usize = 21;

/// Where a field of an entry is.
fn entry(number: u16, field: usize) -> usize {
    32 + 32 * usize::from(number) + field
}

impl<'a> Foreign<'a> {
    /// It takes a packed ring up where it stands, with nothing in flight.
    fn new(ram: &'a GuestRam, setup: QueueSetup, log: &'a Log, queue: usize, steps: usize) -> Self {
        let mut new = Self {
            ram,
            setup,
            log,
            region: log.region(queue),
            slot: 0,
            wrap: true,
            counter: 0,
            taken: Vec::new(),
            shown: Vec::new(),
            left: steps,
        };
        (new.slot, new.wrap) = (new.half(USED), new.byte(WRAP) != 0);
        new
    }

    fn half(&self, at: usize) -> u16 {
        let mut bytes = [0; 2];
        let at = (self.region + at) as u64;
        self.log.file.read_exact_at(&mut bytes, at).unwrap();
        u16::from_ne_bytes(bytes)
    }

    fn byte(&self, at: usize) -> u8 {
        self.half(at) as u8
    }

    fn count(&mut self) -> Result<(), Ended> {
        self.left = self.left.checked_sub(1).ok_or(Ended)?;
        Ok(())
    }

    fn note(&mut self, at: usize, bytes: &[u8]) -> Result<(), Ended> {
        self.count()?;
        self.log.write(self.region + at, bytes);
        Ok(())
    }

    fn note_half(&mut self, at: usize, value: u16) -> Result<(), Ended> {
        self.note(at, &value.to_ne_bytes())
    }

    /// Takes a chain and notes it, in DPDK's order.
    fn take(&mut self) -> Result<(), Ended> {
        let head = self.half(OLD_FREE);
        let mut free = head;
        self.note_half(entry(head, 6), 0)?;
        self.note(entry(head, 8), &self.counter.to_ne_bytes())?;
        self.counter += 1;
        self.note(entry(head, 0), &[1])?;
        for slots in 1.. {
            let at = self.setup.descriptors + 16 * u64::from(self.slot);
            let descriptor = self.ram.read(at, 16);
            let half = |at: usize| u16::from_le_bytes(descriptor[at..at + 2].try_into().unwrap());
            let (id, flags) = (half(12), half(14));
            assert_eq!(flags & 0x80 != 0, self.wrap, "it is there");
            self.note_half(entry(head, 6), slots)?;
            self.note(entry(free, 24), &descriptor[..8])?;
            self.note(entry(free, 20), &descriptor[8..12])?;
            self.note_half(entry(free, 18), flags)?;
            self.note_half(entry(free, 16), id)?;
            self.note_half(entry(head, 4), free)?;
            free = self.half(entry(free, 2));
            self.note_half(FREE, free)?;
            self.slot = (self.slot + 1) % self.setup.size;
            self.wrap ^= self.slot == 0;
            if flags & 1 == 0 {
                self.note_half(OLD_FREE, free)?;
                self.taken.push((head, id));
                return Ok(());
            }
        }
        Ok(())
    }

    /// Gives chains back as one batch.
    fn give_back(&mut self, batch: &[usize]) -> Result<(), Ended> {
        let mut places = Vec::new();
        let (mut slot, mut wrap) = (self.half(USED), self.byte(WRAP));
        let mut used = slot;
        for chain in batch {
            let (head, id) = self.taken[*chain];
            let last = self.half(entry(head, 4));
            self.note_half(entry(last, 2), self.half(FREE))?;
            self.note_half(FREE, head)?;
            places.push((slot, wrap, id));
            let slots = self.half(entry(head, 6));
            used += slots;
            slot += slots;
            wrap ^= u8::from(slot >= self.setup.size);
            slot %= self.setup.size;
        }
        self.note_half(USED, used)?;
        if used >= self.setup.size {
            self.note_half(USED, slot)?;
            self.note(WRAP, &[wrap])?;
        }
        for (n, (slot, wrap, id)) in places.iter().enumerate().rev() {
            let at = self.setup.descriptors + 16 * u64::from(*slot);
            self.count()?;
            self.ram.write(at + 8, &[0; 4]);
            self.count()?;
            self.ram.write(at + 12, &id.to_le_bytes());
            self.count()?;
            let flags = u16::from(*wrap) * 0x8080;
            self.ram.publish(at + 14, flags);
            if n == 0 {
                self.shown.extend(batch);
            }
        }
        for chain in batch {
            self.note(entry(self.taken[*chain].0, 0), &[0])?;
        }
        self.note_half(OLD_FREE, self.half(FREE))?;
        self.note_half(OLD_USED, self.half(USED))?;
        self.note(OLD_WRAP, &[self.byte(WRAP)])
    }

    /// So many chains are there: most are taken, some given back in another order.
    fn work(&mut self, chains: usize) -> Result<(), Ended> {
        for _ in 1..chains {
            self.take()?;
        }
        self.give_back(&[1])?;
        if chains > 3 {
            self.give_back(&[chains - 2, 0])?;
        }
        self.take()
    }
}

/// Wherever it ends, what the driver has not got back is taken in its order, and comes back once.
#[test]
fn another_back_end_may_end_at_any_word_of_a_packed_ring() {
    for shape in shapes().into_iter().filter(|it| it.options.packed) {
        // The second goes round.
        for before in [0, 14] {
            let mut ended = true;
            for steps in 0.. {
                if !ended {
                    assert!(steps > 40, "{steps} words");
                    break;
                }
                let mut world = World::new(shape);
                let (mut host, mut machine) = world.begin();
                for n in 0..before {
                    let sent = send(&mut machine, n, n + 1);
                    assert_eq!(host.received(), sent);
                }
                let mut sent = send(&mut machine, before, before + few(shape));
                let ram = machine.guest.ram.clone();
                let setup = machine.guest.transmit.setup();
                world.end(host, machine);
                let log = world.log.as_ref().unwrap();
                let mut foreign = Foreign::new(&ram, setup, log, 1, steps);
                ended = foreign.work(few(shape)).is_err();
                let shown = foreign.shown;
                let mut at = 0..;
                sent.retain(|_| at.next().is_none_or(|at| !shown.contains(&at)));

                (host, machine) = world.begin();
                if steps % 4 == 0 && !sent.is_empty() {
                    // The next one ends as well, with all of them lent.
                    let (seen, lent) = receive_and_look(&world, &mut host, &ram);
                    assert_eq!(seen, sent, "{shape:?} {before} {steps}");
                    world.end_at(host, machine, &lent);
                    (host, machine) = world.begin();
                }
                assert_eq!(host.received(), sent, "{shape:?} {before} {steps}");
                machine.guest.reclaim();
                assert_eq!(machine.guest.transmit.outstanding(), 0);
                if steps % 8 == 0 || !ended {
                    goes_on(&mut host, &mut machine);
                }
            }
        }
    }
}

/// Buffers for frames that it has taken are filled first.
#[test]
fn receive_buffers_that_another_back_end_has_left_are_used() {
    for shape in shapes().into_iter().filter(|it| it.options.packed) {
        let mut world = World::new(shape);
        let (host, machine) = world.begin();
        let ram = machine.guest.ram.clone();
        let setup = machine.guest.receive.setup();
        world.end(host, machine);
        let log = world.log.as_ref().unwrap();
        let mut foreign = Foreign::new(&ram, setup, log, 0, usize::MAX);
        for _ in 0..3 {
            assert!(foreign.take().is_ok());
        }
        let (mut host, mut machine) = world.begin();
        for n in 0..5 {
            assert!(host.transmit(&frame(n)));
            assert_eq!(machine.recv().unwrap().bytes, frame(n), "{shape:?} {n}");
        }
        let log = world.log.as_ref().unwrap().read();
        assert!((0..SIZE).all(|at| log[entry(at, 0)] == 0), "struck off");
        goes_on(&mut host, &mut machine);
    }
}
