//! Errors that pass the NAT, compared byte for byte with errors composed directly (RFC 5508, REQ-4
//! to REQ-7).

use std::net::SocketAddr;

use net_nat::{DropReason, Side, Verdict};

use crate::icmp_lab::{error, kinds};
use crate::lab::build::udp_l4;
use crate::lab::{ACK, BOTH, ECHO, ECHO_REPLY, Family, Ip, Lab, at, echo, see, tcp, udp};
use crate::tcp_lab::{Flow, mine, theirs};

/// A guest with a flow of each kind, and that flow's packets on both sides of the NAT.
struct Case {
    /// From the inside, as the guest sent it and as it left.
    out: [Vec<u8>; 2],
    /// Its answer, as the guest gets it and as it came.
    inn: [Vec<u8>; 2],
}

fn cases(lab: &mut Lab, family: Family) -> Vec<Case> {
    let (me, them, us) = (family.inside(2), family.remote(1), family.outside(1));
    let flow = Flow::established(lab, family);
    let (mine, theirs) = (
        mine((ACK, 1, 1, 0), b"data"),
        theirs((ACK, 1, 5, 0), b"data"),
    );
    let segments = Case {
        out: [
            tcp(flow.me, flow.them, &mine),
            tcp(flow.seen, flow.them, &mine),
        ],
        inn: [
            tcp(flow.them, flow.me, &theirs),
            tcp(flow.them, flow.seen, &theirs),
        ],
    };
    let (here, there) = (at(me, 5000), at(them, 53));
    let seen = lab.map_udp(here, there);
    let datagrams = Case {
        out: [udp(here, there, b"data"), udp(seen, there, b"data")],
        inn: [udp(there, here, b"data"), udp(there, seen, b"data")],
    };
    let id = lab.out(echo(me, them, ECHO, 7, 1)).sent().ident;
    let queries = Case {
        out: [echo(me, them, ECHO, 7, 1), echo(us, them, ECHO, id, 1)],
        inn: [
            echo(them, me, ECHO_REPLY, 7, 1),
            echo(them, us, ECHO_REPLY, id, 1),
        ],
    };
    vec![segments, datagrams, queries]
}

#[test]
fn rfc5508_req4_an_error_from_outside_is_as_if_there_were_no_nat() {
    for family in BOTH {
        let mut lab = Lab::of(family);
        let (router, us) = (family.remote(99), family.outside(1));
        for case in cases(&mut lab, family) {
            let [sent, left] = &case.out;
            let me = see(sent).src;
            for &kind in kinds(family) {
                // All of it, and the eight bytes that RFC 792 asks for.
                for len in [left.len(), family.header() + 8] {
                    let done = lab.inn(error(router, us, kind, &left[..len]));
                    assert_eq!(done.verdict, Verdict::Translated(Side::Inside));
                    assert_eq!(
                        done.packet,
                        error(router, me, kind, &sent[..len]),
                        "{kind:?}"
                    );
                }
            }
        }
        assert!(lab.engine().counters().errors >= 48);
    }
}

#[test]
fn rfc5508_req4_an_error_about_nothing_is_dropped() {
    for family in BOTH {
        let mut lab = Lab::of(family);
        let (router, us) = (family.remote(99), family.outside(1));
        let (me, them) = (at(family.inside(2), 5000), at(family.remote(1), 53));
        let seen = lab.map_udp(me, them);
        let other = |addr: SocketAddr| at(addr.ip(), addr.port() ^ 1);
        for quoted in [
            udp(other(seen), them, b"x"),
            udp(seen, other(them), b"x"),
            udp(seen, at(family.remote(2), 53), b"x"),
            udp(at(family.remote(2), 1), them, b"x"),
            udp(me, them, b"x"),
            udp(them, seen, b"x"),
            tcp(seen, them, &mine((ACK, 1, 1, 0), &[])),
        ] {
            let done = lab.inn(error(router, us, kinds(family)[0], &quoted));
            assert_eq!(
                done.dropped(),
                DropReason::UnrelatedIcmp,
                "{:?}",
                see(&quoted)
            );
        }
        // Nor may an error be for somebody else than the sender of what it quotes.
        let astray = error(
            router,
            family.outside(2),
            kinds(family)[0],
            &udp(seen, them, b"x"),
        );
        assert_eq!(lab.inn(astray).verdict, Verdict::Pass);
    }
}

