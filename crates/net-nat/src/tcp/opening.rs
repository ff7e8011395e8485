//! From the first segment to a complete handshake.

use super::segment::{MAX_SCALE, Segment};
use super::state::{Effect, Event, Phase};
use super::window::in_units;
use super::{ACK, FIN, RST, SYN, Track};
use crate::Direction;

/// In the scale nibbles, until both SYNs are seen: no shift offered.
pub(super) const NO_OFFER: u8 = 0xf;

impl Track {
    /// State after a SYN of `direction`, the first segment of a connection.
    #[inline]
    pub(super) fn from_syn(direction: Direction, segment: &Segment<'_>) -> Self {
        let mut track = Self::default();
        track.begin(direction, segment);
        track.max_win[direction as usize] = segment.window;
        track.set_scales(direction, segment.scale().unwrap_or(NO_OFFER), NO_OFFER);
        track.set_phase(Phase::SynSent);
        track.set_side(direction);
        track
    }

    /// State after a SYN-ACK of `direction`, where no more than the number was kept of the SYN
    /// that it answers.
    pub(super) fn from_syn_ack(direction: Direction, segment: &Segment<'_>) -> Self {
        let (own, other) = (direction as usize, direction.reverse() as usize);
        let mut track = Self::default();
        track.begin(direction, segment);
        track.end[other] = segment.ack;
        track.acked[other] = segment.ack;
        // A SYN-ACK offers a shift only if the SYN did (RFC 7323, section 1.3); by how much that
        // SYN shifts is unknown, so the largest is assumed.
        let (scale, unseen) = match segment.scale() {
            Some(scale) => (scale, MAX_SCALE),
            None => (0, 0),
        };
        track.set_scales(direction, scale, unseen);
        track.max_win[own] = in_units(segment.window, scale.into());
        track.max_win[other] = in_units(u16::MAX, unseen.into());
        track.set_phase(Phase::SynReceived);
        track.set_side(direction.reverse());
        track
    }

    /// State for a connection of which a segment of `direction`, not its SYN, is the first one seen.
    ///
    /// Nothing is known of the other side but what this segment acknowledges; its window is taken
    /// to be 512 MiB until it speaks. Twice that, and the two windows could span half the sequence
    /// space, where "later" loses its meaning.
    pub(super) fn from_middle(direction: Direction, segment: &Segment<'_>) -> Self {
        let (own, other) = (direction as usize, direction.reverse() as usize);
        let mut track = Self::default();
        track.begin(direction, segment);
        track.end[other] = segment.ack;
        track.acked[other] = segment.ack;
        track.set_scales(direction, MAX_SCALE, MAX_SCALE);
        track.max_win[own] = segment.window.max(1);
        track.max_win[other] = u16::MAX / 2;
        track.set_phase(Phase::PickedUp);
        track.set_side(direction);
        track.set_adopted();
        if segment.has(FIN) {
            track.set_finished(direction);
        }
        track
    }

    /// One SYN has been seen, and nothing yet that answers it.
    ///
    /// There is little to measure other segments by, and some are part of a valid exchange: the
    /// acknowledgment of a host that still has an older connection, and the reset that it draws
    /// (RFC 9293, section 3.5.1). They pass and change nothing.
    pub(super) fn syn_sent(&mut self, direction: Direction, segment: &Segment<'_>) -> Effect {
        let opener = self.side();
        if direction == opener {
            if segment.has(SYN) && !segment.has(ACK) {
                if segment.seq == self.acked[direction as usize] {
                    // Hosts leave out options when they repeat a SYN; the first offer stands,
                    // and if it did not arrive, the SYN-ACK has none.
                    return self.refreshed();
                }
                *self = Self::from_syn(direction, segment);
                return self.refreshed();
            }
            if segment.has(RST) && self.is_exact(direction, segment.seq) {
                return self.ended(Phase::Refused);
            }
            return self.passed();
        }
        let answers = segment.has(ACK) && self.acknowledges_anew(opener, segment.ack);
        match (segment.has(RST), segment.has(SYN)) {
            (true, _) if answers => self.ended(Phase::Refused),
            // A host takes no other reset now (RFC 9293, section 3.10.7.3).
            (true, _) => self.refused(),
            (_, true) if answers => {
                self.join(direction, segment);
                self.acked[opener as usize] = segment.ack;
                self.set_phase(Phase::SynReceived);
                self.set_side(opener);
                self.refreshed()
            }
            (_, true) if !segment.has(ACK) => {
                self.join(direction, segment);
                self.set_phase(Phase::SynCrossed);
                self.refreshed()
            }
            _ => self.passed(),
        }
    }

