//! TAP devices, network namespaces and rtnetlink for Linux.
//!
//! **What it is for:** frames to and from the host's kernel, and processes in namespaces as guests:
//! the parts of the house that only Linux has. **What it is not:** a switch, a router or an event
//! loop. On other systems the crate is empty.
//!
//! | module | what it holds |
//! |---|---|
//! | [`tap`] | [`Tap`]: a TAP device as a network back end, with offloads |
//! | [`netns`] | a command, or an existing namespace, with an interface that is ours |
//! | [`packet_socket`] | a virtual Ethernet pair where TAP devices cannot be had |
//! | [`netlink`] | links, addresses and routes |
//! | [`nftables`] | one table of rules for each network: NAT, published ports, isolation |
//! | [`conntrack`] | the connections that came in by a published port, ended |
//! | [`sysctl`] | the kernel's settings, and what a change of one does to others |
//! | [`ra_socket`] | router advertisements from the host itself |
//! | [`confine`] | a process that gives up what it does not need |
//! | [`probe`] | what this machine allows, and which switch forbids the rest |
//!
//! `unsafe` is in `ioctl.rs` and `sys.rs` (system calls behind safe functions) and in
//! `packet_ring.rs` (memory shared with the kernel) alone.
//!
//! ```no_run
//! use net_backend::{NetworkBackend, Offloads};
//! use net_backend_linux::{Tap, TapOptions};
//!
//! let mut tap = Tap::open("arcbox0", TapOptions::default())?;
//! let offloads = tap.set_offloads(Offloads::ALL)?;
//! println!("{} carries {offloads}", tap.name());
//! tap.receive(64, &mut |batch| {
//!     for packet in batch {
//!         println!("{} bytes from {}", packet.len(), packet.src_mac());
//!     }
//! })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![cfg(target_os = "linux")]
#![deny(unsafe_code)]

pub mod confine;
pub mod conntrack;
mod error;
mod frame_io;
#[allow(unsafe_code)]
mod ioctl;
pub mod netlink;
pub mod netns;
pub mod nftables;
#[allow(unsafe_code)]
mod packet_ring;
pub mod packet_socket;
pub mod probe;
pub mod ra_socket;
#[allow(unsafe_code)]
mod sys;
pub mod sysctl;
pub mod tap;

pub use error::{LinuxError, Result};
pub use packet_socket::PacketSocket;
pub use tap::{Tap, TapOptions, TapSpec};
