//! A DHCPv4 client, enough for a program that configures its own interface.
//!
//! It follows figure 5 of RFC 2131: DISCOVER, OFFER, REQUEST, ACK, then renewal at T1, rebinding
//! at T2, and from the start again after a NAK or when the lease ends. It takes the first usable
//! offer, and does not probe the address for duplicates (the caller may, and call
//! [`Client::decline`]). It keeps no lease over a restart.
//!
//! ```
//! use std::{net::Ipv4Addr, time::Duration};
//! use net_dhcp::{Server, ServerConfig, client::{Client, ClientConfig, Event, Output}};
//!
//! let mac = [2, 0, 0, 0, 0, 1];
//! let mut server = Server::new(ServerConfig::new(Ipv4Addr::new(10, 0, 2, 1), 24))?;
//! let mut client = Client::new(ClientConfig::new(mac), 7);
//! let now = Duration::ZERO;
//! let lease = loop {
//!     let Some(Output::Send(out)) = client.poll(now) else { panic!("nothing to send") };
//!     let Some(reply) = server.handle(1, mac, &out.payload, now) else { continue };
//!     if let Some(Event::Bound(lease)) = client.handle(&reply.payload, now) {
//!         break lease;
//!     }
//! };
//! assert_eq!(lease.prefix_len, 24);
//! assert_eq!(lease.routers, [Ipv4Addr::new(10, 0, 2, 1)]);
//! # Ok::<(), net_dhcp::ConfigError>(())
//! ```

mod lease;

use std::net::Ipv4Addr;
use std::time::Duration;

pub use lease::Lease;

use super::codec::{DEFAULT_MAX_LEN, Header, Message, MessageType, Op, Writer, option};
use lease::is_usable;

/// What a client asks for (option 55).
const PARAMETERS: [u8; 10] = [
    option::SUBNET_MASK,
    option::CLASSLESS_ROUTES,
    option::ROUTER,
    option::DNS,
    option::DOMAIN,
    option::SEARCH,
    option::MTU,
    option::NTP,
    option::RENEWAL_TIME,
    option::REBINDING_TIME,
];
/// The largest message the client takes: an Ethernet frame's worth (option 57).
const MAX_SIZE: u16 = 1500;
/// REQUESTs for one offer before the client starts over.
const REQUEST_ATTEMPTS: u32 = 4;
/// RFC 2131 section 4.1: the delay doubles up to this.
const MAX_RETRY: Duration = Duration::from_secs(64);
/// RFC 2131 section 4.4.5: the shortest wait between two renewals.
const MIN_RENEW_RETRY: Duration = Duration::from_secs(60);
/// RFC 2131 section 3.1 step 5: the wait after a DECLINE.
const DECLINE_WAIT: Duration = Duration::from_secs(10);

/// Settings of a [`Client`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ClientConfig {
    /// Hardware address of the interface.
    pub mac: [u8; 6],
    /// Option 61. Default: none, the hardware address identifies the client.
    pub client_id: Option<Vec<u8>>,
    /// Option 12, at most 63 bytes are sent.
    pub hostname: Option<String>,
    /// Address to ask for.
    pub requested: Option<Ipv4Addr>,
    /// Ask for broadcast replies: right for a UDP socket on an interface without an address,
    /// which unicast does not reach. Default: on.
    pub broadcast: bool,
    /// First wait before a retransmission; doubles up to 64 s, plus or minus one quarter.
    /// Default: the 4 s of RFC 2131; a virtual network answers at once, so less is fine there.
    pub initial_retry: Duration,
}

impl ClientConfig {
    /// The defaults for an interface.
    pub fn new(mac: [u8; 6]) -> Self {
        Self {
            mac,
            client_id: None,
            hostname: None,
            requested: None,
            broadcast: true,
            initial_retry: Duration::from_secs(4),
        }
    }
}

