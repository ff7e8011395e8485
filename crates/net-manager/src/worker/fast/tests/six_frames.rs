//! Frames of IPv6 as the tests make and read them.

use std::net::{IpAddr, Ipv6Addr, SocketAddrV6};

use ipnetwork::Ipv6Network;
use net_datapath::{VirtioNetHdr, ZeroCopyPacket};
use net_dhcp::ra::{Prefix, RaConfig, State, message};
use net_gateway::{eui64, link_local};
use net_wire::checksum::{pseudo_v6, sum};
use net_wire::icmpv6::{self, Icmpv6Message};
use net_wire::ipv6::{Ipv6Packet, Ipv6Repr};
use net_wire::ndp::{self, ALL_NODES, Neighbour, OVERRIDE, ROUTER, SOLICITED};
use net_wire::{MacAddr, ip_proto, udp};

use super::frames::Frame;
use super::{GATEWAY_MAC, OUTSIDE_MAC, ROUTER_MAC, World, guest_mac};

pub(super) const PREFIX: &str = "fd00:1::/64";
pub(super) const OUTSIDE6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9);
pub(super) const NEAR6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
pub(super) const FAR6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xff, 0, 0, 0, 0, 7);
/// The router outside, on its link.
pub(super) const ROUTER6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
/// The gateway, among guests.
pub(super) const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 1);

/// The address that a guest has of its hardware address.
pub(super) fn guest6(n: usize) -> Ipv6Addr {
    eui64(Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 0), guest_mac(n))
}

/// The uplink on its link.
pub(super) fn own_link_local() -> Ipv6Addr {
    link_local(OUTSIDE_MAC)
}

impl Frame {
    pub(super) fn is_ipv6(&self) -> bool {
        self.bytes[12..14] == [0x86, 0xdd]
    }

    pub(super) fn ip6(&self) -> Ipv6Packet<&[u8]> {
        assert!(self.is_ipv6(), "{self:?}");
        Ipv6Packet::parse(&self.bytes[14..]).unwrap()
    }

    /// Source and destination, of a packet whose transport checksum is right.
    pub(super) fn ends6(&self) -> (SocketAddrV6, SocketAddrV6) {
        let packet = ZeroCopyPacket::from_slice(&self.bytes, self.header).unwrap();
        assert!(packet.verify_l4_checksum(), "{self:?}");
        let (Some(IpAddr::V6(src)), Some(IpAddr::V6(dst))) = (packet.ip_src(), packet.ip_dst())
        else {
            panic!("{packet:?}")
        };
        let meta = packet.meta();
        (at(src, meta.src_port), at(dst, meta.dst_port))
    }

    /// Type, code and the four bytes behind the checksum of an ICMPv6 message, and its data.
    pub(super) fn icmp6(&self) -> (u8, u8, u32, Vec<u8>) {
        let ip = self.ip6();
        let upper = ip.upper_layer().unwrap();
        assert_eq!(upper.protocol, ip_proto::ICMPV6, "{self:?}");
        let body = &ip.payload()[upper.offset..];
        let message = Icmpv6Message::parse(body).unwrap();
        let pseudo = pseudo_v6(ip.src(), ip.dst(), ip_proto::ICMPV6, body.len());
        assert!(message.verify_checksum(pseudo));
        let (kind, code, rest) = (message.kind(), message.code(), message.rest());
        (kind, code, rest, message.data().to_vec())
    }

    /// The type of an ICMPv6 message, if the frame is one.
    pub(super) fn kind6(&self) -> Option<u8> {
        let upper = self.is_ipv6().then(|| self.ip6().upper_layer().unwrap())?;
        (upper.protocol == ip_proto::ICMPV6).then(|| self.bytes[14 + 40 + upper.offset])
    }

    /// A solicitation or advertisement of a neighbour.
    pub(super) fn neighbour(&self) -> Neighbour {
        let ip = self.ip6();
        assert_eq!(ip.hop_limit(), 255);
        self.icmp6();
        Neighbour::parse(ip.payload(), (ip.src(), ip.dst())).unwrap()
    }

    pub(super) fn with_hops(mut self, hops: u8) -> Self {
        self.bytes[14 + 7] = hops;
        self
    }
}

pub(super) fn at(ip: Ipv6Addr, port: u16) -> SocketAddrV6 {
    SocketAddrV6::new(ip, port, 0, 0)
}

