//! One frame at a time, from the moment its sender shows it until its receiver sees it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use net_benches::harness::together;

use crate::guest::Guest;
use crate::path::Path;

/// Sends `frames` frames, each when the one before it has arrived, and prints how long they took. The
/// devices and the switch poll on one core, both drivers on the other.
pub(crate) fn polled(path: &mut Path, from: &mut Guest, to: &mut Guest, frames: usize) {
    let done = AtomicBool::new(false);
    let mut times = Vec::with_capacity(frames);
    together(
        || {
            while !done.load(Ordering::Relaxed) {
                path.turn(64);
            }
        },
        || {
            for _ in 0..frames {
                let start = Instant::now();
                from.offer(1, 1);
                while to.given_back(0) == 0 {
                    std::hint::spin_loop();
                }
                times.push(start.elapsed());
                to.offer(0, 1);
                while from.given_back(1) < crate::guest::RING {
                    std::hint::spin_loop();
                }
            }
            done.store(true, Ordering::Relaxed);
        },
    );
    times.sort_unstable();
    let at = |share: f64| {
        let place = (share * (times.len() - 1) as f64) as usize;
        times
            .get(place)
            .copied()
            .unwrap_or(Duration::ZERO)
            .as_nanos()
    };
    println!("\nlatency: one way, {frames} single frames of 64 bytes, polled on both cores");
    println!(
        "  {:<10} {:>8} {:>8} {:>8} {:>10}",
        "ns", "p50", "p99", "p99.9", "max"
    );
    println!(
        "  {:<10} {:>8} {:>8} {:>8} {:>10}",
        "",
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0)
    );
}
