//! TCP connection tracking: which segments belong to a session, and how long it may be idle.
//!
//! A tracker sees both directions of a connection and owns neither end. It has to answer three
//! questions: does this segment belong to the connection (RFC 5382 wants sessions that a stranger
//! can neither prolong nor end), which timer class is the session in (RFC 7857, section 2: opening,
//! established, closing), and did something happen that an observer wants to hear of.
//!
//! # What belongs
//!
//! The four bounds of Guido van Rooij, "Real Stateful TCP Packet Filtering in IP Filter": data may
//! not pass what the receiver allows nor lie further back than a window; an acknowledgment may not
//! pass what was sent nor lie too far back. Two of them are anchored a little differently here:
//!
//! - Per sender the tracker keeps the highest sequence number the other side *acknowledged*, and
//!   not that number plus the window it came with. What the receiver allows is then "acknowledged +
//!   largest window ever announced": at least as much as the paper's bound, the same number of
//!   bytes of state, and the acknowledged point is what tells an exact reset from a guessed one
//!   (RFC 5961, section 3).
//! - Both lower bounds count from the acknowledged point, as RFC 5961, section 5, does it. A
//!   receiver with a hole keeps acknowledging the hole's edge however much it reports by SACK (RFC
//!   2018, section 4), so such segments pass without a look at their SACK blocks.
//!
//! Bounds err on the lenient side by at most a window: a host that gets an old segment answers or
//! ignores it, but a tracker that drops a good one stalls the connection.
//!
//! # Cost
//!
//! [`Track::advance_ordinary`] decides an ordinary segment of an established connection inline, in
//! some forty instructions with five branches that nearly always go the same way, and without a look
//! at its options; all else takes a call. The rules for the handshake are in `opening`, those for what
//! follows in `live`, the bounds in `window`.
//!
//! # Not done here
//!
//! No timestamps (RFC 7323, PAWS), no urgent pointer, no check of ECN bits: the hosts do those.
//! Reset attacks by someone who reads the traffic cannot be told from resets.

mod live;
mod opening;
mod segment;
mod snapshot;
mod state;
#[cfg(test)]
mod tests;
mod window;

use net_wire::tcp::TcpFlags;

pub(crate) use segment::Segment;
pub use state::TcpState;
pub(crate) use state::{Class, Effect};

use crate::Direction;
use state::{PHASE, Phase};
use window::LEAST_SLACK;

const SYN: u8 = TcpFlags::SYN.0;
const FIN: u8 = TcpFlags::FIN.0;
const RST: u8 = TcpFlags::RST.0;
const ACK: u8 = TcpFlags::ACK.0;

/// What is known of one connection; arrays are by sender, 0 inside and 1 outside.
///
/// All zero, it means nothing: it waits for [`Track::open`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Track {
    /// One past the highest sequence number sent.
    end: [u32; 2],
    /// The highest sequence number the other side acknowledged; before that, the sender's first.
    /// Never after `end`.
    acked: [u32; 2],
    /// The largest window announced, in units of `1 << scale`, rounded up.
    max_win: [u16; 2],
    /// Window shifts (RFC 7323): inside in the low nibble, outside in the high one.
    scales: u8,
    /// The phase and its flags; see `state`.
    state: u8,
    /// Fold of the sequence number of a SYN that came in mid-connection; 0 for none.
    pending: u16,
}

const _: () = assert!(size_of::<Track>() == 24 && align_of::<Track>() == 4);

impl Track {
    /// State for a session opened by `segment`, its first one, with the timer class it starts in.
    ///
    /// `None` if that segment must not open one: it is a reset, it has a combination of flags that
    /// no host sends, or it is from the middle of a connection and `pickup` is off. With `pickup`
    /// such a segment adopts a connection that the tracker lost in a restart.
    pub(crate) fn open(
        direction: Direction,
        segment: &Segment<'_>,
        pickup: bool,
    ) -> Option<(Self, Class)> {
        if segment.is_malformed() || segment.has(RST) {
            return None;
        }
        let track = match (segment.has(SYN), segment.has(ACK)) {
            (true, false) => Self::from_syn(direction, segment),
            // A SYN-ACK too may be an old one, and the connection long past it.
            (_, true) if pickup => Self::from_middle(direction, segment),
            _ => return None,
        };
        Some((track, Class::Opening))
    }

