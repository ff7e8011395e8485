//! The sending half of a QEMU stream: many frames in one gathered write, and the rest of a frame
//! that the kernel took in part.

use std::io;
use std::os::fd::BorrowedFd;

use net_backend::{BackendStats, Offloads, TxFrame};
use net_datapath::IoSegment;

use crate::framing::{PREFIX_LEN, prefix};
use crate::sys;

/// Pieces of a write for a few frames, and for a batch. Both are on the stack; making the small one
/// costs nothing against the call, and the large one nothing against the frames in it.
const FEW: usize = 64;
const MANY: usize = 512;
const _: () = assert!(MANY <= sys::IOV_MAX);

/// Bytes that a stream still owes its peer. They are never more than one frame with its length.
#[derive(Debug, Default)]
pub(crate) struct StreamWriter {
    pending: Vec<u8>,
    /// Bytes of `pending` that have gone.
    sent: usize,
    blocked: bool,
}

impl StreamWriter {
    pub(crate) fn wants_write(&self) -> bool {
        self.blocked || !self.pending.is_empty()
    }

    /// Forgets what was pending, after a disconnect.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Sends what is pending; true when nothing is any more.
    pub(crate) fn flush(
        &mut self,
        fd: BorrowedFd<'_>,
        stats: &mut BackendStats,
    ) -> io::Result<bool> {
        while let Some(rest) = self
            .pending
            .get(self.sent..)
            .filter(|rest| !rest.is_empty())
        {
            stats.tx_calls += 1;
            match sys::send_stream(fd, &[rest.into()]) {
                Ok(len) => self.sent += len,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.blocked = true;
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
        }
        self.pending.clear();
        self.sent = 0;
        self.blocked = false;
        Ok(true)
    }

    /// Takes frames from the front and returns how many. An error is one that came before any was
    /// taken.
    pub(crate) fn write(
        &mut self,
        fd: BorrowedFd<'_>,
        frames: &[TxFrame<'_>],
        agreed: Offloads,
        stats: &mut BackendStats,
    ) -> io::Result<usize> {
        if !self.flush(fd, stats)? {
            stats.tx_blocked += 1;
            return Ok(0);
        }
        let mut taken = 0;
        while let Some(rest) = frames.get(taken..).filter(|rest| !rest.is_empty()) {
            let result = if rest.len() <= FEW / 8 {
                self.write_some::<FEW>(fd, rest, agreed, stats)
            } else {
                self.write_some::<MANY>(fd, rest, agreed, stats)
            };
            match result {
                Ok(count) => taken += count,
                // The next call will meet the same error.
                Err(_) if taken > 0 => break,
                Err(error) => return Err(error),
            }
            if self.blocked {
                stats.tx_blocked += 1;
                break;
            }
        }
        Ok(taken)
    }

    /// One write of as many frames as go into `PIECES`; sets `blocked` if it fell short.
    fn write_some<const PIECES: usize>(
        &mut self,
        fd: BorrowedFd<'_>,
        frames: &[TxFrame<'_>],
        agreed: Offloads,
        stats: &mut BackendStats,
    ) -> io::Result<usize> {
        let mut prefixes = [[0; PREFIX_LEN]; MANY / 2];
        let mut count = 0;
        let mut pieces = 0;
        for (frame, slot) in frames.iter().zip(&mut prefixes) {
            let Some(prefix) = valid_prefix(frame, agreed) else {
                break;
            };
            pieces += 1 + frame.segments.len();
            if pieces > PIECES {
                break;
            }
            *slot = prefix;
            count += 1;
        }
        let Some(first) = frames.first() else {
            return Ok(0);
        };
        if count == 0 {
            return self.write_odd(fd, first, agreed, stats);
        }
        let frames = frames.get(..count).unwrap_or_default();
        let mut list = [IoSegment::EMPTY; PIECES];
        let mut used = 0;
        for (frame, prefix) in frames.iter().zip(&prefixes) {
            let parts = std::iter::once(IoSegment::from(&prefix[..]));
            for part in parts.chain(frame.segments.iter().copied()) {
                if let Some(slot) = list.get_mut(used) {
                    *slot = part;
                    used += 1;
                }
            }
        }
        stats.tx_calls += 1;
        let mut gone = match sys::send_stream(fd, list.get(..used).unwrap_or_default()) {
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(0),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error),
        };
        let mut taken = 0;
        for (frame, prefix) in frames.iter().zip(&prefixes) {
            let len = frame.len();
            if gone < PREFIX_LEN + len {
                self.blocked = true;
                if gone == 0 {
                    break;
                }
                self.keep(prefix, frame, gone);
            }
            gone = gone.saturating_sub(PREFIX_LEN + len);
            taken += 1;
            stats.tx_frames += 1;
            stats.tx_bytes += len as u64;
            if self.blocked {
                break;
            }
        }
        Ok(taken)
    }

    /// A frame that does not go the common way: one that must not be sent, or one in more pieces
    /// than a write takes.
    fn write_odd(
        &mut self,
        fd: BorrowedFd<'_>,
        frame: &TxFrame<'_>,
        agreed: Offloads,
        stats: &mut BackendStats,
    ) -> io::Result<usize> {
        if let Some(prefix) = valid_prefix(frame, agreed) {
            self.keep(&prefix, frame, 0);
            stats.tx_frames += 1;
            stats.tx_bytes += frame.len() as u64;
            self.flush(fd, stats)?;
        } else {
            stats.tx_invalid += 1;
        }
        Ok(1)
    }

    /// Copies the part of a frame behind its first `gone` bytes, the prefix counted.
    fn keep(&mut self, prefix: &[u8; PREFIX_LEN], frame: &TxFrame<'_>, gone: usize) {
        self.pending.clear();
        self.sent = 0;
        self.pending
            .extend_from_slice(prefix.get(gone..).unwrap_or_default());
        let mut skip = gone.saturating_sub(PREFIX_LEN);
        for segment in frame.segments {
            let part = segment.slice(skip, usize::MAX);
            skip -= segment.len() - part.len();
            let at = self.pending.len();
            self.pending.resize(at + part.len(), 0);
            part.copy_to_slice(0, self.pending.get_mut(at..).unwrap_or_default());
        }
    }
}

/// The length in front of a frame, or `None` if the frame must not be sent.
fn valid_prefix(frame: &TxFrame<'_>, agreed: Offloads) -> Option<[u8; PREFIX_LEN]> {
    let prefix = prefix(frame.len()).ok()?;
    agreed.allow_tx(&frame.header).then_some(prefix)
}
