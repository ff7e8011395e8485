//! What a network is given by another process: one that may open files and bind paths, for one
//! that may not.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

#[cfg(target_os = "linux")]
use net_backend_socket::bess::BessListener;
use net_backend_socket::qemu_stream::QemuStreamListener;

use crate::config::PublishedPort;
use crate::error::ManagerError;
use crate::network::Network;
use crate::worker::{Attach, AttachOptions, AttachmentInfo, Command, Listener, PublishedAs};

impl Network {
    /// Attaches a listener for QEMU's `-netdev stream`; each connection is a guest.
    ///
    /// # Errors
    /// As [`Network::attach`].
    pub fn attach_qemu_stream_listener(
        &self,
        listener: QemuStreamListener,
        options: AttachOptions,
    ) -> Result<AttachmentInfo, ManagerError> {
        self.attach_any(Attach::Listener(Listener::QemuStream(listener)), options)
    }

    /// Attaches a listener for bess (`SOCK_SEQPACKET`).
    ///
    /// # Errors
    /// As [`Network::attach`].
    #[cfg(target_os = "linux")]
    pub fn attach_bess_listener(
        &self,
        listener: BessListener,
        options: AttachOptions,
    ) -> Result<AttachmentInfo, ManagerError> {
        self.attach_any(Attach::Listener(Listener::Bess(listener)), options)
    }

    /// Publishes a port whose socket [`bind_published`](crate::bind_published) has made, in a process
    /// that may bind it.
    ///
    /// # Errors
    /// As [`Network::publish`].
    pub fn publish_bound(
        &self,
        port: PublishedPort,
        socket: OwnedFd,
    ) -> Result<PublishedAs, ManagerError> {
        self.ask(|reply| Command::Publish {
            port,
            socket: Some(socket),
            reply,
        })
    }

    /// Sends the guests' questions to these resolvers from now on; the host's own are no longer
    /// followed.
    ///
    /// # Errors
    /// [`ManagerError::NotRunning`].
    pub fn set_resolvers(&self, servers: Vec<SocketAddr>) -> Result<(), ManagerError> {
        self.tell(Command::SetResolvers { servers })
    }
}
