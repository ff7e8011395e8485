//! Rewritten errors of IPv4 against packets composed with the new addresses from the start.

use core::net::Ipv4Addr;
use std::vec::Vec;

use proptest::prelude::*;

use super::super::error::parse_v4;
use super::super::rewrite::{Rewrite, rewrite_v4};
use super::super::testing::{Carry, error_v4, packet_v4};
use crate::Endpoint;

/// The inside host, its address and port outside, the host it talks to, and a router on the way.
const INSIDE: Endpoint<Ipv4Addr> = Endpoint::new(Ipv4Addr::new(10, 0, 0, 7), 40_000);
const SHOWN: Endpoint<Ipv4Addr> = Endpoint::new(Ipv4Addr::new(192, 0, 2, 1), 1024);
const PEER: Endpoint<Ipv4Addr> = Endpoint::new(Ipv4Addr::new(198, 51, 100, 9), 443);
const ROUTER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 5);
/// Record route, with room for two addresses, and an end of the list.
const OPTIONS: &[u8] = &[7, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn no_port(end: Endpoint<Ipv4Addr>) -> Endpoint<Ipv4Addr> {
    Endpoint::new(end.addr, 0)
}

/// The ends as a packet with this load has them: a query has one identifier, that of the querier.
fn ends(carry: Carry, src: Endpoint<Ipv4Addr>, dst: Endpoint<Ipv4Addr>) -> [Endpoint<Ipv4Addr>; 2] {
    match carry {
        Carry::Tcp | Carry::Udp | Carry::UdpUnsummed => [src, dst],
        Carry::Query(8 | 13) => [src, no_port(dst)],
        Carry::Query(_) => [no_port(src), dst],
        Carry::Other(_) => [no_port(src), no_port(dst)],
    }
}

const CARRIES: [Carry; 8] = [
    Carry::Tcp,
    Carry::Udp,
    Carry::UdpUnsummed,
    Carry::Query(8),
    Carry::Query(0),
    Carry::Query(13),
    Carry::Query(14),
    Carry::Other(47),
];

/// Bytes of the transport that routers quote: 8, all, and as much as ends just around the checksum.
const QUOTED: [usize; 5] = [8, 16, 18, 25, usize::MAX];

fn cut(mut packet: Vec<u8>, transport: usize) -> Vec<u8> {
    let header = usize::from(packet[0] & 15) * 4;
    packet.truncate(header.saturating_add(transport));
    packet
}

#[test]
fn rfc5508_req4_outside_error_is_reverted_bit_for_bit() {
    for carry in CARRIES {
        for (inner, outer) in [(&[][..], &[][..]), (OPTIONS, &[]), (&[], OPTIONS)] {
            for len in QUOTED {
                let [sent_src, sent_dst] = ends(carry, INSIDE, PEER);
                let [seen_src, seen_dst] = ends(carry, SHOWN, PEER);
                let sent = cut(packet_v4(carry, sent_src, sent_dst, inner, b"payload"), len);
                let seen = cut(packet_v4(carry, seen_src, seen_dst, inner, b"payload"), len);
                let mut packet = error_v4([ROUTER, SHOWN.addr], [3, 1], 0, outer, &seen);

                let quote = parse_v4(&packet).unwrap();
                assert_eq!((quote.kind, quote.code), (3, 1));
                assert_eq!((quote.outer_src, quote.outer_dst), (ROUTER, SHOWN.addr));
                assert_eq!(quote.protocol, seen[9]);
                assert_eq!((quote.src, quote.dst), (seen_src, seen_dst), "{carry:?}");
                let what = Rewrite {
                    src: Some(INSIDE),
                    outer_dst: Some(INSIDE.addr),
                    ..Rewrite::NOTHING
                };
                rewrite_v4(&mut packet, &quote, what);
                let expected = error_v4([ROUTER, INSIDE.addr], [3, 1], 0, outer, &sent);
                assert_eq!(packet, expected, "{carry:?} {len}");
            }
        }
    }
}

#[test]
fn rfc5508_req5_inside_error_shows_the_outside_address() {
    for carry in CARRIES {
        for len in QUOTED {
            let [sent_src, sent_dst] = ends(carry, PEER, SHOWN);
            let [seen_src, seen_dst] = ends(carry, PEER, INSIDE);
            let sent = cut(packet_v4(carry, sent_src, sent_dst, &[], b"payload"), len);
            let seen = cut(packet_v4(carry, seen_src, seen_dst, &[], b"payload"), len);
            let mut packet = error_v4([INSIDE.addr, PEER.addr], [3, 3], 0, &[], &seen);

            let quote = parse_v4(&packet).unwrap();
            assert_eq!((quote.src, quote.dst), (seen_src, seen_dst), "{carry:?}");
            let what = Rewrite {
                dst: Some(SHOWN),
                outer_src: Some(SHOWN.addr),
                ..Rewrite::NOTHING
            };
            rewrite_v4(&mut packet, &quote, what);
            let expected = error_v4([SHOWN.addr, PEER.addr], [3, 3], 0, &[], &sent);
            assert_eq!(packet, expected, "{carry:?} {len}");
        }
    }
}

#[test]
fn rfc5508_req7_hairpinned_error_is_reverted_at_both_ends() {
    let other = Endpoint::new(Ipv4Addr::new(10, 0, 0, 8), 53);
    let other_shown = Endpoint::new(SHOWN.addr, 1025);
    let sent = packet_v4(Carry::Udp, INSIDE, other_shown, &[], b"to a neighbour");
    let seen = packet_v4(Carry::Udp, SHOWN, other, &[], b"to a neighbour");
    let mut packet = error_v4([other.addr, SHOWN.addr], [3, 3], 0, &[], &seen);
    let quote = parse_v4(&packet).unwrap();
    let what = Rewrite {
        src: Some(INSIDE),
        dst: Some(other_shown),
        outer_src: Some(other_shown.addr),
        outer_dst: Some(INSIDE.addr),
    };
    rewrite_v4(&mut packet, &quote, what);
    let expected = error_v4([other_shown.addr, INSIDE.addr], [3, 3], 0, &[], &sent);
    assert_eq!(packet, expected);
}

#[test]
fn rfc5508_req3d_extensions_and_padding_are_not_touched() {
    let object = [0x20, 0, 0x12, 0x34, 0, 8, 1, 1, 0xaa, 0xbb, 0xcc, 0xdd];
    // Routers older than RFC 4884 give no length: nothing tells their zeros from a header of 16 bytes.
    for (rest, lens) in [(32 << 16 | 1400, &[8, 12, 16][..]), (1400, &[8, 12])] {
        for (carry, len) in CARRIES
            .iter()
            .flat_map(|carry| lens.iter().map(|len| (*carry, *len)))
        {
            let quoted = |end| {
                let [src, dst] = ends(carry, end, PEER);
                let mut quote = cut(packet_v4(carry, src, dst, &[], &[0x55; 80]), len);
                quote.resize(128, 0);
                [&quote[..], &object].concat()
            };
            let mut packet = error_v4([ROUTER, SHOWN.addr], [3, 4], rest, &[], &quoted(SHOWN));
            let quote = parse_v4(&packet).unwrap();
            let what = Rewrite {
                src: Some(INSIDE),
                outer_dst: Some(INSIDE.addr),
                ..Rewrite::NOTHING
            };
            rewrite_v4(&mut packet, &quote, what);
            let sent = quoted(INSIDE);
            let expected = error_v4([ROUTER, INSIDE.addr], [3, 4], rest, &[], &sent);
            assert_eq!(packet, expected, "{carry:?} {len}");
        }
    }
}

#[test]
fn a_tcp_checksum_of_zero_is_one() {
    let segment = |port| packet_v4(Carry::Tcp, Endpoint::new(SHOWN.addr, port), PEER, &[], b"");
    let seen = (0..=u16::MAX)
        .map(segment)
        .find(|packet| packet[36..] == [0; 4]);
    let seen = seen.expect("one port makes the sum come out so");
    let mut packet = error_v4([ROUTER, SHOWN.addr], [3, 1], 0, &[], &seen);
    let quote = parse_v4(&packet).unwrap();
    let what = Rewrite {
        src: Some(INSIDE),
        ..Rewrite::NOTHING
    };
    rewrite_v4(&mut packet, &quote, what);
    let sent = packet_v4(Carry::Tcp, INSIDE, PEER, &[], b"");
    assert_eq!(
        packet,
        error_v4([ROUTER, SHOWN.addr], [3, 1], 0, &[], &sent)
    );
}

#[test]
fn rfc5508_req3c_a_wrong_quoted_transport_checksum_stays_as_wrong() {
    let mut seen = packet_v4(Carry::Udp, SHOWN, PEER, &[], b"data");
    let mut sent = packet_v4(Carry::Udp, INSIDE, PEER, &[], b"data");
    for packet in [&mut seen, &mut sent] {
        packet[30] ^= 0x10; // data, after the checksum was computed
    }
    let mut packet = error_v4([ROUTER, SHOWN.addr], [11, 0], 0, &[], &seen);
    let quote = parse_v4(&packet).unwrap();
    let what = Rewrite {
        src: Some(INSIDE),
        ..Rewrite::NOTHING
    };
    rewrite_v4(&mut packet, &quote, what);
    assert_eq!(
        packet,
        error_v4([ROUTER, SHOWN.addr], [11, 0], 0, &[], &sent)
    );
}

#[test]
fn padding_behind_the_total_length_is_neither_summed_nor_written() {
    let pad = |mut packet: Vec<u8>| {
        packet.extend([0xa5; 13]);
        packet
    };
    // Where the quote ends before the checksum, that would be in the padding.
    for len in [8, 16, usize::MAX] {
        let seen = cut(packet_v4(Carry::Tcp, SHOWN, PEER, &[], b""), len);
        let sent = cut(packet_v4(Carry::Tcp, INSIDE, PEER, &[], b""), len);
        let mut packet = pad(error_v4([ROUTER, SHOWN.addr], [12, 0], 0, &[], &seen));
        let quote = parse_v4(&packet).unwrap();
        let what = Rewrite {
            src: Some(INSIDE),
            ..Rewrite::NOTHING
        };
        rewrite_v4(&mut packet, &quote, what);
        let expected = error_v4([ROUTER, SHOWN.addr], [12, 0], 0, &[], &sent);
        assert_eq!(packet, pad(expected), "{len}");
    }
}

fn endpoint() -> impl Strategy<Value = Endpoint<Ipv4Addr>> {
    any::<(u32, u16)>().prop_map(|(addr, port)| Endpoint::new(Ipv4Addr::from_bits(addr), port))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_rewrite_equals_a_packet_composed_so(
        carry in proptest::sample::select(&CARRIES[..]),
        old in [endpoint(), endpoint(), endpoint(), endpoint()],
        new in [endpoint(), endpoint(), endpoint(), endpoint()],
        which in any::<[bool; 4]>(),
        data in proptest::collection::vec(any::<u8>(), 0..40),
        len in 8..70usize,
    ) {
        // Half a checksum cannot be patched.
        prop_assume!(carry != Carry::Tcp || len != 17);
        let now: Vec<_> = (0..4).map(|i| if which[i] { new[i] } else { old[i] }).collect();
        let packet = |at: &[Endpoint<Ipv4Addr>]| {
            let [src, dst] = ends(carry, at[0], at[1]);
            let quote = cut(packet_v4(carry, src, dst, &[], &data), len);
            error_v4([at[2].addr, at[3].addr], [3, 1], 0, &[], &quote)
        };
        let mut rewritten = packet(&old);
        let quote = parse_v4(&rewritten).unwrap();
        let end = |i: usize| which[i].then_some(new[i]);
        let what = Rewrite {
            src: end(0),
            dst: end(1),
            outer_src: end(2).map(|end| end.addr),
            outer_dst: end(3).map(|end| end.addr),
        };
        rewrite_v4(&mut rewritten, &quote, what);
        prop_assert_eq!(rewritten, packet(&now));
    }
}
