//! `cargo xtask bench linux`: from a guest's namespace to a host outside, by each engine of NAT and by
//! a veth pair, a bridge and rules of nftables made by hand.
//!
//! ```text
//!  guest ─ veth ─ bridge ══ host ─ up0 ── eth0 outside      by hand; engine kernel
//!  guest ─ TAP ─ network ══ host ─ up0 ── eth0 outside      engine user; engine fast
//! ```
//!
//! Everything is in network namespaces that end with the program, each contender has a host of its
//! own, and all take turns. The first line of each table is what the others are compared with.

#[cfg(target_os = "linux")]
mod load;
#[cfg(target_os = "linux")]
mod namespace;
#[cfg(target_os = "linux")]
mod world;

#[cfg(target_os = "linux")]
fn main() {
    use std::time::Duration;

    use net_benches::harness::{Options, Unit, contender, table};

    let options = Options::with_rounds(7);
    let worlds = match world::all() {
        Ok(worlds) => worlds,
        Err(why) => {
            println!("skipped: {why}");
            return;
        }
    };
    let run =
        |section: &str, title: &str, unit, operations, load: fn(&world::World) -> Duration| {
            if !options.wants(section) {
                return;
            }
            let contenders = worlds
                .iter()
                .map(|world| contender(world.name, move || load(world)))
                .collect();
            table(title, unit, operations, options.rounds, contenders);
        };
    let bits = load::STREAM_BYTES * 8;
    run(
        "tcp-1",
        "tcp-1: one TCP connection, guest to outside",
        Unit::Gigabits,
        bits,
        |world| load::tcp(world, 1, load::Direction::Out),
    );
    run(
        "tcp-4",
        "tcp-4: four TCP connections, guest to outside",
        Unit::Gigabits,
        bits,
        |world| load::tcp(world, 4, load::Direction::Out),
    );
    run(
        "tcp-in",
        "tcp-in: one TCP connection, outside to guest",
        Unit::Gigabits,
        bits,
        |world| load::tcp(world, 1, load::Direction::In),
    );
    run(
        "udp",
        "udp: datagrams of 64 bytes delivered, guest to outside",
        Unit::Millions,
        load::DATAGRAMS,
        load::udp,
    );
    load::report_loss(&worlds);
}

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("skipped: it needs the namespaces of Linux");
}
