//! Checksums that are patched, not computed (RFC 1071, 1141, 1624).

use net_datapath::{IoSegment, VirtioNetHdr, ZeroCopyPacket};
use net_nat::{Direction, NatConfig, NatEngine, Side, Verdict};
use net_wire::checksum::Delta;

use crate::lab::build::{Ip, udp_l4};
use crate::lab::{
    ACK, BOTH, Family, Lab, SYN, Tcp, V4, V6, at, fragments, icmp_error, secs, see, sum, tcp, udp,
};

#[test]
fn row48_rfc1624_section4_example() {
    // HC = DD2F, m = 5555, m' = 3285: RFC 1141's formula gives FFFF, the right one 0000.
    assert_eq!(Delta::new16(0x5555, 0x3285).apply(0xdd2f), 0x0000);
}

#[test]
fn row48_every_change_of_a_word_equals_a_full_recompute() {
    // All old words with many new ones, over headers with different rests. Neither rest is zero, as
    // no header is (RFC 1624, section 3).
    let mut words = vec![0, 1, 0x7fff, 0x8000, 0xfffe, 0xffff, 0x5555, 0x3285];
    words.extend((0..24u32).map(|n| (n * 40_503 + 977) as u16));
    for rest in [
        [0x4500u16, 0x0001],
        [0xffff, 0xffff],
        [0x0000, 0x0001],
        [0xcd7a, 0x0000],
    ] {
        for old in 0..=u16::MAX {
            let full = |word: u16| {
                let mut bytes = Vec::with_capacity(6);
                for word in [rest[0], rest[1], word] {
                    bytes.extend(word.to_be_bytes());
                }
                !sum::fold(sum::add(0, &bytes))
            };
            let before = full(old);
            for &new in &words {
                assert_eq!(
                    Delta::new16(old, new).apply(before),
                    full(new),
                    "{old:04x} to {new:04x} in {rest:04x?}"
                );
            }
        }
    }
}

#[test]
fn row48_every_sum_survives_the_way_out_and_back() {
    // 65,536 datagrams, one for each word of the payload: among them every checksum there is.
    for family in BOTH {
        let mut lab = Lab::of(family);
        let (me, remote) = (at(family.inside(2), 5000), at(family.remote(1), 53));
        let mut sums = vec![false; 1 << 16];
        for word in 0..=u16::MAX {
            let packet = udp(me, remote, &word.to_be_bytes());
            let seen = lab.out(&packet).sent();
            sums[usize::from(seen.u16_at(seen.l4 + 6))] = true;
            let back = udp(remote, seen.src(), &word.to_be_bytes());
            assert_eq!(lab.inn(&back).sent().dst(), me);
        }
        // 0 says that there is none, so it is not among them.
        assert!(!sums[0] && sums[1..].iter().filter(|s| **s).count() >= 65_534);
    }
}

#[test]
fn row49_a_udp_checksum_of_zero_stays_and_none_becomes_zero() {
    let mut lab = Lab::of(V4);
    let (me, remote) = (at(V4.inside(2), 5000), at(V4.remote(1), 53));
    let without =
        Ip::new(me.ip(), remote.ip(), 17).carry(&udp_l4(me.port(), remote.port(), b"none"));
    let seen = lab.out(&without).sent();
    assert_eq!(
        seen.u16_at(seen.l4 + 6),
        0,
        "a datagram without a checksum gets none"
    );
    let outside = seen.src();
    let without = Ip::new(remote.ip(), outside.ip(), 17).carry(&udp_l4(
        remote.port(),
        outside.port(),
        b"none",
    ));
    let seen = lab.inn(&without).sent();
    assert_eq!(seen.u16_at(seen.l4 + 6), 0);
    // The fault of arcbox-conntrack: a sum that comes out as 0000 is sent as FFFF.
    for family in BOTH {
        let mut lab = Lab::of(family);
        let (me, remote) = (at(family.inside(2), 5000), at(family.remote(1), 53));
        let outside = lab.map_udp(me, remote);
        // The word that makes the sum of the translated datagram all ones.
        let translated = udp(outside, remote, &[0, 0]);
        let seen = see(&translated);
        let word = seen.u16_at(seen.l4 + 6);
        let seen = lab.out(udp(me, remote, &word.to_be_bytes())).sent();
        assert_eq!(seen.u16_at(seen.l4 + 6), 0xffff);
        let seen = lab.inn(udp(remote, seen.src(), &word.to_be_bytes())).sent();
        assert_eq!(seen.dst(), me);
    }
}

