//! Another router than the gateway, behind the trunk: it advertises itself, and speaks alone from its
//! addresses.

use std::net::Ipv6Addr;

use net_datapath::{VirtioNetHdr, ZeroCopyPacket};
use net_gateway::{Config, ConfigError, DropReason, Gateway, Ipv6Config, Router6, Verdict};
use net_wire::{MacAddr, icmpv6, ip_proto};

use super::{
    ALL_NODES, ALL_ROUTERS, MAC, NOW, PORT, PREFIX, hand, ip_frame, link_local, message, neighbour,
};

const TRUNK: u32 = 7;
const ROUTER: Ipv6Addr = Ipv6Addr::new(0xfd12, 0x3456, 0x789a, 0, 0, 0, 0, 1);
const SECOND: Ipv6Addr = Ipv6Addr::new(0xfd12, 0x3456, 0x789a, 0, 0, 0, 0, 2);
const ROUTER_MAC: MacAddr = MacAddr([2, 0xad, 10, 0, 2, 0]);
const ALL_NODES_MAC: MacAddr = MacAddr([0x33, 0x33, 0, 0, 0, 1]);

fn config() -> Config {
    let mut config = Config::new("10.0.2.0/24".parse().unwrap()).unwrap();
    let mut six = Ipv6Config::new(format!("{PREFIX}/64").parse().unwrap()).unwrap();
    six.ip = SECOND;
    six.behind_trunk = Some(Router6 {
        ip: ROUTER,
        mac: ROUTER_MAC,
    });
    config.ipv6 = Some(six);
    config
}

fn gateway() -> Gateway {
    let mut gateway = Gateway::new(config(), [9; 16]).unwrap();
    gateway.trunk_opened(TRUNK);
    gateway
}

fn advertisement(mac: MacAddr) -> Vec<u8> {
    let ends = (link_local(mac), ALL_NODES);
    let said = message(ends, icmpv6::ROUTER_ADVERT, 0, &[0; 8]);
    ip_frame((mac, ALL_NODES_MAC), ends, ip_proto::ICMPV6, 255, &said)
}

#[test]
fn the_gateway_leaves_advertising_to_the_router() {
    let mut gateway = gateway();
    assert!(!gateway.advertises());
    gateway.port_opened(PORT, "10.0.2.9".parse().unwrap(), "guest1", None, NOW);
    let ends = (link_local(MAC), ALL_ROUTERS);
    let asked = message(ends, icmpv6::ROUTER_SOLICIT, 0, &[]);
    let group = MacAddr([0x33, 0x33, 0, 0, 0, 2]);
    let frame = ip_frame((MAC, group), ends, ip_proto::ICMPV6, 255, &asked);
    assert_eq!(
        hand(&mut gateway, PORT, &frame),
        (Verdict::Answered, vec![])
    );
    gateway.set_ipv6_router(true, NOW);
    let mut out = Vec::new();
    gateway.on_deadline(NOW * 1000, &mut out);
    gateway.farewell(&mut out);
    assert!(out.is_empty(), "{out:?}");
    // What the router is to say instead: itself, and the gateway as the name server.
    let said = config().advertisement().unwrap();
    assert_eq!(said.link_address, Some(ROUTER_MAC.0));
    assert_eq!(said.rdnss, [SECOND]);
    assert_eq!(said.prefixes[0].address, PREFIX);
}

#[test]
fn the_router_is_heard_from_the_trunk_alone() {
    let mut gateway = gateway();
    let spoofed = Verdict::Dropped(DropReason::Spoofed);
    let said = advertisement(ROUTER_MAC);
    assert_eq!(hand(&mut gateway, TRUNK, &said).0, Verdict::Answered);
    assert_eq!(hand(&mut gateway, PORT, &said).0, spoofed);
    assert_eq!(hand(&mut gateway, TRUNK, &advertisement(MAC)).0, spoofed);
    for own in [ROUTER, link_local(ROUTER_MAC)] {
        let ends = (own, SECOND);
        let asked = neighbour(ends, icmpv6::NEIGHBOR_SOLICIT, 0, SECOND, Some(MAC));
        let frame = ip_frame((MAC, MAC), ends, ip_proto::ICMPV6, 255, &asked);
        assert_eq!(hand(&mut gateway, PORT, &frame).0, spoofed, "{own}");
        assert_eq!(gateway.neighbour(own), None);
        let (verdict, answers) = hand(&mut gateway, TRUNK, &frame);
        assert_eq!((verdict, answers.len()), (Verdict::Answered, 1), "{own}");
        assert_eq!(gateway.neighbour(own).unwrap().port, TRUNK);
        // Past the gateway, too, nobody says that the router's address is its own.
        let ends = (link_local(MAC), ALL_NODES);
        let claim = neighbour(ends, icmpv6::NEIGHBOR_ADVERT, 1 << 29, own, Some(MAC));
        let frame = ip_frame((MAC, ALL_NODES_MAC), ends, ip_proto::ICMPV6, 255, &claim);
        let packet = ZeroCopyPacket::from_slice(&frame, VirtioNetHdr::PLAIN).unwrap();
        assert!(!gateway.may_pass(&packet), "{own}");
    }
}

#[test]
fn a_router_that_is_no_other_host_of_the_prefix_is_refused() {
    for ip in [SECOND, "fd99::1".parse().unwrap()] {
        let mut config = config();
        let mac = ROUTER_MAC;
        if let Some(six) = &mut config.ipv6 {
            six.behind_trunk = Some(Router6 { ip, mac });
        }
        let refused = Gateway::new(config, [9; 16]).unwrap_err();
        assert!(matches!(refused, ConfigError::Address6Outside(..)), "{ip}");
    }
}
