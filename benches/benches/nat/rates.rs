//! Sessions opened, ended, saved and restored per second.

use std::cell::RefCell;
use std::hint::black_box;
use std::time::Duration;

use net_benches::harness::{Options, Unit, alone, contender, table};
use net_benches::traffic::{Feed, Flow, Kind, SYN, hosts, order};
use net_nat::Direction;

use crate::buffers::{BATCH, Buffers};
use crate::engines::{Call, Ours, Peer, Translator};
use crate::ladder::{in_order, shuffled};

const SESSIONS: usize = 1_032_192;
/// Sessions that come and go while the others stay.
const SOME: usize = 1 << 17;

pub(crate) fn all(options: &Options) {
    for sessions in crate::flows(options, &[SESSIONS]) {
        from_nothing(options, sessions);
        among_many(options, sessions);
        saved(options, sessions);
    }
}

/// An empty table becomes full; the system hands out its memory meanwhile.
fn from_nothing(options: &Options, sessions: usize) {
    let feed = shuffled::<14>(Kind::Udp, sessions, Flow::number);
    let syns = shuffled::<14>(Kind::Tcp(SYN, 1000, 0), sessions, Flow::number);
    let mut buffers = [Buffers::new(), Buffers::new(), Buffers::new()];
    let [for_ours, for_tcp, for_peer] = &mut buffers;
    let how = (Call::Batch, Direction::Outbound, Duration::ZERO);
    // Whole batches: a smaller number is rounded down.
    let count = sessions / BATCH * BATCH;
    table(
        &format!("sessions opened per second, from 0 to {sessions}"),
        Unit::Millions,
        count as u64,
        options.rounds.min(3),
        vec![
            contender("net-nat, batches", || {
                let mut engine = Ours::new(sessions, |_| {});
                alone(|| engine.run(how, &mut feed.clone(), for_ours, count))
            }),
            contender("net-nat, TCP, batches", || {
                let mut engine = Ours::new(sessions, |_| {});
                alone(|| engine.run(how, &mut syns.clone(), for_tcp, count))
            }),
            contender("arcbox-conntrack", || {
                let mut engine = Peer::new();
                alone(|| engine.run(how, &mut feed.clone(), for_peer, count))
            }),
        ],
    );
}

/// New sessions among a million, which end while the others stay.
fn among_many(options: &Options, sessions: usize) {
    let mut engine = Ours::new(sessions + SOME, |config| {
        config.timeouts.port_hold = Duration::ZERO;
        config.timeouts.udp_short = Duration::from_secs(1);
        config.udp_short_ports = vec![53];
    });
    engine.open(
        Kind::Udp,
        &mut in_order::<14>(Kind::Udp, sessions),
        sessions,
    );
    let engine = RefCell::new(engine);
    let mut arcbox = Peer::new();
    arcbox.open(&mut in_order(Kind::Udp, sessions), sessions);

    let hosts = hosts(sessions);
    let new = |i| Flow {
        dst_port: 53,
        ..Flow::new(i, hosts)
    };
    let feed = Feed::<14>::new(Kind::Udp, SOME, order::uniform(SOME).map(new));
    let how = (Call::Batch, Direction::Outbound, Duration::ZERO);
    let open = |engine: &mut Ours| {
        let mut buffers = Buffers::new();
        alone(|| engine.run(how, &mut feed.clone(), &mut buffers, SOME))
    };
    let end = |engine: &mut Ours| {
        engine.now += Duration::from_secs(3);
        let before = engine.engine.usage().sessions;
        let time = alone(|| {
            engine.engine.expire(engine.now);
        });
        assert_eq!(before - engine.engine.usage().sessions, SOME);
        time
    };
    let mut for_peer = Buffers::new();
    let keys: Vec<_> = (0..SOME).map(new).map(key).collect();
    let title = format!("sessions per second, {SOME} that come and go among {sessions}");
    table(
        &title,
        Unit::Millions,
        SOME as u64,
        options.rounds,
        vec![
            contender("net-nat, open in batches", || {
                let engine = &mut *engine.borrow_mut();
                let time = open(engine);
                end(engine);
                time
            }),
            contender("net-nat, expire", || {
                let engine = &mut *engine.borrow_mut();
                open(engine);
                end(engine)
            }),
            contender("arcbox-conntrack, open", || {
                let time = alone(|| arcbox.run(how, &mut feed.clone(), &mut for_peer, SOME));
                for key in &keys {
                    arcbox.0.conntrack_mut().remove(key);
                }
                time
            }),
        ],
    );
}

/// All sessions to bytes, and back into an engine that has none.
fn saved(options: &Options, sessions: usize) {
    let mut engine = Ours::new(sessions, |_| {});
    let mut feed = in_order::<14>(Kind::Udp, sessions);
    engine.each(Direction::Outbound, &mut feed, sessions, |_| {});
    let bytes = engine.engine.snapshot();
    let title = format!(
        "sessions saved and restored per second, {sessions} of them in {} bytes each",
        bytes.len() / sessions
    );
    table(
        &title,
        Unit::Millions,
        sessions as u64,
        options.rounds.min(3),
        vec![
            contender("net-nat, snapshot", || {
                let engine = &mut engine.engine;
                alone(move || drop(black_box(engine.snapshot())))
            }),
            contender("net-nat, restore", || {
                let mut fresh = Ours::new(sessions, |_| {});
                let time = alone(|| {
                    let restored = fresh.engine.restore(&bytes, fresh.now);
                    assert!(restored.is_ok());
                });
                assert_eq!(fresh.engine.usage().sessions, sessions);
                time
            }),
        ],
    );
}

/// What the peer knows a flow by.
fn key(flow: Flow) -> arcbox_conntrack::ConnTrackKey {
    arcbox_conntrack::ConnTrackKey::new(
        flow.src.into(),
        flow.dst.into(),
        flow.src_port,
        flow.dst_port,
        17,
    )
}
