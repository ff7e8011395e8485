//! A frame: its virtio header, a private copy of its headers, and its payload where it lies.
//!
//! The headers are copied once, at most 128 bytes of them, and every decision and every rewrite
//! is made on the copy. The payload stays in the sender's memory as a scatter list and goes on
//! by `writev`, or by the one copy into the receiver's memory. A guest that changes its buffers
//! meanwhile spoils its own payload and nothing else.
//!
//! ```text
//!        |<--- 80 --->|<---- up to 128 ---->|
//!  copy: | head-room  | head                |
//!                                            \
//!  memory of others:        (head's origin)   [rest 0] [rest 1] ...
//! ```
//!
//! In front of the copy there is room for tags and tunnel headers:
//! [`push_head`](ZeroCopyPacket::push_head), [`pull_head`](ZeroCopyPacket::pull_head). The payload
//! is not moved by any of that, nor by [`split_at`](ZeroCopyPacket::split_at), nor by the export as
//! `struct iovec`s ([`frame_segments`](ZeroCopyPacket::frame_segments)).

mod batch;
mod checksum;
mod fast;
mod flow;
mod make;
mod meta;
#[cfg(test)]
mod model;
mod record;
mod rewrite;
#[cfg(test)]
mod tests;

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use net_wire::ethernet::HEADER_LEN;
use net_wire::ipv6::Fragment;
use net_wire::{MacAddr, WireError};

pub use batch::{PacketBatch, PacketFill};
pub use meta::{FragmentState, L3, PacketMeta};

use self::make::head_len;
use self::record::Record;
use crate::segment::{IoSegment, SegmentList, copy_to_slice};
use crate::vnet::VirtioNetHdr;

/// The longest frame: the largest IP packet behind a tagged Ethernet header, in bytes. The length
/// field of IPv6 does not count its header of 40.
pub const MAX_FRAME_LEN: usize = 65_535 + 40 + 18;

const HEAD_MAX: usize = 128;
const HEADROOM: usize = 80;
/// The private copy and the room in front of it.
const ROOM: usize = HEADROOM + HEAD_MAX;

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
    /// The batch it was to be part of has no room: nobody's fault but the caller's.
    BatchFull,
}

impl core::fmt::Display for PacketError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::TooShort => "frame shorter than an Ethernet header",
            Self::TooLong => "frame longer than 65,553 bytes",
            Self::TooManySegments => "frame in more than 18 pieces",
            Self::BatchFull => "no room in the batch",
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
/// echo message exactly the headers (so that the payload is one run), unless it came in one piece of a
/// device's batch ([`PacketFill::push_segment`]); of anything else the first 128 bytes.
///
/// # Making one
/// - of a slice, a [`PacketBuf`](crate::PacketBuf) or a [`SharedBuf`](crate::SharedBuf), which are
///   slices by `Deref`: [`Self::from_slice`];
/// - of several of them: [`Self::from_segments`] with [`IoSegment::from`] each;
/// - of raw guest memory: `unsafe` [`Self::from_raw`].
///
/// It may go to another thread, and is not shared between two: what the headers say may be read when
/// somebody first asks ([`Self::meta`]).
///
/// ```
/// fn goes_to_another_thread<T: Send>() {}
/// goes_to_another_thread::<net_datapath::ZeroCopyPacket<'static>>();
/// ```
///
/// ```compile_fail,E0277
/// fn is_shared_by_threads<T: Sync>() {}
/// is_shared_by_threads::<net_datapath::ZeroCopyPacket<'static>>();
/// ```
#[derive(Clone)]
pub struct ZeroCopyPacket<'a> {
    room: [u8; ROOM],
    /// Where the head starts in `room`; `start + head_len <= ROOM`.
    start: u8,
    head_len: u8,
    /// The rest is Rust memory, which nobody changes for `'a`.
    borrowed: bool,
    len: u32,
    record: Record,
    /// The first is the place of the head in an export ([`Self::segments`]) and stale otherwise;
    /// behind it comes what is not the packet's memory.
    pieces: SegmentList<'a>,
}

impl<'a> ZeroCopyPacket<'a> {
    /// Most bytes that are copied at the front of a frame.
    pub const HEAD_MAX: usize = HEAD_MAX;
    /// Most pieces a frame may come in, empty ones not counted.
    pub const MAX_SEGMENTS: usize = 18;
    /// Room in front of a new packet, in bytes: for VXLAN over IPv6 (70) and two tags.
    pub const HEADROOM: usize = HEADROOM;

    /// Makes a packet of a whole Ethernet frame in one slice.
    ///
    /// # Errors
    /// [`PacketError::TooShort`] and [`PacketError::TooLong`].
    #[inline]
    pub fn from_slice(frame: &'a [u8], header: VirtioNetHdr) -> Result<Self, PacketError> {
        let mut packet = Self::blank();
        packet.assign_slice(frame, header)?;
        Ok(packet)
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
        let mut packet = Self::blank();
        packet.assign(segments, header)?;
        Ok(packet)
    }

