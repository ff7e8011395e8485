//! Listening sockets of published TCP ports.

use core::time::Duration;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};

use mio::Interest;
use mio::unix::SourceFd;
use slab::Slab;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::token::{Source, TokenMap};
use crate::udp::is_exhausted;

/// Connections that one port may bring before others get their turn.
const ACCEPTS_PER_TURN: usize = 32;
/// Connections that wait in the kernel; the host may set a lower bound.
const BACKLOG: i32 = 1024;
/// How long to leave a port alone when the process has no descriptor left.
const PAUSE: Duration = Duration::from_millis(100);

/// A socket that listens at `address`.
pub(crate) fn bind(address: SocketAddr) -> io::Result<OwnedFd> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_nonblocking(true)?;
    // Connections of an earlier run in TIME-WAIT are no reason to refuse the port; somebody who
    // listens still is.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // 0.0.0.0 and [::] are two different forwards.
        socket.set_only_v6(true)?;
    }
    socket.bind(&SockAddr::from(address))?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    slots: Slab<Listener>,
}

#[derive(Debug)]
struct Listener {
    socket: TcpListener,
    guest: SocketAddr,
    /// Connections may be waiting that no event will speak of: look again then.
    retry: Option<Duration>,
}

impl Listeners {
    /// Starts to take connections from a socket of [`bind`]; returns the slot and the address.
    pub(crate) fn open(
        &mut self,
        registry: &mio::Registry,
        tokens: TokenMap,
        socket: OwnedFd,
        guest: SocketAddr,
    ) -> io::Result<(usize, SocketAddr)> {
        let socket = TcpListener::from(socket);
        socket.set_nonblocking(true)?;
        let addr = socket.local_addr()?;
        let entry = self.slots.vacant_entry();
        let slot = entry.key();
        let token = tokens.token(Source::Listener(slot));
        registry.register(
            &mut SourceFd(&socket.as_raw_fd()),
            token,
            Interest::READABLE,
        )?;
        entry.insert(Listener {
            socket,
            guest,
            retry: None,
        });
        Ok((slot, addr))
    }

    /// Stops to listen. Connections that were accepted are the caller's.
    pub(crate) fn close(&mut self, slot: usize) {
        self.slots.try_remove(slot);
    }

    /// Connections of the port in `slot`, with the client's and the guest's address, as many as
    /// fit into a turn.
    pub(crate) fn accept(
        &mut self,
        slot: usize,
        now: Duration,
    ) -> Vec<(TcpStream, SocketAddr, SocketAddr)> {
        let mut accepted = Vec::new();
        let Some(listener) = self.slots.get_mut(slot) else {
            return accepted;
        };
        listener.retry = None;
        for _ in 0..ACCEPTS_PER_TURN {
            match listener.socket.accept() {
                Ok((stream, client)) => {
                    if stream.set_nonblocking(true).is_ok() {
                        accepted.push((stream, client, listener.guest));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return accepted,
                Err(error) if is_exhausted(&error) => {
                    log::warn!("published port {}: {error}", listener.guest);
                    listener.retry = Some(now.saturating_add(PAUSE));
                    return accepted;
                }
                // One connection failed before it was taken; the next may be fine.
                Err(_) => {}
            }
        }
        listener.retry = Some(Duration::ZERO);
        accepted
    }

    /// When somebody in [`Self::due`] is to be looked at again.
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        self.slots
            .iter()
            .filter_map(|(_, listener)| listener.retry)
            .min()
    }

    /// Ports to look at again now.
    pub(crate) fn due(&self, now: Duration) -> Vec<usize> {
        let due = |listener: &Listener| listener.retry.is_some_and(|retry| retry <= now);
        self.slots
            .iter()
            .filter(|(_, listener)| due(listener))
            .map(|(slot, _)| slot)
            .collect()
    }
}
