//! Links, addresses and routes, made and listed in a namespace where nobody else is.

use std::fs::File;
use std::os::fd::AsFd;

use net_backend_linux::LinuxError;
use net_backend_linux::netlink::{
    Address, BridgeOptions, Link, Netlink, PortOptions, Route, VethEnd,
};
use net_wire::MacAddr;

const MAC: MacAddr = MacAddr([2, 0xab, 0, 0, 0, 1]);
const OTHER: MacAddr = MacAddr([2, 0xab, 0, 0, 0, 2]);

fn netlink() -> Netlink {
    Netlink::new().expect("netlink")
}

/// A pair, up, the near end with the addresses of a host.
fn host(netlink: &Netlink) -> Link {
    netlink
        .create_veth(&VethEnd::named("phys0"), &VethEnd::named("wire0"))
        .expect("a pair");
    let link = netlink.link("phys0").expect("phys0");
    netlink.set_up(link.index).expect("up");
    netlink
        .set_up(netlink.link("wire0").expect("wire0").index)
        .expect("up");
    for address in ["192.0.2.7/24", "192.0.2.8/24", "2001:db8:7::7/64"] {
        netlink
            .add_address(link.index, address.parse().expect("an address"))
            .expect("added");
    }
    link
}

/// Bridges, pairs and their ends elsewhere: what is asked for is what is there.
pub(crate) fn links() {
    let netlink = netlink();
    let options = BridgeOptions {
        mac: Some(MAC),
        mtu: Some(1400),
        ..BridgeOptions::default()
    };
    let bridge = netlink.create_bridge("br0", &options).expect("a bridge");
    assert_eq!(bridge.kind.as_deref(), Some("bridge"));
    assert_eq!(
        (bridge.mac, bridge.mtu, bridge.up),
        (Some(MAC), 1400, false)
    );
    assert_eq!((bridge.alias, bridge.controller), (None, None));
    let again = netlink.create_bridge("br0", &options).expect_err("taken");
    assert_eq!(again.errno(), Some(libc::EEXIST));

    netlink
        .set_alias(bridge.index, "arcbox-net test")
        .expect("an alias");
    let alias = |name| netlink.link(name).expect("the link").alias;
    assert_eq!(alias("br0").as_deref(), Some("arcbox-net test"));
    let long = netlink.set_alias(bridge.index, &"x".repeat(256));
    assert!(matches!(long, Err(LinuxError::Invalid(_))));
    netlink.set_alias(bridge.index, "").expect("no alias");
    assert_eq!(alias("br0"), None);

    // The far end is made where it belongs: at no moment is it here.
    let here = File::open("/proc/self/ns/net").expect("the namespace");
    let near = VethEnd {
        mac: Some(MAC),
        mtu: Some(9000),
        ..VethEnd::named("near0")
    };
    let far = VethEnd {
        mac: Some(OTHER),
        netns: Some(here.as_fd()),
        ..VethEnd::named("far0")
    };
    netlink.create_veth(&near, &far).expect("a pair");
    let (near, far) = (
        netlink.link("near0").expect("near"),
        netlink.link("far0").expect("far"),
    );
    assert_eq!((near.mac, near.mtu), (Some(MAC), 9000));
    assert_eq!((far.mac, far.mtu), (Some(OTHER), 1500));
    assert_eq!((near.lower, far.lower), (Some(far.index), Some(near.index)));
    assert_eq!(near.kind.as_deref(), Some("veth"));

    netlink
        .set_bridge(near.index, Some(bridge.index))
        .expect("a port");
    let options = PortOptions {
        isolated: true,
        hairpin: true,
        ..PortOptions::default()
    };
    netlink
        .set_port(near.index, &options)
        .expect("port options");
    let flag = |name: &str| {
        std::fs::read_to_string(format!("/sys/class/net/near0/brport/{name}")).expect("a flag")
    };
    assert_eq!(
        (&flag("isolated")[..], &flag("hairpin_mode")[..]),
        ("1\n", "1\n")
    );
    netlink
        .set_port(near.index, &PortOptions::default())
        .expect("port options");
    assert_eq!(
        (&flag("isolated")[..], &flag("hairpin_mode")[..]),
        ("0\n", "0\n")
    );
    let refused = netlink.set_port(far.index, &options).expect_err("no port");
    assert!(refused.to_string().contains("not a port"), "{refused}");

    assert_eq!(netlink.find("no-such").expect("an answer"), None);
    assert_eq!(
        netlink.link("no-such").expect_err("none").errno(),
        Some(libc::ENODEV)
    );
    netlink.delete_link(near.index).expect("gone");
    assert_eq!(
        netlink.find("far0").expect("an answer"),
        None,
        "both ends go"
    );
}

