//! A day of a network of 200 guests in simulated time: nothing is left of it when it is over.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use net_nat::{Direction, DropReason, Endpoint, NatEngine, Side, Verdict};

use crate::generator::empty;
use crate::life::Life;
use crate::packet::{ACK, Body, End, FIN, Packet, RST, SYN, Segment};
use crate::world::{inside, outside, remote};

const DAY: u64 = 86_400_000;
const GUESTS: u8 = 200;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A page: handshake, some data both ways, and an end by FIN or by RST.
    Web,
    Dns,
    /// A connection that is silent for long, at times for too long.
    Idle,
    Stream,
    Ping,
}

struct Flow {
    kind: Kind,
    guest: End,
    remote: End,
    /// The guest's end as the outside sees it, once that is known.
    outside: Option<End>,
    step: u32,
    steps: u32,
    life: Option<Life>,
}

struct Day {
    engine: NatEngine,
    random: u64,
    flows: Vec<Flow>,
    free: Vec<usize>,
    /// Milliseconds, and which flow goes on then.
    queue: BinaryHeap<Reverse<(u64, usize)>>,
    packets: u64,
}

impl Day {
    /// A number below `n` (xorshift).
    fn below(&mut self, n: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % n
    }

    fn begin(&mut self, now: u64) {
        let kind = match self.below(100) {
            0..45 => Kind::Web,
            45..85 => Kind::Dns,
            85..87 => Kind::Idle,
            87..90 => Kind::Stream,
            _ => Kind::Ping,
        };
        let port = match kind {
            Kind::Ping => 0,
            Kind::Dns => 53,
            _ => 443,
        };
        let steps = match kind {
            Kind::Web => 6 + self.below(14),
            Kind::Dns => 2,
            Kind::Idle => 20,
            Kind::Stream => 60,
            Kind::Ping => 8,
        };
        let guest = inside(false, 1 + self.below(GUESTS.into()) as u8);
        let flow = Flow {
            kind,
            guest: Endpoint::new(guest, 1024 + self.below(60_000) as u16),
            remote: Endpoint::new(remote(false, 1 + self.below(250) as u8), port),
            outside: None,
            step: 0,
            steps: steps as u32,
            life: None,
        };
        let number = self.free.pop().unwrap_or(self.flows.len());
        match self.flows.get_mut(number) {
            Some(slot) => *slot = flow,
            None => self.flows.push(flow),
        }
        self.queue.push(Reverse((now, number)));
    }

    /// The next packet of a flow; when the one after it comes, if there is one.
    fn go_on(&mut self, now: u64, number: usize) -> Option<u64> {
        let chance = self.below(1000);
        let flow = &mut self.flows[number];
        // Even steps go out; every tenth answer to a query is lost.
        let direction = match flow.step % 2 {
            0 => Direction::Outbound,
            _ => Direction::Inbound,
        };
        let lost = flow.kind == Kind::Dns && direction == Direction::Inbound && chance < 100;
        let last = flow.step + 1 >= flow.steps;
        let (body, len) = match flow.kind {
            Kind::Web | Kind::Idle => {
                let segment = segment(flow, direction, chance as u32);
                (
                    Body::Tcp(segment),
                    if segment.flags == ACK { 100 } else { 0 },
                )
            }
            Kind::Ping => {
                let reply = direction == Direction::Inbound;
                (Body::Echo { reply, id: 0 }, 32)
            }
            _ => (
                Body::Udp {
                    with_checksum: chance.is_multiple_of(2),
                },
                60,
            ),
        };
        let known = flow.outside;
        flow.step += 1;
        let (guest, other) = (flow.guest, flow.remote);
        if !lost {
            let (src, dst) = match direction {
                Direction::Outbound => (Endpoint::new(guest.addr, 0), other),
                Direction::Inbound => (other, Endpoint::new(guest.addr, 0)),
            };
            let mut packet = Packet {
                src,
                dst,
                body,
                id: number as u16,
                dont_fragment: !chance.is_multiple_of(4),
                options: false,
                payload: vec![3; len],
            };
            packet.set_local(
                direction,
                if direction == Direction::Outbound {
                    guest
                } else {
                    known?
                },
            );
            let seen = self.send(direction, &packet, now)?;
            self.learn(number, direction, seen, &packet);
        }
        if last {
            return None;
        }
        let gap = match self.flows[number].kind {
            Kind::Idle => 60_000 * (1 + self.below(140)),
            Kind::Stream => 20 + self.below(4000),
            Kind::Ping => 500,
            _ => 5 + self.below(400),
        };
        Some(now + gap)
    }

    /// What the translator made of a packet; `None` where it did not let it through.
    fn send(&mut self, direction: Direction, packet: &Packet, now: u64) -> Option<Vec<u8>> {
        let mut bytes = packet.bytes();
        self.packets += 1;
        let time = Duration::from_millis(now);
        match self.engine.translate(&mut bytes[..], direction, time) {
            Verdict::Translated(_) => Some(bytes),
            // A connection that was silent for too long: who is outside learns of it in vain.
            Verdict::Drop(reason) => {
                assert_eq!(
                    direction,
                    Direction::Inbound,
                    "a guest was refused: {reason}"
                );
                None
            }
            verdict => panic!("{verdict:?}"),
        }
    }

