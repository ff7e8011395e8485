//! The portable sum: the only one without `std`, the quick path for short inputs, and the oracle of
//! the vector code.

/// The sum of the 16-bit little-endian words of `bytes`; an odd last byte is a word's low half.
///
/// Little-endian whatever the host, so that every part of the module means the same number; the
/// caller swaps once at the end. Exact below 16 GiB: 32-bit words into 64 bits.
#[inline(always)]
pub(super) fn sum(bytes: &[u8]) -> u64 {
    let (chunks, rest) = bytes.as_chunks::<32>();
    let (mut a, mut b) = (0u64, 0u64);
    for chunk in chunks {
        for word in chunk.as_chunks::<8>().0 {
            let word = u64::from_le_bytes(*word);
            a += word & 0xffff_ffff;
            b += word >> 32;
        }
    }
    a + b + tail(rest)
}

/// The sum of at most 31 bytes, without a loop.
#[inline(always)]
fn tail(mut rest: &[u8]) -> u64 {
    let mut total = 0u64;
    if let Some((chunk, after)) = rest.split_first_chunk::<16>() {
        let word = u128::from_le_bytes(*chunk);
        let (low, high) = (word as u64, (word >> 64) as u64);
        total += (low & 0xffff_ffff) + (low >> 32) + (high & 0xffff_ffff) + (high >> 32);
        rest = after;
    }
    if let Some((chunk, after)) = rest.split_first_chunk::<8>() {
        let word = u64::from_le_bytes(*chunk);
        total += (word & 0xffff_ffff) + (word >> 32);
        rest = after;
    }
    if let Some((chunk, after)) = rest.split_first_chunk::<4>() {
        total += u64::from(u32::from_le_bytes(*chunk));
        rest = after;
    }
    if let Some((chunk, after)) = rest.split_first_chunk::<2>() {
        total += u64::from(u16::from_le_bytes(*chunk));
        rest = after;
    }
    if let [last] = rest {
        total += u64::from(*last);
    }
    total
}
