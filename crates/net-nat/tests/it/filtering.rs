//! Whom a mapping admits (RFC 4787, section 5), and who has no business here at all.

use net_nat::config::Dependence;
use net_nat::{DropReason, Side};

use crate::lab::{
    ACK, BOTH, ECHO, Lab, SYN, Tcp, V4, V6, at, echo, icmp, icmp_error, raw, secs, tcp, udp,
};

#[test]
fn rfc4787_req8_filtering_is_configurable() {
    for family in BOTH {
        let (me, remote) = (at(family.inside(2), 5000), at(family.remote(1), 53));
        let (same_host, stranger) = (at(family.remote(1), 54), at(family.remote(2), 53));
        for (filtering, host, anybody) in [
            (Dependence::EndpointIndependent, true, true),
            (Dependence::AddressDependent, true, false),
            (Dependence::AddressAndPortDependent, false, false),
        ] {
            let mut lab = Lab::with(family, |c| c.udp.filtering = filtering);
            let outside = lab.map_udp(me, remote);
            let verdict = |ok| {
                if ok {
                    Ok(me)
                } else {
                    Err(DropReason::Filtered)
                }
            };
            assert_eq!(lab.call_udp(remote, outside), Ok(me));
            assert_eq!(
                lab.call_udp(same_host, outside),
                verdict(host),
                "{filtering:?}"
            );
            assert_eq!(
                lab.call_udp(stranger, outside),
                verdict(anybody),
                "{filtering:?}"
            );
            // Once the inside has spoken to them, they may answer.
            lab.map_udp(me, stranger);
            assert_eq!(lab.call_udp(stranger, outside), Ok(me));
            // A port without a mapping admits nobody.
            let free = at(outside.ip(), outside.port() ^ 1);
            assert_eq!(lab.call_udp(remote, free), Err(DropReason::NoMapping));
        }
    }
}

#[test]
fn rfc4787_req8_each_mapping_has_a_filter_of_its_own() {
    for family in BOTH {
        let mut lab = Lab::of(family);
        let (one, two) = (at(family.inside(2), 5000), at(family.inside(2), 5001));
        let outside_one = lab.map_udp(one, at(family.remote(1), 53));
        let outside_two = lab.map_udp(two, at(family.remote(2), 53));
        assert!(lab.call_udp(at(family.remote(2), 53), outside_one).is_err());
        assert!(lab.call_udp(at(family.remote(1), 53), outside_two).is_err());
    }
}

#[test]
fn what_the_inside_has_long_stopped_talking_to_is_a_stranger_again() {
    for family in BOTH {
        let mut lab = Lab::of(family);
        let (me, old, new) = (
            at(family.inside(2), 5000),
            at(family.remote(1), 53),
            at(family.remote(2), 53),
        );
        let outside = lab.map_udp(me, old);
        for _ in 0..4 {
            lab.live(secs(100));
            assert_eq!(lab.map_udp(me, new), outside);
        }
        assert_eq!(lab.call_udp(old, outside), Err(DropReason::Filtered));
        assert_eq!(lab.call_udp(new, outside), Ok(me));
    }
}

#[test]
fn spoofed_sources_go_nowhere() {
    for family in BOTH {
        let mut lab = Lab::of(family);
        let remote = at(family.remote(1), 53);
        let strangers = [family.remote(9), family.outside(1), family.outside(7)];
        let nobody = match family {
            V4 => ["0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255"],
            V6 => ["::", "::1", "ff02::1", "fe80::1"],
        };
        let nobody = nobody.map(|addr| addr.parse().unwrap());
        for src in strangers.into_iter().chain(nobody) {
            assert_eq!(
                lab.out(udp(at(src, 5000), remote, b"x")).dropped(),
                DropReason::Spoofed
            );
        }
        // From outside, nobody may claim to be a guest, us, or nobody.
        let outside = lab.map_udp(at(family.inside(2), 5000), remote);
        for src in [family.inside(3), family.outside(1)]
            .into_iter()
            .chain(nobody)
        {
            assert_eq!(
                lab.call_udp(at(src, 53), outside),
                Err(DropReason::Spoofed),
                "{src}"
            );
        }
        assert_eq!(lab.engine().usage().sessions, 1);
    }
}

