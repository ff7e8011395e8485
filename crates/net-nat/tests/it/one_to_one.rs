//! Guests with an outside address of their own, and protocols that have no ports.

use net_nat::config::{Dependence, NoResources, OtherProtocols};
use net_nat::{DropReason, Side};

use crate::lab::{
    ACK, BOTH, ECHO, ECHO_REPLY, Family, Lab, SYN, Tcp, at, echo, raw, secs, tcp, udp,
};

/// Host 2 has address 9 for itself; all others share address 1.
fn lab(family: Family, open: bool) -> Lab {
    Lab::with(family, |c| family.pair(c, 2, 9, open))
}

#[test]
fn ports_stay_and_the_address_is_the_hosts_alone() {
    for family in BOTH {
        for open in [false, true] {
            let mut lab = lab(family, open);
            for port in [1, 80, 1023, 1024, 5000, 65_535] {
                let me = at(family.inside(2), port);
                let outside = lab.map_udp(me, at(family.remote(1), 53));
                assert_eq!(outside, at(family.outside(9), port));
                assert_eq!(lab.call_udp(at(family.remote(1), 53), outside), Ok(me));
            }
            let seen = lab
                .out(echo(family.inside(2), family.remote(1), ECHO, 7, 1))
                .sent();
            assert_eq!((seen.src, seen.ident), (family.outside(9), 7));
            for host in 3..30 {
                let outside = lab.map_udp(at(family.inside(host), 5000), at(family.remote(1), 53));
                assert_eq!(outside.ip(), family.outside(1));
            }
        }
    }
}

#[test]
fn an_open_pair_may_be_called_at_any_port_by_anybody() {
    for family in BOTH {
        let mut lab = lab(family, true);
        let me = family.inside(2);
        for n in 1..50 {
            let (client, called) = (at(family.remote(n), 1000), at(family.outside(9), 1000 * n));
            assert_eq!(lab.call_udp(client, called), Ok(at(me, 1000 * n)));
            assert_eq!(lab.map_udp(at(me, 1000 * n), client), called);
        }
        let syn = Tcp {
            flags: SYN,
            seq: 1,
            ..Tcp::default()
        };
        let client = at(family.remote(1), 1000);
        let seen = lab.inn(tcp(client, at(family.outside(9), 22), &syn)).sent();
        assert_eq!(seen.dst(), at(me, 22));
        let answer = Tcp {
            flags: SYN | ACK,
            seq: 7,
            ack: 2,
            ..Tcp::default()
        };
        let seen = lab.out(tcp(at(me, 22), client, &answer)).sent();
        assert_eq!(seen.src(), at(family.outside(9), 22));
        // It can be pinged.
        let seen = lab
            .inn(echo(client.ip(), family.outside(9), ECHO, 7, 1))
            .sent();
        assert_eq!((seen.dst, seen.ident), (me, 7));
        let seen = lab.out(echo(me, client.ip(), ECHO_REPLY, 7, 1)).sent();
        assert_eq!((seen.src, seen.ident), (family.outside(9), 7));
        // A segment that opens nothing leaves nothing behind.
        let ack = Tcp {
            flags: ACK,
            ..Tcp::default()
        };
        let before = lab.engine().usage();
        let done = lab.inn(tcp(client, at(family.outside(9), 23), &ack));
        assert_eq!(done.dropped(), DropReason::NotOpening);
        assert_eq!(lab.engine().usage(), before);
    }
}

#[test]
fn a_pair_that_is_not_open_is_filtered_like_others() {
    for family in BOTH {
        for filtering in [
            Dependence::EndpointIndependent,
            Dependence::AddressDependent,
            Dependence::AddressAndPortDependent,
        ] {
            let mut lab = Lab::with(family, |c| {
                family.pair(c, 2, 9, false);
                c.udp.filtering = filtering;
            });
            let stranger = at(family.remote(2), 1000);
            let anybody = filtering == Dependence::EndpointIndependent;
            let called = at(family.outside(9), 80);
            assert_eq!(
                lab.call_udp(stranger, called).is_ok(),
                anybody,
                "{filtering:?}"
            );
            let me = at(family.inside(2), 5000);
            let outside = lab.map_udp(me, at(family.remote(1), 53));
            assert_eq!(lab.call_udp(stranger, outside).is_ok(), anybody);
        }
    }
}

#[test]
fn a_pair_talks_to_many_under_every_mapping_mode() {
    // Its port is its own whomever it talks to: there is no second one it could take.
    for family in BOTH {
        for mapping in [
            Dependence::EndpointIndependent,
            Dependence::AddressDependent,
            Dependence::AddressAndPortDependent,
        ] {
            for open in [false, true] {
                let mut lab = Lab::with(family, |c| {
                    family.pair(c, 2, 9, open);
                    c.udp.mapping = mapping;
                });
                let me = at(family.inside(2), 5000);
                for n in 1..20 {
                    let remote = at(family.remote(n), 53);
                    assert_eq!(lab.map_udp(me, remote), at(family.outside(9), 5000));
                    assert_eq!(lab.call_udp(remote, at(family.outside(9), 5000)), Ok(me));
                }
            }
        }
    }
}

