//! One ring of a driver that costs next to nothing: descriptors stay, and only what must change does.

use std::sync::atomic::{Ordering, fence};

use net_virtio::QueueSetup;
use net_virtio::driver::{DriverOptions, DriverQueue, GuestRam};
use net_virtio::features;

/// Chains of a ring.
pub(crate) const RING: u16 = 256;
/// Length of the header in front of each frame.
pub(crate) const HEADER: usize = 12;
/// Bytes of a descriptor, and of what a chain has for its header or its table.
const DESCRIPTOR: u64 = 16;
const ASIDE: u64 = 64;

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;
const AVAILABLE: u16 = 1 << 7;
const USED: u16 = 1 << 15;

/// Where a chain has its header.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Header {
    /// In front of the frame, in the one descriptor there is.
    #[default]
    Joined,
    /// In a descriptor of its own.
    Apart,
    /// In a descriptor of its own, both in an indirect table.
    Table,
}

/// Format of a guest's rings, and where its chains have their headers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Layout {
    pub(crate) packed: bool,
    pub(crate) header: Header,
}

impl Layout {
    pub(crate) fn split(header: Header) -> Self {
        Self {
            packed: false,
            header,
        }
    }

    pub(crate) fn packed(header: Header) -> Self {
        Self {
            packed: true,
            header,
        }
    }

    /// Descriptors of a ring that a chain takes.
    fn slots(self) -> u16 {
        1 + u16::from(self.header == Header::Apart)
    }

    /// What a driver acknowledges for it.
    pub(crate) fn features(self) -> u64 {
        let packed = if self.packed {
            features::RING_PACKED
        } else {
            0
        };
        match self.header {
            Header::Table => packed | features::INDIRECT_DESC,
            _ => packed,
        }
    }
}

/// A ring whose chain `n` always has the same descriptors.
pub(crate) struct Ring {
    ram: GuestRam,
    setup: QueueSetup,
    layout: Layout,
    /// Headers that stand apart and tables, by chain.
    aside: u64,
    /// Bytes of a frame, and the flags of a descriptor that holds one.
    len: usize,
    flags: u16,
    /// Chains made available so far, and those found to be given back.
    available: u16,
    used: u16,
}

impl Ring {
    /// Bytes of memory it needs.
    pub(crate) fn footprint(layout: Layout) -> u64 {
        DriverQueue::footprint(RING * layout.slots()) + 2 * ASIDE * u64::from(RING)
    }

    /// A ring that lies from `address` on, for frames of `len` bytes, to be written by the device or read.
    pub(crate) fn new(
        ram: &GuestRam,
        address: u64,
        layout: Layout,
        len: usize,
        write: bool,
    ) -> Self {
        let size = RING * layout.slots();
        let setup = DriverQueue::new(ram, address, size, DriverOptions::default()).setup();
        let ring = Self {
            ram: ram.clone(),
            setup,
            layout,
            aside: address + DriverQueue::footprint(size),
            len,
            flags: if write { WRITE } else { 0 },
            available: 0,
            used: 0,
        };
        for n in 0..RING {
            ring.lay_out(n);
        }
        ring
    }

    pub(crate) fn setup(&self) -> QueueSetup {
        self.setup
    }

    /// Everything of chain `n` that stays.
    fn lay_out(&self, n: u16) {
        let (at, header, table) = (self.descriptor(n), self.header(n), self.table(n));
        let (len, flags) = (self.len as u32, self.flags);
        let next = if self.layout.packed { 0 } else { 2 * n + 1 };
        match self.layout.header {
            Header::Joined => self.put(at, 0, len + HEADER as u32, flags, 0),
            Header::Apart => {
                self.put(at, header, HEADER as u32, flags | NEXT, next);
                self.put(at + DESCRIPTOR, 0, len, flags, 0);
            }
            Header::Table => {
                self.put(at, table, 2 * DESCRIPTOR as u32, INDIRECT, 0);
                self.put(table, header, HEADER as u32, flags | NEXT, 1);
                self.put(table + DESCRIPTOR, 0, len, flags, 0);
            }
        }
        if !self.layout.packed {
            // The ring is as long as the table, its chains are fewer: they come round within it.
            for round in 0..self.layout.slots() {
                let entry = u64::from(n + round * RING);
                let head = n * self.layout.slots();
                self.ram
                    .write(self.setup.driver + 4 + 2 * entry, &head.to_le_bytes());
            }
        }
    }

