//! A tracked connection as bytes, for snapshots.

use super::opening::NO_OFFER;
use super::state::Phase;
use super::{Track, segment::MAX_SCALE};

impl Track {
    /// Length of the byte form.
    pub(crate) const BYTES: usize = 24;

    /// The byte form: the fields in order, little-endian.
    pub(crate) fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let words = [self.end[0], self.end[1], self.acked[0], self.acked[1]];
        let halves = [
            self.max_win[0],
            self.max_win[1],
            u16::from_le_bytes([self.scales, self.state]),
            self.pending,
        ];
        let source = words
            .into_iter()
            .flat_map(u32::to_le_bytes)
            .chain(halves.into_iter().flat_map(u16::to_le_bytes));
        for (to, from) in bytes.iter_mut().zip(source) {
            *to = from;
        }
        bytes
    }

    /// Reads the byte form back; `None` if no connection can be in that state.
    pub(crate) fn from_bytes(bytes: &[u8; Self::BYTES]) -> Option<Self> {
        let (words, _) = bytes[..16].as_chunks::<4>();
        let (halves, _) = bytes[16..].as_chunks::<2>();
        let word = |i: usize| u32::from_le_bytes(words[i]);
        let half = |i: usize| u16::from_le_bytes(halves[i]);
        let [scales, state] = halves[2];
        let track = Self {
            end: [word(0), word(1)],
            acked: [word(2), word(3)],
            max_win: [half(0), half(1)],
            scales,
            state,
            pending: half(3),
        };
        track.is_sound().then_some(track)
    }

    /// What holds after every segment: no side is acknowledged past what it sent, and shifts are
    /// ones a host may use.
    pub(super) fn is_sound(&self) -> bool {
        let ordered = (0..2).all(|side| self.end[side].wrapping_sub(self.acked[side]) < 1 << 31);
        let scaled = [self.scales & 0xf, self.scales >> 4].iter().all(|&scale| {
            scale <= MAX_SCALE
                || scale == NO_OFFER && matches!(self.phase(), Phase::SynSent | Phase::Refused)
        });
        ordered && scaled
    }
}
