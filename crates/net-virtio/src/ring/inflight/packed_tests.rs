use std::cell::RefCell;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::*;

const SIZE: u16 = 4;
const WORDS: usize = InflightLog::len(true, SIZE) / 8;
/// Flags of a slot, in its second word: made available, and given back, in the first round.
const AVAILABLE: u64 = 1 << 55;
const USED: u64 = 1 << 55 | 1 << 63;

/// Memory of a log, and the second words of a ring's slots.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Kept {
    log: Vec<u64>,
    ring: [u64; SIZE as usize],
}

impl Kept {
    fn new() -> Self {
        Self {
            log: vec![0; WORDS],
            ring: [0; SIZE as usize],
        }
    }

    /// A ring whose slots are all available in this round, of one descriptor each.
    fn all_available(wrap: bool) -> Self {
        let word = if wrap { AVAILABLE } else { 1 << 63 };
        Self {
            ring: [0, 1, 2, 3].map(|id| word | id << 32),
            ..Self::new()
        }
    }

    fn bytes(&mut self, at: usize, bytes: &[u8]) -> &mut Self {
        for (at, byte) in (at..).zip(bytes) {
            let mut word = self.log[at / 8].to_ne_bytes();
            word[at % 8] = *byte;
            self.log[at / 8] = u64::from_ne_bytes(word);
        }
        self
    }

    fn halves(&mut self, at: usize, values: &[u16]) -> &mut Self {
        let bytes: Vec<u8> = values.iter().flat_map(|it| it.to_ne_bytes()).collect();
        self.bytes(at, &bytes)
    }

    /// The log of another back end.
    fn foreign(free: [u16; 2], state: State) -> Self {
        let mut kept = Self::all_available(state.old.1);
        kept.halves(8, &[1, SIZE, free[0], free[1]]);
        kept.bytes(AT_STATE, &state.to_bytes());
        for entry in 0..SIZE {
            kept.halves(at(entry, NEXT), &[entry + 1]);
        }
        kept
    }

    /// Has a chain of these entries in flight; its buffer is named after the first.
    fn in_flight(&mut self, counter: u64, entries: &[u16]) -> &mut Self {
        let (first, last) = (entries[0], *entries.last().unwrap());
        for pair in entries.windows(2) {
            self.halves(at(pair[0], NEXT), &[pair[1]]);
        }
        self.bytes(at(first, 0), &[1]);
        self.halves(at(first, LAST), &[last, entries.len() as u16]);
        self.bytes(at(first, COUNTER), &counter.to_ne_bytes());
        self.halves(at(last, ID), &[first, 0])
    }

    fn resume(&self) -> Result<Resumed, SetupError> {
        let words: Vec<AtomicU64> = self.log.iter().copied().map(AtomicU64::new).collect();
        let memory: Arc<[AtomicU64]> = words.into();
        let start = NonNull::from(&memory[0]).cast();
        // SAFETY: `WORDS` words, which are reached by atomics only and which the log owns.
        let log = unsafe { InflightLog::new(start, true, SIZE, Arc::new(Arc::clone(&memory))) };
        let ring = RefCell::new(self.ring);
        let available = |(slot, wrap): Place| {
            let word = ring.borrow()[usize::from(slot)];
            (word & 1 << 55 != 0) == wrap && (word & 1 << 63 != 0) != wrap
        };
        let put = |slot: u16, word| ring.borrow_mut()[usize::from(slot)] = word;
        let (log, place) = PackedLog::resume(log.unwrap(), SIZE, available, put)?;
        Ok(Resumed {
            log,
            place,
            memory,
            ring,
        })
    }
}

struct Resumed {
    log: PackedLog,
    place: Option<Place>,
    memory: Arc<[AtomicU64]>,
    ring: RefCell<[u64; SIZE as usize]>,
}

impl Resumed {
    fn kept(&self) -> Kept {
        let words = self.memory.iter();
        Kept {
            log: words.map(|word| word.load(Ordering::Relaxed)).collect(),
            ring: *self.ring.borrow(),
        }
    }

    /// The ids and slots of chains that were left.
    fn left(&self) -> Vec<(u16, u16)> {
        let left = self.log.left.iter();
        left.map(|left| {
            let end = left.before as usize + usize::from(left.slots);
            (self.log.descriptors[end - 1].third, left.slots)
        })
        .collect()
    }

