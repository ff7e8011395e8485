//! L3 packets towards a guest: IP headers, UDP datagrams, ICMP errors.
//!
//! Every function writes into bytes that the caller gives and returns how many it wrote; `None`
//! says that they do not fit or that the addresses are of two families. Nothing here panics,
//! whatever the lengths.

use core::net::{IpAddr, SocketAddr};

use net_wire::checksum::{self, Sum};
use net_wire::ipv4::{self, Ipv4Repr};
use net_wire::ipv6::{self, Ipv6Repr};
use net_wire::{icmpv4, icmpv6, ip_proto, udp};

/// Time to live of packets that start here.
pub(crate) const DEFAULT_TTL: u8 = 64;
/// No ICMP error is longer (RFC 1812, section 4.3.2.3).
const ICMP_ERROR_MAX: usize = 576;
/// No ICMPv6 error is longer (RFC 4443, section 2.4 (c)).
const ICMPV6_ERROR_MAX: usize = 1280;

/// Length of the IP header, in bytes, that [`ip_header`] writes for an address of this family.
pub(crate) const fn ip_header_len(addr: IpAddr) -> usize {
    match addr {
        IpAddr::V4(_) => ipv4::MIN_HEADER_LEN,
        IpAddr::V6(_) => ipv6::HEADER_LEN,
    }
}

/// Writes an IP header without options in front of `payload_len` bytes of `protocol`.
pub(crate) fn ip_header(
    out: &mut [u8],
    src: IpAddr,
    dst: IpAddr,
    protocol: u8,
    ttl: u8,
    payload_len: usize,
) -> Option<usize> {
    let len = ip_header_len(src);
    let out = out.get_mut(..len)?;
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            if payload_len > usize::from(u16::MAX) - len {
                return None;
            }
            // An atomic packet: the identification says nothing (RFC 6864, section 4.1).
            Ipv4Repr {
                src,
                dst,
                protocol,
                ttl,
                tos: 0,
                id: 0,
                dont_fragment: true,
                payload_len,
            }
            .emit(out);
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            if payload_len > usize::from(u16::MAX) {
                return None;
            }
            Ipv6Repr {
                src,
                dst,
                next_header: protocol,
                hop_limit: ttl,
                traffic_class: 0,
                payload_len,
            }
            .emit(out);
        }
        _ => return None,
    }
    Some(len)
}

/// The sum of the pseudo header; `None` for addresses of two families.
pub(crate) fn pseudo_header(src: IpAddr, dst: IpAddr, protocol: u8, len: usize) -> Option<Sum> {
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => Some(checksum::pseudo_v4(src, dst, protocol, len)),
        (IpAddr::V6(src), IpAddr::V6(dst)) => Some(checksum::pseudo_v6(src, dst, protocol, len)),
        _ => None,
    }
}

/// Writes a whole UDP packet: IP header, UDP header, payload.
///
/// With `partial`, the checksum field holds the folded pseudo-header sum and the guest finishes
/// it (`VirtioNetHdr::NEEDS_CSUM`); without, it is complete.
pub(crate) fn udp(
    out: &mut [u8],
    src: SocketAddr,
    dst: SocketAddr,
    ttl: u8,
    payload: &[u8],
    partial: bool,
) -> Option<usize> {
    let datagram_len = udp::HEADER_LEN + payload.len();
    let ip_len = ip_header(out, src.ip(), dst.ip(), ip_proto::UDP, ttl, datagram_len)?;
    let datagram = out.get_mut(ip_len..ip_len + datagram_len)?;
    udp_datagram(datagram, src, dst, payload, partial)?;
    Some(ip_len + datagram_len)
}

/// Writes UDP header and payload over all of `datagram`.
pub(crate) fn udp_datagram(
    datagram: &mut [u8],
    src: SocketAddr,
    dst: SocketAddr,
    payload: &[u8],
    partial: bool,
) -> Option<()> {
    let len = udp::HEADER_LEN + payload.len();
    if datagram.len() != len || len > usize::from(u16::MAX) {
        return None;
    }
    let pseudo = pseudo_header(src.ip(), dst.ip(), ip_proto::UDP, len)?;
    udp::emit(datagram, src.port(), dst.port(), payload.len(), 0);
    datagram[udp::HEADER_LEN..].copy_from_slice(payload);
    let check = match partial {
        true => pseudo.fold(),
        false => (pseudo + checksum::sum(datagram)).finish_udp(),
    };
    datagram[6..8].copy_from_slice(&check.to_be_bytes());
    Some(())
}

/// An ICMP error in the numbers of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IcmpError {
    /// Type.
    pub(crate) kind: u8,
    /// Code.
    pub(crate) code: u8,
    /// The four bytes behind the checksum: an MTU or a pointer.
    pub(crate) rest: u32,
}

impl IcmpError {
    const fn of(v6: bool, four: (u8, u8), six: (u8, u8), rest: u32) -> Self {
        let (kind, code) = if v6 { six } else { four };
        Self { kind, code, rest }
    }

