//! Errors composed here: to whom, about what, how long, and about what never.

use core::net::{Ipv4Addr, Ipv6Addr};
use std::vec;
use std::vec::Vec;

use net_wire::icmpv4::IcmpMessage;
use net_wire::icmpv6::Icmpv6Message;
use net_wire::ipv4::Ipv4Packet;
use net_wire::ipv6::Ipv6Packet;
use net_wire::{checksum, ip_proto};
use proptest::prelude::*;

use super::super::build::{ErrorKind, error_v4, error_v6};
use super::super::error::{parse_v4, parse_v6};
use super::super::testing::{self, Carry, fix_header, packet_v4, packet_v6};
use crate::Endpoint;

const SRC: Endpoint<Ipv4Addr> = Endpoint::new(Ipv4Addr::new(10, 0, 0, 7), 1024);
const DST: Endpoint<Ipv4Addr> = Endpoint::new(Ipv4Addr::new(198, 51, 100, 9), 443);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const SRC6: Endpoint<Ipv6Addr> = Endpoint::new(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 7), 9);
const DST6: Endpoint<Ipv6Addr> = Endpoint::new(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2), 8);
const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
const KIND: ErrorKind = ErrorKind::PortUnreachable;

#[test]
fn rfc5508_req10_errors_name_what_is_wrong() {
    let table = [
        (ErrorKind::TooBig { mtu: 1400 }, (3, 4, 1400), (2, 0, 1400)),
        (
            ErrorKind::TooBig { mtu: 70_000 },
            (3, 4, 0xffff),
            (2, 0, 70_000),
        ),
        (ErrorKind::NoRoute, (3, 0, 0), (1, 0, 0)),
        (ErrorKind::HostUnreachable, (3, 1, 0), (1, 3, 0)),
        (ErrorKind::PortUnreachable, (3, 3, 0), (1, 4, 0)),
        (ErrorKind::AdminProhibited, (3, 13, 0), (1, 1, 0)),
        (ErrorKind::TimeExceeded, (11, 0, 0), (3, 0, 0)),
        (ErrorKind::ReassemblyTimeExceeded, (11, 1, 0), (3, 1, 0)),
    ];
    let four = packet_v4(Carry::Tcp, SRC, DST, &[], b"data");
    let six = packet_v6(Carry::Tcp, SRC6, DST6, &[], b"data");
    for (kind, (a, b, rest), (a6, b6, rest6)) in table {
        let mut expected = testing::error_v4([GATEWAY, SRC.addr], [a, b], rest, &[], &four);
        // TOS, identification, time to live.
        (expected[1], expected[8]) = (0xc0, 64);
        expected[4..6].fill(0);
        fix_header(&mut expected);
        assert_eq!(error_v4(&four, GATEWAY, kind), Some(expected));
        let mut expected = testing::error_v6([GATEWAY6, SRC6.addr], [a6, b6], rest6, &[], &six);
        expected[7] = 64;
        assert_eq!(error_v6(&six, GATEWAY6, kind), Some(expected));
    }
}

#[test]
fn an_error_quotes_as_much_as_it_may() {
    for len in [0, 100, 519, 520, 521, 1183, 1184, 1185, 9000] {
        let four = packet_v4(Carry::Udp, SRC, DST, &[], &vec![0xaa; len]);
        let error = error_v4(&four, GATEWAY, KIND).unwrap();
        assert_eq!(error.len(), (four.len() + 28).min(576), "{len}");
        assert_eq!(error[28..], four[..error.len() - 28]);
        let quote = parse_v4(&error).unwrap();
        assert_eq!(
            (quote.src, quote.dst, quote.outer_dst),
            (SRC, DST, SRC.addr)
        );

        let six = packet_v6(Carry::Udp, SRC6, DST6, &[], &vec![0xaa; len]);
        let error = error_v6(&six, GATEWAY6, KIND).unwrap();
        assert_eq!(error.len(), (six.len() + 48).min(1280), "{len}");
        assert_eq!(error[48..], six[..error.len() - 48]);
        let quote = parse_v6(&error).unwrap();
        assert_eq!(
            (quote.src, quote.dst, quote.outer_dst),
            (SRC6, DST6, SRC6.addr)
        );
    }
}

#[test]
fn padding_is_not_quoted() {
    let four = packet_v4(Carry::Udp, SRC, DST, &[], b"");
    let padded = [&four[..], &[0xbb; 18]].concat();
    assert_eq!(
        error_v4(&padded, GATEWAY, KIND),
        error_v4(&four, GATEWAY, KIND)
    );
    let six = packet_v6(Carry::Udp, SRC6, DST6, &[], b"");
    let padded = [&six[..], &[0xbb; 18]].concat();
    assert_eq!(
        error_v6(&padded, GATEWAY6, KIND),
        error_v6(&six, GATEWAY6, KIND)
    );
}

