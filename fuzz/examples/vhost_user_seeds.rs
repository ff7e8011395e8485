//! Writes the seeds of `corpus/vhost_user`: what QEMU 7.2 and rust-vmm's front-end send, and faults.
//!
//!     cargo run --example vhost_user_seeds corpus/vhost_user

#[path = "../fuzz_targets/vhost_user/input.rs"]
mod input;

use std::path::PathBuf;

use input::*;
use net_virtio::driver::{BASE, DriverOptions, DriverQueue, GuestRam};
use net_virtio::features;

/// Where the front-end has the guest's memory.
const USER: u64 = 0x7f12_3400_0000;
const LEN: u64 = 0x4_0000;
const SIZE: u16 = 16;
/// The feature bits of the protocol itself.
const PROTOCOL: u64 = 1 << 30;
const LOG_ALL: u64 = 1 << 26;
/// Protocol features: what QEMU takes of those that are offered, and what else there is.
const MQ: u64 = 1;
const LOG_SHMFD: u64 = 1 << 1;
const REPLY_ACK: u64 = 1 << 3;
const CONFIG: u64 = 1 << 9;
const INFLIGHT_SHMFD: u64 = 1 << 12;
const RESET_DEVICE: u64 = 1 << 13;
const MEM_SLOTS: u64 = 1 << 15;
const STATUS: u64 = 1 << 16;

fn words(fields: &[u64]) -> Vec<u8> {
    fields.iter().flat_map(|it| it.to_ne_bytes()).collect()
}

fn pair(index: u32, value: u32) -> Vec<u8> {
    [index, value].map(u32::to_ne_bytes).concat()
}

/// The body of both messages about what is in flight.
fn area(size: u64, queues: u16) -> Vec<u8> {
    let mut body = words(&[size, 0]);
    body.extend([queues, SIZE, 0, 0].map(u16::to_ne_bytes).concat());
    body
}

/// An input under way.
struct Seed(Vec<u8>);

impl Seed {
    fn new(options: u8) -> Self {
        Self(vec![options])
    }

    fn op(&mut self, op: &Op<'_>) -> &mut Self {
        op.write(&mut self.0);
        self
    }

    fn message(&mut self, request: u8, flags: u8, body: &[u8], fds: &[u8]) -> &mut Self {
        self.op(&Op::Message {
            request,
            flags,
            claims: None,
            fds,
            body,
            cut: 0,
            late: false,
            held: false,
        })
    }

    fn tell(&mut self, request: u8, body: &[u8], fds: &[u8]) -> &mut Self {
        self.message(request, 9, body, fds)
    }

    fn ask(&mut self, request: u8, body: &[u8]) -> &mut Self {
        self.message(request, 1, body, &[])
    }

    /// As QEMU begins: features first, then those of the protocol.
    fn negotiate(&mut self, protocol: u64, features: u64) -> &mut Self {
        self.ask(1, &[]).ask(15, &[]);
        self.message(16, 1, &words(&[protocol]), &[]);
        self.ask(17, &[]);
        if protocol & MEM_SLOTS != 0 {
            self.ask(36, &[]);
        }
        self.message(3, 1, &[], &[]);
        self.tell(2, &words(&[features | PROTOCOL]), &[])
    }

    fn share(&mut self) -> &mut Self {
        let mut table = pair(1, 0);
        table.extend(words(&[BASE, LEN, USER, 0]));
        self.tell(5, &table, &[MEMORY])
    }

    fn add(&mut self, file: u8, guest: u64, len: u64, user: u64) -> &mut Self {
        self.tell(37, &words(&[0, guest, len, user, 0]), &[file])
    }

    fn ring(&mut self, index: u32, queue: &DriverQueue, base: u32, marks: bool) -> &mut Self {
        let setup = queue.setup();
        self.message(8, 1, &pair(index, setup.size.into()), &[]);
        self.message(10, 1, &pair(index, base), &[]);
        let mut body = pair(index, marks.into());
        let places = [setup.descriptors, setup.device, setup.driver];
        body.extend(words(&places.map(|at| at - BASE + USER)));
        body.extend(words(&[setup.device]));
        self.message(9, 1, &body, &[]);
        self.message(12, 1, &words(&[index.into()]), &[EVENT]);
        self.message(13, 1, &words(&[index.into()]), &[OTHER_EVENT]);
        self.message(14, 1, &words(&[index.into()]), &[FULL_EVENT])
    }

    fn enable(&mut self, rings: u32) -> &mut Self {
        for index in 0..rings {
            self.message(18, 1, &pair(index, 1), &[]);
        }
        self
    }

