//! AVX2: two instructions a vector where the obvious way takes three.
//!
//! A lane of 32 bits holds two words, l + 2^16 h. Adding up whole lanes is one instruction a vector, but
//! wraps; adding up the upper words by themselves, which tells how often it wrapped, is two more. Yet
//! an estimate tells that as well. The rounding average of words is one instruction, and three levels
//! of it make one vector of eight, so that shift and addition are paid once in eight.
//!
//! With H the estimate of the sum of the h and D the wrapped sum, R = D - 2^16 H modulo 2^32 is the sum
//! of the l less 2^16 times what H is too large by. An average rounds up by at most 1/2, three levels
//! by 3/2, which makes 12 for the eight vectors of a block. As long as that keeps R in the range of a
//! signed number, R is exact, and so is the sum of the lane, 2^16 H + R. For the sum over the eight
//! lanes of 64 KiB ([`BLOCK`]): R is at least -2^16 * 12 * 8 * 256 > -2^31 and at most the sum of
//! 16,384 words, which is less than 2^30; H is less than 2^31.

use core::arch::x86_64::*;

use super::super::{BLOCK, Sum};

/// Copies from this length on are worth aligning.
const ALIGN_FROM: usize = 256;

const _: () = assert!(BLOCK <= 64 * 1024, "the sums are exact up to 64 KiB");

/// The sum of the `len` bytes at `src`, 64 to [`BLOCK`]; copies them to `dst` if `COPY`.
///
/// Goes by pointers, for two reasons. The checks that slices leave in the loop cost as much as the sum.
/// And of references the compiler knows that they do not overlap: it takes the stores out of the loop
/// and calls memcpy for them, which reads everything twice.
///
/// # Safety
/// There are at least 64 bytes, they can be read, and if `COPY` as many can be written at `dst`, none
/// of them the same.
#[target_feature(enable = "avx2")]
pub(in super::super) unsafe fn avx2<const COPY: bool>(
    src: *const u8,
    len: usize,
    dst: *mut u8,
) -> Sum {
    debug_assert!((64..=BLOCK).contains(&len));
    // An odd last byte goes by itself. Without a branch: nothing foretells whether there is one.
    let even = len & !1;
    // SAFETY: `len` is not 0, so that byte len - 1 is one of those at `src`, and at `dst` if `COPY`.
    let last = unsafe {
        let last = *src.add(len - 1);
        if COPY {
            *dst.add(len - 1) = last;
        }
        last
    };

    let mut lanes = Lanes::zero();
    let (mut from, mut to, mut left) = (src, dst, even);
    if COPY && even >= ALIGN_FROM {
        // SAFETY: there are at least 64 bytes.
        let v = unsafe { pass::<COPY>(src, dst) };
        // Stores that cross a cache line cost twice: this one overlaps the first aligned one. An odd
        // distance would turn the words round.
        let head = dst.addr().wrapping_neg() & 30;
        lanes.add(_mm256_andnot_si256(mask(64 - head), v));
        (from, to) = (from.wrapping_add(head), to.wrapping_add(head));
        left -= head;
    }
    // The last 64, of which count those that are not whole blocks, halves and quarters of blocks. Their
    // stores are not aligned; before the others they hold up nothing, at the end they do.
    let (tail, tail_to) = (src.wrapping_add(even - 64), dst.wrapping_add(even - 64));
    // SAFETY: there are at least 64 bytes.
    let [a, b] = unsafe { pass2::<COPY>(tail, tail_to) };
    lanes.add(_mm256_and_si256(a, mask(left % 64)));
    lanes.add(_mm256_and_si256(b, mask(left % 64 + 32)));
    // `left` is how many were left at `from` here; its bits say what is to be done.
    let end = from.wrapping_add(left & !255);
    let mut means = _mm256_setzero_si256();
    while from != end {
        // SAFETY: `from` is a multiple of 256 before `end`, up to which bytes are left.
        let (a, b) = unsafe {
            let a = pass4::<COPY>(from, to);
            (a, pass4::<COPY>(from.add(128), to.wrapping_add(128)))
        };
        means = _mm256_add_epi32(means, lanes.add_block(a, b));
        (from, to) = (from.wrapping_add(256), to.wrapping_add(256));
    }
    // Eight times the mean is the sum.
    lanes.high = _mm256_add_epi32(lanes.high, _mm256_slli_epi32::<3>(means));
    if left & 128 != 0 {
        // SAFETY: after the blocks, 128 bytes and what lower bits say are left.
        for v in unsafe { pass4::<COPY>(from, to) } {
            lanes.add(v);
        }
        (from, to) = (from.wrapping_add(128), to.wrapping_add(128));
    }
    if left & 64 != 0 {
        // SAFETY: after those, 64 bytes and what lower bits say are left.
        for v in unsafe { pass2::<COPY>(from, to) } {
            lanes.add(v);
        }
    }
    Sum::from_le(lanes.total() + u64::from(last) * (len as u64 & 1))
}

