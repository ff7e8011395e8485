//! IPv4 frames the gateway sends: a few bytes of control traffic, each in a vector of its own.

use core::net::Ipv4Addr;

use net_wire::checksum::{pseudo_v4, sum};
use net_wire::ethernet::{self, EtherType};
use net_wire::ipv4::{self, Ipv4Repr};
use net_wire::{MacAddr, arp, icmpv4, ip_proto, udp};

/// The two ends of a frame, on both layers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ends<A> {
    pub(crate) src_mac: MacAddr,
    pub(crate) dst_mac: MacAddr,
    pub(crate) src_ip: A,
    pub(crate) dst_ip: A,
}

const IP_AT: usize = ethernet::HEADER_LEN;
const L4_AT: usize = IP_AT + ipv4::MIN_HEADER_LEN;

/// An Ethernet and an IPv4 header in front of `l4_len` zero bytes.
fn ip_frame(ends: Ends<Ipv4Addr>, protocol: u8, id: u16, l4_len: usize) -> Vec<u8> {
    let mut frame = vec![0; L4_AT + l4_len];
    ethernet::emit(&mut frame, ends.dst_mac, ends.src_mac, EtherType::IPV4);
    let repr = Ipv4Repr {
        src: ends.src_ip,
        dst: ends.dst_ip,
        protocol,
        ttl: 64,
        tos: 0,
        id,
        dont_fragment: false,
        payload_len: l4_len,
    };
    repr.emit(&mut frame[IP_AT..]);
    frame
}

/// An ARP packet.
pub(crate) fn arp(ends: Ends<Ipv4Addr>, operation: u16) -> Vec<u8> {
    let mut frame = vec![0; IP_AT + arp::LEN];
    ethernet::emit(&mut frame, ends.dst_mac, ends.src_mac, EtherType::ARP);
    let packet = arp::ArpPacket {
        operation,
        sender_mac: ends.src_mac,
        sender_ip: ends.src_ip,
        target_mac: if operation == arp::REQUEST {
            MacAddr::ZERO
        } else {
            ends.dst_mac
        },
        target_ip: ends.dst_ip,
    };
    packet.emit(&mut frame[IP_AT..]);
    frame
}

/// A UDP datagram; `None` where the payload does not fit into one IPv4 packet.
pub(crate) fn udp(ends: Ends<Ipv4Addr>, ports: (u16, u16), payload: &[u8]) -> Option<Vec<u8>> {
    let len = udp::HEADER_LEN + payload.len();
    if ipv4::MIN_HEADER_LEN + len > usize::from(u16::MAX) {
        return None;
    }
    let mut frame = ip_frame(ends, ip_proto::UDP, 0, len);
    udp::emit(&mut frame[L4_AT..], ports.0, ports.1, payload.len(), 0);
    frame[L4_AT + udp::HEADER_LEN..].copy_from_slice(payload);
    let pseudo = pseudo_v4(ends.src_ip, ends.dst_ip, ip_proto::UDP, len);
    let checksum = (pseudo + sum(&frame[L4_AT..])).finish_udp();
    frame[L4_AT + 6..L4_AT + 8].copy_from_slice(&checksum.to_be_bytes());
    Some(frame)
}

/// An ICMP message with the four bytes behind its checksum given as one word.
pub(crate) fn icmp(ends: Ends<Ipv4Addr>, kind: u8, code: u8, rest: u32, data: &[u8]) -> Vec<u8> {
    let mut frame = ip_frame(ends, ip_proto::ICMP, 0, icmpv4::HEADER_LEN + data.len());
    frame[L4_AT + icmpv4::HEADER_LEN..].copy_from_slice(data);
    icmpv4::emit(&mut frame[L4_AT..], kind, code, rest);
    frame
}

/// Cuts an IPv4 frame that is larger than `mtu` into fragments (RFC 791, section 3.2).
///
/// The frame is one that this module made: no options, never a fragment itself.
pub(crate) fn fragment(frame: Vec<u8>, mtu: usize, id: u16) -> Vec<Vec<u8>> {
    if frame.len() - IP_AT <= mtu {
        return vec![frame];
    }
    let payload = &frame[L4_AT..];
    // Every fragment but the last carries a multiple of eight bytes.
    let step = (mtu - ipv4::MIN_HEADER_LEN) & !7;
    let mut out = Vec::with_capacity(payload.len().div_ceil(step));
    for (n, chunk) in payload.chunks(step).enumerate() {
        let more = (n + 1) * step < payload.len();
        let offset = (n * step / 8) as u16 | if more { 0x2000 } else { 0 };
        let mut piece = frame[..L4_AT].to_vec();
        piece.extend_from_slice(chunk);
        let total = (ipv4::MIN_HEADER_LEN + chunk.len()) as u16;
        let header = &mut piece[IP_AT..L4_AT];
        header[2..4].copy_from_slice(&total.to_be_bytes());
        header[4..6].copy_from_slice(&id.to_be_bytes());
        header[6..8].copy_from_slice(&offset.to_be_bytes());
        header[10..12].fill(0);
        let checksum = sum(header).finish();
        header[10..12].copy_from_slice(&checksum.to_be_bytes());
        out.push(piece);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use net_wire::ipv4::Ipv4Packet;

    const ENDS: Ends<Ipv4Addr> = Ends {
        src_mac: MacAddr([2; 6]),
        dst_mac: MacAddr([4; 6]),
        src_ip: Ipv4Addr::new(10, 0, 0, 1),
        dst_ip: Ipv4Addr::new(10, 0, 0, 2),
    };

    /// Hostile-guest row "reply larger than a small MTU": every MTU, every reply.
    #[test]
    fn fragments_fit_every_mtu_and_add_up() {
        let data: Vec<u8> = (0..3000u32).map(|n| n as u8).collect();
        for mtu in 68..=1600 {
            let whole = icmp(ENDS, 0, 0, 7, &data);
            let mut joined = Vec::new();
            for piece in fragment(whole.clone(), mtu, 9) {
                assert!(piece.len() - IP_AT <= mtu);
                let view = Ipv4Packet::parse(&piece[IP_AT..]).unwrap();
                assert!(view.verify_header_checksum());
                assert_eq!(view.fragment_offset(), joined.len());
                joined.extend_from_slice(view.payload());
            }
            assert_eq!(joined, whole[L4_AT..]);
        }
    }

    #[test]
    fn a_datagram_that_does_not_fit_is_refused() {
        assert!(udp(ENDS, (53, 53), &vec![0; 65_507]).is_some());
        assert!(udp(ENDS, (53, 53), &vec![0; 65_508]).is_none());
    }
}
