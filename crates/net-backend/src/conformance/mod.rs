//! The tests that every back end must pass, against the far side of its attachment.
//!
//! A back end's test file implements [`Harness`] and [`Peer`] and writes one line,
//! [`conformance_tests!`](crate::conformance_tests); each case then runs as a test of its own. The
//! cases know nothing of sockets: they see frames at both ends.
//!
//! | case | what must hold |
//! |---|---|
//! | [`frame_sizes`] | frames of 14 bytes up to the longest, both ways, however they are cut |
//! | [`batches`] | a thousand frames each way, in order, a budget that is kept |
//! | [`receive_would_block`] | nothing there is `Ok(0)`, and the sink is not called |
//! | [`transmit_would_block`] | a peer that does not read costs bounded memory and no frame, or is one that loses the last of them |
//! | [`partial_progress`] | random sizes and batches, a slow reader: the same bytes, in order |
//! | [`invalid_frames`] | too short, too long: dropped, counted, and those around them sent |
//! | [`disconnect`] | frames under way arrive, then the end is told, and told again |
//! | [`reconnect`] | the next peer gets a working attachment |
//! | [`offloads_refused`] | without agreement nothing unfinished is sent |
//! | [`offloads_agreed`] | what was agreed is carried, and is never more than was announced |
//! | [`statistics`] | the counters tell what happened |
//!
//! Where tests do not run by `cargo`'s own runner, [`cases()`] has them by name.
//!
//! The functions panic with a message where a back end does not conform.

mod cases;
mod frames;

use std::time::Duration;

use net_datapath::VirtioNetHdr;

pub use cases::{
    batches, disconnect, frame_sizes, invalid_frames, offloads_agreed, offloads_refused,
    partial_progress, receive_would_block, reconnect, statistics, transmit_would_block,
};
pub use frames::{Frame, Random, content};

use crate::{BackendError, NetworkBackend, Offloads, TxFrame};

/// Rounds without progress after which a case gives up. Each yields the processor, so that a back
/// end with a thread or a kernel in between has its chance.
const PATIENCE: u32 = 100_000;

/// The far side of an attachment: what a guest or a VMM would do.
pub trait Peer {
    /// Sends one frame; false if it would block, and then the same frame is offered again. A far
    /// side that has sent a part of it remembers how much.
    fn send(&mut self, header: VirtioNetHdr, frame: &[u8]) -> bool;

    /// The next frame, or `None` if there is none now.
    fn recv(&mut self) -> Option<Frame>;
}

/// How a back end and its far side are made.
pub trait Harness {
    /// The back end under test.
    type Backend: NetworkBackend;
    /// Its far side. Dropping it is a disconnect.
    type Peer: Peer;

    /// A fresh attachment, ready in both directions.
    fn connect(&mut self) -> (Self::Backend, Self::Peer);

    /// The attachment that follows, after the peer of `gone` has disconnected: the same object if
    /// it reattaches, else what the listener accepts next.
    fn reconnect(&mut self, gone: Self::Backend) -> (Self::Backend, Self::Peer);

    /// What the kind of attachment can do.
    fn properties(&self) -> Properties {
        Properties::default()
    }
}

/// What differs between kinds of attachments without making one of them wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Properties {
    /// `receive` tells of a disconnect; otherwise only `transmit` does (datagram sockets).
    pub receive_disconnects: bool,
    /// A frame's `virtio_net_hdr` reaches the other side.
    pub carries_headers: bool,
    /// Frames that the attachment holds for a reader, where a further one is lost and not held back,
    /// as an interface of the kernel does. No case but the one about that has more under way.
    pub window: Option<usize>,
    /// What was under way is lost when the peer goes.
    pub purges_on_disconnect: bool,
    /// What is received whether it was agreed or not.
    pub always_received: Offloads,
}

impl Default for Properties {
    fn default() -> Self {
        Self {
            receive_disconnects: true,
            carries_headers: false,
            window: None,
            purges_on_disconnect: false,
            always_received: Offloads::NONE,
        }
    }
}

impl Properties {
    /// As `self`, but a disconnect is only seen on transmit.
    #[must_use]
    pub const fn disconnects_on_transmit_only(mut self) -> Self {
        self.receive_disconnects = false;
        self
    }

    /// As `self`, but a frame beyond `window` unread ones is lost.
    #[must_use]
    pub const fn loses_beyond(mut self, window: usize) -> Self {
        self.window = Some(window);
        self
    }

    /// As `self`, but what is under way goes with the peer.
    #[must_use]
    pub const fn purges(mut self) -> Self {
        self.purges_on_disconnect = true;
        self
    }

    /// As `self`, but these offloads are received whatever was agreed.
    #[must_use]
    pub const fn always_receives(mut self, offloads: Offloads) -> Self {
        self.always_received = offloads;
        self
    }

    /// Most frames under way.
    fn most(&self) -> usize {
        self.window.unwrap_or(usize::MAX)
    }

    /// As `self`, but headers reach the other side.
    #[must_use]
    pub const fn with_headers(mut self) -> Self {
        self.carries_headers = true;
        self
    }
}

/// A case.
pub type Case<H> = fn(&mut H);

