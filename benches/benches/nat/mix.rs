//! New flows among known ones, while others end.

use std::cell::RefCell;
use std::time::Duration;

use net_benches::harness::{Contender, Options, contender};
use net_benches::traffic::{Flow, Kind, Mix, hosts};
use net_nat::{Direction, NatConfig};

use crate::buffers::{BATCH, Buffers};
use crate::contend::{PEER, fill, line, packets, timed};
use crate::engines::{Call, Ours, Peer, STEP};
use crate::ladder::{in_order, shuffled};

/// Known flows.
const FLOWS: [usize; 4] = [256, 4_096, 64_512, 1_032_192];
/// How long a session lives without packets. Each known flow comes up four times in this.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Sessions end soon, and their ports are free at once.
pub(crate) fn short_lived(config: &mut NatConfig) {
    config.timeouts.udp = TIMEOUT;
    config.timeouts.port_hold = Duration::ZERO;
}

/// An engine that knows so many flows, and has room for twice as many.
pub(crate) fn with_room(flows: usize) -> Ours {
    let mut engine = Ours::new(2 * flows, short_lived);
    engine.open(Kind::Udp, &mut in_order::<14>(Kind::Udp, flows), flows);
    engine
}

/// Known flows in random order, and each `every`-th packet of a new one.
pub(crate) fn traffic(flows: usize, every: usize) -> Mix {
    let known = shuffled(Kind::Udp, flows, Flow::number);
    Mix::new(known, every, hosts(flows))
}

/// The time between two batches by which known flows come up four times in [`TIMEOUT`].
pub(crate) fn step(flows: usize) -> Duration {
    TIMEOUT / 4 * BATCH as u32 / flows as u32
}

/// As many records a batch are looked at as packets were translated: more than become due.
fn with_expiry<'a>(
    name: &'static str,
    engine: &'a RefCell<Ours>,
    flows: usize,
    call: Call,
    source: &'a RefCell<Mix>,
) -> Contender<'a> {
    use crate::engines::Translator;
    let mut buffers = Buffers::new();
    contender(name, move || {
        let engine = &mut *engine.borrow_mut();
        let source = &mut *source.borrow_mut();
        let how = (call, Direction::Outbound, step(flows));
        timed(flows, 1, |n| {
            for _ in 0..n / BATCH {
                engine.run(how, source, &mut buffers, BATCH);
                engine.engine.expire_some(engine.now, BATCH);
            }
        })
    })
}

pub(crate) fn all(options: &Options) {
    for flows in crate::flows(options, &FLOWS) {
        let mut arcbox = Peer::new();
        arcbox.open(&mut in_order(Kind::Udp, flows), flows);
        let (engine, arcbox) = (RefCell::new(with_room(flows)), RefCell::new(arcbox));
        let (mix, call) = (traffic(flows, 10), Call::Single);
        let source = RefCell::new(mix.clone());
        packets(
            &format!("UDP outbound, {flows} flows and every tenth packet a new one, packets"),
            options,
            vec![
                with_expiry("net-nat, batches", &engine, flows, Call::Batch, &source),
                with_expiry("net-nat, single", &engine, flows, call, &source),
                // Its table grows instead: it has no time but the machine's.
                line(
                    PEER,
                    &arcbox,
                    flows,
                    (call, Direction::Outbound, STEP),
                    mix.clone(),
                ),
                fill(flows, mix.clone()),
            ],
        );
        let engine = engine.borrow();
        println!(
            "  {} sessions at the end, {} opened, {} ended",
            engine.engine.usage().sessions,
            engine.engine.counters().opened,
            engine.engine.counters().closed,
        );
    }
}
