//! Resets: who may end a connection (RFC 5961, section 3; RFC 7857, section 2.2).

use super::*;

/// 1,000 bytes from the inside and 2,000 from the outside, of which all but the last half of each
/// is acknowledged.
fn in_flight() -> Track {
    let mut track = established();
    assert_taken(&mut track, Outbound, &inside(ACK, 1, 1, 1_000));
    assert_taken(&mut track, Inbound, &outside(ACK, 1, 501, 2_000));
    assert_taken(&mut track, Outbound, &inside(ACK, 1_001, 1_001, 0));
    track
}

#[test]
fn rfc7857_sec2_rst_that_belongs_closes() {
    for (direction, rst) in [
        (Outbound, inside(RST, 1_001, 0, 0)),
        (Outbound, inside(RST | ACK, 501, 1_001, 0)),
        (Inbound, outside(RST, 2_001, 0, 0)),
        (Inbound, outside(RST | ACK, 1_001, 501, 0)),
        // With a reason in words behind it (RFC 9293, section 3.5.3).
        (Inbound, outside(RST, 1_001, 0, 40)),
    ] {
        let mut track = in_flight();
        let effect = track.advance(direction, &rst);
        assert_eq!(effect.event, Some(Event::Reset));
        assert_eq!((effect.class, effect.in_window), (Class::Closing, true));
        // It starts the closing timer and prolongs nothing.
        assert!(!effect.refresh);
        assert_eq!(track.state(), TcpState::Reset);
        // Said again, it says nothing new.
        assert_passed(&mut track, direction, &rst);
    }
}

#[test]
fn row50_inexact_rst_does_not_close() {
    let mut track = in_flight();
    for seq in [0, 500, 502, 1_000, 1_002, 50_000, 64_000] {
        assert_passed(&mut track, Outbound, &inside(RST, seq, 0, 0));
        assert_passed(&mut track, Outbound, &inside(RST | ACK, seq, 1_001, 0));
    }
    for seq in [64_600, 1 << 24, 1 << 31, 0x9000_0000] {
        assert_refused(&mut track, Inbound, &outside(RST, 1_001 + seq, 0, 0));
        assert_refused(&mut track, Outbound, &inside(RST, 501 + seq, 0, 0));
    }
    assert_eq!(track, in_flight());
}

/// The reset was meant, but a segment before it got lost: its receiver asks back.
#[test]
fn row50_inexact_rst_then_challenge_then_exact() {
    let mut track = in_flight();
    assert_passed(&mut track, Inbound, &outside(RST, 5_000, 0, 0));
    assert_taken(&mut track, Outbound, &inside(ACK, 1_001, 1_001, 0));
    assert_event(
        &mut track,
        Inbound,
        &outside(RST, 1_001, 0, 0),
        Event::Reset,
    );
}

#[test]
fn rfc7857_sec2_data_after_rst_revives() {
    for (direction, data) in [
        (Outbound, inside(ACK, 1_001, 1_001, 10)),
        (Inbound, outside(ACK, 2_001, 501, 10)),
    ] {
        for rst in [inside(RST, 1_001, 0, 0), inside(RST, 501, 0, 0)] {
            let mut track = in_flight();
            track.advance(Outbound, &rst);
            // No data, no sign that the connection lives on.
            assert_taken(&mut track, Inbound, &outside(ACK, 2_001, 501, 0));
            assert_eq!(track.state(), TcpState::Reset);
            assert_refused(&mut track, Inbound, &outside(ACK, 9_000_000, 501, 10));
            assert_event(&mut track, direction, &data, Event::Revived);
            assert_eq!(track.state(), TcpState::Established);
            assert_eq!(track.class(), Class::Established);
        }
    }
}

#[test]
fn rfc7857_sec2_data_after_rst_revives_to_where_it_was() {
    let mut half = in_flight();
    half.advance(Inbound, &outside(FIN | ACK, 2_001, 501, 0));
    half.advance(Outbound, &inside(RST, 1_001, 0, 0));
    assert_event(
        &mut half,
        Outbound,
        &inside(ACK, 1_001, 2_002, 10),
        Event::Revived,
    );
    assert_eq!(half.state(), TcpState::HalfClosed(Inbound));

    let mut both = closing();
    assert_event(&mut both, Outbound, &inside(RST, 2, 0, 0), Event::Reset);
    assert_event(&mut both, Inbound, &outside(ACK, 1, 2, 1), Event::Revived);
    assert_eq!(both.state(), TcpState::Closing);
}

#[test]
fn rfc9293_sec3_rst_that_answers_a_syn_refuses() {
    for (direction, syn, rst) in [
        (Outbound, inside(SYN, 0, 0, 0), outside(RST | ACK, 0, 1, 0)),
        (Inbound, outside(SYN, 0, 0, 0), inside(RST | ACK, 0, 1, 0)),
        // Data in the SYN (RFC 7413) may be counted or not.
        (
            Outbound,
            inside(SYN, 0, 0, 90),
            outside(RST | ACK, 0, 91, 0),
        ),
        (Outbound, inside(SYN, 0, 0, 90), outside(RST | ACK, 0, 1, 0)),
    ] {
        let answering = direction.reverse();
        let mut track = opened(direction, &syn);
        for ack in [0, 92, 1 << 31] {
            assert_refused(
                &mut track,
                answering,
                &Segment {
                    ack: syn.seq.wrapping_add(ack),
                    ..rst
                },
            );
        }
        assert_refused(&mut track, answering, &Segment { flags: RST, ..rst });
        assert_event(&mut track, answering, &rst, Event::Reset);
        assert_eq!(
            (track.state(), track.class()),
            (TcpState::Refused, Class::Closing)
        );
        // Nothing revives what never was.
        assert_refused(
            &mut track,
            answering,
            &segment(ACK, 0, syn.seq.wrapping_add(1), 1),
        );
        // The client tries again.
        assert_event(&mut track, direction, &syn, Event::Restarted);
        assert_eq!(track.class(), Class::Opening);
    }
}

#[test]
fn rfc9293_sec3_rst_during_the_handshake() {
    let syn_received = || {
        let mut track = opened(Outbound, &inside(SYN, 0, 0, 0));
        track.advance(Inbound, &outside(SYN | ACK, 0, 1, 0));
        track
    };
    for (direction, rst) in [
        (Outbound, inside(RST, 1, 0, 0)),
        (Inbound, outside(RST, 1, 0, 0)),
        // The answer to a repeated SYN, from a host that has forgotten the first one.
        (Inbound, segment(RST | ACK, 0, IN + 1, 0)),
    ] {
        assert_event(&mut syn_received(), direction, &rst, Event::Reset);
    }
    assert_passed(&mut syn_received(), Outbound, &inside(RST, 900, 0, 0));
    assert_refused(&mut syn_received(), Inbound, &outside(RST, 1 << 30, 0, 0));
    assert_refused(
        &mut syn_received(),
        Inbound,
        &segment(RST | ACK, 1 << 30, IN + 2, 0),
    );

    // The client gives up before any answer.
    let mut track = opened(Outbound, &inside(SYN, 0, 0, 0));
    assert_event(&mut track, Outbound, &inside(RST, 1, 0, 0), Event::Reset);

    let mut crossed = opened(Outbound, &inside(SYN, 0, 0, 0));
    crossed.advance(Inbound, &outside(SYN, 0, 0, 0));
    assert_passed(&mut crossed, Inbound, &outside(RST, 77, 0, 0));
    assert_event(
        &mut crossed,
        Inbound,
        &outside(RST | ACK, 77, 1, 0),
        Event::Reset,
    );
}
