//! The guest's memory as this process sees it.
//!
//! A [`GuestMemory`] is a table of regions that does not change: adding or taking away memory makes a
//! new one. Each queue holds the one it was given, so that nothing is unmapped under it and no lock
//! is taken to translate an address.

use std::any::Any;
use std::ptr::NonNull;
use std::sync::Arc;

use net_datapath::prefetch::{LINE, prefetch_read};

use crate::error::{QueueError, SetupError};

/// Keeps what a region points at alive.
pub type Owner = Arc<dyn Any + Send + Sync>;

/// A piece of guest-physical memory that is mapped here.
#[derive(Clone)]
pub struct Region {
    guest: u64,
    len: u64,
    host: NonNull<u8>,
    _owner: Owner,
}

// SAFETY: a region is an address and what keeps it mapped (`Send + Sync`); its bytes are reached by
// raw copies only, which threads may do as the guest does.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Region {
    /// The `len` bytes at `host`, which the guest knows under address `guest`.
    ///
    /// # Safety
    /// The bytes stay mapped, readable and writable, as long as `owner` lives, and no Rust
    /// reference to them exists meanwhile: the guest writes them at any time.
    ///
    /// # Errors
    /// [`SetupError::Region`] for no bytes, or where an address space ends before the region does.
    pub unsafe fn new(
        guest: u64,
        host: NonNull<u8>,
        len: usize,
        owner: Owner,
    ) -> Result<Self, SetupError> {
        let host_end = (host.as_ptr() as usize).checked_add(len);
        let len = len as u64;
        if len == 0 || guest.checked_add(len).is_none() || host_end.is_none() {
            return Err(SetupError::Region(guest));
        }
        Ok(Self {
            guest,
            len,
            host,
            _owner: owner,
        })
    }

    /// Where the guest finds it.
    pub fn guest_address(&self) -> u64 {
        self.guest
    }

    /// Length in bytes.
    #[allow(clippy::len_without_is_empty)] // It is never 0.
    pub fn len(&self) -> u64 {
        self.len
    }
}

impl std::fmt::Debug for Region {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Region({:#x}, {} bytes)", self.guest, self.len)
    }
}

/// A piece of a buffer: bytes in one region.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece {
    pub(crate) host: *mut u8,
    pub(crate) len: usize,
}

// SAFETY: an address into guest memory, which no thread owns; it is used while the memory is held.
unsafe impl Send for Piece {}

impl Piece {
    /// Has its first lines, those of the headers of a frame, on their way into the cache.
    #[inline(always)]
    pub(crate) fn prefetch(&self) {
        // Where it is shorter, the hint is for nothing and harmless.
        for line in 0..3 {
            prefetch_read(self.host.wrapping_add(line * LINE));
        }
    }
}

/// The region that the last buffer lay in, where the next one lies as a rule: looked at before the
/// table is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    guest: u64,
    len: u64,
    host: *mut u8,
}

// SAFETY: as for `Piece`.
unsafe impl Send for Window {}

impl Window {
    /// No region.
    pub(crate) const NONE: Self = Self {
        guest: 0,
        len: 0,
        host: std::ptr::null_mut(),
    };

    /// The address here of `len` bytes that lie in this region.
    #[inline(always)]
    fn find(&self, address: u64, len: u64) -> Option<*mut u8> {
        let offset = address.wrapping_sub(self.guest);
        if offset < self.len && len <= self.len - offset {
            // SAFETY: within the region.
            return Some(unsafe { self.host.add(offset as usize) });
        }
        None
    }
}

/// All regions of a guest, by address.
#[derive(Clone, Debug, Default)]
pub struct GuestMemory {
    regions: Box<[Region]>,
}

impl GuestMemory {
    /// A table of these regions, in any order.
    ///
    /// # Errors
    /// [`SetupError::Region`] where two overlap.
    pub fn new(mut regions: Vec<Region>) -> Result<Self, SetupError> {
        regions.sort_by_key(|region| region.guest);
        for pair in regions.windows(2) {
            if pair[0].guest + pair[0].len > pair[1].guest {
                return Err(SetupError::Region(pair[1].guest));
            }
        }
        Ok(Self {
            regions: regions.into(),
        })
    }

    /// The regions, by address.
    pub fn regions(&self) -> &[Region] {
        &self.regions
    }

    /// The region that holds `address`, and where in it.
    #[inline]
    fn find(&self, address: u64) -> Option<(&Region, u64)> {
        // Guests have one to a few regions, and nearly all buffers lie in the largest: comparing
        // each in turn is one well-predicted branch.
        for region in &self.regions {
            let offset = address.wrapping_sub(region.guest);
            if offset < region.len {
                return Some((region, offset));
            }
        }
        None
    }

    /// The guest-physical address of a byte here; the first, where regions share it.
    pub(crate) fn guest_address(&self, host: *const u8) -> Option<u64> {
        self.regions.iter().find_map(|region| {
            let offset = host.addr().checked_sub(region.host.addr().get())? as u64;
            // No sum overflows: `Region::new` has checked.
            (offset < region.len).then(|| region.guest + offset)
        })
    }

