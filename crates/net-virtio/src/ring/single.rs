//! Chains whose frame is one piece, as nearly all are: they are looked at ahead, many at a time.
//!
//! The virtio header is in front of the frame, in the same descriptor, or in one of its own in front of
//! the frame's, which it fills. Where descriptors are many both may be in an indirect table. What is
//! different in any way is no such chain, and [`Ring::pop`](super::Ring::pop) judges it.

use net_datapath::prefetch::prefetch_read;

use super::Access;
use super::descriptor::{Descriptor, INDIRECT, NEXT, WRITE};
use crate::memory::{GuestMemory, Piece, Window};

/// A chain whose frame is one piece.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Single {
    /// Where its header is, all of it.
    pub(crate) header: *mut u8,
    /// The frame, and as much in front of it as a header has, which is not to be touched where the header
    /// is somewhere else: so whoever looks for chains of one piece has nothing to compute.
    whole: Piece,
    pub(super) id: u16,
    /// Slots it takes in a packed ring.
    pub(super) slots: u16,
    /// Bytes written into it, header and frame.
    pub(crate) written: u32,
}

// SAFETY: as for `Piece`.
unsafe impl Send for Single {}

/// Room for the chains that [`Ring::look_ahead`](super::Ring::look_ahead) finds, a batch of them.
#[derive(Debug)]
pub(crate) struct Ahead(pub(super) Box<[Single; Ahead::LEN]>);

impl Ahead {
    /// As many as packets are in a batch.
    pub(crate) const LEN: usize = net_datapath::packet::PacketBatch::LEN;

    pub(crate) fn new() -> Self {
        let none = Single {
            header: std::ptr::null_mut(),
            whole: Piece {
                host: std::ptr::null_mut(),
                len: 0,
            },
            id: 0,
            slots: 0,
            written: 0,
        };
        Self(Box::new([none; Self::LEN]))
    }
}

/// What a descriptor of such a chain has to be.
#[derive(Clone, Copy)]
pub(super) struct Form {
    /// Its flags, but for what follows.
    flags: u16,
    /// Length of the header.
    header: u32,
}

impl Form {
    /// Of a queue with this access, whose frames have headers of `header` bytes.
    #[inline(always)]
    pub(super) fn new(access: Access, header: usize) -> Self {
        let flags = match access {
            Access::Write => WRITE,
            Access::Read | Access::ReadThenWrite => 0,
        };
        Self {
            flags,
            // 10 or 12.
            header: header as u32,
        }
    }
}

impl Single {
    /// The chain of number `id` in one piece, which is no shorter than a header.
    #[inline(always)]
    fn joined(piece: Piece, id: u16, form: Form) -> Self {
        debug_assert!(piece.len >= form.header as usize);
        piece.prefetch();
        Self {
            header: piece.host,
            whole: piece,
            id,
            slots: 1,
            written: 0,
        }
    }

    /// Where its frame is; `header` is the length of the header that it was looked for with.
    #[inline(always)]
    pub(crate) fn frame(&self, header: usize) -> Piece {
        Piece {
            host: self.whole.host.wrapping_add(header),
            len: self.whole.len - header,
        }
    }
}

impl Descriptor {
    /// The chain of number `id`, where it is this buffer alone, in one region; its first lines are then
    /// on their way into the cache.
    #[inline(always)]
    pub(super) fn single(
        &self,
        id: u16,
        flags: u16,
        form: Form,
        memory: &GuestMemory,
        window: &mut Window,
    ) -> Option<Single> {
        if flags & (NEXT | WRITE | INDIRECT) != form.flags || self.len < form.header {
            return None;
        }
        let piece = memory.piece(window, self.address, self.len)?;
        Some(Single::joined(piece, id, form))
    }

    /// Whether this is a header, and another descriptor is behind it.
    #[inline(always)]
    pub(super) fn is_header(&self, flags: u16, form: Form) -> bool {
        flags & (NEXT | WRITE | INDIRECT) == form.flags | NEXT && self.len == form.header
    }

    /// The chain of number `id`, where it is a header and this buffer, each in one region; the first
    /// lines of both are then on their way into the cache.
    #[inline(always)]
    pub(super) fn behind(
        &self,
        header: &Self,
        id: u16,
        flags: u16,
        form: Form,
        memory: &GuestMemory,
    ) -> Option<Single> {
        if flags & (NEXT | WRITE | INDIRECT) != form.flags || self.len == 0 {
            return None;
        }
        let start = memory.contiguous(header.address, header.len.into())?;
        let frame = memory.contiguous(self.address, self.len.into())?;
        prefetch_read(start.as_ptr());
        let len = form.header as usize;
        let whole = Piece {
            host: frame.as_ptr().wrapping_sub(len),
            len: self.len as usize + len,
        };
        Some(Single {
            header: start.as_ptr(),
            ..Single::joined(whole, id, form)
        })
    }
}