    /// As [`Self::open`] for a SYN from the inside, which most first segments are; `None` for any
    /// other.
    #[inline(always)]
    pub(crate) fn open_syn(segment: &Segment<'_>) -> Option<Self> {
        let syn = segment.flags & (SYN | FIN | RST | ACK) == SYN;
        syn.then(|| Self::from_syn(Direction::Outbound, segment))
    }

    /// Takes in the next segment of the session, which `direction` sent.
    ///
    /// When the effect's `in_window` is false, nothing changed.
    pub(crate) fn advance(&mut self, direction: Direction, segment: &Segment<'_>) -> Effect {
        if self.advance_ordinary(direction, segment) {
            return self.refreshed();
        }
        self.advance_slowly(direction, segment)
    }

    /// Any segment.
    fn advance_slowly(&mut self, direction: Direction, segment: &Segment<'_>) -> Effect {
        if segment.is_malformed() {
            return self.refused();
        }
        match self.phase() {
            Phase::SynSent => self.syn_sent(direction, segment),
            Phase::SynCrossed => self.syn_crossed(direction, segment),
            Phase::SynReceived => self.syn_received(direction, segment),
            Phase::PickedUp
            | Phase::Established
            | Phase::Closing
            | Phase::Reset
            | Phase::Refused => self.live(direction, segment),
        }
    }

    /// The same for an ordinary segment of an established connection, which shows that it is alive
    /// and makes nothing else happen; false for any other, and nothing has changed then. Options are
    /// not looked at.
    #[inline(always)]
    pub(crate) fn advance_ordinary(&mut self, direction: Direction, segment: &Segment<'_>) -> bool {
        // Each test here accepts less than those of `live` do, by bounds that are cheaper to
        // compute: 65,535 bytes for the slack, and no byte past the window.
        let (sender, receiver) = (direction as usize, direction.reverse() as usize);
        let (sent, acked) = (self.end[sender], self.acked[receiver]);
        let ordinary = (segment.flags & (SYN | FIN | RST | ACK)) ^ ACK | (self.state & PHASE);
        let start = segment
            .seq
            .wrapping_sub(self.acked[sender])
            .wrapping_add(LEAST_SLACK);
        let reach = u64::from(start) + u64::from(segment.len);
        let step = segment.ack.wrapping_sub(acked);
        let unacked = self.end[receiver].wrapping_sub(acked);
        if ordinary != Phase::Established as u8
            || reach > u64::from(self.window(receiver)) + u64::from(LEAST_SLACK)
            || step.wrapping_add(LEAST_SLACK) > unacked.wrapping_add(LEAST_SLACK)
        {
            return false;
        }
        // Nearly every segment moves one of the two forward, but which one alternates: one branch
        // for both can be predicted, and a repeated segment leaves the cache line clean.
        let more_sent = advance_of(sent, segment.seq.wrapping_add(segment.len));
        let more_acked = advance_of(acked, segment.ack);
        if more_sent | more_acked != 0 {
            self.end[sender] = sent.wrapping_add(more_sent);
            self.acked[receiver] = acked.wrapping_add(more_acked);
        }
        if segment.window > self.max_win[sender] {
            self.max_win[sender] = segment.window;
        }
        true
    }
}

/// How far `new` lies past `old`, 0 if it does not (RFC 9293, section 3.4).
#[inline]
fn advance_of(old: u32, new: u32) -> u32 {
    (new.wrapping_sub(old) as i32).max(0) as u32
}

/// The later of two sequence numbers.
fn later(old: u32, new: u32) -> u32 {
    old.wrapping_add(advance_of(old, new))
}
