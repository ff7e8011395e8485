//! Frames as the tests make and read them.

use std::net::{IpAddr, Ipv4Addr};

use net_datapath::{VirtioNetHdr, ZeroCopyPacket};
use net_wire::arp::ArpPacket;
use net_wire::checksum::{pseudo_v4, sum};
use net_wire::ipv4::{Ipv4Packet, Ipv4Repr};
use net_wire::{MacAddr, icmpv4, ip_proto, udp};

use super::{GATEWAY_MAC, OUTSIDE, OUTSIDE_MAC, ROUTER_MAC, guest_ip, guest_mac};

/// A frame and its virtio header.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Frame {
    pub(super) header: VirtioNetHdr,
    pub(super) bytes: Vec<u8>,
}

/// What a test looks at in a UDP datagram or a TCP segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ends {
    pub(super) src: (Ipv4Addr, u16),
    pub(super) dst: (Ipv4Addr, u16),
}

impl Frame {
    pub(super) fn new(dst: MacAddr, src: MacAddr, kind: u16, payload: &[u8]) -> Self {
        let mut bytes = [&dst.0[..], &src.0, &kind.to_be_bytes()].concat();
        bytes.extend_from_slice(payload);
        Self {
            header: VirtioNetHdr::PLAIN,
            bytes,
        }
    }

    pub(super) fn dst_mac(&self) -> MacAddr {
        MacAddr(*self.bytes.first_chunk().unwrap())
    }

    pub(super) fn arp(&self) -> Option<ArpPacket> {
        let kind = [self.bytes[12], self.bytes[13]];
        (kind == [8, 6]).then(|| ArpPacket::parse(&self.bytes[14..]).unwrap())
    }

    pub(super) fn ip(&self) -> Ipv4Packet<&[u8]> {
        let packet = Ipv4Packet::parse(&self.bytes[14..]).unwrap();
        assert!(packet.verify_header_checksum());
        packet
    }

    /// The ends, of a packet whose checksums are right.
    pub(super) fn ends(&self) -> Ends {
        let packet = ZeroCopyPacket::from_slice(&self.bytes, self.header).unwrap();
        assert!(packet.verify_ip_checksum() && packet.verify_l4_checksum());
        let (Some(IpAddr::V4(src)), Some(IpAddr::V4(dst))) = (packet.ip_src(), packet.ip_dst())
        else {
            panic!("{packet:?}")
        };
        let meta = packet.meta();
        Ends {
            src: (src, meta.src_port),
            dst: (dst, meta.dst_port),
        }
    }

    /// Type, code and the four bytes behind the checksum of an ICMP message, and its data.
    pub(super) fn icmp(&self) -> (u8, u8, u32, Vec<u8>) {
        let ip = self.ip();
        assert_eq!(ip.protocol(), ip_proto::ICMP, "{self:?}");
        let message = icmpv4::IcmpMessage::parse(ip.payload()).unwrap();
        assert!(message.verify_checksum());
        let (kind, code, rest) = (message.kind(), message.code(), message.rest());
        (kind, code, rest, message.data().to_vec())
    }

    pub(super) fn with_ttl(mut self, ttl: u8) -> Self {
        self.edit(|ip| ip[8] = ttl);
        self
    }

    pub(super) fn may_fragment(mut self) -> Self {
        self.edit(|ip| ip[6] &= !0x40);
        self
    }

    /// Changes the IP header and puts its checksum right.
    fn edit(&mut self, change: impl FnOnce(&mut [u8])) {
        change(&mut self.bytes[14..]);
        let mut packet = Ipv4Packet::parse(&mut self.bytes[14..]).unwrap();
        packet.fill_header_checksum();
    }
}

/// An IPv4 packet.
fn ipv4(src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; 20];
    packet.extend_from_slice(payload);
    Ipv4Repr {
        src,
        dst,
        protocol,
        ttl: 64,
        tos: 0,
        id: 7,
        dont_fragment: true,
        payload_len: payload.len(),
    }
    .emit(&mut packet);
    packet
}

fn datagram(src: (Ipv4Addr, u16), dst: (Ipv4Addr, u16), payload: &[u8]) -> Vec<u8> {
    let mut body = vec![0; 8];
    body.extend_from_slice(payload);
    udp::emit(&mut body, src.1, dst.1, payload.len(), 0);
    let pseudo = pseudo_v4(src.0, dst.0, ip_proto::UDP, body.len());
    let check = (pseudo + sum(&body)).finish_udp();
    body[6..8].copy_from_slice(&check.to_be_bytes());
    ipv4(src.0, dst.0, ip_proto::UDP, &body)
}

