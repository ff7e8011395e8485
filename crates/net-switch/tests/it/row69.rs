//! Row 69: IGMP and MLD snooping (RFC 4541), case by case.

use core::time::Duration;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use net_switch::{
    Config, MulticastRouter, PortConfig, SnoopConfig, Switch, UnknownGroups, VlanId, may_report,
};

use crate::group_packets::{
    V4, V6, data, group4, group6, igmp, leave, mld, query, records, report,
};
use crate::{NOW, with_config};

fn at(seconds: u64) -> Duration {
    NOW + Duration::from_secs(seconds)
}

fn snooping(change: impl FnOnce(&mut SnoopConfig), guests: u32) -> Switch {
    let mut config = Config::new([3; 16]);
    let mut snoop = SnoopConfig::default();
    change(&mut snoop);
    config.snooping = Some(snoop);
    with_config(config, guests)
}

/// Where a packet from a port goes, in order.
fn send(switch: &mut Switch, from: u32, packet: &[u8], now: Duration) -> Vec<u32> {
    let mut targets = switch.multicast_targets(from, packet, now);
    targets.sort_unstable();
    targets
}

/// Port 4 has asked for both families, and everybody has had the time to answer.
fn asked(switch: &mut Switch) -> Duration {
    for ipv6 in [false, true] {
        let everywhere = send(switch, 4, &query(ipv6, 100), NOW);
        assert!(everywhere.len() > 3, "a query goes everywhere");
    }
    at(10)
}

/// What Linux sends when a program joins 239.1.2.3 and ff05::1:3, and when it leaves.
const LINUX: [(&str, bool); 4] = [
    (
        "46c00028000040000102f9f80a000001e0000016940400002200e8f90000000104000000ef010203",
        true,
    ),
    (
        "6000000000240001fe80000000000000000000fffe000001ff0200000000000000000000000000163a000502000001008f0071030000000104000000ff050000000000000000000000010003",
        true,
    ),
    (
        "46c00028000040000102f9f80a000001e0000016940400002200e9f90000000103000000ef010203",
        false,
    ),
    (
        "6000000000240001fe80000000000000000000fffe000001ff0200000000000000000000000000163a000502000001008f0072030000000103000000ff050000000000000000000000010003",
        false,
    ),
];

fn unhex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2);
    digits
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

#[test]
fn row69_what_linux_says_is_understood() {
    let mut switch = snooping(|_| {}, 4);
    let now = asked(&mut switch);
    for (text, joins) in LINUX {
        let packet = unhex(text);
        assert!(may_report(&packet));
        assert_eq!(
            send(&mut switch, 1, &packet, now),
            [0, 4],
            "to routers only"
        );
        let later = now + Duration::from_secs(if joins { 0 } else { 3 });
        let group = match packet[0] >> 4 {
            4 => group4(3),
            _ => group6(3),
        };
        let expected: &[u32] = if joins { &[0, 1, 4] } else { &[0, 1, 3, 4] };
        assert_eq!(send(&mut switch, 2, &data(group), later), expected);
    }
    let counted = switch.statistics().snoop;
    assert_eq!((counted.queries, counted.reports), (2, 4));
    assert_eq!((counted.joins, counted.leaves, counted.refused), (2, 2, 0));
    assert_eq!(counted.narrowed, 4 + 2);
}

