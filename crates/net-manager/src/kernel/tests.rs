//! Networks over a kernel in memory that refuses, or outlives the process, at every single step.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use net_usernet::Protocol;
use net_wire::MacAddr;

use super::fake::{Fake, Fault, World};
use super::network::KernelNetwork;
use super::ops::{KernelAttach, KernelForward, KernelOps, MacvtapPort, NetnsPort, TapPort};
use super::state::StateDir;
use super::undo;
use crate::config::{NetworkConfig, NetworkMode};
use crate::error::ManagerError;

fn config(name: &str, mode: NetworkMode) -> NetworkConfig {
    NetworkConfig {
        name: name.to_owned(),
        mode,
        subnet: "10.7.0.0/24".parse().unwrap(),
        ..NetworkConfig::default()
    }
}

fn take_over() -> NetworkConfig {
    NetworkConfig {
        take_over: Some("eth0".to_owned()),
        ..config("blue", NetworkMode::Bridge)
    }
}

fn tap(name: &str) -> KernelAttach {
    KernelAttach::Tap(TapPort {
        name: name.to_owned(),
        ..TapPort::default()
    })
}

fn netns() -> KernelAttach {
    KernelAttach::Netns(NetnsPort {
        namespace: "guest".to_owned(),
        interface: "eth0".to_owned(),
        mac: [2, 0, 0, 0, 0, 5],
        address: None,
        address6: None,
        vlan: None,
    })
}

fn create(fake: &Fake, config: &NetworkConfig, root: &Path) -> Result<KernelNetwork, ManagerError> {
    KernelNetwork::create_on(Box::new(fake.clone()), config, &StateDir::new(root))
}

/// A port that nothing else in this test wants.
fn publish(guest: u8) -> KernelForward {
    KernelForward {
        protocol: Protocol::Tcp,
        bind: (Ipv4Addr::LOCALHOST, 0).into(),
        guest: SocketAddr::from(([10, 7, 0, guest], 80)),
    }
}

/// The same over IPv6, on every address of the host.
fn publish6() -> KernelForward {
    KernelForward {
        protocol: Protocol::Tcp,
        bind: "[::]:0".parse().unwrap(),
        guest: "[fd07::3]:80".parse().unwrap(),
    }
}

/// All that a network can do, and its end.
fn whole_life(fake: &Fake, config: &NetworkConfig, root: &Path) -> Result<(), ManagerError> {
    let network = create(fake, config, root)?;
    network.attach(&tap("tap1"))?;
    network.attach(&tap("tap2"))?;
    let veth = network.attach(&netns())?.interface;
    if config.mode == NetworkMode::Bridge {
        network.attach(&KernelAttach::Macvtap(MacvtapPort {
            parent: "eth1".to_owned(),
            name: "mv1".to_owned(),
            mac: [2, 0, 0, 0, 0, 6],
            owner: None,
        }))?;
    } else {
        let address = network.forward(&publish(3))?;
        network.forward(&publish(4))?;
        network.forward(&publish6())?;
        network.unforward(Protocol::Tcp, address)?;
    }
    network.detach("tap1")?;
    network.detach(&veth)?;
    network.destroy()
}

fn every_mode() -> [NetworkConfig; 5] {
    [
        config("blue", NetworkMode::Nat),
        config("blue", NetworkMode::HostOnly),
        config("blue", NetworkMode::Bridge),
        take_over(),
        NetworkConfig {
            isolated: true,
            ..config("blue", NetworkMode::HostOnly)
        },
    ]
}

fn host() -> Fake {
    let fake = Fake::new();
    fake.plug("eth1", MacAddr([2, 0, 0, 0, 0, 8]));
    fake.revive();
    fake
}

fn networks(root: &Path) -> Vec<String> {
    StateDir::new(root).networks().unwrap()
}

#[test]
fn a_whole_life_leaves_nothing() {
    for config in every_mode() {
        let (fake, root) = (host(), tempfile::tempdir().unwrap());
        let before = fake.world();
        whole_life(&fake, &config, root.path()).unwrap();
        assert_eq!(fake.world(), before, "{config:?}");
        assert!(networks(root.path()).is_empty());
    }
}

