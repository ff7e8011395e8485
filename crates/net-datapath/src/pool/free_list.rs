//! Which buffers are free: one bit each, 32 to a word, and every change one atomic operation.
//!
//! A linked free list can suffer ABA: a thread reads the head and its successor, sleeps, and swaps in
//! a successor that has been handed out meanwhile. Here a word *is* the state of its buffers, and a
//! change touches only bits that the caller owns (to give back) or wins (to take). No operation
//! depends on something read earlier still being true, so there is nothing to confuse.
//!
//! ```text
//!  63                      33   32    31                           0
//! | releases, wrapping       | closed | free bit of each buffer     |
//! ```
//!
//! "Empty" must not be a mistake either. Looking at one word after the other is not enough: while we
//! look at the last, somebody may release into the first and take from the one we were about to
//! reach. So a search that finds nothing looks again, and believes it only if not one release
//! happened since the first look. Then, at the moment between the two, every word was empty. (And
//! while there is still no release, the next search need not look twice.)
//!
//! Beside the words stand [trays](super::tray), each with up to 30 free buffers of any number, which
//! caches give and take whole. They count their releases too, and a search adds those up with the
//! words': everything said above of words holds of trays.
//!
//! The closed bit is how a pool finds its end: see [`close`](FreeList::close).

use alloc::boxed::Box;
use core::cell::Cell;

use crossbeam_utils::CachePadded;

use super::tray::{ENTRIES, Tray};
use crate::sync::{AtomicU64, Ordering};

/// Buffers per word.
pub(super) const BITS: usize = 32;
/// The free bits of a word.
const FREE: u64 = (1 << BITS) - 1;
/// Set in every word when no handle of the pool is left.
const CLOSED: u64 = 1 << BITS;
/// One release. The count wraps out of the word's top.
const RELEASE: u64 = CLOSED << 1;

/// Most trays: enough for what a ring of 1,024 lets go at once, and few to look at in vain.
const MAX_TRAYS: usize = 64;
/// Trays a giver tries before it turns to the words.
const TRIES: usize = 4;
/// Trays a taker looks at before it turns to the words. In models one, so that they reach the search.
const LOOKS: usize = if cfg!(loom) { 1 } else { 4 };

/// Where to look first: hints, right or wrong.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Cursor {
    /// The word to take from.
    pub(super) word: u32,
    /// The tray to take from.
    pub(super) tray: u32,
}

/// The set of free buffers.
pub(super) struct FreeList {
    words: Box<[AtomicU64]>,
    trays: Box<[Tray]>,
    /// The number of releases at which the list was found empty last. Counts only grow: as long as
    /// their sum is this, each is what it was then. (A word's wraps after 2^31. Should the sum be the
    /// same for that reason, at one of 2^31 releases, a search then looks once and not twice.)
    proof: CachePadded<AtomicU64>,
}

/// Whether a release came after the list was closed, and has to be counted.
pub(super) type Closed = bool;

impl FreeList {
    /// All of `buffers` free.
    pub(super) fn full(buffers: usize) -> Self {
        let words = (0..buffers.div_ceil(BITS))
            .map(|word| AtomicU64::new((1 << (buffers - word * BITS).min(BITS)) - 1))
            .collect();
        let trays = (buffers / ENTRIES).min(MAX_TRAYS);
        Self {
            words,
            trays: (0..trays).map(|_| Tray::empty()).collect(),
            // No sum: the counts of the words have 31 bits, those of the trays never reach 2^56, and
            // there are fewer than 2^27 words and 2^7 trays.
            proof: CachePadded::new(AtomicU64::new(u64::MAX)),
        }
    }

    /// Takes one free buffer: [`take`](Self::take) for the most frequent number, without caches.
    #[inline]
    pub(super) fn take_one(&self, at: &mut Cursor) -> Option<u32> {
        if let Some(word) = self.words.get(at.word as usize) {
            loop {
                let free = word.load(Ordering::Acquire) & FREE;
                if free == 0 {
                    break;
                }
                let wanted = lowest(free, 1);
                // Orderings as in `take_from`.
                if word.fetch_and(!wanted, Ordering::AcqRel) & wanted != 0 {
                    return Some(at.word * BITS as u32 + wanted.trailing_zeros());
                }
            }
        }
        let mut one = [0];
        let mut filled = self.take_tray(cells(&mut one), at);
        if filled == 0 {
            self.search(&mut one, &mut filled, at);
        }
        (filled == 1).then_some(one[0])
    }

