//! A switch port: a back end, and a bounded queue of frames it has not taken yet.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Interest, Registry};

use net_backend::{BackendError, Capabilities, NetworkBackend, TxFrame};
use net_datapath::pool::PacketBuf;
use net_datapath::segment::IoSegment;
use net_datapath::vnet::VirtioNetHdr;

use super::listener::ListenerId;
use super::moves::Arrival;
use super::ports::PortId;
use super::token;

/// Frames a port may have waiting; past that a guest that does not read loses frames.
const QUEUE_FRAMES: usize = 512;
/// Bytes a port may have waiting.
const QUEUE_BYTES: usize = 4 << 20;
/// Past this many waiting bytes a port says it is not ready, so that relays stop before frames
/// are lost.
const BUSY_BYTES: usize = 1 << 20;
/// Past this many waiting frames, likewise.
const BUSY_FRAMES: usize = QUEUE_FRAMES / 2;
/// Frames handed to the back end in one call.
const BATCH: usize = 64;

/// A frame waiting to be sent.
#[derive(Debug)]
struct Queued {
    header: VirtioNetHdr,
    /// Of the pool of large buffers.
    large: bool,
    frame: PacketBuf,
}

/// Counters of a port, from the guest's point of view.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PortStatistics {
    /// Frames the guest sent.
    pub sent_frames: u64,
    /// Bytes the guest sent.
    pub sent_bytes: u64,
    /// Frames the guest was given.
    pub received_frames: u64,
    /// Bytes the guest was given.
    pub received_bytes: u64,
    /// Frames lost because the guest did not read and its queue was full.
    pub queue_drops: u64,
    /// Frames lost because no buffer was free.
    pub pool_drops: u64,
    /// Frames lost because their offload fields contradict their headers.
    pub offload_drops: u64,
    /// Frames lost because they do not fit the guest's link.
    pub oversize_drops: u64,
}

/// A port.
pub(super) struct Port {
    /// Away while the worker reads from it.
    pub(super) backend: Option<Box<dyn NetworkBackend>>,
    pub(super) capabilities: Capabilities,
    /// Its guest's memory is at hand.
    pub(super) shares_memory: bool,
    pub(super) name: String,
    /// Largest IP packet of its link, in bytes.
    pub(super) mtu: u16,
    /// The listener that made it, for connections.
    pub(super) listener: Option<ListenerId>,
    pub(super) statistics: PortStatistics,
    /// On the worker's list of ports to flush.
    pub(super) dirty: bool,
    /// On the worker's list of ports with more to read.
    pub(super) pending: bool,
    /// The user has been told that the host refuses it something.
    pub(super) warned: bool,
    /// It has been busy, and nobody has been told yet that it is not any more.
    pub(super) starved: bool,
    /// The port that gets a copy of what this one is sent.
    pub(super) mirror: Option<u32>,
    /// Guests may be moved to it, and from it.
    pub(super) moves: bool,
    /// The guest that has come here.
    pub(super) arrival: Arrival,
    /// When the guest that has left is forgotten.
    pub(super) gone_at: Option<Duration>,
    queue: VecDeque<Queued>,
    bytes: usize,
    /// How many of the queue are of the pool of large buffers.
    large: usize,
}

impl Port {
    pub(super) fn new(
        backend: Box<dyn NetworkBackend>,
        name: String,
        listener: Option<ListenerId>,
        mtu: u16,
    ) -> Self {
        Self {
            capabilities: backend.capabilities(),
            shares_memory: backend.shares_memory(),
            backend: Some(backend),
            name,
            mtu,
            listener,
            statistics: PortStatistics::default(),
            dirty: false,
            pending: false,
            warned: false,
            starved: false,
            mirror: None,
            arrival: Arrival::default(),
            gone_at: None,
            moves: false,
            queue: VecDeque::new(),
            bytes: 0,
            large: 0,
        }
    }

    /// Has the events of its back end, which is watched already, be those of port `id`.
    pub(super) fn watch(&self, id: PortId, registry: &Registry) -> io::Result<()> {
        let Some(fd) = self.backend.as_ref().and_then(|backend| backend.source()) else {
            return Ok(());
        };
        let interest = Interest::READABLE | Interest::WRITABLE;
        registry.reregister(&mut SourceFd(&fd.as_raw_fd()), token::port(id), interest)
    }

    /// Whether relays may send more.
    pub(super) fn is_ready(&self) -> bool {
        self.bytes < BUSY_BYTES && self.queue.len() < BUSY_FRAMES
    }

    /// Buffers of one pool that wait.
    pub(super) fn held(&self, large: bool) -> usize {
        match large {
            true => self.large,
            false => self.queue.len() - self.large,
        }
    }

    /// Whether nothing waits.
    pub(super) fn is_idle(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether frames wait for room at the guest.
    pub(super) fn is_blocked(&self) -> bool {
        let waits = |backend: &dyn NetworkBackend| backend.wants_write();
        !self.is_idle() && self.backend.as_deref().is_some_and(waits)
    }

    /// Whether the queue has room for a frame of `len` bytes.
    pub(super) fn has_room(&self, len: usize) -> bool {
        self.queue.len() < QUEUE_FRAMES && self.bytes + len <= QUEUE_BYTES
    }

    /// Puts a frame, which the queue has room for, at its end.
    pub(super) fn enqueue(&mut self, header: VirtioNetHdr, frame: PacketBuf, large: bool) {
        self.bytes += frame.len();
        self.large += usize::from(large);
        self.queue.push_back(Queued {
            header,
            large,
            frame,
        });
        // From here on whoever asks is told to wait, so somebody may be waiting.
        self.starved |= !self.is_ready();
    }

    /// Sends what waits until the back end takes no more.
    pub(super) fn flush(&mut self) -> Result<(), BackendError> {
        let Some(backend) = self.backend.as_mut() else {
            return Ok(());
        };
        if backend.wants_write() && !backend.flush()? {
            return Ok(());
        }
        while !self.queue.is_empty() {
            let batch = self.queue.len().min(BATCH);
            let segments: [[IoSegment<'_>; 1]; BATCH] = std::array::from_fn(|n| {
                [IoSegment::from(
                    self.queue.get(n).map_or(&[][..], |queued| &queued.frame),
                )]
            });
            let frames: [TxFrame<'_>; BATCH] = std::array::from_fn(|n| TxFrame {
                header: self
                    .queue
                    .get(n)
                    .map_or(VirtioNetHdr::default(), |queued| queued.header),
                segments: &segments[n],
            });
            let taken = backend.transmit(&frames[..batch])?;
            for _ in 0..taken {
                if let Some(queued) = self.queue.pop_front() {
                    self.bytes -= queued.frame.len();
                    self.large -= usize::from(queued.large);
                    self.statistics.received_frames += 1;
                    self.statistics.received_bytes += queued.frame.len() as u64;
                }
            }
            if taken < batch {
                break;
            }
        }
        Ok(())
    }

    /// Forgets what waits: its guest is gone.
    pub(super) fn clear(&mut self) {
        self.queue.clear();
        self.bytes = 0;
        self.large = 0;
    }
}
