//! What differs between IPv4 and IPv6: where the fields are.

use core::net::{Ipv4Addr, Ipv6Addr};

use alloc::vec::Vec;

use net_wire::checksum::Delta;
use net_wire::ipv4::Ipv4Packet;
use net_wire::ipv6::Ipv6Packet;
use net_wire::{ip_proto, ipv6};

use crate::address::{Address, Endpoint};
use crate::direction::Direction;
use crate::fragment::{self, FragmentKey, Ipv4Id};
use crate::icmp::error::{self, Quote, Reason};
use crate::icmp::query::{self, Query};
use crate::icmp::rewrite::{self, Rewrite};
use crate::icmp::{self, ErrorKind};
use crate::verdict::DropReason;

/// What kind of packet it is, as far as translation depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Tcp,
    Udp,
    /// An ICMP message with an identifier.
    Query,
    /// An ICMP error.
    Error,
    /// Any other ICMP message.
    OtherIcmp,
    /// A protocol that is translated by address alone.
    Other,
    /// A fragment without a transport header.
    Tail,
}

/// What the headers say.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Header<A> {
    pub(crate) protocol: u8,
    pub(crate) kind: Kind,
    /// With the port, or on the querying side the identifier.
    pub(crate) src: Endpoint<A>,
    pub(crate) dst: Endpoint<A>,
    /// Where the transport header starts.
    pub(crate) l4: usize,
    /// Where the packet ends, by its own account.
    pub(crate) end: usize,
    /// It is a fragment, perhaps the first.
    pub(crate) is_fragment: bool,
    /// It may be cut by a router; IPv4 only.
    pub(crate) may_fragment: bool,
}

impl<A: Address> Header<A> {
    /// The end on our side and the other one, as the packet of `direction` names them.
    pub(crate) fn ends(&self, direction: Direction) -> (Endpoint<A>, Endpoint<A>) {
        match direction {
            Direction::Outbound => (self.src, self.dst),
            Direction::Inbound => (self.dst, self.src),
        }
    }
}

/// A usual packet: TCP or UDP, whole, without options. Its ends are read by [`Family::ends`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usual {
    pub(crate) protocol: u8,
    pub(crate) may_fragment: bool,
    /// By the packet's own account.
    pub(crate) len: u16,
}

/// Source and destination.
pub(crate) type Ends<A> = (Endpoint<A>, Endpoint<A>);

/// An IP version.
pub(crate) trait Family: Sized + 'static {
    type Addr: Address;
    /// The protocol number of ICMP.
    const ICMP: u8;
    /// Where the transport header of a usual packet starts.
    const L4: usize;
    /// Where the source address is; the destination follows it.
    const SRC: usize;
    /// Whether the checksum of ICMP covers the addresses.
    const ICMP_COVERS_ADDRESSES: bool;

    /// Whether a packet is of this version; an empty one is of none.
    fn is(packet: &[u8]) -> bool;

    /// Whether the packet is a usual one; `None` for any other.
    fn usual(head: &[u8], len: usize) -> Option<Usual>;

    /// Source and destination of a usual packet.
    fn ends(head: &[u8]) -> Option<Ends<Self::Addr>>;

    /// Any packet whose first bytes are `head` and which has `len` bytes.
    fn parse(
        head: &[u8],
        len: usize,
        direction: Direction,
    ) -> Result<Header<Self::Addr>, DropReason>;

    /// The query an ICMP message is, by its first 8 bytes.
    fn query(message: &[u8; 8]) -> Option<Query>;

    /// Whether an ICMP message of this type is an error about a packet.
    fn is_error(kind: u8) -> bool;

    /// Which datagram a fragment is of, and what part; `None` for what is none.
    fn piece(
        packet: &[u8],
        direction: Direction,
    ) -> Option<(FragmentKey<Self::Addr>, fragment::Piece)>;

    /// Reads an ICMP error.
    fn quote(packet: &[u8]) -> Result<Quote<Self::Addr>, Reason>;

    /// Rewrites an ICMP error.
    fn rewrite_error(packet: &mut [u8], quote: &Quote<Self::Addr>, what: Rewrite<Self::Addr>);

    /// An ICMP error about a packet, where one may be sent.
    fn error(about: &[u8], source: Self::Addr, kind: ErrorKind) -> Option<Vec<u8>>;

    /// Writes an address over the one at `at`.
    fn put_addr(head: &mut [u8], at: usize, addr: Self::Addr);

    /// Patches the checksum of the IP header.
    fn patch_header(head: &mut [u8], delta: Delta);

    /// Gives a packet that is or may become fragments an identification of the outside address's
    /// (RFC 6864, section 5.3), and returns it. Over IPv6 the sender's stays: who shares an address
    /// there is told apart by 32 bits.
    fn renumber(head: &mut [u8], ids: &mut Ipv4Id) -> u16;

    /// An identification for a datagram that comes in pieces, under its new source.
    fn new_id(head: &[u8], source: Self::Addr, ids: &mut Ipv4Id) -> Option<u16>;

    /// Sets the identification.
    fn set_id(head: &mut [u8], id: u16);
}

