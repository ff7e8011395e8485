//! The bitmap of pages written, in memory that a front-end shares (vhost-user, "Migration").

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use super::error::ProtocolError;
use super::sys::{self, Mapping};
use crate::dirty::DirtyLog;

/// Bytes that a bit stands for, whatever the pages of the host are.
const PAGE: u64 = 4096;
/// The longest bitmap, in bytes: for 32 TiB of addresses.
const MAX_BYTES: u64 = 1 << 30;

/// A bit for each page, from guest-physical address 0 on.
#[derive(Debug)]
pub(super) struct Bitmap {
    mapping: Mapping,
    /// Where it begins in the mapping.
    start: usize,
    bytes: u64,
    /// A page past its end was written, which was said.
    said: AtomicBool,
}

impl Bitmap {
    /// Maps a bitmap of `size` bytes.
    ///
    /// # Errors
    /// [`ProtocolError::DirtyLog`] where the file does not have it, or can be shortened.
    pub(super) fn map(file: &File, offset: u64, size: u64) -> Result<Self, ProtocolError> {
        if size > MAX_BYTES || !sys::cannot_shrink(file) {
            return Err(ProtocolError::DirtyLog);
        }
        let part = Mapping::part(file, offset, size)?;
        let (mapping, start) = part.ok_or(ProtocolError::DirtyLog)?;
        Ok(Self {
            mapping,
            start,
            bytes: size,
            said: AtomicBool::new(false),
        })
    }

    /// Whether all addresses up to `end` have their bit.
    pub(super) fn reaches(&self, end: u64) -> bool {
        end.div_ceil(PAGE).div_ceil(8) <= self.bytes
    }

    #[allow(unsafe_code)]
    fn byte(&self, at: u64) -> Option<&AtomicU8> {
        let at = usize::try_from(at).ok().filter(|_| at < self.bytes)?;
        let host = self.mapping.at(self.start + at)?;
        // SAFETY: within the bitmap, which is mapped as long as the mapping lives; others change it by
        // atomics as well.
        Some(unsafe { AtomicU8::from_ptr(host.as_ptr()) })
    }
}

/// A bitmap, and whom to tell that it has changed.
pub(super) struct Marker {
    pub(super) bitmap: Arc<Bitmap>,
    pub(super) event: Option<Arc<OwnedFd>>,
}

impl DirtyLog for Marker {
    fn mark(&self, address: u64, len: u64) {
        let Some(last) = len
            .checked_sub(1)
            .and_then(|more| address.checked_add(more))
        else {
            return;
        };
        for page in address / PAGE..=last / PAGE {
            let Some(byte) = self.bitmap.byte(page / 8) else {
                // Memory came after the bitmap.
                if !self.bitmap.said.swap(true, Ordering::Relaxed) {
                    log::warn!("vhost-user: a page past the end of the log of pages was written");
                }
                return;
            };
            // Release: whoever takes the bit away sees what was written, and copies it.
            byte.fetch_or(1 << (page % 8), Ordering::AcqRel);
        }
    }

    fn publish(&self) {
        if let Some(event) = &self.event {
            // Whoever cannot be told looks by itself: the protocol has it as a courtesy.
            let _ = sys::ring(event);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn bits_are_set_where_they_belong_and_nowhere_else() {
        let file = sys::sealed_file("log", 64).unwrap();
        let bitmap = Arc::new(Bitmap::map(&file, 8, 3).unwrap());
        assert!(bitmap.reaches(24 * PAGE) && !bitmap.reaches(24 * PAGE + 1));
        let marker = Marker {
            bitmap,
            event: None,
        };
        for (address, len, bits) in [
            (0, 0, [0; 3]),
            (0, 1, [1, 0, 0]),
            (PAGE - 1, 2, [3, 0, 0]),
            (PAGE, PAGE, [2, 0, 0]),
            (7 * PAGE + 5, PAGE, [0x80, 1, 0]),
            (10 * PAGE, 10 * PAGE, [0, 0xfc, 0x0f]),
            // Past its end, and past the end of all addresses.
            (23 * PAGE, 5 * PAGE, [0, 0, 0x80]),
            (24 * PAGE, 1, [0; 3]),
            (1 << 52, 1, [0; 3]),
            (u64::MAX, 1, [0; 3]),
            (u64::MAX, 2, [0; 3]),
        ] {
            marker.mark(address, len);
            let mut bytes = [0; 64];
            file.read_exact_at(&mut bytes, 0).unwrap();
            assert_eq!(bytes[8..11], bits, "{address:#x} {len}");
            bytes[8..11].fill(0);
            assert_eq!(bytes, [0; 64]);
            file.write_all_at(&bytes, 0).unwrap();
        }
    }
}
