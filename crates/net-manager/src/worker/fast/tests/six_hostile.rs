//! Guests and strangers that mean harm, over IPv6.

use std::net::{Ipv6Addr, SocketAddrV6};

use net_wire::icmpv6;
use net_wire::ndp::{self, ALL_NODES, Neighbour, OVERRIDE};

use super::hostile::{Random, damage};
use super::six_frames::*;
use super::*;

const PEER: SocketAddrV6 = SocketAddrV6::new(FAR6, 7000, 0, 0);

#[test]
fn what_no_router_carries_stays() {
    let mut world = World::connected6(1, 1500);
    for dst in [
        "fe80::1",
        "ff02::1",
        "ff0e::1",
        "fd00:1::77",
        "::1",
        "::",
        "::ffff:192.0.2.1",
    ] {
        let dst: Ipv6Addr = dst.parse().unwrap();
        world.guest_sends(0, &udp_out(0, 5000, at(dst, 7000), b"no"));
        assert!(world.outside().is_empty(), "{dst}");
    }
    // From an address that is not the guest's to have.
    for src in ["fe80::9", "2001:db8::77", "fd00:2::1", "::"] {
        let src: Ipv6Addr = src.parse().unwrap();
        world.guest_sends(0, &out(0, &echo(src, FAR6)));
        assert!(world.outside().is_empty(), "{src}");
    }
}

/// Neighbour discovery of guests is the guests' link's, whatever its addresses are.
#[test]
fn guests_do_not_speak_on_the_link_outside() {
    let mut world = World::connected6(1, 1500);
    let claim = Neighbour {
        kind: icmpv6::NEIGHBOR_ADVERT,
        flags: OVERRIDE,
        target: OUTSIDE6,
        mac: Some(guest_mac(0)),
    };
    for dst in [ALL_NODES, NEAR6, FAR6, OUTSIDE6] {
        let packet = neighbour((guest6(0), dst), &claim);
        world.guest_sends(0, &out(0, &packet));
        let mut to_group = out(0, &packet);
        to_group.bytes[..6].copy_from_slice(&ndp::group_mac(ALL_NODES).0);
        world.guest_sends(0, &to_group);
    }
    for kind in [
        icmpv6::ROUTER_ADVERT,
        icmpv6::ROUTER_SOLICIT,
        icmpv6::REDIRECT,
    ] {
        for dst in [ALL_NODES, NEAR6, FAR6] {
            let packet = icmp((guest6(0), dst), 255, (kind, 0, 0x4000_0708), &[0; 32]);
            world.guest_sends(0, &out(0, &packet));
        }
    }
    assert!(world.outside().is_empty());
    assert_eq!(world.status().router6, Some(ROUTER6));
    world.guest_sends(0, &udp_out(0, 5000, PEER, b"x"));
    assert_eq!(world.outside()[0].dst_mac(), ROUTER_MAC);
}

#[test]
fn only_packets_for_us_come_in() {
    let mut world = World::connected6(1, 1500);
    world.guest_sends(0, &udp_out(0, 5000, PEER, b"x"));
    let port = world.outside()[0].ends6().0.port();
    let good = udp_in(PEER, port, b"x");
    let change = |at: usize, byte: u8| {
        let mut frame = good.clone();
        frame.bytes[at] ^= byte;
        frame
    };
    for (what, frame) in [
        ("another station's", change(5, 1)),
        ("a group's", change(0, 1)),
        ("from a group", change(6, 1)),
        ("another address", change(14 + 39, 1)),
    ] {
        world.outside_sends(&frame);
        assert!(world.guest6(0).is_empty(), "{what}");
    }
    for src in [
        guest6(0),
        OUTSIDE6,
        ROUTER6,
        Ipv6Addr::UNSPECIFIED,
        ALL_NODES,
    ] {
        world.outside_sends(&udp_in(at(src, 7000), port, b"x"));
        assert!(world.guest6(0).is_empty(), "{src}");
    }
    // To a guest itself, and what is of the link.
    world.outside_sends(&in_(&echo(FAR6, guest6(0))));
    world.outside_sends(&router_advert(ROUTER6, |_| {}));
    world.outside_sends(&in_(&icmp((ROUTER6, OUTSIDE6), 255, (137, 0, 0), &[0; 32])));
    assert!(world.guest6(0).is_empty());
    world.outside_sends(&good);
    assert_eq!(world.guest6(0).len(), 1);
}