/// A message to send from port 68 to port 67.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    /// The UDP payload.
    pub payload: Vec<u8>,
    /// Source address: 0.0.0.0 until there is a lease.
    pub src: Ipv4Addr,
    /// Destination: 255.255.255.255, or the server that granted the lease.
    pub dst: Ipv4Addr,
}

/// What happened to the lease.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
#[allow(
    clippy::large_enum_variant,
    reason = "one event per lease, never stored in numbers"
)]
pub enum Event {
    /// A lease was granted: configure the interface. Also comes after a renewal that changed
    /// something.
    Bound(Lease),
    /// The lease goes on unchanged.
    Renewed,
    /// The lease is over, by a NAK or by its time: take the address off the interface. The
    /// client starts over by itself.
    Lost,
}

/// What [`Client::poll`] has to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send this.
    Send(Transmit),
    /// This happened.
    Event(Event),
}

#[derive(Debug)]
enum State {
    /// Begins at the time given.
    Init,
    Selecting,
    Requesting {
        ip: Ipv4Addr,
        server: Ipv4Addr,
        sent_at: Duration,
    },
    Bound,
    Renewing {
        sent_at: Duration,
    },
    Rebinding {
        sent_at: Duration,
    },
}

/// A client for one interface. Owns no socket and no clock: `now` is the time since an epoch of
/// the caller's choice.
#[derive(Debug)]
pub struct Client {
    config: ClientConfig,
    state: State,
    lease: Option<Lease>,
    /// The lease counts from here: when the REQUEST was first sent, not when the ACK came.
    granted_at: Duration,
    /// When to act next; `None`: never (a lease without end).
    next: Option<Duration>,
    attempt: u32,
    began: Duration,
    xid: u32,
    random: u64,
}

impl Client {
    /// A client that begins at its first [`poll`](Self::poll). `seed` should differ between
    /// clients: transaction ids and delays come from it.
    pub fn new(config: ClientConfig, seed: u64) -> Self {
        Self {
            config,
            state: State::Init,
            lease: None,
            granted_at: Duration::ZERO,
            next: Some(Duration::ZERO),
            attempt: 0,
            began: Duration::ZERO,
            xid: 0,
            random: seed,
        }
    }

    /// The lease in force.
    pub fn lease(&self) -> Option<&Lease> {
        self.lease.as_ref()
    }

