//! Choosing the vector code at run time.
//!
//! The vector code (one file per architecture) is safe Rust on slices but for three things: loads and
//! stores through array references, one masked load, and the calls into functions that need a
//! feature of the processor. The last are sound because a [`Backend`] exists only after its features
//! were found.

#[cfg(all(target_arch = "aarch64", target_endian = "little"))]
mod aarch64;
#[cfg(all(target_arch = "x86_64", feature = "std"))]
mod x86_64;

use super::{Sum, scalar};

/// Inputs up to this many bytes never come here in `sum`: the call costs more than it saves.
pub(super) const SHORT: usize = 64;

/// The vector code sums at most this much before it adds up its lanes.
///
/// The words of 128 KiB add up to less than 2^32, so that 32-bit lanes, and the sum over the lanes,
/// are exact modulo 2^32 however they wrap in between.
const BLOCK: usize = 128 * 1024;

/// One implementation of the sum that this processor can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backend(Kind);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Kind {
    Scalar = 1,
    /// Only made after `x86_64::has_avx2`.
    #[cfg(all(target_arch = "x86_64", feature = "std"))]
    Avx2 = 2,
    /// Only made after `x86_64::has_avx512`.
    #[cfg(all(target_arch = "x86_64", feature = "std"))]
    Avx512 = 3,
    #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
    Neon = 4,
}

impl Backend {
    /// All that run on this processor, the portable one first, the preferred one last.
    pub fn available() -> impl Iterator<Item = Self> {
        [
            Some(Self(Kind::Scalar)),
            #[cfg(all(target_arch = "x86_64", feature = "std"))]
            x86_64::has_avx2().then_some(Self(Kind::Avx2)),
            #[cfg(all(target_arch = "x86_64", feature = "std"))]
            x86_64::has_avx512().then_some(Self(Kind::Avx512)),
            #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
            Some(Self(Kind::Neon)),
        ]
        .into_iter()
        .flatten()
    }

    /// The preferred one; asks the processor once.
    #[inline]
    pub fn preferred() -> Self {
        #[cfg(all(target_arch = "x86_64", feature = "std"))]
        {
            use core::sync::atomic::{AtomicU8, Ordering::Relaxed};
            // Any thread that races here stores the same answer.
            static FOUND: AtomicU8 = AtomicU8::new(0);
            const SCALAR: u8 = Kind::Scalar as u8;
            const AVX2: u8 = Kind::Avx2 as u8;
            const AVX512: u8 = Kind::Avx512 as u8;
            match FOUND.load(Relaxed) {
                SCALAR => Self(Kind::Scalar),
                AVX2 => Self(Kind::Avx2),
                AVX512 => Self(Kind::Avx512),
                _ => {
                    let found = Self::detect();
                    FOUND.store(found.0 as u8, Relaxed);
                    found
                }
            }
        }
        #[cfg(not(all(target_arch = "x86_64", feature = "std")))]
        Self::detect()
    }

    #[cfg_attr(all(target_arch = "x86_64", feature = "std"), cold)]
    fn detect() -> Self {
        Self::available().last().unwrap_or(Self(Kind::Scalar))
    }

    /// Its name for tables and messages.
    pub fn name(self) -> &'static str {
        match self.0 {
            Kind::Scalar => "scalar",
            #[cfg(all(target_arch = "x86_64", feature = "std"))]
            Kind::Avx2 => "AVX2",
            #[cfg(all(target_arch = "x86_64", feature = "std"))]
            Kind::Avx512 => "AVX-512 VNNI",
            #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
            Kind::Neon => "NEON",
        }
    }

    /// [`super::sum`] by this implementation.
    #[inline]
    pub fn sum(self, bytes: &[u8]) -> Sum {
        if bytes.len() <= BLOCK {
            return Sum::from_le(self.block::<false>(bytes, &mut []));
        }
        let blocks = bytes.chunks(BLOCK);
        Sum::from_le(blocks.map(|b| self.block::<false>(b, &mut [])).sum())
    }

    /// [`super::copy_and_sum`] by this implementation.
    ///
    /// # Panics
    /// If the lengths differ.
    #[inline]
    #[track_caller]
    pub fn copy_and_sum(self, dst: &mut [u8], src: &[u8]) -> Sum {
        assert_eq!(dst.len(), src.len(), "source and destination differ");
        if src.len() <= BLOCK {
            return Sum::from_le(self.block::<true>(src, dst));
        }
        let blocks = src.chunks(BLOCK).zip(dst.chunks_mut(BLOCK));
        Sum::from_le(blocks.map(|(s, d)| self.block::<true>(s, d)).sum())
    }

    /// The little-endian sum of at most [`BLOCK`] bytes, which go to `dst` if `COPY`.
    #[inline(always)]
    fn block<const COPY: bool>(self, src: &[u8], dst: &mut [u8]) -> u64 {
        match self.0 {
            // SAFETY: this value is only made where AVX2 was found.
            #[cfg(all(target_arch = "x86_64", feature = "std"))]
            Kind::Avx2 if src.len() > SHORT => unsafe { x86_64::avx2::<COPY>(src, dst) },
            // SAFETY: this value is only made where the AVX-512 sets of that function were found.
            #[cfg(all(target_arch = "x86_64", feature = "std"))]
            Kind::Avx512 if src.len() > SHORT => unsafe { x86_64::avx512::<COPY>(src, dst) },
            // SAFETY: NEON belongs to the architecture.
            #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
            Kind::Neon if src.len() > SHORT => unsafe { aarch64::neon::<COPY>(src, dst) },
            _ => {
                if COPY {
                    dst.copy_from_slice(src);
                }
                scalar::sum(src)
            }
        }
    }
}

/// The sum of more than [`SHORT`] bytes. Not inlined: one copy of the choice is enough.
#[inline(never)]
pub(super) fn sum(bytes: &[u8]) -> Sum {
    Backend::preferred().sum(bytes)
}

/// The same, copying; the lengths are equal.
#[inline(never)]
pub(super) fn copy_and_sum(dst: &mut [u8], src: &[u8]) -> Sum {
    Backend::preferred().copy_and_sum(dst, src)
}
