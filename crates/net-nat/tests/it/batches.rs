//! Packets of all kinds in any order: one by one and in batches, and what must hold after each.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use net_nat::config::Dependence;
use net_nat::{
    Counters, Direction, DropReason, Endpoint, Event, NatConfig, NatEngine, Side, Verdict,
};

use crate::lab::{
    ACK, BOTH, ECHO, ECHO_REPLY, FIN, Family, Lab, PSH, RST, SYN, Tcp, V4, V6, at, echo, fragments,
    icmp_error, raw, secs, see, tcp, udp,
};

/// A generator of test cases (xorshift).
struct Random(u64);

impl Random {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % below as u64) as usize
    }
}

/// Packets of all kinds between a few guests, the translator and a few strangers.
fn zoo(family: Family, random: &mut Random) -> Vec<u8> {
    let addr = |random: &mut Random| match random.next(8) {
        0..=2 => family.inside(2 + random.next(3) as u16),
        3 | 4 => family.outside(1 + random.next(2) as u8),
        _ => family.remote(1 + random.next(3) as u16),
    };
    let (src, dst) = (addr(random), addr(random));
    let port = |random: &mut Random| [1, 53, 5000, 5001, 40_000][random.next(5)];
    let (from, to) = (at(src, port(random)), at(dst, port(random)));
    let data = vec![7; random.next(40)];
    let segment = Tcp {
        flags: [SYN, SYN | ACK, ACK, ACK | PSH, FIN | ACK, RST, RST | ACK, 0][random.next(8)],
        seq: random.next(3) as u32,
        ack: random.next(3) as u32,
        data: &data,
        ..Tcp::default()
    };
    let kind = if family == V4 { (3, 3) } else { (1, 4) };
    match random.next(8) {
        0 | 1 => udp(from, to, &data),
        2 | 3 => tcp(from, to, &segment),
        4 => echo(
            src,
            dst,
            if random.next(2) == 0 {
                ECHO
            } else {
                ECHO_REPLY
            },
            from.port(),
            1,
        ),
        5 => icmp_error(src, dst, kind, [0; 4], &udp(to, from, &data)),
        6 => raw(src, dst, [47, 50, 136, 0, 44, 59][random.next(6)], &data),
        _ => {
            let long = udp(from, to, &[9; 200]);
            let pieces = fragments(&long, 64, random.next(4) as u32);
            let n = random.next(pieces.len());
            pieces.into_iter().nth(n).unwrap_or(long)
        }
    }
}

#[test]
fn a_batch_is_treated_like_its_packets_one_by_one() {
    // 64 and more packets at once, of both families and none, among them first packets of flows,
    // and packets of flows that others of the same batch have opened.
    let mut config = V4.pool(&[1, 2]);
    config.ipv6 = V6.pool(&[1, 2]).ipv6;
    config.udp.filtering = Dependence::EndpointIndependent;
    config.limits.new_per_second = 0;
    let mut random = Random(0x1234_5678_9abc);
    for only in [Some(V4), Some(V6), None] {
        let mut twins = Twins::new(&config);
        for round in 0..200u64 {
            let direction = [Direction::Outbound, Direction::Inbound][random.next(2)];
            let batch = (0..1 + random.next(150)).map(|n| {
                // With two families in a batch, one chooses all ports before the other: flows
                // that are there tell the same story.
                let family = only.unwrap_or([V4, V6][n % 2]);
                let mut packet = match only {
                    Some(_) => zoo(family, &mut random),
                    None => known(family, direction, random.next(8) as u16),
                };
                match random.next(20) {
                    0 => packet.truncate(random.next(packet.len())),
                    1 => packet[0] = random.next(256) as u8,
                    2 => packet.clear(),
                    _ => {}
                }
                packet
            });
            twins.send(batch.collect(), direction, secs(round * 7));
        }
        let counters = twins.end();
        assert!(counters.outbound > 500, "{counters:?}");
        assert!(only.is_none() || counters.inbound > 50, "{counters:?}");
    }
}

/// First packets, nearly all: of few endpoints, so that a batch has several of a flow, of an inside
/// endpoint and of a host.
fn opening(family: Family, random: &mut Random) -> Vec<u8> {
    let from = at(
        family.inside(2 + random.next(6) as u16),
        5000 + random.next(6) as u16,
    );
    let to = at(
        family.remote(1 + random.next(4) as u16),
        53 + random.next(2) as u16,
    );
    let syn = Tcp {
        flags: SYN,
        seq: random.next(1000) as u32,
        ..Tcp::default()
    };
    match random.next(16) {
        0 => zoo(family, random),
        1..=6 => tcp(from, to, &syn),
        _ => udp(from, to, b"x"),
    }
}

