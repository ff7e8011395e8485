//! Packets in pieces (RFC 4787, REQ-14; RFC 6864).

use std::collections::HashSet;
use std::net::SocketAddr;

use net_nat::{DropReason, Side, Verdict};

use crate::lab::build::{Ip, Tcp, udp_l4};
use crate::lab::{BOTH, Family, Lab, SYN, V4, V6, at, fragments, secs, see, sum, tcp, udp};

/// Bytes that tell their place.
pub(crate) fn data(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n % 251) as u8).collect()
}

/// Puts a datagram together; its checksum must hold then.
#[track_caller]
pub(crate) fn reassemble(pieces: &[Vec<u8>]) -> Vec<u8> {
    let mut seen: Vec<_> = pieces.iter().map(|p| see(p)).collect();
    seen.sort_by_key(|s| s.offset);
    let first = &seen[0];
    assert!(
        seen.iter()
            .all(|s| (s.src, s.dst, s.id) == (first.src, first.dst, first.id))
    );
    let mut l4 = Vec::new();
    for piece in &seen {
        assert_eq!(piece.offset, l4.len(), "a hole or an overlap");
        l4.extend(piece.l4());
    }
    assert!(!seen.last().unwrap().more);
    let whole = Ip::new(first.src, first.dst, first.protocol).carry(&l4);
    sum::check(&whole).unwrap();
    whole
}

pub(crate) fn ends(family: Family) -> (SocketAddr, SocketAddr) {
    (at(family.inside(2), 5000), at(family.remote(1), 53))
}

#[test]
fn rfc4787_req14_fragments_in_order() {
    for family in BOTH {
        let mut lab = Lab::of(family);
        let (me, remote) = ends(family);
        let pieces = fragments(&udp(me, remote, &data(5000)), 1400, 7);
        let sent: Vec<_> = pieces
            .iter()
            .map(|p| lab.out(p).sent_to(Side::Outside).packet)
            .collect();
        let whole = see(&reassemble(&sent));
        assert_eq!((whole.src, whole.dst()), (family.outside(1), remote));
        assert_eq!(whole.data(), data(5000));
        let back = fragments(&udp(remote, whole.src(), &data(3000)), 1400, 9);
        let got: Vec<_> = back
            .iter()
            .map(|p| lab.inn(p).sent_to(Side::Inside).packet)
            .collect();
        let whole = see(&reassemble(&got));
        assert_eq!((whole.dst(), whole.data()), (me, &data(3000)[..]));
        assert_eq!(
            lab.engine().usage().fragmented,
            0,
            "complete ones are forgotten"
        );
    }
}

#[test]
fn rfc4787_req14_fragments_out_of_order() {
    for family in BOTH {
        let (me, remote) = ends(family);
        // Every order of four pieces.
        for order in 0..24usize {
            let mut lab = Lab::of(family);
            let outside = lab.map_udp(me, remote);
            for inbound in [false, true] {
                let packet = if inbound {
                    udp(remote, outside, &data(5000))
                } else {
                    udp(me, remote, &data(5000))
                };
                let mut pieces = fragments(&packet, 1400, 7);
                let mut shuffled = Vec::new();
                let mut rest = order;
                for n in (1..=4).rev() {
                    shuffled.push(pieces.remove(rest % n));
                    rest /= n;
                }
                let (mut out, mut held) = (Vec::new(), 0);
                for piece in shuffled {
                    let done = if inbound {
                        lab.inn(&piece)
                    } else {
                        lab.out(&piece)
                    };
                    match done.verdict {
                        Verdict::Hold => held += 1,
                        _ => out.push(done.sent().packet),
                    }
                    let late = lab.outputs();
                    held -= late.len();
                    out.extend(late.into_iter().map(|o| o.packet));
                }
                assert_eq!((out.len(), held), (4, 0));
                assert_eq!(see(&out[0]).offset, 0, "the first goes first");
                let whole = see(&reassemble(&out));
                let expected = if inbound {
                    (remote, me)
                } else {
                    (outside, remote)
                };
                assert_eq!((whole.src(), whole.dst()), expected);
            }
        }
    }
}

