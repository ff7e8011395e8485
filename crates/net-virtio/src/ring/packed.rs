//! Packed virtqueues (VIRTIO 1.3, section 2.8).
//!
//! One ring of descriptors for both directions. Two bits of each tell whose it is, against a *wrap
//! counter* that each side flips when it passes the end.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering, fence};

use super::descriptor::{Descriptor, INDIRECT, LEN, NEXT, Table, WRITE};
use super::handshake::say_then_look;
use super::inflight::{InflightLog, PackedLog, Place};
use super::{
    Buffers, Chain, Form, Mark, QueueSetup, QueueState, RingFeatures, RingPart, Single, Written,
    entries, part, passes,
};
use crate::error::{QueueError, SetupError};
use crate::memory::{GuestMemory, Window};

const AVAILABLE: u16 = 1 << 7;
const USED: u16 = 1 << 15;
/// Event suppression: always, never, or at a descriptor (2.8.10).
const EVENTS_ON: u16 = 0;
const EVENTS_OFF: u16 = 1;
const EVENTS_AT: u16 = 2;
/// The wrap counter in an offset.
const WRAP: u16 = 1 << 15;

/// A slot and the wrap counter of the side that has come to it.
#[derive(Clone, Copy)]
struct Position {
    slot: u16,
    wrap: bool,
}

impl Position {
    const START: Self = Self {
        slot: 0,
        wrap: true,
    };

    /// From a slot with the counter in bit 15; `None` past the end of the ring.
    fn decode(word: u16, size: u16) -> Option<Self> {
        let slot = word & !WRAP;
        (slot < size).then_some(Self {
            slot,
            wrap: word & WRAP != 0,
        })
    }

    fn encode(self) -> u16 {
        self.slot | if self.wrap { WRAP } else { 0 }
    }

    /// `slots` further, at most once around.
    #[inline]
    fn advance(&mut self, slots: u16, size: u16) {
        debug_assert!(slots <= size, "{slots} slots of {size}");
        let at = u32::from(self.slot) + u32::from(slots);
        let around = at >= u32::from(size);
        self.slot = if around { at - u32::from(size) } else { at } as u16;
        self.wrap ^= around;
    }
}

impl From<Place> for Position {
    fn from((slot, wrap): Place) -> Self {
        Self { slot, wrap }
    }
}

impl From<Position> for Place {
    fn from(at: Position) -> Self {
        (at.slot, at.wrap)
    }
}

/// A packed ring, seen from the device.
pub(crate) struct PackedRing {
    descriptors: NonNull<u8>,
    driver_events: NonNull<u8>,
    device_events: NonNull<u8>,
    size: u16,
    features: RingFeatures,
    available: Position,
    used: Position,
    /// Slots given back since the driver was last considered for an interrupt.
    pushed: u16,
    /// The driver has been asked to kick.
    listening: bool,
    log: Option<Box<PackedLog>>,
}

// SAFETY: the pointers lead to guest memory, which no thread owns; the ring itself belongs to one.
unsafe impl Send for PackedRing {}

impl PackedRing {
    pub(super) fn new(
        setup: &QueueSetup,
        features: RingFeatures,
        memory: &GuestMemory,
        log: Option<InflightLog>,
    ) -> Result<Self, SetupError> {
        let size = setup.size;
        if size == 0 || size > 0x8000 {
            return Err(SetupError::Size(size));
        }
        let (available, used) = match setup.state {
            QueueState::Packed { available, used } => (
                Position::decode(available, size).ok_or(SetupError::Size(size))?,
                Position::decode(used, size).ok_or(SetupError::Size(size))?,
            ),
            QueueState::Fresh | QueueState::Split { .. } => (Position::START, Position::START),
        };
        let ring = LEN * u64::from(size);
        let mut ring = Self {
            descriptors: part(memory, "descriptor ring", setup.descriptors, ring, 16)?,
            driver_events: part(memory, "driver event suppression", setup.driver, 4, 4)?,
            device_events: part(memory, "device event suppression", setup.device, 4, 4)?,
            size,
            features,
            available,
            used,
            pushed: 0,
            listening: true,
            log: None,
        };
        if let Some(log) = log {
            let is_available = |at: Place| ring.look(at.into()).is_some();
            let put = |slot, word| ring.put(slot, word);
            let (mut log, place) = PackedLog::resume(log, size, is_available, put)?;
            match place {
                Some(place) => (ring.available, ring.used) = (place.into(), place.into()),
                None => log.begin(ring.used.into()),
            }
            ring.log = Some(Box::new(log));
        }
        Ok(ring)
    }

    /// The descriptors of the next chain, where another back end has left it and the log has it.
    #[inline]
    fn left_over(&self) -> Option<&[Descriptor]> {
        self.log.as_ref()?.left_over(self.available.into())
    }

