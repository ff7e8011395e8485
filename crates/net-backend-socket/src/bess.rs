//! The bess protocol of User-Mode Linux (`transport=bess`): a sequenced-packet Unix socket whose
//! messages are raw frames.
//!
//! The guest connects to [`BessListener`]; each connection is a [`Bess`] of its own. macOS has no
//! such sockets: there binding says [`BindError::Unsupported`].

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use net_backend::BackendError;
use socket2::{Socket, Type};

use crate::config::SocketConfig;
use crate::datagram::{DatagramPort, Kind};
use crate::delegate::datagram_backend;
use crate::listener::{Listener, prepare};
use crate::path::BindError;

/// A path that guests connect to.
#[derive(Debug)]
pub struct BessListener {
    listener: Listener,
    config: SocketConfig,
}

impl BessListener {
    /// Listens at `path`, which must not exist; only this user may connect. The socket file is
    /// removed when the listener is dropped.
    ///
    /// # Errors
    /// [`BindError`] says in one line what is wrong with the path.
    pub fn bind(path: impl AsRef<Path>) -> Result<Self, BindError> {
        Ok(Self {
            listener: Listener::bind(path.as_ref(), Type::SEQPACKET)?,
            config: SocketConfig::default(),
        })
    }

    /// Listens at a bound socket that another process handed over. That process keeps the path, and
    /// removes it.
    ///
    /// # Errors
    /// [`BackendError::Unsupported`] for another kind of socket; [`BackendError::Host`] if the host
    /// refuses to listen.
    pub fn from_socket(socket: OwnedFd) -> Result<Self, BackendError> {
        Ok(Self {
            listener: Listener::inherited(socket, Type::SEQPACKET)?,
            config: SocketConfig::default(),
        })
    }

    /// The configuration of the connections accepted from now on.
    #[must_use]
    pub fn with_config(mut self, config: SocketConfig) -> Self {
        self.config = config;
        self
    }

    /// The next connection; `None` if there is none now.
    ///
    /// # Errors
    /// [`BackendError::Host`], when the limit of open files is reached for example. The
    /// connection stays in the queue and the source stays readable: stop listening for a while.
    pub fn accept(&self) -> Result<Option<Bess>, BackendError> {
        let accepted = self.listener.accept()?;
        Ok(accepted.map(|socket| Bess::new(socket).with_config(self.config)))
    }

    /// Where it listens; `None` for a socket that was bound elsewhere.
    pub fn path(&self) -> Option<&Path> {
        self.listener.path()
    }

    /// Readable when a connection waits to be accepted.
    pub fn source(&self) -> BorrowedFd<'_> {
        self.listener.source()
    }
}

/// One connection.
#[derive(Debug)]
pub struct Bess {
    port: DatagramPort,
}

impl Bess {
    fn new(socket: Socket) -> Self {
        Self {
            port: DatagramPort::connected(socket, Kind::Sequenced),
        }
    }

    /// Takes a connected sequenced-packet socket, one end of a socket pair for example.
    ///
    /// # Errors
    /// [`BackendError::Host`] if the host refuses the settings it needs.
    pub fn from_socket(socket: OwnedFd) -> Result<Self, BackendError> {
        let socket = Socket::from(socket);
        prepare(&socket)?;
        Ok(Self::new(socket))
    }

    /// Sets what cannot be learned from the socket; before the first frame.
    #[must_use]
    pub fn with_config(mut self, config: SocketConfig) -> Self {
        self.port.set_config(config);
        self
    }
}

datagram_backend!(Bess);
