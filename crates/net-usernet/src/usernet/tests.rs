//! The seams: TCP through listeners, services and the closed gateway. The relays have tests of
//! their own.

use core::time::Duration;
use std::net::{SocketAddr, TcpListener, TcpStream};

use mio::Poll;
use net_datapath::{VirtioNetHdr, ZeroCopyPacket};
use net_wire::checksum;
use net_wire::tcp::TcpFlags;

use super::*;
use crate::compose;
use crate::testing::{PORT, Recorder, Sent, config, frame, run_until};

const GUEST: &str = "10.0.2.15:4000";

/// A SYN without options as an Ethernet frame.
fn syn(src: &str, dst: &str) -> Vec<u8> {
    let (src, dst): (SocketAddr, SocketAddr) = (src.parse().unwrap(), dst.parse().unwrap());
    let mut l3 = vec![0; 40];
    compose::ip_header(&mut l3, src.ip(), dst.ip(), ip_proto::TCP, 64, 20).unwrap();
    l3[20..22].copy_from_slice(&src.port().to_be_bytes());
    l3[22..24].copy_from_slice(&dst.port().to_be_bytes());
    l3[24..28].copy_from_slice(&[0, 0, 3, 0xe8]);
    l3[32..36].copy_from_slice(&[0x50, 2, 0xff, 0xff]);
    let pseudo = compose::pseudo_header(src.ip(), dst.ip(), ip_proto::TCP, 20).unwrap();
    let check = (pseudo + checksum::sum(&l3[20..])).finish();
    l3[36..38].copy_from_slice(&check.to_be_bytes());
    frame(&l3)
}

/// Source, destination and control bits of a TCP packet to the guest.
fn tcp(sent: &Sent) -> (SocketAddr, SocketAddr, TcpFlags) {
    let bytes = frame(&sent.l3);
    let packet = ZeroCopyPacket::from_slice(&bytes, sent.header.shifted(14)).unwrap();
    assert!(packet.meta().has_transport(ip_proto::TCP));
    assert!(packet.verify_ip_checksum() && packet.verify_l4_checksum());
    let meta = packet.meta();
    (
        SocketAddr::new(packet.ip_src().unwrap(), meta.src_port),
        SocketAddr::new(packet.ip_dst().unwrap(), meta.dst_port),
        TcpFlags(meta.tcp_flags),
    )
}

struct World {
    poll: Poll,
    net: UserNet,
    out: Recorder,
}

impl World {
    fn new(host_loopback: bool) -> Self {
        let poll = Poll::new().unwrap();
        let registry = poll.registry().try_clone().unwrap();
        let net = UserNet::new(config(host_loopback), registry, 77).unwrap();
        Self {
            poll,
            net,
            out: Recorder::new(1500),
        }
    }

    fn send(&mut self, bytes: &[u8]) {
        let packet = ZeroCopyPacket::from_slice(bytes, VirtioNetHdr::PLAIN).unwrap();
        self.net
            .ingress(PORT, &packet, Duration::ZERO, &mut self.out);
    }

    fn first_sent(&mut self) -> Sent {
        let Self { poll, net, out } = self;
        run_until(poll, |events| {
            for event in events {
                net.ready(event, Duration::ZERO, out);
            }
            if net.next_deadline() == Some(Duration::ZERO) {
                net.on_deadline(Duration::ZERO, out);
            }
            !out.sent.is_empty()
        });
        self.out.sent.remove(0)
    }
}

#[test]
fn a_client_of_a_published_port_is_announced_to_the_guest() {
    let mut world = World::new(false);
    let forward = Forward {
        protocol: Protocol::Tcp,
        bind: "127.0.0.1:0".parse().unwrap(),
        guest: "10.0.2.15:80".parse().unwrap(),
    };
    let id = world.net.publish(forward).unwrap();
    let _client = TcpStream::connect(world.net.forward_addr(id).unwrap()).unwrap();
    let (src, dst, flags) = tcp(&world.first_sent());
    assert_eq!((dst, flags), (forward.guest, TcpFlags::SYN));
    // The host's loopback appears as the gateway, never at a port of its services.
    assert_eq!(src.ip().to_string(), "10.0.2.1");
    assert!(src.port() >= 1024);
    assert_eq!(world.net.statistics().tcp.accepted, 1);
}

#[test]
fn clients_that_the_guest_can_answer_keep_their_address() {
    let mut world = World::new(false);
    let guest = "10.0.2.15".parse().unwrap();
    for (client, seen) in [
        ("192.0.2.1:999", Some("192.0.2.1:999")),
        ("[::ffff:192.0.2.1]:999", Some("192.0.2.1:999")),
        ("10.0.2.99:999", None),
        ("127.0.0.1:999", None),
        ("[2001:db8::1]:999", None),
    ] {
        let name = world
            .net
            .name_client(client.parse().unwrap(), guest)
            .unwrap();
        match seen {
            Some(seen) => assert_eq!(name, seen.parse().unwrap(), "{client}"),
            None => assert_eq!(name.ip().to_string(), "10.0.2.1", "{client}"),
        }
    }
    // Ports of services are stepped over where the count wraps around.
    world.net.client_port = u16::MAX;
    let name = world
        .net
        .name_client("127.0.0.1:1".parse().unwrap(), guest)
        .unwrap();
    assert_eq!(name.port(), 1024);
}

/// Without permission a port of the gateway is closed, whatever listens on the host.
#[test]
fn the_gateway_refuses_what_the_hosts_loopback_would_accept() {
    for host_loopback in [false, true] {
        let mut world = World::new(host_loopback);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        world.send(&syn(GUEST, &format!("10.0.2.1:{port}")));
        let (src, dst, flags) = tcp(&world.first_sent());
        assert_eq!((src.port(), dst.to_string()), (port, GUEST.to_owned()));
        let expected = match host_loopback {
            false => TcpFlags::RST | TcpFlags::ACK,
            true => TcpFlags::SYN | TcpFlags::ACK,
        };
        assert_eq!(flags, expected);
    }
}

#[test]
fn a_service_gets_the_guests_connection() {
    let mut world = World::new(false);
    let service = "10.0.2.1:53".parse().unwrap();
    world.net.add_tcp_service(service);
    world.send(&syn(GUEST, "10.0.2.1:53"));
    let (src, _, flags) = tcp(&world.first_sent());
    assert_eq!((src, flags), (service, TcpFlags::SYN | TcpFlags::ACK));
    let connection = world.net.take_service_connection().unwrap();
    assert_eq!((connection.local, connection.port), (service, PORT));
    assert_eq!(connection.peer.to_string(), GUEST);
    assert!(world.net.take_service_connection().is_none());
}

#[test]
fn forwards_are_bounded() {
    let poll = Poll::new().unwrap();
    let mut config = config(false);
    config.limits.forwards = 2;
    let mut net = UserNet::new(config, poll.registry().try_clone().unwrap(), 0).unwrap();
    let forward = |protocol| Forward {
        protocol,
        bind: "127.0.0.1:0".parse().unwrap(),
        guest: "10.0.2.15:80".parse().unwrap(),
    };
    let first = net.publish(forward(Protocol::Tcp)).unwrap();
    net.publish(forward(Protocol::Udp)).unwrap();
    let error = net.publish(forward(Protocol::Udp)).unwrap_err();
    assert!(matches!(error, PublishError::TooMany { limit: 2, .. }));
    assert!(net.unpublish(first));
    net.publish(forward(Protocol::Udp)).unwrap();
}
