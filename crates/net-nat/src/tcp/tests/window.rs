//! The four bounds, with scaling, and what must lie within them.

use super::*;

/// RFC 7323: 500 in units of 128 from the inside.
#[test]
fn row50_window_check_with_scaling() {
    let mut track = established_with(SCALE_7);
    // The windows of 64,000 in the SYNs are bytes; the one in the handshake's ACK is not.
    let mut unscaled = opened(Outbound, &with_options(inside(SYN, 0, 0, 0), SCALE_7));
    unscaled.advance(Inbound, &with_options(outside(SYN | ACK, 0, 1, 0), SCALE_7));
    assert_refused(&mut unscaled, Inbound, &outside(ACK, 1, 1, 64_002));
    assert_taken(&mut unscaled, Inbound, &outside(ACK, 1, 1, 64_000));

    let edge = 64_000 << 7;
    assert_refused(&mut track, Inbound, &outside(ACK, edge - 1_000, 1, 1_003));
    assert_taken(&mut track, Inbound, &outside(ACK, edge - 1_000, 1, 1_001));
    // Acknowledged, and the window with it moves on.
    assert_taken(&mut track, Outbound, &inside(ACK, 1, edge + 1, 0));
    assert_taken(&mut track, Inbound, &outside(ACK, 2 * edge, 1, 1));
    assert_refused(&mut track, Inbound, &outside(ACK, 2 * edge + 2, 1, 1));
}

#[test]
fn row50_scaling_only_if_both_offer_it() {
    for (a, b) in [(SCALE_7, &[][..]), (&[][..], SCALE_7), (&[], &[])] {
        let mut track = opened(Outbound, &with_options(inside(SYN, 0, 0, 0), a));
        track.advance(Inbound, &with_options(outside(SYN | ACK, 0, 1, 0), b));
        assert_event(
            &mut track,
            Outbound,
            &inside(ACK, 1, 1, 0),
            Event::Established,
        );
        assert_refused(&mut track, Inbound, &outside(ACK, 1, 1, 64_002));
        assert_taken(&mut track, Inbound, &outside(ACK, 1, 1, 64_000));
    }
}

/// RFC 7323, section 2.3: a larger shift counts as 14.
#[test]
fn row50_scaling_is_at_most_14() {
    for shift in [&[3, 3, 14][..], &[3, 3, 15], &[3, 3, 255]] {
        let mut track = established_with(shift);
        assert_taken(&mut track, Outbound, &with_window(inside(ACK, 1, 1, 0), 5));
        assert_refused(&mut track, Inbound, &outside(ACK, 64_000 << 14, 1, 3));
        assert_taken(&mut track, Inbound, &outside(ACK, 64_000 << 14, 1, 1));
        assert!(track.is_sound());
    }
}

/// What a SYN announces in bytes is rounded up in units.
#[test]
fn row50_scaling_rounds_a_small_syn_window_up() {
    let syn = with_window(with_options(inside(SYN, 0, 0, 0), &[3, 3, 14]), 1_460);
    let mut track = opened(Outbound, &syn);
    track.advance(
        Inbound,
        &with_options(outside(SYN | ACK, 0, 1, 0), &[3, 3, 2]),
    );
    assert_taken(&mut track, Inbound, &outside(ACK, 1, 1, 1_460));
}

#[test]
fn row50_scaling_in_a_simultaneous_open() {
    let mut track = opened(Outbound, &with_options(inside(SYN, 0, 0, 0), &[3, 3, 2]));
    track.advance(Inbound, &with_options(outside(SYN, 0, 0, 0), &[3, 3, 4]));
    track.advance(Outbound, &inside(SYN | ACK, 0, 1, 0));
    assert_event(
        &mut track,
        Inbound,
        &outside(SYN | ACK, 0, 1, 0),
        Event::Established,
    );
    // Each side's next segment is its first one whose window is scaled.
    assert_refused(&mut track, Inbound, &outside(ACK, 64_000, 1, 3));
    assert_refused(&mut track, Outbound, &inside(ACK, 64_000, 1, 3));
    track.advance(Outbound, &inside(ACK, 1, 1, 0));
    assert_refused(&mut track, Inbound, &outside(ACK, 64_000 * 4, 1, 3));
    assert_taken(&mut track, Inbound, &outside(ACK, 64_000 * 4, 1, 1));
    assert_refused(&mut track, Outbound, &inside(ACK, 64_000 * 16, 1, 3));
    assert_taken(&mut track, Outbound, &inside(ACK, 64_000 * 16, 1, 1));
}

