//! Packets byte for byte against packets composed with the translated addresses.

use std::vec;
use std::vec::Vec;

use super::*;
use crate::icmp::testing::{Carry, error_v6, packet_v6};
use crate::{Direction, Endpoint};

const PEER: &str = "2001:db8:ffff::9";

fn udp(src: &str, dst: &str) -> Vec<u8> {
    let end = |text| Endpoint::new(ip(text), 53);
    packet_v6(Carry::Udp, end(src), end(dst), &[], b"data")
}

#[test]
fn only_the_own_side_of_a_packet_changes() {
    let mut packet = udp("fd01:203:405:1::1234", PEER);
    let outcome = example().translate(&mut packet, Direction::Outbound);
    assert_eq!(outcome, Ok(Outcome::Translated));
    assert_eq!(packet, udp("2001:db8:1:d550::1234", PEER));

    let mut packet = udp(PEER, "2001:db8:1:d550::1234");
    let outcome = example().translate(&mut packet, Direction::Inbound);
    assert_eq!(outcome, Ok(Outcome::Translated));
    assert_eq!(packet, udp(PEER, "fd01:203:405:1::1234"));
}

#[test]
fn packets_of_others_are_not_touched() {
    for (src, dst, direction) in [
        (PEER, "2001:db8:1:d550::1", Direction::Outbound),
        (
            "fd01:203:405:1::1",
            "fd01:203:405:2::1",
            Direction::Outbound,
        ),
        (PEER, "fd01:203:405:1::1", Direction::Inbound),
        (PEER, PEER, Direction::Inbound),
    ] {
        let mut packet = udp(src, dst);
        assert_eq!(
            example().translate(&mut packet, direction),
            Ok(Outcome::NotMine)
        );
        assert_eq!(packet, udp(src, dst));
    }
}

#[test]
fn refused_packets_are_not_touched() {
    let inside = "fd01:203:405:1::1";
    for (src, dst, direction, why) in [
        (
            "fd01:203:405:ffff::1",
            PEER,
            Direction::Outbound,
            Untranslatable::Subnet,
        ),
        (
            inside,
            "2001:db8:1:ffff::1",
            Direction::Outbound,
            Untranslatable::Subnet,
        ),
        (
            PEER,
            "2001:db8:1:ffff::1",
            Direction::Inbound,
            Untranslatable::Subnet,
        ),
        (
            inside,
            "2001:db8:1:d550::1",
            Direction::Inbound,
            Untranslatable::Spoofed,
        ),
    ] {
        let mut packet = udp(src, dst);
        assert_eq!(example().translate(&mut packet, direction), Err(why));
        assert_eq!(packet, udp(src, dst));
    }
}

#[test]
fn rfc6296_hairpin_translates_both_ends() {
    let mut packet = udp("fd01:203:405:1::1", "2001:db8:1:d551::2");
    let outcome = example().translate(&mut packet, Direction::Outbound);
    assert_eq!(outcome, Ok(Outcome::Hairpin));
    assert_eq!(packet, udp("2001:db8:1:d550::1", "fd01:203:405:2::2"));
}

#[test]
fn icmpv6_errors_have_their_quote_translated() {
    let error = |src: &str, dst: &str, quote: &[u8]| {
        let hops = [(0, vec![0; 8])];
        error_v6([ip(src), ip(dst)], [1, 4], 0, &hops, quote)
    };
    let (inside, outside) = ("fd01:203:405:1::1", "2001:db8:1:d550::1");
    // From outside, about what an inside host sent.
    let mut packet = error(PEER, outside, &udp(outside, PEER));
    let outcome = example().translate(&mut packet, Direction::Inbound);
    assert_eq!(outcome, Ok(Outcome::Translated));
    assert_eq!(packet, error(PEER, inside, &udp(inside, PEER)));
    // From inside, about what came from outside.
    let mut packet = error(inside, PEER, &udp(PEER, inside));
    let outcome = example().translate(&mut packet, Direction::Outbound);
    assert_eq!(outcome, Ok(Outcome::Translated));
    assert_eq!(packet, error(outside, PEER, &udp(PEER, outside)));
    // Between two inside hosts that know each other by their outside addresses.
    let (other_inside, other_outside) = ("fd01:203:405:2::2", "2001:db8:1:d551::2");
    let mut packet = error(other_inside, outside, &udp(outside, other_inside));
    let outcome = example().translate(&mut packet, Direction::Outbound);
    assert_eq!(outcome, Ok(Outcome::Hairpin));
    assert_eq!(
        packet,
        error(other_outside, inside, &udp(inside, other_outside))
    );
}

