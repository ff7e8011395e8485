//! The engine against the slow one: the same verdicts, the same bytes, the same tables.
//!
//! Two engines of one seed run beside the reference: one is given every packet alone, the other the
//! trains in one call. They must agree in everything, ports and identifications included.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use net_nat::{Direction, Endpoint, Event, Forward, NatEngine, Output, Side, Verdict};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use crate::aim::{OUTSIDE_PORTS, aim};
use crate::generator::{Case, Shot, Step, case, tables};
use crate::packet::{GRE, Packet, TCP, UDP, icmp, sum};
use crate::reference::Seen;
use crate::tables::{Session, Tables};
use crate::world::{inside, outside};

type Events = Arc<Mutex<VecDeque<Event>>>;

/// The reference and the two engines, in step.
pub(crate) struct Rig {
    v6: bool,
    punctual: bool,
    reference: Tables,
    pub(crate) single: NatEngine,
    batch: NatEngine,
    events: Events,
    now: Duration,
}

impl Rig {
    pub(crate) fn new(case: &Case) -> Self {
        let engine = || NatEngine::new(case.config.clone()).expect("a sound configuration");
        let mut single = engine();
        let events = Events::default();
        let copy = events.clone();
        single.observe(move |event| copy.lock().expect("one thread").push_back(*event));
        Self {
            v6: case.v6,
            punctual: case.punctual,
            reference: tables(case),
            single,
            batch: engine(),
            events,
            now: Duration::ZERO,
        }
    }

    fn take_events(&self) -> VecDeque<Event> {
        std::mem::take(&mut *self.events.lock().expect("one thread"))
    }

    pub(crate) fn step(&mut self, step: &Step) {
        match step {
            Step::Wait(millis) => {
                self.now += Duration::from_millis(*millis);
                if self.punctual {
                    self.expire(usize::MAX);
                }
            }
            Step::One(out, shot) => self.train(*out, std::slice::from_ref(shot)),
            Step::Train(out, shots) => self.train(*out, shots),
            Step::Publish(..) => self.publish(step),
            Step::Withdraw(which) => self.withdraw(*which),
            Step::Close(host) => self.close(inside(self.v6, *host)),
            Step::Expire(budget) => self.expire((*budget).into()),
        }
        self.compare();
    }

    fn expire(&mut self, budget: usize) {
        self.reference.now = self.now;
        let looked = self.single.expire_some(self.now, budget);
        assert_eq!(self.batch.expire_some(self.now, budget), looked);
        let mut events = self.take_events();
        self.reference.clear(&mut events);
        assert!(events.is_empty(), "{events:?}");
        if looked < budget {
            let tick = self.reference.tick();
            let sessions = &self.reference.sessions;
            assert!(sessions.iter().all(|s| s.expires >= tick), "one is kept");
            self.reference.unmap_overdue();
        }
        while let Some(output) = self.single.next_output() {
            assert_valid(&output);
            assert_eq!(self.batch.next_output(), Some(output));
        }
    }

    fn train(&mut self, out: bool, shots: &[Shot]) {
        let direction = match out {
            true => Direction::Outbound,
            false => Direction::Inbound,
        };
        self.reference.now = self.now;
        let aim = |shot| aim(&self.reference, self.v6, direction, shot);
        let packets: Vec<_> = shots.iter().map(aim).collect();
        self.send(direction, packets);
    }

    /// All packets in one call to one engine, and one by one to the other.
    pub(crate) fn send(&mut self, direction: Direction, packets: Vec<Packet>) -> Vec<Verdict> {
        self.reference.now = self.now;
        let mut bytes: Vec<_> = packets.iter().map(Packet::bytes).collect();
        let mut verdicts = vec![Verdict::Pass; bytes.len()];
        self.batch
            .translate_batch(&mut bytes, direction, self.now, &mut verdicts);
        for (packet, done) in packets.into_iter().zip(verdicts.iter().zip(&bytes)) {
            let (verdict, bytes) = self.one(direction, packet);
            assert_eq!((&verdict, &bytes), done, "single and batch differ");
        }
        verdicts
    }

