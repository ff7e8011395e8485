//! What is in flight, noted in memory that outlives this process (vhost-user, "Inflight I/O tracking").
//!
//! Chains are taken and given back within one call, in the order in which they were made available. So
//! nothing is in flight between two calls, and what a call has not given back when the process ends can
//! be taken again, all of it, from the place to which chains were given back. For a split ring that
//! stands in the ring; for a packed one nowhere but here. This device therefore never marks a chain as
//! being in flight: it notes, once a batch, how far it has come, by the rules for a batch.
//!
//! Other back ends finish chains in any order, and may have left some. Those of a split ring are taken
//! up first, as the log has them; a packed ring with any is refused.
//!
//! The front-end holds the same memory. It is read when a ring starts, once, and checked.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

use crate::error::SetupError;
use crate::memory::Owner;

/// The only version there is; 0 is a region that nobody has used.
const VERSION: u16 = 1;
/// Fields of both formats.
const AT_FEATURES: usize = 0;
const AT_VERSION: usize = 8;
const AT_LEN: usize = 10;

/// A split ring's: the newest of the last batch, the used index, then the descriptors.
mod split {
    pub(super) const LAST_BATCH: usize = 12;
    pub(super) const USED: usize = 14;
    pub(super) const ENTRIES: usize = 16;
    pub(super) const ENTRY: usize = 16;
    /// In an entry.
    pub(super) const NEXT: usize = 6;
    pub(super) const COUNTER: usize = 8;
}

/// A packed ring's: free entries, the place to give back next with its wrap counter, each as it is and as
/// it was before the batch under way.
mod packed {
    pub(super) const FREE: usize = 12;
    pub(super) const OLD_FREE: usize = 14;
    pub(super) const USED: usize = 16;
    pub(super) const OLD_USED: usize = 18;
    pub(super) const WRAP: usize = 20;
    pub(super) const OLD_WRAP: usize = 21;
    pub(super) const ENTRIES: usize = 32;
    pub(super) const ENTRY: usize = 32;
    /// In an entry.
    pub(super) const NEXT: usize = 2;
    pub(super) const NUM: usize = 6;
    pub(super) const ID: usize = 16;
    pub(super) const FLAGS: usize = 18;
    pub(super) const LEN: usize = 20;
}

/// The region of one queue.
pub(crate) struct InflightLog {
    start: NonNull<u8>,
    /// Descriptors it has entries for.
    entries: u16,
    packed: bool,
    _owner: Owner,
}

// SAFETY: an address of memory that the owner (`Send + Sync`) keeps mapped; bytes are reached by atomics.
unsafe impl Send for InflightLog {}

impl InflightLog {
    /// Bytes of a region for a queue of so many descriptors.
    #[cfg_attr(not(target_os = "linux"), allow(dead_code))]
    pub(crate) const fn len(packed: bool, entries: u16) -> usize {
        let (header, entry) = match packed {
            false => (split::ENTRIES, split::ENTRY),
            true => (packed::ENTRIES, packed::ENTRY),
        };
        header + entry * entries as usize
    }

    /// The region at `start`; `None` where that is not aligned to 8 bytes.
    ///
    /// # Safety
    /// As many bytes as [`Self::len`] says are mapped and writable as long as `owner` lives, and no Rust
    /// reference to them exists.
    #[cfg_attr(not(target_os = "linux"), allow(dead_code))]
    pub(crate) unsafe fn new(
        start: NonNull<u8>,
        packed: bool,
        entries: u16,
        owner: Owner,
    ) -> Option<Self> {
        start.cast::<u64>().is_aligned().then_some(Self {
            start,
            entries,
            packed,
            _owner: owner,
        })
    }

    /// The address of `len` bytes, a power of two, at `at`, a multiple of it.
    fn at(&self, at: usize, len: usize) -> *mut u8 {
        debug_assert!(at.is_multiple_of(len) && at + len <= Self::len(self.packed, self.entries));
        // SAFETY: within the region: fields are constants in front of its entries, and entries are asked
        // for by numbers less than `entries`.
        unsafe { self.start.as_ptr().add(at) }
    }

    fn byte(&self, at: usize) -> &AtomicU8 {
        // SAFETY: mapped by contract of `new`.
        unsafe { AtomicU8::from_ptr(self.at(at, 1)) }
    }

    fn half(&self, at: usize) -> &AtomicU16 {
        // SAFETY: mapped by contract of `new`, and aligned as the region is.
        unsafe { AtomicU16::from_ptr(self.at(at, 2).cast()) }
    }

