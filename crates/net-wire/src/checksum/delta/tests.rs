use super::*;
use crate::checksum::{Sum, sum};
use proptest::prelude::*;

/// Row 48: the example of RFC 1624, section 4.
#[test]
fn rfc1624_corner_case() {
    assert_eq!(Delta::new16(0x5555, 0x3285).apply(0xdd2f), 0x0000);
}

/// Row 49.
#[test]
fn rfc768_zero_is_none_and_is_never_computed() {
    let delta = Delta::new16(0x5555, 0x3285);
    assert_eq!(delta.apply_udp(0), 0);
    assert_eq!(delta.apply_udp(0xdd2f), 0xffff);
}

/// Words at the corners, and some between.
const WORDS: [u16; 20] = [
    0, 1, 2, 0xff, 0x100, 0x1234, 0x3285, 0x5555, 0x7ffe, 0x7fff, 0x8000, 0x8001, 0xaaaa, 0xcafe,
    0xdd2f, 0xfeff, 0xff00, 0xfffd, 0xfffe, 0xffff,
];

/// Row 48: every old checksum, with each word of the spread becoming each other one, against a new
/// computation; bit for bit, 0x0000 and 0xffff told apart.
#[test]
fn updates_agree_with_recompute_for_every_checksum() {
    let fold = |sum: u32| ((sum & 0xffff) + (sum >> 16)) as u16;
    for before in 0..=0xffffu16 {
        let total = !before;
        // A sum of zero is that of all-zero data only: the corner that the next test has.
        if total == 0 {
            continue;
        }
        for old in WORDS {
            // The rest of the data: what gives this checksum together with the old word. It is never
            // zero, though it may be the other zero.
            let rest = fold(u32::from(total) + u32::from(!old));
            assert_eq!(fold(u32::from(old) + u32::from(rest)), total);
            for new in WORDS {
                let after = !fold(u32::from(new) + u32::from(rest));
                let delta = Delta::new16(old, new);
                assert_eq!(delta.apply(before), after, "{before:x} {old:x} {new:x}");
                assert_eq!(delta.apply_partial(total), !after);
                assert_eq!(delta.inverse().apply(after), before);
                let udp = |check| if check == 0 { 0xffff } else { check };
                assert_eq!(delta.apply_udp(udp(before)), udp(after));
            }
        }
    }
}

/// The two ways through the corner of all-zero data, which no header is.
#[test]
fn all_zero_data_has_the_other_zero() {
    for word in WORDS {
        // From nothing but zeros the update is exact, except back to nothing but zeros.
        let expected = if word == 0 { 0 } else { !word };
        assert_eq!(Delta::new16(0, word).apply(0xffff), expected);
        // To nothing but zeros it gives the zero that a sum of something would have.
        assert_eq!(
            Delta::new16(word, 0).apply(if word == 0 { 0xffff } else { !word }),
            0
        );
    }
    // No change at all is a change of nothing, also there.
    assert_eq!(Delta::ZERO.apply(0xffff), 0xffff);
}

/// RFC 768 over every value: a patched UDP checksum is never the 0 that says "none".
#[test]
fn a_patched_udp_checksum_is_never_zero() {
    for before in 1..=0xffffu16 {
        for (old, new) in WORDS.into_iter().zip(WORDS.into_iter().rev()) {
            assert_ne!(Delta::new16(old, new).apply_udp(before), 0);
        }
    }
}

/// The checksum of data that has the bytes somewhere at an even offset and is not all zero.
fn check(bytes: &[u8], rest: u16) -> u16 {
    (sum(bytes) + Sum::word(rest)).finish()
}

fn bytes_v4(ends: &[SocketAddrV4]) -> Vec<u8> {
    let addresses = ends.iter().flat_map(|end| end.ip().octets());
    let ports = ends.iter().flat_map(|end| end.port().to_be_bytes());
    addresses.chain(ports).collect()
}

fn bytes_v6(ends: &[SocketAddrV6]) -> Vec<u8> {
    let addresses = ends.iter().flat_map(|end| end.ip().octets());
    let ports = ends.iter().flat_map(|end| end.port().to_be_bytes());
    addresses.chain(ports).collect()
}

/// Any value, the corners often.
fn word() -> impl Strategy<Value = u16> {
    prop_oneof![proptest::sample::select(&WORDS[..]), any::<u16>()]
}

fn end_v4() -> impl Strategy<Value = SocketAddrV4> {
    (word(), word(), word()).prop_map(|(a, b, port)| {
        SocketAddrV4::new(Ipv4Addr::from_bits(u32::from(a) << 16 | u32::from(b)), port)
    })
}

fn end_v6() -> impl Strategy<Value = SocketAddrV6> {
    let segments = proptest::array::uniform8(word());
    (segments, word(), any::<u32>())
        .prop_map(|(segments, port, other)| SocketAddrV6::new(segments.into(), port, other, !other))
}

proptest! {
    #[test]
    fn a_delta_of_v4_ends_is_the_recompute(old in [end_v4(), end_v4()], new in [end_v4(), end_v4()], rest in 1u16..) {
        let whole = Delta::new_tuple_v4(old, new);
        prop_assert_eq!(whole.apply(check(&bytes_v4(&old), rest)), check(&bytes_v4(&new), rest));
        prop_assert_eq!(whole.inverse().apply(check(&bytes_v4(&new), rest)), check(&bytes_v4(&old), rest));
        let one = Delta::new_endpoint_v4(old[0], new[0]);
        prop_assert_eq!(one.apply(check(&bytes_v4(&old[..1]), rest)), check(&bytes_v4(&new[..1]), rest));
        let address = Delta::new_v4(*old[1].ip(), *new[1].ip());
        prop_assert_eq!(
            address.apply(check(&old[1].ip().octets(), rest)),
            check(&new[1].ip().octets(), rest)
        );
    }

    #[test]
    fn a_delta_of_v6_ends_is_the_recompute(old in [end_v6(), end_v6()], new in [end_v6(), end_v6()], rest in 1u16..) {
        let whole = Delta::new_tuple_v6(old, new);
        prop_assert_eq!(whole.apply(check(&bytes_v6(&old), rest)), check(&bytes_v6(&new), rest));
        prop_assert_eq!(whole.inverse().apply(check(&bytes_v6(&new), rest)), check(&bytes_v6(&old), rest));
        let one = Delta::new_endpoint_v6(old[0], new[0]);
        prop_assert_eq!(one.apply(check(&bytes_v6(&old[..1]), rest)), check(&bytes_v6(&new[..1]), rest));
        let address = Delta::new_v6(*old[1].ip(), *new[1].ip());
        prop_assert_eq!(
            address.apply(check(&old[1].ip().octets(), rest)),
            check(&new[1].ip().octets(), rest)
        );
    }

    #[test]
    fn a_delta_of_32_bits_is_the_recompute(old: u32, new: u32, rest in 1u16..) {
        let (before, after) = (check(&old.to_be_bytes(), rest), check(&new.to_be_bytes(), rest));
        prop_assert_eq!(Delta::new32(old, new).apply(before), after);
    }
}
