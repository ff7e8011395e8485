//! `cargo xtask bench switch`: from one guest's memory into another's, on one core.
//!
//! Two guests with split rings, each in memory of its own; their drivers do no more than a driver
//! must. The rows: a `memcpy` of the same bytes between the same buffers, which is the limit; the
//! rings and one copy, without a switch; and the whole way: take, parse, decide by address, deliver.
//!
//! *Warm* has all payload of a direction in 384 KiB, *cold* in 64 MiB.

mod guest;
mod path;

use net_benches::harness::{Options, Unit, contender, table};

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
}

fn run(section: &str, len: usize, working_set: usize, rounds: usize) {
    let frames = (BYTES / len).min(FRAMES);
    // Two directions' payload: one to read, one to write.
    let buffers = (working_set / 2 / len).max(1);
    let (mut from, mut to) = (Guest::new(len, buffers, 1), Guest::new(len, buffers, 2));
    let (mut a, mut b) = (Guest::new(len, buffers, 1), Guest::new(len, buffers, 2));
    let mut bare = Path::without_switch(&from, &to);
    let mut whole = Path::with_switch(&a, &b);
    let limit = Guest::new(len, buffers, 1);
    let contenders = vec![
        contender("memcpy", || memcpy(&limit, frames)),
        contender("rings and one copy", || {
            bare.carry(&mut from, &mut to, frames)
        }),
        contender("switch", || whole.carry(&mut a, &mut b, frames)),
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
