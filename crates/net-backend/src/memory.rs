//! Two connected ends in memory, with bounded queues and faults on request.
//!
//! For tests of everything that stands on [`NetworkBackend`], and for parts of one process that
//! want to look like a port. What one end transmits, the other receives, header and all. An end
//! that is dropped, or that calls [`MemoryBackend::disconnect`], is gone for the other end once
//! that has received what was under way.

use std::collections::VecDeque;
#[cfg(unix)]
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use net_datapath::{VirtioNetHdr, ZeroCopyPacket};

use crate::{
    BackendError, BackendStats, Capabilities, MIN_FRAME, NetworkBackend, Offloads, PacketBatch,
    TxFrame,
};

/// Frames a direction holds unless [`pair_with`] says otherwise.
pub const DEFAULT_CAPACITY: usize = 256;

/// Two connected ends with the usual capabilities and [`DEFAULT_CAPACITY`].
pub fn pair() -> (MemoryBackend, MemoryBackend) {
    pair_with(Capabilities::default(), DEFAULT_CAPACITY)
}

/// Two connected ends with the same `capabilities`; each direction holds up to `capacity` frames
/// (at least 1).
pub fn pair_with(capabilities: Capabilities, capacity: usize) -> (MemoryBackend, MemoryBackend) {
    let link = |_| Arc::new(Mutex::new(Queue::new(capacity.max(1))));
    let [ab, ba] = [0, 1].map(link);
    (
        MemoryBackend::new(capabilities, Arc::clone(&ba), Arc::clone(&ab)),
        MemoryBackend::new(capabilities, ab, ba),
    )
}

/// What goes wrong, on request, at one end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Faults {
    /// The next calls of `receive` that find nothing.
    pub receive_blocks: u32,
    /// The next calls of `transmit` that take nothing.
    pub transmit_blocks: u32,
    /// The most frames one call of `transmit` takes.
    pub transmit_at_most: Option<usize>,
    /// The connection ends by itself after this many more frames transmitted.
    pub disconnect_after: Option<u64>,
}

struct Stored {
    header: VirtioNetHdr,
    frame: Vec<u8>,
}

/// One direction.
struct Queue {
    frames: VecDeque<Stored>,
    capacity: usize,
    /// Buffers of frames that have been received.
    spare: Vec<Vec<u8>>,
    closed: bool,
}

impl Queue {
    fn new(capacity: usize) -> Self {
        Self {
            frames: VecDeque::new(),
            capacity,
            spare: Vec::new(),
            closed: false,
        }
    }
}

