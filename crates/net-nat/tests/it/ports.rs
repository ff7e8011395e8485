//! Which port a mapping gets, and when another may have it.

use std::collections::HashMap;
use std::net::SocketAddr;

use net_nat::DropReason;
use net_nat::config::NoResources;

use crate::lab::{BOTH, ECHO, Lab, SYN, Tcp, V4, at, echo, secs, tcp, udp};

#[test]
fn rfc4787_req3a_ports_keep_their_class() {
    for family in BOTH {
        let mut lab = Lab::of(family);
        let remote = at(family.remote(1), 53);
        let syn = Tcp {
            flags: SYN,
            ..Tcp::default()
        };
        for host in 2..20 {
            for port in [1, 22, 500, 1022, 1023, 1024, 1025, 5000, 65_535] {
                let me = at(family.inside(host), port);
                let by_udp = lab.map_udp(me, remote).port();
                let by_tcp = lab.out(tcp(me, remote, &syn)).sent().sport;
                for outside in [by_udp, by_tcp] {
                    assert_eq!(outside < 1024, port < 1024, "{port} became {outside}");
                    assert_ne!(outside, 0);
                }
            }
        }
    }
}

#[test]
fn rfc4787_req4_parity_is_an_option() {
    for family in BOTH {
        let mut lab = Lab::with(family, |c| c.port_parity = true);
        let mut plain = Lab::of(family);
        let mut differ = 0;
        for port in 500..1500 {
            let (me, remote) = (at(family.inside(2), port), at(family.remote(1), 53));
            assert_eq!(lab.map_udp(me, remote).port() % 2, port % 2);
            differ += u32::from(plain.map_udp(me, remote).port() % 2 != port % 2);
        }
        // Of a fair coin thrown a thousand times: 500, ten deviations of 16 each way.
        assert!((340..660).contains(&differ), "{differ}");
    }
}

#[test]
fn rfc6056_ports_are_random_chi_square() {
    for family in BOTH {
        let mut lab = Lab::with(family, |c| c.limits.mappings_per_host = 1 << 16);
        // 16,128 of 64,512 ports, a quarter: 252 bins of 256 ports, 64 expected in each.
        const BINS: usize = 252;
        let mut bins = [0u32; BINS];
        let mut steps = [0u32; 16];
        let mut before = 0u16;
        for n in 0..16_128 {
            let me = at(family.inside(2 + n % 8), 1024 + n / 8);
            let outside = lab.map_udp(me, at(family.remote(1), 53)).port();
            bins[usize::from(outside - 1024) / 256] += 1;
            steps[usize::from(outside.wrapping_sub(before) >> 12)] += 1;
            before = outside;
        }
        let chi = |bins: &[u32]| {
            let expected = 16_128.0 / bins.len() as f64;
            let square = |&n: &u32| (f64::from(n) - expected).powi(2) / expected;
            bins.iter().map(square).sum::<f64>()
        };
        // 251 degrees of freedom: mean 251, standard deviation 22.4. Without replacement it is a
        // quarter less. A counter, or the inside port, gives thousands; a fixed order below 50.
        let spread = chi(&bins);
        assert!((100.0..340.0).contains(&spread), "{spread}");
        // The way from one port to the next says nothing either: 15 degrees of freedom.
        let spread = chi(&steps);
        assert!(spread < 60.0, "{spread}: {steps:?}");
    }
}

#[test]
fn rfc6056_two_seeds_choose_differently() {
    let choices = |seed: u8| {
        let mut lab = Lab::with(V4, |c| c.seed = [seed; 16]);
        let remote = at(V4.remote(1), 53);
        let ports = (0..64).map(|n| lab.map_udp(at(V4.inside(2), 2000 + n), remote).port());
        ports.collect::<Vec<_>>()
    };
    let same = choices(1)
        .iter()
        .zip(choices(2))
        .filter(|(a, b)| **a == *b)
        .count();
    assert!(same < 3, "{same} of 64 ports are equal");
    assert_eq!(choices(3), choices(3), "a seed repeats a run");
}

