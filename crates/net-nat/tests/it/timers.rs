//! How long what is silent is remembered.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use net_nat::config::{Dependence, Timeouts};
use net_nat::{ConfigError, Direction, DropReason, Event, NatEngine, Side, TcpState, Verdict};

use crate::lab::{
    ACK, BOTH, ECHO, FIN, Family, Lab, RST, SYN, Tcp, V4, at, echo, raw, secs, tcp, udp,
};

/// Opens a TCP connection by its three segments, `seq` and `ack` being 1000 and 5000 afterwards.
fn connect(
    lab: &mut Lab,
    me: std::net::SocketAddr,
    remote: std::net::SocketAddr,
) -> std::net::SocketAddr {
    let outside = lab.out(tcp(me, remote, &segment(SYN, 999, 0))).sent().src();
    let _ = lab
        .inn(tcp(remote, outside, &segment(SYN | ACK, 4999, 1000)))
        .sent();
    let _ = lab.out(tcp(me, remote, &segment(ACK, 1000, 5000))).sent();
    outside
}

fn segment(flags: u8, seq: u32, ack: u32) -> Tcp<'static> {
    Tcp {
        flags,
        seq,
        ack,
        ..Tcp::default()
    }
}

#[test]
fn rfc4787_req5_udp_lives_five_minutes_by_default_and_two_at_least() {
    for family in BOTH {
        let mut lab = Lab::of(family);
        let (me, remote) = (at(family.inside(2), 5000), at(family.remote(1), 53));
        let outside = lab.map_udp(me, remote);
        lab.live(secs(300));
        assert_eq!(lab.call_udp(remote, outside), Ok(me));
        lab.live(secs(1));
        assert_eq!(lab.call_udp(remote, outside), Err(DropReason::NoMapping));
    }
    let mut config = V4.config();
    config.timeouts.udp = secs(119);
    assert!(matches!(
        NatEngine::new(config.clone()).err(),
        Some(ConfigError::Timeout {
            name: "udp",
            least: 120,
            ..
        })
    ));
    config.timeouts.udp = secs(120);
    assert!(NatEngine::new(config).is_ok());
}

#[test]
fn rfc4787_req5a_only_well_known_ports_may_have_a_shorter_time() {
    for family in BOTH {
        let mut lab = Lab::with(family, |c| {
            c.udp_short_ports = vec![53];
            c.timeouts.udp_short = secs(10);
        });
        let me = at(family.inside(2), 5000);
        lab.map_udp(me, at(family.remote(1), 53));
        lab.map_udp(me, at(family.remote(1), 54));
        lab.live(secs(11));
        let left: Vec<_> = lab.engine().sessions().map(|s| s.remote.port).collect();
        assert_eq!(left, [54]);
    }
    let mut config = V4.config();
    config.udp_short_ports = vec![53, 1024];
    assert_eq!(
        NatEngine::new(config).err(),
        Some(ConfigError::ShortPort(1024))
    );
}

#[test]
fn rfc4787_req6_outbound_refreshes_and_inbound_only_by_option() {
    for family in BOTH {
        for inbound_refresh in [false, true] {
            let mut lab = Lab::with(family, |c| c.inbound_refresh = inbound_refresh);
            let (me, remote) = (at(family.inside(2), 5000), at(family.remote(1), 53));
            let outside = lab.map_udp(me, remote);
            for _ in 0..5 {
                lab.live(secs(299));
                assert_eq!(lab.map_udp(me, remote), outside, "what leaves refreshes");
            }
            lab.live(secs(299));
            assert_eq!(lab.call_udp(remote, outside), Ok(me));
            lab.live(secs(2));
            let expected = if inbound_refresh {
                Ok(me)
            } else {
                Err(DropReason::NoMapping)
            };
            assert_eq!(lab.call_udp(remote, outside), expected);
        }
    }
}

#[test]
fn what_expires_is_dead_at_once_even_if_nobody_calls_expire() {
    for family in BOTH {
        let mut lab = Lab::of(family);
        let (me, remote) = (at(family.inside(2), 5000), at(family.remote(1), 53));
        let outside = lab.map_udp(me, remote);
        lab.wait(secs(301));
        assert_eq!(lab.call_udp(remote, outside), Err(DropReason::NoMapping));
        assert_eq!(lab.engine().sessions().count(), 0);
        // Nor does it open the door to others.
        let mut lab = Lab::with(family, |c| {
            c.udp.filtering = Dependence::EndpointIndependent;
            c.timeouts.port_hold = secs(0);
        });
        let outside = lab.map_udp(me, remote);
        lab.wait(secs(301));
        let stranger = at(family.remote(2), 53);
        assert_eq!(lab.call_udp(stranger, outside), Err(DropReason::NoMapping));
    }
}

