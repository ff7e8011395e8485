//! The uplink as a station of its link: addresses that are tried, neighbours, routers.

use std::net::Ipv6Addr;

use net_dhcp::ra::Preference;
use net_wire::icmpv6::{self, NEIGHBOR_ADVERT, NEIGHBOR_SOLICIT, ROUTER_SOLICIT};
use net_wire::ndp::{self, ALL_NODES, Neighbour, OVERRIDE, ROUTER, SOLICITED};

use super::six_frames::*;
use super::*;

const PEER_MAC: MacAddr = MacAddr([2, 0, 0, 0, 1, 7]);

/// The frames among these of one type.
fn of_kind(frames: &[Frame], kind: u8) -> Vec<Frame> {
    let of_kind = frames.iter().filter(|frame| frame.kind6() == Some(kind));
    of_kind.cloned().collect()
}

fn said_no_ipv6(world: &mut World) -> Option<String> {
    world.worker.status().no_ipv6
}

#[test]
fn addresses_are_tried_then_told_and_answered_for() {
    let mut world = World::with(1, 1500, true, |config| {
        config.ipv6 = true;
        config.subnet6 = Some(PREFIX.parse().unwrap());
        let uplink = config.uplink.as_mut().unwrap();
        uplink.outside6 = Some("2001:db8::9/64".parse().unwrap());
        uplink.via6 = Some(ROUTER6);
    });
    assert!(said_no_ipv6(&mut world).unwrap().contains("being tried"));
    // What went out first was taken by the world; the interface comes anew.
    world.unplug();
    assert!(said_no_ipv6(&mut world).unwrap().contains("away"));
    world.plug(capabilities());
    world.pass(1);
    let said = world.outside();
    let tried = of_kind(&said, NEIGHBOR_SOLICIT);
    let targets: Vec<_> = tried.iter().map(|frame| frame.neighbour()).collect();
    assert_eq!(targets.len(), 2);
    for (frame, target) in tried.iter().zip([own_link_local(), OUTSIDE6]) {
        assert_eq!(frame.neighbour().target, target);
        assert_eq!(frame.neighbour().mac, None);
        assert!(frame.ip6().src().is_unspecified());
        assert_eq!(frame.ip6().dst(), ndp::solicited_node(target));
        assert_eq!(frame.dst_mac(), ndp::group_mac(ndp::solicited_node(target)));
    }
    assert_eq!(of_kind(&said, 143).len(), 1);
    // Nobody is answered before it is ours.
    world.outside_sends(&solicit(ROUTER6, OUTSIDE6));
    assert!(of_kind(&world.outside(), NEIGHBOR_ADVERT).is_empty());
    world.pass(1);
    let told = of_kind(&world.outside(), NEIGHBOR_ADVERT);
    assert_eq!(told.len(), 1);
    let expected = Neighbour {
        kind: NEIGHBOR_ADVERT,
        flags: OVERRIDE,
        target: OUTSIDE6,
        mac: Some(OUTSIDE_MAC),
    };
    assert_eq!(told[0].neighbour(), expected);
    assert_eq!(told[0].ip6().dst(), ALL_NODES);
    assert_eq!(said_no_ipv6(&mut world), None);

    for target in [OUTSIDE6, own_link_local()] {
        world.outside_sends(&solicit(ROUTER6, target));
        let told = world.outside();
        assert_eq!(told.len(), 1);
        let expected = Neighbour {
            flags: SOLICITED | OVERRIDE,
            target,
            ..expected
        };
        assert_eq!(told[0].neighbour(), expected);
        assert_eq!(
            (told[0].ip6().src(), told[0].ip6().dst()),
            (target, ROUTER6)
        );
        assert_eq!(told[0].dst_mac(), ROUTER_MAC);
    }
    // Somebody else tries it: everybody is told.
    world.outside_sends(&solicit(Ipv6Addr::UNSPECIFIED, OUTSIDE6));
    let told = world.outside();
    assert_eq!(told[0].neighbour().flags, OVERRIDE);
    assert_eq!(told[0].ip6().dst(), ALL_NODES);
    // Nobody asks for a neighbour's.
    world.outside_sends(&solicit(ROUTER6, NEAR6));
    assert!(world.outside().is_empty());
}

