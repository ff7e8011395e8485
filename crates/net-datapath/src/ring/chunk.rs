//! A run of slots, used where they are.

use core::fmt;
use core::mem::MaybeUninit;

use super::Full;
use super::consumer::Consumer;
use super::producer::Producer;

/// Free slots of a ring, to be filled in place. What has been filled is shown to the consumer, all
/// at once, when the chunk is dropped.
pub struct WriteChunk<'a, T> {
    producer: &'a mut Producer<T>,
    /// Slots not filled yet.
    left: usize,
}

impl<'a, T> WriteChunk<'a, T> {
    /// `left` slots from the producer's position on are free.
    #[inline]
    pub(super) fn new(producer: &'a mut Producer<T>, left: usize) -> Self {
        Self { producer, left }
    }

    /// Slots still to be filled.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.left
    }

    /// No slot is left.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.left == 0
    }

    /// Fills the next slot.
    ///
    /// # Errors
    /// [`Full`], with the item, when the chunk has no slot left.
    #[inline]
    pub fn push(&mut self, item: T) -> Result<(), Full<T>> {
        if self.left == 0 {
            return Err(Full(item));
        }
        self.left -= 1;
        // SAFETY: a slot of the chunk was left, which is room.
        unsafe { self.producer.put(item) };
        Ok(())
    }

    /// The slots still to be filled: a run and its continuation, the second often empty. To take in
    /// what was written there, call [`advance`](Self::advance).
    #[inline]
    pub fn as_uninit_slices(&mut self) -> (&mut [MaybeUninit<T>], &mut [MaybeUninit<T>]) {
        // SAFETY: the chunk's slots are free, thus not more than there are.
        let (first, second) = unsafe {
            self.producer
                .ring()
                .slots
                .runs(self.producer.tail, self.left)
        };
        // SAFETY: free slots are the producer's alone, which this chunk borrows.
        unsafe { (first.uninit(), second.uninit()) }
    }

    /// Takes the next `count` slots as filled.
    ///
    /// # Panics
    /// When fewer are left.
    ///
    /// # Safety
    /// Those slots have been initialised, through [`as_uninit_slices`](Self::as_uninit_slices).
    #[inline]
    pub unsafe fn advance(&mut self, count: usize) {
        assert!(count <= self.left, "{count} of {} slots", self.left);
        self.left -= count;
        self.producer.tail = self.producer.tail.wrapping_add(count);
    }
}

impl<T> Drop for WriteChunk<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.producer.flush();
    }
}

impl<T> fmt::Debug for WriteChunk<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteChunk")
            .field("len", &self.left)
            .finish_non_exhaustive()
    }
}

/// Items of a ring, used where they are or taken one by one (it is an iterator). Slots of items that
/// were taken are given back to the producer, all at once, when the chunk is dropped; items that were
/// not taken stay in the ring.
pub struct ReadChunk<'a, T> {
    consumer: &'a mut Consumer<T>,
    /// Items not taken yet.
    left: usize,
}

impl<'a, T> ReadChunk<'a, T> {
    /// `left` items from the consumer's position on are there.
    #[inline]
    pub(super) fn new(consumer: &'a mut Consumer<T>, left: usize) -> Self {
        Self { consumer, left }
    }

    /// Items not taken yet.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.left
    }

    /// All items are taken.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.left == 0
    }

    /// The items not taken yet: a run and its continuation, the second often empty.
    #[inline]
    #[must_use]
    pub fn as_slices(&self) -> (&[T], &[T]) {
        // SAFETY: not more items than slots.
        let (first, second) = unsafe {
            self.consumer
                .ring()
                .slots
                .runs(self.consumer.head, self.left)
        };
        // SAFETY: these slots hold items and are the consumer's, which this chunk borrows.
        unsafe { (first.items(), second.items()) }
    }

    /// The items not taken yet, to be changed in place.
    #[inline]
    #[must_use]
    pub fn as_mut_slices(&mut self) -> (&mut [T], &mut [T]) {
        // SAFETY: not more items than slots.
        let (first, second) = unsafe {
            self.consumer
                .ring()
                .slots
                .runs(self.consumer.head, self.left)
        };
        // SAFETY: as in `as_slices`, and borrowed mutably.
        unsafe { (first.items_mut(), second.items_mut()) }
    }

    /// Drops the next `count` items where they are.
    ///
    /// # Panics
    /// When fewer are left.
    #[inline]
    pub fn consume(&mut self, count: usize) {
        assert!(count <= self.left, "{count} of {} items", self.left);
        let head = self.consumer.head;
        // First, so that an item that panics when dropped is not dropped again.
        self.left -= count;
        self.consumer.head = head.wrapping_add(count);
        // SAFETY: these slots hold items, which nobody will see again.
        unsafe { self.consumer.ring().slots.drop_range(head, count) };
    }

    /// Drops all items not taken yet.
    #[inline]
    pub fn consume_all(mut self) {
        self.consume(self.left);
    }
}

impl<T> Iterator for ReadChunk<'_, T> {
    type Item = T;

    #[inline]
    fn next(&mut self) -> Option<T> {
        if self.left == 0 {
            return None;
        }
        self.left -= 1;
        // SAFETY: an item of the chunk was left.
        Some(unsafe { self.consumer.take() })
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<T> ExactSizeIterator for ReadChunk<'_, T> {}
impl<T> core::iter::FusedIterator for ReadChunk<'_, T> {}

impl<T> Drop for ReadChunk<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.consumer.flush();
    }
}

impl<T> fmt::Debug for ReadChunk<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadChunk")
            .field("len", &self.left)
            .finish_non_exhaustive()
    }
}
