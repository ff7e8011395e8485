//! What is wrong with a configuration, before the system is asked.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use net_wire::MacAddr;

use super::forwarding::rule;
use super::start;
use crate::fake::Fake;
use crate::{ConfigError, ForwardRule, InterfaceId, VmnetConfig, VmnetError, VmnetMode};

const ID: InterfaceId = InterfaceId([1; 16]);

fn range(start: [u8; 4], end: [u8; 4], mask: [u8; 4]) -> Result<(), ConfigError> {
    VmnetConfig::shared()
        .with_dhcp_range(start.into(), end.into())
        .with_subnet_mask(mask.into())
        .validate()
}

#[test]
fn an_mtu_has_a_floor_and_no_place_in_bridged_mode() {
    for config in [VmnetConfig::shared(), VmnetConfig::host_only()] {
        for mtu in [0, 68, 1279] {
            let config = config.clone().with_mtu(mtu);
            assert_eq!(config.validate(), Err(ConfigError::Mtu(mtu)));
        }
        for mtu in [1280, 1500, 9000, u16::MAX] {
            assert_eq!(config.clone().with_mtu(mtu).validate(), Ok(()));
        }
    }
    let bridged = VmnetConfig::bridged("en0").with_mtu(1500);
    assert_eq!(bridged.validate(), Err(ConfigError::BridgedMtu));
}

#[test]
fn a_station_has_a_unicast_address() {
    let group = MacAddr([0x01, 0, 0x5e, 0, 0, 1]);
    for mac in [MacAddr::ZERO, MacAddr::BROADCAST, group] {
        let config = VmnetConfig::shared().with_mac(mac);
        assert_eq!(config.validate(), Err(ConfigError::Mac(mac)));
    }
}

#[test]
fn names_of_interfaces() {
    for name in ["en0", "bridge100", "a", "fifteen-bytes-1"] {
        assert_eq!(VmnetConfig::bridged(name).validate(), Ok(()), "{name}");
    }
    for name in ["", "sixteen-bytes-12", "en 0", "en0\0", "en/0", "\u{e9}n0"] {
        let error = VmnetConfig::bridged(name).validate();
        assert_eq!(error, Err(ConfigError::InterfaceName(name.into())));
    }
    let text = ConfigError::InterfaceName("en0\n".into()).to_string();
    assert_eq!(text.lines().count(), 1, "{text}");
}

#[test]
fn dhcp_ranges() {
    let mask = [255, 255, 255, 0];
    assert_eq!(range([192, 168, 1, 1], [192, 168, 1, 254], mask), Ok(()));
    assert_eq!(
        range([10, 1, 0, 1], [10, 1, 255, 254], [255, 255, 0, 0]),
        Ok(())
    );
    assert_eq!(
        range([172, 16, 0, 1], [172, 16, 0, 2], [255, 255, 255, 252]),
        Ok(())
    );
    // The wrong way round, empty, out of the subnet.
    for (first, last) in [
        ([192, 168, 1, 9], [192, 168, 1, 8]),
        ([192, 168, 1, 9], [192, 168, 1, 9]),
        ([192, 168, 1, 1], [192, 168, 2, 9]),
    ] {
        let (start, end) = (first.into(), last.into());
        assert_eq!(
            range(first, last, mask),
            Err(ConfigError::Range { start, end })
        );
    }
    // The network itself, and its broadcast address.
    for (first, last, bad) in [
        ([192, 168, 1, 0], [192, 168, 1, 9], [192, 168, 1, 0]),
        ([192, 168, 1, 1], [192, 168, 1, 255], [192, 168, 1, 255]),
    ] {
        let bad = IpAddr::from(bad);
        assert_eq!(range(first, last, mask), Err(ConfigError::Address(bad)));
    }
    let public = Ipv4Addr::new(198, 51, 100, 1);
    let error = range([198, 51, 100, 1], [198, 51, 100, 9], mask);
    assert_eq!(error, Err(ConfigError::NotPrivate(public)));
    for bad in [
        [255, 0, 255, 0],
        [0, 0, 0, 0],
        [255, 255, 255, 255],
        [255, 255, 255, 254],
    ] {
        let error = range([192, 168, 1, 1], [192, 168, 1, 9], bad);
        assert_eq!(error, Err(ConfigError::Mask(bad.into())));
    }
}

#[test]
fn a_range_and_its_mask_come_together() {
    let range = VmnetConfig::shared().with_dhcp_range([10, 0, 0, 1].into(), [10, 0, 0, 9].into());
    assert_eq!(range.validate(), Err(ConfigError::RangeIncomplete));
    let mask = VmnetConfig::host_only().with_subnet_mask([255, 0, 0, 0].into());
    assert_eq!(mask.validate(), Err(ConfigError::RangeIncomplete));
}

