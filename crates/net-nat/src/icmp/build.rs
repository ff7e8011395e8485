//! Composing ICMP errors about a packet (RFC 792, RFC 1812 section 4.3, RFC 4443).

use alloc::vec;
use alloc::vec::Vec;
use core::net::{Ipv4Addr, Ipv6Addr};

use net_wire::ipv4::{self, Ipv4Packet, Ipv4Repr};
use net_wire::ipv6::{self, Ipv6Packet, Ipv6Repr};
use net_wire::{checksum, icmpv4, icmpv6, ip_proto};

use super::query;

/// No ICMP error is longer, in bytes (RFC 1812, section 4.3.2.3).
const MAX_V4: usize = 576;
/// No ICMPv6 error is longer, in bytes (RFC 4443, section 2.4 (c)).
const MAX_V6: usize = 1280;
/// Time to live of what starts here.
const TTL: u8 = 64;
/// Precedence "internetwork control" (RFC 1812, section 4.3.2.5).
const TOS: u8 = 0xc0;

/// What is wrong with a packet; both families have a message for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The packet is larger than the next link takes and may not be fragmented: 3/4 (RFC 1191), or
    /// packet too big.
    TooBig {
        /// What the next link takes, in bytes; in ICMPv4 at most 65,535.
        mtu: u32,
    },
    /// There is no way to the destination: 3/0, or 1/0.
    NoRoute,
    /// The destination does not answer, or the NAT has no room for it: 3/1, or 1/3.
    HostUnreachable,
    /// Nobody listens at the port: 3/3, or 1/4.
    PortUnreachable,
    /// Policy forbids it (RFC 5508, REQ-8): 3/13, or 1/1.
    AdminProhibited,
    /// The time to live ended here: 11/0, or 3/0.
    TimeExceeded,
    /// The other fragments did not come in time: 11/1, or 3/1.
    ReassemblyTimeExceeded,
}

impl ErrorKind {
    /// Type, code and the four bytes behind the checksum.
    fn v4(self) -> (u8, u8, u32) {
        let unreachable = |code| (icmpv4::UNREACHABLE, code, 0);
        match self {
            Self::TooBig { mtu } => {
                let mtu = mtu.min(u32::from(u16::MAX));
                (icmpv4::UNREACHABLE, icmpv4::CODE_FRAG_NEEDED, mtu)
            }
            Self::NoRoute => unreachable(icmpv4::CODE_NET),
            Self::HostUnreachable => unreachable(icmpv4::CODE_HOST),
            Self::PortUnreachable => unreachable(icmpv4::CODE_PORT),
            Self::AdminProhibited => unreachable(icmpv4::CODE_PROHIBITED),
            Self::TimeExceeded => (icmpv4::TIME_EXCEEDED, 0, 0),
            Self::ReassemblyTimeExceeded => (icmpv4::TIME_EXCEEDED, 1, 0),
        }
    }

    /// Type, code and the four bytes behind the checksum.
    fn v6(self) -> (u8, u8, u32) {
        let unreachable = |code| (icmpv6::UNREACHABLE, code, 0);
        match self {
            Self::TooBig { mtu } => (icmpv6::PACKET_TOO_BIG, 0, mtu),
            Self::NoRoute => unreachable(0),
            Self::HostUnreachable => unreachable(3),
            Self::PortUnreachable => unreachable(4),
            Self::AdminProhibited => unreachable(1),
            Self::TimeExceeded => (icmpv6::TIME_EXCEEDED, 0, 0),
            Self::ReassemblyTimeExceeded => (icmpv6::TIME_EXCEEDED, 1, 0),
        }
    }
}

