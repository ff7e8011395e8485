//! Socket paths: bound with mode 0600, never over something that exists, removed by their owner.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

/// Longest path of a Unix socket, in bytes: `sun_path` less its final zero.
pub const MAX_PATH_LEN: usize =
    size_of::<libc::sockaddr_un>() - std::mem::offset_of!(libc::sockaddr_un, sun_path) - 1;

/// What stands where a socket was to be bound.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Occupant {
    /// A socket with a process behind it.
    Live,
    /// A socket that a process left behind when it died.
    Stale,
    /// Something that is not a socket.
    NotASocket,
}

impl std::fmt::Display for Occupant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Live => "another process serves it",
            Self::Stale => "it was left behind by a process that is gone; remove it first",
            Self::NotASocket => "it is not a socket",
        })
    }
}

/// What [`remove_stale`] found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Leftover {
    /// A socket without a process, which is gone now.
    Removed,
    /// A socket with a process behind it, which stays.
    Served,
    /// Nothing, or something that is not a socket.
    Other,
}

/// Why a socket path cannot be served or reached. Each message is one line that names the path.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// The path does not fit into a socket address.
    #[error("socket path {path:?} is too long: {len} bytes, at most {MAX_PATH_LEN}")]
    TooLong {
        /// The path asked for.
        path: PathBuf,
        /// Its length in bytes.
        len: usize,
    },
    /// The path is empty or contains a zero byte.
    #[error("socket path {path:?} is not a path: it is empty or contains a zero byte")]
    NotAPath {
        /// The path asked for.
        path: PathBuf,
    },
    /// Something is there already.
    #[error("socket path {path:?} exists: {occupant}")]
    Exists {
        /// The path asked for.
        path: PathBuf,
        /// What is there.
        occupant: Occupant,
    },
    /// The operating system has no sockets of this kind.
    #[error("socket path {path:?}: this system has no {kind} Unix sockets")]
    Unsupported {
        /// The path asked for.
        path: PathBuf,
        /// The kind of socket.
        kind: &'static str,
    },
    /// The host refused.
    #[error("socket path {path:?}: cannot {what}: {source}")]
    Host {
        /// The path asked for.
        path: PathBuf,
        /// What was attempted.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// A bound path. Dropping it removes the socket file, if it is still the one that was bound.
///
/// The back ends keep theirs. This is for a process that binds for another one: the socket goes to
/// that one (`QemuStreamListener::from_socket`, `QemuDgram::from_bound` and so on), the path stays.
#[derive(Debug)]
pub struct BoundPath {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl BoundPath {
    /// Binds `path`, which must not exist, for a stream listener; only this user may connect.
    ///
    /// # Errors
    /// [`BindError`] says in one line what is wrong with the path.
    pub fn stream(path: impl AsRef<Path>) -> Result<(OwnedFd, Self), BindError> {
        let (socket, path) = Self::bind(path.as_ref(), Type::STREAM)?;
        Ok((socket.into(), path))
    }

    /// As [`BoundPath::stream`], for a listener of sequenced packets.
    ///
    /// # Errors
    /// As [`BoundPath::stream`].
    pub fn sequenced(path: impl AsRef<Path>) -> Result<(OwnedFd, Self), BindError> {
        let (socket, path) = Self::bind(path.as_ref(), Type::SEQPACKET)?;
        Ok((socket.into(), path))
    }

    /// As [`BoundPath::stream`], for datagrams.
    ///
    /// # Errors
    /// As [`BoundPath::stream`].
    pub fn datagram(path: impl AsRef<Path>) -> Result<(OwnedFd, Self), BindError> {
        let (socket, path) = Self::bind(path.as_ref(), Type::DGRAM)?;
        Ok((socket.into(), path))
    }

    /// Makes a non-blocking socket of `kind` and binds it to `path`, for this user alone.
    pub(crate) fn bind(path: &Path, kind: Type) -> Result<(Socket, Self), BindError> {
        let address = address(path)?;
        let socket = socket(path, kind)?;
        restrict(&socket);
        socket.bind(&address).map_err(|source| {
            if source.kind() == io::ErrorKind::AddrInUse {
                return BindError::Exists {
                    path: path.into(),
                    occupant: occupant(path, &address),
                };
            }
            host(path, "bind", source)
        })?;
        let bound = match fs::symlink_metadata(path) {
            Ok(found) => Self {
                path: path.into(),
                device: found.dev(),
                inode: found.ino(),
            },
            Err(source) => return Err(host(path, "look at the bound socket", source)),
        };
        // Where the mode could not be set beforehand. Before a stream socket listens nobody can
        // connect; a datagram that slips in comes from the same user or is a stranger's.
        fs::set_permissions(path, Permissions::from_mode(0o600))
            .map_err(|source| host(path, "restrict to its owner", source))?;
        Ok((socket, bound))
    }

    /// Where it is bound.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for BoundPath {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|found| found.dev() == self.device && found.ino() == self.inode);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            log::warn!("cannot remove the socket {:?}: {error}", self.path);
        }
    }
}