#[test]
fn what_comes_for_an_inside_address_is_dropped() {
    for family in BOTH {
        let mut lab = Lab::of(family);
        let (me, remote) = (at(family.inside(2), 5000), at(family.remote(1), 53));
        lab.map_udp(me, remote);
        let syn = Tcp {
            flags: SYN,
            ..Tcp::default()
        };
        assert_eq!(
            lab.inn(udp(remote, me, b"x")).dropped(),
            DropReason::NoMapping
        );
        assert_eq!(
            lab.inn(tcp(remote, me, &syn)).dropped(),
            DropReason::NoMapping
        );
        assert_eq!(
            lab.inn(echo(remote.ip(), me.ip(), ECHO, 1, 1)).dropped(),
            DropReason::NoMapping
        );
        assert_eq!(
            lab.inn(raw(remote.ip(), me.ip(), 47, &[0; 8])).dropped(),
            DropReason::NoMapping
        );
    }
}

#[test]
fn guest_to_guest_and_others_traffic_is_left_alone() {
    for family in BOTH {
        let mut lab = Lab::of(family);
        let (a, b) = (at(family.inside(2), 1), at(family.inside(3), 2));
        lab.out(udp(a, b, b"x")).passed();
        // From outside, for neither us nor the guests.
        lab.inn(udp(at(family.remote(1), 1), at(family.remote(2), 2), b"x"))
            .passed();
        lab.inn(udp(
            at(family.remote(1), 1),
            at(family.outside(99), 2),
            b"x",
        ))
        .passed();
        assert_eq!(lab.engine().counters().passed, 3);
        assert_eq!(lab.engine().usage().sessions, 0);
    }
}

#[test]
fn multicast_and_broadcast_are_not_translated() {
    let mut lab = Lab::dual(|_| {});
    for (family, groups) in [
        (
            V4,
            [
                "224.0.0.251",
                "239.255.255.250",
                "255.255.255.255",
                "127.0.0.1",
            ],
        ),
        (V6, ["ff02::fb", "ff0e::1", "::1", "::"]),
    ] {
        for group in groups {
            let group = at(group.parse().unwrap(), 5353);
            let done = lab.out(udp(at(family.inside(2), 5353), group, b"x"));
            assert_eq!(done.dropped(), DropReason::Spoofed, "{group}");
        }
    }
    lab.inn(udp(
        at(V4.remote(1), 5353),
        "224.0.0.251:5353".parse().unwrap(),
        b"x",
    ))
    .passed();
    lab.inn(udp(
        at(V6.remote(1), 5353),
        "[ff02::fb]:5353".parse().unwrap(),
        b"x",
    ))
    .passed();
    assert_eq!(lab.engine().usage().sessions, 0);
}

#[test]
fn pass_unmatched_leaves_the_host_its_own_traffic() {
    for family in BOTH {
        let mut lab = Lab::with(family, |c| c.pass_unmatched = true);
        let (me, remote, host) = (
            at(family.inside(2), 5000),
            at(family.remote(1), 53),
            family.outside(1),
        );
        let outside = lab.map_udp(me, remote);
        let free = at(host, outside.port() ^ 1);
        let syn = Tcp {
            flags: SYN,
            ..Tcp::default()
        };
        let ack = Tcp {
            flags: ACK,
            ..Tcp::default()
        };
        lab.inn(udp(remote, free, b"x")).passed();
        lab.inn(tcp(remote, at(host, 22), &syn)).passed();
        lab.inn(tcp(remote, at(host, 22), &ack)).passed();
        lab.inn(echo(remote.ip(), host, ECHO, 1, 1)).passed();
        lab.inn(raw(remote.ip(), host, 50, &[0; 20])).passed();
        // Errors about what the host itself has sent.
        let own = udp(free, remote, b"from the host");
        let kind = if family == V4 { (3, 3) } else { (1, 4) };
        lab.inn(icmp_error(remote.ip(), host, kind, [0; 4], &own))
            .passed();
        let kind = if family == V4 { (9, 0) } else { (134, 0) };
        lab.inn(icmp(remote.ip(), host, kind, [0; 4], &[0; 8]))
            .passed();
        // A mapping's traffic is the mapping's, and its filter holds.
        assert_eq!(lab.call_udp(remote, outside), Ok(me));
        assert_eq!(
            lab.call_udp(at(family.remote(2), 1), outside),
            Err(DropReason::Filtered)
        );
        assert!(lab.outputs().is_empty());
    }
}

