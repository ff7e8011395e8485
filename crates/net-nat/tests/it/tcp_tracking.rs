//! Row 50: which segments belong to a connection (RFC 9293, RFC 5961), through the whole engine.

use net_nat::config::OutOfWindow;
use net_nat::{Direction, DropReason, TcpState};

use crate::lab::{ACK, BOTH, FIN, Lab, PSH, RST, SYN, Tcp, V4, at, secs, tcp};
use crate::tcp_lab::{Flow, OFFER, mine, strict, theirs};

const SYN_ACK: u8 = SYN | ACK;
const FIN_ACK: u8 = FIN | ACK;

#[test]
fn row50_windows_are_scaled() {
    for family in BOTH {
        let mut lab = strict(family);
        let flow = Flow::established_with(&mut lab, family, OFFER);
        // 65,535 units of 128 bytes.
        let open = Tcp {
            window: 65_535,
            ..mine((ACK, 1, 1, 0), &[])
        };
        assert!(flow.out_with(&mut lab, &open).is_sent());
        for n in 0..5 {
            let ahead = 1 + n * 1_000_000;
            assert!(flow.inn(&mut lab, (ACK, ahead, 1, 1000)).is_sent(), "{n}");
        }
        let done = flow.inn(&mut lab, (ACK, 20_000_000, 1, 1000));
        assert_eq!(done.dropped(), DropReason::OutOfWindow);
        // A window nobody offered to scale is as large as it says.
        let mut lab = strict(family);
        let flow = Flow::established(&mut lab, family);
        let done = flow.inn(&mut lab, (ACK, 1_000_000, 1, 1000));
        assert_eq!(done.dropped(), DropReason::OutOfWindow);
    }
}

#[test]
fn row50_a_window_only_one_side_offers_to_scale_is_not_scaled() {
    let mut lab = strict(V4);
    let flow = Flow::between(
        &mut lab,
        at(V4.inside(2), 5000),
        at(V4.remote(1), 80),
        OFFER,
    );
    assert!(flow.inn(&mut lab, (SYN_ACK, 0, 1, 0)).is_sent());
    assert!(flow.out(&mut lab, (ACK, 1, 1, 0)).is_sent());
    let done = flow.inn(&mut lab, (ACK, 1_000_000, 1, 1000));
    assert_eq!(done.dropped(), DropReason::OutOfWindow);
}

#[test]
fn row50_selective_acknowledgments_of_a_hole_pass() {
    for family in BOTH {
        let mut lab = strict(family);
        let flow = Flow::established_with(&mut lab, family, OFFER);
        // The first segment is lost behind the NAT; all that follow are reported.
        for n in 0..40u32 {
            let seq = 1 + n * 1400;
            assert!(flow.out(&mut lab, (ACK, seq, 1, 1400)).is_sent());
            let blocks = [
                crate::tcp_lab::MINE + 1401,
                crate::tcp_lab::MINE + seq + 1400,
            ];
            let mut options = vec![1, 1, 5, 10];
            options.extend(blocks.iter().flat_map(|edge| edge.to_be_bytes()));
            let sack = Tcp {
                options: &options,
                ..theirs((ACK, 1, 1, 0), &[])
            };
            assert!(flow.inn_with(&mut lab, &sack).is_sent(), "{n}");
        }
        assert!(flow.out(&mut lab, (ACK, 1, 1, 1400)).is_sent());
        assert!(flow.inn(&mut lab, (ACK, 1, 1 + 40 * 1400, 0)).is_sent());
    }
}

