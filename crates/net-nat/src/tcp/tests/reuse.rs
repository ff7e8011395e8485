//! SYNs on flows that exist: attacks, crashed hosts, ports used again.

use super::*;

/// Far from the numbers of the old connection.
const NEW: u32 = 1 << 30;

#[test]
fn row50_syn_on_live_flow() {
    for (direction, syn) in [
        (Inbound, outside(SYN, NEW, 0, 0)),
        (Inbound, outside(SYN, 5, 0, 0)),
        (Inbound, outside(SYN, 0, 0, 0)),
        (Outbound, inside(SYN, NEW, 0, 0)),
    ] {
        let mut track = established();
        assert_passed(&mut track, direction, &syn);
        // The host's challenge (RFC 5961, section 4) passes, and the connection goes on.
        let challenge = match direction {
            Inbound => inside(ACK, 1, 1, 0),
            Outbound => outside(ACK, 1, 1, 0),
        };
        assert_taken(&mut track, direction.reverse(), &challenge);
        assert_taken(&mut track, Outbound, &inside(ACK, 1, 1, 1_000));
        assert_taken(&mut track, Inbound, &outside(ACK, 1, 1_001, 1_000));
        assert_eq!(track.state(), TcpState::Established);
    }
}

/// The client crashed and asks again; the challenge tells it what to reset (RFC 5961, section 4.2).
#[test]
fn row50_syn_on_live_flow_of_a_crashed_client() {
    let mut track = established();
    assert_passed(&mut track, Outbound, &inside(SYN, NEW, 0, 0));
    assert_taken(&mut track, Inbound, &outside(ACK, 1, 1, 0));
    assert_event(&mut track, Outbound, &inside(RST, 1, 0, 0), Event::Reset);
    assert_event(
        &mut track,
        Outbound,
        &inside(SYN, NEW, 0, 0),
        Event::Restarted,
    );
    assert_taken(&mut track, Inbound, &outside(SYN | ACK, NEW, NEW + 1, 0));
    assert_event(
        &mut track,
        Outbound,
        &inside(ACK, NEW + 1, NEW + 1, 0),
        Event::Established,
    );
}

#[test]
fn row50_synack_reuse() {
    for scale in [&[][..], SCALE_7] {
        let mut track = established_with(scale);
        assert_passed(
            &mut track,
            Outbound,
            &with_options(inside(SYN, NEW, 0, 0), scale),
        );
        let syn_ack = with_options(outside(SYN | ACK, NEW, NEW + 1, 0), scale);
        assert_event(&mut track, Inbound, &syn_ack, Event::Restarted);
        assert_eq!(track.state(), TcpState::SynReceived(Outbound));
        assert_eq!(track.class(), Class::Opening);
        // Nothing of the old connection belongs any more.
        assert_refused(&mut track, Outbound, &inside(ACK, 1, 1, 10));
        assert_event(
            &mut track,
            Outbound,
            &inside(ACK, NEW + 1, NEW + 1, 0),
            Event::Established,
        );
        assert_taken(&mut track, Inbound, &outside(ACK, NEW + 1, NEW + 1, 60_000));
        assert_taken(
            &mut track,
            Outbound,
            &inside(ACK, NEW + 1, NEW + 60_001, 60_000),
        );
    }
}

#[test]
fn row50_synack_must_answer_the_syn_of_the_other_side() {
    let mut track = established();
    // No SYN was sent; the second number is one that folds to 0.
    assert_refused(&mut track, Inbound, &outside(SYN | ACK, NEW, NEW + 1, 0));
    assert_refused(
        &mut track,
        Inbound,
        &segment(SYN | ACK, 0x7000_0000, 0x1234_1235, 0),
    );
    // One was, with another number.
    assert_passed(&mut track, Outbound, &inside(SYN, NEW, 0, 0));
    assert_refused(&mut track, Inbound, &outside(SYN | ACK, NEW, NEW, 0));
    assert_refused(&mut track, Inbound, &outside(SYN | ACK, NEW, NEW + 2, 0));
    // Nobody answers his own SYN.
    assert_passed(&mut track, Inbound, &outside(SYN, NEW, 0, 0));
    let own = segment(
        SYN | ACK,
        OUT.wrapping_add(NEW),
        OUT.wrapping_add(NEW + 1),
        0,
    );
    assert_refused(&mut track, Inbound, &own);
}

