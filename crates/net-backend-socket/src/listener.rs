//! What the connection-oriented kinds share: a bound path that accepts connections.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use net_backend::BackendError;
use socket2::{Socket, Type};

use crate::path::{BindError, BoundPath};

/// Connections that wait to be accepted; more are refused or wait at their end.
const BACKLOG: i32 = 64;

/// Bytes a socket may hold in each direction, as far as the system allows without privileges:
/// enough for a batch of frames, small enough that a guest's queue is not an ocean.
const BUFFER: usize = 1 << 20;

#[derive(Debug)]
pub(crate) struct Listener {
    // Before the path, so that nobody connects to a socket file that is about to go.
    socket: Socket,
    path: Option<BoundPath>,
}

impl Listener {
    pub(crate) fn bind(path: &Path, kind: Type) -> Result<Self, BindError> {
        let (socket, path) = BoundPath::bind(path, kind)?;
        socket.listen(BACKLOG).map_err(|source| BindError::Host {
            path: path.path().into(),
            what: "listen",
            source,
        })?;
        Ok(Self {
            socket,
            path: Some(path),
        })
    }

    /// Takes a socket that another process has bound; its path is that one's to remove.
    pub(crate) fn inherited(socket: OwnedFd, kind: Type) -> Result<Self, BackendError> {
        let socket = Socket::from(socket);
        let unix = socket.local_addr().is_ok_and(|address| address.is_unix());
        if !unix || socket.r#type().ok() != Some(kind) {
            return Err(BackendError::Unsupported(
                "the descriptor is no Unix socket of the kind that is needed",
            ));
        }
        socket
            .set_nonblocking(true)
            .and_then(|()| socket.listen(BACKLOG))
            .map_err(|error| BackendError::host("listen at an inherited socket", &error))?;
        Ok(Self { socket, path: None })
    }

    /// The next connection, prepared; `None` if there is none now.
    pub(crate) fn accept(&self) -> Result<Option<Socket>, BackendError> {
        loop {
            return match self.socket.accept() {
                Ok((socket, _)) => {
                    prepare(&socket)?;
                    Ok(Some(socket))
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => Ok(None),
                    // It was there and has gone; the next may be there.
                    io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => continue,
                    _ => Err(BackendError::host("accept a connection", &error)),
                },
            };
        }
    }

    pub(crate) fn path(&self) -> Option<&Path> {
        self.path.as_ref().map(BoundPath::path)
    }

    pub(crate) fn source(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Makes a socket non-blocking, silent and roomy.
pub(crate) fn prepare(socket: &Socket) -> Result<(), BackendError> {
    socket
        .set_nonblocking(true)
        .and_then(|()| crate::sys::quieten(socket))
        .map_err(|error| BackendError::host("prepare a socket", &error))?;
    enlarge(socket, BUFFER, BUFFER);
    Ok(())
}

/// Asks for buffers of these sizes in bytes. The system may give less; that costs speed only.
pub(crate) fn enlarge(socket: &Socket, send: usize, receive: usize) {
    for (what, result) in [
        ("send", socket.set_send_buffer_size(send)),
        ("receive", socket.set_recv_buffer_size(receive)),
    ] {
        if let Err(error) = result {
            log::debug!("the {what} buffer of a socket stays as it is: {error}");
        }
    }
}
