//! Ring, pool, checksum and packet beside their peers, in one run.
//!
//! `cargo bench -p net-benches --bench datapath [SECTION...] [--rounds N]`
//!
//! A section is named by the beginning of its name, `ring` for all three of the ring; without a name
//! all of them run. The contenders of a table take turns, round by round, so that a disturbance of
//! the machine meets all of them; each line gives the median over the rounds, the best, the worst,
//! and the ratio of the medians to the first line of its table. Where two threads work they are
//! pinned to cores 0 and 1.

mod checksum;
mod packet;
mod pool;
mod ring;

use net_benches::harness::Options;

fn main() {
    let options = Options::from_args();
    type Section = (&'static str, fn(&Options));
    let sections: [Section; 11] = [
        ("ring-batch", ring::batch),
        ("ring-scalar", ring::scalar),
        ("ring-roundtrip", ring::roundtrip),
        ("pool-one", pool::one),
        ("pool-two", pool::two),
        ("pool-across", pool::handed_over),
        ("pool-empty", pool::empty),
        ("packet-parse", packet::parse),
        ("packet-build", packet::build),
        ("packet-edit", packet::edit),
        ("packet-gso", packet::gso),
    ];
    for (name, run) in sections {
        if options.wants(name) {
            run(&options);
        }
    }
    // A section for each size.
    checksum::all(&options);
}
