//! The packets nearly all packets are: TCP or UDP, directly over IP, directly over Ethernet.
//!
//! Each of the four kinds is a function of its own, so that all but six fields of its record are
//! constants, which the compiler stores eight or sixteen bytes at a time; in one function for all
//! it would carry each of them in a register to a common end. What none of them knows is left to
//! the general parser, which is their oracle as well.

use net_wire::ethernet::{EtherType, VLAN_TAG_LEN};
use net_wire::{WireError, ip_proto, ipv6};

use super::meta::{FragmentState, L3, PacketMeta, chunk};
use crate::vnet::VirtioNetHdr;

/// Length of the Ethernet header, and of the headers behind it without options.
const L2: usize = 14;
const V4: usize = 20;
const V6: usize = ipv6::HEADER_LEN;
const TCP: usize = 20;
const UDP: usize = 8;

/// Where a record goes. Its own kind each, because a record that is written where it stays costs its
/// fields, and one that is first returned and then moved is copied, which waits for the stores.
pub(super) trait Place {
    /// What the parser returns.
    type Parsed;
    /// Puts the record there.
    fn put(&mut self, meta: PacketMeta) -> Self::Parsed;
}

/// The record is the parser's result.
pub(super) struct Returned;

impl Place for Returned {
    type Parsed = PacketMeta;

    #[inline(always)]
    fn put(&mut self, meta: PacketMeta) -> PacketMeta {
        meta
    }
}

impl Place for &mut PacketMeta {
    type Parsed = ();

    #[inline(always)]
    fn put(&mut self, meta: PacketMeta) {
        **self = meta;
    }
}

type Parsed<P> = Result<<P as Place>::Parsed, WireError>;

/// Parses a `head` that is not longer than the frame, or has `general` do it.
#[inline]
pub(super) fn parse<P: Place>(
    place: P,
    head: &[u8],
    frame_len: usize,
    general: impl General,
) -> Parsed<P> {
    dispatch::<0, P>(place, head, frame_len, general)
}

/// The parser for all other packets, called with the same arguments.
pub(super) trait General: Fn(&[u8], usize) -> Result<PacketMeta, WireError> {}
impl<F: Fn(&[u8], usize) -> Result<PacketMeta, WireError>> General for F {}

#[inline(never)]
fn tagged<P: Place>(place: P, head: &[u8], frame_len: usize, general: impl General) -> Parsed<P> {
    let ethertype = chunk(head, L2 - 2).map(|bytes| EtherType(u16::from_be_bytes(*bytes)));
    match ethertype {
        Some(EtherType::VLAN | EtherType::QINQ) => {
            dispatch::<VLAN_TAG_LEN, P>(place, head, frame_len, general)
        }
        _ => otherwise(place, head, frame_len, general),
    }
}

/// Finds the function for what is behind `TAG` bytes of tag, 0 or 4.
///
/// Every branch ends in the result: passed on in an `Option`, the record would be copied.
#[inline(always)]
fn dispatch<const TAG: usize, P: Place>(
    mut place: P,
    head: &[u8],
    frame_len: usize,
    general: impl General,
) -> Parsed<P> {
    // From the type field to the protocol of either IP header.
    if let Some(&[a, b, c, d, .., v6, _, _, v4]) = chunk::<12>(head, TAG + L2 - 2) {
        // Type field, version and, for IPv4, length of the header in one comparison each.
        let start = u32::from_be_bytes([a, b, c, d]);
        if start >> 8 == (EtherType::IPV4.0 as u32) << 8 | 0x45 {
            if v4 == ip_proto::TCP {
                return match record::<TAG, V4, TCP, P>(&mut place, head, frame_len) {
                    Some(parsed) => Ok(parsed),
                    None => otherwise(place, head, frame_len, general),
                };
            }
            if v4 == ip_proto::UDP {
                return apart::<TAG, V4, UDP, P>(place, head, frame_len, general);
            }
        } else if start >> 12 == (EtherType::IPV6.0 as u32) << 4 | 6 {
            if v6 == ip_proto::TCP {
                return apart::<TAG, V6, TCP, P>(place, head, frame_len, general);
            }
            if v6 == ip_proto::UDP {
                return apart::<TAG, V6, UDP, P>(place, head, frame_len, general);
            }
        }
    }
    match TAG {
        0 => tagged(place, head, frame_len, general),
        _ => otherwise(place, head, frame_len, general),
    }
}

