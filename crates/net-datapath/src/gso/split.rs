//! Dividing one packet into two that share its payload.

#[cfg(test)]
mod tests;

use net_wire::ip_proto;
use net_wire::tcp::TcpFlags;

use super::headers::{self, Piece};
use super::{TCP_CHECKSUM, UDP_CHECKSUM, put16};
use crate::packet::{FragmentState, ZeroCopyPacket};
use crate::vnet::{VirtioNetHdr, VnetError};

/// Why a packet cannot be divided.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[non_exhaustive]
pub enum SplitError {
    /// The virtio header contradicts the frame.
    Header(VnetError),
    /// One of the parts would be empty.
    OutOfRange,
    /// Not a TCP segment, nor a UDP super-frame at the border of two datagrams; or a fragment, a
    /// SYN or RST, a packet in a tunnel, or one whose headers are longer than the copied head.
    Indivisible,
    /// A checksum is wrong, and new ones would hide that.
    BadChecksum,
}

impl core::fmt::Display for SplitError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Header(error) => error.fmt(f),
            Self::OutOfRange => f.write_str("one part would be empty"),
            Self::Indivisible => f.write_str("packet cannot be divided there"),
            Self::BadChecksum => f.write_str("checksum is wrong"),
        }
    }
}

impl core::error::Error for SplitError {}

impl From<VnetError> for SplitError {
    fn from(error: VnetError) -> Self {
        Self::Header(error)
    }
}

impl<'a> ZeroCopyPacket<'a> {
    /// Divides a TCP segment, or a TCP or UDP super-frame, `at` bytes into its payload: two
    /// packets with headers of their own over the payload of `self`, which is not copied.
    ///
    /// The parts follow the rules of [`crate::gso`], so that cutting both gives the frames that
    /// cutting the whole gives, wherever `at` is a multiple of the segment size; a UDP super-frame
    /// can be divided nowhere else. Their transport checksums are partial
    /// ([`VirtioNetHdr::NEEDS_CSUM`]); a part of one segment is no super-frame any more. Payload is
    /// read only where the checksum of `self` is finished and nobody vouches for it. Ethernet
    /// padding is left out.
    ///
    /// # Errors
    /// A [`SplitError`].
    pub fn split_at(&self, at: usize) -> Result<(Self, Self), SplitError> {
        let (meta, vnet) = (self.meta(), *self.vnet());
        vnet.validate(self.len(), meta)?;
        let (total, size) = (self.payload_len(), usize::from(vnet.gso_size));
        if !meta.has_transport(meta.l4_protocol) || meta.fragment != FragmentState::None {
            return Err(SplitError::Indivisible);
        }
        let (divisible, checksum_at) = match meta.l4_protocol {
            ip_proto::TCP => {
                let opening = TcpFlags(meta.tcp_flags).intersects(TcpFlags::SYN | TcpFlags::RST);
                (!opening, TCP_CHECKSUM)
            }
            ip_proto::UDP => (vnet.is_gso() && at.is_multiple_of(size), UDP_CHECKSUM),
            _ => (false, 0),
        };
        let ours = (vnet.csum_start, vnet.csum_offset) == (meta.l4_offset, checksum_at as u16);
        let in_head = usize::from(meta.payload_offset) <= self.head().len();
        if !divisible || !in_head || (vnet.needs_csum() && !ours) {
            return Err(SplitError::Indivisible);
        }
        if at == 0 || at >= total {
            return Err(SplitError::OutOfRange);
        }
        if !self.verify_ip_checksum() || !self.verify_l4_checksum() {
            return Err(SplitError::BadChecksum);
        }
        let index = if vnet.is_gso() { at.div_ceil(size) } else { 1 };
        let parts = [(0, 0, at, false), (index, at, total - at, true)];
        let [front, back] = parts.map(|(index, before, len, last)| {
            let piece = Piece {
                index,
                before,
                len,
                last,
            };
            self.part(&piece, checksum_at)
        });
        match (front, back) {
            (Some(front), Some(back)) => Ok((front, back)),
            _ => Err(SplitError::Indivisible),
        }
    }

    fn part(&self, piece: &Piece, checksum_at: usize) -> Option<Self> {
        let (meta, vnet) = (self.meta(), self.vnet());
        let headers_len = usize::from(meta.payload_offset);
        let mut room = [0; Self::HEADROOM + Self::HEAD_MAX];
        let headers = room.get_mut(..headers_len)?;
        headers.copy_from_slice(self.head().get(..headers_len)?);
        let (_, pseudo) = headers::patch(headers, meta, headers::pseudo(self)?, piece);
        put16(
            headers.get_mut(meta.l4_offset.into()..)?,
            checksum_at,
            pseudo.fold(),
        );
        let mut part = VirtioNetHdr {
            flags: VirtioNetHdr::NEEDS_CSUM,
            csum_start: meta.l4_offset,
            csum_offset: checksum_at as u16,
            hdr_len: meta.payload_offset,
            ..VirtioNetHdr::PLAIN
        };
        if vnet.is_gso() && piece.len > usize::from(vnet.gso_size) {
            part.gso_size = vnet.gso_size;
            part.gso_type = vnet.gso_type;
            if piece.index > 0 {
                part.gso_type &= !VirtioNetHdr::GSO_ECN;
            }
        }
        // Of a short frame, payload lies in the head as well.
        let from = headers_len + piece.before;
        let inline = self.head().get(from..).unwrap_or_default();
        let inline = inline.get(..piece.len).unwrap_or(inline);
        let skip = from.saturating_sub(self.head().len());
        self.derive(&[headers, inline], skip, piece.len - inline.len(), part)
    }
}
