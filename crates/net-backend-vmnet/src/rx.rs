//! The receiving half: slots that the framework fills, lent where they lie.

use std::collections::VecDeque;

use net_backend::{BackendStats, MIN_FRAME, Offloads, PacketBatch, declare};
use net_datapath::gso::{Checksums, Segmenter};
use net_datapath::packet::PacketFill;
use net_datapath::{GsoKind, VirtioNetHdr, ZeroCopyPacket};

use crate::limits::Limits;

/// Memory for the packets of one read: slots of equal length, one after the other.
pub(crate) struct Slots {
    memory: Box<[u8]>,
    /// Bytes of a slot.
    slot: usize,
    /// In: the length of the buffer. Out: the length of the packet.
    sizes: Box<[usize]>,
}

impl Slots {
    fn new(count: usize, slot: usize) -> Self {
        Self {
            memory: vec![0; count * slot].into_boxed_slice(),
            slot,
            sizes: vec![0; count].into_boxed_slice(),
        }
    }

    /// The number of slots.
    pub(crate) fn count(&self) -> usize {
        self.sizes.len()
    }

    /// Says of each slot how long its buffer is, which the read before has overwritten.
    fn reset(&mut self) {
        self.sizes.fill(self.slot);
    }

    /// The memory of slot `index`, and its size to be read and to be overwritten.
    pub(crate) fn slot_mut(&mut self, index: usize) -> Option<(&mut [u8], &mut usize)> {
        let memory = self.memory.chunks_exact_mut(self.slot).nth(index)?;
        Some((memory, self.sizes.get_mut(index)?))
    }

    /// The packet in slot `index`; `None` if its length is more than the slot holds.
    fn packet(&self, index: usize) -> Option<&[u8]> {
        let len = *self.sizes.get(index)?;
        self.memory.chunks_exact(self.slot).nth(index)?.get(..len)
    }
}

/// What received frames have in front and leave undone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct RxFormat {
    /// A `virtio_net_hdr` stands in front of each.
    pub(crate) header: bool,
    /// What frames use without saying so.
    pub(crate) declared: Offloads,
    pub(crate) mtu: u16,
    pub(crate) max_frame: usize,
}

/// The receiving half of an interface.
pub(crate) struct Receiver {
    pub(crate) slots: Slots,
    format: RxFormat,
    /// `slots[next..filled]` have been read and not been lent.
    next: usize,
    filled: usize,
    /// Pieces of super-frames that nobody had agreed to, to be lent before the slots.
    pieces: VecDeque<Vec<u8>>,
    spare: Vec<Vec<u8>>,
    batch: PacketBatch,
}

impl Receiver {
    pub(crate) fn new(limits: &Limits, format: RxFormat) -> Self {
        let header = if format.header { VirtioNetHdr::LEN } else { 0 };
        Self {
            slots: Slots::new(limits.read, limits.buffer + header),
            format,
            next: 0,
            filled: 0,
            pieces: VecDeque::new(),
            spare: Vec::new(),
            batch: PacketBatch::new(),
        }
    }

    /// Whether everything that was read has been lent.
    pub(crate) fn is_empty(&self) -> bool {
        self.next == self.filled && self.pieces.is_empty()
    }

    /// Makes the slots ready for a read.
    pub(crate) fn prepare(&mut self) {
        self.slots.reset();
    }

    /// The first `count` slots have been filled.
    pub(crate) fn filled(&mut self, count: usize) {
        (self.next, self.filled) = (0, count.min(self.slots.count()));
    }