#[test]
fn a_resting_port_of_a_pair_wakes_when_it_is_called() {
    for family in BOTH {
        let mut lab = lab(family, true);
        let me = at(family.inside(2), 5000);
        let outside = lab.map_udp(me, at(family.remote(1), 53));
        lab.live(secs(310));
        assert_eq!(lab.engine().usage().sessions, 0);
        assert_eq!(lab.call_udp(at(family.remote(2), 1), outside), Ok(me));
        lab.live(secs(200));
        assert_eq!(lab.map_udp(me, at(family.remote(2), 1)), outside);
    }
}

#[test]
fn a_port_that_was_published_elsewhere_is_the_pairs_own_again_afterwards() {
    for family in BOTH {
        let mut lab = Lab::with(family, |config| {
            family.pair(config, 2, 9, true);
            config.timeouts.port_hold = secs(0);
        });
        let (me, elsewhere) = (at(family.inside(2), 8080), at(family.outside(1), 80));
        lab.forward(17, elsewhere, me).unwrap();
        // Called at its own address while its own packets leave by the other.
        let own = at(family.outside(9), 8080);
        let caller = at(family.remote(1), 1000);
        assert_eq!(lab.call_udp(caller, own), Ok(me));
        lab.unforward(17, elsewhere).unwrap();
        lab.expire();
        assert_eq!(lab.map_udp(me, at(family.remote(2), 53)), own);
    }
}

#[test]
fn hairpins_between_pairs() {
    for family in BOTH {
        let mut lab = Lab::with(family, |c| {
            family.pair(c, 2, 9, true);
            family.pair(c, 3, 10, true);
        });
        let (one, two) = (at(family.inside(2), 5000), at(family.inside(3), 6000));
        let seen = lab
            .out(udp(one, at(family.outside(10), 6000), b"x"))
            .sent_to(Side::Inside);
        assert_eq!((seen.src(), seen.dst()), (at(family.outside(9), 5000), two));
        let seen = lab.out(udp(two, seen.src(), b"x")).sent_to(Side::Inside);
        assert_eq!(
            (seen.src(), seen.dst()),
            (at(family.outside(10), 6000), one)
        );
    }
}

#[test]
fn other_protocols_by_address_one_guest_each() {
    for family in BOTH {
        let mut config = family.pool(&[1, 2]);
        config.no_resources = NoResources::Silent;
        let mut lab = Lab::new(config);
        let remote = family.remote(1);
        let hosts = [2, 3, 4].map(|n| family.inside(n));
        let seen = lab.out(raw(hosts[0], remote, 47, b"gre")).sent();
        assert_eq!(seen.l4(), b"gre", "nothing but the address is touched");
        let first = seen.src;
        let second = lab.out(raw(hosts[1], remote, 47, b"gre")).sent().src;
        assert_ne!(first, second, "the other guest has the other address");
        // The third shares one of them.
        assert_eq!(
            lab.out(raw(hosts[2], remote, 47, b"gre")).dropped(),
            DropReason::NoPort
        );
        // ESP is another protocol, and free.
        let _ = lab.out(raw(hosts[2], remote, 50, b"esp")).sent();
        for (host, outside) in [(hosts[0], first), (hosts[1], second)] {
            assert_eq!(lab.inn(raw(remote, outside, 47, b"back")).sent().dst, host);
            // Only who was spoken to may answer.
            let done = lab.inn(raw(family.remote(2), outside, 47, b"back"));
            assert_eq!(done.dropped(), DropReason::Filtered);
        }
        // More than one tunnel of the same guest.
        assert_eq!(
            lab.out(raw(hosts[0], family.remote(2), 47, b"gre"))
                .sent()
                .src,
            first
        );
        assert_eq!(
            lab.inn(raw(family.remote(2), first, 47, b"x")).sent().dst,
            hosts[0]
        );
        // After silence and rest it is the next one's.
        lab.live(secs(601 + 121));
        let _ = lab.out(raw(hosts[2], remote, 47, b"gre")).sent();
    }
}

#[test]
fn protocols_with_checksums_of_their_own_and_by_option_all_others_are_refused() {
    for family in BOTH {
        let mut lab = Lab::of(family);
        let (me, remote) = (family.inside(2), family.remote(1));
        for protocol in [136, 33] {
            let done = lab.out(raw(me, remote, protocol, &[0; 16]));
            assert_eq!(done.dropped(), DropReason::Unsupported);
            let done = lab.inn(raw(remote, family.outside(1), protocol, &[0; 16]));
            assert!(!done.is_sent());
        }
        let mut lab = Lab::with(family, |c| c.other = OtherProtocols::Refuse);
        for protocol in [47, 50, 132, 4, 41] {
            let done = lab.out(raw(me, remote, protocol, &[0; 16]));
            assert_eq!(done.dropped(), DropReason::Unsupported);
        }
        assert_eq!(lab.engine().usage().mappings, 0);
    }
}
