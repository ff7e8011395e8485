//! What is in flight, noted in memory that outlives this process (vhost-user, "Inflight I/O tracking").
//!
//! Chains are taken and given back within one call, in the order in which they were made available. So
//! nothing is in flight between two calls, and what a call has not given back when the process ends can
//! be taken again, all of it, from the place to which chains were given back. For a split ring that
//! stands in the ring; for a packed one nowhere but here. This device therefore never marks a chain as
//! being in flight: it notes, once a batch, how far it has come, by the rules for a batch.
//!
//! Other back ends finish chains in any order, and may have left some: those are taken up first, as the
//! log has them.
//!
//! The front-end holds the same memory. It is read when a ring starts, once, and checked.

mod packed;
mod split;

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

use crate::error::SetupError;
use crate::memory::Owner;

pub(super) use packed::{PackedLog, Place};
pub(super) use split::SplitLog;

/// The only version there is; 0 is a region that nobody has used.
const VERSION: u16 = 1;
/// Fields of both formats.
const AT_FEATURES: usize = 0;
const AT_VERSION: usize = 8;
const AT_LEN: usize = 10;

/// The region of one queue.
pub(crate) struct InflightLog {
    start: NonNull<u8>,
    /// Descriptors it has entries for.
    entries: u16,
    packed: bool,
    _owner: Owner,
}

// SAFETY: an address of memory that the owner (`Send + Sync`) keeps mapped; bytes are reached by atomics.
unsafe impl Send for InflightLog {}

impl InflightLog {
    /// Bytes of a region for a queue of so many descriptors.
    #[cfg_attr(not(target_os = "linux"), allow(dead_code))]
    pub(crate) const fn len(packed: bool, entries: u16) -> usize {
        let (header, entry) = match packed {
            false => (split::AT_ENTRIES, split::ENTRY),
            true => (packed::AT_ENTRIES, packed::ENTRY),
        };
        header + entry * entries as usize
    }

    /// The region at `start`; `None` where that is not aligned to 8 bytes.
    ///
    /// # Safety
    /// As many bytes as [`Self::len`] says are mapped and writable as long as `owner` lives, and no Rust
    /// reference to them exists.
    #[cfg_attr(not(target_os = "linux"), allow(dead_code))]
    pub(crate) unsafe fn new(
        start: NonNull<u8>,
        packed: bool,
        entries: u16,
        owner: Owner,
    ) -> Option<Self> {
        start.cast::<u64>().is_aligned().then_some(Self {
            start,
            entries,
            packed,
            _owner: owner,
        })
    }

    /// The address of `len` bytes, a power of two, at `at`, a multiple of it.
    fn at(&self, at: usize, len: usize) -> *mut u8 {
        debug_assert!(at.is_multiple_of(len) && at + len <= Self::len(self.packed, self.entries));
        // SAFETY: within the region: fields are constants in front of its entries, and entries are asked
        // for by numbers less than `entries`.
        unsafe { self.start.as_ptr().add(at) }
    }

    fn byte(&self, at: usize) -> &AtomicU8 {
        // SAFETY: mapped by contract of `new`.
        unsafe { AtomicU8::from_ptr(self.at(at, 1)) }
    }

    fn half(&self, at: usize) -> &AtomicU16 {
        // SAFETY: mapped by contract of `new`, and aligned as the region is.
        unsafe { AtomicU16::from_ptr(self.at(at, 2).cast()) }
    }

    fn long(&self, at: usize) -> &AtomicU32 {
        // SAFETY: as in `half`.
        unsafe { AtomicU32::from_ptr(self.at(at, 4).cast()) }
    }

    fn word(&self, at: usize) -> &AtomicU64 {
        // SAFETY: as in `half`.
        unsafe { AtomicU64::from_ptr(self.at(at, 8).cast()) }
    }

    /// Whether somebody has used the region.
    ///
    /// # Errors
    /// [`SetupError::Inflight`] where it is not for a queue of `size` descriptors, or of the future.
    fn is_used(&self, packed: bool, size: u16) -> Result<bool, SetupError> {
        if self.packed != packed || size > self.entries {
            return Err(SetupError::Inflight("is too short"));
        }
        match self.half(AT_VERSION).load(Ordering::Acquire) {
            0 => Ok(false),
            VERSION if self.half(AT_LEN).load(Ordering::Relaxed) >= size => Ok(true),
            _ => Err(SetupError::Inflight("is of another format")),
        }
    }

    /// Shows a region that was written from its beginning.
    fn begin(&self) {
        self.word(AT_FEATURES).store(0, Ordering::Relaxed);
        self.half(AT_LEN).store(self.entries, Ordering::Relaxed);
        self.half(AT_VERSION).store(VERSION, Ordering::Release);
    }

    /// Nothing is in flight, and whoever starts the queue knows where it stands.
    fn end(&self) {
        self.half(AT_VERSION).store(0, Ordering::Release);
    }
}