/// IPv4 (RFC 791).
pub(crate) struct V4;

/// IPv6 (RFC 8200).
pub(crate) struct V6;

#[inline(always)]
fn be16(bytes: &[u8], at: usize) -> u16 {
    match bytes.get(at..).and_then(|b| b.first_chunk()) {
        Some(&word) => u16::from_be_bytes(word),
        None => 0,
    }
}

/// Two ports, read at once.
#[inline(always)]
fn ports(bytes: &[u8], at: usize) -> (u16, u16) {
    let both = bytes.get(at..).and_then(|b| b.first_chunk());
    let both = both.map_or(0, |&both| u32::from_be_bytes(both));
    ((both >> 16) as u16, both as u16)
}

#[inline(always)]
fn addr4(head: &[u8; 28], at: usize) -> Ipv4Addr {
    Ipv4Addr::new(head[at], head[at + 1], head[at + 2], head[at + 3])
}

impl Family for V4 {
    type Addr = Ipv4Addr;
    const ICMP: u8 = ip_proto::ICMP;
    const L4: usize = 20;
    const SRC: usize = 12;
    const ICMP_COVERS_ADDRESSES: bool = false;

    #[inline(always)]
    fn is(packet: &[u8]) -> bool {
        packet.first().is_some_and(|b| b >> 4 == 4)
    }

    #[inline(always)]
    fn usual(head: &[u8], len: usize) -> Option<Usual> {
        /// In the first eight bytes, read from the last to the first: version and length of the
        /// header; all that makes a fragment.
        const FIXED: u64 = 0xff3f_0000_0000_00ff;
        const MAY_FRAGMENT: u64 = 0x40 << 48;
        let h = head.first_chunk::<28>()?;
        let word = h.first_chunk().map_or(0, |&word| u64::from_le_bytes(word));
        let total = ((word >> 16) as u16).swap_bytes();
        let protocol = h[9];
        let least = match protocol {
            ip_proto::UDP => 28,
            ip_proto::TCP => 40,
            _ => return None,
        };
        if word & FIXED != 0x45
            || usize::from(total) < least
            || usize::from(total) > len
            || head.len() < least
        {
            return None;
        }
        Some(Usual {
            protocol,
            may_fragment: word & MAY_FRAGMENT == 0,
            len: total,
        })
    }

    #[inline(always)]
    fn ends(head: &[u8]) -> Option<Ends<Ipv4Addr>> {
        let h = head.first_chunk::<28>()?;
        let (src, dst) = ports(h, 20);
        Some((
            Endpoint::new(addr4(h, 12), src),
            Endpoint::new(addr4(h, 16), dst),
        ))
    }

