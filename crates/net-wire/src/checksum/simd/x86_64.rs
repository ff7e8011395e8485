//! AVX2 and AVX-512.

use core::arch::x86_64::*;

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
    let (vectors, _) = rest.as_chunks::<32>();
    for (i, (chunk, acc)) in vectors.iter().zip(&mut acc).enumerate() {
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
    // 16 words in each vector, the masked one included.
    let vectors = (src.len() / 32 + 1) as u32;
    let flipped = vectors.wrapping_mul(16 << 15);
    u64::from(lanes4(acc).wrapping_add(flipped)) + odd
}

/// The last n of the 32 bytes from n on are set.
static MASK: [u8; 64] = {
    let mut mask = [0; 64];
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
/// VNNI multiplies unsigned by signed bytes and adds four products to a lane: with weights of 1 and 0
/// it adds up the low bytes of the words in one set of lanes and the high bytes in another.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni,bmi2")]
pub(super) fn avx512<const COPY: bool>(src: &[u8], dst: &mut [u8]) -> u64 {
    let low = _mm512_set1_epi16(0x0001);
    let high = _mm512_set1_epi16(0x0100);
    let mut acc_low = [_mm512_setzero_si512(); 4];
    let mut acc_high = [_mm512_setzero_si512(); 4];

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
        for i in 0..4 {
            acc_low[i] = _mm512_dpbusd_epi32(acc_low[i], v[i], low);
            acc_high[i] = _mm512_dpbusd_epi32(acc_high[i], v[i], high);
        }
    }
    let done = src.len() - rest.len();
    let (vectors, tail) = rest.as_chunks::<64>();
    for (i, chunk) in vectors.iter().enumerate().take(3) {
        let v = load64(chunk);
        if COPY
            && let Some(out) = dst.get_mut(done + i * 64..)
            && let Some(out) = out.first_chunk_mut()
        {
            store64(out, v);
        }
        acc_low[i] = _mm512_dpbusd_epi32(acc_low[i], v, low);
        acc_high[i] = _mm512_dpbusd_epi32(acc_high[i], v, high);
    }
    let v = load_part(tail);
    acc_low[3] = _mm512_dpbusd_epi32(acc_low[3], v, low);
    acc_high[3] = _mm512_dpbusd_epi32(acc_high[3], v, high);
    if COPY && let (Some(chunk), Some(out)) = (src.last_chunk(), dst.last_chunk_mut()) {
        store64(out, load64(chunk));
    }

    let add = |a: [__m512i; 4]| {
        _mm512_add_epi32(_mm512_add_epi32(a[0], a[1]), _mm512_add_epi32(a[2], a[3]))
    };
    let acc = _mm512_add_epi32(add(acc_low), _mm512_slli_epi32::<8>(add(acc_high)));
    let acc = _mm256_add_epi32(
        _mm512_castsi512_si256(acc),
        _mm512_extracti64x4_epi64::<1>(acc),
    );
    let acc = _mm_add_epi32(
        _mm256_castsi256_si128(acc),
        _mm256_extracti128_si256::<1>(acc),
    );
    u64::from(lanes4(acc))
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
