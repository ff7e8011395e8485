//! Rewritten errors of IPv6 against packets composed with the new addresses from the start.

use core::net::Ipv6Addr;
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::super::error::parse_v6;
use super::super::rewrite::{Rewrite, rewrite_v6};
use super::super::testing::{Carry, error_v6, packet_v6};
use crate::Endpoint;

const fn at(net: u16, host: u16, port: u16) -> Endpoint<Ipv6Addr> {
    Endpoint::new(Ipv6Addr::new(0x2001, 0xdb8, net, 0, 0, 0, 0, host), port)
}

const INSIDE: Endpoint<Ipv6Addr> = at(1, 7, 40_000);
const SHOWN: Endpoint<Ipv6Addr> = at(2, 1, 1024);
const PEER: Endpoint<Ipv6Addr> = at(3, 9, 443);
const ROUTER: Ipv6Addr = at(4, 5, 0).addr;

const CARRIES: [Carry; 5] = [
    Carry::Tcp,
    Carry::Udp,
    Carry::Query(128),
    Carry::Query(129),
    Carry::Other(47),
];

fn ends(carry: Carry, src: Endpoint<Ipv6Addr>, dst: Endpoint<Ipv6Addr>) -> [Endpoint<Ipv6Addr>; 2] {
    let no_port = |end: Endpoint<_>| Endpoint::new(end.addr, 0);
    match carry {
        Carry::Tcp | Carry::Udp | Carry::UdpUnsummed => [src, dst],
        Carry::Query(128) => [src, no_port(dst)],
        Carry::Query(_) => [no_port(src), dst],
        Carry::Other(_) => [no_port(src), no_port(dst)],
    }
}

/// Hop-by-hop options, destination options of two words, and the header of a first fragment.
fn extensions() -> Vec<(u8, Vec<u8>)> {
    let options = vec![0, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let fragment = vec![0, 0, 0, 1, 0, 0, 0, 42];
    let hops = vec![0, 0, 1, 4, 0, 0, 0, 0];
    vec![(0, hops), (60, options), (44, fragment)]
}

#[test]
fn rfc5508_req4_outside_error_is_reverted_bit_for_bit_v6() {
    for carry in CARRIES {
        for (inner, outer) in [
            (vec![], vec![]),
            (extensions(), vec![]),
            (vec![], extensions()[..2].to_vec()),
        ] {
            let [sent_src, sent_dst] = ends(carry, INSIDE, PEER);
            let [seen_src, seen_dst] = ends(carry, SHOWN, PEER);
            let sent = packet_v6(carry, sent_src, sent_dst, &inner, b"payload");
            let seen = packet_v6(carry, seen_src, seen_dst, &inner, b"payload");
            // An MTU is no length of the quote: 0x05 in its place would cut it to 40 bytes.
            let mtu = 0x0500_0500;
            let mut packet = error_v6([ROUTER, SHOWN.addr], [2, 0], mtu, &outer, &seen);

            let quote = parse_v6(&packet).unwrap();
            assert_eq!((quote.kind, quote.code), (2, 0));
            assert_eq!((quote.outer_src, quote.outer_dst), (ROUTER, SHOWN.addr));
            assert_eq!((quote.src, quote.dst), (seen_src, seen_dst), "{carry:?}");
            let what = Rewrite {
                src: Some(INSIDE),
                outer_dst: Some(INSIDE.addr),
                ..Rewrite::NOTHING
            };
            rewrite_v6(&mut packet, &quote, what);
            let expected = error_v6([ROUTER, INSIDE.addr], [2, 0], mtu, &outer, &sent);
            assert_eq!(packet, expected, "{carry:?}");
        }
    }
}

#[test]
fn rfc5508_req5_inside_error_shows_the_outside_address_v6() {
    for carry in CARRIES {
        let [sent_src, sent_dst] = ends(carry, PEER, SHOWN);
        let [seen_src, seen_dst] = ends(carry, PEER, INSIDE);
        let sent = packet_v6(carry, sent_src, sent_dst, &[], b"payload");
        let seen = packet_v6(carry, seen_src, seen_dst, &[], b"payload");
        let mut packet = error_v6([INSIDE.addr, PEER.addr], [1, 4], 0, &[], &seen);
        let quote = parse_v6(&packet).unwrap();
        assert_eq!((quote.src, quote.dst), (seen_src, seen_dst), "{carry:?}");
        let what = Rewrite {
            dst: Some(SHOWN),
            outer_src: Some(SHOWN.addr),
            ..Rewrite::NOTHING
        };
        rewrite_v6(&mut packet, &quote, what);
        let expected = error_v6([SHOWN.addr, PEER.addr], [1, 4], 0, &[], &sent);
        assert_eq!(packet, expected, "{carry:?}");
    }
}

#[test]
fn rfc5508_req3d_extensions_and_padding_are_not_touched_v6() {
    let object = [0x20, 0, 0x12, 0x34, 0, 8, 1, 1, 0xaa, 0xbb, 0xcc, 0xdd];
    for carry in CARRIES {
        let quoted = |end| {
            let [src, dst] = ends(carry, end, PEER);
            let mut quote = packet_v6(carry, src, dst, &[], &[0x55; 200]);
            quote.truncate(40 + 8);
            quote.resize(128, 0);
            [&quote[..], &object].concat()
        };
        let rest = 16 << 24;
        let mut packet = error_v6([ROUTER, SHOWN.addr], [3, 0], rest, &[], &quoted(SHOWN));
        let quote = parse_v6(&packet).unwrap();
        let what = Rewrite {
            src: Some(INSIDE),
            outer_dst: Some(INSIDE.addr),
            ..Rewrite::NOTHING
        };
        rewrite_v6(&mut packet, &quote, what);
        let expected = error_v6([ROUTER, INSIDE.addr], [3, 0], rest, &[], &quoted(INSIDE));
        assert_eq!(packet, expected, "{carry:?}");
    }
}

fn endpoint() -> impl Strategy<Value = Endpoint<Ipv6Addr>> {
    any::<(u128, u16)>().prop_map(|(addr, port)| Endpoint::new(Ipv6Addr::from_bits(addr), port))
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
        len in 48..110usize,
    ) {
        // Half a checksum cannot be patched.
        prop_assume!(carry != Carry::Tcp || len != 40 + 17);
        let now: Vec<_> = (0..4).map(|i| if which[i] { new[i] } else { old[i] }).collect();
        let packet = |at: &[Endpoint<Ipv6Addr>]| {
            let [src, dst] = ends(carry, at[0], at[1]);
            let mut quote = packet_v6(carry, src, dst, &[], &data);
            quote.truncate(len);
            error_v6([at[2].addr, at[3].addr], [1, 3], 0, &[], &quote)
        };
        let mut rewritten = packet(&old);
        let quote = parse_v6(&rewritten).unwrap();
        let end = |i: usize| which[i].then_some(new[i]);
        let what = Rewrite {
            src: end(0),
            dst: end(1),
            outer_src: end(2).map(|end| end.addr),
            outer_dst: end(3).map(|end| end.addr),
        };
        rewrite_v6(&mut rewritten, &quote, what);
        prop_assert_eq!(rewritten, packet(&now));
    }
}
