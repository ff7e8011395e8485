//! The framing of QEMU's `-netdev stream`, without any I/O: a 32-bit big-endian length, then that
//! many bytes of Ethernet frame.
//!
//! A stream arrives in pieces of any size. [`FrameDecoder`] owns the buffer they are read into and
//! lends the whole frames in it where they lie; only a frame cut off at the end is ever moved.
//!
//! ```
//! use net_backend_socket::framing::FrameDecoder;
//!
//! let mut decoder = FrameDecoder::new();
//! let mut wire = vec![0, 0, 0, 20];
//! wire.extend([7; 20]);
//! wire.extend([0, 0]); // the next length, cut off
//! decoder.spare_mut()[..wire.len()].copy_from_slice(&wire);
//! decoder.filled(wire.len());
//!
//! let mut frames = decoder.frames();
//! assert_eq!(frames.next(), Some(Ok(&[7; 20][..])));
//! assert_eq!(frames.next(), None);
//! let used = frames.consumed();
//! decoder.consume(used);
//! assert!(decoder.is_mid_frame());
//! ```

use net_backend::{MAX_FRAME, MIN_FRAME, Malformed};

/// Bytes of the length in front of every frame.
pub const PREFIX_LEN: usize = 4;

/// Bytes of a decoder's buffer: four of the longest frames, or some 170 of 1,514 bytes, so that
/// one read brings many. Pages that are never reached are never touched.
pub const BUFFER_LEN: usize = 256 * 1024;

/// Below this much room behind the data, what is left over is moved to the front before the next
/// read: a read into a little room costs a system call for a few frames.
const LOW_ROOM: usize = BUFFER_LEN / 4;

/// The length prefix of a frame of `len` bytes.
///
/// # Errors
/// [`Malformed::Length`] outside [`MIN_FRAME`] to [`MAX_FRAME`]: no receiver would take it.
pub const fn prefix(len: usize) -> Result<[u8; PREFIX_LEN], Malformed> {
    if len < MIN_FRAME || len > MAX_FRAME {
        let len = if len > u32::MAX as usize {
            u32::MAX
        } else {
            len as u32
        };
        return Err(Malformed::Length { len });
    }
    Ok((len as u32).to_be_bytes())
}

/// A buffer for the receiving end of a stream of frames.
#[derive(Debug)]
pub struct FrameDecoder {
    buffer: Box<[u8]>,
    /// `buffer[start..end]` has been received and not consumed.
    start: usize,
    end: usize,
}

impl Default for FrameDecoder {
    fn default() -> Self {
        Self::new()
    }
}

impl FrameDecoder {
    /// An empty decoder with a buffer of [`BUFFER_LEN`] bytes.
    pub fn new() -> Self {
        Self {
            buffer: vec![0; BUFFER_LEN].into_boxed_slice(),
            start: 0,
            end: 0,
        }
    }

    /// Room to read into. Once every whole frame has been consumed it is never empty.
    pub fn spare_mut(&mut self) -> &mut [u8] {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.buffer.len() - self.end < LOW_ROOM {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        self.buffer.get_mut(self.end..).unwrap_or_default()
    }

    /// Says that `len` bytes have been read into [`Self::spare_mut`]; at most as many as there was
    /// room for count.
    pub fn filled(&mut self, len: usize) {
        self.end = self.end.saturating_add(len).min(self.buffer.len());
    }

    /// The whole frames received so far, in order, each lent where it lies.
    pub fn frames(&self) -> Frames<'_> {
        Frames {
            rest: self.buffer.get(self.start..self.end).unwrap_or_default(),
            consumed: 0,
        }
    }

    /// Forgets `len` bytes at the front: the [`Frames::consumed`] of an iterator.
    pub fn consume(&mut self, len: usize) {
        self.start = self.start.saturating_add(len).min(self.end);
    }

    /// Whether anything has not been consumed: after the last whole frame, the beginning of one
    /// that is cut off.
    pub fn is_mid_frame(&self) -> bool {
        self.start != self.end
    }
}

/// The frames in a [`FrameDecoder`]. After an error there is nothing more: the stream has lost its
/// meaning.
#[derive(Clone, Debug)]
pub struct Frames<'a> {
    rest: &'a [u8],
    consumed: usize,
}

