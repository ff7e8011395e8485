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
            unsafe {
                core::ptr::copy(segment.as_ptr(), piece.host.add(self.filled), take);
            }
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

#[cfg(test)]
mod tests {
    use super::*;

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
