//! What may be attached, and what a refusal leaves.

use super::{config, create, host, netns, publish, tap};
use crate::config::{NetworkConfig, NetworkMode};
use crate::error::ManagerError;
use crate::kernel::fake::{Fake, Fault};
use crate::kernel::ops::{KernelAttach, KernelOps, MacvtapPort, TapPort};

#[test]
fn a_refused_attachment_leaves_the_network_as_it_was() {
    let (fake, root) = (host(), tempfile::tempdir().unwrap());
    let network = create(&fake, &config("blue", NetworkMode::Nat), root.path()).unwrap();
    let before = fake.world();
    let veth = network.attach(&netns()).unwrap().interface;
    fake.revive();
    network.detach(&veth).unwrap();
    assert_eq!(fake.world(), before);
    for change in 0.. {
        fake.fail_at(change, Fault::Refused);
        let attached = network.attach(&netns());
        fake.revive();
        if attached.is_ok() {
            // The fault lies behind all that there was to do.
            assert!(change > 2, "{change}");
            network.detach(&veth).unwrap();
            break;
        }
        assert_eq!(fake.world(), before, "refused {change}");
    }
    fake.fail_at(0, Fault::Refused);
    assert!(network.forward(&publish(3)).is_err());
    fake.revive();
    assert_eq!(fake.world(), before);
    network.attach(&tap("tap1")).unwrap();
    network.destroy().unwrap();
}

#[test]
fn attachments_are_checked() {
    let (fake, root) = (host(), tempfile::tempdir().unwrap());
    let isolated = NetworkConfig {
        isolated: true,
        queues: 4,
        ..config("blue", NetworkMode::HostOnly)
    };
    let network = create(&fake, &isolated, root.path()).unwrap();
    network.attach(&tap("tap1")).unwrap();
    assert!(fake.world().port("tap1").unwrap().isolated);
    assert!(!fake.world().port("as-blue").unwrap().isolated);
    let kept_apart = |fake: &Fake| fake.world().rules["blue"].isolation.clone().unwrap().ports;
    assert_eq!(kept_apart(&fake), ["tap1"]);
    let vlan = |vlan| {
        KernelAttach::Tap(TapPort {
            name: "tap2".to_owned(),
            vlan: Some(vlan),
            ..TapPort::default()
        })
    };
    network.attach(&vlan(7)).unwrap();
    assert_eq!(fake.world().port("tap2").unwrap().pvid, Some(7));
    assert_eq!(fake.world().vlans, ["ab-blue"]);
    let before = fake.world();
    for bad in [
        tap("tap1"),
        tap("eth0"),
        tap("a/b"),
        tap(""),
        vlan(0),
        vlan(4095),
    ] {
        assert!(network.attach(&bad).is_err(), "{bad:?}");
    }
    for not_attached in ["eth0", "ab-blue", "as-blue", "tap9"] {
        assert!(
            matches!(
                network.detach(not_attached),
                Err(ManagerError::NotAttached(_))
            ),
            "{not_attached}"
        );
    }
    let macvtap = KernelAttach::Macvtap(MacvtapPort {
        parent: "eth1".to_owned(),
        name: "mv1".to_owned(),
        mac: [2, 0, 0, 0, 0, 6],
        owner: None,
    });
    assert!(network.attach(&macvtap).is_err(), "not in this mode");
    assert_eq!(fake.world(), before);
}
