//! The portable sum: the only one without `std`, the quick path for short inputs, and the oracle of
//! the vector code.

use super::total::fold64;

/// Inputs up to this many bytes are summed here, whatever the processor: the call of vector code would
/// cost more than it saves.
pub(super) const SHORT: usize = 64;

/// The sum of the 16-bit little-endian words of `bytes`, folded to 32 bits; an odd last byte is a
/// word's low half.
///
/// Little-endian whatever the host, so that every part of the module means the same number; the
/// caller swaps once at the end.
#[inline(always)]
pub(super) fn sum(bytes: &[u8]) -> u64 {
    let (chunks, rest) = match bytes.len() {
        0..=SHORT => (&[][..], bytes),
        _ => bytes.as_chunks::<32>(),
    };
    // 32-bit words into 64 bits, exact below 16 GiB; compilers make vector code of it.
    let (mut a, mut b) = (0u64, 0u64);
    for chunk in chunks {
        for word in chunk.as_chunks::<8>().0 {
            let word = u64::from_le_bytes(*word);
            a += word & 0xffff_ffff;
            b += word >> 32;
        }
    }
    u64::from(fold64(add(short(rest), a + b)))
}

/// The sum of at most [`SHORT`] bytes as 64-bit words, without a loop.
///
/// 2^64 is 1 modulo 65,535, so that carries out of 64 bits go round to the low end. Only where all
/// bytes are 0 is the sum 0.
#[inline(always)]
fn short(bytes: &[u8]) -> u64 {
    let (mut words, rest) = bytes.as_chunks::<8>();
    let mut total = match bytes.last_chunk() {
        // The last 8 bytes, less those that belong to whole words.
        Some(last) => (u64::from_le_bytes(*last) >> 1) >> (63 - 8 * rest.len()),
        None => tail(rest),
    };
    chain::<8>(&mut total, &mut words);
    chain::<4>(&mut total, &mut words);
    chain::<2>(&mut total, &mut words);
    chain::<1>(&mut total, &mut words);
    total
}

/// Takes the first `N` of the words, if there are so many, and adds them: an instruction a word.
#[inline(always)]
fn chain<const N: usize>(total: &mut u64, words: &mut &[[u8; 8]]) {
    if let Some((first, after)) = words.split_first_chunk::<N>() {
        let mut carry = false;
        for word in first {
            (*total, carry) = total.carrying_add(u64::from_le_bytes(*word), carry);
        }
        // Does not carry again: the sum of two words that carried is at most 2^64 - 2, and then so is
        // that with the next word and the carry.
        *total += u64::from(carry);
        *words = after;
    }
}

/// The sum of two, carry included.
#[inline(always)]
fn add(a: u64, b: u64) -> u64 {
    let (sum, carry) = a.overflowing_add(b);
    sum + u64::from(carry)
}

/// The sum of at most 7 bytes.
#[inline(always)]
fn tail(mut rest: &[u8]) -> u64 {
    let mut total = 0;
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
