//! What is constant about each buffer, in a table beside the buffers.
//!
//! A handle points here, and so is half as long as with the buffer's address, number and pool in itself:
//! handles travel through rings, and what travels is written by one core and read by another. The table
//! is never written once the pool is there, so that every core has its lines to itself. It does not lie
//! in the buffers, whose memory a device may map too.

use alloc::boxed::Box;
use core::ptr::NonNull;

use super::inner::Inner;

/// Buffer and pool of a handle.
pub(super) struct Slot {
    /// First byte of the buffer.
    pub(super) start: NonNull<u8>,
    pub(super) inner: NonNull<Inner>,
}

/// Where a buffer's slot is: the buffer's name among handles and in caches.
#[derive(Clone, Copy, PartialEq)]
pub(super) struct SlotPtr(NonNull<Slot>);

// SAFETY: a slot is constant and its pool `Send + Sync`.
unsafe impl Send for SlotPtr {}
// SAFETY: as above.
unsafe impl Sync for SlotPtr {}

impl SlotPtr {
    /// The slot itself.
    ///
    /// # Safety
    /// The pool is alive for as long as the caller uses it.
    #[inline]
    pub(super) unsafe fn slot<'a>(self) -> &'a Slot {
        // SAFETY: the table is there as long as the pool, and never written.
        unsafe { self.0.as_ref() }
    }
}

/// One slot for each buffer.
pub(super) struct Slots {
    /// The table, from a box: kept as a pointer to its first, since handles have pointers into it.
    first: NonNull<Slot>,
    /// How long it is: what [`contains`](Self::contains) compares with.
    bytes: usize,
}

impl Slots {
    /// For `count` buffers of the pool `inner`, the first at `base`, each `stride` bytes from the last.
    ///
    /// # Safety
    /// `count * stride` bytes at `base` are one allocation.
    pub(super) unsafe fn new(
        inner: NonNull<Inner>,
        base: NonNull<u8>,
        count: usize,
        stride: usize,
    ) -> Self {
        let table = (0..count)
            .map(|index| Slot {
                // SAFETY: in the allocation by contract.
                start: unsafe { base.add(index * stride) },
                inner,
            })
            .collect::<Box<[Slot]>>();
        Self {
            bytes: size_of_val(&*table),
            first: NonNull::from(Box::leak(table)).cast(),
        }
    }

    /// The slot of buffer 0.
    pub(super) fn first(&self) -> SlotPtr {
        SlotPtr(self.first)
    }

    /// How many there are.
    fn len(&self) -> usize {
        self.bytes / size_of::<Slot>()
    }

    /// The slot of buffer `index`.
    ///
    /// # Safety
    /// There is such a buffer.
    #[inline]
    pub(super) unsafe fn get(&self, index: u32) -> SlotPtr {
        debug_assert!((index as usize) < self.len());
        // SAFETY: in the table by contract.
        SlotPtr(unsafe { self.first.add(index as usize) })
    }

    /// Whether this is one of these slots. Nothing is read.
    #[inline]
    pub(super) fn contains(&self, slot: SlotPtr) -> bool {
        self.distance(slot) < self.bytes
    }

    /// The number of the buffer whose slot this is, one of these.
    #[inline]
    pub(super) fn index(&self, slot: SlotPtr) -> u32 {
        debug_assert!(self.contains(slot));
        (self.distance(slot) / size_of::<Slot>()) as u32
    }

    /// How many bytes lie between the first slot and this one. One of another pool lies in another
    /// allocation: behind this one, or before it, which wraps. Either is more than the table has.
    #[inline]
    fn distance(&self, slot: SlotPtr) -> usize {
        let first = self.first.addr().get();
        slot.0.addr().get().wrapping_sub(first)
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        let table = NonNull::slice_from_raw_parts(self.first, self.len());
        // SAFETY: leaked from a box of this length in `new`, freed only here; no handle is left.
        drop(unsafe { Box::from_raw(table.as_ptr()) });
    }
}

const _: () = assert!(size_of::<Slot>() == 2 * size_of::<usize>());

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn slots_know_their_numbers_and_no_others() {
        let inner = NonNull::dangling();
        let mut memory = [0u8; 96];
        let base = NonNull::from(&mut memory).cast::<u8>();
        // SAFETY: three times 32 bytes.
        let tables = [(); 3].map(|()| unsafe { Slots::new(inner, base, 3, 32) });
        for (number, table) in tables.iter().enumerate() {
            // SAFETY: one behind the last, and never read.
            assert!(!table.contains(SlotPtr(unsafe { table.first.add(3) })));
            for index in 0..3 {
                // SAFETY: there are three.
                let slot = unsafe { table.get(index) };
                assert_eq!(table.index(slot), index);
                // SAFETY: the tables live.
                let start = unsafe { slot.slot() }.start;
                assert_eq!(start.addr().get() - base.addr().get(), 32 * index as usize);
                for (other, table) in tables.iter().enumerate() {
                    assert_eq!(table.contains(slot), other == number);
                }
            }
        }
    }
}
