//! The ends of a quoted packet: ports, identifiers, and the checksum that covers them.

use net_wire::ip_proto;

use super::error::Reason;
use super::query::{Query, Role};

/// Bytes of a transport header that an error quotes at least (RFC 792, RFC 1122 section 3.2.2).
const MIN_TRANSPORT: usize = 8;

/// Where the fields to rewrite stand, as offsets into the whole packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    /// The ICMP message.
    pub(super) icmp: usize,
    /// The quoted IP header.
    pub(super) ip: usize,
    pub(super) src_port: Option<usize>,
    pub(super) dst_port: Option<usize>,
    pub(super) check: Check,
}

/// The checksum of the quoted transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Check {
    /// Not quoted, or not known.
    None,
    /// Over header and data (ICMPv4).
    Plain(usize),
    /// With a pseudo header (TCP, ICMPv6).
    Pseudo(usize),
    /// With a pseudo header, and 0 says "none" (UDP).
    Udp(usize),
}

/// Ports of a quoted packet and where they stand, as offsets into the transport.
pub(super) struct Ends {
    pub(super) src: u16,
    pub(super) dst: u16,
    src_at: Option<usize>,
    dst_at: Option<usize>,
    check: Check,
}

impl Ends {
    /// The ends of any protocol but ICMP. `padded`: zeros may stand behind the quoted packet.
    pub(super) fn of(protocol: u8, transport: &[u8], padded: bool) -> Result<Self, Reason> {
        let check = match protocol {
            ip_proto::UDP => Check::Udp(6),
            ip_proto::TCP if has_tcp_checksum(transport, padded) => Check::Pseudo(16),
            ip_proto::TCP => Check::None,
            _ => {
                return Ok(Self {
                    src: 0,
                    dst: 0,
                    src_at: None,
                    dst_at: None,
                    check: Check::None,
                });
            }
        };
        let &[a, b, c, d, ..] = transport
            .first_chunk::<MIN_TRANSPORT>()
            .ok_or(Reason::Truncated)?;
        Ok(Self {
            src: u16::from_be_bytes([a, b]),
            dst: u16::from_be_bytes([c, d]),
            src_at: Some(0),
            dst_at: Some(2),
            check,
        })
    }

    /// The ends of an ICMP query, told by `read`.
    pub(super) fn of_query(
        read: fn(&[u8]) -> Option<Query>,
        transport: &[u8],
        check: Check,
    ) -> Result<Self, Reason> {
        if transport.len() < MIN_TRANSPORT {
            return Err(Reason::Truncated);
        }
        let Query { role, id } = read(transport).ok_or(Reason::QuotedNotQuery)?;
        let at = |its| (role == its).then_some(4);
        let (src_at, dst_at) = (at(Role::Request), at(Role::Reply));
        Ok(Self {
            src: src_at.map_or(0, |_| id),
            dst: dst_at.map_or(0, |_| id),
            src_at,
            dst_at,
            check,
        })
    }

    /// The same as offsets into the whole packet, from where its parts begin.
    pub(super) fn layout(&self, icmp: usize, ip: usize, transport: usize) -> Layout {
        let absolute = |at| transport + at;
        Layout {
            icmp,
            ip,
            src_port: self.src_at.map(absolute),
            dst_port: self.dst_at.map(absolute),
            check: match self.check {
                Check::None => Check::None,
                Check::Plain(at) => Check::Plain(absolute(at)),
                Check::Pseudo(at) => Check::Pseudo(absolute(at)),
                Check::Udp(at) => Check::Udp(absolute(at)),
            },
        }
    }
}

/// Whether the checksum of a quoted TCP header is there.
///
/// Routers quote as little as 8 bytes of it, and zeros up to an extension object are not the rest
/// of the header: there its length reads 0, or, where the quote has a length of its own, all from
/// the checksum on does. (Routers older than RFC 4884 pad without giving a length; section 5.) Half
/// a checksum is none: it cannot be patched without the other half.
fn has_tcp_checksum(transport: &[u8], padded: bool) -> bool {
    let header_words = transport.get(12).map_or(0, |byte| byte >> 4);
    let rest = transport.get(16..).unwrap_or_default();
    header_words >= 5 && rest.len() >= 2 && !(padded && rest.iter().all(|byte| *byte == 0))
}