    /// Nothing listens at the port.
    pub(crate) const fn port_unreachable(v6: bool) -> Self {
        let four = (icmpv4::UNREACHABLE, icmpv4::CODE_PORT);
        Self::of(v6, four, (icmpv6::UNREACHABLE, 4), 0)
    }

    /// The host does not answer.
    pub(crate) const fn host_unreachable(v6: bool) -> Self {
        let four = (icmpv4::UNREACHABLE, icmpv4::CODE_HOST);
        Self::of(v6, four, (icmpv6::UNREACHABLE, 3), 0)
    }

    /// There is no route.
    pub(crate) const fn net_unreachable(v6: bool) -> Self {
        let four = (icmpv4::UNREACHABLE, icmpv4::CODE_NET);
        Self::of(v6, four, (icmpv6::UNREACHABLE, 0), 0)
    }

    /// The transport protocol is not relayed.
    pub(crate) const fn protocol_unreachable(v6: bool) -> Self {
        let four = (icmpv4::UNREACHABLE, icmpv4::CODE_PROTOCOL);
        // ICMPv6 has a code for an unknown next header only, which is not what it is.
        Self::of(v6, four, (icmpv6::UNREACHABLE, 1), 0)
    }

    /// Policy forbids it.
    pub(crate) const fn prohibited(v6: bool) -> Self {
        let four = (icmpv4::UNREACHABLE, icmpv4::CODE_PROHIBITED);
        Self::of(v6, four, (icmpv6::UNREACHABLE, 1), 0)
    }

    /// The packet is too big for a link of `mtu` bytes and may not be fragmented.
    pub(crate) const fn too_big(v6: bool, mtu: u32) -> Self {
        let four = (icmpv4::UNREACHABLE, icmpv4::CODE_FRAG_NEEDED);
        // IPv4 has 16 bits for it (RFC 1191, section 4).
        let mtu = if v6 || mtu < 0xffff { mtu } else { 0xffff };
        Self::of(v6, four, (icmpv6::PACKET_TOO_BIG, 0), mtu)
    }

    /// The time to live ran out on the way.
    pub(crate) const fn ttl_exceeded(v6: bool) -> Self {
        Self::of(
            v6,
            (icmpv4::TIME_EXCEEDED, 0),
            (icmpv6::TIME_EXCEEDED, 0),
            0,
        )
    }

    /// Whether a host may tell a guest this at all: errors only, never redirects or the obsolete
    /// source quench.
    pub(crate) const fn is_relayable(self, v6: bool) -> bool {
        if v6 {
            matches!(self.kind, 1..=4)
        } else {
            matches!(
                self.kind,
                icmpv4::UNREACHABLE | icmpv4::TIME_EXCEEDED | icmpv4::PARAMETER_PROBLEM
            )
        }
    }
}

/// How many bytes of the offending packet an error may quote on a link of `mtu` bytes.
pub(crate) fn icmp_quote_max(v6: bool, mtu: usize) -> usize {
    let (limit, headers) = match v6 {
        true => (ICMPV6_ERROR_MAX, ipv6::HEADER_LEN + icmpv6::HEADER_LEN),
        false => (ICMP_ERROR_MAX, ipv4::MIN_HEADER_LEN + icmpv4::HEADER_LEN),
    };
    limit.min(mtu).saturating_sub(headers)
}

/// Writes a whole ICMP error packet that quotes `quote`, which starts at the IP header of the
/// packet it is about. The quote is cut to what the family and `mtu` allow.
pub(crate) fn icmp_error(
    out: &mut [u8],
    src: IpAddr,
    dst: IpAddr,
    error: IcmpError,
    quote: &[u8],
    mtu: usize,
) -> Option<usize> {
    let v6 = src.is_ipv6();
    let quote = &quote[..quote.len().min(icmp_quote_max(v6, mtu))];
    icmp(out, src, dst, error, quote)
}

/// Writes a whole ICMP message with any data.
fn icmp(out: &mut [u8], src: IpAddr, dst: IpAddr, header: IcmpError, data: &[u8]) -> Option<usize> {
    let protocol = if src.is_ipv6() {
        ip_proto::ICMPV6
    } else {
        ip_proto::ICMP
    };
    let len = icmpv4::HEADER_LEN + data.len();
    let ip_len = ip_header(out, src, dst, protocol, DEFAULT_TTL, len)?;
    icmp_message(out.get_mut(ip_len..ip_len + len)?, src, dst, header, data)?;
    Some(ip_len + len)
}

