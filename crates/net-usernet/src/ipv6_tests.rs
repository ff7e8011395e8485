//! The relays over IPv6: real sockets on the host's ::1, which the gateway's address stands for.

use core::time::Duration;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};

use mio::Poll;
use net_datapath::{VirtioNetHdr, ZeroCopyPacket};
use net_wire::icmpv6::{self, Icmpv6Message};
use net_wire::ipv6::Ipv6Packet;
use net_wire::tcp::TcpFlags;
use net_wire::{checksum, ip_proto};

use crate::compose::{self, IcmpError};
use crate::testing::{PORT, Recorder, Sent, config, frame, from_frames, run_until, udp_frame};
use crate::{Config, Forward, Protocol, UserNet, probe_ping_sockets};

const GUEST: &str = "[fd00::f]:4000";
const GATEWAY: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);

struct World {
    poll: Poll,
    net: UserNet,
    out: Recorder,
}

impl World {
    fn new(config: Config) -> Self {
        let poll = Poll::new().unwrap();
        let net = UserNet::new(config, poll.registry().try_clone().unwrap(), 0).unwrap();
        let out = Recorder::new(1500);
        Self { poll, net, out }
    }

    fn send(&mut self, bytes: &[u8]) {
        let packet = ZeroCopyPacket::from_slice(bytes, VirtioNetHdr::PLAIN).unwrap();
        self.net
            .ingress(PORT, &packet, Duration::ZERO, &mut self.out);
    }

    /// Runs the loop until so many packets have been sent to the guest.
    fn run_until_sent(&mut self, count: usize) {
        let Self { poll, net, out } = self;
        run_until(poll, |events| {
            for event in events {
                net.ready(event, Duration::ZERO, out);
            }
            if net.next_deadline() == Some(Duration::ZERO) {
                net.on_deadline(Duration::ZERO, out);
            }
            out.sent.len() >= count
        });
    }
}

/// The host may have been built or started without IPv6.
fn server() -> Option<(UdpSocket, u16)> {
    let Ok(socket) = UdpSocket::bind("[::1]:0") else {
        println!("skipped: this host has no ::1");
        return None;
    };
    let patience = Some(Duration::from_secs(10));
    socket.set_read_timeout(patience).unwrap();
    let port = socket.local_addr().unwrap().port();
    Some((socket, port))
}

fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = vec![0; 65_536];
    let (len, from) = socket.recv_from(&mut buffer).unwrap();
    buffer.truncate(len);
    (buffer, from)
}

fn at_gateway(port: u16) -> String {
    format!("[{GATEWAY}]:{port}")
}

/// Source, type, code and the quoted packet of an ICMPv6 error to the guest.
fn icmp_error(sent: &Sent) -> (Ipv6Addr, u8, u8, Vec<u8>) {
    let packet = Ipv6Packet::parse(&sent.l3[..]).unwrap();
    assert_eq!(packet.next_header(), ip_proto::ICMPV6);
    let message = Icmpv6Message::parse(packet.payload()).unwrap();
    let len = packet.payload_len();
    let pseudo = checksum::pseudo_v6(packet.src(), packet.dst(), ip_proto::ICMPV6, len);
    assert!(message.verify_checksum(pseudo));
    let (kind, code) = (message.kind(), message.code());
    (packet.src(), kind, code, message.data().to_vec())
}