#[test]
fn row69_reports_to_routers_only_and_data_to_who_listens() {
    let mut switch = snooping(|_| {}, 5);
    let now = asked(&mut switch);
    for group in [group4(1), group6(1)] {
        assert_eq!(
            send(&mut switch, 2, &data(group), now),
            [0, 1, 3, 4, 5],
            "nobody is known to listen"
        );
        assert_eq!(send(&mut switch, 1, &report(group), now), [0, 4]);
        assert_eq!(send(&mut switch, 2, &data(group), now), [0, 1, 4]);
        assert_eq!(
            send(&mut switch, 1, &data(group), now),
            [0, 4],
            "not to itself"
        );
        assert_eq!(send(&mut switch, 0, &data(group), now), [1, 4]);
        assert_eq!(send(&mut switch, 3, &report(group), now), [0, 4]);
        assert_eq!(send(&mut switch, 2, &data(group), now), [0, 1, 3, 4]);
        assert_eq!(send(&mut switch, 1, &leave(group), now), [0, 4]);
        let soon = now + Duration::from_millis(1999);
        assert_eq!(send(&mut switch, 2, &data(group), soon), [0, 1, 3, 4]);
        let later = now + Duration::from_secs(2);
        assert_eq!(send(&mut switch, 2, &data(group), later), [0, 3, 4]);
    }
    assert_eq!(
        send(&mut switch, 2, &data(group4(2)), now),
        [0, 1, 3, 4, 5],
        "another group"
    );
    // Who is gone is forgotten at once.
    switch.forget_port(3);
    assert_eq!(switch.memberships(), 2, "those that were left");
    switch.forget_port(4);
    assert_eq!(send(&mut switch, 1, &report(group4(1)), now), [0]);
    switch.remove_port(1);
    assert_eq!(switch.memberships(), 0);
}

#[test]
fn row69_without_a_querier_everything_is_flooded() {
    let mut switch = snooping(|_| {}, 4);
    let everybody = [0, 2, 3, 4];
    let (g4, g6) = (group4(1), group6(1));
    for group in [g4, g6] {
        assert_eq!(send(&mut switch, 2, &report(group), NOW), [0]);
        assert_eq!(send(&mut switch, 1, &data(group), NOW), everybody);
    }
    // A querier of one family says nothing about the other; and who is asked may take its time.
    send(&mut switch, 4, &query(false, 100), at(1));
    let listening = [0, 2, 4];
    for (seconds, v4) in [(10, &everybody[..]), (11, &listening), (260, &everybody)] {
        assert_eq!(
            send(&mut switch, 1, &data(g4), at(seconds)),
            v4,
            "{seconds} s"
        );
        assert_eq!(send(&mut switch, 1, &data(g6), at(seconds)), everybody);
    }
    // A switch that asks in the querier's stead has no source, and is no router.
    let all = Ipv4Addr::new(224, 0, 0, 1);
    let proxy = igmp(Ipv4Addr::UNSPECIFIED, all, &[0x11, 10, 0, 0, 0, 0, 0, 0]);
    send(&mut switch, 3, &proxy, at(1000));
    send(&mut switch, 2, &report(g4), at(1000));
    assert_eq!(send(&mut switch, 1, &data(g4), at(1001)), [0, 2]);
    // Who asks for one group has asked nobody else.
    let mut switch = snooping(|_| {}, 4);
    send(&mut switch, 2, &report(g4), NOW);
    let one = igmp(V4, all, &[0x11, 10, 0, 0, 239, 1, 2, 1]);
    assert_eq!(send(&mut switch, 4, &one, NOW), [0, 1, 2, 3]);
    assert_eq!(send(&mut switch, 1, &data(g4), at(20)), everybody);
    // The time to answer is a second at least, or as long as the query says.
    let mut switch = snooping(|_| {}, 4);
    send(&mut switch, 2, &report(g4), NOW);
    send(&mut switch, 4, &query(false, 1), NOW);
    let almost = NOW + Duration::from_millis(999);
    assert_eq!(send(&mut switch, 1, &data(g4), almost), everybody);
    assert_eq!(send(&mut switch, 1, &data(g4), at(1)), listening);
    let v1 = igmp(V4, all, &[0x11, 0, 0, 0, 0, 0, 0, 0]);
    let v3 = igmp(V4, all, &[0x11, 0x9c, 0, 0, 0, 0, 0, 0, 2, 125, 0, 0]);
    let mut message = vec![130, 0, 0, 0, 0x91, 0x00, 0, 0];
    message.extend([0; 20]);
    let v2 = mld(V6, Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1), &message);
    // (12 | 16) << (1 + 3) tenths; (0x100 | 0x1000) << (1 + 3) milliseconds.
    for (packet, seconds, group) in [(v1, 9, g4), (v3, 44, g4), (v2, 69, g6)] {
        let mut switch = snooping(|_| {}, 4);
        send(&mut switch, 2, &report(group), NOW);
        send(&mut switch, 4, &packet, NOW);
        assert_eq!(send(&mut switch, 1, &data(group), at(seconds)), everybody);
        assert_eq!(
            send(&mut switch, 1, &data(group), at(seconds + 1)),
            listening
        );
    }
}