/// What an interface had is taken to another and brought back, whole and in order.
pub(crate) fn moving() {
    let netlink = netlink();
    let phys = host(&netlink).index;
    let bridge = netlink
        .create_bridge("br0", &BridgeOptions::default())
        .expect("a bridge")
        .index;
    netlink.set_up(bridge).expect("up");
    let router = "192.0.2.1".parse().expect("an address");
    let mut slow = Route::default_via(router, phys);
    (slow.metric, slow.mtu, slow.source) = (
        Some(500),
        Some(1400),
        Some("192.0.2.8".parse().expect("an address")),
    );
    let mut elsewhere = Route::new(
        "198.51.100.0/24".parse().expect("a network"),
        Some(router),
        phys,
    );
    elsewhere.table = 1000;
    let mut onlink = Route::new(
        "203.0.113.9/32".parse().expect("a network"),
        Some("203.0.113.1".parse().expect("an address")),
        phys,
    );
    onlink.onlink = true;
    let mut mapped = Route::new(
        "203.0.113.10/32".parse().expect("a network"),
        Some("2001:db8:7::1".parse().expect("an address")),
        phys,
    );
    mapped.protocol = 16;
    let six = Route::default_via("2001:db8:7::1".parse().expect("an address"), phys);
    for route in [&slow, &elsewhere, &onlink, &mapped, &six] {
        netlink
            .add_route(route)
            .unwrap_or_else(|error| panic!("{error}: {route:?}"));
    }
    let routes = listed(&netlink, phys);
    for route in [&slow, &elsewhere, &onlink, &mapped] {
        assert!(routes.contains(route), "{route:?} is not in {routes:?}");
    }
    assert!(
        routes
            .iter()
            .any(|route| route.gateway == six.gateway && route.destination == six.destination)
    );
    assert!(routes.iter().all(|route| route.table != 255));
    let again = netlink.add_route(&slow).expect_err("there");
    assert_eq!(again.errno(), Some(libc::EEXIST));

    let mut addresses = netlink.addresses(phys).expect("addresses");
    addresses.retain(|address| address.scope == 0);
    let global = addresses.iter();
    let global: Vec<_> = global.map(|address| address.network.to_string()).collect();
    assert_eq!(global, ["192.0.2.7/24", "192.0.2.8/24", "2001:db8:7::7/64"]);
    assert_eq!(addresses[0].label.as_deref(), Some("phys0"));
    assert_eq!(addresses[0].lifetime, None);
    // As a journal keeps them.
    let text = serde_json::to_string(&(&addresses, &routes)).expect("text");
    let (addresses, routes): (Vec<Address>, Vec<Route>) =
        serde_json::from_str(&text).expect("what it was");

    carry(&netlink, (phys, bridge), &addresses, &routes);
    assert_eq!(networks(&netlink, bridge), global);
    assert_eq!(listed(&netlink, bridge).len(), routes.len());
    assert_eq!(listed(&netlink, phys), []);

    carry(&netlink, (bridge, phys), &addresses, &routes);
    let mut before: Vec<_> = routes.iter().map(|route| format!("{route:?}")).collect();
    let back = listed(&netlink, phys);
    let mut after: Vec<_> = back.iter().map(|route| format!("{route:?}")).collect();
    before.sort();
    after.sort();
    assert_eq!(before, after);
    let mut after = netlink.addresses(phys).expect("addresses");
    after.retain(|address| address.scope == 0);
    assert_eq!(after, addresses);
    assert_eq!(
        netlink
            .delete_address(phys, "192.0.2.77/24".parse().expect("an address"))
            .expect_err("none")
            .errno(),
        Some(libc::EADDRNOTAVAIL)
    );

    netlink.delete_route(&slow).expect("gone");
    assert!(!netlink.routes(phys).expect("routes").contains(&slow));
    assert_eq!(
        netlink.delete_route(&slow).expect_err("gone").errno(),
        Some(libc::ESRCH)
    );
}

