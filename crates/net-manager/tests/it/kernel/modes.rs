//! Each mode: who reaches whom, and that nothing is left.

use std::net::SocketAddr;

use net_backend::NetworkBackend;
use net_backend_linux::netlink::BridgeOptions;
use net_backend_linux::{Tap, TapOptions};
use net_manager::kernel::{ServedTaps, StateDir, TapPort};
use net_manager::{AttachOptions, Engine, ManagerError, Network, NetworkMode};

use super::{FAR, HOST, Snapshot, World, does_not_reach, pings};
use crate::peer::{PORT, Peer, tcp};

/// What is transferred where a transfer is tried.
const BULK: u64 = 4 << 20;

/// Rules of somebody else, which stay as they are.
fn foreign_rules() {
    let rules =
        "add table inet other; add chain inet other c { type filter hook forward priority 5; }";
    let status = std::process::Command::new("nft").arg(rules).status();
    assert!(status.unwrap().success());
}

pub(super) fn nat() {
    let mut world = World::new(NetworkMode::Nat);
    foreign_rules();
    let before = Snapshot::take(&world.netlink);
    let network = Network::new(world.config(NetworkMode::Nat));
    network.start().unwrap();
    assert_eq!(network.status().unwrap().engine, Engine::Kernel);
    let (mut one, one_ip) = world.guest(&network);
    let (mut two, two_ip) = world.guest(&network);
    let (mut three, three_ip) = world.guest_of_the_worker(&network, true);

    // DHCP says what the namespace was given; the host routes, the gateway serves.
    assert_eq!(
        one.ask("dhcp eth0"),
        format!("{one_ip} [10.7.0.1] [10.7.0.2]")
    );
    for guest in [&mut one, &mut two, &mut three] {
        for host in ["10.7.0.1", "10.7.0.2", HOST, FAR] {
            pings(guest, host);
        }
        assert_eq!(guest.ask(&format!("tcp {FAR}:{PORT} {BULK}")), HOST);
        assert_eq!(guest.ask(&format!("udp {FAR}:{PORT} 1000")), HOST);
    }
    let bulk = |ip| format!("tcp {ip}:{PORT} {BULK}");
    assert_eq!(one.ask(&bulk(two_ip)), one_ip.to_string());
    assert_eq!(one.ask(&bulk(three_ip)), one_ip.to_string());
    assert_eq!(three.ask(&bulk(two_ip)), three_ip.to_string());

    // From outside to a published port, from the host, and from one guest to another by it.
    let publish = |text: &str, guest| {
        let mut port: net_manager::PublishedPort = text.parse().unwrap();
        port.guest = guest;
        network.publish(port).unwrap()
    };
    let first = publish("8080:80", None);
    assert_eq!(first.guest, SocketAddr::from((one_ip, 80)));
    publish("8081:80/udp", Some(two_ip));
    publish("8082:80", Some(three_ip));
    publish("127.0.0.1:8083:80", Some(two_ip));
    let outside = format!("tcp {HOST}:8080 {BULK}");
    assert_eq!(world.far.ask(&outside), FAR);
    assert_eq!(world.far.ask(&format!("udp {HOST}:8081 1000")), FAR);
    assert_eq!(world.far.ask(&format!("tcp {HOST}:8082 {BULK}")), FAR);
    let hidden = world.far.ask(&format!("tcp {HOST}:8083 10"));
    assert!(hidden.starts_with("error"), "{hidden}");
    assert!(two.ask(&outside).parse::<std::net::IpAddr>().is_ok());
    for address in ["127.0.0.1:8080", "127.0.0.1:8083", "198.51.100.2:8080"] {
        let seen = tcp(address.parse().unwrap(), 1000).unwrap();
        assert!(seen == "10.7.0.1" || seen == HOST, "{address}: {seen}");
    }
    // A program of the host has its port for itself.
    let listener = std::net::TcpListener::bind("0.0.0.0:8090").unwrap();
    let taken = network.publish("8090:80".parse().unwrap()).unwrap_err();
    assert!(matches!(taken, ManagerError::PortTaken { .. }), "{taken}");
    drop(listener);
    let chosen = publish("0:80", None);
    assert_ne!(chosen.address.port(), 0);
    network.unpublish(first.id).unwrap();
    let refused = world.far.ask(&outside);
    assert!(refused.starts_with("error"), "{refused}");

    network.stop();
    drop((one, two, three));
    before.assert_same(&world.netlink);
    assert_eq!(std::fs::read_dir(world.state.path()).unwrap().count(), 1);
}

