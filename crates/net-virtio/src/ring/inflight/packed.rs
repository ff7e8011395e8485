//! The log of a packed ring: where it stands, and what another back end has left.
//!
//! What gives a chain back overwrites its descriptor. So a batch is noted whole before a word of it is
//! written into the ring, and its first word, which shows it, is written last: a process that takes the
//! log up finds the batch shown, or carries it out from the notes. The notes lie in entries that
//! nobody needs, the number of a slot being the number of its entry.
//!
//! Chains that another back end has left have entries with all of their descriptors, and a batch of them
//! goes by the specification's rules: it is shown, or was never. They come before all others, and
//! their entries are free when the first notes are written.

use std::sync::atomic::Ordering;

use super::InflightLog;
use crate::error::SetupError;
use crate::ring::descriptor::Descriptor;

/// The first free entry, as it is and as it was before the batch under way.
const AT_FREE: usize = 12;
const AT_OLD_FREE: usize = 14;
/// The place to give back next, as it is and as it was, each with its wrap counter: one word, written at
/// once. The specification leaves its last two bytes alone; one of them says that a batch is noted.
const AT_STATE: usize = 16;
pub(super) const AT_ENTRIES: usize = 32;
/// Bytes of an entry, and what is in it besides its first byte, which says whether its chain is in flight:
/// links to the next free entry or of the chain, and to the chain's last, how many it has; then a
/// descriptor as in the ring.
pub(super) const ENTRY: usize = 32;
const NEXT: usize = 2;
const LAST: usize = 4;
const NUM: usize = 6;
const COUNTER: usize = 8;
const ID: usize = 16;
const FLAGS: usize = 18;
const LEN: usize = 20;
const ADDRESS: usize = 24;

/// A slot of a packed ring and the wrap counter of the device when it is there.
pub(in crate::ring) type Place = (u16, bool);

/// The place `slots` further, at most once around a ring of `size`.
fn after((slot, wrap): Place, slots: u16, size: u16) -> Place {
    let end = u32::from(slot) + u32::from(slots);
    match end.checked_sub(size.into()) {
        // Less than `size`, as `slot` and `slots` are at most.
        Some(around) => (around as u16, !wrap),
        None => (end as u16, wrap),
    }
}

/// How far a ring has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct State {
    new: Place,
    old: Place,
    /// What is between them is noted.
    noted: bool,
}

impl State {
    fn at(place: Place) -> Self {
        Self {
            new: place,
            old: place,
            noted: false,
        }
    }

    fn from_bytes(bytes: [u8; 8]) -> Self {
        let [a, b, c, d, wrap, old_wrap, noted, _] = bytes;
        Self {
            new: (u16::from_ne_bytes([a, b]), wrap != 0),
            old: (u16::from_ne_bytes([c, d]), old_wrap != 0),
            noted: noted != 0,
        }
    }

    fn to_bytes(self) -> [u8; 8] {
        let ([a, b], [c, d]) = (self.new.0.to_ne_bytes(), self.old.0.to_ne_bytes());
        let [wrap, old_wrap, noted] = [self.new.1, self.old.1, self.noted].map(u8::from);
        [a, b, c, d, wrap, old_wrap, noted, 0]
    }
}

/// A chain that another back end has left.
struct Left {
    /// Its first entry and its last.
    entry: u16,
    last: u16,
    /// Slots of all that are taken before it, and its own: as many descriptors.
    before: u32,
    slots: u16,
}

/// A chain that is given back: its slot, how many it took, and what is to be written there.
struct Given {
    slot: u16,
    slots: u16,
    word: u64,
}

/// A packed ring's log.
pub(in crate::ring) struct PackedLog {
    log: InflightLog,
    size: u16,
    /// Where the ring stands, as the driver knows it.
    at: Place,
    /// Given back and not shown.
    batch: Vec<Given>,
    /// What is left of what was left, in order; the descriptors of all there were, and where the ring
    /// stood then.
    left: Vec<Left>,
    descriptors: Vec<Descriptor>,
    from: Place,
}

impl PackedLog {
    /// Takes up the log of a ring of `size` descriptors: where it stands, if the log knows.
    /// `is_available` tells whether the driver waits for a slot, `put` writes a slot's second word.
    ///
    /// # Errors
    /// [`SetupError::Inflight`] for what cannot be a log of this ring.
    pub(in crate::ring) fn resume(
        log: InflightLog,
        size: u16,
        is_available: impl Fn(Place) -> bool,
        put: impl Fn(u16, u64),
    ) -> Result<(Self, Option<Place>), SetupError> {
        let known = log.is_used(true, size)?;
        let mut resumed = Self {
            log,
            size,
            at: (0, true),
            batch: Vec::new(),
            left: Vec::new(),
            descriptors: Vec::new(),
            from: (0, true),
        };
        if !known {
            resumed.clear();
            return Ok((resumed, None));
        }
        let state = resumed.state();
        if state.old.0 >= size {
            return Err(SetupError::Inflight("is of another ring"));
        }
        let waits = state.new != state.old && is_available(state.old);
        let in_flight = resumed.in_flight();
        if waits && state.noted && in_flight.is_empty() {
            resumed.at = state.old;
            resumed.batch = resumed.noted(state)?;
            resumed.show(put);
        } else {
            // A batch of a whole ring ends where it began. Where less than that is in flight, another back end
            // was about to write the last byte, and what waits in that slot is of the round before.
            let slots = in_flight
                .iter()
                .map(|head| u32::from(resumed.half(*head, NUM)));
            let turned = state.new.0 == state.old.0 && slots.sum::<u32>() < size.into();
            resumed.settle(state, state.new != state.old && (!waits || turned))?;
        }
        let at = resumed.at;
        resumed.from = at;
        Ok((resumed, Some(at)))
    }