#[test]
fn an_address_that_somebody_has_is_left_to_him_and_tried_again() {
    let mut world = World::six(1, Some(ROUTER6));
    world.outside_sends(&advert(OUTSIDE6, OVERRIDE, Some(ROUTER_MAC)));
    world.pass(2);
    assert!(said_no_ipv6(&mut world).unwrap().contains("another host"));
    world.outside();
    world.guest_sends(0, &udp_out(0, 5000, at(FAR6, 7000), b"x"));
    assert!(world.outside().is_empty());
    let (kind, code, ..) = world.guest6(0)[0].icmp6();
    assert_eq!((kind, code), (icmpv6::UNREACHABLE, 0));
    world.outside_sends(&solicit(ROUTER6, OUTSIDE6));
    world.outside_sends(&udp_in(at(FAR6, 7000), 5000, b"x"));
    assert!(world.outside().is_empty());
    world.pass(60);
    assert_eq!(of_kind(&world.outside(), NEIGHBOR_SOLICIT).len(), 2);
    world.pass(2);
    assert_eq!(said_no_ipv6(&mut world), None);
    // Whoever claims it later is answered, not too often.
    world.outside();
    for _ in 0..5 {
        world.outside_sends(&advert(OUTSIDE6, OVERRIDE, Some(ROUTER_MAC)));
    }
    assert_eq!(of_kind(&world.outside(), NEIGHBOR_ADVERT).len(), 1);
    assert_eq!(said_no_ipv6(&mut world), None);
}

#[test]
fn a_packet_waits_for_its_neighbour_and_its_sender_hears_of_a_silent_one() {
    let mut world = World::six(1, Some(ROUTER6));
    world.pass(1);
    world.outside();
    world.guest_sends(0, &udp_out(0, 5000, at(NEAR6, 7000), b"hello"));
    let asked = world.outside();
    assert_eq!(asked.len(), 1);
    let group = ndp::solicited_node(NEAR6);
    assert_eq!(asked[0].neighbour().target, NEAR6);
    assert_eq!(asked[0].neighbour().mac, Some(OUTSIDE_MAC));
    assert_eq!(
        (asked[0].ip6().src(), asked[0].ip6().dst()),
        (OUTSIDE6, group)
    );
    assert_eq!(asked[0].dst_mac(), ndp::group_mac(group));
    for _ in 0..4 {
        world.now += Duration::from_millis(1_050);
        world.turn();
    }
    assert_eq!(of_kind(&world.outside(), NEIGHBOR_SOLICIT).len(), 2);
    let told = world.guest6(0);
    assert_eq!(told.len(), 1);
    let (kind, code, _, quoted) = told[0].icmp6();
    assert_eq!((kind, code), (icmpv6::UNREACHABLE, 3));
    // The packet as the guest sent it, bit for bit.
    let sent = udp_out(0, 5000, at(NEAR6, 7000), b"hello");
    assert_eq!(quoted, sent.bytes[14..]);
    assert_eq!(told[0].ip6().src(), GATEWAY6);

    world.guest_sends(0, &sent);
    world.answers(NEAR6);
    let sent = world.outside6();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].dst_mac(), ROUTER_MAC);
    assert_eq!(sent[0].ends6().1, at(NEAR6, 7000));
}