    /// When to call [`poll`](Self::poll) next; zero before the first call.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.next
    }

    /// What is due at `now`: call until it returns `None`.
    pub fn poll(&mut self, now: Duration) -> Option<Output> {
        if self.next.is_none_or(|next| now < next) {
            return None;
        }
        match self.state {
            State::Init => {
                self.state = State::Selecting;
                self.began = now;
                self.attempt = 0;
                self.xid = self.random() as u32;
                self.retry(now);
                Some(self.discover(now))
            }
            State::Selecting => {
                self.retry(now);
                Some(self.discover(now))
            }
            State::Requesting { ip, server, .. } => {
                if self.attempt >= REQUEST_ATTEMPTS {
                    self.restart(now);
                    return self.poll(now);
                }
                self.retry(now);
                Some(self.request(now, Some((ip, server))))
            }
            State::Bound | State::Renewing { .. } | State::Rebinding { .. } => self.extend(now),
        }
    }

    /// Takes the UDP payload of a packet to port 68. What is not for this client, or not expected
    /// now, changes nothing.
    pub fn handle(&mut self, payload: &[u8], now: Duration) -> Option<Event> {
        let msg = Message::parse(payload).ok()?;
        let header = &msg.header;
        if header.op != Op::Reply || header.xid != self.xid || header.chaddr != self.config.mac {
            return None;
        }
        let server_id = msg
            .options
            .addr(option::SERVER_ID)
            .filter(|ip| is_usable(*ip))?;
        match (&self.state, msg.message_type()?) {
            (State::Selecting, MessageType::Offer) => {
                // An offer that could not become a lease is as good as none.
                Lease::from_ack(&msg)?;
                self.state = State::Requesting {
                    ip: header.yiaddr,
                    server: server_id,
                    sent_at: now,
                };
                self.attempt = 0;
                self.next = Some(now);
                None
            }
            (
                &State::Requesting {
                    ip,
                    server,
                    sent_at,
                },
                MessageType::Ack,
            ) => {
                let lease = Lease::from_ack(&msg)?;
                (lease.ip == ip && server_id == server).then(|| self.bound(lease, sent_at))
            }
            (&State::Renewing { sent_at } | &State::Rebinding { sent_at }, MessageType::Ack) => {
                let lease = Lease::from_ack(&msg)?;
                let same = self.lease.as_ref().is_some_and(|held| held.ip == lease.ip);
                same.then(|| self.bound(lease, sent_at))
            }
            (&State::Requesting { server, .. }, MessageType::Nak) if server == server_id => {
                self.restart(now);
                None
            }
            (State::Renewing { .. } | State::Rebinding { .. }, MessageType::Nak) => {
                self.restart(now);
                Some(Event::Lost)
            }
            _ => None,
        }
    }

    /// Gives the lease back and starts over at the next poll; `None` without a lease.
    pub fn release(&mut self, now: Duration) -> Option<Transmit> {
        let lease = self.lease.take()?;
        self.xid = self.random() as u32;
        let mut header = self.header(now);
        header.ciaddr = lease.ip;
        header.set_broadcast(false);
        let mut w = self.writer(&header, MessageType::Release);
        w.option(option::SERVER_ID, &lease.server_id.octets());
        self.restart(now);
        Some(Transmit {
            payload: w.finish(None),
            src: lease.ip,
            dst: lease.server_id,
        })
    }

    /// Refuses the address because another host has it, and starts over ten seconds later (RFC
    /// 2131 section 3.1 step 5); `None` without a lease.
    pub fn decline(&mut self, now: Duration) -> Option<Transmit> {
        let lease = self.lease.take()?;
        self.xid = self.random() as u32;
        let mut header = self.header(now);
        header.set_broadcast(false);
        let mut w = self.writer(&header, MessageType::Decline);
        w.option(option::REQUESTED_IP, &lease.ip.octets());
        w.option(option::SERVER_ID, &lease.server_id.octets());
        self.restart(now.saturating_add(DECLINE_WAIT));
        Some(broadcast(w.finish(None)))
    }

    fn bound(&mut self, lease: Lease, sent_at: Duration) -> Event {
        let changed = self.lease.as_ref() != Some(&lease);
        self.granted_at = sent_at;
        self.next = lease.renew_after.map(|t1| sent_at.saturating_add(t1));
        self.lease = Some(lease.clone());
        self.state = State::Bound;
        if changed {
            Event::Bound(lease)
        } else {
            Event::Renewed
        }
    }

    /// A lease in force: renew, rebind, or let go.
    fn extend(&mut self, now: Duration) -> Option<Output> {
        let lease = self.lease.as_ref()?;
        let (Some(time), Some(t2)) = (lease.lease_time, lease.rebind_after) else {
            self.next = None;
            return None;
        };
        let server = lease.server_id;
        let end = self.granted_at.saturating_add(time);
        let rebind_at = self.granted_at.saturating_add(t2);
        if now >= end {
            self.lease = None;
            self.restart(now);
            return Some(Output::Event(Event::Lost));
        }
        // Each exchange has its own transaction id, and its lease counts from its first message.
        let (until, dst) = if now >= rebind_at {
            if !matches!(self.state, State::Rebinding { .. }) {
                self.new_exchange(now);
                self.state = State::Rebinding { sent_at: now };
            }
            (end, Ipv4Addr::BROADCAST)
        } else {
            if !matches!(self.state, State::Renewing { .. }) {
                self.new_exchange(now);
                self.state = State::Renewing { sent_at: now };
            }
            (rebind_at, server)
        };
        // RFC 2131 section 4.4.5: half of what is left, not less than a minute.
        let wait = (until.saturating_sub(now) / 2).max(MIN_RENEW_RETRY);
        self.next = Some(now.saturating_add(wait).min(until));
        match self.request(now, None) {
            Output::Send(out) => Some(Output::Send(Transmit { dst, ..out })),
            event @ Output::Event(_) => Some(event),
        }
    }

    fn new_exchange(&mut self, now: Duration) {
        self.xid = self.random() as u32;
        self.began = now;
    }

    fn restart(&mut self, at: Duration) {
        self.state = State::Init;
        self.lease = None;
        self.next = Some(at);
    }

    /// Sets the time of the next retransmission.
    fn retry(&mut self, now: Duration) {
        let doubled = self
            .config
            .initial_retry
            .saturating_mul(1 << self.attempt.min(6));
        let base = doubled.min(MAX_RETRY).max(Duration::from_millis(1));
        // Between three and five quarters of it, so that clients do not march in step.
        let jitter = (self.random() % 512) as u32;
        self.next = Some(now.saturating_add(base / 4 * 3 + base / 1024 * jitter));
        self.attempt = self.attempt.saturating_add(1);
    }

    fn discover(&self, now: Duration) -> Output {
        let mut w = self.writer(&self.header(now), MessageType::Discover);
        if let Some(ip) = self.config.requested {
            w.option(option::REQUESTED_IP, &ip.octets());
        }
        self.write_wishes(&mut w);
        Output::Send(broadcast(w.finish(None)))
    }

    /// A REQUEST for an offer, or for more of the lease in force.
    fn request(&self, now: Duration, offer: Option<(Ipv4Addr, Ipv4Addr)>) -> Output {
        let mut header = self.header(now);
        let held = self
            .lease
            .as_ref()
            .map_or(Ipv4Addr::UNSPECIFIED, |lease| lease.ip);
        if offer.is_none() {
            header.ciaddr = held;
            header.set_broadcast(false);
        }
        let mut w = self.writer(&header, MessageType::Request);
        if let Some((ip, server)) = offer {
            w.option(option::REQUESTED_IP, &ip.octets());
            w.option(option::SERVER_ID, &server.octets());
        }
        self.write_wishes(&mut w);
        Output::Send(Transmit {
            src: held,
            ..broadcast(w.finish(None))
        })
    }

    fn header(&self, now: Duration) -> Header {
        let mut header = Header::new(Op::Request, self.xid, self.config.mac);
        let secs = now.saturating_sub(self.began).as_secs();
        header.secs = u16::try_from(secs).unwrap_or(u16::MAX);
        header.set_broadcast(self.config.broadcast);
        header
    }

    fn writer(&self, header: &Header, kind: MessageType) -> Writer {
        let mut w = Writer::new(header, DEFAULT_MAX_LEN);
        w.option(option::MESSAGE_TYPE, &[kind as u8]);
        if let Some(id) = &self.config.client_id {
            w.option(option::CLIENT_ID, id);
        }
        w
    }

    fn write_wishes(&self, w: &mut Writer) {
        w.option(option::MAX_SIZE, &MAX_SIZE.to_be_bytes());
        if let Some(name) = &self.config.hostname {
            let name = name.as_bytes();
            w.option(option::HOST_NAME, name.get(..63).unwrap_or(name));
        }
        w.option(option::PARAMETER_LIST, &PARAMETERS);
    }

    /// SplitMix64: enough to tell clients apart, and no secret.
    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = self.random;
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

fn broadcast(payload: Vec<u8>) -> Transmit {
    Transmit {
        payload,
        src: Ipv4Addr::UNSPECIFIED,
        dst: Ipv4Addr::BROADCAST,
    }
}
