//! The Internet checksum: computed (RFC 1071) and updated (RFC 1624).
//!
//! A [`Sum`] is a ones'-complement sum in progress. Sums of pieces add up to the sum of the
//! whole as long as each piece starts at an even offset; [`Sum::swapped`] corrects for a piece
//! that starts at an odd one. A [`Delta`] is the difference between two versions of some fields:
//! computed once per flow, it patches the checksum of every packet of that flow.
//!
//! ```
//! use net_wire::checksum::{sum, Delta};
//!
//! let mut header = [0x45, 0, 0, 0x1c, 0, 7, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
//! let check = sum(&header).finish();
//! header[10..12].copy_from_slice(&check.to_be_bytes());
//! assert!(sum(&header).is_valid());
//!
//! // Another time to live: patch the checksum instead of summing again.
//! let delta = Delta::new16(0x4011, 0x3f11);
//! header[8] = 63;
//! header[10..12].copy_from_slice(&delta.apply(check).to_be_bytes());
//! assert!(sum(&header).is_valid());
//! ```

use core::net::{Ipv4Addr, Ipv6Addr};

/// A ones'-complement sum in progress.
///
/// Kept in 64 bits without folding: 2^48 words can be added before it could overflow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sum(u64);

impl core::ops::Add for Sum {
    type Output = Self;

    #[inline]
    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
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

    /// The same sum as if its bytes had started at an odd offset (RFC 1071, section 2 (B)).
    #[inline]
    pub const fn swapped(self) -> Self {
        Self(self.fold().swap_bytes() as u64)
    }

    /// The sum folded to 16 bits, not complemented: what a partial checksum field holds.
    #[inline]
    pub const fn fold(self) -> u16 {
        let mut sum = self.0;
        sum = (sum & 0xffff_ffff) + (sum >> 32);
        sum = (sum & 0xffff_ffff) + (sum >> 32);
        sum = (sum & 0xffff) + (sum >> 16);
        sum = (sum & 0xffff) + (sum >> 16);
        sum = (sum & 0xffff) + (sum >> 16);
        sum as u16
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

/// Sums `bytes` as big-endian words; an odd last byte counts as the high half of a word.
#[inline]
pub fn sum(bytes: &[u8]) -> Sum {
    // Sum in native order and swap once at the end: the sum of swapped words is the swapped
    // sum (RFC 1071, section 2 (B)). 32-bit words into 64-bit accumulators cannot overflow
    // below 16 GiB.
    let mut chunks = bytes.chunks_exact(32);
    let (mut a, mut b) = (0u64, 0u64);
    for chunk in &mut chunks {
        for pair in chunk.chunks_exact(8) {
            a += u64::from(u32::from_ne_bytes([pair[0], pair[1], pair[2], pair[3]]));
            b += u64::from(u32::from_ne_bytes([pair[4], pair[5], pair[6], pair[7]]));
        }
    }
    let mut total = a + b;
    let mut words = chunks.remainder().chunks_exact(2);
    for word in &mut words {
        total += u64::from(u16::from_ne_bytes([word[0], word[1]]));
    }
    if let [last] = words.remainder() {
        total += u64::from(u16::from_ne_bytes([*last, 0]));
    }
    let folded = Sum(total).fold();
    Sum(u64::from(u16::from_be(folded)))
}

/// Sums the IPv4 pseudo header of TCP and UDP (RFC 9293, section 3.1).
///
/// `len` is the length of the transport header and payload in bytes.
#[inline]
pub fn pseudo_v4(src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, len: usize) -> Sum {
    let (src, dst) = (u64::from(src.to_bits()), u64::from(dst.to_bits()));
    Sum(src + dst + u64::from(protocol) + len as u64)
}

/// Sums the IPv6 pseudo header (RFC 8200, section 8.1).
///
/// `len` is the length of the upper-layer header and payload in bytes.
#[inline]
pub fn pseudo_v6(src: Ipv6Addr, dst: Ipv6Addr, protocol: u8, len: usize) -> Sum {
    sum(&src.octets()) + sum(&dst.octets()) + Sum(u64::from(protocol) + len as u64)
}

/// The difference that a change of some fields makes to a checksum over them (RFC 1624, eqn. 3).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Delta(u16);

impl Delta {
    /// No change.
    pub const ZERO: Self = Self(0);

    /// The change of one 16-bit word.
    #[inline]
    pub const fn new16(old: u16, new: u16) -> Self {
        Self(fold32(!old as u32 + new as u32))
    }

    /// The change of a 32-bit field at an even offset.
    #[inline]
    pub const fn new32(old: u32, new: u32) -> Self {
        let old = !old;
        Self(fold32(
            (old >> 16) + (old & 0xffff) + (new >> 16) + (new & 0xffff),
        ))
    }

    /// The change of an IPv4 address.
    #[inline]
    pub const fn new_v4(old: Ipv4Addr, new: Ipv4Addr) -> Self {
        Self::new32(old.to_bits(), new.to_bits())
    }

    /// The change of an IPv6 address.
    #[inline]
    pub const fn new_v6(old: Ipv6Addr, new: Ipv6Addr) -> Self {
        let (old, new) = (old.segments(), new.segments());
        let (mut delta, mut i) = (Self::ZERO, 0);
        while i < 8 {
            delta = delta.plus(Self::new16(old[i], new[i]));
            i += 1;
        }
        delta
    }

    /// Two changes at once.
    #[inline]
    pub const fn plus(self, other: Self) -> Self {
        Self(fold32(self.0 as u32 + other.0 as u32))
    }

    /// The checksum after the change.
    ///
    /// By equation 3 of RFC 1624, which keeps the corner case that equation 4 of RFC 1141 gets
    /// wrong: HC = 0xDD2F with 0x5555 becoming 0x3285 gives 0x0000.
    #[inline]
    pub const fn apply(self, checksum: u16) -> u16 {
        !fold32(!checksum as u32 + self.0 as u32)
    }

    /// The UDP checksum after the change: a stored 0 says "none" and stays, a computed 0 is
    /// stored as 0xffff (RFC 768).
    #[inline]
    pub const fn apply_udp(self, checksum: u16) -> u16 {
        if checksum == 0 {
            return 0;
        }
        match self.apply(checksum) {
            0 => 0xffff,
            value => value,
        }
    }

    /// A partial checksum (a folded, uncomplemented pseudo-header sum, as an offload leaves in the
    /// field) after the change.
    #[inline]
    pub const fn apply_partial(self, partial: u16) -> u16 {
        fold32(partial as u32 + self.0 as u32)
    }
}

/// Folds a sum of at most a few 16-bit words.
#[inline(always)]
const fn fold32(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition, one word at a time.
    fn naive(bytes: &[u8]) -> u16 {
        let mut total = 0u32;
        for word in bytes.chunks(2) {
            total += u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0));
            total = (total & 0xffff) + (total >> 16);
        }
        !(total as u16)
    }

