//! The sending half: batches, the way to the peer, and what each refusal means.

use std::io;
use std::os::fd::AsFd;

use net_backend::{BackendError, MAX_FRAME, MIN_FRAME, TxFrame};

use super::{DatagramPort, Peer, Route};
use crate::peer::PeerAddress;
use crate::sys::{self, DATAGRAMS};
use crate::timer::{Refused, Timer};

/// Frames in one call from which on it pays to connect.
const BURST: usize = 16;

/// How to go on after an error of sending.
enum Outcome {
    Again,
    DropFirst,
    Stop,
}

impl DatagramPort {
    pub(crate) fn transmit(&mut self, frames: &[TxFrame<'_>]) -> Result<usize, BackendError> {
        self.told()?;
        if self.backoff.is_waiting() {
            return Ok(0);
        }
        let mut taken = 0;
        while let Some(rest) = frames.get(taken..).filter(|rest| !rest.is_empty()) {
            let valid = rest
                .iter()
                .take(DATAGRAMS)
                .take_while(|frame| self.is_valid(frame))
                .count();
            if valid == 0 {
                self.stats.tx_invalid += 1;
                taken += 1;
                continue;
            }
            let to = match (self.peer, self.route) {
                (Peer::Awaited, _) => {
                    self.stats.tx_no_peer += valid as u64;
                    taken += valid;
                    continue;
                }
                (Peer::Latched(peer), Route::Named) if valid >= BURST => {
                    self.connect(&peer);
                    continue_with(self.route, peer)
                }
                (Peer::Latched(peer), route) => continue_with(route, peer),
                (Peer::Fixed | Peer::Gone, _) => None,
            };
            let group = rest.get(..valid).unwrap_or_default();
            self.stats.tx_calls += 1;
            match sys::send_datagrams(self.socket.as_fd(), to.as_ref(), group) {
                Ok(count) => {
                    let sent = group.get(..count).unwrap_or(group);
                    self.stats.tx_frames += sent.len() as u64;
                    self.stats.tx_bytes += sent.iter().map(|f| f.len() as u64).sum::<u64>();
                    self.accepted();
                    taken += sent.len();
                }
                Err(error) => match self.send_error(&error) {
                    Ok(Outcome::Again) => {}
                    Ok(Outcome::DropFirst) => taken += 1,
                    Ok(Outcome::Stop) => break,
                    // The next call will tell.
                    Err(BackendError::Disconnected) if taken > 0 => {
                        self.untold = self.peer == Peer::Awaited;
                        break;
                    }
                    Err(_) if taken > 0 => break,
                    Err(error) => return Err(error),
                },
            }
        }
        Ok(taken)
    }

    fn is_valid(&self, frame: &TxFrame<'_>) -> bool {
        // An empty datagram would stop QEMU's receiving side.
        (MIN_FRAME..=MAX_FRAME).contains(&frame.len()) && self.agreed.allow_tx(&frame.header)
    }

    fn accepted(&mut self) {
        self.backoff.accepted();
        self.blocked = false;
        if let Route::Connected { busy, .. } = &mut self.route {
            *busy = true;
        }
    }

    /// Connects to the peer; if that fails the datagrams go on by name, and tell why.
    fn connect(&mut self, peer: &PeerAddress) {
        if sys::connect(self.socket.as_fd(), peer).is_ok() {
            self.route = Route::Connected {
                timer: Timer::Ask,
                busy: true,
            };
        }
    }

    fn send_error(&mut self, error: &io::Error) -> Result<Outcome, BackendError> {
        match error.raw_os_error() {
            Some(libc::EINTR) => Ok(Outcome::Again),
            Some(libc::EMSGSIZE) => {
                // Longer than the send buffer, or in more pieces than the system takes.
                self.stats.tx_invalid += 1;
                Ok(Outcome::DropFirst)
            }
            Some(libc::ENOBUFS) => Ok(self.waits()),
            _ if error.kind() == io::ErrorKind::WouldBlock => {
                // Only a connected socket is told when its peer has room again.
                if let (Peer::Latched(peer), Route::Named) = (self.peer, self.route) {
                    self.connect(&peer);
                    if self.route != Route::Named {
                        return Ok(Outcome::Again);
                    }
                    return Ok(self.waits());
                }
                Ok(self.blocks())
            }
            Some(
                libc::ECONNREFUSED
                | libc::ECONNRESET
                | libc::ENOENT
                | libc::ENOTCONN
                | libc::EPIPE
                | libc::EDESTADDRREQ
                | libc::ENOTSOCK
                | libc::EPROTOTYPE
                // A socket that talks to somebody else.
                | libc::EPERM,
            ) => {
                self.lose_peer();
                self.untold = false;
                Err(BackendError::Disconnected)
            }
            Some(libc::EACCES) => {
                self.lose_peer();
                self.untold = false;
                Err(BackendError::host(
                    "write to the peer's socket, which belongs to another user",
                    error,
                ))
            }
            _ => Err(BackendError::host("send a datagram", error)),
        }
    }

    /// There is no room, and no event will say when there is.
    fn waits(&mut self) -> Outcome {
        match self.backoff.refused() {
            Refused::Wait => self.blocks(),
            Refused::Drop => {
                self.stats.tx_no_buffer += 1;
                Outcome::DropFirst
            }
        }
    }

    fn blocks(&mut self) -> Outcome {
        self.blocked = true;
        self.stats.tx_blocked += 1;
        Outcome::Stop
    }
}

/// The name to send to, where one is needed.
fn continue_with(route: Route, peer: PeerAddress) -> Option<PeerAddress> {
    (route == Route::Named).then_some(peer)
}
