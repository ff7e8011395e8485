//! Published ports, added and removed while traffic runs.

use net_nat::config::{Dependence, OtherProtocols};
use net_nat::{DropReason, ForwardError};

use crate::lab::{ACK, BOTH, Lab, SYN, Tcp, V4, V6, at, raw, secs, tcp, udp};

#[test]
fn a_forward_admits_everybody_and_answers_leave_from_it() {
    for family in BOTH {
        let mut lab = Lab::of(family);
        let (server, published) = (at(family.inside(2), 80), at(family.outside(1), 8080));
        lab.forward(17, published, server).unwrap();
        for n in 1..100 {
            let client = at(family.remote(n), 1000 + n);
            assert_eq!(lab.call_udp(client, published), Ok(server));
            assert_eq!(lab.map_udp(server, client), published);
        }
        // What the server begins leaves from there as well.
        assert_eq!(lab.map_udp(server, at(family.remote(500), 9)), published);
        // TCP at the same port is not published.
        let syn = Tcp {
            flags: SYN,
            ..Tcp::default()
        };
        let client = at(family.remote(1), 1000);
        assert!(!lab.inn(tcp(client, published, &syn)).is_sent());
        assert_eq!(lab.engine().forwards().count(), 1);
    }
}

#[test]
fn a_forward_lives_without_traffic() {
    for family in BOTH {
        let mut lab = Lab::of(family);
        let (server, published) = (at(family.inside(2), 80), at(family.outside(1), 80));
        lab.forward(17, published, server).unwrap();
        let client = at(family.remote(1), 1000);
        assert_eq!(lab.call_udp(client, published), Ok(server));
        lab.live(secs(2000));
        assert_eq!(lab.engine().usage().sessions, 0);
        assert_eq!(lab.call_udp(client, published), Ok(server));
    }
}

#[test]
fn what_cannot_be_published_is_refused_and_changes_nothing() {
    for family in BOTH {
        let mut lab = Lab::of(family);
        let (server, published) = (at(family.inside(2), 80), at(family.outside(1), 80));
        let other_family = if family == V4 { V6 } else { V4 };
        for (protocol, outside, inside, error) in [
            (
                6,
                at(other_family.outside(1), 80),
                server,
                ForwardError::Family,
            ),
            (
                6,
                published,
                at(other_family.inside(2), 80),
                ForwardError::Family,
            ),
            (6, at(family.outside(1), 0), server, ForwardError::Ports),
            (6, published, at(family.inside(2), 0), ForwardError::Ports),
            (47, published, server, ForwardError::Ports),
            (6, at(family.outside(9), 80), server, ForwardError::NotOurs),
            (
                6,
                published,
                at(family.remote(2), 80),
                ForwardError::NotInside,
            ),
        ] {
            assert_eq!(lab.forward(protocol, outside, inside), Err(error));
        }
        assert_eq!(lab.unforward(6, published), Err(ForwardError::NotThere));
        lab.forward(6, published, server).unwrap();
        assert_eq!(lab.unforward(17, published), Err(ForwardError::NotThere));
        assert_eq!(
            lab.forward(6, published, server),
            Err(ForwardError::PortInUse)
        );
        let usage = lab.engine().usage();
        assert_eq!((usage.mappings, usage.hosts), (1, 1));
    }
}

#[test]
fn a_live_port_is_refused_and_a_resting_one_is_taken() {
    for family in BOTH {
        let mut lab = Lab::of(family);
        let (me, remote) = (at(family.inside(2), 5000), at(family.remote(1), 53));
        let outside = lab.map_udp(me, remote);
        let server = at(family.inside(3), 80);
        assert_eq!(
            lab.forward(17, outside, server),
            Err(ForwardError::PortInUse)
        );
        assert_eq!(
            lab.call_udp(remote, outside),
            Ok(me),
            "the refusal changed nothing"
        );
        lab.live(secs(301));
        assert_eq!(lab.engine().usage().sessions, 0);
        lab.forward(17, outside, server).unwrap();
        assert_eq!(lab.call_udp(remote, outside), Ok(server));
        // Whose port it was gets another.
        assert_ne!(lab.map_udp(me, remote), outside);
    }
}

