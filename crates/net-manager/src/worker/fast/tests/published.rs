//! Ports published outside, hairpins, and guests that come and go.

use net_wire::icmpv4;

use super::frames::{self, Ends, tcp_in, tcp_out, udp_in, udp_out};
use super::*;
use crate::config::PublishedPort;
use crate::worker::{PortOptions, PublishedAs};

const CLIENT: (Ipv4Addr, u16) = (FAR, 33_000);
const SYN: (u8, u32, u32) = (2, 100, 0);

impl World {
    fn publish(&mut self, text: &str) -> Result<PublishedAs, ManagerError> {
        self.worker
            .publish(&text.parse::<PublishedPort>().unwrap(), None)
    }
}

#[test]
fn a_published_port_leads_to_the_guest_with_the_client_s_address() {
    let mut world = World::connected(1, 1500);
    world.outside_sends(&tcp_in(CLIENT, 8080, SYN, b""));
    assert!(world.guest(0).is_empty());
    let published = world.publish("8080:80").unwrap();
    assert_eq!(published.address, (OUTSIDE, 8080).into());
    world.outside_sends(&tcp_in(CLIENT, 8080, SYN, b""));
    let Ends { src, dst } = world.guest(0)[0].ends();
    assert_eq!((src, dst), (CLIENT, (guest_ip(0), 80)));
    world.guest_sends(0, &tcp_out(0, 80, CLIENT, (0x12, 5, 101), b""));
    assert_eq!(world.outside()[0].ends().src, (OUTSIDE, 8080));

    // Taken back: who came in by it is out again, nobody new comes in, and another port's stay.
    let other = (FAR, 33_002);
    world.publish("8081:80").unwrap();
    world.outside_sends(&tcp_in(other, 8081, SYN, b""));
    world.guest(0);
    world.worker.core.uplink.unpublish(published.id);
    world.outside_sends(&tcp_in(CLIENT, 8080, (0x10, 101, 6), b"data"));
    assert!(world.guest(0).is_empty());
    world.guest_sends(0, &tcp_out(0, 80, other, (0x12, 5, 101), b""));
    assert_eq!(world.outside()[0].ends().src, (OUTSIDE, 8081));
    world.outside_sends(&tcp_in((FAR, 33_001), 8080, SYN, b""));
    assert!(world.guest(0).is_empty());
}

#[test]
fn what_cannot_be_published_is_refused() {
    let mut world = World::connected(1, 1500);
    world.publish("8080:80").unwrap();
    let error = |result: Result<PublishedAs, ManagerError>| result.unwrap_err().to_string();
    assert!(error(world.publish("8080:81")).contains("in use"));
    assert!(error(world.publish("192.0.2.9:1:80")).contains("198.51.100.2"));
    world.publish("8080:80/udp").unwrap();
    world.publish("198.51.100.2:8081:80").unwrap();
    // Any port will do, and it is said which.
    let chosen = world.publish("0:80").unwrap();
    assert_eq!(chosen.address.ip(), OUTSIDE);
    assert_ne!(chosen.address.port(), 0);
    let mut to_gateway: PublishedPort = "9000:80".parse().unwrap();
    to_gateway.guest = Some(GATEWAY);
    assert!(error(world.worker.publish(&to_gateway, None)).contains("not a guest"));
    to_gateway.guest = Some(FAR);
    assert!(error(world.worker.publish(&to_gateway, None)).contains("not a guest"));
    // The host's loopback is the host's.
    let local = world.publish("127.0.0.1:0:80").unwrap();
    assert!(local.address.ip().is_loopback());
}

#[test]
fn guests_reach_each_other_by_the_published_port() {
    let mut world = World::connected(2, 1500);
    let mut port: PublishedPort = "8080:80".parse().unwrap();
    port.guest = Some(guest_ip(1));
    world.worker.publish(&port, None).unwrap();
    world.guest_sends(0, &tcp_out(0, 4000, (OUTSIDE, 8080), SYN, b""));
    let got = world.guest(1);
    let Ends { src, dst } = got[0].ends();
    assert_eq!((src.0, dst), (OUTSIDE, (guest_ip(1), 80)));
    world.guest_sends(1, &tcp_out(1, 80, src, (0x12, 5, 101), b""));
    let back = world.guest(0);
    assert_eq!(back[0].ends().src, (OUTSIDE, 8080));
    assert!(world.outside().is_empty());
}

