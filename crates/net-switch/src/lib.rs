//! A layer-2 learning switch between the ports of one network.
//!
//! **What it is for:** deciding, from two hardware addresses, where a frame goes. **What it is not:**
//! anything that touches the frame: it never copies, queues or sends. The gateway is a port with a
//! static address, like any other device that the network itself provides.
//!
//! | part | its job |
//! |---|---|
//! | [`Switch`] | ports, the forwarding decision, flood targets |
//! | [`Config`], [`PortConfig`] | bounds and times; what a port may do |
//! | [`VlanId`] | access VLANs (IEEE 802.1Q) |
//! | [`StormLimits`], [`Limit`] | what a port may have flooded |
//! | [`SnoopConfig`], [`may_report`] | IGMP and MLD snooping (RFC 4541) |
//! | [`Verdict`], [`DropReason`] | where a frame goes, or why it goes nowhere |
//! | [`Statistics`], [`PortStatistics`], [`Drops`] | counters, of the switch and of each port |
//!
//! What a hostile guest can do to it is bounded, and is its own loss:
//!
//! - A port that learns more addresses than its share forgets its own oldest, never another port's,
//!   and each port always has room for one.
//! - The table's hash has a secret key, and nothing ever scans the table.
//! - A static address, or the one another port was given ([`PortConfig::allowed_mac`]), cannot be
//!   taken; any other moves at most once in [`Config::move_interval`].
//! - Broadcasts, multicasts and frames to unknown addresses are limited for each port, each kind by
//!   itself ([`StormLimits`]).
//! - A port reaches the ports of its own VLAN only ([`PortConfig::vlan`]), and the gateway.
//! - What a port says about groups ([`SnoopConfig`]) changes what it is sent itself, within its share
//!   of the table. Who poses as a multicast router is sent all multicast; see [`MulticastRouter`].
//! - The mirror port ([`Switch::set_mirror`]) sends nothing.
//! - A port can be bound to IP addresses ([`Switch::allow_ip`]); who reads the packet asks
//!   [`Switch::check_ip`].
//!
//! Not part of it: VLAN trunks, spanning tree, multicast router discovery (RFC 4286).
//!
//! ```
//! use core::time::Duration;
//! use net_switch::{Config, PortConfig, Switch, Verdict};
//! use net_wire::MacAddr;
//!
//! let mut switch = Switch::new(Config::new([7; 16]));
//! switch.add_port(1, PortConfig::default());
//! switch.add_port(2, PortConfig::default());
//! let (a, b) = (MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2]));
//! let now = Duration::ZERO;
//! assert_eq!(switch.forward(1, b, a, now), Verdict::Flood);
//! assert_eq!(switch.forward(2, a, b, now), Verdict::To(1));
//! assert_eq!(switch.forward(1, b, a, now), Verdict::To(2));
//! ```
#![forbid(unsafe_code)]

mod bucket;
mod config;
mod list;
mod mirror;
mod multicast;
mod port;
mod ports;
mod snoop;
mod stats;
mod storm;
mod switch;
mod table;
mod vlan;

pub use config::{Config, PortConfig};
pub use multicast::may_report;
pub use ports::MAX_ADDRESSES;
pub use snoop::{MulticastRouter, SnoopConfig, SnoopStatistics, UnknownGroups};
pub use stats::{DropReason, Drops, PortStatistics, Statistics};
pub use storm::{Limit, StormLimits};
pub use switch::{Switch, Verdict};
pub use vlan::VlanId;

/// The number of a port, chosen by the caller.
pub type PortId = u32;
