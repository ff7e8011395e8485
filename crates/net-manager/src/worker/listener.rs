//! Sockets on which virtual machines arrive: each connection becomes a port of its own.

use std::os::fd::BorrowedFd;

use net_backend::{BackendError, NetworkBackend};
#[cfg(target_os = "linux")]
use net_backend_socket::bess::BessListener;
use net_backend_socket::qemu_stream::QemuStreamListener;

/// Number of a listener of this network.
pub(super) type ListenerId = usize;

/// A listening socket of one of the connection-oriented attachment kinds.
#[derive(Debug)]
pub(crate) enum Listener {
    /// QEMU's `-netdev stream`.
    QemuStream(QemuStreamListener),
    /// bess: `SOCK_SEQPACKET`, which macOS lacks for Unix sockets.
    #[cfg(target_os = "linux")]
    Bess(BessListener),
}

impl Listener {
    /// The next connection, if one waits.
    pub(super) fn accept(&self) -> Result<Option<Box<dyn NetworkBackend>>, BackendError> {
        fn boxed<B: NetworkBackend + 'static>(backend: B) -> Box<dyn NetworkBackend> {
            Box::new(backend)
        }
        Ok(match self {
            Self::QemuStream(listener) => listener.accept()?.map(boxed),
            #[cfg(target_os = "linux")]
            Self::Bess(listener) => listener.accept()?.map(boxed),
        })
    }

    /// Readable when a connection waits.
    pub(super) fn source(&self) -> BorrowedFd<'_> {
        match self {
            Self::QemuStream(listener) => listener.source(),
            #[cfg(target_os = "linux")]
            Self::Bess(listener) => listener.source(),
        }
    }
}
