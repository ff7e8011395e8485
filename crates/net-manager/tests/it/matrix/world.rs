//! A network of one mode with three guests, its host, and two hosts outside.

use std::net::{IpAddr, Ipv4Addr};

use ipnetwork::IpNetwork;
use net_backend_linux::netlink::{BridgeOptions, Netlink, VethEnd};
use net_backend_linux::{Tap, TapOptions};
use net_manager::{
    AttachOptions, Engine, Network, NetworkConfig, NetworkMode, UplinkConfig, UplinkDevice,
    kernel_can,
};
use net_wire::MacAddr;

use super::Mode;
use crate::peer::{Peer, serve, trust_addresses};

const HOST: &str = "198.51.100.2";
const HOST6: &str = "2001:db8:1::2";
pub(super) const NEAR: &str = "198.51.100.1";
pub(super) const NEAR6: &str = "2001:db8:1::1";
/// The prefix of that network, which its router advertises to guests in bridge mode.
const OUTSIDE6: &str = "2001:db8:1::/64";
pub(super) const FAR: &str = "203.0.113.9";
pub(super) const FAR6: &str = "2001:db8:2::9";
/// The router of the guests' network, where it has addresses of its own.
const ROUTER: &str = "10.7.0.1";
/// What its bridge is known by on the link, after its hardware address.
const ROUTER6: &str = "fe80::ad:aff:fe07:0";
/// The same in the prefix that it advertises.
const ROUTER6_GLOBAL: &str = "fd00:7::1";
const PREFIX6: &str = "fd00:7::/64";

pub(super) struct Guest {
    pub(super) peer: Peer,
    pub(super) ip: Ipv4Addr,
    ip6: IpAddr,
    /// What DHCP said.
    pub(super) lease: String,
}

impl Guest {
    pub(super) fn address(&self, six: bool) -> IpAddr {
        if six { self.ip6 } else { self.ip.into() }
    }
}

pub(super) struct World {
    pub(super) mode: Mode,
    pub(super) guests: Vec<Guest>,
    pub(super) network: Network,
    pub(super) near: Peer,
    pub(super) far: Peer,
    _state: tempfile::TempDir,
}

impl World {
    /// Ends the case where this kernel or this user cannot have the mode.
    pub(super) fn new(mode: Mode) -> Self {
        let state = tempfile::tempdir().unwrap();
        let config = config(mode, state.path());
        if !matches!(mode, Mode::NatUser | Mode::NatFast)
            && let Err(why) = kernel_can(config.mode)
        {
            println!("skip: {why}");
            std::process::exit(0);
        }
        let netlink = Netlink::new().unwrap();
        netlink.set_up(netlink.link("lo").unwrap().index).unwrap();
        trust_addresses();
        // The user engine asks for echo by sockets that this setting allows.
        let _ = std::fs::write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647");
        let (mut near, far) = outside(&netlink, mode);
        serve();
        if matches!(mode, Mode::HostOnly | Mode::Isolated) {
            // On a host that forwards for others, only the network's rules keep its guests in.
            std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
            std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").unwrap();
            near.ask(&format!("route 10.7.0.0/24 {HOST} eth0"));
            near.ask(&format!("route {PREFIX6} {HOST6} eth0"));
        }
        if matches!(mode, Mode::Bridge | Mode::BridgeJoined) {
            near.ask("serve-dhcp eth0 198.51.100.50 198.51.100.59");
        }
        if matches!(mode, Mode::NatFast | Mode::Bridge | Mode::BridgeJoined) {
            near.ask(&format!("serve-ra eth0 {OUTSIDE6}"));
        }
        let network = Network::new(config);
        network.start().unwrap();
        let guests = (0..3).map(|n| guest(&netlink, &network, mode, n)).collect();
        Self {
            mode,
            guests,
            network,
            near,
            far,
            _state: state,
        }
    }

    /// Where guests find the host: a server of several addresses answers from the nearest one.
    pub(super) fn host(&self, six: bool) -> IpAddr {
        let text = match (self.mode, six) {
            (Mode::NatKernel | Mode::NatFast | Mode::HostOnly | Mode::Isolated, true) => {
                ROUTER6_GLOBAL
            }
            (_, true) => HOST6,
            (Mode::NatUser | Mode::Bridge | Mode::BridgeJoined, false) => HOST,
            (_, false) => ROUTER,
        };
        text.parse().unwrap()
    }

    /// Where its published ports are.
    pub(super) fn published_at(&self, six: bool) -> IpAddr {
        self.address_of_the_network()[usize::from(six)]
    }

    /// Under which addresses the network is seen outside where it is not seen through.
    pub(super) fn address_of_the_network(&self) -> [IpAddr; 2] {
        [HOST, HOST6].map(|text| text.parse().unwrap())
    }
}

