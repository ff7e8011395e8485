//! One worker's own store of free buffers, in front of the shared list.

use alloc::boxed::Box;
use core::cell::Cell;
use core::fmt;

use super::PacketPool;
use super::batch::{CHUNK, Taken};
use super::buf::PacketBuf;
use super::inner::Inner;

/// One worker's own store of free buffers: allocating from it and freeing into it touches no memory
/// that another thread writes. It fills from the shared list and empties into it, half at a time.
///
/// `Send`, not `Sync`: it belongs to one thread at a time. Made by [`PacketPool::cache`]; what it
/// holds goes back to the shared list when it is dropped.
///
/// # What "empty" means with caches
///
/// A buffer that rests in a cache can be had by that cache's worker only. Therefore:
///
/// - An allocation fails only if at one moment during the call the shared list and the caller's own
///   cache were both empty. With `c` the sum of the capacities of all *other* caches, that takes more
///   than `buffers - c - 1` buffers in use. Make the pool larger by the sum of its caches, and
///   "empty" is never said while fewer buffers than you planned for are in use.
/// - A failed allocation asks the other caches to empty themselves: each does so at its next
///   allocation or release. So buffers stay stuck only with a worker that does neither; let it call
///   [`flush`](Self::flush) before it sleeps.
pub struct PoolCache {
    pool: PacketPool,
    /// The lowest `len` are free buffers, the latest on top.
    stack: Box<[Cell<u32>]>,
    len: Cell<usize>,
    /// The word of the shared list to look at next: after the one it took from last, or where it gave
    /// back last.
    at: Cell<usize>,
    /// The pool's hunger that this cache has answered.
    hunger: Cell<u32>,
}

impl PoolCache {
    pub(super) fn new(pool: PacketPool, capacity: usize) -> Self {
        let capacity = capacity.clamp(1, pool.capacity());
        Self {
            hunger: Cell::new(pool.inner().hunger()),
            pool,
            stack: (0..capacity).map(|_| Cell::new(0)).collect(),
            len: Cell::new(0),
            at: Cell::new(0),
        }
    }

    /// The pool behind it.
    #[must_use]
    pub fn pool(&self) -> &PacketPool {
        &self.pool
    }

    /// Most buffers it holds.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.stack.len()
    }

    /// Buffers it holds now.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len.get()
    }

    /// It holds none now.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A free buffer, empty, with the pool's headroom; `None` when neither this cache nor the shared
    /// list has one. See [`PacketPool::alloc`].
    #[inline]
    #[must_use]
    pub fn alloc(&self) -> Option<PacketBuf> {
        let index = self.take()?;
        // SAFETY: the pool is alive, and this cache has just given the buffer up.
        Some(unsafe { PacketBuf::new(self.pool.inner, index) })
    }

    /// Gives up a free buffer.
    #[inline]
    pub(super) fn take(&self) -> Option<u32> {
        // One comparison: below zero is far above the capacity.
        let mut top = self.len.get().wrapping_sub(1);
        if top >= self.stack.len() || self.is_asked() {
            self.refill();
            top = self.len.get().checked_sub(1)?;
        }
        let index = self.stack.get(top)?.get();
        self.len.set(top);
        Some(index)
    }

    /// Takes a buffer back; one of another pool goes home.
    #[inline]
    pub fn free(&self, buf: PacketBuf) {
        if buf.inner() == self.pool.inner {
            let (_, index) = buf.into_parts();
            self.put(index);
        } else {
            send_home(buf);
        }
    }

    /// Puts up to `n` free buffers into `out`, from here and then from the shared list; returns how
    /// many there were. See [`PacketPool::alloc_batch`].
    pub fn alloc_batch(&self, out: &mut impl Extend<PacketBuf>, n: usize) -> usize {
        let mut done = 0;
        out.extend(core::iter::from_fn(|| {
            let next = if done < n && !self.is_empty() {
                self.alloc()
            } else {
                None
            };
            done += usize::from(next.is_some());
            next
        }));
        while done < n {
            let wanted = (n - done).min(CHUNK);
            // SAFETY: alive while `self` is.
            let taken = unsafe { Taken::acquire(self.pool.inner, wanted) };
            let got = taken.len();
            out.extend(taken);
            done += got;
            if got < wanted {
                break;
            }
        }
        done
    }

    /// Takes many buffers back.
    pub fn free_batch(&self, bufs: impl IntoIterator<Item = PacketBuf>) {
        for buf in bufs {
            self.free(buf);
        }
    }

    /// Gives everything back to the shared list: to be called before a long sleep.
    pub fn flush(&self) {
        self.give_back(self.len.get());
    }

    /// Takes over a buffer's index, which the caller owns and gives up.
    #[inline]
    pub(super) fn put(&self, index: u32) {
        let len = self.len.get();
        match self.stack.get(len) {
            Some(place) if !self.is_asked() => {
                place.set(index);
                self.len.set(len + 1);
            }
            _ => self.make_room_for(index),
        }
    }

    /// Whether somebody is short of buffers and this cache has not answered yet.
    #[inline]
    fn is_asked(&self) -> bool {
        self.hunger.get() != self.pool.inner().hunger()
    }

    /// Before an allocation that found nothing here, or while somebody is short of buffers.
    #[cold]
    fn refill(&self) {
        if self.hungry() && self.len.get() > 1 {
            self.give_back(self.len.get() - 1);
        }
        if self.len.get() == 0 {
            let wanted = self.stack.len().div_ceil(2).min(CHUNK);
            let mut indices = [0; CHUNK];
            let mut at = self.at.get();
            let got = self
                .pool
                .inner()
                .acquire_at(&mut indices[..wanted], &mut at);
            self.at.set(at);
            if got == 0 {
                // Our own hunger, just noted, is nothing for us to answer.
                self.hunger.set(self.pool.inner().hunger());
            }
            // The last found goes on top first: the stack hands out in ascending order.
            for (place, &index) in self.stack.iter().zip(indices[..got].iter().rev()) {
                place.set(index);
            }
            self.len.set(got);
        }
    }

    /// [`Self::put`] where there is no room here, or while somebody is short of buffers.
    #[cold]
    fn make_room_for(&self, index: u32) {
        let len = self.len.get();
        if self.hungry() {
            self.give_back(len);
        } else {
            self.give_back(len.div_ceil(2));
        }
        let len = self.len.get();
        if let Some(place) = self.stack.get(len) {
            place.set(index);
            self.len.set(len + 1);
        }
    }

    /// Whether somebody went away empty-handed since this cache last looked.
    fn hungry(&self) -> bool {
        let now = self.pool.inner().hunger();
        self.hunger.replace(now) != now
    }

    /// Gives the `count` buffers that have been here longest back to the shared list.
    fn give_back(&self, count: usize) {
        let len = self.len.get();
        let mut indices = [0; CHUNK];
        let mut given = 0;
        while given < count {
            let n = (count - given).min(CHUNK);
            for (index, place) in indices[..n].iter_mut().zip(&self.stack[given..]) {
                *index = place.get();
            }
            // SAFETY: what is on the stack belongs to this cache; it is taken off below, and nothing
            // in between can panic or come back here. The pool is alive: `self` has a handle.
            let word = unsafe { Inner::release_all(self.pool.inner, &indices[..n]) };
            self.at.set(word);
            given += n;
        }
        for at in count..len {
            self.stack[at - count].set(self.stack[at].get());
        }
        self.len.set(len - count);
    }
}

