//! Packets on their way to the guest: TCP segments and ICMP errors, as L3 packets.

use std::net::{IpAddr, SocketAddr};

use net_datapath::{PacketBuf, VirtioNetHdr};
use net_wire::checksum::{self, Sum};
use net_wire::ipv4::Ipv4Repr;
use net_wire::ipv6::Ipv6Repr;
use net_wire::tcp::{SeqNumber, TcpFlags, TcpRepr};
use net_wire::{icmpv4, icmpv6, ip_proto, ipv4, ipv6, tcp};

use super::socket::Unreachable;
use crate::{Egress, GuestLink, SendStatus};

/// Longest options the relay writes: MSS and window scale.
const MAX_OPTIONS: usize = 8;
const TTL: u8 = 64;
const TCP_CHECKSUM_OFFSET: u16 = 16;

/// The header of a segment towards the guest.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    pub(super) src: SocketAddr,
    pub(super) dst: SocketAddr,
    pub(super) seq: SeqNumber,
    pub(super) ack: SeqNumber,
    pub(super) flags: TcpFlags,
    pub(super) window: u16,
}

/// The options of a SYN or SYN-ACK.
#[derive(Debug, Clone, Copy)]
pub(super) struct Offer {
    pub(super) mss: u16,
    pub(super) window_scale: Option<u8>,
}

/// What became of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    /// On its way, or lost for good.
    Yes,
    /// The guest's queue is full.
    Busy,
    /// There was no buffer.
    NoBuffer,
}

/// Length of the IP header in front of a segment.
pub(super) const fn ip_header_len(v6: bool) -> usize {
    if v6 {
        ipv6::HEADER_LEN
    } else {
        ipv4::MIN_HEADER_LEN
    }
}

/// Length of all headers of a segment without options.
pub(super) const fn header_len(v6: bool) -> usize {
    ip_header_len(v6) + tcp::MIN_HEADER_LEN
}

/// The payload of a segment on a link with this MTU, at most.
pub(super) fn link_mss(v6: bool, link: &GuestLink) -> u16 {
    link.mtu.saturating_sub(header_len(v6) as u16).max(1)
}

/// Sends a segment without payload.
pub(super) fn control(
    out: &mut dyn Egress,
    link: Option<&GuestLink>,
    head: &Head,
    offer: Option<Offer>,
) -> Sent {
    let v6 = head.dst.is_ipv6();
    let mut options = [1u8; MAX_OPTIONS];
    let mut options_len = 0;
    if let Some(offer) = offer {
        let [high, low] = offer.mss.to_be_bytes();
        options[..4].copy_from_slice(&[2, 4, high, low]);
        options_len = 4;
        if let Some(shift) = offer.window_scale {
            // A no-op in front keeps the options a multiple of four bytes.
            options[5..8].copy_from_slice(&[3, 3, shift]);
            options_len = 8;
        }
    }
    let len = header_len(v6) + options_len;
    let Some(mut packet) = out.buffer(len) else {
        return Sent::NoBuffer;
    };
    if packet.set_len(len).is_none() {
        return Sent::NoBuffer;
    }
    let partial = link.is_some_and(|link| link.csum);
    let header = finish(&mut packet, head, &options[..options_len], partial, 0);
    hand_over(out, head.dst.ip(), header, packet)
}

/// Writes the headers in front of a payload that already stands in place, and sends it.
/// With `gso_size` above 0 it is a super-frame.
pub(super) fn data(
    out: &mut dyn Egress,
    link: &GuestLink,
    head: &Head,
    mut packet: PacketBuf,
    gso_size: u16,
) -> Sent {
    let header = finish(&mut packet, head, &[], link.csum, gso_size);
    hand_over(out, head.dst.ip(), header, packet)
}

fn hand_over(out: &mut dyn Egress, guest: IpAddr, header: VirtioNetHdr, packet: PacketBuf) -> Sent {
    match out.send(guest, header, packet) {
        SendStatus::Busy(_) => Sent::Busy,
        SendStatus::Sent | SendStatus::NoRoute => Sent::Yes,
    }
}

