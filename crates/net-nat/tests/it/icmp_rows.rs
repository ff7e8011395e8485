//! What RFC 5508 demands of a NAT: queries, and the errors it makes itself.

use std::net::IpAddr;

use net_nat::config::{Behaviour, Dependence, NoResources};
use net_nat::{ConfigError, Direction, DropReason, NatEngine, Side, Verdict};

use crate::lab::{
    BOTH, Done, ECHO, ECHO_REPLY, Family, Ip, Lab, SYN, Tcp, V4, V6, at, echo, icmp, icmp_error,
    secs, see, tcp, udp,
};

/// Sends an echo request and returns the identifier the outside sees.
#[track_caller]
fn ping(lab: &mut Lab, from: IpAddr, to: IpAddr, id: u16) -> u16 {
    let seen = lab.out(echo(from, to, ECHO, id, 1)).sent_to(Side::Outside);
    assert_eq!(seen.dst, to);
    seen.ident
}

#[test]
fn rfc5508_req1_queries_and_their_replies_pass() {
    for family in BOTH {
        let mut lab = Lab::of(family);
        let (me, them, us) = (family.inside(2), family.remote(1), family.outside(1));
        for id in [0, 1, 77, 1023, 1024, 65_535] {
            let outside = ping(&mut lab, me, them, id);
            let done = lab.inn(echo(them, us, ECHO_REPLY, outside, 1));
            assert_eq!(done.packet, echo(them, me, ECHO_REPLY, id, 1));
        }
        if family == V4 {
            // Timestamps (RFC 792).
            let data = [0; 12];
            let query = icmp(me, them, (13, 0), [0, 9, 0, 1], &data);
            let outside = lab.out(query).sent().ident.to_be_bytes();
            let reply = icmp(them, us, (14, 0), [outside[0], outside[1], 0, 1], &data);
            let done = lab.inn(reply);
            assert_eq!(done.packet, icmp(them, me, (14, 0), [0, 9, 0, 1], &data));
        }
    }
}

#[test]
fn rfc5508_req1_identifiers_are_not_shared() {
    for family in BOTH {
        let mut lab = Lab::of(family);
        let mut seen = std::collections::HashSet::new();
        for n in 2..200 {
            let outside = ping(&mut lab, family.inside(n), family.remote(1), 7);
            assert!(seen.insert(outside), "{outside} is of two hosts");
        }
    }
}

#[test]
fn rfc5508_req1a_one_external_identifier_towards_all_hosts() {
    for family in BOTH {
        for mapping in [
            Dependence::EndpointIndependent,
            Dependence::AddressAndPortDependent,
        ] {
            let mut lab = Lab::with(family, |config| {
                config.icmp = Behaviour {
                    mapping,
                    ..Behaviour::default()
                };
            });
            let first = ping(&mut lab, family.inside(2), family.remote(1), 7);
            for n in 2..50 {
                assert_eq!(ping(&mut lab, family.inside(2), family.remote(n), 7), first);
            }
        }
    }
}

#[test]
fn rfc5508_req1_filtering_of_replies() {
    use Dependence::{AddressAndPortDependent, AddressDependent, EndpointIndependent};
    for family in BOTH {
        for (filtering, admitted) in [
            (EndpointIndependent, true),
            (AddressDependent, false),
            (AddressAndPortDependent, false),
        ] {
            let mut lab = Lab::with(family, |config| {
                config.icmp.filtering = filtering;
            });
            let outside = ping(&mut lab, family.inside(2), family.remote(1), 7);
            let us = family.outside(1);
            let own = lab.inn(echo(family.remote(1), us, ECHO_REPLY, outside, 1));
            assert!(own.is_sent());
            let other = lab.inn(echo(family.remote(2), us, ECHO_REPLY, outside, 1));
            assert_eq!(other.is_sent(), admitted, "{filtering:?}");
            let wrong = lab.inn(echo(family.remote(1), us, ECHO_REPLY, outside ^ 1, 1));
            assert_eq!(wrong.dropped(), DropReason::NoMapping);
        }
    }
}

#[test]
fn rfc5508_req2_queries_are_remembered_for_sixty_seconds_or_more() {
    for family in BOTH {
        let mut lab = Lab::of(family);
        let (them, us) = (family.remote(1), family.outside(1));
        let outside = ping(&mut lab, family.inside(2), them, 7);
        lab.live(secs(60));
        assert!(lab.inn(echo(them, us, ECHO_REPLY, outside, 1)).is_sent());
        // The answer did not lengthen it.
        lab.live(secs(1));
        let late = lab.inn(echo(them, us, ECHO_REPLY, outside, 1));
        assert_eq!(late.dropped(), DropReason::NoMapping);

        let mut lab = Lab::with(family, |config| config.timeouts.icmp = secs(600));
        let outside = ping(&mut lab, family.inside(2), them, 7);
        lab.live(secs(600));
        assert!(lab.inn(echo(them, us, ECHO_REPLY, outside, 1)).is_sent());
    }
    let mut config = V4.config();
    config.timeouts.icmp = secs(59);
    let refused = NatEngine::new(config).err().unwrap();
    assert!(matches!(refused, ConfigError::Timeout { name: "icmp", .. }));
}