/// Loads four vectors, and stores them to `to` if `COPY`.
///
/// One by one: of a loop over an array the compiler makes a copy of memory again.
///
/// # Safety
/// 128 bytes can be read at `from`, and if `COPY` written at `to`.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn pass4<const COPY: bool>(from: *const u8, to: *mut u8) -> [__m256i; 4] {
    let (from, to) = (from.cast::<__m256i>(), to.cast::<__m256i>());
    // SAFETY: in bounds by the contract; neither loads nor stores need alignment.
    unsafe {
        let a = _mm256_loadu_si256(from);
        let b = _mm256_loadu_si256(from.add(1));
        let c = _mm256_loadu_si256(from.add(2));
        let d = _mm256_loadu_si256(from.add(3));
        if COPY {
            _mm256_storeu_si256(to, a);
            _mm256_storeu_si256(to.add(1), b);
            _mm256_storeu_si256(to.add(2), c);
            _mm256_storeu_si256(to.add(3), d);
        }
        [a, b, c, d]
    }
}

/// The same with two.
///
/// # Safety
/// 64 bytes can be read at `from`, and if `COPY` written at `to`.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn pass2<const COPY: bool>(from: *const u8, to: *mut u8) -> [__m256i; 2] {
    // SAFETY: in bounds by the contract.
    unsafe {
        let a = pass::<COPY>(from, to);
        [a, pass::<COPY>(from.add(32), to.wrapping_add(32))]
    }
}

/// The same with one.
///
/// # Safety
/// 32 bytes can be read at `from`, and if `COPY` written at `to`.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn pass<const COPY: bool>(from: *const u8, to: *mut u8) -> __m256i {
    // SAFETY: in bounds by the contract; neither load nor store needs alignment.
    unsafe {
        let v = _mm256_loadu_si256(from.cast());
        if COPY {
            _mm256_storeu_si256(to.cast(), v);
        }
        v
    }
}

/// Sums in eight lanes of 32 bits.
struct Lanes {
    /// Of the whole lanes, modulo 2^32: D.
    all: __m256i,
    /// Of their upper words, perhaps too large: H.
    high: __m256i,
}

impl Lanes {
    #[inline]
    #[target_feature(enable = "avx2")]
    fn zero() -> Self {
        let zero = _mm256_setzero_si256();
        Self {
            all: zero,
            high: zero,
        }
    }

    /// Adds a vector, exactly.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn add(&mut self, v: __m256i) {
        self.all = _mm256_add_epi32(self.all, v);
        self.high = _mm256_add_epi32(self.high, _mm256_srli_epi32::<16>(v));
    }

    /// Adds eight vectors to the whole lanes, and gives the mean of their upper words for `high`.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn add_block(&mut self, a: [__m256i; 4], b: [__m256i; 4]) -> __m256i {
        for v in a {
            self.all = _mm256_add_epi32(self.all, v);
        }
        for v in b {
            self.all = _mm256_add_epi32(self.all, v);
        }
        let mean = |v: [__m256i; 4]| {
            _mm256_avg_epu16(_mm256_avg_epu16(v[0], v[1]), _mm256_avg_epu16(v[2], v[3]))
        };
        _mm256_srli_epi32::<16>(_mm256_avg_epu16(mean(a), mean(b)))
    }

    /// The sum over the lanes.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn total(self) -> u64 {
        let rest = _mm256_sub_epi32(self.all, _mm256_slli_epi32::<16>(self.high));
        // R and H take turns, so that both are added up at once.
        let both = _mm256_add_epi32(
            _mm256_unpacklo_epi32(rest, self.high),
            _mm256_unpackhi_epi32(rest, self.high),
        );
        let both = _mm_add_epi32(
            _mm256_castsi256_si128(both),
            _mm256_extracti128_si256::<1>(both),
        );
        let both = _mm_cvtsi128_si64(_mm_add_epi32(both, _mm_unpackhi_epi64(both, both)));
        let (rest, high) = (both as i32, (both >> 32) as u32);
        (u64::from(high) << 16).wrapping_add_signed(i64::from(rest))
    }
}

/// 32 bytes of a mask whose bytes from 64 - `at` on are set; `at` is at most 96.
#[inline]
#[target_feature(enable = "avx2")]
fn mask(at: usize) -> __m256i {
    static MASK: [u8; 128] = {
        let mut mask = [0; 128];
        let mut i = 64;
        while i < 128 {
            mask[i] = 0xff;
            i += 1;
        }
        mask
    };
    let bytes = &MASK[at..at + 32];
    // SAFETY: the slice has 32 bytes; the load needs no alignment.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}
