//! What becomes of an IPv6 packet, out and back.

use std::net::SocketAddrV6;

use net_datapath::gso::complete_checksum;
use net_wire::icmpv6::{self, ECHO_REPLY, ECHO_REQUEST};

use super::six_frames::*;
use super::*;
use crate::config::PublishedPort;

const PEER: SocketAddrV6 = SocketAddrV6::new(FAR6, 7000, 0, 0);
const CLIENT: SocketAddrV6 = SocketAddrV6::new(FAR6, 33_000, 0, 0);
const SYN: u8 = 2;
const SYN_ACK: u8 = 0x12;

#[test]
fn a_datagram_goes_out_under_the_outside_address_and_its_answer_comes_back() {
    let mut world = World::connected6(1, 1500);
    world.guest_sends(0, &udp_out(0, 5000, PEER, b"ask"));
    let sent = world.outside();
    assert_eq!(sent.len(), 1);
    let (src, dst) = sent[0].ends6();
    assert_eq!((*src.ip(), dst), (OUTSIDE6, PEER));
    assert_eq!(sent[0].dst_mac(), ROUTER_MAC);
    assert_eq!(sent[0].bytes[6..12], OUTSIDE_MAC.0);
    assert_eq!(sent[0].ip6().hop_limit(), 63);

    world.outside_sends(&udp_in(PEER, src.port(), b"answer"));
    let back = world.guest6(0);
    assert_eq!(back.len(), 1);
    assert_eq!(back[0].ends6(), (PEER, at(guest6(0), 5000)));
    assert_eq!(back[0].dst_mac(), guest_mac(0));
    assert_eq!(back[0].bytes[6..12], GATEWAY_MAC.0);
    assert_eq!(back[0].ip6().hop_limit(), 63);
    // IPv4 goes on beside it.
    world.guest_sends(0, &frames::udp_out(0, 5000, FAR, 7000, b"four"));
    world.router_says(ROUTER);
    assert_eq!(world.outside()[1].ends().src.0, OUTSIDE);
}

#[test]
fn what_comes_while_the_address_is_tried_waits() {
    let mut world = World::six(1, Some(ROUTER6));
    world.guest_sends(0, &udp_out(0, 5000, PEER, b"early"));
    assert!(world.outside6().is_empty());
    world.pass(2);
    world.answers(ROUTER6);
    assert_eq!(world.outside6().len(), 1);
    assert!(world.guest6(0).is_empty());
}

#[test]
fn the_hop_limit_ends_here_in_both_directions() {
    let mut world = World::connected6(1, 1500);
    world.guest_sends(0, &udp_out(0, 5000, PEER, b"x").with_hops(2));
    let sent = world.outside();
    assert_eq!(sent[0].ip6().hop_limit(), 1);
    let port = sent[0].ends6().0.port();
    world.guest_sends(0, &udp_out(0, 5000, PEER, b"x").with_hops(1));
    assert!(world.outside().is_empty());
    let told = world.guest6(0);
    assert_eq!(told[0].icmp6().0, icmpv6::TIME_EXCEEDED);
    assert_eq!(told[0].ip6().src(), GATEWAY6);
    world.outside_sends(&udp_in(PEER, port, b"x").with_hops(1));
    assert!(world.guest6(0).is_empty());
    let told = world.outside();
    assert_eq!(told[0].icmp6().0, icmpv6::TIME_EXCEEDED);
    assert_eq!((told[0].ip6().src(), told[0].ip6().dst()), (OUTSIDE6, FAR6));
}

#[test]
fn echo_passes_and_the_outside_address_answers() {
    let mut world = World::connected6(1, 1500);
    world.guest_sends(0, &out(0, &echo(guest6(0), FAR6)));
    let sent = world.outside();
    assert_eq!(sent[0].ip6().src(), OUTSIDE6);
    let (kind, _, rest, data) = sent[0].icmp6();
    assert_eq!(kind, ECHO_REQUEST);
    let reply = icmp((FAR6, OUTSIDE6), 64, (ECHO_REPLY, 0, rest), &data);
    world.outside_sends(&in_(&reply));
    let back = world.guest6(0);
    assert_eq!(back[0].icmp6(), (ECHO_REPLY, 0, 0x0017_0001, data.clone()));
    assert_eq!(back[0].ip6().dst(), guest6(0));

    world.outside_sends(&in_(&echo(NEAR6, OUTSIDE6)));
    let answer = world.outside();
    assert_eq!(
        answer[0].icmp6(),
        (ECHO_REPLY, 0, 0x0017_0001, data.clone())
    );
    assert_eq!(
        (answer[0].ip6().src(), answer[0].ip6().dst()),
        (OUTSIDE6, NEAR6)
    );
    world.guest_sends(0, &out(0, &echo(guest6(0), OUTSIDE6)));
    let answer = world.guest6(0);
    assert_eq!(answer[0].icmp6(), (ECHO_REPLY, 0, 0x0017_0001, data));
    assert_eq!(answer[0].ip6().dst(), guest6(0));
    // One whose checksum is wrong gets none.
    let mut wrong = in_(&echo(NEAR6, OUTSIDE6));
    *wrong.bytes.last_mut().unwrap() ^= 1;
    world.outside_sends(&wrong);
    assert!(world.outside().is_empty());
}