/// [`record`] in a function that stays one.
#[inline(never)]
fn apart<const TAG: usize, const IP: usize, const L4: usize, P: Place>(
    mut place: P,
    head: &[u8],
    frame_len: usize,
    general: impl General,
) -> Parsed<P> {
    match record::<TAG, IP, L4, P>(&mut place, head, frame_len) {
        Some(parsed) => Ok(parsed),
        None => otherwise(place, head, frame_len, general),
    }
}

/// What `general` finds.
#[inline(always)]
fn otherwise<P: Place>(
    mut place: P,
    head: &[u8],
    frame_len: usize,
    general: impl General,
) -> Parsed<P> {
    general(head, frame_len).map(|meta| place.put(meta))
}

/// Makes the record of a whole, well-formed packet behind `TAG` bytes of tag (0 or 4) with an IP header of
/// `IP` bytes and a transport header of at least `L4` bytes, whose kinds the caller has found out.
/// `None`, and nothing is put, for any other. `head` is not longer than the frame.
#[inline(always)]
fn record<const TAG: usize, const IP: usize, const L4: usize, P: Place>(
    place: &mut P,
    head: &[u8],
    frame_len: usize,
) -> Option<P::Parsed> {
    let l4 = TAG + L2 + IP;
    // Looked at first: the other bounds are known to hold then.
    let transport = chunk::<L4>(head, l4)?;
    let ip = chunk::<V4>(head, TAG + L2)?;
    let (l3, ethertype, end) = if IP == V4 {
        let fragment = be16(ip, 6) & 0x3fff;
        if fragment != 0 {
            return none();
        }
        (
            L3::Ipv4,
            EtherType::IPV4,
            TAG + L2 + usize::from(be16(ip, 2)),
        )
    } else {
        (L3::Ipv6, EtherType::IPV6, l4 + usize::from(be16(ip, 4)))
    };
    if end > frame_len {
        return none();
    }
    let (l4_protocol, header, payload_end, tcp_flags) = if L4 == TCP {
        let word = be16(transport, 12);
        (ip_proto::TCP, usize::from(word >> 12) * 4, end, word as u8)
    } else {
        let len = usize::from(be16(transport, 4));
        (ip_proto::UDP, UDP, l4 + len, 0)
    };
    let payload_offset = l4 + header;
    if header < L4 {
        return none();
    }
    if payload_offset > payload_end {
        return none();
    }
    if payload_end > end {
        return none();
    }
    Some(place.put(PacketMeta {
        offload: VirtioNetHdr::PLAIN,
        fragment_header: 0,
        fragment: FragmentState::None,
        malformed: false,
        tag: match TAG {
            0 => 0,
            _ => u16::from_be_bytes(*chunk(head, L2)?),
        },
        ethertype: ethertype.0,
        l3_offset: (TAG + L2) as u16,
        l4_offset: l4 as u16,
        l3,
        l4_protocol,
        tcp_flags,
        payload_offset: payload_offset as u16,
        src_port: be16(transport, 0),
        dst_port: be16(transport, 2),
        payload_end: payload_end as u32,
        l3_end: end as u32,
    }))
}

/// Says that this is rare. Without it the compiler computes all conditions to save the branches.
#[inline(always)]
fn none<T>() -> Option<T> {
    core::hint::cold_path();
    None
}

/// A field at a constant place: the bounds are known when this is compiled.
#[inline(always)]
fn be16<const N: usize>(bytes: &[u8; N], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}
