//! NEON, which every aarch64 processor has.
//!
//! Little-endian targets only: there a lane of 16 bits is a little-endian word of memory, which is
//! what the sum is made of.

use core::arch::aarch64::*;

use super::{Sum, scalar};

/// The sum of at most [`super::BLOCK`] bytes; copies them to `dst`, which is as long, if `COPY`.
///
/// One instruction adds pairs of 16-bit words to lanes of 32 bits. The words of a block add up to less
/// than 2^32.
#[target_feature(enable = "neon")]
pub(super) fn neon<const COPY: bool>(src: &[u8], dst: &mut [u8]) -> Sum {
    let mut acc = [vdupq_n_u32(0); 4];
    let (blocks, rest) = src.as_chunks::<64>();
    for (i, block) in blocks.iter().enumerate() {
        let mut v = [vdupq_n_u8(0); 4];
        for (v, chunk) in v.iter_mut().zip(block.as_chunks::<16>().0) {
            *v = load(chunk);
        }
        if COPY && let Some(out) = dst.as_chunks_mut::<64>().0.get_mut(i) {
            for (v, chunk) in v.iter().zip(out.as_chunks_mut::<16>().0) {
                store(chunk, *v);
            }
        }
        for (acc, v) in acc.iter_mut().zip(v) {
            *acc = add_pairs(*acc, v);
        }
    }
    if COPY && let Some(out) = dst.get_mut(src.len() - rest.len()..) {
        out.copy_from_slice(rest);
    }
    let (vectors, tail) = rest.as_chunks::<16>();
    for (chunk, acc) in vectors.iter().zip(&mut acc) {
        *acc = add_pairs(*acc, load(chunk));
    }
    let acc = vaddq_u32(vaddq_u32(acc[0], acc[1]), vaddq_u32(acc[2], acc[3]));
    Sum::from_le(u64::from(vaddvq_u32(acc)) + scalar::sum(tail))
}

/// Adds the eight words of `v`, in pairs, to the four lanes.
#[inline]
#[target_feature(enable = "neon")]
fn add_pairs(acc: uint32x4_t, v: uint8x16_t) -> uint32x4_t {
    vpadalq_u16(acc, vreinterpretq_u16_u8(v))
}

#[inline]
#[target_feature(enable = "neon")]
fn load(bytes: &[u8; 16]) -> uint8x16_t {
    // SAFETY: the reference says that the 16 bytes can be read; the load needs no alignment.
    unsafe { vld1q_u8(bytes.as_ptr()) }
}

#[inline]
#[target_feature(enable = "neon")]
fn store(bytes: &mut [u8; 16], v: uint8x16_t) {
    // SAFETY: the reference says that the 16 bytes can be written; the store needs no alignment.
    unsafe { vst1q_u8(bytes.as_mut_ptr(), v) }
}
