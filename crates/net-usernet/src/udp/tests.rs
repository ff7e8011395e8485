//! Real sockets on the host's loopback, a recording guest.

mod published;

use core::time::Duration;
use std::net::{SocketAddr, UdpSocket};

use mio::Poll;
use net_datapath::{VirtioNetHdr, ZeroCopyPacket};
use net_wire::icmpv4::IcmpMessage;
use net_wire::ip_proto;
use net_wire::ipv4::Ipv4Packet;
#[cfg(target_os = "linux")]
use net_wire::udp::UdpDatagram;

use crate::testing::{
    PORT, Recorder, Sent, UDP4_HEADERS, config, frame, from_frames, run_until, udp_frame,
};
use crate::{Config, UserNet};

const BASE: usize = 1000;
const GUEST: &str = "10.0.2.15:4000";
const GATEWAY: &str = "10.0.2.1";

struct World {
    poll: Poll,
    net: UserNet,
    out: Recorder,
    now: Duration,
}

impl World {
    fn new(config: Config) -> Self {
        let poll = Poll::new().unwrap();
        let net = UserNet::new(config, poll.registry().try_clone().unwrap(), BASE).unwrap();
        Self {
            poll,
            net,
            out: Recorder::new(1500),
            now: Duration::ZERO,
        }
    }

    fn send(&mut self, bytes: &[u8]) {
        self.send_with(bytes, VirtioNetHdr::PLAIN);
    }

    fn send_with(&mut self, bytes: &[u8], header: VirtioNetHdr) {
        let packet = ZeroCopyPacket::from_slice(bytes, header).unwrap();
        self.net.ingress(PORT, &packet, self.now, &mut self.out);
    }

    /// Runs the loop until so many packets have been sent to the guest.
    fn run_until_sent(&mut self, count: usize) {
        let Self {
            poll,
            net,
            out,
            now,
        } = self;
        run_until(poll, |events| {
            for event in events {
                assert!(event.token().0 >= BASE);
                net.ready(event, *now, out);
            }
            if net.next_deadline().is_some_and(|deadline| deadline <= *now) {
                net.on_deadline(*now, out);
            }
            out.sent.len() >= count
        });
    }

    fn datagrams(&mut self) -> Vec<(SocketAddr, SocketAddr, Vec<u8>)> {
        from_frames(&std::mem::take(&mut self.out.sent))
    }
}

/// Type, code, rest and the quoted packet of an ICMP error to the guest.
fn icmp_error(sent: &Sent) -> (u8, u8, u32, Vec<u8>) {
    let packet = Ipv4Packet::parse(&sent.l3[..]).unwrap();
    assert!(packet.verify_header_checksum());
    assert_eq!(packet.protocol(), ip_proto::ICMP);
    let message = IcmpMessage::parse(packet.payload()).unwrap();
    assert!(message.verify_checksum());
    (
        message.kind(),
        message.code(),
        message.rest(),
        message.data().to_vec(),
    )
}

fn server() -> (UdpSocket, u16) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let port = socket.local_addr().unwrap().port();
    (socket, port)
}

fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = vec![0; 65_536];
    let (len, from) = socket.recv_from(&mut buffer).unwrap();
    buffer.truncate(len);
    (buffer, from)
}

