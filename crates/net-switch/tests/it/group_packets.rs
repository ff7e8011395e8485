//! IGMP and MLD messages, and data for groups, written by hand.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use net_wire::checksum;

/// What a router's host has for an address.
pub(crate) const V4: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 9);
pub(crate) const V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 9);

pub(crate) fn group4(n: u8) -> IpAddr {
    Ipv4Addr::new(239, 1, 2, n).into()
}

pub(crate) fn group6(n: u16) -> IpAddr {
    Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0, 1, n).into()
}

/// An IPv4 packet with a router alert, as IGMP has it.
pub(crate) fn ipv4(src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x46, 0xc0, 0, 0, 0, 0, 0x40, 0, 1, protocol, 0, 0];
    packet.extend(src.octets());
    packet.extend(dst.octets());
    packet.extend([0x94, 4, 0, 0]);
    let total = (packet.len() + payload.len()) as u16;
    packet[2..4].copy_from_slice(&total.to_be_bytes());
    let sum = checksum::sum(&packet).finish();
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(payload);
    packet
}

/// An IGMP message from `src`, its checksum filled in.
pub(crate) fn igmp(src: Ipv4Addr, dst: Ipv4Addr, message: &[u8]) -> Vec<u8> {
    let mut message = message.to_vec();
    message[2..4].fill(0);
    let sum = checksum::sum(&message).finish();
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    ipv4(src, dst, 2, &message)
}

/// An MLD message from `src` behind a hop-by-hop header, its checksum filled in.
pub(crate) fn mld(src: Ipv6Addr, dst: Ipv6Addr, message: &[u8]) -> Vec<u8> {
    let mut message = message.to_vec();
    message[2..4].fill(0);
    let pseudo = checksum::pseudo_v6(src, dst, 58, message.len());
    let sum = (pseudo + checksum::sum(&message)).finish();
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((message.len() as u16 + 8).to_be_bytes());
    packet.extend([0, 1]);
    packet.extend(src.octets());
    packet.extend(dst.octets());
    packet.extend([58, 0, 5, 2, 0, 0, 1, 0]);
    packet.extend(message);
    packet
}

/// Data for a group, of which a switch sees the header.
pub(crate) fn data(group: IpAddr) -> Vec<u8> {
    match group {
        IpAddr::V4(group) => ipv4(V4, group, 17, &[0; 16]),
        IpAddr::V6(group) => {
            let mut packet = vec![0x60, 0, 0, 0, 0, 16, 17, 64];
            packet.extend(V6.octets());
            packet.extend(group.octets());
            packet.extend([0; 16]);
            packet
        }
    }
}

/// A general query: IGMPv2 or MLDv1, answered within so many tenths of a second.
pub(crate) fn query(ipv6: bool, tenths: u8) -> Vec<u8> {
    if !ipv6 {
        let all = Ipv4Addr::new(224, 0, 0, 1);
        return igmp(V4, all, &[0x11, tenths, 0, 0, 0, 0, 0, 0]);
    }
    let delay = (u16::from(tenths) * 100).to_be_bytes();
    let mut message = vec![130, 0, 0, 0, delay[0], delay[1], 0, 0];
    message.extend([0; 16]);
    mld(V6, Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1), &message)
}

/// A report of IGMPv2 or MLDv1.
pub(crate) fn report(group: IpAddr) -> Vec<u8> {
    one(group, 0x16, 131)
}

/// An IGMPv2 leave or an MLDv1 done.
pub(crate) fn leave(group: IpAddr) -> Vec<u8> {
    one(group, 0x17, 132)
}

fn one(group: IpAddr, igmp_kind: u8, mld_kind: u8) -> Vec<u8> {
    match group {
        IpAddr::V4(group) => {
            let message = [&[igmp_kind, 0, 0, 0][..], &group.octets()].concat();
            igmp(V4, group, &message)
        }
        IpAddr::V6(group) => {
            let message = [&[mld_kind, 0, 0, 0, 0, 0, 0, 0][..], &group.octets()].concat();
            mld(V6, group, &message)
        }
    }
}

/// A report of IGMPv3 or MLDv2: kind, sources and auxiliary words of each record.
pub(crate) fn records(ipv6: bool, records: &[(u8, u16, u8, IpAddr)]) -> Vec<u8> {
    let kind = if ipv6 { 143 } else { 0x22 };
    let mut message = vec![kind, 0, 0, 0, 0, 0];
    message.extend((records.len() as u16).to_be_bytes());
    for (kind, sources, auxiliary, group) in records {
        message.extend([*kind, *auxiliary]);
        message.extend(sources.to_be_bytes());
        match group {
            IpAddr::V4(group) => message.extend(group.octets()),
            IpAddr::V6(group) => message.extend(group.octets()),
        }
        let width = if ipv6 { 16 } else { 4 };
        let rest = usize::from(*sources) * width + usize::from(*auxiliary) * 4;
        message.resize(message.len() + rest, 0xa5);
    }
    if ipv6 {
        mld(V6, Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16), &message)
    } else {
        igmp(V4, Ipv4Addr::new(224, 0, 0, 22), &message)
    }
}
