//! IPv6: neighbour discovery, advertisements, echo, DNS, errors, and whose address is whose.

mod advertisements;
mod neighbours;
mod router;

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use net_datapath::{VirtioNetHdr, ZeroCopyPacket};
use net_gateway::{
    Config, DropReason, Gateway, Ipv6Config, Output, PortId, Target, Verdict, eui64,
};
use net_wire::ethernet::{self, EtherType};
use net_wire::icmpv6::{self, Icmpv6Message};
use net_wire::ipv6::{Ipv6Packet, Ipv6Repr};
use net_wire::udp::UdpDatagram;
use net_wire::{MacAddr, checksum, ip_proto, udp};
use proptest::prelude::*;

use self::advertisements::router_solicitation;

pub(crate) const PREFIX: Ipv6Addr = Ipv6Addr::new(0xfd12, 0x3456, 0x789a, 0, 0, 0, 0, 0);
pub(crate) const GATEWAY: Ipv6Addr = Ipv6Addr::new(0xfd12, 0x3456, 0x789a, 0, 0, 0, 0, 1);
pub(crate) const GUEST: Ipv6Addr = Ipv6Addr::new(0xfd12, 0x3456, 0x789a, 0, 0, 0, 0, 0x99);
pub(crate) const OUTSIDE: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7);
const NOBODY: Ipv6Addr = Ipv6Addr::UNSPECIFIED;
pub(crate) const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
pub(crate) const GATEWAY_MAC: MacAddr = MacAddr([2, 0xab, 10, 0, 2, 0]);
pub(crate) const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const OTHER: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
const PORT: PortId = 1;
const NOW: Duration = Duration::from_secs(10);
const LINK: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0);

pub(crate) fn link_local(mac: MacAddr) -> Ipv6Addr {
    eui64(LINK, mac)
}

pub(crate) fn gateway(mtu: u16) -> Gateway {
    let mut config = Config::new("10.0.2.0/24".parse().unwrap()).unwrap();
    config.mtu = mtu;
    config.ipv6 = Some(Ipv6Config::new(format!("{PREFIX}/64").parse().unwrap()).unwrap());
    Gateway::new(config, [9; 16]).unwrap()
}

/// Hands a frame over; returns the verdict and the frames that came back.
fn hand(gateway: &mut Gateway, port: PortId, frame: &[u8]) -> (Verdict, Vec<Vec<u8>>) {
    let packet = ZeroCopyPacket::from_slice(frame, VirtioNetHdr::PLAIN).unwrap();
    let mut out = Vec::new();
    let verdict = gateway.ingress(port, &packet, NOW, &mut out);
    let frames = out.into_iter().filter_map(|output| match output {
        Output::Frame {
            to: Target::Port(to),
            frame,
        } => {
            assert_eq!(to, port, "an answer goes where the question came from");
            Some(frame)
        }
        _ => None,
    });
    (verdict, frames.collect())
}

pub(crate) fn ip_frame(
    macs: (MacAddr, MacAddr),
    (src, dst): (Ipv6Addr, Ipv6Addr),
    next_header: u8,
    hop_limit: u8,
    payload: &[u8],
) -> Vec<u8> {
    let mut frame = vec![0; 54];
    ethernet::emit(&mut frame, macs.1, macs.0, EtherType::IPV6);
    let repr = Ipv6Repr {
        src,
        dst,
        next_header,
        hop_limit,
        traffic_class: 0,
        payload_len: payload.len(),
    };
    repr.emit(&mut frame[14..]);
    frame.extend_from_slice(payload);
    frame
}

/// An ICMPv6 message with a right checksum.
pub(crate) fn message(
    (src, dst): (Ipv6Addr, Ipv6Addr),
    kind: u8,
    rest: u32,
    data: &[u8],
) -> Vec<u8> {
    let mut message = vec![0; 8 + data.len()];
    message[8..].copy_from_slice(data);
    let pseudo = checksum::pseudo_v6(src, dst, ip_proto::ICMPV6, message.len());
    icmpv6::emit(&mut message, kind, 0, rest, pseudo);
    message
}

