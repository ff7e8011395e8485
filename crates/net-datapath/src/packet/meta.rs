//! What the headers of a frame say, parsed once.

use net_wire::ethernet::{EtherType, HEADER_LEN, VLAN_TAG_LEN};
use net_wire::{WireError, ip_proto, ipv6};

use super::fast;
use crate::vnet::VirtioNetHdr;

/// The network-layer protocol of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Default)]
pub enum L3 {
    /// A valid IPv4 header.
    Ipv4,
    /// A valid IPv6 header.
    Ipv6,
    /// The type field says ARP; the body has not been looked at.
    Arp,
    /// Anything else, a broken IP header included ([`PacketMeta::malformed`] tells).
    #[default]
    Other,
}

/// Whether the IP packet is a fragment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Default)]
pub enum FragmentState {
    /// A whole packet.
    #[default]
    None,
    /// The first fragment: the transport header is there, the payload is not complete.
    First,
    /// A later fragment: there is no transport header, and ports are 0.
    Later,
}

/// Where the headers of a frame are and the fields every stage asks for.
///
/// Offsets are bytes from the start of the Ethernet frame. Every offset is within the frame, and
/// `l3_offset <= l4_offset <= payload_offset <= payload_end <= l3_end` holds.
// The order is not the compiler's to choose: what is zero in nearly all packets stands together,
// and so does what is the same for all packets of a protocol, so that a few wide stores write it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
#[repr(C)]
pub struct PacketMeta {
    /// What the sender left to be done: partial checksum, super-frame. It is the virtio header the
    /// frame came with, unchecked ([`VirtioNetHdr::validate`]); [`Self::parse`] leaves it plain.
    pub offload: VirtioNetHdr,
    /// Start of the IPv6 fragment header; 0 where there is none.
    pub fragment_header: u16,
    /// Whether this is a fragment.
    pub fragment: FragmentState,
    /// A header contradicts itself or passes the end of the frame. With [`L3::Other`] it is the
    /// IP header, otherwise the transport header or the IPv6 extension chain.
    pub malformed: bool,
    /// The tag, or 0 where there is none: [`Self::vlan`] tells one from the other.
    pub(super) tag: u16,
    /// The type field, behind the tag if there is one.
    pub ethertype: u16,
    /// Start of the network-layer header, which is the length of the Ethernet header: 14, or 18
    /// with an 802.1Q tag.
    pub l3_offset: u16,
    /// Start of the transport header, or of what stands in its place.
    pub l4_offset: u16,
    /// The network-layer protocol.
    pub l3: L3,
    /// Protocol behind the IP header and its extensions; 0 where there is none.
    pub l4_protocol: u8,
    /// TCP control bits ([`net_wire::tcp::TcpFlags`]), or 0.
    pub tcp_flags: u8,
    /// End of the TCP (with options), UDP or ICMP header (8 bytes); elsewhere `l4_offset`.
    ///
    /// A header chain can be longer than the copied head; this offset can lie behind its end.
    pub payload_offset: u16,
    /// TCP or UDP source port, or 0.
    pub src_port: u16,
    /// TCP or UDP destination port, or 0.
    pub dst_port: u16,
    /// End of the transport payload: `l3_end`, or earlier where UDP's length field says so.
    pub payload_end: u32,
    /// End of the IP packet: what follows is Ethernet padding.
    pub l3_end: u32,
}

/// The end of parsing: the packet is what was found so far, and malformed.
struct Bad;

impl PacketMeta {
    /// That of no frame.
    pub(super) const BLANK: Self = Self {
        offload: VirtioNetHdr::PLAIN,
        fragment_header: 0,
        fragment: FragmentState::None,
        malformed: false,
        tag: 0,
        ethertype: 0,
        l3_offset: 0,
        l4_offset: 0,
        l3: L3::Other,
        l4_protocol: 0,
        tcp_flags: 0,
        payload_offset: 0,
        src_port: 0,
        dst_port: 0,
        payload_end: 0,
        l3_end: 0,
    };

