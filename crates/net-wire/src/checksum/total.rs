//! The ones'-complement sum as a value.

/// A ones'-complement sum in progress.
///
/// Kept in 64 bits without folding: the sums of 2^32 slices can be added before it could overflow.
/// Two sums are equal when they fold to the same 16 bits.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sum(u64);

impl PartialEq for Sum {
    fn eq(&self, other: &Self) -> bool {
        self.fold() == other.fold()
    }
}

impl Eq for Sum {}

impl core::ops::Add for Sum {
    type Output = Self;

    #[inline]
    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

impl core::ops::AddAssign for Sum {
    #[inline]
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sum {
    /// The empty sum.
    pub const ZERO: Self = Self(0);

    /// The sum of one 16-bit word in host order.
    #[inline]
    pub const fn word(value: u16) -> Self {
        Self(value as u64)
    }

    /// The sum of words in host order that were added up already.
    #[inline]
    pub(super) const fn words(total: u64) -> Self {
        Self(total)
    }

    /// The sum of words that were read in little-endian order and added up.
    ///
    /// The sum of swapped words is the swapped sum (RFC 1071, section 2 (B)), so that one swap at
    /// the end serves all words. Folded to 32 bits, which leaves room for many more.
    #[inline]
    pub(super) const fn from_le(total: u64) -> Self {
        Self(fold64(total).swap_bytes() as u64)
    }

    /// The same sum as if its bytes had started at an odd offset (RFC 1071, section 2 (B)).
    #[inline]
    pub const fn swapped(self) -> Self {
        Self(self.fold().swap_bytes() as u64)
    }

    /// The sum folded to 16 bits, not complemented: what a partial checksum field holds.
    ///
    /// 0 only where all that was summed is 0; other multiples of 65,535 fold to 0xffff.
    #[inline]
    pub const fn fold(self) -> u16 {
        let sum = fold64(self.0);
        let (sum, carry) = (sum as u16).overflowing_add((sum >> 16) as u16);
        sum + carry as u16
    }

    /// The checksum: the complement of the folded sum.
    #[inline]
    pub const fn finish(self) -> u16 {
        !self.fold()
    }

    /// The checksum as UDP stores it: 0 becomes 0xffff, because 0 says "none" (RFC 768).
    #[inline]
    pub const fn finish_udp(self) -> u16 {
        match self.finish() {
            0 => 0xffff,
            value => value,
        }
    }

    /// Whether bytes that include their checksum field sum up as they should.
    #[inline]
    pub const fn is_valid(self) -> bool {
        self.fold() == 0xffff
    }
}

/// Folds to 32 bits with the end-around carry.
///
/// The carry cannot overflow: a sum that carried is at most 0xffff_fffe.
#[inline(always)]
pub(super) const fn fold64(sum: u64) -> u32 {
    let (sum, carry) = (sum as u32).overflowing_add((sum >> 32) as u32);
    sum + carry as u32
}