/// The routes of an interface but that of link-local addresses, which the kernel makes when it
/// likes.
fn listed(netlink: &Netlink, index: u32) -> Vec<Route> {
    let mut routes = netlink.routes(index).expect("routes");
    routes.retain(|route| route.destination.to_string() != "fe80::/64");
    routes
}

fn networks(netlink: &Netlink, index: u32) -> Vec<String> {
    let addresses = netlink.addresses(index).expect("addresses");
    let global = addresses.iter().filter(|address| address.scope == 0);
    global.map(|address| address.network.to_string()).collect()
}

/// Takes addresses and routes from one interface to the other, as somebody does who takes an
/// interface over.
fn carry(netlink: &Netlink, (from, to): (u32, u32), addresses: &[Address], routes: &[Route]) {
    // Those of IPv6 would stay when their addresses go, and forbid their like elsewhere.
    for route in listed(netlink, from) {
        netlink.delete_route(&route).expect("a route less");
    }
    let carried = addresses.iter().filter(|address| address.scope == 0);
    for address in carried.clone() {
        // The second of a prefix has gone with the first.
        let _ = netlink.delete_address(from, address.network);
    }
    assert!(networks(netlink, from).is_empty());
    for address in carried {
        netlink.restore_address(to, address).expect("an address");
        netlink.restore_address(to, address).expect("again");
    }
    for route in routes {
        let mut route = route.clone();
        route.interface = to;
        match netlink.add_route(&route) {
            Ok(()) => assert_ne!(route.protocol, Route::BY_KERNEL, "{route:?}"),
            Err(error) => assert_eq!(error.errno(), Some(libc::EEXIST), "{error}: {route:?}"),
        }
    }
}

/// VLANs of a bridge, where the kernel has them.
pub(crate) fn vlans() {
    let netlink = netlink();
    let options = BridgeOptions {
        vlan_filtering: true,
        ..BridgeOptions::default()
    };
    let bridge = match netlink.create_bridge("br0", &options) {
        Ok(bridge) => bridge,
        Err(error) => {
            let text = error.to_string();
            assert!(text.contains("VLAN"), "{text}");
            assert_eq!(netlink.find("br0").expect("an answer"), None, "left behind");
            // One that exists is refused too, and stays as it was.
            let plain = netlink
                .create_bridge("br1", &BridgeOptions::default())
                .expect("a bridge");
            let refused = netlink.filter_vlans("br1").expect_err("no VLANs");
            assert!(matches!(refused, LinuxError::Invalid(_)), "{refused}");
            assert_eq!(netlink.link("br1").expect("br1"), plain);
            return println!("skip: {text}");
        }
    };
    assert!(netlink.filters_vlans(bridge.index).expect("an answer"));
    let plain = netlink
        .create_bridge("br1", &BridgeOptions::default())
        .expect("a bridge");
    assert!(!netlink.filters_vlans(plain.index).expect("an answer"));
    netlink.filter_vlans("br1").expect("VLANs");
    assert!(netlink.filters_vlans(plain.index).expect("an answer"));
    netlink
        .create_veth(&VethEnd::named("a0"), &VethEnd::named("a1"))
        .expect("a pair");
    let port = netlink.link("a0").expect("a0").index;
    netlink
        .set_bridge(port, Some(bridge.index))
        .expect("a port");
    let options = PortOptions {
        pvid: Some(42),
        tagged: vec![43, 4094],
        ..PortOptions::default()
    };
    netlink.set_port(port, &options).expect("VLANs");
    assert_eq!(
        netlink.port_vlans(port).expect("VLANs"),
        [(42, true), (43, false), (4094, false)]
    );
    for vlan in [0, 4095] {
        let options = PortOptions {
            pvid: Some(vlan),
            ..PortOptions::default()
        };
        assert!(matches!(
            netlink.set_port(port, &options),
            Err(LinuxError::Invalid(_))
        ));
    }
}