    /// Parses the headers of a frame of `frame_len` bytes whose first bytes are `head`.
    ///
    /// A frame that is not IP, or is broken above Ethernet, is still described: a switch forwards
    /// it. `head` should hold 128 bytes or the whole frame; headers that pass its end count as
    /// malformed, except the options of TCP.
    ///
    /// # Errors
    /// [`WireError::Truncated`] for less than an Ethernet header.
    #[inline]
    pub fn parse(head: &[u8], frame_len: usize) -> Result<Self, WireError> {
        let head = head.get(..frame_len).unwrap_or(head);
        fast::parse(fast::Returned, head, frame_len, Self::parse_any)
    }

    /// [`Self::parse`] where the record stays; after an error it says nothing.
    #[inline]
    pub(super) fn parse_in_place(
        &mut self,
        head: &[u8],
        frame_len: usize,
    ) -> Result<(), WireError> {
        let head = head.get(..frame_len).unwrap_or(head);
        fast::parse(self, head, frame_len, Self::parse_any)
    }

    /// [`Self::parse`] for every kind of frame.
    pub(super) fn parse_any(head: &[u8], frame_len: usize) -> Result<Self, WireError> {
        let eth = head
            .first_chunk::<HEADER_LEN>()
            .ok_or(WireError::Truncated)?;
        let end = u32::try_from(frame_len).unwrap_or(u32::MAX);
        let mut meta = Self {
            l3_offset: HEADER_LEN as u16,
            ethertype: u16::from_be_bytes([eth[12], eth[13]]),
            payload_end: end,
            l3_end: end,
            ..Self::default()
        };
        if matches!(EtherType(meta.ethertype), EtherType::VLAN | EtherType::QINQ) {
            if let Some(tag) = chunk::<VLAN_TAG_LEN>(head, HEADER_LEN) {
                meta.tag = u16::from_be_bytes([tag[0], tag[1]]);
                meta.ethertype = u16::from_be_bytes([tag[2], tag[3]]);
                meta.l3_offset += VLAN_TAG_LEN as u16;
            } else {
                meta.malformed = true;
            }
        }
        meta.l4_offset = meta.l3_offset;
        meta.payload_offset = meta.l3_offset;
        let parsed = match EtherType(meta.ethertype) {
            EtherType::IPV4 => meta.ipv4(head),
            EtherType::IPV6 => meta.ipv6(head),
            EtherType::ARP => {
                meta.l3 = L3::Arp;
                Ok(())
            }
            _ => Ok(()),
        };
        meta.malformed |= parsed.is_err();
        Ok(meta)
    }

    /// The tag (priority, drop eligibility, VLAN id) of an 802.1Q frame.
    #[inline]
    pub const fn vlan(&self) -> Option<u16> {
        match self.l3_offset as usize > HEADER_LEN {
            true => Some(self.tag),
            false => None,
        }
    }

    /// Whether the frame carries a valid IP header.
    #[inline]
    pub const fn is_ip(&self) -> bool {
        matches!(self.l3, L3::Ipv4 | L3::Ipv6)
    }

    /// Bytes of transport payload.
    #[inline]
    pub const fn payload_len(&self) -> usize {
        self.payload_end as usize - self.payload_offset as usize
    }

    /// Whether a whole, valid header of this transport protocol is there.
    #[inline]
    pub const fn has_transport(&self, protocol: u8) -> bool {
        self.is_ip()
            && self.l4_protocol == protocol
            && !self.malformed
            && !matches!(self.fragment, FragmentState::Later)
    }

    #[inline]
    fn ipv4(&mut self, head: &[u8]) -> Result<(), Bad> {
        let at = usize::from(self.l3_offset);
        let ip = chunk::<20>(head, at).ok_or(Bad)?;
        let header = usize::from(ip[0] & 0x0f) * 4;
        let total = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
        if ip[0] >> 4 != 4
            || header < 20
            || total < header
            || at + total > self.l3_end as usize
            || at + header > head.len()
        {
            return Err(Bad);
        }
        self.l3 = L3::Ipv4;
        self.l3_end = (at + total) as u32;
        let fragment = u16::from_be_bytes([ip[6], ip[7]]) & 0x3fff;
        self.fragment = match (fragment, fragment & 0x1fff) {
            (0, _) => FragmentState::None,
            (_, 0) => FragmentState::First,
            _ => FragmentState::Later,
        };
        self.transport(head, ip[9], at + header)
    }