#[test]
fn row50_options_malformed() {
    let cases: &[(&[u8], Option<u8>)] = &[
        (&[], None),
        (&[3, 3, 7], Some(7)),
        (&[1, 1, 3, 3, 7], Some(7)),
        (
            &[
                2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 9,
            ],
            Some(9),
        ),
        (&[3, 3, 200], Some(14)),
        // The list ended before it.
        (&[0, 2, 3, 3, 7], None),
        // Cut short, of the wrong length, or behind something that is.
        (&[3], None),
        (&[3, 3], None),
        (&[3, 4, 7, 7], None),
        (&[3, 2, 7], None),
        (&[2, 0, 3, 3, 7], None),
        (&[2, 1, 3, 3, 7], None),
        (&[2, 200, 3, 3, 7], None),
        (&[254, 255], None),
        (&[9], None),
    ];
    for (options, scale) in cases {
        let syn = Segment {
            options,
            ..segment(SYN, 0, 0, 0)
        };
        assert_eq!(syn.scale(), *scale, "{options:?}");
    }
}

#[test]
fn row50_four_bounds() {
    let mut track = established();
    assert_taken(&mut track, Outbound, &inside(ACK, 1, 1, 1_000));
    assert_taken(&mut track, Inbound, &outside(ACK, 1, 1_001, 0));
    for (segment, good) in [
        // Data: up to the window, and one for a probe.
        (inside(ACK, 1_001, 1, 64_000), true),
        (inside(ACK, 1_001, 1, 64_002), false),
        (inside(ACK, 65_001, 1, 1), true),
        (inside(ACK, 65_003, 1, 0), false),
        // Data: back to 65,535 bytes before what is acknowledged.
        (inside(ACK, 1_001u32.wrapping_sub(65_535), 1, 0), true),
        (inside(ACK, 1_001u32.wrapping_sub(65_536), 1, 0), false),
        (inside(ACK, 1_001u32.wrapping_sub(1 << 31), 1, 0), false),
        // Acknowledgments: not of what was never sent, and not of long ago.
        (inside(ACK, 1_001, 2, 0), false),
        (inside(ACK, 1_001, 1 << 31, 0), false),
        (inside(ACK, 1_001, 1u32.wrapping_sub(65_535), 0), true),
        (inside(ACK, 1_001, 1u32.wrapping_sub(65_536), 0), false),
    ] {
        let mut track = track;
        if good {
            assert_taken(&mut track, Outbound, &segment);
        } else {
            assert_refused(&mut track, Outbound, &segment);
            // A FIN does not change that.
            assert_refused(
                &mut track,
                Outbound,
                &Segment {
                    flags: FIN | ACK,
                    ..segment
                },
            );
        }
    }
}

/// RFC 2018: a hole at the start of 8 MiB in flight. The acknowledgment stays at the hole, however
/// far the reported blocks go, and what is sent goes on up to the window.
#[test]
fn row50_sack() {
    let mut track = established_with(SCALE_7);
    let mss = 1_448;
    let mut blocks = std::vec![1, 1, 5, 10];
    blocks.extend_from_slice(&(IN + 1 + mss).to_be_bytes());
    blocks.extend_from_slice(&[0; 4]);
    let mut next = 1 + mss;
    while next + mss <= 64_000 << 7 {
        assert_taken(&mut track, Outbound, &inside(ACK, next, 1, mss));
        next += mss;
        blocks[8..].copy_from_slice(&(IN + next).to_be_bytes());
        let report = Segment {
            options: &blocks,
            ..outside(ACK, 1, 1, 0)
        };
        assert_taken(&mut track, Inbound, &report);
    }
    // The hole is filled, and the acknowledgment jumps.
    assert_taken(&mut track, Outbound, &inside(ACK, 1, 1, mss));
    assert_taken(&mut track, Inbound, &outside(ACK, 1, next, 0));
    assert_taken(&mut track, Outbound, &inside(ACK, next, 1, mss));
}