#[test]
fn row50_loose_pick_up_from_the_inside() {
    for family in BOTH {
        let (me, them) = (at(family.inside(2), 5000), at(family.remote(1), 80));
        let data = tcp(me, them, &mine((PSH | ACK, 5000, 9000, 0), b"x"));
        let mut lab = strict(family);
        let seen = lab.out(&data).sent().src();
        let flow = Flow { me, them, seen };
        assert_eq!(
            flow.state(&lab),
            Some(TcpState::PickedUp(Direction::Outbound))
        );
        assert_eq!(flow.left(&lab), Some(secs(240)));
        // What was in flight when the state was lost.
        assert!(flow.inn(&mut lab, (ACK, 50_000, 9000, 1000)).is_sent());
        assert_eq!(flow.state(&lab), Some(TcpState::Established));
        assert!(flow.out(&mut lab, (ACK, 9000, 51_000, 0)).is_sent());
        assert_eq!(flow.left(&lab), Some(secs(124 * 60)));

        let mut lab = Lab::with(family, |config| config.tcp_pickup = false);
        assert_eq!(lab.out(&data).dropped(), DropReason::NotOpening);
    }
}

#[test]
fn row50_nothing_but_a_syn_or_a_pick_up_opens() {
    for family in BOTH {
        let (me, them) = (at(family.inside(2), 5000), at(family.remote(1), 80));
        for flags in 0..64u8 {
            let (syn, ack) = (flags & SYN != 0, flags & ACK != 0);
            let sound = flags & RST == 0 && (syn || ack) && !(syn && flags & FIN != 0);
            for (pickup, opens) in [(true, sound), (false, sound && !ack)] {
                let mut lab = Lab::with(family, |config| config.tcp_pickup = pickup);
                let done = lab.out(tcp(me, them, &mine((flags, 5, 5, 0), &[])));
                assert_eq!(done.is_sent(), opens, "{flags:#x}");
                let usage = lab.engine().usage();
                assert_eq!(
                    (usage.sessions, usage.mappings),
                    (opens.into(), opens.into())
                );
            }
        }
    }
}

#[test]
fn row50_from_outside_only_a_syn_opens() {
    for flags in 0..64u8 {
        let mut lab = Lab::of(V4);
        let server = at(V4.inside(2), 80);
        let published = at(V4.outside(1), 8080);
        lab.forward(6, published, server).unwrap();
        let them = at(V4.remote(1), 5000);
        let done = lab.inn(tcp(them, published, &theirs((flags, 5, 5, 0), &[])));
        let opens = flags & (SYN | ACK | RST | FIN) == SYN;
        assert_eq!(done.is_sent(), opens, "{flags:#x}");
        assert_eq!(lab.engine().usage().sessions, usize::from(opens));
    }
}

#[test]
fn row50_an_inexact_reset_does_not_close() {
    for family in BOTH {
        let mut lab = strict(family);
        let flow = Flow::established(&mut lab, family);
        assert!(flow.out(&mut lab, (ACK, 1, 1, 100)).is_sent());
        assert!(flow.inn(&mut lab, (ACK, 1, 101, 100)).is_sent());
        lab.live(secs(100));
        let before = flow.view(&lab);
        // In the window: passed, for the host to challenge. Outside: not even that.
        for (seq, passes) in [
            (50, true),
            (102, true),
            (30_000, true),
            (900_000_000, false),
        ] {
            let done = flow.inn(&mut lab, (RST, seq, 0, 0));
            assert_eq!(done.is_sent(), passes, "{seq}");
            assert_eq!(flow.view(&lab), before, "{seq}");
        }
        // The challenge, and the reset that it asks for.
        assert!(flow.out(&mut lab, (ACK, 101, 101, 0)).is_sent());
        assert!(flow.inn(&mut lab, (RST, 101, 0, 0)).is_sent());
        assert_eq!(flow.state(&lab), Some(TcpState::Reset));
        assert_eq!(flow.left(&lab), Some(secs(240)));
    }
}

