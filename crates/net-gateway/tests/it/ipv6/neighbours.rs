//! Neighbour discovery with the gateway, and the addresses a guest may have.

use super::*;

#[test]
fn row62_the_gateway_is_found_under_both_its_addresses() {
    let mut gateway = gateway(1500);
    let own = gateway.link_local().unwrap();
    assert_eq!(own, link_local(gateway.config().mac));
    for target in [GATEWAY, own] {
        let (verdict, frames) = hand(&mut gateway, PORT, &solicit(MAC, GUEST, target));
        assert_eq!((verdict, frames.len()), (Verdict::Answered, 1));
        let (packet, view) = icmp(&frames[0]);
        assert_eq!((packet.src(), packet.dst()), (target, GUEST));
        assert_eq!(packet.hop_limit(), 255);
        assert_eq!(view.kind(), icmpv6::NEIGHBOR_ADVERT);
        assert_eq!(view.rest(), 0xe000_0000, "router, solicited, override");
        assert_eq!(view.ndp_target(), Some(target));
        assert_eq!(view.ndp_link_address(2), Some(gateway.config().mac));
        assert_eq!(frames[0][..6], MAC.0);
    }
    assert_eq!(gateway.neighbour(GUEST).unwrap().mac, MAC);
    // Somebody else's address is somebody else's to answer for.
    let other = Ipv6Addr::from_bits(GUEST.to_bits() + 1);
    assert!(
        hand(&mut gateway, PORT, &solicit(MAC, GUEST, other))
            .1
            .is_empty()
    );
}

#[test]
fn row62_a_guest_that_wants_the_gateways_address_is_told_it_is_taken() {
    let mut gateway = gateway(1500);
    for target in [GATEWAY, gateway.link_local().unwrap()] {
        let (_, frames) = hand(&mut gateway, PORT, &solicit(MAC, NOBODY, target));
        let (packet, view) = icmp(&frames[0]);
        assert_eq!(packet.dst(), ALL_NODES);
        assert_eq!(frames[0][..6], [0x33, 0x33, 0, 0, 0, 1]);
        assert_eq!(view.rest(), 0xa000_0000, "router, override, not solicited");
        assert_eq!(view.ndp_target(), Some(target));
    }
    // To ask whether an address is free is not to have it.
    hand(&mut gateway, PORT, &solicit(MAC, NOBODY, GUEST));
    assert_eq!(gateway.neighbour(GUEST), None);
}

/// RFC 4861, sections 7.1.1 and 7.1.2, check by check; RFC 6980.
#[test]
fn row62_what_is_no_valid_message_of_a_neighbour_is_ignored() {
    let good = solicit(MAC, GUEST, GATEWAY);
    let ends = (GUEST, GATEWAY);
    let with = |hop_limit, bytes: &[u8]| {
        ip_frame((MAC, GATEWAY_MAC), ends, ip_proto::ICMPV6, hop_limit, bytes)
    };
    let asks = |mac| neighbour(ends, icmpv6::NEIGHBOR_SOLICIT, 0, GATEWAY, mac);
    let tells = |flags, target| neighbour(ends, icmpv6::NEIGHBOR_ADVERT, flags, target, Some(MAC));
    let options = |tail: &[u8]| {
        let data = [&GATEWAY.octets()[..], tail].concat();
        with(255, &message(ends, icmpv6::NEIGHBOR_SOLICIT, 0, &data))
    };
    let mut bad_checksum = good.clone();
    bad_checksum[57] ^= 1;
    let mut code = asks(Some(MAC));
    code[1] = 1;
    let pseudo = checksum::pseudo_v6(GUEST, GATEWAY, ip_proto::ICMPV6, code.len());
    code[2..4].fill(0);
    let sum = (pseudo + checksum::sum(&code)).finish();
    code[2..4].copy_from_slice(&sum.to_be_bytes());
    let atomic = [
        &[ip_proto::ICMPV6, 0, 0, 0, 0, 0, 0, 9][..],
        &asks(Some(MAC)),
    ]
    .concat();
    let to_group = |src, mac| {
        let ends = (src, ALL_NODES);
        let bytes = neighbour(ends, icmpv6::NEIGHBOR_SOLICIT, 0, GATEWAY, mac);
        ip_frame(
            (MAC, MacAddr([0x33, 0x33, 0, 0, 0, 1])),
            ends,
            ip_proto::ICMPV6,
            255,
            &bytes,
        )
    };
    let loud = (GUEST, ALL_NODES);
    let solicited_to_all = neighbour(loud, icmpv6::NEIGHBOR_ADVERT, 1 << 30, GUEST, Some(MAC));
    for (what, frame) in [
        ("hop limit", with(254, &asks(Some(MAC)))),
        ("checksum", bad_checksum),
        ("code", with(255, &code)),
        (
            "length",
            with(255, &message(ends, icmpv6::NEIGHBOR_SOLICIT, 0, &[0; 15])),
        ),
        ("multicast target", with(255, &tells(0, ALL_NODES))),
        ("option of length zero", options(&[1, 0, 2, 0, 0, 0, 0, 1])),
        ("option past the end", options(&[1, 2, 2, 0, 0, 0, 0, 1])),
        ("half an option", options(&[1])),
        (
            "fragment header",
            ip_frame(
                (MAC, GATEWAY_MAC),
                ends,
                ip_proto::IPV6_FRAGMENT,
                255,
                &atomic,
            ),
        ),
        ("detection to all nodes", to_group(NOBODY, None)),
        (
            "solicited advertisement to all",
            ip_frame(
                (MAC, MacAddr([0x33, 0x33, 0, 0, 0, 1])),
                loud,
                ip_proto::ICMPV6,
                255,
                &solicited_to_all,
            ),
        ),
    ] {
        let mut gateway = gateway(1500);
        let (verdict, frames) = hand(&mut gateway, PORT, &frame);
        assert_eq!(verdict, Verdict::Dropped(DropReason::Malformed), "{what}");
        assert!(frames.is_empty(), "{what}");
        assert_eq!(gateway.neighbour(GUEST), None, "{what}");
    }
    // Reassembled, it looks like any other.
    let mut gateway = gateway(1500);
    let packet = ZeroCopyPacket::from_slice(&good, VirtioNetHdr::PLAIN).unwrap();
    let verdict = gateway.ingress_reassembled(PORT, &packet, NOW, &mut Vec::new());
    assert_eq!(verdict, Verdict::Dropped(DropReason::Malformed));
    assert_eq!(hand(&mut gateway, PORT, &good).0, Verdict::Answered);
}

