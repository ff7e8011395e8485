//! Bytes per session.

use net_benches::harness::Options;
use net_benches::traffic::Kind;

use crate::engines::{Ours, Peer};
use crate::ladder::in_order;

pub(crate) fn all(options: &Options) {
    for sessions in crate::flows(options, &[1_032_192]) {
        let mut feed = in_order::<14>(Kind::Udp, sessions);
        println!("\nmemory, {sessions} UDP sessions with a mapping each");
        println!("  {:<34} {:>10}", "bytes per session", "");

        let before = resident();
        let mut engine = Ours::new(sessions, |_| {});
        engine.each(net_nat::Direction::Outbound, &mut feed, sessions, |_| {});
        let usage = engine.engine.usage();
        let of = |bytes: usize| bytes as f64 / sessions as f64;
        show("net-nat, address space of its tables", of(usage.bytes));
        grown("net-nat, memory of the process", before, sessions);
        drop(engine);

        let before = resident();
        let mut engine = Peer::new();
        engine.each(&mut feed, sessions, |_| {});
        grown("arcbox-conntrack, memory of the process", before, sessions);
        drop(engine);
    }
}

fn grown(name: &str, before: Option<usize>, sessions: usize) {
    if let (Some(before), Some(after)) = (before, resident()) {
        show(name, after.saturating_sub(before) as f64 / sessions as f64);
    }
}

fn show(name: &str, bytes: f64) {
    println!("  {name:<40} {bytes:>4.0}");
}

/// Memory of the process, in bytes, where the system tells it.
fn resident() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: usize = text.split(' ').nth(1)?.parse().ok()?;
    // SAFETY: the call only returns a number.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    Some(pages * usize::try_from(page).ok()?)
}
