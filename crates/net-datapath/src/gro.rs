//! Receive offload in software: consecutive segments of one flow become a super-frame.
//!
//! The counterpart of [`crate::gso`], for frames on their way from a port without offloads to one
//! with them. It works on the packets of one batch, holds nothing back between batches, and moves
//! no payload: [`run_length`] says how many packets from the front belong together, [`merge`]
//! makes the headers of their super-frame, and the payloads follow as scatter lists or by
//! [`SuperFrame::write_into`].
//!
//! Only what segmentation would take apart again is merged: same headers, one segment size,
//! sequence numbers and IPv4 identifications in a row, flags only where a segmenter leaves them,
//! and checksums that are right (or vouched for), because the super-frame's partial checksum would
//! hide a wrong one.

#[cfg(test)]
mod tests;

use core::net::IpAddr;

use net_wire::checksum::{pseudo_v4, pseudo_v6, sum};
use net_wire::ip_proto;
use net_wire::tcp::TcpFlags;

use crate::packet::{FragmentState, L3, ZeroCopyPacket};
use crate::segment::SegmentList;
use crate::vnet::VirtioNetHdr;

/// Room for the headers that can be merged: 18 + 60 + 60 bytes, rounded up.
const MAX_HEADERS: usize = 144;
/// Flags that a segment in the middle of a super-frame may carry.
const PLAIN_FLAGS: u8 = TcpFlags::ACK.0 | TcpFlags::ECE.0;
/// Flags that end a super-frame.
const LAST_FLAGS: u8 = TcpFlags::FIN.0 | TcpFlags::PSH.0;

/// How large a super-frame may become.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GroLimits {
    /// Largest frame in bytes, Ethernet header included.
    pub max_frame: usize,
    /// Most segments.
    pub max_segments: usize,
}

impl Default for GroLimits {
    /// Frames below 65,536 bytes, which Linux takes from a TAP without cutting them again, and 64
    /// segments, the least that any receiver of UDP super-frames takes.
    fn default() -> Self {
        Self {
            max_frame: 65_535,
            max_segments: 64,
        }
    }
}

