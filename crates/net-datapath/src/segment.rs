//! One piece of a scatter list, in the layout of `struct iovec`.
//!
//! A segment may lie over a guest's memory, which the guest changes while it is read. So a
//! segment is never a Rust slice: it is an address and a length, read and written by volatile
//! copies ([`IoSegment::copy_to_slice`], [`IoSegmentMut::copy_from_slice`]) or by the kernel
//! (`readv`, `writev`). What was copied once is decided upon; it is not read again.

mod list;
mod volatile;

use core::marker::PhantomData;

pub(crate) use list::copy_to_slice;
pub use list::{SegmentList, SegmentListFull};

use crate::pool::{PacketBuf, SharedBuf};

/// A readable piece of memory; the layout is that of `struct iovec`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct IoSegment<'a> {
    base: *const u8,
    len: usize,
    lifetime: PhantomData<&'a [u8]>,
}

// SAFETY: a segment gives read access only, by volatile copies, to memory that stays mapped for
// its lifetime; which thread reads it makes no difference.
unsafe impl Send for IoSegment<'_> {}
// SAFETY: as above; a shared segment offers nothing but reads.
unsafe impl Sync for IoSegment<'_> {}

impl<'a> From<&'a [u8]> for IoSegment<'a> {
    #[inline]
    fn from(bytes: &'a [u8]) -> Self {
        Self {
            base: bytes.as_ptr(),
            len: bytes.len(),
            lifetime: PhantomData,
        }
    }
}

impl<'a> From<&'a PacketBuf> for IoSegment<'a> {
    #[inline]
    fn from(buf: &'a PacketBuf) -> Self {
        buf.as_slice().into()
    }
}

impl<'a> From<&'a SharedBuf> for IoSegment<'a> {
    #[inline]
    fn from(buf: &'a SharedBuf) -> Self {
        buf.as_slice().into()
    }
}

impl<'a> IoSegment<'a> {
    /// The empty segment.
    pub const EMPTY: Self = Self {
        base: core::ptr::NonNull::dangling().as_ptr(),
        len: 0,
        lifetime: PhantomData,
    };

    /// A segment over memory that is not a Rust slice.
    ///
    /// # Safety
    /// The `len` bytes at `base` stay mapped and readable for `'a`. Somebody outside this program
    /// (a guest) may write them meanwhile; no Rust reference in this program may do so.
    #[inline]
    pub const unsafe fn from_raw(base: *const u8, len: usize) -> Self {
        Self {
            base,
            len,
            lifetime: PhantomData,
        }
    }

    /// Length in bytes.
    #[inline]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there is nothing in it.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where the piece starts.
    #[inline]
    pub const fn as_ptr(&self) -> *const u8 {
        self.base
    }

    /// The piece as a slice.
    ///
    /// # Safety
    /// Nobody writes the memory for `'a`: it is this program's own, not a guest's.
    #[inline]
    pub const unsafe fn as_slice(&self) -> &'a [u8] {
        // SAFETY: mapped for 'a by the contract of the constructors, unchanged by the caller's.
        unsafe { core::slice::from_raw_parts(self.base, self.len) }
    }

    /// The `take` bytes from `skip` on, or as many as there are.
    #[inline]
    #[must_use]
    pub fn slice(&self, skip: usize, take: usize) -> Self {
        let skip = skip.min(self.len);
        Self {
            // SAFETY: `skip` is at most `len`, so the address stays within or one past the piece.
            base: unsafe { self.base.add(skip) },
            len: take.min(self.len - skip),
            lifetime: PhantomData,
        }
    }

    /// Copies from `offset` on into `out`; returns how many bytes there were.
    ///
    /// Each byte is read exactly once, by volatile loads, so that a guest that changes it
    /// meanwhile changes the copy's content and nothing else.
    #[inline]
    pub fn copy_to_slice(&self, offset: usize, out: &mut [u8]) -> usize {
        let part = self.slice(offset, out.len());
        if let Some(out) = out.get_mut(..part.len) {
            // SAFETY: `part` is mapped and readable for `part.len` bytes.
            unsafe { volatile::read(part.base, out) };
        }
        part.len
    }
}

impl core::fmt::Debug for IoSegment<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "IoSegment({} bytes)", self.len)
    }
}

/// A writable piece of memory; the layout is that of `struct iovec`.
#[repr(C)]
pub struct IoSegmentMut<'a> {
    base: *mut u8,
    len: usize,
    lifetime: PhantomData<&'a mut [u8]>,
}

