//! vmnet.framework as a network back end (macOS).
//!
//! **What it is for:** frames to and from an interface that macOS makes: behind its NAT (shared),
//! with the host alone (host-only), or on a physical network (bridged). **What it is not:** a
//! switch, a DHCP server or a NAT; in shared and host-only mode macOS has its own. On other systems
//! only the configuration exists, so that a program can be configured and tested anywhere.
//!
//! | part | what it is |
//! |---|---|
//! | [`VmnetConfig`], [`VmnetMode`] | which interface, with which MTU and hardware address |
//! | [`ConfigError`], [`VmnetError`] | what is wrong with it, and what the system refused |
//! | `Vmnet` (macOS) | the interface, as a `net_backend::NetworkBackend` |
//!
//! # State
//!
//! The macOS part is **type-checked for `aarch64-apple-darwin` and has never been run**: no test
//! of it has seen the framework. The configuration, the wake-up and the arithmetic of sizes and of
//! waiting are tested on Linux. Missing, and to come with the next release:
//!
//! - batches: each packet is a call of the framework, read into one buffer or gathered into one;
//! - offloads: checksums and super-frames are not asked for, [`Offloads`](net_backend::Offloads)
//!   are always none;
//! - the framework's statuses as errors of their own, with the advice that belongs to each: the
//!   crate `vmnet` names them, and here they become the nearest error number;
//! - a bound on the time to start and to stop: the crate waits until the framework has answered,
//!   and learns nothing if it never does;
//! - DHCP range, isolation, interface id, NAT66 prefix, port forwarding, the networks of macOS 26.
//!
//! vmnet needs root, or the entitlement `com.apple.vm.networking`.
//!
//! `unsafe` is in `handle.rs` alone, for one statement: an interface may move between threads.
//!
//! ```
//! use net_backend_vmnet::{ConfigError, VmnetConfig, VmnetMode};
//!
//! let config = VmnetConfig::shared().with_mtu(9000);
//! config.validate()?;
//! assert_eq!(config.mode(), &VmnetMode::Shared);
//!
//! // A bridged interface has the MTU of the network it joins.
//! let config = VmnetConfig::bridged("en0").with_mtu(9000);
//! assert_eq!(config.validate(), Err(ConfigError::BridgedMtu));
//! # Ok::<(), ConfigError>(())
//! ```
#![deny(unsafe_code)]

mod config;
mod error;
#[cfg(target_os = "macos")]
#[allow(unsafe_code)]
mod handle;
#[cfg(any(target_os = "macos", test))]
mod limits;
#[cfg(any(target_os = "macos", test))]
mod retry;
#[cfg(target_os = "macos")]
mod status;
#[cfg(target_os = "macos")]
mod vmnet_backend;
#[cfg(any(target_os = "macos", all(unix, test)))]
mod wake;

pub use config::{MIN_MTU, VmnetConfig, VmnetMode};
pub use error::{ConfigError, VmnetError};
#[cfg(target_os = "macos")]
pub use vmnet_backend::Vmnet;
