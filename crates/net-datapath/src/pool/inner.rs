//! What all handles and buffers of one pool point at, and how it ends.

use alloc::boxed::Box;
use core::cell::Cell;
use core::ptr::NonNull;

use crossbeam_utils::CachePadded;

use super::batch::CHUNK;
use super::buf::Extent;
use super::config::{PoolConfig, PoolError};
use super::free_list::{BITS, Cursor, FreeList};
use super::memory::Memory;
use super::slots::Slots;
use super::tray::ENTRIES;
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// More handles than this only come from leaking them on purpose.
const MAX_HANDLES: u32 = 1 << 31;

/// Places to begin a search. With more threads than this some share one and get in each other's way;
/// loom's threads always do.
const HINTS: usize = if cfg!(loom) { 1 } else { 8 };

/// The shared part of a pool.
///
/// It lives as long as a handle or a buffer is out, but buffers do not count themselves in and out:
/// that would be one more operation on one more shared line for each. Only when the last handle
/// goes, and nothing can be allocated any more, counting begins. The one who drops that handle
/// closes the free list and adds up what is home; every buffer that comes later adds itself; whoever
/// completes the sum ends the pool.
pub(super) struct Inner {
    pub(super) slots: Slots,
    headroom: u32,
    buffer_size: u32,
    buffers: u32,
    free: FreeList,
    /// Owners of each buffer that has been shared; meaningless for the others.
    pub(super) owners: Box<[AtomicU32]>,
    /// Held only to be dropped with the pool.
    _memory: Memory,
    /// For those without a cache; each thread uses one of them.
    hints: [CachePadded<Hint>; HINTS],
    rare: CachePadded<Rare>,
}

/// Where to begin.
struct Hint {
    /// Where in the list a buffer was found last, word and tray. Releases leave it alone: a thread
    /// that allocates shall not be led to where another one is releasing.
    take: AtomicU64,
    /// The tray to give to.
    give: AtomicU32,
}

impl Hint {
    fn new(cursor: Cursor) -> Self {
        Self {
            take: AtomicU64::new(Self::pack(cursor)),
            give: AtomicU32::new(cursor.tray),
        }
    }

    #[inline]
    fn pack(cursor: Cursor) -> u64 {
        u64::from(cursor.tray) << 32 | u64::from(cursor.word)
    }

    #[inline]
    fn cursor(&self) -> Cursor {
        let packed = self.take.load(Ordering::Relaxed);
        Cursor {
            word: packed as u32,
            tray: (packed >> 32) as u32,
        }
    }

    /// Written only if need be: the line stays with all readers meanwhile.
    #[inline]
    fn move_on(&self, from: Cursor, to: Cursor) {
        if from != to {
            self.take.store(Self::pack(to), Ordering::Relaxed);
        }
    }
}

/// Written when a handle comes or goes, and when somebody finds the pool empty.
struct Rare {
    handles: AtomicU32,
    /// After the last handle: buffers at home, and one for the handle that closed the list.
    home: AtomicU64,
    exhausted: AtomicU64,
    /// Changes whenever somebody goes away empty-handed: caches then give back what they hold.
    hunger: AtomicU32,
    /// Caches made so far.
    caches: AtomicU32,
}

// SAFETY: the atomics are shared as atomics, the rest is constant; the slots hold addresses only, and
// each buffer behind one belongs to the one handle that took its index from the list.
unsafe impl Send for Inner {}
// SAFETY: as above.
unsafe impl Sync for Inner {}

impl Inner {
    /// A pool with one handle and all buffers free.
    pub(super) fn create(config: &PoolConfig, memory: Memory) -> Result<NonNull<Self>, PoolError> {
        let stride = config.stride()?;
        let free = FreeList::full(config.buffers);
        // The slots point back at it, so its place is there first.
        let place = NonNull::from(Box::leak(Box::<Self>::new_uninit())).cast::<Self>();
        let inner = Self {
            // SAFETY: the memory has this many strides.
            slots: unsafe { Slots::new(place, memory.base(), config.buffers, stride) },
            // In range: `stride` has checked the configuration.
            headroom: config.headroom as u32,
            buffer_size: config.buffer_size as u32,
            buffers: config.buffers as u32,
            owners: (0..config.buffers).map(|_| AtomicU32::new(0)).collect(),
            _memory: memory,
            // Far apart, so that threads begin on cache lines of their own.
            hints: core::array::from_fn(|i| {
                CachePadded::new(Hint::new(Cursor {
                    word: (i * config.buffers.div_ceil(BITS) / HINTS) as u32,
                    tray: (i * free.trays() / HINTS) as u32,
                }))
            }),
            free,
            rare: CachePadded::new(Rare {
                handles: AtomicU32::new(1),
                home: AtomicU64::new(0),
                exhausted: AtomicU64::new(0),
                hunger: AtomicU32::new(0),
                caches: AtomicU32::new(0),
            }),
        };
        // SAFETY: from the box above, and nobody else's yet.
        unsafe { place.write(inner) };
        Ok(place)
    }