#[test]
fn row50_zero_window_and_probes() {
    let mut track = established();
    let window = 64_000;
    assert_taken(&mut track, Outbound, &inside(ACK, 1, 1, window));
    // All acknowledged, nothing allowed.
    let closed = with_window(outside(ACK, 1, 1 + window, 0), 0);
    assert_taken(&mut track, Inbound, &closed);
    for _ in 0..3 {
        // One byte past the edge, or one byte before it with or without data.
        assert_taken(&mut track, Outbound, &inside(ACK, 1 + window, 1, 1));
        assert_taken(&mut track, Outbound, &inside(ACK, window, 1, 0));
        assert_taken(&mut track, Outbound, &inside(ACK, window, 1, 1));
        assert_taken(&mut track, Inbound, &closed);
    }
    assert_taken(&mut track, Inbound, &outside(ACK, 1, 1 + window, 0));
    assert_taken(&mut track, Outbound, &inside(ACK, 1 + window, 1, window));

    // A host that has never offered a window.
    let mut track = opened(Outbound, &with_window(inside(SYN, 0, 0, 0), 0));
    track.advance(Inbound, &outside(SYN | ACK, 0, 1, 0));
    track.advance(Outbound, &with_window(inside(ACK, 1, 1, 0), 0));
    assert_taken(&mut track, Inbound, &outside(ACK, 1, 1, 1));
    assert_refused(&mut track, Inbound, &outside(ACK, 2, 1, 1));
}

/// RFC 9293, section 3.8.4.
#[test]
fn row50_keepalive() {
    let mut track = established();
    assert_taken(&mut track, Outbound, &inside(ACK, 1, 1, 5_000));
    assert_taken(&mut track, Inbound, &outside(ACK, 1, 5_001, 5_000));
    for len in [0, 1] {
        assert_taken(&mut track, Outbound, &inside(ACK, 5_000, 5_001, len));
        assert_taken(&mut track, Inbound, &outside(ACK, 5_000, 5_001, len));
    }
    // Nothing sent yet: the number is that of the SYN.
    assert_taken(&mut established(), Outbound, &inside(ACK, 0, 1, 0));
}

#[test]
fn row50_repeated_and_reordered() {
    let mut track = established();
    for start in [30_001, 1, 60_001, 30_001, 1] {
        assert_taken(&mut track, Outbound, &inside(ACK, start, 1, 4_000));
    }
    for ack in [34_001, 4_001, 64_001, 34_001, 1] {
        assert_taken(&mut track, Inbound, &outside(ACK, 1, ack, 0));
    }
    // Twice a whole window late: no host would take it.
    assert_taken(&mut track, Outbound, &inside(ACK, 64_001, 1, 64_000));
    assert_taken(&mut track, Inbound, &outside(ACK, 1, 128_001, 0));
    assert_refused(&mut track, Outbound, &inside(ACK, 1, 1, 4_000));
}

/// A super-frame, of which the hardware makes segments, counts whole.
#[test]
fn row50_super_frames() {
    let mut track = established_with(SCALE_7);
    assert_taken(&mut track, Inbound, &outside(ACK, 1, 1, 0));
    let mut next = 1;
    for _ in 0..100 {
        assert_taken(&mut track, Outbound, &inside(ACK, next, 1, 65_483));
        next += 65_483;
        assert_taken(&mut track, Inbound, &outside(ACK, 1, next, 0));
    }
}

/// RFC 9293, section 3.4: the whole number space, several times over.
#[test]
fn row50_wraps_around() {
    let mut track = established_with(SCALE_7);
    assert_taken(&mut track, Inbound, &outside(ACK, 1, 1, 0));
    let (mut sent, mut received) = (1u32, 1u32);
    for _ in 0..2_500 {
        assert_taken(
            &mut track,
            Outbound,
            &inside(ACK, sent, received, 4_000_000),
        );
        sent = sent.wrapping_add(4_000_000);
        assert_taken(
            &mut track,
            Inbound,
            &outside(ACK, received, sent, 3_000_000),
        );
        received = received.wrapping_add(3_000_000);
    }
    assert_refused(
        &mut track,
        Inbound,
        &outside(ACK, received, sent.wrapping_add(1), 0),
    );
}
