//! The Internet checksum: computed (RFC 1071) and updated (RFC 1624).
//!
//! | part | what it does |
//! |---|---|
//! | [`sum`] | the sum of a slice; vector code from 65 bytes on, chosen at run time |
//! | [`copy_and_sum`] | the same while copying |
//! | [`Accumulator`] | the sum of a scatter list, pieces of odd length included |
//! | [`pseudo_v4`], [`pseudo_v6`] | the sum of a pseudo header |
//! | [`Delta`] | a change of words, addresses, ports or whole tuples, to patch a checksum with |
//!
//! The vector code is AVX2 or AVX-512 (VNNI) on x86-64, found at run time with the feature `std`, and
//! NEON on little-endian aarch64; elsewhere, and for short inputs, the sum is portable code.
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

mod accumulator;
mod delta;
mod scalar;
// The only module of the crate with unsafe code: loads, stores and calls that a feature of the
// processor allows.
#[allow(unsafe_code)]
mod simd;
mod total;

use core::net::{Ipv4Addr, Ipv6Addr};

pub use accumulator::Accumulator;
pub use delta::Delta;
pub use total::Sum;

/// The implementations one by one, for tests and benchmarks.
#[doc(hidden)]
pub use simd::Backend;

/// Sums `bytes` as big-endian words; an odd last byte counts as the high half of a word.
// Always: a header of 20 bytes takes less than the call, and where its length is known two loads.
#[inline(always)]
pub fn sum(bytes: &[u8]) -> Sum {
    if bytes.len() <= scalar::SHORT {
        Sum::from_le(scalar::sum(bytes))
    } else {
        simd::sum(bytes)
    }
}

/// Copies `src` to `dst` and sums it on the way, which costs less than one after the other.
///
/// # Panics
/// If the lengths differ, as [`slice::copy_from_slice`] does.
#[inline(always)]
#[track_caller]
pub fn copy_and_sum(dst: &mut [u8], src: &[u8]) -> Sum {
    assert_eq!(dst.len(), src.len(), "source and destination differ");
    if src.len() <= scalar::SHORT {
        dst.copy_from_slice(src);
        Sum::from_le(scalar::sum(src))
    } else {
        simd::copy_and_sum(src, dst)
    }
}

/// Sums the IPv4 pseudo header of TCP and UDP (RFC 9293, section 3.1).
///
/// `len` is the length of the transport header and payload in bytes.
#[inline]
pub fn pseudo_v4(src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, len: usize) -> Sum {
    let (src, dst) = (u64::from(src.to_bits()), u64::from(dst.to_bits()));
    Sum::words(src + dst + u64::from(protocol) + len as u64)
}

/// Sums the IPv6 pseudo header (RFC 8200, section 8.1).
///
/// `len` is the length of the upper-layer header and payload in bytes.
#[inline]
pub fn pseudo_v6(src: Ipv6Addr, dst: Ipv6Addr, protocol: u8, len: usize) -> Sum {
    sum(&src.octets()) + sum(&dst.octets()) + Sum::words(u64::from(protocol) + len as u64)
}

#[cfg(test)]
mod tests;