    /// The state is asked for, and is all there is to know.
    pub(super) fn end_log(&mut self) {
        if let Some(log) = self.log.take() {
            log.end();
        }
    }

    /// Writes the second half of a slot, which gives it back.
    #[inline]
    fn put(&self, slot: u16, word: u64) {
        // Release: the buffers are written before the word that gives them back.
        self.word(slot).store(word.to_le(), Ordering::Release);
    }

    /// The second half of a slot: length, id and flags, in one word.
    #[inline]
    fn word(&self, slot: u16) -> &AtomicU64 {
        debug_assert!(slot < self.size);
        // SAFETY: `slot` is within the ring, which `new` has found mapped and aligned.
        unsafe {
            let at = self
                .descriptors
                .as_ptr()
                .add(usize::from(slot) * LEN as usize + 8);
            AtomicU64::from_ptr(at.cast())
        }
    }

    /// What the slot holds, if the driver has made it available.
    #[inline]
    fn look(&self, at: Position) -> Option<Descriptor> {
        // Acquire, and whole: the flags say whether the rest may be read, and came last.
        let rest = u64::from_le(self.word(at.slot).load(Ordering::Acquire));
        let flags = (rest >> 48) as u16;
        let wanted = match at.wrap {
            true => AVAILABLE,
            false => USED,
        };
        if flags & (AVAILABLE | USED) != wanted {
            return None;
        }
        // SAFETY: as in `word`; the first half of the slot.
        let address = unsafe {
            let first = self
                .descriptors
                .as_ptr()
                .add(usize::from(at.slot) * LEN as usize);
            AtomicU64::from_ptr(first.cast())
        };
        let address = u64::from_le(address.load(Ordering::Relaxed));
        Some(Descriptor::from_words(address, rest))
    }

    #[inline]
    pub(super) fn size(&self) -> u16 {
        self.size
    }

    #[inline]
    pub(super) fn pop(
        &mut self,
        memory: &GuestMemory,
        out: &mut Buffers,
    ) -> Result<Option<Chain>, QueueError> {
        if self.left_over().is_some() {
            return self.pop_left(memory, out);
        }
        let first = out.pieces.len() as u32;
        let mut at = self.available;
        let Some(mut descriptor) = self.look(at) else {
            return Ok(None);
        };
        let mut slots = 1;
        loop {
            let flags = descriptor.fourth;
            at.advance(1, self.size);
            if flags & INDIRECT != 0 {
                if !self.features.indirect || slots > 1 || flags & NEXT != 0 {
                    return Err(QueueError::Indirect(descriptor.len));
                }
                walk_indirect(&descriptor, memory, out)?;
                break;
            }
            descriptor.buffer(flags, memory, out)?;
            if flags & NEXT == 0 {
                break;
            }
            if slots == self.size {
                return Err(QueueError::ChainTooLong(self.size));
            }
            slots += 1;
            // The first slot was shown last (2.8.8), so the others are there already.
            descriptor = self.look(at).ok_or(QueueError::DescriptorIndex {
                index: at.slot,
                len: self.size.into(),
            })?;
        }
        self.available = at;
        Ok(Some(Chain {
            // The last slot of a chain names it (2.8.6).
            id: descriptor.third,
            slots,
            first,
            end: out.pieces.len() as u32,
        }))
    }

    /// [`Self::pop`] for a chain that another back end has left, whose slots may be others' by now.
    #[cold]
    fn pop_left(
        &mut self,
        memory: &GuestMemory,
        out: &mut Buffers,
    ) -> Result<Option<Chain>, QueueError> {
        let first = out.pieces.len() as u32;
        let descriptors = self.left_over().unwrap_or_default();
        // No more than the ring has.
        let slots = descriptors.len() as u16;
        let mut id = 0;
        for descriptor in descriptors {
            let flags = descriptor.fourth;
            if flags & INDIRECT != 0 {
                if !self.features.indirect || slots > 1 || flags & NEXT != 0 {
                    return Err(QueueError::Indirect(descriptor.len));
                }
                walk_indirect(descriptor, memory, out)?;
            } else {
                descriptor.buffer(flags, memory, out)?;
            }
            id = descriptor.third;
        }
        self.available.advance(slots, self.size);
        Ok(Some(Chain {
            id,
            slots,
            first,
            end: out.pieces.len() as u32,
        }))
    }

