//! From a shot to a packet: at sessions and mappings that the reference knows, or at random.

use net_nat::{Direction, Endpoint};

use crate::generator::Shot;
use crate::life::Life;
use crate::packet::{ACK, Body, End, FIN, GRE, Packet, RST, SYN, Segment, TCP, UDP, icmp};
use crate::tables::{Session, Tables};
use crate::world::{inside, nobody, outside, remote};

const LOCAL_PORTS: [u16; 5] = [4000, 4001, 50_000, 80, 1023];
const REMOTE_PORTS: [u16; 4] = [53, 80, 443, 6000];
/// Ports that are published.
pub(crate) const OUTSIDE_PORTS: [u16; 4] = [80, 443, 8080, 4000];

pub(crate) fn aim(tables: &Tables, v6: bool, direction: Direction, shot: &Shot) -> Packet {
    let (protocol, mut local, mut other) = match direction {
        Direction::Outbound => fresh(tables, v6, shot),
        Direction::Inbound => stranger(tables, v6, shot),
    };
    let mut protocol = protocol;
    // Half of all packets are of a session, if there is one.
    let session = match usize::from(shot.target >> 1).checked_rem(tables.sessions.len()) {
        Some(number) if shot.target & 1 == 0 => Some(&tables.sessions[number]),
        _ => None,
    };
    if let Some(session) = session {
        protocol = session.protocol;
        other = session.remote;
        local = match direction {
            Direction::Outbound => session.inside,
            Direction::Inbound => session.outside,
        };
    }
    let body = match protocol {
        TCP => Body::Tcp(segment(
            life(tables, direction, local, other),
            direction,
            shot,
        )),
        UDP => Body::Udp {
            with_checksum: v6 || shot.bits & 1 != 0,
        },
        GRE => Body::Gre,
        _ => Body::Echo {
            reply: shot.bits & 2 != 0,
            id: std::mem::take(&mut local.port),
        },
    };
    if !matches!(protocol, TCP | UDP) {
        (local.port, other.port) = (0, 0);
    }
    let (src, dst) = match direction {
        Direction::Outbound => (local, other),
        Direction::Inbound => (other, local),
    };
    Packet {
        src,
        dst,
        body,
        id: shot.seq as u16,
        dont_fragment: shot.bits & 4 == 0,
        options: shot.bits & 0x78 == 0,
        payload: (0..shot.len).collect(),
    }
}

fn protocol(v6: bool, shot: &Shot) -> u8 {
    match shot.protocol {
        0..3 => UDP,
        3..6 => TCP,
        6 => icmp(v6),
        _ => GRE,
    }
}

/// A guest and somebody it may talk to: a remote, another guest by way of an outside endpoint, a
/// guest by its address, or nobody.
fn fresh(tables: &Tables, v6: bool, shot: &Shot) -> (u8, End, End) {
    let local = match shot.host {
        7 => remote(v6, 9),
        host => inside(v6, 1 + host),
    };
    let local = Endpoint::new(local, LOCAL_PORTS[usize::from(shot.local_port)]);
    let port = REMOTE_PORTS[usize::from(shot.remote_port)];
    let other = match shot.remote {
        n @ 0..6 => Endpoint::new(remote(v6, 1 + n % 4), port),
        6 => published(tables, v6, shot),
        7 => Endpoint::new(outside(v6, 1), port),
        8 => Endpoint::new(inside(v6, 1), port),
        _ => Endpoint::new(nobody(v6), port),
    };
    (protocol(v6, shot), local, other)
}

/// Somebody outside who calls an endpoint of ours.
fn stranger(tables: &Tables, v6: bool, shot: &Shot) -> (u8, End, End) {
    let port = REMOTE_PORTS[usize::from(shot.remote_port)];
    let other = match shot.remote {
        n @ 0..7 => remote(v6, 1 + n % 4),
        7 => inside(v6, 1),
        8 => outside(v6, 1),
        _ => nobody(v6),
    };
    let called = match shot.host {
        0..4 => published(tables, v6, shot),
        4 => Endpoint::new(outside(v6, 14), LOCAL_PORTS[usize::from(shot.local_port)]),
        5 => Endpoint::new(outside(v6, 15), LOCAL_PORTS[usize::from(shot.local_port)]),
        6 => Endpoint::new(inside(v6, 1), 80),
        _ => Endpoint::new(remote(v6, 9), 80),
    };
    let of = |e: &End| tables.mappings.iter().find(|m| m.outside == *e);
    let protocol = match of(&called) {
        Some(mapping) => mapping.protocol,
        None => protocol(v6, shot),
    };
    (protocol, called, Endpoint::new(other, port))
}

/// The outside endpoint of a mapping, if there is one.
fn published(tables: &Tables, v6: bool, shot: &Shot) -> End {
    let port = OUTSIDE_PORTS[usize::from(shot.local_port) % 4];
    let number = usize::from(shot.target >> 1).checked_rem(tables.mappings.len());
    number.map_or(Endpoint::new(outside(v6, 1), port), |number| {
        tables.mappings[number].outside
    })
}

fn life(tables: &Tables, direction: Direction, local: End, other: End) -> Option<Life> {
    let is = |s: &&Session| s.is(direction, TCP, local, other);
    tables.sessions.iter().find(is)?.life
}

/// The next segment of a life, as a rule; sometimes one that is none of it.
fn segment(life: Option<Life>, direction: Direction, shot: &Shot) -> Segment {
    let Some(life) = life else {
        let flags = match shot.kind {
            0..7 => SYN,
            7 | 8 => ACK,
            9 => SYN | ACK,
            10 => RST,
            _ => shot.bits,
        };
        let ack = if flags & ACK == 0 { 0 } else { shot.seq / 2 };
        return Segment {
            flags,
            seq: shot.seq,
            ack,
        };
    };
    let (seq, ack) = life.numbers(direction);
    let flags = match (life.wants_syn(direction), shot.kind) {
        (Some(flags), 0..9) => flags,
        (_, 10) => RST | ACK,
        (_, 8) => FIN | ACK,
        (_, 11) if shot.bits & 1 == 0 => shot.bits,
        (_, 9) => SYN,
        _ => ACK,
    };
    let seq = match flags & SYN != 0 || shot.kind == 11 {
        true => shot.seq,
        false => seq,
    };
    Segment {
        flags,
        seq,
        ack: if flags & ACK == 0 { 0 } else { ack },
    }
}