#[test]
fn rfc5508_req10_no_errors_about_errors() {
    let about = packet_v4(Carry::Udp, SRC, DST, &[], b"");
    for kind in 0..=255 {
        let packet = testing::error_v4([SRC.addr, DST.addr], [kind, 0], 0, &[], &about);
        let answered = error_v4(&packet, GATEWAY, KIND).is_some();
        assert_eq!(answered, matches!(kind, 0 | 8 | 13 | 14), "{kind}");
    }
    let about = packet_v6(Carry::Udp, SRC6, DST6, &[], b"");
    let hops = [(0, vec![0; 8])];
    for kind in 0..=255 {
        for extensions in [&hops[..], &[]] {
            let ends = [SRC6.addr, DST6.addr];
            let packet = testing::error_v6(ends, [kind, 0], 0, extensions, &about);
            let answered = error_v6(&packet, GATEWAY6, KIND).is_some();
            assert_eq!(answered, matches!(kind, 128 | 129), "{kind}");
        }
    }
}

#[test]
fn no_errors_about_fragments_behind_the_first() {
    let mut packet = packet_v4(Carry::Udp, SRC, DST, &[], &[0; 64]);
    for (bits, answered) in [(0x2000u16, true), (0x2001, false), (1, false)] {
        packet[6..8].copy_from_slice(&bits.to_be_bytes());
        fix_header(&mut packet);
        assert_eq!(error_v4(&packet, GATEWAY, KIND).is_some(), answered);
    }
    for (bits, answered) in [(1, true), (9, false), (8, false)] {
        let fragment = [(44, vec![0, 0, 0, bits, 0, 0, 0, 1])];
        let packet = packet_v6(Carry::Udp, SRC6, DST6, &fragment, b"");
        assert_eq!(error_v6(&packet, GATEWAY6, KIND).is_some(), answered);
    }
}

#[test]
fn no_errors_about_packets_of_or_for_nobody_or_many() {
    for bad in [
        "0.0.0.0",
        "0.1.2.3",
        "127.0.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "240.0.0.1",
    ] {
        let bad = Endpoint::new(bad.parse().unwrap(), 1);
        for (src, dst) in [(bad, DST), (SRC, bad)] {
            let packet = packet_v4(Carry::Udp, src, dst, &[], b"");
            assert_eq!(error_v4(&packet, GATEWAY, KIND), None, "{src:?} {dst:?}");
        }
    }
    for bad in ["::", "::1", "ff02::1", "ff0e::1234"] {
        let bad = Endpoint::new(bad.parse().unwrap(), 1);
        for (src, dst) in [(bad, DST6), (SRC6, bad)] {
            let packet = packet_v6(Carry::Udp, src, dst, &[], b"");
            assert_eq!(error_v6(&packet, GATEWAY6, KIND), None, "{src:?} {dst:?}");
        }
    }
}

#[test]
fn no_errors_about_headers_that_are_not_sound() {
    let mut packet = packet_v4(Carry::Udp, SRC, DST, &[], b"");
    packet[10] ^= 1;
    assert_eq!(error_v4(&packet, GATEWAY, KIND), None);
    let four = packet_v4(Carry::Query(8), SRC, DST, &[1; 8], b"");
    for len in 0..four.len() {
        assert_eq!(error_v4(&four[..len], GATEWAY, KIND), None, "{len}");
    }
    let six = packet_v6(Carry::Query(128), SRC6, DST6, &[(0, vec![0; 8])], b"");
    for len in 0..six.len() {
        assert_eq!(error_v6(&six[..len], GATEWAY6, KIND), None, "{len}");
    }
}

/// What is made of any bytes is a whole, sound packet.
fn check(about: &[u8]) {
    if let Some(error) = error_v4(about, GATEWAY, KIND) {
        let packet = Ipv4Packet::parse(&error[..]).unwrap();
        assert!(packet.verify_header_checksum() && packet.total_len() == error.len());
        assert!(
            IcmpMessage::parse(packet.payload())
                .unwrap()
                .verify_checksum()
        );
    }
    if let Some(error) = error_v6(about, GATEWAY6, KIND) {
        let packet = Ipv6Packet::parse(&error[..]).unwrap();
        let message = packet.payload();
        let pseudo =
            checksum::pseudo_v6(packet.src(), packet.dst(), ip_proto::ICMPV6, message.len());
        assert!(
            Icmpv6Message::parse(message)
                .unwrap()
                .verify_checksum(pseudo)
        );
    }
}

proptest! {
    #[test]
    fn rfc5508_req11_any_bytes_are_survived(
        bytes in proptest::collection::vec(any::<u8>(), 0..1500),
        first in prop_oneof![Just(0x45u8), Just(0x46), Just(0x60), any::<u8>()],
    ) {
        let mut bytes = bytes;
        let len = bytes.len() as u16;
        if bytes.len() > 40 {
            bytes[0] = first;
            let at = if first >> 4 == 4 { 2 } else { 4 };
            let claimed = if first >> 4 == 4 { len } else { len - 40 };
            bytes[at..at + 2].copy_from_slice(&claimed.to_be_bytes());
            if first >> 4 == 4 && (5..=10).contains(&(first & 15)) {
                bytes[6..8].fill(0);
                fix_header(&mut bytes);
            }
        }
        check(&bytes);
        let answered: Vec<bool> = [error_v4(&bytes, GATEWAY, KIND), error_v6(&bytes, GATEWAY6, KIND)]
            .iter().map(Option::is_some).collect();
        prop_assert_ne!(answered, [true, true], "a packet has one version");
    }
}
