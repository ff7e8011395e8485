//! One buffer of a pool, owned.

use core::fmt;
use core::mem::MaybeUninit;
use core::ops::{Deref, DerefMut};

use super::cache::put_into_current;
use super::inner::Inner;
use super::shared::SharedBuf;
use super::slots::{Slot, SlotPtr};

/// A buffer of a [`PacketPool`](super::PacketPool), owned by whoever holds this handle.
///
/// ```text
/// |<------------------ capacity ------------------>|
/// | headroom |        content (len)     | tailroom |
/// ```
///
/// It dereferences to its content. Dropping it, on whatever thread, gives the buffer back. The pool
/// lives as long as any of its buffers, so a buffer may outlast every handle of its pool.
///
/// A buffer comes empty, with the headroom of its pool. Its memory is always initialised, but after
/// the first use it holds what its last user left there: [`set_len`](Self::set_len) and
/// [`spare_mut`](Self::spare_mut) show those bytes, so write before you send.
///
/// No method panics; those that can be refused return `None` and change nothing.
pub struct PacketBuf {
    slot: SlotPtr,
    extent: Extent,
}

/// Where the content is in a buffer, in bytes. Both together are one store, and how large a buffer is
/// stands in the pool only: an allocation is bound by the number of its stores, and the way through a ring
/// by the bytes of a handle.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub(super) struct Extent {
    pub(super) headroom: u32,
    pub(super) len: u32,
}

// SAFETY: the handle owns its buffer's bytes alone, and the pool behind the slot is `Send + Sync`.
unsafe impl Send for PacketBuf {}
// SAFETY: a shared handle only reads.
unsafe impl Sync for PacketBuf {}

// Four to a cache line.
#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<PacketBuf>() == 16 && size_of::<Option<PacketBuf>>() == 16);

impl PacketBuf {
    /// The buffer of `slot`.
    ///
    /// # Safety
    /// The caller owns the buffer, which this handle takes over, and `extent` lies in it.
    #[inline]
    pub(super) unsafe fn new(slot: SlotPtr, extent: Extent) -> Self {
        Self { slot, extent }
    }

    /// The buffer's name.
    #[inline]
    pub(super) fn name(&self) -> SlotPtr {
        self.slot
    }

    /// Gives up the handle without giving the buffer back. A buffer of another pool than `inner` goes
    /// home.
    #[inline]
    pub(super) fn into_slot(self, inner: &Inner) -> Option<SlotPtr> {
        let slot = self.slot;
        inner.slots.contains(slot).then(|| {
            core::mem::forget(self);
            slot
        })
    }

    #[inline]
    fn slot(&self) -> &Slot {
        // SAFETY: the slots are there as long as the pool, and that while one of its buffers is out;
        // they are constant.
        unsafe { self.slot.slot() }
    }

    #[inline]
    pub(super) fn pool(&self) -> &Inner {
        // SAFETY: as for the slot.
        unsafe { self.slot().inner.as_ref() }
    }

    /// First byte of the content.
    #[inline]
    fn data(&self) -> *mut u8 {
        // SAFETY: the headroom is not longer than the buffer.
        unsafe {
            self.slot()
                .start
                .add(self.extent.headroom as usize)
                .as_ptr()
        }
    }

