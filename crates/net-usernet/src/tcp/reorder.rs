//! Segments that came before the one they follow.
//!
//! A guest with several processors overtakes itself: two segments change places, and a moment later
//! the gap is filled. Dropping what came early would make the guest send all of it again, one
//! segment a round trip, since no selective acknowledgments are offered. So a few early segments
//! are kept, as copies. They are not acknowledged before their turn, so that dropping them is always
//! right: for want of budget, or when the gap stays.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use net_wire::tcp::SeqNumber;

/// Bytes kept for all flows of a relay together.
const TOTAL: usize = 16 << 20;
/// Bytes kept for one flow.
const PER_FLOW: usize = 1 << 20;
/// Segments kept for one flow.
const SEGMENTS: usize = 64;

/// What all flows of a relay may still keep. It lives in every flow that keeps something.
#[derive(Debug, Clone, Default)]
pub(super) struct Budget(Arc<AtomicUsize>);

/// An early segment.
#[derive(Debug)]
struct Early {
    seq: SeqNumber,
    payload: Vec<u8>,
}

/// The early segments of one flow, in order.
#[derive(Debug)]
pub(super) struct Reorder {
    segments: Vec<Early>,
    bytes: usize,
    budget: Budget,
}

impl Reorder {
    pub(super) fn new(budget: &Budget) -> Self {
        Self {
            segments: Vec::new(),
            bytes: 0,
            budget: budget.clone(),
        }
    }

    /// Keeps a segment of `len` bytes that `copy` writes out; nothing where there is no room or the
    /// same segment is there.
    pub(super) fn keep(&mut self, seq: SeqNumber, len: usize, copy: impl FnOnce(&mut [u8])) {
        let at = self.segments.partition_point(|early| early.seq.before(seq));
        let known = self
            .segments
            .get(at)
            .is_some_and(|early| early.seq == seq && early.payload.len() >= len);
        let room = self.segments.len() < SEGMENTS && self.bytes + len <= PER_FLOW;
        // One thread owns a relay; the counter is shared with its flows only.
        if known || !room || self.budget.0.load(Ordering::Relaxed) + len > TOTAL {
            return;
        }
        let mut payload = vec![0; len];
        copy(&mut payload);
        self.budget.0.fetch_add(len, Ordering::Relaxed);
        self.bytes += len;
        self.segments.insert(at, Early { seq, payload });
    }

    /// The kept bytes that begin at `next`, if there are any; what lies before it is forgotten.
    pub(super) fn front(&mut self, next: SeqNumber) -> Option<&[u8]> {
        while let Some(early) = self.segments.first() {
            let skip = next.since(early.seq);
            if skip < 0 {
                return None;
            }
            if (skip as usize) < early.payload.len() {
                break;
            }
            let early = self.segments.remove(0);
            self.give_back(early.payload.len());
        }
        let early = self.segments.first()?;
        early.payload.get(next.since(early.seq) as usize..)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    fn give_back(&mut self, bytes: usize) {
        self.bytes -= bytes;
        self.budget.0.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for Reorder {
    fn drop(&mut self) {
        self.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keep(reorder: &mut Reorder, seq: u32, bytes: &[u8]) {
        reorder.keep(SeqNumber(seq), bytes.len(), |to| to.copy_from_slice(bytes));
    }

    #[test]
    fn comes_out_in_order_without_what_is_old() {
        let budget = Budget::default();
        let mut reorder = Reorder::new(&budget);
        keep(&mut reorder, 20, b"klmno");
        keep(&mut reorder, 10, b"abcde");
        keep(&mut reorder, 10, b"abcde");
        keep(&mut reorder, 12, b"cdefg");
        assert_eq!(reorder.front(SeqNumber(9)), None);
        assert_eq!(reorder.front(SeqNumber(11)), Some(&b"bcde"[..]));
        assert_eq!(reorder.front(SeqNumber(15)), Some(&b"fg"[..]));
        assert_eq!(reorder.front(SeqNumber(17)), None);
        assert_eq!(budget.0.load(Ordering::Relaxed), 5);
        drop(reorder);
        assert_eq!(budget.0.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn is_bounded_per_flow_and_in_all() {
        let budget = Budget::default();
        let mut flows: Vec<_> = (0..100).map(|_| Reorder::new(&budget)).collect();
        for flow in &mut flows {
            for n in 0..100u32 {
                keep(flow, n * 100_000, &[0; 60_000]);
            }
            assert!(flow.bytes <= PER_FLOW && flow.segments.len() <= SEGMENTS);
        }
        assert!(budget.0.load(Ordering::Relaxed) <= TOTAL);
        let mut small = Reorder::new(&Budget::default());
        for n in 0..1000u32 {
            keep(&mut small, n * 2, b"x");
        }
        assert_eq!(small.segments.len(), SEGMENTS);
    }
}
