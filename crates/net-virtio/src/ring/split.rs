//! Split virtqueues (VIRTIO 1.3, section 2.7).

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};

use super::descriptor::{Descriptor, INDIRECT, LEN, NEXT, Table};
use super::handshake::say_then_look;
use super::inflight::{InflightLog, SplitLog};
use super::{
    Buffers, Chain, Form, Mark, QueueSetup, QueueState, RingFeatures, RingPart, Single, Written,
    entries, part, passes,
};
use crate::error::{QueueError, SetupError};
use crate::memory::{GuestMemory, Window};

/// In the available ring's flags: the driver wants no interrupt.
const NO_INTERRUPT: u16 = 1;
/// In the used ring's flags: the device wants no kick.
const NO_NOTIFY: u16 = 1;
/// Bytes in front of the entries of either ring: flags and index.
const RING_HEADER: usize = 4;
/// Bytes of an entry of the used ring.
const USED_ENTRY: usize = 8;

/// A split ring, seen from the device.
pub(crate) struct SplitRing {
    descriptors: NonNull<u8>,
    available: NonNull<u8>,
    used: NonNull<u8>,
    size: u16,
    features: RingFeatures,
    /// Chains taken, modulo 65,536.
    next_available: u16,
    /// What the driver's index was when last read.
    seen_available: u16,
    /// Chains given back, modulo 65,536; and how many of them the driver has been shown.
    next_used: u16,
    published: u16,
    /// The driver has been asked to kick.
    listening: bool,
    log: Option<Box<SplitLog>>,
}

// SAFETY: the pointers lead to guest memory, which no thread owns; the ring itself belongs to one.
unsafe impl Send for SplitRing {}

impl SplitRing {
    pub(super) fn new(
        setup: &QueueSetup,
        features: RingFeatures,
        memory: &GuestMemory,
        log: Option<InflightLog>,
    ) -> Result<Self, SetupError> {
        let size = setup.size;
        if !size.is_power_of_two() || size > 0x8000 {
            return Err(SetupError::Size(size));
        }
        let n = u64::from(size);
        // With the event fields behind the rings, which are there whether negotiated or not.
        let (available_len, used_len) = (6 + 2 * n, 6 + 8 * n);
        let mut ring = Self {
            descriptors: part(memory, "descriptor table", setup.descriptors, LEN * n, 16)?,
            available: part(memory, "available ring", setup.driver, available_len, 2)?,
            used: part(memory, "used ring", setup.device, used_len, 4)?,
            size,
            features,
            next_available: 0,
            seen_available: 0,
            next_used: 0,
            published: 0,
            listening: true,
            log: None,
        };
        if let QueueState::Split { available } = setup.state {
            ring.next_available = available;
        }
        // What was given back before stands in the ring.
        ring.next_used = u16::from_le(ring.used_u16(2).load(Ordering::Relaxed));
        ring.published = ring.next_used;
        if let Some(log) = log {
            let available = u16::from_le(ring.available_u16(2).load(Ordering::Acquire));
            let (log, known) = SplitLog::resume(log, size, ring.next_used, available)?;
            if known {
                ring.next_available = ring.next_used;
            }
            ring.log = Some(Box::new(log));
        }
        ring.seen_available = ring.next_available;
        Ok(ring)
    }

    /// The head of the next chain, where another back end has left it and the log has it.
    #[inline]
    fn left_over(&self) -> Option<u16> {
        self.log.as_ref()?.left_over(self.next_available)
    }

    /// The state is asked for, and is all there is to know.
    pub(super) fn end_log(&mut self) {
        if let Some(log) = self.log.take() {
            log.end();
        }
    }

    /// The 16-bit field at byte `at` of the available ring, an even number within it.
    #[inline]
    fn available_u16(&self, at: usize) -> &AtomicU16 {
        // SAFETY: `new` has checked range and alignment; the owner keeps the memory mapped.
        unsafe { AtomicU16::from_ptr(self.available.as_ptr().add(at).cast()) }
    }