    fn parse(
        head: &[u8],
        len: usize,
        direction: Direction,
    ) -> Result<Header<Ipv4Addr>, DropReason> {
        let h = head.first_chunk::<20>().ok_or(DropReason::Malformed)?;
        let l4 = usize::from(h[0] & 15) * 4;
        let end = usize::from(be16(h, 2));
        if h[0] >> 4 != 4 || l4 < 20 || end < l4 || end > len || l4 > head.len() {
            return Err(DropReason::Malformed);
        }
        let fragment = be16(h, 6);
        let mut header = Header {
            protocol: h[9],
            kind: if fragment & 0x1fff == 0 {
                Kind::Other
            } else {
                Kind::Tail
            },
            src: Endpoint::new(Ipv4Addr::new(h[12], h[13], h[14], h[15]), 0),
            dst: Endpoint::new(Ipv4Addr::new(h[16], h[17], h[18], h[19]), 0),
            l4,
            end,
            is_fragment: fragment & 0x3fff != 0,
            may_fragment: fragment & 0x4000 == 0,
        };
        transport::<Self>(&mut header, head, direction)?;
        Ok(header)
    }

    fn query(message: &[u8; 8]) -> Option<Query> {
        query::v4(message)
    }

    fn is_error(kind: u8) -> bool {
        // Unreachable, source quench, redirect, time exceeded, parameter problem (RFC 792).
        matches!(kind, 3 | 4 | 5 | 11 | 12)
    }

    fn piece(
        packet: &[u8],
        direction: Direction,
    ) -> Option<(FragmentKey<Ipv4Addr>, fragment::Piece)> {
        let packet = Ipv4Packet::parse(packet).ok()?;
        Some((
            FragmentKey::v4(direction, &packet),
            fragment::Piece::v4(&packet),
        ))
    }

    fn quote(packet: &[u8]) -> Result<Quote<Ipv4Addr>, Reason> {
        error::parse_v4(packet)
    }

    fn rewrite_error(packet: &mut [u8], quote: &Quote<Ipv4Addr>, what: Rewrite<Ipv4Addr>) {
        rewrite::rewrite_v4(packet, quote, what);
    }

    fn error(about: &[u8], source: Ipv4Addr, kind: ErrorKind) -> Option<Vec<u8>> {
        icmp::error_v4(about, source, kind)
    }

    #[inline(always)]
    fn put_addr(head: &mut [u8], at: usize, addr: Ipv4Addr) {
        if let Some(field) = head.get_mut(at..).and_then(|h| h.first_chunk_mut()) {
            *field = addr.octets();
        }
    }

    #[inline(always)]
    fn patch_header(head: &mut [u8], delta: Delta) {
        if let Some(field) = head.get_mut(10..).and_then(|h| h.first_chunk_mut()) {
            *field = delta.apply(u16::from_be_bytes(*field)).to_be_bytes();
        }
    }

    fn renumber(head: &mut [u8], ids: &mut Ipv4Id) -> u16 {
        let Some(h) = head.first_chunk::<20>() else {
            return 0;
        };
        let addr = |at: usize| Ipv4Addr::new(h[at], h[at + 1], h[at + 2], h[at + 3]);
        let id = ids.next(addr(12), addr(16), h[9]);
        Self::set_id(head, id);
        id
    }

    fn new_id(head: &[u8], source: Ipv4Addr, ids: &mut Ipv4Id) -> Option<u16> {
        let h = head.first_chunk::<20>()?;
        let destination = Ipv4Addr::new(h[16], h[17], h[18], h[19]);
        Some(ids.next(source, destination, h[9]))
    }

    fn set_id(head: &mut [u8], id: u16) {
        if let Some(field) = head.get_mut(4..).and_then(|h| h.first_chunk_mut::<2>()) {
            let old = u16::from_be_bytes(*field);
            *field = id.to_be_bytes();
            Self::patch_header(head, Delta::new16(old, id));
        }
    }
}