#[test]
fn icmpv6_errors_without_a_quoted_header_are_refused() {
    let (inside, outside) = ("fd01:203:405:1::1", "2001:db8:1:d550::1");
    let quote = udp(PEER, inside);
    for len in 0..quote.len() {
        let whole = error_v6([ip(inside), ip(PEER)], [1, 4], 0, &[], &quote[..len]);
        let mut packet = whole.clone();
        let outcome = example().translate(&mut packet, Direction::Outbound);
        if len < 40 {
            assert_eq!(outcome, Err(Untranslatable::Malformed), "{len}");
            assert_eq!(packet, whole);
        } else {
            let quote = udp(PEER, outside);
            let expected = error_v6([ip(outside), ip(PEER)], [1, 4], 0, &[], &quote[..len]);
            assert_eq!((outcome, packet), (Ok(Outcome::Translated), expected));
        }
    }
}

#[test]
fn a_packet_cut_at_any_byte_is_refused_and_unchanged() {
    let (inside, outside) = ("fd01:203:405:1::1", "2001:db8:1:d550::1");
    let whole = error_v6([ip(PEER), ip(outside)], [1, 4], 0, &[], &udp(outside, PEER));
    for len in 0..whole.len() {
        let mut packet = whole[..len].to_vec();
        let outcome = example().translate(&mut packet, Direction::Inbound);
        assert_eq!(outcome, Err(Untranslatable::Malformed), "{len}");
        assert_eq!(packet, whole[..len]);
    }
    // Padding changes nothing.
    let mut packet = [&whole[..], &[0x99; 7]].concat();
    assert!(example().translate(&mut packet, Direction::Inbound).is_ok());
    let expected = error_v6([ip(PEER), ip(inside)], [1, 4], 0, &[], &udp(inside, PEER));
    assert_eq!(packet, [&expected[..], &[0x99; 7]].concat());
}

#[test]
fn icmpv6_errors_about_what_was_not_translated_are_refused() {
    let (outside, unknown) = ("2001:db8:1:d550::1", "2001:db8:1:ffff::1");
    let whole = error_v6([ip(PEER), ip(outside)], [1, 4], 0, &[], &udp(unknown, PEER));
    let mut packet = whole.clone();
    let outcome = example().translate(&mut packet, Direction::Inbound);
    assert_eq!(outcome, Err(Untranslatable::Subnet));
    assert_eq!(packet, whole);

    let mut quote = udp(outside, PEER);
    quote[0] = 0x45;
    let mut packet = error_v6([ip(PEER), ip(outside)], [1, 4], 0, &[], &quote);
    let outcome = example().translate(&mut packet, Direction::Inbound);
    assert_eq!(outcome, Err(Untranslatable::Malformed));
}

#[test]
fn only_icmpv6_errors_have_a_quote() {
    let (inside, outside) = ("fd01:203:405:1::1", "2001:db8:1:d550::1");
    for kind in 0..=255 {
        let error = |dst: &str, quoted: &str| {
            error_v6([ip(PEER), ip(dst)], [kind, 0], 0, &[], &udp(quoted, PEER))
        };
        let quoted = if (1..=4).contains(&kind) {
            inside
        } else {
            outside
        };
        let mut packet = error(outside, outside);
        let outcome = example().translate(&mut packet, Direction::Inbound);
        assert_eq!(outcome, Ok(Outcome::Translated));
        assert_eq!(packet, error(inside, quoted), "{kind}");
    }
}

#[test]
fn in_a_fragment_behind_the_first_nothing_is_a_quote() {
    let (inside, outside) = ("fd01:203:405:1::1", "2001:db8:1:d550::1");
    for (bits, quoted) in [(1, inside), (8, outside), (9, outside)] {
        let fragment = [(44, vec![0, 0, 0, bits, 0, 0, 0, 1])];
        let error = |dst: &str, quoted: &str| {
            error_v6(
                [ip(PEER), ip(dst)],
                [1, 4],
                0,
                &fragment,
                &udp(quoted, PEER),
            )
        };
        let mut packet = error(outside, outside);
        let outcome = example().translate(&mut packet, Direction::Inbound);
        assert_eq!(outcome, Ok(Outcome::Translated));
        assert_eq!(packet, error(inside, quoted), "{bits}");
    }
}