    /// Writes a descriptor as in split rings and tables. Those of packed rings, and of their tables, have
    /// the last two fields the other way round.
    fn put(&self, at: u64, address: u64, len: u32, flags: u16, next: u16) {
        let (third, fourth) = match self.layout.packed {
            false => (flags, next),
            true => (next, flags),
        };
        self.ram.write(at, &address.to_le_bytes());
        self.ram.write(at + 8, &len.to_le_bytes());
        self.ram.write(at + 12, &third.to_le_bytes());
        self.ram.write(at + 14, &fourth.to_le_bytes());
    }

    fn descriptor(&self, n: u16) -> u64 {
        self.setup.descriptors + DESCRIPTOR * u64::from(n * self.layout.slots())
    }

    fn header(&self, n: u16) -> u64 {
        self.aside + ASIDE * u64::from(n)
    }

    fn table(&self, n: u16) -> u64 {
        self.aside + ASIDE * u64::from(RING + n)
    }

    /// Makes a chain available for each of these buffers, which hold a header and a frame.
    #[inline]
    pub(crate) fn offer(&mut self, buffers: impl Iterator<Item = u64>) {
        // Where the descriptors of frames are, how far apart, and where in a buffer they begin.
        let slots = DESCRIPTOR * u64::from(self.layout.slots());
        let (first, apart, skip) = match self.layout.header {
            Header::Joined => (self.descriptor(0), slots, 0),
            Header::Apart => (self.descriptor(0) + DESCRIPTOR, slots, HEADER as u64),
            Header::Table => (self.table(0) + DESCRIPTOR, ASIDE, HEADER as u64),
        };
        let (packed, mut number) = (self.layout.packed, self.available);
        for buffer in buffers {
            let at = first + apart * u64::from(number % RING);
            self.ram.write(at, &(buffer + skip).to_le_bytes());
            if packed {
                self.show_slots(number);
            }
            number = number.wrapping_add(1);
        }
        self.available = number;
        if !packed {
            self.ram.publish(self.setup.driver + 2, number);
        }
    }

    /// Gives the slots of a packed ring's chain to the device, the first one last.
    fn show_slots(&self, number: u16) {
        let n = number % RING;
        let turn = match self.wrap(number) {
            true => AVAILABLE,
            false => USED,
        };
        let at = self.descriptor(n);
        let (len, flags) = match self.layout.header {
            Header::Joined => (self.len + HEADER, self.flags),
            Header::Apart => {
                let flags = self.flags | turn;
                let second = at + DESCRIPTOR;
                self.ram.write(second + 12, &n.to_le_bytes());
                self.ram.write(second + 14, &flags.to_le_bytes());
                (HEADER, self.flags | NEXT)
            }
            Header::Table => (2 * DESCRIPTOR as usize, INDIRECT),
        };
        self.ram.write(at + 8, &(len as u32).to_le_bytes());
        self.ram.write(at + 12, &n.to_le_bytes());
        self.ram.publish(at + 14, flags | turn);
    }

    /// The wrap counter when chain `number` comes.
    fn wrap(&self, number: u16) -> bool {
        (number / RING).is_multiple_of(2)
    }

    /// Chains that the device has given back and that were not made available again: in a fresh ring all.
    #[inline]
    pub(crate) fn given_back(&mut self) -> u16 {
        if self.layout.packed {
            while self.used != self.available && self.is_used(self.used) {
                self.used = self.used.wrapping_add(1);
            }
        } else {
            self.used = self.ram.index(self.setup.device + 2);
        }
        RING - self.available.wrapping_sub(self.used)
    }

    fn is_used(&self, number: u16) -> bool {
        let flags = self.ram.index(self.descriptor(number % RING) + 14);
        let wanted = match self.wrap(number) {
            true => AVAILABLE | USED,
            false => 0,
        };
        flags & (AVAILABLE | USED) == wanted
    }

    /// Whether the device sleeps and wants to be told of what was made available.
    pub(crate) fn wants_kick(&self) -> bool {
        // Shown first, then asked: the device does it the other way round.
        fence(Ordering::SeqCst);
        let at = if self.layout.packed { 2 } else { 0 };
        self.ram.index(self.setup.device + at) & 1 == 0
    }

    /// Tells the device that nobody wants an interrupt, or that somebody does.
    pub(crate) fn want_interrupts(&self, want: bool) {
        let at = if self.layout.packed { 2 } else { 0 };
        self.ram.publish(self.setup.driver + at, u16::from(!want));
    }
}
