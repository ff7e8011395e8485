//! How long single calls take.

use std::hint::black_box;
use std::time::{Duration, Instant};

use net_benches::harness::{Options, alone};
use net_benches::traffic::{Kind, Mix, Source};
use net_nat::Direction;

use crate::buffers::{BATCH, Buffers, ETHERNET};
use crate::engines::{Ours, Peer};
use crate::huge;
use crate::ladder::in_order;
use crate::mix::{step, traffic, with_room};

/// Calls that are timed.
const CALLS: usize = 1 << 20;
/// Every so many packets one is of a new flow.
const NEW: usize = 100;

pub(crate) fn all(options: &Options) {
    for flows in crate::flows(options, &[64_512]) {
        let source = traffic(flows, NEW);
        let clock = Clock::new();
        println!("\nsingle calls, {flows} known flows, 1 % new ones, {CALLS} calls");
        println!(
            "  {:<34} {:>8} {:>8} {:>8} {:>8} {:>8}",
            "ns", "p50", "p99", "p99.9", "p99.99", "max"
        );
        let nothing = distribution(&clock, source.clone(), |_, _| {});
        show("the clock alone", &nothing, false);
        let mut engine = in_memory(flows);
        let times = ours(&clock, flows, &mut engine, source.clone(), 0);
        show("net-nat, expiry between the calls", &times, true);
        let mut engine = in_memory(flows);
        let times = ours(&clock, flows, &mut engine, source.clone(), 1);
        show("net-nat, each call expires", &times, true);
        let mut engine = Peer::new();
        engine.open(&mut in_order(Kind::Udp, flows), flows);
        let direction = arcbox_conntrack::NatDirection::Outbound;
        let times = distribution(&clock, source, |frame, _| {
            let _ = black_box(engine.0.translate(frame, direction));
        });
        show("arcbox-conntrack, nothing expires", &times, true);
    }
}

/// An engine none of whose calls has to wait for a large page.
fn in_memory(flows: usize) -> Ours {
    let mut engine = with_room(flows);
    huge::populate(&mut engine.engine);
    engine
}

/// Times each call of `translate`; `budget` records expire in the same time, or else 64 after 64
/// calls and outside of it.
fn ours(clock: &Clock, flows: usize, engine: &mut Ours, source: Mix, budget: usize) -> Times {
    let step = step(flows) / BATCH as u32;
    let before = engine.refused();
    let times = distribution(clock, source, |frame, end| {
        if end {
            if budget == 0 {
                engine.engine.expire_some(engine.now, BATCH);
            }
            return;
        }
        engine.now += step;
        let packet = &mut frame[ETHERNET..];
        let verdict = engine
            .engine
            .translate(packet, Direction::Outbound, engine.now);
        let _ = black_box(verdict);
        if budget > 0 {
            black_box(engine.engine.expire_some(engine.now, budget));
        }
    });
    assert_eq!(engine.refused(), before, "every packet is translated");
    times
}

/// Nanoseconds of calls, sorted.
struct Times {
    all: Vec<f64>,
    /// Of these, the calls with the first packet of a flow.
    new: Vec<f64>,
}

/// The times of [`CALLS`] calls. `call` is called with each frame, and at the end of each batch with
/// none, which is not timed.
fn distribution(
    clock: &Clock,
    mut source: Mix,
    mut call: impl FnMut(&mut [u8], bool) + Send,
) -> Times {
    let mut ticks = Vec::with_capacity(CALLS);
    let mut calls = 0;
    alone(|| {
        let mut buffers = Buffers::new();
        let mut frames = buffers.frames();
        // As many again before them, to get to a steady state.
        for round in 0..2 * CALLS / BATCH {
            source.fill::<ETHERNET>(&mut frames);
            for frame in &mut frames {
                let start = clock.now();
                call(frame, false);
                let end = clock.now();
                calls += 1;
                if round >= CALLS / BATCH {
                    ticks.push((end.wrapping_sub(start), calls % NEW == 0));
                }
            }
            call(&mut [], true);
        }
    });
    let sorted = |wanted: fn(bool) -> bool| {
        let ticks = ticks.iter().filter(|&&(_, new)| wanted(new));
        let mut times: Vec<_> = ticks.map(|&(t, _)| clock.nanoseconds(t)).collect();
        times.sort_by(f64::total_cmp);
        times
    };
    Times {
        all: sorted(|_| true),
        new: sorted(|new| new),
    }
}

/// A line for all calls, and one for those of new flows if they are something else.
fn show(name: &str, times: &Times, new: bool) {
    percentiles(name, &times.all);
    if new {
        percentiles("  of these, new flows", &times.new);
    }
}

fn percentiles(name: &str, times: &[f64]) {
    print!("  {name:<34}");
    for share in [0.5, 0.99, 0.999, 0.9999, 1.0] {
        let at = (times.len() as f64 * share) as usize;
        print!(" {:>8.0}", times[at.min(times.len() - 1)]);
    }
    println!();
}

/// A clock that costs little: the counter of the processor, where there is one.
struct Clock {
    per_nanosecond: f64,
    start: Instant,
}

impl Clock {
    fn new() -> Self {
        let mut clock = Self {
            per_nanosecond: 1.0,
            start: Instant::now(),
        };
        let (start, ticks) = (Instant::now(), clock.now());
        while start.elapsed() < Duration::from_millis(50) {}
        let ticks = clock.now().wrapping_sub(ticks);
        clock.per_nanosecond = ticks as f64 / start.elapsed().as_nanos() as f64;
        clock
    }

    fn nanoseconds(&self, ticks: u64) -> f64 {
        ticks as f64 / self.per_nanosecond
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn now(&self) -> u64 {
        let _ = self.start;
        // SAFETY: every x86-64 processor has both instructions. The fences keep what is timed
        // between the two readings.
        unsafe {
            core::arch::x86_64::_mm_lfence();
            let ticks = core::arch::x86_64::_rdtsc();
            core::arch::x86_64::_mm_lfence();
            ticks
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    #[inline(always)]
    fn now(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }
}
