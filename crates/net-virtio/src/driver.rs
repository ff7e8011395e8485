//! The guest's side of a queue: a small driver for tests, benchmarks and fuzzing.
//!
//! It follows the rules unless told otherwise: [`GuestRam::write`] reaches every byte of a ring, so a
//! test can break what it likes. Not part of what a VMM needs, hence behind the feature `driver`.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::collections::VecDeque;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering, fence};

use crate::error::SetupError;
use crate::memory::{GuestMemory, Region};
use crate::ring::QueueSetup;

/// Where the memory begins in the guest's view.
pub const BASE: u64 = 0x10_0000;

/// Zeroed memory.
struct Ram {
    start: NonNull<u8>,
    len: usize,
    from: From,
}

/// Where it is from.
enum From {
    /// Our own, aligned to 2 MiB.
    Heap(Layout),
    /// A file that others map too.
    #[cfg(target_os = "linux")]
    File(#[allow(dead_code)] crate::vhost_user::sys::Mapping),
}

// SAFETY: only an address; bytes are reached by raw copies and atomics.
unsafe impl Send for Ram {}
// SAFETY: as above.
unsafe impl Sync for Ram {}

impl Drop for Ram {
    fn drop(&mut self) {
        match self.from {
            // SAFETY: allocated with this layout in `GuestRam::new`.
            From::Heap(layout) => unsafe { dealloc(self.start.as_ptr(), layout) },
            #[cfg(target_os = "linux")]
            From::File(_) => {}
        }
    }
}

/// A guest's memory in one region at [`BASE`].
#[derive(Clone)]
pub struct GuestRam(Arc<Ram>);

impl GuestRam {
    /// `len` bytes, zero.
    ///
    /// # Panics
    /// For 0 bytes, or more than the address space has.
    pub fn new(len: usize) -> Self {
        assert!(len > 0, "a guest has memory");
        let layout = Layout::from_size_align(len, 1 << 21).expect("less than the address space");
        // SAFETY: the size is not 0.
        let Some(start) = NonNull::new(unsafe { alloc_zeroed(layout) }) else {
            handle_alloc_error(layout)
        };
        Self(Arc::new(Ram {
            start,
            len,
            from: From::Heap(layout),
        }))
    }

    /// `len` bytes, zero, of a file that can be given to others and not be shortened.
    ///
    /// # Errors
    /// Of the host, which may not have as much.
    #[cfg(target_os = "linux")]
    pub fn shared(len: usize) -> std::io::Result<(Self, std::fs::File)> {
        use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = std::fs::File::from(memfd_create("guest", flags)?);
        file.set_len(len as u64)?;
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW)?;
        let mapping = crate::vhost_user::sys::Mapping::new(&file, 0, len)?;
        let start = mapping.at(0).ok_or(std::io::ErrorKind::OutOfMemory)?;
        let from = From::File(mapping);
        Ok((Self(Arc::new(Ram { start, len, from })), file))
    }

    /// The table of its one region, which keeps it alive.
    ///
    /// # Errors
    /// None in practice: [`BASE`] and the length cannot overflow.
    pub fn memory(&self) -> Result<Arc<GuestMemory>, SetupError> {
        self.memory_cut_at(&[])
    }

    /// The table of several regions, each of which begins where the one before it ends: at these
    /// guest-physical addresses, in ascending order.
    ///
    /// # Errors
    /// [`SetupError::Region`] for two addresses that are the same.
    ///
    /// # Panics
    /// As [`Self::write`].
    pub fn memory_cut_at(&self, cuts: &[u64]) -> Result<Arc<GuestMemory>, SetupError> {
        let end = BASE + self.0.len as u64;
        let mut regions = Vec::new();
        let mut begin = BASE;
        for cut in cuts.iter().copied().chain([end]) {
            let len = cut.saturating_sub(begin) as usize;
            let start = NonNull::new(self.at(begin, len)).expect("an allocation");
            // SAFETY: inside the allocation, which is the owner; this module makes no references into it.
            regions.push(unsafe { Region::new(begin, start, len, self.0.clone())? });
            begin = cut;
        }
        Ok(Arc::new(GuestMemory::new(regions)?))
    }

    /// Where it is mapped here, for whoever wants to advise the kernel about it.
    pub fn mapping(&self) -> (NonNull<u8>, usize) {
        (self.0.start, self.0.len)
    }

    #[inline]
    fn at(&self, address: u64, len: usize) -> *mut u8 {
        let offset = address.checked_sub(BASE).map(|offset| offset as usize);
        let inside =
            offset.filter(|offset| offset.checked_add(len).is_some_and(|end| end <= self.0.len));
        let offset = inside.expect("the address lies in the guest's memory");
        // SAFETY: inside the allocation.
        unsafe { self.0.start.as_ptr().add(offset) }
    }

