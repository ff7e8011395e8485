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
    pub(super) fn give(&self, indices: &[u32]) -> bool {
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
        for (entry, &index) in self.entries.iter().zip(indices) {
            entry.store(index, Ordering::Relaxed);
        }
        // Publishes the entries, and what was done to the buffers.
        self.state
            .store(seen + RELEASE + indices.len() as u64, Ordering::Release);
        true
    }

    /// Takes what there is for the rest of `out`, and returns the number of releases here, seen when
    /// nothing was left to take (or `out` was full).
    #[inline]
    pub(super) fn take(&self, out: &mut [u32], filled: &mut usize) -> u64 {
        let mut seen = self.state.load(Ordering::Acquire);
        if seen & COUNT == 0 {
            return seen / RELEASE;
        }
        loop {
            let count = (seen & COUNT) as usize;
            let room = out.get_mut(*filled..).unwrap_or_default();
            let wanted = count.min(room.len());
            if wanted == 0 {
                return seen / RELEASE;
            }
            let entries = self.entries[..count].iter().rev();
            for (place, entry) in room[..wanted].iter_mut().zip(entries) {
                *place = entry.load(Ordering::Relaxed);
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

    /// Buffers here.
    #[inline]
    pub(super) fn count(&self) -> usize {
        (self.state.load(Ordering::Acquire) & COUNT) as usize
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
        let mut out = [0; ENTRIES];
        for round in 1..4 {
            let given: [u32; ENTRIES] = core::array::from_fn(|i| i as u32 * 7 + round);
            assert!(tray.give(&given));
            assert!(!tray.give(&[99]), "not empty");
            let mut filled = 0;
            assert_eq!(tray.take(&mut out[..4], &mut filled), u64::from(round));
            assert_eq!((filled, tray.count()), (4, ENTRIES - 4));
            assert!(!tray.give(&[99]), "not empty yet");
            assert_eq!(tray.take(&mut out, &mut filled), u64::from(round));
            assert_eq!((filled, tray.count()), (ENTRIES, 0));
            out.reverse();
            assert_eq!(out, given);
        }
    }

    #[test]
    fn a_busy_tray_is_empty_and_full() {
        let tray = Tray::empty();
        tray.state.store((5 * RELEASE) | BUSY, Ordering::Relaxed);
        let mut filled = 0;
        assert_eq!(tray.take(&mut [0; 3], &mut filled), 5);
        assert_eq!((filled, tray.count()), (0, 0));
        assert!(!tray.give(&[1]));
    }
}
