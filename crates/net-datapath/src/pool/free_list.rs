//! Which buffers are free: one bit each, in words that threads change with single atomic operations.
//!
//! A linked free list can suffer ABA: a thread reads the head and its successor, sleeps, and swaps in
//! a successor that has been handed out meanwhile. Here a word *is* the state of its 64 buffers, and
//! every change is one read-modify-write that only ever touches bits the caller owns (release) or
//! wins (take). There is no second value that could be stale, so there is nothing to confuse.

use alloc::boxed::Box;

use crate::sync::{AtomicU64, Ordering, spin};

/// Buffers per word.
const BITS: usize = u64::BITS as usize;

/// The set of free buffers. It does not count them: callers reserve a number of buffers first (in
/// the pool's state word) and then take exactly as many.
pub(super) struct FreeList {
    words: Box<[AtomicU64]>,
}

impl FreeList {
    /// All of `buffers` free.
    pub(super) fn full(buffers: usize) -> Self {
        let words = (0..buffers.div_ceil(BITS))
            .map(|word| {
                let left = buffers - word * BITS;
                AtomicU64::new(if left >= BITS {
                    u64::MAX
                } else {
                    (1 << left) - 1
                })
            })
            .collect();
        Self { words }
    }

    /// Takes `out.len()` buffers that the caller has reserved, looking in the word `hint` first, and
    /// returns the word it ended in.
    ///
    /// Reserved buffers are somewhere in the list at all times, so this always ends: a pass over all
    /// words that finds none has been overtaken by a thread that released or took one.
    #[inline]
    pub(super) fn take(&self, out: &mut [u32], hint: usize) -> usize {
        let mut word = if hint < self.words.len() { hint } else { 0 };
        let mut at = word;
        let mut filled = 0;
        let mut passed = 0;
        while filled < out.len() {
            let seen = self.words[word].load(Ordering::Relaxed);
            if seen != 0 {
                let wanted = lowest(seen, out.len() - filled);
                // Acquire: what the last owner did to these buffers happened before.
                let mut won = self.words[word].fetch_and(!wanted, Ordering::Acquire) & wanted;
                while won != 0 {
                    out[filled] = (word * BITS) as u32 + won.trailing_zeros();
                    filled += 1;
                    won &= won - 1;
                }
                at = word;
            }
            word += 1;
            if word == self.words.len() {
                word = 0;
            }
            passed += 1;
            if passed == self.words.len() {
                passed = 0;
                if filled < out.len() {
                    spin();
                }
            }
        }
        at
    }

    /// Puts one buffer back that the caller owns; returns its word.
    #[inline]
    pub(super) fn put(&self, index: u32) -> usize {
        let word = index as usize / BITS;
        let mask = 1 << (index as usize % BITS);
        let before = self.words[word].fetch_or(mask, Ordering::Release);
        debug_assert_eq!(before & mask, 0, "buffer {index} freed twice");
        word
    }

    /// Puts buffers back that the caller owns, one atomic operation for each run of neighbours;
    /// returns the word of the last one.
    pub(super) fn put_all(&self, indices: &[u32]) -> usize {
        let mut word = 0;
        let mut mask = 0u64;
        for &index in indices {
            let here = index as usize / BITS;
            if here != word && mask != 0 {
                let before = self.words[word].fetch_or(mask, Ordering::Release);
                debug_assert_eq!(before & mask, 0, "a buffer of word {word} freed twice");
                mask = 0;
            }
            word = here;
            mask |= 1 << (index as usize % BITS);
        }
        if mask != 0 {
            let before = self.words[word].fetch_or(mask, Ordering::Release);
            debug_assert_eq!(before & mask, 0, "a buffer of word {word} freed twice");
        }
        word
    }
}

/// The lowest `count` set bits of `word`, or all of them.
#[inline]
fn lowest(word: u64, count: usize) -> u64 {
    if word.count_ones() as usize <= count {
        return word;
    }
    let mut rest = word;
    for _ in 0..count {
        rest &= rest.wrapping_sub(1);
    }
    word & !rest
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn lowest_bits() {
        assert_eq!(lowest(0b1011_0100, 0), 0);
        assert_eq!(lowest(0b1011_0100, 1), 0b100);
        assert_eq!(lowest(0b1011_0100, 3), 0b11_0100);
        assert_eq!(lowest(0b1011_0100, 4), 0b1011_0100);
        assert_eq!(lowest(u64::MAX, 64), u64::MAX);
        assert_eq!(lowest(u64::MAX, 63), u64::MAX >> 1);
    }

    #[test]
    fn takes_every_buffer_once_and_gets_them_back() {
        for buffers in [1, 2, 63, 64, 65, 130] {
            let list = FreeList::full(buffers);
            let mut all = alloc::vec![0; buffers];
            list.take(&mut all, usize::MAX);
            all.sort_unstable();
            assert!(
                all.iter()
                    .enumerate()
                    .all(|(i, &index)| i == index as usize)
            );
            assert!(list.words.iter().all(|w| w.load(Ordering::Relaxed) == 0));
            list.put_all(&all[1..]);
            list.put(all[0]);
            let mut again = alloc::vec![0; buffers];
            list.take(&mut again, buffers / 64);
            again.sort_unstable();
            assert_eq!(all, again);
        }
    }
}