/// Killed at any change, before or after the kernel has made it: whoever cleans up finds it all.
#[test]
fn a_death_at_any_step_is_cleaned_up_after() {
    for config in every_mode() {
        let (fake, root) = (host(), tempfile::tempdir().unwrap());
        whole_life(&fake, &config, root.path()).unwrap();
        let changes = fake.revive();
        assert!(changes > 10, "{changes}");
        for change in 0..changes {
            for fault in [Fault::KilledBefore, Fault::KilledAfter] {
                let (fake, root) = (host(), tempfile::tempdir().unwrap());
                let before = fake.world();
                fake.fail_at(change, fault);
                let result = whole_life(&fake, &config, root.path());
                assert!(fake.is_dead(), "{config:?} {change}");
                assert!(result.is_err() || change + 1 == changes);
                fake.revive();
                let state = StateDir::new(root.path());
                undo::recover(&fake, &state).unwrap();
                assert_eq!(fake.world(), before, "{fault:?} at {change} of {config:?}");
                assert!(networks(root.path()).is_empty());
            }
        }
    }
}

/// Killed once more while cleaning up, at any change, it is the same to the next.
#[test]
fn a_death_while_cleaning_up_too() {
    for config in [config("blue", NetworkMode::Nat), take_over()] {
        let leave = || {
            let (fake, root) = (host(), tempfile::tempdir().unwrap());
            let before = fake.world();
            let network = create(&fake, &config, root.path()).unwrap();
            network.attach(&tap("tap1")).unwrap();
            fake.fail_at(0, Fault::KilledBefore);
            drop(network);
            fake.revive();
            (fake, root, before)
        };
        let (fake, root, _) = leave();
        undo::recover(&fake, &StateDir::new(root.path())).unwrap();
        let changes = fake.revive();
        for change in 0..changes {
            for fault in [Fault::KilledBefore, Fault::KilledAfter] {
                let (fake, root, before) = leave();
                let state = StateDir::new(root.path());
                fake.fail_at(change, fault);
                undo::recover(&fake, &state).unwrap_err();
                fake.revive();
                undo::recover(&fake, &state).unwrap();
                assert_eq!(fake.world(), before, "{fault:?} at {change} of {config:?}");
            }
        }
    }
}

/// What the kernel refuses while a network is made leaves nothing; what it refuses later leaves
/// the network as it was.
#[test]
fn a_refusal_at_any_step_leaves_nothing() {
    for config in every_mode() {
        let changes = {
            let (fake, root) = (host(), tempfile::tempdir().unwrap());
            whole_life(&fake, &config, root.path()).unwrap();
            fake.revive()
        };
        for change in 0..changes {
            let (fake, root) = (host(), tempfile::tempdir().unwrap());
            let before = fake.world();
            fake.fail_at(change, Fault::Refused);
            // Refused on the way out, it is undone by the next.
            let _ = whole_life(&fake, &config, root.path());
            fake.revive();
            undo::recover(&fake, &StateDir::new(root.path())).unwrap();
            assert_eq!(fake.world(), before, "refused {change} of {config:?}");
        }
    }
}

#[test]
fn a_refused_attachment_leaves_the_network_as_it_was() {
    let (fake, root) = (host(), tempfile::tempdir().unwrap());
    let network = create(&fake, &config("blue", NetworkMode::Nat), root.path()).unwrap();
    let before = fake.world();
    for change in 0..4 {
        fake.fail_at(change, Fault::Refused);
        let _ = network.attach(&netns());
        fake.revive();
        if fake.world() != before {
            // All four changes succeed only if the fault lay behind them.
            assert_eq!(change, 4);
        }
    }
    fake.fail_at(0, Fault::Refused);
    assert!(network.forward(&publish(3)).is_err());
    fake.revive();
    assert_eq!(fake.world(), before);
    network.attach(&tap("tap1")).unwrap();
    network.destroy().unwrap();
}