    fn one(&mut self, direction: Direction, packet: Packet) -> (Verdict, Vec<u8>) {
        let before = packet.bytes();
        let mut bytes = before.clone();
        let verdict = self.single.translate(&mut bytes, direction, self.now);
        let mut seen = Seen {
            events: self.take_events(),
            verdict,
        };
        let mut expected = packet.clone();
        let said = self
            .reference
            .translate(direction, &mut expected, &mut seen);
        assert_eq!(verdict, said, "{direction:?} {packet:?}");
        assert!(seen.events.is_empty(), "{:?}", seen.events);
        match verdict {
            Verdict::Translated(_) => {
                if direction == Direction::Outbound && !self.v6 && !packet.dont_fragment {
                    expected.id = u16::from_be_bytes([bytes[4], bytes[5]]);
                }
                assert_eq!(bytes, expected.bytes(), "{direction:?} {packet:?}");
            }
            Verdict::Pass => assert_eq!(bytes, before, "passed and changed"),
            Verdict::Reply => self.answer(&before),
            _ => {}
        }
        self.adopt();
        (verdict, bytes)
    }

    /// The answer to a packet for which there was no room: it goes to its sender and quotes it.
    fn answer(&mut self, about: &[u8]) {
        let output = self.single.next_output().expect("an answer");
        assert_valid(&output);
        assert_eq!(output.side, Side::Inside);
        let header = if self.v6 { 40 } else { 20 };
        assert_eq!(&output.packet[header + 8..], about);
        let to = match self.v6 {
            true => output.packet[24..40] == about[8..24],
            false => output.packet[16..20] == about[12..16],
        };
        assert!(to, "the answer goes to somebody else");
        assert_eq!(self.batch.next_output(), Some(output));
    }

    /// Learns the timers of TCP connections that do not keep to the book.
    fn adopt(&mut self) {
        let tick = self.reference.tick();
        for session in &mut self.reference.sessions {
            if session.may_expire.is_empty() {
                continue;
            }
            let view = self.single.sessions().find(|view| session.is_seen_as(view));
            let expires = tick + view.expect("it is alive").expires_in.as_secs() as u32;
            assert!(session.may_expire.contains(&expires), "{session:?}");
            session.expires = expires;
            session.may_expire.clear();
        }
    }

    fn publish(&mut self, step: &Step) {
        let &Step::Publish(protocol, ours, outside_port, host, inside_port) = step else {
            return;
        };
        let protocol = match protocol {
            0 => UDP,
            1 => TCP,
            2 if self.reference.config.other == net_nat::config::OtherProtocols::ByAddress => GRE,
            _ => TCP,
        };
        let ports = if protocol == GRE {
            [0, 0]
        } else {
            [outside_port, inside_port].map(port)
        };
        let host = match host {
            6 => outside(self.v6, 99),
            host => inside(self.v6, host),
        };
        let ours = [1, 2, 14, 15][usize::from(ours)];
        let forward = Forward {
            protocol,
            outside: Endpoint::new(outside(self.v6, ours), ports[0]),
            inside: Endpoint::new(host, ports[1]),
        };
        let said = self.reference.add_forward(&forward);
        assert_eq!(self.single.add_forward(forward), said, "{forward:?}");
        assert_eq!(self.batch.add_forward(forward), said);
    }

    fn withdraw(&mut self, which: u8) {
        let known: Vec<_> = self.single.forwards().collect();
        let (protocol, outside) = match usize::from(which).checked_rem(known.len() + 1) {
            Some(number) if number < known.len() => (known[number].protocol, known[number].outside),
            _ => (UDP, Endpoint::new(outside(self.v6, 1), 1)),
        };
        let said = self.reference.remove_forward(protocol, outside);
        assert_eq!(self.single.remove_forward(protocol, outside), said);
        assert_eq!(self.batch.remove_forward(protocol, outside), said);
    }

