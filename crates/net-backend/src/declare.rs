//! Frames whose sender has lost what it left undone.
//!
//! Some attachments carry super-frames and partial checksums and nothing that says so: libkrun
//! strips the header from what its guest sends, vmnet.framework has had one only since macOS 15.4.
//! There, what is left undone is a property of the attachment, and is told here.

use std::net::IpAddr;

use net_datapath::{VirtioNetHdr, ZeroCopyPacket};
use net_wire::checksum::{pseudo_v4, pseudo_v6};
use net_wire::ip_proto;

use crate::Offloads;

/// Gives a received frame the header its sender has lost: a TCP or UDP checksum counts as partial
/// and an IP packet over the MTU as a super-frame, as far as `declared` goes.
///
/// The checksum field of the copied head is set to what a partial checksum holds, the folded
/// pseudo-header sum, whatever it held: complete and partial checksums cannot be told apart, and
/// on a socket of this machine nothing has been corrupted on the way.
pub fn declare(packet: &mut ZeroCopyPacket<'_>, declared: Offloads, mtu: u16) {
    if !declared.contains(Offloads::RX_CSUM) {
        return;
    }
    let meta = *packet.meta();
    let tcp = meta.has_transport(ip_proto::TCP);
    if !(tcp || meta.has_transport(ip_proto::UDP))
        || meta.fragment != net_datapath::FragmentState::None
    {
        return;
    }
    let l4 = usize::from(meta.l4_offset);
    let (csum_offset, end) = if tcp {
        (16, meta.l3_end)
    } else {
        (6, meta.payload_end)
    };
    let Some(len) = (end as usize).checked_sub(l4) else {
        return;
    };
    let (sum, tso, gso_type) = match (packet.ip_src(), packet.ip_dst()) {
        (Some(IpAddr::V4(src)), Some(IpAddr::V4(dst))) => (
            pseudo_v4(src, dst, meta.l4_protocol, len),
            Offloads::RX_TSO4,
            VirtioNetHdr::GSO_TCPV4,
        ),
        (Some(IpAddr::V6(src)), Some(IpAddr::V6(dst))) => (
            pseudo_v6(src, dst, meta.l4_protocol, len),
            Offloads::RX_TSO6,
            VirtioNetHdr::GSO_TCPV6,
        ),
        _ => return,
    };
    let field = packet
        .head_mut()
        .get_mut(l4 + csum_offset..l4 + csum_offset + 2);
    match field {
        // A UDP checksum of zero says that there is none (RFC 768).
        Some([0, 0]) if !tcp => return,
        Some(field) => field.copy_from_slice(&sum.fold().to_be_bytes()),
        None => return,
    }
    let mut header = VirtioNetHdr {
        flags: VirtioNetHdr::NEEDS_CSUM,
        csum_start: meta.l4_offset,
        csum_offset: csum_offset as u16,
        ..VirtioNetHdr::PLAIN
    };
    let headers = meta.payload_offset.saturating_sub(meta.l3_offset);
    let over_mtu = end.saturating_sub(u32::from(meta.l3_offset)) > u32::from(mtu);
    if tcp && over_mtu && declared.contains(tso) && headers < mtu {
        header.gso_type = gso_type;
        header.gso_size = mtu - headers;
        header.hdr_len = meta.payload_offset;
    }
    packet.set_vnet(header);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A TCP/IPv4 frame with `payload` bytes and a wrong checksum.
    fn tcp(payload: usize) -> Vec<u8> {
        let mut frame = vec![0; 54 + payload];
        frame[12..14].copy_from_slice(&[8, 0]);
        frame[14..24].copy_from_slice(&[0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 6]);
        frame[16..18].copy_from_slice(&((40 + payload) as u16).to_be_bytes());
        frame[26..34].copy_from_slice(&[10, 0, 2, 15, 10, 0, 2, 2]);
        frame[46] = 0x50;
        frame[50..52].copy_from_slice(&[0xbe, 0xef]);
        frame
    }

    fn declared(frame: &[u8], what: Offloads) -> (VirtioNetHdr, Vec<u8>) {
        let mut packet = ZeroCopyPacket::from_slice(frame, VirtioNetHdr::PLAIN).unwrap();
        declare(&mut packet, what, 1500);
        (*packet.vnet(), packet.head().to_vec())
    }

    #[test]
    fn a_super_frame_gets_its_header_back() {
        let frame = tcp(4000);
        let (header, head) = declared(&frame, Offloads::RX_CSUM | Offloads::RX_TSO4);
        assert_eq!(
            header,
            VirtioNetHdr {
                flags: VirtioNetHdr::NEEDS_CSUM,
                gso_type: VirtioNetHdr::GSO_TCPV4,
                hdr_len: 54,
                gso_size: 1460,
                csum_start: 34,
                csum_offset: 16,
                num_buffers: 0,
            }
        );
        // 0x0a00 + 0x020f + 0x0a00 + 0x0202 + 6 + 4020, by hand.
        assert_eq!(head[50..52], 0x27cb_u16.to_be_bytes());
        let packet = ZeroCopyPacket::from_slice(&frame, header).unwrap();
        assert_eq!(header.validate(frame.len(), packet.meta()), Ok(()));
    }

    #[test]
    fn only_what_was_declared() {
        let big = tcp(4000);
        assert_eq!(declared(&big, Offloads::NONE).0, VirtioNetHdr::PLAIN);
        assert_eq!(declared(&big, Offloads::RX_TSO4).0, VirtioNetHdr::PLAIN);
        let checksum_only = declared(&big, Offloads::RX_CSUM | Offloads::RX_TSO6).0;
        assert!(checksum_only.needs_csum() && !checksum_only.is_gso());
        let small = declared(&tcp(1460), Offloads::RX_ALL).0;
        assert!(small.needs_csum() && !small.is_gso());
        assert!(declared(&tcp(1461), Offloads::RX_ALL).0.is_gso());
    }

    #[test]
    fn fragments_other_protocols_and_absent_checksums_are_left_alone() {
        let mut fragment = tcp(100);
        fragment[20] = 0x20;
        assert_eq!(declared(&fragment, Offloads::RX_ALL).0, VirtioNetHdr::PLAIN);
        let mut udp = tcp(100);
        udp[23] = 17;
        udp[38..40].copy_from_slice(&120u16.to_be_bytes());
        udp[40..42].copy_from_slice(&[0, 0]);
        assert_eq!(declared(&udp, Offloads::RX_ALL).0, VirtioNetHdr::PLAIN);
        udp[40] = 1;
        let header = declared(&udp, Offloads::RX_ALL).0;
        assert!(header.needs_csum() && header.csum_offset == 6);
        let arp = [0u8; 42];
        assert_eq!(declared(&arp, Offloads::RX_ALL).0, VirtioNetHdr::PLAIN);
    }

    #[test]
    fn truncated_at_every_byte() {
        let frame = tcp(60);
        for cut in 14..frame.len() {
            declared(&frame[..cut], Offloads::RX_ALL);
        }
    }
}
