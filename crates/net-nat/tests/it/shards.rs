//! Several engines that share the outside addresses.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use net_nat::config::{Dependence, Shard};
use net_nat::{
    Direction, DropReason, Endpoint, Forward, ForwardError, NatConfig, NatEngine, Side, Steering,
    Verdict,
};

use crate::lab::{BOTH, Done, Family, at, echo, fragments, icmp_error, raw, secs, see, sum, udp};

const NOW: Duration = secs(5);

/// Engines behind one steering.
struct Team {
    steering: Steering,
    engines: Vec<NatEngine>,
    /// Packets that came to an engine and went on to another.
    handed_over: usize,
}

impl Team {
    fn new(config: &NatConfig, count: u16) -> Self {
        let of = |number| {
            let mut config = config.clone();
            config.shard = Shard { number, count };
            config
        };
        Self {
            steering: Steering::new(&of(0)),
            engines: (0..count).map(|n| NatEngine::new(of(n)).unwrap()).collect(),
            handed_over: 0,
        }
    }

    fn send(&mut self, packet: Vec<u8>, direction: Direction) -> Done {
        let shard = self.steering.shard(&packet, direction);
        self.give(shard, packet, direction)
    }

    fn give(&mut self, shard: u16, mut packet: Vec<u8>, direction: Direction) -> Done {
        let mut verdict = self.engines[usize::from(shard)].translate(&mut packet, direction, NOW);
        if let Verdict::Shard(other) = verdict {
            self.handed_over += 1;
            assert_ne!(other, shard);
            verdict = self.engines[usize::from(other)].translate(&mut packet, direction, NOW);
            assert!(!matches!(verdict, Verdict::Shard(_)), "sent round");
        }
        if let Verdict::Hairpin(other) = verdict {
            verdict = self.engines[usize::from(other)].translate_hairpinned(&mut packet, NOW);
        }
        if let Verdict::Translated(_) = verdict {
            sum::check(&packet).unwrap();
        }
        Done { verdict, packet }
    }

    /// What came out, handed over where it has to be.
    fn outputs(&mut self) -> Vec<Done> {
        let mut done = Vec::new();
        for engine in 0..self.engines.len() {
            while let Some(output) = self.engines[engine].next_output() {
                done.push(match output.shard {
                    Some(shard) => self.give(shard, output.packet, Direction::Inbound),
                    None => Done {
                        verdict: Verdict::Translated(output.side),
                        packet: output.packet,
                    },
                });
            }
        }
        done
    }

    fn forward(
        &mut self,
        outside: (IpAddr, u16),
        inside: (IpAddr, u16),
    ) -> Result<(), ForwardError> {
        let forward = Forward {
            protocol: 17,
            outside: Endpoint::new(outside.0, outside.1),
            inside: Endpoint::new(inside.0, inside.1),
        };
        for engine in &mut self.engines {
            engine.add_forward(forward)?;
        }
        self.steering.add_forward(&forward);
        Ok(())
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            for engine in &self.engines {
                engine.validate().unwrap();
            }
        }
    }
}

fn each(test: impl Fn(Family, Team)) {
    for family in BOTH {
        for count in [1, 2, 7, 256] {
            let mut config = family.pool(&[1, 2]);
            config.limits.sessions = 4096;
            config.udp.filtering = Dependence::EndpointIndependent;
            test(family, Team::new(&config, count));
        }
    }
}

#[test]
fn both_directions_of_a_flow_meet_the_same_engine() {
    each(|family, mut team| {
        let mut given = HashMap::new();
        for host in 1..=60 {
            for port in [53, 1024, 40_000, 65_535] {
                let (guest, server) = (at(family.inside(host), port), at(family.remote(host), 443));
                let seen = team
                    .send(udp(guest, server, b"out"), Direction::Outbound)
                    .sent();
                assert_eq!(given.insert(seen.src(), guest), None, "a port given twice");
                let back = team.send(udp(server, seen.src(), b"back"), Direction::Inbound);
                assert_eq!(back.sent_to(Side::Inside).dst(), guest);
            }
        }
        assert_eq!(team.handed_over, 0);
        let used = team
            .engines
            .iter()
            .filter(|e| e.usage().sessions > 0)
            .count();
        assert!(
            used > team.engines.len() / 8,
            "{used} of {} work",
            team.engines.len()
        );
    });
}