/// How many packets from the front of `packets` make one super-frame: at least 1, unless there
/// are none.
pub fn run_length(packets: &[ZeroCopyPacket<'_>], limits: &GroLimits) -> usize {
    let Some((first, rest)) = packets.split_first() else {
        return 0;
    };
    // The cheap look first: most runs end where the flow changes.
    let Some(mut next) = rest.first().filter(|next| same_flow(first, next)) else {
        return 1;
    };
    if !mergeable(first) || ends_run(first, first) {
        return 1;
    }
    let size = first.payload_len();
    let (mut count, mut total) = (1, size);
    let headers = usize::from(first.meta().payload_offset);
    loop {
        let fits = count < limits.max_segments
            && headers + total + next.payload_len() <= limits.max_frame.min(65_535);
        if !fits || !continues(first, next, count, total) || !mergeable(next) {
            return count;
        }
        count += 1;
        total += next.payload_len();
        if ends_run(first, next) {
            return count;
        }
        next = match packets.get(count) {
            Some(packet) if same_flow(first, packet) => packet,
            _ => return count,
        };
    }
}

/// Ethernet header, addresses and ports are the same, and both are TCP or both UDP.
#[inline]
fn same_flow(a: &ZeroCopyPacket<'_>, b: &ZeroCopyPacket<'_>) -> bool {
    let (x, y) = (a.meta(), b.meta());
    x.src_port == y.src_port
        && x.dst_port == y.dst_port
        && x.l4_protocol == y.l4_protocol
        && matches!(x.l4_protocol, ip_proto::TCP | ip_proto::UDP)
        && (x.l3, x.l3_offset, x.l4_offset, x.payload_offset)
            == (y.l3, y.l3_offset, y.l4_offset, y.payload_offset)
}

/// Whether a packet can be part of a super-frame at all.
fn mergeable(packet: &ZeroCopyPacket<'_>) -> bool {
    let (meta, vnet) = (packet.meta(), packet.vnet());
    let at = usize::from(meta.l4_offset);
    let partial_elsewhere = vnet.needs_csum() && vnet.csum_start != meta.l4_offset;
    if !meta.has_transport(meta.l4_protocol)
        || meta.fragment != FragmentState::None
        || meta.fragment_header != 0
        || meta.payload_end != meta.l3_end
        || packet.payload_len() == 0
        || usize::from(meta.payload_offset) > packet.head().len()
        || vnet.is_gso()
        || partial_elsewhere
    {
        return false;
    }
    if meta.l4_protocol == ip_proto::UDP {
        // A datagram without a checksum stays one.
        if !vnet.needs_csum() && packet.head().get(at + 6..at + 8) == Some(&[0, 0][..]) {
            return false;
        }
    } else {
        let allowed = PLAIN_FLAGS | LAST_FLAGS | TcpFlags::CWR.0;
        if meta.tcp_flags & !allowed != 0 || meta.tcp_flags & TcpFlags::ACK.0 == 0 {
            return false;
        }
    }
    packet.verify_ip_checksum() && packet.verify_l4_checksum()
}

/// Whether nothing may follow `packet` in the run that `first` began.
fn ends_run(first: &ZeroCopyPacket<'_>, packet: &ZeroCopyPacket<'_>) -> bool {
    packet.payload_len() != first.payload_len() || packet.meta().tcp_flags & LAST_FLAGS != 0
}

/// Whether the headers of `next` are what a segmenter would have made of those of `first` for
/// segment number `index`, behind `before` payload bytes.
fn continues(
    first: &ZeroCopyPacket<'_>,
    next: &ZeroCopyPacket<'_>,
    index: usize,
    before: usize,
) -> bool {
    let meta = first.meta();
    let (l3, l4) = (usize::from(meta.l3_offset), usize::from(meta.l4_offset));
    let end = usize::from(meta.payload_offset);
    let (Some(a), Some(b)) = (first.head().get(..end), next.head().get(..end)) else {
        return false;
    };
    if next.payload_len() > first.payload_len() || a[..l3] != b[..l3] {
        return false;
    }
    let (ip_a, ip_b) = (&a[l3..l4], &b[l3..l4]);
    let ip = if meta.l3 == L3::Ipv4 {
        let (id_a, id_b) = (be16(ip_a, 4), be16(ip_b, 4));
        // Packets that nobody may fragment need no identification (RFC 6864): many senders leave
        // it constant.
        let atomic = ip_a[6] & 0x40 != 0 && id_a == id_b;
        (id_b == id_a.wrapping_add(index as u16) || atomic)
            && ip_a[..2] == ip_b[..2]
            && ip_a[6..10] == ip_b[6..10]
            && ip_a[12..] == ip_b[12..]
    } else {
        ip_a[..4] == ip_b[..4] && ip_a[6..] == ip_b[6..]
    };
    if !ip {
        return false;
    }
    if meta.l4_protocol == ip_proto::UDP {
        return true; // The ports are the same; length and checksum are the segment's own.
    }
    let (tcp_a, tcp_b) = (&a[l4..], &b[l4..]);
    let flags = |tcp: &[u8]| tcp[13] & !(LAST_FLAGS | TcpFlags::CWR.0);
    be32(tcp_b, 4) == be32(tcp_a, 4).wrapping_add(before as u32)
        && tcp_a[8..13] == tcp_b[8..13]
        && flags(tcp_a) == flags(tcp_b)
        && tcp_b[13] & TcpFlags::CWR.0 == 0
        && tcp_a[14..16] == tcp_b[14..16]
        && tcp_a[18..] == tcp_b[18..]
}

/// The headers of a super-frame; its payload is still where the packets have it.
#[derive(Clone)]
pub struct SuperFrame {
    headers: [u8; MAX_HEADERS],
    headers_len: usize,
    payload_len: usize,
    vnet: VirtioNetHdr,
}

/// Makes the super-frame of `packets`, which must be a run that [`run_length`] found.
///
/// `None` for fewer than two packets, or for headers or a sum of payloads that cannot be one.
pub fn merge(packets: &[ZeroCopyPacket<'_>]) -> Option<SuperFrame> {
    let (first, last) = match packets {
        [first, .., last] => (first, last),
        _ => return None,
    };
    let meta = first.meta();
    if !meta.has_transport(meta.l4_protocol) {
        return None;
    }
    let payload_len = packets.iter().map(ZeroCopyPacket::payload_len).sum();
    let mut frame = SuperFrame {
        headers: [0; MAX_HEADERS],
        headers_len: usize::from(meta.payload_offset),
        payload_len,
        vnet: VirtioNetHdr::PLAIN,
    };
    let headers = frame.headers.get_mut(..frame.headers_len)?;
    headers.copy_from_slice(first.head().get(..frame.headers_len)?);
    let (link_and_ip, transport) = headers.split_at_mut_checked(meta.l4_offset.into())?;
    let ip = link_and_ip.get_mut(meta.l3_offset.into()..)?;
    let l4_len = u16::try_from(transport.len() + payload_len).ok()?;
    let ip_len = u16::try_from(ip.len() + usize::from(l4_len)).ok()?;
    let (pseudo, tcp_kind) = match (first.ip_src()?, first.ip_dst()?) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            put16(ip, 2, ip_len);
            put16(ip, 10, 0);
            let check = sum(ip).finish();
            put16(ip, 10, check);
            let pseudo = pseudo_v4(src, dst, meta.l4_protocol, l4_len.into());
            (pseudo, VirtioNetHdr::GSO_TCPV4)
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            put16(
                ip,
                4,
                ip_len.checked_sub(net_wire::ipv6::HEADER_LEN as u16)?,
            );
            let pseudo = pseudo_v6(src, dst, meta.l4_protocol, l4_len.into());
            (pseudo, VirtioNetHdr::GSO_TCPV6)
        }
        _ => return None,
    };
    let (checksum_at, mut gso_type) = match meta.l4_protocol {
        ip_proto::TCP => (16, tcp_kind),
        ip_proto::UDP => (6, VirtioNetHdr::GSO_UDP_L4),
        _ => return None,
    };
    if gso_type == VirtioNetHdr::GSO_UDP_L4 {
        put16(transport, 4, l4_len);
    } else {
        transport[13] |= last.meta().tcp_flags & LAST_FLAGS;
        if transport[13] & TcpFlags::CWR.0 != 0 {
            gso_type |= VirtioNetHdr::GSO_ECN;
        }
    }
    put16(transport, checksum_at, pseudo.fold());
    frame.vnet = VirtioNetHdr {
        flags: VirtioNetHdr::NEEDS_CSUM,
        gso_type,
        hdr_len: meta.payload_offset,
        gso_size: u16::try_from(first.payload_len()).ok()?,
        csum_start: meta.l4_offset,
        csum_offset: checksum_at as u16,
        num_buffers: 0,
    };
    Some(frame)
}

