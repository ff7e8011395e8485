//! Frames for the tests, and smoltcp's opinion on them.

use alloc::vec;
use alloc::vec::Vec;
use core::net::{Ipv4Addr, Ipv6Addr};

use net_wire::checksum::{pseudo_v4, pseudo_v6, sum};
use net_wire::ethernet::{self, EtherType};
use net_wire::ipv4::Ipv4Repr;
use net_wire::tcp::{SeqNumber, TcpFlags, TcpRepr};
use net_wire::{MacAddr, ip_proto, udp};
use smoltcp::wire;

pub(crate) const SRC4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub(crate) const DST4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
pub(crate) const SRC6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
pub(crate) const DST6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, 2);

/// What to put on the wire.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) ipv6: bool,
    pub(crate) udp: bool,
    pub(crate) vlan: bool,
    pub(crate) id: u16,
    pub(crate) dont_fragment: bool,
    pub(crate) seq: u32,
    pub(crate) flags: TcpFlags,
    pub(crate) options: Vec<u8>,
    pub(crate) payload: Vec<u8>,
}

impl Default for Frame {
    fn default() -> Self {
        Self {
            ipv6: false,
            udp: false,
            vlan: false,
            id: 0x1234,
            dont_fragment: true,
            seq: 0x0102_0304,
            flags: TcpFlags::ACK,
            options: vec![1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2],
            payload: Vec::new(),
        }
    }
}

/// Bytes without a pattern that a misplaced piece could keep.
pub(crate) fn payload(len: usize) -> Vec<u8> {
    let mut state = 0x1234_5678u32;
    let byte = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..len).map(byte).collect()
}

impl Frame {
    /// The bytes; with `partial` the transport checksum is the pseudo-header sum only.
    pub(crate) fn build(&self, partial: bool) -> Vec<u8> {
        let mut l4 = vec![0; if self.udp { 8 } else { 20 + self.options.len() }];
        if self.udp {
            udp::emit(&mut l4, 4000, 5000, self.payload.len(), 0);
        } else {
            let repr = TcpRepr {
                src_port: 40000,
                dst_port: 443,
                seq: SeqNumber(self.seq),
                ack: SeqNumber(7),
                flags: self.flags,
                window: 500,
            };
            repr.emit(&mut l4, &self.options);
        }
        l4.extend_from_slice(&self.payload);
        let protocol = if self.udp {
            ip_proto::UDP
        } else {
            ip_proto::TCP
        };
        let pseudo = if self.ipv6 {
            pseudo_v6(SRC6, DST6, protocol, l4.len())
        } else {
            pseudo_v4(SRC4, DST4, protocol, l4.len())
        };
        let check = match (partial, self.udp) {
            (true, _) => pseudo.fold(),
            (_, true) => (pseudo + sum(&l4)).finish_udp(),
            _ => (pseudo + sum(&l4)).finish(),
        };
        let at = if self.udp { 6 } else { 16 };
        l4[at..at + 2].copy_from_slice(&check.to_be_bytes());

        let mut ip;
        if self.ipv6 {
            ip = vec![0; 40];
            ip[0] = 0x60;
            ip[4..6].copy_from_slice(&(l4.len() as u16).to_be_bytes());
            ip[6] = protocol;
            ip[7] = 64;
            ip[8..24].copy_from_slice(&SRC6.octets());
            ip[24..40].copy_from_slice(&DST6.octets());
        } else {
            ip = vec![0; 20];
            Ipv4Repr {
                src: SRC4,
                dst: DST4,
                protocol,
                ttl: 64,
                tos: 0,
                id: self.id,
                dont_fragment: self.dont_fragment,
                payload_len: l4.len(),
            }
            .emit(&mut ip);
        }
        let mut frame = vec![0; 14];
        let (dst, src) = (MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2]));
        let ethertype = if self.ipv6 {
            EtherType::IPV6
        } else {
            EtherType::IPV4
        };
        ethernet::emit(&mut frame, dst, src, ethertype);
        if self.vlan {
            frame.splice(12..12, [0x81, 0, 0, 9]);
        }
        frame.extend_from_slice(&ip);
        frame.extend_from_slice(&l4);
        frame
    }
}

/// Panics unless smoltcp finds every length and every checksum of the frame right.
pub(crate) fn assert_valid(frame: &[u8]) {
    let tagged = frame[12..14] == [0x81, 0];
    let l3 = if tagged { 18 } else { 14 };
    let (src, dst, protocol, l4): (wire::IpAddress, wire::IpAddress, _, _) =
        if frame[l3 - 2..l3] == [0x08, 0] {
            let ip = wire::Ipv4Packet::new_checked(&frame[l3..]).unwrap();
            assert!(ip.verify_checksum(), "IPv4 header checksum");
            assert_eq!(usize::from(ip.total_len()), frame.len() - l3);
            let header = usize::from(ip.header_len());
            (
                ip.src_addr().into(),
                ip.dst_addr().into(),
                ip.next_header(),
                &frame[l3 + header..],
            )
        } else {
            let ip = wire::Ipv6Packet::new_checked(&frame[l3..]).unwrap();
            assert_eq!(ip.total_len(), frame.len() - l3);
            (
                ip.src_addr().into(),
                ip.dst_addr().into(),
                ip.next_header(),
                &frame[l3 + 40..],
            )
        };
    match protocol {
        wire::IpProtocol::Tcp => {
            let tcp = wire::TcpPacket::new_checked(l4).unwrap();
            assert!(tcp.verify_checksum(&src, &dst), "TCP checksum");
        }
        wire::IpProtocol::Udp => {
            let udp = wire::UdpPacket::new_checked(l4).unwrap();
            assert_eq!(usize::from(udp.len()), l4.len());
            assert!(
                udp.checksum() != 0 && udp.verify_checksum(&src, &dst),
                "UDP checksum"
            );
        }
        other => panic!("unexpected protocol {other}"),
    }
}
