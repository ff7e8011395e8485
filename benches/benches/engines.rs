//! What one packet costs in each engine of the control path (criterion).

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use net_datapath::{VirtioNetHdr, ZeroCopyPacket};
use net_gateway::{Config, Gateway};
use net_switch::{PortConfig, Switch};
use net_wire::ethernet::{self, EtherType};
use net_wire::ipv4::Ipv4Repr;
use net_wire::{MacAddr, icmpv4, ip_proto};

const NOW: Duration = Duration::from_secs(1);
const GUEST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);

/// An echo request of a guest with 56 bytes of data, as `ping` sends it.
fn echo(dst: Ipv4Addr) -> Vec<u8> {
    let mut frame = vec![0; 14 + 20 + 64];
    ethernet::emit(
        &mut frame,
        MacAddr([2, 0xab, 10, 0, 2, 1]),
        MAC,
        EtherType::IPV4,
    );
    let header = Ipv4Repr {
        src: GUEST,
        dst,
        protocol: ip_proto::ICMP,
        ttl: 64,
        tos: 0,
        id: 1,
        dont_fragment: true,
        payload_len: 64,
    };
    header.emit(&mut frame[14..]);
    icmpv4::emit(&mut frame[34..], icmpv4::ECHO_REQUEST, 0, 1);
    frame
}

fn gateway(criterion: &mut Criterion) {
    let network = "10.0.2.0/24".parse().expect("a network");
    let config = Config::new(network).expect("a network with room");
    let mut gateway = Gateway::new(config, [7; 16]).expect("a sound configuration");
    let mut out = Vec::new();
    for (name, dst) in [
        ("gateway: echo answered", Ipv4Addr::new(10, 0, 2, 1)),
        (
            "gateway: packet for the uplink",
            Ipv4Addr::new(198, 51, 100, 1),
        ),
    ] {
        let frame = echo(dst);
        criterion.bench_function(name, |bencher| {
            bencher.iter(|| {
                let packet = ZeroCopyPacket::from_slice(&frame, VirtioNetHdr::PLAIN);
                let packet = packet.expect("a whole frame");
                black_box(gateway.ingress(1, &packet, NOW, &mut out));
                out.clear();
            });
        });
    }
}

fn switch(criterion: &mut Criterion) {
    let mut switch = Switch::new(net_switch::Config::new([7; 16]));
    let mac = |n: u8| MacAddr([2, 0, 0, 0, 0, n]);
    for port in 1..=8 {
        switch.add_port(port, PortConfig::default());
        switch.forward(port, MacAddr::BROADCAST, mac(port as u8), NOW);
    }
    criterion.bench_function("switch: known unicast, 8 ports", |bencher| {
        bencher.iter(|| black_box(switch.forward(1, mac(5), mac(1), NOW)));
    });
}

criterion_group!(engines, gateway, switch);
criterion_main!(engines);
