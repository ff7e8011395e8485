//! The host forwards as long as a network needs it, and still hears its own router.

use super::whole_life::whole_life;
use super::{config, create, host};
use crate::config::{NetworkConfig, NetworkMode};
use crate::kernel::fake::{Fake, Fault};
use crate::kernel::network::KernelNetwork;
use crate::kernel::state::StateDir;
use crate::kernel::undo;

/// Of two networks that need forwarding the first to go leaves it on, and what was before is kept
/// by the other, over a death as well.
#[test]
fn the_last_network_gives_forwarding_back() {
    let second = || NetworkConfig {
        subnet: "10.8.0.0/24".parse().unwrap(),
        subnet6: Some("fd08::/64".parse().unwrap()),
        ..config("red", NetworkMode::Nat)
    };
    for (first_dies, second_dies) in [(false, false), (true, false), (false, true), (true, true)] {
        let (fake, root) = (host(), tempfile::tempdir().unwrap());
        let state = StateDir::new(root.path());
        let before = fake.world();
        let blue = create(&fake, &config("blue", NetworkMode::Nat), root.path()).unwrap();
        let red = create(&fake, &second(), root.path()).unwrap();
        let end = |network: KernelNetwork, dies: bool| {
            if dies {
                fake.fail_at(0, Fault::KilledBefore);
                drop(network);
                fake.revive();
            } else {
                network.destroy().unwrap();
            }
        };
        end(blue, first_dies);
        let on = |fake: &Fake| fake.world().settings["net/ipv4/ip_forward"] == "1";
        assert!(on(&fake), "red still needs it");
        if first_dies {
            assert_eq!(undo::recover(&fake, &state).unwrap().len(), 1);
            assert!(on(&fake), "red still needs it");
        }
        end(red, second_dies);
        undo::recover(&fake, &state).unwrap();
        assert_eq!(fake.world(), before, "{first_dies} {second_dies}");
    }
}

#[test]
fn forwarding_that_was_on_stays_on() {
    let (fake, root) = (host(), tempfile::tempdir().unwrap());
    fake.change_world(|world| {
        for switch in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
            world.settings.insert(switch.into(), "1".into());
        }
    });
    let before = fake.world();
    whole_life(&fake, &config("blue", NetworkMode::Nat), root.path()).unwrap();
    assert_eq!(fake.world(), before);
}

/// A host whose way out was advertised to it keeps that while it forwards for guests, and listens
/// as before when they are gone.
#[test]
fn a_router_for_guests_still_hears_its_own_router() {
    let (fake, root) = (host(), tempfile::tempdir().unwrap());
    let before = fake.world();
    let network = create(&fake, &config("blue", NetworkMode::Nat), root.path()).unwrap();
    let world = fake.world();
    let six = |name: &str| world.settings[&format!("net/ipv6/conf/{name}")].clone();
    assert_eq!(six("all/forwarding"), "1");
    assert_eq!(world.routes("eth0"), before.routes("eth0"));
    assert_eq!(six("eth0/accept_ra"), "2");
    // An interface that comes later does as the others, and guests are not listened to.
    assert_eq!(six("default/accept_ra"), "2");
    assert_eq!(six("ab-blue/accept_ra"), "0");
    let addresses = world.addresses("ab-blue");
    let six: Vec<_> = addresses.iter().filter(|it| it.is_ipv6()).collect();
    assert_eq!(six.len(), 2, "{six:?}");
    assert_eq!(six[0].to_string(), "fe80::ad:aff:fe07:0/64");
    network.destroy().unwrap();
    assert_eq!(fake.world(), before);
    // What somebody has chosen meanwhile stays.
    let network = create(&fake, &config("blue", NetworkMode::Nat), root.path()).unwrap();
    fake.change_world(|world| {
        let path = "net/ipv6/conf/eth1/accept_ra";
        world.settings.insert(path.into(), "0".into());
    });
    network.destroy().unwrap();
    assert_eq!(fake.world().settings["net/ipv6/conf/eth1/accept_ra"], "0");
    assert_eq!(fake.world().settings["net/ipv6/conf/eth0/accept_ra"], "1");
    // Nor does a host that routes on one interface begin to listen there.
    fake.change_world(|world| {
        let path = "net/ipv6/conf/eth0/forwarding";
        world.settings.insert(path.into(), "1".into());
    });
    let before = fake.world();
    let network = create(&fake, &config("blue", NetworkMode::Nat), root.path()).unwrap();
    assert_eq!(fake.world().settings["net/ipv6/conf/eth0/accept_ra"], "1");
    network.destroy().unwrap();
    assert_eq!(fake.world().settings, before.settings);
}
