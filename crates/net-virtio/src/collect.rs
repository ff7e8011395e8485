//! Frames out of the guest's transmit queues.

use net_backend::{BackendStats, MAX_FRAME, MIN_FRAME, PacketBatch};
use net_datapath::packet::PacketFill;
use net_datapath::{IoSegment, SegmentList, VirtioNetHdr, ZeroCopyPacket};

use crate::error::QueueError;
use crate::memory::Piece;
use crate::queue::Queue;

/// Takes one batch of at most `most` frames and lends it; returns how many chains were taken, well
/// formed or not.
///
/// `header_len` is that of the header in front of each frame, 12 bytes, or 10 for a driver older than
/// VIRTIO 1.0.
pub(crate) fn collect(
    queue: &mut Queue,
    header_len: usize,
    most: usize,
    batch: &mut PacketBatch,
    stats: &mut BackendStats,
    sink: &mut dyn FnMut(&mut [ZeroCopyPacket<'_>]),
) -> usize {
    let Some((running, buffers, chains)) = queue.parts() else {
        return 0;
    };
    let mut fault = None;
    while chains.len() < most {
        match running.pop(buffers) {
            Ok(Some(chain)) => chains.push(chain),
            Ok(None) => break,
            Err(error) => {
                fault = Some(error);
                break;
            }
        }
    }
    let taken = chains.len();
    if taken > 0 {
        // Whoever comes while there is work is found without being told of.
        running.ring.disable_kicks();
        let pieces_of = |at: usize| {
            let chain = chains.get(at)?;
            buffers.pieces.get(chain.first..chain.end)
        };
        // Frames in more pieces than a packet has room for are gathered first. Linux never sends
        // one; other systems do.
        let mut gathered = Vec::new();
        for at in 0..taken {
            let many = pieces_of(at).filter(|pieces| pieces.len() > ZeroCopyPacket::MAX_SEGMENTS);
            if let Some(pieces) = many {
                gathered.push((at, gather(pieces, header_len + MAX_FRAME)));
            }
        }
        let mut gathered = gathered.iter().peekable();
        let mut batch = batch.fill();
        for at in 0..taken {
            let made = match gathered.next_if(|(of, _)| *of == at) {
                Some((_, Some(bytes))) => {
                    push(&mut batch, &[IoSegment::from(&bytes[..])], header_len)
                }
                Some((_, None)) => Ok(0),
                None => push_pieces(&mut batch, pieces_of(at).unwrap_or_default(), header_len),
            };
            match made {
                Ok(0) => stats.rx_malformed += 1,
                Ok(len) => {
                    stats.rx_frames += 1;
                    stats.rx_bytes += len as u64;
                }
                Err(error) => {
                    fault = fault.or(Some(error));
                    stats.rx_malformed += 1;
                }
            }
        }
        // The packets end here, before the driver gets its buffers back.
        if !batch.is_empty() {
            sink(batch.packets());
        }
        for chain in chains.iter() {
            running.ring.push(chain, 0);
        }
        running.publish();
    }
    if let Some(error) = fault {
        queue.break_with(error);
    }
    taken
}

/// Makes the packet in the pieces of a chain; its length, 0 for no frame. The packet's lifetime is
/// the caller's to end before the chain is given back.
#[inline]
fn push_pieces(
    batch: &mut PacketFill<'_, '_>,
    pieces: &[Piece],
    header_len: usize,
) -> Result<usize, QueueError> {
    if let [one] = pieces {
        // SAFETY: the piece was translated from the queue's memory, which is mapped as long as the
        // queue runs; the caller ends the packet before that.
        let segment = unsafe { IoSegment::from_raw(one.host, one.len) };
        return push(batch, &[segment], header_len);
    }
    let mut segments = SegmentList::new();
    for piece in pieces {
        // SAFETY: as above.
        let segment = unsafe { IoSegment::from_raw(piece.host, piece.len) };
        if segments.push(segment).is_err() {
            return Ok(0);
        }
    }
    push(batch, &segments, header_len)
}

/// Makes the packet in these segments, which begin with the virtio header; its length, 0 for no
/// frame.
#[inline]
fn push<'a>(
    batch: &mut PacketFill<'_, 'a>,
    segments: &[IoSegment<'a>],
    header_len: usize,
) -> Result<usize, QueueError> {
    let mut bytes = [0; VirtioNetHdr::LEN];
    let mut copied = 0;
    // Where the frame begins: in which segment, and how far in.
    let mut start = (0, 0);
    for (at, segment) in segments.iter().enumerate() {
        let before = copied;
        copied += segment.copy_to_slice(0, bytes.get_mut(copied..header_len).unwrap_or_default());
        start = (at, copied - before);
        if copied == header_len {
            break;
        }
    }
    if copied < header_len {
        return Err(QueueError::TooShort(copied));
    }
    let header = VirtioNetHdr::from_bytes(&bytes);
    let Some((first, rest)) = segments.get(start.0..).and_then(<[_]>::split_first) else {
        return Ok(0);
    };
    let first = first.slice(start.1, usize::MAX);
    let len = rest.iter().fold(first.len(), |sum, segment| {
        sum.saturating_add(segment.len())
    });
    if !(MIN_FRAME..=MAX_FRAME).contains(&len) {
        return Ok(0);
    }
    let made = if rest.is_empty() {
        batch.push_segments(&[first], header)
    } else {
        let mut list = SegmentList::new();
        let fits = core::iter::once(first)
            .chain(rest.iter().copied())
            .all(|segment| list.push(segment).is_ok());
        if !fits {
            return Ok(0);
        }
        batch.push_segments(&list, header)
    };
    Ok(made.map_or(0, |packet| packet.len()))
}

/// The bytes of all pieces together; `None` for more than `most`.
#[cold]
fn gather(pieces: &[Piece], most: usize) -> Option<Vec<u8>> {
    let len = pieces
        .iter()
        .fold(0usize, |sum, piece| sum.saturating_add(piece.len));
    if len > most {
        return None;
    }
    let mut bytes = vec![0; len];
    let mut at = 0;
    for piece in pieces {
        // SAFETY: as in `from_pieces`; the copy is made here.
        let segment = unsafe { IoSegment::from_raw(piece.host, piece.len) };
        at += segment.copy_to_slice(0, bytes.get_mut(at..).unwrap_or_default());
    }
    Some(bytes)
}
