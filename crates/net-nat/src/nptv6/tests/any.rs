//! Any prefixes, any addresses, any bytes.

use std::vec;

use net_wire::checksum::{Sum, pseudo_v6, sum};
use net_wire::ipv6::Ipv6Packet;
use proptest::prelude::*;

use super::*;
use crate::icmp::testing::{Carry, error_v6, packet_v6};
use crate::{Direction, Endpoint};

/// Two prefixes of random bits and lengths.
fn pair() -> impl Strategy<Value = Nptv6> {
    let length = || prop_oneof![Just(48u8), Just(64), Just(56), 1..=64u8];
    let edge = any::<[u8; 4]>().prop_map(|words| {
        let word = |byte: u8| [0, 0xffff, 1, 0xfffe][usize::from(byte % 4)];
        words
            .into_iter()
            .fold(0, |bits, byte| bits << 16 | word(byte))
    });
    let bits = || prop_oneof![any::<u64>(), edge.clone()];
    (bits(), length(), bits(), length()).prop_filter_map("no pair", |(a, a_len, b, b_len)| {
        let prefix = |bits: u64, len| (join(bits & mask(len), 0), len);
        Nptv6::new(prefix(a, a_len), prefix(b, b_len)).ok()
    })
}

/// Words that are likely to be at an edge.
fn host_bits() -> impl Strategy<Value = u128> {
    let word = prop_oneof![any::<u16>(), Just(0), Just(0xffff), Just(0xfffe), Just(1)];
    proptest::collection::vec(word, 8).prop_map(|words| {
        words
            .into_iter()
            .fold(0, |bits, word| bits << 16 | u128::from(word))
    })
}

fn inside_address(nptv6: &Nptv6, bits: u128) -> Ipv6Addr {
    let high = (bits >> 64) as u64 & !nptv6.mask | nptv6.inside;
    join(high, bits as u64)
}

/// The checksum of a packet without extension headers, computed anew over pseudo header and all.
fn residue(packet: &[u8]) -> Sum {
    let view = Ipv6Packet::parse(packet).unwrap();
    let payload = view.payload();
    pseudo_v6(view.src(), view.dst(), view.next_header(), payload.len()) + sum(payload)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn out_and_back_in_is_identity(nptv6 in pair(), bits in host_bits()) {
        let addr = inside_address(&nptv6, bits);
        match nptv6.to_outside(addr) {
            Ok(Some(outside)) => {
                let high = split(outside).0;
                prop_assert_eq!(high & nptv6.mask, nptv6.outside);
                prop_assert_eq!(nptv6.to_inside(outside), Ok(Some(addr)));
                // Neutral: in ones' complement the addresses sum up alike.
                let whole = |addr: Ipv6Addr| addr.segments().iter()
                    .map(|word| u32::from(*word)).sum::<u32>() % 0xffff;
                prop_assert_eq!(whole(outside), whole(addr));
            }
            Ok(None) => prop_assert!(false, "it is inside"),
            Err(Untranslatable::Subnet) => {
                prop_assert!(nptv6.len <= 48 && addr.segments()[3] == 0xffff);
            }
            Err(_) => prop_assert!(nptv6.len > 48),
        }
    }

    #[test]
    fn checksums_stay_valid(
        nptv6 in pair(),
        (bits, quoted) in (host_bits(), host_bits()),
        carry in proptest::sample::select(
            vec![Carry::Tcp, Carry::Udp, Carry::Query(128), Carry::Query(129)]),
        data in proptest::collection::vec(any::<u8>(), 0..60),
    ) {
        let peer = ip("2600::1");
        prop_assume!(!nptv6.is_inside(peer) && nptv6.to_inside(peer) == Ok(None));
        let end = |addr| Endpoint::new(addr, 9);
        let src = inside_address(&nptv6, bits);
        let mut packet = packet_v6(carry, end(src), end(peer), &[], &data);
        prop_assert!(residue(&packet).is_valid());
        let before = packet.clone();
        if nptv6.translate(&mut packet, Direction::Outbound).is_ok() {
            prop_assert!(residue(&packet).is_valid());
            prop_assert_eq!(&packet[40..], &before[40..]);
            prop_assert_ne!(&packet[..40], &before[..40]);
        }

        let about = inside_address(&nptv6, quoted);
        let quote = packet_v6(carry, end(peer), end(about), &[], &data);
        let mut packet = error_v6([src, peer], [3, 0], 0, &[], &quote);
        if nptv6.translate(&mut packet, Direction::Outbound).is_ok() {
            prop_assert!(residue(&packet).is_valid());
            prop_assert!(residue(&packet[48..]).is_valid(), "the quoted one");
            prop_assert_eq!(Ok(Some(Ipv6Packet::parse(&packet[48..]).unwrap().dst())),
                nptv6.to_outside(about));
        }
    }

    #[test]
    fn any_bytes_are_survived(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        next in prop_oneof![Just(58u8), Just(0), Just(44), any::<u8>()],
        outbound in any::<bool>(),
    ) {
        let mut bytes = bytes;
        let (field, direction) = match outbound {
            true => (8..14, Direction::Outbound),
            false => (24..30, Direction::Inbound),
        };
        if bytes.len() >= 40 {
            let prefix = if outbound { "fd01:203:405::" } else { "2001:db8:1::" };
            bytes[0] = 0x60;
            let len = bytes.len() as u16 - 40;
            bytes[4..6].copy_from_slice(&len.to_be_bytes());
            bytes[6] = next;
            bytes[field].copy_from_slice(&ip(prefix).octets()[..6]);
        }
        let before = bytes.clone();
        match example().translate(&mut bytes, direction) {
            Ok(Outcome::NotMine) | Err(_) => prop_assert_eq!(bytes, before),
            Ok(_) => {
                // The sum of everything stays: each change is neutral.
                let odd = |bytes: &[u8]| sum(bytes).fold() % 0xffff;
                prop_assert_eq!(odd(&bytes), odd(&before));
                prop_assert_ne!(bytes, before);
            }
        }
    }
}