pub(super) fn host_only() {
    let mut world = World::new(NetworkMode::HostOnly);
    let before = Snapshot::take(&world.netlink);
    let network = Network::new(world.config(NetworkMode::HostOnly));
    network.start().unwrap();
    let (mut one, one_ip) = world.guest(&network);
    let (mut two, two_ip) = world.guest(&network);
    let (mut three, three_ip) = world.guest_of_the_worker(&network, false);
    // There is no way out, and nobody is told of one.
    assert_eq!(one.ask("dhcp eth0"), format!("{one_ip} [] [10.7.0.2]"));
    for guest in [&mut one, &mut two, &mut three] {
        pings(guest, "10.7.0.1");
        pings(guest, "10.7.0.2");
    }
    pings(&mut one, two_ip);
    pings(&mut two, three_ip);
    pings(&mut three, one_ip);
    let seen = tcp(SocketAddr::from((two_ip, PORT)), 1000).unwrap();
    assert_eq!(seen, "10.7.0.1");
    // Even of guests that send to the host what is for others, on a host that forwards for others.
    std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
    world.far.ask(&format!("route 10.7.0.0/24 {HOST} eth0"));
    for (guest, link) in [(&mut one, "eth0"), (&mut three, "guest0")] {
        guest.ask(&format!("route 0.0.0.0/0 10.7.0.1 {link}"));
        does_not_reach(guest, FAR);
    }
    does_not_reach(&mut world.far, one_ip);
    std::fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap();
    network.stop();
    drop((one, two, three));
    before.assert_same(&world.netlink);
}

pub(super) fn isolated() {
    let world = World::new(NetworkMode::HostOnly);
    let before = Snapshot::take(&world.netlink);
    let mut config = world.config(NetworkMode::HostOnly);
    config.isolated = true;
    let network = Network::new(config);
    network.start().unwrap();
    let (mut one, one_ip) = world.guest(&network);
    let (mut two, two_ip) = world.guest(&network);
    let (mut three, three_ip) = world.guest_of_the_worker(&network, false);
    for guest in [&mut one, &mut two, &mut three] {
        pings(guest, "10.7.0.1");
        pings(guest, "10.7.0.2");
    }
    assert!(one.ask("dhcp eth0").starts_with(&one_ip.to_string()));
    does_not_reach(&mut one, two_ip);
    does_not_reach(&mut two, three_ip);
    does_not_reach(&mut three, one_ip);
    network.stop();
    drop((one, two, three));
    before.assert_same(&world.netlink);
}

/// The host's interface becomes a port of the bridge, and gets back what it had.
pub(super) fn bridge() {
    let mut world = World::new(NetworkMode::Bridge);
    let up = world.netlink.link("up0").unwrap();
    world
        .netlink
        .add_default_route(up.index, FAR.parse().unwrap())
        .unwrap();
    let before = Snapshot::take(&world.netlink);
    let mut config = world.config(NetworkMode::Bridge);
    config.take_over = Some("up0".to_owned());
    let network = Network::new(config);
    network.start().unwrap();
    // The host is where it was, under the same hardware address, and still has its way out.
    pings(&mut world.far, HOST);
    let bridge = world.netlink.link("ab-blue").unwrap();
    assert_eq!(bridge.mac, up.mac);
    assert!(world.netlink.addresses(up.index).unwrap().is_empty());
    let routes = world.netlink.routes(bridge.index).unwrap();
    assert!(routes.iter().any(|route| route.gateway.is_some()));
    // Guests are hosts of the outside network, which gives them their addresses.
    let one = Peer::start();
    let pid = one.pid().to_string();
    let attached = network.attach_netns(&pid, "eth0", None, AttachOptions::default());
    let id = attached.unwrap().info.id;
    let mut one = one;
    one.ask("up eth0 198.51.100.50/24 1500");
    pings(&mut one, FAR);
    pings(&mut one, HOST);
    let bulk = |ip| format!("tcp {ip}:{PORT} {BULK}");
    assert_eq!(world.far.ask(&bulk("198.51.100.50")), FAR);
    // One behind the worker too, and nobody answers DHCP.
    let (mut three, _) = world.guest_of_the_worker(&network, false);
    three.ask("up guest0 198.51.100.51/24 1500");
    pings(&mut three, FAR);
    pings(&mut three, "198.51.100.50");
    assert!(one.ask("dhcp eth0").starts_with("error"));
    assert!(network.publish("8080:80".parse().unwrap()).is_err());
    network.detach(id).unwrap();
    network.stop();
    drop((one, three));
    pings(&mut world.far, HOST);
    before.assert_same(&world.netlink);
}