#[test]
fn a_batch_opens_what_its_packets_open_one_by_one() {
    // Whatever a new session depends on: the other end, an address of the host's own, what hosts may
    // have, how much room there is, what has ended a moment ago.
    let mut random = Random(0x0bad_cafe);
    for family in BOTH {
        for mapping in [
            Dependence::EndpointIndependent,
            Dependence::AddressDependent,
            Dependence::AddressAndPortDependent,
        ] {
            let mut config = family.pool(&[1, 2]);
            (config.udp.mapping, config.tcp.mapping) = (mapping, mapping);
            config.timeouts.below_minimum = true;
            config.timeouts.udp = secs(20);
            config.timeouts.tcp_opening = secs(10);
            config.timeouts.port_hold = secs(5);
            config.limits.sessions = 60;
            config.limits.mappings = 40;
            config.limits.hosts = 5;
            config.limits.sessions_per_host = 20;
            config.limits.mappings_per_host = 8;
            config.limits.new_per_second = 1;
            config.limits.new_burst = 8;
            family.pair(&mut config, 3, 3, true);
            let mut twins = Twins::new(&config);
            let mut now = 0;
            for _ in 0..400 {
                now += [0, 1, 6, 30][random.next(4)];
                let batch = (0..1 + random.next(100)).map(|_| opening(family, &mut random));
                twins.send(batch.collect(), Direction::Outbound, secs(now));
                let answers = twins.answers(&mut random);
                twins.send(answers, Direction::Inbound, secs(now));
            }
            let counters = twins.end();
            for reason in [DropReason::Quota, DropReason::Rate, DropReason::TableFull] {
                assert!(counters.dropped(reason) > 100, "{reason:?}: {counters:?}");
            }
            let busy = [counters.opened, counters.closed, counters.inbound];
            assert!(busy.iter().all(|&n| n > 500), "{counters:?}");
        }
    }
}

#[test]
fn answers_find_their_session_however_many_its_port_has() {
    // By the port where it is the only one, by all four ends where there are several or have been.
    for family in BOTH {
        let mut config = family.pool(&[1, 2, 9, 4, 5, 6]);
        config.udp.filtering = Dependence::AddressAndPortDependent;
        config.inbound_refresh = false;
        config.timeouts.below_minimum = true;
        config.timeouts.udp = secs(10);
        config.timeouts.port_hold = secs(3);
        let mut twins = Twins::new(&config);
        // When who speaks to whom, and whose answers come back then.
        type Ends = &'static [(u16, u16)];
        let story: [(u64, Ends, Ends); 10] = [
            (0, &[(2, 1)], &[(2, 1)]),
            (1, &[(3, 1)], &[(2, 1), (3, 1)]),
            (5, &[(2, 2)], &[(2, 1), (2, 2), (3, 1)]),
            (
                9,
                &[(3, 3), (3, 4)],
                &[(2, 1), (2, 2), (3, 1), (3, 3), (3, 4)],
            ),
            // The one that the port named has ended, then those after it.
            (12, &[], &[(2, 2), (3, 3), (3, 4)]),
            (14, &[(2, 3)], &[(2, 2), (2, 3), (3, 3), (3, 4)]),
            (22, &[], &[(2, 3)]),
            // The port rests, and wakes.
            (26, &[(2, 4), (3, 2)], &[(2, 4), (3, 2)]),
            (27, &[(2, 1), (3, 1)], &[(2, 4), (2, 1), (3, 2), (3, 1)]),
            (60, &[(2, 1)], &[(2, 1)]),
        ];
        let (guest, far) = (|n| at(family.inside(n), 5000), |n| at(family.remote(n), 53));
        for (now, spoken, alive) in story {
            twins.one.expire(secs(now));
            twins.many.expire(secs(now));
            let packets = spoken.iter().map(|&(a, b)| udp(guest(a), far(b), b"x"));
            twins.send(packets.collect(), Direction::Outbound, secs(now));
            let mut answers = Vec::new();
            for a in [2, 3] {
                let outside = twins
                    .one
                    .sessions()
                    .find(|s| s.inside.addr == family.inside(a));
                let outside = outside.map(|s| at(s.outside.addr, s.outside.port));
                answers.extend((1..=4).filter_map(|b| Some(udp(far(b), outside?, b"y"))));
            }
            // Nobody's port, an address that is not ours.
            answers.push(udp(far(1), at(family.outside(9), 1), b"y"));
            answers.push(udp(far(1), at(family.outside(7), 5000), b"y"));
            let before = twins.one.counters().inbound;
            twins.send(answers, Direction::Inbound, secs(now));
            let came = twins.one.counters().inbound - before;
            assert_eq!(came, alive.len() as u64, "at {now}");
            assert_eq!(twins.one.usage().sessions, alive.len(), "at {now}");
            twins.one.validate().unwrap();
            twins.many.validate().unwrap();
        }
        twins.end();
    }
}

