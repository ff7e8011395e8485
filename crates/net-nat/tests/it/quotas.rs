//! How much each may have, and what the others notice of it.

use std::time::Duration;

use net_nat::config::{Dependence, NoResources};
use net_nat::{Direction, DropReason, NatEngine, Side, Verdict};

use crate::lab::{BOTH, Family, Lab, SYN, Tcp, V4, at, echo, secs, see, tcp, udp};

#[test]
fn rfc7857_section4_a_full_paired_address_drops_rather_than_take_another() {
    for family in BOTH {
        let mut config = family.pool(&[1, 2]);
        config.no_resources = NoResources::Silent;
        let mut lab = Lab::new(config);
        let remote = at(family.remote(1), 53);
        // Hosts 2 and 4 share an address, and host 3 has the other.
        let [first, other, second] =
            [2, 3, 4].map(|n| lab.map_udp(at(family.inside(n), 2000), remote).ip());
        assert!(first == second && first != other);
        for port in 1..1024 {
            assert_eq!(lab.map_udp(at(family.inside(2), port), remote).ip(), first);
        }
        let done = lab.out(udp(at(family.inside(4), 7), remote, b"x"));
        assert_eq!(
            done.dropped(),
            DropReason::NoPort,
            "the other address is not taken"
        );
        assert_eq!(lab.map_udp(at(family.inside(3), 7), remote).ip(), other);
        assert_eq!(lab.map_udp(at(family.inside(4), 3000), remote).ip(), second);
    }
}

#[test]
fn rfc6888_req4_quota_of_ports_for_each_host() {
    for family in BOTH {
        let mut lab = Lab::with(family, |c| c.limits.mappings_per_host = 100);
        let remote = at(family.remote(1), 53);
        for n in 0..100 {
            lab.map_udp(at(family.inside(2), 2000 + n), remote);
        }
        assert_eq!(
            lab.out(udp(at(family.inside(2), 3000), remote, b"x"))
                .verdict,
            Verdict::Reply
        );
        assert_eq!(lab.drops(DropReason::Quota), 1);
        // What it has may have more sessions, and the neighbour is not meant.
        lab.map_udp(at(family.inside(2), 2000), at(family.remote(2), 53));
        lab.map_udp(at(family.inside(3), 3000), remote);
        // A port that rests is still the host's (it can be nobody else's).
        lab.live(secs(301));
        assert_eq!(
            lab.out(udp(at(family.inside(2), 3000), remote, b"x"))
                .verdict,
            Verdict::Reply
        );
        lab.live(secs(121));
        lab.map_udp(at(family.inside(2), 3000), remote);
    }
}

#[test]
fn rfc6888_req4_quota_of_sessions_for_each_host() {
    for family in BOTH {
        let mut lab = Lab::with(family, |c| c.limits.sessions_per_host = 100);
        let me = at(family.inside(2), 2000);
        for n in 0..100 {
            lab.map_udp(me, at(family.remote(n), 53));
        }
        let other = at(family.remote(100), 53);
        assert_eq!(lab.out(udp(me, other, b"x")).verdict, Verdict::Reply);
        let fresh = at(family.inside(2), 2001);
        assert_eq!(lab.out(udp(fresh, other, b"x")).verdict, Verdict::Reply);
        assert_eq!(lab.drops(DropReason::Quota), 2);
        lab.map_udp(at(family.inside(3), 2000), other);
        // From outside neither: whoever is called has an account, too.
        let outside = lab.map_udp(me, at(family.remote(0), 53));
        assert_eq!(
            lab.call_udp(at(family.remote(0), 54), outside),
            Err(DropReason::Quota)
        );
    }
}