/// Row 55: one source port towards all destinations; replies come from where the guest wrote to.
#[test]
fn row55_endpoint_independent_mapping_over_ipv6() {
    let (Some((a, port_a)), Some((b, port_b))) = (server(), server()) else {
        return;
    };
    let mut world = World::new(config(true));
    world.send(&udp_frame(GUEST, &at_gateway(port_a), 64, b"to a"));
    world.send(&udp_frame(GUEST, &at_gateway(port_b), 64, b"to b"));
    let ((payload_a, from_a), (payload_b, from_b)) = (receive(&a), receive(&b));
    assert_eq!(
        (&payload_a[..], &payload_b[..]),
        (&b"to a"[..], &b"to b"[..])
    );
    assert_eq!(from_a, from_b);
    a.send_to(b"from a", from_a).unwrap();
    world.run_until_sent(1);
    let got = from_frames(&world.out.sent);
    let (gateway, guest) = (at_gateway(port_a).parse().unwrap(), GUEST.parse().unwrap());
    assert_eq!(got, [(gateway, guest, b"from a".to_vec())]);
}

/// What stands for the host, its link or the guests' own network is refused, and the guest told.
#[test]
fn no_ipv6_address_reaches_the_host_itself() {
    let Some((server, port)) = server() else {
        return;
    };
    server.set_nonblocking(true).unwrap();
    let mut world = World::new(config(false));
    for (target, code) in [
        ("fd00::1", 4),
        ("fe80::1:1", 4),
        ("::1", 1),
        ("::", 1),
        ("::ffff:127.0.0.1", 1),
        ("::127.0.0.1", 1),
        ("fe80::2", 1),
        ("fd00:ec2::254", 1),
        ("fd00::77", 3),
    ] {
        world.out.sent.clear();
        world.send(&udp_frame(
            GUEST,
            &format!("[{target}]:{port}"),
            64,
            b"secret?",
        ));
        let [sent] = &world.out.sent[..] else {
            panic!("{target}: {} packets", world.out.sent.len())
        };
        let (src, kind, said, quote) = icmp_error(sent);
        assert_eq!(
            (src, kind, said),
            (GATEWAY, icmpv6::UNREACHABLE, code),
            "{target}"
        );
        assert_eq!(&quote[48..], b"secret?");
    }
    assert!(server.recv(&mut [0; 16]).is_err());
    assert_eq!(world.net.statistics().udp.flows, 0);
    // From a link-local address only the gateway is reached (RFC 4291, section 2.5.6).
    world.out.sent.clear();
    world.send(&udp_frame("[fe80::f]:4000", "[2001:db8::7]:9", 64, b"x"));
    assert!(world.out.sent.is_empty());
    assert_eq!(world.net.statistics().dropped.bad_source, 1);
}

/// Row 56.
#[cfg(target_os = "linux")]
#[test]
fn row56_a_closed_port_is_reported_over_ipv6() {
    let Some((closed, port)) = server() else {
        return;
    };
    drop(closed);
    let mut world = World::new(config(true));
    world.send(&udp_frame(GUEST, &at_gateway(port), 64, b"anybody?"));
    world.run_until_sent(1);
    let (src, kind, code, quote) = icmp_error(&world.out.sent[0]);
    assert_eq!((src, kind, code), (GATEWAY, icmpv6::UNREACHABLE, 4));
    let quoted = Ipv6Packet::parse(&quote[..]).unwrap();
    assert_eq!(
        (quoted.dst(), quoted.src()),
        (GATEWAY, "fd00::f".parse().unwrap())
    );
    assert_eq!(&quote[48..], b"anybody?");
    assert_eq!(
        quote[40..44],
        [4000u16.to_be_bytes(), port.to_be_bytes()].concat()
    );
}

