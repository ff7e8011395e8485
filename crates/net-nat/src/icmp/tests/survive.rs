//! Errors of any bytes and any lengths: nothing panics, nothing past the end is read or written.

use core::net::{Ipv4Addr, Ipv6Addr};
use std::vec;
use std::vec::Vec;

use net_wire::checksum::{Sum, pseudo_v6, sum};
use proptest::prelude::*;

use super::super::error::{parse_v4, parse_v6};
use super::super::rewrite::{Rewrite, rewrite_v4, rewrite_v6};
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

fn udp_v6() -> Vec<u8> {
    packet_v6(Carry::Udp, SRC6, DST6, &[], b"data")
}

/// Errors of many shapes, each with the bytes that its quote needs to be told whose it is.
fn samples_v4() -> Vec<(Vec<u8>, usize)> {
    let carries = [Carry::Tcp, Carry::Udp, Carry::Query(8), Carry::Query(14)];
    let mut samples = vec![];
    for options in [0, 8, 40] {
        for carry in carries {
            let quote = packet_v4(carry, SRC, DST, &vec![1; options], b"some data");
            let ends = [ROUTER, SRC.addr];
            let packet = error_v4(ends, [3, 1], 0, &vec![1; options], &quote);
            samples.push((packet, 20 + options + 8 + 20 + options + 8));
        }
    }
    samples
}

#[test]
fn a_packet_cut_at_any_byte_is_refused() {
    for (packet, _) in samples_v4() {
        for len in 0..packet.len() {
            assert!(parse_v4(&packet[..len]).is_err(), "{len}");
        }
    }
    let packet = about_v6(&udp_v6());
    for len in 0..packet.len() {
        assert!(parse_v6(&packet[..len]).is_err(), "{len}");
    }
}

/// The bytes behind the total length would make the quote whole; they must not be looked at.
#[test]
fn what_lies_behind_the_total_length_is_not_read() {
    for (packet, needed) in samples_v4() {
        for len in 28..packet.len() {
            let mut packet = packet.clone();
            let header = usize::from(packet[0] & 15) * 4;
            packet[2..4].copy_from_slice(&(len as u16).to_be_bytes());
            fix_header(&mut packet);
            if len >= header + 8 {
                packet[header + 2..header + 4].fill(0);
                let value = sum(&packet[header..len]).finish();
                packet[header + 2..header + 4].copy_from_slice(&value.to_be_bytes());
            }
            let (whole, cut) = (parse_v4(&packet), parse_v4(&packet[..len]));
            assert_eq!(whole, cut, "{len}");
            assert_eq!(whole.is_ok(), len >= needed, "{len} of {needed}");
        }
    }
}

/// Reads and rewrites, as the engine would; nothing outside the packet's own length may change.
fn survive(mut bytes: Vec<u8>) {
    if let Ok(quote) = parse_v4(&bytes) {
        let len = usize::from(u16::from_be_bytes([bytes[2], bytes[3]]));
        let padding = bytes[len..].to_vec();
        let end = Some(Endpoint::new(Ipv4Addr::new(1, 2, 3, 4), 5));
        let outer = end.map(|end| end.addr);
        let what = Rewrite {
            src: end,
            dst: end,
            outer_src: outer,
            outer_dst: outer,
        };
        rewrite_v4(&mut bytes, &quote, what);
        assert_eq!(bytes[len..], padding);
        let again = parse_v4(&bytes).expect("still sound");
        assert_eq!((again.src.addr, again.dst.addr), (ADDR, ADDR));
    }
    if let Ok(quote) = parse_v6(&bytes) {
        let len = 40 + usize::from(u16::from_be_bytes([bytes[4], bytes[5]]));
        let padding = bytes[len..].to_vec();
        let end = Some(SRC6);
        let what = Rewrite {
            src: end,
            dst: end,
            outer_src: Some(SRC6.addr),
            outer_dst: Some(SRC6.addr),
        };
        rewrite_v6(&mut bytes, &quote, what);
        assert_eq!(bytes[len..], padding);
        let again = parse_v6(&bytes).expect("still sound");
        assert_eq!((again.src.addr, again.dst.addr), (SRC6.addr, SRC6.addr));
    }
}

const ADDR: Ipv4Addr = Ipv4Addr::new(1, 2, 3, 4);

/// Makes the checksums right again, so that edits reach what lies behind them.
fn mend(bytes: &mut [u8], v6: bool) {
    let (from, pseudo) = match v6 {
        true => (40, pseudo_v6(DST6.addr, SRC6.addr, 58, bytes.len() - 40)),
        false => {
            bytes[28..]
                .len()
                .ge(&20)
                .then(|| fix_quoted(&mut bytes[28..]));
            fix_header(bytes);
            (20, Sum::ZERO)
        }
    };
    bytes[from + 2..from + 4].fill(0);
    let value = (pseudo + sum(&bytes[from..])).finish();
    bytes[from + 2..from + 4].copy_from_slice(&value.to_be_bytes());
}

fn fix_quoted(quote: &mut [u8]) {
    let len = usize::from(quote[0] & 15) * 4;
    if (20..=quote.len()).contains(&len) {
        fix_header(quote);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn rfc5508_req11_any_bytes_are_survived(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        survive(bytes);
    }

    #[test]
    fn rfc5508_req11_any_quote_is_survived(
        kind in prop_oneof![Just(3u8), Just(11), Just(12), 1..=4u8],
        rest in prop_oneof![Just(0u32), any::<u32>()],
        quote in proptest::collection::vec(any::<u8>(), 0..200),
        version in prop_oneof![Just(0x45u8), Just(0x4f), Just(0x60)],
        padding in 0..9usize,
    ) {
        let mut quote = quote;
        if let Some(first) = quote.first_mut() {
            *first = version;
        }
        fix_quoted_if_v4(&mut quote);
        let padding = vec![0x77; padding];
        let four = error_v4([ROUTER, SRC.addr], [kind, 0], rest, &[], &quote);
        survive([four, padding.clone()].concat());
        let six = error_v6([DST6.addr, SRC6.addr], [kind, 0], rest, &[], &quote);
        survive([six, padding].concat());
    }

    #[test]
    fn rfc5508_req11_edited_errors_are_survived(
        edits in proptest::collection::vec((0..200usize, any::<u8>()), 1..6),
        carry in proptest::sample::select(vec![Carry::Tcp, Carry::Udp, Carry::Query(8)]),
    ) {
        let mut four = about_v4(&packet_v4(carry, SRC, DST, &[1; 8], b"some data"));
        let mut six = about_v6(&packet_v6(carry, SRC6, DST6, &[], b"some data"));
        for (at, value) in edits {
            // The outer headers stay: they would only hide what is behind.
            for (bytes, from) in [(&mut four, 21), (&mut six, 41)] {
                let len = bytes.len();
                bytes[from + at % (len - from)] = value;
            }
        }
        mend(&mut four, false);
        mend(&mut six, true);
        survive(four);
        survive(six);
    }
}

fn fix_quoted_if_v4(quote: &mut [u8]) {
    if quote.len() >= 20 && quote[0] >> 4 == 4 {
        fix_quoted(quote);
    }
}
