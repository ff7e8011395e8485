//! Row 68: bounds, spoofing and isolation; and what a switch does besides.

use core::time::Duration;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use net_switch::{Config, DropReason, MAX_ADDRESSES, PortConfig, Verdict};
use net_wire::MacAddr;

use crate::{GATEWAY, NOW, mac, switch, targets, with_config};

fn dropped(reason: DropReason) -> Verdict {
    Verdict::Drop(reason)
}

#[test]
fn row68_no_guest_takes_the_gateways_address() {
    let mut switch = switch(2);
    assert_eq!(
        switch.forward(1, mac(9), GATEWAY, NOW),
        dropped(DropReason::Spoofed)
    );
    assert_eq!(switch.forward(2, GATEWAY, mac(2), NOW), Verdict::To(0));
    assert_eq!(switch.statistics().drops.of(DropReason::Spoofed), 1);
    let mut configured = PortConfig::default();
    configured.allowed_mac = Some(GATEWAY);
    assert!(!switch.add_port(3, configured), "nor does a mistake");
    assert_eq!(switch.forward(2, GATEWAY, mac(2), NOW), Verdict::To(0));
    assert_eq!(
        switch.forward(3, mac(2), GATEWAY, NOW),
        dropped(DropReason::Spoofed)
    );
    assert!(!switch.add_static(GATEWAY, 1) && !switch.add_static(MacAddr::BROADCAST, 1));
}

#[test]
fn row68_mac_anti_spoofing_per_port() {
    let mut switch = switch(1);
    // Learned elsewhere before: the port it is given to has it from now on.
    switch.forward(1, GATEWAY, mac(2), NOW);
    assert!(switch.add_port(2, PortConfig::with_mac(mac(2))));
    assert_eq!(switch.forward(0, mac(2), GATEWAY, NOW), Verdict::To(2));
    assert_eq!(
        switch.forward(2, GATEWAY, mac(3), NOW),
        dropped(DropReason::Spoofed)
    );
    for later in [0, 1, 1000] {
        let now = NOW + Duration::from_secs(later);
        assert_eq!(
            switch.forward(1, GATEWAY, mac(2), now),
            dropped(DropReason::Spoofed)
        );
    }
    assert_eq!(switch.forward(2, GATEWAY, mac(2), NOW), Verdict::To(0));
    // Given another address, it no longer keeps the first from others.
    assert!(switch.add_port(2, PortConfig::with_mac(mac(4))));
    assert_eq!(switch.forward(1, GATEWAY, mac(2), NOW), Verdict::To(0));
    assert_eq!(switch.forward(0, mac(4), GATEWAY, NOW), Verdict::To(2));
}

#[test]
fn row68_ip_anti_spoofing_per_port() {
    let mut switch = switch(2);
    let v4 = |last| IpAddr::V4(Ipv4Addr::new(10, 0, 0, last));
    let v6 = |text: &str| IpAddr::V6(text.parse::<Ipv6Addr>().unwrap());
    assert_eq!(switch.check_ip(1, v4(9)), Ok(()), "bound to nothing");
    assert!(switch.allow_ip(1, v4(7)) && switch.allow_ip(1, v4(7)));
    for ok in [v4(7), IpAddr::V4(Ipv4Addr::UNSPECIFIED), v6("2001:db8::1")] {
        assert_eq!(switch.check_ip(1, ok), Ok(()), "{ok}");
    }
    assert_eq!(switch.check_ip(1, v4(8)), Err(DropReason::IpSpoofed));
    assert_eq!(switch.check_ip(2, v4(8)), Ok(()), "another port");
    assert!(switch.allow_ip(1, v6("2001:db8::1")));
    for ok in [v6("2001:db8::1"), v6("fe80::1"), v6("::")] {
        assert_eq!(switch.check_ip(1, ok), Ok(()), "{ok}");
    }
    assert_eq!(
        switch.check_ip(1, v6("2001:db8::2")),
        Err(DropReason::IpSpoofed)
    );
    let drops = switch.port_statistics(1).unwrap().drops;
    assert_eq!(drops.of(DropReason::IpSpoofed), 2);
    switch.forbid_ip(1, v4(7));
    assert_eq!(switch.check_ip(1, v4(8)), Ok(()), "bound to nothing again");
    assert_eq!(switch.check_ip(9, v4(8)), Err(DropReason::NoPort));
    for last in 0..u8::MAX {
        assert_eq!(
            switch.allow_ip(2, v4(last)),
            usize::from(last) < MAX_ADDRESSES
        );
    }
}