#[test]
fn rfc4787_req14_other_protocols_and_tcp_in_fragments() {
    for family in BOTH {
        let mut lab = Lab::of(family);
        let (me, remote) = ends(family);
        let syn = Tcp {
            flags: SYN,
            data: &data(3000),
            ..Tcp::default()
        };
        let pieces = fragments(&tcp(me, remote, &syn), 1400, 7);
        let sent: Vec<_> = pieces.iter().map(|p| lab.out(p).sent().packet).collect();
        assert_eq!(see(&reassemble(&sent)).src, family.outside(1));
        let gre = Ip::new(me.ip(), remote.ip(), 47).carry(&data(3000));
        let pieces = fragments(&gre, 1400, 8);
        let sent: Vec<_> = pieces.iter().map(|p| lab.out(p).sent().packet).collect();
        assert_eq!(see(&reassemble(&sent)).l4(), data(3000));
    }
}

#[test]
fn rfc4787_req14a_a_flood_of_fragments_is_bounded_and_costs_no_neighbour() {
    for family in BOTH {
        let mut lab = Lab::of(family);
        let (me, remote) = ends(family);
        let neighbour = at(family.inside(3), 5000);
        lab.map_udp(me, remote);
        // Pieces without beginnings, from inside and from outside, ever new datagrams.
        for n in 0..3000u32 {
            let pieces = fragments(&udp(me, remote, &data(3000)), 1400, 1000 + n);
            let _ = lab.out(&pieces[1]);
            let pieces = fragments(&udp(remote, at(family.outside(1), 9), &data(3000)), 1400, n);
            let _ = lab.inn(&pieces[1]);
        }
        let usage = lab.engine().usage();
        assert!(usage.fragmented <= 256, "{usage:?}");
        assert!(lab.drops(DropReason::Fragment) > 5000);
        assert!(lab.outputs().is_empty());
        for id in 0..100 {
            let mut pieces = fragments(&udp(neighbour, remote, &data(3000)), 1400, id);
            pieces.swap(0, 1);
            assert_eq!(
                lab.out(&pieces[0]).verdict,
                Verdict::Hold,
                "out of order is no crime"
            );
            let mut out = vec![lab.out(&pieces[1]).sent().packet];
            out.push(lab.output().packet);
            out.push(lab.out(&pieces[2]).sent().packet);
            reassemble(&out);
        }
        lab.live(secs(20));
        assert_eq!(
            lab.engine().usage().fragmented,
            0,
            "what never came is given up"
        );
    }
}

#[test]
fn a_late_fragment_finds_no_record_and_harms_nobody() {
    for family in BOTH {
        let mut lab = Lab::of(family);
        let (me, remote) = ends(family);
        let pieces = fragments(&udp(me, remote, &data(3000)), 1400, 7);
        lab.out(&pieces[0]).sent();
        lab.live(secs(16));
        assert_eq!(lab.out(&pieces[1]).verdict, Verdict::Hold);
        lab.live(secs(16));
        assert_eq!(lab.engine().usage().fragmented, 0);
        assert!(lab.outputs().is_empty());
    }
}

#[test]
fn tiny_overlapping_and_oversized_fragments_are_refused() {
    let (me, remote) = ends(V4);
    let mut lab = Lab::of(V4);
    let piece = |protocol, offset, more, len: usize| {
        let mut ip = Ip::new(me.ip(), remote.ip(), protocol);
        ip.fragment = Some((offset, more));
        let l4 = Tcp::default().l4(5000, 53);
        let mut bytes = if offset == 0 { l4 } else { Vec::new() };
        bytes.resize(len, 0);
        ip.carry(&bytes)
    };
    for (protocol, offset, more, len) in [
        (6, 0, true, 8),
        (6, 0, true, 16),
        (6, 8, false, 64),
        (6, 16, true, 64),
        (17, 65_528, false, 64),
        (17, 8, true, 0),
        (17, 8, true, 63),
    ] {
        let reason = lab.out(piece(protocol, offset, more, len)).dropped();
        assert!(
            matches!(reason, DropReason::Fragment | DropReason::Malformed),
            "{protocol} at {offset}, {len} bytes: {reason:?}"
        );
    }
    assert_eq!(lab.engine().usage().sessions, 0);
}

