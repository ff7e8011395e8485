//! Router advertisements: what tells IPv6 hosts their prefix, router, MTU and name servers
//! (RFC 4861, RFC 4191, RFC 4862, RFC 8106).
//!
//! | part | what it does |
//! |---|---|
//! | [`RaConfig`] | what is advertised; checked once |
//! | [`message`] | the ICMPv6 message for a configuration, for whoever sends it |
//! | [`Advertiser`] | when to send: on solicitation and from time to time, within the limits |
//! | [`Solicitation`] | what a host that asks has said, validated |
//! | [`HeardRouter`] | what a router has said, validated, for whoever is the host |
//!
//! Nothing here writes an IPv6 header. [`message`] is everything from the ICMPv6 type on with a
//! checksum of zero: a raw ICMPv6 socket sends it as it is, because the kernel fills the checksum in;
//! who builds the packet itself sums it together with the pseudo header. Either must set a
//! hop limit of 255 and a link-local source (RFC 4861, section 6.1.2), else hosts ignore it.
//!
//! ```
//! use std::time::Duration;
//! use net_dhcp::ra::{Advertiser, Destination, Prefix, RaConfig};
//!
//! let mut config = RaConfig::new(Prefix::new("fd12:3456:789a::".parse()?, 64));
//! config.rdnss = vec!["fd12:3456:789a::1".parse()?];
//! config.mtu = Some(1500);
//! let mut advertiser = Advertiser::new(config, 7)?;
//!
//! let now = Duration::from_secs(10);
//! advertiser.start(now);
//! let solicitation = [133, 0, 0, 0, 0, 0, 0, 0];
//! advertiser.solicited(1, "fe80::2".parse()?, 255, &solicitation, now)?;
//! // Due within half a second, so that many hosts that start together get one answer.
//! let due = advertiser.next_deadline().expect("something to send");
//! assert!(due <= now + Duration::from_millis(500));
//! let sent = advertiser.poll(due).expect("an advertisement");
//! assert_eq!(sent.to, Destination::AllNodes);
//! assert_eq!(sent.message[0], 134);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod advertiser;
mod config;
mod heard;
mod message;
mod options;
mod solicitation;

pub use advertiser::{Advertisement, Advertiser, Destination, RaStats};
pub use config::{Preference, Prefix, RaConfig, RaConfigError};
pub use heard::{HeardRouter, HeardRouterError};
pub use message::{State, message};
pub use solicitation::{Solicitation, SolicitationError};

use std::net::Ipv6Addr;

/// The group of all nodes of a link, where unsolicited advertisements go.
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// The group of all routers of a link, where solicitations come from hosts that know none.
pub const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
/// The hop limit that every message of neighbour discovery has and that no router forwards.
pub const HOP_LIMIT: u8 = 255;

/// ICMPv6 type of a solicitation.
const SOLICITATION: u8 = 133;
/// ICMPv6 type of an advertisement.
const ADVERTISEMENT: u8 = 134;
/// Option: link-layer address of the sender.
const SOURCE_LINK_ADDRESS: u8 = 1;
/// Option: largest packet of the link.
const MTU: u8 = 5;