#[test]
fn sessions_survive_the_removal_of_their_forward_and_new_ones_do_not_come() {
    for family in BOTH {
        let mut lab = Lab::with(family, |c| c.answer_unsolicited = false);
        let (server, published) = (at(family.inside(2), 80), at(family.outside(1), 80));
        lab.forward(6, published, server).unwrap();
        let client = at(family.remote(1), 1000);
        let segment = |flags, seq, ack| Tcp {
            flags,
            seq,
            ack,
            ..Tcp::default()
        };
        let _ = lab.inn(tcp(client, published, &segment(SYN, 1, 0))).sent();
        let _ = lab
            .out(tcp(server, client, &segment(SYN | ACK, 9, 2)))
            .sent();
        let _ = lab.inn(tcp(client, published, &segment(ACK, 2, 10))).sent();
        lab.unforward(6, published).unwrap();
        assert_eq!(lab.engine().forwards().count(), 0);
        for _ in 0..3 {
            lab.live(secs(1000));
            let seen = lab.inn(tcp(client, published, &segment(ACK, 2, 10))).sent();
            assert_eq!(seen.dst(), server);
            let seen = lab.out(tcp(server, client, &segment(ACK, 10, 2))).sent();
            assert_eq!(seen.src(), published);
        }
        let stranger = at(family.remote(2), 1000);
        let done = lab.inn(tcp(stranger, published, &segment(SYN, 1, 0)));
        assert_eq!(done.dropped(), DropReason::Filtered);
        // The port is not free as long as the session lives, and then it rests.
        let other = at(family.inside(3), 80);
        assert_eq!(
            lab.forward(6, published, other),
            Err(ForwardError::PortInUse)
        );
        // To end them at once is another call.
        assert_eq!(lab.both(|e| e.close_sessions(|s| s.outside.port == 80)), 1);
        let done = lab.inn(tcp(client, published, &segment(ACK, 2, 10)));
        assert!(!done.is_sent());
        lab.forward(6, published, other).unwrap();
        let seen = lab
            .inn(tcp(stranger, published, &segment(SYN, 1, 0)))
            .sent();
        assert_eq!(seen.dst(), other);
    }
}

#[test]
fn a_withdrawn_port_admits_nobody_even_if_its_host_goes_on_using_it() {
    for family in BOTH {
        // The filter that lets everybody in by a mapping of the guest's own.
        let mut lab = Lab::with(family, |c| {
            c.udp.filtering = Dependence::EndpointIndependent;
        });
        let (server, published) = (at(family.inside(2), 80), at(family.outside(1), 80));
        let (friend, stranger) = (at(family.remote(1), 53), at(family.remote(2), 1000));
        // A call that says what time it is: a port rests from then on.
        lab.expire();
        lab.forward(17, published, server).unwrap();
        lab.unforward(17, published).unwrap();
        let resting = Err(DropReason::NoMapping);
        assert_eq!(lab.call_udp(stranger, published), resting);
        // What the host begins leaves by the port that rests, and so does what it begins then: replies
        // come in, and nobody else, from nowhere.
        for n in 0..3 {
            let remote = at(friend.ip(), friend.port() + n);
            assert_eq!(lab.map_udp(server, remote), published);
            assert_eq!(lab.call_udp(remote, published), Ok(server));
            for caller in [stranger, at(friend.ip(), 1000)] {
                let refused = Err(DropReason::Filtered);
                assert_eq!(lab.call_udp(caller, published), refused);
            }
        }
        assert_eq!(
            lab.forward(17, published, server),
            Err(ForwardError::PortInUse)
        );
        // It rests again and is woken again.
        lab.live(secs(301));
        assert_eq!(lab.call_udp(stranger, published), resting);
        assert_eq!(lab.map_udp(server, friend), published);
        let refused = Err(DropReason::Filtered);
        assert_eq!(lab.call_udp(stranger, published), refused);
        // Published again, it admits again.
        lab.live(secs(301));
        lab.forward(17, published, server).unwrap();
        assert_eq!(lab.call_udp(stranger, published), Ok(server));
        assert_eq!(lab.map_udp(server, stranger), published);
    }
}