/// A message of neighbour discovery about `target`, with an option if there is a MAC to tell.
pub(crate) fn neighbour(
    ends: (Ipv6Addr, Ipv6Addr),
    kind: u8,
    flags: u32,
    target: Ipv6Addr,
    mac: Option<MacAddr>,
) -> Vec<u8> {
    let mut data = target.octets().to_vec();
    if let Some(mac) = mac {
        let option = if kind == icmpv6::NEIGHBOR_SOLICIT {
            1
        } else {
            2
        };
        data.extend([option, 1]);
        data.extend(mac.0);
    }
    message(ends, kind, flags, &data)
}

fn solicit(mac: MacAddr, src: Ipv6Addr, target: Ipv6Addr) -> Vec<u8> {
    let [.., a, b, c] = target.octets();
    let mut group = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c];
    group[13] = a;
    let ends = (src, Ipv6Addr::from(group));
    let told = (!src.is_unspecified()).then_some(mac);
    let bytes = neighbour(ends, icmpv6::NEIGHBOR_SOLICIT, 0, target, told);
    let to = MacAddr([0x33, 0x33, 0xff, a, b, c]);
    ip_frame((mac, to), ends, ip_proto::ICMPV6, 255, &bytes)
}

fn echo(mac: MacAddr, src: Ipv6Addr, dst: Ipv6Addr, len: usize) -> Vec<u8> {
    let bytes = message((src, dst), icmpv6::ECHO_REQUEST, 0x1234_0001, &vec![7; len]);
    let to = if dst.is_multicast() {
        let [.., a, b, c, d] = dst.octets();
        MacAddr([0x33, 0x33, a, b, c, d])
    } else {
        GATEWAY_MAC
    };
    ip_frame((mac, to), (src, dst), ip_proto::ICMPV6, 64, &bytes)
}

fn datagram(src: Ipv6Addr, dst: Ipv6Addr, ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 8];
    udp::emit(&mut bytes, ports.0, ports.1, payload.len(), 0);
    bytes.extend_from_slice(payload);
    let pseudo = checksum::pseudo_v6(src, dst, ip_proto::UDP, bytes.len());
    let sum = (pseudo + checksum::sum(&bytes)).finish_udp();
    bytes[6..8].copy_from_slice(&sum.to_be_bytes());
    ip_frame((MAC, GATEWAY_MAC), (src, dst), ip_proto::UDP, 64, &bytes)
}

/// The ICMPv6 message of a frame, its checksum verified.
fn icmp(frame: &[u8]) -> (Ipv6Packet<&[u8]>, Icmpv6Message<&[u8]>) {
    let packet = Ipv6Packet::parse(&frame[14..]).unwrap();
    let bytes = &frame[54..54 + packet.payload_len()];
    let view = Icmpv6Message::parse(bytes).unwrap();
    let pseudo = checksum::pseudo_v6(packet.src(), packet.dst(), ip_proto::ICMPV6, bytes.len());
    assert!(view.verify_checksum(pseudo));
    (packet, view)
}

