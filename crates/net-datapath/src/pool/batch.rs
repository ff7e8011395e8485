//! Indices on their way between the shared list and handles, safe against a panic in between.

use core::ptr::NonNull;

use super::buf::PacketBuf;
use super::free_list::cells;
use super::inner::Inner;

/// Most buffers moved at once between the shared list and handles: two words of it.
pub(super) const CHUNK: usize = 64;

/// Buffers taken from the list that become handles one by one; the rest goes back.
pub(super) struct Taken {
    inner: NonNull<Inner>,
    indices: [u32; CHUNK],
    next: usize,
    end: usize,
}

impl Taken {
    /// Takes up to `wanted` buffers, at most [`CHUNK`].
    ///
    /// # Safety
    /// `inner` is alive and stays so while this value is.
    pub(super) unsafe fn acquire(inner: NonNull<Inner>, wanted: usize) -> Self {
        let mut indices = [0; CHUNK];
        let wanted = wanted.min(CHUNK);
        // SAFETY: alive by contract.
        let end = unsafe { inner.as_ref() }.acquire(&mut indices[..wanted]);
        Self {
            inner,
            indices,
            next: 0,
            end,
        }
    }
}

impl Iterator for Taken {
    type Item = PacketBuf;

    #[inline]
    fn next(&mut self) -> Option<PacketBuf> {
        if self.next == self.end {
            return None;
        }
        let index = self.indices[self.next];
        self.next += 1;
        // SAFETY: alive by the contract of `acquire`; this index was taken from the list and is handed on
        // once.
        Some(unsafe {
            let inner = self.inner.as_ref();
            PacketBuf::new(inner.slots.get(index), inner.extent())
        })
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.end - self.next, Some(self.end - self.next))
    }
}

impl ExactSizeIterator for Taken {}

impl Drop for Taken {
    fn drop(&mut self) {
        let left = cells(&mut self.indices[self.next..self.end]);
        // SAFETY: these were taken from the list and not handed on; the pool is alive by the
        // contract of `acquire`.
        unsafe { Inner::release_all(self.inner, left) };
    }
}

/// Buffers collected to go back together.
pub(super) struct Returning {
    inner: NonNull<Inner>,
    indices: [u32; CHUNK],
    len: usize,
}

impl Returning {
    /// Nothing yet.
    ///
    /// # Safety
    /// The caller has a handle of the pool `inner`, and keeps it while this value is.
    pub(super) unsafe fn new(inner: NonNull<Inner>) -> Self {
        Self {
            inner,
            indices: [0; CHUNK],
            len: 0,
        }
    }

    /// Adds a buffer; one of another pool goes home at once.
    #[inline]
    pub(super) fn push(&mut self, buf: PacketBuf) {
        // SAFETY: alive because of the handle.
        let inner = unsafe { self.inner.as_ref() };
        let Some(slot) = buf.into_slot(inner) else {
            return;
        };
        if self.len == CHUNK {
            self.flush();
        }
        self.indices[self.len] = inner.slots.index(slot);
        self.len += 1;
    }

    fn flush(&mut self) {
        let len = core::mem::take(&mut self.len);
        // SAFETY: each index came from a handle that was given up for it; the caller of `new` has a
        // handle of the pool by its contract.
        unsafe { Inner::give_batch(self.inner, cells(&mut self.indices[..len])) };
    }
}

impl Drop for Returning {
    fn drop(&mut self) {
        self.flush();
    }
}
