//! The gateway's IPv6 side: any frames of two guests. Whatever comes out is a frame that a host
//! accepts, and nobody gets at the gateway's addresses or past the guard.
//!
//! The input is frames, each behind two bytes of length and one of port.
#![no_main]

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use net_datapath::{L3, VirtioNetHdr, ZeroCopyPacket};
use net_gateway::{Config, Gateway, Ipv6Config, Output};
use net_wire::{icmpv6, ip_proto};

fn gateway() -> Gateway {
    let mut config = Config::new("10.0.2.0/24".parse().expect("a network")).expect("sound");
    config.mtu = 1280;
    config.ipv6 = Ipv6Config::new("fd00::/64".parse().expect("a prefix")).ok();
    Gateway::new(config, [9; 16]).expect("a sound configuration")
}

fn check(frame: &[u8], gateway: &Gateway) {
    assert!(frame.len() - 14 <= 1280);
    let packet = ZeroCopyPacket::from_slice(frame, VirtioNetHdr::PLAIN).expect("a frame");
    assert_eq!(packet.src_mac(), gateway.config().mac);
    if packet.meta().l3 == L3::Ipv6 {
        assert!(!packet.meta().malformed && packet.verify_l4_checksum());
        assert!(packet.ip_src().is_some_and(|src| gateway.owns(src)));
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut gateway = gateway();
    let own: Ipv6Addr = "fd00::1".parse().expect("an address");
    let mut rest = bytes;
    let mut now = Duration::from_secs(1);
    for _ in 0..64 {
        let Some((&[high, low, port], tail)) = rest.split_first_chunk::<3>() else {
            break;
        };
        let len = usize::from(u16::from_be_bytes([high, low])).min(tail.len());
        let (frame, tail) = tail.split_at(len);
        rest = tail;
        let Ok(packet) = ZeroCopyPacket::from_slice(frame, VirtioNetHdr::PLAIN) else {
            continue;
        };
        let passes = gateway.may_pass(&packet);
        let meta = packet.meta();
        if passes && meta.has_transport(ip_proto::ICMPV6) {
            let kind = packet.head()[usize::from(meta.l4_offset)];
            assert!(kind != icmpv6::ROUTER_ADVERT && kind != icmpv6::REDIRECT);
            assert_ne!(packet.ip_src(), Some(IpAddr::V6(own)));
        }
        let mut out = Vec::new();
        let port = u32::from(port & 1) + 1;
        gateway.ingress(port, &packet, now, &mut out);
        gateway.ingress_reassembled(port, &packet, now, &mut out);
        now += Duration::from_millis(300);
        gateway.on_deadline(now, &mut out);
        if let Some(IpAddr::V6(src)) = packet.ip_src() {
            gateway.ask(src, now, &mut out);
        }
        for output in &out {
            if let Output::Frame { frame, .. } = output {
                check(frame, &gateway);
            }
        }
        assert!(gateway.neighbour(own).is_none());
    }
});