#[test]
fn echo_over_ipv6_comes_back_whole_whatever_the_mtu() {
    for mtu in [1280, 1500, 9000] {
        let mut gateway = gateway(mtu);
        let own = gateway.link_local().unwrap();
        for (src, dst) in [(GUEST, GATEWAY), (link_local(MAC), own)] {
            let (verdict, frames) = hand(&mut gateway, PORT, &echo(MAC, src, dst, 4000));
            assert_eq!(verdict, Verdict::Answered);
            let mut joined = Vec::new();
            for frame in &frames {
                assert!(frame.len() - 14 <= usize::from(mtu));
                let piece = Ipv6Packet::parse(&frame[14..]).unwrap();
                assert_eq!((piece.src(), piece.dst()), (dst, src));
                let skip = if piece.upper_layer().unwrap().fragment.is_some() {
                    8
                } else {
                    0
                };
                joined.extend_from_slice(&piece.payload()[skip..]);
            }
            let reply = Icmpv6Message::parse(&joined[..]).unwrap();
            let pseudo = checksum::pseudo_v6(dst, src, ip_proto::ICMPV6, joined.len());
            assert!(reply.verify_checksum(pseudo));
            assert_eq!(
                (reply.kind(), reply.rest()),
                (icmpv6::ECHO_REPLY, 0x1234_0001)
            );
            assert_eq!(reply.data(), vec![7; 4000]);
        }
        // A group is not pinged: one frame would be answered by many.
        let all = echo(MAC, GUEST, ALL_NODES, 8);
        assert_eq!(
            hand(&mut gateway, PORT, &all).0,
            Verdict::Dropped(DropReason::NotForUs)
        );
    }
}

#[test]
fn what_leaves_the_network_over_ipv6_is_the_uplinks_and_what_does_not_is_not() {
    let mut gateway = gateway(1500);
    assert_eq!(
        hand(&mut gateway, PORT, &echo(MAC, GUEST, OUTSIDE, 8)).0,
        Verdict::Uplink
    );
    let neighbour = Ipv6Addr::from_bits(GUEST.to_bits() + 1);
    for (frame, reason) in [
        (echo(MAC, GUEST, neighbour, 8), DropReason::SameNetwork),
        (
            echo(MAC, GUEST, link_local(OTHER), 8),
            DropReason::SameNetwork,
        ),
        (
            echo(MAC, GUEST, Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb), 8),
            DropReason::NotForUs,
        ),
    ] {
        assert_eq!(hand(&mut gateway, PORT, &frame).0, Verdict::Dropped(reason));
    }
    // A fragment to the gateway is put together first.
    let piece = [
        &[ip_proto::UDP, 0, 0, 1, 0, 0, 0, 9][..],
        &[0, 9, 0, 53, 0, 16, 0, 0],
    ]
    .concat();
    let first = ip_frame(
        (MAC, GATEWAY_MAC),
        (GUEST, GATEWAY),
        ip_proto::IPV6_FRAGMENT,
        64,
        &piece,
    );
    assert_eq!(hand(&mut gateway, PORT, &first).0, Verdict::Uplink);
    // Without IPv6 there is none of this.
    let config = Config::new("10.0.2.0/24".parse().unwrap()).unwrap();
    let mut without = Gateway::new(config, [9; 16]).unwrap();
    let asked = hand(&mut without, PORT, &solicit(MAC, GUEST, GATEWAY));
    assert_eq!(asked, (Verdict::Dropped(DropReason::Ipv6), Vec::new()));
}