pub(super) fn bridge_of_the_host() {
    let mut world = World::new(NetworkMode::Bridge);
    let made = world
        .netlink
        .create_bridge("br0", &BridgeOptions::default())
        .unwrap();
    let up = world.netlink.link("up0").unwrap().index;
    world.netlink.set_bridge(up, Some(made.index)).unwrap();
    world.netlink.set_up(made.index).unwrap();
    let before = Snapshot::take(&world.netlink);
    let mut config = world.config(NetworkMode::Bridge);
    config.bridge = Some("br0".to_owned());
    config.isolated = true;
    let network = Network::new(config);
    network.start().unwrap();
    let mut guests: Vec<Peer> = (0..2)
        .map(|n| {
            let mut guest = Peer::start();
            let pid = guest.pid().to_string();
            let attached = network.attach_netns(&pid, "eth0", None, AttachOptions::default());
            attached.unwrap();
            guest.ask(&format!("up eth0 198.51.100.5{n}/24 1500"));
            guest
        })
        .collect();
    let (mut three, _) = world.guest_of_the_worker(&network, false);
    three.ask("up guest0 198.51.100.52/24 1500");
    for guest in guests.iter_mut().chain([&mut three]) {
        pings(guest, FAR);
    }
    does_not_reach(&mut guests[0], "198.51.100.51");
    does_not_reach(&mut guests[1], "198.51.100.52");
    does_not_reach(&mut three, "198.51.100.50");
    pings(&mut world.far, "198.51.100.50");
    network.stop();
    drop((guests, three));
    before.assert_same(&world.netlink);
}

/// TAP devices for virtual machines: there, marked, ours to open, and gone again.
pub(super) fn ports_for_machines() {
    let world = World::new(NetworkMode::Nat);
    let before = Snapshot::take(&world.netlink);
    let mut config = world.config(NetworkMode::Nat);
    config.reservations = vec!["web=10.7.0.80".parse().unwrap()];
    config.queues = 2;
    let network = Network::new(config);
    network.start().unwrap();
    let port = |name: &str, queues| TapPort {
        name: name.to_owned(),
        queues,
        ..TapPort::default()
    };
    let options = |name: &str| AttachOptions {
        name: Some(name.to_owned()),
        ..AttachOptions::default()
    };
    let one = network.attach_tap(port("vm1", Some(1)), options("web"));
    let one = one.unwrap();
    assert_eq!(one.info.address.to_string(), "10.7.0.80");
    let many = network
        .attach_tap(port("vm2", None), options("db"))
        .unwrap();
    assert_ne!(one.mac, many.mac);
    let again = network.attach_tap(port("vm1", None), options("other"));
    assert!(again.is_err(), "the name is taken");
    let link = world.netlink.link("vm1").unwrap();
    assert_eq!(link.alias.as_deref(), Some("arcbox-net blue"));
    assert_eq!(
        link.controller,
        Some(world.netlink.link("ab-blue").unwrap().index)
    );
    let tap = Tap::open("vm1", TapOptions::default()).unwrap();
    assert_eq!(tap.capabilities().queue_pairs, 1);
    let queues = Tap::open_queues("vm2", 2, TapOptions::default()).unwrap();
    assert_eq!(queues.len(), 2);
    // What the refused one had is free again; so is what is detached, but for the reservation.
    let names: Vec<_> = network.status().unwrap().attachments;
    assert_eq!(names.len(), 2);
    drop((tap, queues));
    network.detach(one.info.id).unwrap();
    network.detach(many.info.id).unwrap();
    assert!(world.netlink.find("vm1").unwrap().is_none());
    assert_eq!(network.allocate_ip().unwrap().to_string(), "10.7.0.3");
    network.stop();
    before.assert_same(&world.netlink);
}