    /// No packet yet: it has no byte, and is not shown to anybody before one was assigned.
    const fn blank() -> Self {
        Self {
            room: [0; ROOM],
            start: HEADROOM as u8,
            head_len: 0,
            borrowed: false,
            len: 0,
            record: Record::blank(),
            pieces: SegmentList::with_place(),
        }
    }

    /// Makes a packet of pieces of memory that are no Rust slices: the descriptors of a virtqueue,
    /// translated to addresses of this process.
    ///
    /// ```
    /// # use net_datapath::{PacketError, VirtioNetHdr, ZeroCopyPacket};
    /// # let memory = [0xffu8; 64];
    /// # let descriptors = [(memory.as_ptr(), 14), (memory[14..].as_ptr(), 50)];
    /// // SAFETY: the memory of the guest is mapped as long as `descriptors` is borrowed, and no
    /// // reference into it exists in this process.
    /// let packet = unsafe { ZeroCopyPacket::from_raw(descriptors, VirtioNetHdr::PLAIN)? };
    /// assert_eq!(packet.len(), 64);
    /// # Ok::<(), PacketError>(())
    /// ```
    ///
    /// # Safety
    /// The bytes of each `(address, length)` stay mapped and readable for `'a`, which the caller
    /// chooses. Somebody outside this program (a guest) may write them meanwhile; no Rust reference
    /// in this program may do so.
    ///
    /// # Errors
    /// As [`Self::from_segments`].
    pub unsafe fn from_raw(
        pieces: impl IntoIterator<Item = (*const u8, usize)>,
        header: VirtioNetHdr,
    ) -> Result<Self, PacketError> {
        let mut segments = SegmentList::new();
        for (base, len) in pieces {
            // SAFETY: the caller's promise.
            let segment = unsafe { IoSegment::<'a>::from_raw(base, len) };
            segments
                .push(segment)
                .map_err(|_| PacketError::TooManySegments)?;
        }
        Self::from_segments(&segments, header)
    }

    /// A packet of `front`, which becomes its head, and what follows, which comes from the rest of
    /// `self` at `skip` and has `take` bytes. `None` where that is no packet.
    pub(crate) fn derive(
        &self,
        front: &[&[u8]],
        skip: usize,
        take: usize,
        header: VirtioNetHdr,
    ) -> Option<Self> {
        let head_len: usize = front.iter().map(|piece| piece.len()).sum();
        // Where the head is longer than a new one's, it takes part of the head-room.
        let start = HEADROOM.min(ROOM.checked_sub(head_len)?);
        let mut room = [0; ROOM];
        let mut at = start;
        for piece in front {
            room.get_mut(at..at + piece.len())?.copy_from_slice(piece);
            at += piece.len();
        }
        let len = head_len + take;
        let mut meta = PacketMeta::parse(room.get(start..at)?, len).ok()?;
        meta.offload = header;
        Some(Self {
            room,
            start: start as u8,
            head_len: head_len as u8,
            borrowed: self.borrowed,
            len: len as u32,
            record: Record::of(meta),
            pieces: self.rest_range(skip, take),
        })
    }

    /// What the headers said when the packet was made, or at the last [`Self::reparse`].
    #[inline]
    pub fn meta(&self) -> &PacketMeta {
        self.record.get(self.head(), self.len())
    }

    /// Reads the headers again, after [`Self::head_mut`] changed more than addresses. Headers that
    /// are not in the head yet are copied, as in [`Self::pull_head`].
    #[inline]
    pub fn reparse(&mut self) {
        // More than an Ethernet header is always left.
        let _ = self.parse_behind(0);
    }

    /// The virtio header; its offsets count from the start of the Ethernet frame.
    #[inline]
    pub fn vnet(&self) -> &VirtioNetHdr {
        self.record.offload()
    }

    /// Replaces the virtio header.
    #[inline]
    pub fn set_vnet(&mut self, header: VirtioNetHdr) {
        self.record.set_offload(header);
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
        let start = usize::from(self.start);
        let head = self.room.get(start..start + usize::from(self.head_len));
        head.unwrap_or_default()
    }

    /// The copy of the first bytes, to be rewritten.
    #[inline]
    pub fn head_mut(&mut self) -> &mut [u8] {
        // The record is that of the headers as they came.
        self.meta();
        let start = usize::from(self.start);
        let head = self.room.get_mut(start..start + usize::from(self.head_len));
        head.unwrap_or_default()
    }

    /// The pieces behind the head, which are not this packet's memory.
    #[inline]
    pub fn rest(&self) -> &[IoSegment<'a>] {
        self.pieces.get(1..).unwrap_or_default()
    }

    /// The pieces of the `take` bytes of the rest from `skip` on, for a packet of their own.
    fn rest_range(&self, skip: usize, take: usize) -> SegmentList<'a> {
        let mut pieces = SegmentList::with_place();
        // A part of the rest has no more pieces than the rest.
        let _ = pieces.push_range(self.rest(), skip, take);
        pieces
    }