// SAFETY: a segment is the only path of this program to its bytes; it may move to another thread.
unsafe impl Send for IoSegmentMut<'_> {}
// SAFETY: writing takes `&mut self`; a shared segment only tells address and length.
unsafe impl Sync for IoSegmentMut<'_> {}

impl<'a> From<&'a mut [u8]> for IoSegmentMut<'a> {
    #[inline]
    fn from(bytes: &'a mut [u8]) -> Self {
        Self {
            base: bytes.as_mut_ptr(),
            len: bytes.len(),
            lifetime: PhantomData,
        }
    }
}

impl IoSegmentMut<'_> {
    /// A segment over memory that is not a Rust slice.
    ///
    /// # Safety
    /// The `len` bytes at `base` stay mapped and writable for the lifetime. Somebody outside this
    /// program (a guest) may access them meanwhile; no Rust reference in this program may exist.
    #[inline]
    pub const unsafe fn from_raw(base: *mut u8, len: usize) -> Self {
        Self {
            base,
            len,
            lifetime: PhantomData,
        }
    }

    /// Length in bytes.
    #[inline]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no room in it.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where the piece starts.
    #[inline]
    pub const fn as_mut_ptr(&mut self) -> *mut u8 {
        self.base
    }

    /// Copies `bytes` to `offset`; returns how many found room.
    #[inline]
    pub fn copy_from_slice(&mut self, offset: usize, bytes: &[u8]) -> usize {
        let offset = offset.min(self.len);
        let take = bytes.len().min(self.len - offset);
        if let Some(bytes) = bytes.get(..take) {
            // SAFETY: `offset + take` is at most `len`; the memory is mapped and writable.
            unsafe { volatile::write(self.base.add(offset), bytes) };
        }
        take
    }

    /// The first `len` bytes, for a reader of what was written; shorter if there are fewer.
    #[inline]
    pub fn filled(&self, len: usize) -> IoSegment<'_> {
        // SAFETY: mapped for the borrow; nothing in this program writes while it is shared.
        unsafe { IoSegment::from_raw(self.base, len.min(self.len)) }
    }
}

impl core::fmt::Debug for IoSegmentMut<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "IoSegmentMut({} bytes)", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use alloc::vec::Vec;

    #[test]
    fn the_layout_is_that_of_an_iovec() {
        assert_eq!(size_of::<IoSegment<'_>>(), 2 * size_of::<usize>());
        assert_eq!(core::mem::offset_of!(IoSegment<'_>, base), 0);
        assert_eq!(
            core::mem::offset_of!(IoSegmentMut<'_>, len),
            size_of::<usize>()
        );
    }

    /// Every alignment and length around the word size, against the slice copy.
    #[test]
    fn copies_are_exact_at_every_alignment() {
        let bytes: Vec<u8> = (0..120u8).collect();
        for from in 0..17 {
            for len in 0..90 {
                let segment = IoSegment::from(&bytes[..]);
                let mut out = vec![0xee; len + 2];
                assert_eq!(segment.copy_to_slice(from, &mut out[1..=len]), len);
                assert_eq!(&out[1..=len], &bytes[from..from + len]);
                assert_eq!((out[0], out[len + 1]), (0xee, 0xee));

                let mut target = [0xdd; 120];
                let mut segment = IoSegmentMut::from(&mut target[..]);
                assert_eq!(segment.copy_from_slice(from, &bytes[..len]), len);
                assert_eq!(&target[from..from + len], &bytes[..len]);
                assert!(target[..from].iter().all(|b| *b == 0xdd));
                assert!(target[from + len..].iter().all(|b| *b == 0xdd));
            }
        }
    }

    #[test]
    fn nothing_is_read_or_written_past_the_end() {
        let bytes = [1u8, 2, 3];
        let mut out = [9u8; 4];
        let segment = IoSegment::from(&bytes[..]);
        assert_eq!(segment.copy_to_slice(1, &mut out), 2);
        assert_eq!(out, [2, 3, 9, 9]);
        assert_eq!(segment.copy_to_slice(usize::MAX, &mut out), 0);
        assert_eq!(segment.slice(2, usize::MAX).len(), 1);
        let mut target = [0u8; 2];
        assert_eq!(
            IoSegmentMut::from(&mut target[..]).copy_from_slice(1, &bytes),
            1
        );
        assert_eq!(target, [0, 1]);
    }
}
