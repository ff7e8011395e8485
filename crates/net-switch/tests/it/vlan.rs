//! Access VLANs: who is joined to whom.

use core::time::Duration;

use net_switch::{Config, DropReason, PortConfig, Switch, Verdict, VlanId};
use net_wire::MacAddr;

use crate::{GATEWAY, NOW, mac, switch, targets};

fn vlan(number: u16) -> Option<VlanId> {
    VlanId::new(number)
}

/// A gateway on 0, no VLAN on 1 and 2, VLAN 7 on 3 and 4, VLAN 9 on 5; guest `n` was heard.
fn three_domains() -> Switch {
    let mut switch = switch(2);
    for (id, number) in [(3, 7), (4, 7), (5, 9)] {
        assert!(switch.add_port(id, PortConfig::default().vlan(vlan(number))));
    }
    for id in 1..=5 {
        assert_eq!(switch.forward(id, GATEWAY, mac(id), NOW), Verdict::To(0));
    }
    switch
}

#[test]
fn a_vlan_reaches_itself_and_the_gateway() {
    let mut switch = three_domains();
    let domain = |id: u32| match id {
        1 | 2 => 0,
        3 | 4 => 7,
        _ => 9,
    };
    for from in 1..=5 {
        for to in (1..=5).filter(|to| *to != from) {
            let expected = match domain(from) == domain(to) {
                true => Verdict::To(to),
                // Not known there: flooded, and not to that port.
                false => Verdict::Flood,
            };
            assert_eq!(switch.forward(from, mac(to), mac(from), NOW), expected);
        }
        let same = (1..=5).filter(|to| *to != from && domain(*to) == domain(from));
        let expected: Vec<u32> = std::iter::once(0).chain(same).collect();
        assert_eq!(targets(&switch, from), expected);
        assert_eq!(
            switch.forward(0, mac(from), GATEWAY, NOW),
            Verdict::To(from)
        );
    }
    assert_eq!(targets(&switch, 0), [1, 2, 3, 4, 5]);
}

#[test]
fn the_same_address_in_two_vlans_is_two_addresses() {
    let mut switch = three_domains();
    // No move, and no limit on moves.
    assert_eq!(switch.forward(5, GATEWAY, mac(3), NOW), Verdict::To(0));
    assert_eq!(switch.forward(4, mac(3), mac(4), NOW), Verdict::To(3));
    assert_eq!(switch.port_of(vlan(7), mac(3), NOW), Some(3));
    assert_eq!(switch.port_of(vlan(9), mac(3), NOW), Some(5));
    assert_eq!(switch.port_of(None, mac(3), NOW), None);
    assert_eq!(switch.statistics().moved, 0);
    // From the gateway nobody can tell which is meant.
    assert_eq!(switch.forward(0, mac(3), GATEWAY, NOW), Verdict::Flood);
    // Tied in one VLAN, free in another.
    let tied = PortConfig::with_mac(mac(60));
    assert!(switch.add_port(6, tied.vlan(vlan(7))) && switch.add_port(7, tied.vlan(vlan(9))));
    assert!(!switch.add_port(8, tied.vlan(vlan(9))));
    let refused = Verdict::Drop(DropReason::Spoofed);
    assert_eq!(switch.forward(5, GATEWAY, mac(60), NOW), refused);
    assert_eq!(switch.forward(1, GATEWAY, mac(60), NOW), Verdict::To(0));
}

#[test]
fn the_gateways_address_is_nobody_elses_in_any_vlan() {
    let mut switch = three_domains();
    let refused = Verdict::Drop(DropReason::Spoofed);
    for from in 1..=5 {
        assert_eq!(switch.forward(from, mac(9), GATEWAY, NOW), refused);
    }
    let posing = PortConfig::with_mac(GATEWAY).vlan(vlan(7));
    assert!(!switch.add_port(6, posing), "nor does a mistake");
    assert_eq!(switch.forward(6, mac(3), GATEWAY, NOW), refused);
    assert_eq!(switch.forward(4, GATEWAY, mac(4), NOW), Verdict::To(0));
    // What was learned before the address was the network's is forgotten, and what is tied stays.
    let late = MacAddr([2, 0xff, 0, 0, 0, 2]);
    switch.forward(3, GATEWAY, late, NOW);
    assert!(switch.add_static(late, 0));
    assert_eq!(switch.forward(4, late, mac(4), NOW), Verdict::To(0));
    assert!(switch.add_port(7, PortConfig::with_mac(mac(70)).vlan(vlan(9))));
    assert!(!switch.add_static(mac(70), 0));
    assert_eq!(switch.forward(5, mac(70), mac(5), NOW), Verdict::To(7));
    // A port of the network that is in a VLAN serves that one.
    assert!(switch.add_port(8, PortConfig::default().vlan(vlan(7))));
    let server = MacAddr([2, 0xff, 0, 0, 0, 3]);
    assert!(switch.add_static(server, 8));
    assert_eq!(switch.forward(3, server, mac(3), NOW), Verdict::To(8));
    assert_eq!(switch.forward(5, server, mac(5), NOW), Verdict::Flood);
    assert_eq!(targets(&switch, 5), [0, 7]);
}

