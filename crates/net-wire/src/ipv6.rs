//! IPv6 headers and extension headers (RFC 8200).

use core::net::Ipv6Addr;

use crate::bytes::{array, be16, be32, put16};
use crate::{Result, WireError, ip_proto};

/// Length of the fixed header, in bytes.
pub const HEADER_LEN: usize = 40;
/// Length of a fragment header, in bytes.
pub const FRAGMENT_HEADER_LEN: usize = 8;
/// Extension headers walked before a packet is refused: real packets carry one or two.
pub const MAX_EXTENSIONS: usize = 8;

/// A view on an IPv6 packet.
#[derive(Debug, Clone, Copy)]
pub struct Ipv6Packet<T> {
    bytes: T,
}

impl<T: AsRef<[u8]>> Ipv6Packet<T> {
    /// Takes `bytes` for an IPv6 packet; what lies behind its payload length is padding.
    ///
    /// Jumbograms (RFC 2675) are not supported: their zero length reads as an empty payload.
    ///
    /// # Errors
    /// [`WireError::Truncated`] where the header or the payload passes the end of `bytes`;
    /// [`WireError::Malformed`] for a wrong version.
    #[inline]
    pub fn parse(bytes: T) -> Result<Self> {
        let b = bytes.as_ref();
        if b.len() < HEADER_LEN {
            return Err(WireError::Truncated);
        }
        if b[0] >> 4 != 6 {
            return Err(WireError::Malformed);
        }
        if b.len() - HEADER_LEN < usize::from(be16(b, 4)) {
            return Err(WireError::Truncated);
        }
        Ok(Self { bytes })
    }

    /// Traffic class.
    #[inline]
    pub fn traffic_class(&self) -> u8 {
        (be16(self.bytes.as_ref(), 0) >> 4) as u8
    }

    /// Flow label, 20 bits.
    #[inline]
    pub fn flow_label(&self) -> u32 {
        be32(self.bytes.as_ref(), 0) & 0x000f_ffff
    }

    /// Length of everything behind the fixed header, in bytes.
    #[inline]
    pub fn payload_len(&self) -> usize {
        usize::from(be16(self.bytes.as_ref(), 4))
    }

    /// Type of the header that follows the fixed one.
    #[inline]
    pub fn next_header(&self) -> u8 {
        self.bytes.as_ref()[6]
    }

    /// Hop limit.
    #[inline]
    pub fn hop_limit(&self) -> u8 {
        self.bytes.as_ref()[7]
    }

    /// Source address.
    #[inline]
    pub fn src(&self) -> Ipv6Addr {
        Ipv6Addr::from(array::<16>(self.bytes.as_ref(), 8))
    }

    /// Destination address.
    #[inline]
    pub fn dst(&self) -> Ipv6Addr {
        Ipv6Addr::from(array::<16>(self.bytes.as_ref(), 24))
    }

    /// Everything behind the fixed header, extension headers included.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        &self.bytes.as_ref()[HEADER_LEN..HEADER_LEN + self.payload_len()]
    }

    /// Walks the extension headers to the transport header.
    ///
    /// # Errors
    /// [`WireError::Truncated`] where a header passes the end of the payload;
    /// [`WireError::Malformed`] past [`MAX_EXTENSIONS`] headers.
    pub fn upper_layer(&self) -> Result<UpperLayer> {
        walk_extensions(self.next_header(), self.payload())
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Ipv6Packet<T> {
    /// Sets the source; the upper layer's checksum is the caller's to update.
    #[inline]
    pub fn set_src(&mut self, addr: Ipv6Addr) {
        self.bytes.as_mut()[8..24].copy_from_slice(&addr.octets());
    }

    /// Sets the destination; the upper layer's checksum is the caller's to update.
    #[inline]
    pub fn set_dst(&mut self, addr: Ipv6Addr) {
        self.bytes.as_mut()[24..40].copy_from_slice(&addr.octets());
    }

    /// Sets the hop limit.
    #[inline]
    pub fn set_hop_limit(&mut self, hops: u8) {
        self.bytes.as_mut()[7] = hops;
    }
}

/// Where the extension headers end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpperLayer {
    /// Protocol of the upper layer ([`ip_proto`]).
    pub protocol: u8,
    /// Offset of the upper layer from the end of the fixed header, in bytes.
    pub offset: usize,
    /// The fragment header on the way, if there was one.
    pub fragment: Option<Fragment>,
}

/// The fields of a fragment header (RFC 8200, section 4.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fragment {
    /// Offset of this fragment in the fragmentable part, in bytes.
    pub offset: usize,
    /// Whether more fragments follow.
    pub more: bool,
    /// Identification.
    pub id: u32,
}