/// A router never cuts a packet of IPv6: its sender is told what fits (RFC 8200, section 5).
#[test]
fn too_long_for_either_side_is_said() {
    let mut world = World::connected6(1, 1400);
    world.guest_sends(0, &udp_out(0, 5000, PEER, &[5; 1352]));
    let port = world.outside()[0].ends6().0.port();
    world.guest_sends(0, &udp_out(0, 5000, PEER, &[5; 1353]));
    assert!(world.outside().is_empty());
    let (kind, code, mtu, quoted) = world.guest6(0)[0].icmp6();
    assert_eq!((kind, code, mtu), (icmpv6::PACKET_TOO_BIG, 0, 1400));
    assert_eq!(quoted.len(), 1280 - 48);
    assert_eq!(quoted[8..24], guest6(0).octets());

    world.outside_sends(&udp_in(PEER, port, &[5; 1453]));
    assert!(world.guest6(0).is_empty());
    let told = world.outside();
    let (kind, code, mtu, quoted) = told[0].icmp6();
    assert_eq!((kind, code, mtu), (icmpv6::PACKET_TOO_BIG, 0, 1500));
    assert_eq!(quoted[24..40], OUTSIDE6.octets());
}

/// What a router afar says about a packet reaches the guest, about the packet as it sent it.
#[test]
fn an_error_from_outside_is_translated() {
    let mut world = World::connected6(1, 1500);
    let sent = udp_out(0, 5000, PEER, &[7; 1400]);
    world.guest_sends(0, &sent);
    let out = world.outside();
    let quoted = &out[0].bytes[14..14 + 600];
    let told = (icmpv6::PACKET_TOO_BIG, 0, 1300);
    world.outside_sends(&in_(&icmp((NEAR6, OUTSIDE6), 64, told, quoted)));
    let heard = world.guest6(0);
    assert_eq!(heard.len(), 1);
    let (kind, code, mtu, quoted) = heard[0].icmp6();
    assert_eq!((kind, code, mtu), told);
    assert_eq!(
        (heard[0].ip6().src(), heard[0].ip6().dst()),
        (NEAR6, guest6(0))
    );
    assert_eq!(quoted[8..24], guest6(0).octets());
    assert_eq!(quoted[40..42], 5000u16.to_be_bytes());
}

#[test]
fn a_super_frame_stays_one_unless_its_pieces_are_too_long() {
    let mut world = World::connected6(1, 1500);
    world.guest_sends(0, &tcp_out(0, 4000, PEER, SYN, b""));
    let port = world.outside()[0].ends6().0.port();
    let frame = super_out(0, 4000, PEER, 20_000, 1440);
    world.guest_sends(0, &frame);
    let sent = world.outside();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].header, frame.header);
    assert_eq!(sent[0].bytes.len(), frame.bytes.len());
    // What is partial is right once it is completed.
    let mut whole = sent[0].clone();
    complete_checksum(&mut whole.bytes, &frame.header).unwrap();
    whole.header = VirtioNetHdr::PLAIN;
    assert_eq!(whole.ends6().0, at(OUTSIDE6, port));

    world.guest_sends(0, &super_out(0, 4000, PEER, 20_000, 1441));
    assert!(world.outside().is_empty());
    let (kind, _, mtu, _) = world.guest6(0)[0].icmp6();
    assert_eq!((kind, mtu), (icmpv6::PACKET_TOO_BIG, 1500));
    assert_eq!(world.status().drops.too_big, 1);
    // A checksum that would be written elsewhere.
    let mut wrong = super_out(0, 4000, PEER, 3000, 1400);
    wrong.header.csum_offset = 14;
    world.guest_sends(0, &wrong);
    assert!(world.outside().is_empty());
    assert_eq!(world.status().drops.offload, 1);
}