#[test]
fn rfc7857_section2_opening_and_closing_have_times_of_their_own() {
    for family in BOTH {
        let mut lab = Lab::with(family, |c| {
            c.timeouts.tcp_opening = secs(250);
            c.timeouts.tcp_closing = secs(400);
        });
        let remote = at(family.remote(1), 80);
        let [opening, established, closing] = [1, 2, 3].map(|n| at(family.inside(2), n));
        lab.out(tcp(opening, remote, &segment(SYN, 1, 0))).sent();
        connect(&mut lab, established, remote);
        let outside = connect(&mut lab, closing, remote);
        lab.out(tcp(closing, remote, &segment(FIN | ACK, 1000, 5000)))
            .sent();
        lab.inn(tcp(remote, outside, &segment(FIN | ACK, 5000, 1001)))
            .sent();
        lab.out(tcp(closing, remote, &segment(ACK, 1001, 5001)))
            .sent();
        let left = |lab: &Lab| {
            [opening, established, closing].map(|me| lab.session(6, me, remote).is_some())
        };
        let expires = |lab: &Lab, me| lab.session(6, me, remote).unwrap().expires_in;
        assert_eq!(expires(&lab, opening), secs(250));
        assert_eq!(expires(&lab, established), secs(7440));
        assert_eq!(expires(&lab, closing), secs(400));
        lab.live(secs(251));
        assert_eq!(left(&lab), [false, true, true]);
        lab.live(secs(150));
        assert_eq!(left(&lab), [false, true, false]);
        lab.live(secs(7039));
        assert_eq!(left(&lab), [false, true, false]);
        lab.live(secs(1));
        assert_eq!(left(&lab), [false, false, false]);
    }
}

#[test]
fn rfc7857_section2_2_a_reset_is_translated_checked_and_held_and_data_revives() {
    for family in BOTH {
        let mut lab = Lab::of(family);
        let (me, remote) = (at(family.inside(2), 5000), at(family.remote(1), 80));
        let outside = connect(&mut lab, me, remote);
        let expires = |lab: &Lab| lab.session(6, me, remote).map(|s| s.expires_in);
        // One that does not belong, by its number, changes nothing.
        let _ = lab.inn(tcp(remote, outside, &segment(RST, 0x7000_0000, 0)));
        assert_eq!(expires(&lab), Some(secs(7440)));
        assert_eq!(
            lab.session(6, me, remote).unwrap().tcp,
            Some(TcpState::Established)
        );
        // Nor does one from elsewhere.
        assert!(
            !lab.inn(tcp(
                at(family.remote(2), 80),
                outside,
                &segment(RST, 5000, 0)
            ))
            .is_sent()
        );
        assert_eq!(expires(&lab), Some(secs(7440)));
        // One that belongs is translated; the session is held for four minutes.
        let seen = lab.inn(tcp(remote, outside, &segment(RST, 5000, 0))).sent();
        assert_eq!((seen.dst(), seen.flags()), (me, RST));
        assert_eq!(expires(&lab), Some(secs(240)));
        // Sent again, from either side, it does not prolong its life.
        lab.live(secs(100));
        let _ = lab.out(tcp(me, remote, &segment(RST, 1000, 0)));
        let _ = lab.inn(tcp(remote, outside, &segment(RST, 5000, 0)));
        assert_eq!(expires(&lab), Some(secs(140)));
        // Data from both ends: the reset was not theirs.
        let data = Tcp {
            data: b"alive",
            ..segment(ACK, 1000, 5000)
        };
        assert_eq!(lab.out(tcp(me, remote, &data)).sent().src(), outside);
        let data = Tcp {
            data: b"me too",
            ..segment(ACK, 5000, 1005)
        };
        lab.inn(tcp(remote, outside, &data)).sent();
        assert_eq!(expires(&lab), Some(secs(7440)));
        // And the end, without data.
        lab.inn(tcp(remote, outside, &segment(RST, 5006, 0))).sent();
        lab.live(secs(240));
        assert!(expires(&lab).is_some());
        lab.live(secs(1));
        assert!(expires(&lab).is_none());
    }
}

#[test]
fn rfc7857_section7_1_an_outbound_reset_refreshes_nothing() {
    for family in BOTH {
        let mut lab = Lab::of(family);
        let (me, remote) = (at(family.inside(2), 5000), at(family.remote(1), 80));
        lab.out(tcp(me, remote, &segment(SYN, 1, 0))).sent();
        for _ in 0..4 {
            lab.live(secs(60));
            let _ = lab.out(tcp(me, remote, &segment(RST, 2, 0)));
        }
        lab.live(secs(1));
        assert!(lab.session(6, me, remote).is_none());
    }
}