    /// The 16-bit field at byte `at` of the used ring, an even number within it.
    #[inline]
    fn used_u16(&self, at: usize) -> &AtomicU16 {
        // SAFETY: as in `available_u16`.
        unsafe { AtomicU16::from_ptr(self.used.as_ptr().add(at).cast()) }
    }

    #[inline]
    fn slot(&self, index: u16) -> usize {
        usize::from(index & (self.size - 1))
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
        if self.next_available == self.seen_available && !self.look()? {
            return Ok(None);
        }
        let head = self.left_over().unwrap_or_else(|| {
            let at = RING_HEADER + 2 * self.slot(self.next_available);
            u16::from_le(self.available_u16(at).load(Ordering::Relaxed))
        });
        let first = out.pieces.len() as u32;
        self.walk(head, memory, out)?;
        self.next_available = self.next_available.wrapping_add(1);
        Ok(Some(Chain {
            id: head,
            slots: 1,
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
        let first = self.next_available;
        if usize::from(self.seen_available.wrapping_sub(first)) < out.len() && self.look().is_err()
        {
            return 0;
        }
        let ready = self.seen_available.wrapping_sub(first);
        let mut view = *window;
        let mut found = 0;
        // At most as many as the ring is long, by `look`.
        let ready = usize::from(ready).min(out.len());
        let (first, mask) = (usize::from(first), usize::from(self.size - 1));
        for place in out.get_mut(..ready).unwrap_or_default() {
            // Indices wrap at a multiple of the ring's length.
            let at = RING_HEADER + 2 * ((first + found) & mask);
            let id = u16::from_le(self.available_u16(at).load(Ordering::Relaxed));
            let Ok(descriptor) = self.descriptor(id) else {
                break;
            };
            let flags = descriptor.third;
            if let Some(single) = descriptor.single(id, flags, form, memory, &mut view) {
                *place = single;
            } else if !self.look_behind(descriptor, id, memory, form, place) {
                break;
            }
            found += 1;
        }
        *window = view;
        found
    }

    /// Puts the chain into `place` where it is a descriptor for the header and one for the frame, or a
    /// table; whether it is.
    // Not part of the loop: chains of one descriptor keep its registers.
    #[inline(never)]
    fn look_behind(
        &self,
        head: Descriptor,
        id: u16,
        memory: &GuestMemory,
        form: Form,
        place: &mut Single,
    ) -> bool {
        let found = if head.third & INDIRECT != 0 {
            self.look_into(&head, id, memory, form)
        } else if head.is_header(head.third, form) {
            // One that is its own successor has one, and is not the last.
            let frame = self.descriptor(head.fourth).ok();
            frame.and_then(|frame| frame.behind(&head, id, frame.third, form, memory))
        } else {
            None
        };
        let Some(single) = found else {
            return false;
        };
        *place = single;
        true
    }

    /// The same for the chain in an indirect table.
    #[inline]
    fn look_into(
        &self,
        outer: &Descriptor,
        id: u16,
        memory: &GuestMemory,
        form: Form,
    ) -> Option<Single> {
        if !self.features.indirect || outer.third & NEXT != 0 {
            return None;
        }
        let table = Table::of(outer, memory).ok()?;
        let head = table.get(0)?;
        if head.third & NEXT == 0 {
            let mut window = Window::NONE;
            return head.single(id, head.third, form, memory, &mut window);
        }
        if !head.is_header(head.third, form) {
            return None;
        }
        let frame = table.get(head.fourth.into())?;
        frame.behind(&head, id, frame.third, form, memory)
    }

    #[inline]
    pub(super) fn take(&mut self, singles: &[Single]) {
        // At most a batch.
        self.next_available = self.next_available.wrapping_add(singles.len() as u16);
    }

    /// Reads the driver's index; whether it is ahead of ours.
    #[inline]
    fn look(&mut self) -> Result<bool, QueueError> {
        // Acquire: what the driver wrote before its index is read after it.
        let available = u16::from_le(self.available_u16(2).load(Ordering::Acquire));
        if available.wrapping_sub(self.next_available) > self.size {
            return Err(QueueError::AvailableIndex {
                available,
                seen: self.next_available,
                size: self.size,
            });
        }
        self.seen_available = available;
        Ok(available != self.next_available)
    }

    /// Descriptor `index` of the table.
    #[inline]
    fn descriptor(&self, index: u16) -> Result<Descriptor, QueueError> {
        if index >= self.size {
            return Err(QueueError::DescriptorIndex {
                index,
                len: self.size.into(),
            });
        }
        let offset = usize::from(index) * LEN as usize;
        // SAFETY: within the table, which `new` has found mapped and aligned.
        Ok(unsafe { Descriptor::read_aligned(self.descriptors.as_ptr().add(offset)) })
    }

    #[inline]
    fn walk(&self, head: u16, memory: &GuestMemory, out: &mut Buffers) -> Result<(), QueueError> {
        let first = self.descriptor(head)?;
        if first.third & (NEXT | INDIRECT) == 0 {
            return first.buffer(first.third, memory, out);
        }
        self.walk_chain(first, memory, out)
    }

    fn walk_chain(
        &self,
        first: Descriptor,
        memory: &GuestMemory,
        out: &mut Buffers,
    ) -> Result<(), QueueError> {
        let mut descriptor = first;
        // A chain longer than the table goes round.
        for _ in 0..self.size {
            let flags = descriptor.third;
            if flags & INDIRECT != 0 {
                // VIRTIO 1.3, 2.7.5.3.1: never together with a successor.
                if !self.features.indirect || flags & NEXT != 0 {
                    return Err(QueueError::Indirect(descriptor.len));
                }
                return walk_indirect(&descriptor, memory, out);
            }
            descriptor.buffer(flags, memory, out)?;
            if flags & NEXT == 0 {
                return Ok(());
            }
            descriptor = self.descriptor(descriptor.fourth)?;
        }
        Err(QueueError::ChainTooLong(self.size))
    }

    #[inline]
    pub(super) fn mark(&self) -> Mark {
        Mark(self.next_available, false)
    }

    #[inline]
    pub(super) fn reset(&mut self, mark: Mark) {
        self.next_available = mark.0;
    }

    #[inline]
    pub(super) fn push(&mut self, id: u16, _slots: u16, written: u32) {
        self.put_used(self.next_used, id, written);
        self.next_used = self.next_used.wrapping_add(1);
    }

    #[inline]
    pub(super) fn push_singles(&mut self, singles: &[Single]) {
        for (n, single) in (0u16..).zip(singles) {
            self.put_used(self.next_used.wrapping_add(n), single.id, single.written);
        }
        // At most a batch.
        self.next_used = self.next_used.wrapping_add(singles.len() as u16);
    }

    /// Writes the used entry of number `index`.
    #[inline(always)]
    fn put_used(&self, index: u16, id: u16, written: u32) {
        let at = RING_HEADER + USED_ENTRY * self.slot(index);
        let field = |at: usize| {
            // SAFETY: `new` has checked range and alignment, and entries are multiples of 4.
            unsafe { AtomicU32::from_ptr(self.used.as_ptr().add(at).cast()) }
        };
        field(at).store(u32::from(id).to_le(), Ordering::Relaxed);
        field(at + 4).store(written.to_le(), Ordering::Relaxed);
    }

    #[inline]
    pub(super) fn publish(&mut self) -> bool {
        let (old, new) = (self.published, self.next_used);
        if old == new {
            return false;
        }
        self.published = new;
        if self.log.is_none() {
            say_then_look(|| self.show(new), || self.is_awaited(old, new))
        } else {
            self.show_and_note(old, new);
            say_then_look(|| (), || self.is_awaited(old, new))
        }
    }

    /// Whether the driver sleeps until something between `old` and `new` is given back.
    #[inline(always)]
    fn is_awaited(&self, old: u16, new: u16) -> bool {
        if self.features.event_index {
            let at = RING_HEADER + 2 * usize::from(self.size);
            let event = u16::from_le(self.available_u16(at).load(Ordering::Relaxed));
            passes(event, new, old)
        } else {
            u16::from_le(self.available_u16(0).load(Ordering::Relaxed)) & NO_INTERRUPT == 0
        }
    }

    #[inline]
    fn show(&self, used: u16) {
        // Release: entries and buffers are written before the index that shows them.
        self.used_u16(2).store(used.to_le(), Ordering::Release);
    }

    #[inline(never)]
    fn show_and_note(&mut self, old: u16, new: u16) {
        if let Some(mut log) = self.log.take() {
            log.publish(old, new, |used| self.show(used));
            self.log = Some(log);
        }
    }

    pub(super) fn unpublished(&self) -> [Written; 3] {
        let count = self.next_used.wrapping_sub(self.published);
        let first = self.published & (self.size - 1);
        let (before, entry) = (RING_HEADER as u64, USED_ENTRY as u64);
        let [a, b] = entries(RingPart::Device, before, entry, self.size, first, count);
        let [header, _] = self.suppression();
        [a, b, header]
    }

    pub(super) fn suppression(&self) -> [Written; 2] {
        let piece = |offset: usize, len| Written {
            part: RingPart::Device,
            offset: offset as u64,
            len,
        };
        let event = RING_HEADER + USED_ENTRY * usize::from(self.size);
        [piece(0, RING_HEADER as u64), piece(event, 2)]
    }

    pub(super) fn writable(&self) -> [Written; 2] {
        let [first, event] = self.suppression();
        let len = event.offset + event.len;
        [Written { len, ..first }, event]
    }

    pub(super) fn enable_kicks(&mut self) -> bool {
        self.listening = true;
        let next = self.next_available;
        say_then_look(
            || match self.features.event_index {
                true => self.wish(next),
                false => self.used_u16(0).store(0, Ordering::Relaxed),
            },
            || u16::from_le(self.available_u16(2).load(Ordering::Acquire)) != next,
        )
    }

    #[inline]
    pub(super) fn disable_kicks(&mut self) {
        if !self.listening {
            return;
        }
        self.listening = false;
        match self.features.event_index {
            // Behind what was taken: passed only where the driver's index has gone once around.
            true => self.wish(self.next_available.wrapping_sub(1)),
            false => self.used_u16(0).store(NO_NOTIFY.to_le(), Ordering::Relaxed),
        }
    }

    /// Asks to be told when the driver's index passes `event`.
    #[inline]
    fn wish(&self, event: u16) {
        let at = RING_HEADER + USED_ENTRY * usize::from(self.size);
        self.used_u16(at).store(event.to_le(), Ordering::Relaxed);
    }

    pub(super) fn state(&self) -> QueueState {
        QueueState::Split {
            available: self.next_available,
        }
    }
}

/// The chain in an indirect table.
fn walk_indirect(
    outer: &Descriptor,
    memory: &GuestMemory,
    out: &mut Buffers,
) -> Result<(), QueueError> {
    let table = Table::of(outer, memory)?;
    let mut index = 0;
    for _ in 0..table.len {
        let descriptor = table.get(index.into()).ok_or(QueueError::DescriptorIndex {
            index,
            len: table.len,
        })?;
        let flags = descriptor.third;
        if flags & INDIRECT != 0 {
            return Err(QueueError::Indirect(descriptor.len));
        }
        descriptor.buffer(flags, memory, out)?;
        if flags & NEXT == 0 {
            return Ok(());
        }
        index = descriptor.fourth;
    }
    Err(QueueError::ChainTooLong(table.len as u16))
}
