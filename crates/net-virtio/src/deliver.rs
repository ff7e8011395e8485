//! Frames into the guest's receive queues.

use net_backend::{BackendStats, MAX_FRAME, MIN_FRAME, Offloads, TxFrame};
use net_datapath::gso::{Checksums, Segmenter};
use net_datapath::{IoSegment, VirtioNetHdr, ZeroCopyPacket};

use crate::copy::{Scatter, copy};
use crate::error::QueueError;
use crate::memory::Piece;
use crate::queue::{Queue, Running};
use crate::ring::{Access, Ahead, Buffers, Chain, Single};

/// What the driver of the queue has agreed to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    pub(crate) offloads: Offloads,
    /// A frame may fill several buffers.
    pub(crate) mergeable: bool,
    pub(crate) header_len: usize,
    /// Largest IP packet of a frame that has to be cut, in bytes.
    pub(crate) mtu: usize,
}

/// What became of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    /// It is in the guest's memory.
    Done,
    /// The guest has no buffers for it now.
    Full,
    /// It cannot be given to this guest.
    Dropped,
    /// All buffers of the guest together are too small for it.
    NoRoom,
}

/// A frame's way into the ring, undone unless it comes to an end.
struct Delivery<'q> {
    running: &'q mut Running,
    buffers: &'q mut Buffers,
    chains: &'q mut Vec<Chain>,
    terms: Terms,
    /// Bytes written into each chain.
    lens: Vec<u32>,
}

/// Puts one frame, of `len` bytes, into the queue's buffers, cut where the guest cannot take it as it
/// is. The driver sees it when the queue is published.
pub(crate) fn deliver(
    queue: &mut Queue,
    lens: &mut Vec<u32>,
    terms: Terms,
    frame: &TxFrame<'_>,
    len: usize,
    stats: &mut BackendStats,
) -> Outcome {
    let Some((running, buffers, chains)) = queue.parts() else {
        stats.tx_no_peer += 1;
        return Outcome::Dropped;
    };
    let whole = terms.offloads.allow_tx(&frame.header);
    let mark = running.ring.mark();
    let mut delivery = Delivery {
        running,
        buffers,
        chains,
        terms,
        lens: core::mem::take(lens),
    };
    delivery.lens.clear();
    let result = match whole {
        true => delivery.put(frame.header, frame.segments),
        false => delivery.cut(frame),
    };
    if matches!(result, Ok(Outcome::Done)) {
        for (chain, written) in delivery.chains.iter().zip(&delivery.lens) {
            delivery.running.ring.push(chain, *written);
        }
        stats.tx_frames += 1;
        stats.tx_bytes += len as u64;
    } else {
        delivery.running.ring.reset(mark);
    }
    *lens = delivery.lens;
    match result {
        Ok(Outcome::Dropped) => {
            stats.tx_invalid += 1;
            Outcome::Dropped
        }
        Ok(Outcome::NoRoom) => {
            stats.tx_no_buffer += 1;
            Outcome::Dropped
        }
        Ok(outcome) => outcome,
        Err(error) => {
            queue.break_with(error);
            stats.tx_no_peer += 1;
            Outcome::Dropped
        }
    }
}