/// Writes IP and TCP headers; `packet` has its final length, at least that of the headers.
fn finish(
    packet: &mut [u8],
    head: &Head,
    options: &[u8],
    partial: bool,
    gso_size: u16,
) -> VirtioNetHdr {
    let v6 = head.dst.is_ipv6();
    let ip_len = ip_header_len(v6);
    let segment_len = packet.len() - ip_len;
    let pseudo = write_ip(
        packet,
        head.src.ip(),
        head.dst.ip(),
        ip_proto::TCP,
        segment_len,
    );
    let segment = &mut packet[ip_len..];
    let tcp_len = TcpRepr {
        src_port: head.src.port(),
        dst_port: head.dst.port(),
        seq: head.seq,
        ack: head.ack,
        flags: head.flags,
        window: head.window,
    }
    .emit(segment, options);
    let mut header = VirtioNetHdr::PLAIN;
    let value = if partial {
        header.flags = VirtioNetHdr::NEEDS_CSUM;
        header.csum_start = ip_len as u16;
        header.csum_offset = TCP_CHECKSUM_OFFSET;
        pseudo.fold()
    } else {
        (pseudo + checksum::sum(segment)).finish()
    };
    segment[16..18].copy_from_slice(&value.to_be_bytes());
    if gso_size > 0 {
        header.gso_type = if v6 {
            VirtioNetHdr::GSO_TCPV6
        } else {
            VirtioNetHdr::GSO_TCPV4
        };
        header.gso_size = gso_size;
        header.hdr_len = (ip_len + tcp_len) as u16;
    }
    header
}

/// Writes an IP header and returns the sum of the pseudo header. Both addresses are of one family.
fn write_ip(packet: &mut [u8], src: IpAddr, dst: IpAddr, protocol: u8, len: usize) -> Sum {
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            // An atomic datagram: its identification means nothing (RFC 6864, section 4.1).
            Ipv4Repr {
                src,
                dst,
                protocol,
                ttl: TTL,
                tos: 0,
                id: 0,
                dont_fragment: true,
                payload_len: len,
            }
            .emit(packet);
            checksum::pseudo_v4(src, dst, protocol, len)
        }
        (src, dst) => {
            let [src, dst] = [src, dst].map(|addr| match addr {
                IpAddr::V4(addr) => addr.to_ipv6_mapped(),
                IpAddr::V6(addr) => addr,
            });
            Ipv6Repr {
                src,
                dst,
                next_header: protocol,
                hop_limit: TTL,
                traffic_class: 0,
                payload_len: len,
            }
            .emit(packet);
            checksum::pseudo_v6(src, dst, protocol, len)
        }
    }
}

/// Sends an ICMP error about a SYN of the guest. The SYN is quoted as far as anyone reads it: the IP
/// header and the TCP header, without options.
pub(super) fn unreachable(
    out: &mut dyn Egress,
    source: IpAddr,
    guest: SocketAddr,
    remote: SocketAddr,
    seq: SeqNumber,
    why: Unreachable,
) -> Sent {
    let v6 = guest.is_ipv6();
    let ip_len = ip_header_len(v6);
    let icmp_len = 8 + ip_len + tcp::MIN_HEADER_LEN;
    let Some(mut packet) = out.buffer(ip_len + icmp_len) else {
        return Sent::NoBuffer;
    };
    if packet.set_len(ip_len + icmp_len).is_none() {
        return Sent::NoBuffer;
    }
    let syn = Head {
        src: guest,
        dst: remote,
        seq,
        ack: SeqNumber(0),
        flags: TcpFlags::SYN,
        window: u16::MAX,
    };
    finish(&mut packet[ip_len + 8..], &syn, &[], false, 0);
    let protocol = if v6 { ip_proto::ICMPV6 } else { ip_proto::ICMP };
    let pseudo = write_ip(&mut packet, source, guest.ip(), protocol, icmp_len);
    let message = &mut packet[ip_len..];
    if v6 {
        // RFC 4443, section 3.1: no route, address unreachable, prohibited.
        let code = match why {
            Unreachable::Network => 0,
            Unreachable::Host => 3,
            Unreachable::Prohibited => 1,
        };
        icmpv6::emit(message, icmpv6::UNREACHABLE, code, 0, pseudo);
    } else {
        let code = match why {
            Unreachable::Network => icmpv4::CODE_NET,
            Unreachable::Host => icmpv4::CODE_HOST,
            Unreachable::Prohibited => icmpv4::CODE_PROHIBITED,
        };
        icmpv4::emit(message, icmpv4::UNREACHABLE, code, 0);
    }
    hand_over(out, guest.ip(), VirtioNetHdr::PLAIN, packet)
}
