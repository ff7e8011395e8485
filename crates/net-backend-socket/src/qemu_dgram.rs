//! QEMU `-netdev dgram` over Unix sockets: each datagram is one frame, nothing more.
//!
//! QEMU binds a path of its own and sends to ours:
//! `-netdev dgram,id=n0,local.type=unix,local.path=VM,remote.type=unix,remote.path=OURS`. Its path
//! should be absolute: answers go to the path as QEMU wrote it. The first sender is the peer until
//! it is gone; strangers are ignored meanwhile. A QEMU that restarts is taken for the next peer.
//!
//! A datagram of 0 bytes would stop QEMU's receiving side; none is ever sent.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use net_backend::BackendError;
use socket2::{Socket, Type};

use crate::config::SocketConfig;
use crate::datagram::{DatagramPort, Kind};
use crate::delegate::datagram_backend;
use crate::listener::{enlarge, prepare};
use crate::path::{BindError, BoundPath};

/// Buffers in bytes, as far as the system allows.
const BUFFER: usize = 1 << 20;

/// A bound path, or one end of a pair, with a QEMU behind it.
#[derive(Debug)]
pub struct QemuDgram {
    port: DatagramPort,
}

impl QemuDgram {
    /// Binds `path`, which must not exist; only this user may send to it. The socket file is
    /// removed when the back end is dropped.
    ///
    /// # Errors
    /// [`BindError`] says in one line what is wrong with the path.
    pub fn bind(path: impl AsRef<Path>) -> Result<Self, BindError> {
        let (socket, path) = BoundPath::bind(path.as_ref(), Type::DGRAM)?;
        enlarge(&socket, BUFFER, BUFFER);
        Ok(Self {
            port: DatagramPort::bound(socket, Some(path), Kind::Plain),
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
        enlarge(&socket, BUFFER, BUFFER);
        Ok(Self {
            port: DatagramPort::bound(socket, None, Kind::Plain),
        })
    }

    /// Takes one end of a socket pair, whose other end QEMU has inherited
    /// (`-netdev dgram,local.type=fd`). When that is closed it is over.
    ///
    /// # Errors
    /// [`BackendError::Host`] if the host refuses the settings it needs.
    pub fn from_socket(socket: UnixDatagram) -> Result<Self, BackendError> {
        let socket = Socket::from(OwnedFd::from(socket));
        prepare(&socket)?;
        Ok(Self {
            port: DatagramPort::connected(socket, Kind::Plain),
        })
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

datagram_backend!(QemuDgram);