#[test]
fn a_wrong_checksum_stays_wrong() {
    // Patching repairs nothing: the receiver still finds the error.
    for family in BOTH {
        let mut lab = Lab::of(family);
        let (me, remote) = (at(family.inside(2), 5000), at(family.remote(1), 53));
        lab.map_udp(me, remote);
        let mut packet = udp(me, remote, b"corrupt");
        *packet.last_mut().unwrap() ^= 0x10;
        let seen = lab.out(&packet).sent();
        assert!(sum::check(&seen.packet).is_err());
    }
}

/// An Ethernet frame around a packet.
fn frame(packet: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    frame.extend(if packet[0] >> 4 == 4 {
        [8, 0]
    } else {
        [0x86, 0xdd]
    });
    frame.extend(packet);
    frame
}

/// The packet within a frame that may lie in pieces.
fn unframe(packet: &ZeroCopyPacket<'_>) -> Vec<u8> {
    let mut bytes = vec![0; packet.len()];
    packet.copy_range(0, &mut bytes);
    bytes.split_off(14)
}

/// A packet whose transport checksum an offload is to finish.
fn partial(packet: &[u8]) -> (Vec<u8>, VirtioNetHdr) {
    let seen = see(packet);
    let at = sum::place(seen.protocol).unwrap();
    let pseudo = sum::pseudo(seen.src, seen.dst, seen.protocol, seen.l4().len());
    let mut packet = packet.to_vec();
    packet[seen.l4 + at..seen.l4 + at + 2].copy_from_slice(&sum::fold(pseudo).to_be_bytes());
    let header = VirtioNetHdr {
        flags: VirtioNetHdr::NEEDS_CSUM,
        csum_start: (14 + seen.l4) as u16,
        csum_offset: at as u16,
        ..VirtioNetHdr::PLAIN
    };
    (packet, header)
}

/// What the offload does.
fn finish(packet: &mut [u8], header: &VirtioNetHdr) {
    let start = usize::from(header.csum_start) - 14;
    let at = start + usize::from(header.csum_offset);
    let mut sum = !sum::fold(sum::add(0, &packet[start..]));
    if sum == 0 && packet[at - start..].len() > 6 && header.csum_offset == 6 {
        sum = 0xffff;
    }
    packet[at..at + 2].copy_from_slice(&sum.to_be_bytes());
}

fn engine(family: Family, change: impl FnOnce(&mut NatConfig)) -> NatEngine {
    let mut config = family.config();
    change(&mut config);
    NatEngine::new(config).unwrap()
}

#[test]
fn row49_a_partial_checksum_adjusts_the_pseudo_header_only() {
    for family in BOTH {
        for way in [Direction::Outbound, Direction::Inbound] {
            let mut engine = engine(family, |_| {});
            let (me, remote) = (at(family.inside(2), 5000), at(family.remote(1), 53));
            let syn = Tcp {
                flags: SYN,
                seq: 1,
                ..Tcp::default()
            };
            let mut opened = Vec::new();
            for mut packet in [udp(me, remote, b"open"), tcp(me, remote, &syn)] {
                let verdict = engine.translate(&mut packet, Direction::Outbound, secs(1));
                assert_eq!(verdict, Verdict::Translated(Side::Outside));
                opened.push(see(&packet).src());
            }
            for len in [0, 1, 2, 77, 1000] {
                let data = vec![0xa5; len];
                let segment = Tcp {
                    flags: SYN | if way == Direction::Inbound { ACK } else { 0 },
                    seq: 1,
                    ack: 2,
                    data: &data,
                    ..Tcp::default()
                };
                let packets = match way {
                    Direction::Outbound => [udp(me, remote, &data), tcp(me, remote, &segment)],
                    Direction::Inbound => [
                        udp(remote, opened[0], &data),
                        tcp(remote, opened[1], &segment),
                    ],
                };
                for packet in packets {
                    let (packet, header) = partial(&packet);
                    let bytes = frame(&packet);
                    let mut zero_copy = ZeroCopyPacket::from_slice(&bytes, header).unwrap();
                    let verdict = engine.translate(&mut zero_copy, way, secs(1));
                    assert!(matches!(verdict, Verdict::Translated(_)), "{verdict:?}");
                    assert_eq!(zero_copy.vnet(), &header);
                    let mut done = unframe(&zero_copy);
                    finish(&mut done, &header);
                    sum::check(&done).unwrap();
                    let seen = see(&done);
                    let ours = if way == Direction::Outbound {
                        seen.src
                    } else {
                        seen.dst
                    };
                    assert!(ours == family.outside(1) || ours == me.ip());
                }
            }
        }
    }
}