#[test]
fn rfc6888_req4_rate_of_new_sessions_for_each_host() {
    for family in BOTH {
        let mut lab = Lab::with(family, |c| {
            c.limits.new_per_second = 10;
            c.limits.new_burst = 20;
            c.no_resources = NoResources::Silent;
        });
        let mut next = 0;
        let mut burst = |lab: &mut Lab, host: u16| {
            let opened = (0..50).filter(|_| {
                next += 1;
                let me = at(family.inside(host), 1024 + next);
                lab.out(udp(me, at(family.remote(1), 53), b"x")).is_sent()
            });
            opened.count()
        };
        assert_eq!(burst(&mut lab, 2), 20);
        assert_eq!(burst(&mut lab, 2), 0);
        assert_eq!(burst(&mut lab, 3), 20, "the neighbour has its own");
        lab.wait(secs(1));
        assert_eq!(burst(&mut lab, 2), 10);
        lab.wait(Duration::from_millis(500));
        assert_eq!(burst(&mut lab, 2), 5);
        lab.wait(secs(100));
        assert_eq!(burst(&mut lab, 2), 20);
        assert_eq!(lab.drops(DropReason::Rate), 30 + 50 + 30 + 40 + 45 + 30);
        // The packets of what is open are not counted.
        let me = at(family.inside(2), 1025);
        for _ in 0..100 {
            lab.map_udp(me, at(family.remote(1), 53));
        }
    }
}

/// Fills the table from one host and returns what the others had before.
fn fill(lab: &mut Lab, family: Family) -> Vec<(std::net::SocketAddr, std::net::SocketAddr)> {
    let remote = at(family.remote(1), 53);
    let neighbours = (3..13).map(|n| {
        let me = at(family.inside(n), 2000);
        (me, lab.map_udp(me, remote))
    });
    let neighbours: Vec<_> = neighbours.collect();
    let greedy = at(family.inside(2), 2000);
    for n in 0..2000 {
        let _ = lab.out(udp(greedy, at(family.remote(n), 53), b"x"));
    }
    neighbours
}

#[test]
fn rfc6888_req11_a_full_table_refuses_and_evicts_nobody() {
    for family in BOTH {
        let mut lab = Lab::with(family, |c| {
            c.limits.sessions = 1000;
            c.limits.icmp_per_second = 0;
        });
        let remote = at(family.remote(1), 53);
        let neighbours = fill(&mut lab, family);
        let usage = lab.engine().usage();
        assert_eq!((usage.sessions, usage.sessions_max), (1000, 1000));
        assert_eq!(lab.drops(DropReason::TableFull), 1010);
        for &(me, outside) in &neighbours {
            assert_eq!(lab.map_udp(me, remote), outside);
            assert_eq!(lab.call_udp(remote, outside), Ok(me));
        }
        assert_eq!(lab.engine().counters().closed, 0);
        // Inbound neither.
        let (_, outside) = neighbours[0];
        let new = at(family.remote(1), 54);
        assert_eq!(lab.call_udp(new, outside), Err(DropReason::TableFull));
        // What was there keeps its place; what was refused finds one when something has ended.
        for _ in 0..3 {
            lab.live(secs(150));
            for &(me, outside) in &neighbours {
                assert_eq!(lab.map_udp(me, remote), outside);
            }
        }
        lab.map_udp(at(family.inside(2), 2000), at(family.remote(1999), 53));
    }
}

#[test]
fn a_full_table_of_mappings_or_hosts_refuses_too() {
    for family in BOTH {
        let mut lab = Lab::with(family, |c| {
            c.limits.mappings = 50;
            c.limits.hosts = 20;
            c.no_resources = NoResources::Silent;
        });
        let remote = at(family.remote(1), 53);
        for n in 0..20 {
            lab.map_udp(at(family.inside(2 + n), 2000), remote);
        }
        let late = udp(at(family.inside(99), 2000), remote, b"x");
        assert_eq!(lab.out(&late).dropped(), DropReason::TableFull);
        for n in 0..30 {
            lab.map_udp(at(family.inside(2), 3000 + n), remote);
        }
        let one_more = udp(at(family.inside(3), 3000), remote, b"x");
        assert_eq!(lab.out(&one_more).dropped(), DropReason::TableFull);
        // A mapping that is there may have more sessions.
        lab.map_udp(at(family.inside(3), 2000), at(family.remote(2), 53));
        let usage = lab.engine().usage();
        assert_eq!(
            (usage.mappings, usage.mappings_max, usage.hosts),
            (50, 50, 20)
        );
    }
}

