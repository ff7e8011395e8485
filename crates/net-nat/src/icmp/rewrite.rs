//! Rewriting an ICMP error together with the packet it quotes.

use core::net::{Ipv4Addr, Ipv6Addr};

use net_wire::checksum::Delta;

use super::ends::{Check, Layout};
use super::error::Quote;
use super::patch;
use crate::Endpoint;

/// What becomes of an error; `None` leaves a part as it is.
///
/// | the error | quoted | outer |
/// |---|---|---|
/// | from outside (RFC 5508, REQ-4) | `src` | `outer_dst` |
/// | from inside (RFC 5508, REQ-5) | `dst` | `outer_src` |
/// | hairpinned (RFC 5508, REQ-7) | both | both |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rewrite<A> {
    /// New source of the quoted packet.
    pub(crate) src: Option<Endpoint<A>>,
    /// New destination of the quoted packet.
    pub(crate) dst: Option<Endpoint<A>>,
    /// New source of the error itself.
    pub(crate) outer_src: Option<A>,
    /// New destination of the error itself.
    pub(crate) outer_dst: Option<A>,
}

impl<A> Rewrite<A> {
    /// Nothing changes; to be filled in.
    #[cfg(test)]
    pub(crate) const NOTHING: Self = Self {
        src: None,
        dst: None,
        outer_src: None,
        outer_dst: None,
    };
}

/// Rewrites an error of ICMP for IPv4 that [`super::error::parse_v4`] read as `quote`.
///
/// Every checksum is patched (RFC 1624), none computed, so that a wrong one stays wrong: the quoted
/// header's, the quoted transport's where it is quoted, the outer header's, and the error's own. A
/// port of an end that has none, as the queried end of an echo, is not written.
pub(crate) fn rewrite_v4(packet: &mut [u8], quote: &Quote<Ipv4Addr>, what: Rewrite<Ipv4Addr>) {
    let layout = &quote.layout;
    let octets = |addr: Option<Ipv4Addr>| addr.map(|addr| addr.octets());

    let quoted = [what.src, what.dst].map(|end| octets(end.map(|end| end.addr)));
    let addresses = set_addresses(packet, layout.ip + 12, quoted);
    let header = patch::checksum(packet, layout.ip + 10, addresses);
    let transport = set_ports(packet, layout, &what, addresses);
    let message = addresses.plus(header).plus(transport);
    patch::checksum(packet, layout.icmp + 2, message);

    let outer = set_addresses(packet, 12, [what.outer_src, what.outer_dst].map(octets));
    patch::checksum(packet, 10, outer);
}

/// Rewrites an error of ICMPv6 that [`super::error::parse_v6`] read as `quote`; as [`rewrite_v4`],
/// but the error's checksum covers the outer addresses too (RFC 4443, section 2.3).
pub(crate) fn rewrite_v6(packet: &mut [u8], quote: &Quote<Ipv6Addr>, what: Rewrite<Ipv6Addr>) {
    let layout = &quote.layout;
    let octets = |addr: Option<Ipv6Addr>| addr.map(|addr| addr.octets());

    let quoted = [what.src, what.dst].map(|end| octets(end.map(|end| end.addr)));
    let addresses = set_addresses(packet, layout.ip + 8, quoted);
    let transport = set_ports(packet, layout, &what, addresses);
    let outer = set_addresses(packet, 8, [what.outer_src, what.outer_dst].map(octets));
    let message = addresses.plus(transport).plus(outer);
    patch::checksum(packet, layout.icmp + 2, message);
}

/// Sets source and destination, which stand one behind the other from `at` on.
fn set_addresses<const N: usize>(
    packet: &mut [u8],
    at: usize,
    [src, dst]: [Option<[u8; N]>; 2],
) -> Delta {
    let src = src.map_or(Delta::ZERO, |src| patch::replace(packet, at, src));
    let dst = dst.map_or(Delta::ZERO, |dst| patch::replace(packet, at + N, dst));
    src.plus(dst)
}

/// Sets the quoted ports and the quoted transport's checksum, which covers addresses that changed by
/// `addresses`. Says what all that does to a checksum over the quote.
fn set_ports<A>(packet: &mut [u8], layout: &Layout, what: &Rewrite<A>, addresses: Delta) -> Delta {
    let ends = [
        (layout.src_port, what.src.as_ref()),
        (layout.dst_port, what.dst.as_ref()),
    ];
    let mut ports = Delta::ZERO;
    for (at, end) in ends {
        if let (Some(at), Some(end)) = (at, end) {
            ports = ports.plus(patch::replace(packet, at, end.port.to_be_bytes()));
        }
    }
    let check = match layout.check {
        Check::None => Delta::ZERO,
        Check::Plain(at) => patch::checksum(packet, at, ports),
        Check::Pseudo(at) => patch::checksum(packet, at, ports.plus(addresses)),
        Check::Udp(at) => patch::checksum_udp(packet, at, ports.plus(addresses)),
    };
    ports.plus(check)
}