    /// Copies what is not zero in this memory into the file.
    fn fill(&mut self, ram: &GuestRam) -> &mut Self {
        let bytes = ram.read(BASE, ram.mapping().1);
        for (n, piece) in (0u32..).zip(bytes.chunks(64)) {
            if piece.iter().any(|byte| *byte != 0) {
                let end = piece.iter().rposition(|byte| *byte != 0).unwrap_or(0) + 1;
                self.op(&Op::Poke {
                    file: MEMORY,
                    at: n * 64,
                    bytes: &piece[..end],
                });
            }
        }
        self
    }

    fn traffic(&mut self) -> &mut Self {
        self.op(&Op::Ring { file: EVENT });
        self.op(&Op::Receive { budget: 64 });
        self.op(&Op::Transmit {
            count: 2,
            len: 100,
            gso: 0,
        })
    }
}

/// Queues 0 and 1 of a guest with buffers for two frames and two frames to send.
fn queues(options: DriverOptions) -> (GuestRam, [DriverQueue; 2]) {
    let ram = GuestRam::new(LEN as usize);
    let mut queues = [0, 1].map(|n| DriverQueue::new(&ram, BASE + n * 0x8000, SIZE, options));
    for n in 0..2 {
        let at = BASE + 0x1_0000 + n * 0x1000;
        ram.write(
            at,
            &[[0; 12].as_slice(), &[2, 0, 0, 0, 0, 1], &[n as u8 + 1; 48]].concat(),
        );
        queues[1].add(&[(at, 12), (at + 12, 54)], &[]);
        queues[0].add(&[], &[(at + 0x8000, 1600)]);
    }
    queues.iter_mut().for_each(|queue| {
        queue.publish();
    });
    (ram, queues)
}

const QEMU: u64 = MQ | LOG_SHMFD | REPLY_ACK | CONFIG | INFLIGHT_SHMFD | RESET_DEVICE | STATUS;

