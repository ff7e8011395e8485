//! IPv6: by ports where guests share an address, by prefix where they do not (RFC 6296), and packets
//! whose payload lies elsewhere.

use std::net::IpAddr;

use net_datapath::{VirtioNetHdr, ZeroCopyPacket};
use net_nat::nptv6::Nptv6;
use net_nat::{Direction, DropReason, IpPacket, NatConfig, NatEngine, Side, Verdict};

use crate::lab::{
    ACK, BOTH, ECHO, ECHO_REPLY, Lab, PSH, V4, V6, at, echo, fragments, icmp, secs, see, sum, tcp,
    udp,
};
use crate::tcp_lab::{Flow, mine};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn nat66_tcp_udp_and_echo_both_ways() {
    let mut lab = Lab::of(V6);
    let flow = Flow::established(&mut lab, V6);
    assert!(flow.out(&mut lab, (PSH | ACK, 1, 1, 1200)).is_sent());
    assert!(flow.inn(&mut lab, (ACK, 1, 1201, 1200)).is_sent());
    let (me, them) = (at(V6.inside(2), 5000), at(V6.remote(1), 53));
    let seen = lab.map_udp(me, them);
    assert_eq!(lab.inn(udp(them, seen, b"x")).packet, udp(them, me, b"x"));
    let id = lab.out(echo(me.ip(), them.ip(), ECHO, 7, 1)).sent().ident;
    let reply = lab.inn(echo(them.ip(), seen.ip(), ECHO_REPLY, id, 1));
    assert_eq!(reply.packet, echo(them.ip(), me.ip(), ECHO_REPLY, 7, 1));
}

#[test]
fn nat66_packet_too_big_reaches_the_sender_with_its_mtu() {
    let mut lab = Lab::of(V6);
    let flow = Flow::established(&mut lab, V6);
    let data = vec![9; 1300];
    let left = tcp(flow.seen, flow.them, &mine((ACK, 1, 1, 0), &data));
    let sent = tcp(flow.me, flow.them, &mine((ACK, 1, 1, 0), &data));
    let router = V6.remote(99);
    let too_big = |dst, quoted: &[u8]| icmp(router, dst, (2, 0), [0, 0, 5, 0], &quoted[..1232]);
    // The quote ends before the segment does: its checksum cannot be verified, but is patched.
    let done = lab.inn(too_big(flow.seen.ip(), &left));
    assert_eq!(done.verdict, Verdict::Translated(Side::Inside));
    assert_eq!(done.packet, too_big(flow.me.ip(), &sent));
}

#[test]
fn nat66_makes_packet_too_big_itself() {
    let mut lab = Lab::with(V6, |config| config.mtu = [0, 1280]);
    let (me, them) = (at(V6.inside(2), 5000), at(V6.remote(1), 53));
    let packet = udp(me, them, &[0; 1300]);
    assert_eq!(lab.out(&packet).verdict, Verdict::Reply);
    let answer = lab.output();
    assert_eq!((answer.side, answer.packet.len()), (Side::Inside, 1280));
    let seen = see(&answer.packet);
    assert_eq!((seen.dst, seen.kind, seen.code), (me.ip(), 2, 0));
    assert_eq!(seen.l4()[4..8], 1280u32.to_be_bytes());
    assert_eq!(seen.data(), &packet[..1232]);
}

/// The example of RFC 6296, section 3.6, with an outside peer.
const INSIDE: &str = "fd01:203:405:1::1234";
const OUTSIDE: &str = "2001:db8:1:d550::1234";
const PEER: &str = "2001:db8:ffff::9";

fn by_prefix() -> NatConfig {
    let mut config = NatConfig::empty([7; 16]);
    let pair = |inside: &str, outside: &str| {
        Nptv6::new(
            (inside.parse().unwrap(), 48),
            (outside.parse().unwrap(), 48),
        )
        .unwrap()
    };
    config.nptv6 = vec![
        pair("fd01:203:405::", "2001:db8:1::"),
        pair("fd01:203:406::", "2001:db8:2::"),
    ];
    config
}

