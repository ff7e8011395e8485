//! Chains that are looked at ahead, many at a time, and the same chains taken one by one.
//!
//! Only buffers that lie in one region of the guest's memory are looked at ahead. So there are two
//! devices here, over copies of the same memory: one knows it as one region, the other as many, with a
//! border in each header. Whatever a driver does, nobody may see which of the two it was.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use net_backend::{BackendStats, NetworkBackend, Offloads, TxFrame};
use net_datapath::{IoSegment, VirtioNetHdr};
use net_virtio::driver::{BASE, DriverOptions, DriverQueue, GuestRam};
use net_virtio::{DeviceConfig, DirtyLog, QueueError, QueueSetup, QueueState, VirtioNet, features};
use proptest::prelude::*;

/// Where indirect tables and buffers are, and how far apart.
const TABLES: u64 = BASE + 0x2000;
const TABLE: u64 = 128;
const BUFFERS: u64 = BASE + 0x8000;
const BUFFER: u64 = 2048;
const COUNT: u64 = 16;
/// Where in each buffer a region ends.
const BORDER: u64 = 5;

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;

#[derive(Clone, Debug)]
struct Part {
    buffer: u64,
    offset: u64,
    len: u32,
    /// Has the other direction than its queue.
    wrong: bool,
}

#[derive(Clone, Debug)]
struct Chain {
    parts: Vec<Part>,
    table: bool,
    /// Flags of the descriptor that leads to it, besides the one that says so.
    outer: u16,
    /// Entries of a table behind each that is used, where the ring is split.
    gap: u16,
}

#[derive(Clone, Copy, Debug)]
struct Ring {
    packed: bool,
    event_index: bool,
    indirect: bool,
    /// No `VIRTIO_F_VERSION_1`: headers of 10 bytes.
    legacy: bool,
    size: u16,
    /// Where the ring stands, and in its second round or not.
    start: u16,
    wrapped: bool,
    /// When the driver wants an interrupt.
    event: u16,
}

fn part() -> impl Strategy<Value = Part> {
    let len = prop_oneof![
        8 => Just(12u32),
        4 => Just(72),
        1 => 0u32..30,
        1 => 1u32..1600,
    ];
    let wrong = prop::bool::weighted(0.02);
    (0..COUNT, 0..BORDER, len, wrong).prop_map(|(buffer, offset, len, wrong)| Part {
        buffer,
        offset,
        len,
        wrong,
    })
}

/// Mostly a header and a frame, together or apart.
fn chain() -> impl Strategy<Value = Chain> {
    let sized = |lens: &'static [u32]| {
        let parts: Vec<_> = lens.iter().map(|len| (part(), Just(*len))).collect();
        parts.prop_map(|parts| {
            let part = |(part, len)| Part { len, ..part };
            parts.into_iter().map(part).collect::<Vec<_>>()
        })
    };
    let parts = prop_oneof![
        4 => sized(&[72]),
        6 => sized(&[12, 60]),
        2 => sized(&[10, 60]),
        2 => sized(&[12, 1500]),
        1 => sized(&[12, 20, 40]),
        2 => prop::collection::vec(part(), 1..4),
    ];
    let outer = prop_oneof![12 => Just(0), 1 => Just(NEXT), 2 => Just(WRITE)];
    let table = (prop::bool::weighted(0.3), outer, 0u16..2);
    (parts, table).prop_map(|(parts, (table, outer, gap))| Chain {
        parts,
        table,
        outer,
        gap,
    })
}

fn ring(sizes: &'static [u16]) -> impl Strategy<Value = Ring> {
    let flags = any::<(bool, bool, bool, bool)>();
    let legacy = prop::bool::weighted(0.1);
    (
        flags,
        legacy,
        prop::sample::select(sizes),
        any::<(u16, u16)>(),
    )
        .prop_map(
            |((packed, event_index, indirect, wrapped), legacy, size, (start, event))| Ring {
                packed,
                event_index,
                // More often than not: without, tables are broken chains.
                indirect: indirect || event % 4 != 0,
                legacy: legacy && !packed,
                size: if packed {
                    size
                } else {
                    size.next_power_of_two()
                },
                start: if packed { start % size } else { start },
                wrapped,
                event: event % 64,
            },
        )
}

