//! Reading an ICMP error: is it sound, and between whom went the packet it quotes.

use core::net::{Ipv4Addr, Ipv6Addr};

use net_wire::icmpv4::{self, IcmpMessage};
use net_wire::icmpv6::{self, Icmpv6Message};
use net_wire::ipv4::{self, Ipv4Packet};
use net_wire::ipv6::{self, Ipv6Packet, walk_extensions};
use net_wire::{WireError, checksum, ip_proto};

use super::ends::{Check, Ends, Layout};
use super::query;
use crate::Endpoint;

/// Type of ICMP for IPv4: source quench.
const SOURCE_QUENCH: u8 = 4;

/// Why a packet is not an error to translate. All but [`Reason::NotAnError`] mean that it is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Another protocol, or an ICMP message of another kind; for example a query.
    NotAnError,
    /// The packet or its quote ends before what is needed of it.
    Truncated,
    /// A field contradicts the protocol.
    Malformed,
    /// The error itself came in fragments; its checksum covers all of them.
    Fragment,
    /// The ICMP checksum is wrong (RFC 5508, REQ-3).
    BadChecksum,
    /// The header checksum of the quoted packet is wrong (RFC 5508, REQ-3a).
    BadQuotedChecksum,
    /// The quoted packet is a fragment behind the first: it has no ports.
    QuotedFragment,
    /// The quoted packet is ICMP but no query: no errors about errors (RFC 1122, section 3.2.2).
    QuotedNotQuery,
    /// A source quench, which everybody ignores (RFC 6633).
    SourceQuench,
    /// A redirect: routes are of one link and mean nothing beyond the NAT.
    Redirect,
}

impl From<WireError> for Reason {
    fn from(error: WireError) -> Self {
        match error {
            WireError::Truncated => Self::Truncated,
            _ => Self::Malformed,
        }
    }
}

/// An error and the packet it quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Quote<A> {
    /// Type of the error.
    pub(crate) kind: u8,
    /// Code of the error.
    pub(crate) code: u8,
    /// Who complains.
    pub(crate) outer_src: A,
    /// Who shall hear of it.
    pub(crate) outer_dst: A,
    /// Protocol of the quoted packet ([`ip_proto`]).
    pub(crate) protocol: u8,
    /// Where the quoted packet came from. The identifier of a query stands as the port of the end
    /// that queries; the other end has port 0, as both have with protocols unknown here.
    pub(crate) src: Endpoint<A>,
    /// Where the quoted packet went to.
    pub(crate) dst: Endpoint<A>,
    pub(super) layout: Layout,
}

/// Reads an error of ICMP for IPv4; `packet` begins with the IP header, whose checksum is not looked
/// at. What lies behind its total length is padding.
///
/// # Errors
/// The [`Reason`] why there is nothing to translate.
pub(crate) fn parse_v4(packet: &[u8]) -> Result<Quote<Ipv4Addr>, Reason> {
    let outer = Ipv4Packet::parse(packet)?;
    if outer.protocol() != ip_proto::ICMP {
        return Err(Reason::NotAnError);
    }
    if outer.is_fragment() {
        return Err(Reason::Fragment);
    }
    let message = IcmpMessage::parse(outer.payload())?;
    match message.kind() {
        icmpv4::UNREACHABLE | icmpv4::TIME_EXCEEDED | icmpv4::PARAMETER_PROBLEM => {}
        SOURCE_QUENCH => return Err(Reason::SourceQuench),
        icmpv4::REDIRECT => return Err(Reason::Redirect),
        _ => return Err(Reason::NotAnError),
    }
    if !message.verify_checksum() {
        return Err(Reason::BadChecksum);
    }
    // RFC 4884, section 4.1 to 4.3: the second of the four bytes, in words of 32 bits.
    let words = usize::from(message.rest().to_be_bytes()[1]);
    let (datagram, padded) = original_datagram(message.data(), words * 4);

    let fixed = datagram.first_chunk::<{ ipv4::MIN_HEADER_LEN }>();
    let fixed = fixed.ok_or(Reason::Truncated)?;
    let header_len = usize::from(fixed[0] & 0x0f) * 4;
    let total_len = usize::from(u16::from_be_bytes([fixed[2], fixed[3]]));
    if fixed[0] >> 4 != 4 || header_len < ipv4::MIN_HEADER_LEN || total_len < header_len {
        return Err(Reason::Malformed);
    }
    // Options and all: the transport begins behind them (RFC 5508, REQ-3b).
    let header = datagram.get(..header_len).ok_or(Reason::Truncated)?;
    if !checksum::sum(header).is_valid() {
        return Err(Reason::BadQuotedChecksum);
    }
    if u16::from_be_bytes([fixed[6], fixed[7]]) & 0x1fff != 0 {
        return Err(Reason::QuotedFragment);
    }
    let transport = datagram.get(header_len..total_len.min(datagram.len()));
    let transport = transport.ok_or(Reason::Truncated)?;

    let icmp = outer.header_len();
    let ip = icmp + icmpv4::HEADER_LEN;
    let protocol = fixed[9];
    let ends = match protocol {
        ip_proto::ICMP => Ends::of_query(query::v4, transport, Check::Plain(2))?,
        _ => Ends::of(protocol, transport, padded)?,
    };
    let [src, dst] = [12, 16].map(|at| Ipv4Addr::from(array(fixed, at)));
    Ok(Quote {
        kind: message.kind(),
        code: message.code(),
        outer_src: outer.src(),
        outer_dst: outer.dst(),
        protocol,
        src: Endpoint::new(src, ends.src),
        dst: Endpoint::new(dst, ends.dst),
        layout: ends.layout(icmp, ip, ip + header_len),
    })
}

