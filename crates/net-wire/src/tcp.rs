//! TCP headers and options (RFC 9293, RFC 7323, RFC 2018).

use crate::bytes::{be16, be32, put16, put32};
use crate::{Result, WireError};

/// Length of a header without options, in bytes.
pub const MIN_HEADER_LEN: usize = 20;

/// The control bits of a TCP header.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct TcpFlags(pub u8);

impl TcpFlags {
    /// No more data from the sender.
    pub const FIN: Self = Self(0x01);
    /// Synchronise sequence numbers.
    pub const SYN: Self = Self(0x02);
    /// Reset the connection.
    pub const RST: Self = Self(0x04);
    /// Push.
    pub const PSH: Self = Self(0x08);
    /// The acknowledgment field counts.
    pub const ACK: Self = Self(0x10);
    /// The urgent pointer counts.
    pub const URG: Self = Self(0x20);
    /// ECN echo.
    pub const ECE: Self = Self(0x40);
    /// Congestion window reduced.
    pub const CWR: Self = Self(0x80);

    /// Whether every bit of `other` is set.
    #[inline]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any bit of `other` is set.
    #[inline]
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

impl core::ops::BitOr for TcpFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// A sequence number: arithmetic and order are modulo 2^32 (RFC 9293, section 3.4).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct SeqNumber(pub u32);

impl SeqNumber {
    /// How far `self` lies behind `other`; negative when it lies before it.
    #[inline]
    pub const fn since(self, other: Self) -> i32 {
        self.0.wrapping_sub(other.0) as i32
    }

    /// Whether `self` comes before `other`.
    #[inline]
    pub const fn before(self, other: Self) -> bool {
        self.since(other) < 0
    }
}

impl core::ops::Add<u32> for SeqNumber {
    type Output = Self;

    #[inline]
    fn add(self, n: u32) -> Self {
        Self(self.0.wrapping_add(n))
    }
}

/// A view on a TCP segment.
#[derive(Debug, Clone, Copy)]
pub struct TcpSegment<T> {
    bytes: T,
}

impl<T: AsRef<[u8]>> TcpSegment<T> {
    /// Takes `bytes` for a segment; its end is the end of the payload.
    ///
    /// # Errors
    /// [`WireError::Truncated`] below the header length; [`WireError::Malformed`] for a data
    /// offset below 20 bytes.
    #[inline]
    pub fn parse(bytes: T) -> Result<Self> {
        let b = bytes.as_ref();
        if b.len() < MIN_HEADER_LEN {
            return Err(WireError::Truncated);
        }
        let header = usize::from(b[12] >> 4) * 4;
        if header < MIN_HEADER_LEN {
            return Err(WireError::Malformed);
        }
        if b.len() < header {
            return Err(WireError::Truncated);
        }
        Ok(Self { bytes })
    }

    /// Source port.
    #[inline]
    pub fn src_port(&self) -> u16 {
        be16(self.bytes.as_ref(), 0)
    }

    /// Destination port.
    #[inline]
    pub fn dst_port(&self) -> u16 {
        be16(self.bytes.as_ref(), 2)
    }

    /// Sequence number of the first byte (of the SYN, where that bit is set).
    #[inline]
    pub fn seq(&self) -> SeqNumber {
        SeqNumber(be32(self.bytes.as_ref(), 4))
    }

    /// The next sequence number the sender expects; counts only with [`TcpFlags::ACK`].
    #[inline]
    pub fn ack(&self) -> SeqNumber {
        SeqNumber(be32(self.bytes.as_ref(), 8))
    }

    /// Length of the header with its options, in bytes: 20 to 60.
    #[inline]
    pub fn header_len(&self) -> usize {
        usize::from(self.bytes.as_ref()[12] >> 4) * 4
    }

    /// The control bits.
    #[inline]
    pub fn flags(&self) -> TcpFlags {
        TcpFlags(self.bytes.as_ref()[13])
    }

    /// The window as it stands, not scaled.
    #[inline]
    pub fn window(&self) -> u16 {
        be16(self.bytes.as_ref(), 14)
    }

    /// The checksum as it stands.
    #[inline]
    pub fn checksum(&self) -> u16 {
        be16(self.bytes.as_ref(), 16)
    }

    /// The urgent pointer; counts only with [`TcpFlags::URG`].
    #[inline]
    pub fn urgent_pointer(&self) -> u16 {
        be16(self.bytes.as_ref(), 18)
    }

    /// The options, read one at a time; a malformed one ends them.
    #[inline]
    pub fn options(&self) -> TcpOptions<'_> {
        TcpOptions {
            bytes: &self.bytes.as_ref()[MIN_HEADER_LEN..self.header_len()],
        }
    }

