//! Messages made by hand, and a forwarder with the clock in the test's hand.

use std::net::SocketAddr;
use std::time::Duration;

use net_dns::message::{Header, Layout, Question, Record, Records, flag};
use net_dns::{Action, ClientId, Config, Forwarder, Name, Origin, Transport, UpstreamQueryId};

pub(crate) const A: u16 = 1;
pub(crate) const CNAME: u16 = 5;
pub(crate) const SOA: u16 = 6;
pub(crate) const PTR: u16 = 12;
pub(crate) const AAAA: u16 = 28;
pub(crate) const OPT: u16 = 41;

pub(crate) const S1: &str = "192.0.2.1:53";
pub(crate) const S2: &str = "192.0.2.2:53";
pub(crate) const S3: &str = "192.0.2.3:53";

/// Wire form in the case it is written in.
pub(crate) fn wire(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        bytes.push(label.len() as u8);
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    bytes
}

pub(crate) fn query(id: u16, name: &str, qtype: u16) -> Vec<u8> {
    let mut message = Header {
        id,
        flags: flag::RD,
        counts: [1, 0, 0, 0],
    }
    .to_bytes()
    .to_vec();
    message.extend(wire(name));
    message.extend(qtype.to_be_bytes());
    message.extend([0, 1]);
    message
}

/// Adds an OPT record; `flags` has DO as its top bit.
pub(crate) fn with_opt(mut message: Vec<u8>, payload: u16, flags: u16, options: &[u8]) -> Vec<u8> {
    message.extend([0, 0, 41]);
    message.extend(payload.to_be_bytes());
    message.extend([0, 0]);
    message.extend(flags.to_be_bytes());
    message.extend((options.len() as u16).to_be_bytes());
    message.extend(options);
    message[11] += 1;
    message
}

pub(crate) struct Rr(pub(crate) Vec<u8>);

/// A record whose owner is the question's name.
pub(crate) fn rr(rtype: u16, ttl: u32, data: &[u8]) -> Rr {
    owned_rr(&[0xc0, 12], rtype, ttl, data)
}

pub(crate) fn owned_rr(owner: &[u8], rtype: u16, ttl: u32, data: &[u8]) -> Rr {
    let mut bytes = owner.to_vec();
    bytes.extend(rtype.to_be_bytes());
    bytes.extend([0, 1]);
    bytes.extend(ttl.to_be_bytes());
    bytes.extend((data.len() as u16).to_be_bytes());
    bytes.extend(data);
    Rr(bytes)
}

pub(crate) fn soa(ttl: u32, minimum: u32) -> Rr {
    let mut data = wire("ns.example");
    data.extend(wire("hostmaster.example"));
    for number in [1, 2, 3, 4, minimum] {
        data.extend(number.to_be_bytes());
    }
    rr(SOA, ttl, &data)
}

/// The answer to a query as it went upstream.
pub(crate) fn answer(query: &[u8], flags: u16, sections: [&[Rr]; 3]) -> Vec<u8> {
    let header = Header::read(query).unwrap();
    let end = Question::read(query).unwrap().end;
    let counts = [
        1,
        sections[0].len() as u16,
        sections[1].len() as u16,
        sections[2].len() as u16,
    ];
    let flags = flag::QR | flag::RA | (header.flags & (flag::RD | flag::CD)) | flags;
    let mut message = Header {
        id: header.id,
        flags,
        counts,
    }
    .to_bytes()
    .to_vec();
    message.extend_from_slice(&query[12..end]);
    for record in sections.into_iter().flatten() {
        message.extend_from_slice(&record.0);
    }
    message
}

pub(crate) fn records(message: &[u8]) -> Vec<Record> {
    let end = Question::read(message).unwrap().end;
    let header = Header::read(message).unwrap();
    Records::new(message, &header, end)
        .collect::<Result<_, _>>()
        .unwrap()
}

pub(crate) fn layout(message: &[u8]) -> Layout {
    let end = Question::read(message).unwrap().end;
    Layout::read(message, &Header::read(message).unwrap(), end).unwrap()
}

pub(crate) fn rcode(message: &[u8]) -> u16 {
    Header::read(message).unwrap().flags & flag::RCODE
}

pub(crate) fn flags(message: &[u8]) -> u16 {
    Header::read(message).unwrap().flags
}

pub(crate) fn id(message: &[u8]) -> u16 {
    Header::read(message).unwrap().id
}

pub(crate) fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

/// A query on its way to a server.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) id: UpstreamQueryId,
    pub(crate) server: SocketAddr,
    pub(crate) message: Vec<u8>,
    pub(crate) tcp: bool,
}

