//! vmnet.framework as a network back end (macOS).
//!
//! **What it is for:** frames to and from an interface that macOS makes: behind its NAT (shared),
//! with the host alone (host-only), on a physical network (bridged), or on a network of its own
//! (macOS 26). **What it is not:** a switch, a DHCP server or a NAT; in shared and host-only mode
//! macOS has its own. On other systems [`Vmnet::new`] says that they have no such framework; what
//! else there is works, so that a program can be configured and tested anywhere.
//!
//! | part | what it is |
//! |---|---|
//! | [`VmnetConfig`], [`VmnetMode`], [`InterfaceId`] | which interface, with which options |
//! | [`Vmnet`], [`VmnetInfo`] | the interface, as a `net_backend::NetworkBackend`; what macOS says of it |
//! | [`ForwardRule`], [`ForwardProtocol`] | ports of the host that lead to guests |
//! | [`VmnetNetwork`], [`VmnetNetworkConfig`] | networks of macOS 26 |
//! | [`ConfigError`], [`VmnetError`], [`Status`] | what is wrong, what the system refused, what to do |
//!
//! # How it works
//!
//! The framework stands behind one narrow trait. Above it, and tested on any system against a fake
//! with faults: the options, the statuses, the batches, back-pressure, events, stopping, dropping.
//! Below it, in `ffi`, type-checked for both kinds of Mac: the calls themselves, and all of the
//! `unsafe` code. What has been run on a Mac and what has not stands in `docs/macos.md`.
//!
//! - **Completion handlers are real**: whatever the framework says at the start is in [`VmnetInfo`].
//! - **Events, not polling**: the framework's callback makes a descriptor readable.
//! - **Batches without copies**: as many packets in one call as the framework allows, read into
//!   slots that are lent where they lie, written from the scatter lists of their frames.
//! - **Back-pressure**: the framework tells nobody when it has room again; a deadline does.
//! - **Offloads**: with the virtio header (macOS 15.4) super-frames and partial checksums pass in
//!   both directions. What nobody agreed to is finished in software.
//!
//! vmnet needs root, or the entitlement `com.apple.vm.networking`.
//!
//! ```
//! use net_backend_vmnet::{Vmnet, VmnetConfig, VmnetError};
//!
//! let config = VmnetConfig::shared()
//!     .with_mac("52:54:00:12:34:56".parse()?)
//!     .with_mtu(9000)
//!     .with_dhcp_range([192, 168, 105, 1].into(), [192, 168, 105, 254].into())
//!     .with_subnet_mask([255, 255, 255, 0].into());
//! match Vmnet::new(config) {
//!     Ok(vmnet) => println!("{:?}", vmnet.info()),
//!     Err(VmnetError::UnsupportedSystem) => println!("not a Mac"),
//!     Err(error) => println!("{error}"),
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![deny(unsafe_code)]
#![cfg(unix)]
// Without the framework or its fake nobody takes what is handed over.
#![cfg_attr(not(any(target_os = "macos", test)), allow(dead_code))]

mod backend;
mod config;
mod error;
#[cfg(test)]
mod fake;
#[cfg(target_os = "macos")]
#[allow(unsafe_code)]
mod ffi;
mod forwarding;
mod framework;
mod health;
mod info;
mod interface_id;
mod key;
mod limits;
mod network;
mod pause;
mod platform;
mod request;
mod rx;
mod session;
mod status;
#[cfg(test)]
mod tests;
mod tx;
mod vmnet;
mod wake;

pub use config::{MIN_MTU, VmnetConfig, VmnetMode};
pub use error::{ConfigError, VmnetError};
pub use forwarding::{ForwardProtocol, ForwardRule};
pub use info::VmnetInfo;
pub use interface_id::InterfaceId;
pub use key::MacosRelease;
pub use network::{VmnetNetwork, VmnetNetworkConfig};
pub use status::Status;
pub use vmnet::Vmnet;
