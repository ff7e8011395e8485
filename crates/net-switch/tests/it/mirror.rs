//! The mirror port.

use net_switch::{DropReason, PortConfig, Verdict};

use crate::{GATEWAY, NOW, mac, switch, targets};

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
