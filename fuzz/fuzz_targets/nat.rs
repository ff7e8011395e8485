//! The translator: no packet, in whatever order and at whatever time, makes a panic; what was valid
//! stays valid; the tables agree at the end.
//!
//! Input: a byte of options, then steps. A step's first byte says what to do (modulo 8): a composed
//! packet, some of its bytes changed, garbage, a train of the last packets, time, orders.
#![no_main]

#[path = "nat_packet.rs"]
mod nat_packet;

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use nat_packet::{
    Input, config, guest4, guest6, is_valid, mend, remote4, remote6, transport, v4, v6,
};
use net_nat::config::{Behaviour, Dependence, OutOfWindow};
use net_nat::{Direction, Endpoint, Forward, NatEngine, Verdict};

struct Rig {
    engine: NatEngine,
    now: Duration,
    /// Whether all that came in was valid.
    valid: bool,
    last: Vec<Vec<u8>>,
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let mut rig = rig(input.byte());
    while !input.is_empty() {
        rig.step(&mut input);
    }
    rig.engine.validate().unwrap();
    rig.now += Duration::from_secs(86_400);
    rig.engine.expire(rig.now);
    rig.engine.expire(rig.now + Duration::from_secs(3600));
    let usage = rig.engine.usage();
    assert_eq!((usage.sessions, usage.fragmented), (0, 0));
    assert_eq!(usage.mappings, rig.engine.forwards().count());
});

fn rig(options: u8) -> Rig {
    let mut config = config();
    let dependence = |bits: u8| match bits % 3 {
        0 => Dependence::EndpointIndependent,
        1 => Dependence::AddressDependent,
        _ => Dependence::AddressAndPortDependent,
    };
    let behaviour = Behaviour {
        mapping: dependence(options & 3),
        filtering: dependence(options >> 2 & 3),
    };
    (config.udp, config.tcp, config.icmp) = (behaviour, behaviour, behaviour);
    config.pass_unmatched = options & 16 != 0;
    if options & 32 != 0 {
        config.mtu = [1280, 700];
    }
    if options & 64 != 0 {
        config.out_of_window = OutOfWindow::Drop;
    }
    if options & 128 != 0 {
        config.timeouts.port_hold = Duration::ZERO;
    }
    config.limits.mappings = 40;
    config.limits.hosts = 6;
    config.limits.sessions_per_host = 20;
    config.limits.fragments.datagrams = 8;
    config.limits.fragments.held_packets = 8;
    config.limits.outputs = 16;
    Rig {
        engine: NatEngine::new(config).expect("a sound configuration"),
        now: Duration::ZERO,
        valid: true,
        last: Vec::new(),
    }
}

impl Rig {
    fn step(&mut self, input: &mut Input<'_>) {
        let op = input.byte();
        let direction = match op & 8 {
            0 => Direction::Outbound,
            _ => Direction::Inbound,
        };
        match op % 8 {
            0..3 => {
                let packet = compose(input, direction, op);
                self.send(packet, direction);
            }
            3 => {
                let len = usize::from(input.byte());
                self.send(input.take(len).to_vec(), direction);
            }
            4 => {
                let mut packets = std::mem::take(&mut self.last);
                if let Some(packet) = packets.last().cloned() {
                    packets.push(packet);
                }
                self.train(packets, direction);
            }
            5 => self.now += Duration::from_millis(u64::from(input.word()) * u64::from(op)),
            6 => {
                self.engine.expire_some(self.now, usize::from(op >> 4));
            }
            _ => self.order(input, op),
        }
        while let Some(output) = self.engine.next_output() {
            assert!(!self.valid || is_valid(&output.packet), "{output:?}");
        }
    }

    fn send(&mut self, packet: Vec<u8>, direction: Direction) {
        let mut copy = packet.clone();
        let verdict = self.engine.translate(&mut copy[..], direction, self.now);
        self.judge(&packet, &copy, verdict);
        if self.last.len() < 80 {
            self.last.push(packet);
        }
    }

