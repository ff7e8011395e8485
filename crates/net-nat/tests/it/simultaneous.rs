//! Both ends open at once, and SYNs that nobody asked for (RFC 5382, REQ-2a and REQ-4).

use std::net::SocketAddr;
use std::time::Duration;

use net_nat::{Direction, DropReason, Side, TcpState};

use crate::lab::{ACK, BOTH, Family, Lab, PSH, SYN, V4, at, secs, see, tcp, udp};
use crate::tcp_lab::{Flow, mine, strict, theirs};

const SYN_ACK: u8 = SYN | ACK;

/// The SYN of an outside host to an outside endpoint.
fn call(lab: &mut Lab, from: SocketAddr, to: SocketAddr) -> crate::lab::Done {
    lab.inn(tcp(from, to, &theirs((SYN, 0, 0, 0), &[])))
}

/// What says that nobody is there: port unreachable.
fn unreachable(family: Family) -> (u8, u8) {
    if family == V4 { (3, 3) } else { (1, 4) }
}

#[test]
fn rfc5382_req2a_simultaneous_open() {
    for family in BOTH {
        let mut lab = strict(family);
        let flow = Flow::syn(&mut lab, family);
        assert!(flow.inn(&mut lab, (SYN, 0, 0, 0)).is_sent());
        assert_eq!(flow.state(&lab), Some(TcpState::SynCrossed));
        assert!(flow.out(&mut lab, (SYN_ACK, 0, 1, 0)).is_sent());
        assert!(flow.inn(&mut lab, (SYN_ACK, 0, 1, 0)).is_sent());
        assert!(flow.out(&mut lab, (ACK, 1, 1, 0)).is_sent());
        assert!(flow.inn(&mut lab, (ACK, 1, 1, 0)).is_sent());
        assert_eq!(flow.state(&lab), Some(TcpState::Established));
        assert!(flow.out(&mut lab, (PSH | ACK, 1, 1, 700)).is_sent());
        assert!(flow.inn(&mut lab, (PSH | ACK, 1, 701, 700)).is_sent());
        assert_eq!(lab.engine().counters().out_of_window, 0);
    }
}

#[test]
fn rfc5382_req2a_the_outside_is_first() {
    for family in BOTH {
        let mut lab = strict(family);
        // The port is known from a connection to a host that tells peers of each other.
        let me = at(family.inside(2), 5000);
        let them = at(family.remote(7), 6000);
        let broker = Flow::between(&mut lab, me, at(family.remote(1), 80), &[]);
        let done = call(&mut lab, them, broker.seen);
        assert_eq!(done.dropped(), DropReason::Unsolicited);
        lab.live(secs(1));
        let flow = Flow::between(&mut lab, me, them, &[]);
        assert_eq!(flow.seen, broker.seen);
        // Their SYN again, since the first one is lost.
        assert!(flow.inn(&mut lab, (SYN, 0, 0, 0)).is_sent());
        assert!(flow.out(&mut lab, (SYN_ACK, 0, 1, 0)).is_sent());
        assert!(flow.inn(&mut lab, (ACK, 1, 1, 0)).is_sent());
        assert_eq!(flow.state(&lab), Some(TcpState::Established));
        lab.live(secs(20));
        assert_eq!(lab.outputs(), []);
    }
}

#[test]
fn rfc5382_req2a_both_ends_behind_this_nat() {
    for family in BOTH {
        let mut lab = strict(family);
        let broker = at(family.remote(1), 80);
        let (a, b) = (at(family.inside(2), 5000), at(family.inside(3), 6000));
        let seen_a = Flow::between(&mut lab, a, broker, &[]).seen;
        let seen_b = Flow::between(&mut lab, b, broker, &[]).seen;
        let first = lab.out(tcp(a, seen_b, &mine((SYN, 0, 0, 0), &[])));
        assert_eq!(first.dropped(), DropReason::Unsolicited);
        let mut send = |from, to, segment: &_| {
            let seen = lab.out(tcp(from, to, segment)).sent_to(Side::Inside);
            (seen.src(), seen.dst())
        };
        let (to_a, to_b) = ((seen_b, a), (seen_a, b));
        assert_eq!(send(b, seen_a, &theirs((SYN, 0, 0, 0), &[])), to_a);
        assert_eq!(send(a, seen_b, &mine((SYN_ACK, 0, 1, 0), &[])), to_b);
        assert_eq!(send(b, seen_a, &theirs((ACK, 1, 1, 0), &[])), to_a);
        assert_eq!(send(a, seen_b, &mine((ACK, 1, 1, 50), &[0; 50])), to_b);
        assert_eq!(send(b, seen_a, &theirs((ACK, 1, 51, 0), &[])), to_a);
        lab.live(secs(20));
        assert_eq!(lab.outputs(), [], "nobody is told that nobody is there");
    }
}

