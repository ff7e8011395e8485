//! AVX-512 with VNNI.

use core::arch::x86_64::*;

use super::super::Sum;

/// Copies from this length on are worth aligning.
const ALIGN_FROM: usize = 512;

/// The sum of 64 to [`BLOCK`](super::super::BLOCK) bytes; copies them to `dst`, which is as long, if
/// `COPY`.
///
/// VNNI adds pairs of words to lanes of 32 bits in one instruction, but takes the words as signed.
/// Flipping the top bit turns a word w into w - 2^15; what that takes away is known and added again at
/// the end. The words of a block add up to less than 2^32, so that lanes, and the sum over the lanes,
/// are exact modulo 2^32 however they wrap in between. A masked load takes the rest.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni,bmi2")]
pub(in super::super) fn avx512<const COPY: bool>(src: &[u8], dst: &mut [u8]) -> Sum {
    let ones = _mm512_set1_epi16(1);
    let flip = _mm512_set1_epi16(i16::MIN);
    let add = |acc, v| _mm512_dpwssd_epi32(acc, _mm512_xor_si512(v, flip), ones);
    let mut acc = [_mm512_setzero_si512(); 4];
    let mut vectors = 1 + (src.len() / 64) as u32;

    // That they are of one length is what spares the loop its checks.
    let (mut src, mut dst) = (src, &mut dst[..if COPY { src.len() } else { 0 }]);
    if COPY && src.len() >= ALIGN_FROM {
        let head = dst.as_ptr().addr().wrapping_neg() & 62;
        if let (Some(chunk), Some(out)) = (src.first_chunk(), dst.first_chunk_mut()) {
            let v = load64(chunk);
            store64(out, v);
            let mask = _bzhi_u64(u64::MAX, head as u32);
            acc[0] = add(acc[0], _mm512_maskz_mov_epi8(mask, v));
        }
        (src, dst) = (&src[head..], &mut dst[head..]);
        vectors = 2 + (src.len() / 64) as u32;
    }

    let (blocks, rest) = src.as_chunks::<256>();
    for (i, block) in blocks.iter().enumerate() {
        let mut v = [_mm512_setzero_si512(); 4];
        for (v, chunk) in v.iter_mut().zip(block.as_chunks::<64>().0) {
            *v = load64(chunk);
        }
        if COPY && let Some(out) = dst.as_chunks_mut::<256>().0.get_mut(i) {
            for (v, chunk) in v.iter().zip(out.as_chunks_mut::<64>().0) {
                store64(chunk, *v);
            }
        }
        for (acc, v) in acc.iter_mut().zip(v) {
            *acc = add(*acc, v);
        }
    }
    let done = src.len() - rest.len();
    let (chunks, tail) = rest.as_chunks::<64>();
    for (i, (chunk, acc)) in chunks.iter().zip(&mut acc).enumerate() {
        let v = load64(chunk);
        if COPY
            && let Some(out) = dst.get_mut(done + i * 64..)
            && let Some(out) = out.first_chunk_mut()
        {
            store64(out, v);
        }
        *acc = add(*acc, v);
    }
    acc[3] = add(acc[3], load_part(tail));
    if COPY && let (Some(chunk), Some(out)) = (src.last_chunk(), dst.last_chunk_mut()) {
        store64(out, load64(chunk));
    }

    let acc = _mm512_add_epi32(
        _mm512_add_epi32(acc[0], acc[1]),
        _mm512_add_epi32(acc[2], acc[3]),
    );
    let acc = _mm256_add_epi32(
        _mm512_castsi512_si256(acc),
        _mm512_extracti64x4_epi64::<1>(acc),
    );
    let acc = _mm_add_epi32(
        _mm256_castsi256_si128(acc),
        _mm256_extracti128_si256::<1>(acc),
    );
    let flipped = vectors.wrapping_mul(32 << 15);
    Sum::from_le(u64::from(lanes4(acc).wrapping_add(flipped)))
}

/// The sum of four lanes, modulo 2^32.
#[inline]
#[target_feature(enable = "avx2")]
fn lanes4(v: __m128i) -> u32 {
    let v = _mm_add_epi32(v, _mm_shuffle_epi32::<0b01_00_11_10>(v));
    let v = _mm_add_epi32(v, _mm_shuffle_epi32::<0b10_11_00_01>(v));
    _mm_cvtsi128_si32(v) as u32
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load64(bytes: &[u8; 64]) -> __m512i {
    // SAFETY: the reference says that the 64 bytes can be read; the load needs no alignment.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store64(bytes: &mut [u8; 64], v: __m512i) {
    // SAFETY: the reference says that the 64 bytes can be written; the store needs no alignment.
    unsafe { _mm512_storeu_si512(bytes.as_mut_ptr().cast(), v) }
}

/// Loads less than 64 bytes, zeros behind them.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,bmi2")]
fn load_part(bytes: &[u8]) -> __m512i {
    let mask = _bzhi_u64(u64::MAX, bytes.len().min(64) as u32);
    // SAFETY: the mask has a bit for each byte of the slice and for none behind it; the load reads,
    // and can fault on, only bytes whose bit is set.
    unsafe { _mm512_maskz_loadu_epi8(mask, bytes.as_ptr().cast()) }
}