/// SYN and SYN-ACK of the connection itself, delayed or doubled on the way, begin nothing.
#[test]
fn row50_late_duplicates_do_not_restart() {
    let (syn, syn_ack) = (inside(SYN, 0, 0, 0), outside(SYN | ACK, 0, 1, 0));
    for data in [0, 1_448, 30_000] {
        let mut track = established();
        assert_taken(&mut track, Outbound, &inside(ACK, 1, 1, data));
        assert_passed(&mut track, Outbound, &syn);
        assert_passed(&mut track, Inbound, &syn_ack);
        assert_taken(&mut track, Inbound, &outside(ACK, 1, 1 + data, data));
        assert_passed(&mut track, Outbound, &syn);
        assert_passed(&mut track, Inbound, &syn_ack);
        assert_taken(&mut track, Outbound, &inside(ACK, 1 + data, 1 + data, 0));
        assert_eq!(track.state(), TcpState::Established);
    }
}

/// The same when one side has only received, and its SYN still looks like the latest it sent.
#[test]
fn row50_late_duplicates_in_a_download() {
    let mut track = established();
    for sent in (1..200_000).step_by(50_000) {
        assert_taken(&mut track, Inbound, &outside(ACK, sent, 1, 50_000));
        assert_taken(&mut track, Outbound, &inside(ACK, 1, sent + 50_000, 0));
    }
    assert_passed(&mut track, Outbound, &inside(SYN, 0, 0, 0));
    assert_refused(&mut track, Inbound, &outside(SYN | ACK, 0, 1, 0));
    assert_taken(&mut track, Inbound, &outside(ACK, 200_001, 1, 50_000));
}

#[test]
fn rfc9293_sec3_ports_used_again_after_the_end() {
    let reset = || {
        let mut track = established();
        track.advance(Inbound, &outside(RST, 1, 0, 0));
        track
    };
    for old in [closing(), reset()] {
        for (direction, syn, syn_ack) in [
            (
                Outbound,
                inside(SYN, NEW, 0, 0),
                outside(SYN | ACK, NEW, NEW + 1, 0),
            ),
            (
                Inbound,
                outside(SYN, NEW, 0, 0),
                inside(SYN | ACK, NEW, NEW + 1, 0),
            ),
        ] {
            let mut track = old;
            let effect = track.advance(direction, &syn);
            assert_eq!(effect.event, Some(Event::Restarted));
            assert_eq!((effect.class, effect.refresh), (Class::Opening, true));
            // What was under way from the old connection neither harms nor counts.
            assert_passed(&mut track, direction.reverse(), &outside(ACK, 3, 3, 0));
            assert_taken(&mut track, direction.reverse(), &syn_ack);
            assert_eq!(track.state(), TcpState::SynReceived(direction));
        }
    }
}

#[test]
fn row50_new_attempt_in_the_middle_of_a_handshake() {
    // Before any answer, the newer SYN counts.
    let mut track = opened(Outbound, &inside(SYN, 0, 0, 0));
    assert_taken(&mut track, Outbound, &inside(SYN, NEW, 0, 0));
    assert_passed(&mut track, Inbound, &outside(SYN | ACK, 0, 1, 0));
    assert_taken(&mut track, Inbound, &outside(SYN | ACK, 0, NEW + 1, 0));
    // After one, the SYN-ACK tells.
    assert_passed(&mut track, Outbound, &inside(SYN, 2 * NEW, 0, 0));
    assert_event(
        &mut track,
        Inbound,
        &outside(SYN | ACK, NEW, 2 * NEW + 1, 0),
        Event::Restarted,
    );
    let ack = inside(ACK, 2 * NEW + 1, NEW + 1, 0);
    assert_event(&mut track, Outbound, &ack, Event::Established);
}
