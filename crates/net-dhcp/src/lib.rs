//! DHCP and router advertisements without I/O: a DHCPv4 server and a small client, and a router's
//! side of IPv6 autoconfiguration; bytes in, bytes out.
//!
//! **What it is for:** giving the guests of a virtual network their addresses, where guests are
//! hostile and the caller owns sockets, frames and time. **What it is not:** a daemon (no socket,
//! no clock, no file), a relay, a boot server, or a server for several networks at once.
//!
//! | part | what it does |
//! |---|---|
//! | [`Server`] | DORA, renewal, reboot, DECLINE, INFORM, RELEASE; leases, reservations, quotas per port |
//! | [`ServerConfig`] | what it gives out; checked once |
//! | [`Snapshot`] | leases that outlive the process |
//! | [`Stats`], [`Refusal`] | a counter for every message sent and every reason to refuse one |
//! | [`client`] | the other side, for a program that configures its own interface |
//! | [`v4::codec`] | the message format, for both |
//! | [`ra`] | IPv6 router advertisements: what they say and when they are sent |
//!
//! Kept: RFC 2131, 2132, 3046 (echo), 3396, 3397, 3442, 4361, 4702 (as a source of names), 6842,
//! 8925. Not supported: BOOTP clients without option 53, network boot (`siaddr`, `file`), several
//! subnets behind relays, authentication (RFC 3118), rapid commit (RFC 4039), leasequery, dynamic
//! DNS updates, and probing an address with ICMP before it is offered. Replies do not use option
//! overload: what does not fit the client's limit is left out, in the client's order of wishes,
//! and counted.
//!
//! Every table is bounded: bindings by the pool, a port's share of them by
//! [`ServerConfig::max_per_port`], waiting events by 1024. One guest can neither take, end nor
//! outlast another's lease, nor be given more than its port's share.
//!
//! ```
//! use std::{net::Ipv4Addr, time::Duration};
//! use net_dhcp::{LeaseEvent, Owner, Reservation, Server, ServerConfig};
//! use net_dhcp::v4::codec::{Header, Message, MessageType, Op, Writer, option};
//!
//! let mut config = ServerConfig::new(Ipv4Addr::new(192, 168, 127, 1), 24);
//! config.domain = Some("internal".into());
//! config.mtu = Some(1500);
//! let mut server = Server::new(config)?;
//!
//! // The host may set an address aside for a guest it knows.
//! let mac = [0x52, 0x54, 0, 0x12, 0x34, 0x56];
//! let ip = Ipv4Addr::new(192, 168, 127, 10);
//! server.reserve(Reservation::new(Owner::Mac(mac), ip).with_hostname("web"))?;
//!
//! // A REQUEST as the guest on port 3 sends it after a reboot; the gateway strips the headers.
//! let mut w = Writer::new(&Header::new(Op::Request, 0x1234, mac), 548);
//! w.option(option::MESSAGE_TYPE, &[MessageType::Request as u8]);
//! w.option(option::REQUESTED_IP, &ip.octets());
//! let request = w.finish(None);
//!
//! let now = Duration::from_secs(5);
//! let reply = server.handle(3, mac, &request, now).expect("an answer");
//! let ack = Message::parse(&reply.payload).expect("a DHCP message");
//! assert_eq!(ack.message_type(), Some(MessageType::Ack));
//! assert_eq!(ack.header.yiaddr, ip);
//! assert!(matches!(server.poll_event(), Some(LeaseEvent::Bound { port: 3, .. })));
//! assert_eq!(server.leases().next().and_then(|lease| lease.hostname), Some("web"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

pub mod ra;
pub mod v4;

pub use v4::client;
pub use v4::server::{
    ConfigError, Lease, LeaseEvent, LeaseRecord, Owner, PoolError, Refusal, Reply, ReplyDst,
    Reservation, Server, ServerConfig, Snapshot, SnapshotError, Stats, UnknownClient,
};