#[test]
fn rfc6296_prefixes_are_translated_without_sessions() {
    let mut lab = Lab::new(by_prefix());
    let (me, we, them) = (ip(INSIDE), ip(OUTSIDE), ip(PEER));
    for (inside, outside) in [
        (
            udp(at(me, 1), at(them, 2), b"x"),
            udp(at(we, 1), at(them, 2), b"x"),
        ),
        (echo(me, them, ECHO, 7, 1), echo(we, them, ECHO, 7, 1)),
        (
            tcp(at(me, 1), at(them, 2), &mine((ACK, 5, 5, 0), b"x")),
            tcp(at(we, 1), at(them, 2), &mine((ACK, 5, 5, 0), b"x")),
        ),
    ] {
        assert_eq!(lab.out(inside).packet, outside);
    }
    let done = lab.inn(udp(at(them, 2), at(we, 1), b"x"));
    assert_eq!(done.packet, udp(at(them, 2), at(me, 1), b"x"));
    // Errors with the packet they quote.
    let too_big = |dst, quoted: &[u8]| icmp(ip("2001:db8:f::1"), dst, (2, 0), [0, 0, 5, 0], quoted);
    let done = lab.inn(too_big(we, &udp(at(we, 1), at(them, 2), b"x")));
    assert_eq!(done.packet, too_big(me, &udp(at(me, 1), at(them, 2), b"x")));
    let counters = *lab.engine().counters();
    assert_eq!((counters.outbound, counters.inbound), (3, 2));
    assert_eq!(lab.engine().usage().sessions, 0);
}

#[test]
fn rfc6296_what_is_of_no_prefix_is_left_alone_or_refused() {
    let mut lab = Lab::new(by_prefix());
    let from = |src: &str, dst: &str| udp(at(ip(src), 1), at(ip(dst), 2), b"x");
    // Guest to guest, also of the other prefix, and what only passes by.
    lab.out(from(INSIDE, "fd01:203:405:2::1")).passed();
    lab.out(from(INSIDE, "fd01:203:406:2::1")).passed();
    lab.inn(from(PEER, "2001:db8:9::1")).passed();
    assert_eq!(lab.out(from(PEER, PEER)).dropped(), DropReason::Spoofed);
    assert_eq!(
        lab.inn(from(INSIDE, OUTSIDE)).dropped(),
        DropReason::Spoofed
    );
    assert_eq!(lab.inn(from(PEER, INSIDE)).dropped(), DropReason::NoMapping);
    // Subnet 0xffff has no translation (RFC 6296, section 3.4).
    let done = lab.out(from("fd01:203:405:ffff::1", PEER));
    assert_eq!(done.dropped(), DropReason::Unsupported);
    assert_eq!(lab.engine().counters().passed, 3);
    // To an outside address of the own prefix: both ends change, and back it goes.
    let done = lab.out(from("fd01:203:405:9::1", OUTSIDE));
    assert_eq!(see(&done.packet).dst, ip(INSIDE));
    let _ = done.sent_to(Side::Inside);
}

#[test]
fn rfc6296_goes_before_nat66_which_has_the_rest() {
    let mut config = by_prefix();
    config.ipv6 = V6.config().ipv6;
    let mut lab = Lab::new(config);
    let sent = lab
        .out(udp(at(ip(INSIDE), 1), at(ip(PEER), 2), b"x"))
        .sent();
    assert_eq!(sent.src(), at(ip(OUTSIDE), 1));
    let sent = lab
        .out(udp(at(V6.inside(2), 1), at(ip(PEER), 2), b"x"))
        .sent();
    assert_eq!(sent.src, V6.outside(1));
    assert_eq!(lab.engine().usage().sessions, 1);
}

/// An Ethernet frame around a packet.
fn framed(packet: &[u8]) -> Vec<u8> {
    let kind: [u8; 2] = if packet[0] >> 4 == 4 {
        [8, 0]
    } else {
        [0x86, 0xdd]
    };
    [&[2; 12][..], &kind, packet].concat()
}

/// The packet goes through `engine` in pieces, of which it sees the head only, and comes out as it
/// does of `whole`, which sees all of it.
#[track_caller]
fn same_in_pieces(engine: &mut NatEngine, whole: &mut NatEngine, packet: &[u8], way: Direction) {
    let mut expected = packet.to_vec();
    let verdict = whole.translate(&mut expected, way, secs(1));
    let frame = framed(packet);
    let mut pieces = [ZeroCopyPacket::from_slice(&frame, VirtioNetHdr::PLAIN).unwrap()];
    if packet.len() > 200 {
        assert!(IpPacket::head(&pieces[0]).len() < packet.len());
    }
    let mut verdicts = [Verdict::Pass];
    engine.translate_batch(&mut pieces, way, secs(1), &mut verdicts);
    assert_eq!(verdicts[0], verdict);
    let mut out = Vec::new();
    pieces[0].copy_to(&mut out);
    assert_eq!(out, expected);
    if let Verdict::Translated(_) = verdict {
        sum::check(&out).unwrap();
    }
    loop {
        let (a, b) = (engine.next_output(), whole.next_output());
        assert_eq!(a, b);
        if a.is_none() {
            break;
        }
    }
}

