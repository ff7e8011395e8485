//! Any segments in any order: nothing panics, and what must always hold does.

use super::*;
use proptest::prelude::*;

/// Numbers that mean something to the state machine, with their surroundings.
fn number() -> impl Strategy<Value = u32> {
    prop_oneof![
        4 => (0u32..6).prop_map(|n| IN.wrapping_add(n)),
        4 => (0u32..6).prop_map(|n| OUT.wrapping_add(n)),
        2 => (0u32..200_000).prop_map(|n| IN.wrapping_sub(70_000).wrapping_add(n)),
        2 => (0u32..200_000).prop_map(|n| OUT.wrapping_sub(70_000).wrapping_add(n)),
        1 => any::<u32>(),
        1 => Just(0),
    ]
}

fn flags() -> impl Strategy<Value = u8> {
    prop_oneof![
        4 => Just(ACK),
        2 => prop_oneof![Just(SYN), Just(SYN | ACK), Just(FIN | ACK), Just(RST), Just(RST | ACK)],
        1 => any::<u8>(),
    ]
}

#[derive(Clone, Debug)]
struct Any {
    direction: Direction,
    numbers: (u32, u32),
    window: u16,
    flags: u8,
    len: u32,
    options: std::vec::Vec<u8>,
}

impl Any {
    fn view(&self) -> Segment<'_> {
        Segment {
            seq: self.numbers.0,
            ack: self.numbers.1,
            window: self.window,
            flags: self.flags,
            len: self.len,
            options: &self.options,
        }
    }
}

prop_compose! {
    fn any_segment()(
        outbound in any::<bool>(),
        numbers in (number(), number()),
        window in prop_oneof![Just(0), Just(64_000), any::<u16>()],
        flags in flags(),
        len in prop_oneof![4 => Just(0u32), 2 => 0..3_000u32, 1 => 0..70_000u32],
        options in prop_oneof![
            Just(std::vec![]),
            Just(SCALE_7.to_vec()),
            prop::collection::vec(any::<u8>(), 0..40),
        ],
    ) -> Any {
        let direction = if outbound { Outbound } else { Inbound };
        Any { direction, numbers, window, flags, len, options }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn row50_any_segments_keep_the_invariants(
        segments in prop::collection::vec(any_segment(), 1..40),
        start in 0..4u8,
    ) {
        let mut track = match start {
            0 => established_with(SCALE_7),
            1 => closing(),
            2 => Track::open(Outbound, &inside(ACK, 1, 1, 0), true).expect("picked up").0,
            _ => opened(Outbound, &inside(SYN, 0, 0, 0)),
        };
        for any in &segments {
            let before = track;
            let mut twin = track;
            let effect = track.advance(any.direction, &any.view());
            // The fast part is no more than a short cut.
            prop_assert_eq!(twin.advance_slowly(any.direction, &any.view()), effect);
            prop_assert_eq!(twin, track);
            prop_assert!(track.is_sound(), "{:?}", track);
            prop_assert_eq!(effect.class, track.class());
            if !effect.in_window {
                prop_assert_eq!(before, track);
                prop_assert!(!effect.refresh && effect.event.is_none());
            }
            if effect.class != before.class() {
                prop_assert!(effect.event.is_some(), "{:?} to {:?}", before, track);
            }
            if any.view().has(RST) {
                prop_assert!(!effect.refresh);
            }
            prop_assert_eq!(Track::from_bytes(&track.to_bytes()), Some(track));
        }
    }

    /// Only differences of sequence numbers matter: shifted by any amount, the same things happen.
    #[test]
    fn row50_numbers_have_no_origin(
        segments in prop::collection::vec(any_segment(), 1..30),
        shifts in any::<(u32, u32)>(),
    ) {
        let shift = |any: &Any| {
            let mut any = any.clone();
            let (own, other) = match any.direction {
                Outbound => shifts,
                Inbound => (shifts.1, shifts.0),
            };
            any.numbers.0 = any.numbers.0.wrapping_add(own);
            any.numbers.1 = any.numbers.1.wrapping_add(other);
            any
        };
        let mut pair: Option<(Track, Track)> = None;
        for any in &segments {
            // Without an ACK flag the number there means nothing, shifted or not.
            let moved = shift(any);
            match &mut pair {
                Some((a, b)) => {
                    let effect = a.advance(any.direction, &any.view());
                    // The remembered SYN is a hash, which may collide for one and not the other.
                    prop_assume!(effect.event != Some(Event::Restarted));
                    prop_assert_eq!(effect, b.advance(moved.direction, &moved.view()));
                    prop_assert_eq!(a.state(), b.state());
                }
                None => {
                    let a = Track::open(any.direction, &any.view(), true);
                    let b = Track::open(moved.direction, &moved.view(), true);
                    prop_assert_eq!(a.is_some(), b.is_some());
                    pair = a.zip(b).map(|((a, _), (b, _))| (a, b));
                }
            }
        }
    }

    #[test]
    fn row50_any_restored_bytes_are_safe(
        bytes in any::<[u8; Track::BYTES]>(),
        segments in prop::collection::vec(any_segment(), 1..20),
    ) {
        if let Some(mut track) = Track::from_bytes(&bytes) {
            prop_assert_eq!(track.to_bytes(), bytes);
            for any in &segments {
                track.advance(any.direction, &any.view());
            }
        }
    }
}

#[test]
fn snapshot_layout_is_fixed() {
    let mut track = established_with(SCALE_7);
    track.advance(Outbound, &with_window(inside(ACK, 1, 1, 0x1122), 0xff00));
    let bytes = track.to_bytes();
    assert_eq!(bytes[..4], (IN + 0x1123).to_le_bytes());
    assert_eq!(bytes[4..8], OUT.wrapping_add(1).to_le_bytes());
    assert_eq!(bytes[8..12], (IN + 1).to_le_bytes());
    assert_eq!(bytes[12..16], OUT.wrapping_add(1).to_le_bytes());
    assert_eq!(bytes[16..], [0x00, 0xff, 0xf4, 0x01, 0x77, 0x00, 0, 0]);
    // Impossible shifts, and more acknowledged than sent.
    for (at, value) in [(20, 0xf7), (20, 0x7f), (11, 0x10)] {
        let mut bytes = bytes;
        bytes[at] = value;
        assert_eq!(Track::from_bytes(&bytes), None, "{at}");
    }
}
