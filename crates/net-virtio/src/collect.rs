//! Frames out of the guest's transmit queues.

use net_backend::{BackendStats, MAX_FRAME, MIN_FRAME, PacketBatch};
use net_datapath::packet::PacketFill;
use net_datapath::{IoSegment, SegmentList, VirtioNetHdr, ZeroCopyPacket};

use crate::error::QueueError;
use crate::memory::Piece;
use crate::queue::Queue;
use crate::ring::{Access, Ahead, Single};

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
    ahead: &mut Ahead,
    stats: &mut BackendStats,
    sink: &mut dyn FnMut(&mut [ZeroCopyPacket<'_>]),
) -> usize {
    let Some((running, buffers, chains)) = queue.parts() else {
        return 0;
    };
    let mut fault = None;
    let mut fill = batch.fill();
    let mut bytes = 0;
    // A chain in more pieces than a packet has room for.
    let mut many = None;
    let singles = running.look_ahead(Access::Read, header_len, most, ahead);
    bytes += match header_len {
        12 => push_singles::<12>(&mut fill, singles),
        _ => push_singles::<10>(&mut fill, singles),
    };
    running.ring.take(singles);
    let count = singles.len();
    // Whatever comes behind the first chain of another kind is taken one by one.
    while fault.is_none() && count + chains.len() < most {
        buffers.clear();
        let made = match running.pop(buffers) {
            Ok(Some(chain)) => {
                chains.push(chain);
                if buffers.pieces.len() > ZeroCopyPacket::MAX_SEGMENTS {
                    many = gather(&buffers.pieces, header_len + MAX_FRAME);
                    break;
                }
                push_pieces(&mut fill, &buffers.pieces, header_len)
            }
            Ok(None) => break,
            Err(error) => {
                fault = Some(error);
                break;
            }
        };
        match made {
            Ok(len) => bytes += len,
            Err(error) => {
                fault = Some(error);
                break;
            }
        }
    }
    let taken = count + chains.len();
    let mut lent = fill.len();
    if taken > 0 {
        // Whoever comes while there is work is found without being told of.
        running.disable_kicks();
        // The packets end with their batch, before the driver gets its buffers back.
        if lent > 0 {
            sink(fill.packets());
        }
        if let Some(gathered) = many {
            let mut fill = batch.fill();
            // Linux never sends one; other systems do. It goes by itself, behind the others.
            let made = push(&mut fill, &[IoSegment::from(&gathered[..])], header_len);
            bytes += made.unwrap_or(0);
            lent += fill.len();
            if !fill.is_empty() {
                sink(fill.packets());
            }
        }
        running.ring.push_singles(singles);
        for chain in chains.iter() {
            running.ring.push(chain, 0);
        }
        running.publish();
    }
    stats.rx_frames += lent as u64;
    stats.rx_bytes += bytes as u64;
    stats.rx_malformed += (taken - lent) as u64;
    if let Some(error) = fault {
        queue.break_with(error);
    }
    taken
}

/// Makes the packets of frames in one piece each, behind headers of `HEADER` bytes, 12 or 10; the bytes
/// of all packets.
// A function of its own: its loop has registers enough where it is not part of another.
#[inline(never)]
fn push_singles<const HEADER: usize>(batch: &mut PacketFill<'_, '_>, singles: &[Single]) -> usize {
    let mut bytes = 0;
    for single in singles {
        bytes += push_one::<HEADER>(batch, single);
    }
    bytes
}

/// Makes the packet of one of them; its length, 0 for no frame.
#[inline(always)]
fn push_one<const HEADER: usize>(batch: &mut PacketFill<'_, '_>, single: &Single) -> usize {
    let frame = single.frame(HEADER);
    // SAFETY: both were translated from the queue's memory, which is mapped as long as the queue runs;
    // the caller ends the packet before that.
    let (header, frame) = unsafe {
        (
            IoSegment::from_raw(single.header, HEADER),
            IoSegment::from_raw(frame.host, frame.len),
        )
    };
    if !(MIN_FRAME..=MAX_FRAME).contains(&frame.len()) {
        return 0;
    }
    let mut bytes = [0; VirtioNetHdr::LEN];
    header.copy_to_slice(0, &mut bytes[..HEADER]);
    let header = VirtioNetHdr::from_bytes(&bytes);
    match batch.push_segment(frame, header) {
        Ok(_) => frame.len(),
        Err(_) => 0,
    }
}

/// Makes the packet in the pieces of a chain; its length, 0 for no frame. The packet's lifetime is
/// the caller's to end before the chain is given back.
#[inline]
fn push_pieces(
    batch: &mut PacketFill<'_, '_>,
    pieces: &[Piece],
    header_len: usize,
) -> Result<usize, QueueError> {
    let mut segments = SegmentList::new();
    for piece in pieces {
        // SAFETY: as in `push_one`.
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
        // SAFETY: the pieces are of the guest's memory, which is mapped while its queues run; the copy is
        // made here.
        let segment = unsafe { IoSegment::from_raw(piece.host, piece.len) };
        at += segment.copy_to_slice(0, bytes.get_mut(at..).unwrap_or_default());
    }
    Some(bytes)
}
