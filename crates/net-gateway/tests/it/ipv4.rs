//! IPv4: ARP, DHCP, DNS, echo, errors, and whose address is whose.

use std::net::Ipv4Addr;
use std::time::Duration;

use net_datapath::{VirtioNetHdr, ZeroCopyPacket};
use net_dhcp::client::{Client, ClientConfig, Event, Output as ClientOutput};
use net_gateway::{Config, DropReason, Gateway, Output, PortId, Target, Verdict};
use net_wire::ethernet::{self, EtherType};
use net_wire::ipv4::{Ipv4Packet, Ipv4Repr};
use net_wire::udp::UdpDatagram;
use net_wire::{MacAddr, arp, checksum, icmpv4, ip_proto, udp};
use proptest::prelude::*;

const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 1);
const GUEST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const OTHER: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
const PORT: PortId = 1;
const NOW: Duration = Duration::from_secs(1);

fn gateway(mtu: u16) -> Gateway {
    let mut config = Config::new("10.0.2.0/24".parse().unwrap()).unwrap();
    config.mtu = mtu;
    Gateway::new(config, [9; 16]).unwrap()
}

/// Hands a frame over; returns the verdict and the frames that came out.
fn hand(gateway: &mut Gateway, port: PortId, frame: &[u8]) -> (Verdict, Vec<Vec<u8>>) {
    let packet = ZeroCopyPacket::from_slice(frame, VirtioNetHdr::PLAIN).unwrap();
    let mut out = Vec::new();
    let verdict = gateway.ingress(port, &packet, NOW, &mut out);
    let frames = out
        .into_iter()
        .filter_map(|output| match output {
            Output::Frame {
                to: Target::Port(to),
                frame,
            } => {
                assert_eq!(to, port, "an answer goes where the question came from");
                Some(frame)
            }
            _ => None,
        })
        .collect();
    (verdict, frames)
}

fn ip_frame(src_mac: MacAddr, repr: Ipv4Repr, l4: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; 34];
    let dst = if repr.dst.is_broadcast() {
        MacAddr::BROADCAST
    } else {
        MacAddr([2, 0xab, 10, 0, 2, 1])
    };
    ethernet::emit(&mut frame, dst, src_mac, EtherType::IPV4);
    repr.emit(&mut frame[14..]);
    frame.extend_from_slice(l4);
    frame
}

fn repr(src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, payload_len: usize) -> Ipv4Repr {
    Ipv4Repr {
        src,
        dst,
        protocol,
        ttl: 64,
        tos: 0,
        id: 1,
        dont_fragment: false,
        payload_len,
    }
}

fn echo(src: Ipv4Addr, dst: Ipv4Addr, len: usize) -> Vec<u8> {
    let mut message = vec![7; 8 + len];
    icmpv4::emit(&mut message, icmpv4::ECHO_REQUEST, 0, 0x1234_0001);
    ip_frame(MAC, repr(src, dst, ip_proto::ICMP, message.len()), &message)
}

fn datagram(src: Ipv4Addr, dst: Ipv4Addr, ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 8];
    udp::emit(&mut bytes, ports.0, ports.1, payload.len(), 0);
    bytes.extend_from_slice(payload);
    let pseudo = checksum::pseudo_v4(src, dst, ip_proto::UDP, bytes.len());
    let sum = (pseudo + checksum::sum(&bytes)).finish_udp();
    bytes[6..8].copy_from_slice(&sum.to_be_bytes());
    ip_frame(MAC, repr(src, dst, ip_proto::UDP, bytes.len()), &bytes)
}

fn arp_frame(mac: MacAddr, sender_ip: Ipv4Addr, target_ip: Ipv4Addr) -> Vec<u8> {
    let mut frame = vec![0; 42];
    ethernet::emit(&mut frame, MacAddr::BROADCAST, mac, EtherType::ARP);
    let request = arp::ArpPacket {
        operation: arp::REQUEST,
        sender_mac: mac,
        sender_ip,
        target_mac: MacAddr::ZERO,
        target_ip,
    };
    request.emit(&mut frame[14..]);
    frame
}

