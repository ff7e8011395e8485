//! The fast engine between real kernels: guests behind TAP devices, a router and a host behind it
//! outside.
//!
//! ```text
//!  guest 0 ─ TAP ┐                        ┌ up0 ── eth0 router eth1 ── eth0 far
//!  guest 1 ─ TAP ┴ network ─ if:up0, or ──┤             198.51.100.1   203.0.113.9
//!                            tap:out0 ─ bridge ─ up0
//! ```
//!
//! Over IPv6 the router is 2001:db8:1::1, and the host behind it 2001:db8:2::9.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use net_backend_linux::netlink::{BridgeOptions, Netlink, VethEnd};
use net_backend_linux::{Tap, TapOptions};
use net_manager::{
    AttachOptions, Engine, NetworkConfig, NetworkManager, UplinkConfig, UplinkDevice, UplinkStatus,
};
use net_wire::MacAddr;

use crate::peer::{PORT, Peer};

pub(crate) const CASES: &[(&str, fn())] = &[
    ("fast_by_an_interface", || everything(Way::Interface)),
    ("fast_by_a_tap", || everything(Way::Tap)),
    ("fast_finds_its_interface_again", finds_its_interface_again),
    ("fast_needs_its_interface", needs_its_interface),
];

/// What is transferred in each direction.
const BULK: u64 = 64 << 20;
const OUTSIDE: &str = "198.51.100.2";
const ROUTER: &str = "198.51.100.1";
const FAR: &str = "203.0.113.9";
const OUTSIDE6: &str = "2001:db8:1::2";
const ROUTER6: &str = "2001:db8:1::1";
const FAR6: &str = "2001:db8:2::9";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Interface,
    Tap,
    /// An interface that somebody else has opened.
    HandedOver,
}

struct World {
    manager: NetworkManager,
    netlink: Netlink,
    guests: Vec<Peer>,
    router: Peer,
    far: Peer,
}

/// Takes IPv6 from the interfaces of this namespace: nothing is said that no case asked for.
fn quiet() {
    let _ = std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
}

fn wire(netlink: &Netlink, name: &str, peer: &Peer, far_name: &str) {
    let far = VethEnd {
        netns: Some(peer.namespace()),
        ..VethEnd::named(far_name)
    };
    netlink.create_veth(&VethEnd::named(name), &far).unwrap();
    netlink.set_up(netlink.link(name).unwrap().index).unwrap();
}

fn config(device: UplinkDevice) -> NetworkConfig {
    let mut config = NetworkConfig::default();
    config.engine = Engine::Fast;
    let mut uplink = UplinkConfig::new(
        device,
        format!("{OUTSIDE}/24").parse().unwrap(),
        Some(ROUTER.parse().unwrap()),
    );
    uplink.outside6 = Some(format!("{OUTSIDE6}/64").parse().unwrap());
    uplink.via6 = Some(ROUTER6.parse().unwrap());
    config.uplink = Some(uplink);
    config.dns = vec!["192.0.2.53:53".parse().unwrap()];
    config
}

