//! Packet buffers made once, handed out and taken back without locks and without the allocator.
//!
//! | type | is |
//! |---|---|
//! | [`PacketPool`] | a handle of the pool; clone it for every thread |
//! | [`PacketBuf`] | one buffer, owned; gives itself back when dropped, on any thread |
//! | [`SharedBuf`] | one buffer with several readers; gives itself back with the last |
//! | [`PoolCache`] | one worker's own store of free buffers in front of the shared list |
//! | [`PoolConfig`], [`PoolError`] | the shape of a pool, and why one could not be made |
//!
//! # How free buffers are kept
//!
//! A bit per buffer says whether it is free. Taking and giving back are one atomic operation each on
//! the word that holds the bit, or one for many bits of the same word; no thread ever waits for
//! another. What caches and batches give back goes on trays of up to 30 buffers instead, two cache
//! lines that pass from thread to thread whole; only their states are compared, and none comes twice.
//! So ABA cannot happen.
//!
//! "Empty" is never a mistake: an allocation fails only if at one moment during the call not one
//! buffer was in the list (and, with a [`PoolCache`], in the caller's cache). It is a value, `None`,
//! which costs a walk or two over the words, 32 buffers each, and over at most 64 trays; it never
//! blocks and never allocates.
//!
//! Each worker should have a [`PoolCache`], given to it or [entered](PoolCache::enter): allocating
//! and freeing through it touches nothing that another thread writes. Without caches, threads begin
//! their searches apart and free what they allocated without meeting; but where one thread allocates
//! what another drops, each buffer moves a cache line from core to core and back, and a queue of
//! indices is faster: use a cache on either side there, or batches.
//!
//! # Example
//!
//! ```
//! use net_datapath::pool::{PacketPool, PoolConfig};
//!
//! let pool = PacketPool::new(PoolConfig { buffers: 1024, buffer_size: 2048, headroom: 128 })?;
//! let mut frame = pool.alloc().expect("nothing is out yet");
//! frame.extend_from_slice(b"payload").expect("1,920 bytes are free");
//! frame.push_front(4).expect("128 bytes are free").copy_from_slice(b"head");
//! assert_eq!(&frame[..], b"headpayload");
//!
//! std::thread::spawn(move || drop(frame)).join().expect("drops");
//! assert_eq!(pool.available(), 1024);
//! # Ok::<(), net_datapath::pool::PoolError>(())
//! ```
//!
//! # What the compiler refuses
//!
//! A buffer has one owner:
//!
//! ```compile_fail,E0599
//! # use net_datapath::pool::*;
//! # let pool = PacketPool::new(PoolConfig { buffers: 1, buffer_size: 64, headroom: 0 }).unwrap();
//! let buf = pool.alloc().unwrap();
//! let second = buf.clone();
//! ```
//!
//! A shared buffer is for reading:
//!
//! ```compile_fail,E0594
//! # use net_datapath::pool::*;
//! # let pool = PacketPool::new(PoolConfig { buffers: 1, buffer_size: 64, headroom: 0 }).unwrap();
//! let mut shared = pool.alloc().unwrap().into_shared();
//! shared[0] = 1;
//! ```
//!
//! A cache belongs to one thread at a time:
//!
//! ```compile_fail,E0277
//! # use net_datapath::pool::*;
//! # let pool = PacketPool::new(PoolConfig { buffers: 1, buffer_size: 64, headroom: 0 }).unwrap();
//! let cache = pool.cache(8);
//! std::thread::scope(|s| { s.spawn(|| cache.alloc()); });
//! ```

mod batch;
mod buf;
mod cache;
mod config;
mod free_list;
mod inner;
mod memory;
#[cfg(loom)]
#[doc(hidden)]
pub mod model;
mod shared;
mod slots;
mod tray;

use alloc::boxed::Box;
use core::fmt;
use core::ptr::NonNull;

pub use buf::PacketBuf;
pub use cache::PoolCache;
pub use config::{BUFFER_ALIGN, PoolConfig, PoolError};
pub use shared::SharedBuf;

use batch::{CHUNK, Returning, Taken};
use cache::current;
use inner::Inner;
use memory::Memory;

/// A set of buffers of one size, preallocated and shared by threads. Clones are handles of the same
/// pool; its memory goes when the last handle and the last buffer are gone.
pub struct PacketPool {
    inner: NonNull<Inner>,
}

// SAFETY: `Inner` is `Send + Sync`, and the handle counts as one whichever thread drops it.
unsafe impl Send for PacketPool {}
// SAFETY: as above.
unsafe impl Sync for PacketPool {}

impl PacketPool {
    /// Makes a pool in zeroed memory from the global allocator.
    ///
    /// # Errors
    /// When the configuration is impossible or the memory is not to be had: see [`PoolError`].
    pub fn new(config: PoolConfig) -> Result<Self, PoolError> {
        let memory = Memory::allocate(&config)?;
        Ok(Self {
            inner: Inner::create(&config, memory)?,
        })
    }

