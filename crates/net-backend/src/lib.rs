//! The one trait that every device, socket and uplink implements: [`NetworkBackend`].
//!
//! **What it is for:** moving Ethernet frames between a guest's NIC (or a host interface) and the
//! rest of the stack, in batches, with partial progress and offloads as ordinary cases.
//! **What it is not:** an event loop, a thread or a queue. The caller owns the loop: it asks
//! [`NetworkBackend::source`] what to wait for and [`NetworkBackend::next_deadline`] how long.
//!
//! | part | what it is |
//! |---|---|
//! | [`NetworkBackend`], [`TxFrame`] | the contract |
//! | [`Capabilities`], [`Offloads`] | what a back end can carry, and what was agreed |
//! | [`BackendError`], [`Malformed`] | whose fault it is: the peer's, the host's, or the request's |
//! | [`BackendStats`] | counters of frames, bytes, drops and refusals |
//! | [`declare`] | for frames that do not say what their sender left undone |
//! | [`PacketBatch`] | building the batch that `receive` lends without allocating |
//! | [`memory`] | two connected ends in memory, with faults on request |
//! | `conformance` | the tests every back end must pass (feature `conformance`) |
//!
//! Receiving lends frames where they lie and transmitting takes scatter lists, so that a frame
//! from one guest to another is copied once. The numbers of decision record 0001 say why.
//!
//! ```
//! use net_backend::{NetworkBackend, TxFrame, memory};
//!
//! let (mut guest, mut switch) = memory::pair();
//! let frame = [0xff; 60];
//! assert_eq!(guest.transmit(&[TxFrame::plain(&[frame[..].into()])])?, 1);
//!
//! let mut seen = 0;
//! switch.receive(64, &mut |batch| {
//!     for packet in batch {
//!         assert!(packet.dst_mac().is_broadcast());
//!         seen += packet.len();
//!     }
//! })?;
//! assert_eq!(seen, 60);
//! # Ok::<(), net_backend::BackendError>(())
//! ```
#![forbid(unsafe_code)]

mod backend;
mod capabilities;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod declare;
mod error;
pub mod memory;
mod stats;

pub use backend::{MAX_FRAME, MIN_FRAME, NetworkBackend, Presence, TxFrame};
pub use capabilities::{Capabilities, Offloads};
pub use declare::declare;
pub use error::{BackendError, Malformed};
pub use net_datapath::packet::PacketBatch;
pub use stats::BackendStats;