/// Walks extension headers over `payload`, which starts with a header of type `next`.
///
/// The walk ends at a fragment that is not the first: what follows is payload.
///
/// # Errors
/// As [`Ipv6Packet::upper_layer`].
pub fn walk_extensions(mut next: u8, payload: &[u8]) -> Result<UpperLayer> {
    let mut offset = 0;
    let mut fragment = None;
    for _ in 0..=MAX_EXTENSIONS {
        let rest = payload.get(offset..).ok_or(WireError::Truncated)?;
        let len = match next {
            ip_proto::HOP_BY_HOP | ip_proto::IPV6_ROUTE | ip_proto::IPV6_OPTS => {
                (usize::from(*rest.get(1).ok_or(WireError::Truncated)?) + 1) * 8
            }
            ip_proto::AH => (usize::from(*rest.get(1).ok_or(WireError::Truncated)?) + 2) * 4,
            ip_proto::IPV6_FRAGMENT => FRAGMENT_HEADER_LEN,
            protocol => {
                return Ok(UpperLayer {
                    protocol,
                    offset,
                    fragment,
                });
            }
        };
        if rest.len() < len {
            return Err(WireError::Truncated);
        }
        if next == ip_proto::IPV6_FRAGMENT {
            let bits = be16(rest, 2);
            let this = Fragment {
                offset: usize::from(bits & 0xfff8),
                more: bits & 1 != 0,
                id: be32(rest, 4),
            };
            fragment = Some(this);
            if this.offset != 0 {
                return Ok(UpperLayer {
                    protocol: rest[0],
                    offset: offset + len,
                    fragment,
                });
            }
        }
        next = rest[0];
        offset += len;
    }
    Err(WireError::Malformed)
}

/// What a fixed header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ipv6Repr {
    /// Source address.
    pub src: Ipv6Addr,
    /// Destination address.
    pub dst: Ipv6Addr,
    /// Type of the header that follows.
    pub next_header: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// Traffic class.
    pub traffic_class: u8,
    /// Length of everything that follows, in bytes; at most 65,535.
    pub payload_len: usize,
}

impl Ipv6Repr {
    /// Writes the 40-byte header at the start of `out`, with flow label 0.
    ///
    /// # Panics
    /// If `out` is shorter than 40 bytes or the payload length does not fit.
    #[inline]
    pub fn emit(&self, out: &mut [u8]) {
        let len = u16::try_from(self.payload_len).expect("payload fits IPv6");
        put16(out, 0, 0x6000 | u16::from(self.traffic_class) << 4);
        put16(out, 2, 0);
        put16(out, 4, len);
        out[6] = self.next_header;
        out[7] = self.hop_limit;
        out[8..24].copy_from_slice(&self.src.octets());
        out[24..40].copy_from_slice(&self.dst.octets());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPR: Ipv6Repr = Ipv6Repr {
        src: Ipv6Addr::LOCALHOST,
        dst: Ipv6Addr::UNSPECIFIED,
        next_header: ip_proto::HOP_BY_HOP,
        hop_limit: 64,
        traffic_class: 0xb8,
        payload_len: 24,
    };

    #[test]
    fn walks_to_the_upper_layer() {
        let mut bytes = [0u8; 64];
        REPR.emit(&mut bytes);
        bytes[40] = ip_proto::IPV6_FRAGMENT;
        bytes[48] = ip_proto::UDP;
        bytes[51] = 1;
        let packet = Ipv6Packet::parse(&bytes[..]).unwrap();
        assert_eq!(packet.traffic_class(), 0xb8);
        let upper = packet.upper_layer().unwrap();
        assert_eq!((upper.protocol, upper.offset), (ip_proto::UDP, 16));
        assert_eq!(
            upper.fragment,
            Some(Fragment {
                offset: 0,
                more: true,
                id: 0
            })
        );
        bytes[41] = 200;
        assert_eq!(
            Ipv6Packet::parse(&bytes[..]).unwrap().upper_layer(),
            Err(WireError::Truncated)
        );
        for len in 0..64 {
            assert!(Ipv6Packet::parse(&bytes[..len]).is_err(), "{len}");
        }
    }

    #[test]
    fn a_long_chain_is_refused() {
        let payload = [0u8; 8 * (MAX_EXTENSIONS + 2)];
        assert_eq!(
            walk_extensions(ip_proto::HOP_BY_HOP, &payload),
            Err(WireError::Malformed)
        );
    }
}
