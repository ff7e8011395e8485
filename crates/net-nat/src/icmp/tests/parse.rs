//! Errors that are not sound, and lengths that strangers wrote.

use core::net::{Ipv4Addr, Ipv6Addr};
use std::vec;
use std::vec::Vec;

use super::super::error::{Reason, parse_v4, parse_v6};
use super::super::testing::{Carry, error_v4, error_v6, fix_header, packet_v4, packet_v6};
use crate::Endpoint;

const SRC: Endpoint<Ipv4Addr> = Endpoint::new(Ipv4Addr::new(192, 0, 2, 1), 1024);
const DST: Endpoint<Ipv4Addr> = Endpoint::new(Ipv4Addr::new(198, 51, 100, 9), 443);
const ROUTER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 5);
const SRC6: Endpoint<Ipv6Addr> = Endpoint::new(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), 9);
const DST6: Endpoint<Ipv6Addr> = Endpoint::new(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2), 8);

fn about_v4(quote: &[u8]) -> Vec<u8> {
    error_v4([ROUTER, SRC.addr], [3, 1], 0, &[], quote)
}

fn about_v6(quote: &[u8]) -> Vec<u8> {
    error_v6([DST6.addr, SRC6.addr], [1, 3], 0, &[], quote)
}

fn udp_v4() -> Vec<u8> {
    packet_v4(Carry::Udp, SRC, DST, &[], b"data")
}

fn udp_v6() -> Vec<u8> {
    packet_v6(Carry::Udp, SRC6, DST6, &[], b"data")
}

#[test]
fn rfc5508_req3_bad_icmp_checksum_drops() {
    let packet = about_v4(&udp_v4());
    assert!(parse_v4(&packet).is_ok());
    // Code, checksum, quoted data: the sum is over all of it.
    for at in [21, 22, packet.len() - 1] {
        let mut packet = packet.clone();
        packet[at] ^= 1;
        assert_eq!(parse_v4(&packet), Err(Reason::BadChecksum), "{at}");
    }
    let packet = about_v6(&udp_v6());
    assert!(parse_v6(&packet).is_ok());
    // And for IPv6 over the outer addresses.
    for at in [8, 24, 41, 42, packet.len() - 1] {
        let mut packet = packet.clone();
        packet[at] ^= 1;
        assert_eq!(parse_v6(&packet), Err(Reason::BadChecksum), "{at}");
    }
}

#[test]
fn rfc5508_req3a_bad_embedded_ip_checksum_drops() {
    for at in [1, 4, 8, 10, 12, 19, 22] {
        let mut quote = packet_v4(Carry::Udp, SRC, DST, &[1, 1, 1, 1], b"data");
        quote[at] ^= 1;
        let result = parse_v4(&about_v4(&quote));
        assert_eq!(result, Err(Reason::BadQuotedChecksum), "{at}");
    }
}

#[test]
fn rfc5508_req3b_embedded_ip_options_are_skipped() {
    for len in [0, 4, 20, 40] {
        let quote = packet_v4(Carry::Udp, SRC, DST, &vec![1; len], b"data");
        let quote = parse_v4(&about_v4(&quote)).unwrap();
        assert_eq!((quote.src, quote.dst), (SRC, DST), "{len}");
    }
}

#[test]
fn rfc5508_req3c_embedded_transport_checksum_is_ignored() {
    for (carry, at) in [(Carry::Udp, 26), (Carry::Tcp, 36), (Carry::Query(8), 22)] {
        let mut quote = packet_v4(carry, SRC, DST, &[], b"data");
        quote[at] ^= 0xff;
        assert!(parse_v4(&about_v4(&quote)).is_ok(), "{carry:?}");
    }
}

#[test]
fn rfc5508_req3d_the_length_attribute_ends_the_quote() {
    // 20 bytes of header and 4 of UDP, then something that is no part of the packet.
    let quote = udp_v4();
    for words in 0..=255 {
        for (kind, rest) in [
            (3, words << 16),
            (11, words << 16),
            (12, words << 16 | 9 << 24),
        ] {
            let packet = error_v4([ROUTER, SRC.addr], [kind, 0], rest, &[], &quote);
            let expected = match words {
                1..=6 => Err(Reason::Truncated),
                _ => Ok((SRC, DST)),
            };
            let ends = parse_v4(&packet).map(|quote| (quote.src, quote.dst));
            assert_eq!(ends, expected, "{words}");
        }
        for kind in 1..=4 {
            let packet = error_v6(
                [DST6.addr, SRC6.addr],
                [kind, 0],
                words << 24,
                &[],
                &udp_v6(),
            );
            let expected = match (kind, words) {
                (1 | 3, 1..=5) => Err(Reason::Truncated),
                _ => Ok((SRC6, DST6)),
            };
            let ends = parse_v6(&packet).map(|quote| (quote.src, quote.dst));
            assert_eq!(ends, expected, "{kind} {words}");
        }
    }
}