/// What a driver changes in its rings and tables behind its own back: where, and to what.
fn pokes() -> impl Strategy<Value = Vec<(u64, u16)>> {
    let place = prop_oneof![0u64..0x200, 0x2000u64..0x2400].prop_map(|at| at & !1);
    let value = prop_oneof![0u16..16, any::<u16>()];
    // A table that crosses a border is no table: none ends as far behind as the first buffer.
    let poke = (place, value).prop_map(|(at, value)| match at % 16 {
        0 => (at, value % 0x4000),
        _ => (at, value),
    });
    prop_oneof![
        2 => Just(Vec::new()),
        1 => prop::collection::vec(poke, 1..4),
    ]
}

/// Bytes that were marked, each by itself.
struct Marks(Mutex<Vec<bool>>);

impl DirtyLog for Marks {
    fn mark(&self, address: u64, len: u64) {
        let begin = (address - BASE) as usize;
        self.0.lock().unwrap()[begin..][..len as usize].fill(true);
    }
}

/// What a driver, and whoever holds the device, can see.
#[derive(PartialEq, Debug)]
struct Seen {
    frames: Vec<(VirtioNetHdr, Vec<u8>)>,
    taken: Vec<usize>,
    stats: BackendStats,
    fault: Option<QueueError>,
    state: Option<QueueState>,
    interrupts: usize,
    memory: Vec<u8>,
    marks: Vec<bool>,
}

struct World {
    ram: GuestRam,
    setup: QueueSetup,
    ring: Ring,
    direction: u16,
}

impl World {
    /// A queue with these chains in it, as many of them as it has room for; `index` is 0 for one that
    /// the device writes to.
    fn new(ring: Ring, index: usize, chains: &[Chain], pokes: &[(u64, u16)]) -> Self {
        let len = BUFFERS + COUNT * BUFFER - BASE;
        let ram = GuestRam::new(len as usize);
        let options = DriverOptions::default();
        let setup = DriverQueue::new(&ram, BASE, ring.size, options).setup();
        let state = match ring.packed {
            false => QueueState::Split {
                available: ring.start,
            },
            true => {
                let at = ring.start | u16::from(!ring.wrapped) << 15;
                QueueState::Packed {
                    available: at,
                    used: at,
                }
            }
        };
        let world = Self {
            ram,
            setup: QueueSetup { state, ..setup },
            ring,
            direction: if index == 0 { WRITE } else { 0 },
        };
        for buffer in 0..COUNT {
            let bytes: Vec<u8> = (0..BUFFER).map(|at| (at * 7 + buffer) as u8).collect();
            let at = BUFFERS + buffer * BUFFER;
            world.ram.write(at, &bytes);
            world.ram.write(at, &[0; 16]);
        }
        match ring.packed {
            false => world.fill_split(chains),
            true => world.fill_packed(chains),
        }
        for (at, value) in pokes {
            world.ram.write(BASE + at, &value.to_le_bytes());
        }
        world
    }

    /// Writes a descriptor; the last two fields are flags and successor in a split ring.
    fn put(&self, at: u64, (address, len): (u64, u32), third: u16, fourth: u16) {
        self.ram.write(at, &address.to_le_bytes());
        self.ram.write(at + 8, &len.to_le_bytes());
        self.ram.write(at + 12, &third.to_le_bytes());
        self.ram.write(at + 14, &fourth.to_le_bytes());
    }

    fn flags(&self, part: &Part) -> u16 {
        self.direction ^ if part.wrong { WRITE } else { 0 }
    }