/// Row 55: one source port towards all destinations; replies come from the gateway.
#[test]
fn rfc4787_req1_endpoint_independent_mapping() {
    let mut world = World::new(config(true));
    let (a, port_a) = server();
    let (b, port_b) = server();
    world.send(&udp_frame(
        GUEST,
        &format!("{GATEWAY}:{port_a}"),
        64,
        b"to a",
    ));
    world.send(&udp_frame(
        GUEST,
        &format!("{GATEWAY}:{port_b}"),
        64,
        b"to b",
    ));
    let (payload_a, from_a) = receive(&a);
    let (payload_b, from_b) = receive(&b);
    assert_eq!(
        (&payload_a[..], &payload_b[..]),
        (&b"to a"[..], &b"to b"[..])
    );
    assert_eq!(from_a, from_b);
    a.send_to(b"from a", from_a).unwrap();
    b.send_to(b"from b", from_b).unwrap();
    world.run_until_sent(2);
    let mut got = world.datagrams();
    got.sort_by_key(|(_, _, payload)| payload.clone());
    let gateway = |port: u16| format!("{GATEWAY}:{port}").parse().unwrap();
    let guest = GUEST.parse().unwrap();
    assert_eq!(got[0], (gateway(port_a), guest, b"from a".to_vec()));
    assert_eq!(got[1], (gateway(port_b), guest, b"from b".to_vec()));
    assert_eq!(world.net.statistics().udp.flows, 1);
    // Another socket of the guest is another port.
    world.send(&udp_frame(
        "10.0.2.15:4001",
        &format!("{GATEWAY}:{port_a}"),
        64,
        b"x",
    ));
    assert_ne!(receive(&a).1, from_a);
}

/// Without permission the host's loopback does not exist.
#[test]
fn the_gateway_is_closed_unless_loopback_is_allowed() {
    let mut world = World::new(config(false));
    let (server, port) = server();
    server.set_nonblocking(true).unwrap();
    world.send(&udp_frame(
        GUEST,
        &format!("{GATEWAY}:{port}"),
        64,
        b"secret?",
    ));
    assert_eq!(world.out.sent.len(), 1);
    let (kind, code, _, quote) = icmp_error(&world.out.sent[0]);
    assert_eq!((kind, code), (3, 3));
    assert_eq!(&quote[28..], b"secret?");
    for target in ["127.0.0.1", "0.0.0.0", "127.1.2.3"] {
        world.send(&udp_frame(
            GUEST,
            &format!("{target}:{port}"),
            64,
            b"secret?",
        ));
    }
    assert!(server.recv(&mut [0; 16]).is_err());
    let stats = world.net.statistics();
    assert_eq!(
        (
            stats.udp.gateway_closed,
            stats.dropped.forbidden_destination
        ),
        (1, 3)
    );
    assert_eq!((stats.udp.flows, stats.icmp_errors_sent), (0, 4));
}

/// Row 56: a closed port of the host comes back as the guest's own packet, quoted.
#[cfg(target_os = "linux")]
#[test]
fn a_closed_port_is_reported_with_the_guests_own_header() {
    let mut world = World::new(config(true));
    let (closed, port) = server();
    drop(closed);
    world.send(&udp_frame(
        GUEST,
        &format!("{GATEWAY}:{port}"),
        64,
        b"anybody?",
    ));
    world.run_until_sent(1);
    let (kind, code, _, quote) = icmp_error(&world.out.sent[0]);
    assert_eq!((kind, code), (3, 3));
    let outer = Ipv4Packet::parse(&world.out.sent[0].l3[..]).unwrap();
    assert_eq!(outer.src().to_string(), GATEWAY);
    let quoted = Ipv4Packet::parse(&quote[..]).unwrap();
    assert_eq!(
        (quoted.src().to_string(), quoted.dst().to_string()),
        ("10.0.2.15".into(), GATEWAY.into())
    );
    let datagram = UdpDatagram::parse(quoted.payload()).unwrap();
    assert_eq!((datagram.src_port(), datagram.dst_port()), (4000, port));
    assert_eq!(datagram.payload(), b"anybody?");
    // The flow lives on, and so does the next datagram (RFC 4787, REQ-12).
    let reopened = UdpSocket::bind(("127.0.0.1", port)).unwrap();
    reopened
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    world.send(&udp_frame(
        GUEST,
        &format!("{GATEWAY}:{port}"),
        64,
        b"again",
    ));
    assert_eq!(receive(&reopened).0, b"again");
    assert_eq!(world.net.statistics().udp.errors_relayed, 1);
}

