//! Engines that go on where another stopped.

use std::net::SocketAddr;

use net_nat::config::Dependence;
use net_nat::{
    Direction, DropReason, Endpoint, Forward, NatConfig, NatEngine, SnapshotError, Verdict,
};

use crate::lab::{ACK, BOTH, Family, PSH, SYN, Tcp, at, echo, secs, see, sum, tcp, udp};

fn engine(config: NatConfig) -> NatEngine {
    NatEngine::new(config).unwrap()
}

fn send(engine: &mut NatEngine, mut packet: Vec<u8>, direction: Direction, now: u64) -> Vec<u8> {
    let verdict = engine.translate(&mut packet, direction, secs(now));
    assert!(matches!(verdict, Verdict::Translated(_)), "{verdict:?}");
    sum::check(&packet).unwrap();
    packet
}

fn segment(from: SocketAddr, to: SocketAddr, flags: u8, seq: u32, ack: u32) -> Vec<u8> {
    let segment = Tcp {
        flags,
        seq,
        ack,
        ..Tcp::default()
    };
    tcp(from, to, &segment)
}

/// A bit of everything: sessions of TCP, UDP and ICMP, a forward, a mapping whose port rests.
fn busy(family: Family, config: NatConfig) -> (NatEngine, Vec<(SocketAddr, SocketAddr)>) {
    let mut engine = engine(config);
    let server = at(family.remote(1), 443);
    engine
        .add_forward(Forward {
            protocol: 6,
            outside: Endpoint::new(family.outside(1), 80),
            inside: Endpoint::new(family.inside(9), 8080),
        })
        .unwrap();
    // This one's session is over before the others begin.
    let short = udp(at(family.inside(7), 999), server, b"");
    send(&mut engine, short, Direction::Outbound, 0);
    engine.expire(secs(400));
    let mut flows = Vec::new();
    for host in 1..=20 {
        let guest = at(family.inside(host), 1000 + host);
        let out = send(
            &mut engine,
            udp(guest, server, b"x"),
            Direction::Outbound,
            410,
        );
        flows.push((guest, see(&out).src()));
        let syn = segment(guest, server, SYN, 100, 0);
        let out = see(&send(&mut engine, syn, Direction::Outbound, 410));
        let syn_ack = segment(server, out.src(), SYN | ACK, 900, 101);
        send(&mut engine, syn_ack, Direction::Inbound, 410);
        let ack = segment(guest, server, ACK, 101, 901);
        send(&mut engine, ack, Direction::Outbound, 410);
        let ping = echo(guest.ip(), server.ip(), true, host, 1);
        send(&mut engine, ping, Direction::Outbound, 410);
    }
    (engine, flows)
}

#[test]
fn sessions_mappings_and_forwards_go_on() {
    for family in BOTH {
        let (first, flows) = busy(family, family.config());
        let bytes = first.snapshot();
        // Another secret, and a clock that began at another time.
        let mut config = family.config();
        config.seed = *b"another 16 bytes";
        let mut second = engine(config);
        let restored = second.restore(&bytes, secs(50)).unwrap();
        second.validate().unwrap();
        assert_eq!((restored.sessions, restored.skipped), (60, 0));
        assert_eq!(
            restored.mappings, 62,
            "60, the forward, and the one that rests"
        );
        let server = at(family.remote(1), 443);
        for &(guest, outside) in &flows {
            let back = send(
                &mut second,
                udp(server, outside, b"y"),
                Direction::Inbound,
                51,
            );
            assert_eq!(see(&back).dst(), guest);
            let out = send(
                &mut second,
                udp(guest, server, b"z"),
                Direction::Outbound,
                51,
            );
            assert_eq!(see(&out).src(), outside);
            let data = segment(guest, server, ACK | PSH, 101, 901);
            send(&mut second, data, Direction::Outbound, 51);
        }
        assert_eq!(second.counters().opened, 0, "nothing had to be opened anew");
        assert_eq!(
            second.counters().out_of_window,
            0,
            "the state of TCP is there"
        );
        let caller = at(family.remote(5), 5555);
        let syn = segment(caller, at(family.outside(1), 80), SYN, 1, 0);
        let seen = see(&send(&mut second, syn, Direction::Inbound, 51));
        assert_eq!(seen.dst(), at(family.inside(9), 8080));
        // Time that was left runs out, and nothing stays behind but the forward.
        second.expire(secs(100_000));
        second.expire(secs(200_000));
        second.validate().unwrap();
        assert_eq!((second.usage().sessions, second.usage().mappings), (0, 1));
    }
}