fn lock(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    // A test that panicked elsewhere must not hide its message behind ours.
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One of two connected ends.
pub struct MemoryBackend {
    capabilities: Capabilities,
    offloads: Offloads,
    rx: Arc<Mutex<Queue>>,
    tx: Arc<Mutex<Queue>>,
    inbox: Vec<Stored>,
    batch: PacketBatch,
    blocked: bool,
    faults: Faults,
    stats: BackendStats,
}

impl MemoryBackend {
    fn new(capabilities: Capabilities, rx: Arc<Mutex<Queue>>, tx: Arc<Mutex<Queue>>) -> Self {
        Self {
            capabilities,
            offloads: Offloads::NONE,
            rx,
            tx,
            inbox: Vec::new(),
            batch: PacketBatch::new(),
            blocked: false,
            faults: Faults::default(),
            stats: BackendStats {
                peers: 1,
                ..BackendStats::default()
            },
        }
    }

    /// Sets the faults of this end; they replace those before.
    pub fn set_faults(&mut self, faults: Faults) {
        self.faults = faults;
    }

    /// Ends the connection in both directions. The other end still receives what is under way.
    pub fn disconnect(&mut self) {
        lock(&self.rx).closed = true;
        lock(&self.tx).closed = true;
    }

    /// A new other end in place of one that has gone; frames under way are lost.
    #[must_use = "the other end disconnects when it is dropped"]
    pub fn attach_peer(&mut self) -> MemoryBackend {
        self.disconnect();
        let capacity = lock(&self.tx).capacity;
        let (fresh, peer) = pair_with(self.capabilities, capacity);
        // `fresh` disconnects its queues when dropped, so the queues change hands by swapping.
        let mut fresh = fresh;
        core::mem::swap(&mut self.rx, &mut fresh.rx);
        core::mem::swap(&mut self.tx, &mut fresh.tx);
        self.blocked = false;
        self.stats.peers += 1;
        peer
    }

    fn is_valid(&self, frame: &TxFrame<'_>) -> bool {
        (MIN_FRAME..=self.capabilities.max_frame).contains(&frame.len())
            && self.offloads.allow_tx(&frame.header)
    }

    /// Moves up to `most` frames from the queue to the inbox; whether the connection goes on.
    fn fetch(&mut self, most: usize) -> bool {
        let mut queue = lock(&self.rx);
        // Only emptied buffers go back, so the spare list never holds more than the queue did.
        queue
            .spare
            .extend(self.inbox.drain(..).map(|stored| stored.frame));
        let keep = queue.capacity;
        queue.spare.truncate(keep);
        let take = most.min(queue.frames.len());
        self.inbox.extend(queue.frames.drain(..take));
        !queue.closed || take > 0
    }
}

impl Drop for MemoryBackend {
    fn drop(&mut self) {
        self.disconnect();
    }
}

impl NetworkBackend for MemoryBackend {
    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn set_offloads(&mut self, want: Offloads) -> Result<Offloads, BackendError> {
        self.offloads = Offloads::negotiate(want, self.capabilities.offloads);
        Ok(self.offloads)
    }

    fn receive(
        &mut self,
        budget: usize,
        sink: &mut dyn FnMut(&mut [ZeroCopyPacket<'_>]),
    ) -> Result<usize, BackendError> {
        if budget == 0 {
            return Ok(0);
        }
        if self.faults.receive_blocks > 0 {
            self.faults.receive_blocks -= 1;
            return Ok(0);
        }
        let mut lent = 0;
        while lent < budget {
            if !self.fetch((budget - lent).min(PacketBatch::LEN)) && lent == 0 {
                self.stats.disconnects = self.stats.peers;
                return Err(BackendError::Disconnected);
            }
            if self.inbox.is_empty() {
                break;
            }
            let mut batch = self.batch.fill();
            for stored in &self.inbox {
                match batch.push_slice(&stored.frame, stored.header) {
                    Ok(packet) => {
                        self.stats.rx_frames += 1;
                        self.stats.rx_bytes += packet.len() as u64;
                    }
                    Err(_) => self.stats.rx_malformed += 1,
                }
            }
            if !batch.is_empty() {
                sink(batch.packets());
            }
            lent += batch.len();
        }
        Ok(lent)
    }

    fn transmit(&mut self, frames: &[TxFrame<'_>]) -> Result<usize, BackendError> {
        if frames.is_empty() {
            return Ok(0);
        }
        if self.faults.transmit_blocks > 0 {
            self.faults.transmit_blocks -= 1;
            self.blocked = true;
            self.stats.tx_blocked += 1;
            return Ok(0);
        }
        let most = self.faults.transmit_at_most.unwrap_or(usize::MAX);
        let mut taken = 0;
        let mut cut = false;
        let tx = Arc::clone(&self.tx);
        let mut queue = lock(&tx);
        for frame in frames.iter().take(most) {
            if queue.closed {
                break;
            }
            if !self.is_valid(frame) {
                self.stats.tx_invalid += 1;
                taken += 1;
                continue;
            }
            if queue.frames.len() >= queue.capacity {
                break;
            }
            let mut bytes = queue.spare.pop().unwrap_or_default();
            let len = frame.len();
            bytes.resize(len, 0);
            let mut at = 0;
            for segment in frame.segments {
                at += segment.copy_to_slice(0, bytes.get_mut(at..).unwrap_or_default());
            }
            queue.frames.push_back(Stored {
                header: frame.header,
                frame: bytes,
            });
            self.stats.tx_frames += 1;
            self.stats.tx_bytes += len as u64;
            taken += 1;
            if let Some(left) = &mut self.faults.disconnect_after {
                *left = left.saturating_sub(1);
                if *left == 0 {
                    self.faults.disconnect_after = None;
                    queue.closed = true;
                    cut = true;
                }
            }
        }
        let closed = queue.closed;
        // Never both locks at once: the other end takes them in the opposite order.
        drop(queue);
        if cut {
            self.disconnect();
        }
        if closed && taken == 0 {
            self.stats.disconnects = self.stats.peers;
            return Err(BackendError::Disconnected);
        }
        self.blocked = taken < frames.len();
        self.stats.tx_blocked += u64::from(self.blocked);
        Ok(taken)
    }

    fn flush(&mut self) -> Result<bool, BackendError> {
        self.blocked = false;
        Ok(true)
    }

    fn wants_write(&self) -> bool {
        self.blocked
    }

    #[cfg(unix)]
    fn source(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn next_deadline(&self) -> Option<Duration> {
        None
    }

    fn on_deadline(&mut self, _now: Duration) {}

    fn statistics(&self) -> BackendStats {
        self.stats
    }
}

impl core::fmt::Debug for MemoryBackend {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("MemoryBackend")
            .field("capabilities", &self.capabilities)
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