fn main() {
    let to = PathBuf::from(std::env::args_os().nth(1).expect("a directory"));
    let base_features = features::VERSION_1 | features::MRG_RXBUF | features::CTRL_VQ;
    let mut seeds: Vec<(&str, Vec<u8>)> = Vec::new();
    for (name, packed, indirect) in [
        ("qemu-split", false, false),
        ("qemu-packed", true, false),
        ("qemu-indirect", false, true),
        ("qemu-packed-indirect", true, true),
    ] {
        let (ram, rings) = queues(DriverOptions {
            packed,
            event_index: true,
            indirect,
        });
        let mut bits = base_features | features::EVENT_IDX;
        bits |= if packed { features::RING_PACKED } else { 0 };
        bits |= if indirect { features::INDIRECT_DESC } else { 0 };
        let base = if packed { 0x8000_8000 } else { 0 };
        let mut seed = Seed::new(0);
        seed.negotiate(QEMU & !STATUS, bits).share().fill(&ram);
        seed.ring(0, &rings[0], base, false)
            .ring(1, &rings[1], base, false);
        seed.enable(2).traffic().op(&Op::Witness).traffic();
        // The machine stops: rings are asked where they stand.
        seed.ask(11, &pair(0, 0)).ask(11, &pair(1, 0)).traffic();
        seeds.push((name, seed.0));
    }
    let (ram, rings) = queues(DriverOptions::default());
    let begin = |protocol: u64, bits: u64| {
        let mut seed = Seed::new(0);
        seed.negotiate(protocol, base_features | bits)
            .share()
            .fill(&ram);
        seed
    };
    let rings_of = |seed: &mut Seed, marks: bool| {
        seed.ring(0, &rings[0], 0, marks)
            .ring(1, &rings[1], 0, marks);
    };

    // QEMU's word on the device: ACKNOWLEDGE, DRIVER, FEATURES_OK, DRIVER_OK; a reset; once more.
    let mut seed = begin(QEMU, 0);
    for status in [1u64, 3, 11] {
        seed.message(39, 1, &words(&[status]), &[]);
    }
    rings_of(&mut seed, false);
    seed.enable(2)
        .tell(39, &words(&[15]), &[])
        .ask(40, &[])
        .traffic();
    seed.tell(39, &words(&[0]), &[]).ask(40, &[]).traffic();
    seeds.push(("qemu-status", seed.0));

    // Two pairs; one is disabled and enabled again.
    let mut seed = Seed::new(1);
    seed.negotiate(QEMU, base_features | features::MQ)
        .share()
        .fill(&ram);
    rings_of(&mut seed, false);
    seed.ring(2, &rings[0], 0, false)
        .ring(3, &rings[1], 0, false)
        .enable(4)
        .traffic();
    seed.tell(18, &pair(2, 0), &[])
        .tell(18, &pair(3, 0), &[])
        .traffic()
        .enable(4)
        .traffic();
    seeds.push(("qemu-two-pairs", seed.0));

    // A migration: pages are marked, of buffers and rings.
    let mut seed = begin(QEMU & !STATUS, 0);
    rings_of(&mut seed, false);
    seed.enable(2).tell(6, &words(&[4096, 0]), &[BITMAP]);
    seed.message(7, 1, &[], &[EVENT]);
    seed.tell(2, &words(&[base_features | PROTOCOL | LOG_ALL]), &[]);
    rings_of(&mut seed, true);
    seed.traffic().traffic();
    seeds.push(("qemu-migration", seed.0));

    // What is in flight: the log goes to the front-end and comes back, as after a crash.
    for (name, packed) in [("inflight-split", false), ("inflight-packed", true)] {
        let options = DriverOptions {
            packed,
            ..DriverOptions::default()
        };
        let (ram, rings) = queues(options);
        let bits = base_features | if packed { features::RING_PACKED } else { 0 };
        let base = if packed { 0x8000_8000 } else { 0 };
        let stride = if packed { 576 } else { 320 };
        let mut seed = Seed::new(0);
        for n in 0..2 {
            seed.negotiate(QEMU & !STATUS, bits).share();
            if n == 0 {
                seed.fill(&ram).ask(31, &area(0, 2));
            }
            seed.tell(32, &area(2 * stride, 2), &[KEPT]);
            seed.ring(0, &rings[0], base, false)
                .ring(1, &rings[1], base, false)
                .enable(2);
            seed.op(&Op::Receive { budget: 1 }).traffic();
            if n == 0 {
                seed.op(&Op::End { go: true });
                // The first entry of ring 1 is in flight.
                let entry = stride as u32 + if packed { 32 } else { 16 };
                seed.op(&Op::Poke {
                    file: KEPT,
                    at: entry,
                    bytes: &[1, 0, 1, 0, 0, 0, 1, 0],
                });
            }
        }
        seeds.push((name, seed.0));
    }

    // rust-vmm's front-end: every message acknowledged, memory by slots.
    let mut seed = Seed::new(2);
    seed.message(3, 9, &[], &[]).ask(1, &[]);
    seed.tell(2, &words(&[base_features | PROTOCOL]), &[])
        .ask(15, &[]);
    let protocol = MQ | REPLY_ACK | CONFIG | MEM_SLOTS | RESET_DEVICE;
    seed.tell(16, &words(&[protocol]), &[])
        .ask(36, &[])
        .ask(17, &[]);
    let config: Vec<u8> = [0, 12, 1u32].map(u32::to_ne_bytes).concat();
    seed.ask(24, &[config, vec![0; 12]].concat());
    seed.add(MEMORY, BASE, LEN, USER)
        .add(SHORT, 0, 100, 0x1000)
        .fill(&ram);
    seed.add(SPARSE, 1 << 40, 1 << 38, 0x1_0000_0000);
    rings_of(&mut seed, false);
    seed.enable(2).traffic();
    seed.tell(38, &words(&[0, BASE, LEN, USER, 0]), &[])
        .traffic();
    seed.add(MEMORY, BASE, LEN, USER).traffic();
    seed.tell(34, &[], &[]).traffic();
    seeds.push(("rust-vmm", seed.0));

    // Rings enabled before features are chosen, as QEMU does, in pieces; a front-end that ends.
    let mut seed = Seed::new(0);
    seed.ask(1, &[]);
    for (cut, late) in [(5, false), (12, false), (14, true)] {
        seed.op(&Op::Message {
            request: 18,
            flags: 1,
            claims: None,
            fds: &[],
            body: &pair(0, 1),
            cut,
            late,
            held: true,
        });
    }
    seed.op(&Op::Step).op(&Op::End { go: false }).op(&Op::Step);
    seeds.push(("pieces", seed.0));

    // Descriptors of every kind where an eventfd and where a file belong, and too many of them.
    let mut seed = begin(QEMU, 0);
    for kind in 0..KINDS {
        seed.message(12, 1, &words(&[0]), &[kind]);
        let mut table = pair(1, 0);
        table.extend(words(&[0, 4096, 0, 0]));
        seed.message(5, 1, &table, &[kind]);
    }
    seed.message(12, 1, &words(&[0]), &[EVENT; 40])
        .op(&Op::Silence);
    seeds.push(("descriptors", seed.0));

    // A length that lies, and noise.
    let mut seed = begin(0, 0);
    for claims in [0, 7, 4096, u32::MAX] {
        seed.op(&Op::Message {
            request: 2,
            flags: 1,
            claims: Some(claims),
            fds: &[],
            body: &[0; 8],
            cut: 0,
            late: false,
            held: false,
        });
    }
    seed.op(&Op::Bytes {
        bytes: &[0x5a; 40],
        fds: &[MEMORY],
    });
    seed.op(&Op::Step);
    seeds.push(("lengths", seed.0));

    std::fs::create_dir_all(&to).expect("a directory");
    for (name, bytes) in seeds {
        std::fs::write(to.join(name), bytes).expect("a seed");
    }
}
