//! Which outside endpoint stands for an inside one (RFC 4787, section 4).

use std::collections::HashSet;

use net_nat::config::Dependence;
use net_nat::{ConfigError, NatEngine, Prefix};

use crate::lab::{BOTH, Lab, SYN, Tcp, V4, at, secs, see, tcp, udp};

#[test]
fn rfc4787_req1_endpoint_independent_mapping() {
    for family in BOTH {
        let mut lab = Lab::of(family);
        let me = at(family.inside(2), 5000);
        let first = lab.map_udp(me, at(family.remote(1), 53));
        for n in 1..50 {
            assert_eq!(lab.map_udp(me, at(family.remote(n), 1000 + n)), first);
            assert_eq!(lab.map_udp(me, at(family.remote(1), 2000 + n)), first);
        }
        assert_eq!(first.ip(), family.outside(1));
        let answer = udp(at(family.remote(7), 1007), first, b"x");
        assert_eq!(lab.inn(answer).sent().dst(), me);
    }
}

#[test]
fn rfc4787_req1_mapping_by_address_and_by_port_are_options() {
    for family in BOTH {
        let me = at(family.inside(2), 5000);
        let remotes = [(1, 53), (1, 54), (2, 53)].map(|(n, p)| at(family.remote(n), p));
        for (dependence, ports) in [
            (Dependence::EndpointIndependent, 1),
            (Dependence::AddressDependent, 2),
            (Dependence::AddressAndPortDependent, 3),
        ] {
            let mut lab = Lab::with(family, |c| c.udp.mapping = dependence);
            let seen = remotes.map(|remote| lab.map_udp(me, remote));
            let again = remotes.map(|remote| lab.map_udp(me, remote));
            assert_eq!(seen, again);
            assert_eq!(HashSet::from(seen).len(), ports, "{dependence:?}");
            for (outside, remote) in seen.into_iter().zip(remotes) {
                assert_eq!(lab.call_udp(remote, outside), Ok(me));
            }
        }
    }
}

#[test]
fn a_mapping_bound_to_an_address_admits_no_other() {
    for family in BOTH {
        for (mapping, same_host) in [
            (Dependence::AddressDependent, true),
            (Dependence::AddressAndPortDependent, false),
        ] {
            let mut lab = Lab::with(family, |c| {
                c.udp.mapping = mapping;
                c.udp.filtering = Dependence::EndpointIndependent;
            });
            let (me, remote) = (at(family.inside(2), 5000), at(family.remote(1), 53));
            let outside = lab.map_udp(me, remote);
            let other_port = at(family.remote(1), 54);
            assert_eq!(lab.call_udp(other_port, outside).is_ok(), same_host);
            assert!(lab.call_udp(at(family.remote(2), 53), outside).is_err());
            assert_eq!(lab.call_udp(remote, outside), Ok(me));
        }
    }
}

#[test]
fn rfc4787_req2_paired_pooling() {
    for family in BOTH {
        let mut lab = Lab::new(family.pool(&[1, 2, 3, 4]));
        let mut used = HashSet::new();
        for host in 2..42 {
            let mut own = HashSet::new();
            for port in 0..20 {
                let me = at(family.inside(host), 3000 + port);
                own.insert(lab.map_udp(me, at(family.remote(port), 9)).ip());
                let syn = Tcp {
                    flags: SYN,
                    ..Tcp::default()
                };
                own.insert(
                    lab.out(tcp(me, at(family.remote(port), 80), &syn))
                        .sent()
                        .src,
                );
            }
            assert_eq!(own.len(), 1, "host {host} shows several addresses");
            used.extend(own);
        }
        assert_eq!(used.len(), 4, "the pool is shared out");
    }
}

#[test]
fn rfc4787_req3_no_port_overloading() {
    for family in BOTH {
        // Small classes make collisions certain: all low ports of the address are asked for.
        let mut lab = Lab::of(family);
        let remote = at(family.remote(1), 53);
        let mut taken = HashSet::new();
        for host in 2..12 {
            for port in 1..100 {
                let outside = lab.map_udp(at(family.inside(host), port), remote);
                assert!(taken.insert(outside), "{outside} stands for two endpoints");
            }
        }
    }
}

#[test]
fn rfc4787_req7_the_same_prefix_on_both_sides_is_refused_clearly() {
    let mut config = V4.config();
    let family = config.ipv4.as_mut().unwrap();
    family.inside = vec![Prefix::new([203, 0, 113, 0].into(), 24).unwrap()];
    match NatEngine::new(config) {
        Err(error @ ConfigError::Overlap { .. }) => {
            let text = error.to_string();
            assert!(
                text.contains("203.0.113.1") && text.contains("203.0.113.0/24"),
                "{text}"
            );
        }
        other => panic!("{:?}", other.err()),
    }
}