#[test]
fn options_belong_to_modes() {
    let shared = VmnetConfig::shared;
    let host = VmnetConfig::host_only;
    let bridged = || VmnetConfig::bridged("en0");
    let network = VmnetConfig::on_network;
    let (start, end) = ([10, 0, 0, 1].into(), [10, 0, 0, 9].into());
    let mask = Ipv4Addr::new(255, 0, 0, 0);
    let prefix: Ipv6Addr = "fd00::".parse().unwrap();
    let rows = [
        (
            bridged().with_dhcp_range(start, end),
            "a DHCP range",
            "bridged",
        ),
        (bridged().with_subnet_mask(mask), "a DHCP range", "bridged"),
        (
            network().with_dhcp_range(start, end),
            "a DHCP range",
            "network",
        ),
        (network().with_mtu(1500), "an MTU", "network"),
        (
            network().with_interface_id(ID),
            "an interface id",
            "network",
        ),
        (
            host().with_nat66_prefix(prefix),
            "a NAT66 prefix",
            "host-only",
        ),
        (
            bridged().with_nat66_prefix(prefix),
            "a NAT66 prefix",
            "bridged",
        ),
        (shared().with_network_id(ID), "a network id", "shared"),
        (bridged().with_network_id(ID), "a network id", "bridged"),
        (
            host().with_forward(rule()),
            "a forwarding rule",
            "host-only",
        ),
        (
            network().with_forward(rule()),
            "a forwarding rule",
            "network",
        ),
    ];
    for (config, option, mode) in rows {
        let error = ConfigError::NotInMode { option, mode };
        assert_eq!(config.validate(), Err(error), "{config:?}");
    }
    let fine = network().with_isolation(true).with_virtio_header(true);
    assert_eq!(fine.with_tso(true).validate(), Ok(()));
    assert_eq!(bridged().with_interface_id(ID).validate(), Ok(()));
}

#[test]
fn isolated_networks() {
    let isolated = VmnetConfig::host_only().with_network_id(ID);
    let with_dhcp = isolated
        .clone()
        .with_dhcp_range([10, 0, 0, 1].into(), [10, 0, 0, 9].into())
        .with_subnet_mask([255, 0, 0, 0].into());
    assert_eq!(with_dhcp.validate(), Err(ConfigError::DhcpWithNetworkId));
    let mask = Ipv4Addr::new(255, 255, 255, 0);
    let alone = VmnetConfig::host_only().with_host_address([10, 0, 0, 1].into(), mask);
    assert_eq!(alone.validate(), Err(ConfigError::HostAddress));
    let alone = VmnetConfig::host_only().with_host_ipv6(Ipv6Addr::LOCALHOST);
    assert_eq!(alone.validate(), Err(ConfigError::HostAddress));
    for bad in [[0, 0, 0, 0], [224, 0, 0, 1], [255, 255, 255, 255]] {
        let config = isolated.clone().with_host_address(bad.into(), mask);
        assert_eq!(config.validate(), Err(ConfigError::Address(bad.into())));
    }
    for bad in ["::", "ff02::1", "::1"] {
        let bad: Ipv6Addr = bad.parse().unwrap();
        let config = isolated.clone().with_host_ipv6(bad);
        assert_eq!(config.validate(), Err(ConfigError::Address(bad.into())));
    }
    let bad = Ipv4Addr::new(255, 0, 255, 0);
    let config = isolated.with_host_address([10, 0, 0, 1].into(), bad);
    assert_eq!(config.validate(), Err(ConfigError::Mask(bad)));
}

#[test]
fn nat66_prefixes() {
    for good in ["fd00::", "fd2d:1b24:620:47::", "fdff:ffff:ffff:ffff::"] {
        let config = VmnetConfig::shared().with_nat66_prefix(good.parse().unwrap());
        assert_eq!(config.validate(), Ok(()), "{good}");
    }
    for bad in [
        "::",
        "fc00::",
        "fe80::",
        "2001:db8::",
        "fd00::1",
        "fd00:0:0:0:1::",
    ] {
        let bad: Ipv6Addr = bad.parse().unwrap();
        let config = VmnetConfig::shared().with_nat66_prefix(bad);
        assert_eq!(config.validate(), Err(ConfigError::Nat66Prefix(bad)));
    }
}

#[test]
fn offloads_that_go_together() {
    let both = VmnetConfig::shared()
        .with_virtio_header(true)
        .with_checksum_offload(true);
    assert_eq!(both.validate(), Err(ConfigError::HeaderAndChecksum));
    let alone = VmnetConfig::shared().with_tso(true);
    assert_eq!(alone.validate(), Err(ConfigError::TsoAlone));
}

#[test]
fn rules_that_lead_nowhere() {
    let bad = [
        ForwardRule {
            external_port: 0,
            ..rule()
        },
        ForwardRule { port: 0, ..rule() },
        ForwardRule {
            address: Ipv4Addr::UNSPECIFIED.into(),
            ..rule()
        },
        ForwardRule {
            address: IpAddr::from([224, 0, 0, 1]),
            ..rule()
        },
    ];
    for rule in bad {
        let config = VmnetConfig::shared().with_forward(rule);
        assert_eq!(config.validate(), Err(ConfigError::Forward(rule)));
    }
}

/// Nothing of a configuration that cannot hold reaches the framework, and messages are one line.
#[test]
fn the_framework_is_not_asked() {
    let fake = Fake::new();
    let error = start(&fake, VmnetConfig::shared().with_mtu(1)).unwrap_err();
    assert!(matches!(error, VmnetError::Config(ConfigError::Mtu(1))));
    assert_eq!(error.to_string().lines().count(), 1);
    // An interface on a network needs the network.
    let error = start(&fake, VmnetConfig::on_network()).unwrap_err();
    assert!(matches!(
        error,
        VmnetError::Config(ConfigError::NetworkMode)
    ));
    assert_eq!(VmnetConfig::on_network().mode(), &VmnetMode::Network);
    assert!(fake.state().requests.is_empty());
}
