//! The port: a back end that lasts while front-ends come and go.

use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use net_backend::{
    BackendError, BackendStats, Capabilities, NetworkBackend, Offloads, Presence, TxFrame,
};
use net_datapath::ZeroCopyPacket;

use super::server::{Server, VhostUserListener};
use super::shared::Shared;
use crate::config::DeviceConfig;

/// What happened on a port besides frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct VhostUserStats {
    /// Connections of front-ends.
    pub connections: u64,
    /// Those that ended because of what the front-end sent.
    pub faults: u64,
    /// Interrupts that could not be delivered.
    pub call_failures: u64,
}

/// A virtio-net device whose driver is reached over vhost-user.
///
/// It is there before the first front-end comes and after the last has gone; frames for it are
/// meanwhile dropped and counted. Agree on offloads before a front-end can connect: it asks for
/// features first, and keeps them as long as it stays.
///
/// None of the methods of [`NetworkBackend`] waits for a front-end: while a message is carried out
/// there is nothing to receive and no room to transmit, and [`source`](NetworkBackend::source)
/// becomes readable when it has been.
pub struct VhostUserPort {
    shared: Arc<Shared>,
    capabilities: Capabilities,
    /// A frame found no room, and nothing has gone since.
    blocked: bool,
    /// The caller asks by itself.
    polling: bool,
    server: Option<Server>,
}

impl VhostUserPort {
    /// A port that nobody can reach yet.
    ///
    /// # Errors
    /// Of the host, for want of descriptors.
    pub fn new(config: DeviceConfig) -> io::Result<Self> {
        let shared = Arc::new(Shared::new(config)?);
        let capabilities = shared.for_owner().device().capabilities();
        Ok(Self {
            shared,
            capabilities,
            blocked: false,
            polling: false,
            server: None,
        })
    }

    /// Serves the front-ends that connect to a socket, one after the other; instead of what was
    /// served before.
    ///
    /// # Errors
    /// Of the host, for want of a thread or a descriptor.
    pub fn listen(&mut self, listener: VhostUserListener) -> io::Result<()> {
        self.server = None;
        self.server = Some(Server::listen(Arc::clone(&self.shared), listener)?);
        Ok(())
    }

    /// Connects to a front-end that listens at `path` (QEMU's `server=on`), and again whenever it
    /// has gone or is not there, ten times a second at first and once a second later; instead of
    /// what was served before.
    ///
    /// # Errors
    /// As [`Self::listen`].
    pub fn connect(&mut self, path: impl Into<PathBuf>) -> io::Result<()> {
        self.server = None;
        self.server = Some(Server::connect(Arc::clone(&self.shared), path.into())?);
        Ok(())
    }

    /// Serves the connections that `next` gives, one after the other, and none after `None`; instead
    /// of what was served before. For a process that may not connect by itself.
    ///
    /// `next` is called on the port's thread, and may wait there. A port that is dropped meanwhile
    /// does not wait for it.
    ///
    /// # Errors
    /// As [`Self::listen`].
    pub fn serve_connections(
        &mut self,
        next: impl FnMut() -> Option<UnixStream> + Send + 'static,
    ) -> io::Result<()> {
        self.server = None;
        self.server = Some(Server::connections(Arc::clone(&self.shared), next)?);
        Ok(())
    }

    /// A front-end's connection whose messages the caller carries out, one at a time on its own
    /// thread: for tests and fuzzing. One at a time, and none of those that the port serves itself.
    ///
    /// # Errors
    /// Of the host, for want of a descriptor.
    #[cfg(feature = "driver")]
    pub fn connection(&self, stream: UnixStream) -> io::Result<super::Connection> {
        super::Connection::new(Arc::clone(&self.shared), stream)
    }

    /// Counters of connections and interrupts.
    pub fn vhost_user_stats(&self) -> VhostUserStats {
        VhostUserStats {
            connections: self.shared.connections.load(Ordering::Relaxed),
            faults: self.shared.faults.load(Ordering::Relaxed),
            call_failures: self.shared.call_failures.load(Ordering::Relaxed),
        }
    }
}

impl NetworkBackend for VhostUserPort {
    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    /// As [`VirtioNet`](crate::VirtioNet) has it; for front-ends that have not connected yet.
    fn set_offloads(&mut self, want: Offloads) -> Result<Offloads, BackendError> {
        self.shared.for_owner().device().set_offloads(want)
    }

    fn receive(
        &mut self,
        budget: usize,
        sink: &mut dyn FnMut(&mut [ZeroCopyPacket<'_>]),
    ) -> Result<usize, BackendError> {
        if budget == 0 {
            return Ok(0);
        }
        // Looked at first: a swap has the line to itself, which costs whoever polls.
        let gone = &self.shared.gone;
        if gone.load(Ordering::Relaxed) && gone.swap(false, Ordering::Acquire) {
            self.blocked = false;
            return Err(BackendError::Disconnected);
        }
        match self.shared.for_worker() {
            Some(mut rings) => {
                let device = rings.device();
                device.set_polling(self.polling);
                device.receive(budget, sink)
            }
            None => Ok(0),
        }
    }

    fn transmit(&mut self, frames: &[TxFrame<'_>]) -> Result<usize, BackendError> {
        let taken = match self.shared.for_worker() {
            Some(mut rings) => {
                let device = rings.device();
                device.set_polling(self.polling);
                device.transmit(frames)?
            }
            None => 0,
        };
        self.blocked = taken < frames.len();
        Ok(taken)
    }

    fn flush(&mut self) -> Result<bool, BackendError> {
        self.blocked = false;
        Ok(true)
    }

    fn wants_write(&self) -> bool {
        self.blocked
    }

    fn source(&self) -> Option<BorrowedFd<'_>> {
        Some(self.shared.kicks.source())
    }

    fn shares_memory(&self) -> bool {
        true
    }

    /// Takes effect at the next frame or look. Where a message is carried out just then nothing is asked
    /// of the driver, but the worker is woken afterwards, and looks.
    fn set_polling(&mut self, polling: bool) -> bool {
        self.polling = polling;
        self.shared.driven.load(Ordering::Relaxed)
    }

    fn next_deadline(&self) -> Option<Duration> {
        None
    }

    fn on_deadline(&mut self, _now: Duration) {}

    fn statistics(&self) -> BackendStats {
        self.shared.for_owner().device().statistics()
    }

    fn presence(&self) -> Presence {
        self.shared.presence()
    }

    fn reattaches(&self) -> bool {
        true
    }
}

impl std::fmt::Debug for VhostUserPort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VhostUserPort")
            .field("capabilities", &self.capabilities)
            .field("stats", &self.vhost_user_stats())
            .finish_non_exhaustive()
    }
}