#[test]
fn every_time_is_configurable_and_kept_to_the_second() {
    let family = V4;
    let times = Timeouts {
        udp: secs(5),
        udp_short: secs(2),
        tcp_opening: secs(3),
        tcp_established: secs(9),
        tcp_closing: secs(4),
        icmp: secs(6),
        other: secs(7),
        below_minimum: true,
        ..Timeouts::default()
    };
    let mut lab = Lab::with(family, |c| {
        c.timeouts = times;
        c.udp_short_ports = vec![53];
    });
    let remote = family.remote(1);
    let me = |n| at(family.inside(2), n);
    lab.map_udp(me(1), at(remote, 99));
    lab.map_udp(me(2), at(remote, 53));
    lab.out(tcp(me(3), at(remote, 80), &segment(SYN, 1, 0)))
        .sent();
    connect(&mut lab, me(4), at(remote, 80));
    let outside = connect(&mut lab, me(5), at(remote, 80));
    lab.inn(tcp(at(remote, 80), outside, &segment(RST, 5000, 0)))
        .sent();
    lab.out(echo(family.inside(2), remote, ECHO, 6, 1)).sent();
    lab.out(raw(family.inside(2), remote, 47, &[0; 8])).sent();
    let mut left = Vec::new();
    for _ in 0..10 {
        left.push(lab.engine().sessions().count());
        lab.live(secs(1));
    }
    // Gone after 2 (short UDP), 3, 4, 5, 6, 7 and 9 seconds, each in the second that follows.
    assert_eq!(left, [7, 7, 7, 6, 5, 4, 3, 2, 1, 1]);
    assert_eq!(lab.engine().sessions().count(), 0);
}

/// Sleeping until the next deadline, over and over, ends everything and never spins.
fn sleeper(family: Family, budget: usize) {
    let mut lab = Lab::with(family, |c| c.timeouts.unsolicited_syn = secs(7));
    for n in 0..500 {
        let me = at(family.inside(2 + n % 7), 1000 + n);
        lab.map_udp(me, at(family.remote(1), 53));
        lab.out(tcp(me, at(family.remote(2), 80), &segment(SYN, 1, 0)))
            .sent();
        lab.wait(Duration::from_millis(730));
    }
    let called = at(family.outside(1), 81);
    let done = lab.inn(tcp(at(family.remote(1), 80), called, &segment(SYN, 1, 0)));
    assert_eq!(done.dropped(), DropReason::Unsolicited);
    let mut calls = 0;
    while let Some(due) = lab.engine().next_deadline() {
        if due > lab.now() {
            lab.wait(due - lab.now());
        } else {
            // Late by at most a tick: what is due in this second is over in the next.
            lab.wait(Duration::from_millis(500));
        }
        let now = lab.now();
        lab.both(|engine| engine.expire_some(now, budget));
        calls += 1;
        assert!(calls < 5000, "it spins at {now:?}, due {due:?}");
    }
    let usage = lab.engine().usage();
    assert_eq!((usage.sessions, usage.mappings, usage.hosts), (0, 0, 0));
    assert_eq!(lab.outputs().len(), 1, "the SYN was answered");
    assert_eq!(
        lab.engine().counters().opened,
        lab.engine().counters().closed
    );
}

#[test]
fn sleeping_until_the_next_deadline_is_enough() {
    for family in BOTH {
        sleeper(family, usize::MAX);
        sleeper(family, 64);
    }
}

#[test]
fn expire_some_looks_at_no_more_than_it_may() {
    for family in BOTH {
        let mut lab = Lab::of(family);
        for n in 0..1000 {
            lab.map_udp(at(family.inside(2), 1000 + n), at(family.remote(1), 53));
        }
        lab.wait(secs(400));
        let now = lab.now();
        let mut calls = 0;
        loop {
            let looked = lab.both(|engine| engine.expire_some(now, 10));
            assert!(looked <= 10);
            calls += 1;
            if looked < 10 {
                break;
            }
        }
        assert!(
            (100..=500).contains(&calls),
            "{calls} calls for 1,000 sessions"
        );
        assert_eq!(lab.engine().usage().sessions, 0);
        lab.wait(secs(121));
        let looked = lab.expire();
        assert!(
            (1000..5000).contains(&looked),
            "{looked} records for 1,000 mappings"
        );
        assert_eq!(lab.engine().usage().mappings, 0);
    }
}