/// Writes an ICMP message, without the IP header, over all of `message`.
pub(crate) fn icmp_message(
    message: &mut [u8],
    src: IpAddr,
    dst: IpAddr,
    header: IcmpError,
    data: &[u8],
) -> Option<()> {
    let IcmpError { kind, code, rest } = header;
    let len = message.len();
    if len != icmpv4::HEADER_LEN + data.len() {
        return None;
    }
    message[icmpv4::HEADER_LEN..].copy_from_slice(data);
    if src.is_ipv6() {
        icmpv6::emit(
            message,
            kind,
            code,
            rest,
            pseudo_header(src, dst, ip_proto::ICMPV6, len)?,
        );
    } else {
        icmpv4::emit(message, kind, code, rest);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use net_wire::icmpv4::IcmpMessage;
    use net_wire::icmpv6::Icmpv6Message;
    use net_wire::ipv4::Ipv4Packet;
    use net_wire::ipv6::Ipv6Packet;
    use net_wire::udp::UdpDatagram;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn udp_packets_of_both_families_verify() {
        let mut out = [0u8; 100];
        for (src, dst) in [
            ("192.0.2.1:53", "10.0.2.15:4000"),
            ("[2001:db8::1]:53", "[fd00::2]:4000"),
        ] {
            let (src, dst) = (addr(src), addr(dst));
            let len = udp(&mut out, src, dst, 60, b"hello", false).unwrap();
            let (payload, ttl) = match src.ip() {
                IpAddr::V4(_) => {
                    let packet = Ipv4Packet::parse(&out[..len]).unwrap();
                    assert!(packet.verify_header_checksum());
                    (&out[20..len], packet.ttl())
                }
                IpAddr::V6(_) => (
                    &out[40..len],
                    Ipv6Packet::parse(&out[..len]).unwrap().hop_limit(),
                ),
            };
            assert_eq!(ttl, 60);
            let datagram = UdpDatagram::parse(payload).unwrap();
            let pseudo = pseudo_header(src.ip(), dst.ip(), ip_proto::UDP, payload.len()).unwrap();
            assert!(datagram.checksum() != 0 && datagram.verify_checksum(pseudo));
            assert_eq!((datagram.src_port(), datagram.dst_port()), (53, 4000));
            assert_eq!(datagram.payload(), b"hello");
        }
    }

    #[test]
    fn a_partial_checksum_is_finished_by_summing_the_datagram() {
        let mut out = [0u8; 64];
        let (src, dst) = (addr("192.0.2.1:53"), addr("10.0.2.15:4000"));
        let len = udp(&mut out, src, dst, 64, b"odd", true).unwrap();
        let finished = checksum::sum(&out[20..len]).finish_udp();
        out[26..28].copy_from_slice(&finished.to_be_bytes());
        let pseudo = pseudo_header(src.ip(), dst.ip(), ip_proto::UDP, len - 20).unwrap();
        assert!(
            UdpDatagram::parse(&out[20..len])
                .unwrap()
                .verify_checksum(pseudo)
        );
    }

    /// Sweeps the MTU over the error: never longer than the link, never past the quote.
    #[test]
    fn an_error_never_passes_the_mtu() {
        let quote = [0x45u8; 2000];
        let mut out = [0u8; 2000];
        for (src, dst, limit) in [
            ("192.0.2.1", "10.0.2.15", 576),
            ("2001:db8::1", "fd00::2", 1280),
        ] {
            let (src, dst): (IpAddr, IpAddr) = (src.parse().unwrap(), dst.parse().unwrap());
            let v6 = src.is_ipv6();
            for mtu in 68..1600usize {
                let error = IcmpError::port_unreachable(v6);
                let len = icmp_error(&mut out, src, dst, error, &quote, mtu).unwrap();
                assert_eq!(len, mtu.min(limit));
            }
            let len = icmp_error(
                &mut out,
                src,
                dst,
                IcmpError::too_big(v6, 1400),
                &quote[..28],
                1500,
            )
            .unwrap();
            let message = &out[ip_header_len(src)..len];
            if v6 {
                let pseudo = pseudo_header(src, dst, ip_proto::ICMPV6, message.len()).unwrap();
                let view = Icmpv6Message::parse(message).unwrap();
                assert!(view.verify_checksum(pseudo));
                assert_eq!((view.kind(), view.code(), view.rest()), (2, 0, 1400));
            } else {
                let view = IcmpMessage::parse(message).unwrap();
                assert!(view.verify_checksum());
                assert_eq!((view.kind(), view.code(), view.rest()), (3, 4, 1400));
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let (src, dst) = (addr("192.0.2.1:53"), addr("10.0.2.15:4000"));
        let mut out = vec![0u8; 70_000];
        for len in 0..33 {
            assert_eq!(
                udp(&mut out[..len], src, dst, 64, b"hello", false),
                None,
                "{len}"
            );
        }
        assert_eq!(
            udp(&mut out, src, dst, 64, &[0; 65_507], false),
            Some(65_535)
        );
        assert_eq!(udp(&mut out, src, dst, 64, &[0; 65_508], false), None);
        assert_eq!(
            udp(&mut out, src, addr("[fd00::2]:1"), 64, b"", false),
            None
        );
        let (src, dst) = (addr("[2001:db8::1]:53"), addr("[fd00::2]:1"));
        assert_eq!(
            udp(&mut out, src, dst, 64, &[0; 65_527], false),
            Some(65_575)
        );
        assert_eq!(udp(&mut out, src, dst, 64, &[0; 65_528], false), None);
    }

    #[test]
    fn only_errors_are_relayed() {
        let error = |kind| IcmpError {
            kind,
            code: 0,
            rest: 0,
        };
        for kind in 0..=255u8 {
            assert_eq!(error(kind).is_relayable(false), [3, 11, 12].contains(&kind));
            assert_eq!(error(kind).is_relayable(true), (1..=4).contains(&kind));
        }
    }
}
