//! IPv6 of networks in the kernel, on a host whose own way out is advertised to it.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use net_backend_linux::netlink::Netlink;
use net_manager::{AttachOptions, ManagerError, Network, NetworkMode, PublishedPort};

use super::{FAR6, OUTSIDE6, Snapshot, World};
use crate::peer::{PORT, Peer, router, tcp, usable};

const BULK: u64 = 1 << 20;
/// How long what is advertised may take to be heard.
const PATIENCE: Duration = Duration::from_secs(30);
/// The link-local address of the bridge of 10.7.0.0/24.
const ROUTER: &str = "fe80::ad:aff:fe07:0";
/// A prefix that no router here has.
const ROGUE: &str = "fd66::/64";

#[track_caller]
pub(super) fn wait_for<T>(what: &str, look: impl Fn() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The address that an interface of the host has of the outside network's router, once it may be
/// used.
pub(super) fn heard(netlink: &Netlink, link: &str) -> Option<Ipv6Addr> {
    let address = usable(link, OUTSIDE6.parse().unwrap());
    address.filter(|_| router(netlink, link).is_some())
}

fn echo(guest: &mut Peer, host: impl std::fmt::Display) {
    let answer = guest.ask(&format!("ping6 {host}"));
    assert_eq!(answer, format!("echo from {host}"));
}

#[track_caller]
fn is_address(text: &str) {
    assert!(text.parse::<IpAddr>().is_ok(), "{text}");
}

/// Three guests and the prefix of their network.
fn guests(world: &World, network: &Network) -> ([Peer; 3], ipnetwork::Ipv6Network) {
    let (one, _) = world.guest(network);
    let (two, _) = world.guest(network);
    let (three, _) = world.guest_of_the_worker(network, true);
    let status = network.status().unwrap();
    assert_eq!(status.no_ipv6, None);
    ([one, two, three], status.prefix6.unwrap())
}

pub(super) fn nat() {
    let mut world = World::with_ipv6(NetworkMode::Nat);
    let host = heard(&world.netlink, "up0").unwrap();
    let before = Snapshot::take(&world.netlink);
    let network = Network::new(world.config(NetworkMode::Nat));
    network.start().unwrap();
    let ([mut one, mut two, mut three], prefix) = guests(&world, &network);
    let [router, gateway] = [1, 2].map(|n| Ipv6Addr::from_bits(prefix.network().to_bits() | n));
    // The host forwards, and has not forgotten its own router.
    assert_eq!(heard(&world.netlink, "up0"), Some(host));
    for (guest, link) in [
        (&mut one, "eth0"),
        (&mut two, "eth0"),
        (&mut three, "guest0"),
    ] {
        is_address(&guest.ask(&format!("global6 {link} {prefix}")));
        assert_eq!(guest.ask(&format!("routed6 {link}")), ROUTER);
        for host in [router, gateway, FAR6.parse().unwrap()] {
            echo(guest, host);
        }
        // The name server that is advertised.
        let answer = guest.ask(&format!("dns6 {gateway}"));
        assert_eq!(answer, gateway.to_string());
        let seen = guest.ask(&format!("tcp [{FAR6}]:{PORT} {BULK}"));
        assert_eq!(seen, host.to_string());
    }

    // From outside, from the host, and from a guest by the host's address.
    let second = network.status().unwrap().attachments[1].clone();
    let publish = |text: &str| {
        let mut port: PublishedPort = text.parse().unwrap();
        port.guest = Some(second.address);
        network.publish(port)
    };
    let published = publish("[::]:8080:80").unwrap();
    assert_eq!(Some(published.guest.ip()), second.address6.map(IpAddr::V6));
    let at = SocketAddr::new(host.into(), 8080);
    assert_eq!(world.far.ask(&format!("tcp {at} {BULK}")), FAR6);
    is_address(&one.ask(&format!("tcp {at} {BULK}")));
    is_address(&three.ask(&format!("tcp {at} {BULK}")));
    is_address(&tcp(at, BULK).unwrap());
    // The kernel carries ::1 nowhere.
    assert!(publish("[::1]:8081:80").is_err());
    network.unpublish(published.id).unwrap();
    let refused = world.far.ask(&format!("tcp {at} 1"));
    assert!(refused.starts_with("error"), "{refused}");

    // One guest does not make itself the router of those behind the worker, nor of the host.
    assert_eq!(one.ask(&format!("advertise-once eth0 {ROGUE}")), "said");
    echo(&mut three, gateway);
    assert!(!three.ask("addresses6 guest0").contains("fd66:"));
    let bridge = world.netlink.link("ab-blue").unwrap().index;
    let addresses = world.netlink.addresses(bridge).unwrap();
    assert_eq!(addresses.len(), 3, "{addresses:?}");

    network.stop();
    // They were told that the router goes.
    drop((one, two, three));
    before.assert_same(&world.netlink);
}

/// Guests that are kept apart do not hear each other as routers, not even from the host's own
/// hardware address.
pub(super) fn isolated() {
    let world = World::with_ipv6(NetworkMode::HostOnly);
    let before = Snapshot::take(&world.netlink);
    let mut config = world.config(NetworkMode::HostOnly);
    config.isolated = true;
    let network = Network::new(config);
    network.start().unwrap();
    let ([mut one, mut two, mut three], prefix) = guests(&world, &network);
    let [router, gateway] = [1, 2].map(|n| Ipv6Addr::from_bits(prefix.network().to_bits() | n));
    for (guest, link) in [
        (&mut one, "eth0"),
        (&mut two, "eth0"),
        (&mut three, "guest0"),
    ] {
        is_address(&guest.ask(&format!("global6 {link} {prefix}")));
        echo(guest, router);
        echo(guest, gateway);
    }
    let other = two.ask("addresses6 eth0");
    assert!(one.ask(&format!("ping6 {other}")).starts_with("error"));
    let bridge = world.netlink.link("ab-blue").unwrap();
    for mac in [None, bridge.mac] {
        if let Some(mac) = mac {
            one.ask(&format!("mac eth0 {mac}"));
        }
        assert_eq!(one.ask(&format!("advertise-once eth0 {ROGUE}")), "said");
        echo(&mut three, gateway);
        echo(&mut two, router);
        for (guest, link) in [(&mut two, "eth0"), (&mut three, "guest0")] {
            let addresses = guest.ask(&format!("addresses6 {link}"));
            assert!(!addresses.contains("fd66:"), "{mac:?} {addresses}");
        }
    }
    network.stop();
    drop((one, two, three));
    before.assert_same(&world.netlink);
}

/// The host's interface becomes a port of the bridge. The host and its guests hear the outside
/// network's router, and the host hears it again where it was.
pub(super) fn bridge() {
    let mut world = World::with_ipv6(NetworkMode::Bridge);
    let before = Snapshot::take(&world.netlink);
    let mut config = world.config(NetworkMode::Bridge);
    config.take_over = Some("up0".to_owned());
    let network = Network::new(config);
    network.start().unwrap();
    let status = network.status().unwrap();
    assert!(status.no_ipv6.unwrap().contains("outside"));
    let netlink = &world.netlink;
    let host = wait_for("the host's router", || heard(netlink, "ab-blue"));
    assert_eq!(heard(netlink, "up0"), None);
    let server = SocketAddr::new(FAR6.parse().unwrap(), PORT);
    assert_eq!(tcp(server, BULK).unwrap(), host.to_string());
    let mut one = Peer::start();
    let pid = one.pid().to_string();
    let attached = network.attach_netns(&pid, "eth0", None, AttachOptions::default());
    attached.unwrap();
    let own = one.ask(&format!("global6 eth0 {OUTSIDE6}"));
    is_address(&own);
    is_address(&one.ask("routed6 eth0"));
    echo(&mut one, FAR6);
    assert_eq!(one.ask(&format!("tcp {server} {BULK}")), own);
    assert_eq!(world.far.ask(&format!("tcp [{own}]:{PORT} {BULK}")), FAR6);
    is_address(&tcp(SocketAddr::new(own.parse().unwrap(), PORT), BULK).unwrap());
    network.stop();
    drop(one);
    wait_for("the host's router", || heard(netlink, "up0"));
    before.assert_same(netlink);
}

/// Without the host's IPv6 a network has none, and says why.
pub(super) fn none() {
    let world = World::new(NetworkMode::Nat);
    let before = Snapshot::take(&world.netlink);
    let network = Network::new(world.config(NetworkMode::Nat));
    network.start().unwrap();
    let status = network.status().unwrap();
    assert_eq!(status.prefix6, None);
    assert!(status.no_ipv6.unwrap().contains("disable_ipv6"));
    let _guest = world.guest(&network);
    let refused = network.publish("[::]:8080:80".parse().unwrap());
    let error = refused.unwrap_err();
    assert!(matches!(error, ManagerError::NoIpv6 { .. }), "{error}");
    network.stop();
    before.assert_same(&world.netlink);
}