impl Frames<'_> {
    /// Bytes of the stream that the frames returned so far took, prefixes included.
    pub const fn consumed(&self) -> usize {
        self.consumed
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Result<&'a [u8], Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let (announced, behind) = self.rest.split_first_chunk::<PREFIX_LEN>()?;
        let len = u32::from_be_bytes(*announced);
        // The length is judged before its bytes are there: a wrong one is never waited for.
        if !(MIN_FRAME..=MAX_FRAME).contains(&(len as usize)) {
            self.rest = &[];
            return Some(Err(Malformed::Length { len }));
        }
        let (frame, rest) = behind.split_at_checked(len as usize)?;
        self.rest = rest;
        self.consumed += PREFIX_LEN + frame.len();
        Some(Ok(frame))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the framing means, said naively.
    fn oracle(mut wire: &[u8]) -> (Vec<Vec<u8>>, Option<u32>) {
        let mut frames = Vec::new();
        while wire.len() >= 4 {
            let len = u32::from_be_bytes(wire[..4].try_into().unwrap());
            if !(14..=65_550).contains(&len) {
                return (frames, Some(len));
            }
            if wire.len() < 4 + len as usize {
                break;
            }
            frames.push(wire[4..4 + len as usize].to_vec());
            wire = &wire[4 + len as usize..];
        }
        (frames, None)
    }

    /// Feeds `wire` in pieces of the lengths that `pieces` gives in turn.
    fn decode(wire: &[u8], pieces: &[usize]) -> (Vec<Vec<u8>>, Option<u32>) {
        let mut decoder = FrameDecoder::new();
        let (mut at, mut turn, mut got) = (0, 0, Vec::new());
        while at < wire.len() {
            let room = decoder.spare_mut();
            assert!(!room.is_empty(), "no room with every whole frame consumed");
            let len = pieces[turn % pieces.len()]
                .min(room.len())
                .min(wire.len() - at);
            room[..len].copy_from_slice(&wire[at..at + len]);
            decoder.filled(len);
            (at, turn) = (at + len, turn + 1);
            let mut frames = decoder.frames();
            for frame in frames.by_ref() {
                match frame {
                    Ok(frame) => got.push(frame.to_vec()),
                    Err(Malformed::Length { len }) => return (got, Some(len)),
                    Err(other) => panic!("{other}"),
                }
            }
            let used = frames.consumed();
            decoder.consume(used);
        }
        (got, None)
    }

    fn wire(lengths: &[usize]) -> Vec<u8> {
        let mut wire = Vec::new();
        for (i, len) in lengths.iter().enumerate() {
            wire.extend(prefix(*len).unwrap());
            wire.extend((0..*len).map(|at| (at * 7 + i * 31) as u8));
        }
        wire
    }

    #[test]
    fn any_pieces_give_the_same_frames() {
        let lengths: Vec<usize> = (0..400)
            .map(|i: usize| match i % 7 {
                0 => 14,
                1 => 65_550,
                _ => 14 + (i * 7919) % 1600,
            })
            .collect();
        let wire = wire(&lengths);
        let expected = oracle(&wire);
        assert_eq!(expected.0.len(), 400);
        for pieces in [
            &[usize::MAX][..],
            &[65_536],
            &[100_003],
            &[1, 2, 3, 70_000, 5],
            &[4096],
        ] {
            assert!(decode(&wire, pieces) == expected, "in pieces of {pieces:?}");
        }
    }

    #[test]
    fn truncated_at_every_byte() {
        let wire = wire(&[14, 60, 15]);
        for cut in 0..wire.len() {
            for pieces in [&[1][..], &[usize::MAX]] {
                assert_eq!(decode(&wire[..cut], pieces), oracle(&wire[..cut]));
            }
        }
    }

    #[test]
    fn a_wrong_length_is_told_before_its_bytes_come() {
        for len in [0, 1, 13, 65_551, 0x4745_5420, u32::MAX] {
            let mut wire = wire(&[64]);
            wire.extend(len.to_be_bytes());
            let (frames, error) = decode(&wire, &[3]);
            assert_eq!((frames.len(), error), (1, Some(len)));
            assert_eq!(
                prefix(len as usize),
                Err(Malformed::Length { len }),
                "and we never send it"
            );
        }
    }

    #[test]
    fn claims_of_too_much_are_clipped() {
        let mut decoder = FrameDecoder::new();
        decoder.filled(usize::MAX);
        assert!(decoder.spare_mut().is_empty());
        decoder.consume(usize::MAX);
        assert!(!decoder.is_mid_frame());
        assert_eq!(decoder.spare_mut().len(), BUFFER_LEN);
    }
}
