//! The mirror port.

use net_switch::{Config, DropReason, PortConfig, SnoopConfig, Switch, Verdict};

use crate::group_packets::{data, group4};
use crate::{GATEWAY, NOW, mac, switch, targets, with_config};

#[test]
fn a_mirror_port_hears_and_does_not_speak() {
    let mut switch = switch(3);
    switch.forward(3, GATEWAY, mac(3), NOW);
    assert_eq!(switch.forward(1, mac(3), mac(1), NOW), Verdict::To(3));
    assert!(switch.set_mirror(Some(3)));
    // It is part of the network no more: what was known of it is forgotten.
    assert_eq!(switch.forward(1, mac(3), mac(1), NOW), Verdict::Flood);
    assert_eq!(targets(&switch, 1), [0, 2]);
    assert_eq!(targets(&switch, 0), [1, 2]);
    let refused = Verdict::Drop(DropReason::Mirror);
    for dst in [mac(1), GATEWAY, net_wire::MacAddr::BROADCAST] {
        assert_eq!(switch.forward(3, dst, mac(3), NOW), refused);
        assert_eq!(switch.forward(3, dst, mac(1), NOW), refused);
    }
    assert_eq!(switch.forward(2, mac(1), mac(2), NOW), Verdict::To(1));
    assert_eq!(switch.statistics().drops.of(DropReason::Mirror), 6);
    // Not even by an address that is tied to it.
    assert!(switch.add_port(3, PortConfig::with_mac(mac(30))));
    assert_eq!(
        switch.forward(1, mac(30), mac(1), NOW),
        Verdict::Drop(DropReason::Isolated)
    );
    assert!(switch.set_mirror(None));
    assert_eq!(switch.forward(1, mac(30), mac(1), NOW), Verdict::To(3));
    assert_eq!(targets(&switch, 1), [0, 2, 3]);
}

#[test]
fn chosen_ports_are_mirrored() {
    let mut switch = switch(3);
    let mirrored = PortConfig::default().mirrored(true);
    switch.add_port(1, mirrored);
    assert_eq!(switch.mirror_of(1), None, "to nowhere yet");
    assert!(!switch.set_mirror(Some(9)), "no such port");
    assert!(!switch.set_mirror(Some(0)), "the gateway speaks");
    switch.add_port(3, mirrored);
    assert!(switch.set_mirror(Some(3)));
    let of: Vec<_> = (0..5).map(|id| switch.mirror_of(id)).collect();
    assert_eq!(of, [None, Some(3), None, None, None]);
    switch.remove_port(3);
    assert_eq!(switch.mirror_of(1), None);
    switch.add_port(3, PortConfig::default());
    assert_eq!(switch.mirror_of(1), None, "another port of the same number");
}

#[test]
fn a_mirror_port_is_in_no_group() {
    let mut config = Config::new([3; 16]);
    config.snooping = Some(SnoopConfig::default());
    let mut switch = with_config(config, 3);
    let data = data(group4(1));
    let sent = |switch: &mut Switch| switch.multicast_targets(1, &data, NOW);
    assert_eq!(sent(&mut switch), [0, 2, 3]);
    assert!(switch.set_mirror(Some(3)));
    assert_eq!(sent(&mut switch), [0, 2]);
}
