//! A network address translator for packets: connection tracking and rewriting, without I/O.
//!
//! **What it is for:** letting many guests share a few outside addresses, on uplinks that carry packets
//! (a TAP, vmnet, a ring), as RFC 4787, 5382, 5508, 6888 and 7857 want it done, at the rate the data
//! path has. **What it is not:** a router (it decrements no TTL and knows no routes), a firewall beyond
//! what translation needs, an application gateway (it never looks at a payload), or a way out without
//! privileges (that is `net-usernet`).
//!
//! | part | what it is |
//! |---|---|
//! | [`NatEngine`] | the translator: one thread's, with all its tables |
//! | [`NatConfig`], [`config`] | addresses, behaviour, times, limits |
//! | [`IpPacket`] | what can be translated: slices, `Vec`s, pool buffers, zero-copy packets |
//! | [`Verdict`], [`DropReason`], [`Output`] | what becomes of a packet, and what the engine wants sent |
//! | [`Forward`] | a published port |
//! | [`SessionView`], [`Event`], [`Counters`], [`Usage`] | looking in |
//! | [`Steering`] | which of several engines a packet belongs to |
//! | [`Restored`], [`SnapshotError`] | going on after a restart |
//! | [`nptv6`] | IPv6 prefixes translated without state (RFC 6296) |
//! | [`icmp`] | errors for the router around it: time exceeded, packet too big |
//! | [`fragment`] | cutting packets for a smaller MTU |
//!
//! ```text
//!                 ┌───────────── NatEngine ─────────────┐
//!   guest ──────► │ hash ─► index ─► session ─► rewrite │ ──────► outside
//!    10.0.0.2:5000│            │ none                   │203.0.113.1:40123
//!                 │         mapping ─► port, quotas     │
//!                 └─────────────────────────────────────┘
//! ```
//!
//! A *mapping* is an inside endpoint and the outside one that stands for it; a *session* is a mapping
//! and one remote end, with the state of TCP and the precomputed changes of both checksums. Packets from
//! the outside find theirs by the port they call, if that has one only, else by hash. Packets of a session
//! are rewritten in place. Time comes in as an argument and randomness as a seed, so that a
//! test about two hours takes no two hours. Everything has a bound, and a quota for each inside host;
//! a full table refuses and evicts nobody.
//!
//! ```
//! use core::time::Duration;
//! use net_nat::{Direction, NatConfig, NatEngine, Prefix, Side, Verdict};
//!
//! let inside = Prefix::new([10, 0, 0, 0].into(), 24).expect("24 is at most 32");
//! let mut nat = NatEngine::new(NatConfig::new([7; 16], inside, [203, 0, 113, 1].into()))?;
//!
//! // A DNS query of guest 10.0.0.2, without a checksum, as UDP over IPv4 may be.
//! let mut packet = [
//!     0x45, 0, 0, 28, 0, 0, 0x40, 0, 64, 17, 0xb5, 0xbf, 10, 0, 0, 2, 192, 0, 2, 53, // IPv4
//!     0x13, 0x88, 0, 53, 0, 8, 0, 0, // UDP
//! ];
//! let now = Duration::ZERO;
//! let verdict = nat.translate(&mut packet, Direction::Outbound, now);
//! assert_eq!(verdict, Verdict::Translated(Side::Outside));
//! assert_eq!(packet[12..16], [203, 0, 113, 1]);
//!
//! // The answer, from the server to where the query seemed to come from.
//! let (server, port) = ([192, 0, 2, 53], [packet[20], packet[21]]);
//! packet[12..16].copy_from_slice(&server);
//! packet[16..20].copy_from_slice(&[203, 0, 113, 1]);
//! packet[20..24].copy_from_slice(&[0, 53, port[0], port[1]]);
//! let verdict = nat.translate(&mut packet, Direction::Inbound, now);
//! assert_eq!(verdict, Verdict::Translated(Side::Inside));
//! assert_eq!((&packet[16..20], &packet[22..24]), (&[10, 0, 0, 2][..], &[0x13, 0x88][..]));
//! # Ok::<(), net_nat::ConfigError>(())
//! ```
//!
//! # For a VMM
//!
//! Give the engine batches ([`NatEngine::translate_batch`]): with a million flows that is several times
//! as fast as packet by packet. Call [`NatEngine::expire_some`] about once a second, and fetch
//! [`NatEngine::next_output`] after each batch. Put large pages under the tables
//! ([`NatEngine::memory`]): among a million flows every packet waits for the translation of addresses
//! as long as for the tables. `examples/router.rs` is a router in user space between
//! two TAPs.
#![no_std]
#![deny(unsafe_code)]

extern crate alloc;
#[cfg(any(feature = "std", test))]
extern crate std;

mod address;
mod cache;
pub mod config;
mod contacts;
mod direction;
mod engine;
mod event;
mod external;
mod family;
mod forward;
pub mod fragment;
mod hash;
mod hosts;
pub mod icmp;
mod mapping;
mod nat;
pub mod nptv6;
mod packet;
mod ports;
mod prefix;
mod rate;
mod rewrite;
mod session;
mod snapshot;
mod stateless;
mod statistics;
mod steering;
// The memory under the tables; the only module with unsafe code.
#[allow(unsafe_code)]
mod table;
mod tcp;
mod verdict;
mod wheel;

pub use address::{Address, Endpoint};
pub use config::{ConfigError, NatConfig};
pub use direction::Direction;
pub use engine::NatEngine;
pub use event::{Event, Observer, SessionView};
pub use forward::{Forward, ForwardError};
pub use packet::IpPacket;
pub use prefix::Prefix;
pub use snapshot::{Restored, SnapshotError};
pub use statistics::{Counters, Usage};
pub use steering::Steering;
pub use tcp::TcpState;
pub use verdict::{DropReason, Output, Side, Verdict};