/// A port on a physical interface, without a bridge in between.
pub(super) fn macvtap() {
    let mut world = World::new(NetworkMode::Bridge);
    let before = Snapshot::take(&world.netlink);
    let network = Network::new(world.config(NetworkMode::Bridge));
    network.start().unwrap();
    let options = AttachOptions::default;
    let attached = match network.attach_macvtap("up0", "mv1", None, options()) {
        Ok(attached) => attached,
        Err(why) if why.to_string().contains("modprobe") => {
            println!("skip: {why}");
            return;
        }
        Err(why) => panic!("{why}"),
    };
    let link = world.netlink.link("mv1").unwrap();
    let up = world.netlink.link("up0").unwrap();
    assert_eq!(link.kind.as_deref(), Some("macvtap"));
    assert_eq!((link.lower, link.up), (Some(up.index), true));
    assert_eq!(link.mac.map(|mac| mac.0), Some(attached.mac));
    assert_eq!(link.alias.as_deref(), Some("arcbox-net blue"));
    let device = format!("/dev/tap{}", link.index);
    assert_eq!(attached.port.device, Some(device.into()));
    assert!(
        network
            .attach_macvtap("up0", "mv1", None, options())
            .is_err()
    );
    assert!(
        network
            .attach_macvtap("none0", "mv2", None, options())
            .is_err()
    );
    // The host keeps its interface.
    pings(&mut world.far, HOST);
    network.detach(attached.info.id).unwrap();
    assert!(world.netlink.find("mv1").unwrap().is_none());
    network
        .attach_macvtap("up0", "mv1", None, options())
        .unwrap();
    network.stop();
    before.assert_same(&world.netlink);
}

/// A second instance is refused with the number of the first; other networks run beside it.
pub(super) fn one_owner() {
    let world = World::new(NetworkMode::Nat);
    let before = Snapshot::take(&world.netlink);
    let network = Network::new(world.config(NetworkMode::Nat));
    network.start().unwrap();
    let error = Network::new(world.config(NetworkMode::Nat)).start();
    let error = error.unwrap_err().to_string();
    assert!(error.contains(&std::process::id().to_string()), "{error}");
    let mut red = world.config(NetworkMode::Nat);
    red.name = "red".to_owned();
    let error = Network::new(red.clone()).start().unwrap_err().to_string();
    assert!(error.contains("ab-blue"), "{error}");
    red.subnet = "10.8.0.0/24".parse().unwrap();
    let second = Network::new(red);
    second.start().unwrap();
    // The living are left alone by whoever cleans up.
    let state = StateDir::new(world.state.path());
    let cleaned = net_manager::kernel::KernelNetwork::recover(&state).unwrap();
    assert!(cleaned.is_empty());
    network.stop();
    let forwarding = || std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap();
    assert_eq!(forwarding().trim(), "1", "the second network needs it");
    second.stop();
    before.assert_same(&world.netlink);
}

/// Guests of two VLANs behind one bridge: each reaches its own, and the outside by tagged frames.
pub(super) fn vlans() {
    let mut world = World::new(NetworkMode::Bridge);
    let before = Snapshot::take(&world.netlink);
    let mut config = world.config(NetworkMode::Bridge);
    config.take_over = Some("up0".to_owned());
    let network = Network::new(config);
    network.start().unwrap();
    let join = |vlan, address: &str| {
        let mut guest = Peer::start();
        let pid = guest.pid().to_string();
        let joined = network.attach_netns(&pid, "eth0", Some(vlan), AttachOptions::default());
        match joined {
            Err(why) if why.to_string().contains("VLAN") => {
                println!("skip: {why}");
                None
            }
            joined => {
                joined.unwrap();
                guest.ask(&format!("up eth0 {address}/24 1500"));
                Some(guest)
            }
        }
    };
    let Some(mut red) = join(7, "10.9.0.1") else {
        network.stop();
        return before.assert_same(&world.netlink);
    };
    let mut red_too = join(7, "10.9.0.2").unwrap();
    let mut blue = join(4094, "10.9.0.3").unwrap();
    pings(&mut red, "10.9.0.2");
    pings(&mut red_too, "10.9.0.1");
    does_not_reach(&mut red, "10.9.0.3");
    does_not_reach(&mut blue, "10.9.0.1");
    // Outside, a VLAN is frames with its tag.
    world.far.ask("vlan eth0 7 10.9.0.9/24");
    pings(&mut red, "10.9.0.9");
    pings(&mut world.far, "10.9.0.2");
    does_not_reach(&mut blue, "10.9.0.9");
    // The host and the outside go on without tags, and a machine's device is put into a VLAN too.
    pings(&mut world.far, HOST);
    let tap = TapPort {
        name: "vm1".to_owned(),
        vlan: Some(7),
        ..TapPort::default()
    };
    network.attach_tap(tap, AttachOptions::default()).unwrap();
    let port = world.netlink.link("vm1").unwrap().index;
    assert_eq!(world.netlink.port_vlans(port).unwrap(), [(7, true)]);
    network.stop();
    drop((red, red_too, blue));
    pings(&mut world.far, HOST);
    before.assert_same(&world.netlink);
}