/// A packet of a second guest, where there is room for one session only.
fn one_too_many(family: Family, mode: NoResources) -> (Lab, Done, Vec<u8>) {
    let mut lab = Lab::with(family, |config| {
        config.no_resources = mode;
        config.limits.sessions = 1;
    });
    let them = at(family.remote(1), 53);
    let _ = lab.map_udp(at(family.inside(2), 1), them);
    let packet = udp(at(family.inside(3), 1), them, b"no room");
    let done = lab.out(&packet);
    (lab, done, packet)
}

#[test]
fn rfc5508_req8_no_resources() {
    for family in BOTH {
        for (mode, kind) in [
            (NoResources::Prohibited, [(3, 13), (1, 1)]),
            (NoResources::HostUnreachable, [(3, 1), (1, 3)]),
        ] {
            let (mut lab, done, packet) = one_too_many(family, mode);
            assert_eq!(done.verdict, Verdict::Reply);
            let answer = lab.output();
            assert_eq!(answer.side, Side::Inside);
            let seen = see(&answer.packet);
            assert_eq!((seen.kind, seen.code), kind[usize::from(family == V6)]);
            assert_eq!((seen.src, seen.dst), (family.outside(1), family.inside(3)));
            assert_eq!(seen.data(), packet, "it quotes what was sent");
            assert_eq!(lab.drops(DropReason::TableFull), 1);
            assert_eq!(lab.engine().counters().replies, 1);
        }
        let (mut lab, done, _) = one_too_many(family, NoResources::Silent);
        assert_eq!(done.dropped(), DropReason::TableFull);
        assert_eq!(lab.outputs(), []);
    }
}

#[test]
fn rfc5508_req8_table_quota_and_rate_are_told_alike() {
    for family in BOTH {
        type Limit = fn(&mut net_nat::config::Limits);
        let lacks: [(DropReason, Limit); 4] = [
            (DropReason::TableFull, |l| l.mappings = 1),
            (DropReason::Quota, |l| l.sessions_per_host = 1),
            (DropReason::Quota, |l| l.mappings_per_host = 1),
            (DropReason::Rate, |l| {
                (l.new_per_second, l.new_burst) = (1, 1)
            }),
        ];
        for (reason, limit) in lacks {
            let mut lab = Lab::with(family, |config| limit(&mut config.limits));
            let them = at(family.remote(1), 53);
            let _ = lab.map_udp(at(family.inside(2), 1), them);
            let done = lab.out(udp(at(family.inside(2), 2), them, b"no room"));
            assert_eq!(done.verdict, Verdict::Reply, "{reason}");
            assert_eq!(lab.drops(reason), 1);
            let _ = lab.output();
            // Whom it does not concern goes on.
            let _ = lab.map_udp(at(family.inside(2), 1), them);
        }
    }
}

#[test]
fn rfc5508_req9_policy_mutes_what_the_nat_would_say() {
    for family in BOTH {
        let mut lab = Lab::with(family, |config| {
            config.limits.icmp_per_second = 0;
            config.limits.sessions = 1;
        });
        let (me, them) = (at(family.inside(2), 1), at(family.remote(1), 53));
        let outside = lab.map_udp(me, them);
        let done = lab.out(udp(at(family.inside(3), 1), them, b"no room"));
        assert_eq!(done.dropped(), DropReason::TableFull);
        let stranger = tcp(
            them,
            at(outside.ip(), 4000),
            &Tcp {
                flags: SYN,
                ..Tcp::default()
            },
        );
        assert!(!lab.inn(stranger).is_sent());
        lab.live(secs(20));
        assert_eq!(lab.outputs(), []);
        // What others say is still passed on.
        let kind = if family == V4 { (3, 3) } else { (1, 4) };
        let left = udp(outside, them, b"hello");
        let error = icmp_error(them.ip(), outside.ip(), kind, [0; 4], &left);
        assert_eq!(lab.inn(error).sent_to(Side::Inside).dst, me.ip());
    }
}

#[test]
fn rfc5508_req10_rate_limit() {
    for family in BOTH {
        let mut lab = Lab::with(family, |config| {
            config.limits.icmp_per_second = 10;
            config.limits.sessions = 1;
        });
        let them = at(family.remote(1), 53);
        let _ = lab.map_udp(at(family.inside(2), 1), them);
        let refuse = |lab: &mut Lab| {
            for n in 0..1000 {
                let done = lab.out(udp(at(family.inside(3), n), them, b"no room"));
                assert!(!done.is_sent());
            }
            lab.outputs().len()
        };
        assert_eq!(refuse(&mut lab), 10);
        assert_eq!(refuse(&mut lab), 0);
        lab.live(secs(1));
        assert_eq!(refuse(&mut lab), 10);
        lab.live(secs(5));
        assert_eq!(refuse(&mut lab), 10, "what was not said is not made up for");
    }
}