#[test]
fn icmpv6_errors_quote_their_cause_at_a_bounded_rate() {
    let mut gateway = gateway(1500);
    let long = datagram(GUEST, OUTSIDE, (1, 33434), &[5; 1400]);
    let mut expired = long.clone();
    expired[21] = 1;
    let (verdict, frames) = hand(&mut gateway, PORT, &expired);
    assert_eq!(verdict, Verdict::Dropped(DropReason::TtlExceeded));
    let (packet, view) = icmp(&frames[0]);
    assert_eq!((packet.src(), packet.dst()), (GATEWAY, GUEST));
    assert_eq!((view.kind(), view.code()), (icmpv6::TIME_EXCEEDED, 0));
    assert_eq!(frames[0].len(), 14 + 1280, "as much as every link carries");
    assert_eq!(view.data(), &expired[14..14 + 1232]);
    let sent: usize = (0..1000)
        .map(|_| hand(&mut gateway, PORT, &expired).1.len())
        .sum();
    assert!(sent < 100, "{sent}");
    // From here the bucket is empty: each needs a gateway of its own.
    let beyond = {
        let mut frame = long.clone();
        frame[22..38].copy_from_slice(&link_local(MAC).octets());
        frame
    };
    let mut fresh = self::gateway(1500);
    let (verdict, frames) = hand(&mut fresh, PORT, &beyond);
    assert_eq!(verdict, Verdict::Dropped(DropReason::BeyondScope));
    let (_, view) = icmp(&frames[0]);
    assert_eq!((view.kind(), view.code()), (icmpv6::UNREACHABLE, 2));
    let unknown = ip_frame((MAC, GATEWAY_MAC), (GUEST, GATEWAY), 132, 64, &[0; 20]);
    let (_, frames) = hand(&mut fresh, PORT, &unknown);
    let (_, view) = icmp(&frames[0]);
    assert_eq!(
        (view.kind(), view.code(), view.rest()),
        (icmpv6::PARAMETER_PROBLEM, 1, 6)
    );
    // Never about an error, or a redirect.
    for kind in [1, 3, 127, icmpv6::REDIRECT] {
        let ends = (GUEST, OUTSIDE);
        let about = message(ends, kind, 0, &[0; 40]);
        let frame = ip_frame((MAC, GATEWAY_MAC), ends, ip_proto::ICMPV6, 1, &about);
        assert!(hand(&mut fresh, PORT, &frame).1.is_empty(), "{kind}");
    }
}

#[test]
fn the_network_asks_for_a_guest_it_does_not_know() {
    let mut gateway = gateway(1500);
    let mut out = Vec::new();
    gateway.ask(GUEST, NOW, &mut out);
    gateway.ask(GUEST, NOW, &mut out);
    gateway.ask(OUTSIDE, NOW, &mut out);
    gateway.ask(GATEWAY, NOW, &mut out);
    let [
        Output::Frame {
            to: Target::Flood,
            frame,
        },
    ] = &out[..]
    else {
        panic!("{out:?}")
    };
    let (packet, view) = icmp(frame);
    assert_eq!(frame[..6], [0x33, 0x33, 0xff, 0, 0, 0x99]);
    assert_eq!(
        packet.dst(),
        Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 0x99)
    );
    assert_eq!(
        (view.kind(), view.ndp_target()),
        (icmpv6::NEIGHBOR_SOLICIT, Some(GUEST))
    );
    // The answer comes from another of its addresses.
    let own = gateway.link_local().unwrap();
    let ends = (link_local(MAC), own);
    let bytes = neighbour(ends, icmpv6::NEIGHBOR_ADVERT, 0x6000_0000, GUEST, Some(MAC));
    let answer = ip_frame((MAC, GATEWAY_MAC), ends, ip_proto::ICMPV6, 255, &bytes);
    assert_eq!(hand(&mut gateway, PORT, &answer).0, Verdict::Answered);
    assert_eq!(gateway.neighbour(GUEST).unwrap().mac, MAC);
    // Nobody takes the gateway's own.
    let bytes = neighbour(
        ends,
        icmpv6::NEIGHBOR_ADVERT,
        0x2000_0000,
        GATEWAY,
        Some(MAC),
    );
    let claim = ip_frame((MAC, GATEWAY_MAC), ends, ip_proto::ICMPV6, 255, &bytes);
    assert_eq!(
        hand(&mut gateway, PORT, &claim).0,
        Verdict::Dropped(DropReason::Spoofed)
    );
}

