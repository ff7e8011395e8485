//! Choosing the vector code at run time.
//!
//! The vector code (one file per instruction set) is unsafe in two ways. It calls functions that need a
//! feature of the processor, which is sound because a [`Backend`] exists only after its features were
//! found. And it loads and stores: by array references and one masked load in AVX-512 and NEON, by
//! pointers in AVX2, whose lengths are compared here.

#[cfg(all(target_arch = "aarch64", target_endian = "little"))]
mod aarch64;
#[cfg(all(target_arch = "x86_64", feature = "std"))]
mod x86_64;

#[cfg(all(target_arch = "x86_64", feature = "std"))]
use core::sync::atomic::{AtomicU8, Ordering::Relaxed};

use super::Sum;
use super::scalar::{self, SHORT};

/// The vector code sums at most this much before it adds up its lanes: as much as 32-bit lanes hold,
/// by what each implementation says of them.
const BLOCK: usize = 64 * 1024;

const _: () = assert!(SHORT + 1 >= 64, "the vector code needs 64 bytes");

/// The preferred [`Kind`], or 0. Any thread that races here stores the same answer.
#[cfg(all(target_arch = "x86_64", feature = "std"))]
static FOUND: AtomicU8 = AtomicU8::new(0);

#[cfg(all(target_arch = "x86_64", feature = "std"))]
const SCALAR: u8 = Kind::Scalar as u8;
#[cfg(all(target_arch = "x86_64", feature = "std"))]
const AVX2: u8 = Kind::Avx2 as u8;
#[cfg(all(target_arch = "x86_64", feature = "std"))]
const AVX512: u8 = Kind::Avx512 as u8;

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
        match FOUND.load(Relaxed) {
            SCALAR => return Self(Kind::Scalar),
            AVX2 => return Self(Kind::Avx2),
            AVX512 => return Self(Kind::Avx512),
            _ => {}
        }
        Self::detect()
    }

    #[cfg_attr(all(target_arch = "x86_64", feature = "std"), cold)]
    fn detect() -> Self {
        let found = Self::available().last().unwrap_or(Self(Kind::Scalar));
        #[cfg(all(target_arch = "x86_64", feature = "std"))]
        FOUND.store(found.0 as u8, Relaxed);
        found
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
        self.run::<false>(bytes, &mut [])
    }

    /// [`super::copy_and_sum`] by this implementation.
    ///
    /// # Panics
    /// If the lengths differ.
    #[inline]
    #[track_caller]
    pub fn copy_and_sum(self, dst: &mut [u8], src: &[u8]) -> Sum {
        assert_eq!(dst.len(), src.len(), "source and destination differ");
        self.run::<true>(src, dst)
    }

    /// The sum of `src`, which goes to `dst`, as long, if `COPY`.
    #[inline(always)]
    fn run<const COPY: bool>(self, src: &[u8], dst: &mut [u8]) -> Sum {
        let fits = (SHORT + 1..=BLOCK).contains(&src.len());
        match self.0 {
            _ if !fits || COPY && dst.len() != src.len() => otherwise::<COPY>(src, dst, self),
            // SAFETY: this value is only made where AVX2 was found. The bytes are more than SHORT, thus
            // at least 64, and just as many in `dst` if `COPY`. References do not overlap.
            #[cfg(all(target_arch = "x86_64", feature = "std"))]
            Kind::Avx2 => unsafe {
                x86_64::avx2::<COPY>(src.as_ptr(), src.len(), dst.as_mut_ptr())
            },
            // SAFETY: this value is only made where the AVX-512 sets of that function were found.
            #[cfg(all(target_arch = "x86_64", feature = "std"))]
            Kind::Avx512 => unsafe { x86_64::avx512::<COPY>(src, dst) },
            // SAFETY: NEON belongs to the architecture.
            #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
            Kind::Neon => unsafe { aarch64::neon::<COPY>(src, dst) },
            Kind::Scalar => otherwise::<COPY>(src, dst, self),
        }
    }
}

/// What does not go to vector code at once: inputs longer than a block and short ones, or all where
/// there is no vector code.
#[inline(never)]
fn otherwise<const COPY: bool>(src: &[u8], dst: &mut [u8], backend: Backend) -> Sum {
    if src.len() > BLOCK {
        let mut outs = dst.chunks_mut(BLOCK);
        let mut total = Sum::ZERO;
        for block in src.chunks(BLOCK) {
            total += backend.run::<COPY>(block, outs.next().unwrap_or_default());
        }
        total
    } else {
        if COPY {
            dst.copy_from_slice(src);
        }
        Sum::from_le(scalar::sum(src))
    }
}

/// The sum of more than [`SHORT`] bytes. Not inlined: it has many callers, and one copy of the choice
/// is enough.
#[inline(never)]
pub(super) fn sum(bytes: &[u8]) -> Sum {
    choose::<false>(bytes, &mut [])
}

/// The same, copying; the lengths are equal. It has few callers, and the call in between would take a
/// twentieth of the time of 1,500 bytes.
#[inline(always)]
pub(super) fn copy_and_sum(src: &[u8], dst: &mut [u8]) -> Sum {
    choose::<true>(src, dst)
}

/// [`Backend::preferred`] on `src`. The vector code comes first and last: from the caller's call it
/// takes a few comparisons and a jump.
#[inline(always)]
fn choose<const COPY: bool>(src: &[u8], dst: &mut [u8]) -> Sum {
    #[cfg(all(target_arch = "x86_64", feature = "std"))]
    match FOUND.load(Relaxed) {
        AVX2 => return Backend(Kind::Avx2).run::<COPY>(src, dst),
        AVX512 => return Backend(Kind::Avx512).run::<COPY>(src, dst),
        _ => {}
    }
    by_preferred::<COPY>(src, dst)
}

#[cfg_attr(all(target_arch = "x86_64", feature = "std"), inline(never))]
fn by_preferred<const COPY: bool>(src: &[u8], dst: &mut [u8]) -> Sum {
    Backend::preferred().run::<COPY>(src, dst)
}