#[test]
fn pass_unmatched_lets_guests_call_the_host_itself() {
    for family in BOTH {
        let mut lab = Lab::with(family, |c| c.pass_unmatched = true);
        let (me, host) = (at(family.inside(2), 5000), at(family.outside(1), 22));
        let syn = Tcp {
            flags: SYN,
            ..Tcp::default()
        };
        // As it is: the host sees the guest, not itself.
        lab.out(tcp(me, host, &syn)).passed();
        lab.out(udp(me, host, b"x")).passed();
        lab.out(echo(me.ip(), host.ip(), ECHO, 7, 1)).passed();
        assert_eq!(lab.engine().usage().sessions, 0);
        // A published port is the guest's behind it, for other guests too.
        let inside = at(family.inside(3), 22);
        lab.forward(6, host, inside).unwrap();
        let seen = lab.out(tcp(me, host, &syn)).sent_to(Side::Inside);
        assert_eq!(seen.dst(), inside);
    }
}

#[test]
fn rfc7857_section7_rejected_packets_refresh_nothing() {
    for family in BOTH {
        for inbound_refresh in [false, true] {
            let mut lab = Lab::with(family, |c| c.inbound_refresh = inbound_refresh);
            let (me, remote) = (at(family.inside(2), 5000), at(family.remote(1), 53));
            let outside = lab.map_udp(me, remote);
            for _ in 0..6 {
                lab.live(secs(50));
                assert!(lab.call_udp(at(family.remote(2), 53), outside).is_err());
                // An error from the guest about something it got does not count as a sign of life.
                let got = udp(remote, me, b"answer");
                let kind = if family == V4 { (3, 3) } else { (1, 4) };
                let error = icmp_error(me.ip(), remote.ip(), kind, [0; 4], &got);
                let _ = lab.out(error).sent_to(Side::Outside);
            }
            lab.live(secs(1));
            assert_eq!(lab.engine().usage().sessions, 0);
            assert_eq!(lab.call_udp(remote, outside), Err(DropReason::NoMapping));
        }
    }
}

#[test]
fn rfc4787_req12_icmp_errors_end_no_mapping_and_are_relayed_whoever_sends_them() {
    for family in BOTH {
        let mut lab = Lab::of(family);
        let (me, remote) = (at(family.inside(2), 5000), at(family.remote(1), 53));
        let sent = lab.out(udp(me, remote, b"question")).sent();
        let kinds: &[(u8, u8)] = match family {
            V4 => &[
                (3, 0),
                (3, 1),
                (3, 2),
                (3, 3),
                (3, 4),
                (3, 13),
                (11, 0),
                (12, 0),
            ],
            V6 => &[(1, 0), (1, 1), (1, 3), (1, 4), (2, 0), (3, 0), (4, 1)],
        };
        for &kind in kinds {
            // From the host that was called, and from a router nobody has ever heard of.
            for source in [remote.ip(), family.remote(77)] {
                let error = icmp_error(source, sent.src, kind, [0; 4], &sent.packet);
                let seen = lab.inn(error).sent_to(Side::Inside);
                assert_eq!((seen.src, seen.dst), (source, me.ip()));
                assert_eq!((seen.kind, seen.code), kind);
                assert_eq!(seen.quoted().src(), me);
                assert_eq!(seen.quoted().dst(), remote);
            }
            assert_eq!(lab.call_udp(remote, sent.src()), Ok(me), "after {kind:?}");
            assert_eq!(lab.map_udp(me, remote), sent.src(), "after {kind:?}");
        }
    }
}
