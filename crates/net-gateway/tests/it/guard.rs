//! What a guest may not say to another, in every hiding place that guards are known to miss.

use std::net::Ipv6Addr;

use net_datapath::{VirtioNetHdr, ZeroCopyPacket};
use net_gateway::Gateway;
use net_wire::ethernet::EtherType;
use net_wire::{MacAddr, icmpv6, ip_proto, udp};

use crate::ipv6::{
    ALL_NODES, GATEWAY, GUEST, MAC, OUTSIDE, gateway, ip_frame, link_local, message, neighbour,
};

const TO_ALL: MacAddr = MacAddr([0x33, 0x33, 0, 0, 0, 1]);

fn passes(frame: &[u8]) -> bool {
    let packet = ZeroCopyPacket::from_slice(frame, VirtioNetHdr::PLAIN).unwrap();
    gateway(1500).may_pass(&packet)
}

/// A packet of a guest to all others.
fn to_all(next_header: u8, payload: &[u8]) -> Vec<u8> {
    let ends = (link_local(MAC), ALL_NODES);
    ip_frame((MAC, TO_ALL), ends, next_header, 255, payload)
}

fn advertisement() -> Vec<u8> {
    let ends = (link_local(MAC), ALL_NODES);
    message(ends, icmpv6::ROUTER_ADVERT, 0x4000_0708, &[0; 8])
}

/// An extension header of `words` times eight bytes.
fn extension(next: u8, words: usize) -> Vec<u8> {
    let mut header = vec![0; words * 8];
    header[..2].copy_from_slice(&[next, (words - 1) as u8]);
    header
}

fn fragment(next: u8, offset: u16, more: bool, data: &[u8]) -> Vec<u8> {
    let bits = (offset | u16::from(more)).to_be_bytes();
    [&[next, 0, bits[0], bits[1], 0, 0, 0, 9], data].concat()
}

fn tagged(frame: &[u8], tags: &[[u8; 4]]) -> Vec<u8> {
    [&frame[..12], &tags.concat(), &frame[12..]].concat()
}

/// What is not looked into would pass, whatever is in it: a head of nothing but a type field, and one
/// that is all there with anything behind it.
#[test]
fn what_is_not_looked_into_passes() {
    for kind in 0..=u16::MAX {
        if Gateway::looks_into(EtherType(kind)) {
            continue;
        }
        for version in 0..=15u8 {
            let mut frame = to_all(ip_proto::ICMPV6, &advertisement());
            frame[12..14].copy_from_slice(&kind.to_be_bytes());
            frame[14] = version << 4 | 5;
            assert!(passes(&frame) && passes(&frame[..14]), "{kind:#06x}");
        }
    }
    let looked_into = [
        EtherType::IPV6,
        EtherType::VLAN,
        EtherType::QINQ,
        EtherType(0x40),
    ];
    assert!(looked_into.into_iter().all(Gateway::looks_into));
}

#[test]
fn row62_a_guests_advertisement_does_not_pass() {
    assert!(!passes(&to_all(ip_proto::ICMPV6, &advertisement())));
    // To one victim, in whatever shape: the guard does not ask who would believe it.
    let ends = (GUEST, OUTSIDE);
    let bytes = message(ends, icmpv6::ROUTER_ADVERT, 0, &[0; 8]);
    let victim = MacAddr([2, 0, 0, 0, 0, 9]);
    assert!(!passes(&ip_frame(
        (MAC, victim),
        ends,
        ip_proto::ICMPV6,
        3,
        &bytes
    )));
    let redirect = message(ends, icmpv6::REDIRECT, 0, &[0; 32]);
    assert!(!passes(&ip_frame(
        (MAC, victim),
        ends,
        ip_proto::ICMPV6,
        255,
        &redirect
    )));
    let packet = to_all(ip_proto::ICMPV6, &advertisement());
    let packet = ZeroCopyPacket::from_slice(&packet, VirtioNetHdr::PLAIN).unwrap();
    let mut gateway = gateway(1500);
    gateway.may_pass(&packet);
    assert_eq!(gateway.statistics().forged, 1);
}

#[test]
fn rfc7113_extension_headers_hide_nothing() {
    for kind in [
        ip_proto::HOP_BY_HOP,
        ip_proto::IPV6_OPTS,
        ip_proto::IPV6_ROUTE,
    ] {
        for words in 1..6 {
            let chain = [extension(ip_proto::ICMPV6, words), advertisement()].concat();
            assert!(!passes(&to_all(kind, &chain)), "{kind} {words}");
        }
        // Longer than what is looked at: not followed, not let through.
        let chain = [extension(ip_proto::ICMPV6, 20), advertisement()].concat();
        assert!(!passes(&to_all(kind, &chain)), "{kind}");
    }
    let many: Vec<u8> = (0..12)
        .flat_map(|_| extension(ip_proto::IPV6_OPTS, 1))
        .chain(extension(ip_proto::ICMPV6, 1))
        .chain(advertisement())
        .collect();
    assert!(!passes(&to_all(ip_proto::IPV6_OPTS, &many)));
}

