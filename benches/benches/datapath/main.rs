//! Ring and pool beside their peers, in one run.
//!
//! `cargo bench -p net-benches --bench datapath [SECTION...] [--rounds N]`
//!
//! Sections: `ring-batch`, `ring-scalar`, `ring-roundtrip`, `pool`; all of them without a name. The
//! contenders of a table take turns, round by round, so that a disturbance of the machine meets all
//! of them; each line gives the median over the rounds, the best round, and the ratio of the medians
//! to the first line of its table. Where two threads work they are pinned to cores 0 and 1.

mod pool;
mod ring;

use net_benches::harness::Options;

fn main() {
    let options = Options::from_args();
    type Section = (&'static str, fn(&Options));
    let sections: [Section; 4] = [
        ("ring-batch", ring::batch),
        ("ring-scalar", ring::scalar),
        ("ring-roundtrip", ring::roundtrip),
        ("pool", pool::all),
    ];
    for (name, run) in sections {
        if options.wants(name) {
            run(&options);
        }
    }
}
