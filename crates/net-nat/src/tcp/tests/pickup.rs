//! Connections adopted in their middle, after a restart.

use super::*;

fn adopted(direction: Direction, first: &Segment<'_>) -> Track {
    let (track, class) = Track::open(direction, first, true).expect("adopted");
    assert_eq!(class, Class::Opening);
    track
}

#[test]
fn row50_loose_pickup() {
    for (direction, first, answer) in [
        (
            Outbound,
            inside(ACK, 1_000, 500, 100),
            outside(ACK, 500, 1_100, 0),
        ),
        (
            Inbound,
            outside(ACK, 1_000, 500, 0),
            inside(ACK, 500, 1_000, 900),
        ),
        // A keep-alive: its number is one before the next, with or without a byte.
        (
            Inbound,
            outside(ACK, 999, 500, 0),
            inside(ACK, 500, 1_000, 0),
        ),
        (
            Outbound,
            inside(ACK, 999, 500, 1),
            outside(ACK, 500, 1_000, 0),
        ),
    ] {
        let mut track = adopted(direction, &first);
        assert_eq!(track.state(), TcpState::PickedUp(direction));
        // One side alone does not make it established, whoever it is.
        assert_taken(&mut track, direction, &first);
        assert_eq!(track.class(), Class::Opening);
        assert_event(&mut track, direction.reverse(), &answer, Event::Established);
        assert_taken(
            &mut track,
            direction,
            &Segment {
                seq: answer.ack,
                ..first
            },
        );
    }
    let blind = Track::open(Inbound, &outside(ACK, 1_000, 500, 0), false);
    assert_eq!(blind, None, "off unless asked for");
}

/// The first segment seen repeats one that was lost; all behind it had arrived already, so its
/// acknowledgment jumps past everything the tracker has seen.
#[test]
fn row50_loose_pickup_acknowledgment_of_unseen_data() {
    let mut track = adopted(Outbound, &inside(ACK, 1_000, 500, 1_448));
    assert_event(
        &mut track,
        Inbound,
        &outside(ACK, 500, 3_000_000, 0),
        Event::Established,
    );
    assert_taken(&mut track, Outbound, &inside(ACK, 3_000_000, 500, 1_448));
    // And later, while the window field is all that is known of the window.
    assert_taken(&mut track, Inbound, &outside(ACK, 500, 6_000_000, 0));
    assert!(track.is_sound());
}

/// A side that is behind: it keeps acknowledging a hole before the first segment seen.
#[test]
fn row50_loose_pickup_beyond_a_hole() {
    let mut track = adopted(Outbound, &inside(ACK, 4_000_000, 500, 1_448));
    let behind = with_window(outside(ACK, 500, 1_000_000, 0), 10);
    assert_event(&mut track, Inbound, &behind, Event::Established);
    assert_taken(&mut track, Outbound, &inside(ACK, 1_000_000, 500, 1_448));
    assert_taken(
        &mut track,
        Inbound,
        &with_window(outside(ACK, 500, 4_001_448, 0), 10),
    );
    // What was assumed of that side's window is forgotten.
    assert_refused(
        &mut track,
        Outbound,
        &inside(ACK, 4_001_448 + (10 << 14), 500, 2),
    );
}

/// The widest windows one can claim: "later" still means later.
#[test]
fn row50_loose_pickup_at_the_extremes() {
    let (far, widest) = (0x7fff << 14, 65_535 << 14);
    let mut track = adopted(Outbound, &inside(ACK, 0, 1, 0));
    assert_refused(&mut track, Outbound, &inside(ACK, far + 2, 1, 0));
    assert_taken(&mut track, Outbound, &inside(ACK, far, 1, 0));
    let lowest = 0u32.wrapping_sub(far);
    assert_refused(
        &mut track,
        Inbound,
        &outside(ACK, 1, lowest.wrapping_sub(1), 0),
    );
    let answer = with_window(outside(ACK, 1, lowest, 0), u16::MAX);
    assert_event(&mut track, Inbound, &answer, Event::Established);
    let before = track;
    let oldest = inside(ACK, lowest.wrapping_sub(widest), 1, 0);
    assert_taken(&mut track, Outbound, &oldest);
    assert_eq!(track, before);
}

/// The shift was not seen: 14 is assumed.
#[test]
fn row50_loose_pickup_assumes_the_largest_scale() {
    let mut track = adopted(Outbound, &with_window(inside(ACK, 1, 1, 0), 10));
    assert_event(
        &mut track,
        Inbound,
        &outside(ACK, 1, 1, 0),
        Event::Established,
    );
    let window = 10 << 14;
    assert_refused(&mut track, Inbound, &outside(ACK, 1, 1, window + 2));
    assert_taken(&mut track, Inbound, &outside(ACK, 1, 1, window));
}

#[test]
fn row50_loose_pickup_is_not_boundless() {
    let mut track = adopted(Outbound, &with_window(inside(ACK, 1, 1, 0), 10));
    assert_refused(&mut track, Inbound, &outside(ACK, 1 << 20, 1, 0));
    assert_refused(&mut track, Inbound, &outside(ACK, 1, 1 << 30, 0));
    assert_refused(&mut track, Inbound, &outside(ACK, 1, 1 << 31, 0));
    assert_eq!(track.class(), Class::Opening);
}

#[test]
fn row50_loose_pickup_ends_like_any_other() {
    // A reset answers the first segment: no such connection any more.
    let mut track = adopted(Inbound, &outside(ACK, 1_000, 500, 10));
    assert_passed(&mut track, Outbound, &inside(RST, 499, 0, 0));
    assert_event(&mut track, Outbound, &inside(RST, 500, 0, 0), Event::Reset);
    // Adopted at its FIN.
    let mut track = adopted(Outbound, &inside(FIN | ACK, 1_000, 500, 0));
    assert_event(
        &mut track,
        Inbound,
        &outside(FIN | ACK, 500, 1_001, 0),
        Event::Closing,
    );
    let mut track = adopted(Outbound, &inside(FIN | ACK, 1_000, 500, 0));
    assert_event(
        &mut track,
        Inbound,
        &outside(ACK, 500, 1_001, 0),
        Event::Established,
    );
    assert_eq!(track.state(), TcpState::HalfClosed(Outbound));
}

/// Between the SYN and the SYN-ACK, or at a late copy of the latter.
#[test]
fn row50_loose_pickup_at_a_syn_ack() {
    let syn_ack = with_options(outside(SYN | ACK, 0, 1, 0), SCALE_7);
    let mut track = adopted(Inbound, &syn_ack);
    assert_eq!(track.state(), TcpState::PickedUp(Inbound));
    assert_passed(&mut track, Inbound, &syn_ack);
    assert_passed(&mut track, Outbound, &inside(SYN, 0, 0, 0));
    assert_event(
        &mut track,
        Outbound,
        &inside(ACK, 1, 1, 0),
        Event::Established,
    );
    assert_taken(&mut track, Outbound, &inside(ACK, 1, 1, 60_000));

    let mut track = adopted(Inbound, &syn_ack);
    assert_taken(&mut track, Inbound, &outside(FIN | ACK, 1, 30_001, 0));
    assert_event(
        &mut track,
        Outbound,
        &inside(FIN | ACK, 30_001, 2, 0),
        Event::Closing,
    );
}
