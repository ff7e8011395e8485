//! A bounded queue between exactly two threads: one puts in, one takes out, nobody waits.
//!
//! [`LockFreeRing::with_capacity`] makes the two halves. Each is `Send` and neither is `Clone` nor
//! `Sync`, and every operation takes `&mut self`: a second producer or a second consumer cannot be
//! written in safe code.
//!
//! | want | producer | consumer |
//! |---|---|---|
//! | one item, visible at once | [`push`](Producer::push) | [`pop`](Consumer::pop) |
//! | one item, visible with its window | [`push_lazy`](Producer::push_lazy), [`flush`](Producer::flush) | [`pop_lazy`](Consumer::pop_lazy), [`flush`](Consumer::flush) |
//! | many items by copy | [`push_slice`](Producer::push_slice) | [`pop_slice`](Consumer::pop_slice) |
//! | many items by move | [`push_iter`](Producer::push_iter) | [`pop_into`](Consumer::pop_into) |
//! | the slots themselves | [`write_chunk`](Producer::write_chunk) | [`read_chunk`](Consumer::read_chunk), [`peek`](Consumer::peek) |
//! | has the other half gone? | [`is_closed`](Producer::is_closed) | [`is_finished`](Consumer::is_finished) |
//!
//! # Costs
//!
//! Each half keeps its own position and the last position it saw of its peer, and looks at the peer
//! again only when those no longer suffice. What passes between the cores is then the items and, per
//! publication, one line with a position. Publishing every item is right when items are rare;
//! when they come in streams the lazy calls publish once per window (up to 64 items), aligned to it,
//! so that the two sides never work on the same line of slots.
//!
//! Every operation ends in a bounded number of steps of its own, whatever the peer does, and none
//! allocates.
//!
//! # Example
//!
//! ```
//! use net_datapath::ring::LockFreeRing;
//!
//! let (mut tx, mut rx) = LockFreeRing::with_capacity(256);
//! let worker = std::thread::spawn(move || {
//!     let mut sum = 0u32;
//!     while !rx.is_finished() {
//!         for item in rx.read_chunk(64) {
//!             sum += item;
//!         }
//!         std::thread::yield_now();
//!     }
//!     sum
//! });
//! let mut items = 1..1001u32;
//! while items.len() > 0 {
//!     tx.push_iter(&mut items);
//!     std::thread::yield_now();
//! }
//! drop(tx);
//! assert_eq!(worker.join().expect("sums up"), 500_500);
//! ```
//!
//! # What the compiler refuses
//!
//! A half has no clone:
//!
//! ```compile_fail,E0599
//! let (tx, rx) = net_datapath::ring::LockFreeRing::<u8>::with_capacity(4);
//! let second = tx.clone();
//! ```
//!
//! ```compile_fail,E0599
//! let (tx, rx) = net_datapath::ring::LockFreeRing::<u8>::with_capacity(4);
//! let second = rx.clone();
//! ```
//!
//! A half is not shared between threads, not even for a look:
//!
//! ```compile_fail,E0277
//! let (tx, rx) = net_datapath::ring::LockFreeRing::<u8>::with_capacity(4);
//! std::thread::scope(|s| { s.spawn(|| tx.free()); });
//! ```
//!
//! ```compile_fail,E0277
//! let (tx, rx) = net_datapath::ring::LockFreeRing::<u8>::with_capacity(4);
//! std::thread::scope(|s| { s.spawn(|| rx.len()); });
//! ```
//!
//! Nor used by two at once:
//!
//! ```compile_fail,E0499
//! let (mut tx, rx) = net_datapath::ring::LockFreeRing::<u8>::with_capacity(4);
//! std::thread::scope(|s| {
//!     s.spawn(|| tx.push(1));
//!     s.spawn(|| tx.push(2));
//! });
//! ```
//!
//! Items that must stay on their thread do not pass:
//!
//! ```compile_fail,E0277
//! let (tx, rx) = net_datapath::ring::LockFreeRing::<std::rc::Rc<u8>>::with_capacity(4);
//! std::thread::spawn(move || drop(tx));
//! ```
//!
//! While a chunk is open, its half is busy:
//!
//! ```compile_fail,E0499
//! let (tx, mut rx) = net_datapath::ring::LockFreeRing::<u8>::with_capacity(4);
//! let chunk = rx.read_chunk(2);
//! rx.pop();
//! drop(chunk);
//! ```

mod chunk;
mod consumer;
mod producer;
mod slots;

use core::fmt;

