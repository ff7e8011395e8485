//! Errors that say whose fault it is.

use std::io;

/// How a peer broke the protocol of its attachment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// A length prefix under [`MIN_FRAME`](crate::MIN_FRAME) or over
    /// [`MAX_FRAME`](crate::MAX_FRAME) bytes.
    #[error("a frame of {len} bytes was announced (14 to 65,550 are allowed)")]
    Length {
        /// The length the peer announced, in bytes.
        len: u32,
    },
    /// The handshake was not the one the protocol asks for.
    #[error("the handshake is not that of the protocol: {0}")]
    Handshake(&'static str),
}

/// Why an attachment cannot do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackendError {
    /// The peer is gone: the port is to be detached, or will accept a new peer if
    /// [`reattaches`](crate::NetworkBackend::reattaches) says so.
    #[error("the peer has disconnected")]
    Disconnected,
    /// The peer broke the protocol; its connection has been closed.
    #[error("the peer broke the protocol: {0}")]
    Malformed(#[from] Malformed),
    /// The host refused.
    #[error("{what}: {}{}", io::Error::from_raw_os_error(*errno), advice(*errno))]
    Host {
        /// What was attempted.
        what: &'static str,
        /// The error number of the operating system.
        errno: i32,
    },
    /// This back end cannot do that at all.
    #[error("not supported: {0}")]
    Unsupported(&'static str),
}

impl BackendError {
    /// The host's refusal of `what`. An error that carries no number counts as EIO.
    pub fn host(what: &'static str, error: &io::Error) -> Self {
        /// "Input/output error" on every Unix.
        const EIO: i32 = 5;
        Self::Host {
            what,
            errno: error.raw_os_error().unwrap_or(EIO),
        }
    }
}

/// What to do about a refusal of the host, as the end of a sentence; empty where nothing general
/// can be said.
fn advice(errno: i32) -> &'static str {
    // The same numbers on Linux, macOS and the BSDs, without a name in `io::ErrorKind`.
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    if errno == EMFILE {
        return " (raise the limit of open files: ulimit -n)";
    }
    if errno == ENFILE {
        return " (the system has no more open files: fs.file-max)";
    }
    match io::Error::from_raw_os_error(errno).kind() {
        io::ErrorKind::PermissionDenied => {
            " (run as a user who may do this, or grant the privilege)"
        }
        io::ErrorKind::AddrInUse => " (another process holds it: choose another, or stop that one)",
        io::ErrorKind::NotFound => " (create it first, or correct the name)",
        io::ErrorKind::OutOfMemory => " (the host is short of memory)",
        io::ErrorKind::StorageFull => " (the host's disk is full)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_to_do() {
        let error = BackendError::host("open a socket", &io::Error::from_raw_os_error(24));
        let text = error.to_string();
        assert!(text.starts_with("open a socket: "), "{text}");
        assert!(text.ends_with("(raise the limit of open files: ulimit -n)"));
        assert_eq!(text.lines().count(), 1);
        let plain = BackendError::host("read", &io::Error::other("no number"));
        assert!(matches!(plain, BackendError::Host { errno: 5, .. }));
    }
}