    /// Makes a pool in memory supplied from outside, for instance huge pages or a region that a
    /// device also maps. It takes [`PoolConfig::memory_size`] bytes from the front of `memory`,
    /// which must start on a multiple of [`BUFFER_ALIGN`], and drops `owner` when the last handle
    /// and the last buffer are gone: give it the value that unmaps the memory.
    ///
    /// # Errors
    /// As [`new`](Self::new), and when the memory is too short or misaligned. `owner` is then
    /// dropped at once.
    ///
    /// # Safety
    /// Until `owner` is dropped, `memory` is
    /// - valid for reads and writes of its whole length from every thread,
    /// - initialised (fresh anonymous mappings are), and
    /// - used by nobody else: no other reference into it, and no other process or device that writes
    ///   to it while a buffer's owner reads it. Guest memory therefore does not qualify.
    pub unsafe fn with_memory(
        config: PoolConfig,
        memory: NonNull<[u8]>,
        owner: impl Send + Sync + 'static,
    ) -> Result<Self, PoolError> {
        let memory = Memory::outside(&config, memory, Box::new(owner))?;
        Ok(Self {
            inner: Inner::create(&config, memory)?,
        })
    }

    #[inline]
    fn inner(&self) -> &Inner {
        // SAFETY: the pool is alive while it has a handle.
        unsafe { self.inner.as_ref() }
    }

    /// A free buffer, empty, with the pool's headroom; `None`, counted in
    /// [`exhausted`](Self::exhausted), when there is none.
    #[inline]
    #[must_use]
    pub fn alloc(&self) -> Option<PacketBuf> {
        if let Some(cache) = current(self.inner) {
            return cache.alloc();
        }
        let inner = self.inner();
        let index = inner.acquire_one()?;
        // SAFETY: the number is from the list, from which the buffer was taken just now.
        Some(unsafe { PacketBuf::new(inner.slots.get(index), inner.extent()) })
    }

    /// Puts up to `n` free buffers into `out` and returns how many there were; fewer than `n` count
    /// once in [`exhausted`](Self::exhausted).
    ///
    /// `out` is anything that grows: a `Vec`, an `ArrayVec`, a queue.
    pub fn alloc_batch(&self, out: &mut impl Extend<PacketBuf>, n: usize) -> usize {
        let mut done = 0;
        while done < n {
            let wanted = (n - done).min(CHUNK);
            // SAFETY: alive while `self` is.
            let taken = unsafe { Taken::acquire(self.inner, wanted) };
            let got = taken.len();
            out.extend(taken);
            done += got;
            if got < wanted {
                break;
            }
        }
        done
    }

    /// Gives many buffers back at less cost than dropping each: neighbours share one atomic
    /// operation. Buffers of other pools go home too.
    pub fn free_batch(&self, bufs: impl IntoIterator<Item = PacketBuf>) {
        // SAFETY: `self` is a handle.
        let mut returning = unsafe { Returning::new(self.inner) };
        for buf in bufs {
            returning.push(buf);
        }
    }

    /// A worker's own store of up to `capacity` free buffers (at least 1, at most all), empty at
    /// first. 64 suits most: half of that, at most 30, moves at once. See [`PoolCache`] for what it does to the
    /// meaning of "empty".
    #[must_use]
    pub fn cache(&self, capacity: usize) -> PoolCache {
        PoolCache::new(self.clone(), capacity)
    }

    /// Buffers in the shared list; those resting in a [`PoolCache`] do not count. Counted word by
    /// word: exact while no other thread allocates or frees.
    #[must_use]
    pub fn available(&self) -> usize {
        self.inner().available()
    }

    /// Buffers of the pool, free or not.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.inner().buffers()
    }

    /// Bytes of one buffer, headroom included.
    #[must_use]
    pub fn buffer_size(&self) -> usize {
        self.inner().buffer_size() as usize
    }

    /// Headroom of a fresh buffer, in bytes.
    #[must_use]
    pub fn headroom(&self) -> usize {
        self.inner().headroom() as usize
    }

    /// Allocations so far that found fewer buffers than they asked for.
    #[must_use]
    pub fn exhausted(&self) -> u64 {
        self.inner().exhausted()
    }
}

impl Clone for PacketPool {
    fn clone(&self) -> Self {
        self.inner().add_handle();
        Self { inner: self.inner }
    }
}

impl Drop for PacketPool {
    fn drop(&mut self) {
        // SAFETY: alive while this handle counts, and it is not used any more.
        unsafe { Inner::drop_handle(self.inner) };
    }
}

impl fmt::Debug for PacketPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PacketPool")
            .field("buffers", &self.capacity())
            .field("buffer_size", &self.buffer_size())
            .field("headroom", &self.headroom())
            .field("available", &self.available())
            .finish_non_exhaustive()
    }
}