    fn ipv6(&mut self, head: &[u8]) -> Result<(), Bad> {
        let at = usize::from(self.l3_offset);
        let ip = chunk::<{ ipv6::HEADER_LEN }>(head, at).ok_or(Bad)?;
        let upper = at + ipv6::HEADER_LEN;
        let end = upper + usize::from(u16::from_be_bytes([ip[4], ip[5]]));
        if ip[0] >> 4 != 6 || end > self.l3_end as usize {
            return Err(Bad);
        }
        self.l3 = L3::Ipv6;
        self.l3_end = end as u32;
        if matches!(ip[6], ip_proto::TCP | ip_proto::UDP | ip_proto::ICMPV6) {
            return self.transport(head, ip[6], upper);
        }
        let rest = head.get(upper..end.min(head.len())).ok_or(Bad)?;
        self.l4_offset = upper as u16;
        self.payload_offset = self.l4_offset;
        self.payload_end = self.l3_end;
        let found = ipv6::walk_extensions(ip[6], rest).map_err(|_| Bad)?;
        if let Some(fragment) = found.fragment {
            // An atomic fragment (RFC 6946) is a whole packet that carries the header anyway.
            self.fragment = match (fragment.offset, fragment.more) {
                (0, false) => FragmentState::None,
                (0, true) => FragmentState::First,
                _ => FragmentState::Later,
            };
            self.fragment_header =
                find_fragment_header(ip[6], rest).map_or(0, |offset| (upper + offset) as u16);
        }
        self.transport(head, found.protocol, upper + found.offset)
    }

    #[inline]
    fn transport(&mut self, head: &[u8], protocol: u8, at: usize) -> Result<(), Bad> {
        self.l4_protocol = protocol;
        self.l4_offset = at as u16;
        self.payload_offset = self.l4_offset;
        self.payload_end = self.l3_end;
        if self.fragment == FragmentState::Later {
            return Ok(());
        }
        let available = self.l3_end as usize - at;
        let header = match protocol {
            ip_proto::TCP => {
                let tcp = chunk::<20>(head, at).ok_or(Bad)?;
                let header = usize::from(tcp[12] >> 4) * 4;
                if header < 20 || header > available {
                    return Err(Bad);
                }
                self.src_port = u16::from_be_bytes([tcp[0], tcp[1]]);
                self.dst_port = u16::from_be_bytes([tcp[2], tcp[3]]);
                self.tcp_flags = tcp[13];
                header
            }
            ip_proto::UDP => {
                let udp = chunk::<8>(head, at).ok_or(Bad)?;
                let len = usize::from(u16::from_be_bytes([udp[4], udp[5]]));
                // The length of a first fragment is that of the whole datagram.
                if available < 8 || len < 8 {
                    return Err(Bad);
                }
                if self.fragment == FragmentState::None {
                    if len > available {
                        return Err(Bad);
                    }
                    self.payload_end = (at + len) as u32;
                }
                self.src_port = u16::from_be_bytes([udp[0], udp[1]]);
                self.dst_port = u16::from_be_bytes([udp[2], udp[3]]);
                8
            }
            ip_proto::ICMP | ip_proto::ICMPV6 => {
                if available < 8 || head.len() < at + 8 {
                    return Err(Bad);
                }
                8
            }
            _ => 0,
        };
        self.payload_offset = (at + header) as u16;
        Ok(())
    }
}

/// The `N` bytes at `at`.
#[inline(always)]
pub(super) fn chunk<const N: usize>(bytes: &[u8], at: usize) -> Option<&[u8; N]> {
    bytes.get(at..at + N)?.first_chunk()
}

/// The offset of the fragment header in a chain that `walk_extensions` has walked.
fn find_fragment_header(mut next: u8, rest: &[u8]) -> Option<usize> {
    let mut offset = 0;
    for _ in 0..=ipv6::MAX_EXTENSIONS {
        if next == ip_proto::IPV6_FRAGMENT {
            return Some(offset);
        }
        let header = chunk::<2>(rest, offset)?;
        let words = usize::from(header[1]);
        offset += match next {
            ip_proto::AH => (words + 2) * 4,
            _ => (words + 1) * 8,
        };
        next = header[0];
    }
    None
}