#[test]
fn rfc5382_req4_unsolicited_syn_silent_6s_then_icmp() {
    for family in BOTH {
        let mut lab = Lab::of(family);
        let them = at(family.remote(7), 6000);
        let nobody = at(family.outside(1), 4000);
        let done = call(&mut lab, them, nobody);
        assert_eq!(done.dropped(), DropReason::Unsolicited);
        assert_eq!(
            lab.engine().next_deadline(),
            Some(lab.now() + secs(6)),
            "the caller knows when to come back"
        );
        lab.wait(Duration::from_millis(5999));
        lab.expire();
        assert_eq!(lab.outputs(), []);
        lab.wait(Duration::from_millis(1));
        lab.expire();
        let answer = lab.output();
        assert_eq!(answer.side, Side::Outside);
        let seen = see(&answer.packet);
        assert_eq!((seen.src, seen.dst), (nobody.ip(), them.ip()));
        assert_eq!((seen.kind, seen.code), unreachable(family));
        assert_eq!((seen.quoted().src(), seen.quoted().dst()), (them, nobody));
        // Once only.
        lab.live(secs(30));
        assert_eq!(lab.outputs(), []);
        assert_eq!(lab.engine().usage().sessions, 0);
    }
}

#[test]
fn rfc5382_req4_a_filtered_syn_is_answered_alike() {
    for family in BOTH {
        let mut lab = Lab::of(family);
        let flow = Flow::established(&mut lab, family);
        let them = at(family.remote(7), 6000);
        assert_eq!(
            call(&mut lab, them, flow.seen).dropped(),
            DropReason::Unsolicited
        );
        lab.live(secs(6));
        let seen = see(&lab.output().packet);
        assert_eq!((seen.src, seen.dst), (flow.seen.ip(), them.ip()));
        assert_eq!((seen.kind, seen.code), unreachable(family));
    }
}

#[test]
fn rfc5382_req4_repeated_syns_get_one_answer_that_is_not_put_off() {
    let mut lab = Lab::of(V4);
    let (them, nobody) = (at(V4.remote(7), 6000), at(V4.outside(1), 4000));
    for _ in 0..5 {
        assert_eq!(
            call(&mut lab, them, nobody).dropped(),
            DropReason::Unsolicited
        );
        lab.live(secs(1));
    }
    assert_eq!(lab.outputs(), []);
    lab.live(secs(1));
    let _ = lab.output();
    lab.live(secs(30));
    assert_eq!(lab.outputs(), []);
}

#[test]
fn rfc5382_req4_an_outbound_syn_in_time_drops_the_first() {
    for family in BOTH {
        let mut lab = Lab::of(family);
        let me = at(family.inside(2), 5000);
        let broker = Flow::between(&mut lab, me, at(family.remote(1), 80), &[]);
        let (early, late) = (at(family.remote(7), 6000), at(family.remote(8), 6000));
        for them in [early, late] {
            assert!(!call(&mut lab, them, broker.seen).is_sent());
        }
        lab.live(secs(5));
        let flow = Flow::between(&mut lab, me, early, &[]);
        assert_eq!(
            flow.state(&lab),
            Some(TcpState::SynSent(Direction::Outbound))
        );
        lab.live(secs(1));
        // Only the one that nobody called back hears of it.
        assert_eq!(see(&lab.output().packet).dst, late.ip());
        lab.live(secs(30));
        assert_eq!(lab.outputs(), []);
    }
}

#[test]
fn rfc5382_req4_a_guest_hears_of_its_own_unsolicited_syn() {
    for family in BOTH {
        let mut lab = Lab::of(family);
        let me = at(family.inside(2), 5000);
        let nobody = at(family.outside(1), 4000);
        let done = lab.out(tcp(me, nobody, &mine((SYN, 0, 0, 0), &[])));
        assert_eq!(done.dropped(), DropReason::Unsolicited);
        lab.live(secs(6));
        let answer = lab.output();
        assert_eq!(answer.side, Side::Inside, "what left for us comes back in");
        let seen = see(&answer.packet);
        assert_eq!((seen.src, seen.dst), (nobody.ip(), me.ip()));
        assert_eq!((seen.kind, seen.code), unreachable(family));
        assert_eq!((seen.quoted().src(), seen.quoted().dst()), (me, nobody));
    }
}

#[test]
fn rfc5382_req4_only_syns_are_answered_and_only_so_many() {
    let mut lab = Lab::with(V4, |config| config.limits.unsolicited = 10);
    let nobody = at(V4.outside(1), 4000);
    for flags in (0..64).filter(|flags| flags & 0x17 != SYN) {
        let done = lab.inn(tcp(
            at(V4.remote(1), 1),
            nobody,
            &theirs((flags, 1, 1, 0), &[]),
        ));
        assert_eq!(done.dropped(), DropReason::NoMapping, "{flags:#x}");
    }
    let datagram = lab.inn(udp(at(V4.remote(1), 1), nobody, b"x"));
    assert_eq!(datagram.dropped(), DropReason::NoMapping);
    lab.live(secs(7));
    assert_eq!(lab.outputs(), []);
    for n in 1..=100 {
        assert!(!call(&mut lab, at(V4.remote(n), 1), nobody).is_sent());
    }
    lab.live(secs(7));
    assert_eq!(lab.outputs().len(), 10, "silence is always allowed");
}

#[test]
fn rfc5382_req4a_silent_by_policy() {
    for family in BOTH {
        let mut lab = Lab::with(family, |config| config.answer_unsolicited = false);
        let nobody = at(family.outside(1), 4000);
        let done = call(&mut lab, at(family.remote(7), 6000), nobody);
        assert_eq!(done.dropped(), DropReason::NoMapping);
        lab.live(secs(60));
        assert_eq!(lab.outputs(), []);
        assert_eq!(lab.engine().counters().replies, 0);
    }
}