#[test]
fn row68_a_guest_is_held_to_its_own_ipv6_addresses() {
    let mut gateway = gateway(1500);
    let own = gateway.link_local().unwrap();
    hand(&mut gateway, PORT, &echo(MAC, GUEST, GATEWAY, 8));
    let dropped = |reason| (Verdict::Dropped(reason), Vec::new());
    for (what, frame, reason) in [
        (
            "another's",
            echo(OTHER, GUEST, GATEWAY, 8),
            DropReason::Spoofed,
        ),
        (
            "another's, by asking",
            solicit(OTHER, GUEST, GATEWAY),
            DropReason::Spoofed,
        ),
        (
            "the gateway's",
            echo(OTHER, GATEWAY, GUEST, 8),
            DropReason::Spoofed,
        ),
        (
            "the gateway's link-local",
            echo(OTHER, own, OUTSIDE, 8),
            DropReason::Spoofed,
        ),
        (
            "outside",
            echo(OTHER, OUTSIDE, GATEWAY, 8),
            DropReason::Foreign,
        ),
        (
            "the prefix's anycast",
            echo(OTHER, PREFIX, GATEWAY, 8),
            DropReason::Foreign,
        ),
        (
            "nobody's",
            echo(OTHER, NOBODY, GATEWAY, 8),
            DropReason::NotForUs,
        ),
        (
            "loopback",
            echo(OTHER, Ipv6Addr::LOCALHOST, GATEWAY, 8),
            DropReason::Foreign,
        ),
        (
            "a group",
            echo(OTHER, ALL_NODES, GATEWAY, 8),
            DropReason::Malformed,
        ),
        (
            "another's hardware address",
            {
                let mut frame = solicit(MAC, Ipv6Addr::from_bits(GUEST.to_bits() + 5), GATEWAY);
                frame[6..12].copy_from_slice(&OTHER.0);
                frame
            },
            DropReason::Spoofed,
        ),
    ] {
        assert_eq!(hand(&mut gateway, 2, &frame), dropped(reason), "{what}");
    }
    assert_eq!(gateway.neighbour(GUEST).unwrap().port, PORT);
    // An address tied to another port, before its guest has said a word.
    let kept = Ipv6Addr::from_bits(GUEST.to_bits() + 1);
    gateway.assign6(7, kept, MAC, NOW);
    assert_eq!(
        hand(&mut gateway, 2, &echo(OTHER, kept, GATEWAY, 8)),
        dropped(DropReason::Spoofed)
    );
    gateway.port_closed(PORT, NOW, &mut Vec::new());
    assert_eq!(
        hand(&mut gateway, 2, &echo(OTHER, GUEST, GATEWAY, 8)).0,
        Verdict::Answered
    );
}

#[test]
fn temporary_addresses_come_and_go_within_a_bound() {
    let mut gateway = gateway(1500);
    let nth = |n: u128| Ipv6Addr::from_bits(PREFIX.to_bits() + 0x1_0000 + n);
    hand(&mut gateway, 2, &echo(OTHER, GUEST, GATEWAY, 8));
    for n in 0..5000 {
        let (verdict, _) = hand(&mut gateway, PORT, &echo(MAC, nth(n), GATEWAY, 8));
        assert_eq!(verdict, Verdict::Answered, "{n}");
    }
    let known = (0..5000).filter(|n| gateway.neighbour(nth(*n)).is_some());
    assert_eq!(known.count(), gateway.config().addresses_per_port);
    assert!(gateway.neighbour(GUEST).is_some(), "nobody else's goes");
}