impl World {
    fn new(way: Way) -> Self {
        quiet();
        let netlink = Netlink::new().unwrap();
        netlink.set_up(netlink.link("lo").unwrap().index).unwrap();
        let [mut router, mut far] = [(); 2].map(|()| Peer::start());
        wire(&netlink, "up0", &router, "eth0");
        // Between the two, made here and given away.
        let near = VethEnd {
            netns: Some(router.namespace()),
            ..VethEnd::named("eth1")
        };
        let end = VethEnd {
            netns: Some(far.namespace()),
            ..VethEnd::named("eth0")
        };
        netlink.create_veth(&near, &end).unwrap();
        router.ask("up eth0 198.51.100.1/24 1500");
        router.ask("up eth1 203.0.113.1/24 1400");
        router.ask("forward");
        // The far host lets others send it more than its link carries, and sends no more itself: a pair
        // whose other end takes less loses what is longer without a word to anybody, unless it is a
        // super-frame. A stream gets along with that until its last segment goes alone.
        far.ask("up eth0 203.0.113.9/24 1500");
        far.ask("narrow 203.0.113.1 eth0 1400");
        router.ask("up eth0 2001:db8:1::1/64 1500");
        router.ask("up eth1 2001:db8:2::1/64 1400");
        far.ask("up eth0 2001:db8:2::9/64 1500");
        far.ask("narrow 2001:db8:2::1 eth0 1400");

        let device = match way {
            Way::Interface | Way::HandedOver => UplinkDevice::Interface("up0".to_owned()),
            Way::Tap => UplinkDevice::Tap("out0".to_owned()),
        };
        let mut config = config(device);
        if way == Way::HandedOver {
            let uplink = config.uplink.as_mut().unwrap();
            uplink.opened = Some(uplink.device.open().unwrap());
        }
        let manager = NetworkManager::new(config);
        manager.start().unwrap();
        if way == Way::Tap {
            let bridge = netlink
                .create_bridge("outside0", &BridgeOptions::default())
                .unwrap();
            for port in ["up0", "out0"] {
                let port = netlink.link(port).unwrap().index;
                netlink.set_bridge(port, Some(bridge.index)).unwrap();
            }
            netlink.set_up(bridge.index).unwrap();
        }
        let mut world = Self {
            manager,
            netlink,
            guests: Vec::new(),
            router,
            far,
        };
        world.add_guest();
        world.add_guest();
        world
    }

    /// A machine with a TAP device whose other end is the network's.
    fn add_guest(&mut self) {
        let n = self.guests.len();
        let mut guest = Peer::start();
        let name = format!("guest{n}");
        let tap = Tap::open(&name, TapOptions::default()).unwrap();
        let index = self.netlink.link(&name).unwrap().index;
        let mac = MacAddr([2, 0, 0, 0, 0, 10 + n as u8]);
        self.netlink.set_mac(index, mac).unwrap();
        self.netlink
            .move_to_netns(index, guest.namespace())
            .unwrap();
        let options = AttachOptions {
            mac: Some(mac.0),
            ..AttachOptions::default()
        };
        let info = self.manager.attach(Box::new(tap), options).unwrap();
        assert_eq!(info.address, Ipv4Addr::new(10, 0, 2, 2 + n as u8));
        guest.ask(&format!("up {name} {}/24 1500", info.address));
        guest.ask(&format!("route 0.0.0.0/0 10.0.2.1 {name}"));
        self.guests.push(guest);
    }

    fn uplink(&self) -> UplinkStatus {
        self.manager.status().unwrap().uplink.unwrap()
    }
}