impl SuperFrame {
    /// All headers, from the Ethernet header on.
    pub fn headers(&self) -> &[u8] {
        self.headers.get(..self.headers_len).unwrap_or_default()
    }

    /// The virtio header: partial checksum, kind and segment size.
    pub fn vnet(&self) -> &VirtioNetHdr {
        &self.vnet
    }

    /// Length of the frame in bytes.
    #[allow(clippy::len_without_is_empty)] // It is never empty.
    pub fn len(&self) -> usize {
        self.headers_len + self.payload_len
    }

    /// The payload of `packets`, which this was made of, piece by piece.
    pub fn payload<'p>(
        &self,
        packets: &'p [ZeroCopyPacket<'_>],
    ) -> impl Iterator<Item = SegmentList<'p>> {
        packets.iter().map(|packet| packet.payload(0, usize::MAX))
    }

    /// Writes the frame, headers and payload of `packets`, at the start of `out`; returns its
    /// length, or `None` where `out` is too small.
    pub fn write_into(&self, packets: &[ZeroCopyPacket<'_>], out: &mut [u8]) -> Option<usize> {
        let out = out.get_mut(..self.len())?;
        let (headers, mut payload) = out.split_at_mut(self.headers_len);
        headers.copy_from_slice(self.headers());
        for packet in packets {
            let (this, rest) = payload.split_at_mut_checked(packet.payload_len())?;
            packet.copy_range(packet.meta().payload_offset.into(), this);
            payload = rest;
        }
        payload.is_empty().then(|| self.len())
    }
}

impl core::fmt::Debug for SuperFrame {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "SuperFrame({} bytes, {:?})", self.len(), self.vnet)
    }
}

/// Loads and stores of headers whose fixed part was parsed.
#[inline(always)]
fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

#[inline(always)]
fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from(be16(bytes, at)) << 16 | u32::from(be16(bytes, at + 2))
}

#[inline(always)]
fn put16(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}