// What becomes of chains is the same however they are taken (`tests/it/ahead.rs`): here is which of them
// are looked at ahead.
#[cfg(test)]
#[cfg(feature = "driver")]
mod tests {
    use super::*;
    use crate::driver::{BASE, DriverOptions, DriverQueue, GuestRam};
    use crate::ring::{InflightLog, Ring, RingFeatures};

    const HEADERS: u64 = BASE + 0x1_0000;
    const FRAMES: u64 = BASE + 0x1_8000;

    /// How many of eight such chains are looked at ahead, after each other, and that they are what the
    /// driver has made.
    fn found(options: DriverOptions, negotiated: bool, parts: &[(u64, u32)], write: bool) -> usize {
        let ram = GuestRam::new(0x2_0000);
        let mut queue = DriverQueue::new(&ram, BASE, 16, options);
        for _ in 0..8 {
            match write {
                false => queue.add(parts, &[]).unwrap(),
                true => queue.add(&[], parts).unwrap(),
            };
        }
        queue.publish();
        let features = RingFeatures {
            packed: options.packed,
            event_index: false,
            indirect: negotiated,
        };
        let memory = ram.memory().unwrap();
        // What is given back goes through the log, which counts slots too.
        let region = std::sync::Arc::new(GuestRam::new(0x1000));
        let start = region.mapping().0;
        // SAFETY: aligned, long enough for 16 descriptors, and kept by its owner.
        let log = unsafe { InflightLog::new(start, options.packed, 16, region) };
        let mut ring = Ring::new(&queue.setup(), features, &memory, log).unwrap();
        let (mut ahead, mut window) = (Ahead::new(), Window::NONE);
        let access = if write { Access::Write } else { Access::Read };
        let mut count = 0;
        loop {
            let singles = ring.look_ahead(&memory, &mut window, (access, 12), 3, &mut ahead);
            if singles.is_empty() {
                return count;
            }
            for single in singles.iter() {
                let guest = |host| memory.guest_address(host).unwrap();
                let frame = single.frame(12);
                match *parts {
                    [(address, len)] => {
                        assert_eq!(guest(single.header), address);
                        assert_eq!(
                            (guest(frame.host), frame.len),
                            (address + 12, len as usize - 12)
                        );
                    }
                    _ => {
                        assert_eq!(guest(single.header), parts[0].0);
                        assert_eq!(
                            (guest(frame.host), frame.len),
                            (parts[1].0, parts[1].1 as usize)
                        );
                    }
                }
            }
            ring.take(singles);
            ring.push_singles(singles);
            ring.publish();
            for _ in 0..singles.len() {
                assert!(queue.take_used().is_some());
            }
            count += singles.len();
        }
    }

    #[test]
    fn headers_in_front_of_frames_and_apart_are_looked_at_ahead_and_nothing_else() {
        for bits in 0..8 {
            let has = |bit: u8| bits & (1 << bit) != 0;
            let options = DriverOptions {
                packed: has(0),
                indirect: has(1),
                event_index: false,
            };
            let write = has(2);
            let found = |parts: &[(u64, u32)]| found(options, true, parts, write);
            for parts in [
                &[(FRAMES, 72)][..],
                &[(FRAMES, 12)],
                &[(HEADERS, 12), (FRAMES, 60)],
                &[(HEADERS, 12), (FRAMES, 1)],
            ] {
                assert_eq!(found(parts), 8, "{options:?} {parts:?}");
            }
            for parts in [
                &[(FRAMES, 11)][..],
                &[(HEADERS, 11), (FRAMES, 60)],
                &[(HEADERS, 13), (FRAMES, 60)],
                &[(HEADERS, 12), (FRAMES, 0)],
                &[(HEADERS, 12), (BASE - 1, 60)],
                &[(BASE - 1, 12), (FRAMES, 60)],
            ] {
                assert_eq!(found(parts), 0, "{options:?} {parts:?}");
            }
        }
    }

    #[test]
    fn longer_chains_and_tables_that_were_not_negotiated_are_not() {
        for packed in [false, true] {
            let options = DriverOptions {
                packed,
                indirect: false,
                event_index: false,
            };
            let three = [(HEADERS, 12), (FRAMES, 20), (FRAMES, 40)];
            let tables = DriverOptions {
                indirect: true,
                ..options
            };
            assert_eq!(found(tables, true, &three, false), 0);
            assert_eq!(found(tables, false, &three[..2], false), 0);
            assert_eq!(found(tables, false, &three[..1], false), 0);
        }
    }
}
