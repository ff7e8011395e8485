//! Guests that call each other by their outside endpoints (RFC 4787, section 6).

use net_nat::config::Dependence;
use net_nat::{DropReason, Side, Verdict};

use crate::lab::{ACK, BOTH, Lab, SYN, Tcp, at, fragments, secs, see, tcp, udp};

#[test]
fn rfc4787_req9_hairpin() {
    for family in BOTH {
        let mut lab = Lab::with(family, |c| {
            c.udp.filtering = Dependence::EndpointIndependent
        });
        let [one, two] = [2, 3].map(|n| at(family.inside(n), 5000));
        let stun = at(family.remote(1), 3478);
        let [outside_one, outside_two] = [one, two].map(|me| lab.map_udp(me, stun));
        for _ in 0..3 {
            let seen = lab
                .out(udp(one, outside_two, b"to two"))
                .sent_to(Side::Inside);
            // The receiver sees the external endpoint of the sender (REQ-9a), not the inside one.
            assert_eq!((seen.src(), seen.dst()), (outside_one, two));
            let seen = lab
                .out(udp(two, outside_one, b"to one"))
                .sent_to(Side::Inside);
            assert_eq!((seen.src(), seen.dst()), (outside_two, one));
        }
        assert_eq!(lab.engine().counters().hairpinned, 6);
    }
}

#[test]
fn rfc4787_req9_hairpins_are_filtered_like_anybody() {
    for family in BOTH {
        let mut lab = Lab::with(family, |c| {
            c.udp.filtering = Dependence::AddressAndPortDependent
        });
        let [one, two] = [2, 3].map(|n| at(family.inside(n), 5000));
        let stun = at(family.remote(1), 3478);
        let [outside_one, outside_two] = [one, two].map(|me| lab.map_udp(me, stun));
        // Both send: the first is lost, as between two NATs, and opens the way for the second.
        assert_eq!(
            lab.out(udp(one, outside_two, b"x")).dropped(),
            DropReason::Filtered
        );
        let seen = lab.out(udp(two, outside_one, b"x")).sent_to(Side::Inside);
        assert_eq!((seen.src(), seen.dst()), (outside_two, one));
        let seen = lab.out(udp(one, outside_two, b"x")).sent_to(Side::Inside);
        assert_eq!((seen.src(), seen.dst()), (outside_one, two));
    }
}

#[test]
fn a_guest_may_call_itself_from_outside() {
    for family in BOTH {
        let mut lab = Lab::with(family, |c| {
            c.udp.filtering = Dependence::EndpointIndependent
        });
        let me = at(family.inside(2), 5000);
        let outside = lab.map_udp(me, at(family.remote(1), 3478));
        for _ in 0..3 {
            let seen = lab.out(udp(me, outside, b"x")).sent_to(Side::Inside);
            assert_eq!((seen.src(), seen.dst()), (outside, me));
        }
        // And a second socket of its own.
        let other = at(family.inside(2), 5001);
        let seen = lab.out(udp(other, outside, b"x")).sent_to(Side::Inside);
        assert_eq!(seen.dst(), me);
        assert_eq!(seen.src.to_string(), outside.ip().to_string());
    }
}

#[test]
fn hairpins_to_a_published_port() {
    for family in BOTH {
        let mut lab = Lab::of(family);
        let (server, published) = (at(family.inside(3), 80), at(family.outside(1), 8080));
        lab.forward(6, published, server).unwrap();
        let me = at(family.inside(2), 5000);
        let syn = Tcp {
            flags: SYN,
            seq: 1,
            ..Tcp::default()
        };
        let seen = lab.out(tcp(me, published, &syn)).sent_to(Side::Inside);
        assert_eq!((seen.src, seen.dst()), (family.outside(1), server));
        let answer = Tcp {
            flags: SYN | ACK,
            seq: 7,
            ack: 2,
            ..Tcp::default()
        };
        let back = lab
            .out(tcp(server, seen.src(), &answer))
            .sent_to(Side::Inside);
        assert_eq!((back.src(), back.dst()), (published, me));
    }
}

#[test]
fn hairpinned_fragments_in_any_order() {
    for family in BOTH {
        let mut lab = Lab::with(family, |c| {
            c.udp.filtering = Dependence::EndpointIndependent
        });
        let [one, two] = [2, 3].map(|n| at(family.inside(n), 5000));
        let stun = at(family.remote(1), 3478);
        let [outside_one, outside_two] = [one, two].map(|me| lab.map_udp(me, stun));
        for (id, order) in [[0, 1, 2], [1, 0, 2], [2, 1, 0], [1, 2, 0]]
            .into_iter()
            .enumerate()
        {
            let pieces = fragments(&udp(one, outside_two, &[7; 3000]), 1400, id as u32);
            let mut got = Vec::new();
            for n in order {
                let done = lab.out(&pieces[n]);
                if done.verdict != Verdict::Hold {
                    got.push(done.sent_to(Side::Inside));
                }
                for output in lab.outputs() {
                    assert_eq!(output.side, Side::Inside);
                    got.push(see(&output.packet));
                }
            }
            assert_eq!(got.len(), 3, "order {order:?}");
            for piece in got {
                assert_eq!((piece.src, piece.dst), (outside_one.ip(), two.ip()));
                assert_eq!(piece.l4().len().min(8), 8);
            }
        }
    }
}

#[test]
fn a_hairpin_to_nobody_goes_nowhere_and_nothing_leaves() {
    for family in BOTH {
        let mut lab = Lab::of(family);
        let me = at(family.inside(2), 5000);
        let nobody = at(family.outside(1), 9);
        assert_eq!(
            lab.out(udp(me, nobody, b"x")).dropped(),
            DropReason::NoMapping
        );
        let syn = Tcp {
            flags: SYN,
            ..Tcp::default()
        };
        assert!(!lab.out(tcp(me, nobody, &syn)).is_sent());
        lab.live(secs(20));
        // If it is told, then as a guest: by an error that comes back inside.
        for output in lab.outputs() {
            assert_eq!(output.side, Side::Inside);
            let error = see(&output.packet);
            assert_eq!(error.dst, me.ip());
            assert_eq!(error.quoted().src(), me);
            assert_eq!(error.quoted().dst(), nobody);
        }
    }
}

#[test]
fn a_hairpin_too_big_for_the_inside_is_told_to_its_sender() {
    for family in BOTH {
        let mut lab = Lab::with(family, |c| {
            c.udp.filtering = Dependence::EndpointIndependent;
            c.mtu = [1300, 1500];
        });
        let [one, two] = [2, 3].map(|n| at(family.inside(n), 5000));
        let outside_two = lab.map_udp(two, at(family.remote(1), 3478));
        let mut packet = udp(one, outside_two, &[0; 1400]);
        if one.is_ipv4() {
            // "Don't fragment", its checksum patched by hand: 0x4000 more in one word.
            packet[6] |= 0x40;
            let sum = u16::from_be_bytes([packet[10], packet[11]]);
            let sum = u32::from(!sum) + 0x4000;
            let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
            packet[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        assert!(!lab.out(&packet).is_sent());
        let output = lab.output();
        assert_eq!(output.side, Side::Inside);
        let error = see(&output.packet);
        assert_eq!(error.dst, one.ip());
        assert_eq!(
            (error.quoted().src(), error.quoted().dst()),
            (one, outside_two)
        );
    }
}