#[test]
fn tags_do_not_pass_an_access_port() {
    let mut switch = three_domains();
    let mut send =
        |from, tag| switch.forward_tagged(from, || tag, MacAddr::BROADCAST, mac(from), NOW);
    let refused = Verdict::Drop(DropReason::Tagged);
    for from in [0, 3, 4, 5] {
        for tag in [7, 9, 0x2007, 0x0fff] {
            assert_eq!(send(from, Some(tag)), refused, "{from} {tag:#x}");
        }
    }
    for from in 1..=5 {
        assert_eq!(send(from, None), Verdict::Flood);
        assert_eq!(send(from, Some(0xe000)), Verdict::Flood, "a priority tag");
    }
    // Without a VLAN a tag is the guests' own affair, and stays among them.
    assert_eq!(send(1, Some(7)), Verdict::Flood);
    assert_eq!(targets(&switch, 1), [0, 2]);
    let drops = switch.port_statistics(3).unwrap().drops;
    assert_eq!(drops.of(DropReason::Tagged), 4);
    assert_eq!(switch.statistics().drops.of(DropReason::Tagged), 16);
    // Where no port is in a VLAN the gateway is like others.
    for id in 3..=5 {
        switch.add_port(id, PortConfig::default());
    }
    let tagged = switch.forward_tagged(0, || Some(7), MacAddr::BROADCAST, GATEWAY, NOW);
    assert_eq!(tagged, Verdict::Flood);
}

#[test]
fn a_port_that_changes_its_vlan_forgets_the_old_one() {
    let mut switch = three_domains();
    // A run of frames is remembered, and the memory does not outlive the change.
    assert_eq!(switch.forward(4, mac(3), mac(4), NOW), Verdict::To(3));
    assert!(switch.add_port(3, PortConfig::default().vlan(vlan(9))));
    assert_eq!(switch.forward(4, mac(3), mac(4), NOW), Verdict::Flood);
    assert_eq!(targets(&switch, 4), [0]);
    assert_eq!(switch.forward(3, mac(5), mac(3), NOW), Verdict::To(5));
    assert_eq!(switch.port_of(vlan(7), mac(3), NOW), None);
    let tied = PortConfig::with_mac(mac(40));
    assert!(switch.add_port(4, tied.vlan(vlan(7))));
    assert!(switch.add_port(4, tied.vlan(vlan(9))));
    assert_eq!(switch.forward(5, mac(40), mac(5), NOW), Verdict::To(4));
    assert!(switch.add_port(6, tied.vlan(vlan(7))), "free there");
    assert!(!switch.add_port(6, tied.vlan(vlan(9))));
}

/// Bounds are those of ports, whatever the VLANs.
#[test]
fn vlans_make_no_room() {
    let mut config = Config::new([3; 16]);
    config.addresses = 100;
    config.addresses_per_port = 10;
    let mut switch = Switch::new(config);
    for id in 1..=20 {
        switch.add_port(id, PortConfig::default().vlan(vlan(id as u16)));
        for n in 0..50 {
            switch.forward(id, mac(1000), mac(n), NOW + Duration::from_millis(n.into()));
        }
    }
    assert_eq!(switch.addresses(), 100 + 20);
}

#[test]
fn what_is_tied_to_a_port_goes_with_it() {
    let mut switch = three_domains();
    let (first, second) = (mac(60), mac(61));
    // A server of VLAN 7 with two addresses, of which VLAN 9 has the first already.
    assert!(switch.add_port(5, PortConfig::with_mac(first).vlan(vlan(9))));
    assert!(switch.add_static(first, 3) && switch.add_static(second, 3));
    let config = PortConfig::with_mac(second);
    assert!(switch.add_port(3, config.vlan(vlan(7))));
    assert!(!switch.add_port(3, config.vlan(vlan(9))), "one is taken");
    assert_eq!(switch.port_of(vlan(9), first, NOW), Some(5));
    assert_eq!(switch.port_of(vlan(9), second, NOW), Some(3));
    assert_eq!(switch.port_of(vlan(7), second, NOW), None);
    // An address that is static as well stays when the guest may have any.
    assert!(switch.add_port(3, PortConfig::default().vlan(vlan(9))));
    assert_eq!(switch.port_of(vlan(9), second, NOW), Some(3));
    assert_eq!(
        switch.forward(5, mac(9), second, NOW),
        Verdict::Drop(DropReason::Spoofed)
    );
    // And static ones go with it where no other is.
    assert!(switch.add_port(3, PortConfig::default().vlan(vlan(11))));
    assert_eq!(switch.port_of(vlan(11), first, NOW), Some(3));
    assert_eq!(switch.port_of(vlan(11), second, NOW), Some(3));
}
