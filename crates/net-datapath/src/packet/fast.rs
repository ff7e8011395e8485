//! The packets nearly all packets are: TCP or UDP, directly over IP, directly over Ethernet.
//!
//! Every field stays in a register until the record is written as a whole; the general parser
//! changes a record in memory, which the copy to its place then has to wait for. What this one
//! does not know it leaves to the general one, which is its oracle as well.

use net_wire::ethernet::EtherType;
use net_wire::{ip_proto, ipv6};

use super::meta::{FragmentState, L3, PacketMeta};
use crate::vnet::VirtioNetHdr;

/// Length of the Ethernet header, and of an IPv4 header without options.
const L2: usize = 14;
const V4: usize = 20;

/// The record of a whole, well-formed packet without options or extension headers, behind `TAG`
/// bytes of tag (0 or 4); `None` for any other. `head` is not longer than the frame.
#[inline(always)]
pub(super) fn parse<const TAG: usize>(head: &[u8], frame_len: usize) -> Option<PacketMeta> {
    // Behind a tag everything is where it would be without, counted from its fifth byte.
    let view = head.get(TAG..)?;
    let ip = view.first_chunk::<{ L2 + V4 + 8 }>()?;
    let ethertype = be16(ip, 12);
    let (l3, l4, l4_protocol, end);
    if ethertype == EtherType::IPV4.0 {
        if ip[L2] != 0x45 || be16(ip, L2 + 6) & 0x3fff != 0 {
            return None;
        }
        (l3, l4, l4_protocol) = (L3::Ipv4, L2 + V4, ip[L2 + 9]);
        end = L2 + usize::from(be16(ip, L2 + 2));
    } else if ethertype == EtherType::IPV6.0 {
        if ip[L2] >> 4 != 6 {
            return None;
        }
        (l3, l4, l4_protocol) = (L3::Ipv6, L2 + ipv6::HEADER_LEN, ip[L2 + 6]);
        end = l4 + usize::from(be16(ip, L2 + 4));
    } else {
        return None;
    }
    let transport = view.get(l4..)?;
    let ports = transport.first_chunk::<8>()?;
    let (payload_offset, payload_end, tcp_flags) = if l4_protocol == ip_proto::TCP {
        let tcp = transport.first_chunk::<20>()?;
        let header = usize::from(tcp[12] >> 4) * 4;
        if header < 20 {
            return None;
        }
        (l4 + header, end, tcp[13])
    } else if l4_protocol == ip_proto::UDP {
        let len = usize::from(be16(ports, 4));
        (l4 + 8, l4 + len, 0)
    } else {
        return None;
    };
    if payload_offset > payload_end || payload_end > end || TAG + end > frame_len {
        return None;
    }
    Some(PacketMeta {
        l2_len: (TAG + L2) as u8,
        ethertype,
        vlan: (TAG != 0).then(|| be16(ip, 10)),
        l3,
        l3_offset: (TAG + L2) as u16,
        l4_protocol,
        l4_offset: (TAG + l4) as u16,
        payload_offset: (TAG + payload_offset) as u16,
        payload_end: (TAG + payload_end) as u32,
        l3_end: (TAG + end) as u32,
        fragment: FragmentState::None,
        fragment_header: 0,
        src_port: be16(ports, 0),
        dst_port: be16(ports, 2),
        tcp_flags,
        malformed: false,
        offload: VirtioNetHdr::PLAIN,
    })
}

/// A field at a constant place: the bounds are known when this is compiled.
#[inline(always)]
fn be16<const N: usize>(bytes: &[u8; N], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}
