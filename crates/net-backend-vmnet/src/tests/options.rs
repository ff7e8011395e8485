//! Every option and what the framework is asked for.

use std::net::Ipv6Addr;

use net_wire::MacAddr;

use super::start;
use crate::fake::{Fake, Script};
use crate::framework::Feature;
use crate::key::{Key, Kind, MacosRelease, Value};
use crate::{InterfaceId, VmnetConfig, VmnetError};

const ID: InterfaceId = InterfaceId([9; 16]);
const MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0x12, 0x34, 0x56]);

/// What the framework was asked for, by the names of `vmnet.h`, sorted.
fn asked(config: VmnetConfig) -> Vec<(&'static str, Value)> {
    let fake = Fake::new();
    start(&fake, config).unwrap();
    let state = fake.state();
    let request = state.requests[0].iter();
    let mut asked: Vec<_> = request
        .map(|(key, value)| (key.symbol().to_str().unwrap(), value.clone()))
        .collect();
    asked.sort_by_key(|(name, _)| *name);
    asked
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

const MODE: &str = "vmnet_operation_mode_key";

#[test]
fn shared_mode() {
    assert_eq!(asked(VmnetConfig::shared()), [(MODE, Value::Number(1001))]);
}

#[test]
fn host_only_mode() {
    let asked = asked(VmnetConfig::host_only());
    assert_eq!(asked, [(MODE, Value::Number(1000))]);
}

#[test]
fn bridged_mode() {
    assert_eq!(
        asked(VmnetConfig::bridged("en0")),
        [
            (MODE, Value::Number(1002)),
            ("vmnet_shared_interface_name_key", text("en0")),
        ]
    );
}

/// One row for each option: the configuration, and what it adds to the mode.
#[test]
fn every_option() {
    let shared = VmnetConfig::shared;
    let host = VmnetConfig::host_only;
    let isolated = || host().with_network_id(ID);
    let id = ("vmnet_network_identifier_key", Value::Uuid([9; 16]));
    let yes = Value::Flag(true);
    let header = ("vmnet_enable_virtio_header_key", yes.clone());
    let checksum = ("vmnet_enable_checksum_offload_key", yes.clone());
    let tso = ("vmnet_enable_tso_key", yes.clone());
    let prefix: Ipv6Addr = "fd2d:1b24:620:47::".parse().unwrap();
    let rows: Vec<(VmnetConfig, Vec<(&str, Value)>)> = vec![
        (
            shared().with_mac(MAC),
            vec![("vmnet_allocate_mac_address_key", Value::Flag(false))],
        ),
        (
            shared().with_mtu(9000),
            vec![("vmnet_mtu_key", Value::Number(9000))],
        ),
        (
            host().with_mtu(1280),
            vec![("vmnet_mtu_key", Value::Number(1280))],
        ),
        (
            shared()
                .with_dhcp_range([192, 168, 105, 1].into(), [192, 168, 105, 254].into())
                .with_subnet_mask([255, 255, 255, 0].into()),
            vec![
                ("vmnet_end_address_key", text("192.168.105.254")),
                ("vmnet_start_address_key", text("192.168.105.1")),
                ("vmnet_subnet_mask_key", text("255.255.255.0")),
            ],
        ),
        (
            host().with_isolation(true),
            vec![("vmnet_enable_isolation_key", yes.clone())],
        ),
        (
            host().with_isolation(false),
            vec![("vmnet_enable_isolation_key", Value::Flag(false))],
        ),
        (
            shared().with_interface_id(ID),
            vec![("vmnet_interface_id_key", Value::Uuid([9; 16]))],
        ),
        (shared().with_checksum_offload(true), vec![checksum.clone()]),
        (
            shared().with_checksum_offload(true).with_tso(true),
            vec![checksum, tso.clone()],
        ),
        (shared().with_virtio_header(true), vec![header.clone()]),
        (
            shared().with_virtio_header(true).with_tso(true),
            vec![tso, header],
        ),
        (
            shared()
                .with_tso(false)
                .with_checksum_offload(false)
                .with_virtio_header(false),
            vec![],
        ),
        (
            shared().with_nat66_prefix(prefix),
            vec![("vmnet_nat66_prefix_key", text("fd2d:1b24:620:47::"))],
        ),
        (isolated(), vec![id.clone()]),
        (
            isolated().with_host_address([10, 0, 2, 1].into(), [255, 0, 0, 0].into()),
            vec![
                ("vmnet_host_ip_address_key", text("10.0.2.1")),
                ("vmnet_host_subnet_mask_key", text("255.0.0.0")),
                id.clone(),
            ],
        ),
        (
            isolated().with_host_ipv6("fd00::1".parse().unwrap()),
            vec![("vmnet_host_ipv6_address_key", text("fd00::1")), id],
        ),
    ];
    assert_eq!(rows.len(), 16);
    for (config, added) in rows {
        let mut asked = asked(config.clone());
        let mode = asked.iter().position(|(name, _)| *name == MODE).unwrap();
        asked.remove(mode);
        let mut added = added;
        added.sort_by_key(|(name, _)| *name);
        assert_eq!(asked, added, "{config:?}");
    }
}

/// Every name of the framework, with its kind and its release, by the headers of the SDK.
#[test]
fn every_key() {
    use Kind::{Flag, Number, Text, Uuid};
    let rows: [(Key, &str, Kind, (u8, u8)); 22] = [
        (
            Key::OperationMode,
            "vmnet_operation_mode_key",
            Number,
            (10, 10),
        ),
        (
            Key::SharedInterfaceName,
            "vmnet_shared_interface_name_key",
            Text,
            (10, 15),
        ),
        (Key::MacAddress, "vmnet_mac_address_key", Text, (10, 10)),
        (
            Key::AllocateMacAddress,
            "vmnet_allocate_mac_address_key",
            Flag,
            (10, 15),
        ),
        (Key::Mtu, "vmnet_mtu_key", Number, (10, 10)),
        (
            Key::MaxPacketSize,
            "vmnet_max_packet_size_key",
            Number,
            (10, 10),
        ),
        (Key::InterfaceId, "vmnet_interface_id_key", Uuid, (10, 10)),
        (Key::StartAddress, "vmnet_start_address_key", Text, (10, 15)),
        (Key::EndAddress, "vmnet_end_address_key", Text, (10, 15)),
        (Key::SubnetMask, "vmnet_subnet_mask_key", Text, (10, 15)),
        (Key::Nat66Prefix, "vmnet_nat66_prefix_key", Text, (10, 15)),
        (
            Key::EstimatedPackets,
            "vmnet_estimated_packets_available_key",
            Number,
            (10, 10),
        ),
        (
            Key::NetworkIdentifier,
            "vmnet_network_identifier_key",
            Uuid,
            (11, 0),
        ),
        (
            Key::HostIpAddress,
            "vmnet_host_ip_address_key",
            Text,
            (11, 0),
        ),
        (
            Key::HostSubnetMask,
            "vmnet_host_subnet_mask_key",
            Text,
            (11, 0),
        ),
        (
            Key::HostIpv6Address,
            "vmnet_host_ipv6_address_key",
            Text,
            (11, 0),
        ),
        (Key::EnableTso, "vmnet_enable_tso_key", Flag, (11, 0)),
        (
            Key::EnableIsolation,
            "vmnet_enable_isolation_key",
            Flag,
            (11, 0),
        ),
        (
            Key::EnableChecksumOffload,
            "vmnet_enable_checksum_offload_key",
            Flag,
            (12, 0),
        ),
        (
            Key::EnableVirtioHeader,
            "vmnet_enable_virtio_header_key",
            Flag,
            (15, 4),
        ),
        (
            Key::ReadMaxPackets,
            "vmnet_read_max_packets_key",
            Number,
            (15, 0),
        ),
        (
            Key::WriteMaxPackets,
            "vmnet_write_max_packets_key",
            Number,
            (15, 0),
        ),
    ];
    assert_eq!(rows.len(), Key::ALL.len());
    for (key, symbol, kind, (major, minor)) in rows {
        assert_eq!(key.symbol().to_str(), Ok(symbol));
        assert_eq!(key.kind(), kind, "{symbol}");
        assert_eq!(key.since(), MacosRelease(major, minor), "{symbol}");
        assert!(Key::ALL.contains(&key), "{symbol}");
        assert_eq!(Feature::Key(key).name(), symbol);
    }
}

/// What an older macOS lacks is refused before it is asked, and the message says what it needs.
#[test]
fn what_an_older_macos_lacks() {
    let rows: [(VmnetConfig, (u8, u8), &str, &str); 5] = [
        (
            VmnetConfig::shared().with_virtio_header(true),
            (15, 3),
            "vmnet_enable_virtio_header_key",
            "macOS 15.4",
        ),
        (
            VmnetConfig::shared().with_checksum_offload(true),
            (11, 7),
            "vmnet_enable_checksum_offload_key",
            "macOS 12",
        ),
        (
            VmnetConfig::host_only().with_isolation(true),
            (10, 15),
            "vmnet_enable_isolation_key",
            "macOS 11",
        ),
        (
            VmnetConfig::host_only().with_network_id(ID),
            (10, 15),
            "vmnet_network_identifier_key",
            "macOS 11",
        ),
        (
            VmnetConfig::shared().with_forward(super::forwarding::rule()),
            (11, 7),
            "port forwarding",
            "macOS 12",
        ),
    ];
    for (config, (major, minor), what, since) in rows {
        let fake = Fake::with(Script {
            release: MacosRelease(major, minor),
            ..Script::default()
        });
        let error = start(&fake, config).unwrap_err();
        assert!(matches!(&error, VmnetError::TooOld { what: w, .. } if *w == what));
        assert_eq!(error.to_string(), format!("{what} needs {since} or newer"));
        // Whatever was started has been stopped.
        let state = fake.state();
        assert_eq!((state.started, state.dropped), (state.stops, state.stops));
    }
}

#[test]
fn builders_and_getters() {
    let config = VmnetConfig::shared().with_mac(MAC).with_mtu(9000);
    assert_eq!((config.mac(), config.mtu()), (Some(MAC), Some(9000)));
    assert_eq!(config.mode(), &crate::VmnetMode::Shared);
    let fake = Fake::new();
    let vmnet = start(&fake, config.clone()).unwrap();
    assert_eq!(vmnet.config(), &config);
}