    /// Writes bytes at a guest-physical address.
    ///
    /// # Panics
    /// Outside of the memory, as for every method here.
    #[inline]
    pub fn write(&self, address: u64, bytes: &[u8]) {
        let at = self.at(address, bytes.len());
        // SAFETY: in range; not a Rust object.
        unsafe { at.copy_from(bytes.as_ptr(), bytes.len()) };
    }

    /// Reads `len` bytes at a guest-physical address.
    ///
    /// # Panics
    /// As [`Self::write`].
    pub fn read(&self, address: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        // SAFETY: in range; not a Rust object.
        unsafe {
            bytes.as_mut_ptr().copy_from(self.at(address, len), len);
        }
        bytes
    }

    /// Copies within the guest's memory.
    ///
    /// # Panics
    /// As [`Self::write`].
    #[inline]
    pub fn copy(&self, from: u64, to: u64, len: usize) {
        // SAFETY: both in range; not Rust objects.
        unsafe { self.at(to, len).copy_from(self.at(from, len), len) };
    }

    /// Stores an index that shows what was written before it.
    ///
    /// # Panics
    /// As [`Self::write`].
    #[inline]
    pub fn publish(&self, address: u64, index: u16) {
        self.word16(address).store(index.to_le(), Ordering::Release);
    }

    /// Loads an index, before what it shows is read.
    ///
    /// # Panics
    /// As [`Self::write`].
    #[inline]
    pub fn index(&self, address: u64) -> u16 {
        u16::from_le(self.word16(address).load(Ordering::Acquire))
    }

    #[inline]
    fn word16(&self, address: u64) -> &AtomicU16 {
        // SAFETY: in range, and the driver's rings are aligned.
        unsafe { AtomicU16::from_ptr(self.at(address, 2).cast()) }
    }

    fn word64(&self, address: u64) -> &AtomicU64 {
        // SAFETY: in range, and the driver's rings are aligned.
        unsafe { AtomicU64::from_ptr(self.at(address, 8).cast()) }
    }
}

/// What the driver has negotiated.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DriverOptions {
    /// A packed ring.
    pub packed: bool,
    /// Event indices.
    pub event_index: bool,
    /// Every chain in an indirect table.
    pub indirect: bool,
}

/// A piece of a buffer: guest-physical address and length.
pub type Part = (u64, u32);

/// A driver's end of one queue.
pub struct DriverQueue {
    ram: GuestRam,
    setup: QueueSetup,
    options: DriverOptions,
    /// Where indirect tables are, 64 descriptors each, by id.
    tables: u64,
    free: VecDeque<u16>,
    /// By id: its descriptors (split), or its slots (packed).
    chains: Vec<Vec<u16>>,
    next: u16,
    wrap: bool,
    used: u16,
    used_wrap: bool,
    /// Slots free, in a packed ring.
    room: u16,
    published: u16,
    /// The first slot of a chain in a packed ring, shown when published.
    head: Option<(u64, u64)>,
}

/// Descriptors in one indirect table.
const TABLE: usize = 64;

impl DriverQueue {
    /// Bytes a queue of `size` takes, rings and tables.
    pub fn footprint(size: u16) -> u64 {
        let n = u64::from(size);
        // Descriptors, available ring, used ring, each with room to align; then the tables.
        (16 * n + 2 * n + 8 * n + 256).next_multiple_of(4096) + n * 16 * TABLE as u64
    }

    /// A queue of `size` descriptors whose parts lie from `address` on, which is a multiple of
    /// 4,096.
    pub fn new(ram: &GuestRam, address: u64, size: u16, options: DriverOptions) -> Self {
        let n = u64::from(size);
        let driver = address + 16 * n;
        let device = (driver + 2 * n + 6).next_multiple_of(64);
        let setup = QueueSetup {
            size,
            descriptors: address,
            driver: driver.next_multiple_of(4),
            device,
            ..QueueSetup::default()
        };
        Self {
            ram: ram.clone(),
            setup,
            options,
            tables: address + (26 * n + 256).next_multiple_of(4096),
            free: (0..size).collect(),
            chains: vec![Vec::new(); size.into()],
            next: 0,
            wrap: true,
            used: 0,
            used_wrap: true,
            room: size,
            published: 0,
            head: None,
        }
    }

    /// Where the queue lies, for the device.
    pub fn setup(&self) -> QueueSetup {
        self.setup
    }