/// Everything that guests, the router and the far host do with one another.
fn everything(way: Way) {
    let mut world = World::new(way);
    let [guest, other] = &mut world.guests[..] else {
        panic!("two guests")
    };

    // Echo, and the way there hop by hop.
    assert_eq!(
        guest.ask(&format!("ping {FAR} 64")),
        format!("0/0 from {FAR}")
    );
    assert_eq!(guest.ask(&format!("ping {FAR} 1")), "11/0 from 10.0.2.1");
    assert_eq!(
        guest.ask(&format!("ping {FAR} 2")),
        format!("11/0 from {ROUTER}")
    );
    assert_eq!(
        guest.ask(&format!("ping {FAR} 3")),
        format!("0/0 from {FAR}")
    );
    // The outside address itself answers, to both sides.
    let answered = format!("0/0 from {OUTSIDE}");
    assert_eq!(guest.ask(&format!("ping {OUTSIDE} 64")), answered);
    assert_eq!(world.router.ask(&format!("ping {OUTSIDE} 64")), answered);
    // Nobody has this address of the outside network.
    assert_eq!(guest.ask("ping 198.51.100.77 64"), "3/1 from 10.0.2.1");

    // Datagrams, those in fragments too; the router cuts them again for its narrow link.
    for bytes in [4, 1472, 20_000, 60_000] {
        let answer = guest.ask(&format!("udp {ROUTER}:{PORT} {bytes}"));
        assert_eq!(answer, OUTSIDE, "{bytes}");
    }
    assert_eq!(guest.ask(&format!("udp {FAR}:{PORT} 1300")), OUTSIDE);

    // Streams; the narrow link behind the router is found out by its ICMP error.
    let bulk = format!("tcp {ROUTER}:{PORT} {BULK}");
    assert_eq!(guest.ask(&bulk), OUTSIDE);
    assert_eq!(guest.ask(&format!("tcp {FAR}:{PORT} {BULK}")), OUTSIDE);
    guest.begin(&bulk);
    other.begin(&bulk);
    assert_eq!((guest.end(), other.end()), (OUTSIDE.into(), OUTSIDE.into()));
    // Guest to guest, beside the uplink.
    assert_eq!(
        guest.ask(&format!("tcp 10.0.2.3:{PORT} {BULK}")),
        "10.0.2.2"
    );

    // Published ports keep the client's address; so do hairpins, as far as they can.
    let tcp = format!("tcp {OUTSIDE}:8080 1000000");
    assert_ne!(world.far.ask(&tcp), FAR);
    let publish = |text: &str| world.manager.publish(text.parse().unwrap()).unwrap();
    let published = publish(&format!("8080:{PORT}"));
    publish(&format!("8081:{PORT}/udp"));
    assert_eq!(world.far.ask(&tcp), FAR);
    assert_eq!(world.far.ask(&format!("tcp {OUTSIDE}:8080 {BULK}")), FAR);
    assert_eq!(
        world.router.ask(&format!("udp {OUTSIDE}:8081 9000")),
        ROUTER
    );
    // The far host cuts what its link does not carry; see where its routes are made.
    assert_eq!(world.far.ask(&format!("udp {OUTSIDE}:8081 1472")), FAR);
    assert_eq!(other.ask(&tcp), OUTSIDE);
    world.manager.unpublish(published.id).unwrap();
    assert_ne!(world.far.ask(&tcp), FAR);

    everything6(&mut world);

    let status = world.uplink();
    assert!(status.connected && status.sessions > 0, "{status:?}");
    assert_eq!(status.drops.offload, 0, "{status:?}");
    world.manager.stop();
    let made = world.netlink.find("out0").unwrap();
    assert!(made.is_none(), "the TAP device goes with the network");
}

/// The same over IPv6, in the prefix that guests hear of.
fn everything6(world: &mut World) {
    let status = world.manager.status().unwrap();
    assert_eq!(status.no_ipv6, None);
    let prefix = status.prefix6.unwrap();
    let mut own = Vec::new();
    for (n, guest) in world.guests.iter_mut().enumerate() {
        own.push(guest.ask(&format!("global6 guest{n} {prefix}")));
        assert!(guest.ask(&format!("routed6 guest{n}")).starts_with("fe80:"));
    }
    let [guest, other] = &mut world.guests[..] else {
        panic!("two guests")
    };
    for host in [FAR6, ROUTER6, OUTSIDE6] {
        let answered = format!("echo from {host}");
        assert_eq!(guest.ask(&format!("ping6 {host}")), answered);
    }
    let answered = format!("echo from {OUTSIDE6}");
    assert_eq!(world.router.ask(&format!("ping6 {OUTSIDE6}")), answered);
    // Nobody has this address of the outside network.
    let nobody = guest.ask("ping6 2001:db8:1::77");
    assert!(nobody.starts_with("error"), "{nobody}");

    // Datagrams, those in fragments too, which no router makes.
    for bytes in [4, 1452, 20_000, 60_000] {
        let answer = guest.ask(&format!("udp [{ROUTER6}]:{PORT} {bytes}"));
        assert_eq!(answer, OUTSIDE6, "{bytes}");
    }
    // Streams; the narrow link behind the router is found out by its ICMPv6 error.
    let bulk = format!("tcp [{ROUTER6}]:{PORT} {BULK}");
    assert_eq!(guest.ask(&bulk), OUTSIDE6);
    assert_eq!(guest.ask(&format!("tcp [{FAR6}]:{PORT} {BULK}")), OUTSIDE6);
    guest.begin(&bulk);
    other.begin(&bulk);
    let both = (guest.end(), other.end());
    assert_eq!(both, (OUTSIDE6.into(), OUTSIDE6.into()));
    let beside = format!("tcp [{}]:{PORT} {BULK}", own[1]);
    assert_eq!(guest.ask(&beside), own[0]);

    let tcp = format!("tcp [{OUTSIDE6}]:8080 1000000");
    assert_ne!(world.far.ask(&tcp), FAR6);
    let publish = |text: &str| world.manager.publish(text.parse().unwrap()).unwrap();
    let published = publish(&format!("[::]:8080:{PORT}"));
    publish(&format!("[{OUTSIDE6}]:8081:{PORT}/udp"));
    let bulk = format!("tcp [{OUTSIDE6}]:8080 {BULK}");
    assert_eq!(world.far.ask(&bulk), FAR6);
    let udp = format!("udp [{OUTSIDE6}]:8081 9000");
    assert_eq!(world.router.ask(&udp), ROUTER6);
    let udp = format!("udp [{OUTSIDE6}]:8081 1452");
    assert_eq!(world.far.ask(&udp), FAR6);
    assert_eq!(other.ask(&tcp), OUTSIDE6);
    world.manager.unpublish(published.id).unwrap();
    assert_ne!(world.far.ask(&tcp), FAR6);
}

