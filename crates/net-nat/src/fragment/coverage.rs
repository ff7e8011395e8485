//! Which bytes of a datagram have been seen, so that its record can go once all have.
//!
//! Without this a record would stay for the whole timeout, and a table of 1,024 datagrams would pass
//! 68 of them a second.

/// Runs of bytes that are remembered: enough for fragments in order, in reverse order, and shuffled
/// over a few paths.
const SPANS: usize = 4;

/// A set of bytes, as runs that do not touch.
///
/// A run too many is forgotten: the datagram is then taken for incomplete, never for complete.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Coverage {
    spans: [(u32, u32); SPANS],
    used: usize,
    /// Where the datagram ends, once the last fragment has been seen; no last fragment ends at 0.
    end: u32,
}

impl Coverage {
    /// Adds a fragment; `last` tells that the datagram ends with it.
    pub(super) fn add(&mut self, offset: usize, len: usize, last: bool) {
        let (mut from, mut to) = bounds(offset, len);
        if last && self.end == 0 {
            self.end = to;
        }
        let mut kept = 0;
        for index in 0..self.used {
            let (start, stop) = self.spans[index];
            if start <= to && from <= stop {
                from = from.min(start);
                to = to.max(stop);
            } else {
                self.spans[kept] = (start, stop);
                kept += 1;
            }
        }
        if let Some(free) = self.spans.get_mut(kept) {
            *free = (from, to);
            kept += 1;
        }
        self.used = kept;
    }

    /// Whether all of a fragment has been seen before.
    pub(super) fn covers(&self, offset: usize, len: usize) -> bool {
        let (from, to) = bounds(offset, len);
        self.runs().any(|(start, stop)| start <= from && to <= stop)
    }

    /// Whether every byte from the first to the end has been seen.
    pub(super) fn is_complete(&self) -> bool {
        self.end != 0
            && self
                .runs()
                .any(|(start, stop)| start == 0 && stop >= self.end)
    }

    fn runs(&self) -> impl Iterator<Item = (u32, u32)> {
        self.spans.into_iter().take(self.used)
    }
}

/// First byte and the one behind the last; both fit, as no datagram passes 65,535 bytes.
fn bounds(offset: usize, len: usize) -> (u32, u32) {
    (offset as u32, (offset + len) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    fn after(order: &[usize], count: usize) -> Coverage {
        let mut coverage = Coverage::default();
        for &index in order {
            coverage.add(index * 8, 8, index + 1 == count);
        }
        coverage
    }

    #[test]
    fn complete_in_order_in_reverse_and_shuffled() {
        assert!(after(&[0, 1, 2, 3, 4], 5).is_complete());
        assert!(after(&[4, 3, 2, 1, 0], 5).is_complete());
        assert!(after(&[0, 2, 4, 1, 3], 5).is_complete());
        assert!(after(&[0, 0, 1, 1, 2, 2, 3, 4, 4], 5).is_complete());
        assert!(!after(&[0, 1, 1, 3, 4], 5).is_complete(), "2 is missing");
        assert!(!after(&[1, 2, 3, 4], 5).is_complete(), "0 is missing");
        assert!(!after(&[0, 1, 2, 3], 5).is_complete(), "the end is unknown");
        assert!(
            !after(&[0, 2, 4, 6, 8, 9, 1, 3, 5, 7], 10).is_complete(),
            "more runs than are remembered: never taken for complete too soon"
        );
    }

    proptest! {
        /// Against a set of bytes: what is said to be covered was seen, and complete is complete.
        #[test]
        fn never_claims_what_was_not_seen(
            pieces in prop::collection::vec((0usize..24, 1usize..6, any::<bool>()), 1..40),
            probe in (0usize..24, 1usize..6),
        ) {
            let mut coverage = Coverage::default();
            let mut seen = [false; 32];
            let mut end = None;
            for (offset, len, last) in pieces {
                coverage.add(offset, len, last);
                seen[offset..offset + len].fill(true);
                if last {
                    end.get_or_insert(offset + len);
                }
                let all: Vec<bool> = seen[probe.0..probe.0 + probe.1].to_vec();
                if coverage.covers(probe.0, probe.1) {
                    prop_assert!(all.iter().all(|&byte| byte));
                }
                if coverage.is_complete() {
                    prop_assert!(seen[..end.unwrap()].iter().all(|&byte| byte));
                }
            }
        }
    }
}
