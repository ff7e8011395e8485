//! A fixed array in zeroed memory.

use alloc::alloc::{Layout, alloc_zeroed, dealloc};
use core::ops::{Deref, DerefMut, Range};
use core::ptr::NonNull;

/// Types for which a run of zero bytes is a value.
///
/// # Safety
/// All bytes zero is a valid value of the type, and the type needs no drop.
pub(crate) unsafe trait Zeroable: Copy {}

// SAFETY: plain integers.
unsafe impl Zeroable for u32 {}
// SAFETY: plain integers.
unsafe impl Zeroable for u64 {}

const LINE: usize = 64;
/// Regions of this many bytes start on such a boundary, so that a system with large pages can use
/// them from the first byte on.
pub(crate) const LARGE: usize = 2 << 20;

/// A fixed number of `T`s in zeroed memory, aligned to a cache line, or to 2 MiB if it is larger.
///
/// The memory comes from the allocator zeroed, which for large sizes means untouched: what is never
/// used costs address space only, and making a region takes no time.
pub(crate) struct Region<T> {
    base: NonNull<T>,
    len: usize,
    /// What the allocator gave, to be given back.
    raw: NonNull<u8>,
    layout: Layout,
}

// SAFETY: the region owns its memory as a box would.
unsafe impl<T: Send> Send for Region<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Region<T> {}

impl<T: Zeroable> Region<T> {
    /// `len` zeroed values; `None` if the memory is not to be had.
    pub(crate) fn new(len: usize) -> Option<Self> {
        let bytes = size_of::<T>().checked_mul(len.max(1))?;
        let align = if bytes >= LARGE { LARGE } else { LINE };
        let align = align.max(align_of::<T>());
        // Asked for with a small alignment, because only then does the allocator take memory that
        // the system has zeroed instead of writing zeros over all of it.
        let layout = Layout::from_size_align(bytes.checked_add(align)?, 16).ok()?;
        // SAFETY: the size is not zero.
        let raw = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        let skip = raw.addr().get().wrapping_neg() & (align - 1);
        // SAFETY: `skip < align`, and the block is `align` bytes longer than the array.
        let base = unsafe { raw.add(skip) }.cast();
        Some(Self {
            base,
            len,
            raw,
            layout,
        })
    }
}

impl<T> Region<T> {
    /// Bytes of the array.
    pub(crate) fn bytes(&self) -> usize {
        self.len * size_of::<T>()
    }

    /// Where the array lies.
    pub(crate) fn range(&self) -> Range<*const u8> {
        let range = self.as_ptr_range();
        range.start.cast()..range.end.cast()
    }
}

impl<T> Deref for Region<T> {
    type Target = [T];

    #[inline(always)]
    fn deref(&self) -> &[T] {
        // SAFETY: `new` allocated room for `len` values at `base`, aligned; zero is a value of `T`
        // (`Zeroable`), and the region owns the memory.
        unsafe { core::slice::from_raw_parts(self.base.as_ptr(), self.len) }
    }
}

impl<T> DerefMut for Region<T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as for `deref`; `&mut self` makes it unique.
        unsafe { core::slice::from_raw_parts_mut(self.base.as_ptr(), self.len) }
    }
}

impl<T> Drop for Region<T> {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout; `T` needs no drop (`Zeroable`).
        unsafe { dealloc(self.raw.as_ptr(), self.layout) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_zeroed_aligned_and_writable_to_its_ends() {
        for len in [0, 1, 7, 1 << 20] {
            let mut region = Region::<u32>::new(len).expect("memory");
            assert_eq!(region.len(), len);
            let align = if len * 4 >= LARGE { LARGE } else { LINE };
            assert_eq!(region.as_ptr().addr() % align, 0);
            assert!(region.iter().all(|&x| x == 0));
            if let Some(last) = region.last_mut() {
                *last = 5;
                assert_eq!(region[len - 1], 5);
            }
        }
    }

    #[test]
    fn impossible_sizes_are_refused() {
        assert!(Region::<u64>::new(usize::MAX / 4).is_none());
        assert!(Region::<u64>::new(usize::MAX / 8).is_none());
    }
}
