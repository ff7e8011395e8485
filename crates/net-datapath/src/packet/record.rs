//! The record of a packet's headers, made at once or when it is first asked for.
//!
//! A switch that decides by the hardware addresses never asks, and for a short frame the reading is as
//! much work as all the rest. So a packet may leave it for later: its head is private and does not
//! change before the record is made.

use core::cell::{Cell, UnsafeCell};

use net_wire::WireError;

use super::PacketMeta;
use crate::vnet::VirtioNetHdr;

/// A place for [`PacketMeta`].
pub(super) struct Record {
    /// It holds once `made` is true.
    meta: UnsafeCell<PacketMeta>,
    made: Cell<bool>,
    /// The virtio header, also while there is no record.
    offload: VirtioNetHdr,
}

impl Record {
    /// That of no frame.
    pub(super) const fn blank() -> Self {
        Self::of(PacketMeta::BLANK)
    }

    /// A record that is there.
    pub(super) const fn of(meta: PacketMeta) -> Self {
        Self {
            offload: meta.offload,
            meta: UnsafeCell::new(meta),
            made: Cell::new(true),
        }
    }

    /// Replaces the record, virtio header and all.
    #[inline]
    pub(super) fn set(&mut self, meta: PacketMeta) {
        *self = Self::of(meta);
    }

    /// Makes the record of a frame of `len` bytes that begins with `head`.
    #[inline(always)]
    pub(super) fn make(
        &mut self,
        head: &[u8],
        len: usize,
        header: VirtioNetHdr,
    ) -> Result<&PacketMeta, WireError> {
        let meta = self.meta.get_mut();
        meta.parse_in_place(head, len)?;
        meta.offload = header;
        self.offload = header;
        self.made.set(true);
        Ok(meta)
    }

    /// Leaves the record to be made by [`Self::get`].
    #[inline(always)]
    pub(super) fn leave(&mut self, header: VirtioNetHdr) {
        self.offload = header;
        self.made.set(false);
    }

    /// The record, of a frame of `len` bytes that begins with `head`: at least an Ethernet header.
    #[inline]
    pub(super) fn get(&self, head: &[u8], len: usize) -> &PacketMeta {
        if !self.made.get() {
            self.make_late(head, len);
        }
        // SAFETY: the record is written through `&mut self`, or by `make_late` while `made` is false.
        // It is true now, and becomes false through `&mut self` alone: not while this is lent.
        unsafe { &*self.meta.get() }
    }

    #[inline(never)]
    fn make_late(&self, head: &[u8], len: usize) {
        // SAFETY: nobody holds a reference to the record: `get` lends it only once `made` is true,
        // and it becomes false through `&mut self`. The type is not `Sync`.
        let meta = unsafe { &mut *self.meta.get() };
        // It fails for less than an Ethernet header alone, and `assign_one` leaves no such record.
        let _ = meta.parse_in_place(head, len);
        meta.offload = self.offload;
        self.made.set(true);
    }

    /// The virtio header, which the record is not made for.
    #[inline]
    pub(super) fn offload(&self) -> &VirtioNetHdr {
        &self.offload
    }

    /// Replaces the virtio header.
    #[inline]
    pub(super) fn set_offload(&mut self, header: VirtioNetHdr) {
        self.offload = header;
        self.meta.get_mut().offload = header;
    }
}

impl Clone for Record {
    #[inline]
    fn clone(&self) -> Self {
        Self {
            // SAFETY: as in `get`: nothing writes while `self` is shared but `make_late`, which is
            // not running here.
            meta: UnsafeCell::new(unsafe { *self.meta.get() }),
            made: Cell::new(self.made.get()),
            offload: self.offload,
        }
    }
}