#[test]
fn one_hosts_exhaustion_leaves_a_neighbour_untouched() {
    for family in BOTH {
        let mut lab = Lab::with(family, |c| {
            c.limits.sessions = 4000;
            c.limits.sessions_per_host = 1000;
            c.limits.mappings_per_host = 1000;
        });
        let remote = at(family.remote(1), 53);
        for n in 0..5000 {
            let me = at(family.inside(2), 1024 + n);
            let _ = lab.out(udp(me, remote, b"x"));
            if n % 100 == 0 {
                // The neighbour opens and talks as if nothing were.
                let me = at(family.inside(3), 1024 + n);
                let outside = lab.map_udp(me, remote);
                assert_eq!(lab.call_udp(remote, outside), Ok(me));
            }
        }
        let sessions = |host| {
            let all = lab.engine().sessions();
            all.filter(|s| s.inside.addr == family.inside(host)).count()
        };
        assert_eq!((sessions(2), sessions(3)), (1000, 50));
        let counters = lab.engine().counters();
        assert_eq!(counters.dropped(DropReason::Quota), 4000);
        assert_eq!(counters.dropped_total(), 4000);
        // Errors are rationed: 100 in the one second that all this took.
        assert_eq!(counters.replies, 100);
    }
}

#[test]
fn rfc5508_req8_the_kind_of_refusal_is_a_mode() {
    for family in BOTH {
        let expected = |mode| match (mode, family) {
            (NoResources::Prohibited, V4) => Some((3, 13)),
            (NoResources::Prohibited, _) => Some((1, 1)),
            (NoResources::HostUnreachable, V4) => Some((3, 1)),
            (NoResources::HostUnreachable, _) => Some((1, 3)),
            (NoResources::Silent, _) => None,
        };
        for mode in [
            NoResources::Prohibited,
            NoResources::HostUnreachable,
            NoResources::Silent,
        ] {
            let mut lab = Lab::with(family, |c| {
                c.limits.sessions_per_host = 1;
                c.no_resources = mode;
            });
            let (me, remote) = (at(family.inside(2), 2000), at(family.remote(1), 53));
            lab.map_udp(me, remote);
            let refused = udp(at(family.inside(2), 2001), remote, b"x");
            let done = lab.out(&refused);
            let Some(kind) = expected(mode) else {
                assert_eq!(done.dropped(), DropReason::Quota);
                assert!(lab.outputs().is_empty());
                continue;
            };
            assert_eq!(done.verdict, Verdict::Reply);
            let output = lab.output();
            assert_eq!(output.side, Side::Inside);
            let seen = see(&output.packet);
            assert_eq!((seen.kind, seen.code), kind, "{mode:?}");
            assert_eq!((seen.src, seen.dst), (family.outside(1), me.ip()));
            assert!(refused.starts_with(seen.data()) && seen.data().len() >= 28);
        }
    }
}

#[test]
fn a_flood_of_flows_like_each_other_fills_the_table_to_the_last_place() {
    // What a guest can choose of a flow: 2^32 ways to be alike. With a keyed hash none of them
    // fills a bucket sooner than chance does, so that every place of the table can be had.
    /// The port of the guest, the remote host and its port, of flow `n`.
    type Pattern = fn(u32) -> (u16, u16, u16);
    let patterns: [(&str, Pattern); 4] = [
        ("ports in order", |n| (1024 + n as u16, 0, 53)),
        ("every 16th port and remote", |n| {
            let port = 1024 + (n << 4 & 0x7fff) as u16;
            (port, (n >> 11) as u16, 53)
        }),
        ("high bits of the remote", |n| {
            (2000, (n << 3) as u16, 53 + (n >> 13) as u16)
        }),
        ("sum stays the same", |n| {
            (1024 + n as u16, 8192 - n as u16, 53)
        }),
    ];
    for family in BOTH {
        for (name, pattern) in patterns {
            let mut lab = Lab::with(family, |c| {
                c.limits.sessions = 4096;
                c.limits.new_per_second = 0;
                c.udp.filtering = Dependence::EndpointIndependent;
                c.limits.icmp_per_second = 0;
            });
            let neighbour = at(family.inside(3), 2000);
            let remote = at(family.remote(60_000), 53);
            let outside = lab.map_udp(neighbour, remote);
            for n in 0..4095 {
                let (port, host, service) = pattern(n);
                let me = at(family.inside(2), port);
                let done = lab.out(udp(me, at(family.remote(host), service), b"x"));
                assert!(done.is_sent(), "{name}: flow {n}: {:?}", done.verdict);
            }
            assert_eq!(lab.engine().usage().sessions, 4096, "{name}");
            assert_eq!(lab.map_udp(neighbour, remote), outside);
            assert_eq!(lab.call_udp(remote, outside), Ok(neighbour));
        }
    }
}