    /// Bytes that [`Self::push_head`] still has room for.
    #[inline]
    pub fn headroom(&self) -> usize {
        self.start.into()
    }

    /// Where the frame comes from.
    #[inline]
    pub fn src_mac(&self) -> MacAddr {
        MacAddr(self.array(6))
    }

    /// Where the frame goes.
    #[inline]
    pub fn dst_mac(&self) -> MacAddr {
        MacAddr(self.array(0))
    }

    /// Whether a switch that knows where one of two frames goes knows it of the other: they have the same
    /// addresses, type and, if any, tag. Said of no frame shorter than a header with a tag's 16 bits.
    #[inline]
    pub fn goes_like(&self, other: &Self) -> bool {
        let start = |packet: &Self| packet.head().first_chunk::<{ HEADER_LEN + 2 }>().copied();
        start(self).is_some_and(|one| start(other) == Some(one))
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
        let at = usize::from(self.meta().l3_offset);
        match self.meta().l3 {
            L3::Ipv4 => Some(Ipv4Addr::from(self.array::<4>(at + v4)).into()),
            L3::Ipv6 => Some(Ipv6Addr::from(self.array::<16>(at + v6)).into()),
            L3::Arp | L3::Other => None,
        }
    }

    /// Offset, "more" bit and identification of a fragment.
    pub fn fragment(&self) -> Option<Fragment> {
        if self.meta().fragment == FragmentState::None {
            return None;
        }
        let at = match self.meta().l3 {
            L3::Ipv4 => usize::from(self.meta().l3_offset) + 4,
            _ => usize::from(self.meta().fragment_header),
        };
        let field = u16::from_be_bytes(self.array(at + 2));
        Some(match self.meta().l3 {
            L3::Ipv4 => Fragment {
                offset: usize::from(field & 0x1fff) * 8,
                more: field & 0x2000 != 0,
                id: u16::from_be_bytes(self.array(at)).into(),
            },
            _ => Fragment {
                offset: usize::from(field & 0xfff8),
                more: field & 1 != 0,
                id: u32::from_be_bytes(self.array(at + 4)),
            },
        })
    }

    /// Bytes of transport payload.
    #[inline]
    pub fn payload_len(&self) -> usize {
        self.meta().payload_len()
    }

    /// The `take` bytes of the transport payload from `skip` on, where they lie; shorter if there
    /// are fewer.
    #[inline]
    pub fn payload(&self, skip: usize, take: usize) -> SegmentList<'_> {
        let skip = skip.min(self.payload_len());
        let take = take.min(self.payload_len() - skip);
        self.range_segments(usize::from(self.meta().payload_offset) + skip, take)
    }

    /// The whole frame as [`Self::frame_segments`] has it, in the packet's own list: for a frame
    /// that goes on as it is, without a copy of the list.
    #[inline]
    pub fn segments(&mut self) -> &[IoSegment<'_>] {
        let head = IoSegment::from(self.head());
        // SAFETY: the head lives as long as the packet stays borrowed, which is as long as anybody
        // can see this segment: `rest` leaves it out, and the next call puts another in its place.
        let head = unsafe { IoSegment::<'a>::from_raw(head.as_ptr(), head.len()) };
        self.pieces.set_first(head);
        &self.pieces
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
        let _ = list.push_range(self.rest(), skip.saturating_sub(self.head_len.into()), left);
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
            None => n + copy_to_slice(self.rest(), skip, back),
        }
    }

    /// The transport payload as one slice: where the packet was made of a slice, or the whole
    /// frame is in the head.
    #[inline]
    pub fn contiguous_payload(&self) -> Option<&[u8]> {
        let (from, to) = (
            usize::from(self.meta().payload_offset),
            self.meta().payload_end as usize,
        );
        let head = usize::from(self.head_len);
        if to <= head {
            return self.head().get(from..to);
        }
        let from = from.checked_sub(head)?;
        self.borrowed_rest()?.get(from..to - head)
    }

    /// The `N` bytes at `at` of the head; zeros where they would pass the end of its room, which
    /// no parsed offset does.
    #[inline(always)]
    fn array<const N: usize>(&self, at: usize) -> [u8; N] {
        let bytes = self.room.get(usize::from(self.start) + at..);
        let bytes = bytes.and_then(|rest| rest.first_chunk());
        bytes.copied().unwrap_or([0; N])
    }

    /// What follows the head, where it is Rust memory.
    #[inline]
    fn borrowed_rest(&self) -> Option<&'a [u8]> {
        match (self.rest(), self.borrowed) {
            ([], _) => Some(&[]),
            // SAFETY: `borrowed` is set only where the segment was made of a `&'a [u8]`.
            ([one], true) => Some(unsafe { one.as_slice() }),
            _ => None,
        }
    }
}

impl core::fmt::Debug for ZeroCopyPacket<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("ZeroCopyPacket")
            .field("len", &self.len)
            .field("meta", self.meta())
            .field("head", &self.head())
            .field("rest", &self.rest())
            .finish()
    }
}
