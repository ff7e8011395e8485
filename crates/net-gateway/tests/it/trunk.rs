//! A port with another switch behind it, and the router among those who are there.

use std::net::Ipv4Addr;
use std::time::Duration;

use net_datapath::{VirtioNetHdr, ZeroCopyPacket};
use net_dhcp::client::{Client, ClientConfig, Event, Lease, Output as ClientOutput};
use net_gateway::{Config, ConfigError, DropReason, Gateway, Output, PortId, Verdict};
use net_wire::ethernet::{self, EtherType};
use net_wire::ipv4::{Ipv4Packet, Ipv4Repr};
use net_wire::{MacAddr, arp, ip_proto, udp};

const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 1);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
const TRUNK: PortId = 1;
const NOW: Duration = Duration::from_secs(1);

fn mac(n: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 1, n])
}

fn gateway(routed: bool) -> Gateway {
    let mut config = Config::new("10.0.2.0/24".parse().unwrap()).unwrap();
    (config.ip, config.router, config.routed) = (GATEWAY, Some(ROUTER), routed);
    let mut gateway = Gateway::new(config, [7; 16]).unwrap();
    gateway.trunk_opened(TRUNK);
    gateway
}

fn hand(gateway: &mut Gateway, port: PortId, frame: &[u8]) -> (Verdict, Vec<Vec<u8>>) {
    let packet = ZeroCopyPacket::from_slice(frame, VirtioNetHdr::PLAIN).unwrap();
    let mut out = Vec::new();
    let verdict = gateway.ingress(port, &packet, NOW, &mut out);
    let frames = out.into_iter().filter_map(|output| match output {
        Output::Frame { frame, .. } => Some(frame),
        _ => None,
    });
    (verdict, frames.collect())
}

fn arp_from(n: u8, ip: Ipv4Addr) -> Vec<u8> {
    let mut frame = vec![0; 42];
    ethernet::emit(&mut frame, MacAddr::BROADCAST, mac(n), EtherType::ARP);
    arp::ArpPacket {
        operation: arp::REQUEST,
        sender_mac: mac(n),
        sender_ip: ip,
        target_mac: MacAddr([0; 6]),
        target_ip: GATEWAY,
    }
    .emit(&mut frame[14..]);
    frame
}

fn lease(gateway: &mut Gateway, port: PortId, n: u8) -> Option<Lease> {
    let mut client = Client::new(ClientConfig::new(mac(n).0), 1);
    for _ in 0..4 {
        let Some(ClientOutput::Send(message)) = client.poll(NOW) else {
            return None;
        };
        let payload = &message.payload;
        let mut frame = vec![0; 42];
        ethernet::emit(&mut frame, MacAddr::BROADCAST, mac(n), EtherType::IPV4);
        Ipv4Repr {
            src: message.src,
            dst: message.dst,
            protocol: ip_proto::UDP,
            ttl: 64,
            tos: 0,
            id: 0,
            dont_fragment: true,
            payload_len: 8 + payload.len(),
        }
        .emit(&mut frame[14..]);
        udp::emit(&mut frame[34..], 68, 67, payload.len(), 0);
        frame.extend_from_slice(payload);
        let (_, frames) = hand(gateway, port, &frame);
        let packet = Ipv4Packet::parse(frames.first()?.get(14..)?).ok()?;
        if let Some(Event::Bound(lease)) = client.handle(&packet.payload()[8..], NOW) {
            return Some(lease);
        }
    }
    None
}

