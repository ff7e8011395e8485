//! The sending half: batches of scatter lists, straight from where the frames lie.
//!
//! Some releases of macOS take packets of one piece only and say `VMNET_INVALID_ARGUMENT` to
//! others (QEMU found that out with macOS 11 and copies ever since). So the first packet of several
//! pieces is a trial: where it fails and the same packet in one piece does not, pieces are gathered
//! from then on, and a frame that lies in one piece still goes without a copy.

use net_backend::{BackendStats, MIN_FRAME, Offloads, TxFrame};
use net_datapath::{IoSegment, VirtioNetHdr};

use crate::Status;
use crate::framework::{Interface, Moved};
use crate::limits::{CALL_BYTES, Limits, MOST_PACKETS};
use crate::status::Meaning;

/// Most pieces of a packet that is not gathered: enough for a header and the fragments that guests
/// make of a super-frame.
const MOST_PIECES: usize = 24;

/// A packet on its way out.
#[derive(Clone, Copy)]
pub(crate) struct Outgoing<'a> {
    /// What goes in front of the frame.
    pub(crate) header: Option<[u8; VirtioNetHdr::LEN]>,
    /// The frame. Empty segments are to be left out.
    pub(crate) segments: &'a [IoSegment<'a>],
    /// Bytes of both together.
    pub(crate) size: usize,
}

impl Outgoing<'_> {
    const NOTHING: Self = Self {
        header: None,
        segments: &[],
        size: 0,
    };

    /// Pieces that are not empty.
    fn pieces(&self) -> usize {
        let segments = self.segments.iter().filter(|segment| !segment.is_empty());
        usize::from(self.header.is_some()) + segments.count()
    }
}

/// Whether the framework takes packets of several pieces.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Pieces {
    Untried,
    /// It refused some; whether because of the pieces, one that is gathered will show.
    Doubted,
    Taken,
    Refused,
}

/// How the packets of one call went.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Shape {
    /// One of them in several pieces.
    several: bool,
    /// One of them gathered.
    gathered: bool,
}

/// What became of an offer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sent {
    /// Everything.
    All,
    /// The framework is full.
    Full,
    /// The framework refused for a reason of its own.
    Refused(Status),
}

/// The sending half of an interface.
pub(crate) struct Sender {
    /// Packets of one call.
    at_most: usize,
    /// The next so many packets go one by one, to find the one that cannot.
    singly: usize,
    pieces: Pieces,
    /// A `virtio_net_hdr` goes in front of each frame.
    header: bool,
    max_frame: usize,
    /// Where packets of several pieces are gathered.
    scratch: Box<[u8]>,
}

impl Sender {
    pub(crate) fn new(limits: &Limits, header: bool) -> Self {
        Self {
            at_most: limits.write.clamp(1, MOST_PACKETS),
            singly: 0,
            pieces: Pieces::Untried,
            header,
            max_frame: limits.max_packet,
            scratch: vec![0; CALL_BYTES].into_boxed_slice(),
        }
    }

