//! Any sequence of events, any bytes: the promises of the engine hold after every step.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::message::put;

#[derive(Debug, Clone)]
enum Step {
    /// A query for one of a few names, from one of a few clients.
    Ask {
        client: u8,
        name: u8,
        qtype: u8,
        tcp: bool,
        edns: bool,
        spoil: Option<(u8, u8)>,
    },
    Bytes {
        client: u8,
        tcp: bool,
        bytes: Vec<u8>,
    },
    /// An answer to one of the open queries, right or spoiled.
    Answer {
        which: prop::sample::Index,
        flags: u16,
        ttl: u16,
        soa: bool,
        spoil: Option<(u8, u8)>,
    },
    AnswerBytes {
        which: prop::sample::Index,
        bytes: Vec<u8>,
    },
    Fail {
        which: prop::sample::Index,
    },
    Pass {
        millis: u16,
    },
    Gone {
        client: u8,
    },
    Servers {
        count: u8,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let spoil = || prop::option::weighted(0.2, (any::<u8>(), any::<u8>()));
    let which = || any::<prop::sample::Index>();
    let bytes = || prop::collection::vec(any::<u8>(), 0..80);
    let codes = prop_oneof![5 => Just(0u16), 1 => 0u16..6, 1 => Just(flag::TC)];
    prop_oneof![
        6 => (0u8..3, 0u8..6, 0u8..3, any::<bool>(), any::<bool>(), spoil()).prop_map(
            |(client, name, qtype, tcp, edns, spoil)| Step::Ask { client, name, qtype, tcp, edns, spoil }
        ),
        1 => (0u8..3, any::<bool>(), bytes()).prop_map(|(client, tcp, bytes)| Step::Bytes { client, tcp, bytes }),
        5 => (which(), codes, 0u16..20, any::<bool>(), spoil())
            .prop_map(|(which, flags, ttl, soa, spoil)| Step::Answer { which, flags, ttl, soa, spoil }),
        1 => (which(), bytes()).prop_map(|(which, bytes)| Step::AnswerBytes { which, bytes }),
        1 => which().prop_map(|which| Step::Fail { which }),
        3 => (0u16..3000).prop_map(|millis| Step::Pass { millis }),
        1 => (0u8..3).prop_map(|client| Step::Gone { client }),
        1 => (0u8..4).prop_map(|count| Step::Servers { count }),
    ]
}

/// What the test knows: which queries wait for a reply since when, which upstream sockets are open.
struct World {
    dns: Forwarder,
    now: Duration,
    serial: u64,
    /// Queries by their `to`, each asked once.
    asked: BTreeMap<u64, (u8, Duration)>,
    open: Vec<(UpstreamQueryId, SocketAddr, Vec<u8>)>,
    ids: BTreeSet<UpstreamQueryId>,
}

fn servers(count: u8) -> Vec<SocketAddr> {
    (0..count)
        .map(|n| SocketAddr::from(([192, 0, 2, n], 53)))
        .collect()
}

impl World {
    fn new() -> Self {
        let mut config = Config::new([7; 16]);
        config.upstreams = servers(2);
        config.in_flight = 6;
        config.waiting = 12;
        config.waiting_per_client = 5;
        config.cache_entries = 4;
        config.cache_bytes = 2000;
        let mut dns = Forwarder::new(config).unwrap();
        dns.set_gateway(&[[10, 0, 2, 1].into()]).unwrap();
        let now = Duration::from_secs(50);
        Self {
            dns,
            now,
            serial: 0,
            asked: BTreeMap::new(),
            open: Vec::new(),
            ids: BTreeSet::new(),
        }
    }

    fn take(&mut self, out: Vec<Action>) {
        for action in out {
            match action {
                Action::Reply {
                    client,
                    to,
                    message,
                } => {
                    let (asker, since) = self.asked.remove(&to).expect("one reply to a query");
                    assert_eq!(client, ClientId(asker.into()));
                    assert!(self.now - since <= Duration::from_secs(5), "within 5 s");
                    let header = Header::read(&message).unwrap();
                    assert_ne!(header.flags & flag::QR, 0);
                }
                Action::QueryUdp {
                    id,
                    server,
                    message,
                }
                | Action::QueryTcp {
                    id,
                    server,
                    message,
                } => {
                    assert!(self.ids.insert(id), "ids are not used twice");
                    self.open.push((id, server, message));
                }
                Action::Cancel { id } => {
                    let before = self.open.len();
                    self.open.retain(|(open, ..)| *open != id);
                    assert_eq!(self.open.len() + 1, before, "cancelled once, while open");
                }
            }
        }
        self.dns.check();
        let (entries, bytes) = self.dns.cache_use();
        assert!(entries <= 4 && bytes <= 2000);
        assert_eq!(
            self.dns.in_flight() == 0,
            self.open.is_empty() && self.dns.waiting() == 0
        );
        assert!(self.open.len() <= 6 * MAX_ATTEMPTS);
    }

    fn ask(&mut self, client: u8, tcp: bool, message: &[u8]) {
        self.serial += 1;
        self.asked.insert(self.serial, (client, self.now));
        let transport = if tcp {
            Transport::Tcp
        } else {
            Transport::Udp { max_payload: 1200 }
        };
        let origin = Origin {
            client: ClientId(client.into()),
            to: self.serial,
            transport,
        };
        let mut out = Vec::new();
        self.dns.query(origin, message, self.now, &mut out);
        self.take(out);
    }