#[test]
fn rfc5508_req10_a_quoted_error_is_not_translated() {
    for kind in [3, 4, 5, 11, 12, 17, 40] {
        let quote = error_v4([SRC.addr, DST.addr], [kind, 0], 0, &[], &udp_v4());
        let result = parse_v4(&about_v4(&quote));
        assert_eq!(result, Err(Reason::QuotedNotQuery), "{kind}");
    }
    for kind in [1, 2, 3, 4, 100, 135, 137] {
        let quote = error_v6([SRC6.addr, DST6.addr], [kind, 0], 0, &[], &udp_v6());
        let result = parse_v6(&about_v6(&quote));
        assert_eq!(result, Err(Reason::QuotedNotQuery), "{kind}");
    }
}

#[test]
fn rfc5508_req11_other_messages_are_told_apart() {
    for kind in 0..=255 {
        let packet = error_v4([ROUTER, SRC.addr], [kind, 0], 0, &[], &udp_v4());
        let expected = match kind {
            3 | 11 | 12 => None,
            4 => Some(Reason::SourceQuench),
            5 => Some(Reason::Redirect),
            _ => Some(Reason::NotAnError),
        };
        assert_eq!(parse_v4(&packet).err(), expected, "{kind}");
        let packet = error_v6([DST6.addr, SRC6.addr], [kind, 0], 0, &[], &udp_v6());
        let expected = match kind {
            1..=4 => None,
            137 => Some(Reason::Redirect),
            _ => Some(Reason::NotAnError),
        };
        assert_eq!(parse_v6(&packet).err(), expected, "{kind}");
    }
    assert_eq!(parse_v4(&udp_v4()), Err(Reason::NotAnError));
    assert_eq!(parse_v6(&udp_v6()), Err(Reason::NotAnError));
}

#[test]
fn fragments_of_errors_and_quoted_fragments() {
    let mut packet = about_v4(&udp_v4());
    packet[6] = 0x20;
    fix_header(&mut packet);
    assert_eq!(parse_v4(&packet), Err(Reason::Fragment));

    let mut quote = udp_v4();
    quote[6..8].copy_from_slice(&[0x20, 0]);
    fix_header(&mut quote);
    assert!(
        parse_v4(&about_v4(&quote)).is_ok(),
        "the first one has ports"
    );
    quote[7] = 1;
    fix_header(&mut quote);
    assert_eq!(parse_v4(&about_v4(&quote)), Err(Reason::QuotedFragment));

    let fragment = |bits| [(44, vec![0, 0, 0, bits, 0, 0, 0, 1])];
    let ends = [DST6.addr, SRC6.addr];
    for (bits, expected) in [
        (0, None),
        (1, Some(Reason::Fragment)),
        (8, Some(Reason::Fragment)),
    ] {
        let packet = error_v6(ends, [1, 3], 0, &fragment(bits), &udp_v6());
        assert_eq!(parse_v6(&packet).err(), expected, "{bits}");
    }
    for (bits, expected) in [(0, None), (1, None), (9, Some(Reason::QuotedFragment))] {
        let quote = packet_v6(Carry::Udp, SRC6, DST6, &fragment(bits), b"data");
        assert_eq!(parse_v6(&about_v6(&quote)).err(), expected, "{bits}");
    }
}

#[test]
fn a_header_length_from_a_stranger_is_held_against_what_there_is() {
    // The quoted header claims 60 bytes and is sound as far as it goes.
    let mut quote = packet_v4(Carry::Udp, SRC, DST, &[1; 40], b"data");
    for len in 20..60 {
        let result = parse_v4(&about_v4(&quote[..len]));
        assert_eq!(result, Err(Reason::Truncated), "{len}");
    }
    // A total length below the header's; a header below 20 bytes; another version.
    quote[2..4].copy_from_slice(&59u16.to_be_bytes());
    fix_header(&mut quote);
    assert_eq!(parse_v4(&about_v4(&quote)), Err(Reason::Malformed));
    for first in [0x44, 0x65] {
        let mut quote = udp_v4();
        quote[0] = first;
        assert_eq!(parse_v4(&about_v4(&quote)), Err(Reason::Malformed));
    }
    // A total length that leaves no ports.
    let mut quote = udp_v4();
    quote[3] = 27;
    fix_header(&mut quote);
    assert_eq!(parse_v4(&about_v4(&quote)), Err(Reason::Truncated));
    let mut quote = udp_v6();
    quote[5] = 7;
    assert_eq!(parse_v6(&about_v6(&quote)), Err(Reason::Truncated));
    quote[0] = 0x45;
    assert_eq!(parse_v6(&about_v6(&quote)), Err(Reason::Malformed));
    // A quote that ends before the ports or the identifier do.
    for (four, six) in [
        (Carry::Query(8), Carry::Query(128)),
        (Carry::Tcp, Carry::Tcp),
    ] {
        let quote = packet_v4(four, SRC, DST, &[], b"data");
        let result = parse_v4(&about_v4(&quote[..27]));
        assert_eq!(result, Err(Reason::Truncated), "{four:?}");
        let quote = packet_v6(six, SRC6, DST6, &[], b"data");
        let result = parse_v6(&about_v6(&quote[..47]));
        assert_eq!(result, Err(Reason::Truncated), "{six:?}");
    }
}
