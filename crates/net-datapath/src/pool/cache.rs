//! One worker's own store of free buffers, in front of the shared list.

use alloc::boxed::Box;
use core::cell::Cell;
use core::fmt;
use core::mem::ManuallyDrop;

use super::PacketPool;
use super::batch::{CHUNK, Taken};
use super::buf::{Extent, PacketBuf};
use super::free_list::Cursor;
use super::inner::Inner;
use super::slots::SlotPtr;
use super::tray::ENTRIES;

/// One worker's own store of free buffers: allocating from it and freeing into it touches no memory
/// that another thread writes. It fills from the shared list and empties into it, half or 30 at a time.
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
///   release or at the next of its allocations but one. So buffers stay stuck only with a worker that
///   does neither; let it call [`flush`](Self::flush) before it sleeps.
pub struct PoolCache {
    pool: PacketPool,
    /// The buffer that came back last. In a place of its own an allocation finds it
    /// without waiting for the length of the stack, which the release before has just changed. Its name
    /// stays while it is out: one comparison then tells that it is what comes back, and that there is room.
    hot: Cell<SlotPtr>,
    /// Whether `hot` is here, 0 or 1. Not a `bool`: stores of one byte make a pair slower (`cargo xtask bench
    /// datapath pool-one`, on Zen 3).
    is_here: Cell<u32>,
    /// The numbers of the other free buffers, the lowest `len` here, the latest on top: as they stand on
    /// trays, so that they are copied as they are.
    stack: Box<[Cell<u32>]>,
    /// Less than the capacity between calls: `hot` has room.
    len: Cell<usize>,
    /// Where in the shared list to look next: after what it took last, or where it gave back last.
    at: Cell<Cursor>,
    /// The tray of the shared list to give to next.
    give: Cell<u32>,
    /// The pool's hunger that this cache has answered.
    hunger: Cell<u32>,
    /// Of a fresh buffer: a copy, so that an allocation reads nothing of the pool.
    extent: Extent,
}