#[test]
fn a_forward_added_and_removed_while_its_guest_talks() {
    for family in BOTH {
        let mut lab = Lab::of(family);
        let (server, published) = (at(family.inside(2), 80), at(family.outside(1), 80));
        let client = at(family.remote(1), 1000);
        // An earlier mapping of the endpoint keeps its port for what the guest begins.
        let dynamic = lab.map_udp(server, client);
        lab.forward(17, published, server).unwrap();
        assert_eq!(lab.map_udp(server, at(family.remote(2), 9)), dynamic);
        let caller = at(family.remote(3), 1000);
        assert_eq!(lab.call_udp(caller, published), Ok(server));
        assert_eq!(
            lab.map_udp(server, caller),
            published,
            "an answer leaves whence the call came"
        );
        lab.validate();
        for _ in 0..50 {
            lab.unforward(17, published).unwrap();
            lab.live(secs(30));
            lab.forward(17, published, server)
                .or_else(|error| match error {
                    ForwardError::PortInUse => {
                        lab.both(|e| e.close_sessions(|s| s.outside.port == 80));
                        lab.forward(17, published, server)
                    }
                    error => Err(error),
                })
                .unwrap();
            assert_eq!(lab.call_udp(caller, published), Ok(server));
            lab.validate();
        }
    }
}

#[test]
fn one_client_calls_a_guest_by_two_ways() {
    // Two published ports of one endpoint, or a published one and a dynamic one, and the client
    // uses one source port for both: the answers could not be told apart. One way is kept.
    for family in BOTH {
        let mut lab = Lab::of(family);
        let server = at(family.inside(2), 80);
        let ways = [8080, 8081].map(|port| at(family.outside(1), port));
        for way in ways {
            lab.forward(17, way, server).unwrap();
        }
        let client = at(family.remote(1), 1000);
        assert_eq!(lab.call_udp(client, ways[0]), Ok(server));
        assert!(lab.call_udp(client, ways[1]).is_err());
        assert_eq!(lab.map_udp(server, client), ways[0]);
        lab.validate();
        // Another source port is another flow.
        let second = at(family.remote(1), 1001);
        assert_eq!(lab.call_udp(second, ways[1]), Ok(server));
        assert_eq!(lab.map_udp(server, second), ways[1]);
        // And when the first way has fallen silent, the other is free.
        lab.live(secs(301));
        assert_eq!(lab.call_udp(client, ways[1]), Ok(server));
    }
}

#[test]
fn a_protocol_that_is_not_translated_cannot_be_published() {
    for family in BOTH {
        let ends = (at(family.outside(1), 0), at(family.inside(2), 0));
        let mut lab = Lab::of(family);
        // UDP-Lite and DCCP, whose checksums we would break; ICMP is not a service.
        for protocol in [136, 33, family.icmp()] {
            assert!(lab.forward(protocol, ends.0, ends.1).is_err(), "{protocol}");
        }
        lab.forward(47, ends.0, ends.1).unwrap();
        let mut lab = Lab::with(family, |c| c.other = OtherProtocols::Refuse);
        assert!(lab.forward(47, ends.0, ends.1).is_err());
    }
}

#[test]
fn gre_can_be_published() {
    for family in BOTH {
        let mut lab = Lab::of(family);
        let (server, client) = (family.inside(2), family.remote(1));
        lab.forward(47, at(family.outside(1), 0), at(server, 0))
            .unwrap();
        let seen = lab
            .inn(raw(client, family.outside(1), 47, b"tunnel"))
            .sent();
        assert_eq!(
            (seen.src, seen.dst, seen.l4()),
            (client, server, &b"tunnel"[..])
        );
        let seen = lab.out(raw(server, client, 47, b"back")).sent();
        assert_eq!((seen.src, seen.dst), (family.outside(1), client));
        // No other guest has the protocol now.
        let done = lab.out(raw(family.inside(3), client, 47, b"me too"));
        assert!(!done.is_sent());
    }
}

#[test]
fn forwards_under_every_mapping_mode() {
    for family in BOTH {
        for mapping in [
            Dependence::AddressDependent,
            Dependence::AddressAndPortDependent,
        ] {
            let mut lab = Lab::with(family, |c| {
                c.udp.mapping = mapping;
                c.udp.filtering = Dependence::AddressAndPortDependent;
            });
            let (server, published) = (at(family.inside(2), 80), at(family.outside(1), 80));
            lab.forward(17, published, server).unwrap();
            for n in 1..20 {
                let client = at(family.remote(n), 1000);
                assert_eq!(lab.call_udp(client, published), Ok(server));
                assert_eq!(lab.map_udp(server, client), published);
            }
            lab.unforward(17, published).unwrap();
            let _ = lab.out(udp(server, at(family.remote(50), 1), b"x")).sent();
        }
    }
}