    /// The address here of `len` bytes that lie in one region.
    #[inline]
    pub(crate) fn contiguous(&self, address: u64, len: u64) -> Option<NonNull<u8>> {
        let (region, offset) = self.find(address)?;
        if len > region.len - offset {
            return None;
        }
        // SAFETY: within the region.
        Some(unsafe { region.host.add(offset as usize) })
    }

    /// [`Self::contiguous`] for one buffer after the other; `window` is of this table.
    #[inline(always)]
    pub(crate) fn piece(&self, window: &mut Window, address: u64, len: u32) -> Option<Piece> {
        let host = match window.find(address, len.into()) {
            Some(host) => host,
            None => self.move_window(window, address, len)?,
        };
        Some(Piece {
            host,
            len: len as usize,
        })
    }

    #[cold]
    fn move_window(&self, window: &mut Window, address: u64, len: u32) -> Option<*mut u8> {
        let (region, _) = self.find(address)?;
        *window = Window {
            guest: region.guest,
            len: region.len,
            host: region.host.as_ptr(),
        };
        window.find(address, len.into())
    }

    /// Appends the pieces of `len` bytes at `address` to `pieces`: one, unless the bytes cross from
    /// one region into the next.
    ///
    /// # Errors
    /// [`QueueError::OutOfRange`]; `pieces` may have grown.
    #[inline]
    pub(crate) fn translate(
        &self,
        address: u64,
        len: u32,
        pieces: &mut Vec<Piece>,
    ) -> Result<(), QueueError> {
        if let Some(host) = self.contiguous(address, len.into()) {
            pieces.push(Piece {
                host: host.as_ptr(),
                len: len as usize,
            });
            return Ok(());
        }
        self.across(address, len, pieces)
    }

    #[cold]
    fn across(&self, address: u64, len: u32, pieces: &mut Vec<Piece>) -> Result<(), QueueError> {
        let out_of_range = QueueError::OutOfRange {
            address,
            len: len.into(),
        };
        let mut at = address;
        let mut left = u64::from(len);
        while left > 0 {
            let (region, offset) = self.find(at).ok_or(out_of_range)?;
            let take = left.min(region.len - offset);
            pieces.push(Piece {
                // SAFETY: within the region.
                host: unsafe { region.host.add(offset as usize) }.as_ptr(),
                len: take as usize,
            });
            at = at.checked_add(take).ok_or(out_of_range)?;
            left -= take;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(layout: &[(u64, usize)]) -> Result<GuestMemory, SetupError> {
        let regions = layout.iter().map(|(guest, len)| {
            let bytes: Arc<Vec<u8>> = Arc::new(vec![0; (*len).max(1)]);
            let host = NonNull::new(bytes.as_ptr().cast_mut()).unwrap();
            // SAFETY: the vector lives as long as the region; the tests only compare addresses.
            unsafe { Region::new(*guest, host, *len, bytes) }
        });
        GuestMemory::new(regions.collect::<Result<_, _>>()?)
    }

    #[test]
    fn regions_that_cannot_be_are_refused() {
        assert_eq!(memory(&[(0, 0)]).unwrap_err(), SetupError::Region(0));
        assert_eq!(
            memory(&[(u64::MAX, 2)]).unwrap_err(),
            SetupError::Region(u64::MAX)
        );
        assert_eq!(
            memory(&[(100, 50), (0, 101)]).unwrap_err(),
            SetupError::Region(100)
        );
        assert!(memory(&[(100, 50), (0, 100)]).is_ok());
    }

    #[test]
    fn buffers_are_found_in_and_across_regions() {
        let memory = memory(&[(0x1000, 0x100), (0x1100, 0x100), (0x3000, 0x10)]).unwrap();
        let lens = |address, len| {
            let mut pieces = Vec::new();
            memory
                .translate(address, len, &mut pieces)
                .map(|()| pieces.iter().map(|piece| piece.len).collect::<Vec<_>>())
        };
        assert_eq!(lens(0x1000, 0x100).unwrap(), [0x100]);
        assert_eq!(lens(0x10ff, 2).unwrap(), [1, 1]);
        assert_eq!(lens(0x1001, 0x1ff).unwrap(), [0xff, 0x100]);
        assert_eq!(lens(0x300f, 1).unwrap(), [1]);
        for (address, len) in [
            (0xfff, 2),
            (0x11ff, 2),
            (0x3010, 1),
            (0x1000, u32::MAX),
            (u64::MAX, 1),
            (u64::MAX, u32::MAX),
        ] {
            assert!(
                matches!(lens(address, len), Err(QueueError::OutOfRange { .. })),
                "{address:#x} {len}"
            );
        }
        assert!(memory.contiguous(0x10ff, 2).is_none());
        assert!(memory.contiguous(0x10ff, 1).is_some());
    }
}