impl PoolCache {
    pub(super) fn new(pool: PacketPool, capacity: usize) -> Self {
        let capacity = capacity.clamp(1, pool.capacity());
        let inner = pool.inner();
        let start = inner.start();
        Self {
            hunger: Cell::new(inner.hunger()),
            extent: inner.extent(),
            // Any name will do, if it is one of this pool's.
            hot: Cell::new(inner.slots.first()),
            is_here: Cell::new(0),
            pool,
            stack: (0..capacity).map(|_| Cell::new(0)).collect(),
            len: Cell::new(0),
            at: Cell::new(start),
            give: Cell::new(start.tray),
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
        self.len.get() + self.is_here.get() as usize
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
        let slot = self.take()?;
        // SAFETY: this cache has just given the buffer up; the extent is its pool's.
        Some(unsafe { PacketBuf::new(slot, self.extent) })
    }

    /// Gives up a free buffer.
    #[inline]
    fn take(&self) -> Option<SlotPtr> {
        // Whoever frees and allocates in turn is asked when it frees.
        if self.is_here.get() != 0 {
            self.is_here.set(0);
            return Some(self.hot.get());
        }
        // Not rare: see `put`.
        core::hint::cold_path();
        if !self.is_asked() {
            // One comparison: below zero is far above the capacity.
            let top = self.len.get().wrapping_sub(1);
            if let Some(place) = self.stack.get(top) {
                self.len.set(top);
                // SAFETY: from the stack.
                return Some(unsafe { self.slot(place.get()) });
            }
        }
        self.refill()
    }

    /// Takes a buffer back; one of another pool goes home.
    #[inline]
    pub fn free(&self, buf: PacketBuf) {
        let buf = ManuallyDrop::new(buf);
        if !self.put(buf.name()) {
            drop(ManuallyDrop::into_inner(buf));
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
        self.cool();
        self.give_back(self.len.get());
    }

    /// Takes over the buffer of this slot, which the caller owns and gives up, if it is one of this pool.
    #[inline]
    fn put(&self, slot: SlotPtr) -> bool {
        let hot = self.hot.get();
        if slot == hot {
            // So it was out, and its place is free.
            if !self.is_asked() {
                self.is_here.set(1);
                return true;
            }
        } else {
            // Not rare, but the way above is then without a jump.
            core::hint::cold_path();
            let slots = &self.pool.inner().slots;
            if !slots.contains(slot) {
                return false;
            }
            if !self.is_asked() {
                if self.is_here.get() == 0 {
                    self.is_here.set(1);
                    self.hot.set(slot);
                    return true;
                }
                let len = self.len.get();
                // With the new one there are then `len + 2`.
                if let Some((_, places)) = self.stack.split_last()
                    && let Some(place) = places.get(len)
                {
                    place.set(slots.index(hot));
                    self.len.set(len + 1);
                    self.hot.set(slot);
                    return true;
                }
            }
        }
        self.make_room_for(slot);
        true
    }

    /// The slot of buffer `index`.
    ///
    /// # Safety
    /// The number was on the stack: those come from the list or from handles of this pool.
    #[inline]
    unsafe fn slot(&self, index: u32) -> SlotPtr {
        // SAFETY: there is such a buffer, by contract.
        unsafe { self.pool.inner().slots.get(index) }
    }

    /// Whether somebody is short of buffers and this cache has not answered yet.
    #[inline]
    fn is_asked(&self) -> bool {
        self.hunger.get() != self.pool.inner().hunger()
    }

    /// An allocation that found nothing here, or while somebody is short of buffers.
    #[cold]
    fn refill(&self) -> Option<SlotPtr> {
        if self.hungry() && self.len.get() > 1 {
            self.give_back(self.len.get() - 1);
        }
        if self.len.get() == 0 {
            self.fetch();
        }
        let top = self.len.get().checked_sub(1)?;
        self.len.set(top);
        // SAFETY: from the stack.
        Some(unsafe { self.slot(self.stack[top].get()) })
    }

    /// Fetches what half of the stack can hold, or less if that comes at one stroke.
    fn fetch(&self) {
        let wanted = self.stack.len().div_ceil(2).min(CHUNK);
        let mut at = self.at.get();
        let inner = self.pool.inner();
        let got = inner.acquire_at(&self.stack[..wanted], &mut at);
        self.at.set(at);
        if got == 0 {
            // Our own hunger, just noted, is nothing for us to answer.
            self.hunger.set(inner.hunger());
        }
        self.len.set(got);
    }

    /// [`Self::put`] where there is no room here, or while somebody is short of buffers.
    #[cold]
    fn make_room_for(&self, slot: SlotPtr) {
        self.cool();
        let len = self.len.get();
        if self.hungry() {
            self.give_back(len);
        } else {
            // Not more than goes at one stroke.
            self.give_back(len.div_ceil(2).min(ENTRIES));
        }
        self.hot.set(slot);
        self.is_here.set(1);
    }

    /// Whether somebody went away empty-handed since this cache last looked.
    fn hungry(&self) -> bool {
        let now = self.pool.inner().hunger();
        self.hunger.replace(now) != now
    }

    /// Puts the hot buffer, if there is one, on the stack, which has room for it.
    fn cool(&self) {
        if self.is_here.replace(0) != 0 {
            let len = self.len.get();
            self.stack[len].set(self.pool.inner().slots.index(self.hot.get()));
            self.len.set(len + 1);
        }
    }

    /// Gives the `count` buffers that have been on the stack longest back to the shared list.
    fn give_back(&self, count: usize) {
        let stack = &self.stack[..self.len.get()];
        let mut give = self.give.get();
        // SAFETY: what is on the stack belongs to this cache; it is taken off below, and nothing in
        // between can panic or come back here. `self` has a handle of the pool.
        let last = unsafe { Inner::give_all(self.pool.inner, &stack[..count], &mut give) };
        self.give.set(give);
        if let Some(word) = last {
            self.at.set(Cursor {
                word,
                ..self.at.get()
            });
        }
        // What stays moves down. Eight are read before they are written: two loads and two stores.
        let (eights, rest) = stack[count..].as_chunks::<8>();
        for (to, from) in stack.as_chunks::<8>().0.iter().zip(eights) {
            let values = from.each_ref().map(Cell::get);
            to.iter().zip(values).for_each(|(to, value)| to.set(value));
        }
        for (to, from) in stack[eights.len() * 8..].iter().zip(rest) {
            to.set(from.get());
        }
        self.len.set(stack.len() - count);
    }
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
    use super::{Inner, PoolCache, SlotPtr};
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

    /// Puts the buffer of this slot, whose owner gives it up, into the cache this thread has entered, if
    /// that is one of the buffer's pool.
    #[inline(always)]
    pub(in crate::pool) fn put_into_current(slot: SlotPtr) -> bool {
        // SAFETY: as above.
        unsafe { CURRENT.get().as_ref() }.is_some_and(|cache| cache.put(slot))
    }
}

#[cfg(all(feature = "std", not(loom)))]
pub(super) use current::{current, put_into_current};

#[cfg(not(all(feature = "std", not(loom))))]
#[inline(always)]
pub(super) fn current<'a>(_inner: core::ptr::NonNull<Inner>) -> Option<&'a PoolCache> {
    None
}

#[cfg(not(all(feature = "std", not(loom))))]
#[inline(always)]
pub(super) fn put_into_current(_slot: SlotPtr) -> bool {
    false
}