    /// Makes a chain available; its id, or `None` where the ring is full. Visible to the device at
    /// the next [`Self::publish`].
    pub fn add(&mut self, readable: &[Part], writable: &[Part]) -> Option<u16> {
        let parts: Vec<(Part, u16)> = readable
            .iter()
            .map(|part| (*part, 0))
            .chain(writable.iter().map(|part| (*part, 2)))
            .collect();
        if self.options.packed {
            self.add_packed(&parts)
        } else {
            self.add_split(&parts)
        }
    }

    fn indirect_table(&self, id: u16, parts: &[(Part, u16)]) -> Part {
        let table = self.tables + u64::from(id) * 16 * TABLE as u64;
        for (at, ((address, len), write)) in parts.iter().enumerate() {
            let last = at + 1 == parts.len();
            let (third, fourth) = if self.options.packed {
                (0, *write)
            } else {
                (*write | u16::from(!last), at as u16 + 1)
            };
            self.put(table + 16 * at as u64, *address, word(*len, third, fourth));
        }
        (table, 16 * parts.len() as u32)
    }

    fn put(&self, at: u64, address: u64, rest: u64) {
        self.ram
            .word64(at)
            .store(address.to_le(), Ordering::Relaxed);
        self.ram
            .word64(at + 8)
            .store(rest.to_le(), Ordering::Relaxed);
    }

    fn add_split(&mut self, parts: &[(Part, u16)]) -> Option<u16> {
        let table = self.options.indirect;
        let need = if table { 1 } else { parts.len() };
        if self.free.len() < need || need == 0 {
            return None;
        }
        let ids: Vec<u16> = self.free.drain(..need).collect();
        let head = ids[0];
        if table {
            let (address, len) = self.indirect_table(head, parts);
            let at = self.setup.descriptors + 16 * u64::from(head);
            self.put(at, address, word(len, 4, 0));
        } else {
            for (at, ((address, len), write)) in parts.iter().enumerate() {
                let next = ids.get(at + 1).copied();
                let flags = *write | u16::from(next.is_some());
                let place = self.setup.descriptors + 16 * u64::from(ids[at]);
                self.put(place, *address, word(*len, flags, next.unwrap_or(0)));
            }
        }
        let slot = u64::from(self.next % self.setup.size);
        self.ram
            .word16(self.setup.driver + 4 + 2 * slot)
            .store(head.to_le(), Ordering::Relaxed);
        self.next = self.next.wrapping_add(1);
        self.chains[usize::from(head)] = ids;
        Some(head)
    }

    fn add_packed(&mut self, parts: &[(Part, u16)]) -> Option<u16> {
        let table = self.options.indirect;
        let need = if table { 1 } else { parts.len() as u16 };
        if self.room < need || need == 0 {
            return None;
        }
        let id = self.free.pop_front()?;
        let outer;
        let parts = if table {
            outer = [(self.indirect_table(id, parts), 4)];
            &outer[..]
        } else {
            parts
        };
        for (at, ((address, len), flags)) in parts.iter().enumerate() {
            let last = at + 1 == parts.len();
            let turn = if self.wrap { 1 << 7 } else { 1 << 15 };
            let flags = flags | u16::from(!last) | turn;
            let place = self.setup.descriptors + 16 * u64::from(self.next);
            let rest = word(*len, id, flags);
            if self.head.is_none() {
                // The first slot since the last publication goes last (VIRTIO 1.3, 2.8.8).
                self.ram
                    .word64(place)
                    .store(address.to_le(), Ordering::Relaxed);
                self.head = Some((place, rest));
            } else {
                self.put(place, *address, rest);
            }
            self.next += 1;
            if self.next == self.setup.size {
                self.next = 0;
                self.wrap = !self.wrap;
            }
        }
        self.room -= need;
        self.published = self.published.wrapping_add(need);
        self.chains[usize::from(id)] = vec![0; need.into()];
        Some(id)
    }

