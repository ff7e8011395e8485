//! Segmentation offload in software: super-frames become frames of at most one MTU.
//!
//! A port that cannot carry offloads gets its frames through a [`Segmenter`]; one that can gets
//! them as they are. The segmenter works from the private copy of the headers and reads the
//! payload once, into the buffer of each segment, where it is then summed: a guest that changes
//! its memory meanwhile cannot make a wrong checksum. A super-frame that is merely too long for
//! somebody is divided by [`ZeroCopyPacket::split_at`], which reads no payload at all.
//!
//! What each segment gets (the rules a NIC follows):
//!
//! | field | rule |
//! |---|---|
//! | IPv4 identification | counts up from the super-frame's |
//! | IP and UDP lengths | those of the segment |
//! | TCP sequence number | advances by the payload before it |
//! | FIN, PSH | on the last segment only |
//! | CWR | on the first segment only (RFC 3168) |
//! | URG and urgent pointer | while the urgent byte still lies ahead |
//! | checksums | complete, or partial for a port that takes those |
//!
//! ```
//! use net_datapath::{VirtioNetHdr, ZeroCopyPacket, gso::{Checksums, Segmenter}};
//!
//! # let mut frame = vec![0u8; 14 + 20 + 8 + 2500];
//! # frame[12..14].copy_from_slice(&[8, 0]);
//! # frame[14..34].copy_from_slice(&[0x45, 0, 9, 224, 0, 1, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
//! # frame[38..40].copy_from_slice(&2508u16.to_be_bytes());
//! // A UDP super-frame of 2,500 payload bytes, to be cut into datagrams of 1,000.
//! let header = VirtioNetHdr { gso_type: VirtioNetHdr::GSO_UDP_L4, gso_size: 1000, ..VirtioNetHdr::PLAIN };
//! let packet = ZeroCopyPacket::from_slice(&frame, header)?;
//! let mut segmenter = Segmenter::new(&packet, 1500, Checksums::Complete)?;
//! let mut buffer = [0; 1514];
//! let mut lengths = Vec::new();
//! while let Some(result) = segmenter.write_next(&mut buffer) {
//!     lengths.push(result?.0);
//! }
//! assert_eq!(lengths, [1042, 1042, 542]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod checksum;
mod headers;
mod split;
#[cfg(test)]
mod tests;

use net_wire::checksum::{Sum, sum};
use net_wire::tcp::TcpFlags;

pub use checksum::complete_checksum;
pub use split::SplitError;

use headers::Piece;

use crate::packet::ZeroCopyPacket;
use crate::vnet::{GsoKind, VirtioNetHdr, VnetError};

/// Most segments of one TCP super-frame: 65,535 bytes in segments of 48, the least that Linux
/// makes. A guest that asks for more wants to multiply our work, not to send.
pub const MAX_TCP_SEGMENTS: usize = 1366;
/// Most datagrams of one UDP super-frame; Linux sends 64 to 128.
pub const MAX_UDP_SEGMENTS: usize = 128;

/// Room for the longest headers: the transport header starts within the copied head (128 bytes)
/// and has at most 60.
const MAX_HEADERS: usize = 192;
/// Offsets of the checksum field in the transport headers.
const TCP_CHECKSUM: usize = 16;
const UDP_CHECKSUM: usize = 6;

/// Why a frame cannot be cut. All but [`Self::BufferTooSmall`] are the sender's fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[non_exhaustive]
pub enum GsoError {
    /// The virtio header contradicts the frame.
    Header(VnetError),
    /// A datagram, or the headers alone, do not fit the MTU.
    ExceedsMtu,
    /// More segments than [`MAX_TCP_SEGMENTS`] or [`MAX_UDP_SEGMENTS`].
    TooManySegments,
    /// A SYN or RST with more than one segment of data.
    UnexpectedFlags,
    /// The caller's buffer is too small; the same segment can be asked for again.
    BufferTooSmall {
        /// Length of the frame, in bytes.
        needed: usize,
    },
}

impl core::fmt::Display for GsoError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Header(error) => error.fmt(f),
            Self::ExceedsMtu => f.write_str("segment does not fit the MTU"),
            Self::TooManySegments => f.write_str("super-frame of too many segments"),
            Self::UnexpectedFlags => f.write_str("super-frame with SYN or RST"),
            Self::BufferTooSmall { needed } => write!(f, "buffer smaller than {needed} bytes"),
        }
    }
}

impl core::error::Error for GsoError {}

impl From<VnetError> for GsoError {
    fn from(error: VnetError) -> Self {
        Self::Header(error)
    }
}

/// How the segments' transport checksums are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Checksums {
    /// Finished; the virtio header of each segment is plain.
    Complete,
    /// The pseudo-header sum only, with [`VirtioNetHdr::NEEDS_CSUM`]: for a port that finishes it.
    Partial,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    Tcp,
    Udp,
}

/// Cuts one packet into frames, one call a frame.
///
/// A packet that is no super-frame comes out once, with its checksum completed if asked for: a
/// port without offloads can send everything through here.
pub struct Segmenter<'p, 'a> {
    packet: &'p ZeroCopyPacket<'a>,
    kind: Kind,
    checksums: Checksums,
    headers: [u8; MAX_HEADERS],
    headers_len: usize,
    /// Pseudo-header sum without the length.
    pseudo: Sum,
    /// Payload bytes of every segment but the last.
    size: usize,
    /// Segments in all, and those written.
    count: usize,
    written: usize,
}