    /// Shows the batch; what is kept before and after each word.
    fn publish(&mut self) -> Vec<Kept> {
        let moments = RefCell::new(Vec::new());
        let (memory, ring) = (Arc::clone(&self.memory), &self.ring);
        let look = || {
            let words = memory.iter();
            moments.borrow_mut().push(Kept {
                log: words.map(|word| word.load(Ordering::Relaxed)).collect(),
                ring: *ring.borrow(),
            });
        };
        self.log.publish(|slot, word| {
            look();
            ring.borrow_mut()[usize::from(slot)] = word;
            look();
        });
        moments.into_inner()
    }
}

#[test]
fn places_go_round() {
    assert_eq!(after((0, true), 3, 4), (3, true));
    assert_eq!(after((1, true), 3, 4), (0, false));
    assert_eq!(after((3, false), 4, 4), (3, true));
    for state in [
        State::at((0x1234, true)),
        State {
            new: (5, false),
            old: (0x7fff, true),
            noted: true,
        },
    ] {
        assert_eq!(State::from_bytes(state.to_bytes()), state);
    }
}

/// Two chains, of two slots and of one, that were taken in the other order; then one of the ring's.
#[test]
fn a_batch_is_shown_or_was_never_wherever_the_process_ends() {
    let mut kept = Kept::foreign([3, 3], State::at((1, true)));
    kept.in_flight(9, &[0]).in_flight(4, &[1, 2]);
    kept.ring[0] = 1 << 63;
    let mut resumed = kept.resume().unwrap();
    assert_eq!(resumed.place, Some((1, true)));
    assert_eq!(resumed.left(), [(1, 2), (0, 1)]);
    let places = [(1, true), (2, true), (3, true), (0, false)];
    let left = places.map(|place| resumed.log.left_over(place).map(<[_]>::len));
    assert_eq!(left, [Some(2), None, Some(1), None]);
    let before = resumed.kept();
    resumed.log.push(1, 2, USED | 1 << 32);
    resumed.log.push(3, 1, USED);
    // In the next round.
    resumed.log.push(0, 1, 5 << 32);
    let moments = resumed.publish();
    assert_eq!(moments.len(), 6);
    for (n, moment) in moments.iter().enumerate() {
        let next = moment.resume().unwrap();
        if n < 3 {
            // Not before the first word.
            assert_eq!(next.place, Some((1, true)), "{n}");
            assert_eq!(next.left(), [(1, 2), (0, 1)], "{n}");
            assert_eq!(next.log.state(), State::at((1, true)));
            assert_eq!(next.kept().ring[0], before.ring[0]);
        } else if n == 3 {
            assert_eq!(next.place, Some((0, false)));
            assert!(next.left().is_empty());
        } else {
            // That of the ring's, which is given back from its note.
            assert_eq!(next.place, Some((1, false)), "{n}");
            assert!(next.left().is_empty());
            assert_eq!(next.kept().ring[0], 5 << 32);
        }
        assert_eq!(next.kept().resume().unwrap().place, next.place);
    }
    let end = resumed.kept();
    assert_eq!(end.resume().unwrap().place, Some((1, false)));
    assert_eq!(resumed.log.in_flight(), [0; 0]);
    // All entries are free again.
    let mut free = Vec::new();
    let mut entry = resumed.log.log.half(AT_OLD_FREE).load(Ordering::Relaxed);
    while entry < SIZE {
        free.push(entry);
        entry = resumed.log.half(entry, NEXT);
    }
    assert_eq!(free, [0, 1, 2, 3]);
}

/// Some of them are given back, then the rest.
#[test]
fn chains_that_were_left_may_come_back_in_several_batches() {
    let mut kept = Kept::foreign([3, 3], State::at((3, true)));
    kept.in_flight(1, &[0]).in_flight(2, &[1, 2]);
    let mut resumed = kept.resume().unwrap();
    assert_eq!(resumed.left(), [(0, 1), (1, 2)]);
    resumed.log.push(3, 1, USED);
    resumed.publish();
    resumed.log.end();
    assert!(resumed.log.left_over((0, false)).is_some());
    let mut next = resumed.kept().resume().unwrap();
    assert_eq!(next.place, Some((0, false)));
    assert_eq!(next.left(), [(1, 2)]);
    next.log.push(0, 2, 1 << 32);
    next.publish();
    assert_eq!(next.kept().resume().unwrap().place, Some((2, false)));
    next.log.end();
    assert_eq!(next.kept().resume().unwrap().place, None);
}