#[test]
fn arp_for_the_gateway_is_answered_and_no_other() {
    let mut gateway = gateway(1500);
    let (_, frames) = hand(&mut gateway, PORT, &arp_frame(MAC, GUEST, GATEWAY));
    let reply = arp::ArpPacket::parse(&frames[0][14..]).unwrap();
    assert_eq!((reply.operation, reply.sender_ip), (arp::REPLY, GATEWAY));
    assert_eq!(reply.sender_mac, gateway.config().mac);
    assert_eq!(gateway.neighbour(GUEST).unwrap().mac, MAC);
    assert!(
        hand(
            &mut gateway,
            PORT,
            &arp_frame(MAC, GUEST, Ipv4Addr::new(10, 0, 2, 9))
        )
        .1
        .is_empty()
    );
    // A probe is answered, and teaches nothing.
    let probe = arp_frame(MAC, Ipv4Addr::UNSPECIFIED, GATEWAY);
    assert_eq!(hand(&mut gateway, PORT, &probe).1.len(), 1);
}

#[test]
fn row68_a_guest_is_held_to_its_own_address() {
    let mut gateway = gateway(1500);
    hand(&mut gateway, PORT, &arp_frame(MAC, GUEST, GATEWAY));
    let dropped = |reason| (Verdict::Dropped(reason), Vec::new());
    // Another port that claims the address, by ARP or by IP.
    let claim = arp_frame(OTHER, GUEST, GATEWAY);
    assert_eq!(hand(&mut gateway, 2, &claim), dropped(DropReason::Spoofed));
    assert_eq!(
        hand(&mut gateway, 2, &echo(GUEST, GATEWAY, 8)),
        dropped(DropReason::Spoofed)
    );
    assert_eq!(gateway.neighbour(GUEST).unwrap().port, PORT);
    // The gateway's own address, and one of another network.
    assert_eq!(
        hand(&mut gateway, 2, &echo(GATEWAY, GUEST, 8)),
        dropped(DropReason::Spoofed)
    );
    let foreign = Ipv4Addr::new(192, 0, 2, 1);
    assert_eq!(
        hand(&mut gateway, 2, &echo(foreign, GATEWAY, 8)),
        dropped(DropReason::Foreign)
    );
    // An address that is kept for another port's guest, before that guest has said a word.
    let kept = gateway.allocate_ip().unwrap();
    gateway.port_opened(7, kept, "seven", None, NOW);
    assert_eq!(
        hand(&mut gateway, 2, &echo(kept, GATEWAY, 8)),
        dropped(DropReason::Spoofed)
    );
    // Once the port is gone, its address is free.
    gateway.port_closed(PORT, NOW, &mut Vec::new());
    assert_eq!(
        hand(
            &mut gateway,
            2,
            &echo(Ipv4Addr::new(10, 0, 2, 44), GATEWAY, 8)
        )
        .0,
        Verdict::Answered
    );
}

#[test]
fn echo_comes_back_whole_whatever_the_mtu() {
    for mtu in [576, 1500, 9000] {
        let mut gateway = gateway(mtu);
        let (verdict, frames) = hand(&mut gateway, PORT, &echo(GUEST, GATEWAY, 4000));
        assert_eq!(verdict, Verdict::Answered);
        let mut joined = Vec::new();
        for frame in &frames {
            assert!(frame.len() - 14 <= usize::from(mtu));
            let piece = Ipv4Packet::parse(&frame[14..]).unwrap();
            assert!(piece.verify_header_checksum());
            joined.extend_from_slice(piece.payload());
        }
        let reply = icmpv4::IcmpMessage::parse(&joined[..]).unwrap();
        assert!(reply.verify_checksum());
        assert_eq!(
            (reply.kind(), reply.rest()),
            (icmpv4::ECHO_REPLY, 0x1234_0001)
        );
        assert_eq!(reply.data(), vec![7; 4000]);
    }
}