/// Asks for a record of a name over IPv6; returns the answer's code and its last 16 bytes.
fn ask(gateway: &mut Gateway, server: Ipv6Addr, name: &str, kind: u8) -> (u8, Ipv6Addr) {
    let mut query = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        query.push(label.len() as u8);
        query.extend(label.bytes());
    }
    query.extend([0, 0, kind, 0, 1]);
    let question = datagram(GUEST, server, (40000, 53), &query);
    let (_, frames) = hand(gateway, PORT, &question);
    let packet = Ipv6Packet::parse(&frames[0][14..]).unwrap();
    assert_eq!((packet.src(), packet.dst()), (server, GUEST));
    let reply = UdpDatagram::parse(packet.payload()).unwrap();
    let pseudo = checksum::pseudo_v6(server, GUEST, ip_proto::UDP, packet.payload_len());
    assert!(reply.verify_checksum(pseudo));
    let message = reply.payload();
    let tail: [u8; 16] = message[message.len() - 16..].try_into().unwrap();
    (message[3] & 15, Ipv6Addr::from(tail))
}

#[test]
fn names_are_asked_and_answered_over_ipv6() {
    let mut gateway = gateway(1500);
    let own = gateway.link_local().unwrap();
    assert_eq!(
        ask(&mut gateway, GATEWAY, "gateway.internal", 28),
        (0, GATEWAY)
    );
    assert_eq!(ask(&mut gateway, own, "gateway.internal", 28), (0, GATEWAY));
    assert_eq!(ask(&mut gateway, GATEWAY, "nobody.internal", 28).0, 3);
    // A guest's AAAA is the address it is sure to keep: made from its hardware address, or given.
    let kept = gateway.allocate_ip().unwrap();
    gateway.port_opened(PORT, kept, "web", None, NOW);
    let stable = eui64(PREFIX, MAC);
    assert_ne!(ask(&mut gateway, GATEWAY, "web.internal", 28).1, stable);
    hand(&mut gateway, PORT, &echo(MAC, stable, GATEWAY, 8));
    assert_eq!(gateway.address6(PORT), Some(stable));
    assert_eq!(ask(&mut gateway, GATEWAY, "web.internal", 28), (0, stable));
    let given = Ipv6Addr::from_bits(GUEST.to_bits() + 7);
    gateway.assign6(PORT, given, MAC, NOW);
    assert_eq!(ask(&mut gateway, GATEWAY, "web.internal", 28), (0, given));
    gateway.port_closed(PORT, NOW, &mut Vec::new());
    assert_eq!(ask(&mut gateway, GATEWAY, "web.internal", 28).0, 3);
    assert_eq!(gateway.neighbour(IpAddr::V6(given)), None);
}

proptest! {
    /// Whatever a guest sends: no panic, every answer is a valid frame that fits.
    #[test]
    fn any_bytes_over_ipv6(
        start in prop_oneof![
            Just(echo(MAC, GUEST, GATEWAY, 1400)),
            Just(solicit(MAC, GUEST, GATEWAY)),
            Just(solicit(MAC, NOBODY, GATEWAY)),
            Just(router_solicitation(link_local(MAC), MAC, Some(MAC))),
            Just(datagram(GUEST, GATEWAY, (9, 53), &[0; 40])),
            Just(ip_frame((MAC, GATEWAY_MAC), (GUEST, GATEWAY), 0, 64, &[58; 60])),
        ],
        flips in proptest::collection::vec((0usize..120, any::<u8>()), 0..6),
        cut in 14usize..1500,
    ) {
        let mut frame = start;
        for (at, value) in flips {
            if let Some(byte) = frame.get_mut(at) {
                *byte = value;
            }
        }
        frame.truncate(cut.max(14));
        let mut gateway = gateway(1280);
        let packet = ZeroCopyPacket::from_slice(&frame, VirtioNetHdr::PLAIN).unwrap();
        let mut out = Vec::new();
        gateway.may_pass(&packet);
        gateway.ingress(PORT, &packet, NOW, &mut out);
        gateway.on_deadline(NOW + Duration::from_secs(1), &mut out);
        for output in out {
            if let Output::Frame { frame, .. } = output {
                prop_assert!(frame.len() - 14 <= 1280);
                prop_assert!(Ipv6Packet::parse(&frame[14..]).is_ok() || frame[12] == 8);
            }
        }
    }
}