    /// The payload.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        &self.bytes.as_ref()[self.header_len()..]
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> TcpSegment<T> {
    /// Sets the source port; the checksum is the caller's to update.
    #[inline]
    pub fn set_src_port(&mut self, port: u16) {
        put16(self.bytes.as_mut(), 0, port);
    }

    /// Sets the destination port; the checksum is the caller's to update.
    #[inline]
    pub fn set_dst_port(&mut self, port: u16) {
        put16(self.bytes.as_mut(), 2, port);
    }

    /// Sets the sequence number.
    #[inline]
    pub fn set_seq(&mut self, seq: SeqNumber) {
        put32(self.bytes.as_mut(), 4, seq.0);
    }

    /// Sets the acknowledgment number.
    #[inline]
    pub fn set_ack(&mut self, ack: SeqNumber) {
        put32(self.bytes.as_mut(), 8, ack.0);
    }

    /// Sets the control bits.
    #[inline]
    pub fn set_flags(&mut self, flags: TcpFlags) {
        self.bytes.as_mut()[13] = flags.0;
    }

    /// Sets the checksum.
    #[inline]
    pub fn set_checksum(&mut self, value: u16) {
        put16(self.bytes.as_mut(), 16, value);
    }
}

/// One TCP option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TcpOption<'a> {
    /// Kind 2: the largest segment the sender can receive, in bytes (RFC 9293).
    MaxSegmentSize(u16),
    /// Kind 3: the shift count of the window field (RFC 7323); the caller clamps it to 14.
    WindowScale(u8),
    /// Kind 4: selective acknowledgments may be sent (RFC 2018).
    SackPermitted,
    /// Kind 5: blocks of received data, as pairs of big-endian edges (RFC 2018).
    Sack(&'a [u8]),
    /// Kind 8: value and echo (RFC 7323).
    Timestamps(u32, u32),
    /// Any other, with its kind and its data.
    Unknown(u8, &'a [u8]),
}

/// An iterator over the options of a segment, without no-ops.
#[derive(Debug, Clone)]
pub struct TcpOptions<'a> {
    bytes: &'a [u8],
}

impl<'a> Iterator for TcpOptions<'a> {
    type Item = TcpOption<'a>;

    fn next(&mut self) -> Option<TcpOption<'a>> {
        loop {
            let (&kind, rest) = self.bytes.split_first()?;
            match kind {
                0 => {
                    self.bytes = &[];
                    return None;
                }
                1 => {
                    self.bytes = rest;
                    continue;
                }
                _ => {}
            }
            let len = usize::from(*rest.first()?);
            if len < 2 || len > self.bytes.len() {
                self.bytes = &[];
                return None;
            }
            let (option, rest) = self.bytes.split_at(len);
            self.bytes = rest;
            let data = &option[2..];
            return Some(match (kind, data.len()) {
                (2, 2) => TcpOption::MaxSegmentSize(be16(data, 0)),
                (3, 1) => TcpOption::WindowScale(data[0]),
                (4, 0) => TcpOption::SackPermitted,
                (5, n) if n % 8 == 0 => TcpOption::Sack(data),
                (8, 8) => TcpOption::Timestamps(be32(data, 0), be32(data, 4)),
                _ => TcpOption::Unknown(kind, data),
            });
        }
    }
}

/// What a header says; options are written by the caller behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpRepr {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Sequence number.
    pub seq: SeqNumber,
    /// Acknowledgment number.
    pub ack: SeqNumber,
    /// Control bits.
    pub flags: TcpFlags,
    /// The window field, already scaled down.
    pub window: u16,
}

impl TcpRepr {
    /// Writes a header of 20 bytes plus `options` at the start of `out`, with a zero checksum and
    /// urgent pointer; returns its length.
    ///
    /// # Panics
    /// If `options` is not a multiple of 4 bytes, is above 40, or does not fit.
    #[inline]
    pub fn emit(&self, out: &mut [u8], options: &[u8]) -> usize {
        assert!(
            options.len().is_multiple_of(4) && options.len() <= 40,
            "options fill whole words"
        );
        let len = MIN_HEADER_LEN + options.len();
        put16(out, 0, self.src_port);
        put16(out, 2, self.dst_port);
        put32(out, 4, self.seq.0);
        put32(out, 8, self.ack.0);
        out[12] = (len as u8 / 4) << 4;
        out[13] = self.flags.0;
        put16(out, 14, self.window);
        put32(out, 16, 0);
        out[MIN_HEADER_LEN..len].copy_from_slice(options);
        len
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_end_at_the_first_malformed_one() {
        let repr = TcpRepr {
            src_port: 1,
            dst_port: 2,
            seq: SeqNumber(3),
            ack: SeqNumber(4),
            flags: TcpFlags::SYN,
            window: 5,
        };
        let mut bytes = [0u8; 60];
        let options = [2, 4, 5, 0xb4, 1, 3, 3, 7, 4, 2, 5, 99];
        let len = repr.emit(&mut bytes, &options);
        let segment = TcpSegment::parse(&bytes[..len]).unwrap();
        assert_eq!(
            segment.options().collect::<Vec<_>>(),
            [
                TcpOption::MaxSegmentSize(1460),
                TcpOption::WindowScale(7),
                TcpOption::SackPermitted
            ]
        );
        for cut in 0..len {
            assert!(TcpSegment::parse(&bytes[..cut]).is_err(), "{cut}");
        }
    }

    #[test]
    fn sequence_numbers_wrap() {
        assert!(SeqNumber(u32::MAX).before(SeqNumber(1)));
        assert_eq!((SeqNumber(u32::MAX) + 3).since(SeqNumber(u32::MAX)), 3);
    }
}
