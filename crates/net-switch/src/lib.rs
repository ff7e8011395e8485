//! A layer-2 learning switch between the ports of one network.
//!
//! **What it is for:** deciding, from two hardware addresses, where a frame goes. **What it is not:**
//! anything that touches the frame: it never copies, queues or sends. The gateway is a port with a
//! static address, like any other device that the network itself provides.
//!
//! | part | its job |
//! |---|---|
//! | [`Switch`] | ports, the forwarding decision, flood targets |
//! | [`PortConfig`] | what a port may do: which hardware address, isolated or not |
//! | [`Verdict`], [`DropReason`] | where a frame goes, or why it goes nowhere |
//!
//! What a hostile guest can do to it is bounded: addresses per port and in total, moves of an address
//! between ports, broadcasts and unknown-unicast frames per second. No guest can take a static
//! address, or the address another port was given ([`PortConfig::allowed_mac`]).
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
mod switch;
mod table;

pub use config::{Config, PortConfig};
pub use switch::{DropReason, Statistics, Switch, Verdict};

/// The number of a port, chosen by the caller.
pub type PortId = u32;
