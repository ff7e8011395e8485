//! One frame at a time, from the moment its sender shows it until its receiver sees it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use net_benches::harness::together;

use crate::guest::{Guest, RING};
use crate::path::Path;

/// Most frames that the devices take at a time.
const BUDGET: usize = 64;

/// Prints how long single frames take. The devices and the switch are on one core, both drivers on the
/// other.
pub(crate) fn run() {
    println!("\nlatency: one way, single frames of 64 bytes");
    println!(
        "  {:<34} {:>8} {:>8} {:>8} {:>10}",
        "ns", "p50", "p99", "p99.9", "max"
    );
    show("polled on both cores", polled(1 << 20));
    show("asleep on both cores", asleep(1 << 15));
}

pub(crate) fn show(name: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |share: f64| {
        let place = (share * (times.len() - 1) as f64) as usize;
        times.get(place).map_or(0, Duration::as_nanos)
    };
    println!(
        "  {:<34} {:>8} {:>8} {:>8} {:>10}",
        name,
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0)
    );
}

fn guests() -> (Guest, Guest) {
    let buffers = RING.into();
    (Guest::new(64, buffers, 1), Guest::new(64, buffers, 2))
}

/// Sends each frame when the one before it has arrived.
fn polled(frames: usize) -> Vec<Duration> {
    let (mut from, mut to) = guests();
    let mut path = Path::with_switch(&from, &to);
    let done = AtomicBool::new(false);
    let mut times = Vec::with_capacity(frames);
    together(
        || {
            while !done.load(Ordering::Relaxed) {
                path.turn(BUDGET);
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
            }
            done.store(true, Ordering::Relaxed);
        },
    );
    times
}

/// The same where the switch sleeps until it is told of a frame, and the receiver until it is
/// interrupted. Both wake by a futex, without the event descriptors of a VMM around it.
fn asleep(frames: usize) -> Vec<Duration> {
    let (mut from, mut to) = guests();
    let (switch, drivers) = (
        OnceLock::<Thread>::new(),
        Arc::new(OnceLock::<Thread>::new()),
    );
    let driver = Arc::clone(&drivers);
    let wake = move || {
        if let Some(thread) = driver.get() {
            thread.unpark();
        }
    };
    let mut path = Path::between(from.device(), to.device_that_wakes(wake));
    let done = AtomicBool::new(false);
    let mut times = Vec::with_capacity(frames);
    together(
        || {
            switch.get_or_init(thread::current);
            while !done.load(Ordering::Relaxed) {
                // It has looked again after asking to be told.
                if path.turn(BUDGET) == 0 {
                    thread::park();
                }
            }
        },
        || {
            drivers.get_or_init(thread::current);
            let switch = switch.wait();
            for _ in 0..frames {
                let start = Instant::now();
                from.offer(1, 1);
                if from.wants_kick(1) {
                    switch.unpark();
                }
                while to.given_back(0) == 0 {
                    thread::park();
                }
                times.push(start.elapsed());
                to.offer(0, 1);
                // The switch is to be asleep when the next frame comes.
                thread::sleep(Duration::from_micros(50));
            }
            done.store(true, Ordering::Relaxed);
            switch.unpark();
        },
    );
    times
}