#[test]
fn rfc7113_fragments_hide_nothing() {
    let whole = fragment(ip_proto::ICMPV6, 0, false, &advertisement());
    assert!(!passes(&to_all(ip_proto::IPV6_FRAGMENT, &whole)), "atomic");
    let first = fragment(ip_proto::ICMPV6, 0, true, &advertisement());
    assert!(!passes(&to_all(ip_proto::IPV6_FRAGMENT, &first)));
    // The message begins in the second fragment: the first has an incomplete chain.
    let options = extension(ip_proto::ICMPV6, 4);
    let first = fragment(ip_proto::IPV6_OPTS, 0, true, &options[..8]);
    assert!(!passes(&to_all(ip_proto::IPV6_FRAGMENT, &first)));
    let first = fragment(ip_proto::IPV6_OPTS, 0, true, &options);
    assert!(!passes(&to_all(ip_proto::IPV6_FRAGMENT, &first)));
    // What follows is nothing without it, and passes.
    let later = fragment(ip_proto::IPV6_OPTS, 8, false, &options[8..]);
    assert!(passes(&to_all(ip_proto::IPV6_FRAGMENT, &later)));
}

/// CVE-2021-27853, CVE-2021-27854, CVE-2021-27861, CVE-2021-27862.
#[test]
fn tags_and_snap_hide_nothing() {
    let bare = to_all(ip_proto::ICMPV6, &advertisement());
    const PRIORITY: [u8; 4] = [0x81, 0, 0xe0, 0];
    const SERVICE: [u8; 4] = [0x88, 0xa8, 0, 0];
    const VLAN_7: [u8; 4] = [0x81, 0, 0, 7];
    for tags in [
        &[PRIORITY][..],
        &[SERVICE],
        &[VLAN_7],
        &[PRIORITY, PRIORITY],
        &[PRIORITY, PRIORITY, PRIORITY],
        &[SERVICE, VLAN_7],
    ] {
        assert!(!passes(&tagged(&bare, tags)), "{tags:?}");
    }
    let snap = [0xaa, 0xaa, 3, 0, 0, 0];
    for tags in [&[][..], &[PRIORITY]] {
        let mut frame = tagged(&bare, tags);
        let at = 12 + tags.len() * 4;
        let len = (frame.len() - at + 6) as u16;
        frame.splice(at..at, [&len.to_be_bytes()[..], &snap].concat());
        assert!(!passes(&frame), "{tags:?}");
    }
    // The spanning tree's LLC frames are no SNAP.
    let mut bpdu = vec![0; 60];
    bpdu[12..17].copy_from_slice(&[0, 38, 0x42, 0x42, 3]);
    assert!(passes(&bpdu));
}

#[test]
fn nobody_speaks_as_the_gateway() {
    let own = gateway(1500).link_local().unwrap();
    let victim = MacAddr([2, 0, 0, 0, 0, 9]);
    let frame = |src: Ipv6Addr, kind, target| {
        let ends = (src, GUEST);
        let bytes = neighbour(ends, kind, 0x6000_0000, target, Some(MAC));
        ip_frame((MAC, victim), ends, ip_proto::ICMPV6, 255, &bytes)
    };
    let (asks, tells) = (icmpv6::NEIGHBOR_SOLICIT, icmpv6::NEIGHBOR_ADVERT);
    for forged in [
        frame(link_local(MAC), tells, GATEWAY),
        frame(link_local(MAC), tells, own),
        frame(GATEWAY, asks, GUEST),
        frame(own, asks, GUEST),
    ] {
        assert!(!passes(&forged));
    }
    assert!(passes(&frame(link_local(MAC), tells, GUEST)));
    assert!(passes(&frame(link_local(MAC), asks, GATEWAY)));
    // RFC 7610: only servers send to a DHCPv6 client.
    for (port, pass) in [(546, false), (547, true), (5353, true)] {
        let mut bytes = vec![0; 12];
        udp::emit(&mut bytes, 547, port, 4, 0);
        assert_eq!(passes(&to_all(ip_proto::UDP, &bytes)), pass, "{port}");
    }
}

#[test]
fn everything_else_passes() {
    let ends = (GUEST, OUTSIDE);
    let ping = message(ends, icmpv6::ECHO_REQUEST, 1, &[0; 8]);
    let victim = MacAddr([2, 0, 0, 0, 0, 9]);
    assert!(passes(&ip_frame(
        (MAC, victim),
        ends,
        ip_proto::ICMPV6,
        64,
        &ping
    )));
    assert!(passes(&to_all(59, &[])));
    for kind in [[8, 0], [8, 6], [0x88, 0xcc], [0x88, 0x8e]] {
        let mut frame = vec![0; 60];
        frame[12..14].copy_from_slice(&kind);
        assert!(passes(&frame), "{kind:x?}");
    }
}