/// Another back end ended between two words of its own.
#[test]
fn what_another_back_end_was_about_to_write() {
    let state = |new, old| State {
        new,
        old,
        noted: false,
    };
    // Taking a chain: its entry is free, and nothing else is.
    let mut kept = Kept::foreign([2, 1], State::at((0, true)));
    kept.in_flight(0, &[0]).in_flight(1, &[1]);
    assert_eq!(kept.resume().unwrap().left(), [(0, 1)]);
    // Giving back chain 0, which the driver does not see; the index passes the end before it is cut.
    for new in [(1, true), (SIZE, true), (0x8000, false)] {
        let mut kept = Kept::foreign([0, 2], state(new, (0, true)));
        kept.in_flight(0, &[0]).in_flight(1, &[1]);
        let next = kept.resume().unwrap();
        assert_eq!((next.place, next.left().len()), (Some((0, true)), 2));
    }
    // Given back: the driver sees it, and it is in flight for want of a word.
    let mut kept = Kept::foreign([0, 2], state((1, true), (0, true)));
    kept.in_flight(0, &[0]).in_flight(1, &[1]);
    kept.halves(at(0, NEXT), &[2]);
    kept.ring[0] = USED;
    let next = kept.resume().unwrap();
    assert_eq!((next.place, next.left()), (Some((1, true)), vec![(1, 1)]));
    assert_eq!(next.log.log.half(AT_OLD_FREE).load(Ordering::Relaxed), 0);
    // A whole ring, not shown; and shown.
    let round = state((2, false), (2, true));
    let mut kept = Kept::foreign([0, SIZE], round);
    kept.in_flight(0, &[0, 1, 2, 3]);
    let next = kept.resume().unwrap();
    assert_eq!((next.place, next.left()), (Some((2, true)), vec![(0, 4)]));
    kept.ring[2] = USED;
    let next = kept.resume().unwrap();
    assert_eq!((next.place, next.left().len()), (Some((2, false)), 0));
    // All is written but the last wrap counter; the slot is of the round before, skipped then.
    let mut kept = Kept::foreign([1, 1], round);
    kept.in_flight(0, &[0]);
    let next = kept.resume().unwrap();
    assert_eq!((next.place, next.left()), (Some((2, false)), vec![(0, 1)]));
}

#[test]
fn logs_that_cannot_be_are_refused() {
    let refused = |kept: &Kept| kept.resume().err();
    let begin = || Kept::foreign([3, 3], State::at((0, true)));
    assert!(begin().resume().is_ok());
    for entries in [[0u16, 0].as_slice(), &[0, 1, 0]] {
        assert!(refused(begin().in_flight(0, entries)).is_some());
    }
    // Not its last; no slot; no entry; an entry of two chains.
    let broken = |at: usize, to: u16| refused(begin().in_flight(0, &[0, 1]).halves(at, &[to]));
    assert!(broken(at(0, LAST), 1).is_none());
    assert!(broken(at(0, LAST), 0).is_some());
    assert!(broken(at(0, NUM), 0).is_some());
    assert!(broken(at(0, NUM), 3).is_some());
    assert!(broken(at(0, NEXT), 9).is_some());
    assert!(refused(begin().in_flight(0, &[0, 1]).in_flight(1, &[1])).is_some());
    assert!(refused(begin().in_flight(0, &[0, 1]).in_flight(1, &[2])).is_none());
    for place in [(SIZE, true), (0xffff, false)] {
        assert!(refused(&Kept::foreign([0, 0], State::at(place))).is_some());
    }
    // A free list that goes round, and one that leads nowhere.
    assert!(refused(begin().halves(at(3, NEXT), &[3])).is_none());
    assert!(refused(begin().halves(AT_OLD_FREE, &[0xffff])).is_none());
}