/// The usual case, for as many frames from the front as it is the case of: the guest takes the frame as
/// it is, and the next chain has one piece that holds all of it. Returns how many; the queue is then to
/// be published, and [`deliver`] decides about the next frame.
///
/// `agreed` are the offloads that the holder of the device may use.
#[inline]
pub(crate) fn deliver_run(
    queue: &mut Queue,
    ahead: &mut Ahead,
    terms: Terms,
    agreed: Offloads,
    frames: &[TxFrame<'_>],
    stats: &mut BackendStats,
) -> usize {
    let Some((running, ..)) = queue.parts() else {
        return 0;
    };
    let (mut done, mut bytes) = (0, 0);
    while done < frames.len() {
        let rest = frames.get(done..).unwrap_or_default();
        let singles = running.look_ahead(Access::Write, terms.header_len, rest.len(), ahead);
        let found = singles.len();
        let (count, whole) = match terms.header_len {
            12 => write_singles::<12>(singles, terms, agreed, rest),
            _ => write_singles::<10>(singles, terms, agreed, rest),
        };
        bytes += whole;
        let written = singles.get(..count).unwrap_or_default();
        running.ring.take(written);
        running.ring.push_singles(written);
        if let Some(dirty) = &running.dirty {
            dirty.singles(&running.memory, written, terms.header_len);
        }
        done += count;
        if count < found || found == 0 {
            break;
        }
    }
    stats.tx_frames += done as u64;
    stats.tx_bytes += bytes as u64;
    done
}

/// Writes each frame, and its header of `HEADER` bytes, into the chain of the same number, up to the
/// first that it cannot be; how many that were, and the bytes of all frames.
// A function of its own: its loop has registers enough where it is not part of another.
#[inline(never)]
fn write_singles<const HEADER: usize>(
    singles: &mut [Single],
    terms: Terms,
    agreed: Offloads,
    frames: &[TxFrame<'_>],
) -> (usize, usize) {
    let (mut count, mut bytes) = (0, 0);
    for (frame, single) in frames.iter().zip(singles) {
        let len = match frame.segments {
            [one] => one.len(),
            _ => frame.len(),
        };
        let room = single.frame(HEADER);
        if !(MIN_FRAME..=MAX_FRAME).contains(&len)
            || room.len < len
            || !may_pass(&frame.header, terms.offloads, agreed)
        {
            break;
        }
        // SAFETY: both are mapped as long as the queue runs; the header fits by `look_ahead`, and the
        // segments, whose lengths add up to `len`, as was asked. Each segment is readable.
        unsafe {
            write_header::<HEADER>(single.header, frame.header);
            let mut at = room.host;
            match frame.segments {
                [one] => copy(one.as_ptr(), at, len),
                _ => {
                    for segment in frame.segments {
                        copy(segment.as_ptr(), at, segment.len());
                        at = at.add(segment.len());
                    }
                }
            }
        }
        // At most a frame and its header.
        single.written = (HEADER + len) as u32;
        bytes += len;
        count += 1;
    }
    (count, bytes)
}

/// Whether both sides allow what the header asks for: nothing, as a rule.
#[inline(always)]
fn may_pass(header: &VirtioNetHdr, guest: Offloads, agreed: Offloads) -> bool {
    let [flags, kind, ..] = header.to_bytes();
    u16::from_le_bytes([flags, kind]) == 0 || agreed.allow_tx(header) && guest.allow_tx(header)
}

/// Writes the header of a frame in one buffer, as its first `HEADER` bytes, 12 or 10.
///
/// # Safety
/// So many bytes at `host` are mapped and writable.
#[inline(always)]
unsafe fn write_header<const HEADER: usize>(host: *mut u8, header: VirtioNetHdr) {
    let [a, b, c, d, e, f, g, h, i, j, ..] = header.to_bytes();
    // SAFETY: within the bytes that the caller vouches for.
    unsafe {
        host.cast::<[u8; 8]>().write([a, b, c, d, e, f, g, h]);
        match HEADER {
            12 => host.add(8).cast::<[u8; 4]>().write([i, j, 1, 0]),
            _ => host.add(8).cast::<[u8; 2]>().write([i, j]),
        }
    }
}

impl Delivery<'_> {
    /// Writes one frame as it is.
    #[inline]
    fn put(
        &mut self,
        header: VirtioNetHdr,
        segments: &[IoSegment<'_>],
    ) -> Result<Outcome, QueueError> {
        let len: usize = segments.iter().map(IoSegment::len).sum();
        let need = self.terms.header_len + len;
        let (first_chain, first_piece) = (self.chains.len(), self.buffers.pieces.len());
        let mut room = 0;
        while room < need {
            let Some(chain) = self.running.pop(self.buffers)? else {
                // A queue whose buffers together cannot hold the frame would wait for ever.
                // A chain takes as many descriptors as it has pieces, or one and a table.
                let chains = self.chains.len() - first_chain;
                let taken = chains.max(self.buffers.pieces.len() - first_piece);
                let hopeless = taken * 4 >= usize::from(self.running.ring.size()) * 3;
                return Ok(if hopeless {
                    Outcome::NoRoom
                } else {
                    Outcome::Full
                });
            };
            let pieces = chain.pieces(&self.buffers.pieces);
            let bytes: usize = pieces.iter().map(|piece| piece.len).sum();
            if room == 0 && bytes < self.terms.header_len {
                return Err(QueueError::TooShort(bytes));
            }
            room += bytes;
            self.chains.push(chain);
            if room < need && !self.terms.mergeable {
                return Ok(Outcome::Dropped);
            }
        }
        let count = self.chains.len() - first_chain;
        let header = VirtioNetHdr {
            // A frame fills no more chains than a queue has, 32,768.
            num_buffers: count as u16,
            ..header
        };
        let pieces = &self.buffers.pieces[first_piece..];
        // SAFETY: translated from the queue's memory, which is mapped as long as it runs.
        let mut scatter = unsafe { Scatter::new(pieces) };
        scatter.put(IoSegment::from(&header.to_bytes()[..self.terms.header_len]));
        for segment in segments {
            scatter.put(*segment);
        }
        let written = scatter.written();
        self.running.mark(pieces, written);
        self.note(first_chain, written);
        Ok(Outcome::Done)
    }

    /// Notes how much of each chain from `first` on was written, `written` bytes in all.
    #[inline]
    fn note(&mut self, first: usize, mut written: usize) {
        for chain in &self.chains[first..] {
            let room: usize = chain
                .pieces(&self.buffers.pieces)
                .iter()
                .map(|piece: &Piece| piece.len)
                .sum();
            let here = room.min(written);
            // At most a frame and its header.
            self.lens.push(here as u32);
            written -= here;
        }
    }

    /// Writes a frame that the guest has no offload for: complete, in pieces of its MTU.
    #[cold]
    fn cut(&mut self, frame: &TxFrame<'_>) -> Result<Outcome, QueueError> {
        let Ok(packet) = ZeroCopyPacket::from_segments(frame.segments, frame.header) else {
            return Ok(Outcome::Dropped);
        };
        let Ok(mut segmenter) = Segmenter::new(&packet, self.terms.mtu, Checksums::Complete) else {
            return Ok(Outcome::Dropped);
        };
        let mut bytes = Vec::new();
        while let Some(len) = segmenter.next_len() {
            bytes.resize(len, 0);
            let mark = self.running.ring.mark();
            let Some(Ok((len, header))) = segmenter.write_next(&mut bytes) else {
                return Ok(Outcome::Dropped);
            };
            let segment = IoSegment::from(bytes.get(..len).unwrap_or_default());
            match self.put(header, &[segment])? {
                Outcome::Done => {}
                // A queue too short for all segments gets the first ones: it would wait for ever.
                // TCP sends the others again. Drivers refill a queue long before three quarters
                // of it are empty.
                Outcome::Full | Outcome::NoRoom
                    if self.lens.len() * 4 >= usize::from(self.running.ring.size()) =>
                {
                    self.running.ring.reset(mark);
                    break;
                }
                outcome => return Ok(outcome),
            }
        }
        // What was taken for a segment that did not fit was put back.
        self.chains.truncate(self.lens.len());
        Ok(Outcome::Done)
    }
}
