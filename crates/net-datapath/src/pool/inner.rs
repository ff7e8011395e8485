//! What all handles and buffers of one pool point at, and the word that decides how long it lives.

use alloc::boxed::Box;
use core::ptr::NonNull;

use crossbeam_utils::CachePadded;

use super::config::{PoolConfig, PoolError};
use super::free_list::FreeList;
use super::memory::Memory;
use crate::sync::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// One handle in [`Hot::state`].
const HANDLE: u64 = 1 << 32;
/// The part of [`Hot::state`] that counts free buffers.
const FREE: u64 = HANDLE - 1;
/// More handles than this only come from leaking them on purpose.
const MAX_HANDLES: u64 = 1 << 31;

/// The shared part of a pool.
pub(super) struct Inner {
    base: NonNull<u8>,
    stride: usize,
    buffer_size: u32,
    headroom: u32,
    buffers: u32,
    free: FreeList,
    /// Owners of each buffer that has been shared; meaningless for the others.
    pub(super) owners: Box<[AtomicU32]>,
    /// Held only to be dropped with the pool.
    _memory: Memory,
    hot: CachePadded<Hot>,
    cold: CachePadded<Cold>,
}

/// Written by every allocation and release that reaches the shared list.
struct Hot {
    /// Low half: buffers in the shared list that nobody has reserved. High half: living handles.
    ///
    /// The pool ends with the operation that leaves exactly "no handle, all buffers free": without a
    /// handle nothing can be allocated, so there is exactly one such operation, and buffers need no
    /// reference count of their own to keep their pool alive.
    state: AtomicU64,
    /// The word of the list where a free buffer was seen last.
    hint: AtomicUsize,
}

/// Written when something is wrong or wanting.
struct Cold {
    exhausted: AtomicU64,
    /// Changes whenever somebody went away empty-handed: caches then give back what they hold.
    hunger: AtomicU32,
}

// SAFETY: the atomics are shared as atomics, the rest is constant; `base` is only an address here,
// and each buffer behind it belongs to the one handle that took its index from the list.
unsafe impl Send for Inner {}
// SAFETY: as above.
unsafe impl Sync for Inner {}

impl Inner {
    /// A pool with one handle and all buffers free.
    pub(super) fn create(config: &PoolConfig, memory: Memory) -> Result<NonNull<Self>, PoolError> {
        let stride = config.stride()?;
        let inner = Box::new(Self {
            base: memory.base(),
            stride,
            // In range: `stride` has checked the configuration.
            buffer_size: config.buffer_size as u32,
            headroom: config.headroom as u32,
            buffers: config.buffers as u32,
            free: FreeList::full(config.buffers),
            owners: (0..config.buffers).map(|_| AtomicU32::new(0)).collect(),
            _memory: memory,
            hot: CachePadded::new(Hot {
                state: AtomicU64::new(HANDLE | config.buffers as u64),
                hint: AtomicUsize::new(0),
            }),
            cold: CachePadded::new(Cold {
                exhausted: AtomicU64::new(0),
                hunger: AtomicU32::new(0),
            }),
        });
        Ok(NonNull::from(Box::leak(inner)))
    }

    pub(super) fn buffers(&self) -> usize {
        self.buffers as usize
    }

    #[inline]
    pub(super) fn buffer_size(&self) -> u32 {
        self.buffer_size
    }

    #[inline]
    pub(super) fn headroom(&self) -> u32 {
        self.headroom
    }

    pub(super) fn available(&self) -> usize {
        (self.hot.state.load(Ordering::Relaxed) & FREE) as usize
    }

    pub(super) fn exhausted(&self) -> u64 {
        self.cold.exhausted.load(Ordering::Relaxed)
    }

    #[inline]
    pub(super) fn hunger(&self) -> u32 {
        self.cold.hunger.load(Ordering::Relaxed)
    }

    /// Address of byte `offset` of buffer `index`, both in range.
    ///
    /// # Safety
    /// `index < buffers` and `offset <= buffer_size`.
    #[inline]
    pub(super) unsafe fn address(&self, index: u32, offset: u32) -> NonNull<u8> {
        debug_assert!(index < self.buffers && offset <= self.buffer_size);
        // SAFETY: within the pool's memory, which has `buffers * stride` bytes and
        // `buffer_size <= stride`.
        unsafe {
            self.base
                .add(index as usize * self.stride + offset as usize)
        }
    }