    /// Both sides have sent a SYN (RFC 9293, section 3.5; RFC 5382, REQ-2a).
    pub(super) fn syn_crossed(&mut self, direction: Direction, segment: &Segment<'_>) -> Effect {
        let repeats_syn = segment.seq == self.acked[direction as usize];
        let acknowledges =
            segment.has(ACK) && self.acknowledges_anew(direction.reverse(), segment.ack);
        if segment.has(RST) {
            if acknowledges || self.is_exact(direction, segment.seq) {
                return self.ended(Phase::Reset);
            }
        } else if segment.has(SYN) && !segment.has(ACK) {
            if repeats_syn {
                return self.refreshed();
            }
        } else if acknowledges
            && (repeats_syn
                || !segment.has(SYN) && self.fits(direction, segment.seq, segment.space()))
        {
            self.note(direction, segment);
            self.set_phase(Phase::SynReceived);
            self.set_side(direction.reverse());
            if segment.has(FIN) {
                self.set_finished(direction);
            }
            return self.refreshed();
        }
        // As in `syn_sent`: the hosts sort out what is left of older connections.
        self.passed()
    }

    /// One SYN is acknowledged; the other one waits for it.
    pub(super) fn syn_received(&mut self, direction: Direction, segment: &Segment<'_>) -> Effect {
        if segment.has(RST) {
            // The second form answers a repeated SYN: its sender may not have got the SYN-ACK.
            let refuses = direction != self.side()
                && segment.has(ACK)
                && segment.ack == self.acked[self.side() as usize];
            if refuses {
                return self.ended(Phase::Reset);
            }
            return self.reset(direction, segment);
        }
        match (segment.has(SYN), segment.has(ACK)) {
            (true, false) => {
                if !self.repeats_syn(direction, segment) {
                    self.set_pending(direction, segment.seq);
                    return self.passed();
                }
                self.refreshed()
            }
            (true, true) => self.second_syn_ack(direction, segment),
            _ if self.admits(direction, segment) => self.handshake_ack(direction, segment),
            _ => self.refused(),
        }
    }

    /// A SYN-ACK when one side has sent one already.
    fn second_syn_ack(&mut self, direction: Direction, segment: &Segment<'_>) -> Effect {
        let (own, other) = (direction as usize, direction.reverse() as usize);
        if self.is_pending(direction.reverse(), segment.ack) {
            *self = Self::from_syn_ack(direction, segment);
            return self.happened(Event::Restarted);
        }
        if direction == self.side() {
            // The other half of a simultaneous open.
            if self.repeats_syn(direction, segment)
                && self.acknowledges_anew(direction.reverse(), segment.ack)
            {
                return self.handshake_ack(direction, segment);
            }
            return self.refused();
        }
        if segment.seq != self.acked[own] {
            // A server that keeps no state (SYN cookies) takes a new number for each answer, and
            // the one that the client repeated its SYN for is likely lost.
            let answers = segment.ack == self.acked[other]
                || self.acknowledges_anew(direction.reverse(), segment.ack);
            if !answers {
                return self.refused();
            }
            self.begin(direction, segment);
        }
        self.refreshed()
    }

    /// A segment within bounds: it completes the handshake if it is the acknowledgment awaited.
    fn handshake_ack(&mut self, direction: Direction, segment: &Segment<'_>) -> Effect {
        let completes =
            direction == self.side() && self.acknowledges_anew(direction.reverse(), segment.ack);
        self.note(direction, segment);
        if segment.has(FIN) {
            self.set_finished(direction);
        }
        if !completes {
            return self.refreshed();
        }
        if self.both_finished() {
            self.set_phase(Phase::Closing);
            return self.happened(Event::Closing);
        }
        self.set_phase(Phase::Established);
        self.happened(Event::Established)
    }

    /// Whether `segment` carries the SYN that `direction` sent before, be it acknowledged or not.
    pub(super) fn repeats_syn(&self, direction: Direction, segment: &Segment<'_>) -> bool {
        let acked = self.acked[direction as usize];
        // The last form is for data in the SYN (RFC 7413), when that was acknowledged with it.
        [0, 1, segment.space()].contains(&acked.wrapping_sub(segment.seq))
    }

    /// Takes the sequence numbers of a side from its first segment.
    fn begin(&mut self, direction: Direction, segment: &Segment<'_>) {
        self.acked[direction as usize] = segment.seq;
        self.end[direction as usize] = segment.end();
    }

    /// Takes in the second SYN: with it the window shifts are agreed (RFC 7323, section 1.3), and
    /// what the first SYN announced can be counted in its unit.
    fn join(&mut self, direction: Direction, segment: &Segment<'_>) {
        let (own, other) = (direction as usize, direction.reverse() as usize);
        let offered = self.scales >> (other * 4) & 0xf;
        let (scale, others) = match segment.scale() {
            Some(scale) if offered != NO_OFFER => (scale, offered),
            _ => (0, 0),
        };
        self.begin(direction, segment);
        self.set_scales(direction, scale, others);
        self.max_win[own] = in_units(segment.window, scale.into());
        self.max_win[other] = in_units(self.max_win[other], others.into());
    }

    fn set_scales(&mut self, direction: Direction, own: u8, other: u8) {
        self.scales = match direction {
            Direction::Outbound => own | other << 4,
            Direction::Inbound => other | own << 4,
        };
    }
}