/// Row 57: the largest datagram that sockets take, in fragments both ways.
#[test]
fn row57_the_largest_datagram_goes_both_ways_in_ipv6_fragments() {
    for mtu in [1280u16, 1500] {
        let Some((server, port)) = server() else {
            return;
        };
        let mut world = World::new(config(true));
        world.out.link.mtu = mtu;
        let payload: Vec<u8> = (0..65_507u32).map(|i| (i * 13) as u8).collect();
        let whole = udp_frame(GUEST, &at_gateway(port), 64, &payload);
        let l4 = &whole[54..];
        let step = (usize::from(mtu) - 48) & !7;
        for (i, data) in l4.chunks(step).enumerate() {
            let mut l3 = whole[14..54].to_vec();
            let more = (i + 1) * step < l4.len();
            let bits = (i * step) as u16 | u16::from(more);
            l3[4..6].copy_from_slice(&((8 + data.len()) as u16).to_be_bytes());
            l3[6] = ip_proto::IPV6_FRAGMENT;
            l3.extend([ip_proto::UDP, 0]);
            l3.extend(bits.to_be_bytes());
            l3.extend([0, 0, 0x12, 0x34]);
            l3.extend_from_slice(data);
            world.send(&frame(&l3));
        }
        let (got, from) = receive(&server);
        assert!(got == payload);
        server.send_to(&payload, from).unwrap();
        world.run_until_sent(65_515usize.div_ceil(step));
        assert!(
            world
                .out
                .sent
                .iter()
                .all(|sent| sent.l3.len() <= mtu.into())
        );
        let got = from_frames(&world.out.sent);
        assert_eq!(got.len(), 1);
        assert!(got[0].2 == payload);
    }
}

/// A client of a published port appears as the gateway where it is the host's own loopback, and its
/// answers find it.
#[test]
fn a_udp_port_published_over_ipv6_leads_to_the_guest_and_back() {
    let Some((client, _)) = server() else { return };
    let mut world = World::new(config(false));
    let forward = Forward {
        protocol: Protocol::Udp,
        bind: "[::1]:0".parse().unwrap(),
        guest: "[fd00::f]:53".parse().unwrap(),
    };
    let id = world.net.publish(forward).unwrap();
    let addr = world.net.forward_addr(id).unwrap();
    client.send_to(b"question", addr).unwrap();
    world.run_until_sent(1);
    let got = from_frames(&std::mem::take(&mut world.out.sent));
    let (seen, guest, payload) = &got[0];
    assert_eq!((*guest, &payload[..]), (forward.guest, &b"question"[..]));
    assert_eq!(seen.ip(), IpAddr::V6(GATEWAY));
    world.send(&udp_frame("[fd00::f]:53", &seen.to_string(), 64, b"answer"));
    assert_eq!(receive(&client), (b"answer".to_vec(), addr));
}

/// Source, destination and control bits of a TCP packet to the guest.
fn tcp(sent: &Sent) -> (SocketAddr, SocketAddr, TcpFlags) {
    let bytes = frame(&sent.l3);
    let packet = ZeroCopyPacket::from_slice(&bytes, sent.header.shifted(14)).unwrap();
    assert!(packet.meta().has_transport(ip_proto::TCP) && packet.verify_l4_checksum());
    let meta = packet.meta();
    (
        SocketAddr::new(packet.ip_src().unwrap(), meta.src_port),
        SocketAddr::new(packet.ip_dst().unwrap(), meta.dst_port),
        TcpFlags(meta.tcp_flags),
    )
}

fn syn(src: &str, dst: &str) -> Vec<u8> {
    let (src, dst): (SocketAddr, SocketAddr) = (src.parse().unwrap(), dst.parse().unwrap());
    let mut l3 = vec![0; 60];
    compose::ip_header(&mut l3, src.ip(), dst.ip(), ip_proto::TCP, 64, 20).unwrap();
    l3[40..42].copy_from_slice(&src.port().to_be_bytes());
    l3[42..44].copy_from_slice(&dst.port().to_be_bytes());
    l3[44..48].copy_from_slice(&[0, 0, 3, 0xe8]);
    l3[52..56].copy_from_slice(&[0x50, 2, 0xff, 0xff]);
    let pseudo = compose::pseudo_header(src.ip(), dst.ip(), ip_proto::TCP, 20).unwrap();
    let check = (pseudo + checksum::sum(&l3[40..])).finish();
    l3[56..58].copy_from_slice(&check.to_be_bytes());
    frame(&l3)
}