#[test]
fn a_host_keeps_to_one_engine_and_one_outside_address() {
    each(|family, mut team| {
        let remote = at(family.remote(1), 80);
        let first = team
            .send(
                udp(at(family.inside(9), 2000), remote, b""),
                Direction::Outbound,
            )
            .sent();
        for port in 2001..2100 {
            let packet = udp(at(family.inside(9), port), remote, b"");
            let seen = team.send(packet, Direction::Outbound).sent();
            assert_eq!(seen.src, first.src);
        }
        let busy = team.engines.iter().filter(|e| e.usage().sessions > 0);
        assert_eq!(busy.count(), 1);
    });
}

#[test]
fn the_wrong_engine_says_whose_a_packet_is() {
    let mut config = Family::V4.config();
    config.udp.filtering = Dependence::EndpointIndependent;
    let mut team = Team::new(&config, 4);
    let (guest, server) = (at(Family::V4.inside(1), 5000), at(Family::V4.remote(1), 80));
    let packet = udp(guest, server, b"x");
    let owner = team.steering.shard(&packet, Direction::Outbound);
    let wrong = (owner + 1) % 4;
    let mut copy = packet.clone();
    let verdict = team.engines[usize::from(wrong)].translate(&mut copy, Direction::Outbound, NOW);
    assert_eq!((verdict, &copy), (Verdict::Shard(owner), &packet));
    let seen = team.give(wrong, packet, Direction::Outbound).sent();
    let answer = udp(server, seen.src(), b"y");
    let mut copy = answer.clone();
    let verdict = team.engines[usize::from(wrong)].translate(&mut copy, Direction::Inbound, NOW);
    assert_eq!((verdict, copy), (Verdict::Shard(owner), answer));
    assert_eq!(team.engines[usize::from(wrong)].counters().sharded, 3);
}

#[test]
fn a_forward_belongs_to_its_hosts_engine_wherever_its_port_lies() {
    each(|family, mut team| {
        for port in [80, 1024, 30_000, 65_535] {
            let inside = (family.inside(port % 50 + 1), 8080);
            team.forward((family.outside(1), port), inside).unwrap();
            let client = at(family.remote(3), 7777);
            let call = udp(client, at(family.outside(1), port), b"hi");
            let seen = team.send(call, Direction::Inbound).sent_to(Side::Inside);
            assert_eq!(seen.dst(), at(inside.0, 8080));
            let answer = udp(seen.dst(), client, b"ho");
            let seen = team.send(answer, Direction::Outbound).sent();
            assert_eq!(seen.src(), at(family.outside(1), port));
            let again = team.forward((family.outside(1), port), inside);
            assert_eq!(again, Err(ForwardError::PortInUse));
        }
        assert_eq!(team.handed_over, 0);
        // Taken back, it is nobody's.
        let outside = Endpoint::new(family.outside(1), 80);
        for engine in &mut team.engines {
            engine.remove_forward(17, outside).unwrap();
        }
        team.steering.remove_forward(17, outside);
        let stranger = udp(at(family.remote(9), 1), at(family.outside(1), 80), b"");
        let done = team.send(stranger, Direction::Inbound);
        assert!(matches!(
            done.verdict,
            Verdict::Translated(_) | Verdict::Drop(_)
        ));
    });
}