    /// Takes free buffers for as much of `out` as there are and returns how many; counts the calls
    /// that got fewer than `needed`.
    #[inline]
    pub(super) fn acquire(&self, out: &mut [u32], needed: usize) -> usize {
        let reserved = self.reserve(out.len());
        if reserved < needed {
            self.note_exhausted();
        }
        if reserved > 0 {
            let hint = self.hot.hint.load(Ordering::Relaxed);
            let word = self.free.take(&mut out[..reserved], hint);
            if word != hint {
                self.hot.hint.store(word, Ordering::Relaxed);
            }
        }
        reserved
    }

    /// Reserves up to `wanted` free buffers. The count is exact: 0 means that at one moment during
    /// the call not one buffer was in the list.
    #[inline]
    fn reserve(&self, wanted: usize) -> usize {
        let mut state = self.hot.state.load(Ordering::Relaxed);
        loop {
            let count = (state & FREE).min(wanted as u64);
            if count == 0 {
                return 0;
            }
            // Acquire: the bits of the buffers counted here are visible to the search that follows.
            match self.hot.state.compare_exchange_weak(
                state,
                state - count,
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) => return count as usize,
                Err(now) => state = now,
            }
        }
    }

    #[cold]
    fn note_exhausted(&self) {
        self.cold.exhausted.fetch_add(1, Ordering::Relaxed);
        self.cold.hunger.fetch_add(1, Ordering::Relaxed);
    }

    /// Gives buffer `index` back, and the whole pool if that was the last thing out.
    ///
    /// # Safety
    /// `this` is alive and the caller owns buffer `index` of it. `this` may be gone afterwards.
    #[inline]
    pub(super) unsafe fn release(this: NonNull<Self>, index: u32) {
        // SAFETY: alive until the count below says that this buffer is back.
        let inner = unsafe { this.as_ref() };
        let word = inner.free.put(index);
        inner.hot.hint.store(word, Ordering::Relaxed);
        // SAFETY: the caller's buffer is in the list now.
        unsafe { Self::counted(this, 1) };
    }

    /// Gives several buffers back; see [`release`](Self::release).
    ///
    /// # Safety
    /// `this` is alive and the caller owns these buffers, each named once. `this` may be gone afterwards.
    pub(super) unsafe fn release_all(this: NonNull<Self>, indices: &[u32]) {
        if indices.is_empty() {
            return;
        }
        // SAFETY: alive until the count below says that these buffers are back.
        let inner = unsafe { this.as_ref() };
        let word = inner.free.put_all(indices);
        inner.hot.hint.store(word, Ordering::Relaxed);
        // SAFETY: the caller's buffers are in the list now.
        unsafe { Self::counted(this, indices.len() as u64) };
    }

    /// Adds `count` buffers, already in the list, to the state.
    ///
    /// # Safety
    /// `this` is alive because these buffers have not been counted yet.
    #[inline]
    unsafe fn counted(this: NonNull<Self>, count: u64) {
        // SAFETY: alive by contract until the addition; `total` is read before it for that reason.
        let inner = unsafe { this.as_ref() };
        let total = u64::from(inner.buffers);
        // Release publishes the bits; Acquire matters to the last one, which must see what all
        // others did before it frees the pool.
        let before = inner.hot.state.fetch_add(count, Ordering::AcqRel);
        if before + count == total {
            // SAFETY: no handle is left and all buffers are home; nobody else can reach the pool.
            unsafe { Self::destroy(this) };
        }
    }

    /// Adds a handle.
    pub(super) fn add_handle(&self) {
        let before = self.hot.state.fetch_add(HANDLE, Ordering::Relaxed);
        if before >= MAX_HANDLES * HANDLE {
            self.hot.state.fetch_sub(HANDLE, Ordering::Relaxed);
            panic!("too many handles of one packet pool");
        }
    }

    /// Takes a handle away, and the pool with it if all buffers are home.
    ///
    /// # Safety
    /// `this` is alive and the caller owns one handle. `this` may be gone afterwards.
    pub(super) unsafe fn drop_handle(this: NonNull<Self>) {
        // SAFETY: alive by contract until the subtraction; `total` is read before it.
        let inner = unsafe { this.as_ref() };
        let total = u64::from(inner.buffers);
        // Orderings as in `counted`.
        let before = inner.hot.state.fetch_sub(HANDLE, Ordering::AcqRel);
        if before - HANDLE == total {
            // SAFETY: as in `counted`.
            unsafe { Self::destroy(this) };
        }
    }

    /// Ends the pool.
    ///
    /// # Safety
    /// `this` came from [`create`](Self::create), and neither a handle nor a buffer of it is left.
    #[cold]
    unsafe fn destroy(this: NonNull<Self>) {
        // SAFETY: leaked from a box in `create`, by contract not reachable any more.
        drop(unsafe { Box::from_raw(this.as_ptr()) });
    }
}
