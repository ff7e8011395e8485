//! Builds a message that never exceeds what its receiver takes.

use super::option::END;
use super::{Header, MIN_MESSAGE_LEN, OPTIONS_OFFSET};

/// An option value longer than this is split (RFC 3396).
const MAX_PIECE: usize = 255;

/// Appends options to a header; an option that would not fit is left out whole.
#[derive(Debug)]
pub struct Writer {
    bytes: Vec<u8>,
    limit: usize,
    /// Bytes kept free for the last option, see [`Writer::reserve`].
    reserved: usize,
}

impl Writer {
    /// Starts a message of at most `limit` bytes (at least 300, the BOOTP minimum).
    pub fn new(header: &Header, limit: usize) -> Self {
        let mut bytes = Vec::with_capacity(MIN_MESSAGE_LEN);
        bytes.extend_from_slice(&header.encode());
        debug_assert_eq!(bytes.len(), OPTIONS_OFFSET);
        Self {
            bytes,
            limit: limit.max(MIN_MESSAGE_LEN),
            reserved: 0,
        }
    }

    /// Appends an option, in pieces of 255 bytes when it is longer. Returns `false`, with nothing
    /// written, when it does not fit.
    pub fn option(&mut self, code: u8, value: &[u8]) -> bool {
        // One byte stays free for the end option.
        if self.bytes.len() + encoded_len(value) + self.reserved >= self.limit {
            return false;
        }
        self.push(code, value);
        true
    }

    /// Keeps room for an option that has to come last (RFC 3046 section 2.1). Returns `false`,
    /// with nothing kept, when there is none.
    pub fn reserve(&mut self, value: &[u8]) -> bool {
        let need = encoded_len(value);
        // Less than, not up to: the end option needs a byte.
        let fits = self.bytes.len() + need < self.limit;
        if fits {
            self.reserved = need;
        }
        fits
    }

    /// Appends the last option (`reserve` must have kept room for it, else it is left out), the
    /// end option and padding up to 300 bytes.
    pub fn finish(mut self, last: Option<(u8, &[u8])>) -> Vec<u8> {
        if let Some((code, value)) = last {
            self.reserved = 0;
            self.option(code, value);
        }
        self.bytes.push(END);
        if self.bytes.len() < MIN_MESSAGE_LEN {
            self.bytes.resize(MIN_MESSAGE_LEN, 0);
        }
        self.bytes
    }

    fn push(&mut self, code: u8, value: &[u8]) {
        if value.is_empty() {
            self.bytes.extend_from_slice(&[code, 0]);
        }
        for piece in value.chunks(MAX_PIECE) {
            // `chunks` keeps the length within a byte.
            self.bytes.extend_from_slice(&[code, piece.len() as u8]);
            self.bytes.extend_from_slice(piece);
        }
    }
}

fn encoded_len(value: &[u8]) -> usize {
    value.len() + 2 * value.len().div_ceil(MAX_PIECE).max(1)
}

#[cfg(test)]
mod tests {
    use super::super::{Message, Op};
    use super::*;

    fn writer(limit: usize) -> Writer {
        Writer::new(&Header::new(Op::Reply, 1, [2, 0, 0, 0, 0, 1]), limit)
    }

    #[test]
    fn rfc3396_long_option_is_split_and_joined_again() {
        let value: Vec<u8> = (0..600u16).map(|i| i as u8).collect();
        let mut w = writer(1472);
        assert!(w.option(119, &value));
        let bytes = w.finish(None);
        assert_eq!(&bytes[240..242], [119, 255]);
        assert_eq!(&bytes[240 + 257..240 + 259], [119, 255]);
        assert_eq!(&bytes[240 + 514..240 + 516], [119, 90]);
        assert_eq!(
            Message::parse(&bytes).unwrap().options.get(119),
            Some(&value[..])
        );
    }

    #[test]
    fn limit_is_kept_to_the_byte() {
        for limit in 300..700 {
            for len in 0..400 {
                let value = vec![7; len];
                let mut w = writer(limit);
                let reserved = w.reserve(&[1; 20]);
                assert!(reserved);
                let taken = w.option(200, &value);
                let bytes = w.finish(Some((82, &[1; 20])));
                assert!(bytes.len() <= limit);
                let parsed = Message::parse(&bytes).unwrap();
                assert_eq!(parsed.options.get(200), taken.then_some(&value[..]));
                assert_eq!(
                    parsed.options.get(82),
                    Some(&[1u8; 20][..]),
                    "room was kept"
                );
                let need = 240 + encoded_len(&value) + 22 + 1;
                assert_eq!(taken, need <= limit);
            }
        }
    }

    #[test]
    fn empty_option_keeps_its_code() {
        let mut w = writer(548);
        assert!(w.option(80, &[]));
        assert_eq!(
            Message::parse(&w.finish(None)).unwrap().options.get(80),
            Some(&[][..])
        );
    }
}
