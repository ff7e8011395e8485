//! Addresses and the prefixes they have, with figures worked out by hand.

use super::*;

#[test]
fn rfc6296_3_6_the_example() {
    let nptv6 = example();
    let (inside, outside) = (ip("fd01:203:405:1::1234"), ip("2001:db8:1:d550::1234"));
    assert_eq!(nptv6.gain, 0xd54f);
    assert_eq!(nptv6.to_outside(inside), Ok(Some(outside)));
    assert_eq!(nptv6.to_inside(outside), Ok(Some(inside)));
    assert_eq!(nptv6.to_inside(inside), Ok(None));
    assert_eq!(nptv6.to_outside(outside), Ok(None));
}

#[test]
fn rfc6296_3_2_subnet_ffff_is_refused_and_ffff_becomes_0() {
    let nptv6 = example();
    for (addr, direction) in [
        (nptv6.to_outside(ip("fd01:203:405:ffff::1")), "out"),
        (nptv6.to_inside(ip("2001:db8:1:ffff::1")), "in"),
    ] {
        assert_eq!(addr, Err(Untranslatable::Subnet), "{direction}");
    }
    // The complement of the gain: the sum is 0xffff.
    let addr = ip("fd01:203:405:2ab0::1");
    assert_eq!(nptv6.to_outside(addr), Ok(Some(ip("2001:db8:1:0::1"))));
    assert_eq!(nptv6.to_inside(ip("2001:db8:1:0::1")), Ok(Some(addr)));
}

#[test]
fn rfc6296_3_5_a_longer_prefix_changes_the_first_suitable_word() {
    let nptv6 = nptv6("fd01:203:405:6::/64", "2001:db8:1:2::/64");
    for (inside, outside) in [
        ("fd01:203:405:6::1", "2001:db8:1:2:d553::1"),
        ("fd01:203:405:6:ffff::1", "2001:db8:1:2:ffff:d553:0:1"),
        (
            "fd01:203:405:6:ffff:ffff:0:1",
            "2001:db8:1:2:ffff:ffff:d553:1",
        ),
        (
            "fd01:203:405:6:ffff:ffff:ffff:1",
            "2001:db8:1:2:ffff:ffff:ffff:d554",
        ),
    ] {
        assert_eq!(
            nptv6.to_outside(ip(inside)),
            Ok(Some(ip(outside))),
            "{inside}"
        );
        assert_eq!(
            nptv6.to_inside(ip(outside)),
            Ok(Some(ip(inside))),
            "{inside}"
        );
    }
    assert_eq!(nptv6.to_outside(ip("fd01:203:405:7::1")), Ok(None));
}

#[test]
fn rfc6296_3_7_identifiers_of_ones_and_of_zeros_are_refused() {
    let nptv6 = nptv6("fd01:203:405:6::/64", "2001:db8:1:2::/64");
    let refused = Err(Untranslatable::InterfaceId);
    for addr in ["fd01:203:405:6:ffff:ffff:ffff:ffff", "fd01:203:405:6::"] {
        assert_eq!(nptv6.to_outside(ip(addr)), refused, "{addr}");
    }
    for addr in ["2001:db8:1:2:ffff:ffff:ffff:ffff", "2001:db8:1:2::"] {
        assert_eq!(nptv6.to_inside(ip(addr)), refused, "{addr}");
    }
    // It would be all zeros outside.
    assert_eq!(nptv6.to_outside(ip("fd01:203:405:6:2aac::")), refused);
}

#[test]
fn rfc6296_3_1_the_shorter_prefix_is_extended_with_zeros() {
    let nptv6 = nptv6("fd01:203:405::/48", "2001:db8:1:ab00::/56");
    assert_eq!(nptv6.inside(), (ip("fd01:203:405::"), 56));
    assert_eq!(nptv6.outside(), (ip("2001:db8:1:ab00::"), 56));
    // 0xd54f less the 0xab00 that the outside prefix has more.
    let outside = ip("2001:db8:1:ab77:2a4f::1");
    assert_eq!(
        nptv6.to_outside(ip("fd01:203:405:77::1")),
        Ok(Some(outside))
    );
    assert_eq!(nptv6.to_outside(ip("fd01:203:405:177::1")), Ok(None));
}

#[test]
fn a_prefix_shorter_than_48_keeps_the_bits_behind_it() {
    let nptv6 = nptv6("fd01:200::/28", "2001:db0::/28");
    let outside = nptv6.to_outside(ip("fd01:203:405:1::1")).unwrap().unwrap();
    assert_eq!(outside.segments()[..3], [0x2001, 0xdb3, 0x405]);
    assert_eq!(nptv6.to_inside(outside), Ok(Some(ip("fd01:203:405:1::1"))));
}

#[test]
fn rfc6296_3_5_begins_at_49_bits() {
    for (len, outside) in [(48, "2001:db8:1:d550::1"), (49, "2001:db8:1:1:d54f::1")] {
        let prefix = |text| (ip(text), len);
        let nptv6 = Nptv6::new(prefix("fd01:203:405::"), prefix("2001:db8:1::")).unwrap();
        let inside = ip("fd01:203:405:1::1");
        assert_eq!(nptv6.to_outside(inside), Ok(Some(ip(outside))), "{len}");
    }
}

#[test]
fn prefixes_that_do_not_work_are_refused() {
    let new = |inside: &str, a, outside: &str, b| Nptv6::new((ip(inside), a), (ip(outside), b));
    for len in [0, 65, 128, 255] {
        let expected = Err(Nptv6Error::PrefixLength(len));
        assert_eq!(new("fd01::", len, "2001:db8::", 48), expected);
        assert_eq!(new("fd01::", 48, "2001:db8::", len), expected);
    }
    let expected = Err(Nptv6Error::HostBits(ip("2001:db8:0:1::"), 63));
    assert_eq!(new("fd01::", 48, "2001:db8:0:1::", 63), expected);
    let expected = Err(Nptv6Error::HostBits(ip("fd01::1"), 64));
    assert_eq!(new("fd01::1", 64, "2001:db8::", 64), expected);
    for bad in ["ff00::", "fe80::", "::"] {
        let expected = Err(Nptv6Error::NotRouted(ip(bad)));
        assert_eq!(new("fd01::", 48, bad, 48), expected);
    }
    let expected = Err(Nptv6Error::Overlap);
    assert_eq!(new("2001:db8::", 48, "2001:db8::", 48), expected);
    assert_eq!(new("2001:db8::", 32, "2001:db8:0:5::", 64), expected);
    assert_eq!(new("2001:db8:0:5::", 64, "2001:db8::", 32), expected);
}