/// The error `kind` from `source` to whoever sent `about`: a whole packet, IP header first.
///
/// `None` where no error may be sent (RFC 1122, section 3.2.2; RFC 1812, section 4.3.2.7): about an
/// ICMP message that is no query, about a fragment behind the first, about a packet to or from an
/// address that is not one host's, and about one whose header is not sound. Of ICMP only queries
/// are answered, since a type unknown here may be an error.
pub fn error_v4(about: &[u8], source: Ipv4Addr, kind: ErrorKind) -> Option<Vec<u8>> {
    let packet = Ipv4Packet::parse(about).ok()?;
    let answerable = packet.verify_header_checksum()
        && packet.fragment_offset() == 0
        && is_one_host_v4(packet.src())
        && is_one_host_v4(packet.dst())
        && (packet.protocol() != ip_proto::ICMP || query::v4(packet.payload()).is_some());
    if !answerable {
        return None;
    }

    const HEADERS: usize = ipv4::MIN_HEADER_LEN + icmpv4::HEADER_LEN;
    let quote = about.get(..packet.total_len().min(MAX_V4 - HEADERS))?;
    let mut out = vec![0; HEADERS + quote.len()];
    let (header, message) = out.split_at_mut(ipv4::MIN_HEADER_LEN);
    Ipv4Repr {
        src: source,
        dst: packet.src(),
        protocol: ip_proto::ICMP,
        ttl: TTL,
        tos: TOS,
        // An atomic datagram: the identification says nothing (RFC 6864, section 4.1).
        id: 0,
        dont_fragment: true,
        payload_len: message.len(),
    }
    .emit(header);
    message
        .get_mut(icmpv4::HEADER_LEN..)?
        .copy_from_slice(quote);
    let (kind, code, rest) = kind.v4();
    icmpv4::emit(message, kind, code, rest);
    Some(out)
}

/// As [`error_v4`], for IPv6 (RFC 4443, section 2.4 (e)).
///
/// Nor is there an error about a multicast, where RFC 4443 would allow "packet too big": this NAT
/// translates none. A packet whose extension headers do not lead to its upper layer is not answered
/// either, because that may be an error.
pub fn error_v6(about: &[u8], source: Ipv6Addr, kind: ErrorKind) -> Option<Vec<u8>> {
    let packet = Ipv6Packet::parse(about).ok()?;
    let upper = packet.upper_layer().ok()?;
    let message = packet.payload().get(upper.offset..)?;
    let answerable = upper.fragment.is_none_or(|fragment| fragment.offset == 0)
        && is_one_host_v6(packet.src())
        && is_one_host_v6(packet.dst())
        && (upper.protocol != ip_proto::ICMPV6 || query::v6(message).is_some());
    if !answerable {
        return None;
    }

    const HEADERS: usize = ipv6::HEADER_LEN + icmpv6::HEADER_LEN;
    let len = ipv6::HEADER_LEN + packet.payload_len();
    let quote = about.get(..len.min(MAX_V6 - HEADERS))?;
    let mut out = vec![0; HEADERS + quote.len()];
    let (header, message) = out.split_at_mut(ipv6::HEADER_LEN);
    Ipv6Repr {
        src: source,
        dst: packet.src(),
        next_header: ip_proto::ICMPV6,
        hop_limit: TTL,
        traffic_class: 0,
        payload_len: message.len(),
    }
    .emit(header);
    message
        .get_mut(icmpv6::HEADER_LEN..)?
        .copy_from_slice(quote);
    let pseudo = checksum::pseudo_v6(source, packet.src(), ip_proto::ICMPV6, message.len());
    let (kind, code, rest) = kind.v6();
    icmpv6::emit(message, kind, code, rest, pseudo);
    Some(out)
}

/// Neither of "this network" nor loopback nor multicast nor broadcast (RFC 1812, section 5.3.7).
fn is_one_host_v4(addr: Ipv4Addr) -> bool {
    let [first, ..] = addr.octets();
    first != 0 && first != 127 && !addr.is_multicast() && first < 240
}

/// Neither unspecified nor loopback nor multicast. A link-local address is one host's, on its link.
fn is_one_host_v6(addr: Ipv6Addr) -> bool {
    !addr.is_unspecified() && !addr.is_loopback() && !addr.is_multicast()
}
