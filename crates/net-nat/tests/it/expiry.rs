//! Who ends what is over, and when; and who hears of it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use net_nat::config::Dependence;
use net_nat::{Direction, DropReason, Event, Side, Verdict};

use crate::lab::{BOTH, Family, Lab, SYN, at, secs, tcp, udp};
use crate::timers::segment;

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
            engine.observe(move |event| log.lock().unwrap().push(*event));
        });
        // Both engines write to it: each event stands there twice.
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
