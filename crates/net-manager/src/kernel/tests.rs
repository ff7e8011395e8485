//! Networks over a kernel in memory that refuses, or outlives the process, at every single step.

mod addresses;
mod attachments;
mod bridges;
mod clean_up;
mod forwarding;
mod published;
mod whole_life;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use net_usernet::Protocol;
use net_wire::MacAddr;

use super::fake::Fake;
use super::network::KernelNetwork;
use super::ops::{KernelAttach, KernelForward, NetnsPort, TapPort};
use super::state::StateDir;
use crate::config::{NetworkConfig, NetworkMode};
use crate::error::ManagerError;

fn config(name: &str, mode: NetworkMode) -> NetworkConfig {
    NetworkConfig {
        name: name.to_owned(),
        mode,
        subnet: "10.7.0.0/24".parse().unwrap(),
        subnet6: Some("fd07::/64".parse().unwrap()),
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

fn host() -> Fake {
    let fake = Fake::new();
    fake.plug("eth1", MacAddr([2, 0, 0, 0, 0, 8]));
    fake.revive();
    fake
}

fn networks(root: &Path) -> Vec<String> {
    StateDir::new(root).networks().unwrap()
}