#[test]
fn tcp_over_ipv6_reaches_services_and_is_refused_elsewhere() {
    let mut world = World::new(config(false));
    for gateway in ["fd00::1", "fe80::1:1"] {
        let service: SocketAddr = format!("[{gateway}]:53").parse().unwrap();
        world.net.add_tcp_service(service);
        world.send(&syn(GUEST, &service.to_string()));
        world.run_until_sent(1);
        let (src, dst, flags) = tcp(&world.out.sent.remove(0));
        assert_eq!((src, dst), (service, GUEST.parse().unwrap()));
        assert_eq!(flags, TcpFlags::SYN | TcpFlags::ACK);
        let connection = world.net.take_service_connection().unwrap();
        assert_eq!((connection.local, connection.peer), (service, dst));
        world.send(&syn(GUEST, &format!("[{gateway}]:54")));
        world.run_until_sent(1);
        let (_, _, flags) = tcp(&world.out.sent.remove(0));
        assert_eq!(flags, TcpFlags::RST | TcpFlags::ACK, "a closed port");
    }
    world.send(&syn(GUEST, "[::1]:53"));
    let (_, kind, code, _) = icmp_error(&world.out.sent[0]);
    assert_eq!((kind, code), (icmpv6::UNREACHABLE, 1));
}

#[test]
fn a_tcp_port_published_over_ipv6_leads_to_the_guest() {
    if server().is_none() {
        return;
    }
    let mut world = World::new(config(false));
    let forward = Forward {
        protocol: Protocol::Tcp,
        bind: "[::1]:0".parse().unwrap(),
        guest: "[fd00::f]:80".parse().unwrap(),
    };
    let id = world.net.publish(forward).unwrap();
    let _client = TcpStream::connect(world.net.forward_addr(id).unwrap()).unwrap();
    world.run_until_sent(1);
    let (src, dst, flags) = tcp(&world.out.sent[0]);
    assert_eq!((dst, flags), (forward.guest, TcpFlags::SYN));
    assert_eq!(src.ip(), IpAddr::V6(GATEWAY));
    assert!(src.port() >= 1024);
}

/// Row 54: an echo of the guest's is answered by ::1 itself, with the guest's identifier.
#[test]
fn row54_echo_over_ipv6_carries_the_guests_identifier() {
    if let Err(reason) = probe_ping_sockets() {
        println!("skipped: {reason}");
        return;
    }
    if server().is_none() {
        return;
    }
    let mut world = World::new(config(true));
    let guest = IpAddr::V6("fd00::f".parse().unwrap());
    for (i, len) in [0usize, 1, 56, 1400].into_iter().enumerate() {
        let data: Vec<u8> = (0..len).map(|i| i as u8).collect();
        let header = IcmpError {
            kind: icmpv6::ECHO_REQUEST,
            code: 0,
            rest: 0xbeef_0000 | i as u32,
        };
        let mut l3 = vec![0; 48 + len];
        let gateway = IpAddr::V6(GATEWAY);
        compose::ip_header(&mut l3, guest, gateway, ip_proto::ICMPV6, 64, 8 + len).unwrap();
        compose::icmp_message(&mut l3[40..], guest, gateway, header, &data).unwrap();
        world.send(&frame(&l3));
        world.run_until_sent(i + 1);
        let packet = Ipv6Packet::parse(&world.out.sent[i].l3[..]).unwrap();
        assert_eq!(packet.src(), GATEWAY);
        let message = Icmpv6Message::parse(packet.payload()).unwrap();
        let len = packet.payload_len();
        let pseudo = checksum::pseudo_v6(packet.src(), packet.dst(), ip_proto::ICMPV6, len);
        assert!(message.verify_checksum(pseudo));
        assert_eq!(
            (message.kind(), message.rest()),
            (icmpv6::ECHO_REPLY, header.rest)
        );
        assert_eq!(message.data(), &data[..]);
    }
}