    fn train(&mut self, packets: Vec<Vec<u8>>, direction: Direction) {
        let mut copies = packets.clone();
        let mut verdicts = vec![Verdict::Pass; copies.len()];
        let engine = &mut self.engine;
        engine.translate_batch(&mut copies, direction, self.now, &mut verdicts);
        for ((packet, copy), verdict) in packets.iter().zip(&copies).zip(verdicts) {
            self.judge(packet, copy, verdict);
        }
    }

    fn judge(&mut self, before: &[u8], after: &[u8], verdict: Verdict) {
        let valid = is_valid(before);
        self.valid &= valid;
        assert_eq!(before.len(), after.len());
        match verdict {
            Verdict::Translated(_) | Verdict::Fragment(_) => {
                assert!(
                    !valid || is_valid(after),
                    "{verdict:?}\n{before:?}\n{after:?}"
                );
                assert_ne!(before, after);
            }
            Verdict::Pass | Verdict::Shard(_) => assert_eq!(before, after),
            _ => {}
        }
    }

    fn order(&mut self, input: &mut Input<'_>, op: u8) {
        let [protocol, port, guest] = [input.byte(), input.byte(), input.byte()];
        let (protocol, ports) = match protocol % 3 {
            0 => (17, [port.into(), 80]),
            1 => (6, [port.into(), 80]),
            _ => (47, [0, 0]),
        };
        let (outside, inside) = match op & 16 {
            0 => (nat_packet::OURS4.into(), guest4(guest).into()),
            _ => (nat_packet::OURS6.into(), guest6(guest).into()),
        };
        let outside = Endpoint::new(outside, ports[0]);
        let _ = match op >> 5 {
            0..4 => self.engine.add_forward(Forward {
                protocol,
                outside,
                inside: Endpoint::new(inside, ports[1]),
            }),
            4 | 5 => self.engine.remove_forward(protocol, outside),
            _ => {
                self.engine
                    .close_sessions(|view| view.inside.addr == inside);
                Ok(())
            }
        };
    }
}

/// A sound packet between a guest and a remote, then up to three bytes of it changed.
fn compose(input: &mut Input<'_>, direction: Direction, op: u8) -> Vec<u8> {
    let (ends, kind, flags) = (input.byte(), input.byte(), input.byte());
    let six = op & 16 != 0;
    let ports = [
        1000 + u16::from(input.byte()),
        [53, 80, 443, 5000][usize::from(kind >> 6)],
    ];
    let len = usize::from(input.byte());
    let data = input.take(len);
    let inbound = direction == Direction::Inbound;
    // What comes in is for a port that may have been given, or is published.
    let ports = if inbound {
        [ports[1], input.word()]
    } else {
        ports
    };
    let transport = transport(kind, six, ports, flags, data);
    let cut = if kind & 32 != 0 {
        u16::from(flags) << 3 & 0x3fff
    } else {
        0x4000 * u16::from(kind & 1)
    };
    let mut packet = match (six, inbound) {
        (false, false) => v4(guest4(ends), remote4(ends >> 4), 7, cut, &transport),
        (false, true) => v4(
            remote4(ends >> 4),
            nat_packet::OURS4.octets(),
            7,
            cut,
            &transport,
        ),
        (true, false) => v6(guest6(ends), remote6(ends >> 4), &transport),
        (true, true) => v6(remote6(ends >> 4), nat_packet::OURS6, &transport),
    };
    if kind & 4 != 0 {
        mend(&mut packet, flags & 64 == 0);
    }
    for _ in 0..op >> 6 {
        let (at, value) = (usize::from(input.byte()), input.byte());
        if let Some(byte) = packet.get_mut(at) {
            *byte = value;
        }
    }
    if kind & 12 != 0 {
        mend(&mut packet, true);
    }
    packet
}