/// RFC 4861, section 7.2.5.
#[test]
fn what_a_neighbour_tells_is_believed_as_far_as_it_goes() {
    let flags = SOLICITED | OVERRIDE;
    let good = advert(NEAR6, flags, Some(ROUTER_MAC));
    let other_mac = {
        // The option names another station than the frame comes from.
        advert(NEAR6, flags, Some(PEER_MAC))
    };
    let mut broken = good.clone();
    broken.bytes[14 + 40 + 2] ^= 1;
    let mut zero_option = good.clone();
    zero_option.bytes[14 + 40 + 25] = 0;
    let mut from_a_group = good.clone();
    from_a_group.bytes[6] |= 1;
    for (what, frame) in [
        ("hop limit", good.clone().with_hops(254)),
        ("checksum", broken),
        ("no address", advert(NEAR6, flags, None)),
        ("another's address", other_mac),
        ("an option without length", zero_option),
        ("from a group", from_a_group),
        ("for another", advert(FAR6, flags, Some(ROUTER_MAC))),
    ] {
        let mut world = World::six(1, Some(ROUTER6));
        world.pass(1);
        world.guest_sends(0, &udp_out(0, 5000, at(NEAR6, 7000), b"x"));
        world.outside_sends(&frame);
        assert!(world.outside6().is_empty(), "{what}");
        world.outside_sends(&good);
        assert_eq!(world.outside6().len(), 1, "{what}");

        // Without the override flag another address is not taken, with it it is.
        let mut moved = advert(NEAR6, 0, Some(PEER_MAC));
        moved.bytes[6..12].copy_from_slice(&PEER_MAC.0);
        world.outside_sends(&moved);
        world.guest_sends(0, &udp_out(0, 5000, at(NEAR6, 7000), b"x"));
        assert_eq!(world.outside6()[0].dst_mac(), ROUTER_MAC);
        let mut moved = advert(NEAR6, OVERRIDE | ROUTER, Some(PEER_MAC));
        moved.bytes[6..12].copy_from_slice(&PEER_MAC.0);
        world.outside_sends(&moved);
        world.guest_sends(0, &udp_out(0, 5000, at(NEAR6, 7000), b"x"));
        // It is used, and asked whether it hears us.
        let sent = world.outside();
        let asked = of_kind(&sent, NEIGHBOR_SOLICIT);
        assert_eq!((asked.len(), asked[0].dst_mac()), (1, PEER_MAC));
        assert_eq!(asked[0].ip6().dst(), NEAR6);
    }
}

#[test]
fn a_router_that_advertises_itself_is_used_until_it_is_silent() {
    let mut world = World::six(1, None);
    world.guest(0);
    world.pass(1);
    let asked = of_kind(&world.outside(), ROUTER_SOLICIT);
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].ip6().src(), own_link_local());
    assert_eq!(asked[0].ip6().hop_limit(), 255);
    assert_eq!(asked[0].icmp6().3, [&[1, 1][..], &OUTSIDE_MAC.0].concat());
    world.pass(4);
    assert_eq!(of_kind(&world.outside(), ROUTER_SOLICIT).len(), 1);
    assert!(said_no_ipv6(&mut world).unwrap().contains("no router"));
    world.pass(20);
    assert_eq!(told_lifetime(&mut world), Some(0));
    world.guest_sends(0, &udp_out(0, 5000, at(FAR6, 7000), b"x"));
    let (kind, code, ..) = world.guest6(0)[0].icmp6();
    assert_eq!((kind, code), (icmpv6::UNREACHABLE, 0));

    let life = Duration::from_secs(1800);
    let second = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);
    world.outside_sends(&router_advert(ROUTER6, |config| {
        config.router_lifetime = life;
        config.preference = Preference::High;
        config.link_address = Some(ROUTER_MAC.0);
    }));
    world.outside_sends(&router_advert(second, |config| {
        config.router_lifetime = life
    }));
    assert_eq!(said_no_ipv6(&mut world), None);
    assert_eq!(world.status().router6, Some(ROUTER6));
    // Guests are told.
    world.pass(20);
    assert!(told_lifetime(&mut world).is_some_and(|seconds| seconds > 0));
    world.outside();
    world.guest_sends(0, &udp_out(0, 5000, at(FAR6, 7000), b"x"));
    let asked = of_kind(&world.outside(), NEIGHBOR_SOLICIT);
    assert_eq!(asked[0].neighbour().target, ROUTER6);
    assert_eq!(asked[0].ip6().src(), own_link_local());
    // Nobody answers: the other one is next.
    world.pass(4);
    world.guest6(0);
    assert_eq!(world.status().router6, Some(second));
    world.outside();
    world.guest_sends(0, &udp_out(0, 5000, at(FAR6, 7000), b"x"));
    world.answers(second);
    assert_eq!(world.outside6().len(), 1);
    // Whoever says that it forwards no more is none from then on.
    let third = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 3);
    world.outside_sends(&router_advert(third, |config| {
        config.preference = Preference::High;
        config.router_lifetime = Duration::from_secs(1700);
    }));
    assert_eq!(world.status().router6, Some(third));
    world.guest_sends(0, &udp_out(0, 5000, at(FAR6, 7000), b"x"));
    world.outside_sends(&advert(third, SOLICITED | OVERRIDE, Some(ROUTER_MAC)));
    assert_eq!(world.status().router6, Some(second));
    // Their time ends, and others are asked for.
    world.pass(1780);
    assert_eq!(world.status().router6, None);
    assert!(!of_kind(&world.outside(), ROUTER_SOLICIT).is_empty());
    assert_eq!(told_lifetime(&mut world), Some(0));
}

