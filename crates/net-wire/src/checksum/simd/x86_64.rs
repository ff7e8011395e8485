//! AVX2 and AVX-512.

use core::arch::x86_64::*;

/// Copies from this length on are worth aligning.
const ALIGN_FROM: usize = 512;

pub(super) fn has_avx2() -> bool {
    std::arch::is_x86_feature_detected!("avx2")
}

/// Whether the sets that [`avx512`] uses are there, and wide vectors are worth using: processors
/// without VBMI (Skylake-X, Cascade Lake) lower their clock for 512-bit multiplications.
pub(super) fn has_avx512() -> bool {
    has_avx2()
        && std::arch::is_x86_feature_detected!("bmi2")
        && std::arch::is_x86_feature_detected!("avx512f")
        && std::arch::is_x86_feature_detected!("avx512bw")
        && std::arch::is_x86_feature_detected!("avx512vbmi")
        && std::arch::is_x86_feature_detected!("avx512vnni")
}

/// The little-endian sum of 32 to [`super::BLOCK`] bytes; copies them to `dst`, which is as long, if
/// `COPY`.
///
/// The instruction that adds pairs of 16-bit words takes them as signed. Flipping the top bit turns a
/// word w into w - 2^15; what that takes away is known and added again at the end.
#[target_feature(enable = "avx2")]
pub(super) fn avx2<const COPY: bool>(src: &[u8], dst: &mut [u8]) -> u64 {
    let ones = _mm256_set1_epi16(1);
    let flip = _mm256_set1_epi16(i16::MIN);
    let pairs = |v| _mm256_madd_epi16(_mm256_xor_si256(v, flip), ones);
    let mut acc = [_mm256_setzero_si256(); 4];
    // Vectors that were added, each with 16 words.
    let mut vectors = 1 + (src.len() / 32) as u32;

    // That they are of one length is what spares the loop its checks.
    let (mut src, mut dst) = (src, &mut dst[..if COPY { src.len() } else { 0 }]);
    if COPY && src.len() >= ALIGN_FROM {
        // Stores that cross a cache line cost twice: begin with one that overlaps the first aligned
        // one. An odd distance would turn the words round.
        let head = dst.as_ptr().addr().wrapping_neg() & 30;
        let mask = MASK.get(64 - head..).and_then(|m| m.first_chunk());
        if let (Some(mask), Some(chunk), Some(out)) =
            (mask, src.first_chunk(), dst.first_chunk_mut())
        {
            let v = load32(chunk);
            store32(out, v);
            acc[0] = pairs(_mm256_and_si256(v, load32(mask)));
        }
        (src, dst) = (&src[head..], &mut dst[head..]);
        vectors = 2 + (src.len() / 32) as u32;
    }

    let (blocks, rest) = src.as_chunks::<128>();
    for (i, block) in blocks.iter().enumerate() {
        let mut v = [_mm256_setzero_si256(); 4];
        for (v, chunk) in v.iter_mut().zip(block.as_chunks::<32>().0) {
            *v = load32(chunk);
        }
        if COPY && let Some(out) = dst.as_chunks_mut::<128>().0.get_mut(i) {
            for (v, chunk) in v.iter().zip(out.as_chunks_mut::<32>().0) {
                store32(chunk, *v);
            }
        }
        for (acc, v) in acc.iter_mut().zip(v) {
            *acc = _mm256_add_epi32(*acc, pairs(v));
        }
    }
    let done = src.len() - rest.len();
    for (i, (chunk, acc)) in rest.as_chunks::<32>().0.iter().zip(&mut acc).enumerate() {
        let v = load32(chunk);
        if COPY
            && let Some(out) = dst.get_mut(done + i * 32..)
            && let Some(out) = out.first_chunk_mut()
        {
            store32(out, v);
        }
        *acc = _mm256_add_epi32(*acc, pairs(v));
    }
    if COPY && let (Some(chunk), Some(out)) = (src.last_chunk(), dst.last_chunk_mut()) {
        store32(out, load32(chunk));
    }

    // What is left are less than 32 bytes. The last 32 that end at an even offset, less those that
    // were summed already, are all of them but for an odd last one.
    let (even, odd) = src.split_at(src.len() & !1);
    let left = even.len() % 32;
    let mask = MASK.get(left..).and_then(|m| m.first_chunk());
    if let (Some(mask), Some(chunk)) = (mask, even.last_chunk()) {
        let v = _mm256_and_si256(load32(chunk), load32(mask));
        acc[3] = _mm256_add_epi32(acc[3], pairs(v));
    }
    let odd = odd.first().map_or(0, |&last| u64::from(last));

    let acc = _mm256_add_epi32(
        _mm256_add_epi32(acc[0], acc[1]),
        _mm256_add_epi32(acc[2], acc[3]),
    );
    let acc = _mm_add_epi32(
        _mm256_castsi256_si128(acc),
        _mm256_extracti128_si256::<1>(acc),
    );
    let flipped = vectors.wrapping_mul(16 << 15);
    u64::from(lanes4(acc).wrapping_add(flipped)) + odd
}

/// Of the 32 bytes from n on the last n are set; of those from 64 - n on the first n.
static MASK: [u8; 96] = {
    let mut mask = [0; 96];
    let mut i = 32;
    while i < 64 {
        mask[i] = 0xff;
        i += 1;
    }
    mask
};

/// The little-endian sum of 64 to [`super::BLOCK`] bytes; copies them to `dst`, which is as long, if
/// `COPY`.
///
/// As [`avx2`], but VNNI adds the pairs to the lanes in the same instruction, and a masked load takes
/// the rest.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni,bmi2")]
pub(super) fn avx512<const COPY: bool>(src: &[u8], dst: &mut [u8]) -> u64 {
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
    u64::from(lanes4(acc).wrapping_add(flipped))
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
#[target_feature(enable = "avx2")]
fn load32(bytes: &[u8; 32]) -> __m256i {
    // SAFETY: the reference says that the 32 bytes can be read; the load needs no alignment.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn store32(bytes: &mut [u8; 32], v: __m256i) {
    // SAFETY: the reference says that the 32 bytes can be written; the store needs no alignment.
    unsafe { _mm256_storeu_si256(bytes.as_mut_ptr().cast(), v) }
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
