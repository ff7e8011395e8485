//! The datagram socket of vfkit, libkrun and Apple's Virtualization.framework.
//!
//! The VMM binds a path of its own and connects to ours. vfkit greets with the 4 bytes `VFKT`,
//! which are consumed; others begin with a frame. From then on that VMM is the peer and strangers
//! are ignored, until it is gone; a VMM that restarts, on its old path or on a new one, is taken
//! for the next peer.
//!
//! Virtualization.framework takes one end of a socket pair as its file handle
//! (`VZFileHandleNetworkDeviceAttachment`): [`Unixgram::from_socket`] is the other.
//!
//! libkrun strips the `virtio_net_hdr` from what its guest sends. Where the guest negotiated
//! offloads, say so in [`SocketConfig::declares`].

use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use net_backend::BackendError;
use socket2::{Socket, Type};

use crate::config::SocketConfig;
use crate::datagram::{DatagramPort, Kind};
use crate::delegate::datagram_backend;
use crate::listener::{enlarge, prepare};
use crate::path::{BindError, BoundPath};
use crate::sys;

/// On macOS the send buffer is also the longest datagram; the sizes are those of Apple's
/// documentation of the file-handle attachment, receive at least twice and better four times send.
const SEND_BUFFER: usize = 1 << 20;
const RECEIVE_BUFFER: usize = 4 << 20;

/// A bound path, or one end of a pair, with a VMM behind it.
#[derive(Debug)]
pub struct Unixgram {
    port: DatagramPort,
}

impl Unixgram {
    /// Binds `path`, which must not exist; only this user may connect to it. The socket file is
    /// removed when the back end is dropped.
    ///
    /// # Errors
    /// [`BindError`] says in one line what is wrong with the path.
    pub fn bind(path: impl AsRef<Path>) -> Result<Self, BindError> {
        let (socket, path) = BoundPath::bind(path.as_ref(), Type::DGRAM)?;
        enlarge(&socket, SEND_BUFFER, RECEIVE_BUFFER);
        Ok(Self {
            port: DatagramPort::bound(socket, Some(path), Kind::Magic),
        })
    }

    /// Takes a bound socket that another process handed over, and waits for its first peer there.
    /// That process keeps the path, and removes it.
    ///
    /// # Errors
    /// [`BackendError::Host`] if the host refuses the settings it needs.
    pub fn from_bound(socket: UnixDatagram) -> Result<Self, BackendError> {
        let socket = Socket::from(OwnedFd::from(socket));
        prepare(&socket)?;
        enlarge(&socket, SEND_BUFFER, RECEIVE_BUFFER);
        Ok(Self {
            port: DatagramPort::bound(socket, None, Kind::Magic),
        })
    }

    /// Takes one end of a socket pair, whose other end the VMM holds. When that is closed it is
    /// over.
    ///
    /// # Errors
    /// [`BackendError::Host`] if the host refuses the settings it needs.
    pub fn from_socket(socket: UnixDatagram) -> Result<Self, BackendError> {
        let socket = Socket::from(OwnedFd::from(socket));
        prepare(&socket)?;
        enlarge(&socket, SEND_BUFFER, RECEIVE_BUFFER);
        Ok(Self {
            port: DatagramPort::connected(socket, Kind::Magic),
        })
    }

    /// Takes one end of a socket pair that this process has inherited under the number `fd`: whoever
    /// runs a machine by Virtualization.framework makes the pair, gives one end to it as its file
    /// handle, and starts this program with the other. The inherited descriptor itself stays open.
    ///
    /// # Errors
    /// [`BackendError::Host`] if there is no such descriptor; [`BackendError::Unsupported`] if it is
    /// no datagram socket of the Unix domain.
    pub fn from_inherited(fd: RawFd) -> Result<Self, BackendError> {
        let copy = sys::duplicate(fd)
            .map_err(|error| BackendError::host("take an inherited descriptor", &error))?;
        let socket = Socket::from(copy);
        let unix = socket.local_addr().is_ok_and(|address| address.is_unix());
        if !unix || socket.r#type().ok() != Some(Type::DGRAM) {
            return Err(BackendError::Unsupported(
                "the inherited descriptor is no Unix datagram socket",
            ));
        }
        Self::from_socket(UnixDatagram::from(OwnedFd::from(socket)))
    }

    /// Sets what cannot be learned from the socket; before the first frame.
    #[must_use]
    pub fn with_config(mut self, config: SocketConfig) -> Self {
        self.port.set_config(config);
        self
    }

    /// Where it is bound; `None` for one end of a pair.
    pub fn path(&self) -> Option<&Path> {
        self.port.path()
    }
}

datagram_backend!(Unixgram);
