//! A frame: its virtio header, a private copy of its headers, and its payload where it lies.
//!
//! The headers are copied once, at most 128 bytes of them, and every decision and every rewrite
//! is made on the copy. The payload stays in the sender's memory as a scatter list and goes on
//! by `writev`, or by the one copy into the receiver's memory. A guest that changes its buffers
//! meanwhile spoils its own payload and nothing else.

mod checksum;
mod meta;
#[cfg(test)]
mod tests;

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use net_wire::ipv6::Fragment;
use net_wire::{MacAddr, WireError, ip_proto};

pub use meta::{FragmentState, L3, PacketMeta};

use crate::segment::{IoSegment, SegmentList};
use crate::vnet::VirtioNetHdr;

/// The longest frame: the largest IP packet behind a tagged Ethernet header, in bytes.
pub const MAX_FRAME_LEN: usize = 65_535 + 18;

const HEAD_MAX: usize = 128;

/// Why a buffer is not a packet. The fault is the sender's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[non_exhaustive]
pub enum PacketError {
    /// Fewer than 14 bytes.
    TooShort,
    /// More than [`MAX_FRAME_LEN`] bytes.
    TooLong,
    /// More than [`ZeroCopyPacket::MAX_SEGMENTS`] pieces.
    TooManySegments,
}

impl core::fmt::Display for PacketError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::TooShort => "frame shorter than an Ethernet header",
            Self::TooLong => "frame longer than 65,553 bytes",
            Self::TooManySegments => "frame in more than 18 pieces",
        })
    }
}

impl core::error::Error for PacketError {}

impl From<WireError> for PacketError {
    fn from(_: WireError) -> Self {
        Self::TooShort
    }
}

/// One frame on its way through the stack.
///
/// The *head* holds the whole frame up to 128 bytes; of a longer TCP segment, UDP datagram or
/// echo message exactly the headers (so that the payload is one run); of anything else the first
/// 128 bytes.
#[derive(Clone, Debug)]
pub struct ZeroCopyPacket<'a> {
    head: [u8; HEAD_MAX],
    head_len: u8,
    /// The rest is Rust memory, which nobody changes for `'a`.
    borrowed: bool,
    len: u32,
    header: VirtioNetHdr,
    meta: PacketMeta,
    rest: SegmentList<'a>,
}

impl<'a> ZeroCopyPacket<'a> {
    /// Most bytes that are copied at the front of a frame.
    pub const HEAD_MAX: usize = HEAD_MAX;
    /// Most pieces a frame may come in, empty ones not counted.
    pub const MAX_SEGMENTS: usize = 18;

    /// Makes a packet of a whole Ethernet frame in one slice.
    ///
    /// # Errors
    /// [`PacketError::TooShort`] and [`PacketError::TooLong`].
    #[inline]
    pub fn from_slice(frame: &'a [u8], header: VirtioNetHdr) -> Result<Self, PacketError> {
        if frame.len() > MAX_FRAME_LEN {
            return Err(PacketError::TooLong);
        }
        let (head, copied) = match frame.first_chunk::<HEAD_MAX>() {
            Some(head) => (*head, Self::HEAD_MAX),
            None => {
                let mut head = [0; HEAD_MAX];
                head[..frame.len()].copy_from_slice(frame);
                (head, frame.len())
            }
        };
        let meta = PacketMeta::parse(&head[..copied], frame.len())?;
        let head_len = head_len(&meta, &head, frame.len());
        let mut rest = SegmentList::new();
        // One segment always fits.
        let _ = rest.push(IoSegment::from(frame.get(head_len..).unwrap_or_default()));
        Ok(Self {
            head,
            head_len: head_len as u8,
            borrowed: true,
            len: frame.len() as u32,
            header,
            meta,
            rest,
        })
    }

