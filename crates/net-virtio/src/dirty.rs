//! Which of the guest's memory a device has written, for whoever moves a guest while it runs.

use std::sync::Arc;

use crate::memory::{GuestMemory, Piece};
use crate::ring::{Ring, RingPart, Single, Written};

/// Keeps what a device has written, until it is copied again.
pub trait DirtyLog: Send + Sync {
    /// `len` bytes at guest-physical address `address` have been written. Must not block.
    fn mark(&self, address: u64, len: u64);

    /// Called behind the marks of a batch. Must not block.
    fn publish(&self) {}
}

/// Under which guest-physical addresses a ring is marked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RingMarks {
    /// The descriptor table or ring.
    pub(crate) descriptors: u64,
    /// The device area.
    pub(crate) device: u64,
}

/// What of a queue is marked, and where.
#[derive(Clone)]
pub(crate) struct Dirty {
    pub(crate) log: Arc<dyn DirtyLog>,
    /// Its buffers are.
    pub(crate) buffers: bool,
    /// Its ring is.
    pub(crate) ring: Option<RingMarks>,
}

// Out of the way of queues that are not marked.
impl Dirty {
    /// The first `written` bytes of these pieces together.
    #[cold]
    pub(crate) fn pieces(&self, memory: &GuestMemory, pieces: &[Piece], mut written: usize) {
        for piece in pieces {
            let len = piece.len.min(written);
            self.buffer(memory, piece.host, len);
            written -= len;
        }
    }

    /// What was written into each of these, headers of `header` bytes among it.
    #[cold]
    pub(crate) fn singles(&self, memory: &GuestMemory, singles: &[Single], header: usize) {
        for single in singles {
            self.buffer(memory, single.header, header);
            let frame = (single.written as usize).saturating_sub(header);
            self.buffer(memory, single.frame(header).host, frame);
        }
    }

    fn buffer(&self, memory: &GuestMemory, host: *const u8, len: usize) {
        if let Some(address) = memory.guest_address(host)
            && self.buffers
            && len > 0
        {
            self.log.mark(address, len as u64);
        }
    }

    /// These parts of the ring.
    #[cold]
    pub(crate) fn ring(&self, parts: &[Written]) {
        let Some(ring) = self.ring else {
            return;
        };
        for written in parts.iter().filter(|written| written.len > 0) {
            let begin = match written.part {
                RingPart::Descriptors => ring.descriptors,
                RingPart::Device => ring.device,
            };
            // Where it wraps it is no memory: whoever said so gets no mark.
            if let Some(address) = begin.checked_add(written.offset) {
                self.log.mark(address, written.len);
            }
        }
    }

    /// Everything of the ring that a device writes.
    #[cold]
    pub(crate) fn whole(&self, ring: &Ring) {
        self.ring(&ring.writable());
        self.log.publish();
    }
}