    /// Finishes a batch that was `shown`, takes back one that was not; finds what is in flight.
    fn settle(&mut self, state: State, shown: bool) -> Result<(), SetupError> {
        let (place, free) = match shown {
            true => (state.new, AT_FREE),
            false => (state.old, AT_OLD_FREE),
        };
        if place.0 >= self.size {
            return Err(SetupError::Inflight("is of another ring"));
        }
        let free = self.log.half(free).load(Ordering::Relaxed);
        self.strike(free);
        (self.left, self.descriptors) = self.left_chains()?;
        self.log.half(AT_FREE).store(free, Ordering::Relaxed);
        self.confirm(place);
        Ok(())
    }

    /// Entries of the free list are not in flight, whatever they say: the process ended before it had
    /// struck them off, or before it had taken the chain.
    fn strike(&self, mut entry: u16) {
        for _ in 0..self.log.entries {
            if entry >= self.log.entries {
                return;
            }
            self.set_in_flight(entry, false);
            entry = self.half(entry, NEXT);
        }
    }

    /// The first entries of chains in flight.
    fn in_flight(&self) -> Vec<u16> {
        let says = |entry: &u16| self.log.byte(at(*entry, 0)).load(Ordering::Acquire) != 0;
        (0..self.log.entries).filter(says).collect()
    }

    /// The chains in flight, in the order in which they were taken, and their descriptors.
    fn left_chains(&self) -> Result<(Vec<Left>, Vec<Descriptor>), SetupError> {
        let counter = |entry| self.log.word(at(entry, COUNTER)).load(Ordering::Relaxed);
        let heads = self.in_flight().into_iter();
        let mut heads: Vec<_> = heads.map(|head| (counter(head), head)).collect();
        heads.sort_unstable();
        let mut seen = vec![false; self.log.entries.into()];
        let (mut left, mut descriptors) = (Vec::new(), Vec::new());
        for (_, entry) in heads {
            left.push(self.left_chain(entry, &mut seen, &mut descriptors)?);
        }
        // Whoever took them had the driver's word for each slot.
        match descriptors.len() > self.size.into() {
            true => Err(SetupError::Inflight("has more chains than there are")),
            false => Ok((left, descriptors)),
        }
    }

    /// The chain that begins in this entry, whose descriptors are appended; no entry belongs to two.
    fn left_chain(
        &self,
        entry: u16,
        seen: &mut [bool],
        descriptors: &mut Vec<Descriptor>,
    ) -> Result<Left, SetupError> {
        const BROKEN: SetupError = SetupError::Inflight("has a chain that is broken");
        // No more than there are entries.
        let before = descriptors.len() as u32;
        let slots = self.half(entry, NUM);
        let mut last = entry;
        for n in 0..slots {
            if n > 0 {
                last = self.half(last, NEXT);
            }
            let seen = seen.get_mut(usize::from(last)).ok_or(BROKEN)?;
            if std::mem::replace(seen, true) {
                return Err(BROKEN);
            }
            descriptors.push(Descriptor {
                address: self.log.word(at(last, ADDRESS)).load(Ordering::Relaxed),
                len: self.log.long(at(last, LEN)).load(Ordering::Relaxed),
                third: self.half(last, ID),
                fourth: self.half(last, FLAGS),
            });
        }
        if slots == 0 || self.half(entry, LAST) != last {
            return Err(BROKEN);
        }
        Ok(Left {
            entry,
            last,
            before,
            slots,
        })
    }

    /// The descriptors of the chain at this place, where it is one that was left.
    pub(in crate::ring) fn left_over(&self, at: Place) -> Option<&[Descriptor]> {
        if self.left.is_empty() {
            return None;
        }
        let (slot, from) = (u32::from(at.0), u32::from(self.from.0));
        let around = if at.1 == self.from.1 { 0 } else { self.size };
        let before = (slot + u32::from(around)).checked_sub(from)?;
        let found = self.left.binary_search_by_key(&before, |left| left.before);
        let slots = self.left.get(found.ok()?)?.slots;
        let rest = self.descriptors.get(before as usize..)?;
        rest.get(..slots.into())
    }

    /// Everything as in a region that nobody has used, but for where the ring stands.
    fn clear(&self) {
        for entry in 0..self.log.entries {
            self.set_in_flight(entry, false);
            self.set_half(entry, NEXT, entry.saturating_add(1));
        }
        self.log.half(AT_FREE).store(0, Ordering::Relaxed);
        self.log.half(AT_OLD_FREE).store(0, Ordering::Relaxed);
    }