#[test]
fn row68_mac_table_bounded_per_port() {
    let mut switch = switch(2);
    switch.forward(2, GATEWAY, mac(0xffff), NOW);
    for n in 0..10_000 {
        assert_eq!(switch.forward(1, GATEWAY, mac(n), NOW), Verdict::To(0));
    }
    assert_eq!(switch.addresses(), 256 + 2);
    assert_eq!(switch.statistics().evicted, 10_000 - 256);
    // Its own oldest went; the last 256 and the neighbour's are there.
    assert_eq!(switch.port_of(None, mac(10_000 - 257), NOW), None);
    assert_eq!(switch.port_of(None, mac(10_000 - 256), NOW), Some(1));
    assert_eq!(switch.forward(1, mac(0xffff), mac(1), NOW), Verdict::To(2));
}

/// Sixty-four colluding guests fill the table; a newcomer still has its address learned.
#[test]
fn row68_a_full_table_has_room_for_one_of_each_port() {
    let mut config = Config::new([3; 16]);
    config.addresses = 1000;
    let mut switch = with_config(config, 66);
    switch.forward(65, GATEWAY, mac(65), NOW);
    for n in 0..64 * 256 {
        switch.forward(1 + n % 64, GATEWAY, mac(1000 + n), NOW);
    }
    assert_eq!(switch.addresses(), 1000 + 65 + 1, "bounded");
    switch.forward(66, GATEWAY, mac(66), NOW);
    assert_eq!(switch.forward(1, mac(65), mac(1000), NOW), Verdict::To(65));
    assert_eq!(switch.forward(1, mac(66), mac(1000), NOW), Verdict::To(66));
    // And it may use another, at its own expense.
    switch.forward(66, GATEWAY, mac(67), NOW);
    assert_eq!(switch.port_of(None, mac(67), NOW), Some(66));
    assert_eq!(switch.port_of(None, mac(66), NOW), None);
}

#[test]
fn row68_moves_limited() {
    let mut switch = switch(2);
    let at = |ms| NOW + Duration::from_millis(ms);
    switch.forward(1, GATEWAY, mac(1), at(0));
    let refused = dropped(DropReason::MoveLimit);
    assert_eq!(switch.forward(2, GATEWAY, mac(1), at(999)), refused);
    assert_eq!(switch.forward(2, GATEWAY, mac(1), at(1000)), Verdict::To(0));
    assert_eq!(switch.forward(1, GATEWAY, mac(1), at(1500)), refused);
    assert_eq!(switch.port_of(None, mac(1), at(1500)), Some(2));
    // Two ports that fight over it: a move a second, however often they try.
    for ms in 1500..11_500 {
        switch.forward(1 + ms as u32 % 2, GATEWAY, mac(1), at(ms));
    }
    assert!((9..=11).contains(&switch.statistics().moved));
    assert_eq!(switch.addresses(), 2);
}

#[test]
fn row68_isolation() {
    let mut switch = switch(1);
    for id in 2..=3 {
        switch.add_port(id, PortConfig::default().isolated(true));
    }
    switch.add_port(4, PortConfig::default().uplink(true));
    for id in 1..=4 {
        switch.forward(id, GATEWAY, mac(id), NOW);
    }
    for (from, to) in [(2, 3), (3, 2), (1, 3), (3, 1)] {
        assert_eq!(
            switch.forward(from, mac(to), mac(from), NOW),
            dropped(DropReason::Isolated)
        );
    }
    assert_eq!(switch.forward(2, GATEWAY, mac(2), NOW), Verdict::To(0));
    assert_eq!(switch.forward(0, mac(3), GATEWAY, NOW), Verdict::To(3));
    assert_eq!(switch.forward(2, mac(4), mac(2), NOW), Verdict::To(4));
    assert_eq!(switch.forward(4, mac(2), mac(4), NOW), Verdict::To(2));
    assert_eq!(targets(&switch, 2), [0, 4]);
    assert_eq!(targets(&switch, 1), [0, 4]);
    assert_eq!(targets(&switch, 0), [1, 2, 3, 4]);
}