/// Reads an error of ICMPv6; as [`parse_v4`]. Extension headers are walked in both packets.
///
/// # Errors
/// The [`Reason`] why there is nothing to translate.
pub(crate) fn parse_v6(packet: &[u8]) -> Result<Quote<Ipv6Addr>, Reason> {
    let outer = Ipv6Packet::parse(packet)?;
    let upper = outer.upper_layer()?;
    if upper.protocol != ip_proto::ICMPV6 {
        return Err(Reason::NotAnError);
    }
    // A fragment header on a whole packet is harmless (RFC 6946).
    if upper.fragment.is_some_and(|f| f.offset != 0 || f.more) {
        return Err(Reason::Fragment);
    }
    let message = outer.payload().get(upper.offset..);
    let message = Icmpv6Message::parse(message.ok_or(Reason::Truncated)?)?;
    let kind = message.kind();
    match kind {
        icmpv6::UNREACHABLE..=icmpv6::PARAMETER_PROBLEM => {}
        icmpv6::REDIRECT => return Err(Reason::Redirect),
        _ => return Err(Reason::NotAnError),
    }
    let len = message.data().len() + icmpv6::HEADER_LEN;
    let pseudo = checksum::pseudo_v6(outer.src(), outer.dst(), ip_proto::ICMPV6, len);
    if !message.verify_checksum(pseudo) {
        return Err(Reason::BadChecksum);
    }
    // RFC 4884, section 4.4 to 4.5: the first of the four bytes, in words of 64 bits. In the other
    // messages these bytes are an MTU or a pointer.
    let words = match kind {
        icmpv6::UNREACHABLE | icmpv6::TIME_EXCEEDED => usize::from(message.rest().to_be_bytes()[0]),
        _ => 0,
    };
    let (datagram, padded) = original_datagram(message.data(), words * 8);

    let (fixed, payload) = datagram
        .split_first_chunk::<{ ipv6::HEADER_LEN }>()
        .ok_or(Reason::Truncated)?;
    if fixed[0] >> 4 != 6 {
        return Err(Reason::Malformed);
    }
    let payload_len = usize::from(u16::from_be_bytes([fixed[4], fixed[5]]));
    let payload = payload.get(..payload_len).unwrap_or(payload);
    let quoted = walk_extensions(fixed[6], payload)?;
    if quoted.fragment.is_some_and(|f| f.offset != 0) {
        return Err(Reason::QuotedFragment);
    }
    let transport = payload.get(quoted.offset..).ok_or(Reason::Truncated)?;

    let icmp = ipv6::HEADER_LEN + upper.offset;
    let ip = icmp + icmpv6::HEADER_LEN;
    let ends = match quoted.protocol {
        ip_proto::ICMPV6 => Ends::of_query(query::v6, transport, Check::Pseudo(2))?,
        protocol => Ends::of(protocol, transport, padded)?,
    };
    let [src, dst] = [8, 24].map(|at| Ipv6Addr::from(array(fixed, at)));
    Ok(Quote {
        kind,
        code: message.code(),
        outer_src: outer.src(),
        outer_dst: outer.dst(),
        protocol: quoted.protocol,
        src: Endpoint::new(src, ends.src),
        dst: Endpoint::new(dst, ends.dst),
        layout: ends.layout(icmp, ip, ip + ipv6::HEADER_LEN + quoted.offset),
    })
}

/// The bytes of a header from `at` on.
fn array<const LEN: usize, const N: usize>(header: &[u8; LEN], at: usize) -> [u8; N] {
    core::array::from_fn(|i| header[at + i])
}

/// The quoted packet in an error's data, and whether zeros may follow it there.
///
/// With extension objects behind it, the quote has a length of its own (0: none) and is padded with
/// zeros to 128 bytes (RFC 4884, section 4). A length past the data is cut to it.
fn original_datagram(data: &[u8], len: usize) -> (&[u8], bool) {
    match data.get(..len) {
        Some(datagram) if len != 0 => (datagram, true),
        _ => (data, len != 0),
    }
}
