//! Sans-I/O DNS forwarder with a bounded cache and local names: bytes in, actions out.
//!
//! **What it is for:** the resolver that a virtual machine finds at its gateway. It answers the
//! names of the network itself, forwards everything else to the host's resolvers, and remembers
//! the answers. **What it is not:** a recursive resolver, a DNSSEC validator (the DO, CD and AD
//! flags travel, so that a guest can validate), or an encrypted transport. It has no socket, no
//! clock, no random source and no thread: messages, the time and a seed come in, [`Action`]s go
//! out.
//!
//! | part | its job | source |
//! |---|---|---|
//! | [`Forwarder`] | queries, upstream answers and time in; replies and upstream queries out | RFC 5625, 5452 |
//! | [`Config`], [`Stats`] | limits and servers; one counter per outcome | |
//! | [`message`], [`Name`] | header, question, record boundaries, EDNS; names | RFC 1035, 6891 |
//! | [`tcp`] | the two-byte length of DNS over TCP, and its time-outs | RFC 7766 |
//! | [`parse_resolv_conf`] | the host's resolver configuration, from text | resolv.conf(5) |
//!
//! # What the I/O layer does
//!
//! - It gives every message from a client to [`Forwarder::query`], with an [`Origin`]: the client
//!   that is accounted for it (one per guest, whatever addresses the guest makes up) and a value
//!   of its own that says where the reply goes.
//! - It carries out each [`Action`]. For [`Action::QueryUdp`] it opens a socket **on a fresh
//!   random port**, connected to that server: half of the protection against forged answers is
//!   the port (RFC 5452 section 9.2), and that half is the I/O layer's. The socket stays open
//!   until [`Action::Cancel`] names its id: an answer may be a forgery, and then the genuine one
//!   is still to come. Every id is cancelled exactly once, unless the I/O layer has itself
//!   reported it with [`Forwarder::upstream_failed`].
//! - It calls [`Forwarder::on_deadline`] when [`Forwarder::next_deadline`] has come.
//!
//! # Decisions
//!
//! - A query with an opcode other than QUERY is NOTIMP: an UPDATE or NOTIFY would reach the
//!   host's resolver under the host's address. Zone transfers and the CHAOS class are REFUSED.
//! - `ANY` is forwarded like any type, and its answer serves only the same question (RFC 8482
//!   leaves the choice to the server that answers).
//! - A query with nothing but a question and known flags is rebuilt for upstream, shared with
//!   whoever asks the same at that moment, and its answer cached. Options between neighbours
//!   (cookie, keep-alive, padding) end here. Any other option, flag or record makes the query
//!   travel verbatim, unshared and uncached.
//! - UDP comes first, towards the servers too. A truncated answer goes to UDP clients as it is,
//!   and makes the forwarder ask again over TCP for its TCP clients.
//! - Names in the local domain, reverse names in the local prefixes, `localhost`, `invalid`,
//!   `onion`, `resolver.arpa`, and addresses of single labels never go upstream. A split suffix
//!   inside the local domain takes precedence over it.
//! - Answers with private addresses for public names (DNS rebinding) are passed on: a network
//!   that wants them filtered has a resolver that does so.
//!
//! # Example
//!
//! ```
//! use std::time::Duration;
//! use net_dns::{Action, ClientId, Config, Forwarder, Origin, Transport};
//!
//! let mut config = Config::new([0; 16]); // a real seed comes from the operating system
//! config.upstreams = vec!["192.0.2.53:53".parse().unwrap()];
//! let mut dns: Forwarder = Forwarder::new(config).unwrap();
//! dns.set_gateway(&["10.0.2.1".parse().unwrap()]).unwrap();
//!
//! let question = |name: &[u8]| {
//!     let mut message = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00".to_vec();
//!     message.extend_from_slice(name);
//!     message.extend_from_slice(b"\x00\x00\x01\x00\x01"); // root, A, IN
//!     message
//! };
//! let origin = || Origin { client: ClientId(1), to: 7, transport: Transport::Udp { max_payload: 1472 } };
//! let (now, mut out) = (Duration::ZERO, Vec::new());
//!
//! dns.query(origin(), &question(b"\x07gateway\x08internal"), now, &mut out);
//! let Some(Action::Reply { to: 7, message, .. }) = out.pop() else { panic!() };
//! assert!(message.ends_with(&[10, 0, 2, 1]));
//!
//! dns.query(origin(), &question(b"\x07example\x03com"), now, &mut out);
//! let Some(Action::QueryUdp { id, server, message }) = out.pop() else { panic!() };
//! let mut answer = message.clone();
//! answer[2] |= 0x80; // the same as a response, without records
//! dns.upstream_answer(id, server, &answer, now, &mut out);
//! assert!(matches!(&out[..], [Action::Cancel { .. }, Action::Reply { to: 7, .. }]));
//! ```
#![forbid(unsafe_code)]

pub mod message;
pub mod tcp;

mod cache;
mod config;
mod flights;
mod forwarder;
mod local;
mod name;
mod query;
mod reply;
mod resolv_conf;
mod reverse;
mod rng;
mod stats;
mod upstreams;

pub use config::{Config, ConfigError};
pub use forwarder::{
    Action, ClientId, Forwarder, MAX_ATTEMPTS, Origin, Transport, UpstreamQueryId,
};
pub use local::{HostError, MAX_ADDRESSES};
pub use name::{Labels, MAX_LABEL, MAX_NAME, Name, NameError};
pub use query::MAX_QUERY;
pub use resolv_conf::{
    MAX_NAMESERVERS, MAX_SEARCH, Nameserver, Options, ResolvConf, parse_resolv_conf,
};
pub use stats::Stats;
pub use upstreams::MAX_UPSTREAMS;