/// Removes the socket that a process has left at `path` when it died, and nothing else.
///
/// # Errors
/// [`BindError`] for what is no socket path, or as the host refuses.
pub fn remove_stale(path: &Path) -> Result<Leftover, BindError> {
    let address = address(path)?;
    Ok(match occupant(path, &address) {
        Occupant::Live => Leftover::Served,
        Occupant::NotASocket => Leftover::Other,
        Occupant::Stale => {
            fs::remove_file(path).map_err(|source| host(path, "remove", source))?;
            Leftover::Removed
        }
    })
}

/// Makes a non-blocking socket of `kind` and connects it to `path`.
pub(crate) fn connect(path: &Path, kind: Type) -> Result<Socket, BindError> {
    let address = address(path)?;
    let socket = socket(path, kind)?;
    socket
        .connect(&address)
        .map_err(|source| host(path, "connect", source))?;
    Ok(socket)
}

fn socket(path: &Path, kind: Type) -> Result<Socket, BindError> {
    let made = Socket::new(Domain::UNIX, kind, None).and_then(|socket| {
        socket.set_nonblocking(true)?;
        Ok(socket)
    });
    made.map_err(|source| match source.raw_os_error() {
        Some(libc::EPROTONOSUPPORT | libc::ESOCKTNOSUPPORT | libc::EPROTOTYPE) => {
            BindError::Unsupported {
                path: path.into(),
                kind: if kind == Type::SEQPACKET {
                    "sequenced-packet"
                } else {
                    "such"
                },
            }
        }
        _ => host(path, "make a socket", source),
    })
}

/// Checks `path` and makes an address of it.
fn address(path: &Path) -> Result<SockAddr, BindError> {
    let bytes = path.as_os_str().as_bytes();
    if bytes.is_empty() || bytes.contains(&0) {
        return Err(BindError::NotAPath { path: path.into() });
    }
    if bytes.len() > MAX_PATH_LEN {
        return Err(BindError::TooLong {
            path: path.into(),
            len: bytes.len(),
        });
    }
    SockAddr::unix(path).map_err(|source| host(path, "make an address", source))
}

/// Sets the mode of the socket itself, which Linux gives to the file that `bind` makes; so there
/// is no moment at which others can connect. Elsewhere this does nothing or fails, and the mode is
/// set after binding.
fn restrict(socket: &Socket) {
    if let Ok(copy) = socket.try_clone() {
        let _ = File::from(OwnedFd::from(copy)).set_permissions(Permissions::from_mode(0o600));
    }
}

/// Finds out what occupies a path, by connecting to it.
fn occupant(path: &Path, address: &SockAddr) -> Occupant {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    if !is_socket {
        return Occupant::NotASocket;
    }
    // A datagram socket: connecting one leaves no trace, and to a live socket of another type it
    // is refused because of the type.
    let Ok(probe) = Socket::new(Domain::UNIX, Type::DGRAM, None) else {
        return Occupant::Live;
    };
    match probe.connect(address) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Occupant::Stale,
        _ => Occupant::Live,
    }
}