    pub(super) fn buffers(&self) -> usize {
        self.buffers as usize
    }

    /// Headroom of a fresh buffer, in bytes.
    #[inline]
    pub(super) fn headroom(&self) -> u32 {
        self.headroom
    }

    /// Where the content of a fresh buffer is: nothing, behind the headroom.
    #[inline]
    pub(super) fn extent(&self) -> Extent {
        Extent {
            headroom: self.headroom,
            len: 0,
        }
    }

    /// Bytes of one buffer.
    #[inline]
    pub(super) fn buffer_size(&self) -> u32 {
        self.buffer_size
    }

    pub(super) fn available(&self) -> usize {
        self.free.count()
    }

    pub(super) fn exhausted(&self) -> u64 {
        self.rare.exhausted.load(Ordering::Relaxed)
    }

    #[inline]
    pub(super) fn hunger(&self) -> u32 {
        self.rare.hunger.load(Ordering::Relaxed)
    }

    /// The hint of this thread, mostly: told by where its stack is, since without the standard
    /// library a thread has no other name. That another call sees another one does no harm.
    #[inline]
    fn hint(&self) -> &Hint {
        let local = 0u8;
        // Stacks lie further apart than 64 KiB, and one thread's calls mostly closer together. The
        // multiplication spreads even distances over its upper bits.
        let stack = core::ptr::from_ref(&local).addr() as u64 >> 16;
        let mixed = stack.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56;
        &self.hints[(mixed as usize * HINTS) >> 8]
    }

    /// Takes one free buffer; counts the calls that find none. Not inlined, so that what is around it can be.
    #[inline(never)]
    pub(super) fn acquire_one(&self) -> Option<u32> {
        let hint = self.hint();
        let start = hint.cursor();
        let mut at = start;
        let got = self.free.take_one(&mut at);
        hint.move_on(start, at);
        if got.is_none() {
            self.note_exhausted();
        }
        got
    }

    /// Takes free buffers for as much of `out` as there are and returns how many; counts the calls
    /// that get fewer than `out.len()`.
    pub(super) fn acquire(&self, out: &mut [u32]) -> usize {
        let hint = self.hint();
        let start = hint.cursor();
        let mut at = start;
        let got = self.free.take(out, &mut at);
        hint.move_on(start, at);
        if got < out.len() {
            self.note_exhausted();
        }
        got
    }

    /// The same for a cache, which remembers itself where to look, is content with what one tray
    /// has, and counts a call only if it gets nothing.
    pub(super) fn acquire_at(&self, out: &[Cell<u32>], at: &mut Cursor) -> usize {
        let mut got = self.free.take_tray_near(out, at);
        if got == 0 {
            got = self.acquire_rest(out, at);
        }
        if got == 0 {
            self.note_exhausted();
        }
        got
    }

    /// What the next trays did not have, at most [`CHUNK`].
    #[inline(never)]
    fn acquire_rest(&self, out: &[Cell<u32>], at: &mut Cursor) -> usize {
        let mut indices = [0; CHUNK];
        let wanted = out.len().min(CHUNK);
        let got = self.free.take_rest(&mut indices[..wanted], 0, at);
        // The last found comes first: the cache hands out in ascending order.
        for (place, &index) in out.iter().zip(indices[..got].iter().rev()) {
            place.set(index);
        }
        got
    }

    #[cold]
    fn note_exhausted(&self) {
        self.rare.exhausted.fetch_add(1, Ordering::Relaxed);
        self.rare.hunger.fetch_add(1, Ordering::Relaxed);
    }

    /// Gives buffer `index` back, and the whole pool if that was the last thing out.
    ///
    /// # Safety
    /// `this` is alive and the caller owns buffer `index` of it. `this` may be gone afterwards.
    #[inline(never)]
    pub(super) unsafe fn release(this: NonNull<Self>, index: u32) {
        // SAFETY: alive until the buffer is in the list.
        let inner = unsafe { this.as_ref() };
        if inner.free.put(index) {
            // SAFETY: closed, and this buffer has not been counted, so the pool is still alive.
            unsafe { Self::came_home(this, 1) };
        }
    }