/// Drops a buffer of another pool.
#[cold]
fn send_home(buf: PacketBuf) {
    drop(buf);
}

impl Drop for PoolCache {
    fn drop(&mut self) {
        self.flush();
    }
}

impl fmt::Debug for PoolCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolCache")
            .field("len", &self.len())
            .field("capacity", &self.capacity())
            .finish_non_exhaustive()
    }
}

/// The cache that a thread has entered. Without `std` there are no thread-local variables, and every
/// lookup finds none.
#[cfg(all(feature = "std", not(loom)))]
mod current {
    use super::{Inner, PoolCache};
    use core::cell::Cell;
    use core::ptr::{NonNull, null};

    std::thread_local! {
        /// Null, or the cache whose `enter` is running on this thread.
        static CURRENT: Cell<*const PoolCache> = const { Cell::new(null()) };
    }

    impl PoolCache {
        /// Runs `work` with this cache in use for its pool on this thread: until it returns,
        /// [`PacketPool::alloc`](super::PacketPool::alloc) and the drop of a buffer go through the
        /// cache, wherever in `work` they happen. Inside another `enter` the inner one counts.
        ///
        /// This is how a worker thread gets its cache without handing it to every function:
        ///
        /// ```
        /// use net_datapath::pool::{PacketPool, PoolConfig};
        ///
        /// let pool = PacketPool::new(PoolConfig { buffers: 512, buffer_size: 2048, headroom: 64 })?;
        /// let worker = std::thread::spawn({
        ///     let pool = pool.clone();
        ///     move || {
        ///         let cache = pool.cache(64);
        ///         cache.enter(|| drop(pool.alloc()));
        ///         assert!(cache.len() > 0);
        ///     }
        /// });
        /// worker.join().expect("ends");
        /// assert_eq!(pool.available(), 512);
        /// # Ok::<(), net_datapath::pool::PoolError>(())
        /// ```
        pub fn enter<R>(&self, work: impl FnOnce() -> R) -> R {
            struct Restore(*const PoolCache);
            impl Drop for Restore {
                fn drop(&mut self) {
                    CURRENT.set(self.0);
                }
            }
            let _restore = Restore(CURRENT.replace(self));
            work()
        }
    }

    /// The cache this thread has entered, if it is one of this pool. To be used at once: what comes
    /// back is borrowed from the `enter` around the caller.
    #[inline(always)]
    pub(in crate::pool) fn current<'a>(inner: NonNull<Inner>) -> Option<&'a PoolCache> {
        // SAFETY: set by `enter`, which borrows the cache until it has set it back, also when it
        // unwinds; and only this thread sees the variable. No caller keeps the reference.
        let cache = unsafe { CURRENT.get().as_ref()? };
        (cache.pool.inner == inner).then_some(cache)
    }
}

#[cfg(all(feature = "std", not(loom)))]
pub(super) use current::current;

#[cfg(not(all(feature = "std", not(loom))))]
#[inline(always)]
pub(super) fn current<'a>(_inner: core::ptr::NonNull<Inner>) -> Option<&'a PoolCache> {
    None
}
