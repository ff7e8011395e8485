//! What an input says, byte by byte; and the reverse, for the seeds of the corpus.
#![allow(dead_code)] // Each of the two uses one half.

/// Kinds of descriptors that a front-end sends beside a message.
pub const KINDS: u8 = 16;
/// A guest's memory, sealed; the same, not sealed; a file shorter than what it is said to hold.
pub const MEMORY: u8 = 0;
pub const LOOSE: u8 = 1;
pub const SHORT: u8 = 2;
/// Eventfds.
pub const EVENT: u8 = 3;
pub const OTHER_EVENT: u8 = 4;
/// What is no file: both ends of a pipe, a socket.
pub const READER: u8 = 5;
pub const WRITER: u8 = 6;
pub const SOCKET: u8 = 7;
pub const NULL: u8 = 8;
/// What the back end has sent last; the guest's memory before.
pub const KEPT: u8 = 9;
/// A bitmap of pages.
pub const BITMAP: u8 = 10;
pub const EPOLL: u8 = 11;
/// A file of more bytes than there is memory.
pub const SPARSE: u8 = 12;
pub const READ_ONLY: u8 = 13;
pub const DIRECTORY: u8 = 14;
/// An eventfd that has been rung as often as it can be.
pub const FULL_EVENT: u8 = 15;

/// One step of an input.
#[derive(Debug)]
pub enum Op<'a> {
    /// A message; carried out at once unless it is `held` back.
    Message {
        request: u8,
        flags: u8,
        /// The length it claims, where that is not its own.
        claims: Option<u32>,
        fds: &'a [u8],
        body: &'a [u8],
        /// Bytes of the first of two pieces; 0 for one piece.
        cut: u8,
        /// The descriptors come beside the second piece.
        late: bool,
        held: bool,
    },
    /// Bytes that need not be a message.
    Bytes { bytes: &'a [u8], fds: &'a [u8] },
    /// Messages that wait are carried out.
    Step,
    /// The front-end says that it sends no more; or goes, with `go`.
    End { go: bool },
    /// The worker's side.
    Receive { budget: u8 },
    /// The same.
    Transmit { count: u8, len: u16, gso: u8 },
    /// Bytes are written into a file that the back end may have mapped.
    Poke { file: u8, at: u32, bytes: &'a [u8] },
    /// A descriptor is rung, or whatever writing does to it.
    Ring { file: u8 },
    /// The other ends of pipe and socket are closed.
    Silence,
    /// Somebody else's port is used meanwhile.
    Witness,
}

fn byte(rest: &mut &[u8]) -> Option<u8> {
    let (first, tail) = rest.split_first()?;
    *rest = tail;
    Some(*first)
}

fn array<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (first, tail) = rest.split_first_chunk()?;
    *rest = tail;
    Some(*first)
}

/// As many as there are, where it says more.
fn some<'a>(rest: &mut &'a [u8], len: usize) -> &'a [u8] {
    let (first, tail) = rest.split_at(len.min(rest.len()));
    *rest = tail;
    first
}

impl<'a> Op<'a> {
    /// The next step; `None` at the end.
    pub fn read(rest: &mut &'a [u8]) -> Option<Self> {
        let what = byte(rest)?;
        let has = |bit: u8| what & 1 << bit != 0;
        Some(match what & 15 {
            0..=6 => {
                let [request, flags, cut, fds] = array(rest)?;
                let fds = some(rest, (fds % 48).into());
                let claims = match has(4) {
                    true => Some(u32::from_le_bytes(array(rest)?)),
                    false => None,
                };
                let len = u16::from_le_bytes(array(rest)?) % 5000;
                Self::Message {
                    request,
                    flags,
                    claims,
                    fds,
                    body: some(rest, len.into()),
                    cut,
                    late: has(5),
                    held: has(6),
                }
            }
            7 => {
                let [fds, len] = array(rest)?;
                let fds = some(rest, (fds % 48).into());
                let bytes = some(rest, len.into());
                Self::Bytes { bytes, fds }
            }
            8 => Self::Step,
            9 => Self::End { go: has(4) },
            10 => Self::Receive {
                budget: byte(rest)?,
            },
            11 => {
                let [count, gso, low, high] = array(rest)?;
                let len = u16::from_le_bytes([low, high]);
                Self::Transmit { count, len, gso }
            }
            12 => {
                let [file, len] = array(rest)?;
                let at = u32::from_le_bytes(array(rest)?);
                let bytes = some(rest, len.into());
                Self::Poke { file, at, bytes }
            }
            13 => Self::Ring { file: byte(rest)? },
            14 => Self::Silence,
            _ => Self::Witness,
        })
    }

    /// Appends it. Lengths are those that [`Self::read`] takes.
    pub fn write(&self, to: &mut Vec<u8>) {
        match *self {
            Self::Message {
                request,
                flags,
                claims,
                fds,
                body,
                cut,
                late,
                held,
            } => {
                let bits = u8::from(claims.is_some()) << 4 | u8::from(late) << 5;
                to.push(bits | u8::from(held) << 6);
                to.extend([request, flags, cut, fds.len() as u8]);
                to.extend(fds);
                to.extend(claims.into_iter().flat_map(u32::to_le_bytes));
                to.extend((body.len() as u16).to_le_bytes());
                to.extend(body);
            }
            Self::Bytes { bytes, fds } => {
                to.extend([7, fds.len() as u8, bytes.len() as u8]);
                to.extend(fds);
                to.extend(bytes);
            }
            Self::Step => to.push(8),
            Self::End { go } => to.push(9 | u8::from(go) << 4),
            Self::Receive { budget } => to.extend([10, budget]),
            Self::Transmit { count, len, gso } => {
                to.extend([11, count, gso]);
                to.extend(len.to_le_bytes());
            }
            Self::Poke { file, at, bytes } => {
                to.extend([12, file, bytes.len() as u8]);
                to.extend(at.to_le_bytes());
                to.extend(bytes);
            }
            Self::Ring { file } => to.extend([13, file]),
            Self::Silence => to.push(14),
            Self::Witness => to.push(15),
        }
    }
}