fn packet(src: Ipv6Addr, dst: Ipv6Addr, protocol: u8, hops: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; 40];
    packet.extend_from_slice(payload);
    Ipv6Repr {
        src,
        dst,
        next_header: protocol,
        hop_limit: hops,
        traffic_class: 0,
        payload_len: payload.len(),
    }
    .emit(&mut packet);
    packet
}

fn datagram(src: SocketAddrV6, dst: SocketAddrV6, payload: &[u8]) -> Vec<u8> {
    let mut body = vec![0; 8];
    body.extend_from_slice(payload);
    udp::emit(&mut body, src.port(), dst.port(), payload.len(), 0);
    let pseudo = pseudo_v6(*src.ip(), *dst.ip(), ip_proto::UDP, body.len());
    let check = (pseudo + sum(&body)).finish_udp();
    body[6..8].copy_from_slice(&check.to_be_bytes());
    packet(*src.ip(), *dst.ip(), ip_proto::UDP, 64, &body)
}

fn segment(src: SocketAddrV6, dst: SocketAddrV6, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut body = vec![0; 20];
    body[..2].copy_from_slice(&src.port().to_be_bytes());
    body[2..4].copy_from_slice(&dst.port().to_be_bytes());
    body[4..8].copy_from_slice(&1000u32.to_be_bytes());
    (body[12], body[13]) = (0x50, flags);
    body[14..16].copy_from_slice(&0xffffu16.to_be_bytes());
    body.extend_from_slice(payload);
    let pseudo = pseudo_v6(*src.ip(), *dst.ip(), ip_proto::TCP, body.len());
    let check = (pseudo + sum(&body)).finish();
    body[16..18].copy_from_slice(&check.to_be_bytes());
    packet(*src.ip(), *dst.ip(), ip_proto::TCP, 64, &body)
}

/// An ICMPv6 message with this data.
pub(super) fn icmp(
    (src, dst): (Ipv6Addr, Ipv6Addr),
    hops: u8,
    (kind, code, rest): (u8, u8, u32),
    data: &[u8],
) -> Vec<u8> {
    let mut message = vec![0; 8];
    message.extend_from_slice(data);
    let pseudo = pseudo_v6(src, dst, ip_proto::ICMPV6, message.len());
    icmpv6::emit(&mut message, kind, code, rest, pseudo);
    packet(src, dst, ip_proto::ICMPV6, hops, &message)
}

pub(super) fn out(n: usize, packet: &[u8]) -> Frame {
    Frame::new(GATEWAY_MAC, guest_mac(n), 0x86dd, packet)
}

/// From the router outside.
pub(super) fn in_(packet: &[u8]) -> Frame {
    Frame::new(OUTSIDE_MAC, ROUTER_MAC, 0x86dd, packet)
}

/// From the router outside, to a group.
pub(super) fn to_group(group: Ipv6Addr, packet: &[u8]) -> Frame {
    Frame::new(ndp::group_mac(group), ROUTER_MAC, 0x86dd, packet)
}

pub(super) fn udp_out(n: usize, port: u16, dst: SocketAddrV6, data: &[u8]) -> Frame {
    out(n, &datagram(at(guest6(n), port), dst, data))
}

pub(super) fn udp_in(src: SocketAddrV6, port: u16, data: &[u8]) -> Frame {
    in_(&datagram(src, at(OUTSIDE6, port), data))
}

pub(super) fn tcp_out(n: usize, port: u16, dst: SocketAddrV6, flags: u8, data: &[u8]) -> Frame {
    out(n, &segment(at(guest6(n), port), dst, flags, data))
}

pub(super) fn tcp_in(src: SocketAddrV6, port: u16, flags: u8) -> Frame {
    in_(&segment(src, at(OUTSIDE6, port), flags, b""))
}

pub(super) fn echo(src: Ipv6Addr, dst: Ipv6Addr) -> Vec<u8> {
    let request = (icmpv6::ECHO_REQUEST, 0, 0x0017_0001);
    icmp((src, dst), 64, request, b"twelve bytes")
}

/// A super-frame of a guest, its checksum partial.
pub(super) fn super_out(n: usize, port: u16, dst: SocketAddrV6, len: usize, mss: u16) -> Frame {
    let mut frame = tcp_out(n, port, dst, 0x10, &vec![7; len]);
    let check = pseudo_v6(guest6(n), *dst.ip(), ip_proto::TCP, 20 + len).fold();
    frame.bytes[54 + 16..54 + 18].copy_from_slice(&check.to_be_bytes());
    frame.header = VirtioNetHdr {
        flags: VirtioNetHdr::NEEDS_CSUM,
        gso_type: VirtioNetHdr::GSO_TCPV6,
        gso_size: mss,
        hdr_len: 74,
        csum_start: 54,
        csum_offset: 16,
        ..VirtioNetHdr::PLAIN
    };
    frame
}

