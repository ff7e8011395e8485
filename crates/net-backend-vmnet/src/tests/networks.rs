//! Networks of macOS 26.

use std::net::{Ipv4Addr, Ipv6Addr};

use net_wire::MacAddr;

use super::forwarding::rule;
use super::patience;
use crate::fake::{Fake, Script};
use crate::forwarding::RawRule;
use crate::key::{Key, MacosRelease, Value};
use crate::network::Step;
use crate::{
    ConfigError, ForwardRule, Status, Vmnet, VmnetConfig, VmnetError, VmnetNetwork,
    VmnetNetworkConfig,
};

const MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0x12, 0x34, 0x56]);
const MASK: Ipv4Addr = Ipv4Addr::new(255, 255, 255, 0);

fn made(fake: &Fake, config: VmnetNetworkConfig) -> Result<VmnetNetwork, VmnetError> {
    VmnetNetwork::with_framework(fake.framework(), &config)
}

fn join(fake: &Fake, config: VmnetNetworkConfig) -> Vmnet {
    let network = made(fake, config).unwrap();
    Vmnet::on_network(&network, VmnetConfig::on_network()).unwrap()
}

#[test]
fn modes() {
    for (config, mode) in [
        (VmnetNetworkConfig::shared(), 1001),
        (VmnetNetworkConfig::host_only(), 1000),
    ] {
        let fake = Fake::new();
        let vmnet = join(&fake, config);
        assert!(vmnet.is_running());
        assert_eq!(fake.state().network_mode, Some(mode));
        // The network has the mode, not the interface.
        assert_eq!(fake.state().requests[0].iter().count(), 0);
    }
}

/// One row for each setting, and the step it becomes.
#[test]
fn every_setting() {
    let new = VmnetNetworkConfig::shared;
    let prefix: Ipv6Addr = "fd00:1::".parse().unwrap();
    let address = Ipv4Addr::new(192, 168, 66, 1);
    let raw = RawRule {
        protocol: 6,
        external_port: 8080,
        address: [192, 168, 105, 7].into(),
        port: 80,
    };
    let rows = [
        (
            new().with_external_interface("en0"),
            Step::ExternalInterface("en0".to_owned()),
        ),
        (
            new().with_subnet(address, MASK),
            Step::Ipv4Subnet(address, MASK),
        ),
        (
            new().with_ipv6_prefix(prefix, 64),
            Step::Ipv6Prefix(prefix, 64),
        ),
        (new().with_mtu(9000), Step::Mtu(9000)),
        (new().without_nat44(), Step::DisableNat44),
        (new().without_nat66(), Step::DisableNat66),
        (new().without_dhcp(), Step::DisableDhcp),
        (new().without_dns_proxy(), Step::DisableDnsProxy),
        (
            new().without_router_advertisement(),
            Step::DisableRouterAdvertisement,
        ),
        (
            new().with_dhcp_reservation(MAC, address),
            Step::DhcpReservation(MAC, address),
        ),
        (new().with_forward(rule()), Step::Forward(raw)),
    ];
    for (config, step) in rows {
        let fake = Fake::new();
        let _vmnet = join(&fake, config);
        assert_eq!(fake.state().steps, [step]);
    }
}

#[test]
fn steps_keep_their_order() {
    let fake = Fake::new();
    let config = VmnetNetworkConfig::shared()
        .without_dhcp()
        .with_mtu(1500)
        .without_nat66();
    let _vmnet = join(&fake, config);
    let steps = [Step::DisableDhcp, Step::Mtu(1500), Step::DisableNat66];
    assert_eq!(fake.state().steps, steps);
}

#[test]
fn options_of_an_interface_on_a_network() {
    let fake = Fake::new();
    let network = made(&fake, VmnetNetworkConfig::shared()).unwrap();
    let config = VmnetConfig::on_network().with_isolation(true).with_mac(MAC);
    let vmnet = Vmnet::on_network(&network, config).unwrap();
    let request: Vec<_> = fake.state().requests[0].iter().cloned().collect();
    assert_eq!(
        request,
        [
            (Key::AllocateMacAddress, Value::Flag(false)),
            (Key::EnableIsolation, Value::Flag(true)),
        ]
    );
    assert!(vmnet.is_running());
    // A configuration for an interface of its own does not belong on a network.
    let error = Vmnet::on_network(&network, VmnetConfig::shared()).unwrap_err();
    assert!(matches!(
        error,
        VmnetError::Config(ConfigError::NetworkMode)
    ));
}