    fn learn(&mut self, number: usize, direction: Direction, bytes: Vec<u8>, packet: &Packet) {
        let flow = &mut self.flows[number];
        let word = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        let addr = |at: usize| [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
        let id = matches!(packet.body, Body::Echo { .. });
        match direction {
            Direction::Outbound => {
                let port = word(if id { 24 } else { 20 });
                let seen = Endpoint::new(addr(12).into(), port);
                // An endpoint that is silent too long may get another port, no sooner.
                if flow.kind != Kind::Idle {
                    assert!(flow.outside.is_none_or(|known| known == seen));
                }
                flow.outside = Some(seen);
            }
            Direction::Inbound => {
                let port = word(if id { 24 } else { 22 });
                assert_eq!(Endpoint::new(addr(16).into(), port), flow.guest);
            }
        }
        if let Body::Tcp(segment) = packet.body {
            let len = packet.payload.len() as u32;
            flow.life = match flow.life {
                None => Life::begin(direction, segment, len),
                Some(life) => life.after(direction, segment, len).map(|(life, ..)| life),
            };
        }
    }

    /// Somebody outside tries the ports of the outside addresses.
    fn scan(&mut self, now: u64) {
        for _ in 0..20 {
            let called = Endpoint::new(
                outside(false, 1 + self.below(2) as u8),
                self.below(65_536) as u16,
            );
            let caller = Endpoint::new([198, 51, 100, 66].into(), 4444);
            let body = match self.below(2) {
                0 => Body::Udp {
                    with_checksum: true,
                },
                _ => Body::Tcp(Segment {
                    flags: SYN,
                    seq: 1,
                    ack: 0,
                }),
            };
            let packet = Packet {
                src: caller,
                dst: called,
                body,
                id: 0,
                dont_fragment: true,
                options: false,
                payload: Vec::new(),
            };
            let seen = self.send(Direction::Inbound, &packet, now);
            assert!(seen.is_none(), "a stranger came in");
        }
    }
}

/// The next segment of a connection: data, and at its end one FIN each or, for one in eight, a reset.
fn segment(flow: &Flow, direction: Direction, chance: u32) -> Segment {
    let Some(life) = flow.life else {
        return Segment {
            flags: SYN,
            seq: chance * 4_000_000,
            ack: 0,
        };
    };
    let (seq, ack) = life.numbers(direction);
    let left = flow.steps - flow.step;
    let flags = match flow.step {
        1 => {
            return Segment {
                flags: SYN | ACK,
                seq: chance * 3_000_000,
                ack,
            };
        }
        _ if left > 2 => ACK,
        _ if chance < 125 && flow.kind == Kind::Web => RST | ACK,
        _ => FIN | ACK,
    };
    Segment { flags, seq, ack }
}

#[test]
fn a_day_leaves_nothing_behind() {
    let mut config = empty(false, 2, false);
    config.answer_unsolicited = true;
    let engine = NatEngine::new(config).expect("a sound configuration");
    let mut day = Day {
        engine,
        random: 0x9e37_79b9_7f4a_7c15,
        flows: Vec::new(),
        free: Vec::new(),
        queue: BinaryHeap::new(),
        packets: 0,
    };
    let (mut next_flow, mut next_scan, mut next_look, mut most) = (0, 0, 0, 0);
    let mut after_an_hour = None;
    while next_flow < DAY || !day.queue.is_empty() {
        let due = day.queue.peek().map_or(u64::MAX, |Reverse((at, _))| *at);
        if next_flow < DAY && next_flow <= due {
            day.begin(next_flow);
            next_flow += 1 + day.below(700);
            continue;
        }
        if next_scan <= due && next_scan < DAY {
            day.scan(due);
            next_scan = due + day.below(600_000);
        }
        if next_look <= due {
            let budget = [0, 10, 1000, usize::MAX][day.below(4) as usize];
            day.engine.expire_some(Duration::from_millis(due), budget);
            next_look = due + day.below(1_800_000);
            while day.engine.next_output().is_some() {}
            most = most.max(day.engine.usage().sessions);
            if due > 3_600_000 && after_an_hour.is_none() {
                after_an_hour = Some(day.engine.usage().bytes);
            }
        }
        let Some(Reverse((at, number))) = day.queue.pop() else {
            continue;
        };
        match day.go_on(at, number) {
            Some(next) => day.queue.push(Reverse((next, number))),
            None => day.free.push(number),
        }
    }
    assert!(
        day.packets > 1_000_000 && most > 300,
        "{} packets, {most} sessions",
        day.packets
    );
    day.engine.validate().expect("the tables agree");

    // Everything times out, ports and all.
    for hours in [60, 65, 70] {
        day.engine
            .expire(Duration::from_secs(hours * 3600 + DAY / 1000));
    }
    let usage = day.engine.usage();
    assert_eq!(
        (
            usage.sessions,
            usage.mappings,
            usage.hosts,
            usage.fragmented
        ),
        (0, 0, 0, 0)
    );
    // The room left in hash maps varies a little as entries come and go.
    assert!(Some(usage.bytes) <= after_an_hour, "the tables have grown");
    assert_eq!(day.engine.next_deadline(), None);
    day.engine.validate().expect("the tables agree");
    let counters = day.engine.counters();
    assert_eq!(counters.opened, counters.closed);
    let refused = [
        DropReason::TableFull,
        DropReason::Quota,
        DropReason::NoPort,
        DropReason::Malformed,
    ];
    assert_eq!(refused.map(|reason| counters.dropped(reason)), [0; 4]);
    let side = Side::Inside;
    assert!(
        day.engine
            .next_output()
            .is_none_or(|output| output.side != side)
    );
}
