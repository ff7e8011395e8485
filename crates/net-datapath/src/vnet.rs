//! The header that travels in front of every frame: `struct virtio_net_hdr_v1`.
//!
//! It says what an offload left undone: a checksum that is only partial, or a super-frame that is
//! still to be cut into segments. Its offsets count from the start of the Ethernet frame.
//! Nothing here trusts it: [`VirtioNetHdr::validate`] compares it with the parsed packet, and
//! `hdr_len`, which VIRTIO 1.3 calls a hint (5.1.6.2), is never used to find anything.

use net_wire::ip_proto;

use crate::packet::{FragmentState, L3, PacketMeta};

/// `struct virtio_net_hdr_v1` (VIRTIO 1.3, section 5.1.6): 12 bytes, little-endian on the wire.
// In the order of the wire and without padding, so that reading and writing it are two words.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct VirtioNetHdr {
    /// [`Self::NEEDS_CSUM`] and [`Self::DATA_VALID`].
    pub flags: u8,
    /// One of the `GSO_` constants, perhaps with [`Self::GSO_ECN`].
    pub gso_type: u8,
    /// Length of all headers, in bytes, from the start of the frame; a hint.
    pub hdr_len: u16,
    /// Payload bytes of each segment.
    pub gso_size: u16,
    /// Where the checksummed bytes start, in bytes from the start of the frame.
    pub csum_start: u16,
    /// Where the checksum is stored, in bytes behind `csum_start`.
    pub csum_offset: u16,
    /// Receive buffers this frame fills (1 without mergeable buffers; ignored on transmission).
    pub num_buffers: u16,
}

/// What kind of super-frame a header announces.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[non_exhaustive]
pub enum GsoKind {
    /// An ordinary frame.
    None,
    /// TCP over IPv4.
    TcpV4,
    /// TCP over IPv6.
    TcpV6,
    /// UDP fragmentation offload: one datagram to be cut into IP fragments. Obsolete.
    UdpFragment,
    /// UDP segmentation offload: many datagrams of one flow.
    UdpL4,
    /// A value this crate does not know.
    Unknown(u8),
}

/// How a header contradicts its frame. The fault is the sender's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[non_exhaustive]
pub enum VnetError {
    /// The checksum field or its start lies outside the frame.
    ChecksumOutOfBounds,
    /// The announced kind of super-frame is unknown or obsolete.
    UnsupportedGso,
    /// The frame is not of the protocol that the header announces, or is a fragment.
    GsoMismatch,
    /// A super-frame whose segment size is zero.
    ZeroGsoSize,
}

impl core::fmt::Display for VnetError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::ChecksumOutOfBounds => "checksum field outside the frame",
            Self::UnsupportedGso => "unsupported segmentation type",
            Self::GsoMismatch => "segmentation type does not match the frame",
            Self::ZeroGsoSize => "segment size of zero",
        })
    }
}

impl core::error::Error for VnetError {}

impl VirtioNetHdr {
    /// Length on the wire, in bytes.
    pub const LEN: usize = 12;
    /// Flag: the checksum field holds the folded pseudo-header sum only.
    pub const NEEDS_CSUM: u8 = 1;
    /// Flag: the checksum has been verified, or never left this machine.
    pub const DATA_VALID: u8 = 2;
    /// Not a super-frame.
    pub const GSO_NONE: u8 = 0;
    /// TCP over IPv4.
    pub const GSO_TCPV4: u8 = 1;
    /// UDP fragmentation offload (obsolete).
    pub const GSO_UDP: u8 = 3;
    /// TCP over IPv6.
    pub const GSO_TCPV6: u8 = 4;
    /// UDP segmentation offload.
    pub const GSO_UDP_L4: u8 = 5;
    /// Bit: the CWR flag of the super-frame belongs on the first segment only.
    pub const GSO_ECN: u8 = 0x80;

    /// An ordinary frame with finished checksums.
    pub const PLAIN: Self = Self {
        flags: 0,
        gso_type: Self::GSO_NONE,
        hdr_len: 0,
        gso_size: 0,
        csum_start: 0,
        csum_offset: 0,
        num_buffers: 0,
    };

    /// Reads the wire format.
    // As a whole: field by field it is seven loads, and as many stores wherever it goes.
    #[inline]
    pub const fn from_bytes(bytes: &[u8; Self::LEN]) -> Self {
        // SAFETY: integers of 12 bytes together and no padding, of which any bytes are a value.
        let raw = unsafe { core::mem::transmute::<[u8; Self::LEN], Self>(*bytes) };
        raw.little_endian()
    }

    /// Writes the wire format.
    #[inline]
    pub const fn to_bytes(self) -> [u8; Self::LEN] {
        // SAFETY: as in `from_bytes`; bytes have no alignment.
        unsafe { core::mem::transmute::<Self, [u8; Self::LEN]>(self.little_endian()) }
    }

    /// From the order of the wire to the machine's, or back: nothing on most machines.
    #[inline(always)]
    const fn little_endian(self) -> Self {
        if cfg!(target_endian = "little") {
            return self;
        }
        Self {
            flags: self.flags,
            gso_type: self.gso_type,
            hdr_len: self.hdr_len.to_le(),
            gso_size: self.gso_size.to_le(),
            csum_start: self.csum_start.to_le(),
            csum_offset: self.csum_offset.to_le(),
            num_buffers: self.num_buffers.to_le(),
        }
    }

