//! Packets of all kinds in any order: one by one and in batches, and what must hold after each.

use net_nat::config::Dependence;
use net_nat::{Direction, NatEngine, Side, Verdict};

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
        let mut one = NatEngine::new(config.clone()).unwrap();
        let mut many = NatEngine::new(config.clone()).unwrap();
        for round in 0..200u64 {
            let direction = [Direction::Outbound, Direction::Inbound][random.next(2)];
            let now = secs(round * 7);
            let mut batch: Vec<_> = (0..1 + random.next(150))
                .map(|n| {
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
                })
                .collect();
            let mut single = batch.clone();
            let mut verdicts = vec![Verdict::Pass; batch.len()];
            many.translate_batch(&mut batch, direction, now, &mut verdicts);
            for (n, packet) in single.iter_mut().enumerate() {
                let verdict = one.translate(packet, direction, now);
                assert_eq!(verdict, verdicts[n], "round {round}, packet {n}");
                assert_eq!(*packet, batch[n], "round {round}, packet {n}");
            }
            assert_eq!(one.counters(), many.counters());
            assert_eq!(one.usage(), many.usage());
            loop {
                let outputs = (one.next_output(), many.next_output());
                assert_eq!(outputs.0, outputs.1);
                if outputs.0.is_none() {
                    break;
                }
            }
        }
        one.validate().unwrap();
        many.validate().unwrap();
        let counters = many.counters();
        assert!(counters.outbound > 500, "{counters:?}");
        assert!(only.is_none() || counters.inbound > 50, "{counters:?}");
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
