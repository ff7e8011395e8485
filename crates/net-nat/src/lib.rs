//! The NAT engine: connection tracking and translation of packets, without I/O.
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
mod icmp;
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