impl<'p, 'a> Segmenter<'p, 'a> {
    /// Prepares to cut `packet` for a link that carries IP packets of `mtu` bytes.
    ///
    /// A TCP segment size above the MTU is lowered to fit; a datagram is never re-cut. The length
    /// of a packet that is no super-frame is not checked.
    ///
    /// # Errors
    /// Any [`GsoError`] but [`GsoError::BufferTooSmall`].
    pub fn new(
        packet: &'p ZeroCopyPacket<'a>,
        mtu: usize,
        checksums: Checksums,
    ) -> Result<Self, GsoError> {
        let (header, meta) = (packet.vnet(), packet.meta());
        header.validate(packet.len(), meta)?;
        let mut this = Self {
            packet,
            kind: match header.gso_kind() {
                GsoKind::TcpV4 | GsoKind::TcpV6 => Kind::Tcp,
                GsoKind::UdpL4 => Kind::Udp,
                _ => Kind::Plain,
            },
            checksums,
            headers: [0; MAX_HEADERS],
            headers_len: 0,
            pseudo: Sum::ZERO,
            size: usize::from(header.gso_size),
            count: 1,
            written: 0,
        };
        if this.kind == Kind::Plain {
            return Ok(this);
        }
        this.headers_len = usize::from(meta.payload_offset);
        let headers = this.headers.get_mut(..this.headers_len);
        let headers = headers.ok_or(VnetError::GsoMismatch)?;
        packet.copy_range(0, headers);

        let ip_headers = this.headers_len - usize::from(meta.l3_offset);
        let room = mtu.checked_sub(ip_headers).filter(|room| *room > 0);
        let room = room.ok_or(GsoError::ExceedsMtu)?;
        let limit = match this.kind {
            Kind::Tcp => {
                this.size = this.size.min(room);
                MAX_TCP_SEGMENTS
            }
            _ if this.size.min(packet.payload_len()) > room => return Err(GsoError::ExceedsMtu),
            _ => MAX_UDP_SEGMENTS,
        };
        this.count = packet.payload_len().div_ceil(this.size).max(1);
        if this.count > limit {
            return Err(GsoError::TooManySegments);
        }
        let opening = TcpFlags::SYN | TcpFlags::RST;
        if this.count > 1 && TcpFlags(meta.tcp_flags).intersects(opening) {
            return Err(GsoError::UnexpectedFlags);
        }
        this.pseudo = headers::pseudo(packet).ok_or(VnetError::GsoMismatch)?;
        Ok(this)
    }

    /// Frames still to come.
    #[inline]
    pub fn remaining(&self) -> usize {
        self.count - self.written
    }

    /// Length of the next frame in bytes; `None` after the last.
    #[inline]
    pub fn next_len(&self) -> Option<usize> {
        if self.written == self.count {
            return None;
        }
        Some(match self.kind {
            Kind::Plain => self.packet.len(),
            Kind::Tcp | Kind::Udp => self.headers_len + self.next_payload(),
        })
    }

    fn next_payload(&self) -> usize {
        let left = self.packet.payload_len() - self.written * self.size;
        left.min(self.size)
    }

    /// Writes the next frame at the start of `out`; returns its length and its virtio header, or
    /// `None` after the last.
    ///
    /// # Errors
    /// [`GsoError::BufferTooSmall`], after which the call can be repeated; for a frame that is no
    /// super-frame also [`GsoError::Header`].
    pub fn write_next(
        &mut self,
        out: &mut [u8],
    ) -> Option<Result<(usize, VirtioNetHdr), GsoError>> {
        let needed = self.next_len()?;
        let Some(out) = out.get_mut(..needed) else {
            return Some(Err(GsoError::BufferTooSmall { needed }));
        };
        let header = match self.kind {
            Kind::Plain => self.write_plain(out),
            Kind::Tcp | Kind::Udp => Ok(self.write_segment(out)),
        };
        self.written += 1;
        Some(header.map(|header| (needed, header)))
    }

    fn write_plain(&self, out: &mut [u8]) -> Result<VirtioNetHdr, GsoError> {
        self.packet.copy_range(0, out);
        let header = *self.packet.vnet();
        if self.checksums == Checksums::Partial || !header.needs_csum() {
            return Ok(header);
        }
        complete_checksum(out, &header)?;
        Ok(VirtioNetHdr::PLAIN)
    }

    /// Writes one segment; `out` has exactly its length.
    fn write_segment(&self, out: &mut [u8]) -> VirtioNetHdr {
        let meta = self.packet.meta();
        let l4 = usize::from(meta.l4_offset);
        let before = self.written * self.size;
        let (headers, payload) = out.split_at_mut(self.headers_len);
        headers.copy_from_slice(&self.headers[..self.headers_len]);
        self.packet.copy_range(self.headers_len + before, payload);

        let (checksum_at, pseudo) = headers::patch(
            headers,
            meta,
            self.pseudo,
            &Piece {
                index: self.written,
                before,
                len: payload.len(),
                last: self.written + 1 == self.count,
            },
        );
        let transport = &mut headers[l4..];
        if self.checksums == Checksums::Partial {
            put16(transport, checksum_at, pseudo.fold());
            return VirtioNetHdr {
                flags: VirtioNetHdr::NEEDS_CSUM,
                csum_start: meta.l4_offset,
                csum_offset: checksum_at as u16,
                ..VirtioNetHdr::PLAIN
            };
        }
        put16(transport, checksum_at, 0);
        // TCP and UDP headers have an even length, so the payload starts on a word.
        let total = pseudo + sum(transport) + sum(payload);
        let check = match self.kind {
            Kind::Udp => total.finish_udp(),
            _ => total.finish(),
        };
        put16(transport, checksum_at, check);
        VirtioNetHdr::PLAIN
    }
}

impl core::fmt::Debug for Segmenter<'_, '_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Segmenter({} of {} written)", self.written, self.count)
    }
}

/// Stores a big-endian field of a header that was parsed: its fixed part is there.
#[inline(always)]
fn put16(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}
