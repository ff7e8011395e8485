//! The ways a connection opens, ends and is refused.

use super::*;

#[track_caller]
fn play(first: (Direction, Segment<'_>), rest: &[(Direction, Segment<'_>)]) -> Track {
    let mut track = opened(first.0, &first.1);
    for (i, (direction, segment)) in rest.iter().enumerate() {
        let effect = track.advance(*direction, segment);
        assert!(effect.in_window, "{i}: {segment:?} {track:?}");
    }
    track
}

#[test]
fn rfc5382_req2_every_valid_sequence() {
    let syn = (Outbound, inside(SYN, 0, 0, 0));
    let syn_ack = (Inbound, outside(SYN | ACK, 0, 1, 0));
    let ack = (Outbound, inside(ACK, 1, 1, 0));
    let sequences: &[(&str, &[(Direction, Segment<'_>)])] = &[
        ("three-way", &[syn, syn_ack, ack]),
        ("SYN repeated", &[syn, syn, syn_ack, ack]),
        ("SYN-ACK repeated", &[syn, syn_ack, syn_ack, ack]),
        (
            "SYN repeated after SYN-ACK",
            &[syn, syn_ack, syn, syn_ack, ack],
        ),
        ("all repeated late", &[syn, syn_ack, ack, syn, syn_ack, ack]),
        (
            "data with ACK",
            &[syn, syn_ack, (Outbound, inside(ACK, 1, 1, 500))],
        ),
        (
            "server speaks before the ACK",
            &[syn, syn_ack, (Inbound, outside(ACK, 1, 1, 900)), ack],
        ),
        (
            "ACK overtaken by data",
            &[syn, syn_ack, (Outbound, inside(ACK, 501, 1, 500)), ack],
        ),
        (
            "data in the SYN, acknowledged (RFC 7413)",
            &[
                (Outbound, inside(SYN, 0, 0, 300)),
                (Inbound, outside(SYN | ACK, 0, 301, 0)),
                (Outbound, inside(ACK, 301, 1, 100)),
            ],
        ),
        (
            "data in the SYN, not acknowledged",
            &[
                (Outbound, inside(SYN, 0, 0, 300)),
                syn_ack,
                (Outbound, inside(ACK, 1, 1, 300)),
            ],
        ),
        (
            "split: the server answers with a SYN of its own",
            &[
                syn,
                (Inbound, outside(SYN, 0, 0, 0)),
                (Outbound, inside(SYN | ACK, 0, 1, 0)),
                (Inbound, outside(ACK, 1, 1, 0)),
            ],
        ),
        (
            "a new number in the second SYN-ACK (SYN cookies)",
            &[
                syn,
                syn_ack,
                syn,
                (Inbound, outside(SYN | ACK, 7_000_000, 1, 0)),
                (Outbound, inside(ACK, 1, 7_000_001, 0)),
            ],
        ),
        (
            "old duplicate SYN, recovered (RFC 9293, figure 8)",
            &[
                (Outbound, inside(SYN, 5_000_000, 0, 0)),
                (Inbound, outside(SYN | ACK, 0, 5_000_001, 0)),
                (Outbound, inside(RST, 5_000_001, 0, 0)),
                syn,
                (Inbound, outside(SYN | ACK, 400, 1, 0)),
                (Outbound, inside(ACK, 1, 401, 0)),
            ],
        ),
    ];
    for (name, sequence) in sequences {
        let track = play(sequence[0], &sequence[1..]);
        assert_eq!(track.state(), TcpState::Established, "{name}");
        assert!(track.is_sound(), "{name}");
    }
}

/// RFC 9293, section 3.5.1, figures 9 and 10: the server still has a connection that the client
/// has lost, and the tracker knows of none.
#[test]
fn rfc5382_req2_half_open_recovers() {
    let mut track = opened(Outbound, &inside(SYN, 0, 0, 0));
    assert_passed(&mut track, Inbound, &outside(ACK, 3_000_000, 9_000_000, 0));
    assert_passed(&mut track, Outbound, &inside(RST, 9_000_000, 0, 0));
    assert_taken(&mut track, Outbound, &inside(SYN, 0, 0, 0));
    assert_taken(&mut track, Inbound, &outside(SYN | ACK, 0, 1, 0));
    assert_event(
        &mut track,
        Outbound,
        &inside(ACK, 1, 1, 0),
        Event::Established,
    );
}

#[test]
fn rfc5382_req2a_simultaneous_open() {
    let (a, b) = (inside(SYN, 0, 0, 0), outside(SYN, 0, 0, 0));
    let (a2, b2) = (inside(SYN | ACK, 0, 1, 0), outside(SYN | ACK, 0, 1, 0));
    let (a3, b3) = (inside(ACK, 1, 1, 0), outside(ACK, 1, 1, 0));
    let endings: &[&[(Direction, Segment<'_>)]] = &[
        &[(Outbound, a2), (Inbound, b2)],
        &[(Inbound, b2), (Outbound, a2)],
        &[(Outbound, a2), (Inbound, b3)],
        &[(Inbound, b2), (Outbound, a3)],
        &[(Outbound, a3), (Inbound, b3)],
        &[
            (Outbound, a),
            (Inbound, b),
            (Outbound, a2),
            (Outbound, a2),
            (Inbound, b2),
        ],
        &[
            (Inbound, b2),
            (Inbound, b),
            (Inbound, b2),
            (Outbound, a),
            (Outbound, a3),
        ],
    ];
    for (first, second) in [((Outbound, a), (Inbound, b)), ((Inbound, b), (Outbound, a))] {
        for ending in endings {
            let mut track = opened(first.0, &first.1);
            assert_taken(&mut track, second.0, &second.1);
            assert_eq!(track.state(), TcpState::SynCrossed);
            let ((direction, last), before) = ending.split_last().unwrap();
            for (direction, segment) in before {
                assert_taken(&mut track, *direction, segment);
                assert_eq!(track.class(), Class::Opening);
            }
            assert_event(&mut track, *direction, last, Event::Established);
            assert_taken(&mut track, Outbound, &inside(ACK, 1, 1, 700));
            assert_taken(&mut track, Inbound, &outside(ACK, 1, 701, 700));
        }
    }
}

/// A SYN-ACK that acknowledges another SYN, or a number never sent, opens nothing.
#[test]
fn rfc5382_req2a_crossed_syns_need_true_acknowledgments() {
    let mut track = opened(Outbound, &inside(SYN, 0, 0, 0));
    assert_taken(&mut track, Inbound, &outside(SYN, 0, 0, 0));
    for ack in [0, 2, 90_000] {
        assert_passed(&mut track, Inbound, &outside(SYN | ACK, 0, ack, 0));
    }
    assert_passed(&mut track, Inbound, &outside(SYN | ACK, 5, 1, 0));
    assert_passed(&mut track, Inbound, &outside(SYN, 5, 0, 0));
}

/// RFC 5382, REQ-5, and RFC 7857, section 2: opening and closing have timers of their own.
#[test]
fn rfc5382_req5_timer_classes() {
    let mut track = opened(Outbound, &inside(SYN, 0, 0, 0));
    assert_eq!(track.state(), TcpState::SynSent(Outbound));
    assert_eq!(track.class(), Class::Opening);
    let effect = track.advance(Inbound, &outside(SYN | ACK, 0, 1, 0));
    assert_eq!((effect.class, effect.event), (Class::Opening, None));
    assert_eq!(track.state(), TcpState::SynReceived(Outbound));
    assert_event(
        &mut track,
        Outbound,
        &inside(ACK, 1, 1, 0),
        Event::Established,
    );
    // Half closed: the other side may send for hours.
    assert_taken(&mut track, Outbound, &inside(FIN | ACK, 1, 1, 100));
    assert_eq!(track.state(), TcpState::HalfClosed(Outbound));
    let effect = track.advance(Inbound, &outside(ACK, 1, 102, 1_448));
    assert_eq!((effect.class, effect.refresh), (Class::Established, true));
    assert_event(
        &mut track,
        Inbound,
        &outside(FIN | ACK, 1_449, 102, 0),
        Event::Closing,
    );
    assert_eq!(track.state(), TcpState::Closing);
    let effect = track.advance(Outbound, &inside(ACK, 102, 1_450, 0));
    assert_eq!((effect.class, effect.refresh), (Class::Closing, true));
    assert_taken(&mut track, Inbound, &outside(FIN | ACK, 1_449, 102, 0));
}

#[test]
fn rfc5382_req5_fin_before_the_handshake_is_complete() {
    let mut track = opened(Inbound, &outside(SYN, 0, 0, 0));
    assert_eq!(track.state(), TcpState::SynSent(Inbound));
    assert_taken(&mut track, Outbound, &inside(SYN | ACK, 0, 1, 0));
    assert_taken(&mut track, Outbound, &inside(FIN | ACK, 1, 1, 10));
    assert_eq!(track.class(), Class::Opening);
    assert_event(
        &mut track,
        Inbound,
        &outside(ACK, 1, 1, 0),
        Event::Established,
    );
    assert_eq!(track.state(), TcpState::HalfClosed(Outbound));
    assert_event(
        &mut track,
        Inbound,
        &outside(FIN | ACK, 1, 12, 0),
        Event::Closing,
    );

    let mut track = opened(Inbound, &outside(SYN, 0, 0, 0));
    track.advance(Outbound, &inside(SYN | ACK, 0, 1, 0));
    track.advance(Outbound, &inside(FIN | ACK, 1, 1, 0));
    assert_event(
        &mut track,
        Inbound,
        &outside(FIN | ACK, 1, 2, 0),
        Event::Closing,
    );
}

/// Nobody becomes established by acknowledging what was not sent: a flood of SYNs from invented
/// addresses stays in the opening class.
#[test]
fn rfc7857_sec2_guessed_handshake_stays_opening() {
    let mut track = opened(Inbound, &outside(SYN, 0, 0, 0));
    assert_taken(&mut track, Outbound, &inside(SYN | ACK, 0, 1, 0));
    for ack in [2, 3, 70_000, 1 << 31, u32::MAX - 70_000] {
        assert_refused(&mut track, Inbound, &outside(ACK, 1, ack, 0));
    }
    // The other side cannot have changed its mind about the SYN.
    assert_refused(&mut track, Outbound, &inside(SYN | ACK, 7_000_000, 2, 0));
    // In bounds, but it acknowledges nothing.
    assert_taken(&mut track, Inbound, &outside(ACK, 1, 0, 0));
    assert_eq!(track.class(), Class::Opening);
}

/// Nor is it established because the other side acknowledges more.
#[test]
fn rfc7857_sec2_handshake_waits_for_the_right_side() {
    let syn = inside(SYN, 0, 0, 300);
    let mut track = opened(Outbound, &syn);
    assert_taken(&mut track, Inbound, &outside(SYN | ACK, 0, 1, 0));
    assert_taken(&mut track, Inbound, &outside(ACK, 1, 301, 0));
    assert_eq!(track.class(), Class::Opening);
    // The SYN repeated, its data acknowledged by now.
    assert_taken(&mut track, Outbound, &syn);
    assert_event(
        &mut track,
        Outbound,
        &inside(ACK, 301, 1, 0),
        Event::Established,
    );
}

#[test]
fn rfc5382_req2_what_opens_no_session() {
    const PSH: u8 = 8;
    const URG: u8 = 32;
    let never = [
        0,
        FIN,
        RST,
        RST | ACK,
        SYN | FIN,
        SYN | RST,
        SYN | FIN | ACK,
        SYN | RST | ACK,
        FIN | RST | ACK,
        FIN | PSH | URG,
        PSH,
        0xff,
    ];
    for flags in never {
        for pickup in [false, true] {
            let opened = Track::open(Outbound, &inside(flags, 1, 1, 0), pickup);
            assert_eq!(opened, None, "{flags:#x}");
        }
    }
    for flags in [ACK, SYN | ACK, FIN | ACK, PSH | ACK] {
        assert_eq!(Track::open(Outbound, &inside(flags, 1, 1, 9), false), None);
        assert!(Track::open(Outbound, &inside(flags, 1, 1, 9), true).is_some());
    }
    // SYNs with ECN set-up (RFC 3168) or data are SYNs.
    for flags in [SYN, SYN | 0xc0, SYN | PSH] {
        assert!(Track::open(Inbound, &outside(flags, 0, 0, 7), false).is_some());
    }
}

#[test]
fn rfc9293_sec3_malformed_flags_are_refused_in_every_state() {
    let mut states = [
        opened(Outbound, &inside(SYN, 0, 0, 0)),
        established(),
        closing(),
        Track::open(Outbound, &inside(ACK, 1, 1, 0), true)
            .unwrap()
            .0,
    ];
    for track in &mut states {
        for flags in [0, FIN, SYN | FIN, SYN | RST, SYN | FIN | ACK, 8] {
            assert_refused(track, Outbound, &inside(flags, 1, 1, 0));
        }
    }
}
