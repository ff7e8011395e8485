//! Timers without scans: a wheel of one-second slots.
//!
//! A record stands in the slot of the second after its deadline, as far as is known: a packet that
//! extends a deadline writes the deadline into its record and leaves the wheel alone. When the slot
//! comes round, the record is looked at, and moved if it has time left. So a packet costs nothing
//! here, a timer costs a constant a few times in its life, and what expires in a second is what stood
//! in one list.

use alloc::boxed::Box;

use crate::table::{NONE, Slab, SlabRecord};

/// Seconds the wheel goes round in; deadlines further away are looked at once in so many.
const SLOTS: u32 = 4096;

/// Marks a `previous` that is a slot of the wheel.
const HEAD: u32 = 1 << 31;

/// A record's place in the wheel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Links {
    pub(crate) next: u32,
    previous: u32,
}

/// A record with a deadline.
pub(crate) trait Timed: SlabRecord {
    fn links(&mut self) -> &mut Links;
    /// The last second in which it is alive.
    fn deadline(&self) -> u32;
}

/// The slots.
pub(crate) struct Wheel {
    heads: Box<[u32]>,
    /// The second whose slot is being emptied; all before it are empty.
    tick: u32,
}

/// What the next look at the wheel found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// Nothing is due any more.
    Nothing,
    /// A record had time left, and has a new place.
    Moved,
    /// This record's time is over; it is out of the wheel.
    Expired(u32),
}

impl Wheel {
    /// `now` in seconds.
    pub(crate) fn new(now: u32) -> Self {
        Self {
            heads: alloc::vec![NONE; SLOTS as usize].into_boxed_slice(),
            tick: now,
        }
    }

    /// Puts a record that is in no slot into that of its deadline.
    #[inline]
    pub(crate) fn link<T: Timed>(&mut self, slab: &mut Slab<T>, number: u32) {
        if let Some(&record) = slab.get(number) {
            self.add(slab, number, record);
        }
    }

    /// Writes a record, which is in no slot, and puts it into that of its deadline.
    #[inline(always)]
    pub(crate) fn add<T: Timed>(&mut self, slab: &mut Slab<T>, number: u32, mut record: T) {
        let earliest = self.tick.saturating_add(1);
        let due = record.deadline().saturating_add(1);
        let latest = self.tick.saturating_add(SLOTS - 1);
        let slot = due.max(earliest).min(latest) % SLOTS;
        let Some(head) = self.heads.get_mut(slot as usize) else {
            return;
        };
        let first = core::mem::replace(head, number);
        *record.links() = Links {
            next: first,
            previous: HEAD | slot,
        };
        if let Some(place) = slab.get_mut(number) {
            *place = record;
        }
        if let Some(second) = slab.get_mut(first) {
            second.links().previous = number;
        }
    }

    /// Takes a record out.
    #[inline]
    pub(crate) fn unlink<T: Timed>(&mut self, slab: &mut Slab<T>, number: u32) {
        let Some(record) = slab.get_mut(number) else {
            return;
        };
        let Links { next, previous } = *record.links();
        if previous & HEAD != 0 {
            if let Some(head) = self.heads.get_mut((previous & !HEAD) as usize) {
                *head = next;
            }
        } else if let Some(before) = slab.get_mut(previous) {
            before.links().next = next;
        }
        if let Some(after) = slab.get_mut(next) {
            after.links().previous = previous;
        }
    }

    /// The record that the next [`Self::step`] will look at, if it stands in the slot that is being
    /// emptied.
    #[inline]
    pub(crate) fn peek<'a, T: Timed>(&self, slab: &'a Slab<T>) -> Option<&'a T> {
        let head = self.heads.get((self.tick % SLOTS) as usize)?;
        slab.get(*head)
    }

    /// Looks at one record whose slot has come, if there is one.
    #[inline]
    pub(crate) fn step<T: Timed>(&mut self, slab: &mut Slab<T>, now: u32) -> Due {
        // After a long sleep every slot has come: once round is enough.
        if now.saturating_sub(self.tick) > SLOTS {
            self.tick = now - SLOTS;
        }
        while self.tick <= now {
            let slot = self.tick % SLOTS;
            let number = self.heads.get(slot as usize).copied().unwrap_or(NONE);
            if number == NONE {
                if self.tick == now {
                    return Due::Nothing;
                }
                self.tick += 1;
                continue;
            }
            self.unlink(slab, number);
            let alive = slab.get(number).is_some_and(|r| r.deadline() >= now);
            if !alive {
                return Due::Expired(number);
            }
            self.link(slab, number);
            // In the last second there is no later slot to move to.
            return if self.tick == u32::MAX {
                Due::Nothing
            } else {
                Due::Moved
            };
        }
        Due::Nothing
    }

    /// The second in which [`Self::step`] may next find something, if anything is in the wheel.
    pub(crate) fn next(&self) -> Option<u32> {
        (0..SLOTS).find_map(|ahead| {
            let second = self.tick.checked_add(ahead)?;
            let head = self.heads.get((second % SLOTS) as usize)?;
            (*head != NONE).then_some(second)
        })
    }
}
