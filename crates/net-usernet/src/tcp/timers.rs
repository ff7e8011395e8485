//! Deadlines of flows, as a heap of lazy entries.
//!
//! A flow has one live entry. When its deadline moves *later*, which every ACK does, nothing
//! happens: the entry fires early, the flow says "not yet", and gets a new one. Only a deadline
//! that moves *earlier* costs a push, and leaves a stale entry behind. Stale entries are thrown
//! out before they could outnumber the flows.

use core::cmp::Reverse;
use core::time::Duration;
use std::collections::BinaryHeap;

/// A deadline that never comes.
pub(super) const NEVER: Duration = Duration::MAX;

/// All deadlines.
#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<(Duration, u32)>>,
}

impl Timers {
    /// Adds an entry for `flow`, which remembers `at` as its own.
    pub(super) fn push(&mut self, at: Duration, flow: u32) {
        self.heap.push(Reverse((at, flow)));
    }

    /// The earliest entry, which may be stale.
    pub(super) fn earliest(&self) -> Option<Duration> {
        self.heap.peek().map(|&Reverse((at, _))| at)
    }

    /// Takes an entry that is due.
    pub(super) fn pop_due(&mut self, now: Duration) -> Option<(Duration, u32)> {
        let Reverse((at, _)) = *self.heap.peek()?;
        (at <= now)
            .then(|| self.heap.pop())
            .flatten()
            .map(|Reverse(entry)| entry)
    }

    /// Keeps the heap within a constant factor of `flows`; `live` tells entries that are not stale.
    pub(super) fn trim(&mut self, flows: usize, live: impl Fn(Duration, u32) -> bool) {
        if self.heap.len() > 4 * flows + 256 {
            self.heap.retain(|&Reverse((at, flow))| live(at, flow));
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.heap.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comes_out_in_order_and_stays_bounded() {
        let mut timers = Timers::default();
        for i in (0..10_000u32).rev() {
            timers.push(Duration::from_secs(u64::from(i)), i);
            timers.trim(10, |_, flow| flow < 10);
            assert!(timers.len() <= 4 * 10 + 257);
        }
        let mut last = 0;
        while let Some((at, flow)) = timers.pop_due(Duration::from_secs(5)) {
            assert!(u64::from(flow) == at.as_secs() && at.as_secs() >= last && flow <= 5);
            last = at.as_secs();
        }
        assert_eq!(timers.earliest(), Some(Duration::from_secs(6)));
    }
}
