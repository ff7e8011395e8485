//! `cargo xtask bench switch`: from one guest's memory into another's.
//!
//! Two guests with split rings, each in memory of its own; their drivers do no more than a driver
//! must. The rows of a section:
//!
//! - a `memcpy` of the same bytes between the same buffers on one core, which is the limit;
//! - the rings and one copy, without a switch: the two drivers' work, taking, and delivering;
//! - the whole way on one core: the drivers' work, take, decide by address, deliver;
//! - of that, the devices and the switch alone: the clock stands still while a driver works. This is
//!   the cost of the copying core where guests have cores of their own;
//! - both drivers on the other core, which do nothing but keep the rings full: a front-end that floods,
//!   with each line of a ring and of a buffer's descriptor coming from another core's cache;
//! - two workers: the whole way on both cores at once, with two guests each.
//!
//! *Warm* has all payload of a direction in 384 KiB, *cold* in 64 MiB. The rings are those of the
//! vhost-user back end, which serves the same `VirtioNet` over the same queues; only the messages that
//! set it up are missing.
//!
//! `headers-64` is devices and switch alone, where a header is in front of its frame, in a descriptor of its
//! own, or in an indirect table with its frame.
//!
//! `network-64` has a whole network between the two guests, with the worker on a core of its own, as far
//! as it polls its guests or sleeps; in `network-send-64` nobody receives, and the sender has the other
//! core for itself. `latency` is the time of a single frame, from its sender's index to
//! its receiver's, where everybody polls and where everybody sleeps: through devices and switch alone,
//! and through a network.

mod guest;
mod headers;
mod latency;
#[cfg(target_os = "linux")]
mod network;
mod path;
mod ring;

use std::time::Duration;

use net_benches::harness::{Options, Unit, contender, table, together};

use self::guest::Guest;
use self::path::{Path, memcpy};

/// Bytes moved in one turn of a contender, and the most frames.
const BYTES: usize = 256 << 20;
const FRAMES: usize = 1 << 20;

fn main() {
    let options = Options::with_rounds(9);
    for (name, bytes) in [("warm", 384 << 10), ("cold", 64 << 20)] {
        for len in [64, 1500, 9000, 65_550] {
            let section = format!("{name}-{len}");
            if options.wants(&section) {
                run(&section, len, bytes, options.rounds);
            }
        }
    }
    if options.wants("headers-64") {
        headers::run(options.rounds);
    }
    #[cfg(target_os = "linux")]
    if options.wants("network-64") {
        network::flood(options.rounds);
    }
    #[cfg(target_os = "linux")]
    if options.wants("network-send-64") {
        network::send(options.rounds);
    }
    if options.wants("latency") {
        latency::run();
        #[cfg(target_os = "linux")]
        network::latency();
    }
}

/// Two guests and the way between them.
struct Pair {
    from: Guest,
    to: Guest,
    path: Path,
}

impl Pair {
    fn new(len: usize, buffers: usize, way: fn(&Guest, &Guest) -> Path) -> Self {
        let (from, to) = (Guest::new(len, buffers, 1), Guest::new(len, buffers, 2));
        let path = way(&from, &to);
        Self { from, to, path }
    }

    fn carry(&mut self, frames: usize) -> (Duration, Duration) {
        self.path.carry(&mut self.from, &mut self.to, frames)
    }

    fn serve(&mut self, frames: usize) -> Duration {
        let time = self.path.serve(&mut self.from, &mut self.to, frames);
        self.path.drain(&mut self.to);
        time
    }

    fn carry_here(&mut self, frames: usize) {
        let mut devices = Duration::ZERO;
        self.path
            .carry_here(&mut self.from, &mut self.to, frames, &mut devices);
    }
}

fn run(section: &str, len: usize, working_set: usize, rounds: usize) {
    let frames = (BYTES / len).min(FRAMES);
    // Two directions' payload: one to read, one to write.
    let buffers = (working_set / 2 / len).max(1);
    let pair = |way| Pair::new(len, buffers, way);
    let mut bare = pair(Path::without_switch);
    let [mut whole, mut timed, mut far, mut one, mut two] =
        [(); 5].map(|()| pair(Path::with_switch));
    let limit = Guest::new(len, buffers, 1);
    let contenders = vec![
        contender("memcpy", || memcpy(&limit, frames)),
        contender("rings and one copy", || bare.carry(frames).0),
        contender("switch", || whole.carry(frames).0),
        contender("of that, devices and switch", || timed.carry(frames).1),
        contender("switch, drivers on another core", || far.serve(frames)),
        contender("switch, two workers", || {
            together(|| one.carry_here(frames / 2), || two.carry_here(frames / 2))
        }),
    ];
    let title = format!("{section}: {len}-byte frames, {buffers} buffers a guest");
    // 64-byte frames count by number, the others by payload.
    if len == 64 {
        table(&title, Unit::Millions, frames as u64, rounds, contenders);
    } else {
        let bits = (frames * len * 8) as u64;
        table(&title, Unit::Gigabits, bits, rounds, contenders);
    }
}