/// The interface is deleted and made again; flows go on under the same outside port.
fn finds_its_interface_again() {
    let mut world = World::new(Way::HandedOver);
    let ask = format!("udp {ROUTER}:{PORT}");
    assert_eq!(world.guests[0].ask(&ask), OUTSIDE);
    let link = world.netlink.link("up0").unwrap();
    world.netlink.delete_link(link.index).unwrap();
    wait_for("the loss of the interface", || !world.uplink().connected);
    // The guest is told at once.
    let told = world.guests[0].ask(&format!("ping {ROUTER} 64"));
    assert_eq!(told, "3/0 from 10.0.2.1");
    wire(&world.netlink, "up0", &world.router, "eth0");
    world.router.ask("up eth0 198.51.100.1/24 1500");
    wait_for("the return of the interface", || world.uplink().connected);
    assert_eq!(world.guests[0].ask(&ask), OUTSIDE);
    let bulk = format!("tcp {ROUTER}:{PORT} {BULK}");
    assert_eq!(world.guests[1].ask(&bulk), OUTSIDE);
    // Down and up again is the same.
    let link = world.netlink.link("up0").unwrap();
    world.netlink.set_down(link.index).unwrap();
    wait_for("the loss of the interface", || !world.uplink().connected);
    world.netlink.set_up(link.index).unwrap();
    wait_for("the return of the interface", || world.uplink().connected);
    assert_eq!(world.guests[1].ask(&ask), OUTSIDE);
    // IPv6 is back, too, once its address has been tried again.
    world.router.ask("up eth0 2001:db8:1::1/64 1500");
    let routed = || world.manager.status().unwrap().no_ipv6.is_none();
    wait_for("IPv6 by the interface", routed);
    let answered = format!("echo from {ROUTER6}");
    let prefix = world.manager.status().unwrap().prefix6.unwrap();
    world.guests[1].ask(&format!("global6 guest1 {prefix}"));
    world.guests[1].ask("routed6 guest1");
    assert_eq!(world.guests[1].ask(&format!("ping6 {ROUTER6}")), answered);
}

/// A network whose interface is not there does not start, and says why.
fn needs_its_interface() {
    quiet();
    let netlink = Netlink::new().unwrap();
    let device = |name: &str| UplinkDevice::Interface(name.to_owned());
    let refusal = |config: NetworkConfig| {
        let error = NetworkManager::new(config).start().unwrap_err();
        let error = error.to_string();
        assert_eq!(error.lines().count(), 1, "{error}");
        error
    };
    let error = refusal(config(device("none0")));
    assert!(error.contains("if:none0"), "{error}");
    netlink
        .create_veth(&VethEnd::named("down0"), &VethEnd::named("down1"))
        .unwrap();
    let error = refusal(config(device("down0")));
    assert!(
        error.contains("if:down0") && error.contains("down"),
        "{error}"
    );
    // An interface of another kind under the name of a TAP device.
    let error = refusal(config(UplinkDevice::Tap("down0".to_owned())));
    assert!(error.contains("tap:down0"), "{error}");
    let mut overlapping = config(device("down0"));
    overlapping.subnet = "198.51.100.0/25".parse().unwrap();
    assert!(refusal(overlapping).contains("overlaps"));
}

fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(30), "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