use crossbeam_utils::CachePadded;

pub use chunk::{ReadChunk, WriteChunk};
pub use consumer::Consumer;
pub use producer::Producer;

use crate::sync::{Arc, AtomicBool, AtomicUsize, Ordering};
use slots::Slots;

/// Most items that a lazy call keeps back.
const MAX_WINDOW: usize = 64;

/// What the two halves of a ring share; see the [module](self) for the calls.
///
/// Positions count items for ever, wrapping with `usize`; a position's slot is its low bits.
pub struct LockFreeRing<T> {
    /// Position after the last published item. Written by the producer.
    tail: CachePadded<AtomicUsize>,
    /// Position of the first item not yet given back. Written by the consumer.
    head: CachePadded<AtomicUsize>,
    /// Which halves are gone: written once each, read when there is nothing else to do.
    producer_gone: AtomicBool,
    consumer_gone: AtomicBool,
    slots: Slots<T>,
    capacity: usize,
}

impl<T> LockFreeRing<T> {
    /// Makes a ring for `capacity` items, at least 1, and returns its halves.
    ///
    /// Any number will do: the ring holds exactly `capacity` items, while its memory is rounded up to
    /// a power of two of them.
    ///
    /// # Panics
    /// When `capacity` is 0 or above half the address space, or the memory is not to be had: as
    /// `Vec::with_capacity` does.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> (Producer<T>, Consumer<T>) {
        Self::starting_at(0, capacity)
    }

    /// A ring whose first position is `start`: 0, but for the tests of what happens at the end.
    fn starting_at(start: usize, capacity: usize) -> (Producer<T>, Consumer<T>) {
        assert!(capacity > 0, "a ring holds at least one item");
        let ring = Arc::new(Self {
            tail: CachePadded::new(AtomicUsize::new(start)),
            head: CachePadded::new(AtomicUsize::new(start)),
            producer_gone: AtomicBool::new(false),
            consumer_gone: AtomicBool::new(false),
            slots: Slots::new(capacity),
            capacity,
        });
        (
            Producer::new(ring.clone(), start),
            Consumer::new(ring, start),
        )
    }

    /// Positions at which the lazy calls publish: multiples of this plus one, a power of two that
    /// leaves at least three windows for the other side.
    fn window_mask(&self) -> usize {
        let window = (self.capacity / 4).clamp(1, MAX_WINDOW);
        // The largest power of two in it, less one.
        (1 << window.ilog2()) - 1
    }
}

impl<T> Drop for LockFreeRing<T> {
    fn drop(&mut self) {
        // Both halves have published their positions when they went.
        let head = self.head.load(Ordering::Relaxed);
        let tail = self.tail.load(Ordering::Relaxed);
        // SAFETY: the items from head to tail were put in and not taken out, and nobody else is left.
        unsafe { self.slots.drop_range(head, tail.wrapping_sub(head)) };
    }
}

/// A ring had no room; holds the item that found none.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Full<T>(pub T);

impl<T> Full<T> {
    /// The item.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> fmt::Debug for Full<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Full(..)")
    }
}

impl<T> fmt::Display for Full<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the ring is full")
    }
}

impl<T> core::error::Error for Full<T> {}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn positions_wrap() {
        for capacity in [1, 2, 3, 5, 8] {
            let (mut tx, mut rx) = LockFreeRing::starting_at(usize::MAX - 20, capacity);
            let (mut sent, mut got) = (0u32, 0u32);
            while got < 100 {
                assert_eq!(tx.free() + rx.len(), capacity);
                while tx.push_lazy(sent).is_ok() {
                    sent += 1;
                }
                assert_eq!(rx.len(), capacity);
                let chunk = rx.read_chunk(capacity);
                let (first, second) = chunk.as_slices();
                assert!(first.iter().chain(second).copied().eq(got..sent));
                drop(chunk);
                let mut out = [0; 2];
                let popped = rx.pop_slice(&mut out);
                for &item in &out[..popped] {
                    assert_eq!(item, got);
                    got += 1;
                }
            }
        }
    }

    #[test]
    fn windows_leave_room_for_the_other_side() {
        let window = |capacity| {
            let (tx, _rx) = LockFreeRing::<u8>::with_capacity(capacity);
            tx.ring().window_mask() + 1
        };
        let windows = [1, 3, 4, 8, 15, 16, 255, 256, 257, 5000].map(window);
        assert_eq!(windows, [1, 1, 1, 2, 2, 4, 32, 64, 64, 64]);
    }
}
