//! The headers of one piece of a packet: what a segmenter writes and a split leaves.

use core::net::IpAddr;

use net_wire::checksum::{Sum, pseudo_v4, pseudo_v6, sum};
use net_wire::tcp::TcpFlags;
use net_wire::{ip_proto, ipv6};

use super::{TCP_CHECKSUM, UDP_CHECKSUM, put16};
use crate::packet::{L3, PacketMeta, ZeroCopyPacket};

/// Which piece of a packet's payload.
pub(super) struct Piece {
    /// Packets on the wire in front of it.
    pub(super) index: usize,
    /// Payload bytes in front of it.
    pub(super) before: usize,
    /// Its own payload bytes.
    pub(super) len: usize,
    /// Whether it is the end.
    pub(super) last: bool,
}

/// The pseudo-header sum without the length; `None` where there is no IP header.
pub(super) fn pseudo(packet: &ZeroCopyPacket<'_>) -> Option<Sum> {
    let protocol = packet.meta().l4_protocol;
    Some(match (packet.ip_src()?, packet.ip_dst()?) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => pseudo_v4(src, dst, protocol, 0),
        (IpAddr::V6(src), IpAddr::V6(dst)) => pseudo_v6(src, dst, protocol, 0),
        _ => return None,
    })
}

/// Changes the headers of a packet (`headers` ends where the payload starts) to those of a piece
/// of it, all but the transport checksum. Returns where that is in the transport header, and the
/// pseudo-header sum with the length.
pub(super) fn patch(
    headers: &mut [u8],
    meta: &PacketMeta,
    pseudo: Sum,
    piece: &Piece,
) -> (usize, Sum) {
    let (link_and_ip, transport) = headers.split_at_mut(meta.l4_offset.into());
    let ip = &mut link_and_ip[meta.l3_offset.into()..];
    let l4_len = transport.len() + piece.len;
    let ip_len = ip.len() + l4_len;
    if meta.l3 == L3::Ipv4 {
        put16(ip, 2, ip_len as u16);
        let id = u16::from_be_bytes([ip[4], ip[5]]);
        put16(ip, 4, id.wrapping_add(piece.index as u16));
        put16(ip, 10, 0);
        let check = sum(ip).finish();
        put16(ip, 10, check);
    } else {
        put16(ip, 4, (ip_len - ipv6::HEADER_LEN) as u16);
    }
    let checksum_at = if meta.l4_protocol == ip_proto::TCP {
        patch_tcp(transport, piece);
        TCP_CHECKSUM
    } else {
        put16(transport, 4, l4_len as u16);
        UDP_CHECKSUM
    };
    (checksum_at, pseudo + Sum::word(l4_len as u16))
}

/// Sequence number, flags and urgent pointer.
fn patch_tcp(tcp: &mut [u8], piece: &Piece) {
    let seq = u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]);
    tcp[4..8].copy_from_slice(&seq.wrapping_add(piece.before as u32).to_be_bytes());
    let mut clear = TcpFlags(0);
    if !piece.last {
        clear = clear | TcpFlags::FIN | TcpFlags::PSH;
    }
    if piece.index > 0 {
        clear = clear | TcpFlags::CWR;
    }
    if TcpFlags(tcp[13]).contains(TcpFlags::URG) {
        // The pointer counts from the segment's first byte to the byte behind the urgent one.
        let pointer = usize::from(u16::from_be_bytes([tcp[18], tcp[19]]));
        match pointer.checked_sub(piece.before) {
            Some(pointer) if pointer > 0 || piece.before == 0 => put16(tcp, 18, pointer as u16),
            _ => {
                put16(tcp, 18, 0);
                clear = clear | TcpFlags::URG;
            }
        }
    }
    tcp[13] &= !clear.0;
}