#[test]
fn row69_memberships_age_and_are_renewed() {
    let mut switch = snooping(|_| {}, 4);
    for ask in [0, 125, 250, 375] {
        send(&mut switch, 4, &query(false, 100), at(ask));
        if ask == 0 {
            send(&mut switch, 1, &report(group4(1)), at(0));
        }
        send(&mut switch, 2, &report(group4(1)), at(ask));
    }
    assert_eq!(
        send(&mut switch, 3, &data(group4(1)), at(259)),
        [0, 1, 2, 4]
    );
    assert_eq!(send(&mut switch, 3, &data(group4(1)), at(260)), [0, 2, 4]);
    // The router is heard no more: nor is it sent to, nor does anybody trust the rest.
    assert_eq!(send(&mut switch, 3, &report(group4(9)), at(634)), [0, 4]);
    assert_eq!(send(&mut switch, 3, &report(group4(9)), at(635)), [0]);
    assert_eq!(
        send(&mut switch, 3, &data(group4(9)), at(635)),
        [0, 1, 2, 4]
    );
}

#[test]
fn row69_essential_groups_are_flooded() {
    let mut switch = snooping(|snoop| snoop.unknown_groups = UnknownGroups::RoutersOnly, 4);
    let now = asked(&mut switch);
    let parse = |text: &str| text.parse::<IpAddr>().unwrap();
    for (group, flooded) in [
        ("224.0.0.1", true),
        ("224.0.0.251", true),
        ("224.0.1.1", false),
        ("239.0.0.1", false),
        ("ff02::1", true),
        ("ff02::fb", true),
        ("ff02::1:ff00:1", true),
        ("ff12::1", true),
        ("ff01::1", true),
        ("ff05::1:3", false),
        ("ff0e::1", false),
    ] {
        let group = parse(group);
        // Even if somebody says that it listens.
        send(&mut switch, 1, &report(group), now);
        let expected: &[u32] = if flooded { &[0, 1, 3, 4] } else { &[0, 1, 4] };
        assert_eq!(send(&mut switch, 2, &data(group), now), expected, "{group}");
    }
    assert_eq!(switch.memberships(), 4, "the others take no room");
    assert_eq!(
        send(&mut switch, 2, &data(group4(77)), now),
        [0, 4],
        "unknown"
    );
    // No IP packet, one to no group, one with half a header: no business of a snooping switch.
    for other in [&[][..], &[0x45; 19], &[0x60; 39], &[0x20; 64]] {
        assert_eq!(send(&mut switch, 2, other, now), [0, 1, 3, 4]);
    }
    let unicast = crate::group_packets::ipv4(V4, V4, 17, &[0; 16]);
    assert_eq!(send(&mut switch, 2, &unicast, now), [0, 1, 3, 4]);
    // Messages of IGMP and MLD that are none of ours, such as router discovery: flooded.
    let discovery = igmp(
        V4,
        Ipv4Addr::new(224, 0, 0, 106),
        &[0x30, 20, 0, 0, 0, 125, 0, 2],
    );
    assert_eq!(send(&mut switch, 2, &discovery, now), [0, 1, 3, 4]);
    let discovery = mld(
        V6,
        Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x6a),
        &[151, 20, 0, 0],
    );
    assert_eq!(send(&mut switch, 2, &discovery, now), [0, 1, 3, 4]);
}