    /// Shows the device what was added; whether it wants to be told.
    pub fn publish(&mut self) -> bool {
        if self.options.packed {
            return self.publish_packed();
        }
        let (old, new) = (self.published, self.next);
        self.ram
            .word16(self.setup.driver + 2)
            .store(new.to_le(), Ordering::Release);
        self.published = new;
        fence(Ordering::SeqCst);
        if self.options.event_index {
            let at = self.setup.device + 4 + 8 * u64::from(self.setup.size);
            let event = u16::from_le(self.ram.word16(at).load(Ordering::Relaxed));
            return new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old);
        }
        u16::from_le(self.ram.word16(self.setup.device).load(Ordering::Relaxed)) & 1 == 0
    }

    fn publish_packed(&mut self) -> bool {
        let added = core::mem::take(&mut self.published);
        if let Some((place, rest)) = self.head.take() {
            self.ram
                .word64(place + 8)
                .store(rest.to_le(), Ordering::Release);
        }
        fence(Ordering::SeqCst);
        let flags = u16::from_le(
            self.ram
                .word16(self.setup.device + 2)
                .load(Ordering::Acquire),
        );
        if flags & 3 != 2 {
            return flags & 3 == 0;
        }
        let at = u16::from_le(self.ram.word16(self.setup.device).load(Ordering::Relaxed));
        let mut event = at & 0x7fff;
        if (at >> 15 == 1) != self.wrap {
            event = event.wrapping_sub(self.setup.size);
        }
        let new = self.next;
        new.wrapping_sub(event).wrapping_sub(1) < added
    }

    /// Whether the device would want to be told of a chain made available now.
    pub fn is_awaited(&self) -> bool {
        let word = |at: u64| {
            u16::from_le(
                self.ram
                    .word16(self.setup.device + at)
                    .load(Ordering::Acquire),
            )
        };
        let event_at = 4 + 8 * u64::from(self.setup.size);
        match (self.options.packed, self.options.event_index) {
            (true, false) => word(2) & 3 == 0,
            (true, true) => {
                let here = self.next | if self.wrap { 1 << 15 } else { 0 };
                word(2) & 3 == 2 && word(0) == here
            }
            (false, false) => word(0) & 1 == 0,
            (false, true) => word(event_at) == self.next,
        }
    }

    /// A chain that the device has given back: its id, and how many bytes were written.
    pub fn take_used(&mut self) -> Option<(u16, u32)> {
        let (id, len) = if self.options.packed {
            let place = self.setup.descriptors + 16 * u64::from(self.used) + 8;
            let rest = u64::from_le(self.ram.word64(place).load(Ordering::Acquire));
            let flags = (rest >> 48) as u16;
            if (flags & 1 << 15 != 0) != self.used_wrap || (flags & 1 << 7 != 0) != self.used_wrap {
                return None;
            }
            ((rest >> 32) as u16, rest as u32)
        } else {
            let used = u16::from_le(
                self.ram
                    .word16(self.setup.device + 2)
                    .load(Ordering::Acquire),
            );
            if used == self.used {
                return None;
            }
            let slot = u64::from(self.used % self.setup.size);
            let at = self.setup.device + 4 + 8 * slot;
            let entry: [u8; 8] = self.ram.read(at, 8).try_into().ok()?;
            let entry = u64::from_le_bytes(entry);
            self.used = self.used.wrapping_add(1);
            (entry as u16, (entry >> 32) as u32)
        };
        let ids = core::mem::take(self.chains.get_mut(usize::from(id))?);
        assert!(!ids.is_empty(), "the device gave chain {id} back twice");
        if self.options.packed {
            let slots = ids.len() as u16;
            self.room += slots;
            self.used += slots;
            if self.used >= self.setup.size {
                self.used -= self.setup.size;
                self.used_wrap = !self.used_wrap;
            }
            self.free.push_back(id);
        } else {
            self.free.extend(ids);
        }
        Some((id, len))
    }

    /// Asks for an interrupt at the next chain given back, or for none.
    pub fn want_interrupts(&mut self, want: bool) {
        if self.options.packed {
            let at = self.used | if self.used_wrap { 1 << 15 } else { 0 };
            let how = match (want, self.options.event_index) {
                (false, _) => 1,
                (true, false) => 0,
                (true, true) => 2u16,
            };
            self.ram
                .word16(self.setup.driver)
                .store(at.to_le(), Ordering::Relaxed);
            self.ram
                .word16(self.setup.driver + 2)
                .store(how.to_le(), Ordering::Release);
        } else if self.options.event_index {
            let at = self.setup.driver + 4 + 2 * u64::from(self.setup.size);
            // Far behind: passed only after 65,535 more.
            let event = self.used.wrapping_sub(u16::from(!want));
            self.ram.word16(at).store(event.to_le(), Ordering::Relaxed);
        } else {
            self.ram
                .word16(self.setup.driver)
                .store(u16::from(!want).to_le(), Ordering::Relaxed);
        }
        fence(Ordering::SeqCst);
    }

    /// Chains that the device has.
    pub fn outstanding(&self) -> usize {
        self.chains.iter().filter(|chain| !chain.is_empty()).count()
    }
}

/// The second half of a descriptor.
fn word(len: u32, third: u16, fourth: u16) -> u64 {
    u64::from(len) | u64::from(third) << 32 | u64::from(fourth) << 48
}