fn host(path: &Path, what: &'static str, source: io::Error) -> BindError {
    BindError::Host {
        path: path.into(),
        what,
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::{UnixDatagram, UnixListener};

    fn bind(path: &Path) -> Result<(Socket, BoundPath), BindError> {
        BoundPath::bind(path, Type::STREAM)
    }

    fn one_line(error: &BindError, path: &Path, says: &str) {
        let text = error.to_string();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains(&format!("{path:?}")), "{text}");
        assert!(text.contains(says), "{text}");
    }

    #[test]
    fn the_longest_path_is_bound_and_the_next_refused() {
        let dir = tempfile::tempdir().unwrap();
        let room = MAX_PATH_LEN - dir.path().as_os_str().len() - 1;
        let longest = dir.path().join("p".repeat(room));
        assert_eq!(longest.as_os_str().len(), MAX_PATH_LEN);
        bind(&longest).unwrap();
        let longer = dir.path().join("p".repeat(room + 1));
        let error = bind(&longer).unwrap_err();
        one_line(
            &error,
            &longer,
            &format!("too long: {} bytes", MAX_PATH_LEN + 1),
        );
        assert!(matches!(
            bind(Path::new("")),
            Err(BindError::NotAPath { .. })
        ));
        assert!(matches!(
            bind(Path::new("a\0b")),
            Err(BindError::NotAPath { .. })
        ));
    }

    #[test]
    fn nothing_that_exists_is_bound_over_and_only_what_nobody_serves_removed() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let _live = UnixListener::bind(at("live")).unwrap();
        let _gram = UnixDatagram::bind(at("gram")).unwrap();
        drop(UnixListener::bind(at("stale")).unwrap());
        drop(UnixDatagram::bind(at("stale-gram")).unwrap());
        fs::write(at("file"), b"mine").unwrap();
        std::os::unix::fs::symlink(at("nowhere"), at("link")).unwrap();
        for (name, expected, says) in [
            ("live", Occupant::Live, "another process serves it"),
            ("gram", Occupant::Live, "another process serves it"),
            ("stale", Occupant::Stale, "left behind"),
            ("stale-gram", Occupant::Stale, "left behind"),
            ("file", Occupant::NotASocket, "not a socket"),
            ("link", Occupant::NotASocket, "not a socket"),
        ] {
            let error = bind(&at(name)).unwrap_err();
            one_line(&error, &at(name), says);
            assert!(
                matches!(&error, BindError::Exists { occupant, .. } if *occupant == expected),
                "{name}: {error}"
            );
            assert!(fs::symlink_metadata(at(name)).is_ok(), "{name} was removed");
            let left = remove_stale(&at(name)).unwrap();
            let (found, gone) = match expected {
                Occupant::Live => (Leftover::Served, false),
                Occupant::Stale => (Leftover::Removed, true),
                Occupant::NotASocket => (Leftover::Other, false),
            };
            assert_eq!(left, found, "{name}");
            assert_eq!(fs::symlink_metadata(at(name)).is_err(), gone, "{name}");
        }
        assert_eq!(remove_stale(&at("nobody")).unwrap(), Leftover::Other);
    }

    #[test]
    fn only_the_owner_may_connect_and_only_the_owner_removes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let (_socket, bound) = bind(&path).unwrap();
        let mode = fs::symlink_metadata(&path).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600);
        drop(bound);
        assert!(!path.exists(), "left behind");

        let (_socket, bound) = bind(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let _other = UnixListener::bind(&path).unwrap();
        drop(bound);
        assert!(path.exists(), "removed somebody else's socket");
    }

    #[test]
    fn a_missing_directory_is_named() {
        let path = Path::new("/nonexistent-directory/socket");
        one_line(&bind(path).unwrap_err(), path, "cannot bind");
    }
}