    /// Offers frames; returns how many were taken, sent or dropped, and why not all.
    pub(crate) fn send(
        &mut self,
        interface: &mut dyn Interface,
        frames: &[TxFrame<'_>],
        agreed: Offloads,
        stats: &mut BackendStats,
    ) -> (usize, Sent) {
        let mut taken = 0;
        while let Some(rest) = frames.get(taken..).filter(|rest| !rest.is_empty()) {
            let run = self.run(rest, agreed);
            if run.is_empty() {
                stats.tx_invalid += 1;
                taken += 1;
                continue;
            }
            stats.tx_calls += 1;
            let (moved, shape) = self.write(interface, run);
            match Status::check(moved.status) {
                Ok(()) => {
                    let sent = run.get(..moved.packets).unwrap_or(run);
                    stats.tx_frames += sent.len() as u64;
                    stats.tx_bytes += sent.iter().map(|frame| frame.len() as u64).sum::<u64>();
                    taken += sent.len();
                    self.singly = self.singly.saturating_sub(sent.len());
                    if sent.len() == run.len() {
                        self.learn(shape);
                    }
                    if sent.len() < run.len() {
                        return (taken, Sent::Full);
                    }
                }
                Err(status) => match status.meaning() {
                    Meaning::Full => return (taken, Sent::Full),
                    Meaning::Ailing | Meaning::Gone => return (taken, Sent::Refused(status)),
                    Meaning::Packet if shape.several && self.pieces == Pieces::Untried => {
                        self.pieces = Pieces::Doubted;
                    }
                    Meaning::Fewer if run.len() > 1 => self.at_most = run.len() / 2,
                    Meaning::Packet | Meaning::Fewer => {
                        // The same in one piece does not go either: the pieces were not to blame.
                        if self.pieces == Pieces::Doubted {
                            self.pieces = Pieces::Untried;
                        }
                        if run.len() > 1 {
                            self.singly = run.len();
                        } else {
                            stats.tx_invalid += 1;
                            taken += 1;
                            self.singly = self.singly.saturating_sub(1);
                        }
                    }
                },
            }
        }
        (taken, Sent::All)
    }

    /// A call of this shape has gone through.
    fn learn(&mut self, shape: Shape) {
        if shape.several {
            self.pieces = Pieces::Taken;
        } else if shape.gathered && self.pieces == Pieces::Doubted {
            self.pieces = Pieces::Refused;
        }
    }

    /// The frames from the front that can go in one call.
    fn run<'f, 'a>(&self, frames: &'f [TxFrame<'a>], agreed: Offloads) -> &'f [TxFrame<'a>] {
        let most = if self.singly > 0 { 1 } else { self.at_most };
        let mut bytes = 0;
        let count = frames
            .iter()
            .take(most)
            .take_while(|frame| {
                let len = frame.len();
                bytes += len + VirtioNetHdr::LEN;
                (MIN_FRAME..=self.max_frame).contains(&len)
                    && agreed.allow_tx(&frame.header)
                    && bytes <= CALL_BYTES
            })
            .count();
        frames.get(..count).unwrap_or_default()
    }

    /// Writes the frames in one call; says how far it came, and in which shape.
    fn write(&mut self, interface: &mut dyn Interface, frames: &[TxFrame<'_>]) -> (Moved, Shape) {
        let gather = matches!(self.pieces, Pieces::Doubted | Pieces::Refused);
        let mut packets = [Outgoing::NOTHING; MOST_PACKETS];
        let mut gathered = [[IoSegment::EMPTY; 1]; MOST_PACKETS];
        let mut scratch = &mut self.scratch[..];
        let mut shape = Shape::default();
        let slots = packets.iter_mut().zip(&mut gathered);
        for (frame, (packet, one)) in frames.iter().zip(slots) {
            let header = self.header.then(|| frame.header.to_bytes());
            *packet = Outgoing {
                header,
                segments: frame.segments,
                size: frame.len() + header.map_or(0, |header| header.len()),
            };
            let pieces = packet.pieces();
            if pieces > 1 && (gather || pieces > MOST_PIECES) {
                let (room, rest) = std::mem::take(&mut scratch)
                    .split_at_mut_checked(packet.size)
                    .unwrap_or_default();
                scratch = rest;
                *one = [gather_into(room, packet)];
                packet.header = None;
                packet.segments = one;
                shape.gathered = true;
            } else {
                shape.several |= pieces > 1;
            }
        }
        let offer = packets.get(..frames.len()).unwrap_or(&packets);
        (interface.write(offer), shape)
    }
}

/// Copies a packet into `room`, which is as long as the packet.
fn gather_into<'a>(room: &'a mut [u8], packet: &Outgoing<'_>) -> IoSegment<'a> {
    let mut at = 0;
    if let Some(header) = &packet.header {
        at = IoSegment::from(&header[..]).copy_to_slice(0, room);
    }
    for segment in packet.segments {
        at += segment.copy_to_slice(0, room.get_mut(at..).unwrap_or_default());
    }
    let room: &'a [u8] = room;
    room.into()
}