/// A segment of this control byte, sequence and acknowledgement.
fn segment(
    src: (Ipv4Addr, u16),
    dst: (Ipv4Addr, u16),
    (flags, seq, ack): (u8, u32, u32),
    payload: &[u8],
) -> Vec<u8> {
    let mut body = vec![0; 20];
    body[..2].copy_from_slice(&src.1.to_be_bytes());
    body[2..4].copy_from_slice(&dst.1.to_be_bytes());
    body[4..8].copy_from_slice(&seq.to_be_bytes());
    body[8..12].copy_from_slice(&ack.to_be_bytes());
    (body[12], body[13]) = (0x50, flags);
    body[14..16].copy_from_slice(&0xffffu16.to_be_bytes());
    body.extend_from_slice(payload);
    let pseudo = pseudo_v4(src.0, dst.0, ip_proto::TCP, body.len());
    let check = (pseudo + sum(&body)).finish();
    body[16..18].copy_from_slice(&check.to_be_bytes());
    ipv4(src.0, dst.0, ip_proto::TCP, &body)
}

fn out(n: usize, packet: &[u8]) -> Frame {
    Frame::new(GATEWAY_MAC, guest_mac(n), 0x0800, packet)
}

fn in_(packet: &[u8]) -> Frame {
    Frame::new(OUTSIDE_MAC, ROUTER_MAC, 0x0800, packet)
}

pub(super) fn udp_out(n: usize, port: u16, dst: Ipv4Addr, dst_port: u16, data: &[u8]) -> Frame {
    out(n, &datagram((guest_ip(n), port), (dst, dst_port), data))
}

pub(super) fn udp_in(src: (Ipv4Addr, u16), port: u16, data: &[u8]) -> Frame {
    in_(&datagram(src, (OUTSIDE, port), data))
}

pub(super) fn tcp_out(
    n: usize,
    port: u16,
    dst: (Ipv4Addr, u16),
    control: (u8, u32, u32),
    data: &[u8],
) -> Frame {
    out(n, &segment((guest_ip(n), port), dst, control, data))
}

pub(super) fn tcp_in(
    src: (Ipv4Addr, u16),
    port: u16,
    control: (u8, u32, u32),
    data: &[u8],
) -> Frame {
    in_(&segment(src, (OUTSIDE, port), control, data))
}

fn echo_request() -> Vec<u8> {
    let mut message = vec![0; 8];
    message.extend_from_slice(b"twelve bytes");
    icmpv4::emit(&mut message, icmpv4::ECHO_REQUEST, 0, 0x0017_0001);
    message
}

pub(super) fn echo_out(n: usize, dst: Ipv4Addr) -> Frame {
    out(n, &ipv4(guest_ip(n), dst, ip_proto::ICMP, &echo_request()))
}

pub(super) fn echo_in(src: Ipv4Addr) -> Frame {
    in_(&ipv4(src, OUTSIDE, ip_proto::ICMP, &echo_request()))
}

/// An ARP answer of a guest, by which the gateway learns it.
pub(super) fn guest_says(n: usize) -> Frame {
    let mut body = vec![0; net_wire::arp::LEN];
    ArpPacket {
        operation: net_wire::arp::REPLY,
        sender_mac: guest_mac(n),
        sender_ip: guest_ip(n),
        target_mac: GATEWAY_MAC,
        target_ip: super::GATEWAY,
    }
    .emit(&mut body);
    Frame::new(GATEWAY_MAC, guest_mac(n), 0x0806, &body)
}

/// A super-frame of a guest, its checksum partial.
pub(super) fn super_out(n: usize, port: u16, dst: (Ipv4Addr, u16), len: usize, mss: u16) -> Frame {
    let control = (0x10, 1000, 1);
    let mut frame = tcp_out(n, port, dst, control, &vec![7; len]);
    partial(&mut frame, guest_ip(n), dst.0);
    frame.header.gso_type = VirtioNetHdr::GSO_TCPV4;
    frame.header.gso_size = mss;
    frame.header.hdr_len = 54;
    frame
}

/// Leaves the checksum of a segment to the receiver.
pub(super) fn partial(frame: &mut Frame, src: Ipv4Addr, dst: Ipv4Addr) {
    let len = frame.bytes.len() - 34;
    let check = pseudo_v4(src, dst, ip_proto::TCP, len).fold();
    frame.bytes[50..52].copy_from_slice(&check.to_be_bytes());
    frame.header.flags = VirtioNetHdr::NEEDS_CSUM;
    frame.header.csum_start = 34;
    frame.header.csum_offset = 16;
}