#[test]
fn rfc6888_req10_utilisation_is_visible() {
    for family in BOTH {
        let mut lab = Lab::with(family, |c| {
            c.limits.sessions = 1000;
            c.limits.mappings = 800;
        });
        let empty = lab.engine().usage();
        assert_eq!((empty.sessions, empty.sessions_max), (0, 1000));
        assert_eq!(
            (empty.mappings, empty.mappings_max, empty.hosts),
            (0, 800, 0)
        );
        assert!(empty.bytes > 0);
        for n in 0..100 {
            let me = at(family.inside(2 + n % 10), 2000 + n);
            lab.map_udp(me, at(family.remote(1), 53));
            lab.map_udp(me, at(family.remote(2), 53));
        }
        let syn = Tcp {
            flags: SYN,
            ..Tcp::default()
        };
        lab.out(tcp(at(family.inside(2), 1), at(family.remote(1), 80), &syn))
            .sent();
        let usage = lab.engine().usage();
        assert_eq!(
            (usage.sessions, usage.mappings, usage.hosts),
            (201, 101, 10)
        );
        let counters = lab.engine().counters();
        assert_eq!(
            (counters.outbound, counters.opened, counters.closed),
            (201, 201, 0)
        );
        assert_eq!(counters.dropped_total(), 0);
    }
}

#[test]
fn one_session_costs_160_bytes_at_most() {
    let mut config = V4.config();
    config.limits.sessions = 1 << 20;
    let lab = Lab::new(config);
    let usage = lab.engine().usage();
    let each = usage.bytes / usage.sessions_max;
    assert!(
        each <= 160,
        "{each} bytes for a session with its mapping share"
    );
}

#[test]
fn large_tables_are_named_aligned_and_stay_where_they_are() {
    const LARGE: usize = 2 << 20;
    let mut config = V4.config();
    config.limits.sessions = 1 << 20;
    let mut engine = NatEngine::new(config).unwrap();
    let named = |engine: &mut NatEngine| -> Vec<(usize, usize)> {
        let ranges = engine.memory();
        let mut ranges: Vec<_> = ranges.map(|r| (r.start.addr(), r.end.addr())).collect();
        ranges.sort_unstable();
        ranges
    };
    let before = named(&mut engine);
    for &(start, end) in &before {
        assert!(start.is_multiple_of(LARGE) && end - start >= LARGE);
    }
    assert!(before.windows(2).all(|pair| pair[0].1 <= pair[1].0));
    // But for the few that are small it is all there is, the tables of ports included.
    let bytes: usize = before.iter().map(|(start, end)| end - start).sum();
    let usage = engine.usage().bytes;
    assert!(
        bytes <= usage && usage - bytes < LARGE,
        "{bytes} of {usage}"
    );
    for n in 0..100 {
        let me = V4.inside(2 + n % 10);
        let query = udp(at(me, 2000 + n), at(V4.remote(1), 53), b"x");
        for mut packet in [query, echo(me, V4.remote(1), true, n, 1)] {
            let verdict = engine.translate(&mut packet, Direction::Outbound, secs(1));
            assert_eq!(verdict, Verdict::Translated(Side::Outside));
        }
    }
    assert_eq!(named(&mut engine), before);
}