    fn long(&self, at: usize) -> &AtomicU32 {
        // SAFETY: as in `half`.
        unsafe { AtomicU32::from_ptr(self.at(at, 4).cast()) }
    }

    fn word(&self, at: usize) -> &AtomicU64 {
        // SAFETY: as in `half`.
        unsafe { AtomicU64::from_ptr(self.at(at, 8).cast()) }
    }

    /// Whether somebody has used the region.
    ///
    /// # Errors
    /// [`SetupError::Inflight`] where it is not for a queue of `size` descriptors, or of the future.
    fn is_used(&self, packed: bool, size: u16) -> Result<bool, SetupError> {
        if self.packed != packed || size > self.entries {
            return Err(SetupError::Inflight("is too short"));
        }
        match self.half(AT_VERSION).load(Ordering::Acquire) {
            0 => Ok(false),
            VERSION if self.half(AT_LEN).load(Ordering::Relaxed) >= size => Ok(true),
            _ => Err(SetupError::Inflight("is of another format")),
        }
    }

    /// Shows a region that was written from its beginning.
    fn begin(&self) {
        self.word(AT_FEATURES).store(0, Ordering::Relaxed);
        self.half(AT_LEN).store(self.entries, Ordering::Relaxed);
        self.half(AT_VERSION).store(VERSION, Ordering::Release);
    }

    /// Nothing is in flight, and whoever starts the queue knows where it stands.
    fn end(&self) {
        self.half(AT_VERSION).store(0, Ordering::Release);
    }
}

/// A split ring's log.
pub(super) struct SplitLog {
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
    pub(super) fn resume(
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
        log.half(split::LAST_BATCH).store(0, Ordering::Relaxed);
        resumed.note(used);
        resumed.log.begin();
        Ok((resumed, false))
    }

    fn entry(head: u16) -> usize {
        split::ENTRIES + split::ENTRY * usize::from(head)
    }

    fn inflight(&self, head: u16) -> &AtomicU8 {
        self.log.byte(Self::entry(head))
    }

    fn next(&self, head: u16) -> &AtomicU16 {
        self.log.half(Self::entry(head) + split::NEXT)
    }

    /// Strikes off what was given back last, where the process ended before it had.
    fn strike_last_batch(&self, size: u16, used: u16) {
        let noted = self.log.half(split::USED).load(Ordering::Acquire);
        let batch = used.wrapping_sub(noted);
        if batch > size {
            // The log of a ring that was here before.
            return;
        }
        let mut head = self.log.half(split::LAST_BATCH).load(Ordering::Relaxed);
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
            let at = Self::entry(head) + split::COUNTER;
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
        self.log.half(split::USED).store(used, Ordering::Release);
    }

    /// The head of chain `number`, where it is one that was left.
    pub(super) fn left_over(&self, number: u16) -> Option<u16> {
        let at = number.wrapping_sub(self.from);
        self.again.get(usize::from(at)).copied()
    }