#[test]
fn row50_a_syn_on_a_live_flow_draws_a_challenge_that_passes() {
    for family in BOTH {
        let mut lab = strict(family);
        let flow = Flow::established(&mut lab, family);
        lab.live(secs(100));
        let before = flow.view(&lab);
        assert!(flow.inn(&mut lab, (SYN, 777_777, 0, 0)).is_sent());
        assert_eq!(flow.view(&lab), before, "a stranger's SYN changes nothing");
        assert!(flow.out(&mut lab, (ACK, 1, 1, 0)).is_sent());
        // The host that forgot resets what it does not know, and the flow is over.
        assert!(flow.inn(&mut lab, (RST, 1, 0, 0)).is_sent());
        assert_eq!(flow.state(&lab), Some(TcpState::Reset));
        // A host that did not forget goes on.
        let mut lab = strict(family);
        let flow = Flow::established(&mut lab, family);
        assert!(flow.inn(&mut lab, (SYN, 777_777, 0, 0)).is_sent());
        assert!(flow.out(&mut lab, (ACK, 1, 1, 0)).is_sent());
        assert!(flow.inn(&mut lab, (ACK, 1, 1, 500)).is_sent());
        assert!(flow.out(&mut lab, (ACK, 1, 501, 500)).is_sent());
        assert_eq!(flow.state(&lab), Some(TcpState::Established));
    }
}

#[test]
fn row50_a_syn_ack_shows_that_the_ports_are_used_again() {
    for family in BOTH {
        let mut lab = strict(family);
        let flow = Flow::established(&mut lab, family);
        // The inside host has restarted and takes the same port, far from the old numbers.
        let far = 1_500_000_000;
        assert!(flow.out(&mut lab, (SYN, far, 0, 0)).is_sent());
        assert_eq!(flow.state(&lab), Some(TcpState::Established));
        assert!(flow.inn(&mut lab, (SYN_ACK, far, far + 1, 0)).is_sent());
        assert_eq!(
            flow.state(&lab),
            Some(TcpState::SynReceived(Direction::Outbound))
        );
        assert!(flow.out(&mut lab, (ACK, far + 1, far + 1, 0)).is_sent());
        assert_eq!(flow.state(&lab), Some(TcpState::Established));
        // A SYN-ACK that answers nothing does not do that.
        let done = flow.inn(&mut lab, (SYN_ACK, 5, 5, 0));
        assert_eq!(done.dropped(), DropReason::OutOfWindow);
    }
}

#[test]
fn row50_ports_of_an_ended_connection_are_used_again() {
    for family in BOTH {
        let mut lab = strict(family);
        let flow = Flow::established(&mut lab, family);
        assert!(flow.out(&mut lab, (FIN_ACK, 1, 1, 0)).is_sent());
        assert!(flow.inn(&mut lab, (FIN_ACK, 1, 2, 0)).is_sent());
        assert!(flow.out(&mut lab, (ACK, 2, 2, 0)).is_sent());
        let again = Flow::syn(&mut lab, family);
        assert_eq!(again.seen, flow.seen);
        assert_eq!(
            flow.state(&lab),
            Some(TcpState::SynSent(Direction::Outbound))
        );
        assert_eq!(lab.engine().usage().sessions, 1);
    }
}

#[test]
fn row50_outside_the_window_dropped_or_passed_but_never_counted_as_life() {
    for family in BOTH {
        for mode in [OutOfWindow::Drop, OutOfWindow::Pass] {
            let mut lab = Lab::with(family, |config| config.out_of_window = mode);
            let flow = Flow::established(&mut lab, family);
            lab.live(secs(1000));
            let before = flow.view(&lab);
            let far = 900_000_000;
            for (n, brief) in [
                (ACK, far, 1, 10),
                (ACK, 1, far, 10),
                (FIN_ACK, far, 1, 0),
                (RST | ACK, far, 1, 0),
            ]
            .into_iter()
            .enumerate()
            {
                for done in [flow.inn(&mut lab, brief), flow.out(&mut lab, brief)] {
                    match mode {
                        OutOfWindow::Drop => assert_eq!(done.dropped(), DropReason::OutOfWindow),
                        OutOfWindow::Pass => assert!(done.is_sent()),
                    }
                }
                let counters = lab.engine().counters();
                assert_eq!(counters.out_of_window, 2 * (n as u64 + 1));
            }
            assert_eq!(flow.view(&lab), before, "{mode:?}");
        }
    }
}