#[test]
fn rfc5508_req5_an_error_from_inside_shows_nothing_of_the_inside() {
    for family in BOTH {
        let mut lab = Lab::of(family);
        let (them, us) = (family.remote(1), family.outside(1));
        for case in cases(&mut lab, family) {
            let [got, came] = &case.inn;
            // From the guest itself, or from a router before it.
            for source in [see(got).dst, family.inside(77)] {
                for &kind in kinds(family) {
                    for len in [got.len(), family.header() + 8] {
                        let done = lab.out(error(source, them, kind, &got[..len]));
                        assert_eq!(done.verdict, Verdict::Translated(Side::Outside));
                        assert_eq!(done.packet, error(us, them, kind, &came[..len]), "{kind:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn rfc5508_req5_an_error_from_inside_about_nothing_is_dropped() {
    for family in BOTH {
        let mut lab = Lab::of(family);
        let (me, them) = (at(family.inside(2), 5000), at(family.remote(1), 53));
        let _ = lab.map_udp(me, them);
        let victim = family.remote(9);
        let astray = error(me.ip(), victim, kinds(family)[0], &udp(them, me, b"x"));
        assert_eq!(lab.out(astray).dropped(), DropReason::UnrelatedIcmp);
        let never = udp(at(victim, 53), me, b"x");
        let never = error(me.ip(), victim, kinds(family)[0], &never);
        assert_eq!(lab.out(never).dropped(), DropReason::UnrelatedIcmp);
    }
}

#[test]
fn rfc5508_req6_errors_neither_refresh_nor_delete() {
    for family in BOTH {
        let mut lab = Lab::of(family);
        let cases = cases(&mut lab, family);
        lab.live(crate::lab::secs(30));
        let before: Vec<_> = lab.engine().sessions().collect();
        assert_eq!(before.len(), 3);
        for case in &cases {
            for &kind in kinds(family) {
                let (router, us) = (family.remote(99), family.outside(1));
                assert!(lab.inn(error(router, us, kind, &case.out[1])).is_sent());
                let (me, them) = (family.inside(2), family.remote(1));
                assert!(lab.out(error(me, them, kind, &case.inn[0])).is_sent());
            }
        }
        assert_eq!(lab.engine().sessions().collect::<Vec<_>>(), before);
    }
}

#[test]
fn rfc5508_req7_hairpinned_errors() {
    for family in BOTH {
        let mut lab = Lab::of(family);
        let (a, b) = (at(family.inside(2), 5000), at(family.inside(3), 6000));
        let published = at(family.outside(1), 7000);
        lab.forward(17, published, b).unwrap();
        let packet = lab.out(udp(a, published, b"data")).sent_to(Side::Inside);
        let seen = packet.src();
        assert_eq!(packet.dst(), b);
        for &kind in kinds(family) {
            // The callee complains of what it got; the caller hears of what it sent.
            let done = lab.out(error(b.ip(), seen.ip(), kind, &udp(seen, b, b"data")));
            assert_eq!(done.verdict, Verdict::Translated(Side::Inside));
            let expected = udp(a, published, b"data");
            assert_eq!(done.packet, error(published.ip(), a.ip(), kind, &expected));
        }
    }
}

#[test]
fn rfc5508_req7_a_hairpinned_packet_that_is_too_long_is_answered_inside() {
    for family in BOTH {
        let mut lab = Lab::with(family, |config| config.mtu = [1280, 0]);
        let (a, b) = (at(family.inside(2), 5000), at(family.inside(3), 6000));
        let published = at(family.outside(1), 7000);
        lab.forward(17, published, b).unwrap();
        let mut ip = Ip::new(a.ip(), published.ip(), 17);
        ip.dont_fragment = true;
        let sent = ip.seal(udp_l4(a.port(), published.port(), &[0; 1300]));
        assert_eq!(lab.out(&sent).verdict, Verdict::Reply);
        let answer = lab.output();
        assert_eq!(answer.side, Side::Inside);
        let seen = see(&answer.packet);
        assert_eq!((seen.src, seen.dst), (published.ip(), a.ip()));
        let too_big = if family.header() == 20 {
            (3, 4)
        } else {
            (2, 0)
        };
        assert_eq!((seen.kind, seen.code), too_big);
        assert_eq!((seen.quoted().src(), seen.quoted().dst()), (a, published));
    }
}
