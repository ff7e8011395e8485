//! The router as a guest sees it: one address that answers ARP, pings, DHCP and DNS, and decides
//! what leaves the network.
//!
//! **What it is for:** the middle of a frame's life. The switch hands it what is addressed to the
//! gateway or to everybody; it answers what it can and says what the uplink must carry. **What it
//! is not:** a NAT (that is the uplink), a switch, or anything with a socket or a clock: time comes
//! in as an argument, and what must be sent comes out as [`Output`]s.
//!
//! | part | its job |
//! |---|---|
//! | [`Gateway`] | dispatch, and the engines it owns: [`net_dhcp::Server`], [`net_dns::Forwarder`] |
//! | [`Neighbour`] | which port and hardware address an address belongs to; bounded per port |
//! | [`Verdict`] | answered here, for the uplink, or dropped for a counted reason |
//!
//! A guest is held to what it owns: a frame whose source address is another live guest's, or is
//! outside the network, is dropped ([`DropReason::Spoofed`], [`DropReason::Foreign`]).
//!
//! IPv6 is not routed yet: its frames are counted ([`DropReason::Ipv6`]) and dropped; guests still
//! reach one another over it through the switch.
//!
//! ```
//! use net_gateway::{Config, Gateway};
//!
//! let config = Config::new("10.0.2.0/24".parse().unwrap()).unwrap();
//! assert_eq!(config.ip, std::net::Ipv4Addr::new(10, 0, 2, 1));
//! let gateway = Gateway::new(config, [7; 16]).unwrap();
//! assert!(gateway.neighbour(std::net::Ipv4Addr::new(10, 0, 2, 9)).is_none());
//! ```
#![forbid(unsafe_code)]

mod config;
mod frame;
mod gateway;
mod leases;
mod names;
mod neighbour;
mod rate;

pub use config::{Config, ConfigError};
pub use gateway::{DnsClient, DropReason, Gateway, Output, Statistics, Target, Verdict};
pub use neighbour::Neighbour;

/// The number of a port of the switch.
pub type PortId = u32;