#[test]
fn row69_group_records() {
    let source = |kind, sources| (kind, sources, 1);
    for ipv6 in [false, true] {
        let group = |n: u8| if ipv6 { group6(n.into()) } else { group4(n) };
        for (record, joins) in [
            (source(1, 2), true),
            (source(1, 0), false),
            (source(2, 0), true),
            (source(2, 3), true),
            (source(3, 1), true),
            (source(4, 0), true),
            (source(5, 2), true),
            (source(5, 0), false),
            (source(6, 2), false),
            (source(7, 1), false),
        ] {
            let mut switch = snooping(|_| {}, 4);
            let now = asked(&mut switch);
            let (kind, sources, auxiliary) = record;
            let packet = records(
                ipv6,
                &[(kind, sources, auxiliary, group(1)), (2, 0, 0, group(2))],
            );
            assert_eq!(send(&mut switch, 1, &packet, now), [0, 4]);
            let expected: &[u32] = if joins { &[0, 1, 4] } else { &[0, 1, 3, 4] };
            assert_eq!(
                send(&mut switch, 2, &data(group(1)), now),
                expected,
                "{record:?}"
            );
            assert_eq!(send(&mut switch, 2, &data(group(2)), now), [0, 1, 4]);
            // What a host blocks and allows anew is no leave.
            let after = records(ipv6, &[(6, 1, 0, group(2)), (3, 0, 0, group(1))]);
            send(&mut switch, 1, &after, now);
            let later = now + Duration::from_secs(3);
            assert_eq!(send(&mut switch, 2, &data(group(2)), later), [0, 1, 4]);
            assert_eq!(send(&mut switch, 2, &data(group(1)), later), [0, 1, 3, 4]);
        }
    }
}

