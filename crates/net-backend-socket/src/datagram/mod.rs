//! What the datagram kinds share: one frame a datagram, many datagrams a system call, and a peer
//! that comes, goes and comes back.
//!
//! # Theory of operation
//!
//! A bound socket has one peer at a time: the first sender of a frame ([`Peer::Latched`]). It is
//! let go when sending to it is refused, or when somebody else sends and a probe finds that
//! nobody is behind the old name any more. While it lives, strangers are ignored and counted.
//!
//! The socket is *not* connected to its peer as long as there is little to send. On Linux a
//! connected socket refuses everybody else with EPERM, and nothing tells when the peer it is
//! connected to dies: a VMM that restarts could not even connect. But a send by name costs a path
//! look-up, and a full queue at an unconnected receiver gives no event when there is room again.
//! So the socket is connected while there is much to send ([`Route::Connected`]) and let go when
//! nothing has passed either way for [`QUIET`].
//!
//! A full receiver is EAGAIN on Linux, with an event when there is room. Where it is ENOBUFS
//! (macOS) there is none: [`Backoff`] waits a bounded time by deadlines.

mod receive;
mod transmit;

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use net_backend::{BackendError, BackendStats, Capabilities, Offloads, PacketBatch};
use socket2::Socket;

use crate::config::SocketConfig;
use crate::path::BoundPath;
use crate::peer::PeerAddress;
use crate::sys::{self, Slots};
use crate::timer::{Backoff, Timer};

/// Without a frame in either direction for this long, a connected socket is disconnected.
const QUIET: Duration = Duration::from_millis(20);

/// How frames are told from other things, and what the end of the peer looks like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Datagrams, nothing else.
    Plain,
    /// Datagrams; the greeting `VFKT` says that a peer starts.
    Magic,
    /// A connection that keeps the boundaries of messages.
    Sequenced,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Peer {
    /// The other end of a pair or of a connection, for as long as it lives.
    Fixed,
    /// It has gone for good.
    Gone,
    /// Nobody has sent yet, or since the last one went.
    Awaited,
    Latched(PeerAddress),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Route {
    /// Every datagram carries the peer's name; a fixed peer needs none.
    Named,
    /// The socket is connected to the latched peer.
    Connected {
        /// When to look whether it is still worth it.
        timer: Timer,
        /// Whether a frame has passed since it was last looked at.
        busy: bool,
    },
}

pub(crate) struct DatagramPort {
    socket: Socket,
    // Dropped after the socket.
    path: Option<BoundPath>,
    kind: Kind,
    peer: Peer,
    route: Route,
    /// A disconnect has happened that the caller has not been told of.
    untold: bool,
    /// The latched peer has sent a frame, so that another greeting is a new peer's.
    greeted: bool,
    /// The end of a connection has been read.
    ended: bool,
    slots: Slots,
    /// `slots[next..filled]` have been received and not looked at.
    next: usize,
    filled: usize,
    batch: PacketBatch,
    backoff: Backoff,
    blocked: bool,
    config: SocketConfig,
    agreed: Offloads,
    stats: BackendStats,
}

impl DatagramPort {
    /// A bound socket, which waits for its first peer.
    pub(crate) fn bound(socket: Socket, path: Option<BoundPath>, kind: Kind) -> Self {
        Self::new(socket, path, kind, Peer::Awaited)
    }

    /// A socket whose peer is given.
    pub(crate) fn connected(socket: Socket, kind: Kind) -> Self {
        let mut port = Self::new(socket, None, kind, Peer::Fixed);
        port.stats.peers = 1;
        port
    }

    fn new(socket: Socket, path: Option<BoundPath>, kind: Kind, peer: Peer) -> Self {
        Self {
            socket,
            path,
            kind,
            peer,
            route: Route::Named,
            untold: false,
            greeted: false,
            ended: false,
            slots: Slots::new(),
            next: 0,
            filled: 0,
            batch: PacketBatch::new(),
            backoff: Backoff::default(),
            blocked: false,
            config: SocketConfig::default(),
            agreed: Offloads::NONE,
            stats: BackendStats::default(),
        }
    }

    pub(crate) fn set_config(&mut self, config: SocketConfig) {
        self.config = config;
    }

    pub(crate) fn path(&self) -> Option<&std::path::Path> {
        self.path.as_ref().map(BoundPath::path)
    }

    pub(crate) fn reattaches(&self) -> bool {
        !matches!(self.peer, Peer::Fixed | Peer::Gone)
    }

    pub(crate) fn capabilities(&self) -> Capabilities {
        self.config.capabilities()
    }

    pub(crate) fn set_offloads(&mut self, want: Offloads) -> Offloads {
        self.agreed = Offloads::negotiate(want, self.capabilities().offloads);
        self.agreed
    }

    pub(crate) fn source(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    pub(crate) fn statistics(&self) -> BackendStats {
        self.stats
    }

    pub(crate) fn wants_write(&self) -> bool {
        // While it waits for a deadline, the source is writable all the time.
        self.blocked && !self.backoff.is_waiting()
    }

    pub(crate) fn flush(&mut self) -> Result<bool, BackendError> {
        self.told()?;
        self.blocked = false;
        Ok(true)
    }

    /// Tells of a disconnect: once if a new peer may come, else always.
    fn told(&mut self) -> Result<(), BackendError> {
        if std::mem::take(&mut self.untold) || self.peer == Peer::Gone {
            return Err(BackendError::Disconnected);
        }
        Ok(())
    }

    /// The peer is gone.
    fn lose_peer(&mut self) {
        log::debug!("the peer {:?} has gone", self.peer);
        match self.peer {
            Peer::Gone => return,
            Peer::Fixed => self.peer = Peer::Gone,
            Peer::Awaited | Peer::Latched(_) => {
                if self.route != Route::Named {
                    sys::disconnect(self.socket.as_fd());
                }
                self.peer = Peer::Awaited;
                self.untold = true;
            }
        }
        self.route = Route::Named;
        self.backoff = Backoff::default();
        self.blocked = false;
        self.stats.disconnects += 1;
    }

    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        let quiet = match self.route {
            Route::Connected { timer, .. } => timer.deadline(),
            Route::Named => None,
        };
        [quiet, self.backoff.deadline()].into_iter().flatten().min()
    }

    pub(crate) fn on_deadline(&mut self, now: Duration) {
        self.backoff.on_deadline(now);
        let Route::Connected { timer, busy } = &mut self.route else {
            return;
        };
        if !timer.on_deadline(now, QUIET) {
            return;
        }
        // Disconnecting empties the receive queue, so it must be empty already.
        if *busy || self.blocked || !sys::is_drained(self.socket.as_fd()) {
            *timer = Timer::At(now.saturating_add(QUIET));
            *busy = false;
        } else {
            sys::disconnect(self.socket.as_fd());
            self.route = Route::Named;
        }
    }
}

impl std::fmt::Debug for DatagramPort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DatagramPort")
            .field("kind", &self.kind)
            .field("path", &self.path)
            .field("peer", &self.peer)
            .field("route", &self.route)
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}
