//! A back end for vhost-user: virtio-net for QEMU, Cloud Hypervisor, crosvm and whoever else speaks
//! it (Linux; <https://qemu-project.gitlab.io/qemu/interop/vhost-user.html>).
//!
//! | part | its job |
//! |---|---|
//! | [`VhostUserPort`] | the port, a [`net_backend::NetworkBackend`], which outlives connections |
//! | [`VhostUserListener`] | where front-ends connect |
//!
//! Frames are moved by whoever drives the port. Messages are read and carried out by a thread of the
//! port's own, which may wait for a front-end as long as it likes: it holds the device only while a
//! message is carried out, and the worker does not wait for it even then.
//!
//! Served are the protocol features `MQ`, `REPLY_ACK`, `CONFIG`, `CONFIGURE_MEM_SLOTS` (64 slots),
//! `RESET_DEVICE`, `STATUS`, `INFLIGHT_SHMFD`, and for live migration `LOG_SHMFD` and `RARP`. **Not
//! served** are rings that are polled instead of kicked, and an IOMMU.
//!
//! # Hostile front-ends
//!
//! Every malformed message ends its connection, and nothing else. Descriptors for kicks and calls must
//! be eventfds; kicks are never read, calls never waited for. Memory must lie within its file, and logs
//! in a sealed one; what they hold is checked when a ring starts, and not read again. What
//! remains is trust in two things: that the file is not shortened afterwards (sealed files cannot be;
//! otherwise a warning is logged), and that nobody takes `O_NONBLOCK` away from a call descriptor
//! again and fills it, which would hold up the worker.

// Public for tests and fuzzing.
#[cfg_attr(not(feature = "driver"), allow(unreachable_pub))]
mod connection;
mod dirty;
mod error;
mod inflight;
mod memory;
mod messages;
mod port;
mod rings;
mod server;
mod session;
mod shared;
#[allow(unsafe_code)]
pub(crate) mod sys;

use std::ptr::NonNull;
use std::sync::Arc;

#[cfg(feature = "driver")]
pub use connection::Connection;
pub use port::{VhostUserPort, VhostUserStats};
pub use server::VhostUserListener;

use crate::error::SetupError;
use crate::memory::Region;

/// A region of the front-end's memory, which keeps its mapping.
#[allow(unsafe_code)]
fn region_of(
    mapping: sys::Mapping,
    host: NonNull<u8>,
    at: memory::RegionAt,
) -> Result<Region, SetupError> {
    let len = usize::try_from(at.size).map_err(|_| SetupError::Region(at.guest))?;
    // SAFETY: `host` is followed by `len` bytes of the mapping, which the region owns; no reference
    // into it is ever made.
    unsafe { Region::new(at.guest, host, len, Arc::new(mapping)) }
}