#[test]
fn the_tables_empty_as_fast_as_they_fill_though_nobody_calls_expire() {
    // 50 new flows a second of 5 s and 2 s of rest: 350 mappings at a time, room for 500.
    for family in BOTH {
        let mut lab = Lab::with(family, |c| {
            c.timeouts.below_minimum = true;
            c.timeouts.udp = secs(5);
            c.timeouts.port_hold = secs(2);
            c.limits.sessions = 500;
        });
        for n in 0..50_000u32 {
            let me = at(
                family.inside(2 + (n % 50) as u16),
                1024 + (n / 50 % 60_000) as u16,
            );
            let done = lab.out(udp(me, at(family.remote((n % 251) as u16), 53), b"x"));
            assert!(
                done.is_sent(),
                "flow {n}: {:?}, {:?}",
                done.verdict,
                lab.engine().usage()
            );
            lab.wait(Duration::from_millis(20));
        }
    }
}

#[test]
fn a_clock_that_steps_back_ends_nothing_and_keeps_nothing_for_ever() {
    for family in BOTH {
        let mut lab = Lab::of(family);
        let (me, remote) = (at(family.inside(2), 5000), at(family.remote(1), 53));
        let outside = lab.map_udp(me, remote);
        let mut packet = udp(me, remote, b"x");
        let copy = packet.clone();
        let verdict = lab.both(|engine| {
            packet.clone_from(&copy);
            engine.translate(&mut packet, Direction::Outbound, Duration::ZERO)
        });
        assert_eq!(verdict, Verdict::Translated(Side::Outside));
        assert_eq!(lab.call_udp(remote, outside), Ok(me));
        lab.live(secs(301));
        assert_eq!(lab.engine().usage().sessions, 0);
    }
}

#[test]
fn the_end_of_time_is_survived() {
    for family in BOTH {
        let mut lab = Lab::of(family);
        let (me, remote) = (at(family.inside(2), 5000), at(family.remote(1), 53));
        lab.map_udp(me, remote);
        for seconds in [u64::from(u32::MAX) - 1, u64::from(u32::MAX), u64::MAX] {
            lab.both(|engine| engine.expire(secs(seconds)));
            let mut packet = udp(me, remote, b"x");
            let copy = packet.clone();
            let verdict = lab.both(|engine| {
                packet.clone_from(&copy);
                engine.translate(&mut packet, Direction::Outbound, secs(seconds))
            });
            assert_eq!(verdict, Verdict::Translated(Side::Outside));
        }
    }
}

#[test]
fn rfc6888_req10_observers_see_every_session_come_and_go_and_nothing_else() {
    for family in BOTH {
        let mut lab = Lab::with(family, |c| {
            c.limits.sessions_per_host = 10;
            c.udp.mapping = Dependence::AddressDependent;
        });
        let log = Arc::new(Mutex::new(Vec::new()));
        lab.both(|engine| {
            let log = Arc::clone(&log);
            log.lock().unwrap().clear();
            engine.observe(move |event| log.lock().unwrap().push(*event));
        });
        // Only the second engine writes now... both share one log: each event stands there twice.
        let me = at(family.inside(2), 5000);
        for n in 0..12 {
            let remote = at(family.remote(n), 53);
            for _ in 0..100 {
                let _ = lab.out(udp(me, remote, b"x"));
            }
        }
        lab.live(secs(301));
        let log = log.lock().unwrap();
        let count = |what: fn(&Event) -> bool| log.iter().filter(|e| what(e)).count() / 2;
        assert_eq!(count(|e| matches!(e, Event::Opened(_))), 10);
        assert_eq!(count(|e| matches!(e, Event::Closed(_))), 10);
        assert_eq!(
            count(|e| matches!(
                e,
                Event::Refused {
                    reason: DropReason::Quota,
                    ..
                }
            )),
            200,
            "one for each packet that found no room"
        );
        assert_eq!(
            log.len(),
            2 * 220,
            "a packet of an open session is no event"
        );
        let opened = log.iter().find_map(|e| match e {
            Event::Opened(view) => Some(*view),
            _ => None,
        });
        let view = opened.unwrap();
        assert_eq!((view.inside.addr, view.inside.port), (me.ip(), me.port()));
        assert_eq!(view.outside.addr, family.outside(1));
        assert_eq!(view.remote.addr, family.remote(0));
        assert_eq!((view.protocol, view.opened_by), (17, Direction::Outbound));
        assert_eq!((view.expires_in, view.tcp), (secs(300), None));
    }
}
