//! The packets the engine works on.

use alloc::borrow::Cow;
use alloc::vec::Vec;

use net_datapath::{PacketBuf, VirtioNetHdr, ZeroCopyPacket};

/// A packet whose headers can be rewritten where they lie.
///
/// Slices, arrays, `Vec`s and [`PacketBuf`]s that begin with the IP header are packets; so is a
/// [`ZeroCopyPacket`], whose payload stays where it is.
pub trait IpPacket {
    /// The first bytes, from the IP header on: at least all headers, as a rule the whole packet.
    fn head(&self) -> &[u8];

    /// The same, to be changed.
    fn head_mut(&mut self) -> &mut [u8];

    /// Length of the packet in bytes, of which [`Self::head`] may be the beginning only. Padding of
    /// the link may count.
    #[inline]
    fn total_len(&self) -> usize {
        self.head().len()
    }

    /// Whether the transport checksum holds the sum of the pseudo header only, to be completed by
    /// an offload (`VIRTIO_NET_HDR_F_NEEDS_CSUM`).
    #[inline]
    fn checksum_is_partial(&self) -> bool {
        false
    }

    /// Whether an offload will cut it into segments, so that its length is not that of a packet on
    /// the wire.
    #[inline]
    fn is_super_frame(&self) -> bool {
        false
    }

    /// Appends the whole packet to `out`.
    fn copy_to(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.head());
    }

    /// Called when headers were changed through [`Self::head_mut`].
    #[inline]
    fn changed(&mut self) {}
}

impl IpPacket for [u8] {
    #[inline(always)]
    fn head(&self) -> &[u8] {
        self
    }

    #[inline(always)]
    fn head_mut(&mut self) -> &mut [u8] {
        self
    }
}

impl<const N: usize> IpPacket for [u8; N] {
    #[inline(always)]
    fn head(&self) -> &[u8] {
        self
    }

    #[inline(always)]
    fn head_mut(&mut self) -> &mut [u8] {
        self
    }
}

impl IpPacket for Vec<u8> {
    #[inline(always)]
    fn head(&self) -> &[u8] {
        self
    }

    #[inline(always)]
    fn head_mut(&mut self) -> &mut [u8] {
        self
    }
}

impl IpPacket for PacketBuf {
    #[inline(always)]
    fn head(&self) -> &[u8] {
        self
    }

    #[inline(always)]
    fn head_mut(&mut self) -> &mut [u8] {
        self
    }
}

impl<P: IpPacket + ?Sized> IpPacket for &mut P {
    #[inline(always)]
    fn head(&self) -> &[u8] {
        (**self).head()
    }

    #[inline(always)]
    fn head_mut(&mut self) -> &mut [u8] {
        (**self).head_mut()
    }

    #[inline(always)]
    fn total_len(&self) -> usize {
        (**self).total_len()
    }

    #[inline(always)]
    fn checksum_is_partial(&self) -> bool {
        (**self).checksum_is_partial()
    }

    #[inline(always)]
    fn is_super_frame(&self) -> bool {
        (**self).is_super_frame()
    }

    fn copy_to(&self, out: &mut Vec<u8>) {
        (**self).copy_to(out);
    }

    #[inline(always)]
    fn changed(&mut self) {
        (**self).changed();
    }
}

impl IpPacket for ZeroCopyPacket<'_> {
    #[inline]
    fn head(&self) -> &[u8] {
        let at = usize::from(self.meta().l3_offset);
        ZeroCopyPacket::head(self).get(at..).unwrap_or_default()
    }

    #[inline]
    fn head_mut(&mut self) -> &mut [u8] {
        let at = usize::from(self.meta().l3_offset);
        let head = ZeroCopyPacket::head_mut(self);
        head.get_mut(at..).unwrap_or_default()
    }

    #[inline]
    fn total_len(&self) -> usize {
        self.len() - usize::from(self.meta().l3_offset)
    }

    #[inline]
    fn checksum_is_partial(&self) -> bool {
        self.vnet().flags & VirtioNetHdr::NEEDS_CSUM != 0
    }

    #[inline]
    fn is_super_frame(&self) -> bool {
        self.vnet().gso_type != VirtioNetHdr::GSO_NONE
    }

    fn copy_to(&self, out: &mut Vec<u8>) {
        let (at, start) = (usize::from(self.meta().l3_offset), out.len());
        out.resize(start + self.total_len(), 0);
        if let Some(space) = out.get_mut(start..) {
            self.copy_range(at, space);
        }
    }

    #[inline]
    fn changed(&mut self) {
        self.reparse();
    }
}

/// The whole packet: where it lies, if it lies in one piece, or a copy put together.
pub(crate) fn whole<P: IpPacket + ?Sized>(packet: &P) -> Cow<'_, [u8]> {
    if packet.head().len() >= packet.total_len() {
        return Cow::Borrowed(packet.head());
    }
    let mut copy = Vec::new();
    packet.copy_to(&mut copy);
    Cow::Owned(copy)
}

/// Lets `edit` work on the whole packet. Where that does not lie in one piece, it is put together,
/// and what was changed in the head goes back to where it was.
///
/// `None` if something behind the head was changed, where nothing can be written: the packet is as
/// it was and goes no further.
pub(crate) fn edit_whole<P: IpPacket + ?Sized, R>(
    packet: &mut P,
    edit: impl FnOnce(&mut [u8]) -> R,
) -> Option<R> {
    let mut copy = match whole(packet) {
        Cow::Borrowed(_) => return Some(edit(packet.head_mut())),
        Cow::Owned(copy) => copy,
    };
    let before = copy.clone();
    let outcome = edit(&mut copy);
    let head = packet.head_mut();
    if copy.get(head.len()..) != before.get(head.len()..) {
        return None;
    }
    head.copy_from_slice(copy.get(..head.len())?);
    Some(outcome)
}
