//! What a header says of its fragment, and whether that can be.

use net_wire::ip_proto;
use net_wire::ipv4::Ipv4Packet;
use net_wire::ipv6::{FRAGMENT_HEADER_LEN, Ipv6Packet, UpperLayer};

use super::refusal::FragmentRefusal;

/// No datagram is longer: the length fields of IPv4 and IPv6 have 16 bits.
const MAX_DATAGRAM: usize = 65_535;

/// A fragment's place in its datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Protocol of the datagram; of an IPv6 fragment that is not the first, what the fragment header
    /// says.
    pub(crate) protocol: u8,
    /// Bytes that count against the length of the datagram beside the payload: the IPv4 header, or
    /// the IPv6 extension headers before the fragment header.
    pub(crate) header: usize,
    /// Where the payload begins in that of the datagram, in bytes.
    pub(crate) offset: usize,
    /// Whether more fragments follow.
    pub(crate) more: bool,
    /// Length of the payload, in bytes.
    pub(crate) len: usize,
}

/// What a packet is to its datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// All of it; also an IPv6 packet with a fragment header and no other fragment, which has
    /// nothing to do with others of the same identification (RFC 6946).
    Whole,
    /// The fragment with the ports.
    First,
    /// Any other fragment.
    Later,
}

impl Piece {
    /// The place of an IPv4 packet.
    pub(crate) fn v4<T: AsRef<[u8]>>(packet: &Ipv4Packet<T>) -> Self {
        Self {
            protocol: packet.protocol(),
            header: packet.header_len(),
            offset: packet.fragment_offset(),
            more: packet.more_fragments(),
            len: packet.total_len().saturating_sub(packet.header_len()),
        }
    }

    /// The place of an IPv6 packet, `None` where it has no fragment header.
    ///
    /// The header chain of a first fragment may go on behind the fragment header; the payload then
    /// begins behind the whole chain, because what has to be in it is the transport header
    /// (RFC 7112, section 5).
    pub(crate) fn v6<T: AsRef<[u8]>>(packet: &Ipv6Packet<T>, upper: &UpperLayer) -> Option<Self> {
        let fragment = upper.fragment?;
        Some(Self {
            protocol: upper.protocol,
            header: upper.offset.saturating_sub(FRAGMENT_HEADER_LEN),
            offset: fragment.offset,
            more: fragment.more,
            len: packet.payload_len().saturating_sub(upper.offset),
        })
    }

    /// Tells what the packet is to its datagram, or why it cannot be an honest part of one.
    ///
    /// # Errors
    /// - [`Oversize`](FragmentRefusal::Oversize): the "ping of death".
    /// - [`Empty`](FragmentRefusal::Empty) and [`Ragged`](FragmentRefusal::Ragged): no sender cuts
    ///   like that (RFC 791, section 3.2), and only the last fragment may end anywhere.
    /// - [`Tiny`](FragmentRefusal::Tiny): a first fragment must hold what the translation and any
    ///   filter look at (RFC 1858, section 3.2.1, which is also what RFC 3128 asks for).
    /// - [`HeaderOverlap`](FragmentRefusal::HeaderOverlap): a fragment that would overwrite it.
    ///   RFC 1858 (section 3.2.2) names offset 1; with a whole TCP header in the first fragment,
    ///   offset 2 has no honest use either.
    pub(crate) fn kind(&self) -> Result<Kind, FragmentRefusal> {
        if self.offset == 0 && !self.more {
            return Ok(Kind::Whole);
        }
        if self.header + self.offset + self.len > MAX_DATAGRAM {
            return Err(FragmentRefusal::Oversize);
        }
        if self.len == 0 {
            return Err(FragmentRefusal::Empty);
        }
        if self.more && !self.len.is_multiple_of(8) {
            return Err(FragmentRefusal::Ragged);
        }
        let header = transport_header(self.protocol);
        match self.offset {
            0 if self.len < header => Err(FragmentRefusal::Tiny),
            0 => Ok(Kind::First),
            offset if offset < header => Err(FragmentRefusal::HeaderOverlap),
            _ => Ok(Kind::Later),
        }
    }
}