#[test]
fn rfc4787_req10_no_payload_is_ever_rewritten() {
    // What gateways for FTP, SIP and the like look for: the inside address in text and in binary.
    for family in BOTH {
        let mut lab = Lab::of(family);
        let me = at(family.inside(2), 5060);
        for (n, port) in [21, 53, 69, 554, 1723, 5060, 6667].into_iter().enumerate() {
            let mut data =
                format!("PORT {0},{0} SIP/2.0 Contact: <sip:a@{me}>", me.ip()).into_bytes();
            match me.ip() {
                std::net::IpAddr::V4(addr) => data.extend(addr.octets()),
                std::net::IpAddr::V6(addr) => data.extend(addr.octets()),
            }
            data.extend(me.port().to_be_bytes());
            let remote = at(family.remote(n as u16), port);
            let seen = lab.out(udp(me, remote, &data)).sent();
            assert_eq!(seen.data(), data);
            let answer = lab.inn(udp(remote, seen.src(), &data)).sent();
            assert_eq!(answer.data(), data);
        }
    }
}

#[test]
fn rfc4787_req11_deterministic_under_collisions_load_and_a_full_table() {
    for family in BOTH {
        let mut lab = Lab::with(family, |c| {
            c.limits.sessions = 500;
            c.limits.icmp_per_second = 0;
        });
        let endpoints: Vec<_> = (0..250)
            .map(|n| at(family.inside(2 + n % 5), 1 + n / 5))
            .collect();
        let remote = at(family.remote(1), 53);
        let outside: Vec<_> = endpoints
            .iter()
            .map(|&me| lab.map_udp(me, remote))
            .collect();
        // Twice as much as fits: what is there behaves as before, what is not is refused.
        let mut refused = 0;
        for round in 0..4 {
            for (&me, &outside) in endpoints.iter().zip(&outside) {
                let other = at(family.remote(2 + round), 53);
                let done = lab.out(udp(me, other, b"x"));
                if done.is_sent() {
                    assert_eq!(see(&done.packet).src(), outside);
                    assert_eq!(lab.call_udp(other, outside), Ok(me));
                } else {
                    refused += 1;
                    assert_eq!(
                        lab.call_udp(other, outside),
                        Err(net_nat::DropReason::Filtered)
                    );
                }
                assert_eq!(lab.map_udp(me, remote), outside);
                assert_eq!(lab.call_udp(remote, outside), Ok(me));
            }
        }
        assert_eq!(refused, 750);
    }
}

#[test]
fn rfc7857_section3_ports_overlap_only_if_asked_and_never_towards_one_destination() {
    // Ports are never shared between endpoints here, towards whatever destination: stricter than
    // the section allows. The one way two flows of one outside port coexist is one inside endpoint.
    for family in BOTH {
        let mut lab = Lab::with(family, |c| {
            c.udp.mapping = Dependence::AddressAndPortDependent;
            c.timeouts.port_hold = secs(0);
        });
        let mut taken = HashSet::new();
        for host in 2..6 {
            for n in 0..100 {
                let outside = lab.map_udp(at(family.inside(host), 7), at(family.remote(n), 53));
                assert!(taken.insert(outside), "{outside} is shared");
            }
        }
    }
}

#[test]
fn rfc7857_section5_and_6_mappings_and_filters_are_per_protocol() {
    for family in BOTH {
        let mut lab = Lab::with(family, |c| {
            c.udp.filtering = Dependence::EndpointIndependent;
            c.tcp.filtering = Dependence::EndpointIndependent;
        });
        let (me, remote) = (at(family.inside(2), 5000), at(family.remote(1), 80));
        let syn = Tcp {
            flags: SYN,
            ..Tcp::default()
        };
        let by_tcp = lab.out(tcp(me, remote, &syn)).sent().src();
        assert!(
            lab.call_udp(remote, by_tcp).is_err(),
            "UDP enters a TCP mapping"
        );
        let by_udp = lab.map_udp(me, remote);
        assert_ne!(by_tcp.port(), by_udp.port(), "two random ports");
        let done = lab.inn(tcp(at(family.remote(2), 80), by_udp, &syn));
        assert!(!done.is_sent(), "TCP enters a UDP mapping");
        assert!(lab.call_udp(at(family.remote(2), 1), by_udp).is_ok());
    }
}