/// A machine's device without a bridge: its frames are the worker's, and none of the host's business.
pub(super) fn served_tap() {
    let world = World::new(NetworkMode::Bridge);
    let before = Snapshot::take(&world.netlink);
    let state = StateDir::new(world.state.path());
    let taps = ServedTaps::create(&world.config(NetworkMode::Nat), &state).unwrap();
    let port = TapPort {
        name: "vm1".to_owned(),
        queues: Some(2),
        ..TapPort::default()
    };
    let mut worker = taps.open(&port).unwrap();
    assert!(taps.open(&port).is_err(), "the name is taken");
    let vlan = TapPort {
        name: "vm2".to_owned(),
        vlan: Some(7),
        ..port.clone()
    };
    assert!(taps.open(&vlan).is_err());
    let mut machine = Tap::open_queues("vm1", 2, TapOptions::default()).unwrap();

    // A datagram to an address of the host, in a frame to the device itself.
    let listener = std::net::UdpSocket::bind((HOST, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let mac = world.netlink.link("vm1").unwrap().mac.unwrap();
    let target = listener.local_addr().unwrap();
    let frame = datagram(mac, target);
    send(&mut machine[1], &frame);
    assert_eq!(receive_now(&mut worker), [&frame[..]]);
    assert!(listener.recv(&mut [0; 64]).is_err(), "the host has it too");
    // The way back, by whichever queue.
    send(&mut worker, &frame);
    let mut arrived = Vec::new();
    for queue in &mut machine {
        arrived.extend(receive_now(queue));
    }
    assert_eq!(arrived, [frame]);

    drop((machine, worker));
    taps.close("vm1").unwrap();
    assert!(world.netlink.find("vm1").unwrap().is_none());
    let worker = taps.open(&port).unwrap();
    taps.destroy().unwrap();
    drop(worker);
    before.assert_same(&world.netlink);
}

/// A UDP datagram to `target` from an address next to it, without a checksum.
fn datagram(mac: net_wire::MacAddr, target: SocketAddr) -> Vec<u8> {
    let mut udp = [4000_u16, target.port(), 12, 0]
        .map(u16::to_be_bytes)
        .concat();
    udp.extend(b"lost");
    let mut frame = [&mac.0[..], &[2, 0, 0, 0, 0, 9], &[8, 0]].concat();
    let mut ip = [0_u8; 20];
    ip[..10].copy_from_slice(&[0x45, 0, 0, 32, 0, 0, 0x40, 0, 64, 17]);
    ip[12..16].copy_from_slice(&[198, 51, 100, 77]);
    ip[16..].copy_from_slice(&HOST.parse::<std::net::Ipv4Addr>().unwrap().octets());
    let sum = net_wire::checksum::sum(&ip).finish();
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    frame.extend(ip);
    frame.extend(udp);
    frame
}

fn send(tap: &mut Tap, frame: &[u8]) {
    let segments = [frame.into()];
    let sent = tap.transmit(&[net_backend::TxFrame::plain(&segments)]);
    assert_eq!(sent.unwrap(), 1);
}

/// What is there now.
fn receive_now(tap: &mut Tap) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    let lent = tap.receive(8, &mut |batch| {
        for packet in batch {
            let mut bytes = vec![0; packet.len()];
            packet.copy_range(0, &mut bytes);
            frames.push(bytes);
        }
    });
    lent.unwrap();
    frames
}