impl Family for V6 {
    type Addr = Ipv6Addr;
    const ICMP: u8 = ip_proto::ICMPV6;
    const L4: usize = 40;
    const SRC: usize = 8;
    const ICMP_COVERS_ADDRESSES: bool = true;

    #[inline(always)]
    fn is(packet: &[u8]) -> bool {
        packet.first().is_some_and(|b| b >> 4 == 6)
    }

    #[inline(always)]
    fn usual(head: &[u8], len: usize) -> Option<Usual> {
        let h = head.first_chunk::<48>()?;
        let total = usize::from(be16(h, 4)) + ipv6::HEADER_LEN;
        let protocol = h[6];
        let least = match protocol {
            ip_proto::UDP => 48,
            ip_proto::TCP => 60,
            _ => return None,
        };
        if h[0] >> 4 != 6 || total < least || total > len || head.len() < least {
            return None;
        }
        Some(Usual {
            protocol,
            may_fragment: false,
            // A payload length near its end makes no usual packet.
            len: u16::try_from(total).ok()?,
        })
    }

    #[inline(always)]
    fn ends(head: &[u8]) -> Option<Ends<Ipv6Addr>> {
        let h = head.first_chunk::<48>()?;
        let (src, dst) = ports(h, 40);
        Some((
            Endpoint::new(addr6(h, 8), src),
            Endpoint::new(addr6(h, 24), dst),
        ))
    }

    fn parse(
        head: &[u8],
        len: usize,
        direction: Direction,
    ) -> Result<Header<Ipv6Addr>, DropReason> {
        let h = head.first_chunk::<40>().ok_or(DropReason::Malformed)?;
        let end = usize::from(be16(h, 4)) + ipv6::HEADER_LEN;
        if h[0] >> 4 != 6 || end > len {
            return Err(DropReason::Malformed);
        }
        let rest = head
            .get(ipv6::HEADER_LEN..end.min(head.len()))
            .unwrap_or_default();
        let upper = ipv6::walk_extensions(h[6], rest).map_err(|_| DropReason::Malformed)?;
        // An atomic fragment is a whole packet (RFC 6946).
        let piece = upper.fragment.filter(|f| f.more || f.offset != 0);
        let mut header = Header {
            protocol: upper.protocol,
            kind: match piece {
                Some(piece) if piece.offset != 0 => Kind::Tail,
                _ => Kind::Other,
            },
            src: Endpoint::new(addr6(h, 8), 0),
            dst: Endpoint::new(addr6(h, 24), 0),
            l4: ipv6::HEADER_LEN + upper.offset,
            end,
            is_fragment: piece.is_some(),
            may_fragment: false,
        };
        transport::<Self>(&mut header, head, direction)?;
        Ok(header)
    }

    fn query(message: &[u8; 8]) -> Option<Query> {
        query::v6(message)
    }

    fn is_error(kind: u8) -> bool {
        // RFC 4443, section 2.1.
        kind < 128
    }

    fn piece(
        packet: &[u8],
        direction: Direction,
    ) -> Option<(FragmentKey<Ipv6Addr>, fragment::Piece)> {
        let packet = Ipv6Packet::parse(packet).ok()?;
        let upper = packet.upper_layer().ok()?;
        let id = upper.fragment?.id;
        Some((
            FragmentKey::v6(direction, &packet, id),
            fragment::Piece::v6(&packet, &upper)?,
        ))
    }

    fn quote(packet: &[u8]) -> Result<Quote<Ipv6Addr>, Reason> {
        error::parse_v6(packet)
    }

    fn rewrite_error(packet: &mut [u8], quote: &Quote<Ipv6Addr>, what: Rewrite<Ipv6Addr>) {
        rewrite::rewrite_v6(packet, quote, what);
    }

    fn error(about: &[u8], source: Ipv6Addr, kind: ErrorKind) -> Option<Vec<u8>> {
        icmp::error_v6(about, source, kind)
    }