#[test]
fn a_packet_in_pieces_is_translated_as_one_in_one_piece() {
    for family in BOTH {
        let engine = || NatEngine::new(family.config()).unwrap();
        let (mut a, mut b) = (engine(), engine());
        let (me, them) = (at(family.inside(2), 5000), at(family.remote(1), 53));
        let data = [0x5a; 1200];
        let mut first = udp(me, them, &data);
        let _ = b.translate(&mut first, Direction::Outbound, secs(1));
        let seen = see(&first).src();
        same_in_pieces(
            &mut a,
            &mut engine(),
            &udp(me, them, &data),
            Direction::Outbound,
        );
        let mut send = |packet: &[u8], way| same_in_pieces(&mut a, &mut b, packet, way);
        send(&udp(them, seen, &data), Direction::Inbound);
        // An error that quotes more than the head holds, both ways.
        let kind = if family == V4 { (3, 3) } else { (1, 4) };
        let error = |src, dst, quoted: &[u8]| icmp(src, dst, kind, [0; 4], &quoted[..1000]);
        let quoted = udp(seen, them, &data);
        send(
            &error(family.remote(9), seen.ip(), &quoted),
            Direction::Inbound,
        );
        let quoted = udp(them, me, &data);
        send(&error(me.ip(), them.ip(), &quoted), Direction::Outbound);
        // Fragments, in order and with the last one first.
        for (id, reversed) in [(5, false), (6, true)] {
            let mut pieces = fragments(&udp(them, seen, &data), 400, id);
            if reversed {
                pieces.reverse();
            }
            for piece in pieces {
                send(&piece, Direction::Inbound);
            }
        }
        a.validate().unwrap();
    }
}

#[test]
fn rfc6296_a_packet_in_pieces_is_translated_as_one_in_one_piece() {
    let engine = || NatEngine::new(by_prefix()).unwrap();
    let (mut a, mut b) = (engine(), engine());
    let mut send = |packet: &[u8], way| same_in_pieces(&mut a, &mut b, packet, way);
    let (me, we, them) = (ip(INSIDE), ip(OUTSIDE), ip(PEER));
    let data = [0x5a; 1200];
    send(&udp(at(me, 1), at(them, 2), &data), Direction::Outbound);
    send(&udp(at(them, 2), at(we, 1), &data), Direction::Inbound);
    for piece in fragments(&udp(at(me, 1), at(them, 2), &data), 400, 5) {
        send(&piece, Direction::Outbound);
    }
    let too_big = |quoted: &[u8]| icmp(ip("2001:db8:f::1"), we, (2, 0), [0, 0, 5, 0], quoted);
    let quoted = udp(at(we, 1), at(them, 2), &data);
    send(&too_big(&quoted[..1000]), Direction::Inbound);
    // Behind 64 bytes of destination options the quoted addresses are not in the head.
    let plain = too_big(&quoted[..1000]);
    let mut long = plain[..40].to_vec();
    long[6] = 60;
    long[4..6].copy_from_slice(&(plain.len() as u16 - 40 + 64).to_be_bytes());
    long.extend([58, 7, 1, 60]);
    long.extend([0; 60]);
    long.extend(&plain[40..]);
    sum::check(&long).unwrap();
    let mut expected = long.clone();
    let verdict = engine().translate(&mut expected, Direction::Inbound, secs(1));
    assert_eq!(verdict, Verdict::Translated(Side::Inside));
    assert_eq!(see(&expected).quoted().src, me);
    // What lies behind the head belongs to the guest that sent it, and cannot be rewritten there.
    let frame = framed(&long);
    let mut pieces = ZeroCopyPacket::from_slice(&frame, VirtioNetHdr::PLAIN).unwrap();
    let verdict = engine().translate(&mut pieces, Direction::Inbound, secs(1));
    assert!(matches!(verdict, Verdict::Drop(_)), "{verdict:?}");
    let mut out = Vec::new();
    pieces.copy_to(&mut out);
    assert_eq!(out, long, "nothing is half translated");
}
