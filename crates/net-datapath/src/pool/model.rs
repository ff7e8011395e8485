//! The free list by itself, for models of it: with the pool around it a model cannot choose which tray
//! is looked at first. Not there but under loom.

use alloc::vec::Vec;

use super::free_list::{Cursor, FreeList, cells};

/// A free list.
pub struct List(FreeList);

impl List {
    /// All of `buffers` free; there is a tray for every two.
    pub fn full(buffers: usize) -> Self {
        Self(FreeList::full(buffers))
    }

    /// Takes up to `count` buffers, looking at `tray` first and then at those behind it.
    pub fn take(&self, count: usize, tray: u32) -> Vec<u32> {
        let mut out = alloc::vec![0; count];
        let taken = self.0.take(&mut out, &mut Cursor { word: 0, tray });
        out.truncate(taken);
        out
    }

    /// Puts two buffers of the caller's on `tray`, or the next that is empty; whether one was.
    pub fn put(&self, buffers: &[u32], mut tray: u32) -> bool {
        self.0.put_tray(cells(&mut buffers.to_vec()), &mut tray)
    }
}
