//! DNS over TCP: the two-byte length before each message (RFC 1035 section 4.2.2, RFC 7766).
//!
//! The [`Framer`] cuts a byte stream into messages. It holds at most one message, allocates only
//! for bytes that have arrived (a length of 65,535 followed by silence costs nothing), and takes
//! bytes in any portion. The connection itself, and the clock for the limits below, belong to
//! the I/O layer; one connection must never make another wait.
//!
//! ```
//! use net_dns::tcp::{Framer, frame};
//!
//! let mut stream = frame(&[7u8; 20]).unwrap();
//! stream.extend(frame(&[9u8; 12]).unwrap());
//! let mut framer = Framer::new(4096);
//! let mut input = &stream[..];
//! assert_eq!(framer.read(&mut input).unwrap().unwrap(), [7u8; 20]);
//! assert_eq!(framer.read(&mut input).unwrap().unwrap(), [9u8; 12]);
//! assert_eq!(framer.read(&mut input).unwrap(), None);
//! ```

use std::time::Duration;

use crate::message::HEADER;

/// Close a connection on which nothing is under way after this long (RFC 7766 section 6.2.3 asks
/// for seconds, not minutes).
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// Close a connection whose message has begun and is not complete after this long.
pub const PARTIAL_TIMEOUT: Duration = Duration::from_secs(5);
/// Close a connection whose peer has not taken a reply after this long.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections one client may hold open; the one that was idle longest goes first.
pub const MAX_CONNECTIONS_PER_CLIENT: usize = 8;
/// Queries of one connection that may wait for an answer at once (RFC 7766 section 6.2.1.1);
/// past that, stop reading from it.
pub const MAX_PIPELINED: usize = 32;

/// Why a stream cannot go on. Close the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// A message shorter than the header: the peer does not speak DNS.
    #[error("a message of {0} bytes is shorter than the DNS header")]
    TooShort(u16),
    /// A message longer than the limit given to [`Framer::new`].
    #[error("a message of {0} bytes is longer than allowed")]
    TooLong(u16),
}

/// Cuts one direction of a TCP connection into messages.
#[derive(Debug)]
pub struct Framer {
    /// First byte of the length, when only that has arrived.
    half: Option<u8>,
    /// Bytes still missing of the message in `buffer`, when its length is known.
    missing: Option<usize>,
    buffer: Vec<u8>,
    max: usize,
    failed: Option<FrameError>,
}

impl Framer {
    /// A framer that takes messages of up to `max` bytes: [`crate::MAX_QUERY`] on the side of the
    /// clients, 65,535 on the side of the upstream servers.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self {
            half: None,
            missing: None,
            buffer: Vec::new(),
            max,
            failed: None,
        }
    }

    /// Takes bytes from the front of `input` until one message is complete.
    ///
    /// Call it until it returns `None`: then `input` is empty and more has to arrive.
    ///
    /// # Errors
    /// A [`FrameError`], then and on every later call: the place of the next message is unknown.
    pub fn read(&mut self, input: &mut &[u8]) -> Result<Option<Vec<u8>>, FrameError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        loop {
            let Some(missing) = self.missing else {
                let Some((&byte, rest)) = input.split_first() else {
                    return Ok(None);
                };
                *input = rest;
                match self.half.take() {
                    None => self.half = Some(byte),
                    Some(high) => self.begin(u16::from_be_bytes([high, byte]))?,
                }
                continue;
            };
            let (now, later) = input.split_at(missing.min(input.len()));
            self.buffer.extend_from_slice(now);
            *input = later;
            if now.len() < missing {
                self.missing = Some(missing - now.len());
                return Ok(None);
            }
            self.missing = None;
            return Ok(Some(std::mem::take(&mut self.buffer)));
        }
    }

    fn begin(&mut self, length: u16) -> Result<(), FrameError> {
        let bytes = usize::from(length);
        let error = if bytes < HEADER {
            FrameError::TooShort(length)
        } else if bytes > self.max {
            FrameError::TooLong(length)
        } else {
            self.missing = Some(bytes);
            return Ok(());
        };
        self.failed = Some(error);
        Err(error)
    }

    /// True between messages: [`IDLE_TIMEOUT`] applies, otherwise [`PARTIAL_TIMEOUT`].
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.half.is_none() && self.missing.is_none()
    }

    /// Bytes held.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.buffer.len() + usize::from(self.half.is_some())
    }
}

/// `message` with its length in front, to be written in one piece (RFC 7766 section 8).
///
/// `None` when it is longer than 65,535 bytes.
#[must_use]
pub fn frame(message: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(message.len()).ok()?;
    let mut framed = Vec::with_capacity(message.len() + 2);
    framed.extend_from_slice(&length.to_be_bytes());
    framed.extend_from_slice(message);
    Some(framed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_length_without_bytes_costs_nothing() {
        let mut framer = Framer::new(65_535);
        assert!(framer.is_idle());
        assert_eq!(framer.read(&mut &[0xff, 0xff][..]), Ok(None));
        assert!(!framer.is_idle());
        assert_eq!(framer.buffered(), 0);
    }

    #[test]
    fn bad_lengths_end_the_stream() {
        for (length, error) in [
            (0u16, FrameError::TooShort(0)),
            (11, FrameError::TooShort(11)),
            (4097, FrameError::TooLong(4097)),
        ] {
            let mut framer = Framer::new(4096);
            assert_eq!(framer.read(&mut &length.to_be_bytes()[..]), Err(error));
            assert_eq!(framer.read(&mut &[0u8; 64][..]), Err(error));
            assert_eq!(framer.buffered(), 0);
        }
        assert_eq!(frame(&vec![0; 65_536]), None);
    }

    proptest! {
        #[test]
        fn any_portions_give_the_same_messages(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 12..300), 0..8),
            portions in prop::collection::vec(1usize..40, 1..50),
        ) {
            let stream: Vec<u8> = messages.iter().flat_map(|m| frame(m).unwrap()).collect();
            let mut framer = Framer::new(300);
            let mut got = Vec::new();
            let mut rest = &stream[..];
            for portion in portions.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (mut now, later) = rest.split_at((*portion).min(rest.len()));
                while let Some(message) = framer.read(&mut now).unwrap() {
                    got.push(message);
                }
                prop_assert!(now.is_empty());
                prop_assert!(framer.buffered() <= 300);
                rest = later;
            }
            prop_assert_eq!(got, messages);
            prop_assert!(framer.is_idle());
        }
    }
}
