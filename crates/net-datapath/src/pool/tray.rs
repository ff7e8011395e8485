//! Free buffers handed over many at a time: their numbers in a row, on two cache lines.
//!
//! A bitmap moves neighbours cheaply, but buffers that come back in any order touch a word each. A
//! tray carries any [`ENTRIES`] of them from one thread to another for three changes of one word:
//!
//! ```text
//!  63               8   7    6    0
//! | releases         | busy | count |    entries 0 to count - 1 are free buffers
//! ```
//!
//! Only an empty tray is filled: the giver marks it busy, writes the entries, and shows them by
//! setting the count, which is the release. Until then they are the giver's, as what is in its cache
//! is. Takers read entries from the top and then try to lower the count; should anything have
//! happened meanwhile they fail, since no state comes twice: the count only falls between two
//! releases, and 2^56 releases do not happen. So there is no ABA here either, nobody waits for anybody
//! (a busy tray is as good as an empty one to a taker and as a full one to a giver), and a thread
//! that stops half-way takes one tray out of use at worst.

use core::cell::Cell;

use crate::prefetch::{LINE, prefetch_write};
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// Most buffers on a tray: with its state they fill 128 bytes. In models, few enough to explore.
pub(super) const ENTRIES: usize = if cfg!(loom) { 2 } else { 30 };

const COUNT: u64 = BUSY - 1;
/// The giver is writing.
const BUSY: u64 = 1 << 7;
/// One release.
const RELEASE: u64 = BUSY << 1;

/// Aligned to the pair of lines that processors fetch together.
#[repr(align(128))]
pub(super) struct Tray {
    state: AtomicU64,
    /// Atomic because takers read them while a giver may be writing; what they read then is not used.
    entries: [AtomicU32; ENTRIES],
}

impl Tray {
    pub(super) fn empty() -> Self {
        Self {
            state: AtomicU64::new(0),
            entries: core::array::from_fn(|_| AtomicU32::new(0)),
        }
    }

    /// Puts buffers here that the caller owns, at most [`ENTRIES`]; refuses, changing nothing, unless
    /// the tray is empty.
    pub(super) fn give(&self, indices: &[Cell<u32>]) -> bool {
        let seen = self.state.load(Ordering::Relaxed);
        if seen & (BUSY | COUNT) != 0 {
            return false;
        }
        // Acquire: takers have read the old entries before the new ones are written.
        let claim =
            self.state
                .compare_exchange(seen, seen | BUSY, Ordering::AcqRel, Ordering::Relaxed);
        if claim.is_err() {
            return false;
        }
        match indices.first_chunk::<ENTRIES>() {
            Some(all) => write(&self.entries, all),
            None => write(&self.entries, indices),
        }
        // Publishes the entries, and what was done to the buffers.
        self.state
            .store(seen + RELEASE + indices.len() as u64, Ordering::Release);
        true
    }

    /// Takes what there is for the rest of `out`, and returns the number of releases here, seen when
    /// nothing was left to take (or `out` was full).
    #[inline]
    pub(super) fn take(&self, out: &[Cell<u32>], filled: &mut usize) -> u64 {
        let mut seen = self.state.load(Ordering::Acquire);
        if seen & COUNT == 0 {
            return seen / RELEASE;
        }
        loop {
            let count = (seen & COUNT) as usize;
            let room = out.get(*filled..).unwrap_or_default();
            let wanted = count.min(room.len());
            if wanted == 0 {
                return seen / RELEASE;
            }
            match room.first_chunk::<ENTRIES>() {
                Some(all) if count == ENTRIES => read(&self.entries, all),
                _ => read(&self.entries[count - wanted..count], room),
            }
            // The orderings are those of the bitmap's takers, for the proof of "empty".
            match self.state.compare_exchange(
                seen,
                seen - wanted as u64,
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => {
                    *filled += wanted;
                    seen -= wanted as u64;
                }
                Err(now) => seen = now,
            }
        }
    }

    /// The number of releases here, unless there is something to take.
    #[inline]
    pub(super) fn releases_if_empty(&self) -> Option<u64> {
        let seen = self.state.load(Ordering::Acquire);
        (seen & COUNT == 0).then_some(seen / RELEASE)
    }

    /// Asks for both lines, as lines to be written: this tray will be given to, or taken from, soon.
    #[inline]
    pub(super) fn prefetch(&self) {
        let first = (&raw const *self).cast::<u8>().cast_mut();
        prefetch_write(first);
        prefetch_write(first.wrapping_add(LINE));
    }

    /// Buffers here.
    #[inline]
    pub(super) fn count(&self) -> usize {
        (self.state.load(Ordering::Acquire) & COUNT) as usize
    }
}

/// Inlined, so that for a full tray, the most frequent number, there is no loop.
#[inline(always)]
fn write(entries: &[AtomicU32], indices: &[Cell<u32>]) {
    for (entry, index) in entries.iter().zip(indices) {
        entry.store(index.get(), Ordering::Relaxed);
    }
}

/// Inlined as [`write()`] is.
#[inline(always)]
fn read(entries: &[AtomicU32], places: &[Cell<u32>]) {
    for (entry, place) in entries.iter().zip(places) {
        place.set(entry.load(Ordering::Relaxed));
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn two_lines() {
        assert_eq!(size_of::<Tray>(), 128);
    }

    #[test]
    fn gives_back_what_it_was_given_once() {
        let tray = Tray::empty();
        let one = [Cell::new(99)];
        let out = [const { Cell::new(0) }; ENTRIES + 1];
        // Full or not, taken whole or the upper four first.
        for round in 1..9 {
            let given: [_; ENTRIES] = core::array::from_fn(|i| Cell::new(i as u32 * 7 + round));
            let given = &given[..ENTRIES - round as usize / 4];
            assert!(tray.give(given));
            assert!(!tray.give(&one), "not empty");
            let mut filled = 0;
            let mut expected = given.to_vec();
            if round % 2 == 0 {
                assert_eq!(tray.take(&out[..4], &mut filled), u64::from(round));
                assert_eq!((filled, tray.count()), (4, given.len() - 4));
                assert!(!tray.give(&one), "not empty yet");
                expected.rotate_right(4);
            }
            assert_eq!(tray.take(&out, &mut filled), u64::from(round));
            assert_eq!((filled, tray.count()), (given.len(), 0));
            assert_eq!(out[..filled], expected);
        }
    }

    #[test]
    fn a_busy_tray_is_empty_and_full() {
        let tray = Tray::empty();
        tray.state.store((5 * RELEASE) | BUSY, Ordering::Relaxed);
        let mut filled = 0;
        let out = [const { Cell::new(0) }; 3];
        assert_eq!(tray.take(&out, &mut filled), 5);
        assert_eq!((filled, tray.count()), (0, 0));
        assert!(!tray.give(&out));
    }
}
