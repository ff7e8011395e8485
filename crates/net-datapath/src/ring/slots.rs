//! The memory of a ring: a power of two of slots, each empty or holding one item.

use alloc::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use core::mem::MaybeUninit;
use core::ptr::NonNull;

use crate::prefetch::prefetch_write;

/// Slots start on two cache lines, so that the windows of the lazy calls do not share lines.
const ALIGN: usize = 128;

/// Bytes from which on items fill lines so fast that the producer waits for each to come over from the
/// consumer. A write of the next ones in advance takes 7.4 ns an item of 32 bytes down to 4.6
/// (`bench datapath pool`). Of smaller ones a line holds so many that most writes would ask for it again.
const LARGE: usize = 16;

/// Slots, addressed by positions that wrap. Which of them hold items, and who may touch which, is
/// the business of the two halves.
pub(super) struct Slots<T> {
    base: NonNull<T>,
    mask: usize,
    /// Tells loom of every access, so that it reports two that are not ordered.
    #[cfg(loom)]
    cells: alloc::boxed::Box<[loom::cell::UnsafeCell<()>]>,
}

// SAFETY: a run of memory; items pass from one thread to another through it, hence `T: Send`.
unsafe impl<T: Send> Send for Slots<T> {}
// SAFETY: no item is ever seen by two threads at once: the halves hand positions over.
unsafe impl<T: Send> Sync for Slots<T> {}

impl<T> Slots<T> {
    /// How many slots ahead of the one being filled a line is asked for: some four lines.
    const AHEAD: usize = if size_of::<T>() < LARGE {
        0
    } else {
        1 + 4 * 64 / size_of::<T>()
    };

    /// Empty slots, at least `capacity` of them.
    ///
    /// # Panics
    /// When that is more than half the address space, or the memory is not to be had.
    pub(super) fn new(capacity: usize) -> Self {
        let count = capacity.checked_next_power_of_two();
        let layout = count.and_then(Self::layout);
        let (Some(count), Some(layout)) = (count, layout) else {
            panic!("a ring of {capacity} items exceeds the address space");
        };
        let base = if layout.size() == 0 {
            NonNull::dangling()
        } else {
            // SAFETY: the size is not zero.
            let memory = unsafe { alloc(layout) };
            match NonNull::new(memory.cast::<T>()) {
                Some(base) => base,
                None => handle_alloc_error(layout),
            }
        };
        Self {
            base,
            mask: count - 1,
            #[cfg(loom)]
            cells: (0..count)
                .map(|_| loom::cell::UnsafeCell::new(()))
                .collect(),
        }
    }

    fn layout(count: usize) -> Option<Layout> {
        if count > isize::MAX as usize {
            return None;
        }
        Layout::array::<T>(count).ok()?.align_to(ALIGN).ok()
    }

    /// The slot of `position`.
    #[inline]
    fn slot(&self, position: usize) -> *mut T {
        // SAFETY: the mask keeps it within the memory.
        unsafe { self.base.as_ptr().add(position & self.mask) }
    }

    /// Puts an item in, where `left` slots from `position` on are known to be empty. A line further ahead
    /// is not asked for: the consumer still reads there, and would have to fetch it once more.
    ///
    /// # Safety
    /// The slot is empty and the caller's to fill.
    #[inline]
    pub(super) unsafe fn write(&self, position: usize, item: T, left: usize) {
        self.note_write(position, 1);
        if size_of::<T>() >= LARGE && left > Self::AHEAD {
            prefetch_write(self.slot(position.wrapping_add(Self::AHEAD)));
        }
        // SAFETY: in bounds, and the caller's.
        unsafe { self.slot(position).write(item) };
    }

    /// Takes the item out; the slot is empty afterwards.
    ///
    /// # Safety
    /// The slot holds an item and is the caller's.
    #[inline]
    pub(super) unsafe fn read(&self, position: usize) -> T {
        self.note_write(position, 1);
        // SAFETY: in bounds, holding an item, and the caller's.
        unsafe { self.slot(position).read() }
    }

