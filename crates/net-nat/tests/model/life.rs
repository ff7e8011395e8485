//! A TCP connection that keeps to the book: every segment begins where the last one ended and
//! acknowledges all that was sent. Of such a life the timers are known to the second; whatever does
//! not keep to the book ends the knowledge, not the session.

use net_nat::Direction;

use crate::packet::{ACK, FIN, RST, SYN, Segment};

/// Which of the three times a connection keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Opening,
    Established,
    Closing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    SynSent,
    SynReceived,
    Established,
    Closing,
    Reset,
}

/// Arrays are by sender, 0 inside and 1 outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Life {
    state: State,
    opener: usize,
    /// What comes next in the numbers of each.
    next: [u32; 2],
    finished: [bool; 2],
}

/// Whether a segment may open a session (RFC 5382, REQ-2; RFC 7857, section 2).
pub(crate) fn opens(direction: Direction, flags: u8, pickup: bool) -> bool {
    let has = |flag| flags & flag != 0;
    match (has(SYN), has(ACK)) {
        _ if has(RST) || (has(SYN) && has(FIN)) => false,
        (true, false) => true,
        (_, true) => pickup && direction == Direction::Outbound,
        (false, false) => false,
    }
}

impl Life {
    /// The life that a first segment begins; `None` for one picked up in its midst.
    pub(crate) fn begin(direction: Direction, segment: Segment, len: u32) -> Option<Self> {
        if segment.flags != SYN {
            return None;
        }
        let opener = direction as usize;
        let mut next = [0; 2];
        next[opener] = segment.seq.wrapping_add(1 + len);
        Some(Self {
            state: State::SynSent,
            opener,
            next,
            finished: [false; 2],
        })
    }

    /// Where the next segment of a side begins and what it acknowledges.
    pub(crate) fn numbers(&self, direction: Direction) -> (u32, u32) {
        let sender = direction as usize;
        (self.next[sender], self.next[1 - sender])
    }

    /// The SYN that a side still has to send, if it has.
    pub(crate) fn wants_syn(&self, direction: Direction) -> Option<u8> {
        match self.state {
            State::SynSent if direction as usize != self.opener => Some(SYN | ACK),
            State::Closing | State::Reset => Some(SYN),
            _ => None,
        }
    }

    /// The life after one more segment, its stage, and whether that counts as a sign of life.
    pub(crate) fn after(
        self,
        direction: Direction,
        segment: Segment,
        len: u32,
    ) -> Option<(Self, Stage, bool)> {
        let (sender, mut life) = (direction as usize, self);
        let begins = segment.seq == self.next[sender];
        let acknowledges = segment.ack == self.next[1 - sender];
        let end = |flag: u8| segment.seq.wrapping_add(len + u32::from(flag != 0));
        let ends = |life: Self, stage| Some((life, stage, true));
        match (self.state, segment.flags) {
            // A repeated SYN.
            (State::SynSent, SYN) if sender == self.opener && end(SYN) == self.next[sender] => {
                ends(life, Stage::Opening)
            }
            (State::SynSent, flags)
                if flags == SYN | ACK && sender != self.opener && acknowledges =>
            {
                life.state = State::SynReceived;
                life.next[sender] = end(SYN);
                ends(life, Stage::Opening)
            }
            (State::SynReceived, ACK) if sender == self.opener && begins && acknowledges => {
                life.state = State::Established;
                life.next[sender] = end(0);
                ends(life, Stage::Established)
            }
            (State::Established | State::Closing, flags)
                if flags & !FIN == ACK && begins && acknowledges =>
            {
                life.next[sender] = end(flags & FIN);
                life.finished[sender] |= flags & FIN != 0;
                if life.finished != [true; 2] {
                    return ends(life, Stage::Established);
                }
                life.state = State::Closing;
                ends(life, Stage::Closing)
            }
            (State::Established | State::Closing, flags) if flags & !ACK == RST && begins => {
                life.state = State::Reset;
                Some((life, Stage::Closing, false))
            }
            // The ports are used again.
            (State::Closing | State::Reset, SYN) => {
                ends(Self::begin(direction, segment, len)?, Stage::Opening)
            }
            _ => None,
        }
    }
}