    #[inline(always)]
    fn put_addr(head: &mut [u8], at: usize, addr: Ipv6Addr) {
        if let Some(field) = head.get_mut(at..).and_then(|h| h.first_chunk_mut()) {
            *field = addr.octets();
        }
    }

    #[inline(always)]
    fn patch_header(_: &mut [u8], _: Delta) {}

    fn renumber(_: &mut [u8], _: &mut Ipv4Id) -> u16 {
        0
    }

    fn new_id(_: &[u8], _: Ipv6Addr, _: &mut Ipv4Id) -> Option<u16> {
        None
    }

    fn set_id(_: &mut [u8], _: u16) {}
}

#[inline(always)]
fn addr6<const N: usize>(head: &[u8; N], at: usize) -> Ipv6Addr {
    let octets = head.get(at..).and_then(|h| h.first_chunk::<16>());
    Ipv6Addr::from(octets.copied().unwrap_or_default())
}

/// The header of a usual packet, as [`Family::parse`] reads it but quicker; `None` for one that has
/// something wrong with it after all.
#[inline(always)]
pub(crate) fn usual_header<F: Family>(head: &[u8], usual: &Usual) -> Option<Header<F::Addr>> {
    let (src, dst) = F::ends(head)?;
    let end = usize::from(usual.len);
    let room = end - F::L4;
    let l4 = head.get(F::L4..)?;
    let kind = if usual.protocol == ip_proto::TCP {
        let offset = usize::from(l4.get(12)? >> 4) * 4;
        (20..=room).contains(&offset).then_some(Kind::Tcp)?
    } else {
        let len = usize::from(be16(l4, 4));
        (8..=room).contains(&len).then_some(Kind::Udp)?
    };
    Some(Header {
        protocol: usual.protocol,
        kind,
        src,
        dst,
        l4: F::L4,
        end,
        is_fragment: false,
        may_fragment: usual.may_fragment,
    })
}

/// Fills in the kind and the ports.
fn transport<F: Family>(
    header: &mut Header<F::Addr>,
    head: &[u8],
    direction: Direction,
) -> Result<(), DropReason> {
    if header.kind == Kind::Tail {
        return Ok(());
    }
    let l4 = head.get(header.l4..).unwrap_or_default();
    let room = header.end - header.l4;
    let first = header.is_fragment;
    match header.protocol {
        ip_proto::TCP => {
            let offset = usize::from(l4.get(12).ok_or(DropReason::Malformed)? >> 4) * 4;
            if l4.len() < 20 || offset < 20 || room < 20 || (offset > room && !first) {
                return Err(DropReason::Malformed);
            }
            header.kind = Kind::Tcp;
        }
        ip_proto::UDP => {
            let len = usize::from(be16(l4, 4));
            if l4.len() < 8 || room < 8 || len < 8 || (len > room && !first) {
                return Err(DropReason::Malformed);
            }
            header.kind = Kind::Udp;
        }
        protocol if protocol == F::ICMP => {
            let message = l4.first_chunk::<8>().ok_or(DropReason::Malformed)?;
            if room < 8 {
                return Err(DropReason::Malformed);
            }
            header.kind = match F::query(message) {
                Some(Query { id, .. }) => {
                    match direction {
                        Direction::Outbound => header.src.port = id,
                        Direction::Inbound => header.dst.port = id,
                    }
                    Kind::Query
                }
                None if F::is_error(message[0]) => Kind::Error,
                None => Kind::OtherIcmp,
            };
            return Ok(());
        }
        // Not protocols of their own: a chain that ends in one, or one with no end.
        ip_proto::HOP_BY_HOP | ip_proto::ICMP | ip_proto::ICMPV6 => {
            return Err(DropReason::Unsupported);
        }
        _ => return Ok(()),
    }
    header.src.port = be16(l4, 0);
    header.dst.port = be16(l4, 2);
    Ok(())
}
