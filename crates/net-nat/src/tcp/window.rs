//! The bounds that a segment must keep to belong to a connection.

use super::segment::Segment;
use super::{SYN, Track, later};
use crate::Direction;

/// How far back, in bytes, a segment or an acknowledgment may lie at least: what reordering and
/// repetition do on a connection with small windows.
pub(super) const LEAST_SLACK: u32 = 65_535;

impl Track {
    /// The window shift of `side`.
    #[inline]
    fn scale(&self, side: usize) -> u32 {
        u32::from(self.scales >> (side * 4) & 0xf)
    }

    /// The largest window `side` has announced, in bytes; below 2^31.
    #[inline]
    pub(super) fn window(&self, side: usize) -> u32 {
        u32::from(self.max_win[side]) << self.scale(side)
    }

    fn slack(&self, side: usize) -> u64 {
        u64::from(self.window(side).max(LEAST_SLACK))
    }

    /// What `side` has sent and the other side has not acknowledged.
    fn unacked(&self, side: usize) -> u64 {
        u64::from(self.end[side].wrapping_sub(self.acked[side]))
    }

    /// The bound that the largest window of `receiver` sets on unacknowledged data. One above the
    /// window, because a zero-window probe (RFC 9293, section 3.8.6.1) and, with some hosts, a FIN
    /// goes past its edge. What was let through once may be repeated, even after that.
    fn allowance(&self, sender: usize, receiver: usize) -> u64 {
        (u64::from(self.window(receiver)) + 1).max(self.unacked(sender))
    }

    /// Whether the `space` sequence numbers from `seq` on are where `sender` may send.
    pub(super) fn fits(&self, sender: Direction, seq: u32, space: u32) -> bool {
        let (sender, receiver) = (sender as usize, sender.reverse() as usize);
        let slack = self.slack(receiver);
        from_slack(seq, self.acked[sender], slack) + u64::from(space)
            <= slack + self.allowance(sender, receiver)
    }

    /// Whether `sender` may acknowledge up to `ack` (RFC 5961, section 5).
    ///
    /// On an adopted connection more may have been sent than was seen: there the limit is what
    /// `sender` allowed.
    pub(super) fn may_acknowledge(&self, sender: Direction, ack: u32) -> bool {
        let (sender, receiver) = (sender as usize, sender.reverse() as usize);
        let slack = self.slack(sender);
        let limit = if self.is_adopted() {
            self.allowance(receiver, sender)
        } else {
            self.unacked(receiver)
        };
        from_slack(ack, self.acked[receiver], slack) <= slack + limit
    }

    /// Whether `segment` of `sender` lies within all four bounds.
    pub(super) fn admits(&self, sender: Direction, segment: &Segment<'_>) -> bool {
        self.fits(sender, segment.seq, segment.space()) && self.may_acknowledge(sender, segment.ack)
    }

    /// Whether `ack` acknowledges something of `side` that was not acknowledged before.
    pub(super) fn acknowledges_anew(&self, side: Direction, ack: u32) -> bool {
        let side = side as usize;
        let step = ack.wrapping_sub(self.acked[side]);
        step != 0 && u64::from(step) <= self.unacked(side)
    }

    /// Whether a reset of `sender` stands exactly where the receiver must expect it (RFC 5961,
    /// section 3.2): at the point it acknowledged last, or, if that acknowledgment is still on its
    /// way, at the end of what was sent.
    pub(super) fn is_exact(&self, sender: Direction, seq: u32) -> bool {
        let sender = sender as usize;
        seq == self.end[sender] || seq == self.acked[sender]
    }

    /// Notes what an admitted segment with an ACK says.
    pub(super) fn note(&mut self, sender: Direction, segment: &Segment<'_>) {
        let (sender, receiver) = (sender as usize, sender.reverse() as usize);
        self.end[sender] = later(self.end[sender], segment.end());
        self.acked[receiver] = later(self.acked[receiver], segment.ack);
        self.end[receiver] = later(self.end[receiver], self.acked[receiver]);
        // The window of a SYN is never scaled (RFC 7323, section 2.2).
        let window = if segment.has(SYN) {
            in_units(segment.window, self.scale(sender))
        } else {
            segment.window
        };
        self.max_win[sender] = self.max_win[sender].max(window);
    }
}

/// How far `number` lies past the point `slack` bytes before `anchor`.
fn from_slack(number: u32, anchor: u32, slack: u64) -> u64 {
    u64::from(number.wrapping_sub(anchor).wrapping_add(slack as u32))
}

/// A window in bytes as a count of `1 << scale`, rounded up.
pub(super) fn in_units(window: u16, scale: u32) -> u16 {
    u32::from(window).div_ceil(1 << scale) as u16
}