/// A forwarder, the time, and what came out of it, sorted.
pub(crate) struct Net {
    pub(crate) dns: Forwarder,
    pub(crate) now: Duration,
    /// Replies: where to, and the message.
    pub(crate) replies: Vec<(u64, Vec<u8>)>,
    pub(crate) sent: Vec<Sent>,
    pub(crate) cancelled: Vec<UpstreamQueryId>,
}

pub(crate) fn config(upstreams: &[&str]) -> Config {
    let mut config = Config::new([42; 16]);
    config.upstreams = upstreams
        .iter()
        .map(|server| server.parse().unwrap())
        .collect();
    config
}

impl Net {
    pub(crate) fn new(config: Config) -> Self {
        let dns = Forwarder::new(config).unwrap();
        let now = Duration::from_secs(1000);
        Self {
            dns,
            now,
            replies: Vec::new(),
            sent: Vec::new(),
            cancelled: Vec::new(),
        }
    }

    fn sort(&mut self, out: Vec<Action>) {
        for action in out {
            match action {
                Action::Reply { to, message, .. } => self.replies.push((to, message)),
                Action::QueryUdp {
                    id,
                    server,
                    message,
                } => {
                    self.sent.push(Sent {
                        id,
                        server,
                        message,
                        tcp: false,
                    });
                }
                Action::QueryTcp {
                    id,
                    server,
                    message,
                } => {
                    self.sent.push(Sent {
                        id,
                        server,
                        message,
                        tcp: true,
                    });
                }
                Action::Cancel { id } => {
                    assert!(!self.cancelled.contains(&id), "cancelled twice");
                    self.cancelled.push(id);
                }
            }
        }
    }

    pub(crate) fn ask(&mut self, client: u64, to: u64, transport: Transport, message: &[u8]) {
        let origin = Origin {
            client: ClientId(client),
            to,
            transport,
        };
        let mut out = Vec::new();
        self.dns.query(origin, message, self.now, &mut out);
        self.sort(out);
    }

    pub(crate) fn ask_udp(&mut self, to: u64, message: &[u8]) {
        self.ask(
            1,
            to,
            Transport::Udp {
                max_payload: 65_507,
            },
            message,
        );
    }

    pub(crate) fn ask_tcp(&mut self, to: u64, message: &[u8]) {
        self.ask(1, to, Transport::Tcp, message);
    }

    /// Asks over UDP and takes the reply that comes at once.
    pub(crate) fn reply_to(&mut self, message: &[u8]) -> Vec<u8> {
        let (before, sent) = (self.replies.len(), self.sent.len());
        self.ask_udp(99, message);
        assert_eq!(self.sent.len(), sent, "went upstream");
        assert_eq!(self.replies.len(), before + 1, "one reply");
        self.replies.pop().unwrap().1
    }

    pub(crate) fn last_sent(&self) -> Sent {
        self.sent.last().unwrap().clone()
    }

    pub(crate) fn give(&mut self, to: &Sent, message: &[u8]) {
        self.give_from(to.server, to, message);
    }

    pub(crate) fn give_from(&mut self, from: SocketAddr, to: &Sent, message: &[u8]) {
        let mut out = Vec::new();
        self.dns
            .upstream_answer(to.id, from, message, self.now, &mut out);
        self.sort(out);
    }

    pub(crate) fn fail(&mut self, sent: &Sent) {
        let mut out = Vec::new();
        self.dns.upstream_failed(sent.id, self.now, &mut out);
        self.sort(out);
    }

    /// Asks, answers the query that goes out with these sections, takes the reply.
    pub(crate) fn exchange(&mut self, message: &[u8], flags: u16, sections: [&[Rr]; 3]) -> Vec<u8> {
        let (before, sent) = (self.replies.len(), self.sent.len());
        self.ask_udp(98, message);
        assert_eq!(self.sent.len(), sent + 1, "went upstream once");
        let out = self.last_sent();
        self.give(&out, &answer(&out.message, flags, sections));
        assert_eq!(self.replies.len(), before + 1);
        self.replies.pop().unwrap().1
    }

    /// Lets time pass, acting at every deadline on the way.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.dns.next_deadline().filter(|at| *at <= end) {
            assert!(at >= self.now, "a deadline in the past");
            self.now = at;
            let mut out = Vec::new();
            self.dns.on_deadline(at, &mut out);
            self.sort(out);
            assert!(
                self.dns.next_deadline().is_none_or(|next| next > at),
                "stuck"
            );
        }
        self.now = end;
    }

    /// Everything sent has been cancelled or reported as failed, and nothing waits.
    pub(crate) fn assert_quiet(&self, failed: usize) {
        assert_eq!(self.dns.in_flight(), 0);
        assert_eq!(self.dns.waiting(), 0);
        assert_eq!(self.dns.next_deadline(), None);
        assert_eq!(self.cancelled.len() + failed, self.sent.len());
    }
}

pub(crate) fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}