/// Two engines, of which one gets packets one by one and the other in batches.
struct Twins {
    one: NatEngine,
    many: NatEngine,
    events: [Arc<Mutex<Vec<Event>>>; 2],
}

impl Twins {
    fn new(config: &NatConfig) -> Self {
        let [one, many] = [(); 2].map(|()| {
            let mut engine = NatEngine::new(config.clone()).unwrap();
            let events = Arc::new(Mutex::new(Vec::new()));
            let log = Arc::clone(&events);
            engine.observe(move |event| log.lock().unwrap().push(*event));
            (engine, events)
        });
        Self {
            one: one.0,
            many: many.0,
            events: [one.1, many.1],
        }
    }

    /// The same packets to both, and all that can be seen of them compared.
    fn send(&mut self, mut batch: Vec<Vec<u8>>, direction: Direction, now: Duration) {
        let mut single = batch.clone();
        let mut verdicts = vec![Verdict::Pass; batch.len()];
        self.many
            .translate_batch(&mut batch, direction, now, &mut verdicts);
        for (n, packet) in single.iter_mut().enumerate() {
            let verdict = self.one.translate(packet, direction, now);
            assert_eq!(verdict, verdicts[n], "at {now:?}, packet {n}");
            assert_eq!(*packet, batch[n], "at {now:?}, packet {n}");
        }
        assert_eq!(self.one.counters(), self.many.counters());
        assert_eq!(self.one.usage(), self.many.usage());
        // A batch has one family after the other.
        let [one, many] = [0, 1].map(|n| {
            let mut events = std::mem::take(&mut *self.events[n].lock().unwrap());
            events.sort_by_key(|event| match event {
                Event::Opened(view) | Event::Closed(view) => view.inside.addr.is_ipv6(),
                Event::Refused { inside, .. } => inside.is_ipv6(),
                other => panic!("{other:?}"),
            });
            events
        });
        assert_eq!(one, many);
        loop {
            let outputs = (self.one.next_output(), self.many.next_output());
            assert_eq!(outputs.0, outputs.1);
            if outputs.0.is_none() {
                break;
            }
        }
    }

    /// A packet from the other end of some of the sessions.
    fn answers(&self, random: &mut Random) -> Vec<Vec<u8>> {
        let end = |e: Endpoint<std::net::IpAddr>| at(e.addr, e.port);
        let of_udp = self.one.sessions().filter(|s| s.protocol == 17);
        let flows = of_udp.map(|s| udp(end(s.remote), end(s.outside), b"y"));
        flows.filter(|_| random.next(4) == 0).collect()
    }

    fn end(self) -> Counters {
        self.one.validate().unwrap();
        self.many.validate().unwrap();
        *self.many.counters()
    }
}

/// A packet of a flow whose outside port is known: that of a host with an address of its own.
fn known(family: Family, direction: Direction, n: u16) -> Vec<u8> {
    match direction {
        Direction::Outbound => udp(at(family.inside(3), 7), at(family.remote(n), 53), b"x"),
        Direction::Inbound => udp(at(family.remote(n), 53), at(family.outside(1), 9), b"x"),
    }
}

#[test]
fn any_packet_in_any_order_keeps_the_tables_whole_and_the_checksums_right() {
    let mut random = Random(0xfeed_beef);
    for family in BOTH {
        for pass_unmatched in [false, true] {
            let mut lab = Lab::with(family, |c| {
                c.pass_unmatched = pass_unmatched;
                c.limits.sessions = 60;
                c.limits.outputs = 16;
                c.timeouts.below_minimum = true;
                c.timeouts.udp = secs(20);
                c.timeouts.port_hold = secs(5);
                c.udp.filtering = Dependence::EndpointIndependent;
                c.mtu = [600, 600];
                family.pair(c, 3, 2, true);
            });
            for step in 0..20_000 {
                let mut packet = zoo(family, &mut random);
                if random.next(10) == 0 {
                    let at = random.next(packet.len());
                    packet[at] ^= 1 << random.next(8);
                }
                let direction = [Direction::Outbound, Direction::Inbound][random.next(2)];
                let done = lab.send(&packet, direction);
                // No host of the inside ever shows itself outside.
                if done.verdict == Verdict::Translated(Side::Outside) {
                    let src = see(&done.packet).src;
                    assert!(
                        src == family.outside(1) || src == family.outside(2),
                        "{src} leaves"
                    );
                }
                if random.next(8) == 0 {
                    lab.wait(secs(1));
                }
                if step % 500 == 0 {
                    for output in lab.outputs() {
                        let seen = see(&output.packet);
                        if output.side == Side::Outside {
                            assert!(seen.src == family.outside(1) || seen.src == family.outside(2));
                        }
                    }
                    lab.expire();
                    lab.validate();
                }
            }
        }
    }
}