/// Cut anywhere, or with any one bit wrong, a message is not believed, and goes to routers at most.
#[test]
fn row69_broken_messages_teach_nothing() {
    for whole in [
        report(group4(1)),
        report(group6(1)),
        records(false, &[(4, 0, 0, group4(1)), (1, 2, 1, group4(2))]),
        records(true, &[(4, 0, 0, group6(1)), (1, 2, 1, group6(2))]),
        query(false, 1),
        query(true, 1),
    ] {
        let learns = |packet: &[u8]| {
            let mut switch = snooping(|_| {}, 3);
            send(&mut switch, 1, packet, NOW);
            let counted = switch.statistics().snoop;
            (counted.reports + counted.queries, switch.memberships())
        };
        assert_eq!(learns(&whole).0, 1, "whole");
        for len in 0..whole.len() {
            assert_eq!(learns(&whole[..len]), (0, 0), "{len} bytes");
        }
        for bit in 0..whole.len() * 8 {
            let mut broken = whole.clone();
            broken[bit / 8] ^= 1 << (bit % 8);
            // Neither checksum covers these: traffic class, flow label and the options of IPv6.
            let free = whole[0] == 0x60 && matches!(bit / 8, 0..4 | 42..48);
            if !free {
                assert_eq!(learns(&broken), (0, 0), "bit {bit}");
            }
        }
    }
    // Nor one that no router is alerted to.
    let mut quiet = report(group6(1));
    quiet[42] = 1;
    let mut switch = snooping(|_| {}, 3);
    send(&mut switch, 1, &quiet, NOW);
    assert_eq!(switch.memberships(), 0);
    // From another network, or without a link-local source: no MLD.
    let everybody = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let far = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
    let mut message = vec![130, 0, 0, 0, 0, 0, 0, 0];
    message.extend([0; 16]);
    let mut switch = snooping(|_| {}, 3);
    for src in [far, Ipv6Addr::UNSPECIFIED] {
        send(&mut switch, 1, &mld(src, everybody, &message), NOW);
    }
    // IGMPv3 queries are 12 bytes or more, IGMPv2 queries 8 (RFC 3376, section 7.1).
    let all = Ipv4Addr::new(224, 0, 0, 1);
    for len in [9, 10, 11] {
        send(
            &mut switch,
            1,
            &igmp(V4, all, &[&[0x11][..], &vec![0; len - 1]].concat()),
            NOW,
        );
    }
    // A report about no group.
    let unicast = igmp(V4, all, &[0x16, 0, 0, 0, 10, 0, 0, 1]);
    send(&mut switch, 1, &unicast, NOW);
    let counted = switch.statistics().snoop;
    assert_eq!(
        (counted.queries, counted.reports, counted.refused),
        (0, 0, 6)
    );
    // A host without an address may say what it listens to (RFC 3590).
    let group = [0xff, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    let message = [&[131, 0, 0, 0, 0, 0, 0, 0][..], &group].concat();
    send(
        &mut switch,
        1,
        &mld(Ipv6Addr::UNSPECIFIED, everybody, &message),
        NOW,
    );
    assert_eq!(switch.memberships(), 1);
}

#[test]
fn row69_who_joins_more_than_its_share_pays_for_it_alone() {
    let mut switch = snooping(
        |snoop| {
            snoop.groups_per_port = 3;
            snoop.memberships = 5;
        },
        4,
    );
    let now = asked(&mut switch);
    for n in 1..=200 {
        send(&mut switch, 1, &report(group4(n)), now);
    }
    assert_eq!(switch.memberships(), 3);
    assert_eq!(switch.statistics().snoop.overflows, 197);
    for n in 1..=200 {
        send(&mut switch, 2, &report(group6(n)), now);
    }
    assert_eq!(switch.memberships(), 5, "bounded");
    // A third finds no room, and loses nothing; nobody else is sent more.
    send(&mut switch, 3, &report(group4(1)), now);
    assert_eq!(switch.memberships(), 5);
    assert_eq!(send(&mut switch, 0, &data(group4(1)), now), [1, 2, 3, 4]);
    // What a port has left makes room for it at once.
    send(&mut switch, 1, &leave(group4(1)), now);
    let later = now + Duration::from_secs(2);
    let joins = switch.statistics().snoop.joins;
    send(&mut switch, 1, &report(group4(7)), later);
    assert_eq!(switch.statistics().snoop.joins, joins + 1);
    let mut switch = snooping(|snoop| snoop.memberships = 1, 4);
    let now = asked(&mut switch);
    send(&mut switch, 2, &report(group4(1)), now);
    send(&mut switch, 1, &report(group4(2)), now);
    send(&mut switch, 4, &query(false, 100), at(125));
    send(&mut switch, 2, &report(group4(1)), at(125));
    send(&mut switch, 4, &query(false, 100), at(250));
    assert_eq!(
        send(&mut switch, 3, &data(group4(1)), at(200)),
        [0, 1, 2, 4]
    );
    assert_eq!(
        send(&mut switch, 3, &data(group4(1)), at(269)),
        [0, 1, 2, 4]
    );
    assert_eq!(send(&mut switch, 3, &data(group4(1)), at(270)), [0, 2, 4]);
    // Memberships that have ended make room, whoever's they were: one port's at each join.
    for _ in 0..3 {
        send(&mut switch, 1, &report(group4(2)), at(390));
    }
    assert_eq!(switch.statistics().snoop.joins, 2);
    assert_eq!(switch.memberships(), 1);
}

#[test]
fn row69_routers_by_setting() {
    let mut switch = snooping(|_| {}, 5);
    let router = |setting| PortConfig::default().multicast_router(setting);
    switch.add_port(2, router(MulticastRouter::Always));
    switch.add_port(3, router(MulticastRouter::Never));
    send(&mut switch, 3, &query(false, 10), NOW);
    send(&mut switch, 1, &report(group4(1)), NOW);
    assert_eq!(
        send(&mut switch, 5, &data(group4(1)), at(5)),
        [0, 1, 2, 3, 4],
        "nobody has asked"
    );
    send(&mut switch, 2, &query(false, 10), at(5));
    assert_eq!(send(&mut switch, 1, &report(group4(1)), at(5)), [0, 2]);
    assert_eq!(send(&mut switch, 5, &data(group4(1)), at(6)), [0, 1, 2]);
    assert_eq!(switch.statistics().snoop.refused, 1);
}

#[test]
fn row69_what_may_be_a_report() {
    for (first, at, proto) in [(0x45, 9, 2), (0x60, 6, 0)] {
        let mut packet = [0xff; 40];
        packet[0] = first;
        assert!(!may_report(&packet), "{first:#x}");
        packet[at] = proto;
        assert!(may_report(&packet[..=at]), "{first:#x}");
        assert!(!may_report(&packet[..at]), "{first:#x}");
        packet[0] = 0x55;
        assert!(!may_report(&packet));
    }
    assert!(!may_report(&[]));
}

#[test]
fn row69_a_leave_makes_no_membership_longer() {
    let mut switch = snooping(|_| {}, 4);
    send(&mut switch, 4, &query(false, 100), NOW);
    send(&mut switch, 1, &report(group4(1)), at(0));
    send(&mut switch, 2, &report(group4(1)), at(200));
    // In time for what is known to hold on.
    send(&mut switch, 4, &query(false, 100), at(250));
    send(&mut switch, 1, &leave(group4(1)), at(259));
    assert_eq!(send(&mut switch, 3, &data(group4(1)), at(260)), [0, 2, 4]);
}

#[test]
fn row69_a_router_that_never_asks() {
    let mut switch = snooping(|_| {}, 4);
    switch.add_port(
        2,
        PortConfig::default().multicast_router(MulticastRouter::Always),
    );
    let now = asked(&mut switch);
    send(&mut switch, 1, &report(group4(1)), now);
    assert_eq!(send(&mut switch, 3, &data(group4(1)), now), [0, 1, 2, 4]);
}

#[test]
fn row69_memberships_are_those_of_a_vlan() {
    let mut switch = snooping(|_| {}, 1);
    for (id, vlan) in [(2, 7), (3, 7), (4, 7), (5, 9), (6, 9)] {
        switch.add_port(id, PortConfig::default().vlan(VlanId::new(vlan)));
    }
    send(&mut switch, 4, &query(false, 100), NOW);
    let now = at(10);
    for from in [2, 6] {
        send(&mut switch, from, &report(group4(1)), now);
    }
    assert_eq!(send(&mut switch, 3, &data(group4(1)), now), [0, 2, 4]);
    assert_eq!(send(&mut switch, 5, &data(group4(1)), now), [0, 6]);
    // In VLAN 9 and without one nobody has asked.
    send(&mut switch, 5, &report(group4(2)), now);
    assert_eq!(send(&mut switch, 6, &data(group4(2)), now), [0, 5]);
    assert_eq!(send(&mut switch, 0, &data(group4(1)), now), [1, 2, 4, 5, 6]);
    // A querier on the port that serves them all has asked them all.
    send(&mut switch, 0, &query(false, 100), at(20));
    assert_eq!(send(&mut switch, 0, &data(group4(1)), at(30)), [1, 2, 4, 6]);
    // Who comes to another VLAN is neither its listener nor its router.
    switch.add_port(6, PortConfig::default().vlan(VlanId::new(7)));
    switch.add_port(4, PortConfig::default().vlan(VlanId::new(9)));
    assert_eq!(switch.memberships(), 2);
    assert_eq!(send(&mut switch, 5, &leave(group4(9)), at(30)), [0]);
    switch.add_port(6, PortConfig::default().vlan(VlanId::new(9)));
    send(&mut switch, 6, &report(group4(1)), at(30));
    switch.remove_port(2);
    for id in [3, 4] {
        switch.add_port(id, PortConfig::default());
    }
    switch.add_port(2, PortConfig::default().vlan(VlanId::new(7)));
    switch.add_port(3, PortConfig::default().vlan(VlanId::new(7)));
    assert_eq!(switch.memberships(), 2);
    send(&mut switch, 2, &report(group4(1)), at(31));
    assert_eq!(
        send(&mut switch, 0, &data(group4(1)), at(31)),
        [1, 2, 3, 4, 6],
        "what was known of VLAN 7 went with its last port"
    );
}