fn config(mode: Mode, state: &std::path::Path) -> NetworkConfig {
    let mut config = NetworkConfig::default();
    config.name = "blue".to_owned();
    config.subnet = "10.7.0.0/24".parse().unwrap();
    config.dns = vec!["192.0.2.53:53".parse().unwrap()];
    config.state_dir = Some(state.to_owned());
    (config.mode, config.engine) = match mode {
        Mode::NatUser => (NetworkMode::Nat, Engine::User),
        Mode::NatKernel => (NetworkMode::Nat, Engine::Kernel),
        Mode::NatFast => (NetworkMode::Nat, Engine::Fast),
        Mode::HostOnly | Mode::Isolated => (NetworkMode::HostOnly, Engine::Auto),
        Mode::Bridge | Mode::BridgeJoined => (NetworkMode::Bridge, Engine::Auto),
    };
    if !matches!(mode, Mode::Bridge | Mode::BridgeJoined) {
        config.subnet6 = Some(PREFIX6.parse().unwrap());
    }
    match mode {
        Mode::NatFast => {
            let mut uplink = UplinkConfig::new(
                UplinkDevice::Interface("up0".to_owned()),
                format!("{HOST}/24").parse().unwrap(),
                Some(NEAR.parse().unwrap()),
            );
            // Its router is the one that advertises itself.
            uplink.outside6 = Some(format!("{HOST6}/64").parse().unwrap());
            config.uplink = Some(uplink);
        }
        Mode::Isolated => config.isolated = true,
        Mode::Bridge => config.take_over = Some("up0".to_owned()),
        Mode::BridgeJoined => config.bridge = Some("br0".to_owned()),
        Mode::NatUser | Mode::NatKernel | Mode::HostOnly => {}
    }
    config
}

/// Two hosts outside, one of them the router to the other, and the host's way there.
fn outside(netlink: &Netlink, mode: Mode) -> (Peer, Peer) {
    // The host keeps to the address that it is given here; guests listen to the router outside.
    let _ = std::fs::write("/proc/sys/net/ipv6/conf/default/accept_ra", "0");
    let [mut near, mut far] = [(); 2].map(|()| Peer::start());
    let end = |name, peer| VethEnd {
        netns: Some(Peer::namespace(peer)),
        ..VethEnd::named(name)
    };
    netlink
        .create_veth(&VethEnd::named("up0"), &end("eth0", &near))
        .unwrap();
    netlink
        .create_veth(&end("eth1", &near), &end("eth0", &far))
        .unwrap();
    near.ask("forward");
    for network in ["198.51.100.1/24", "2001:db8:1::1/64"] {
        near.ask(&format!("up eth0 {network} 1500"));
    }
    for network in ["203.0.113.1/24", "2001:db8:2::1/64"] {
        near.ask(&format!("up eth1 {network} 1500"));
    }
    for network in ["203.0.113.9/24", "2001:db8:2::9/64"] {
        far.ask(&format!("up eth0 {network} 1500"));
    }
    far.ask("route 0.0.0.0/0 203.0.113.1 eth0");
    far.ask("route ::/0 2001:db8:2::1 eth0");

    let up = netlink.link("up0").unwrap().index;
    netlink.set_up(up).unwrap();
    let addressed = match mode {
        // The network has the outside address, and the host none.
        Mode::NatFast => return (near, far),
        Mode::BridgeJoined => {
            let bridge = netlink
                .create_bridge("br0", &BridgeOptions::default())
                .unwrap();
            netlink.set_bridge(up, Some(bridge.index)).unwrap();
            netlink.set_up(bridge.index).unwrap();
            bridge.index
        }
        _ => up,
    };
    for network in [format!("{HOST}/24"), format!("{HOST6}/64")] {
        let network: IpNetwork = network.parse().unwrap();
        netlink.add_address(addressed, network).unwrap();
    }
    for router in [NEAR, NEAR6] {
        netlink
            .add_default_route(addressed, router.parse().unwrap())
            .unwrap();
    }
    (near, far)
}

/// A guest with a lease, and an IPv6 address that it makes of what a router advertises.
fn guest(netlink: &Netlink, network: &Network, mode: Mode, n: usize) -> Guest {
    let mut peer = Peer::start();
    let by_the_kernel = !matches!(mode, Mode::NatUser | Mode::NatFast) && n < 2;
    if by_the_kernel {
        let pid = peer.pid().to_string();
        let options = AttachOptions::default();
        network.attach_netns(&pid, "eth0", None, options).unwrap();
    } else {
        let tap = Tap::open("eth0", TapOptions::default()).unwrap();
        let index = netlink.link("eth0").unwrap().index;
        let mac = MacAddr([2, 0, 0, 0, 0, 0x10 + n as u8]);
        netlink.set_mac(index, mac).unwrap();
        netlink.move_to_netns(index, peer.namespace()).unwrap();
        let options = AttachOptions {
            mac: Some(mac.0),
            ..AttachOptions::default()
        };
        network.attach(Box::new(tap), options).unwrap();
    }
    let lease = peer.ask("lease eth0");
    let ip = lease.split(' ').next().and_then(|ip| ip.parse().ok());
    let ip = ip.unwrap_or_else(|| panic!("{lease}"));
    let ip6 = match mode {
        Mode::Bridge | Mode::BridgeJoined => peer.ask(&format!("global6 eth0 {OUTSIDE6}")),
        _ => peer.ask(&format!("global6 eth0 {PREFIX6}")),
    };
    match mode {
        Mode::NatUser | Mode::NatKernel | Mode::NatFast | Mode::Bridge | Mode::BridgeJoined => {
            let router = peer.ask("routed6 eth0");
            assert!(router.starts_with("fe80:"), "{router}");
        }
        // Guests that send to the host what is for others.
        Mode::HostOnly | Mode::Isolated => {
            peer.ask(&format!("route 0.0.0.0/0 {ROUTER} eth0"));
            peer.ask(&format!("route ::/0 {ROUTER6} eth0"));
        }
    }
    let ip6 = ip6.parse().unwrap_or_else(|_| panic!("{ip6}"));
    Guest {
        peer,
        ip,
        ip6,
        lease,
    }
}