    /// Takes from the next tray what it has for `out`, and how many that were.
    #[inline]
    fn take_tray(&self, out: &[Cell<u32>], at: &mut Cursor) -> usize {
        let mut filled = 0;
        if let Some(tray) = self.trays.get(at.tray as usize) {
            self.take_from_tray(tray, at.tray, out, &mut filled, at);
        }
        filled
    }

    /// The same from the first of the next trays that has something, if there is one soon. Where there
    /// is none the next call looks further on: a taker that looked at one place only would never come
    /// to where the givers are, nor they, with the trays before them full, to where it is.
    #[inline]
    pub(super) fn take_tray_near(&self, out: &[Cell<u32>], at: &mut Cursor) -> usize {
        for look in 0..LOOKS.min(self.trays.len()) {
            if look > 0 {
                at.tray = self.tray_after(at.tray);
            }
            let filled = self.take_tray(out, at);
            if filled > 0 {
                self.prefetch_tray(at.tray);
                return filled;
            }
        }
        0
    }

    /// Takes free buffers for as much of `out` as there are, looking first where `at` says and
    /// leaving there where it ended. Fewer than `out.len()`, `n`, means that at one moment during
    /// the call there was no other.
    ///
    /// Ends unless other threads keep releasing and taking, in which case those make progress.
    #[inline]
    pub(super) fn take(&self, out: &mut [u32], at: &mut Cursor) -> usize {
        let filled = self.take_tray_near(cells(out), at);
        self.take_rest(out, filled, at)
    }

    /// [`take`](Self::take) where the trays soon to come have been looked at: the first `filled` of
    /// `out` are there.
    #[inline]
    pub(super) fn take_rest(&self, out: &mut [u32], mut filled: usize, at: &mut Cursor) -> usize {
        // Mostly the first word has something.
        if let Some(word) = self.words.get(at.word as usize) {
            self.take_from(word, at.word as usize, out, &mut filled);
        }
        if filled < out.len() {
            self.search(out, &mut filled, at);
        }
        filled
    }

    /// Looks at all words and trays, beginning after those of `at`, until `out` is full or the list
    /// is surely empty.
    #[cold]
    fn search(&self, out: &mut [u32], filled: &mut usize, at: &mut Cursor) {
        let (behind, ahead) = halves(&self.words, at.word);
        let (trays_behind, trays_ahead) = halves(&self.trays, at.tray);
        // If the list was found empty once and nothing was released since, one look is enough.
        let proof = self.proof.load(Ordering::Acquire);
        let mut known = proof;
        loop {
            let mut releases = 0;
            for (first, words) in [(behind.len(), ahead), (0, behind)] {
                for (offset, word) in words.iter().enumerate() {
                    let mut seen = word.load(Ordering::Acquire);
                    if seen & FREE != 0 {
                        let before = *filled;
                        seen = self.take_from(word, first + offset, out, filled);
                        if *filled > before {
                            at.word = (first + offset) as u32;
                        }
                        if *filled == out.len() {
                            return;
                        }
                    }
                    releases += seen / RELEASE;
                }
            }
            for (first, trays) in [(trays_behind.len(), trays_ahead), (0, trays_behind)] {
                for (offset, tray) in trays.iter().enumerate() {
                    // Apart from the taking: most are empty when all are looked at.
                    releases += if let Some(releases) = tray.releases_if_empty() {
                        releases
                    } else {
                        let index = (first + offset) as u32;
                        let releases = self.take_from_tray(tray, index, cells(out), filled, at);
                        if *filled == out.len() {
                            return;
                        }
                        releases
                    };
                }
            }
            if releases == known {
                if releases != proof {
                    self.proof.store(releases, Ordering::Release);
                }
                return;
            }
            // No pause: to look again takes another's release, so this is no spin. (And loom lets no
            // thread that yields read what is old once more.)
            known = releases;
        }
    }

