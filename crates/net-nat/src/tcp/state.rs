//! The states of a tracked connection, and what a segment does to them.

use super::Track;
use crate::Direction;

/// Which idle timer a session runs under (RFC 5382, REQ-5; RFC 7857, section 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// The handshake is not complete.
    Opening,
    /// Data may flow, at least one way.
    Established,
    /// Both sides have finished, or one has reset.
    Closing,
}

/// What happened to a session; each restarts its timer in the effect's class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The handshake is complete, or an adopted connection has been heard from both sides.
    Established,
    /// The second of the two FINs was sent.
    Closing,
    /// A reset that belongs ended the connection, or refused it.
    Reset,
    /// Data followed a reset, which its receiver therefore did not believe.
    Revived,
    /// The hosts began a new connection on the same addresses and ports.
    Restarted,
}

/// What a segment did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Effect {
    /// The class after the segment.
    pub(crate) class: Class,
    /// Whether the segment may pass; if not, it changed nothing.
    pub(crate) in_window: bool,
    /// Whether the segment shows that the session is alive.
    pub(crate) refresh: bool,
    /// What happened, if anything an observer wants to hear of; the timer restarts with it, even
    /// where `refresh` is false.
    pub(crate) event: Option<Event>,
}

/// How far a tracked TCP connection has come.
///
/// A side "finishes" with its FIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TcpState {
    /// The named side has sent a SYN.
    SynSent(Direction),
    /// Both sides have sent a SYN, neither has acknowledged one (RFC 9293, section 3.5).
    SynCrossed,
    /// One SYN is acknowledged; the named side still has to acknowledge the other.
    SynReceived(Direction),
    /// Adopted in mid-connection, and heard from the named side only.
    PickedUp(Direction),
    /// Data flows both ways.
    Established,
    /// The named side has finished; the other may still send.
    HalfClosed(Direction),
    /// Both sides have finished.
    Closing,
    /// One side has reset the connection.
    Reset,
    /// A SYN was answered with a reset, or withdrawn.
    Refused,
}

/// The low bits of the state byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Phase {
    /// Zero, because this is the one the fast part tests for.
    Established = 0,
    SynSent = 1,
    SynCrossed = 2,
    SynReceived = 3,
    PickedUp = 4,
    Closing = 5,
    Reset = 6,
    Refused = 7,
}

/// Where the phase lies in the state byte.
pub(super) const PHASE: u8 = 0b111;
/// Set for outside: who sent the SYN, whose acknowledgment is awaited, or who was picked up.
const SIDE: u8 = 1 << 3;
/// Who has finished, by sender.
const FINISHED: [u8; 2] = [1 << 4, 1 << 5];
/// Adopted in mid-connection: the window shifts, and how much was in flight, were never seen. Or a
/// segment came in fragments, so that the latter is not known any more.
const ADOPTED: u8 = 1 << 6;
/// Set for outside: who sent the SYN that `pending` remembers.
const PENDING_SIDE: u8 = 1 << 7;

impl Track {
    /// How far the connection has come.
    pub(crate) fn state(&self) -> TcpState {
        match self.phase() {
            Phase::SynSent => TcpState::SynSent(self.side()),
            Phase::SynCrossed => TcpState::SynCrossed,
            Phase::SynReceived => TcpState::SynReceived(self.side()),
            Phase::PickedUp => TcpState::PickedUp(self.side()),
            Phase::Established => match FINISHED.map(|bit| self.state & bit != 0) {
                [true, _] => TcpState::HalfClosed(Direction::Outbound),
                [_, true] => TcpState::HalfClosed(Direction::Inbound),
                _ => TcpState::Established,
            },
            Phase::Closing => TcpState::Closing,
            Phase::Reset => TcpState::Reset,
            Phase::Refused => TcpState::Refused,
        }
    }