/// Every case by its name.
pub const fn cases<H: Harness>() -> [(&'static str, Case<H>); 11] {
    [
        ("frame_sizes", frame_sizes),
        ("batches", batches),
        ("receive_would_block", receive_would_block),
        ("transmit_would_block", transmit_would_block),
        ("partial_progress", partial_progress),
        ("invalid_frames", invalid_frames),
        ("disconnect", disconnect),
        ("reconnect", reconnect),
        ("offloads_refused", offloads_refused),
        ("offloads_agreed", offloads_agreed),
        ("statistics", statistics),
    ]
}

/// Generates one `#[test]` for every case, in a module of the given name:
/// `conformance_tests!(qemu_stream, MyHarness::new());`
#[macro_export]
macro_rules! conformance_tests {
    ($module:ident, $harness:expr) => {
        mod $module {
            #[allow(unused_imports)]
            use super::*;
            $crate::conformance_tests!(@each $harness;
                frame_sizes batches receive_would_block transmit_would_block partial_progress
                invalid_frames disconnect reconnect offloads_refused offloads_agreed statistics);
        }
    };
    (@each $harness:expr; $($case:ident)*) => {
        $(#[test]
        fn $case() {
            $crate::conformance::$case(&mut $harness);
        })*
    };
}

/// Receives once, with `budget`, and appends copies of the frames. Checks the bookkeeping.
fn lend<B: NetworkBackend>(
    backend: &mut B,
    budget: usize,
    out: &mut Vec<Frame>,
) -> Result<usize, BackendError> {
    let mut seen = 0;
    let result = backend.receive(budget, &mut |batch| {
        assert!(!batch.is_empty(), "the sink was called with an empty batch");
        for packet in batch {
            let mut bytes = vec![0; packet.len()];
            assert_eq!(packet.copy_range(0, &mut bytes), bytes.len());
            out.push(Frame {
                header: *packet.vnet(),
                bytes,
            });
            seen += 1;
        }
    });
    match &result {
        Ok(count) => assert_eq!(*count, seen, "receive returned another count than it lent"),
        Err(error) => assert_eq!(seen, 0, "frames lent by a call that failed: {error}"),
    }
    assert!(seen <= budget, "{seen} frames lent on a budget of {budget}");
    result
}

/// Lets the back end's deadline come, in simulated time.
fn tick<B: NetworkBackend>(backend: &mut B, now: &mut Duration) {
    if let Some(deadline) = backend.next_deadline() {
        *now = (*now).max(deadline) + Duration::from_micros(1);
        backend.on_deadline(*now);
    }
}

/// Carries `frames` from the peer to the back end, with at most `window` under way.
fn carry_in<B: NetworkBackend, P: Peer>(
    (backend, peer): (&mut B, &mut P),
    frames: &[Frame],
    budget: usize,
    window: usize,
) -> Vec<Frame> {
    let (mut sent, mut idle) = (0, 0);
    let mut got = Vec::new();
    while got.len() < frames.len() {
        let before = (sent, got.len());
        if let Some(frame) = frames.get(sent).filter(|_| sent - got.len() < window) {
            sent += usize::from(peer.send(frame.header, &frame.bytes));
        }
        if (sent, got.len()) == before || sent % 7 == 0 {
            lend(backend, budget, &mut got).expect("receive failed while the peer lives");
        }
        idle = if (sent, got.len()) == before {
            idle + 1
        } else {
            0
        };
        give_up_after(idle, "receiving", got.len(), frames.len());
    }
    got
}

/// Carries `frames` from the back end to the peer, offered `batch` at a time, with the peer
/// reading at most `pace` frames between two offers and at most `window` under way.
fn carry_out<B: NetworkBackend, P: Peer>(
    (backend, peer): (&mut B, &mut P),
    frames: &[TxFrame<'_>],
    (batch, pace): (usize, usize),
    window: usize,
) -> Vec<Frame> {
    let (mut taken, mut idle, mut now) = (0, 0, Duration::ZERO);
    let mut got = Vec::new();
    let mut gone = false;
    while got.len() < frames.len() || !gone {
        let before = (taken, got.len(), gone);
        let most = batch.min(window.saturating_sub(taken - got.len()));
        let offer = &frames[taken..frames.len().min(taken + most)];
        let count = backend
            .transmit(offer)
            .expect("transmit failed while the peer lives");
        assert!(count <= offer.len(), "more frames taken than offered");
        taken += count;
        if taken == frames.len() {
            gone = backend.flush().expect("flush failed while the peer lives");
        }
        for _ in 0..pace {
            got.extend(peer.recv());
        }
        if (taken, got.len(), gone) == before {
            backend.flush().expect("flush failed while the peer lives");
            tick(backend, &mut now);
            idle += 1;
        } else {
            idle = 0;
        }
        give_up_after(idle, "transmitting", got.len(), frames.len());
    }
    assert!(!backend.wants_write(), "wants to write with nothing left");
    got
}

fn give_up_after(idle: u32, doing: &str, got: usize, want: usize) {
    assert!(
        idle < PATIENCE,
        "stuck {doing}: {got} of {want} frames arrived"
    );
    if idle > 0 {
        std::thread::yield_now();
    }
}