    /// Lends one batch, of up to `budget` frames, of what has been read; returns how many.
    pub(crate) fn lend(
        &mut self,
        budget: usize,
        agreed: Offloads,
        stats: &mut BackendStats,
        sink: &mut dyn FnMut(&mut [ZeroCopyPacket<'_>]),
    ) -> usize {
        let most = budget.min(PacketBatch::LEN);
        if !self.pieces.is_empty() {
            return self.lend_pieces(most, stats, sink);
        }
        let mut batch = self.batch.fill();
        while self.next < self.filled && batch.len() < most {
            let packet = self.slots.packet(self.next);
            let made = batch.len();
            match packet.and_then(|bytes| push(&mut batch, bytes, &self.format)) {
                None => {
                    batch.truncate(made);
                    stats.rx_malformed += 1;
                }
                Some(packet) if allows(agreed, packet.vnet()) => {}
                Some(packet) => {
                    // Those before it go first, and it is looked at again.
                    if made == 0 {
                        if !cut(packet, self.format.mtu, &mut self.pieces, &mut self.spare) {
                            stats.rx_malformed += 1;
                        }
                        self.next += 1;
                    }
                    batch.truncate(made);
                    break;
                }
            }
            self.next += 1;
        }
        hand_over(batch.packets(), stats, sink)
    }

    fn lend_pieces(
        &mut self,
        most: usize,
        stats: &mut BackendStats,
        sink: &mut dyn FnMut(&mut [ZeroCopyPacket<'_>]),
    ) -> usize {
        let mut batch = self.batch.fill();
        let taken = most.min(self.pieces.len());
        for piece in self.pieces.iter().take(taken) {
            // A finished frame is always a packet.
            let _ = batch.push_slice(piece, VirtioNetHdr::PLAIN);
        }
        let lent = hand_over(batch.packets(), stats, sink);
        self.spare.extend(self.pieces.drain(..taken));
        lent
    }
}

/// Lends what is in `packets`, if anything is.
fn hand_over(
    packets: &mut [ZeroCopyPacket<'_>],
    stats: &mut BackendStats,
    sink: &mut dyn FnMut(&mut [ZeroCopyPacket<'_>]),
) -> usize {
    if !packets.is_empty() {
        stats.rx_frames += packets.len() as u64;
        stats.rx_bytes += packets
            .iter()
            .map(|packet| packet.len() as u64)
            .sum::<u64>();
        sink(packets);
    }
    packets.len()
}

/// Reads what is in a slot; `None` if it is no frame, and then what it left in the batch is to go.
fn push<'p, 'a>(
    batch: &'p mut PacketFill<'_, 'a>,
    bytes: &'a [u8],
    format: &RxFormat,
) -> Option<&'p mut ZeroCopyPacket<'a>> {
    let (header, frame) = if format.header {
        let (header, frame) = bytes.split_first_chunk::<{ VirtioNetHdr::LEN }>()?;
        (VirtioNetHdr::from_bytes(header), frame)
    } else {
        (VirtioNetHdr::PLAIN, bytes)
    };
    if !(MIN_FRAME..=format.max_frame).contains(&frame.len()) {
        return None;
    }
    let packet = batch.push_slice(frame, header).ok()?;
    packet.vnet().validate(frame.len(), packet.meta()).ok()?;
    declare(packet, format.declared, format.mtu);
    Some(packet)
}

/// Whether frames with this header may be lent under this agreement.
fn allows(agreed: Offloads, header: &VirtioNetHdr) -> bool {
    (!header.needs_csum() || agreed.contains(Offloads::RX_CSUM))
        && match header.gso_kind() {
            GsoKind::None => true,
            GsoKind::TcpV4 => agreed.contains(Offloads::RX_TSO4),
            GsoKind::TcpV6 => agreed.contains(Offloads::RX_TSO6),
            _ => false,
        }
}

/// Finishes a frame in software: checksums filled in, no piece longer than the MTU. False if that
/// cannot be done; then there are no pieces of it.
fn cut(
    packet: &ZeroCopyPacket<'_>,
    mtu: u16,
    pieces: &mut VecDeque<Vec<u8>>,
    spare: &mut Vec<Vec<u8>>,
) -> bool {
    let before = pieces.len();
    let Ok(mut segmenter) = Segmenter::new(packet, mtu.into(), Checksums::Complete) else {
        return false;
    };
    while let Some(len) = segmenter.next_len() {
        let mut piece = spare.pop().unwrap_or_default();
        piece.resize(len, 0);
        if !matches!(segmenter.write_next(&mut piece), Some(Ok(_))) {
            pieces.truncate(before);
            return false;
        }
        pieces.push_back(piece);
    }
    true
}