    /// Takes what `word` has for the rest of `out`; returns the word as it was when nothing of it
    /// was left to take (or `out` was full).
    ///
    /// The orderings make the proof of "empty" hold on every machine. Taking releases: who sees that
    /// a buffer is gone also sees the releases that the taker had seen or done before. Acquiring, the
    /// second look then cannot miss them.
    #[inline]
    fn take_from(
        &self,
        word: &AtomicU64,
        index: usize,
        out: &mut [u32],
        filled: &mut usize,
    ) -> u64 {
        loop {
            let seen = word.load(Ordering::Acquire);
            let left = out.len() - *filled;
            if seen & FREE == 0 || left == 0 {
                return seen;
            }
            let wanted = lowest(seen & FREE, left);
            // Acquire: what the last owner did to these buffers happened before.
            let mut won = word.fetch_and(!wanted, Ordering::AcqRel) & wanted;
            while won != 0 {
                out[*filled] = (index * BITS) as u32 + won.trailing_zeros();
                *filled += 1;
                won &= won - 1;
            }
        }
    }

    /// Takes what `tray`, number `index`, has for the rest of `out`; returns what [`Tray::take`] does.
    #[inline]
    fn take_from_tray(
        &self,
        tray: &Tray,
        index: u32,
        out: &[Cell<u32>],
        filled: &mut usize,
        at: &mut Cursor,
    ) -> u64 {
        let before = *filled;
        let releases = tray.take(out, filled);
        if *filled > before {
            at.tray = self.here_or_after(tray, index);
        }
        releases
    }

    /// Puts one buffer back that the caller owns.
    #[inline]
    pub(super) fn put(&self, index: u32) -> Closed {
        self.put_mask(Self::word_of(index), 1 << (index as usize % BITS))
    }

    /// Puts the buffers of `mask`, which the caller owns, back into word `word`.
    #[inline]
    pub(super) fn put_mask(&self, word: usize, mask: u64) -> Closed {
        // An addition, to count the release with the same operation; the bits are clear, so it sets
        // them and carries nothing. AcqRel: publishes what was done to the buffers, and passes on
        // the releases this thread has seen.
        let before = self.words[word].fetch_add(mask + RELEASE, Ordering::AcqRel);
        debug_assert_eq!(before & mask, 0, "a buffer of word {word} freed twice");
        before & CLOSED != 0
    }

    /// Puts buffers that the caller owns, at most [`ENTRIES`], on a tray, the first empty one from
    /// `at` on; or refuses, if it finds none soon. Only for those with a handle of the pool: trays
    /// are not closed.
    pub(super) fn put_tray(&self, indices: &[Cell<u32>], at: &mut u32) -> bool {
        let mut next = *at;
        for _ in 0..TRIES.min(self.trays.len()) {
            let Some(tray) = self.trays.get(next as usize) else {
                break;
            };
            next = self.tray_after(next);
            if tray.give(indices) {
                self.prefetch_tray(next);
                *at = next;
                return true;
            }
        }
        false
    }

    /// Where to take from next: from `tray`, number `index`, or if it is empty from the one after it.
    #[inline]
    fn here_or_after(&self, tray: &Tray, index: u32) -> u32 {
        if tray.count() != 0 {
            index
        } else {
            self.tray_after(index)
        }
    }

    /// Asks for the tray that will be needed next, a whole cache's buffers from now: the taker emptied
    /// it, or the giver filled it, on another core.
    #[inline]
    fn prefetch_tray(&self, tray: u32) {
        if let Some(tray) = self.trays.get(tray as usize) {
            tray.prefetch();
        }
    }

    #[inline]
    fn tray_after(&self, tray: u32) -> u32 {
        let next = tray + 1;
        if next as usize >= self.trays.len() {
            0
        } else {
            next
        }
    }

    /// The word that holds a buffer's bit.
    #[inline]
    pub(super) fn word_of(index: u32) -> usize {
        index as usize / BITS
    }

    /// Marks every word and returns how many buffers were free when theirs was marked. Every other
    /// buffer comes back by a `put` that answers [`Closed`]: each is counted once, by one or the
    /// other. No handle is left, so that what is on trays stays there and is counted once too.
    pub(super) fn close(&self) -> u64 {
        let words: u64 = self
            .words
            .iter()
            .map(|word| {
                let before = word.fetch_or(CLOSED, Ordering::AcqRel);
                u64::from((before & FREE).count_ones())
            })
            .sum();
        words + self.on_trays() as u64
    }

