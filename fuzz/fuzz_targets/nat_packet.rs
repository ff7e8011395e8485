//! Packets for the targets of the translator: composed, judged and mended. Not a target.
#![allow(dead_code)]

use std::net::{Ipv4Addr, Ipv6Addr};

use net_nat::config::FamilyConfig;
use net_nat::{NatConfig, Prefix};
use net_wire::checksum::{Sum, pseudo_v4, pseudo_v6, sum};
use net_wire::ipv4::Ipv4Packet;
use net_wire::ipv6::Ipv6Packet;

/// Bytes of the input, zeros behind its end.
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    pub fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    pub fn word(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    pub fn take(&mut self, n: usize) -> &'a [u8] {
        let (front, rest) = self.0.split_at(n.min(self.0.len()));
        self.0 = rest;
        front
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Guests of both families behind one shared address each.
pub fn config() -> NatConfig {
    let inside = Prefix::new([10, 0, 0, 0].into(), 24).expect("a prefix");
    let mut config = NatConfig::new([7; 16], inside, [203, 0, 113, 1].into());
    let inside = Prefix::new("fd00::".parse().expect("an address"), 64).expect("a prefix");
    config.ipv6 = Some(FamilyConfig {
        inside: vec![inside],
        outside: vec!["2001:db8::1".parse().expect("an address")],
        one_to_one: Vec::new(),
    });
    // Small tables: making them is most of what a run costs.
    config.limits.sessions = 64;
    config.limits.hosts = 16;
    config.limits.fragments.datagrams = 16;
    config
}

/// The transport of a packet: protocol, offset of the checksum, and the bytes with it zero.
pub fn transport(kind: u8, v6: bool, ports: [u16; 2], flags: u8, data: &[u8]) -> (u8, Vec<u8>) {
    let [src, dst] = ports.map(u16::to_be_bytes);
    let mut out = [src, dst].concat();
    let protocol = match kind % 4 {
        0 => {
            out.extend_from_slice(&(8 + data.len() as u16).to_be_bytes());
            out.extend_from_slice(&[0, 0]);
            17
        }
        1 => {
            out.extend_from_slice(&[0, 0, 1, 0, 0, 0, 2, 0, 0x50, flags, 0x20, 0, 0, 0, 0, 0]);
            6
        }
        2 => {
            let echo = if v6 { 128 | flags & 1 } else { 8 * (flags & 1) };
            out = vec![echo, 0, 0, 0];
            out.extend_from_slice(&src);
            out.extend_from_slice(&[0, 1]);
            if v6 { 58 } else { 1 }
        }
        _ => 47,
    };
    out.extend_from_slice(data);
    (protocol, out)
}

/// An IPv4 packet around a transport; its checksums are still to be mended.
pub fn v4(
    src: [u8; 4],
    dst: [u8; 4],
    id: u16,
    flags: u16,
    (protocol, transport): &(u8, Vec<u8>),
) -> Vec<u8> {
    let len = (20 + transport.len() as u16).to_be_bytes();
    let (id, flags) = (id.to_be_bytes(), flags.to_be_bytes());
    let mut out = vec![
        0x45, 0, len[0], len[1], id[0], id[1], flags[0], flags[1], 64, *protocol, 0, 0,
    ];
    out.extend_from_slice(&src);
    out.extend_from_slice(&dst);
    out.extend_from_slice(transport);
    out
}

/// The same for IPv6.
pub fn v6(src: Ipv6Addr, dst: Ipv6Addr, (protocol, transport): &(u8, Vec<u8>)) -> Vec<u8> {
    let len = (transport.len() as u16).to_be_bytes();
    let mut out = vec![0x60, 0, 0, 0, len[0], len[1], *protocol, 64];
    out.extend_from_slice(&src.octets());
    out.extend_from_slice(&dst.octets());
    out.extend_from_slice(transport);
    out
}

/// Where the transport of a whole packet lies, its protocol, and the sum of its pseudo header.
fn whole(packet: &[u8]) -> Option<(usize, usize, u8, Sum)> {
    if packet.first()? >> 4 == 4 {
        let ip = Ipv4Packet::parse(packet).ok()?;
        let (from, to) = (ip.header_len(), ip.total_len());
        let pseudo = match ip.protocol() {
            1 => Sum::ZERO,
            protocol => pseudo_v4(ip.src(), ip.dst(), protocol, to - from),
        };
        return (!ip.is_fragment()).then_some((from, to, ip.protocol(), pseudo));
    }
    let ip = Ipv6Packet::parse(packet).ok()?;
    let upper = ip.upper_layer().ok()?;
    let (from, to) = (40 + upper.offset, 40 + ip.payload_len());
    let fragment = upper.fragment.is_some_and(|f| f.more || f.offset != 0);
    let pseudo = pseudo_v6(ip.src(), ip.dst(), upper.protocol, to - from);
    (!fragment).then_some((from, to, upper.protocol, pseudo))
}

/// Where the checksum of a transport is.
fn checksum_at(protocol: u8, v6: bool) -> Option<usize> {
    match protocol {
        6 => Some(16),
        17 => Some(6),
        1 if !v6 => Some(2),
        58 if v6 => Some(2),
        _ => None,
    }
}

/// Whether every checksum that the packet has of itself holds; of a fragment that is the header's.
pub fn is_valid(packet: &[u8]) -> bool {
    if packet.first().is_some_and(|b| b >> 4 == 4) {
        match Ipv4Packet::parse(packet) {
            Ok(ip) if ip.verify_header_checksum() => {}
            _ => return false,
        }
    }
    let Some((from, to, protocol, pseudo)) = whole(packet) else {
        return true;
    };
    let Some(at) = checksum_at(protocol, packet[0] >> 4 == 6) else {
        return true;
    };
    let transport = &packet[from..to];
    match transport.get(at..at + 2) {
        None => false,
        // RFC 768: 0 says that there is none.
        Some([0, 0]) if protocol == 17 => true,
        Some(_) => (sum(transport) + pseudo).is_valid(),
    }
}

/// Computes every checksum anew; a UDP checksum of 0 stays "none".
pub fn mend(packet: &mut [u8], udp: bool) {
    if packet.first().is_some_and(|b| b >> 4 == 4)
        && let Ok(mut ip) = Ipv4Packet::parse(&mut *packet)
    {
        ip.fill_header_checksum();
    }
    let Some((from, to, protocol, pseudo)) = whole(packet) else {
        return;
    };
    let v6 = packet[0] >> 4 == 6;
    let transport = &mut packet[from..to];
    if let Some(at) = checksum_at(protocol, v6)
        && transport.len() >= at + 2
    {
        transport[at..at + 2].fill(0);
        if protocol == 17 && !udp {
            return;
        }
        let total = sum(transport) + pseudo;
        let value = if protocol == 17 {
            total.finish_udp()
        } else {
            total.finish()
        };
        transport[at..at + 2].copy_from_slice(&value.to_be_bytes());
    }
}

pub fn guest4(n: u8) -> [u8; 4] {
    [10, 0, 0, n % 8]
}

pub fn guest6(n: u8) -> Ipv6Addr {
    [0xfd00, 0, 0, 0, 0, 0, 0, u16::from(n % 8)].into()
}

pub fn remote4(n: u8) -> [u8; 4] {
    match n % 8 {
        7 => [203, 0, 113, 1],
        n => [192, 0, 2, n],
    }
}

pub fn remote6(n: u8) -> Ipv6Addr {
    match n % 8 {
        7 => [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into(),
        n => [0x2001, 0xdb8, 2, 0, 0, 0, 0, u16::from(n)].into(),
    }
}

pub const OURS4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
pub const OURS6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