    /// Shows with `show` that chains `old` up to `new` were given back, and notes it.
    pub(super) fn publish(&mut self, old: u16, new: u16, show: impl Fn(u16)) {
        let count = new.wrapping_sub(old);
        let left: Vec<u16> = (0..count)
            .map_while(|at| self.left_over(old.wrapping_add(at)))
            .collect();
        if !left.is_empty() {
            // A batch of its own: its length is told by the two used indices alone.
            for head in &left {
                let newest = self.log.half(split::LAST_BATCH);
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
    pub(super) fn end(&self) {
        if self.again.is_empty() {
            self.log.end();
        }
    }
}

/// A slot of a packed ring and the wrap counter of the device when it is there.
pub(super) type Place = (u16, bool);

/// A packed ring's log.
///
/// What gives a chain back overwrites its descriptor. So a batch is noted whole before a word of it is
/// written into the ring, and its first word, which shows it, is written last: a process that takes the
/// log up finds the batch shown, or carries it out from the notes.
pub(super) struct PackedLog {
    log: InflightLog,
    /// The slot of each chain given back and not shown, and what is to be written there.
    batch: Vec<(u16, u64)>,
}

impl PackedLog {
    /// Takes up the log of a ring of `size` descriptors: where it stands, if the log knows.
    /// `is_available` tells whether the driver waits for a slot, `put` writes a slot's second word.
    ///
    /// # Errors
    /// [`SetupError::Inflight`] for what cannot be a log of this ring, or has chains in flight.
    pub(super) fn resume(
        log: InflightLog,
        size: u16,
        is_available: impl Fn(Place) -> bool,
        put: impl Fn(u16, u64),
    ) -> Result<(Self, Option<Place>), SetupError> {
        let known = log.is_used(true, size)?;
        let mut resumed = Self {
            log,
            batch: Vec::new(),
        };
        if !known {
            resumed.clear();
            return Ok((resumed, None));
        }
        let log = &resumed.log;
        let place = |slot: usize, wrap: usize| {
            let slot = log.half(slot).load(Ordering::Acquire);
            (slot, log.byte(wrap).load(Ordering::Acquire) != 0)
        };
        let new = place(packed::USED, packed::WRAP);
        let old = place(packed::OLD_USED, packed::OLD_WRAP);
        if new.0 >= size || old.0 >= size {
            return Err(SetupError::Inflight("is of another ring"));
        }
        let inflight = |entry| log.byte(Self::entry(entry)).load(Ordering::Relaxed) != 0;
        if (0..size).any(inflight) {
            return Err(SetupError::Inflight("has chains of a packed ring"));
        }
        if new != old && is_available(old) {
            resumed.batch = resumed.noted(size, old, new)?;
        }
        resumed.publish(new, put);
        Ok((resumed, Some(new)))
    }

    /// Everything as in a region that nobody has used, but for where the ring stands.
    fn clear(&self) {
        for entry in 0..self.log.entries {
            let at = Self::entry(entry);
            self.log.byte(at).store(0, Ordering::Relaxed);
            let next = self.log.half(at + packed::NEXT);
            next.store(entry.saturating_add(1), Ordering::Relaxed);
        }
        self.log.half(packed::FREE).store(0, Ordering::Relaxed);
        self.log.half(packed::OLD_FREE).store(0, Ordering::Relaxed);
    }

    fn entry(slot: u16) -> usize {
        packed::ENTRIES + packed::ENTRY * usize::from(slot)
    }

    /// The batch that was noted from `old` up to `new`.
    fn noted(&self, size: u16, old: Place, new: Place) -> Result<Vec<(u16, u64)>, SetupError> {
        let mut batch = Vec::new();
        let (mut slot, mut wrap) = old;
        // Every chain has a slot at least, and they go round once at most.
        for _ in 0..size {
            let at = Self::entry(slot);
            let half = |field| self.log.half(at + field).load(Ordering::Relaxed);
            let (slots, id, flags) = (half(packed::NUM), half(packed::ID), half(packed::FLAGS));
            let len = self.log.long(at + packed::LEN).load(Ordering::Relaxed);
            if slots == 0 || slots > size {
                break;
            }
            let word = u64::from(len) | u64::from(id) << 32 | u64::from(flags) << 48;
            batch.push((slot, word));
            let end = u32::from(slot) + u32::from(slots);
            let around = end >= u32::from(size);
            slot = if around { end - u32::from(size) } else { end } as u16;
            wrap ^= around;
            if (slot, wrap) == new {
                return Ok(batch);
            }
        }
        Err(SetupError::Inflight("has half a batch"))
    }

    /// Notes that the chain which began in `slot` and took `slots` is given back with this word.
    pub(super) fn push(&mut self, slot: u16, slots: u16, word: u64) {
        let at = Self::entry(slot);
        let half = |field, value| self.log.half(at + field).store(value, Ordering::Relaxed);
        half(packed::NUM, slots);
        half(packed::ID, (word >> 32) as u16);
        half(packed::FLAGS, (word >> 48) as u16);
        self.log
            .long(at + packed::LEN)
            .store(word as u32, Ordering::Relaxed);
        self.batch.push((slot, word));
    }

    /// Shows the batch with `put`, after which the ring stands at `new`.
    pub(super) fn publish(&mut self, new: Place, put: impl Fn(u16, u64)) {
        self.set(packed::USED, packed::WRAP, new);
        for (slot, word) in self.batch.iter().rev() {
            put(*slot, *word);
        }
        self.batch.clear();
        self.set(packed::OLD_USED, packed::OLD_WRAP, new);
    }

    /// The ring begins here.
    pub(super) fn begin(&self, at: Place) {
        self.set(packed::USED, packed::WRAP, at);
        self.set(packed::OLD_USED, packed::OLD_WRAP, at);
        self.log.begin();
    }

    fn set(&self, slot: usize, wrap: usize, to: Place) {
        // Release: what was noted before is there when this is, and so with what was shown.
        self.log.half(slot).store(to.0, Ordering::Release);
        let to = u8::from(to.1);
        self.log.byte(wrap).store(to, Ordering::Release);
    }

    /// The ring stops, and its state is asked for.
    pub(super) fn end(&self) {
        self.log.end();
    }
}