    fn close(&mut self, host: IpAddr) {
        let closed = self.single.close_sessions(|view| view.inside.addr == host);
        assert_eq!(
            self.batch.close_sessions(|view| view.inside.addr == host),
            closed
        );
        let mut events = self.take_events();
        let of = |s: &Session| s.inside.addr == host;
        assert_eq!(self.reference.close(of, &mut events), closed);
    }

    fn compare(&mut self) {
        let (usage, counters) = (self.single.usage(), self.single.counters());
        assert_eq!(self.batch.usage(), usage);
        assert_eq!(self.batch.counters(), counters);
        let reference = &self.reference;
        assert_eq!(usage.sessions, reference.sessions.len());
        assert_eq!(counters.opened - counters.closed, usage.sessions as u64);
        let overdue = (0..reference.mappings.len())
            .filter(|&m| reference.is_overdue(m))
            .count();
        let mappings = reference.mappings.len();
        assert!((mappings - overdue..=mappings).contains(&usage.mappings));
        assert!(usage.hosts <= reference.hosts.len());
        assert!(overdue > 0 || usage.hosts == reference.hosts.len());
    }

    /// All sessions and forwards, one by one.
    pub(crate) fn compare_all(&mut self) {
        self.reference.now = self.now;
        // Tells the engine the time, and clears away nothing.
        self.expire(0);
        let reference = &self.reference;
        let tick = reference.tick();
        let views: Vec<_> = self.single.sessions().collect();
        let alive = reference.sessions.iter().filter(|s| s.expires >= tick);
        assert_eq!(alive.clone().count(), views.len());
        for session in alive {
            let view = views.iter().find(|view| session.is_seen_as(view));
            let view = view.unwrap_or_else(|| panic!("{session:?} is not there"));
            let seen = (view.outside, view.opened_by, view.expires_in.as_secs());
            let is = (
                session.outside,
                session.opener,
                u64::from(session.expires - tick),
            );
            assert_eq!(seen, is, "{session:?}");
        }
        let forwards: Vec<_> = self.single.forwards().collect();
        let known = reference.mappings.iter().filter(|m| m.forward);
        assert_eq!(known.clone().count(), forwards.len());
        for m in known {
            assert!(forwards.contains(&Forward {
                protocol: m.protocol,
                outside: m.outside,
                inside: m.inside,
            }));
        }
        self.single.validate().expect("the tables agree");
        self.batch.validate().expect("the tables agree");
    }
}

fn port(n: u8) -> u16 {
    OUTSIDE_PORTS[usize::from(n) % 4]
}

/// What the engine makes by itself are ICMP errors with sound checksums.
fn assert_valid(output: &Output) {
    let packet = &output.packet;
    let (message, protocol) = match packet[0] >> 4 {
        4 => {
            assert_eq!(sum(&packet[..20]), 0xffff);
            (packet[20..].to_vec(), packet[9])
        }
        _ => {
            let len = (packet.len() - 40) as u32;
            let mut covered = packet[8..40].to_vec();
            covered.extend_from_slice(&len.to_be_bytes());
            covered.extend_from_slice(&[0, 0, 0, icmp(true)]);
            covered.extend_from_slice(&packet[40..]);
            (covered, packet[6])
        }
    };
    assert_eq!(protocol, icmp(packet[0] >> 4 == 6));
    assert_eq!(sum(&message), 0xffff, "{packet:?}");
}

pub(crate) fn run(case: &Case) {
    let mut rig = Rig::new(case);
    for (number, step) in case.steps.iter().enumerate() {
        rig.step(step);
        if number % 16 == 0 {
            rig.compare_all();
        }
    }
    rig.compare_all();
}

/// The same cases every time; `NAT_SEED` in the environment chooses others.
fn seed() -> u64 {
    let chosen = std::env::var("NAT_SEED").ok();
    chosen.and_then(|seed| seed.parse().ok()).unwrap_or(4787)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        max_shrink_iters: 20_000,
        rng_seed: RngSeed::Fixed(seed()),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_engine_does_what_the_reference_does(case in case()) {
        run(&case);
    }
}
