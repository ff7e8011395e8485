//! What tracking needs of a segment.

use super::{ACK, FIN, RST, SYN};

/// The parts of a TCP segment that tracking looks at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment<'a> {
    /// Sequence number of the first byte, or of the SYN.
    pub(crate) seq: u32,
    /// Acknowledgment number; counts only with the ACK flag.
    pub(crate) ack: u32,
    /// The window field as it stands, not scaled.
    pub(crate) window: u16,
    /// The control bits, as in `net_wire::tcp::TcpFlags`.
    pub(crate) flags: u8,
    /// Bytes of payload, below 2^24; a segment that the hardware divides later may have 64 KiB.
    pub(crate) len: u32,
    /// The options as they stand, at most 40 bytes; read only for a SYN that matters.
    pub(crate) options: &'a [u8],
}

/// The largest shift a host may use (RFC 7323, section 2.3).
pub(super) const MAX_SCALE: u8 = 14;

impl Segment<'_> {
    /// Whether any of `flags` is set.
    pub(super) fn has(&self, flags: u8) -> bool {
        self.flags & flags != 0
    }

    /// Whether no host sends this combination: SYN together with FIN or RST, or a segment with
    /// none of SYN, RST and ACK, which a host drops unread (RFC 9293, section 3.10.7.4).
    pub(super) fn is_malformed(&self) -> bool {
        if self.has(SYN) {
            self.has(FIN | RST)
        } else {
            !self.has(RST | ACK)
        }
    }

    /// The sequence numbers it takes: its payload, and one each for SYN and FIN.
    pub(super) fn space(&self) -> u32 {
        self.len
            .wrapping_add(u32::from(self.has(SYN)))
            .wrapping_add(u32::from(self.has(FIN)))
    }

    /// One past its last sequence number.
    pub(super) fn end(&self) -> u32 {
        self.seq.wrapping_add(self.space())
    }

    /// The window shift a SYN offers, limited to 14; `None` without the option.
    ///
    /// A malformed option ends the options, as it does for the host.
    pub(super) fn scale(&self) -> Option<u8> {
        let mut rest = self.options;
        loop {
            rest = match *rest {
                [1, ref rest @ ..] => rest,
                [3, 3, shift, ..] => return Some(shift.min(MAX_SCALE)),
                [kind, len, ..] if kind != 0 && len >= 2 => rest.get(usize::from(len)..)?,
                _ => return None,
            };
        }
    }
}