    /// Fills `out` from the front with the next chains; how many there were.
    // A function of its own: its loop has registers enough where it is not part of another.
    #[inline(never)]
    pub(super) fn look_ahead(
        &mut self,
        memory: &GuestMemory,
        window: &mut Window,
        form: Form,
        out: &mut [Single],
    ) -> usize {
        if self.left_over().is_some() {
            return 0;
        }
        let mut at = self.available;
        let mut view = *window;
        let mut found = 0;
        // Once around at most, whatever the driver makes of its flags meanwhile: there is a slot for each
        // place, and for chains of two those that are spare.
        let size = usize::from(self.size);
        let mut spare = size.saturating_sub(out.len());
        let most = out.len().min(size);
        let mut places = out.get_mut(..most).unwrap_or_default().iter_mut();
        while let Some(place) = places.next() {
            let Some(descriptor) = self.look(at) else {
                break;
            };
            let (id, flags) = (descriptor.third, descriptor.fourth);
            at.advance(1, self.size);
            if let Some(single) = descriptor.single(id, flags, form, memory, &mut view) {
                *place = single;
            } else {
                match self.look_behind(descriptor, at, memory, form, place) {
                    0 => break,
                    1 => {}
                    _ if spare > 0 => {
                        spare -= 1;
                        at.advance(1, self.size);
                    }
                    _ if places.next_back().is_some() => at.advance(1, self.size),
                    _ => break,
                }
            }
            found += 1;
        }
        *window = view;
        found
    }

    /// Puts the chain into `place` where it is a slot for the header and one for the frame, which is at
    /// `next`, or a table; the slots it takes, 0 where it is neither.
    // Not part of the loop: chains of one slot keep its registers.
    #[inline(never)]
    fn look_behind(
        &self,
        head: Descriptor,
        next: Position,
        memory: &GuestMemory,
        form: Form,
        place: &mut Single,
    ) -> u16 {
        let (found, slots) = if head.fourth & INDIRECT != 0 {
            (self.look_into(&head, memory, form), 1)
        } else if head.is_header(head.fourth, form) {
            let frame = self.look(next);
            let behind =
                |frame: Descriptor| frame.behind(&head, frame.third, frame.fourth, form, memory);
            (frame.and_then(behind), 2)
        } else {
            (None, 0)
        };
        let Some(single) = found else {
            return 0;
        };
        *place = single;
        place.slots = slots;
        slots
    }

    /// The same for the buffers in an indirect table.
    #[inline]
    fn look_into(&self, outer: &Descriptor, memory: &GuestMemory, form: Form) -> Option<Single> {
        if !self.features.indirect || outer.fourth & NEXT != 0 {
            return None;
        }
        let table = Table::of(outer, memory).ok()?;
        let head = table.get(0)?;
        // Which descriptor is the last one says the table's length alone (2.8.7).
        match table.len {
            1 => {
                let (mut window, flags) = (Window::NONE, head.fourth & !NEXT);
                head.single(outer.third, flags, form, memory, &mut window)
            }
            2 if head.is_header(head.fourth | NEXT, form) => {
                let frame = table.get(1)?;
                frame.behind(&head, outer.third, frame.fourth & !NEXT, form, memory)
            }
            _ => None,
        }
    }

    #[inline]
    pub(super) fn take(&mut self, singles: &[Single]) {
        // No more than the ring has.
        let slots = singles.iter().map(|single| single.slots).sum();
        self.available.advance(slots, self.size);
    }

    #[inline]
    pub(super) fn mark(&self) -> Mark {
        Mark(self.available.slot, self.available.wrap)
    }

    #[inline]
    pub(super) fn reset(&mut self, mark: Mark) {
        self.available = Position {
            slot: mark.0,
            wrap: mark.1,
        };
    }

    #[inline]
    pub(super) fn push(&mut self, id: u16, slots: u16, written: u32) {
        if self.log.is_some() {
            return self.push_noted(id, slots, written);
        }
        let word = returned(self.used.wrap, id, written);
        self.put(self.used.slot, word);
        self.advance_used(slots);
    }

    /// Gives back later, with the batch.
    #[inline(never)]
    fn push_noted(&mut self, id: u16, slots: u16, written: u32) {
        let word = returned(self.used.wrap, id, written);
        if let Some(log) = &mut self.log {
            log.push(self.used.slot, slots, word);
        }
        self.advance_used(slots);
    }

    #[inline(always)]
    fn advance_used(&mut self, slots: u16) {
        self.used.advance(slots, self.size);
        self.pushed = self.pushed.saturating_add(slots);
    }

    #[inline]
    pub(super) fn push_singles(&mut self, singles: &[Single]) {
        if self.log.is_some() {
            for single in singles {
                self.push_noted(single.id, single.slots, single.written);
            }
            return;
        }
        let (mut used, mut slots) = (self.used, 0);
        for single in singles {
            self.put(used.slot, returned(used.wrap, single.id, single.written));
            used.advance(single.slots, self.size);
            slots += single.slots;
        }
        self.used = used;
        self.pushed = self.pushed.saturating_add(slots);
    }

