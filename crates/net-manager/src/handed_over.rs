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

    /// Attaches a virtio-net device with this many pairs of queues, whose VMM connects to `listener`
    /// and speaks vhost-user.
    ///
    /// # Errors
    /// As [`Network::attach`]; [`ManagerError::Backend`] also where the host has no descriptor or no
    /// thread for it.
    #[cfg(target_os = "linux")]
    pub fn attach_vhost_user_listener(
        &self,
        listener: std::os::unix::net::UnixListener,
        pairs: u16,
        options: AttachOptions,
    ) -> Result<AttachmentInfo, ManagerError> {
        let mut port = self.vhost_user_port(pairs, &options)?;
        port.listen(listener.into()).map_err(unserved)?;
        self.attach(Box::new(port), options)
    }

    /// Attaches a virtio-net device with this many pairs of queues, whose VMM speaks vhost-user on
    /// the connections that `next` gives: one after the other, and none after `None`. It is called on
    /// a thread of the device's own, and may wait there.
    ///
    /// # Errors
    /// As [`Network::attach_vhost_user_listener`].
    #[cfg(target_os = "linux")]
    pub fn attach_vhost_user_connections(
        &self,
        next: impl FnMut() -> Option<std::os::unix::net::UnixStream> + Send + 'static,
        pairs: u16,
        options: AttachOptions,
    ) -> Result<AttachmentInfo, ManagerError> {
        let mut port = self.vhost_user_port(pairs, &options)?;
        port.serve_connections(next).map_err(unserved)?;
        self.attach(Box::new(port), options)
    }

    /// A device that nobody can reach yet.
    #[cfg(target_os = "linux")]
    fn vhost_user_port(
        &self,
        pairs: u16,
        options: &AttachOptions,
    ) -> Result<net_virtio::vhost_user::VhostUserPort, ManagerError> {
        use net_backend::NetworkBackend;

        let mut device = net_virtio::DeviceConfig::default()
            .with_mtu(self.config().mtu)
            .with_pairs(pairs);
        if let Some(mac) = options.mac {
            device = device.with_mac(net_wire::MacAddr(mac));
        }
        let mut port = net_virtio::vhost_user::VhostUserPort::new(device).map_err(unserved)?;
        // The worker will ask for the same; a VMM must not have come before that.
        let offloads = port.capabilities().offloads;
        port.set_offloads(offloads)?;
        Ok(port)
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

/// What the host had no descriptor or no thread for.
#[cfg(target_os = "linux")]
fn unserved(err: std::io::Error) -> net_backend::BackendError {
    net_backend::BackendError::host("serve vhost-user", &err)
}
