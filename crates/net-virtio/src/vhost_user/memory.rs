//! The front-end's memory: what it has shared, mapped here, under the two addresses it is known by.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::error::ProtocolError;
use super::sys::{self, Mapping};
use crate::memory::{GuestMemory, Region};

/// The most regions of one front-end; QEMU has 32 slots unless told otherwise, DPDK takes 8.
pub(super) const MAX_REGIONS: usize = 64;
/// The most bytes of all regions together: 4 TiB. Address space is finite, and other guests' is
/// taken from the same.
const MAX_BYTES: u64 = 4 << 40;

/// What a front-end says of a region.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct RegionAt {
    /// Guest-physical address; descriptors speak it.
    pub(super) guest: u64,
    /// Length in bytes.
    pub(super) size: u64,
    /// Address in the front-end; the places of rings are given so.
    pub(super) user: u64,
    /// Where it begins in its file.
    pub(super) offset: u64,
}

/// A region that is mapped.
#[derive(Clone, Debug)]
pub(super) struct Mapped {
    at: RegionAt,
    region: Region,
}

impl Mapped {
    /// Maps a region and closes its file.
    ///
    /// # Errors
    /// [`ProtocolError`] where it is not within its file, or not to be mapped.
    pub(super) fn new(at: RegionAt, file: File) -> Result<Self, ProtocolError> {
        if at.size > MAX_BYTES {
            return Err(ProtocolError::Region(at.guest));
        }
        let part = Mapping::part(&file, at.offset, at.size)?;
        let (mapping, start) = part.ok_or(ProtocolError::Region(at.guest))?;
        if !sys::cannot_shrink(&file) {
            warn_of_shrinking();
        }
        let host = mapping.at(start).ok_or(ProtocolError::Region(at.guest))?;
        let region = super::region_of(mapping, host, at)?;
        Ok(Self { at, region })
    }
}

/// Says once that a front-end whose memory is not sealed can take the process down with it.
fn warn_of_shrinking() {
    static SAID: AtomicBool = AtomicBool::new(false);
    if !SAID.swap(true, Ordering::Relaxed) {
        log::warn!(
            "vhost-user: a front-end's memory is a file that it can shorten, which would end this \
             process; memory from memfd_create with F_SEAL_SHRINK cannot be (QEMU: \
             -object memory-backend-memfd)"
        );
    }
}

/// All regions of a front-end.
#[derive(Clone, Debug, Default)]
pub(super) struct MemoryTable {
    regions: Vec<Mapped>,
    guest: Arc<GuestMemory>,
}

impl MemoryTable {
    /// A table of these.
    ///
    /// # Errors
    /// [`ProtocolError`] for too many, too much, or two at the same guest address.
    pub(super) fn new(regions: Vec<Mapped>) -> Result<Self, ProtocolError> {
        let bytes = regions
            .iter()
            .try_fold(0u64, |sum, one| sum.checked_add(one.at.size));
        if regions.len() > MAX_REGIONS || bytes.is_none_or(|bytes| bytes > MAX_BYTES) {
            return Err(ProtocolError::TooMuchMemory);
        }
        let guest = GuestMemory::new(regions.iter().map(|one| one.region.clone()).collect())?;
        Ok(Self {
            regions,
            guest: Arc::new(guest),
        })
    }

    /// The same with one more. QEMU 7.2 adds and removes every region once for each pair of queues: one
    /// that is there already is no second one.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub(super) fn with(&self, more: Mapped) -> Result<Self, ProtocolError> {
        if self.regions.iter().any(|one| one.at == more.at) {
            return Ok(self.clone());
        }
        let mut regions = self.regions.clone();
        regions.push(more);
        Self::new(regions)
    }

    /// The same without the region with these addresses and this length, which another pair's word
    /// may have removed before.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub(super) fn without(&self, gone: RegionAt) -> Result<Self, ProtocolError> {
        let mut regions = self.regions.clone();
        let key = |at: &RegionAt| (at.guest, at.size, at.user);
        regions.retain(|one| key(&one.at) != key(&gone));
        Self::new(regions)
    }

    /// Where the last region ends.
    pub(super) fn end(&self) -> u64 {
        let ends = self.regions.iter().map(|one| one.at.guest + one.at.size);
        ends.max().unwrap_or(0)
    }

    /// What queues are given.
    pub(super) fn guest(&self) -> &Arc<GuestMemory> {
        &self.guest
    }

    /// The guest-physical address of an address in the front-end.
    pub(super) fn guest_address(&self, user: u64) -> Option<u64> {
        self.regions.iter().find_map(|one| {
            let offset = user.checked_sub(one.at.user)?;
            // Neither sum overflows: `Region::new` has checked.
            (offset < one.at.size).then(|| one.at.guest + offset)
        })
    }
}
