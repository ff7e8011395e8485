//! A bridge that is joined, and an interface that is taken over.

use net_wire::MacAddr;

use super::{config, create, host, take_over};
use crate::config::{NetworkConfig, NetworkMode};
use crate::kernel::fake::World;

#[test]
fn a_bridge_of_the_host_is_joined_and_left_as_it_was() {
    let (fake, root) = (host(), tempfile::tempdir().unwrap());
    let joined = |bridge: &str| NetworkConfig {
        bridge: Some(bridge.to_owned()),
        ..config("blue", NetworkMode::Bridge)
    };
    fake.change_world(|world| world.add("br0", Some(MacAddr([2; 6])), Some("bridge")));
    let before = fake.world();
    for no_bridge in ["br1", "eth0"] {
        assert!(create(&fake, &joined(no_bridge), root.path()).is_err());
    }
    assert_eq!(fake.world(), before);
    let network = create(&fake, &joined("br0"), root.path()).unwrap();
    let world = fake.world();
    assert_eq!(
        world.seen("as-blue").unwrap().bridge.as_deref(),
        Some("br0")
    );
    assert!(!world.names().contains(&"ab-blue"));
    assert!(world.rules.is_empty(), "it only carries frames");
    network.destroy().unwrap();
    assert_eq!(fake.world(), before);
}

#[test]
fn what_is_taken_over_moves_to_the_bridge() {
    let (fake, root) = (host(), tempfile::tempdir().unwrap());
    let network = create(&fake, &take_over(), root.path()).unwrap();
    let moved = |world: &World| {
        let mac = |name: &str| world.seen(name).unwrap().mac;
        (
            world.addresses("eth0").is_empty(),
            world.addresses("ab-blue").len(),
            mac("ab-blue") == mac("eth0"),
        )
    };
    assert_eq!(moved(&fake.world()), (true, 2, true));
    drop(network);
    assert_eq!(fake.world().addresses("eth0").len(), 2);
    // One that is a port of somebody else's bridge is not taken from it.
    fake.change_world(|world| world.add("br0", None, Some("bridge")));
    crate::kernel::system::System::set_bridge(&fake, "eth0", Some("br0")).unwrap();
    let error = create(&fake, &take_over(), root.path()).unwrap_err();
    assert!(error.to_string().contains("port of br0"), "{error}");
}