    fn step(&mut self, step: Step) {
        let mut out = Vec::new();
        match step {
            Step::Ask {
                client,
                name,
                qtype,
                tcp,
                edns,
                spoil,
            } => {
                let mut message = vec![9, name, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(edns)];
                message.extend([
                    1,
                    b'a' + name,
                    7,
                    b'e',
                    b'x',
                    b'A',
                    b'm',
                    b'p',
                    b'l',
                    b'e',
                    0,
                ]);
                message.extend([0, [1, 28, 255][usize::from(qtype)], 0, 1]);
                if edns {
                    message.extend(reply::opt_record(1232, 0, name == 0));
                }
                spoil_bytes(&mut message, spoil);
                self.ask(client, tcp, &message);
            }
            Step::Bytes { client, tcp, bytes } => self.ask(client, tcp, &bytes),
            Step::Answer {
                which,
                flags,
                ttl,
                soa,
                spoil,
            } if !self.open.is_empty() => {
                let (id, server, query) = which.get(&self.open).clone();
                let mut message = query[..query.len().min(27)].to_vec();
                put(
                    &mut message,
                    2,
                    &(flag::QR | flag::RD | flags).to_be_bytes(),
                );
                put(
                    &mut message,
                    6,
                    &[0, u8::from(!soa), 0, u8::from(soa), 0, 0],
                );
                let kind = if soa { 6 } else { *query.get(24).unwrap_or(&0) };
                message.extend([0xc0, 12, 0, kind, 0, 1, 0, 0]);
                message.extend(ttl.to_be_bytes());
                message.extend([0, 22]);
                message.extend([0; 20]);
                message.extend(ttl.to_be_bytes());
                spoil_bytes(&mut message, spoil);
                self.dns
                    .upstream_answer(id, server, &message, self.now, &mut out);
            }
            Step::AnswerBytes { which, mut bytes } if !self.open.is_empty() => {
                let (id, server, query) = which.get(&self.open).clone();
                put(&mut bytes, 0, &query[..2]);
                self.dns
                    .upstream_answer(id, server, &bytes, self.now, &mut out);
            }
            Step::Fail { which } if !self.open.is_empty() => {
                let id = which.get(&self.open).0;
                self.open.retain(|(open, ..)| *open != id);
                self.dns.upstream_failed(id, self.now, &mut out);
            }
            Step::Pass { millis } => {
                let end = self.now + Duration::from_millis(millis.into());
                self.pass(end);
            }
            Step::Gone { client } => {
                self.dns.client_gone(ClientId(client.into()), &mut out);
                self.asked.retain(|_, (asker, _)| *asker != client);
            }
            Step::Servers { count } => self.dns.set_upstreams(servers(count)),
            _ => {}
        }
        self.take(out);
    }

    fn pass(&mut self, end: Duration) {
        while let Some(at) = self.dns.next_deadline().filter(|at| *at <= end) {
            assert!(at >= self.now);
            self.now = at;
            let mut out = Vec::new();
            self.dns.on_deadline(at, &mut out);
            self.take(out);
        }
        self.now = end;
    }
}

fn spoil_bytes(message: &mut Vec<u8>, spoil: Option<(u8, u8)>) {
    let Some((at, value)) = spoil else { return };
    let at = usize::from(at) % (message.len() + 1);
    match message.get_mut(at) {
        Some(byte) => *byte ^= value,
        None => message.push(value),
    }
    if value == 0 {
        message.truncate(at);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn row64_to_66_any_events_any_bytes(steps in prop::collection::vec(step(), 1..120)) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
        }
        // In the end every socket is closed and nobody is left waiting.
        let end = world.now + Duration::from_secs(5);
        world.pass(end);
        prop_assert!(world.open.is_empty());
        prop_assert_eq!(world.dns.in_flight(), 0);
        prop_assert_eq!(world.dns.next_deadline(), None);
    }
}

#[test]
fn the_generator_reaches_the_interesting_outcomes() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;

    let mut runner = TestRunner::deterministic();
    let mut total = Stats::default();
    for _ in 0..200 {
        let steps = prop::collection::vec(step(), 60..120)
            .new_tree(&mut runner)
            .unwrap()
            .current();
        let mut world = World::new();
        for step in steps {
            world.step(step);
        }
        let stats = world.dns.stats();
        total.cache_hits += stats.cache_hits;
        total.cache_negative_hits += stats.cache_negative_hits;
        total.coalesced += stats.coalesced;
        total.client_quota += stats.client_quota;
        total.upstream_tcp += stats.upstream_tcp;
        total.upstream_mismatched += stats.upstream_mismatched;
        total.upstream_malformed += stats.upstream_malformed;
        total.upstream_timeouts += stats.upstream_timeouts;
        total.servfail += stats.servfail;
        total.full += stats.full;
    }
    for (name, count) in [
        ("cache_hits", total.cache_hits),
        ("cache_negative_hits", total.cache_negative_hits),
        ("coalesced", total.coalesced),
        ("client_quota", total.client_quota),
        ("upstream_tcp", total.upstream_tcp),
        ("upstream_mismatched", total.upstream_mismatched),
        ("upstream_malformed", total.upstream_malformed),
        ("upstream_timeouts", total.upstream_timeouts),
        ("servfail", total.servfail),
        ("full", total.full),
    ] {
        assert!(count > 0, "{name} never happened");
    }
}
