//! Floods: whoever does not know the seed cannot make look-ups long, and whoever fills the tables
//! fills no more than its own share of them.

use std::time::Duration;

use net_nat::{Direction, DropReason, Endpoint, NatConfig, NatEngine, Verdict};

use crate::generator::empty;
use crate::packet::{Body, End, Packet};
use crate::world::{inside, outside, remote};

const NOW: Duration = Duration::ZERO;

fn engine(config: NatConfig) -> NatEngine {
    NatEngine::new(config).expect("a sound configuration")
}

fn udp(src: End, dst: End) -> Packet {
    Packet {
        src,
        dst,
        body: Body::Udp {
            with_checksum: true,
        },
        id: 0,
        dont_fragment: true,
        options: false,
        payload: Vec::new(),
    }
}

fn send(engine: &mut NatEngine, src: End, dst: End, now: Duration) -> Verdict {
    let mut bytes = udp(src, dst).bytes();
    engine.translate(&mut bytes[..], Direction::Outbound, now)
}

/// The remote end that a flood talks to: the low bits of `n` in the port and the others in the address.
fn flooded(v6: bool, n: u64) -> End {
    let (high, port) = ((n >> 16) as u32, n as u16);
    match v6 {
        false => Endpoint::new((0x0800_0000 | high & 0xff_ffff).to_be_bytes().into(), port),
        true => {
            let addr = 0x2001_0db8_u128 << 96 | u128::from(n >> 16);
            Endpoint::new(addr.to_be_bytes().into(), port)
        }
    }
}

fn flood_config(v6: bool, seed: u8, sessions: usize) -> NatConfig {
    let mut config = empty(v6, 1, false);
    config.seed = [seed; 16];
    config.limits.sessions = sessions;
    config.limits.sessions_per_host = u32::MAX;
    config.limits.new_per_second = 0;
    config
}

#[test]
fn patterns_in_addresses_and_ports_do_not_lengthen_look_ups() {
    const FLOWS: u64 = 8192;
    type Pattern = (&'static str, fn(u64) -> u64);
    let patterns: [Pattern; 6] = [
        ("ports in a row", |n| n),
        ("addresses in a row", |n| n << 16),
        ("every 256th port, then addresses", |n| n << 8),
        ("both at once", |n| n << 16 | n & 0xffff),
        ("bits turned round", |n| n.reverse_bits() >> 28),
        ("gray code", |n| (n ^ n >> 1) << 13),
    ];
    for (name, pattern) in patterns {
        for v6 in [false, true] {
            for seed in 1..=4 {
                let mut engine = engine(flood_config(v6, seed, FLOWS as usize));
                for n in 0..FLOWS {
                    let guest = Endpoint::new(inside(v6, 1), 4000);
                    let verdict = send(&mut engine, guest, flooded(v6, pattern(n)), NOW);
                    assert!(matches!(verdict, Verdict::Translated(_)), "{verdict:?}");
                }
                // As full as it can be. Random keys make it 30 to 70.
                let walk = engine.longest_walk();
                assert!(walk <= 100, "{name}, seed {seed}: {walk} entries");
            }
        }
    }
}

/// Somebody with an engine of a known seed looks for flows that lengthen its look-ups. They do so
/// wherever the seed is the same, and nowhere else.
#[test]
fn what_collides_under_one_seed_does_not_under_another() {
    const SESSIONS: usize = 600;
    let guest = Endpoint::new(inside(false, 1), 4000);
    let mut known = engine(flood_config(false, 1, SESSIONS));
    // Of every twenty flows the one that leaves the longest walk, or one of them, is kept.
    let mut chosen: Vec<End> = Vec::new();
    for round in 0..SESSIONS as u64 {
        let candidates = (0..20).map(|n| flooded(false, round * 20 + n));
        let worst = candidates.max_by_key(|&to| {
            let verdict = send(&mut known, guest, to, NOW);
            assert!(matches!(verdict, Verdict::Translated(_)), "{verdict:?}");
            let harm = known.longest_walk();
            known.close_sessions(|view| view.remote == to);
            harm
        });
        let worst = worst.expect("twenty");
        let _ = send(&mut known, guest, worst, NOW);
        chosen.push(worst);
    }
    let natural = |seed| {
        let mut engine = engine(flood_config(false, seed, SESSIONS));
        for &to in &chosen {
            let _ = send(&mut engine, guest, to, NOW);
        }
        engine.longest_walk()
    };
    let harmed = natural(1);
    assert!(harmed >= 100, "the search found nothing: {harmed}");
    for seed in 2..10 {
        let walk = natural(seed);
        assert!(walk < harmed / 2, "seed {seed}: {walk} of {harmed} entries");
    }
}

#[test]
fn a_host_that_opens_all_it_can_takes_nothing_from_its_neighbours() {
    let mut config = empty(false, 1, false);
    config.limits.sessions = 4096;
    config.limits.mappings = 4096;
    config.limits.sessions_per_host = 256;
    config.limits.mappings_per_host = 128;
    config.limits.new_per_second = 100;
    config.limits.new_burst = 200;
    let mut engine = engine(config);
    let (mut now, mut refused, mut opened) = (Duration::ZERO, 0, 0u32);
    let mut flows: Vec<(End, End)> = Vec::new();
    for n in 0..60_000u32 {
        now += Duration::from_micros(500);
        // Every packet of the attacker's is a new flow, from a new port as long as there are some.
        let attacker = Endpoint::new(inside(false, 66), (n % 60_000) as u16 + 1024);
        let verdict = send(
            &mut engine,
            attacker,
            flooded(false, u64::from(n) << 4),
            now,
        );
        match verdict {
            Verdict::Translated(_) => opened += 1,
            Verdict::Drop(DropReason::Quota | DropReason::Rate) | Verdict::Reply => refused += 1,
            other => panic!("{other:?}"),
        }
        while engine.next_output().is_some() {}
        // And a stranger's comes in for each.
        let called = Endpoint::new(outside(false, 1), n as u16);
        let stranger = Endpoint::new([198, 51, 100, (n % 250) as u8 + 1].into(), 4444);
        let mut bytes = udp(stranger, called).bytes();
        let verdict = engine.translate(&mut bytes[..], Direction::Inbound, now);
        assert!(matches!(verdict, Verdict::Drop(_)), "{verdict:?}");
        if n % 50 == 0 {
            // A neighbour begins one, and all that were begun go on.
            let guest = Endpoint::new(
                inside(false, 1 + (n / 50 % 20) as u8),
                2000 + (n / 1000) as u16,
            );
            flows.push((guest, Endpoint::new(remote(false, 7), 443)));
            for &(guest, to) in &flows {
                let verdict = send(&mut engine, guest, to, now);
                assert!(matches!(verdict, Verdict::Translated(_)), "{verdict:?}");
            }
            if flows.len() > 100 {
                flows.remove(0);
            }
        }
    }
    engine.validate().expect("the tables agree");
    assert!(
        opened <= 128 && refused > 50_000,
        "{opened} opened, {refused} refused"
    );
    let usage = engine.usage();
    assert!(usage.mappings <= 128 + 1200, "{usage:?}");
}