/// A message of a neighbour as an IPv6 packet.
pub(super) fn neighbour(ends: (Ipv6Addr, Ipv6Addr), message: &Neighbour) -> Vec<u8> {
    crate::worker::fast::station::neighbour_packet(ends, message)
}

/// The question for `target`, to its group.
pub(super) fn solicit(src: Ipv6Addr, target: Ipv6Addr) -> Frame {
    let group = ndp::solicited_node(target);
    let message = Neighbour {
        kind: icmpv6::NEIGHBOR_SOLICIT,
        flags: 0,
        target,
        mac: (!src.is_unspecified()).then_some(ROUTER_MAC),
    };
    to_group(group, &neighbour((src, group), &message))
}

/// The answer of the router outside for `target`.
pub(super) fn advert(target: Ipv6Addr, flags: u32, mac: Option<MacAddr>) -> Frame {
    let message = Neighbour {
        kind: icmpv6::NEIGHBOR_ADVERT,
        flags,
        target,
        mac,
    };
    let dst = match flags & SOLICITED {
        0 => ALL_NODES,
        _ if target.is_unicast_link_local() => own_link_local(),
        _ => OUTSIDE6,
    };
    in_(&neighbour((target, dst), &message))
}

/// What a router says of itself.
pub(super) fn router_advert(from: Ipv6Addr, change: impl FnOnce(&mut RaConfig)) -> Frame {
    let mut config = RaConfig::new(Prefix::new("2001:db8::".parse().unwrap(), 64));
    change(&mut config);
    let said = message(&config, State::Advertising);
    let rest = u32::from_be_bytes(*said[4..8].first_chunk().unwrap());
    let message = icmp((from, ALL_NODES), 255, (said[0], 0, rest), &said[8..]);
    to_group(ALL_NODES, &message)
}

impl World {
    /// A network whose uplink has an IPv6 address, just attached; guests' addresses are known.
    pub(super) fn six(guests: usize, via6: Option<Ipv6Addr>) -> Self {
        Self::six_of(guests, 1500, via6)
    }

    pub(super) fn six_of(guests: usize, mtu: u16, via6: Option<Ipv6Addr>) -> Self {
        let mut world = Self::with(guests, mtu, true, |config| {
            config.ipv6 = true;
            config.subnet6 = Some(PREFIX.parse::<Ipv6Network>().unwrap());
            let uplink = config.uplink.as_mut().unwrap();
            uplink.outside6 = Some("2001:db8::9/64".parse().unwrap());
            uplink.via6 = via6;
        });
        for n in 0..guests {
            // A guest that speaks is known.
            world.guest_sends(n, &out(n, &echo(guest6(n), GATEWAY6)));
            world.guest(n);
        }
        world
    }

    /// The same once its address may be used and the router is known.
    pub(super) fn connected6(guests: usize, mtu: u16) -> Self {
        let mut world = Self::six_of(guests, mtu, Some(ROUTER6));
        world.pass(1);
        world.outside();
        world.guest_sends(0, &udp_out(0, 9, at(FAR6, 9), b"first"));
        world.answers(ROUTER6);
        let sent = world.outside();
        assert_eq!(sent.len(), 2, "the question, then the packet: {sent:?}");
        for n in 0..guests {
            world.guest6(n);
        }
        world
    }

    /// The router outside answers for an address.
    pub(super) fn answers(&mut self, ip: Ipv6Addr) {
        let flags = ROUTER | SOLICITED | OVERRIDE;
        self.outside_sends(&advert(ip, flags, Some(ROUTER_MAC)));
    }

    /// What a guest has been sent but what the gateway says of itself.
    pub(super) fn guest6(&mut self, n: usize) -> Vec<Frame> {
        let mut frames = self.guest(n);
        frames.retain(|frame| !frame.kind6().is_some_and(is_discovery));
        frames
    }

    /// What went out but neighbour discovery.
    pub(super) fn outside6(&mut self) -> Vec<Frame> {
        let mut frames = self.outside();
        frames.retain(|frame| frame.arp().is_none() && !frame.kind6().is_some_and(is_discovery));
        frames
    }
}

fn is_discovery(kind: u8) -> bool {
    (icmpv6::ROUTER_SOLICIT..=icmpv6::REDIRECT).contains(&kind) || kind == 143
}