#[test]
fn the_router_is_announced_and_nobody_elses() {
    let mut routed = gateway(true);
    let first = lease(&mut routed, TRUNK, 1).unwrap();
    assert_eq!(first.routers, [ROUTER]);
    assert_eq!(first.dns, [GATEWAY]);
    assert!(first.ip != ROUTER && first.ip != GATEWAY);
    assert_eq!(routed.allocate_ip(), Some(Ipv4Addr::new(10, 0, 2, 3)));
    assert!(!routed.reserve(None, ROUTER));
    // Without a way out there is no router, and its address is still nobody's.
    let mut unrouted = gateway(false);
    let unrouted_lease = lease(&mut unrouted, TRUNK, 1).unwrap();
    assert!(unrouted_lease.routers.is_empty());
    assert!(!unrouted.reserve(None, ROUTER));
    let mut config = Config::new("10.0.2.0/24".parse().unwrap()).unwrap();
    config.router = Some(config.ip);
    assert!(matches!(
        Gateway::new(config, [7; 16]),
        Err(ConfigError::AddressOutside(..))
    ));
}

#[test]
fn only_the_trunk_speaks_as_the_router() {
    let mut gateway = gateway(true);
    let spoofed = Verdict::Dropped(DropReason::Spoofed);
    assert_eq!(hand(&mut gateway, 2, &arp_from(9, ROUTER)).0, spoofed);
    assert_eq!(gateway.neighbour(ROUTER), None);
    let (verdict, frames) = hand(&mut gateway, TRUNK, &arp_from(8, ROUTER));
    assert_eq!((verdict, frames.len()), (Verdict::Answered, 1));
    assert_eq!(gateway.neighbour(ROUTER).unwrap().port, TRUNK);
    assert_eq!(hand(&mut gateway, 2, &arp_from(9, ROUTER)).0, spoofed);
}

/// Every guest of a bridge is behind one port: its share is that of many.
#[test]
fn a_trunk_has_as_many_guests_as_the_network() {
    let mut gateway = gateway(true);
    for n in 0..100 {
        assert!(lease(&mut gateway, TRUNK, n).is_some(), "guest {n}");
    }
    for n in 0..100 {
        let ip = Ipv4Addr::new(10, 0, 2, 150 + n);
        let (verdict, _) = hand(&mut gateway, TRUNK, &arp_from(n, ip));
        let known = gateway.neighbour(ip).is_some_and(|it| it.port == TRUNK);
        assert!(verdict == Verdict::Answered && known, "guest {n}");
    }
    // An ordinary port keeps the share of one guest.
    let mut few = 0;
    while lease(&mut gateway, 2, 200 + few).is_some() {
        few += 1;
    }
    assert_eq!(few, 16);
}

#[test]
fn a_guest_keeps_what_is_reserved_for_its_hardware_address() {
    let mut gateway = gateway(true);
    let kept = Ipv4Addr::new(10, 0, 2, 77);
    assert!(gateway.reserve(Some(mac(5)), kept));
    assert!(!gateway.reserve(Some(mac(6)), kept));
    assert_ne!(lease(&mut gateway, TRUNK, 6).unwrap().ip, kept);
    assert_eq!(lease(&mut gateway, TRUNK, 5).unwrap().ip, kept);
    // On a port of its own too, whatever was set aside before it was known who sits there; and
    // that is not given to another while the port is open.
    let other = Ipv4Addr::new(10, 0, 2, 78);
    assert!(gateway.reserve(Some(mac(7)), other));
    let seat = gateway.allocate_ip().unwrap();
    gateway.port_opened(3, seat, "guest1", None, NOW);
    assert_eq!(lease(&mut gateway, 3, 7).unwrap().ip, other);
    assert_eq!(gateway.seat(3), Some(other));
    assert!(!gateway.reserve(None, seat));
}

/// What was set aside for nobody in particular goes to nobody, whatever a guest calls itself.
#[test]
fn nobody_is_the_owner_of_what_is_set_aside() {
    let mut gateway = gateway(true);
    let aside = gateway.allocate_ip().unwrap();
    for n in 0..=255 {
        let mac = MacAddr([2, 0, 0, 0, 0, n]);
        assert!(
            gateway.reserve(Some(mac), Ipv4Addr::new(10, 0, 2, 99)),
            "{mac}"
        );
        gateway.release_ip(Ipv4Addr::new(10, 0, 2, 99));
    }
    for n in 0..100 {
        assert_ne!(lease(&mut gateway, TRUNK, n).unwrap().ip, aside);
    }
}
