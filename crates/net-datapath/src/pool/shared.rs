//! One buffer with several owners.

use core::fmt;
use core::mem::ManuallyDrop;
use core::ops::Deref;

use super::buf::PacketBuf;
use crate::sync::Ordering;

/// More owners than this only come from leaking them on purpose.
const MAX_OWNERS: u32 = 1 << 31;

/// A buffer with several owners, all of them readers: a frame flooded to many ports, or one that is
/// sent and captured. The buffer goes back to its pool when the last owner drops it.
///
/// The count lives beside the pool's buffers: neither sharing nor cloning allocates.
pub struct SharedBuf {
    buf: ManuallyDrop<PacketBuf>,
}

impl SharedBuf {
    pub(super) fn new(buf: PacketBuf) -> Self {
        // The only owner so far; whoever gets a clone gets it by a synchronised way.
        buf.owners().store(1, Ordering::Relaxed);
        Self {
            buf: ManuallyDrop::new(buf),
        }
    }

    /// Bytes of content.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.buf.len()
    }

    /// No content.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.buf.is_empty()
    }

    /// The content.
    #[inline]
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        self.buf.as_slice()
    }

    /// The buffer itself if this is its only owner, else the same shared buffer again.
    pub fn into_unique(self) -> Result<PacketBuf, Self> {
        // Acquire: the reads of owners that have let go happened before what we may write now.
        if self.buf.owners().load(Ordering::Acquire) != 1 {
            return Err(self);
        }
        let mut this = ManuallyDrop::new(self);
        // SAFETY: `this` is not used or dropped any more, so the handle is taken once.
        Ok(unsafe { ManuallyDrop::take(&mut this.buf) })
    }
}

impl Clone for SharedBuf {
    #[inline]
    fn clone(&self) -> Self {
        let owners = self.buf.owners();
        // Relaxed: the new owner is made from a living one.
        if owners.fetch_add(1, Ordering::Relaxed) >= MAX_OWNERS {
            owners.fetch_sub(1, Ordering::Relaxed);
            panic!("too many owners of one buffer");
        }
        Self {
            // SAFETY: a second handle of the same buffer, which only reads; the count above makes
            // sure that exactly one of them is dropped as a handle.
            buf: unsafe { core::ptr::read(&self.buf) },
        }
    }
}

impl Drop for SharedBuf {
    #[inline]
    fn drop(&mut self) {
        if self.buf.owners().fetch_sub(1, Ordering::Release) == 1 {
            // Acquire: the reads of all other owners happened before the buffer is handed out again.
            // A load, where a fence would do as well: race detectors understand loads.
            self.buf.owners().load(Ordering::Acquire);
            // SAFETY: the last owner; the handle is dropped once.
            unsafe { ManuallyDrop::drop(&mut self.buf) };
        }
    }
}

impl Deref for SharedBuf {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl AsRef<[u8]> for SharedBuf {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl fmt::Debug for SharedBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedBuf")
            .field("buf", &*self.buf)
            .finish_non_exhaustive()
    }
}