    /// Bytes of content.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.extent.len as usize
    }

    /// No content.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.extent.len == 0
    }

    /// Free bytes in front of the content.
    #[inline]
    #[must_use]
    pub fn headroom(&self) -> usize {
        self.extent.headroom as usize
    }

    /// Free bytes behind the content.
    #[inline]
    #[must_use]
    pub fn tailroom(&self) -> usize {
        self.capacity() - self.headroom() - self.len()
    }

    /// Bytes of the whole buffer: headroom, content and tailroom.
    #[inline]
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.pool().buffer_size() as usize
    }

    /// The buffer's number in its pool, 0 to [`capacity`](super::PacketPool::capacity) - 1: the
    /// place of this buffer in a table kept beside the pool.
    #[inline]
    #[must_use]
    pub fn index(&self) -> usize {
        self.pool().slots.index(self.slot) as usize
    }

    /// The content.
    #[inline]
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: `data..data + len` lies in this buffer, is initialised, and is ours alone.
        unsafe { core::slice::from_raw_parts(self.data(), self.extent.len as usize) }
    }

    /// The content, to be changed.
    #[inline]
    #[must_use]
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as in `as_slice`, and borrowed mutably through the only handle.
        unsafe { core::slice::from_raw_parts_mut(self.data(), self.extent.len as usize) }
    }

    /// Grows the content by `n` bytes at its front and returns those, holding whatever was there;
    /// `None` when the headroom is smaller.
    #[inline]
    pub fn push_front(&mut self, n: usize) -> Option<&mut [u8]> {
        if n > self.extent.headroom as usize {
            return None;
        }
        // No truncation: at most the headroom.
        self.extent.headroom -= n as u32;
        self.extent.len += n as u32;
        self.as_mut_slice().get_mut(..n)
    }

    /// Cuts `n` bytes off the front, which become headroom; `None` when the content is shorter.
    #[inline]
    pub fn pull_front(&mut self, n: usize) -> Option<()> {
        if n > self.extent.len as usize {
            return None;
        }
        self.extent.headroom += n as u32;
        self.extent.len -= n as u32;
        Some(())
    }

    /// Shortens the content to its first `len` bytes; nothing happens when it is not longer.
    #[inline]
    pub fn truncate(&mut self, len: usize) {
        if len < self.extent.len as usize {
            self.extent.len = len as u32;
        }
    }

    /// Appends `bytes`; `None` when the tailroom is smaller.
    #[inline]
    pub fn extend_from_slice(&mut self, bytes: &[u8]) -> Option<()> {
        self.spare_mut()
            .get_mut(..bytes.len())?
            .copy_from_slice(bytes);
        self.extent.len += bytes.len() as u32;
        Some(())
    }

    /// The tailroom, holding whatever was there: to be written, then taken in with
    /// [`set_len`](Self::set_len).
    #[inline]
    #[must_use]
    pub fn spare_mut(&mut self) -> &mut [u8] {
        // SAFETY: the tailroom lies in this buffer directly behind the content, is initialised
        // (zeroed at creation, only ever written with bytes), and is ours alone.
        unsafe {
            core::slice::from_raw_parts_mut(
                self.data().add(self.extent.len as usize),
                self.tailroom(),
            )
        }
    }

    /// The tailroom as memory to be written, for calls that take uninitialised memory.
    ///
    /// # Safety
    /// The caller does not write uninitialised bytes through it.
    #[inline]
    pub unsafe fn spare_uninit(&mut self) -> &mut [MaybeUninit<u8>] {
        let spare = self.spare_mut();
        // SAFETY: same layout; the caller keeps the bytes initialised.
        unsafe {
            core::slice::from_raw_parts_mut(
                spare.as_mut_ptr().cast::<MaybeUninit<u8>>(),
                spare.len(),
            )
        }
    }

    /// Makes the content `len` bytes long, counted from its present start; bytes that come in by
    /// this are whatever was there. `None` when content and tailroom together are shorter.
    #[inline]
    pub fn set_len(&mut self, len: usize) -> Option<()> {
        if len > self.capacity() - self.headroom() {
            return None;
        }
        self.extent.len = len as u32;
        Some(())
    }

    /// Empties the buffer and gives it the headroom of its pool again.
    #[inline]
    pub fn clear(&mut self) {
        let headroom = self.pool().headroom();
        self.place(headroom);
    }

    /// Empties the buffer and puts the start of its content at `headroom`; `None` when the buffer
    /// is smaller than that.
    #[inline]
    pub fn reset(&mut self, headroom: usize) -> Option<()> {
        if headroom > self.capacity() {
            return None;
        }
        self.place(headroom as u32);
        Some(())
    }

    /// Empties the buffer, with `headroom <= capacity`.
    #[inline]
    fn place(&mut self, headroom: u32) {
        debug_assert!(headroom as usize <= self.capacity());
        self.extent.headroom = headroom;
        self.extent.len = 0;
    }

    /// Turns the buffer into one that several owners may read, for instance the ports a frame is
    /// flooded to. Allocates nothing.
    #[inline]
    #[must_use]
    pub fn into_shared(self) -> SharedBuf {
        SharedBuf::new(self)
    }

    #[inline]
    pub(super) fn owners(&self) -> &crate::sync::AtomicU32 {
        &self.pool().owners[self.index()]
    }
}

impl Drop for PacketBuf {
    #[inline]
    fn drop(&mut self) {
        if !put_into_current(self.slot) {
            let inner = self.slot().inner;
            let index = self.pool().slots.index(self.slot);
            // SAFETY: this handle owned the buffer and is gone now; the pool is alive until then.
            unsafe { Inner::release(inner, index) };
        }
    }
}

impl Deref for PacketBuf {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl DerefMut for PacketBuf {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        self.as_mut_slice()
    }
}

impl AsRef<[u8]> for PacketBuf {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl AsMut<[u8]> for PacketBuf {
    #[inline]
    fn as_mut(&mut self) -> &mut [u8] {
        self.as_mut_slice()
    }
}

impl fmt::Debug for PacketBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PacketBuf")
            .field("index", &self.index())
            .field("headroom", &self.extent.headroom)
            .field("len", &self.extent.len)
            .field("capacity", &self.capacity())
            .finish()
    }
}