#[test]
fn a_super_frame_is_not_judged_by_the_mtu() {
    for family in BOTH {
        let mut engine = engine(family, |c| c.mtu = [1500, 1500]);
        let (me, remote) = (at(family.inside(2), 5000), at(family.remote(1), 80));
        let data = vec![1; 20_000];
        let syn = Tcp {
            flags: SYN,
            data: &data,
            ..Tcp::default()
        };
        let (packet, mut header) = partial(&tcp(me, remote, &syn));
        header.gso_type = if family == V4 {
            VirtioNetHdr::GSO_TCPV4
        } else {
            VirtioNetHdr::GSO_TCPV6
        };
        header.gso_size = 1400;
        let bytes = frame(&packet);
        for _ in 0..2 {
            let mut zero_copy = ZeroCopyPacket::from_slice(&bytes, header).unwrap();
            let verdict = engine.translate(&mut zero_copy, Direction::Outbound, secs(1));
            assert_eq!(verdict, Verdict::Translated(Side::Outside));
            let mut done = unframe(&zero_copy);
            finish(&mut done, &header);
            sum::check(&done).unwrap();
        }
        // As a plain frame of this length it would not pass.
        let mut zero_copy = ZeroCopyPacket::from_slice(&bytes, VirtioNetHdr::PLAIN).unwrap();
        let verdict = engine.translate(&mut zero_copy, Direction::Outbound, secs(1));
        let expected = if family == V4 {
            Verdict::Fragment(Side::Outside)
        } else {
            Verdict::Reply
        };
        assert_eq!(verdict, expected);
    }
}

/// Sends a packet as bytes through one engine and in pieces through another: they must agree.
#[track_caller]
fn same_in_pieces(
    engines: &mut [NatEngine; 2],
    packet: &[u8],
    direction: Direction,
    cut: usize,
) -> (Verdict, Vec<u8>) {
    let [flat, pieces] = engines;
    let mut bytes = packet.to_vec();
    let verdict = flat.translate(&mut bytes, direction, secs(1));
    let frame = frame(packet);
    let segments: Vec<_> = frame
        .chunks(cut.max(frame.len() / 17 + 1))
        .map(IoSegment::from)
        .collect();
    let mut zero_copy = ZeroCopyPacket::from_segments(&segments, VirtioNetHdr::PLAIN).unwrap();
    let other = pieces.translate(&mut zero_copy, direction, secs(1));
    assert_eq!(other, verdict, "{} bytes in pieces of {cut}", packet.len());
    if verdict != Verdict::Reply && !matches!(verdict, Verdict::Drop(_)) {
        assert_eq!(unframe(&zero_copy), bytes);
    }
    loop {
        let outputs = [flat.next_output(), pieces.next_output()];
        assert_eq!(outputs[0], outputs[1]);
        if outputs[0].is_none() {
            break;
        }
    }
    (verdict, bytes)
}

#[test]
fn packets_in_pieces_are_treated_like_others() {
    for family in BOTH {
        for cut in [1, 7, 64, 129, 1000, 100_000] {
            let make = || engine(family, |c| c.mtu = [1500, 1500]);
            let mut engines = [make(), make()];
            let (me, remote) = (at(family.inside(2), 5000), at(family.remote(1), 53));
            let out = Direction::Outbound;
            let (verdict, packet) =
                same_in_pieces(&mut engines, &udp(me, remote, &[3; 900]), out, cut);
            assert_eq!(verdict, Verdict::Translated(Side::Outside));
            let sent = see(&packet);
            let answer = udp(remote, sent.src(), &[4; 1300]);
            let (verdict, _) = same_in_pieces(&mut engines, &answer, Direction::Inbound, cut);
            assert_eq!(verdict, Verdict::Translated(Side::Inside));
            // An error that quotes more than the head holds.
            let kind = if family == V4 { (3, 3) } else { (1, 4) };
            let mut quoted = sent.packet.clone();
            quoted.truncate(if family == V4 { 528 } else { 1200 });
            let error = match family {
                V4 => crate::lab::icmp(remote.ip(), sent.src, kind, [0; 4], &quoted),
                V6 => icmp_error(remote.ip(), sent.src, kind, [0; 4], &quoted),
            };
            let (verdict, packet) = same_in_pieces(&mut engines, &error, Direction::Inbound, cut);
            assert_eq!(verdict, Verdict::Translated(Side::Inside));
            sum::check(&packet).unwrap();
            assert_eq!(see(&packet).quoted().src(), me);
            // Fragments, in any order, and one that is too long.
            let pieces = fragments(&udp(me, remote, &[5; 3000]), 1400, 7);
            for n in [1, 0, 2] {
                let (verdict, _) = same_in_pieces(&mut engines, &pieces[n], out, cut);
                let held = n == 1;
                assert_eq!(verdict == Verdict::Hold, held, "piece {n}");
            }
            let long = udp(me, remote, &[6; 3000]);
            let (verdict, _) = same_in_pieces(&mut engines, &long, out, cut);
            assert_eq!(verdict == Verdict::Reply, family == V6);
            for engine in engines {
                engine.validate().unwrap();
            }
        }
    }
}
