//! Virtual-machine networking behind one name.
//!
//! **What it is for:** a VMM, a sandbox or a test that wants a network for its guests and nothing to
//! assemble. **What it is not:** a crate with code of its own. Everything here is re-exported from
//! the crates below; whoever needs one part takes that crate alone.
//!
//! | here | from | what it is |
//! |---|---|---|
//! | [`NetworkManager`], [`Network`], [`NetConfig`], [`NetworkMode`], ... | `net-manager` | networks: start, attach, publish, stop |
//! | [`backend`] | `net-backend` | the trait a device implements |
//! | [`datapath`] | `net-datapath` | ring, pool, packet, offloads |
//!
//! # A network in six lines
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use arcbox_net::{NetworkManager, NetConfig, NetworkMode};
//! let config = NetConfig { mode: NetworkMode::Nat, mac: None, mtu: 1500, bridge: None, multiqueue: false, num_queues: 1 };
//! let manager = NetworkManager::new(config);
//! manager.start()?;
//! let ip = manager.allocate_ip();
//! # assert_eq!(ip?.to_string(), "10.0.2.2");
//! # Ok(())
//! # }
//! ```
//!
//! # A guest in the same process
//!
//! Whatever implements [`backend::NetworkBackend`] can be attached; [`backend::memory`] has a pair
//! that is connected to itself, for tests and for VMMs that move frames by hand.
//!
//! ```
//! use arcbox_net::{AttachOptions, NetConfig, NetworkManager, backend::memory};
//!
//! let manager = NetworkManager::new(NetConfig::default());
//! manager.start()?;
//! let (guest, port) = memory::pair();
//! let options = AttachOptions { name: Some("web".to_owned()), ..AttachOptions::default() };
//! let attached = manager.attach(Box::new(port), options)?;
//! assert_eq!(attached.address.to_string(), "10.0.2.2");
//! # drop(guest);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

pub use net_manager::{
    AttachOptions, AttachmentId, AttachmentInfo, Engine, ForwardId, GuestKey, ManagerError,
    NetConfig, Network, NetworkConfig, NetworkManager, NetworkMode, PortStatistics, Protocol,
    PublishedAs, PublishedPort, Reservation, Status, kernel_can, mac_for,
};
#[cfg(target_os = "linux")]
pub use net_manager::{KernelAttachment, kernel};

pub use net_backend as backend;
pub use net_datapath as datapath;
