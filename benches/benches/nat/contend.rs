//! Lines of the tables.

use std::cell::RefCell;
use std::hint::black_box;
use std::time::Duration;

use net_benches::harness::{Contender, Options, Unit, alone, contender, table};
use net_benches::traffic::Source;

use crate::buffers::{BATCH, Buffers};
use crate::engines::{How, Translator};

/// Packets of a turn.
const TURN: usize = 1 << 19;

/// The name of the peer's line.
pub(crate) const PEER: &str = "arcbox-conntrack";

/// The time `work` takes for the packets of a turn, if it takes so many times as long as for what it
/// is told to do. Before that it goes over some that do not count, and so finds in the caches what a
/// longer turn would leave there; with very many flows that is next to nothing.
pub(crate) fn timed(flows: usize, part: u32, mut work: impl FnMut(usize) + Send) -> Duration {
    let warmth = if flows <= 1 << 16 { 2 * flows } else { 1 << 14 };
    let warmth = warmth.next_multiple_of(2 * BATCH);
    alone(|| work(warmth));
    part * alone(|| work(TURN / part as usize))
}

/// Packets that all go one way.
pub(crate) fn line<'a, T: Translator, S: Source + Send + 'a>(
    name: &'static str,
    engine: &'a RefCell<T>,
    flows: usize,
    how: How,
    mut source: S,
) -> Contender<'a> {
    let mut buffers = Buffers::new();
    contender(name, move || {
        let engine = &mut *engine.borrow_mut();
        timed(flows, T::PART, |n| {
            engine.run(how, &mut source, &mut buffers, n);
        })
    })
}

/// What it takes to make the packets.
pub(crate) fn fill<'a, S: Source + Send + 'a>(flows: usize, mut source: S) -> Contender<'a> {
    let mut buffers = Buffers::new();
    contender("fill only", move || {
        timed(flows, 1, |n| {
            let mut packets = buffers.packets();
            for _ in 0..n / BATCH {
                source.fill::<0>(&mut packets);
                black_box(&mut packets);
            }
        })
    })
}

/// A table of packets per second.
pub(crate) fn packets(title: &str, options: &Options, contenders: Vec<Contender<'_>>) {
    let rounds = options.rounds;
    table(title, Unit::Millions, TURN as u64, rounds, contenders);
}
