//! One front-end's connection: its messages carried out one after the other, and its end.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use vhost::vhost_user::{BackendReqHandler, Error};

use super::messages::Message;
use super::rings::Rings;
use super::session::Session;
use super::shared::Shared;

/// A connection. Dropped, it takes with it everything that came over it.
pub struct Connection {
    shared: Arc<Shared>,
    session: Arc<Session>,
    messages: BackendReqHandler<Session>,
    /// The same socket, to look at what is next.
    socket: UnixStream,
}

impl Connection {
    pub(super) fn new(shared: Arc<Shared>, stream: UnixStream) -> io::Result<Self> {
        let socket = stream.try_clone()?;
        shared.connections.fetch_add(1, Ordering::Relaxed);
        let session = Arc::new(Session::new(Arc::clone(&shared)));
        let messages = BackendReqHandler::from_stream(stream, Arc::clone(&session));
        Ok(Self {
            shared,
            session,
            messages,
            socket,
        })
    }

    /// Waits for a message and carries it out; whether there may be another. After `false` the
    /// front-end has gone or broken the protocol.
    ///
    /// A socket that does not wait spins where a message comes in pieces.
    pub fn step(&mut self) -> bool {
        let done = match Message::peek(&self.socket) {
            Ok(Some(message)) => message.carry_out(&self.session, &self.socket),
            Ok(None) => self.messages.handle_request(),
            Err(err) => Err(err),
        };
        match done {
            Ok(()) => return true,
            Err(Error::Disconnected | Error::SocketBroken(_)) => {
                log::info!("vhost-user: the front-end has gone");
            }
            Err(err) => {
                self.shared.faults.fetch_add(1, Ordering::Relaxed);
                log::warn!("vhost-user: a front-end's connection ends: {err}");
            }
        }
        false
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // The socket outlives nothing that came over it.
        let memory = self.shared.for_protocol(Rings::disconnect);
        // Told once the device is free again: whoever hears it may transmit.
        self.shared.gone.store(true, Ordering::Release);
        self.shared.kicks.wake();
        drop(memory);
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}