    fn half(&self, entry: u16, field: usize) -> u16 {
        self.log.half(at(entry, field)).load(Ordering::Relaxed)
    }

    fn set_half(&self, entry: u16, field: usize, to: u16) {
        self.log.half(at(entry, field)).store(to, Ordering::Relaxed);
    }

    fn set_in_flight(&self, entry: u16, to: bool) {
        let byte = self.log.byte(at(entry, 0));
        byte.store(to.into(), Ordering::Release);
    }

    fn state(&self) -> State {
        let word = self.log.word(AT_STATE).load(Ordering::Acquire);
        State::from_bytes(word.to_ne_bytes())
    }

    fn set_state(&self, state: State) {
        // Release: what was noted before is there when this is, and so with what was shown.
        let word = u64::from_ne_bytes(state.to_bytes());
        self.log.word(AT_STATE).store(word, Ordering::Release);
    }

    /// Nothing is under way.
    fn confirm(&mut self, place: Place) {
        let free = self.log.half(AT_FREE).load(Ordering::Relaxed);
        self.log.half(AT_OLD_FREE).store(free, Ordering::Release);
        self.set_state(State::at(place));
        self.at = place;
    }

    /// The batch that was noted.
    fn noted(&self, state: State) -> Result<Vec<Given>, SetupError> {
        let mut batch = Vec::new();
        let mut place = state.old;
        // Every chain has a slot at least, and they go round once at most.
        for _ in 0..self.size {
            let (slot, slots) = (place.0, self.half(place.0, NUM));
            if slots == 0 || slots > self.size {
                break;
            }
            let (id, flags) = (self.half(slot, ID), self.half(slot, FLAGS));
            let len = self.log.long(at(slot, LEN)).load(Ordering::Relaxed);
            let word = u64::from(len) | u64::from(id) << 32 | u64::from(flags) << 48;
            batch.push(Given { slot, slots, word });
            place = after(place, slots, self.size);
            if place == state.new {
                return Ok(batch);
            }
        }
        Err(SetupError::Inflight("has half a batch"))
    }

    /// The chain which began in `slot` and took `slots` is given back with this word.
    pub(in crate::ring) fn push(&mut self, slot: u16, slots: u16, word: u64) {
        self.batch.push(Given { slot, slots, word });
    }

    /// Shows the batch with `put`.
    pub(in crate::ring) fn publish(&mut self, put: impl Fn(u16, u64)) {
        self.show_left(&put);
        if self.batch.is_empty() {
            return;
        }
        for given in &self.batch {
            let Given { slot, slots, word } = *given;
            self.set_half(slot, NUM, slots);
            self.set_half(slot, ID, (word >> 32) as u16);
            self.set_half(slot, FLAGS, (word >> 48) as u16);
            let len = self.log.long(at(slot, LEN));
            len.store(word as u32, Ordering::Relaxed);
        }
        self.show(put);
    }

    /// Where the ring stands behind a batch.
    fn behind(&self, batch: &[Given]) -> Place {
        let advance = |place, given: &Given| after(place, given.slots, self.size);
        batch.iter().fold(self.at, advance)
    }

    /// Shows the batch, which is noted.
    fn show(&mut self, put: impl Fn(u16, u64)) {
        let new = self.behind(&self.batch);
        self.set_state(State {
            new,
            old: self.at,
            noted: true,
        });
        for given in self.batch.drain(..).rev() {
            put(given.slot, given.word);
        }
        self.confirm(new);
    }

    /// Shows those of the batch that were left, which are in front.
    fn show_left(&mut self, put: impl Fn(u16, u64)) {
        let count = self.left.len().min(self.batch.len());
        if count == 0 {
            return;
        }
        let mut free = self.log.half(AT_FREE).load(Ordering::Relaxed);
        for left in self.left.iter().take(count) {
            self.set_half(left.last, NEXT, free);
            free = left.entry;
            self.log.half(AT_FREE).store(free, Ordering::Release);
        }
        let rest = self.batch.split_off(count);
        let batch = std::mem::replace(&mut self.batch, rest);
        let new = self.behind(&batch);
        self.set_state(State {
            new,
            old: self.at,
            noted: false,
        });
        for given in batch.iter().rev() {
            put(given.slot, given.word);
        }
        for left in self.left.drain(..count) {
            let byte = self.log.byte(at(left.entry, 0));
            byte.store(0, Ordering::Release);
        }
        if self.left.is_empty() {
            self.descriptors = Vec::new();
        }
        self.confirm(new);
    }

    /// The ring begins here.
    pub(in crate::ring) fn begin(&mut self, place: Place) {
        self.confirm(place);
        self.log.begin();
    }

    /// The ring stops, and its state is asked for.
    pub(in crate::ring) fn end(&self) {
        if self.left.is_empty() {
            self.log.end();
        }
    }
}

/// Where a field of an entry is.
fn at(entry: u16, field: usize) -> usize {
    AT_ENTRIES + ENTRY * usize::from(entry) + field
}

#[cfg(test)]
#[path = "packed_tests.rs"]
mod tests;
