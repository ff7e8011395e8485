//! The contract between a back end and the loop that drives it.

#[cfg(unix)]
use std::os::fd::BorrowedFd;
use std::time::Duration;

use net_datapath::{IoSegment, VirtioNetHdr, ZeroCopyPacket};

use crate::{BackendError, BackendStats, Capabilities, Offloads};

/// The shortest frame, in bytes: an Ethernet header and nothing else. The 60-byte minimum of
/// IEEE 802.3 is a property of the cable; no virtual device pads.
pub const MIN_FRAME: usize = 14;

/// The longest frame any back end carries, in bytes: 65,536 bytes behind an Ethernet header,
/// which is the length QEMU's sockets refuse to exceed.
pub const MAX_FRAME: usize = 65_550;

/// A frame to send: a scatter list and what the offloads have left undone.
#[derive(Clone, Copy, Debug)]
pub struct TxFrame<'a> {
    /// Partial checksum and segmentation; [`VirtioNetHdr::PLAIN`] for a finished frame.
    pub header: VirtioNetHdr,
    /// The whole Ethernet frame, without any header in front. Empty segments are allowed.
    pub segments: &'a [IoSegment<'a>],
}

impl<'a> TxFrame<'a> {
    /// A finished frame: nothing is left to the receiver.
    pub const fn plain(segments: &'a [IoSegment<'a>]) -> Self {
        Self {
            header: VirtioNetHdr::PLAIN,
            segments,
        }
    }

    /// Length of the frame in bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.segments
            .iter()
            .fold(0, |sum, segment| sum.saturating_add(segment.len()))
    }

    /// Whether the frame has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What a back end knows of the guest behind it.
///
/// A guest that is moved while it runs leaves one back end and goes on at another. What was agreed on
/// with it, and its connections, go with it where both belong to one network.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Presence {
    /// Nothing.
    #[default]
    Unknown,
    /// There is none: it has not come yet, or its VMM has ended without a word.
    Absent,
    /// It drives the device, from the beginning.
    Here,
    /// It drives the device, and has driven another before, as its VMM says: it was moved here while
    /// it ran, or stopped for a while. No guest can bring this about by itself.
    Moved,
    /// It does not drive the device any more: it has been moved away, or it stops, or starts again.
    Left,
}

/// One attachment: a guest's NIC, a host interface or an uplink.
///
/// # Contract
///
/// - No call blocks, sleeps or starts a thread. "Would block" is `Ok(0)`, never an error.
/// - Readiness is level-triggered in meaning: after an event the caller calls
///   [`receive`](Self::receive) until it says `Ok(0)`.
/// - Frames are [`MIN_FRAME`] to [`Capabilities::max_frame`] bytes. A frame outside of that, or one
///   that needs an offload that was not agreed, is taken, dropped and counted: it must not block
///   those behind it. Cutting super-frames is the caller's work, before it transmits.
/// - Whatever a peer does, memory is bounded and the process lives: a peer that breaks the
///   protocol costs its own attachment.
/// - An error of kind [`BackendError::Disconnected`] is final, unless
///   [`reattaches`](Self::reattaches) is true; then it is told once and a new peer may come.
pub trait NetworkBackend: Send {
    /// What this attachment can carry. Constant over its life.
    fn capabilities(&self) -> Capabilities;

    /// Asks for offloads and returns those that hold from now on: those asked for, as far as
    /// [`Capabilities::offloads`] has them. Until the first call none does.
    ///
    /// # Errors
    /// [`BackendError::Host`] if the device refuses a setting it had announced.
    fn set_offloads(&mut self, want: Offloads) -> Result<Offloads, BackendError>;

    /// Lends up to `budget` frames to `sink`, in batches, and returns how many; `Ok(0)` is "would
    /// block" (or a budget of 0).
    ///
    /// The frames live until `sink` returns; the batch is the sink's to change: it may rewrite
    /// headers in it. Frames are lent once: whoever wants one later copies it.
    ///
    /// # Errors
    /// [`BackendError::Disconnected`] once the peer is gone and all its frames have been lent;
    /// [`BackendError::Malformed`] if it broke the protocol, which ends the connection.
    fn receive(
        &mut self,
        budget: usize,
        sink: &mut dyn FnMut(&mut [ZeroCopyPacket<'_>]),
    ) -> Result<usize, BackendError>;

    /// Takes frames from the front and returns how many were taken; fewer than offered, down to
    /// `Ok(0)`, means that the rest would block. A frame taken is sent, or kept for
    /// [`flush`](Self::flush), or dropped and counted.
    ///
    /// # Errors
    /// [`BackendError::Disconnected`] if the peer is gone. Frames taken before are lost with it.
    fn transmit(&mut self, frames: &[TxFrame<'_>]) -> Result<usize, BackendError>;

    /// Sends what is left of a frame that was taken in part. `Ok(true)`: everything is gone.
    ///
    /// # Errors
    /// As [`transmit`](Self::transmit).
    fn flush(&mut self) -> Result<bool, BackendError>;

    /// Whether to wait for the source to become writable, then to flush and transmit again.
    fn wants_write(&self) -> bool;

    /// What to wait on; `None` if there is no descriptor and the caller has to ask.
    #[cfg(unix)]
    fn source(&self) -> Option<BorrowedFd<'_>>;

    /// Whether the peer's queues lie in memory that is at hand, so that [`receive`](Self::receive) and
    /// [`transmit`](Self::transmit) make no system call where there is nothing to do. Constant.
    fn shares_memory(&self) -> bool {
        false
    }

    /// Says whether the caller asks again and again from now on (`true`), or waits for the source, as
    /// at the beginning (`false`). While it asks, the peer need not be told to ring when it has sent
    /// something or has room again. After `false` the caller receives until `Ok(0)`, and offers what
    /// waits to be sent, before it waits: each then has the peer ring, and looks once more.
    ///
    /// Returns whether there is anything to ask: a peer whose memory is [shared](Self::shares_memory).
    fn set_polling(&mut self, polling: bool) -> bool {
        let _ = polling;
        false
    }

    /// When to call [`on_deadline`](Self::on_deadline), on the caller's clock. A time that has
    /// passed, such as zero, means at once: the back end needs to be told what time it is.
    fn next_deadline(&self) -> Option<Duration>;

    /// Tells the time, `now`, in the time base of the caller; monotonic. What was blocked may go
    /// on afterwards: try again to transmit.
    fn on_deadline(&mut self, now: Duration);

    /// A copy of the counters.
    fn statistics(&self) -> BackendStats;

    /// What is known of the guest that the peer is, without a call of the operating system.
    fn presence(&self) -> Presence {
        Presence::Unknown
    }

    /// Whether a new peer may take the place of one that has gone, on this same object: a VMM that
    /// restarts finds the datagram socket it had before.
    fn reattaches(&self) -> bool {
        false
    }
}