/// The network lives as long as anybody holds a copy of it, and is released once.
#[test]
fn a_network_is_released_once() {
    let fake = Fake::new();
    let network = made(&fake, VmnetNetworkConfig::host_only()).unwrap();
    let copy = network.clone();
    assert_eq!(fake.state().networks, 1);
    drop(network);
    assert_eq!(copy.ipv4_subnet(), ([192, 168, 66, 0].into(), MASK));
    assert_eq!(copy.ipv6_prefix(), ("fd12:3456::".parse().unwrap(), 64));
    assert_eq!(copy.gateway(), Ipv4Addr::new(192, 168, 66, 1));
    assert_eq!(
        format!("{copy:?}"),
        "VmnetNetwork(192.168.66.0 mask 255.255.255.0)"
    );
    drop(copy);
    assert_eq!(fake.state().networks, 0);
}

#[test]
fn an_older_macos_has_none() {
    let fake = Fake::with(Script {
        release: MacosRelease(15, 7),
        ..Script::default()
    });
    let error = made(&fake, VmnetNetworkConfig::shared()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "an explicit network needs macOS 26 or newer"
    );
    // Interfaces of their own are served there as ever.
    let vmnet = Vmnet::start(fake.framework(), None, VmnetConfig::shared(), patience());
    assert!(vmnet.unwrap().is_running());
}

/// Every status, and a failure that names none.
#[test]
fn refused_networks() {
    for number in (1001..=1010).chain([0, 77]) {
        let fake = Fake::with(Script {
            network_status: number,
            ..Script::default()
        });
        let expected = Status::check(number).unwrap_err();
        let error = made(&fake, VmnetNetworkConfig::shared()).unwrap_err();
        assert!(matches!(
            error,
            VmnetError::Refused { what: "make a network", status } if status == expected
        ));
        assert_eq!(fake.state().networks, 0);
    }
}

#[test]
fn what_is_wrong_with_a_network() {
    let new = VmnetNetworkConfig::shared;
    let public = Ipv4Addr::new(198, 51, 100, 1);
    let private = Ipv4Addr::new(10, 0, 0, 1);
    let prefix: Ipv6Addr = "fd00::1".parse().unwrap();
    let bad_rule = ForwardRule {
        external_port: 0,
        ..rule()
    };
    let bad_mask = Ipv4Addr::new(255, 0, 255, 0);
    let rows = [
        (
            new().with_external_interface("en 0"),
            ConfigError::InterfaceName("en 0".to_owned()),
        ),
        (
            new().with_subnet(public, MASK),
            ConfigError::NotPrivate(public),
        ),
        (
            new().with_subnet(private, bad_mask),
            ConfigError::Mask(bad_mask),
        ),
        (
            new().with_ipv6_prefix(prefix, 64),
            ConfigError::Ipv6Prefix(prefix, 64),
        ),
        (
            new().with_ipv6_prefix(Ipv6Addr::UNSPECIFIED, 0),
            ConfigError::Ipv6Prefix(Ipv6Addr::UNSPECIFIED, 0),
        ),
        (
            new().with_ipv6_prefix(prefix, 200),
            ConfigError::Ipv6Prefix(prefix, 200),
        ),
        (new().with_mtu(1279), ConfigError::Mtu(1279)),
        (
            new().with_dhcp_reservation(MacAddr::BROADCAST, private),
            ConfigError::Mac(MacAddr::BROADCAST),
        ),
        (
            new().with_dhcp_reservation(MAC, public),
            ConfigError::NotPrivate(public),
        ),
        (new().with_forward(bad_rule), ConfigError::Forward(bad_rule)),
        (
            VmnetNetworkConfig::host_only().with_external_interface("en0"),
            ConfigError::NotInMode {
                option: "an external interface",
                mode: "host-only",
            },
        ),
    ];
    for (config, expected) in rows {
        assert_eq!(config.validate(), Err(expected.clone()));
        let error = made(&Fake::new(), config).unwrap_err();
        assert!(matches!(error, VmnetError::Config(e) if e == expected));
    }
}
