//! Sums over scatter lists.

use super::{Sum, copy_and_sum, sum};

/// A sum over pieces of any length, each following the one before.
///
/// A piece of odd length leaves the next one at an odd offset; this keeps count of that, so that the
/// result is the sum of the pieces joined together.
///
/// ```
/// use net_wire::checksum::{Accumulator, sum};
///
/// let mut pieces = Accumulator::new();
/// for piece in [&b"odd"[..], b"", b"boundaries", b"!"] {
///     pieces.add(piece);
/// }
/// assert_eq!(pieces.finish(), sum(b"oddboundaries!").finish());
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Accumulator {
    total: Sum,
    odd: bool,
}

impl Accumulator {
    /// Nothing summed yet, at an even offset.
    #[inline]
    pub const fn new() -> Self {
        Self::starting_with(Sum::ZERO)
    }

    /// Begins with a sum of whole words: a pseudo header, a partial checksum.
    #[inline]
    pub const fn starting_with(total: Sum) -> Self {
        Self { total, odd: false }
    }

    /// Adds the next piece.
    #[inline]
    pub fn add(&mut self, piece: &[u8]) {
        self.add_sum(sum(piece), piece.len());
    }

    /// Copies the next piece to `dst` and adds it.
    ///
    /// # Panics
    /// If the lengths differ, as [`copy_and_sum`] does.
    #[inline]
    #[track_caller]
    pub fn add_copy(&mut self, dst: &mut [u8], piece: &[u8]) {
        self.add_sum(copy_and_sum(dst, piece), piece.len());
    }

    /// Adds the next piece of `len` bytes by the sum it has by itself.
    #[inline]
    pub fn add_sum(&mut self, piece: Sum, len: usize) {
        self.total += if self.odd { piece.swapped() } else { piece };
        self.odd ^= len % 2 == 1;
    }

    /// The sum so far.
    #[inline]
    pub const fn sum(self) -> Sum {
        self.total
    }

    /// The checksum so far: the complement of the folded sum.
    #[inline]
    pub const fn finish(self) -> u16 {
        self.total.finish()
    }
}
