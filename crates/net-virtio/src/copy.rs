//! Bytes from frames into the guest's buffers, once.
//!
//! Sources and targets may be memory that a guest changes meanwhile. Nothing is decided by what is
//! copied here, so it does not matter which bytes a racing guest makes of it; and it is never seen as
//! a Rust slice.

use net_datapath::IoSegment;

use crate::memory::Piece;

/// Writes bytes one after the other into the pieces of a chain.
pub(crate) struct Scatter<'a> {
    pieces: &'a [Piece],
    /// Bytes of the first piece that are written.
    filled: usize,
    written: usize,
}

impl<'a> Scatter<'a> {
    /// Begins at the first byte of `pieces`.
    ///
    /// # Safety
    /// Each piece is mapped and writable as long as the scatter lives, and no Rust reference to it
    /// exists.
    #[inline]
    pub(crate) unsafe fn new(pieces: &'a [Piece]) -> Self {
        Self {
            pieces,
            filled: 0,
            written: 0,
        }
    }

    /// Bytes written.
    #[inline]
    pub(crate) fn written(&self) -> usize {
        self.written
    }

    /// Writes what there is room for; returns how many bytes.
    #[inline]
    pub(crate) fn put(&mut self, mut segment: IoSegment<'_>) -> usize {
        let begin = self.written;
        while !segment.is_empty() {
            let Some(piece) = self.pieces.first() else {
                break;
            };
            let take = segment.len().min(piece.len - self.filled);
            // SAFETY: `take` bytes are mapped at either end: by the segment's contract, and by
            // that of `new`. They may overlap where a guest says so; then it gets what it made.
            unsafe { copy(segment.as_ptr(), piece.host.add(self.filled), take) };
            self.written += take;
            self.filled += take;
            if self.filled == piece.len {
                self.pieces = &self.pieces[1..];
                self.filled = 0;
            }
            segment = segment.slice(take, usize::MAX);
        }
        self.written - begin
    }
}

/// Copies `len` bytes: short ones in place, without a call.
///
/// # Safety
/// `len` bytes at `src` are readable and at `dst` writable. They may overlap; then the target holds
/// some of its old and some of the source's bytes.
#[inline(always)]
pub(crate) unsafe fn copy(src: *const u8, dst: *mut u8, len: usize) {
    /// Moves `N` bytes.
    ///
    /// # Safety
    /// As for `copy`.
    #[inline(always)]
    unsafe fn step<const N: usize>(src: *const u8, dst: *mut u8) {
        // SAFETY: by contract of the caller; `copy_from` allows for overlap.
        unsafe { dst.cast::<[u8; N]>().copy_from(src.cast(), 1) };
    }
    // SAFETY: every step stays within `len` bytes: the last one of each length ends with the last
    // byte and covers again what the one before it has covered.
    unsafe {
        match len {
            16..=32 => {
                step::<16>(src, dst);
                step::<16>(src.add(len - 16), dst.add(len - 16));
            }
            33..=64 => {
                step::<32>(src, dst);
                step::<32>(src.add(len - 32), dst.add(len - 32));
            }
            65..=128 => {
                step::<64>(src, dst);
                step::<64>(src.add(len - 64), dst.add(len - 64));
            }
            8..16 => {
                step::<8>(src, dst);
                step::<8>(src.add(len - 8), dst.add(len - 8));
            }
            4..8 => {
                step::<4>(src, dst);
                step::<4>(src.add(len - 4), dst.add(len - 4));
            }
            _ => dst.copy_from(src, len),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_of_every_length_are_exact() {
        let source: Vec<u8> = (0..200).collect();
        for len in 0..=200 {
            let mut target = vec![0xee; 202];
            // SAFETY: both are long enough.
            unsafe { copy(source.as_ptr(), target.as_mut_ptr().add(1), len) };
            assert_eq!(target[1..=len], source[..len]);
            assert_eq!((target[0], target[len + 1]), (0xee, 0xee));
        }
    }

    #[test]
    fn bytes_arrive_in_order_however_the_pieces_are_cut() {
        let source: Vec<u8> = (0..=255).collect();
        for cuts in [&[256][..], &[1, 255], &[100, 1, 1, 154], &[3; 90]] {
            let mut target: Vec<Vec<u8>> = cuts.iter().map(|len| vec![0; *len]).collect();
            let pieces: Vec<Piece> = target
                .iter_mut()
                .map(|room| Piece {
                    host: room.as_mut_ptr(),
                    len: room.len(),
                })
                .collect();
            // SAFETY: the vectors are not touched while the scatter lives.
            let mut scatter = unsafe { Scatter::new(&pieces) };
            for part in source.chunks(7) {
                assert_eq!(scatter.put(part.into()), part.len());
            }
            assert_eq!(scatter.written(), 256);
            let room: usize = cuts.iter().sum();
            assert_eq!(scatter.put((&[9u8; 64][..]).into()), (room - 256).min(64));
            assert_eq!(target.concat()[..256], source);
        }
    }
}