#[test]
fn a_fragments_payload_is_never_taken_for_ports() {
    // A fault of arcbox-conntrack: the tail looks like a UDP header of a flow that exists.
    for family in BOTH {
        let mut lab = Lab::of(family);
        let (me, remote) = ends(family);
        let outside = lab.map_udp(me, remote);
        let decoy = udp_l4(remote.port(), outside.port(), &data(100));
        let mut ip = Ip::new(remote.ip(), outside.ip(), 17);
        ip.fragment = Some((1400, true));
        ip.id = 99;
        let len = decoy.len() / 8 * 8;
        let done = lab.inn(ip.carry(&decoy[..len]));
        assert_eq!(done.verdict, Verdict::Hold);
        let decoy = udp_l4(me.port(), remote.port(), &data(100));
        let mut ip = Ip::new(me.ip(), remote.ip(), 17);
        ip.fragment = Some((1400, true));
        ip.id = 98;
        let done = lab.out(ip.carry(&decoy[..len]));
        assert_eq!(done.verdict, Verdict::Hold);
        // Translated by its first piece, the tail keeps every byte.
        let pieces = fragments(&udp(remote, outside, &data(3000)), 1400, 7);
        let _ = lab.inn(&pieces[0]).sent();
        let tail = lab.inn(&pieces[1]).sent();
        assert_eq!(tail.l4(), see(&pieces[1]).l4());
    }
}

#[test]
fn rfc6864_identifications_of_packets_that_may_be_cut_are_the_translators() {
    let mut lab = Lab::of(V4);
    let remote = at(V4.remote(1), 53);
    // Two guests with one identification for all: under one address each datagram has its own.
    let mut ids = HashSet::new();
    for n in 0..2000 {
        for host in [2, 3] {
            let mut ip = Ip::new(V4.inside(host), remote.ip(), 17);
            ip.id = 7;
            let seen = lab.out(ip.seal(udp_l4(5000 + n % 10, 53, b"x"))).sent();
            assert!(
                ids.insert(seen.id),
                "identification {} is used twice",
                seen.id
            );
        }
    }
    // An atomic datagram's means nothing and stays (section 4.1).
    let mut ip = Ip::new(V4.inside(2), remote.ip(), 17);
    (ip.id, ip.dont_fragment) = (7, true);
    assert_eq!(lab.out(ip.seal(udp_l4(5000, 53, b"x"))).sent().id, 7);
    // All pieces of a datagram have one, another than the guest's, and two guests' differ.
    let mut used = HashSet::new();
    for host in [2, 3] {
        let pieces = fragments(
            &udp(at(V4.inside(host), 5000), remote, &data(3000)),
            1400,
            7,
        );
        let sent: Vec<_> = pieces.iter().map(|p| lab.out(p).sent().packet).collect();
        reassemble(&sent);
        assert!(used.insert(see(&sent[0]).id));
    }
    // Inbound the sender's stays: it is unique where it comes from.
    let outside = lab.map_udp(at(V4.inside(2), 5000), remote);
    let mut ip = Ip::new(remote.ip(), outside.ip(), 17);
    ip.id = 4711;
    assert_eq!(
        lab.inn(ip.seal(udp_l4(53, outside.port(), b"x"))).sent().id,
        4711
    );
}

#[test]
fn an_ipv6_atomic_fragment_is_a_whole_packet() {
    let mut lab = Lab::of(V6);
    let (me, remote) = ends(V6);
    let mut ip = Ip::new(me.ip(), remote.ip(), 17);
    ip.fragment = Some((0, false));
    let packet = ip.seal(udp_l4(me.port(), remote.port(), b"atomic"));
    let seen = lab.out(&packet).sent();
    assert_eq!(seen.src(), lab.map_udp(me, remote));
    assert_eq!(lab.engine().usage().fragmented, 0);
}
