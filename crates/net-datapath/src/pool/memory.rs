//! The memory under a pool: our own, or supplied from outside.

use alloc::alloc::{Layout, alloc_zeroed, dealloc};
use alloc::boxed::Box;
use core::any::Any;
use core::ptr::NonNull;

use super::config::{BUFFER_ALIGN, PoolConfig, PoolError};

/// A run of initialised bytes that belongs to one pool.
pub(super) struct Memory {
    base: NonNull<u8>,
    source: Source,
}

enum Source {
    /// From the global allocator, to be given back with this layout.
    Allocator(Layout),
    /// Kept alive by this value, dropped with the pool.
    Outside(#[expect(dead_code, reason = "held only for its Drop")] Box<dyn Any + Send + Sync>),
}

// SAFETY: the bytes belong to the pool alone, whichever thread holds it; who may touch which of them
// is settled by the ownership of buffers, not by this type.
unsafe impl Send for Memory {}
// SAFETY: as above; a shared `Memory` only gives out its base address.
unsafe impl Sync for Memory {}

impl Memory {
    /// Zeroed memory from the global allocator.
    pub(super) fn allocate(config: &PoolConfig) -> Result<Self, PoolError> {
        let bytes = config.memory_size()?;
        let layout =
            Layout::from_size_align(bytes, BUFFER_ALIGN).map_err(|_| PoolError::TooLarge)?;
        // SAFETY: the size is not zero: at least one buffer of at least one byte.
        let base = unsafe { alloc_zeroed(layout) };
        Ok(Self {
            base: NonNull::new(base).ok_or(PoolError::OutOfMemory(bytes))?,
            source: Source::Allocator(layout),
        })
    }

    /// Memory that `owner` keeps alive, checked for size and alignment. The caller of
    /// `PacketPool::with_memory` has promised the rest.
    pub(super) fn outside(
        config: &PoolConfig,
        memory: NonNull<[u8]>,
        owner: Box<dyn Any + Send + Sync>,
    ) -> Result<Self, PoolError> {
        let needed = config.memory_size()?;
        if memory.len() < needed {
            return Err(PoolError::MemoryTooSmall {
                needed,
                given: memory.len(),
            });
        }
        let base = memory.cast::<u8>();
        if !base.addr().get().is_multiple_of(BUFFER_ALIGN) {
            return Err(PoolError::Misaligned);
        }
        Ok(Self {
            base,
            source: Source::Outside(owner),
        })
    }

    /// The first byte of the first buffer.
    pub(super) fn base(&self) -> NonNull<u8> {
        self.base
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if let Source::Allocator(layout) = self.source {
            // SAFETY: allocated in `allocate` with this very layout, and freed only here.
            unsafe { dealloc(self.base.as_ptr(), layout) };
        }
    }
}