    /// The descriptors of a chain as they are in the ring, with their flags, and its table if it has one.
    fn descriptors(&self, number: usize, chain: &Chain) -> Vec<((u64, u32), u16)> {
        let place = |part: &Part| (BUFFERS + part.buffer * BUFFER + part.offset, part.len);
        let last = chain.parts.len() - 1;
        let flags = |at: usize, part: &Part| self.flags(part) | if at < last { NEXT } else { 0 };
        let parts = chain.parts.iter().enumerate();
        if !chain.table {
            return parts
                .map(|(at, part)| (place(part), flags(at, part)))
                .collect();
        }
        let table = TABLES + TABLE * number as u64;
        let meaningless = if chain.gap > 0 { NEXT } else { 0 };
        let step = 1 + if self.ring.packed { 0 } else { chain.gap };
        for (at, part) in parts {
            let entry = at as u16 * step;
            let place_of_entry = table + 16 * u64::from(entry);
            let flags = flags(at, part);
            match self.ring.packed {
                false => self.put(place_of_entry, place(part), flags, entry + step),
                // The table's length says which one is the last.
                true => self.put(place_of_entry, place(part), 0x5a5a, flags ^ meaningless),
            }
        }
        let entries = (last as u16 + 1) * step;
        vec![((table, 16 * u32::from(entries)), INDIRECT | chain.outer)]
    }

    fn fill_split(&self, chains: &[Chain]) {
        let (size, setup) = (self.ring.size, self.setup);
        let (mut free, mut shown) = (0, self.ring.start);
        for (number, chain) in chains.iter().enumerate() {
            let descriptors = self.descriptors(number, chain);
            let count = descriptors.len() as u16;
            if free + count > size {
                break;
            }
            // From the end, so that no chain begins where its number is.
            for (at, (place, flags)) in (0..).zip(descriptors) {
                let own = size - 1 - (free + at);
                let next = own.wrapping_sub(1);
                self.put(setup.descriptors + 16 * u64::from(own), place, flags, next);
            }
            let entry = u64::from(shown % size);
            let head = size - 1 - free;
            let at = setup.driver + 4 + 2 * entry;
            self.ram.write(at, &head.to_le_bytes());
            (free, shown) = (free + count, shown.wrapping_add(1));
        }
        let event = setup.driver + 4 + 2 * u64::from(size);
        let wanted = self.ring.start.wrapping_add(self.ring.event);
        self.ram.write(event, &wanted.to_le_bytes());
        self.ram.write(setup.driver + 2, &shown.to_le_bytes());
        let used = self.ring.start.to_le_bytes();
        self.ram.write(setup.device + 2, &used);
    }

    fn fill_packed(&self, chains: &[Chain]) {
        let (size, setup) = (self.ring.size, self.setup);
        let (mut slot, mut wrap) = (self.ring.start, !self.ring.wrapped);
        // What is not available bears the marks of the round before.
        for slot in 0..size {
            let before = wrap == (slot < self.ring.start);
            let flags = if before { 0x8080 } else { 0 };
            self.put(setup.descriptors + 16 * u64::from(slot), (0, 0), 0, flags);
        }
        let mut free = size;
        for (number, chain) in chains.iter().enumerate() {
            let descriptors = self.descriptors(number, chain);
            let count = descriptors.len() as u16;
            if count > free {
                break;
            }
            free -= count;
            for (left, (place, flags)) in (1..=count).rev().zip(descriptors) {
                let turn = if wrap { 1 << 7 } else { 1 << 15 };
                // The last slot names the chain.
                let id = if left == 1 { number as u16 } else { 0xbad };
                let at = setup.descriptors + 16 * u64::from(slot);
                self.put(at, place, id, flags | turn);
                slot += 1;
                if slot == size {
                    (slot, wrap) = (0, !wrap);
                }
            }
        }
        let event = (self.ring.start + self.ring.event) % size;
        let wanted = event | u16::from(wrap) << 15;
        let how: u16 = if self.ring.event_index { 2 } else { 0 };
        self.ram.write(setup.driver, &wanted.to_le_bytes());
        self.ram.write(setup.driver + 2, &how.to_le_bytes());
    }