    /// The `count` slots from `position` on, as the run up to the end of the memory and the rest
    /// from its start.
    ///
    /// # Safety
    /// `count` is at most the number of slots.
    #[inline]
    pub(super) unsafe fn runs(&self, position: usize, count: usize) -> (Run<T>, Run<T>) {
        self.note_write(position, count);
        let first = count.min(self.mask + 1 - (position & self.mask));
        (
            Run {
                base: self.slot(position),
                len: first,
            },
            Run {
                base: self.base.as_ptr(),
                len: count - first,
            },
        )
    }

    /// Drops `count` items from `position` on.
    ///
    /// # Safety
    /// Those slots hold items and are the caller's.
    pub(super) unsafe fn drop_range(&self, position: usize, count: usize) {
        if core::mem::needs_drop::<T>() {
            // SAFETY: no more items than slots.
            let (first, second) = unsafe { self.runs(position, count) };
            // SAFETY: items, and the caller's.
            unsafe {
                core::ptr::slice_from_raw_parts_mut(first.base, first.len).drop_in_place();
                core::ptr::slice_from_raw_parts_mut(second.base, second.len).drop_in_place();
            }
        }
    }

    #[inline]
    fn note_write(&self, _position: usize, _count: usize) {
        #[cfg(loom)]
        for i in 0.._count {
            self.cells[_position.wrapping_add(i) & self.mask].with_mut(|_| ());
        }
    }
}

impl<T> Drop for Slots<T> {
    fn drop(&mut self) {
        if let Some(layout) = Self::layout(self.mask + 1)
            && layout.size() != 0
        {
            // SAFETY: allocated in `new` with this layout, freed only here.
            unsafe { dealloc(self.base.as_ptr().cast(), layout) };
        }
    }
}

/// Neighbouring slots.
pub(super) struct Run<T> {
    base: *mut T,
    len: usize,
}

impl<T> Run<T> {
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// # Safety
    /// The slots hold items, and are the caller's to read for `'a`.
    #[inline]
    pub(super) unsafe fn items<'a>(self) -> &'a [T] {
        // SAFETY: by contract.
        unsafe { core::slice::from_raw_parts(self.base, self.len) }
    }

    /// # Safety
    /// The slots hold items, and are the caller's alone for `'a`.
    #[inline]
    pub(super) unsafe fn items_mut<'a>(self) -> &'a mut [T] {
        // SAFETY: by contract.
        unsafe { core::slice::from_raw_parts_mut(self.base, self.len) }
    }

    /// # Safety
    /// The slots are the caller's alone for `'a`.
    #[inline]
    pub(super) unsafe fn uninit<'a>(self) -> &'a mut [MaybeUninit<T>] {
        // SAFETY: by contract; `MaybeUninit<T>` has the layout of `T`.
        unsafe { core::slice::from_raw_parts_mut(self.base.cast(), self.len) }
    }

    /// Copies `items` in.
    ///
    /// # Safety
    /// The slots are the caller's alone, and there are as many items.
    #[inline]
    pub(super) unsafe fn copy_from(&self, items: &[T])
    where
        T: Copy,
    {
        debug_assert_eq!(self.len, items.len());
        // SAFETY: by contract; the caller's slice is not part of the ring.
        unsafe { core::ptr::copy_nonoverlapping(items.as_ptr(), self.base, self.len) };
    }

    /// Copies the items out.
    ///
    /// # Safety
    /// The slots hold items and are the caller's alone, and `out` is as long.
    #[inline]
    pub(super) unsafe fn copy_to(&self, out: &mut [T])
    where
        T: Copy,
    {
        debug_assert_eq!(self.len, out.len());
        // SAFETY: by contract; the caller's slice is not part of the ring.
        unsafe { core::ptr::copy_nonoverlapping(self.base, out.as_mut_ptr(), self.len) };
    }
}
