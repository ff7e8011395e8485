//! Packets composed from nothing, every checksum computed: what the rewriting is compared with.

use core::net::{Ipv4Addr, Ipv6Addr};
use std::vec;
use std::vec::Vec;

use net_wire::checksum::{Sum, pseudo_v4, pseudo_v6, sum};
use net_wire::ipv4::Ipv4Repr;
use net_wire::ipv6::Ipv6Repr;
use net_wire::{icmpv4, icmpv6, ip_proto};

use crate::Endpoint;

/// What a test packet carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Carry {
    Tcp,
    Udp,
    /// UDP without a checksum.
    UdpUnsummed,
    /// A query of this type; the end that queries has the identifier for its port.
    Query(u8),
    /// A protocol without ports, 8 bytes and the data.
    Other(u8),
}

/// The transport header and data; `pseudo` gives the pseudo header's sum for a protocol and length.
fn transport(
    carry: Carry,
    [src, dst]: [u16; 2],
    data: &[u8],
    pseudo: impl Fn(u8, usize) -> Sum,
) -> (u8, Vec<u8>) {
    let ports = [src.to_be_bytes(), dst.to_be_bytes()].concat();
    let (protocol, mut bytes, check) = match carry {
        Carry::Tcp => {
            let rest = [0, 0, 0, 9, 0, 0, 0, 7, 0x50, 0x18, 2, 0, 0, 0, 0, 0];
            (ip_proto::TCP, [&ports[..], &rest].concat(), 16)
        }
        Carry::Udp | Carry::UdpUnsummed => {
            let len = (8 + data.len() as u16).to_be_bytes();
            (ip_proto::UDP, [&ports[..], &len, &[0, 0]].concat(), 6)
        }
        Carry::Query(kind) => {
            let protocol = match kind {
                128.. => ip_proto::ICMPV6,
                _ => ip_proto::ICMP,
            };
            let id = (src | dst).to_be_bytes();
            (protocol, [&[kind, 0, 0, 0], &id[..], &[0, 3]].concat(), 2)
        }
        Carry::Other(protocol) => return (protocol, [&[0xee; 8], data].concat()),
    };
    bytes.extend_from_slice(data);
    let total = sum(&bytes)
        + match protocol {
            ip_proto::ICMP => Sum::ZERO,
            _ => pseudo(protocol, bytes.len()),
        };
    let value = match carry {
        Carry::UdpUnsummed => 0,
        Carry::Udp => total.finish_udp(),
        _ => total.finish(),
    };
    bytes[check..check + 2].copy_from_slice(&value.to_be_bytes());
    (protocol, bytes)
}

/// An IPv4 packet with `options`, whose length is a multiple of four.
pub(crate) fn ip_v4(
    [src, dst]: [Ipv4Addr; 2],
    protocol: u8,
    ttl: u8,
    options: &[u8],
    payload: &[u8],
) -> Vec<u8> {
    let mut packet = vec![0; 20];
    Ipv4Repr {
        src,
        dst,
        protocol,
        ttl,
        tos: 0,
        id: 0x1234,
        dont_fragment: true,
        payload_len: options.len() + payload.len(),
    }
    .emit(&mut packet);
    packet[0] += (options.len() / 4) as u8;
    packet.extend_from_slice(options);
    packet.extend_from_slice(payload);
    fix_header(&mut packet);
    packet
}

/// Computes the checksum of an IPv4 header anew.
pub(crate) fn fix_header(packet: &mut [u8]) {
    let len = usize::from(packet[0] & 15) * 4;
    packet[10..12].fill(0);
    let value = sum(&packet[..len]).finish();
    packet[10..12].copy_from_slice(&value.to_be_bytes());
}

pub(crate) fn packet_v4(
    carry: Carry,
    src: Endpoint<Ipv4Addr>,
    dst: Endpoint<Ipv4Addr>,
    options: &[u8],
    data: &[u8],
) -> Vec<u8> {
    let ends = [src.addr, dst.addr];
    let pseudo = |protocol, len| pseudo_v4(src.addr, dst.addr, protocol, len);
    let (protocol, bytes) = transport(carry, [src.port, dst.port], data, pseudo);
    ip_v4(ends, protocol, 61, options, &bytes)
}

/// An error of ICMPv4 about `quote`, which is whatever the caller makes it.
pub(crate) fn error_v4(
    ends: [Ipv4Addr; 2],
    [kind, code]: [u8; 2],
    rest: u32,
    options: &[u8],
    quote: &[u8],
) -> Vec<u8> {
    let mut message = [&[0; 8], quote].concat();
    icmpv4::emit(&mut message, kind, code, rest);
    ip_v4(ends, ip_proto::ICMP, 57, options, &message)
}

/// An IPv6 packet; `extensions` are types and whole bodies, whose first bytes get written.
pub(crate) fn ip_v6(
    [src, dst]: [Ipv6Addr; 2],
    protocol: u8,
    extensions: &[(u8, Vec<u8>)],
    payload: &[u8],
) -> Vec<u8> {
    let mut chain = Vec::new();
    let mut kinds = extensions.iter().map(|(kind, _)| *kind).chain([protocol]);
    let next_header = kinds.next().unwrap();
    for (_, body) in extensions {
        chain.push(kinds.next().unwrap());
        chain.extend_from_slice(&body[1..]);
    }
    let mut packet = vec![0; 40];
    Ipv6Repr {
        src,
        dst,
        next_header,
        hop_limit: 61,
        traffic_class: 0,
        payload_len: chain.len() + payload.len(),
    }
    .emit(&mut packet);
    packet.extend(chain);
    packet.extend_from_slice(payload);
    packet
}

pub(crate) fn packet_v6(
    carry: Carry,
    src: Endpoint<Ipv6Addr>,
    dst: Endpoint<Ipv6Addr>,
    extensions: &[(u8, Vec<u8>)],
    data: &[u8],
) -> Vec<u8> {
    let ends = [src.addr, dst.addr];
    let pseudo = |protocol, len| pseudo_v6(src.addr, dst.addr, protocol, len);
    let (protocol, bytes) = transport(carry, [src.port, dst.port], data, pseudo);
    ip_v6(ends, protocol, extensions, &bytes)
}

/// As [`error_v4`].
pub(crate) fn error_v6(
    [src, dst]: [Ipv6Addr; 2],
    [kind, code]: [u8; 2],
    rest: u32,
    extensions: &[(u8, Vec<u8>)],
    quote: &[u8],
) -> Vec<u8> {
    let mut message = [&[0; 8], quote].concat();
    let pseudo = pseudo_v6(src, dst, ip_proto::ICMPV6, message.len());
    icmpv6::emit(&mut message, kind, code, rest, pseudo);
    ip_v6([src, dst], ip_proto::ICMPV6, extensions, &message)
}

/// An ICMPv4 query.
pub(crate) fn echo_v4(kind: u8, id: u16, data: &[u8]) -> Vec<u8> {
    transport(Carry::Query(kind), [id, 0], data, |_, _| Sum::ZERO).1
}