/// The last low port that is free is known: all but `host`'s are taken.
fn fill_low_ports(lab: &mut Lab, family: crate::lab::Family) -> Vec<SocketAddr> {
    let remote = at(family.remote(1), 53);
    (1..1024)
        .map(|port| lab.map_udp(at(family.inside(2), port), remote))
        .collect()
}

#[test]
fn rfc6888_req8_a_port_is_held_for_120_s_after_use() {
    for family in BOTH {
        let mut lab = Lab::with(family, |c| c.no_resources = NoResources::Silent);
        let mine = fill_low_ports(&mut lab, family);
        let (other, remote) = (at(family.inside(3), 7), at(family.remote(1), 53));
        assert_eq!(
            lab.out(udp(other, remote, b"x")).dropped(),
            DropReason::NoPort
        );
        // The sessions end after 300 s; the ports rest for 120 more.
        lab.live(secs(301));
        assert_eq!(lab.engine().usage().sessions, 0);
        lab.live(secs(119));
        assert_eq!(
            lab.out(udp(other, remote, b"x")).dropped(),
            DropReason::NoPort
        );
        // Whose port it was may have it all the while, and nobody reaches it from outside.
        assert_eq!(lab.call_udp(remote, mine[6]), Err(DropReason::NoMapping));
        assert_eq!(lab.map_udp(at(family.inside(2), 7), remote), mine[6]);
        lab.live(secs(2));
        let got = lab.map_udp(other, remote);
        assert!(got.port() < 1024 && got != mine[6]);
    }
}

#[test]
fn a_live_port_is_never_handed_out_twice() {
    // The fault of arcbox-conntrack: a stranger's answer reached the wrong guest. Few ports, no
    // rest, many guests, for long.
    for family in BOTH {
        let mut lab = Lab::with(family, |c| {
            c.timeouts.port_hold = secs(0);
            c.timeouts.below_minimum = true;
            c.timeouts.udp = secs(20);
            c.no_resources = NoResources::Silent;
        });
        let mut random = 0x9e37_79b9u64;
        let mut next = |below: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % below
        };
        // Who has an outside port by our own account, and when it was last used.
        let mut owners: HashMap<SocketAddr, (SocketAddr, u64)> = HashMap::new();
        let remote = at(family.remote(1), 53);
        let (mut refused, mut reused, mut clock) = (0, 0, 0);
        for step in 0..40_000u64 {
            if step % 8 == 0 {
                lab.wait(secs(1));
                clock += 1;
            }
            if step % 1000 == 0 {
                lab.expire();
                lab.validate();
            }
            let me = at(family.inside(2 + next(40) as u16), 1 + next(150) as u16);
            let done = lab.out(udp(me, remote, b"x"));
            if !done.is_sent() {
                assert_eq!(done.dropped(), DropReason::NoPort);
                refused += 1;
                continue;
            }
            let outside = done.sent().src();
            if let Some(&(owner, used)) = owners.get(&outside)
                && owner != me
            {
                reused += 1;
                assert!(clock > used + 20, "{outside} of {owner} went to {me} alive");
            }
            owners.insert(outside, (me, clock));
            assert_eq!(
                lab.call_udp(remote, outside),
                Ok(me),
                "the answer goes astray"
            );
        }
        assert!(
            reused > 1000,
            "{reused} reused, {refused} refused: the run proves little"
        );
    }
}

#[test]
fn query_identifiers_have_no_classes_and_no_owner_but_one() {
    for family in BOTH {
        let mut lab = Lab::of(family);
        let mut seen = HashMap::new();
        for host in 2..40 {
            for id in [0, 1, 1023, 1024, 65_535] {
                let packet = echo(family.inside(host), family.remote(1), ECHO, id, 1);
                let outside = lab.out(packet).sent();
                assert_eq!(seen.insert(outside.ident, (host, id)), None);
            }
        }
        let low = seen.keys().filter(|&&id| id < 1024).count();
        assert!(
            low < 40,
            "{low} of 190 are low: identifiers are from the whole range"
        );
    }
}