    /// The timer class of that state.
    pub(crate) fn class(&self) -> Class {
        match self.phase() {
            Phase::SynSent | Phase::SynCrossed | Phase::SynReceived | Phase::PickedUp => {
                Class::Opening
            }
            Phase::Established => Class::Established,
            Phase::Closing | Phase::Reset | Phase::Refused => Class::Closing,
        }
    }

    pub(super) fn phase(&self) -> Phase {
        match self.state & PHASE {
            0 => Phase::Established,
            1 => Phase::SynSent,
            2 => Phase::SynCrossed,
            3 => Phase::SynReceived,
            4 => Phase::PickedUp,
            5 => Phase::Closing,
            6 => Phase::Reset,
            _ => Phase::Refused,
        }
    }

    pub(super) fn set_phase(&mut self, phase: Phase) {
        self.state = self.state & !PHASE | phase as u8;
    }

    /// Whom the phase is about.
    pub(super) fn side(&self) -> Direction {
        side_of(self.state & SIDE)
    }

    pub(super) fn set_side(&mut self, side: Direction) {
        self.set_bit(SIDE, matches!(side, Direction::Inbound));
    }

    pub(super) fn is_adopted(&self) -> bool {
        self.state & ADOPTED != 0
    }

    pub(super) fn set_adopted(&mut self) {
        self.state |= ADOPTED;
    }

    /// A segment of the connection came in fragments, of which only the first is seen as a segment:
    /// from now on more may have been sent than was counted.
    pub(crate) fn lose_count(&mut self) {
        self.set_adopted();
    }

    pub(super) fn set_finished(&mut self, side: Direction) {
        self.state |= FINISHED[side as usize];
    }

    pub(super) fn both_finished(&self) -> bool {
        FINISHED.iter().all(|bit| self.state & bit != 0)
    }

    /// Remembers a SYN that `side` sent in mid-connection.
    pub(super) fn set_pending(&mut self, side: Direction, seq: u32) {
        self.set_bit(PENDING_SIDE, matches!(side, Direction::Inbound));
        self.pending = fold(seq);
    }

    /// Whether `ack` acknowledges the SYN remembered of `side`.
    ///
    /// The number is remembered in 16 bits. Who guesses them must also find a host that has just
    /// sent a SYN on these ports, and the next true SYN-ACK puts the numbers right.
    pub(super) fn is_pending(&self, side: Direction, ack: u32) -> bool {
        side_of(self.state & PENDING_SIDE) == side && self.pending == fold(ack.wrapping_sub(1))
    }

    fn set_bit(&mut self, bit: u8, on: bool) {
        self.state = if on {
            self.state | bit
        } else {
            self.state & !bit
        };
    }

    /// The segment does not belong.
    pub(super) fn refused(&self) -> Effect {
        Effect {
            in_window: false,
            ..self.passed()
        }
    }

    /// The segment may pass, and says nothing about the session.
    pub(super) fn passed(&self) -> Effect {
        Effect {
            class: self.class(),
            in_window: true,
            refresh: false,
            event: None,
        }
    }

    /// The segment is one of the connection.
    pub(super) fn refreshed(&self) -> Effect {
        Effect {
            refresh: true,
            ..self.passed()
        }
    }

    /// The segment is one of the connection and makes `event` happen.
    pub(super) fn happened(&self, event: Event) -> Effect {
        Effect {
            event: Some(event),
            ..self.refreshed()
        }
    }

    /// A reset that belongs; it ends the connection but prolongs nothing (RFC 7857, section 2.2).
    pub(super) fn ended(&mut self, phase: Phase) -> Effect {
        self.set_phase(phase);
        Effect {
            event: Some(Event::Reset),
            ..self.passed()
        }
    }
}

fn side_of(bit: u8) -> Direction {
    if bit == 0 {
        Direction::Outbound
    } else {
        Direction::Inbound
    }
}

/// 16 bits of an initial sequence number, never 0.
fn fold(seq: u32) -> u16 {
    ((seq ^ seq >> 16) as u16).max(1)
}
