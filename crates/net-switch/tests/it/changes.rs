//! What is changed from outside counts for the next frame, even one that is like the last.

use core::net::{IpAddr, Ipv4Addr};
use core::time::Duration;

use net_switch::{Config, DropReason, PortConfig, Switch, Verdict};

use crate::{GATEWAY, NOW, mac, switch, targets, with_config};

/// Guests 1 and 2, who know each other; the last frame was from 1 to 2.
fn talking() -> Switch {
    let mut switch = switch(2);
    switch.forward(2, GATEWAY, mac(2), NOW);
    assert_eq!(talk(&mut switch), Verdict::To(2));
    assert_eq!(talk(&mut switch), Verdict::To(2));
    switch
}

fn talk(switch: &mut Switch) -> Verdict {
    switch.forward(1, mac(2), mac(1), NOW)
}

#[test]
fn a_frame_like_the_last_does_not_go_where_nobody_is_any_more() {
    let mut switch = talking();
    switch.remove_port(2);
    assert_eq!(talk(&mut switch), Verdict::Flood);
    let mut switch = talking();
    switch.forget_port(2);
    assert_eq!(talk(&mut switch), Verdict::Flood);
    let mut switch = talking();
    assert!(switch.add_static(mac(2), 0));
    assert_eq!(talk(&mut switch), Verdict::To(0));
    let mut switch = talking();
    assert!(switch.add_port(1, PortConfig::with_mac(mac(9))));
    assert_eq!(talk(&mut switch), Verdict::Drop(DropReason::Spoofed));
}

/// A port whose address is somebody else's has nothing to give back.
#[test]
fn an_address_that_was_refused_stays_with_whom_it_is_tied_to() {
    let mut switch = switch(2);
    assert!(!switch.add_port(1, PortConfig::with_mac(GATEWAY)));
    switch.add_port(1, PortConfig::default());
    let posing = switch.forward(2, mac(1), GATEWAY, NOW);
    assert_eq!(posing, Verdict::Drop(DropReason::Spoofed));
}

/// Nor does it become a port of the network itself, which isolated ports reach.
#[test]
fn a_static_address_that_was_refused_changes_nothing() {
    let mut switch = switch(0);
    for id in 1..=2 {
        switch.add_port(id, PortConfig::default().isolated(true));
    }
    assert!(!switch.add_static(GATEWAY, 1));
    assert_eq!(targets(&switch, 2), [0]);
}

#[test]
fn an_address_that_is_allowed_twice_is_one() {
    let mut switch = switch(1);
    let ip = |n| IpAddr::from(Ipv4Addr::new(10, 0, 0, n));
    for _ in 0..=net_switch::MAX_ADDRESSES {
        assert!(switch.allow_ip(1, ip(1)));
    }
    for n in 2..=net_switch::MAX_ADDRESSES as u8 {
        assert!(switch.allow_ip(1, ip(n)));
    }
    assert!(!switch.allow_ip(1, ip(200)));
}

/// An address that was silent too long has not moved: it was forgotten, whatever moves are limited to.
#[test]
fn an_old_address_on_another_port_has_not_moved() {
    let mut config = Config::new([3; 16]);
    config.ageing = Duration::from_secs(5);
    config.move_interval = Duration::from_secs(60);
    let mut switch = with_config(config, 2);
    let at = |seconds| NOW + Duration::from_secs(seconds);
    assert_eq!(switch.forward(1, GATEWAY, mac(9), at(0)), Verdict::To(0));
    let soon = switch.forward(2, GATEWAY, mac(9), at(5));
    assert_eq!(soon, Verdict::Drop(DropReason::MoveLimit));
    assert_eq!(switch.forward(2, GATEWAY, mac(9), at(6)), Verdict::To(0));
    assert_eq!(switch.statistics().moved, 0);
}
