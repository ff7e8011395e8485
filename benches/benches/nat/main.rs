//! The NAT engine beside arcbox-conntrack, in one run.
//!
//! `cargo bench -p net-benches --bench nat [SECTION...] [--rounds N] [--flows=N,N...] [--huge]`
//!
//! | section | measures |
//! |---|---|
//! | `memory` | bytes per session |
//! | `udp` | outbound packets of known flows, in random order |
//! | `inbound` | their answers |
//! | `zipf` | outbound packets, few flows having most of them |
//! | `tcp` | established connections: repeated segments, and both ways with data that goes on |
//! | `ipv6` | as `udp`, over IPv6 |
//! | `hairpin` | from one inside host to another by their outside addresses |
//! | `mix` | every tenth packet opens a session, and as many end |
//! | `rates` | sessions opened, ended, saved and restored per second, at a million of them |
//! | `latency` | the distribution of single calls |
//!
//! All of them without a name. Packets have 64 bytes from the IP header on. Each run fills 64 buffers
//! and has them translated, over and over; the line "fill only" is the first half of that by itself,
//! to be subtracted. Time is that of the processor in one pinned thread. The contenders of a table
//! take turns; a line has the median over the rounds, the best and the worst one, and the ratio of the
//! medians to the first line of its table. `udp` and `tcp` go through all numbers of flows, the others
//! through some; `--flows` replaces them. `--huge` asks the system for 2 MiB pages for all large tables,
//! the peer's too.
//!
//! The peer has one outside address, looks at its clock itself, and tracks neither windows nor
//! timers of TCP; it gets frames, of which the Ethernet header stays in the buffer. arcbox-datapath
//! has no NAT.

mod buffers;
mod contend;
mod engines;
mod hairpin;
mod huge;
mod ladder;
mod latency;
mod memory;
mod mix;
mod rates;
mod tcp;

use net_benches::harness::Options;

#[global_allocator]
static ALLOCATOR: huge::HugePages = huge::HugePages;

fn main() {
    let options = Options::with_rounds(9);
    if options.has("--huge") {
        huge::enable();
    }
    type Section = (&'static str, fn(&Options));
    // Memory first: later sections leave the allocator with free space.
    let sections: [Section; 10] = [
        ("memory", memory::all),
        ("udp", ladder::udp),
        ("inbound", ladder::inbound),
        ("zipf", ladder::zipf),
        ("tcp", tcp::all),
        ("ipv6", ladder::ipv6),
        ("hairpin", hairpin::all),
        ("mix", mix::all),
        ("rates", rates::all),
        ("latency", latency::all),
    ];
    for (name, run) in sections {
        if options.wants(name) {
            run(&options);
        }
    }
}

/// The numbers of flows a section goes through.
fn flows(options: &Options, default: &[usize]) -> Vec<usize> {
    let given = options.value("--flows").map(|list| {
        let numbers = list.split(',').map(|n| n.replace('_', "").parse());
        numbers.collect::<Result<Vec<_>, _>>()
    });
    match given {
        Some(Ok(numbers)) if !numbers.contains(&0) => numbers,
        None if !options.has("--flows") => default.to_vec(),
        _ => {
            eprintln!("nat: --flows wants numbers, --flows=256,64512; it is ignored");
            default.to_vec()
        }
    }
}