#[test]
fn fragments_find_their_engine_in_any_order() {
    each(|family, mut team| {
        for host in 1..=20 {
            let (guest, server) = (at(family.inside(host), 6000), at(family.remote(host), 53));
            let seen = team
                .send(udp(guest, server, b"ask"), Direction::Outbound)
                .sent();
            let answer = udp(server, seen.src(), &[7; 3000]);
            let pieces = fragments(&answer, 1000, u32::from(host));
            let mut arrived = Vec::new();
            // The one with the ports comes second to last.
            for at in [2, 1, 0, 3] {
                let done = team.send(pieces[at].clone(), Direction::Inbound);
                match done.verdict {
                    Verdict::Hold => {}
                    Verdict::Translated(Side::Inside) => arrived.push(see(&done.packet)),
                    other => panic!("{other:?}"),
                }
                for done in team.outputs() {
                    match done.verdict {
                        Verdict::Translated(Side::Inside) => arrived.push(see(&done.packet)),
                        other => panic!("{other:?}"),
                    }
                }
            }
            assert_eq!(arrived.len(), 4);
            assert!(arrived.iter().all(|piece| piece.dst == guest.ip()));
        }
    });
}

#[test]
fn errors_find_the_engine_of_the_packet_they_quote() {
    each(|family, mut team| {
        let kind = if family == Family::V4 { (3, 3) } else { (1, 4) };
        for host in 1..=20 {
            let (guest, server) = (at(family.inside(host), 6000), at(family.remote(host), 53));
            let sent = team.send(udp(guest, server, b"ask"), Direction::Outbound);
            let seen = see(&sent.packet);
            let error = icmp_error(family.remote(99), seen.src, kind, [0; 4], &sent.packet);
            let back = team.send(error, Direction::Inbound).sent_to(Side::Inside);
            assert_eq!((back.dst, back.quoted().src()), (guest.ip(), guest));
        }
        assert_eq!(team.handed_over, 0);
    });
}

#[test]
fn echo_identifiers_are_divided_like_ports() {
    each(|family, mut team| {
        for host in 1..=20 {
            let (guest, server) = (family.inside(host), family.remote(1));
            let seen = team
                .send(echo(guest, server, true, 7, 1), Direction::Outbound)
                .sent();
            let reply = echo(server, seen.src, false, seen.ident, 1);
            let back = team.send(reply, Direction::Inbound).sent_to(Side::Inside);
            assert_eq!((back.dst, back.ident), (guest, 7));
        }
        assert_eq!(team.handed_over, 0);
    });
}

#[test]
fn guests_of_two_engines_talk_by_their_outside_endpoints() {
    each(|family, mut team| {
        let server = at(family.remote(1), 80);
        let mut outside = Vec::new();
        for host in 1..=10 {
            let guest = at(family.inside(host), 5000);
            let seen = team
                .send(udp(guest, server, b""), Direction::Outbound)
                .sent();
            outside.push((guest, seen.src()));
        }
        for &(caller, caller_outside) in &outside {
            for &(called, called_outside) in &outside {
                let packet = udp(caller, called_outside, b"hairpin");
                let seen = team.send(packet, Direction::Outbound).sent_to(Side::Inside);
                assert_eq!((seen.src(), seen.dst()), (caller_outside, called));
            }
        }
    });
}

#[test]
fn protocols_without_ports_are_the_first_engines() {
    let mut team = Team::new(&Family::V4.config(), 5);
    let (guest, server) = (Family::V4.inside(3), Family::V4.remote(1));
    let seen = team
        .send(raw(guest, server, 47, b"gre"), Direction::Outbound)
        .sent();
    let back = team.send(raw(server, seen.src, 47, b"gre"), Direction::Inbound);
    assert_eq!(back.sent_to(Side::Inside).dst, guest);
    assert_eq!(team.engines[0].usage().sessions, 1);
    let stranger = raw(Family::V4.remote(2), seen.src, 47, b"gre");
    let dropped = team.send(stranger, Direction::Inbound).dropped();
    assert_eq!(dropped, DropReason::Filtered);
}

#[test]
fn numbers_that_are_no_shard_are_refused() {
    for (number, count) in [(0, 0), (1, 1), (3, 2), (0, 257)] {
        let mut config = Family::V4.config();
        config.shard = Shard { number, count };
        assert!(NatEngine::new(config).is_err());
    }
}