    /// Makes a packet of the pieces of an Ethernet frame, in a guest's memory for example.
    ///
    /// The head is read exactly once; the rest is not read here at all.
    ///
    /// # Errors
    /// [`PacketError::TooShort`], [`PacketError::TooLong`] and [`PacketError::TooManySegments`].
    pub fn from_segments(
        segments: &[IoSegment<'a>],
        header: VirtioNetHdr,
    ) -> Result<Self, PacketError> {
        let (mut len, mut pieces) = (0usize, 0);
        for segment in segments {
            len = len.saturating_add(segment.len());
            pieces += usize::from(!segment.is_empty());
        }
        if len > MAX_FRAME_LEN {
            return Err(PacketError::TooLong);
        }
        if pieces > Self::MAX_SEGMENTS {
            return Err(PacketError::TooManySegments);
        }
        let mut head = [0; HEAD_MAX];
        let mut copied = 0;
        for segment in segments {
            copied += segment.copy_to_slice(0, &mut head[copied..]);
            if copied == Self::HEAD_MAX {
                break;
            }
        }
        let meta = PacketMeta::parse(&head[..copied], len)?;
        let head_len = head_len(&meta, &head, len);
        let mut rest = SegmentList::new();
        rest.push_range(segments, head_len, len - head_len)
            .map_err(|_| PacketError::TooManySegments)?;
        Ok(Self {
            head,
            head_len: head_len as u8,
            borrowed: false,
            len: len as u32,
            header,
            meta,
            rest,
        })
    }

    /// What the headers said when the packet was made, or at the last [`Self::reparse`].
    #[inline]
    pub fn meta(&self) -> &PacketMeta {
        &self.meta
    }

    /// Reads the headers again, after [`Self::head_mut`] changed more than addresses.
    #[inline]
    pub fn reparse(&mut self) {
        // The head holds at least 14 bytes, so this cannot fail.
        if let Ok(meta) = PacketMeta::parse(self.head(), self.len()) {
            self.meta = meta;
        }
    }

    /// The virtio header; its offsets count from the start of the Ethernet frame.
    #[inline]
    pub fn vnet(&self) -> &VirtioNetHdr {
        &self.header
    }

    /// Replaces the virtio header.
    #[inline]
    pub fn set_vnet(&mut self, header: VirtioNetHdr) {
        self.header = header;
    }

    /// Length of the frame in bytes, without the virtio header.
    #[inline]
    #[allow(clippy::len_without_is_empty)] // It is never below 14.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// The copy of the first bytes, from the Ethernet header on.
    #[inline]
    pub fn head(&self) -> &[u8] {
        self.head.get(..self.head_len.into()).unwrap_or_default()
    }

    /// The copy of the first bytes, to be rewritten.
    #[inline]
    pub fn head_mut(&mut self) -> &mut [u8] {
        self.head
            .get_mut(..self.head_len.into())
            .unwrap_or_default()
    }

    /// Where the frame comes from.
    #[inline]
    pub fn src_mac(&self) -> MacAddr {
        MacAddr(array(&self.head, 6))
    }

    /// Where the frame goes.
    #[inline]
    pub fn dst_mac(&self) -> MacAddr {
        MacAddr(array(&self.head, 0))
    }

    /// Source address of an IP packet.
    #[inline]
    pub fn ip_src(&self) -> Option<IpAddr> {
        self.address(12, 8)
    }

    /// Destination address of an IP packet.
    #[inline]
    pub fn ip_dst(&self) -> Option<IpAddr> {
        self.address(16, 24)
    }

    #[inline]
    fn address(&self, v4: usize, v6: usize) -> Option<IpAddr> {
        let at = usize::from(self.meta.l3_offset);
        match self.meta.l3 {
            L3::Ipv4 => Some(Ipv4Addr::from(array::<4>(&self.head, at + v4)).into()),
            L3::Ipv6 => Some(Ipv6Addr::from(array::<16>(&self.head, at + v6)).into()),
            L3::Arp | L3::Other => None,
        }
    }

    /// Offset, "more" bit and identification of a fragment.
    pub fn fragment(&self) -> Option<Fragment> {
        if self.meta.fragment == FragmentState::None {
            return None;
        }
        let (at, bits) = match self.meta.l3 {
            L3::Ipv4 => (usize::from(self.meta.l3_offset) + 4, 2),
            _ => (usize::from(self.meta.fragment_header), 2),
        };
        let field = u16::from_be_bytes(array(&self.head, at + bits));
        Some(match self.meta.l3 {
            L3::Ipv4 => Fragment {
                offset: usize::from(field & 0x1fff) * 8,
                more: field & 0x2000 != 0,
                id: u16::from_be_bytes(array(&self.head, at)).into(),
            },
            _ => Fragment {
                offset: usize::from(field & 0xfff8),
                more: field & 1 != 0,
                id: u32::from_be_bytes(array(&self.head, at + 4)),
            },
        })
    }

    /// Bytes of transport payload.
    #[inline]
    pub fn payload_len(&self) -> usize {
        self.meta.payload_len()
    }

    /// The `take` bytes of the transport payload from `skip` on, where they lie; shorter if there
    /// are fewer.
    #[inline]
    pub fn payload(&self, skip: usize, take: usize) -> SegmentList<'_> {
        let skip = skip.min(self.payload_len());
        let take = take.min(self.payload_len() - skip);
        self.range_segments(usize::from(self.meta.payload_offset) + skip, take)
    }