#[test]
fn a_published_port_leads_to_the_guest_with_the_client_s_address() {
    let mut world = World::connected6(2, 1500);
    let publish = |world: &mut World, text: &str| {
        let mut port: PublishedPort = text.parse().unwrap();
        port.guest = Some(guest_ip(1));
        world.worker.publish(&port, None)
    };
    world.outside_sends(&tcp_in(CLIENT, 8080, SYN));
    assert!(world.guest6(1).is_empty());
    let published = publish(&mut world, "[::]:8080:80").unwrap();
    assert_eq!(published.address, at(OUTSIDE6, 8080).into());
    assert_eq!(published.guest, at(guest6(1), 80).into());
    world.outside_sends(&tcp_in(CLIENT, 8080, SYN));
    assert_eq!(world.guest6(1)[0].ends6(), (CLIENT, at(guest6(1), 80)));
    world.guest_sends(1, &tcp_out(1, 80, CLIENT, SYN_ACK, b""));
    assert_eq!(world.outside()[0].ends6(), (at(OUTSIDE6, 8080), CLIENT));
    // A guest comes by it, too, and is seen as the network is.
    world.guest_sends(0, &tcp_out(0, 4000, at(OUTSIDE6, 8080), SYN, b""));
    let (src, dst) = world.guest6(1)[0].ends6();
    assert_eq!((*src.ip(), dst), (OUTSIDE6, at(guest6(1), 80)));
    world.guest_sends(1, &tcp_out(1, 80, src, SYN_ACK, b""));
    assert_eq!(world.guest6(0)[0].ends6().0, at(OUTSIDE6, 8080));
    assert!(world.outside().is_empty());

    // The same port of IPv4 is another one, and so is that of the host's loopback.
    let four = publish(&mut world, "8080:80").unwrap();
    assert_eq!(four.address, (OUTSIDE, 8080).into());
    assert!(
        publish(&mut world, "[::1]:0:80")
            .unwrap()
            .address
            .ip()
            .is_loopback()
    );
    assert!(publish(&mut world, "[2001:db8::9]:8080:80").is_err());
    publish(&mut world, "[2001:db8::9]:8080:80/udp").unwrap();
    let elsewhere = publish(&mut world, "[2001:db8::8]:8081:80").unwrap_err();
    assert!(elsewhere.to_string().contains("2001:db8::9"), "{elsewhere}");

    world.worker.core.uplink.unpublish(published.id);
    world.outside_sends(&tcp_in(at(FAR6, 33_001), 8080, SYN));
    assert!(world.guest6(1).is_empty());
    world.worker.core.uplink.unpublish(four.id);
}

#[test]
fn a_port_needs_a_guest_whose_address_is_known() {
    let mut world = World::connected6(1, 1500);
    world.add_guest(false, PortOptions::default());
    let mut port: PublishedPort = "[::]:8080:80".parse().unwrap();
    port.guest = Some(guest_ip(1));
    let refused = world.worker.publish(&port, None).unwrap_err();
    assert!(
        matches!(refused, ManagerError::NoAddress6 { .. }),
        "{refused}"
    );
    // Without an address outside there is nothing to publish at.
    let mut world = World::connected(1, 1500);
    let refused = world.worker.publish(&"[::]:1:1".parse().unwrap(), None);
    let refused = refused.unwrap_err();
    assert!(
        matches!(refused, ManagerError::NotOutside { .. }),
        "{refused}"
    );
}

#[test]
fn flows_end_with_their_guest_and_outlive_the_interface() {
    let mut world = World::connected6(2, 1500);
    world.guest_sends(0, &udp_out(0, 5000, PEER, b"x"));
    world.guest_sends(1, &udp_out(1, 5000, PEER, b"x"));
    let sent = world.outside();
    let ports: Vec<u16> = sent.iter().map(|it| it.ends6().0.port()).collect();
    world.unplug();
    world.guest_sends(1, &udp_out(1, 5000, PEER, b"into the void"));
    let (kind, code, ..) = world.guest6(1)[0].icmp6();
    assert_eq!((kind, code), (icmpv6::UNREACHABLE, 0));
    world.plug(capabilities());
    world.pass(1);
    // The address may be another's now, until it has been tried again.
    world.outside_sends(&udp_in(PEER, ports[1], b"too early"));
    assert!(world.guest6(1).is_empty());
    world.pass(3);
    world.outside();
    world.outside_sends(&udp_in(PEER, ports[1], b"still there"));
    assert_eq!(world.guest6(1).len(), 1);

    world.guest(0);
    let sessions = world.status().sessions;
    let (_, id) = world.guests.remove(0);
    world.worker.detach(id, world.now);
    world.turn();
    // That of this test and that of the first packet.
    assert_eq!(world.status().sessions, sessions - 2);
}
