//! The framework itself: run by root on a Mac, and nowhere else.
//!
//! `cargo xtask test` runs these by name, one at a time, under `sudo` where it needs no password.
#![cfg(target_os = "macos")]

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use net_backend_vmnet::{
    ForwardProtocol, ForwardRule, InterfaceId, Vmnet, VmnetConfig, VmnetError, VmnetNetwork,
    VmnetNetworkConfig,
};

/// A broadcast frame that says who sent it.
fn frame(number: u8) -> Vec<u8> {
    let mut frame = vec![number; 64];
    frame[..14].copy_from_slice(&[
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, number, 0x88, 0xb5,
    ]);
    frame
}

#[test]
#[ignore = "needs root: starts an interface of vmnet.framework"]
fn a_shared_interface_says_what_it_is() {
    let mut vmnet = Vmnet::new_shared().unwrap();
    let info = vmnet.info().clone();
    assert!(vmnet.is_running());
    assert!(info.mac.is_some() && info.gateway.is_some() && info.subnet_mask.is_some());
    assert!(
        info.max_packet_size >= usize::from(info.mtu) + 14,
        "{info:?}"
    );
    vmnet.stop().unwrap();
    assert!(!vmnet.is_running());
}

#[test]
#[ignore = "needs root: starts an interface of vmnet.framework"]
fn the_same_identity_brings_the_same_address() {
    let mac = || {
        let config = VmnetConfig::shared().with_interface_id(InterfaceId([0x42; 16]));
        Vmnet::new(config).unwrap().info().mac
    };
    assert_eq!(mac(), mac());
}

#[test]
#[ignore = "needs root: starts two interfaces of vmnet.framework"]
fn a_packet_from_one_interface_to_another() {
    let mut from = Vmnet::new_host_only().unwrap();
    let mut to = Vmnet::new_host_only().unwrap();
    let sent = frame(7);
    assert_eq!(from.write_packet(&sent).unwrap(), sent.len());
    let mut buffer = vec![0; to.max_packet_size()];
    let begun = Instant::now();
    loop {
        let len = to.read_packet(&mut buffer).unwrap();
        if buffer[..len] == sent[..] {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(5), "it never came");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
#[ignore = "needs root: starts an interface of vmnet.framework"]
fn a_rule_is_added_listed_and_removed() {
    let mut vmnet = Vmnet::new_shared().unwrap();
    let gateway = vmnet.info().gateway.expect("a gateway");
    let rule = ForwardRule {
        protocol: ForwardProtocol::Tcp,
        external_port: 48_123,
        address: Ipv4Addr::from_bits(gateway.to_bits() + 9).into(),
        port: 80,
    };
    vmnet.add_forward(rule).unwrap();
    assert!(vmnet.forwards().unwrap().contains(&rule));
    vmnet
        .remove_forward(rule.protocol, rule.external_port, rule.address)
        .unwrap();
    assert!(!vmnet.forwards().unwrap().contains(&rule));
}

#[test]
#[ignore = "needs root: starts an interface on a network of vmnet.framework"]
fn a_network_or_the_reason_why_not() {
    match VmnetNetwork::new(&VmnetNetworkConfig::host_only()) {
        Ok(network) => {
            let vmnet = Vmnet::on_network(&network, VmnetConfig::on_network()).unwrap();
            assert!(vmnet.is_running());
        }
        // Before macOS 26.
        Err(error) => assert!(matches!(error, VmnetError::TooOld { .. }), "{error}"),
    }
}

#[test]
fn a_name_that_cannot_be_bridged() {
    let error = Vmnet::new_bridged("nothing0").unwrap_err();
    assert!(!error.to_string().is_empty());
}