    /// Where the next cache begins: each some trays further.
    pub(super) fn start(&self) -> Cursor {
        let caches = self.rare.caches.fetch_add(1, Ordering::Relaxed);
        let trays = self.free.trays().max(1) as u32;
        Cursor {
            word: 0,
            tray: caches.wrapping_mul(trays.div_ceil(HINTS as u32)) % trays,
        }
    }

    /// Gives several buffers back on trays, as far as there are empty ones from `give` on and enough
    /// buffers to fill more than half of one; the others as [`release_all`](Self::release_all), whose
    /// answer it passes on.
    ///
    /// # Safety
    /// The caller has a handle of the pool `this` and owns these buffers, each named once.
    pub(super) unsafe fn give_all(
        this: NonNull<Self>,
        indices: &[Cell<u32>],
        give: &mut u32,
    ) -> Option<u32> {
        let mut word = None;
        for some in indices.chunks(ENTRIES) {
            // SAFETY: alive because of the handle.
            let inner = unsafe { this.as_ref() };
            if some.len() * 2 <= ENTRIES || !inner.free.put_tray(some, give) {
                // SAFETY: passed on.
                word = Some(unsafe { Self::release_all(this, some) } as u32);
            }
        }
        word
    }

    /// The same for those without a cache.
    ///
    /// # Safety
    /// As for [`give_all`](Self::give_all).
    pub(super) unsafe fn give_batch(this: NonNull<Self>, indices: &[Cell<u32>]) {
        // SAFETY: alive because of the handle.
        let hint = &unsafe { this.as_ref() }.hint().give;
        let start = hint.load(Ordering::Relaxed);
        let mut give = start;
        // SAFETY: passed on.
        unsafe { Self::give_all(this, indices, &mut give) };
        if give != start {
            hint.store(give, Ordering::Relaxed);
        }
    }

    /// Gives several buffers back, neighbours together; see [`release`](Self::release). Returns the
    /// word of the last one.
    ///
    /// # Safety
    /// `this` is alive and the caller owns these buffers, each named once. Unless the caller has a
    /// handle, `this` may be gone afterwards.
    pub(super) unsafe fn release_all(this: NonNull<Self>, indices: &[Cell<u32>]) -> usize {
        let mut word = 0;
        let mut rest = indices;
        while let Some(first) = rest.first() {
            word = FreeList::word_of(first.get());
            let mut mask = 0;
            let mut run = 0;
            for index in rest.iter().map(Cell::get) {
                if FreeList::word_of(index) != word {
                    break;
                }
                mask |= 1 << (index as usize % BITS);
                run += 1;
            }
            rest = &rest[run..];
            // SAFETY: alive because the buffers of this run have not come home yet.
            if unsafe { this.as_ref() }.free.put_mask(word, mask) {
                // SAFETY: closed, and these buffers have not been counted.
                unsafe { Self::came_home(this, run as u64) };
            }
        }
        word
    }

    /// Adds a handle.
    pub(super) fn add_handle(&self) {
        // Relaxed: made from a living handle.
        if self.rare.handles.fetch_add(1, Ordering::Relaxed) >= MAX_HANDLES {
            self.rare.handles.fetch_sub(1, Ordering::Relaxed);
            panic!("too many handles of one packet pool");
        }
    }

    /// Takes a handle away, and the pool with it if all buffers are home.
    ///
    /// # Safety
    /// `this` is alive and the caller owns one handle. `this` may be gone afterwards.
    pub(super) unsafe fn drop_handle(this: NonNull<Self>) {
        // SAFETY: alive by contract.
        let inner = unsafe { this.as_ref() };
        // AcqRel: everything done through other handles happened before the last one closes.
        if inner.rare.handles.fetch_sub(1, Ordering::AcqRel) == 1 {
            let home = inner.free.close();
            // SAFETY: the sum lacks this handle's share until here.
            unsafe { Self::came_home(this, home + 1) };
        }
    }

    /// Counts buffers, or the closing handle, as home; ends the pool if that completes the sum.
    ///
    /// # Safety
    /// The list is closed, `this` is alive because these have not been counted yet, and they are not
    /// counted again. `this` may be gone afterwards.
    #[cold]
    unsafe fn came_home(this: NonNull<Self>, count: u64) {
        // SAFETY: alive until the addition; `all` is read before it for that reason.
        let inner = unsafe { this.as_ref() };
        let all = u64::from(inner.buffers) + 1;
        // AcqRel: what everybody did to the pool happened before the last one frees it.
        if inner.rare.home.fetch_add(count, Ordering::AcqRel) + count == all {
            // SAFETY: from the box leaked in `create`; all shares are in, so nobody else is left.
            drop(unsafe { Box::from_raw(this.as_ptr()) });
        }
    }
}