    #[inline]
    pub(super) fn publish(&mut self) -> bool {
        let pushed = core::mem::take(&mut self.pushed);
        if pushed == 0 {
            return false;
        }
        if self.log.is_some() {
            self.show_noted();
        }
        // As for split rings: show first, then ask whether the driver sleeps.
        fence(Ordering::SeqCst);
        let flags = u16::from_le(self.driver_event(2).load(Ordering::Acquire)) & 3;
        if flags != EVENTS_AT || !self.features.event_index {
            return flags != EVENTS_OFF;
        }
        let word = u16::from_le(self.driver_event(0).load(Ordering::Relaxed));
        let mut event = word & !WRAP;
        if (word & WRAP != 0) != self.used.wrap {
            // It was written in the round before.
            event = event.wrapping_sub(self.size);
        }
        let new = self.used.slot;
        passes(event, new, new.wrapping_sub(pushed))
    }

    #[inline(never)]
    fn show_noted(&mut self) {
        if let Some(mut log) = self.log.take() {
            log.publish(|slot, word| self.put(slot, word));
            self.log = Some(log);
        }
    }

    #[inline]
    fn driver_event(&self, at: usize) -> &AtomicU16 {
        // SAFETY: four aligned bytes, found by `new`; `at` is 0 or 2.
        unsafe { AtomicU16::from_ptr(self.driver_events.as_ptr().add(at).cast()) }
    }

    #[inline]
    fn device_event(&self, at: usize) -> &AtomicU16 {
        // SAFETY: four aligned bytes, found by `new`; `at` is 0 or 2.
        unsafe { AtomicU16::from_ptr(self.device_events.as_ptr().add(at).cast()) }
    }

    pub(super) fn unpublished(&self) -> [Written; 3] {
        let count = self.pushed.min(self.size);
        let first = match self.used.slot.checked_sub(count) {
            Some(first) => first,
            // Around the end; `used` is within the ring.
            None => self.size - (count - self.used.slot),
        };
        let part = RingPart::Descriptors;
        let [a, b] = entries(part, 0, LEN, self.size, first, count);
        [a, b, Written { len: 0, ..a }]
    }

    pub(super) fn suppression(&self) -> [Written; 2] {
        let events = Written {
            part: RingPart::Device,
            offset: 0,
            len: 4,
        };
        [events, Written { len: 0, ..events }]
    }

    pub(super) fn writable(&self) -> [Written; 2] {
        let [events, _] = self.suppression();
        let ring = Written {
            part: RingPart::Descriptors,
            offset: 0,
            len: LEN * u64::from(self.size),
        };
        [ring, events]
    }

    pub(super) fn enable_kicks(&mut self) -> bool {
        let how = if self.features.event_index {
            let next = self.available.encode();
            self.device_event(0).store(next.to_le(), Ordering::Relaxed);
            EVENTS_AT
        } else {
            EVENTS_ON
        };
        self.listening = true;
        say_then_look(
            // Release: the offset is there before the flag that makes it count.
            || self.device_event(2).store(how.to_le(), Ordering::Release),
            || self.left_over().is_some() || self.look(self.available).is_some(),
        )
    }

    #[inline]
    pub(super) fn disable_kicks(&mut self) {
        if self.listening {
            self.listening = false;
            self.device_event(2)
                .store(EVENTS_OFF.to_le(), Ordering::Relaxed);
        }
    }

    pub(super) fn state(&self) -> QueueState {
        QueueState::Packed {
            available: self.available.encode(),
            used: self.used.encode(),
        }
    }
}

/// What gives a chain back in a round with this wrap counter.
#[inline(always)]
fn returned(wrap: bool, id: u16, written: u32) -> u64 {
    let mut flags = match wrap {
        true => AVAILABLE | USED,
        false => 0,
    };
    if written > 0 {
        flags |= WRITE;
    }
    u64::from(written) | u64::from(id) << 32 | u64::from(flags) << 48
}

/// The buffers in an indirect table: in a packed ring its length is their number (2.8.7).
fn walk_indirect(
    outer: &Descriptor,
    memory: &GuestMemory,
    out: &mut Buffers,
) -> Result<(), QueueError> {
    let table = Table::of(outer, memory)?;
    for index in 0..table.len {
        // Within the table by the range.
        let Some(descriptor) = table.get(index) else {
            break;
        };
        let flags = descriptor.fourth;
        if flags & INDIRECT != 0 {
            return Err(QueueError::Indirect(descriptor.len));
        }
        descriptor.buffer(flags, memory, out)?;
    }
    Ok(())
}
