//! The memory under the tables: allocated once, zeroed, aligned, and found by hash in one line.
//!
//! | type | is |
//! |---|---|
//! | [`Region`] | a fixed array in zeroed memory that the system hands out as it is touched |
//! | [`Slab`] | records in a region, with a list of the free ones |
//! | [`Index`] | from the hash of a key to the number of a record; a bucket is a cache line |
//!
//! This is the only module of the crate with unsafe code.

mod index;
mod records;
mod region;
mod slab;

pub(crate) use index::Index;
pub(crate) use region::{LARGE, Region};
pub(crate) use slab::{NONE, Slab, SlabRecord};