    /// Whether the checksum is still to be completed.
    #[inline]
    pub const fn needs_csum(&self) -> bool {
        self.flags & Self::NEEDS_CSUM != 0
    }

    /// Whether the sender vouches for the checksum.
    #[inline]
    pub const fn data_valid(&self) -> bool {
        self.flags & Self::DATA_VALID != 0
    }

    /// Whether this is a super-frame.
    #[inline]
    pub const fn is_gso(&self) -> bool {
        self.gso_type & !Self::GSO_ECN != Self::GSO_NONE
    }

    /// The kind of super-frame, without the ECN bit.
    #[inline]
    pub const fn gso_kind(&self) -> GsoKind {
        match self.gso_type & !Self::GSO_ECN {
            Self::GSO_NONE => GsoKind::None,
            Self::GSO_TCPV4 => GsoKind::TcpV4,
            Self::GSO_TCPV6 => GsoKind::TcpV6,
            Self::GSO_UDP => GsoKind::UdpFragment,
            Self::GSO_UDP_L4 => GsoKind::UdpL4,
            other => GsoKind::Unknown(other),
        }
    }

    /// The header of the same packet behind a link-layer header of `l2_len` bytes, for a header
    /// whose offsets were relative to the IP header.
    #[inline]
    #[must_use]
    pub const fn shifted(mut self, l2_len: u16) -> Self {
        if self.needs_csum() {
            self.csum_start = self.csum_start.saturating_add(l2_len);
        }
        if self.is_gso() || self.hdr_len != 0 {
            self.hdr_len = self.hdr_len.saturating_add(l2_len);
        }
        self
    }

    /// The header of the same packet with `n` bytes more in front; `None` where the start of the
    /// checksum would pass 65,535.
    #[inline]
    pub(crate) fn pushed(mut self, n: usize) -> Option<Self> {
        if self.needs_csum() {
            self.csum_start = u16::try_from(usize::from(self.csum_start) + n).ok()?;
        }
        if self.is_gso() || self.hdr_len != 0 {
            // A hint, which may be as wrong as its sender likes.
            self.hdr_len = self.hdr_len.saturating_add(n as u16);
        }
        Some(self)
    }

    /// The header of the same packet without its first `n` bytes; `None` where the checksummed
    /// part starts in them.
    #[inline]
    pub(crate) fn pulled(mut self, n: usize) -> Option<Self> {
        if self.needs_csum() {
            let start = usize::from(self.csum_start).checked_sub(n)?;
            self.csum_start = start as u16;
        }
        self.hdr_len = usize::from(self.hdr_len).saturating_sub(n) as u16;
        Some(self)
    }

    /// Checks the header against the frame it came with: `frame_len` in bytes and the parsed
    /// headers.
    ///
    /// # Errors
    /// A [`VnetError`] that says which field cannot be true.
    pub fn validate(&self, frame_len: usize, meta: &PacketMeta) -> Result<(), VnetError> {
        if self.needs_csum() {
            let start = usize::from(self.csum_start);
            if start < usize::from(meta.l3_offset)
                || start + usize::from(self.csum_offset) + 2 > frame_len
            {
                return Err(VnetError::ChecksumOutOfBounds);
            }
        }
        let fits = match self.gso_kind() {
            GsoKind::None => return Ok(()),
            GsoKind::TcpV4 => meta.l3 == L3::Ipv4 && meta.l4_protocol == ip_proto::TCP,
            GsoKind::TcpV6 => meta.l3 == L3::Ipv6 && meta.l4_protocol == ip_proto::TCP,
            GsoKind::UdpL4 => meta.is_ip() && meta.l4_protocol == ip_proto::UDP,
            GsoKind::UdpFragment | GsoKind::Unknown(_) => return Err(VnetError::UnsupportedGso),
        };
        if !fits || meta.malformed || meta.fragment != FragmentState::None {
            return Err(VnetError::GsoMismatch);
        }
        if self.gso_size == 0 {
            return Err(VnetError::ZeroGsoSize);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wire_format_is_little_endian() {
        let header = VirtioNetHdr {
            flags: VirtioNetHdr::NEEDS_CSUM,
            gso_type: VirtioNetHdr::GSO_TCPV4 | VirtioNetHdr::GSO_ECN,
            hdr_len: 0x0102,
            gso_size: 1448,
            csum_start: 34,
            csum_offset: 16,
            num_buffers: 1,
        };
        let bytes = [1, 0x81, 2, 1, 0xa8, 5, 34, 0, 16, 0, 1, 0];
        assert_eq!(header.to_bytes(), bytes);
        assert_eq!(VirtioNetHdr::from_bytes(&bytes), header);
        assert_eq!(header.gso_kind(), GsoKind::TcpV4);
    }

    #[test]
    fn shifting_moves_only_what_is_used() {
        assert_eq!(VirtioNetHdr::PLAIN.shifted(14), VirtioNetHdr::PLAIN);
        let header = VirtioNetHdr {
            flags: VirtioNetHdr::NEEDS_CSUM,
            gso_type: VirtioNetHdr::GSO_TCPV6,
            hdr_len: 60,
            csum_start: 40,
            csum_offset: 16,
            ..VirtioNetHdr::PLAIN
        };
        let shifted = header.shifted(14);
        assert_eq!((shifted.csum_start, shifted.hdr_len), (54, 74));
        assert_eq!(shifted.csum_offset, 16);
    }
}