/// What the first fragment must hold of the transport header, in bytes.
fn transport_header(protocol: u8) -> usize {
    match protocol {
        ip_proto::TCP => 20,
        // The header of UDP, and that of an ICMP query with its identifier.
        ip_proto::UDP | ip_proto::ICMP | ip_proto::ICMPV6 => 8,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(protocol: u8, offset: usize, more: bool, len: usize) -> Piece {
        Piece {
            protocol,
            header: 20,
            offset,
            more,
            len,
        }
    }

    #[test]
    fn rfc791_kinds() {
        let kind = |offset, more, len| piece(ip_proto::UDP, offset, more, len).kind();
        assert_eq!(kind(0, false, 0), Ok(Kind::Whole));
        assert_eq!(kind(0, false, 1), Ok(Kind::Whole));
        assert_eq!(kind(0, true, 1480), Ok(Kind::First));
        assert_eq!(kind(1480, true, 1480), Ok(Kind::Later));
        assert_eq!(kind(2960, false, 1), Ok(Kind::Later));
    }

    #[test]
    fn rfc1858_tiny_first_fragments_are_refused() {
        for (protocol, least) in [
            (ip_proto::TCP, 24),
            (ip_proto::UDP, 8),
            (ip_proto::ICMP, 8),
            (ip_proto::ICMPV6, 8),
            (132, 8),
        ] {
            let kind = |len| piece(protocol, 0, true, len).kind();
            assert_eq!(kind(least), Ok(Kind::First), "{protocol}");
            let expected = match least {
                8 => FragmentRefusal::Empty,
                _ => FragmentRefusal::Tiny,
            };
            assert_eq!(kind(least - 8), Err(expected), "{protocol}");
        }
    }

    #[test]
    fn rfc3128_fragments_into_the_header_are_refused() {
        let kind = |protocol, offset| piece(protocol, offset, false, 64).kind();
        assert_eq!(
            kind(ip_proto::TCP, 8),
            Err(FragmentRefusal::HeaderOverlap),
            "flags"
        );
        assert_eq!(
            kind(ip_proto::TCP, 16),
            Err(FragmentRefusal::HeaderOverlap),
            "urgent pointer"
        );
        assert_eq!(kind(ip_proto::TCP, 24), Ok(Kind::Later));
        assert_eq!(kind(ip_proto::UDP, 8), Ok(Kind::Later));
        assert_eq!(kind(ip_proto::ICMP, 8), Ok(Kind::Later));
    }

    #[test]
    fn no_datagram_passes_65535_bytes() {
        let kind = |offset, len| piece(ip_proto::ICMP, offset, false, len).kind();
        assert_eq!(kind(65_512, 3), Ok(Kind::Later), "65,535 with the header");
        assert_eq!(kind(65_512, 4), Err(FragmentRefusal::Oversize));
        assert_eq!(kind(65_528, 1), Err(FragmentRefusal::Oversize));
        assert_eq!(kind(65_528, 65_515), Err(FragmentRefusal::Oversize));
    }

    #[test]
    fn empty_and_ragged_fragments_are_refused() {
        let kind = |offset, more, len| piece(ip_proto::UDP, offset, more, len).kind();
        assert_eq!(kind(0, true, 0), Err(FragmentRefusal::Empty));
        assert_eq!(kind(8, true, 0), Err(FragmentRefusal::Empty));
        assert_eq!(kind(8, false, 0), Err(FragmentRefusal::Empty));
        assert_eq!(kind(0, true, 1479), Err(FragmentRefusal::Ragged));
        assert_eq!(kind(8, true, 1479), Err(FragmentRefusal::Ragged));
        assert_eq!(kind(8, false, 1479), Ok(Kind::Later));
    }

    #[test]
    fn rfc8200_place_behind_extension_headers() {
        // Hop-by-hop options, fragment header, destination options, 24 bytes of TCP.
        let mut bytes = [0u8; 40 + 8 + 8 + 8 + 24];
        bytes[0] = 0x60;
        bytes[5] = 48;
        bytes[6] = ip_proto::HOP_BY_HOP;
        bytes[40] = ip_proto::IPV6_FRAGMENT;
        bytes[48] = ip_proto::IPV6_OPTS;
        bytes[51] = 1;
        bytes[56] = ip_proto::TCP;
        let place = |bytes: &[u8]| {
            let packet = Ipv6Packet::parse(bytes).unwrap();
            Piece::v6(&packet, &packet.upper_layer().unwrap())
        };
        let first = place(&bytes).unwrap();
        assert_eq!((first.protocol, first.len), (ip_proto::TCP, 24));
        assert_eq!(first.kind(), Ok(Kind::First));

        // 1,200 bytes into the datagram, and the last.
        bytes[50..52].copy_from_slice(&1200u16.to_be_bytes());
        let later = place(&bytes).unwrap();
        assert_eq!((later.header, later.offset, later.len), (8, 1200, 32));
        assert_eq!(later.kind(), Ok(Kind::Later));

        // 8 bytes of extension headers count: 65,496 + 32 + 8 is one too many.
        bytes[50..52].copy_from_slice(&65_496u16.to_be_bytes());
        assert_eq!(
            place(&bytes).unwrap().kind(),
            Err(FragmentRefusal::Oversize)
        );

        // No fragment header at all.
        bytes[40] = ip_proto::IPV6_OPTS;
        bytes[48] = ip_proto::UDP;
        assert_eq!(place(&bytes), None);
    }
}
