//! The half that takes items out.

use core::cell::Cell;
use core::fmt;
use core::marker::PhantomData;

use super::LockFreeRing;
use super::chunk::ReadChunk;
use crate::sync::{Arc, Ordering};

/// The half of a [`LockFreeRing`] that takes items out.
///
/// Slots emptied by a lazy call are free to the producer at the latest after the next
/// [`flush`](Self::flush), the next call that is not lazy, or a call that finds the ring empty.
pub struct Consumer<T> {
    ring: Arc<LockFreeRing<T>>,
    /// Where the next item is.
    pub(super) head: usize,
    /// Where the ring is empty, as far as this half knows: the producer's position.
    limit: usize,
    window_mask: usize,
    /// Not `Sync`: a half belongs to one thread at a time.
    _one_thread: PhantomData<Cell<()>>,
}

// SAFETY: a consumer may move to another thread if its items may; the marker only denies `Sync`.
unsafe impl<T: Send> Send for Consumer<T> {}

impl<T> Consumer<T> {
    pub(super) fn new(ring: Arc<LockFreeRing<T>>, start: usize) -> Self {
        Self {
            head: start,
            limit: start,
            window_mask: ring.window_mask(),
            ring,
            _one_thread: PhantomData,
        }
    }

    /// Items the ring can hold.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.ring.capacity
    }

    /// Items to be had at this moment; the producer may be adding more.
    #[must_use]
    pub fn len(&self) -> usize {
        let tail = self.ring.tail.load(Ordering::Relaxed);
        tail.wrapping_sub(self.head)
    }

    /// No item to be had at this moment.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The producer is gone. What it left may still be here: see [`is_finished`](Self::is_finished).
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.ring.producer_gone.load(Ordering::Acquire)
    }

    /// The producer is gone and all its items have been taken: nothing will come any more.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        // In this order: the last items are visible once the producer is seen to be gone.
        self.is_closed() && self.is_empty()
    }

    /// Takes one item out and frees its slot at once, with all that lazy calls kept back; `None`
    /// when there is no item.
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        if self.head == self.limit && self.look_for_items() == 0 {
            return None;
        }
        // SAFETY: there is an item.
        let item = unsafe { self.take() };
        self.publish();
        Some(item)
    }

    /// Takes one item out and frees its slot with its window: at every 64th item (every quarter of
    /// a small ring), or when no item is left. `None` when there is no item.
    #[inline]
    pub fn pop_lazy(&mut self) -> Option<T> {
        if self.head == self.limit && self.look_for_items() == 0 {
            return None;
        }
        // SAFETY: there is an item.
        let item = unsafe { self.take() };
        if self.head & self.window_mask == 0 {
            self.publish();
        }
        Some(item)
    }

    /// Gives the producer the slots that lazy calls have kept back.
    #[inline]
    pub fn flush(&mut self) {
        // Our own position: nobody else writes it.
        if self.ring.head.load(Ordering::Relaxed) != self.head {
            self.publish();
        }
    }

    /// The next item, left where it is.
    #[inline]
    pub fn peek(&mut self) -> Option<&T> {
        self.peek_mut().map(|item| &*item)
    }

    /// The next item, left where it is, to be changed.
    #[inline]
    pub fn peek_mut(&mut self) -> Option<&mut T> {
        if self.head == self.limit && self.look_for_items() == 0 {
            return None;
        }
        // SAFETY: one slot is not more than there are.
        let (run, _) = unsafe { self.ring.slots.runs(self.head, 1) };
        // SAFETY: there is an item, ours while `self` is borrowed.
        unsafe { run.items_mut() }.first_mut()
    }

    /// Copies items out, in order, into the front of `out`, frees their slots, and returns how many.
    #[inline]
    pub fn pop_slice(&mut self, out: &mut [T]) -> usize
    where
        T: Copy,
    {
        let count = self.items_for(out.len());
        if count > 0 {
            // SAFETY: there are `count` items, which is not more than there are slots.
            let (first, second) = unsafe { self.ring.slots.runs(self.head, count) };
            let (front, back) = out[..count].split_at_mut(first.len());
            // SAFETY: these slots hold items and are ours, and the parts are as long as the runs.
            unsafe {
                first.copy_to(front);
                second.copy_to(back);
            }
            self.head = self.head.wrapping_add(count);
            self.publish();
        }
        count
    }

    /// Moves up to `max` items to the end of `out` (a `Vec`, a queue), frees their slots, and
    /// returns how many.
    pub fn pop_into(&mut self, out: &mut impl Extend<T>, max: usize) -> usize {
        let before = self.head;
        out.extend(self.read_chunk(max));
        self.head.wrapping_sub(before)
    }

    /// Up to `max` items, to be used in place or taken one by one; fewer, or none, when there are no
    /// more.
    #[inline]
    pub fn read_chunk(&mut self, max: usize) -> ReadChunk<'_, T> {
        let items = self.items_for(max);
        ReadChunk::new(self, items)
    }

    /// How many of `wanted` items there are; asks the producer's side only if need be.
    #[inline]
    fn items_for(&mut self, wanted: usize) -> usize {
        let mut items = self.limit.wrapping_sub(self.head);
        if items < wanted {
            items = self.look_for_items();
        }
        items.min(wanted)
    }

    /// Reads the producer's position and returns the number of items there are. Frees what was kept
    /// back when there is none: a producer may be waiting for just those slots.
    fn look_for_items(&mut self) -> usize {
        // Acquire: the items up to there are in their slots.
        self.limit = self.ring.tail.load(Ordering::Acquire);
        let items = self.limit.wrapping_sub(self.head);
        if items == 0 {
            self.flush();
        }
        items
    }

    /// # Safety
    /// There is an item: `head != limit`.
    #[inline]
    pub(super) unsafe fn take(&mut self) -> T {
        // SAFETY: the slots from `head` to `limit` hold items and are ours.
        let item = unsafe { self.ring.slots.read(self.head) };
        self.head = self.head.wrapping_add(1);
        item
    }

    #[inline]
    pub(super) fn publish(&mut self) {
        // Release: the items are out of their slots before the producer sees the position.
        self.ring.head.store(self.head, Ordering::Release);
    }

    #[inline]
    pub(super) fn ring(&self) -> &LockFreeRing<T> {
        &self.ring
    }
}

impl<T> Drop for Consumer<T> {
    fn drop(&mut self) {
        self.flush();
        self.ring.consumer_gone.store(true, Ordering::Release);
    }
}

impl<T> fmt::Debug for Consumer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer")
            .field("capacity", &self.capacity())
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}