#[test]
fn row68_no_flood_to_the_sender() {
    let mut switch = switch(3);
    for from in 0..=3 {
        assert_eq!(
            switch.forward(from, MacAddr::BROADCAST, mac(from), NOW),
            Verdict::Flood
        );
        let expected: Vec<u32> = (0..=3).filter(|id| *id != from).collect();
        assert_eq!(targets(&switch, from), expected);
        assert_eq!(
            switch.forward(from, mac(from), mac(from), NOW),
            dropped(DropReason::SamePort)
        );
    }
    assert_eq!(targets(&switch, 99), []);
}

#[test]
fn row68_reserved_destinations_and_impossible_sources() {
    let mut switch = switch(1);
    for bad in [
        MacAddr::ZERO,
        MacAddr::BROADCAST,
        MacAddr([1, 0, 0x5e, 0, 0, 1]),
    ] {
        assert_eq!(
            switch.forward(1, GATEWAY, bad, NOW),
            dropped(DropReason::BadSource)
        );
    }
    for last in 0..=0xff {
        let verdict = switch.forward(1, MacAddr([1, 0x80, 0xc2, 0, 0, last]), mac(1), NOW);
        let expected = if last < 0x10 {
            dropped(DropReason::LinkLocal)
        } else {
            Verdict::Flood
        };
        assert_eq!(verdict, expected, "{last:#x}");
    }
    assert_eq!(
        switch.forward(9, GATEWAY, mac(1), NOW),
        dropped(DropReason::NoPort)
    );
}

#[test]
fn what_is_silent_is_forgotten_and_what_speaks_is_not() {
    let mut switch = switch(2);
    let at = |s| NOW + Duration::from_secs(s);
    switch.forward(1, GATEWAY, mac(1), at(0));
    for s in 0..1000 {
        switch.forward(2, GATEWAY, mac(2), at(s));
    }
    assert_eq!(switch.forward(2, mac(1), mac(2), at(1000)), Verdict::Flood);
    switch.forward(1, GATEWAY, mac(3), at(1000));
    assert_eq!(switch.forward(1, mac(2), mac(3), at(1000)), Verdict::To(2));
    let statistics = switch.statistics();
    assert_eq!((statistics.aged, statistics.learned), (1, 3));
    assert_eq!(switch.addresses(), 3, "gateway, 2 and 3");
    assert_eq!(
        switch.forward(2, GATEWAY, mac(2), at(9_999_999)),
        Verdict::To(0)
    );
}

#[test]
fn a_port_that_is_removed_or_forgotten_is_reached_no_more() {
    let mut switch = switch(2);
    assert!(switch.add_port(3, PortConfig::with_mac(mac(3))));
    switch.forward(1, GATEWAY, mac(1), NOW);
    switch.forward(2, GATEWAY, mac(2), NOW);
    switch.remove_port(1);
    switch.forget_port(2);
    switch.forget_port(3);
    assert_eq!(switch.forward(0, mac(1), GATEWAY, NOW), Verdict::Flood);
    assert_eq!(switch.forward(0, mac(2), GATEWAY, NOW), Verdict::Flood);
    assert_eq!(switch.forward(0, mac(3), GATEWAY, NOW), Verdict::To(3));
    assert_eq!(targets(&switch, 2), [0, 3]);
    // Its place and its guest's address are free at once.
    switch.add_port(4, PortConfig::default());
    assert_eq!(switch.forward(4, GATEWAY, mac(1), NOW), Verdict::To(0));
    assert_eq!(switch.forward(0, mac(1), GATEWAY, NOW), Verdict::To(4));
    switch.remove_port(3);
    assert_eq!(switch.forward(4, GATEWAY, mac(3), NOW), Verdict::To(0));
    switch.remove_port(0);
    assert_eq!(switch.forward(4, GATEWAY, mac(1), NOW), Verdict::Flood);
}
