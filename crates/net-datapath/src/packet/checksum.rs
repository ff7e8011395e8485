//! Checking the checksums of a packet over its scatter list.

use core::net::IpAddr;

use net_wire::checksum::{Accumulator, Sum, pseudo_v4, pseudo_v6, sum};
use net_wire::ip_proto;

use super::{FragmentState, L3, ZeroCopyPacket};
use crate::segment::copy_to_slice;

impl ZeroCopyPacket<'_> {
    /// Whether the checksum of an IPv4 header is right; true for everything else.
    pub fn verify_ip_checksum(&self) -> bool {
        if self.meta().l3 != L3::Ipv4 {
            return true;
        }
        let at = usize::from(self.meta().l3_offset);
        let header = self.head().get(at..).and_then(|ip| {
            let len = usize::from(*ip.first()? & 0x0f) * 4;
            ip.get(..len)
        });
        header.is_some_and(|header| sum(header).is_valid())
    }

    /// Whether the transport checksum is right.
    ///
    /// True without looking where the virtio header says it is partial or verified, for fragments
    /// and for protocols without a known checksum; false for a malformed transport header. Payload
    /// in a guest's memory is read once, in pieces of 512 bytes.
    pub fn verify_l4_checksum(&self) -> bool {
        if self.vnet().needs_csum() || self.vnet().data_valid() {
            return true;
        }
        if !self.meta().is_ip() || self.meta().fragment != FragmentState::None {
            return true;
        }
        let at = usize::from(self.meta().l4_offset);
        let len = self.meta().payload_end as usize - at;
        let protocol = self.meta().l4_protocol;
        let pseudo = match (protocol, self.ip_src(), self.ip_dst()) {
            (ip_proto::ICMP, Some(IpAddr::V4(_)), _) => Sum::ZERO,
            (ip_proto::TCP | ip_proto::UDP, Some(IpAddr::V4(src)), Some(IpAddr::V4(dst))) => {
                pseudo_v4(src, dst, protocol, len)
            }
            (
                ip_proto::TCP | ip_proto::UDP | ip_proto::ICMPV6,
                Some(IpAddr::V6(src)),
                Some(IpAddr::V6(dst)),
            ) => pseudo_v6(src, dst, protocol, len),
            _ => return true,
        };
        if self.meta().malformed {
            return false;
        }
        // Over IPv4 a UDP checksum of 0 says "none" (RFC 768); over IPv6 it is not allowed
        // (RFC 8200, section 8.1).
        let no_checksum = [0, 0];
        if protocol == ip_proto::UDP && self.head().get(at + 6..at + 8) == Some(&no_checksum[..]) {
            return self.meta().l3 == L3::Ipv4;
        }
        (pseudo + self.sum_range(at, len)).is_valid()
    }

    /// The sum of `len` bytes of the frame from `offset` on, as if `offset` were even.
    pub fn sum_range(&self, offset: usize, len: usize) -> Sum {
        let len = len.min(self.len().saturating_sub(offset));
        let head = self.head().get(offset..).unwrap_or_default();
        let head = head.get(..len).unwrap_or(head);
        let mut total = Accumulator::new();
        total.add(head);
        let mut skip = offset.saturating_sub(self.head_len.into());
        let mut left = len - head.len();
        if let Some(rest) = self.borrowed_rest() {
            total.add(rest.get(skip..skip + left).unwrap_or_default());
            return total.sum();
        }
        let mut buffer = [0u8; 512];
        while left > 0 {
            let want = left.min(buffer.len());
            let n = copy_to_slice(self.rest(), skip, &mut buffer[..want]);
            if n == 0 {
                break;
            }
            total.add(&buffer[..n]);
            skip += n;
            left -= n;
        }
        total.sum()
    }
}
