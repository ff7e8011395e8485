//! Records in a region, with a list of the free ones.

use core::ops::Range;

use net_datapath::prefetch::prefetch_write;

use super::region::{Region, Zeroable};

/// No record.
pub(crate) const NONE: u32 = u32::MAX;

/// A record that can stand in the list of free ones.
pub(crate) trait SlabRecord: Zeroable {
    /// Where the next free record is kept while this one is free.
    fn next_free(&mut self) -> &mut u32;
}

/// Up to a fixed number of records, each with a number for as long as it is in use.
pub(crate) struct Slab<T> {
    records: Region<T>,
    /// Those from here on were never used, and their memory not touched.
    fresh: u32,
    /// The first of those given back.
    free: u32,
    used: u32,
}

impl<T: SlabRecord> Slab<T> {
    /// Room for `capacity` records, at most 2^32 - 2.
    pub(crate) fn new(capacity: usize) -> Option<Self> {
        (capacity < NONE as usize).then_some(())?;
        Some(Self {
            records: Region::new(capacity)?,
            fresh: 0,
            free: NONE,
            used: 0,
        })
    }

    /// What [`Self::take`] will give.
    #[inline]
    pub(crate) fn next(&self) -> Option<u32> {
        match self.free {
            NONE => Some(self.fresh).filter(|&fresh| (fresh as usize) < self.records.len()),
            free => Some(free),
        }
    }

    /// A record to be overwritten; what is in it is zero or what its last user left.
    #[inline(always)]
    pub(crate) fn take(&mut self) -> Option<u32> {
        let number = if self.free != NONE {
            let number = self.free;
            self.free = *self.records.get_mut(number as usize)?.next_free();
            // The one that the next call takes was given back long ago, perhaps.
            self.prefetch(self.free);
            number
        } else if (self.fresh as usize) < self.records.len() {
            self.fresh += 1;
            self.fresh - 1
        } else {
            return None;
        };
        self.used += 1;
        Some(number)
    }

    /// Gives a record back, which must be in use.
    #[inline]
    pub(crate) fn give(&mut self, number: u32) {
        let free = self.free;
        if let Some(record) = self.records.get_mut(number as usize) {
            *record.next_free() = free;
            self.free = number;
            self.used -= 1;
        }
    }

    /// Fetches a record that will be written to soon; any number will do.
    #[inline(always)]
    pub(crate) fn prefetch(&self, number: u32) {
        let record = self.records.as_ptr().wrapping_add(number as usize);
        prefetch_write(record.cast_mut());
    }

    pub(crate) fn len(&self) -> usize {
        self.used as usize
    }

    pub(crate) fn capacity(&self) -> usize {
        self.records.len()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.len() == self.capacity()
    }

    /// Records that were ever used; those in use have lower numbers than this.
    pub(crate) fn touched(&self) -> u32 {
        self.fresh
    }

    pub(crate) fn bytes(&self) -> usize {
        self.records.bytes()
    }

    /// Where they lie.
    pub(crate) fn memory(&self) -> Range<*const u8> {
        self.records.range()
    }

    /// All records, in use or not.
    #[inline(always)]
    pub(crate) fn records(&self) -> &[T] {
        &self.records
    }

    #[inline(always)]
    pub(crate) fn get(&self, number: u32) -> Option<&T> {
        self.records.get(number as usize)
    }

    #[inline(always)]
    pub(crate) fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        self.records.get_mut(number as usize)
    }
}
