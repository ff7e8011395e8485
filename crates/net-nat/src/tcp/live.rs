//! A connection past its handshake, until its record is gone.

use super::segment::Segment;
use super::state::{Effect, Event, Phase};
use super::{ACK, FIN, RST, SYN, Track};
use crate::Direction;

impl Track {
    /// A segment of a connection that is established, adopted, closing or reset.
    pub(super) fn live(&mut self, direction: Direction, segment: &Segment<'_>) -> Effect {
        match (segment.has(RST), segment.has(SYN), segment.has(ACK)) {
            (true, ..) => self.reset(direction, segment),
            (_, true, false) => self.late_syn(direction, segment),
            (_, true, true) => self.late_syn_ack(direction, segment),
            _ => self.ordinary(direction, segment),
        }
    }

    /// A reset. It ends the connection only if it stands exactly where its receiver will believe
    /// it; elsewhere in the window the receiver answers with a challenge, and if the reset was
    /// meant, an exact one follows (RFC 5961, section 3.2).
    pub(super) fn reset(&mut self, direction: Direction, segment: &Segment<'_>) -> Effect {
        match self.phase() {
            // There is nothing to end, and one side's numbers are not known.
            Phase::Refused => self.passed(),
            _ if !self.fits(direction, segment.seq, 0) => self.refused(),
            // It repeats what is known.
            Phase::Reset => self.passed(),
            _ if self.is_exact(direction, segment.seq) => self.ended(Phase::Reset),
            _ => self.passed(),
        }
    }

    /// A SYN. A host that still has the connection answers it with a challenge (RFC 5961, section
    /// 4), one that has lost it with a SYN-ACK: only that shows which of the two it is. After the
    /// end there is nothing to protect, and the ports may be used again.
    fn late_syn(&mut self, direction: Direction, segment: &Segment<'_>) -> Effect {
        match self.phase() {
            Phase::Closing | Phase::Reset | Phase::Refused => {
                *self = Self::from_syn(direction, segment);
                self.happened(Event::Restarted)
            }
            _ => {
                if !self.repeats_syn(direction, segment) {
                    self.set_pending(direction, segment.seq);
                }
                self.passed()
            }
        }
    }

    /// A SYN-ACK: a repetition, whose acknowledgment was lost, if it is in the window; the
    /// beginning of a new connection if it answers a late SYN.
    ///
    /// In that order, because SYN and SYN-ACK may both be late duplicates. A new connection that
    /// begins within the windows of the old one, which is rare, can go on under its record.
    fn late_syn_ack(&mut self, direction: Direction, segment: &Segment<'_>) -> Effect {
        if self.phase() != Phase::Refused && self.admits(direction, segment) {
            self.passed()
        } else if self.is_pending(direction.reverse(), segment.ack) {
            *self = Self::from_syn_ack(direction, segment);
            self.happened(Event::Restarted)
        } else {
            self.refused()
        }
    }

    /// A segment with neither SYN nor RST.
    fn ordinary(&mut self, direction: Direction, segment: &Segment<'_>) -> Effect {
        // Of a refused connection, one side's numbers are not known.
        if self.phase() == Phase::Refused || !self.admits(direction, segment) {
            return self.refused();
        }
        let answered = self.phase() == Phase::PickedUp && direction != self.side();
        if answered {
            // First word of the other side: it replaces what was assumed for it.
            self.acked[direction.reverse() as usize] = segment.ack;
            self.max_win[direction as usize] = segment.window.max(1);
        }
        self.note(direction, segment);
        if segment.has(FIN) {
            self.set_finished(direction);
        }
        match self.phase() {
            // Data after a reset: its receiver did not take it (RFC 7857, section 2.2).
            Phase::Reset if segment.len > 0 => {
                self.set_phase(if self.both_finished() {
                    Phase::Closing
                } else {
                    Phase::Established
                });
                self.happened(Event::Revived)
            }
            Phase::PickedUp | Phase::Established if self.both_finished() => {
                self.set_phase(Phase::Closing);
                self.happened(Event::Closing)
            }
            Phase::PickedUp if answered => {
                self.set_phase(Phase::Established);
                self.happened(Event::Established)
            }
            _ => self.refreshed(),
        }
    }
}