    /// A device over this memory, in one region or many.
    fn device(
        &self,
        index: usize,
        many: bool,
        marks: &Arc<Marks>,
        interrupts: &Arc<AtomicUsize>,
    ) -> VirtioNet {
        let mut device = VirtioNet::new(DeviceConfig::default());
        device.set_offloads(Offloads::NONE).unwrap();
        let mut wanted = 0;
        for (on, bit) in [
            (!self.ring.legacy, features::VERSION_1 | features::MRG_RXBUF),
            (self.ring.packed, features::RING_PACKED),
            (self.ring.event_index, features::EVENT_IDX),
            (self.ring.indirect, features::INDIRECT_DESC),
        ] {
            wanted |= if on { bit } else { 0 };
        }
        device.set_features(wanted).unwrap();
        device.set_dirty_log(Some(Arc::clone(marks) as Arc<dyn DirtyLog>));
        let cuts: Vec<u64> = (0..COUNT)
            .filter(|_| many)
            .map(|buffer| BUFFERS + buffer * BUFFER + BORDER)
            .collect();
        let memory = self.ram.memory_cut_at(&cuts).unwrap();
        let count = Arc::clone(interrupts);
        let interrupt = move || {
            count.fetch_add(1, Ordering::Relaxed);
        };
        device
            .start_queue(index, &self.setup, memory, Box::new(interrupt))
            .unwrap();
        device
    }

    /// What is seen of a device that does this.
    fn run(&self, index: usize, many: bool, work: impl Fn(&mut VirtioNet, &mut Seen)) -> Seen {
        let len = self.ram.mapping().1;
        let marks = Arc::new(Marks(Mutex::new(vec![false; len])));
        let interrupts = Arc::default();
        let mut device = self.device(index, many, &marks, &interrupts);
        let mut seen = Seen {
            frames: Vec::new(),
            taken: Vec::new(),
            stats: BackendStats::default(),
            fault: None,
            state: None,
            interrupts: 0,
            memory: Vec::new(),
            marks: Vec::new(),
        };
        work(&mut device, &mut seen);
        seen.stats = device.statistics();
        seen.fault = device.fault(index);
        seen.state = device.stop_queue(index);
        seen.interrupts = interrupts.load(Ordering::Relaxed);
        seen.memory = self.ram.read(BASE, len);
        seen.marks = marks.0.lock().unwrap().clone();
        seen
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn what_is_sent_is_the_same_ahead_and_one_by_one(
        ring in ring(&[1, 2, 3, 4, 7, 16, 40, 64]),
        chains in prop::collection::vec(chain(), 0..50),
        pokes in pokes(),
        budget in 1usize..40,
    ) {
        let [ahead, single] = [false, true].map(|many| {
            World::new(ring, 1, &chains, &pokes).run(1, many, |device, seen| {
                // Drivers of broken rings may make them go round for ever.
                for _ in 0..60 {
                    let taken = device.receive(budget, &mut |batch| {
                        for packet in batch {
                            let mut bytes = vec![0; packet.len()];
                            packet.copy_range(0, &mut bytes);
                            seen.frames.push((*packet.vnet(), bytes));
                        }
                    });
                    seen.taken.push(taken.unwrap());
                }
            })
        });
        // A buffer that a driver has made very long has many pieces in one of the two, and then ends its
        // batch: the same happens, but not in the same turns.
        let [ahead, single] = [ahead, single].map(|seen| match pokes.as_slice() {
            [] => seen,
            _ => Seen {
                taken: vec![seen.taken.iter().sum()],
                interrupts: 0,
                ..seen
            },
        });
        prop_assert_eq!(ahead, single);
    }

    /// The ring is long: how full it is, is told by the pieces of its buffers.
    #[test]
    fn what_is_received_is_the_same_ahead_and_one_by_one(
        ring in ring(&[256]),
        chains in prop::collection::vec(chain(), 0..17),
        pokes in pokes(),
        lens in prop::collection::vec(prop::sample::select(&[14usize, 60, 61, 1500, 1501]), 1..40),
        at_a_time in 1usize..40,
    ) {
        let frames: Vec<Vec<u8>> = (0u8..).zip(&lens).map(|(n, len)| vec![!n; *len]).collect();
        let segments: Vec<_> = frames.iter().map(|frame| [IoSegment::from(&frame[..])]).collect();
        let lists: Vec<_> = segments.iter().map(|list| TxFrame::plain(list)).collect();
        let [ahead, single] = [false, true].map(|many| {
            World::new(ring, 0, &chains, &pokes).run(0, many, |device, seen| {
                for frames in lists.chunks(at_a_time) {
                    seen.taken.push(device.transmit(frames).unwrap());
                }
            })
        });
        prop_assert_eq!(ahead, single);
    }
}