#[test]
fn what_leaves_the_network_is_the_uplink_s_and_what_does_not_is_not() {
    let mut gateway = gateway(1500);
    let outside = Ipv4Addr::new(198, 51, 100, 7);
    assert_eq!(
        hand(&mut gateway, PORT, &echo(GUEST, outside, 8)).0,
        Verdict::Uplink
    );
    let neighbour = Ipv4Addr::new(10, 0, 2, 9);
    for (frame, reason) in [
        (echo(GUEST, neighbour, 8), DropReason::SameNetwork),
        (
            echo(GUEST, Ipv4Addr::new(10, 0, 2, 255), 8),
            DropReason::NotForUs,
        ),
        (
            echo(GUEST, Ipv4Addr::new(224, 0, 0, 251), 8),
            DropReason::NotForUs,
        ),
    ] {
        assert_eq!(hand(&mut gateway, PORT, &frame).0, Verdict::Dropped(reason));
    }
    let tcp = ip_frame(
        MAC,
        repr(GUEST, GATEWAY, ip_proto::TCP, 20),
        &[
            0, 80, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 2, 0, 0, 0, 0, 0, 0,
        ],
    );
    assert_eq!(hand(&mut gateway, PORT, &tcp).0, Verdict::Uplink);
}

#[test]
fn a_packet_whose_time_has_run_out_is_answered_at_a_bounded_rate() {
    let mut gateway = gateway(1500);
    let mut expired = repr(GUEST, Ipv4Addr::new(198, 51, 100, 7), ip_proto::UDP, 12);
    expired.ttl = 1;
    let mut l4 = vec![0; 12];
    udp::emit(&mut l4, 1, 33434, 4, 0);
    let frame = ip_frame(MAC, expired, &l4);
    let (verdict, frames) = hand(&mut gateway, PORT, &frame);
    assert_eq!(verdict, Verdict::Dropped(DropReason::TtlExceeded));
    let error = Ipv4Packet::parse(&frames[0][14..]).unwrap();
    let message = icmpv4::IcmpMessage::parse(error.payload()).unwrap();
    assert_eq!((message.kind(), message.code()), (icmpv4::TIME_EXCEEDED, 0));
    assert_eq!(
        message.data(),
        &frame[14..14 + 28],
        "header and eight bytes (RFC 792)"
    );
    let sent: usize = (0..1000)
        .map(|_| hand(&mut gateway, PORT, &frame).1.len())
        .sum();
    assert!(sent < 100, "{sent}");
    // Never an error about an error (RFC 1122, section 3.2.2).
    let mut about = echo(GUEST, Ipv4Addr::new(198, 51, 100, 7), 8);
    about[34] = icmpv4::UNREACHABLE;
    about[22] = 1;
    about[24..26].fill(0);
    let check = checksum::sum(&about[14..34]).finish();
    about[24..26].copy_from_slice(&check.to_be_bytes());
    assert!(hand(&mut gateway, PORT, &about).1.is_empty());
}

/// Runs a whole DHCP exchange over frames and returns the address.
fn lease(gateway: &mut Gateway, port: PortId, mac: MacAddr, hostname: &str) -> Ipv4Addr {
    let mut config = ClientConfig::new(mac.0);
    config.hostname = Some(hostname.to_owned());
    let mut client = Client::new(config, 1);
    for _ in 0..4 {
        let Some(ClientOutput::Send(message)) = client.poll(NOW) else {
            panic!("nothing to send")
        };
        let mut frame = datagram(message.src, message.dst, (68, 67), &message.payload);
        frame[6..12].copy_from_slice(&mac.0);
        let (_, frames) = hand(gateway, port, &frame);
        let packet = Ipv4Packet::parse(&frames[0][14..]).unwrap();
        let reply = UdpDatagram::parse(packet.payload()).unwrap();
        let pseudo = checksum::pseudo_v4(packet.src(), packet.dst(), ip_proto::UDP, reply.len());
        assert!(reply.verify_checksum(pseudo));
        if let Some(Event::Bound(lease)) = client.handle(reply.payload(), NOW) {
            assert_eq!(lease.dns, [GATEWAY]);
            return lease.ip;
        }
    }
    panic!("no lease");
}