/// An error that waits on the socket must not swallow the next datagram to somebody else.
#[cfg(target_os = "linux")]
#[test]
fn a_pending_error_does_not_cost_the_next_datagram() {
    let mut world = World::new(config(true));
    let (closed, closed_port) = server();
    let (open, open_port) = server();
    drop(closed);
    world.send(&udp_frame(
        GUEST,
        &format!("{GATEWAY}:{closed_port}"),
        64,
        b"lost",
    ));
    world.send(&udp_frame(
        GUEST,
        &format!("{GATEWAY}:{open_port}"),
        64,
        b"kept",
    ));
    assert_eq!(receive(&open).0, b"kept");
    assert_eq!(icmp_error(&world.out.sent[0]).0, 3);
}

/// Row 57: the largest datagram, in fragments both ways, at a small and a common MTU.
#[test]
fn the_largest_datagram_goes_both_ways_in_fragments() {
    for mtu in [576u16, 1500] {
        let mut world = World::new(config(true));
        world.out.link.mtu = mtu;
        let (server, port) = server();
        let payload: Vec<u8> = (0..65_507u32).map(|i| (i * 13) as u8).collect();
        let whole = udp_frame(GUEST, &format!("{GATEWAY}:{port}"), 64, &payload);
        let l4 = &whole[34..];
        let step = (usize::from(mtu) - 20) & !7;
        for (i, data) in l4.chunks(step).enumerate() {
            let mut l3 = whole[14..34].to_vec();
            let more = (i + 1) * step < l4.len();
            let bits = (i * step / 8) as u16 | if more { 0x2000 } else { 0 };
            l3[2..4].copy_from_slice(&((20 + data.len()) as u16).to_be_bytes());
            l3[4..6].copy_from_slice(&[0x12, 0x34]);
            l3[6..8].copy_from_slice(&bits.to_be_bytes());
            l3.extend_from_slice(data);
            Ipv4Packet::parse(&mut l3[..])
                .unwrap()
                .fill_header_checksum();
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
        let got = world.datagrams();
        assert_eq!(got.len(), 1);
        assert!(got[0].2 == payload);
    }
}

/// A super-frame is what it stands for: separate datagrams.
#[test]
fn a_super_frame_becomes_separate_datagrams() {
    let mut world = World::new(config(true));
    let (server, port) = server();
    let payload: Vec<u8> = (0..100_u32 * 400 + 17).map(|i| (i / 400) as u8).collect();
    let bytes = udp_frame(GUEST, &format!("{GATEWAY}:{port}"), 64, &payload);
    let header = VirtioNetHdr {
        flags: VirtioNetHdr::NEEDS_CSUM,
        gso_type: VirtioNetHdr::GSO_UDP_L4,
        hdr_len: UDP4_HEADERS as u16,
        gso_size: 400,
        csum_start: 34,
        csum_offset: 6,
        num_buffers: 0,
    };
    world.send_with(&bytes, header);
    for expected in payload.chunks(400) {
        assert_eq!(receive(&server).0, expected);
    }
    assert_eq!(world.net.statistics().udp.to_host, 101);
    // One that says nothing about the size of its parts is refused.
    world.send_with(
        &bytes,
        VirtioNetHdr {
            gso_size: 0,
            ..header
        },
    );
    world.send_with(
        &bytes,
        VirtioNetHdr {
            gso_type: VirtioNetHdr::GSO_TCPV4,
            ..header
        },
    );
    assert_eq!(world.net.statistics().udp.malformed, 2);
}

#[test]
fn wrong_checksums_are_dropped_and_counted() {
    let mut world = World::new(config(true));
    let (server, port) = server();
    let mut bytes = udp_frame(GUEST, &format!("{GATEWAY}:{port}"), 64, b"spoiled");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    world.send(&bytes);
    // No checksum at all is allowed over IPv4.
    bytes[40..42].fill(0);
    world.send(&bytes);
    assert_eq!(receive(&server).0.len(), 7);
    bytes[24] ^= 1;
    world.send(&bytes);
    let stats = world.net.statistics();
    assert_eq!(
        (
            stats.udp.bad_checksum,
            stats.dropped.malformed,
            stats.udp.to_host
        ),
        (1, 1, 1)
    );
}

/// Truncated at every byte: never a panic, never a datagram that was not sent whole.
#[test]
fn truncation_at_every_byte_reaches_nobody() {
    let mut world = World::new(config(true));
    let (server, port) = server();
    server.set_nonblocking(true).unwrap();
    let bytes = udp_frame(GUEST, &format!("{GATEWAY}:{port}"), 64, b"payload");
    for len in 14..bytes.len() {
        world.send(&bytes[..len]);
    }
    assert!(server.recv(&mut [0; 64]).is_err());
    assert_eq!(
        world.net.statistics().dropped.malformed,
        (bytes.len() - 14) as u64
    );
}

/// Row 58.
#[test]
fn flows_are_bounded_per_guest_and_end_when_idle() {
    let mut config = config(true);
    config.limits.udp_flows = 2;
    let (timeout, dns) = (config.timeouts.udp, config.timeouts.udp_dns);
    let mut world = World::new(config);
    let (server, port) = server();
    let mut ports = Vec::new();
    for (i, source) in [4000, 4001, 4000, 4002].into_iter().enumerate() {
        world.now = Duration::from_secs(i as u64);
        let to = format!("{GATEWAY}:{port}");
        world.send(&udp_frame(&format!("10.0.2.15:{source}"), &to, 64, b"x"));
        ports.push(receive(&server).1);
    }
    assert_eq!(ports[0], ports[2]);
    let stats = world.net.statistics().udp;
    assert_eq!((stats.flows, stats.evicted), (2, 1));
    assert_eq!(
        world.net.next_deadline(),
        Some(Duration::from_secs(2) + timeout)
    );
    world.now = Duration::from_secs(2) + timeout;
    world.net.on_deadline(world.now, &mut world.out);
    assert_eq!(world.net.statistics().udp.flows, 1);
    // A flow that speaks to port 53 only is short-lived. Nothing answers there; that is fine.
    world.net.guest_gone(PORT);
    assert_eq!(
        (world.net.statistics().udp.flows, world.net.next_deadline()),
        (0, None)
    );
    world.send(&udp_frame(GUEST, &format!("{GATEWAY}:53"), 64, b"q"));
    assert_eq!(world.net.next_deadline(), Some(world.now + dns));
    world.send(&udp_frame(GUEST, &format!("{GATEWAY}:{port}"), 64, b"x"));
    assert_eq!(world.net.next_deadline(), Some(world.now + timeout));
}

/// What one guest does never costs another guest's flow.
#[test]
fn a_guest_evicts_only_its_own_flows() {
    let mut config = config(true);
    config.limits.udp_flows = 4;
    let mut world = World::new(config);
    let (server, port) = server();
    let to = format!("{GATEWAY}:{port}");
    world.send(&udp_frame(GUEST, &to, 64, b"mine"));
    let (_, mine) = receive(&server);
    for source in 0..50u16 {
        let bytes = udp_frame(&format!("10.0.2.99:{}", 5000 + source), &to, 64, b"flood");
        let packet = ZeroCopyPacket::from_slice(&bytes, VirtioNetHdr::PLAIN).unwrap();
        world
            .net
            .ingress(PORT + 1, &packet, world.now, &mut world.out);
        receive(&server);
    }
    world.send(&udp_frame(GUEST, &to, 64, b"still mine"));
    assert_eq!(receive(&server).1, mine);
    assert_eq!(world.net.statistics().udp.flows, 5);
}

/// Time to live: the gateway is a hop, and says so.
#[test]
fn a_time_to_live_of_one_ends_at_the_gateway() {
    let mut world = World::new(config(false));
    world.send(&udp_frame(GUEST, "192.0.2.1:33434", 1, b"traceroute"));
    assert_eq!(icmp_error(&world.out.sent[0]).0, 11);
    let outer = Ipv4Packet::parse(&world.out.sent[0].l3[..]).unwrap();
    assert_eq!(outer.src().to_string(), GATEWAY);
    assert_eq!(world.net.statistics().dropped.ttl_expired, 1);
}

#[test]
fn multicast_neighbours_and_false_sources_are_dropped() {
    let mut world = World::new(config(true));
    for to in ["224.0.0.251:5353", "255.255.255.255:67", "10.0.2.255:137"] {
        world.send(&udp_frame(GUEST, to, 64, b"x"));
    }
    assert!(world.out.sent.is_empty());
    world.send(&udp_frame(GUEST, "10.0.2.77:9", 64, b"x"));
    assert_eq!(icmp_error(&world.out.sent[0]).1, 1);
    for from in ["10.0.2.1:9", "127.0.0.1:9", "0.0.0.0:68", "224.0.0.1:9"] {
        world.send(&udp_frame(from, "192.0.2.1:9", 64, b"x"));
    }
    let stats = world.net.statistics().dropped;
    assert_eq!(
        (stats.multicast, stats.local_destination, stats.bad_source),
        (3, 1, 4)
    );
}

/// A guest with a full queue: nothing is read, nothing is lost, nothing spins.
#[test]
fn a_full_queue_leaves_datagrams_in_the_kernel() {
    let mut world = World::new(config(true));
    let (server, port) = server();
    world.send(&udp_frame(
        GUEST,
        &format!("{GATEWAY}:{port}"),
        64,
        b"hello",
    ));
    let (_, from) = receive(&server);
    world.out.room = 0;
    for i in 0..10u8 {
        server.send_to(&[i], from).unwrap();
    }
    let World {
        poll,
        net,
        out,
        now,
    } = &mut world;
    let mut seen = 0;
    run_until(poll, |events| {
        for event in events {
            net.ready(event, *now, out);
            seen += 1;
        }
        seen > 0
    });
    assert!(world.out.sent.is_empty());
    assert!(
        world
            .net
            .next_deadline()
            .is_some_and(|deadline| deadline > world.now),
        "it would spin"
    );
    world.out.room = 100;
    world.net.guest_writable(PORT, world.now, &mut world.out);
    let got: Vec<u8> = world
        .datagrams()
        .into_iter()
        .flat_map(|(_, _, payload)| payload)
        .collect();
    assert_eq!(got, (0..10).collect::<Vec<u8>>());
}

/// More datagrams than one turn delivers: the rest comes with the next turn, without an event.
#[test]
fn a_busy_socket_takes_turns() {
    let mut world = World::new(config(true));
    let (server, port) = server();
    world.send(&udp_frame(
        GUEST,
        &format!("{GATEWAY}:{port}"),
        64,
        b"hello",
    ));
    let (_, from) = receive(&server);
    for i in 0..200u8 {
        server.send_to(&[i], from).unwrap();
    }
    world.run_until_sent(200);
    let got: Vec<u8> = world
        .datagrams()
        .into_iter()
        .flat_map(|(_, _, payload)| payload)
        .collect();
    assert_eq!(got, (0..200).collect::<Vec<u8>>());
}

/// ICMP errors of a guest, and protocols without sockets, end here.
#[test]
fn errors_are_never_answered_with_errors() {
    let mut world = World::new(config(false));
    let quote = udp_frame(GUEST, "192.0.2.1:9", 64, b"x");
    let mut l3 = vec![0; 600];
    let guest = "10.0.2.15".parse().unwrap();
    let error = crate::compose::IcmpError::port_unreachable(false);
    for to in ["127.0.0.1", "10.0.2.77", "10.0.2.1"] {
        let to = to.parse().unwrap();
        let len =
            crate::compose::icmp_error(&mut l3, guest, to, error, &quote[14..], 1500).unwrap();
        world.send(&frame(&l3[..len]));
    }
    assert!(world.out.sent.is_empty());
    // SCTP.
    let len = crate::compose::ip_header(&mut l3, guest, "192.0.2.1".parse().unwrap(), 132, 64, 12)
        .unwrap();
    world.send(&frame(&l3[..len + 12]));
    assert_eq!(icmp_error(&world.out.sent[0]).1, 2);
}