/// Of two networks that need forwarding the first to go leaves it on, and what was before is kept
/// by the other, over a death as well.
#[test]
fn the_last_network_gives_forwarding_back() {
    let second = || NetworkConfig {
        subnet: "10.8.0.0/24".parse().unwrap(),
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

/// A host without IPv6 has networks without it, which say why.
#[test]
fn no_ipv6_without_the_hosts() {
    let (fake, root) = (host(), tempfile::tempdir().unwrap());
    fake.change_world(|world| {
        let path = "net/ipv6/conf/default/disable_ipv6";
        world.settings.insert(path.into(), "1".into());
    });
    let before = fake.world();
    let network = create(&fake, &config("blue", NetworkMode::Nat), root.path()).unwrap();
    assert_eq!(network.no_ipv6(), Some("a test forbids it"));
    let world = fake.world();
    assert_eq!(world.settings["net/ipv6/conf/all/forwarding"], "0");
    assert!(world.addresses("ab-blue").iter().all(|it| it.is_ipv4()));
    assert_eq!(world.rules["blue"].subnet6, None);
    let error = network.forward(&publish6()).unwrap_err().to_string();
    assert!(error.contains("a test forbids it"), "{error}");
    network.destroy().unwrap();
    assert_eq!(fake.world(), before);
    let off = NetworkConfig {
        ipv6: false,
        ..config("blue", NetworkMode::HostOnly)
    };
    let network = create(&host(), &off, root.path()).unwrap();
    assert!(network.no_ipv6().unwrap().contains("switched off"));
}

/// A port of the host's IPv6 loopback is what the kernel carries nowhere; any other turns the
/// forwarding of IPv6 on, and of IPv6 alone.
#[test]
fn a_port_of_ipv6_is_published() {
    let (fake, root) = (host(), tempfile::tempdir().unwrap());
    let before = fake.world();
    let network = create(&fake, &config("blue", NetworkMode::HostOnly), root.path()).unwrap();
    let bind = network.forward(&publish6()).unwrap();
    let settings = fake.world().settings;
    assert_eq!(settings["net/ipv6/conf/all/forwarding"], "1");
    assert_eq!(settings["net/ipv4/ip_forward"], "0");
    let forwards = &fake.world().rules["blue"].forwards;
    assert_eq!((forwards.len(), forwards[0].bind), (1, bind));
    network.unforward(Protocol::Tcp, bind).unwrap();
    network.destroy().unwrap();
    assert_eq!(fake.world(), before);
}

/// A prefix that the host is in already is refused, as a subnet is.
#[test]
fn a_prefix_that_the_host_is_in_is_refused() {
    let (fake, root) = (host(), tempfile::tempdir().unwrap());
    let mut asked = config("blue", NetworkMode::Nat);
    asked.subnet6 = Some("2001:db8::/64".parse().unwrap());
    let error = create(&fake, &asked, root.path()).unwrap_err().to_string();
    assert!(
        error.contains("2001:db8::") && error.contains("eth0"),
        "{error}"
    );
    for bad in ["fd00::/48", "fe80::/64"] {
        asked.subnet6 = Some(bad.parse().unwrap());
        assert!(create(&fake, &asked, root.path()).is_err(), "{bad}");
    }
}

/// The alias tells whose an interface is: a name that somebody else has taken meanwhile is safe.
#[test]
fn what_is_not_ours_is_left_alone() {
    let (fake, root) = (host(), tempfile::tempdir().unwrap());
    let network = create(&fake, &config("blue", NetworkMode::Nat), root.path()).unwrap();
    network.attach(&tap("tap1")).unwrap();
    fake.fail_at(0, Fault::KilledBefore);
    drop(network);
    fake.revive();
    fake.change_world(|world| {
        for (name, mac) in [("ab-blue", 1), ("tap1", 2)] {
            world.add(name, Some(MacAddr([6, 6, 6, 6, 6, mac])), Some("bridge"));
        }
    });
    undo::recover(&fake, &StateDir::new(root.path())).unwrap();
    let world = fake.world();
    assert!(world.names().contains(&"ab-blue") && world.names().contains(&"tap1"));
    assert!(!world.names().contains(&"as-blue"));
    assert!(world.rules.is_empty());
}

#[test]
fn a_living_network_is_left_alone() {
    let (fake, root) = (host(), tempfile::tempdir().unwrap());
    let network = create(&fake, &config("blue", NetworkMode::Nat), root.path()).unwrap();
    let alive = fake.world();
    let state = StateDir::new(root.path());
    assert!(undo::recover(&fake, &state).unwrap().is_empty());
    assert_eq!(fake.world(), alive);
    let second = create(&fake, &config("blue", NetworkMode::Nat), root.path());
    let error = second.unwrap_err().to_string();
    let pid = std::process::id().to_string();
    assert!(error.contains("blue") && error.contains(&pid), "{error}");
    assert_eq!(fake.world(), alive);
    network.destroy().unwrap();
}

#[test]
fn a_new_start_cleans_up_by_itself() {
    let (fake, root) = (host(), tempfile::tempdir().unwrap());
    let before = fake.world();
    let network = create(&fake, &take_over(), root.path()).unwrap();
    fake.fail_at(0, Fault::KilledBefore);
    drop(network);
    fake.revive();
    create(&fake, &config("blue", NetworkMode::Nat), root.path())
        .unwrap()
        .destroy()
        .unwrap();
    assert_eq!(fake.world(), before);
}

#[test]
fn what_another_boot_or_namespace_has_left() {
    let leave = || {
        let (fake, root) = (host(), tempfile::tempdir().unwrap());
        let network = create(&fake, &config("blue", NetworkMode::Nat), root.path()).unwrap();
        fake.fail_at(0, Fault::KilledBefore);
        drop(network);
        fake.revive();
        (fake, root)
    };
    // After a boot everything is gone by itself; what has the same name is a stranger's.
    let (fake, root) = leave();
    fake.reboot();
    let left = fake.world();
    undo::recover(&fake, &StateDir::new(root.path())).unwrap();
    assert_eq!(fake.world(), left);
    assert!(networks(root.path()).is_empty());
    // In another namespace it cannot be reached, and is not forgotten.
    let (fake, root) = leave();
    fake.enter_namespace(9);
    let state = StateDir::new(root.path());
    let error = undo::recover(&fake, &state).unwrap_err();
    assert!(
        matches!(error, ManagerError::OtherNamespace { .. }),
        "{error}"
    );
    assert_eq!(networks(root.path()), ["blue"]);
    fake.enter_namespace(0);
    assert_eq!(undo::recover(&fake, &state).unwrap().len(), 1);
}

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
    super::system::System::set_bridge(&fake, "eth0", Some("br0")).unwrap();
    let error = create(&fake, &take_over(), root.path()).unwrap_err();
    assert!(error.to_string().contains("port of br0"), "{error}");
}

#[test]
fn a_subnet_that_the_host_is_in_is_refused() {
    let (fake, root) = (host(), tempfile::tempdir().unwrap());
    for subnet in ["192.0.2.0/25", "192.0.0.0/16", "192.0.2.8/29"] {
        let config = NetworkConfig {
            subnet: subnet.parse().unwrap(),
            ..config("blue", NetworkMode::Nat)
        };
        let error = create(&fake, &config, root.path()).unwrap_err().to_string();
        assert!(error.contains("eth0"), "{subnet}: {error}");
    }
    let blue = create(&fake, &config("blue", NetworkMode::Nat), root.path()).unwrap();
    let error = create(&fake, &config("red", NetworkMode::HostOnly), root.path()).unwrap_err();
    assert!(error.to_string().contains("ab-blue"), "{error}");
    drop(blue);
    assert!(networks(root.path()).is_empty());
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

/// A port that a program of the host has is not taken from under it, nor given twice.
#[test]
fn published_ports_are_reserved() {
    let (fake, root) = (host(), tempfile::tempdir().unwrap());
    let network = create(&fake, &config("blue", NetworkMode::Nat), root.path()).unwrap();
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let forward = KernelForward {
            protocol,
            ..publish(3)
        };
        let address = network.forward(&forward).unwrap();
        assert_ne!(address.port(), 0);
        let again = KernelForward {
            bind: address,
            ..forward
        };
        let error = network.forward(&again).unwrap_err();
        assert!(matches!(error, ManagerError::PortTaken { .. }), "{error}");
        let rules = fake.world().rules["blue"].clone();
        assert_eq!(rules.forwards, [again.into()]);
        network.unforward(protocol, address).unwrap();
        assert!(fake.world().rules["blue"].forwards.is_empty());
        assert_eq!(fake.ended(), Some(again.into()));
        network.forward(&again).unwrap();
        network.unforward(protocol, address).unwrap();
        network.unforward(protocol, address).unwrap();
    }
    let crossed = KernelForward {
        bind: "[::1]:0".parse().unwrap(),
        ..publish(3)
    };
    assert!(network.forward(&crossed).is_err());
    let bridged = create(&fake, &take_over_as("red"), root.path()).unwrap();
    assert!(bridged.forward(&publish(3)).is_err());
}

fn take_over_as(name: &str) -> NetworkConfig {
    NetworkConfig {
        name: name.to_owned(),
        ..take_over()
    }
}