#[test]
fn a_withdrawn_port_stays_withdrawn() {
    for family in BOTH {
        for in_use in [false, true] {
            let mut config = family.config();
            config.udp.filtering = Dependence::EndpointIndependent;
            let (server, published) = (at(family.inside(9), 80), at(family.outside(1), 80));
            let (friend, stranger) = (at(family.remote(1), 53), at(family.remote(2), 1000));
            let outside = Endpoint::new(published.ip(), published.port());
            let forward = Forward {
                protocol: 17,
                outside,
                inside: Endpoint::new(server.ip(), server.port()),
            };
            let mut first = engine(config.clone());
            first.add_forward(forward).unwrap();
            first.remove_forward(17, outside).unwrap();
            if in_use {
                let packet = udp(server, friend, b"x");
                send(&mut first, packet, Direction::Outbound, 1);
            }
            let mut second = engine(config);
            let restored = second.restore(&first.snapshot(), secs(1)).unwrap();
            assert_eq!((restored.mappings, restored.skipped), (1, 0));
            assert_eq!(second.forwards().count(), 0);
            // Awake or woken now, it is as it was: replies come in, and nobody else.
            let out = send(
                &mut second,
                udp(server, friend, b"x"),
                Direction::Outbound,
                2,
            );
            assert_eq!(see(&out).src(), published);
            let reply = udp(friend, published, b"y");
            let back = send(&mut second, reply, Direction::Inbound, 2);
            assert_eq!(see(&back).dst(), server);
            let mut call = udp(stranger, published, b"z");
            assert_eq!(
                second.translate(&mut call, Direction::Inbound, secs(2)),
                Verdict::Drop(DropReason::Filtered),
            );
            second.validate().unwrap();
        }
    }
}

#[test]
fn a_snapshot_of_a_restored_engine_says_the_same() {
    for family in BOTH {
        for mapping in [
            Dependence::EndpointIndependent,
            Dependence::AddressDependent,
            Dependence::AddressAndPortDependent,
        ] {
            let mut config = family.config();
            (config.udp.mapping, config.tcp.mapping) = (mapping, mapping);
            let (first, _) = busy(family, config.clone());
            let bytes = first.snapshot();
            let mut second = engine(config);
            second.restore(&bytes, secs(410)).unwrap();
            let mut before: Vec<_> = first.sessions().map(|s| format!("{s:?}")).collect();
            let mut after: Vec<_> = second.sessions().map(|s| format!("{s:?}")).collect();
            before.sort();
            after.sort();
            assert_eq!(before, after);
            assert_eq!(second.snapshot().len(), bytes.len());
            second.validate().unwrap();
        }
    }
}

#[test]
fn the_time_that_is_left_is_kept() {
    let family = Family::V4;
    let mut first = engine(family.config());
    let (guest, server) = (at(family.inside(1), 1000), at(family.remote(1), 443));
    send(&mut first, udp(guest, server, b""), Direction::Outbound, 0);
    first.expire(secs(200));
    let mut second = engine(family.config());
    second.restore(&first.snapshot(), secs(10_000)).unwrap();
    assert_eq!(second.sessions().count(), 1);
    second.expire(secs(10_099));
    assert_eq!(second.sessions().count(), 1);
    second.expire(secs(10_102));
    assert_eq!(second.sessions().count(), 0);
}

#[test]
fn what_does_not_fit_is_left_out_and_counted() {
    let family = Family::V4;
    let (first, _) = busy(family, family.config());
    let bytes = first.snapshot();
    // Other outside addresses: nothing fits.
    let mut second = engine(family.pool(&[2]));
    let restored = second.restore(&bytes, secs(1)).unwrap();
    assert_eq!((restored.sessions, restored.mappings), (0, 0));
    assert_eq!(restored.skipped, 122);
    second.validate().unwrap();
    // Room for ten.
    let mut config = family.config();
    config.limits.sessions = 10;
    config.limits.mappings = 100;
    let mut third = engine(config);
    let restored = third.restore(&bytes, secs(1)).unwrap();
    assert_eq!((restored.sessions, restored.skipped), (10, 50));
    third.validate().unwrap();
    // The other family only.
    let mut fourth = engine(Family::V6.config());
    assert_eq!(fourth.restore(&bytes, secs(1)).unwrap().skipped, 122);
}

#[test]
fn what_is_no_sound_snapshot_changes_nothing() {
    let family = Family::V4;
    let (mut first, _) = busy(family, family.config());
    let bytes = first.snapshot();
    assert_eq!(first.restore(&bytes, secs(1)), Err(SnapshotError::InUse));
    let mut second = engine(family.config());
    let mut restore = |bytes: &[u8]| {
        let error = second.restore(bytes, secs(1)).unwrap_err();
        assert!(
            second.snapshot().len() < 30,
            "{error}: something was taken in"
        );
        error
    };
    assert_eq!(restore(b""), SnapshotError::NotOne);
    assert_eq!(restore(b"something else altogether"), SnapshotError::NotOne);
    let mut version = bytes.clone();
    version[6] = 2;
    assert_eq!(restore(&version), SnapshotError::Version(2));
    for at in (8..bytes.len()).step_by(7) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        assert_eq!(restore(&damaged), SnapshotError::Damaged);
        assert_eq!(restore(&bytes[..at]), SnapshotError::Damaged);
    }
}
