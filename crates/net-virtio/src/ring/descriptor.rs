//! Descriptors, and the walk through an indirect table, which both formats share.

use net_datapath::IoSegment;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Access, Buffers, MAX_INDIRECT};
use crate::error::QueueError;
use crate::memory::GuestMemory;

/// Length in bytes, in tables and in packed rings.
pub(super) const LEN: u64 = 16;
/// The chain goes on.
pub(super) const NEXT: u16 = 1;
/// The device writes the buffer.
pub(super) const WRITE: u16 = 2;
/// The buffer is a table of descriptors.
pub(super) const INDIRECT: u16 = 4;

/// A descriptor, read once. The last two fields trade places in packed rings.
#[derive(Clone, Copy, Debug)]
pub(super) struct Descriptor {
    pub(super) address: u64,
    pub(super) len: u32,
    /// Flags of a split ring's; the buffer's id of a packed ring's.
    pub(super) third: u16,
    /// Successor of a split ring's; flags of a packed ring's.
    pub(super) fourth: u16,
}

impl Descriptor {
    #[inline]
    pub(super) fn from_words(address: u64, rest: u64) -> Self {
        Self {
            address,
            len: rest as u32,
            third: (rest >> 32) as u16,
            fourth: (rest >> 48) as u16,
        }
    }

    /// Reads the descriptor at `at`.
    ///
    /// # Safety
    /// 16 bytes at `at` are mapped; `at` is a multiple of 8.
    #[inline(always)]
    pub(super) unsafe fn read_aligned(at: *const u8) -> Self {
        debug_assert!(at.addr().is_multiple_of(8));
        // SAFETY: mapped and aligned by contract; the guest may write them, as atomics allow.
        let (address, rest) = unsafe {
            (
                AtomicU64::from_ptr(at.cast_mut().cast()),
                AtomicU64::from_ptr(at.add(8).cast_mut().cast()),
            )
        };
        Self::from_words(
            u64::from_le(address.load(Ordering::Relaxed)),
            u64::from_le(rest.load(Ordering::Relaxed)),
        )
    }

    /// Reads the descriptor at `at`, of any alignment.
    ///
    /// # Safety
    /// 16 bytes at `at` are mapped.
    #[inline]
    pub(super) unsafe fn read(at: *const u8) -> Self {
        if at.addr().is_multiple_of(8) {
            // SAFETY: mapped by contract, and aligned.
            return unsafe { Self::read_aligned(at) };
        }
        // Nothing says that an indirect table is aligned.
        let mut bytes = [0; LEN as usize];
        // SAFETY: mapped by contract.
        unsafe { IoSegment::from_raw(at, bytes.len()) }.copy_to_slice(0, &mut bytes);
        let [a, b] = [0, 8].map(|from| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[from..from + 8]);
            u64::from_le_bytes(word)
        });
        Self::from_words(a, b)
    }

    /// Appends the pieces of the buffer.
    #[inline]
    pub(super) fn buffer(
        &self,
        flags: u16,
        memory: &GuestMemory,
        out: &mut Buffers,
    ) -> Result<(), QueueError> {
        if self.len == 0 {
            return Err(QueueError::EmptyDescriptor);
        }
        match (out.access, flags & WRITE != 0) {
            (Access::Read, false) | (Access::Write, true) => {}
            (Access::ReadThenWrite, true) => {
                out.writable.get_or_insert(out.pieces.len());
            }
            (Access::ReadThenWrite, false) if out.writable.is_none() => {}
            _ => return Err(QueueError::Direction),
        }
        memory.translate(self.address, self.len, &mut out.pieces)
    }
}

/// An indirect table, found and measured.
#[derive(Clone, Copy)]
pub(super) struct Table {
    base: *const u8,
    pub(super) len: u32,
}

impl Table {
    /// The table a descriptor points at.
    pub(super) fn of(descriptor: &Descriptor, memory: &GuestMemory) -> Result<Self, QueueError> {
        let len = descriptor.len / LEN as u32;
        if u64::from(descriptor.len) % LEN != 0 || len == 0 || len > MAX_INDIRECT {
            return Err(QueueError::Indirect(descriptor.len));
        }
        let base = memory
            .contiguous(descriptor.address, descriptor.len.into())
            .ok_or(QueueError::OutOfRange {
                address: descriptor.address,
                len: descriptor.len.into(),
            })?;
        Ok(Self {
            base: base.as_ptr(),
            len,
        })
    }

    /// Entry `index`; `None` past the end.
    #[inline]
    pub(super) fn get(&self, index: u32) -> Option<Descriptor> {
        if index >= self.len {
            return None;
        }
        // SAFETY: within the table, which `of` has found mapped; the caller's memory table keeps
        // it so during the walk.
        Some(unsafe { Descriptor::read(self.base.add(index as usize * LEN as usize)) })
    }
}
