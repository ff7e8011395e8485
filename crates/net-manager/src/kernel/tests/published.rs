//! Ports of the host that lead to guests.

use std::net::SocketAddr;

use net_usernet::Protocol;

use super::{config, create, host, publish, publish6, take_over};
use crate::config::{NetworkConfig, NetworkMode};
use crate::error::ManagerError;
use crate::kernel::ops::{KernelForward, KernelOps};

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
    let red = NetworkConfig {
        name: "red".to_owned(),
        ..take_over()
    };
    let bridged = create(&fake, &red, root.path()).unwrap();
    assert!(bridged.forward(&publish(3)).is_err());
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

/// A port leads to a guest, never to what the host has on the network, nor anywhere else.
#[test]
fn a_port_leads_to_a_guest() {
    let (fake, root) = (host(), tempfile::tempdir().unwrap());
    let network = create(&fake, &config("blue", NetworkMode::Nat), root.path()).unwrap();
    let to = |guest: &str| {
        let guest: SocketAddr = guest.parse().unwrap();
        let forward = if guest.is_ipv6() {
            publish6()
        } else {
            publish(3)
        };
        network.forward(&KernelForward { guest, ..forward })
    };
    let before = fake.world();
    for nobody in [
        "10.7.0.1:22",
        "10.7.0.0:22",
        "10.7.0.255:22",
        "10.8.0.3:22",
        "127.0.0.1:22",
        "[fd07::1]:22",
        "[fd07::]:22",
        "[fd08::3]:22",
        "[::1]:22",
        "[fe80::ad:aff:fe07:0]:22",
    ] {
        let error = to(nobody).unwrap_err().to_string();
        assert!(error.contains("no guest's address"), "{nobody}: {error}");
    }
    assert_eq!(fake.world(), before);
    for guest in ["10.7.0.3:22", "[fd07::3]:22"] {
        to(guest).unwrap();
    }
}