#[test]
fn rfc5508_req10_what_one_guest_provokes_mutes_no_other() {
    for family in BOTH {
        let mut lab = Lab::with(family, |config| {
            config.limits.icmp_per_second = 10;
            config.limits.sessions_per_host = 1;
        });
        let them = at(family.remote(1), 53);
        for host in [2, 3] {
            let _ = lab.map_udp(at(family.inside(host), 1), them);
        }
        for (host, tries, heard) in [(2, 1000, 10), (3, 5, 5), (2, 5, 0), (3, 9, 5)] {
            for n in 0..tries {
                let _ = lab.out(udp(at(family.inside(host), 100 + n), them, b"over quota"));
            }
            assert_eq!(lab.outputs().len(), heard, "host {host}");
        }
    }
}

#[test]
fn rfc5508_req10_no_errors_about_errors_nor_about_what_is_nobodys() {
    for family in BOTH {
        let mut lab = Lab::with(family, |config| config.limits.sessions = 1);
        let them = family.remote(1);
        let _ = lab.map_udp(at(family.inside(2), 1), at(them, 53));
        let me = family.inside(3);
        let quoted = udp(at(them, 53), at(me, 1), b"data");
        let kinds: &[u8] = if family == V4 {
            &[3, 4, 5, 11, 12]
        } else {
            &[1, 2, 3, 4, 100, 127, 137]
        };
        for &kind in kinds {
            let error = icmp_error(me, them, (kind, 0), [0; 4], &quoted);
            assert!(matches!(lab.out(error).verdict, Verdict::Drop(_)), "{kind}");
        }
        // A fragment behind the first of a datagram that was refused.
        for piece in crate::lab::fragments(&udp(at(me, 1), at(them, 53), &[0; 64]), 24, 5) {
            let first = see(&piece).offset == 0;
            let done = lab.out(piece);
            assert_eq!(done.verdict == Verdict::Reply, first, "{:?}", done.verdict);
        }
        let _ = lab.output();
        // Queries are answered.
        let done = lab.out(echo(me, them, ECHO, 7, 1));
        assert_eq!(done.verdict, Verdict::Reply);
        let _ = lab.output();
    }
}

#[test]
fn rfc5508_req11_anything_else_is_dropped() {
    for family in BOTH {
        let (queries, errors): (&[u8], &[u8]) = match family {
            V4 => (&[0, 8, 13, 14], &[3, 11, 12]),
            V6 => (&[128, 129], &[1, 2, 3, 4]),
        };
        let mut lab = Lab::of(family);
        let (me, them, us) = (family.inside(2), family.remote(1), family.outside(1));
        for kind in 0..=255u8 {
            for code in [0, 1, 255] {
                for data in [&[][..], &[0x45; 8], &[0x60; 100]] {
                    let packet = icmp(me, them, (kind, code), [0, 7, 0, 1], data);
                    let out = lab.out(packet);
                    assert_eq!(out.is_sent(), queries.contains(&kind), "{kind}");
                    let done = lab.inn(icmp(them, us, (kind, code), [0xff, 7, 0, 1], data));
                    assert!(matches!(done.verdict, Verdict::Drop(_)), "{kind}");
                    if !queries.contains(&kind) && !errors.contains(&kind) {
                        assert_eq!(done.dropped(), DropReason::UnrelatedIcmp, "{kind}");
                    }
                }
            }
        }
    }
}

#[test]
fn rfc5508_req11_truncated_at_every_byte() {
    for family in BOTH {
        let (me, them, us) = (family.inside(2), family.remote(1), family.outside(1));
        let mut lab = Lab::of(family);
        let outside = at(us, ping(&mut lab, me, them, 7));
        let left = echo(us, them, ECHO, outside.port(), 1);
        let error = icmp_error(them, us, (3, 1), [0; 4], &left);
        for packet in [echo(me, them, ECHO, 7, 1), error] {
            let l4 = see(&packet).l4().to_vec();
            for len in 0..l4.len() {
                for direction in [Direction::Outbound, Direction::Inbound] {
                    // Cut off, and cut with a length and a checksum that fit.
                    let cut = &packet[..family.header() + len];
                    assert!(matches!(lab.send(cut, direction).verdict, Verdict::Drop(_)));
                    let (src, dst) = match direction {
                        Direction::Outbound => (me, them),
                        Direction::Inbound => (them, us),
                    };
                    let sealed = Ip::new(src, dst, family.icmp()).seal(l4[..len].to_vec());
                    let _ = lab.send(&sealed, direction);
                }
            }
        }
    }
}
