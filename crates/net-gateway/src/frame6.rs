//! IPv6 frames the gateway sends, as [`crate::frame`] makes those of IPv4.

use core::net::Ipv6Addr;

use net_wire::checksum::{pseudo_v6, sum};
use net_wire::ethernet::{self, EtherType};
use net_wire::ipv6::{self, Ipv6Repr};
use net_wire::ndp::{self, Neighbour};
use net_wire::{icmpv6, ip_proto, udp};

use crate::frame::Ends;

const IP_AT: usize = ethernet::HEADER_LEN;
const L4_AT: usize = IP_AT + ipv6::HEADER_LEN;

/// Hop limit of what may be answered from afar.
pub(crate) const FAR: u8 = 64;
/// Hop limit of neighbour discovery, which no router passes on (RFC 4861, section 3.1).
pub(crate) const NEAR: u8 = ndp::HOP_LIMIT;

/// An Ethernet and an IPv6 header in front of `l4_len` zero bytes, at most 65,535.
fn ip_frame(ends: Ends<Ipv6Addr>, next_header: u8, hop_limit: u8, l4_len: usize) -> Vec<u8> {
    let mut frame = vec![0; L4_AT + l4_len];
    ethernet::emit(&mut frame, ends.dst_mac, ends.src_mac, EtherType::IPV6);
    let repr = Ipv6Repr {
        src: ends.src_ip,
        dst: ends.dst_ip,
        next_header,
        hop_limit,
        traffic_class: 0,
        payload_len: l4_len,
    };
    repr.emit(&mut frame[IP_AT..]);
    frame
}

/// A UDP datagram; `None` where the payload does not fit into one IPv6 packet.
pub(crate) fn udp(ends: Ends<Ipv6Addr>, ports: (u16, u16), payload: &[u8]) -> Option<Vec<u8>> {
    let len = udp::HEADER_LEN + payload.len();
    if len > usize::from(u16::MAX) {
        return None;
    }
    let mut frame = ip_frame(ends, ip_proto::UDP, FAR, len);
    udp::emit(&mut frame[L4_AT..], ports.0, ports.1, payload.len(), 0);
    frame[L4_AT + udp::HEADER_LEN..].copy_from_slice(payload);
    let pseudo = pseudo_v6(ends.src_ip, ends.dst_ip, ip_proto::UDP, len);
    let checksum = (pseudo + sum(&frame[L4_AT..])).finish_udp();
    frame[L4_AT + 6..L4_AT + 8].copy_from_slice(&checksum.to_be_bytes());
    Some(frame)
}

/// An ICMPv6 message whose checksum is filled in; `None` where it is no message that fits into one
/// packet.
pub(crate) fn icmp(ends: Ends<Ipv6Addr>, hop_limit: u8, message: &[u8]) -> Option<Vec<u8>> {
    let &[kind, code, _, _, a, b, c, d, ..] = message else {
        return None;
    };
    if message.len() > usize::from(u16::MAX) {
        return None;
    }
    let mut frame = ip_frame(ends, ip_proto::ICMPV6, hop_limit, message.len());
    frame[L4_AT..].copy_from_slice(message);
    let pseudo = pseudo_v6(ends.src_ip, ends.dst_ip, ip_proto::ICMPV6, message.len());
    let rest = u32::from_be_bytes([a, b, c, d]);
    icmpv6::emit(&mut frame[L4_AT..], kind, code, rest, pseudo);
    Some(frame)
}

/// A solicitation or advertisement of a neighbour.
pub(crate) fn neighbour(ends: Ends<Ipv6Addr>, message: &Neighbour) -> Vec<u8> {
    let len = message.len();
    let mut frame = ip_frame(ends, ip_proto::ICMPV6, NEAR, len);
    let pseudo = pseudo_v6(ends.src_ip, ends.dst_ip, ip_proto::ICMPV6, len);
    message.emit(&mut frame[L4_AT..], pseudo);
    frame
}

/// A message of type, code and the four bytes behind the checksum, with `data`.
pub(crate) fn message(kind: u8, code: u8, rest: u32, data: &[u8]) -> Vec<u8> {
    let mut message = vec![kind, code, 0, 0];
    message.extend(rest.to_be_bytes());
    message.extend_from_slice(data);
    message
}

/// Cuts a frame that is larger than `mtu`, at least 1280, into fragments (RFC 8200, section 4.5).
///
/// The frame is one that this module made: no extension headers.
pub(crate) fn fragment(frame: Vec<u8>, mtu: usize, id: u32) -> Vec<Vec<u8>> {
    if frame.len() - IP_AT <= mtu {
        return vec![frame];
    }
    let payload = &frame[L4_AT..];
    // Every fragment but the last carries a multiple of eight bytes.
    let step = (mtu - ipv6::HEADER_LEN - ipv6::FRAGMENT_HEADER_LEN) & !7;
    let mut out = Vec::with_capacity(payload.len().div_ceil(step));
    for (n, chunk) in payload.chunks(step).enumerate() {
        let more = (n + 1) * step < payload.len();
        let offset = (n * step) as u16 | u16::from(more);
        let mut piece = frame[..L4_AT].to_vec();
        let protocol = core::mem::replace(&mut piece[IP_AT + 6], ip_proto::IPV6_FRAGMENT);
        let len = (ipv6::FRAGMENT_HEADER_LEN + chunk.len()) as u16;
        piece[IP_AT + 4..IP_AT + 6].copy_from_slice(&len.to_be_bytes());
        piece.extend([protocol, 0]);
        piece.extend(offset.to_be_bytes());
        piece.extend(id.to_be_bytes());
        piece.extend_from_slice(chunk);
        out.push(piece);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use net_wire::MacAddr;
    use net_wire::ipv6::Ipv6Packet;

    const ENDS: Ends<Ipv6Addr> = Ends {
        src_mac: MacAddr([2; 6]),
        dst_mac: MacAddr([4; 6]),
        src_ip: Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1),
        dst_ip: Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2),
    };

    #[test]
    fn fragments_fit_every_mtu_and_add_up() {
        let data: Vec<u8> = (0..5000u32).map(|n| n as u8).collect();
        let whole = icmp(ENDS, FAR, &message(129, 0, 7, &data)).unwrap();
        for mtu in 1280..=1600 {
            let mut joined = Vec::new();
            for piece in fragment(whole.clone(), mtu, 9) {
                assert!(piece.len() - IP_AT <= mtu);
                let view = Ipv6Packet::parse(&piece[IP_AT..]).unwrap();
                let upper = view.upper_layer().unwrap();
                let header = upper.fragment.unwrap();
                assert_eq!((upper.protocol, header.id), (ip_proto::ICMPV6, 9));
                assert_eq!(header.offset, joined.len());
                joined.extend_from_slice(&view.payload()[8..]);
                assert_eq!(header.more, joined.len() < whole.len() - L4_AT);
            }
            assert_eq!(joined, whole[L4_AT..]);
        }
    }

    #[test]
    fn the_longest_message_fits_and_one_more_byte_does_not() {
        assert!(udp(ENDS, (53, 53), &vec![0; 65_527]).is_some());
        assert!(udp(ENDS, (53, 53), &vec![0; 65_528]).is_none());
        assert!(icmp(ENDS, FAR, &vec![0; 65_535]).is_some());
        assert!(icmp(ENDS, FAR, &vec![0; 65_536]).is_none());
        assert!(icmp(ENDS, FAR, &[0; 7]).is_none());
    }
}
