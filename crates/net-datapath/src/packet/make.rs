//! Packets made where they stay.
//!
//! Made in its place, a packet costs its head and its pieces; returned and moved, it is 600 bytes to
//! copy each time.

use net_wire::ethernet::HEADER_LEN;
use net_wire::ip_proto;

use super::{
    FragmentState, HEAD_MAX, HEADROOM, MAX_FRAME_LEN, PacketError, PacketMeta, ZeroCopyPacket,
};
use crate::segment::IoSegment;
use crate::vnet::VirtioNetHdr;

impl<'a> ZeroCopyPacket<'a> {
    /// Makes this the packet of [`Self::from_slice`]; after an error it is none.
    #[inline]
    pub(super) fn assign_slice(
        &mut self,
        frame: &'a [u8],
        header: VirtioNetHdr,
    ) -> Result<(), PacketError> {
        if frame.len() > MAX_FRAME_LEN {
            return Err(PacketError::TooLong);
        }
        let copied = match (frame.first_chunk(), self.room.last_chunk_mut::<HEAD_MAX>()) {
            (Some(first), Some(head)) => {
                *head = *first;
                HEAD_MAX
            }
            _ => {
                self.room[HEADROOM..HEADROOM + frame.len()].copy_from_slice(frame);
                frame.len()
            }
        };
        let head = &self.room[HEADROOM..HEADROOM + copied];
        let meta = self.record.make(head, frame.len(), header)?;
        let head_len = head_len(meta, head, frame.len());
        self.pieces.truncate(1);
        // One segment always fits.
        let _ = self
            .pieces
            .push(IoSegment::from(frame.get(head_len..).unwrap_or_default()));
        self.settle(frame.len(), head_len, true);
        Ok(())
    }

    /// [`Self::assign`] for one piece, whose headers are left to be read by who asks for them. So the
    /// head is as long as a head can be.
    #[inline(always)]
    pub(super) fn assign_one(
        &mut self,
        frame: IoSegment<'a>,
        header: VirtioNetHdr,
    ) -> Result<(), PacketError> {
        let len = frame.len();
        if len < HEADER_LEN {
            return Err(PacketError::TooShort);
        }
        if len > MAX_FRAME_LEN {
            return Err(PacketError::TooLong);
        }
        self.pieces.truncate(1);
        let room = &mut self.room[HEADROOM..];
        let head_len = if let Some(head) = room.get_mut(..len) {
            frame.copy_to_slice(0, head);
            len
        } else {
            // A length the compiler knows: no loop.
            frame.copy_to_slice(0, room);
            // One segment always fits.
            let _ = self.pieces.push(frame.slice(HEAD_MAX, usize::MAX));
            HEAD_MAX
        };
        self.record.leave(header);
        self.settle(len, head_len, false);
        Ok(())
    }

    /// Makes this the packet of [`Self::from_segments`]; after an error it is none.
    #[inline]
    pub(super) fn assign(
        &mut self,
        segments: &[IoSegment<'a>],
        header: VirtioNetHdr,
    ) -> Result<(), PacketError> {
        if let [one] = segments
            && one.len() <= HEAD_MAX
        {
            return self.assign_one(*one, header);
        }
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
        let mut copied = 0;
        for segment in segments {
            copied += segment.copy_to_slice(0, &mut self.room[HEADROOM + copied..]);
            if copied == HEAD_MAX {
                break;
            }
        }
        let head = &self.room[HEADROOM..HEADROOM + copied];
        let meta = self.record.make(head, len, header)?;
        let head_len = head_len(meta, head, len);
        self.pieces.truncate(1);
        self.pieces
            .push_range(segments, head_len, len - head_len)
            .map_err(|_| PacketError::TooManySegments)?;
        self.settle(len, head_len, false);
        Ok(())
    }

    /// Notes the lengths, of a frame that is not too long, once head, record and pieces are there.
    #[inline(always)]
    fn settle(&mut self, len: usize, head_len: usize, borrowed: bool) {
        self.start = HEADROOM as u8;
        self.head_len = head_len as u8;
        self.borrowed = borrowed;
        self.len = len as u32;
    }
}

/// How much of the copied bytes is the head of a frame of `len` bytes; see [`ZeroCopyPacket`].
#[inline]
pub(super) fn head_len(meta: &PacketMeta, head: &[u8], len: usize) -> usize {
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
