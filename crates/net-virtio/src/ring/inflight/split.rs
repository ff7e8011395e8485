//! The log of a split ring: how far it has come stands in the ring itself.

use std::sync::atomic::{AtomicU8, AtomicU16, Ordering};

use super::InflightLog;
use crate::error::SetupError;

/// The newest chain of the last batch; the used index; the descriptors.
const AT_LAST_BATCH: usize = 12;
const AT_USED: usize = 14;
pub(super) const AT_ENTRIES: usize = 16;
/// Bytes of a descriptor's entry, and what is in it besides its first byte.
pub(super) const ENTRY: usize = 16;
const NEXT: usize = 6;
const COUNTER: usize = 8;

/// A split ring's log.
pub(in crate::ring) struct SplitLog {
    log: InflightLog,
    /// Chains that another back end has left, which are taken first: those of number `from` and up.
    again: Vec<u16>,
    from: u16,
}

impl SplitLog {
    /// Takes up the log of a ring of `size` descriptors with these indices; whether it knows where the
    /// ring stands, which is where its used index is.
    ///
    /// # Errors
    /// [`SetupError::Inflight`] for what cannot be a log of this ring.
    pub(in crate::ring) fn resume(
        log: InflightLog,
        size: u16,
        used: u16,
        available: u16,
    ) -> Result<(Self, bool), SetupError> {
        let known = log.is_used(false, size)?;
        let mut resumed = Self {
            log,
            again: Vec::new(),
            from: used,
        };
        if known {
            resumed.strike_last_batch(size, used);
            resumed.again = resumed.left(size);
            if resumed.again.len() > usize::from(available.wrapping_sub(used)) {
                return Err(SetupError::Inflight("has more chains than there are"));
            }
            resumed.note(used);
            return Ok((resumed, true));
        }
        for head in 0..resumed.log.entries {
            resumed.inflight(head).store(0, Ordering::Relaxed);
        }
        let log = &resumed.log;
        log.half(AT_LAST_BATCH).store(0, Ordering::Relaxed);
        resumed.note(used);
        resumed.log.begin();
        Ok((resumed, false))
    }

    fn entry(head: u16) -> usize {
        AT_ENTRIES + ENTRY * usize::from(head)
    }

    fn inflight(&self, head: u16) -> &AtomicU8 {
        self.log.byte(Self::entry(head))
    }

    fn next(&self, head: u16) -> &AtomicU16 {
        self.log.half(Self::entry(head) + NEXT)
    }

    /// Strikes off what was given back last, where the process ended before it had.
    fn strike_last_batch(&self, size: u16, used: u16) {
        let noted = self.log.half(AT_USED).load(Ordering::Acquire);
        let batch = used.wrapping_sub(noted);
        if batch > size {
            // The log of a ring that was here before.
            return;
        }
        let mut head = self.log.half(AT_LAST_BATCH).load(Ordering::Relaxed);
        for _ in 0..batch {
            if head >= size {
                return;
            }
            self.inflight(head).store(0, Ordering::Relaxed);
            head = self.next(head).load(Ordering::Relaxed);
        }
    }

    /// The chains in flight, in the order in which they were taken.
    fn left(&self, size: u16) -> Vec<u16> {
        let counter = |head| {
            let at = Self::entry(head) + COUNTER;
            self.log.word(at).load(Ordering::Relaxed)
        };
        let inflight = |head: &u16| self.inflight(*head).load(Ordering::Relaxed) != 0;
        let mut left: Vec<_> = (0..size)
            .filter(inflight)
            .map(|head| (counter(head), head))
            .collect();
        left.sort_unstable();
        left.into_iter().map(|(_, head)| head).collect()
    }

    fn note(&self, used: u16) {
        self.log.half(AT_USED).store(used, Ordering::Release);
    }

    /// The head of chain `number`, where it is one that was left.
    pub(in crate::ring) fn left_over(&self, number: u16) -> Option<u16> {
        let at = number.wrapping_sub(self.from);
        self.again.get(usize::from(at)).copied()
    }

    /// Shows with `show` that chains `old` up to `new` were given back, and notes it.
    pub(in crate::ring) fn publish(&mut self, old: u16, new: u16, show: impl Fn(u16)) {
        let count = new.wrapping_sub(old);
        let left: Vec<u16> = (0..count)
            .map_while(|at| self.left_over(old.wrapping_add(at)))
            .collect();
        if !left.is_empty() {
            // A batch of its own: its length is told by the two used indices alone.
            for head in &left {
                let newest = self.log.half(AT_LAST_BATCH);
                let before = newest.load(Ordering::Relaxed);
                self.next(*head).store(before, Ordering::Relaxed);
                newest.store(*head, Ordering::Release);
            }
            let middle = old.wrapping_add(left.len() as u16);
            show(middle);
            for head in &left {
                self.inflight(*head).store(0, Ordering::Release);
            }
            self.note(middle);
            if usize::from(middle.wrapping_sub(self.from)) == self.again.len() {
                self.again.clear();
            }
        }
        show(new);
        self.note(new);
    }

    /// The ring stops, and its state is asked for.
    pub(in crate::ring) fn end(&self) {
        if self.again.is_empty() {
            self.log.end();
        }
    }
}