    /// The whole frame: the head, then the rest where it lies.
    #[inline]
    pub fn frame_segments(&self) -> SegmentList<'_> {
        self.range_segments(0, self.len())
    }

    /// The `take` bytes of the frame from `skip` on; shorter if there are fewer.
    #[inline]
    pub fn range_segments(&self, skip: usize, take: usize) -> SegmentList<'_> {
        let mut list = SegmentList::new();
        let head = IoSegment::from(self.head()).slice(skip, take);
        let left = take - head.len();
        // Head and rest together are at most 19 pieces.
        let _ = list.push(head);
        let _ = list.push_range(&self.rest, skip.saturating_sub(self.head_len.into()), left);
        list
    }

    /// Copies from `offset` in the frame on into `out`; returns how many bytes there were.
    pub fn copy_range(&self, offset: usize, out: &mut [u8]) -> usize {
        let head = self.head().get(offset..).unwrap_or_default();
        let n = head.len().min(out.len());
        let (front, back) = out.split_at_mut(n);
        front.copy_from_slice(&head[..n]);
        let skip = offset.saturating_sub(self.head_len.into());
        match self.borrowed_rest() {
            Some(rest) => {
                let rest = rest.get(skip..).unwrap_or_default();
                let m = rest.len().min(back.len());
                back[..m].copy_from_slice(&rest[..m]);
                n + m
            }
            None => n + self.rest.copy_to_slice(skip, back),
        }
    }

    /// The transport payload as one slice: where the packet was made of a slice, or the whole
    /// frame is in the head.
    #[inline]
    pub fn contiguous_payload(&self) -> Option<&[u8]> {
        let (from, to) = (
            usize::from(self.meta.payload_offset),
            self.meta.payload_end as usize,
        );
        let head = usize::from(self.head_len);
        if to <= head {
            return self.head.get(from..to);
        }
        let from = from.checked_sub(head)?;
        self.borrowed_rest()?.get(from..to - head)
    }

    /// What follows the head, where it is Rust memory.
    #[inline]
    fn borrowed_rest(&self) -> Option<&'a [u8]> {
        match (&*self.rest, self.borrowed) {
            ([], _) => Some(&[]),
            // SAFETY: `borrowed` is set only where the segment was made of a `&'a [u8]`.
            ([one], true) => Some(unsafe { one.as_slice() }),
            _ => None,
        }
    }
}

/// How much of the copied bytes is the head of a frame of `len` bytes; see [`ZeroCopyPacket`].
#[inline]
fn head_len(meta: &PacketMeta, head: &[u8; HEAD_MAX], len: usize) -> usize {
    if len <= HEAD_MAX {
        return len;
    }
    let kind = head.get(usize::from(meta.l4_offset)).copied();
    let headers_only = meta.is_ip()
        && !meta.malformed
        && meta.fragment == FragmentState::None
        && match meta.l4_protocol {
            ip_proto::TCP | ip_proto::UDP => true,
            ip_proto::ICMP => matches!(kind, Some(0 | 8)),
            ip_proto::ICMPV6 => matches!(kind, Some(128 | 129)),
            _ => false,
        };
    if headers_only {
        usize::from(meta.payload_offset).min(HEAD_MAX)
    } else {
        HEAD_MAX
    }
}

/// The `N` bytes at `at` of the head; zeros where they would pass its end, which no parsed offset
/// does.
#[inline(always)]
fn array<const N: usize>(head: &[u8; HEAD_MAX], at: usize) -> [u8; N] {
    head.get(at..)
        .and_then(|rest| rest.first_chunk())
        .copied()
        .unwrap_or([0; N])
}