#[test]
fn a_scan_of_the_outside_network_does_not_stop_the_neighbour() {
    let mut world = World::connected6(2, 1500);
    for last in 0x100..0x400 {
        let ip = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last);
        world.guest_sends(0, &udp_out(0, 5000, at(ip, 7000), b"scan"));
    }
    let asked = world.outside().len();
    assert!(asked <= 32, "{asked}");
    world.guest_sends(1, &udp_out(1, 5000, at(NEAR6, 7000), b"x"));
    world.answers(NEAR6);
    assert_eq!(world.outside6().len(), 1);
    world.pass(5);
    assert!(world.guest6(0).len() <= 300);
}

/// Neighbours nobody asked for and routers without end, from outside.
#[test]
fn strangers_fill_no_table() {
    let mut world = World::six(1, None);
    world.pass(1);
    for n in 1..2000u16 {
        let ip = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 1, n);
        world.outside_sends(&router_advert(ip, |_| {}));
        world.outside_sends(&advert(ip, OVERRIDE, Some(ROUTER_MAC)));
        world.outside_sends(&solicit(ip, OUTSIDE6));
        world.outside();
    }
    let first = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 1, 1);
    assert_eq!(world.status().router6, Some(first));
    // Nothing was learnt: the router is asked for.
    world.guest_sends(0, &udp_out(0, 5000, PEER, b"x"));
    let asked = world.outside();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].neighbour().target, first);
}

/// Frames of all kinds with flipped bits, cut and stretched, from both sides: nothing panics, the
/// tables stay sound, and nothing of IPv6 leaves but under the uplink's own addresses.
#[test]
fn nothing_sent_breaks_the_router() {
    let mut random = Random(0x6eed);
    let mut world = World::connected6(2, 1400);
    for round in 0..20_000u32 {
        if round % 64 == 0 {
            world.now += Duration::from_millis(random.below(3000) as u64);
        }
        let n = random.below(2);
        let port = 1 + random.below(59_999) as u16;
        let data = vec![0x55; random.below(1500)];
        let guest_sends = random.below(2) == 0;
        let mut frame = match (guest_sends, random.below(6)) {
            (true, 0) => udp_out(n, port, PEER, &data),
            (true, 1) => super_out(n, port, PEER, 9000, 1300),
            (true, 2) => out(n, &echo(guest6(n), FAR6)),
            (true, 3) => tcp_out(n, port, at(OUTSIDE6, 8080), 2, &data),
            (true, _) => tcp_out(n, port, PEER, 2, &data),
            (false, 0) => tcp_in(PEER, port, 2),
            (false, 1) => in_(&echo(FAR6, OUTSIDE6)),
            (false, 2) => solicit(ROUTER6, OUTSIDE6),
            (false, 3) => advert(ROUTER6, ndp::SOLICITED | OVERRIDE, Some(ROUTER_MAC)),
            (false, 4) => router_advert(ROUTER6, |config| config.mtu = Some(1300)),
            (false, _) => udp_in(PEER, port, &data),
        };
        damage(&mut frame, &mut random);
        if guest_sends {
            world.guest_sends(n, &frame);
        } else {
            world.outside_sends(&frame);
        }
        for frame in world.outside() {
            if frame.is_ipv6() {
                let src = Ipv6Addr::from(*frame.bytes[22..38].first_chunk::<16>().unwrap());
                assert!(
                    [OUTSIDE6, own_link_local(), Ipv6Addr::UNSPECIFIED].contains(&src),
                    "{frame:?}"
                );
            }
        }
        for n in 0..2 {
            for frame in world.guest6(n) {
                let routed = frame.is_ipv6() && frame.bytes[6..12] == GATEWAY_MAC.0;
                let other = guest6(1 - n).octets();
                assert!(!routed || frame.bytes[38..54] != other, "{frame:?}");
            }
        }
    }
    let packets = world.worker.core.uplink.packets().unwrap();
    packets.nat.validate().unwrap();
}
