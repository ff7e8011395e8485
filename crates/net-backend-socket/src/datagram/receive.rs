//! The receiving half: who may send, what counts as a frame, and lending it.

use std::io;
use std::os::fd::AsFd;

use net_backend::{BackendError, MAX_FRAME, MIN_FRAME, declare};
use net_datapath::{VirtioNetHdr, ZeroCopyPacket};
use socket2::{Domain, Socket, Type};

use super::{DatagramPort, Kind, Peer, Route};
use crate::peer::PeerAddress;
use crate::sys::{self, DATAGRAMS, Length};

/// What vfkit sends before its first frame.
const MAGIC: &[u8] = b"VFKT";

/// What a received datagram is to the caller.
enum Verdict {
    Frame,
    Skip,
    /// The peer has changed: stop before this datagram and tell.
    PeerChanged,
    /// The connection has ended.
    End,
}

impl DatagramPort {
    pub(crate) fn receive(
        &mut self,
        budget: usize,
        sink: &mut dyn FnMut(&mut [ZeroCopyPacket<'_>]),
    ) -> Result<usize, BackendError> {
        let mut lent = 0;
        // One probe a call is enough to notice a new peer, and bounds what strangers can cost.
        let mut probed = false;
        while lent < budget {
            if self.untold {
                if lent > 0 {
                    break;
                }
                self.told()?;
            }
            if self.next == self.filled {
                match self.fill() {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(_) if lent > 0 => break,
                    Err(error) => return Err(error),
                }
            }
            lent += self.lend(budget - lent, &mut probed, sink);
        }
        if lent == 0 && budget > 0 {
            self.told()?;
        }
        Ok(lent)
    }

    /// Receives once; false if it would block.
    fn fill(&mut self) -> Result<bool, BackendError> {
        if self.ended {
            return Ok(false);
        }
        let named = !matches!(self.peer, Peer::Fixed | Peer::Gone);
        loop {
            self.stats.rx_calls += 1;
            (self.next, self.filled) = (0, 0);
            match self.slots.receive(self.socket.as_fd(), named) {
                Ok(0) => return Ok(false),
                Ok(count) => {
                    self.filled = count;
                    return Ok(true);
                }
                Err(error) => match error.raw_os_error() {
                    Some(libc::EINTR) => {}
                    // What the peer of a connected socket left behind (ECONNREFUSED, ECONNRESET).
                    Some(libc::ECONNRESET | libc::ECONNREFUSED | libc::ENOTCONN) => {
                        if self.peer != Peer::Awaited {
                            self.lose_peer();
                        }
                        return Ok(false);
                    }
                    _ if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                    _ => return Err(BackendError::host("receive a datagram", &error)),
                },
            }
        }
    }

    /// Lends the frames that have been received, up to `budget`.
    fn lend(
        &mut self,
        budget: usize,
        probed: &mut bool,
        sink: &mut dyn FnMut(&mut [ZeroCopyPacket<'_>]),
    ) -> usize {
        let mut chosen = [0; DATAGRAMS];
        let mut count = 0;
        while self.next < self.filled && count < budget.min(DATAGRAMS) {
            match self.judge(self.next, probed) {
                Verdict::Frame => {
                    if let Some(slot) = chosen.get_mut(count) {
                        *slot = self.next;
                        count += 1;
                    }
                }
                Verdict::Skip => {}
                Verdict::PeerChanged => {
                    self.lose_peer();
                    break;
                }
                Verdict::End => {
                    self.lose_peer();
                    self.ended = true;
                    self.next = self.filled;
                    break;
                }
            }
            self.next += 1;
        }
        let mut batch = self.batch.fill();
        for index in chosen.iter().take(count) {
            let frame = self.slots.bytes(*index);
            match batch.push_slice(frame, VirtioNetHdr::PLAIN) {
                Ok(packet) => {
                    declare(packet, self.config.declared(), self.config.mtu);
                    self.stats.rx_frames += 1;
                    self.stats.rx_bytes += packet.len() as u64;
                }
                // Lengths have been checked; only a change of the packet's limits leads here.
                Err(_) => self.stats.rx_malformed += 1,
            }
        }
        let lent = batch.len();
        if lent > 0 {
            sink(batch.packets());
            if let Route::Connected { busy, .. } = &mut self.route {
                *busy = true;
            }
        }
        lent
    }

    fn judge(&mut self, index: usize, probed: &mut bool) -> Verdict {
        let length = self.slots.length(index);
        if self.kind == Kind::Sequenced
            && length == Length::Whole(0)
            && self.is_last(index)
            && sys::is_hung_up(self.socket.as_fd())
        {
            // An empty message and the end look the same, except that the end goes on.
            return Verdict::End;
        }
        let greeting = self.kind == Kind::Magic && self.slots.bytes(index) == MAGIC;
        let frame = matches!(length, Length::Whole(MIN_FRAME..=MAX_FRAME));
        match self.peer {
            Peer::Fixed | Peer::Gone => {}
            Peer::Awaited => {
                if let Some(from) = self.slots.sender(index).filter(|_| frame || greeting) {
                    log::debug!("the peer is {from:?}");
                    self.peer = Peer::Latched(from);
                    self.greeted = false;
                    self.stats.peers += 1;
                } else {
                    self.refuse(frame);
                    return Verdict::Skip;
                }
            }
            Peer::Latched(peer) => {
                if self.slots.sender(index) != Some(peer) {
                    let nameless = self.slots.sender(index).is_none();
                    let useless = nameless || !(frame || greeting);
                    if useless || std::mem::replace(probed, true) || is_alive(&peer) {
                        self.stats.rx_strangers += 1;
                        return Verdict::Skip;
                    }
                    return Verdict::PeerChanged;
                }
                if greeting && self.greeted {
                    return Verdict::PeerChanged;
                }
            }
        }
        if greeting {
            return Verdict::Skip;
        }
        if !frame {
            self.stats.rx_malformed += 1;
            return Verdict::Skip;
        }
        self.greeted = true;
        Verdict::Frame
    }

    /// Counts a datagram that makes nobody the peer.
    fn refuse(&mut self, frame: bool) {
        if frame {
            self.stats.rx_strangers += 1;
        } else {
            self.stats.rx_malformed += 1;
        }
    }

    /// Whether nothing but empty messages follows in the slots.
    fn is_last(&self, index: usize) -> bool {
        (index..self.filled).all(|later| self.slots.length(later) == Length::Whole(0))
    }
}

/// Whether a process is behind the name, found out without sending anything. Doubt counts as life:
/// only what the system says cannot be reached is dead.
fn is_alive(peer: &PeerAddress) -> bool {
    let Ok(probe) = Socket::new(Domain::UNIX, Type::DGRAM, None) else {
        return true;
    };
    let _ = probe.set_nonblocking(true);
    match sys::connect(probe.as_fd(), peer) {
        Ok(()) => true,
        Err(error) => !matches!(
            error.raw_os_error(),
            Some(libc::ECONNREFUSED | libc::ENOENT | libc::ENOTDIR | libc::ENOTSOCK)
        ),
    }
}
