//! One operation many times, and nothing else: what `cargo xtask bench counts` runs under callgrind.
//!
//! `counts` alone lists the operations; `counts NAME N` performs one of them `N` times. Whatever
//! comes before the first operation is cancelled by the difference between two runs of unlike `N`,
//! so an operation may prepare as much as it likes outside its loop. It must not depend on time, on
//! random numbers or on other threads.
//!
//! A crate gets a module here and a line in [`GROUPS`].

mod datapath;
// Guests and the way between them are those of `bench switch`, of which not all is needed here.
#[allow(dead_code)]
#[path = "../switch/guest.rs"]
mod guest;
mod nat;
#[allow(dead_code)]
#[path = "../switch/path.rs"]
mod path;
#[allow(dead_code)]
#[path = "../switch/ring.rs"]
mod ring;
mod switch;
mod wire;

use std::process::ExitCode;

/// A name, unique and without spaces, and what to do that many times.
type Operation = (&'static str, fn(u64));

const GROUPS: &[&[Operation]] = &[
    wire::OPERATIONS,
    datapath::OPERATIONS,
    nat::OPERATIONS,
    switch::OPERATIONS,
];

fn main() -> ExitCode {
    // Cargo passes `--bench` to every benchmark.
    let args: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| a != "--bench")
        .collect();
    let operations = || GROUPS.iter().copied().flatten();
    let [name, times] = args.as_slice() else {
        for (name, _) in operations() {
            println!("{name}");
        }
        return ExitCode::SUCCESS;
    };
    let found = operations().find(|(known, _)| known == name);
    match (found, times.parse()) {
        (Some((_, run)), Ok(times)) => {
            run(times);
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!("counts: no operation is called {name}, or {times} is no number");
            ExitCode::FAILURE
        }
    }
}