    /// Row 48: the example of RFC 1624, section 4.
    #[test]
    fn rfc1624_corner_case() {
        assert_eq!(Delta::new16(0x5555, 0x3285).apply(0xdd2f), 0x0000);
    }

    /// Row 49.
    #[test]
    fn rfc768_zero_is_none_and_is_never_computed() {
        let delta = Delta::new16(0x5555, 0x3285);
        assert_eq!(delta.apply_udp(0), 0);
        assert_eq!(delta.apply_udp(0xdd2f), 0xffff);
    }

    /// Row 48: every pair of checksum and new word, against a full recompute.
    #[test]
    fn updates_agree_with_recompute_exhaustively() {
        for old in (0..=0xffffu16)
            .step_by(257)
            .chain([0, 1, 0x7fff, 0x8000, 0xfffe, 0xffff])
        {
            for new in (0..=0xffffu16).step_by(509).chain([0, 1, 0xfffe, 0xffff]) {
                for rest in [1u16, 0x1234, 0x8000, 0xfffe, 0xffff] {
                    let before = (Sum::word(old) + Sum::word(rest)).finish();
                    let after = (Sum::word(new) + Sum::word(rest)).finish();
                    assert_eq!(
                        Delta::new16(old, new).apply(before),
                        after,
                        "{old} {new} {rest}"
                    );
                }
            }
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_definition(bytes in proptest::collection::vec(any::<u8>(), 0..3000)) {
            prop_assert_eq!(sum(&bytes).finish(), naive(&bytes));
        }

        #[test]
        fn pieces_add_up(bytes in proptest::collection::vec(any::<u8>(), 0..300), cut in 0usize..300) {
            let cut = cut.min(bytes.len());
            let (a, b) = bytes.split_at(cut);
            let b = if cut % 2 == 1 { sum(b).swapped() } else { sum(b) };
            prop_assert_eq!((sum(a) + b).finish(), naive(&bytes));
        }

        #[test]
        fn a_delta_of_addresses_is_the_recompute(a: u32, b: u32, rest in 1u16..) {
            let words = |x: u32| Sum::word((x >> 16) as u16) + Sum::word(x as u16);
            let before = (words(a) + Sum::word(rest)).finish();
            prop_assert_eq!(Delta::new32(a, b).apply(before), (words(b) + Sum::word(rest)).finish());
        }
    }
}