    /// Free buffers: exact while no other thread takes or releases.
    pub(super) fn count(&self) -> usize {
        let words: usize = self
            .words
            .iter()
            .map(|word| (word.load(Ordering::Acquire) & FREE).count_ones() as usize)
            .sum();
        words + self.on_trays()
    }

    pub(super) fn trays(&self) -> usize {
        self.trays.len()
    }

    fn on_trays(&self) -> usize {
        self.trays.iter().map(Tray::count).sum()
    }
}

/// Places of indices, as trays and caches have them.
pub(super) fn cells(out: &mut [u32]) -> &[Cell<u32>] {
    Cell::from_mut(out).as_slice_of_cells()
}

/// `places` up to `at` and those after it.
fn halves<T>(places: &[T], at: u32) -> (&[T], &[T]) {
    places.split_at((at as usize + 1).min(places.len()))
}

/// The lowest `count` set bits of `bits`, or all of them.
#[inline]
fn lowest(bits: u64, count: usize) -> u64 {
    if count == 1 {
        return bits & bits.wrapping_neg();
    }
    if count >= BITS || bits.count_ones() as usize <= count {
        return bits;
    }
    let mut rest = bits;
    for _ in 0..count {
        rest &= rest.wrapping_sub(1);
    }
    bits & !rest
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
        assert_eq!(lowest(FREE, 32), FREE);
        assert_eq!(lowest(FREE, 31), FREE >> 1);
    }

    #[test]
    fn takes_every_buffer_once_and_gets_them_back() {
        for buffers in [1, 2, 31, 32, 33, 130] {
            let list = FreeList::full(buffers);
            assert_eq!(list.count(), buffers);
            let mut all = alloc::vec![0; buffers + 1];
            let mut at = Cursor {
                word: 1 << 26,
                tray: 99,
            };
            assert_eq!(list.take(&mut all, &mut at), buffers);
            all.pop();
            all.sort_unstable();
            assert!(
                all.iter()
                    .enumerate()
                    .all(|(i, &index)| i == index as usize)
            );
            assert_eq!(list.count(), 0);
            for &index in &all {
                assert!(!list.put(index));
            }
            let mut again = alloc::vec![0; buffers];
            assert_eq!(list.take(&mut again, &mut at), buffers);
            again.sort_unstable();
            assert_eq!(all, again);
        }
    }

    #[test]
    fn counting_releases_never_touches_the_other_bits() {
        let list = FreeList::full(32);
        // The count of releases is about to wrap out of the word.
        list.words[0].fetch_or(!(FREE | CLOSED), Ordering::Relaxed);
        let mut one = [0];
        for _ in 0..3 {
            assert_eq!(list.take(&mut one, &mut Cursor::default()), 1);
            assert!(!list.put(one[0]));
            assert_eq!(list.count(), 32);
        }
        assert_eq!(list.words[0].load(Ordering::Relaxed) / RELEASE, 2);
    }

    #[test]
    fn a_taker_comes_to_where_the_trays_are() {
        let list = FreeList::full(4096);
        assert_eq!(list.trays(), MAX_TRAYS);
        let mut at = Cursor::default();
        let mut given = [0; ENTRIES];
        assert_eq!(list.take(&mut given, &mut at), ENTRIES);
        // Right behind where it stands, as far off as can be.
        let far = MAX_TRAYS as u32 - 1;
        assert!(list.put_tray(cells(&mut given), &mut { far }));
        at.tray = 0;
        // Meanwhile the words have enough.
        let mut out = [0; ENTRIES];
        let found = (0..MAX_TRAYS).position(|_| {
            assert_eq!(list.take(&mut out, &mut at), ENTRIES);
            out == given
        });
        // The last it looked at is the next call's first.
        assert_eq!(found, Some((MAX_TRAYS - 2) / (LOOKS - 1)));
    }

    #[test]
    fn closing_counts_every_buffer_once() {
        let list = FreeList::full(40);
        let mut out = [0; 10];
        assert_eq!(list.take(&mut out, &mut Cursor::default()), 10);
        assert_eq!(list.close(), 30);
        assert!(out.iter().all(|&index| list.put(index)));
    }
}
