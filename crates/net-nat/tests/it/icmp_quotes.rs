//! What is verified of an error and the packet it quotes, and what is not (RFC 5508, REQ-3).

use std::net::{IpAddr, SocketAddr};

use net_nat::{DropReason, Side, Verdict};

use crate::icmp_lab::{error, kinds};
use crate::lab::{BOTH, Done, Family, Ip, Lab, V4, V6, at, icmp, see, sum, udp};

/// Sends an error about a datagram of a guest's, which `change` made something of.
fn changed(family: Family, change: impl FnOnce(&mut Vec<u8>)) -> (Done, IpAddr) {
    let mut lab = Lab::of(family);
    let (me, them) = (at(family.inside(2), 5000), at(family.remote(1), 53));
    let seen = lab.map_udp(me, them);
    let mut packet = error(
        family.remote(99),
        seen.ip(),
        kinds(family)[0],
        &udp(seen, them, b"x"),
    );
    change(&mut packet);
    (lab.inn(packet), me.ip())
}

#[test]
fn rfc5508_req3_a_bad_icmp_checksum_drops() {
    for family in BOTH {
        for bit in 0..16 {
            let at = family.header() + 2 + bit / 8;
            let (done, _) = changed(family, |packet| packet[at] ^= 1 << (bit % 8));
            assert_eq!(done.dropped(), DropReason::Checksum);
        }
        let (done, me) = changed(family, |_| {});
        assert_eq!(done.sent().dst, me);
    }
}

/// Makes the checksum of an ICMP message right after its data were changed.
fn seal(packet: &mut [u8]) {
    let seen = see(packet);
    let right = sum::transport(seen.src, seen.dst, seen.protocol, seen.l4()).unwrap();
    packet[seen.l4 + 2..seen.l4 + 4].copy_from_slice(&right.to_be_bytes());
}

#[test]
fn rfc5508_req3a_a_bad_embedded_ip_checksum_drops() {
    // The time to live of the quoted header, which nothing else depends on.
    let (done, _) = changed(V4, |packet| {
        packet[28 + 8] ^= 1;
        seal(packet);
    });
    assert_eq!(done.dropped(), DropReason::Checksum);
}

#[test]
fn rfc5508_req3b_ip_options_are_skipped() {
    let mut lab = Lab::of(V4);
    let (me, them) = (at(V4.inside(2), 5000), at(V4.remote(1), 53));
    let seen = lab.map_udp(me, them);
    let with_options = |src: SocketAddr, options: &[u8]| {
        let mut ip = Ip::new(src.ip(), them.ip(), 17);
        ip.options = options.to_vec();
        ip.seal(crate::lab::build::udp_l4(src.port(), them.port(), b"data"))
    };
    for options in [&[1, 1, 1, 0][..], &[7, 7, 4, 0, 0, 0, 0, 0], &[1; 40]] {
        for outer in [&[][..], &[1, 1, 1, 0]] {
            let error = |dst: IpAddr, quoted: &[u8]| {
                let mut ip = Ip::new(V4.remote(99), dst, 1);
                ip.options = outer.to_vec();
                ip.seal([&[3, 3, 0, 0, 0, 0, 0, 0], quoted].concat())
            };
            let done = lab.inn(error(seen.ip(), &with_options(seen, options)));
            assert_eq!(done.verdict, Verdict::Translated(Side::Inside));
            assert_eq!(done.packet, error(me.ip(), &with_options(me, options)));
        }
    }
}

#[test]
fn rfc5508_req3c_an_embedded_transport_checksum_is_not_verified() {
    for family in BOTH {
        let wrong = family.header() + 8 + family.header() + 6;
        let (done, me) = changed(family, |packet| {
            packet[wrong] ^= 0x55;
            seal(packet);
        });
        let seen = done.sent();
        assert_eq!((seen.dst, seen.quoted().src), (me, me));
    }
}

#[test]
fn rfc5508_req3d_extensions_are_not_part_of_the_quote() {
    for family in BOTH {
        let mut lab = Lab::of(family);
        let (me, them) = (at(family.inside(2), 5000), at(family.remote(1), 53));
        let seen = lab.map_udp(me, them);
        // RFC 4884: the quote padded to 128 bytes, its length in words, then an MPLS label stack.
        let extension = [0x20, 0, 0, 0, 0, 8, 1, 1, 0, 1, 0x11, 0xff];
        let message = |src: SocketAddr, router, dst| {
            let mut data = udp(src, them, b"data");
            data.resize(128, 0);
            data.extend(extension);
            let (kind, words) = match family {
                V4 => ((11, 0), [0, 32, 0, 0]),
                V6 => ((3, 0), [16, 0, 0, 0]),
            };
            icmp(router, dst, kind, words, &data)
        };
        let router = family.remote(99);
        let done = lab.inn(message(seen, router, seen.ip()));
        assert_eq!(done.verdict, Verdict::Translated(Side::Inside));
        assert_eq!(done.packet, message(me, router, me.ip()));
    }
}

#[test]
fn rfc5508_req10_errors_that_quote_errors_are_dropped() {
    for family in BOTH {
        let mut lab = Lab::of(family);
        let (me, them) = (at(family.inside(2), 5000), at(family.remote(1), 53));
        let seen = lab.map_udp(me, them);
        let first = error(
            seen.ip(),
            them.ip(),
            kinds(family)[0],
            &udp(them, seen, b"x"),
        );
        let second = error(them.ip(), seen.ip(), kinds(family)[0], &first);
        assert_eq!(lab.inn(second).dropped(), DropReason::UnrelatedIcmp);
    }
    // Deprecated, and meant for one link only (RFC 6633, RFC 5508 section 7.2).
    let mut lab = Lab::of(V4);
    let seen = lab.map_udp(at(V4.inside(2), 5000), at(V4.remote(1), 53));
    for kind in [4, 5] {
        let quoted = udp(seen, at(V4.remote(1), 53), b"x");
        let done = lab.inn(error(V4.remote(99), seen.ip(), (kind, 0), &quoted));
        assert_eq!(done.dropped(), DropReason::UnrelatedIcmp);
    }
}
