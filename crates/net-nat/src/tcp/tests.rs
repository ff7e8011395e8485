//! Tests of TCP tracking, named after the rows of the requirements.

mod handshake;
mod hostile;
mod hosts;
mod pickup;
mod reset;
mod reuse;
mod simulation;
mod window;

use super::state::Event;
use super::{ACK, Class, FIN, RST, SYN, Segment, TcpState, Track};
use crate::Direction::{self, Inbound, Outbound};

/// First sequence numbers of the two sides; the outside one wraps within the tests.
const IN: u32 = 1_000_000;
const OUT: u32 = u32::MAX - 20;

const SCALE_7: &[u8] = &[2, 4, 5, 0xb4, 1, 3, 3, 7];

/// A segment with a window of 64,000.
const fn segment(flags: u8, seq: u32, ack: u32, len: u32) -> Segment<'static> {
    Segment {
        seq,
        ack,
        window: 64_000,
        flags,
        len,
        options: &[],
    }
}

/// From the inside, numbers counted from that side's SYN.
const fn inside(flags: u8, seq: u32, ack: u32, len: u32) -> Segment<'static> {
    segment(flags, IN.wrapping_add(seq), OUT.wrapping_add(ack), len)
}

/// The same from the outside.
const fn outside(flags: u8, seq: u32, ack: u32, len: u32) -> Segment<'static> {
    segment(flags, OUT.wrapping_add(seq), IN.wrapping_add(ack), len)
}

const fn with_window(mut segment: Segment<'static>, window: u16) -> Segment<'static> {
    segment.window = window;
    segment
}

const fn with_options(segment: Segment<'static>, options: &'static [u8]) -> Segment<'static> {
    Segment { options, ..segment }
}

fn opened(direction: Direction, first: &Segment<'_>) -> Track {
    Track::open(direction, first, false).expect("a SYN opens").0
}

/// After the three-way handshake, opened from the inside; `options` in both SYNs.
fn established_with(options: &'static [u8]) -> Track {
    let mut track = opened(Outbound, &with_options(inside(SYN, 0, 0, 0), options));
    let syn_ack = with_options(outside(SYN | ACK, 0, 1, 0), options);
    assert!(track.advance(Inbound, &syn_ack).refresh);
    let effect = track.advance(Outbound, &inside(ACK, 1, 1, 0));
    assert_eq!(effect.event, Some(Event::Established));
    track
}

fn established() -> Track {
    established_with(&[])
}

/// After both FINs.
fn closing() -> Track {
    let mut track = established();
    track.advance(Outbound, &inside(FIN | ACK, 1, 1, 0));
    track.advance(Inbound, &outside(FIN | ACK, 1, 2, 0));
    assert_eq!(track.state(), TcpState::Closing);
    track
}

/// The segment must be refused and leave no trace.
#[track_caller]
fn assert_refused(track: &mut Track, direction: Direction, segment: &Segment<'_>) {
    let before = *track;
    let effect = track.advance(direction, segment);
    assert!(!effect.in_window && !effect.refresh, "{effect:?}");
    assert_eq!((effect.event, *track), (None, before));
}

/// The segment must pass, but neither prolong nor change the session's state.
#[track_caller]
fn assert_passed(track: &mut Track, direction: Direction, segment: &Segment<'_>) {
    let before = track.state();
    let effect = track.advance(direction, segment);
    assert!(effect.in_window && !effect.refresh, "{effect:?}");
    assert_eq!((effect.event, track.state()), (None, before));
}

/// The segment must be taken as an ordinary one of the connection.
#[track_caller]
fn assert_taken(track: &mut Track, direction: Direction, segment: &Segment<'_>) {
    let effect = track.advance(direction, segment);
    assert!(effect.in_window && effect.refresh, "{effect:?}");
    assert_eq!(effect.event, None);
}

/// The segment must make `event` happen.
#[track_caller]
fn assert_event(track: &mut Track, direction: Direction, segment: &Segment<'_>, event: Event) {
    let effect = track.advance(direction, segment);
    assert!(effect.in_window, "{effect:?}");
    assert_eq!(effect.event, Some(event));
    assert_eq!(effect.class, track.class());
}
