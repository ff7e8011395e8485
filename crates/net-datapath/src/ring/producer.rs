//! The half that puts items in.

use core::cell::Cell;
use core::fmt;
use core::marker::PhantomData;

use super::chunk::WriteChunk;
use super::{Full, LockFreeRing};
use crate::sync::{Arc, Ordering};

/// The half of a [`LockFreeRing`] that puts items in.
///
/// Items put in by a lazy call are seen by the consumer at the latest after the next
/// [`flush`](Self::flush), the next call that is not lazy, or the drop of the producer.
pub struct Producer<T> {
    ring: Arc<LockFreeRing<T>>,
    /// Where the next item goes.
    pub(super) tail: usize,
    /// Where the ring is full, as far as this half knows: the consumer's position plus the capacity.
    limit: usize,
    window_mask: usize,
    /// Not `Sync`: a half belongs to one thread at a time.
    _one_thread: PhantomData<Cell<()>>,
}

// SAFETY: a producer may move to another thread if its items may; the marker only denies `Sync`.
unsafe impl<T: Send> Send for Producer<T> {}

impl<T> Producer<T> {
    pub(super) fn new(ring: Arc<LockFreeRing<T>>, start: usize) -> Self {
        Self {
            tail: start,
            limit: start.wrapping_add(ring.capacity),
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

    /// Free slots at this moment; the consumer may be freeing more.
    #[must_use]
    pub fn free(&self) -> usize {
        let head = self.ring.head.load(Ordering::Relaxed);
        self.ring.capacity - self.tail.wrapping_sub(head)
    }

    /// The consumer is gone: what is put in now nobody will take out. (It is dropped with the ring.)
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.ring.consumer_gone.load(Ordering::Acquire)
    }

    /// Puts one item in and shows it to the consumer at once, with all that lazy calls kept back.
    ///
    /// # Errors
    /// [`Full`], with the item, when the ring has no room.
    #[inline]
    pub fn push(&mut self, item: T) -> Result<(), Full<T>> {
        if self.tail == self.limit && self.look_for_room() == 0 {
            return Err(Full(item));
        }
        // SAFETY: there is room, so the slot is empty and ours.
        unsafe { self.put(item) };
        self.publish();
        Ok(())
    }

    /// Puts one item in and shows it to the consumer with its window: at every 64th item (every
    /// quarter of a small ring), or when the ring is full.
    ///
    /// # Errors
    /// [`Full`], with the item, when the ring has no room.
    #[inline]
    pub fn push_lazy(&mut self, item: T) -> Result<(), Full<T>> {
        if self.tail == self.limit && self.look_for_room() == 0 {
            return Err(Full(item));
        }
        // SAFETY: there is room, so the slot is empty and ours.
        unsafe { self.put(item) };
        if self.tail & self.window_mask == 0 {
            self.publish();
        }
        Ok(())
    }

    /// Shows the consumer what lazy calls have kept back.
    #[inline]
    pub fn flush(&mut self) {
        // Our own position: nobody else writes it.
        if self.ring.tail.load(Ordering::Relaxed) != self.tail {
            self.publish();
        }
    }

    /// Copies in as many of `items` as there is room for, in order, shows them to the consumer, and
    /// returns how many.
    #[inline]
    pub fn push_slice(&mut self, items: &[T]) -> usize
    where
        T: Copy,
    {
        let count = self.room_for(items.len());
        if count > 0 {
            // SAFETY: there is room for `count`, so these slots are empty and ours.
            let (first, second) = unsafe { self.ring.slots.runs(self.tail, count) };
            let (front, back) = items[..count].split_at(first.len());
            // SAFETY: as above, and the parts are as long as the runs.
            unsafe {
                first.copy_from(front);
                second.copy_from(back);
            }
            self.tail = self.tail.wrapping_add(count);
            self.publish();
        }
        count
    }

    /// Moves items in until the ring is full or there are no more, shows them to the consumer, and
    /// returns how many. It takes no item that it cannot place: pass `&mut iterator` to go on later.
    pub fn push_iter(&mut self, items: impl IntoIterator<Item = T>) -> usize {
        let mut items = items.into_iter();
        let before = self.tail;
        loop {
            // Shows the items before on an early end too, even if the iterator panics.
            let mut chunk = self.write_chunk(items.size_hint().1.unwrap_or(usize::MAX));
            if chunk.is_empty() {
                break;
            }
            while !chunk.is_empty() {
                match items.next() {
                    Some(item) => drop(chunk.push(item)),
                    None => {
                        drop(chunk);
                        return self.tail.wrapping_sub(before);
                    }
                }
            }
        }
        self.tail.wrapping_sub(before)
    }

    /// Up to `max` free slots, to be filled in place; fewer, or none, when there are no more.
    #[inline]
    pub fn write_chunk(&mut self, max: usize) -> WriteChunk<'_, T> {
        let room = self.room_for(max);
        WriteChunk::new(self, room)
    }

    /// How many of `wanted` items there is room for; asks the consumer's side only if need be.
    #[inline]
    fn room_for(&mut self, wanted: usize) -> usize {
        let mut room = self.limit.wrapping_sub(self.tail);
        if room < wanted {
            room = self.look_for_room();
        }
        room.min(wanted)
    }

    /// Reads the consumer's position and returns the room there is. Shows what was kept back when
    /// there is none: a consumer cannot make room by taking what it does not see.
    fn look_for_room(&mut self) -> usize {
        // Acquire: the consumer has done with the slots up to there.
        let head = self.ring.head.load(Ordering::Acquire);
        self.limit = head.wrapping_add(self.ring.capacity);
        let room = self.limit.wrapping_sub(self.tail);
        if room == 0 {
            self.flush();
        }
        room
    }

    /// # Safety
    /// There is room: `tail != limit`.
    #[inline]
    pub(super) unsafe fn put(&mut self, item: T) {
        // SAFETY: the slots from `tail` to `limit` are empty and ours.
        unsafe {
            self.ring
                .slots
                .write(self.tail, item, self.limit.wrapping_sub(self.tail))
        };
        self.tail = self.tail.wrapping_add(1);
    }

    #[inline]
    pub(super) fn publish(&mut self) {
        // Release: the items are in their slots before the consumer sees the position.
        self.ring.tail.store(self.tail, Ordering::Release);
    }

    #[inline]
    pub(super) fn ring(&self) -> &LockFreeRing<T> {
        &self.ring
    }
}

impl<T> Drop for Producer<T> {
    fn drop(&mut self) {
        self.flush();
        // Release: whoever sees this sees the last items.
        self.ring.producer_gone.store(true, Ordering::Release);
    }
}

impl<T> fmt::Debug for Producer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer")
            .field("capacity", &self.capacity())
            .field("free", &self.free())
            .finish_non_exhaustive()
    }
}