/// To a guest of another VLAN or an isolated one, another guest is a host outside: its own address
/// leads nowhere, a published port leads to it.
#[test]
fn guests_kept_apart_reach_what_is_published() {
    let isolated = PortOptions {
        isolated: true,
        ..PortOptions::default()
    };
    let in_vlan = PortOptions {
        vlan: Some(7),
        ..PortOptions::default()
    };
    for port in [isolated, in_vlan] {
        let mut world = World::connected(1, 1500);
        world.add_guest(true, port);
        world.turn();
        world.guest(1);
        for (from, to) in [(0, 1), (1, 0)] {
            let mut frame = tcp_out(from, 4000, (guest_ip(to), 80), SYN, b"");
            world.guest_sends(from, &frame);
            frame.bytes[..6].copy_from_slice(&guest_mac(to).0);
            world.guest_sends(from, &frame);
            assert!(world.guest(to).is_empty(), "{port:?}");
        }
        let mut published: PublishedPort = "8080:80".parse().unwrap();
        published.guest = Some(guest_ip(1));
        world.worker.publish(&published, None).unwrap();
        world.guest_sends(0, &tcp_out(0, 4000, (OUTSIDE, 8080), SYN, b""));
        assert_eq!(world.guest(1).len(), 1);
        assert!(world.outside().is_empty());
    }
}

/// What a guest has outside for its own flows is as open to other guests as to hosts outside.
#[test]
fn a_mapping_is_no_way_past_isolation() {
    let mut world = World::connected(1, 1500);
    let isolated = PortOptions {
        isolated: true,
        ..PortOptions::default()
    };
    world.add_guest(true, isolated);
    world.guest_sends(1, &udp_out(1, 5000, FAR, 7000, b"out"));
    let mapped = world.outside()[0].ends().src;
    world.guest(1);
    let before = world.guest(1).len();
    world.outside_sends(&udp_in((ROUTER, 7000), mapped.1, b"a stranger"));
    let stranger = world.guest(1).len() - before;
    world.guest_sends(0, &udp_out(0, 5000, OUTSIDE, mapped.1, b"a guest"));
    assert_eq!(world.guest(1).len(), stranger);
}

#[test]
fn a_packet_for_a_silent_guest_waits_until_it_speaks() {
    let mut world = World::with(1, 1500, false, |_| {});
    world.publish("8080:80/udp").unwrap();
    world.outside_sends(&udp_in(CLIENT, 8080, b"one"));
    world.outside_sends(&udp_in(CLIENT, 8080, b"two"));
    assert!(world.guest(0).is_empty());
    world.guest_sends(0, &frames::guest_says(0));
    let got = world.guest(0);
    assert_eq!(got.len(), 2);
    assert_eq!(&got[0].bytes[42..], b"one");
    assert_eq!(
        (got[1].ends().src, got[1].dst_mac()),
        (CLIENT, guest_mac(0))
    );
}

#[test]
fn who_takes_a_guest_s_place_does_not_get_its_packets() {
    let mut world = World::connected(2, 1500);
    world.guest_sends(0, &udp_out(0, 5000, FAR, 7000, b"x"));
    world.guest_sends(1, &udp_out(1, 5000, FAR, 7000, b"x"));
    let ports: Vec<u16> = world.outside().iter().map(|it| it.ends().src.1).collect();
    world.guest(0);
    let (_, id) = world.guests.remove(0);
    world.worker.detach(id, world.now);
    world.turn();
    let (far, near) = memory::pair_with(capabilities(), 1024);
    let options = AttachOptions {
        mac: Some(guest_mac(0).0),
        address: Some(guest_ip(0)),
        ..AttachOptions::default()
    };
    let attached = world
        .worker
        .attach(Attach::Backend(Box::new(near)), options, world.now);
    world.guests.insert(0, (far, attached.unwrap().id));
    world.outside_sends(&udp_in((FAR, 7000), ports[0], b"late"));
    assert!(world.guest(0).is_empty());
    world.outside_sends(&udp_in((FAR, 7000), ports[1], b"in time"));
    assert_eq!(world.guest(1).len(), 1);
}

#[test]
fn sessions_end_when_their_time_is_over() {
    let mut world = World::connected(1, 1500);
    for port in 0..500 {
        world.guest_sends(0, &udp_out(0, 5000 + port, FAR, 7000, b"x"));
    }
    assert_eq!(world.status().sessions, 501);
    world.now += Duration::from_secs(301);
    world.pass(5);
    assert_eq!(world.status().sessions, 0);
}

#[test]
fn a_call_nobody_takes_is_answered_in_the_end() {
    let mut world = World::connected(1, 1500);
    // The caller is on the outside network, and has been asked for.
    let caller = Ipv4Addr::new(198, 51, 100, 8);
    world.guest_sends(0, &udp_out(0, 5000, caller, 7000, b"x"));
    world.router_says(caller);
    world.outside();
    world.outside_sends(&tcp_in((caller, 4000), 81, SYN, b""));
    assert!(world.outside().is_empty());
    world.pass(8);
    let told = world.outside();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].icmp().0, icmpv4::UNREACHABLE);
}
