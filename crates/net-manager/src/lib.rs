//! Networks, attachments, addresses and published ports: what a VMM author or the program drives.
//!
//! **What it is for:** putting the parts together. A network is a switch, a gateway and an uplink
//! on one worker thread; this crate starts it, attaches guests to it, keeps addresses apart and
//! publishes ports. **What it is not:** a packet path of its own: every decision about a packet is
//! made by the crates below.
//!
//! | part | its job |
//! |---|---|
//! | [`Network`] | the handle on one network: start, attach, publish, status, stop; callable from any thread |
//! | [`NetworkManager`] | networks by name, apart in their addresses |
//! | [`NetworkConfig`], [`NetConfig`] | every setting, and the short form |
//! | [`control`] | the socket by which a running network is asked and changed |
//! | [`PublishedPort`] | `[ADDR:]PORT:GUESTPORT[/tcp\|/udp]` |
//! | [`UplinkConfig`], [`UplinkDevice`] | the interface and the address of the fast engine |
//! | [`mac_for`] | stable hardware addresses for guests that bring none |
//!
//! ```
//! use net_manager::{NetConfig, NetworkManager};
//!
//! let manager = NetworkManager::new(NetConfig::default());
//! manager.start()?;
//! let ip = manager.allocate_ip()?;
//! assert_eq!(ip.to_string(), "10.0.2.2");
//! # Ok::<(), net_manager::ManagerError>(())
//! ```
#![forbid(unsafe_code)]

mod addresses;
mod config;
pub mod control;
mod dns_io;
mod engine;
mod error;
mod handed_over;
#[cfg(target_os = "linux")]
mod in_kernel;
mod ipv6;
#[cfg(target_os = "linux")]
pub mod kernel;
mod mac;
mod manager;
mod network;
mod resolv;
mod uplink;
mod worker;

pub use addresses::{GuestKey, Reservation};
pub use config::{NetConfig, NetworkConfig, NetworkMode, Polling, PublishedPort};
pub use engine::{Choice, Engine, choose, kernel_can};
pub use error::ManagerError;
#[cfg(target_os = "linux")]
pub use in_kernel::{KernelAttachment, KernelSide};
pub use mac::mac_for;
pub use manager::NetworkManager;
pub use net_backend::NetworkBackend;
pub use net_switch::{Limit, Statistics as SwitchStatistics, StormLimits};
pub use net_usernet::{Protocol, PublishError, bind_published, probe_ping_sockets};
pub use network::Network;
pub use resolv::host_resolvers;
pub use uplink::{OpenUplink, UplinkConfig, UplinkDevice};
pub use worker::{
    AttachOptions, AttachmentId, AttachmentInfo, ForwardId, PortOptions, PortStatistics,
    PublishedAs, Status, UplinkDrops, UplinkStatus,
};