/// The lifetime in the last advertisement that guests have heard from the gateway.
fn told_lifetime(world: &mut World) -> Option<u16> {
    let heard = world.guest(0);
    let last = of_kind(&heard, icmpv6::ROUTER_ADVERT).pop()?;
    Some(last.icmp6().2 as u16)
}

#[test]
fn advertisements_that_are_none_make_no_router() {
    let mut world = World::six(1, None);
    world.pass(1);
    let good = router_advert(ROUTER6, |_| {});
    let mut broken = good.clone();
    broken.bytes[14 + 40 + 2] ^= 1;
    let mut tagged = good.clone();
    tagged.bytes.splice(12..12, [0x81, 0, 0, 5]);
    let other_mac = router_advert(ROUTER6, |config| config.link_address = Some(PEER_MAC.0));
    for (what, frame) in [
        ("hop limit", good.clone().with_hops(254)),
        ("checksum", broken),
        ("global source", router_advert(NEAR6, |_| {})),
        ("tag", tagged),
        ("another's address", other_mac),
        (
            "no lifetime",
            router_advert(ROUTER6, |it| it.router_lifetime = Duration::ZERO),
        ),
    ] {
        world.outside_sends(&frame);
        assert_eq!(world.status().router6, None, "{what}");
    }
    world.outside_sends(&good);
    assert_eq!(world.status().router6, Some(ROUTER6));
    // With a router of the user's choice, nobody else's word counts.
    let mut world = World::six(1, Some(NEAR6));
    world.pass(1);
    world.outside_sends(&good);
    assert_eq!(world.status().router6, Some(NEAR6));
}

/// RFC 4861, section 6.3.4: what the router says of the link holds, within reason.
#[test]
fn the_link_s_mtu_is_the_router_s_word() {
    let mut world = World::six(1, None);
    world.pass(1);
    let mut too_big = |told: u32, len: usize| {
        world.outside_sends(&router_advert(ROUTER6, |config| {
            config.mtu = Some(told.max(1280));
            config.link_address = Some(ROUTER_MAC.0);
        }));
        world.guest_sends(0, &udp_out(0, 5000, at(FAR6, 7000), &vec![0; len - 48]));
        world.answers(ROUTER6);
        let (out, told) = (world.outside6(), world.guest6(0));
        match (&out[..], &told[..]) {
            ([_], []) => None,
            ([], [error]) => {
                let (kind, code, mtu, _) = error.icmp6();
                assert_eq!((kind, code), (icmpv6::PACKET_TOO_BIG, 0));
                Some(mtu)
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(too_big(9000, 1500), None);
    assert_eq!(too_big(1400, 1400), None);
    assert_eq!(too_big(1400, 1401), Some(1400));
    assert_eq!(too_big(1500, 1500), None);
}

#[test]
fn who_asks_for_listeners_hears_ours_once_a_second() {
    let mut world = World::six(1, Some(ROUTER6));
    world.pass(1);
    world.outside();
    let query = icmp((ROUTER6, ALL_NODES), 1, (130, 0, 0), &[0; 20]);
    for _ in 0..10 {
        world.outside_sends(&to_group(ALL_NODES, &query));
    }
    let far = icmp((ROUTER6, ALL_NODES), 64, (130, 0, 0), &[0; 20]);
    world.pass(1);
    world.outside_sends(&to_group(ALL_NODES, &far));
    let said = world.outside();
    assert_eq!(said.len(), 1);
    let (kind, _, groups, data) = said[0].icmp6();
    assert_eq!((kind, groups), (143, 2));
    assert_eq!(data[4..20], ndp::solicited_node(own_link_local()).octets());
    assert_eq!(data[24..40], ndp::solicited_node(OUTSIDE6).octets());
}