/// Asks for the A record of a name; returns the last four bytes of the answer and its code.
fn ask(gateway: &mut Gateway, src: Ipv4Addr, name: &str) -> (Ipv4Addr, u8) {
    let mut query = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        query.push(label.len() as u8);
        query.extend(label.bytes());
    }
    query.extend([0, 0, 1, 0, 1]);
    let (_, frames) = hand(gateway, PORT, &datagram(src, GATEWAY, (40000, 53), &query));
    let packet = Ipv4Packet::parse(&frames[0][14..]).unwrap();
    let reply = UdpDatagram::parse(packet.payload()).unwrap();
    assert_eq!((reply.src_port(), reply.dst_port()), (53, 40000));
    let message = reply.payload();
    assert_eq!(message[..2], [0x12, 0x34]);
    let tail: [u8; 4] = message[message.len() - 4..].try_into().unwrap();
    (tail.into(), message[3] & 15)
}

#[test]
fn the_address_of_a_seat_goes_to_whoever_sits_there() {
    let mut gateway = gateway(1500);
    let kept = gateway.allocate_ip().unwrap();
    assert_eq!(kept, GUEST, "the lowest");
    gateway.port_opened(PORT, kept, "guest1", None, NOW);
    assert_eq!(lease(&mut gateway, PORT, MAC, "web"), kept);
    assert_eq!(gateway.neighbour(kept).unwrap().mac, MAC);
    // Both names lead there, and the gateway has its own.
    assert_eq!(ask(&mut gateway, kept, "web.internal"), (kept, 0));
    assert_eq!(ask(&mut gateway, kept, "guest1.internal"), (kept, 0));
    assert_eq!(ask(&mut gateway, kept, "gateway.internal"), (GATEWAY, 0));
    assert_eq!(ask(&mut gateway, kept, "nobody.internal").1, 3);
    // Another guest does not get the seat's address, nor its name.
    let other = lease(&mut gateway, 2, OTHER, "web");
    assert_ne!(other, kept);
    assert_eq!(ask(&mut gateway, kept, "web.internal"), (kept, 0));
    // The machine restarts with a new hardware address: the seat is the same.
    gateway.port_closed(PORT, NOW, &mut Vec::new());
    gateway.port_opened(3, kept, "guest1", None, NOW);
    assert_eq!(
        lease(&mut gateway, 3, MacAddr([2, 9, 9, 9, 9, 9]), "web2"),
        kept
    );
}

#[test]
fn addresses_run_out_cleanly() {
    let config = Config::new("10.0.2.0/29".parse().unwrap()).unwrap();
    let mut gateway = Gateway::new(config, [9; 16]).unwrap();
    let all: Vec<_> = std::iter::from_fn(|| gateway.allocate_ip()).collect();
    assert_eq!(
        all,
        (2..=6)
            .map(|last| Ipv4Addr::new(10, 0, 2, last))
            .collect::<Vec<_>>()
    );
    gateway.release_ip(all[3]);
    assert_eq!(gateway.allocate_ip(), Some(all[3]));
}

proptest! {
    /// Whatever a guest sends: no panic, every answer is a valid frame back to it.
    #[test]
    fn any_bytes(
        start in prop_oneof![
            Just(echo(GUEST, GATEWAY, 40)),
            Just(arp_frame(MAC, GUEST, GATEWAY)),
            Just(datagram(GUEST, GATEWAY, (9, 53), &[0; 40])),
            Just(datagram(Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST, (68, 67), &[1; 300])),
        ],
        flips in proptest::collection::vec((0usize..400, any::<u8>()), 0..6),
        cut in 14usize..400,
    ) {
        let mut frame = start;
        for (at, value) in flips {
            if let Some(byte) = frame.get_mut(at) {
                *byte = value;
            }
        }
        frame.truncate(cut.max(14));
        let mut gateway = gateway(576);
        let packet = ZeroCopyPacket::from_slice(&frame, VirtioNetHdr::PLAIN).unwrap();
        let mut out = Vec::new();
        gateway.ingress(PORT, &packet, NOW, &mut out);
        for output in out {
            if let Output::Frame { frame, .. } = output {
                prop_assert!(frame.len() >= 42 && frame.len() - 14 <= 576);
            }
        }
    }
}
