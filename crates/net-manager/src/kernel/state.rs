//! Where networks keep what they must remember over their own death.
//!
//! ```text
//! /run/arcbox-net/
//!   .lock            held while settings that all networks share are changed
//!   NAME/            one network
//!     lock           held as long as the network's process lives; has its number
//!     journal        what has been made in the kernel
//!     journal.new    the one that takes its place, until that is complete
//!     control        the socket of the program `arcbox-net`
//!     sockets        its list of the sockets that guests connect to
//! ```
//!
//! The lock is the kernel's (`flock(2)`) and ends with the process that holds it, however that
//! ends: a journal whose lock is free is that of a dead network.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::names;
use crate::config::NetworkConfig;
use crate::error::ManagerError;

/// The file in a network's directory that its process has locked.
const LOCK: &str = "lock";
/// The file in which it writes down what it makes.
const JOURNAL: &str = "journal";
/// The file that becomes the journal once it is complete; one that a killed process was writing is
/// left over, and of no use.
pub(super) const JOURNAL_NEW: &str = "journal.new";
/// How long what a dead process has begun may take to end, and how often that is looked at.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(2);
/// The lock over what all networks share.
const SHARED_LOCK: &str = ".lock";

/// The directory of all networks.
#[derive(Debug, Clone)]
pub struct StateDir {
    root: PathBuf,
}

/// A network's directory, held until this is dropped.
#[derive(Debug)]
pub struct Held {
    directory: PathBuf,
    lock: Arc<OwnedFd>,
}

/// What is shared by all networks, held until this is dropped.
#[derive(Debug)]
pub(super) struct SharedLock {
    _lock: File,
}

impl StateDir {
    /// The directory at `root`, which is made when it is first needed.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The directory that `config` names, or the usual one of this user: `/run/arcbox-net` for
    /// root, `$XDG_RUNTIME_DIR/arcbox-net` for everybody else.
    ///
    /// # Errors
    /// [`ManagerError::NoStateDir`] for a user without a directory for such files.
    pub fn for_network(config: &NetworkConfig) -> Result<Self, ManagerError> {
        match &config.state_dir {
            Some(root) => Ok(Self::new(root)),
            None => Self::usual(),
        }
    }

    /// The usual directory of this user.
    ///
    /// # Errors
    /// As [`StateDir::for_network`].
    pub fn usual() -> Result<Self, ManagerError> {
        if rustix::process::geteuid().is_root() {
            return Ok(Self::new("/run/arcbox-net"));
        }
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").filter(|path| !path.is_empty());
        let runtime = runtime.ok_or(ManagerError::NoStateDir)?;
        Ok(Self::new(Path::new(&runtime).join("arcbox-net")))
    }

    /// Where the network `name` keeps its files.
    pub fn network(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The networks that have a directory, dead or alive, in alphabetical order.
    ///
    /// # Errors
    /// [`ManagerError::State`] where the directory cannot be read; one that is not there is empty.
    pub fn networks(&self) -> Result<Vec<String>, ManagerError> {
        let entries = match fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(err) if err.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(err) => return Err(state_error(&self.root)(err)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(state_error(&self.root))?;
            let name = entry.file_name().into_string().ok();
            names.extend(name.filter(|name| names::check_network(name).is_ok()));
        }
        names.sort();
        Ok(names)
    }

    /// Takes a network's directory.
    ///
    /// # Errors
    /// [`ManagerError::InUse`] with the number of the process that has it.
    pub fn hold(&self, name: &str) -> Result<Held, ManagerError> {
        names::check_network(name)?;
        let directory = self.network(name);
        let path = directory.join(LOCK);
        let patience = Instant::now() + PATIENCE;
        loop {
            make_directory(&self.root)?;
            make_directory(&directory)?;
            let opened = open_lock(&path);
            let mut lock = match opened {
                // The last owner has just taken its directory away.
                Err(err) if err.kind() == ErrorKind::NotFound => continue,
                opened => opened.map_err(state_error(&path))?,
            };
            match lock.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    let mut pid = String::new();
                    // Whoever has just locked it may not have written its number yet.
                    let _ = lock.read_to_string(&mut pid);
                    let pid = pid.trim().parse().ok();
                    if pid.is_some_and(is_dead) && Instant::now() < patience {
                        std::thread::sleep(PAUSE);
                        continue;
                    }
                    return Err(ManagerError::InUse {
                        network: name.to_owned(),
                        pid,
                    });
                }
                Err(TryLockError::Error(err)) => return Err(state_error(&path)(err)),
            }
            if !is_at(&lock, &path) {
                // Locked, but no longer the file that others will find here.
                continue;
            }
            lock.rewind()
                .and_then(|()| lock.set_len(0))
                .and_then(|()| writeln!(lock, "{}", std::process::id()))
                .map_err(state_error(&path))?;
            return Ok(Held {
                directory,
                lock: Arc::new(lock.into()),
            });
        }
    }

    /// Waits for what all networks share.
    pub(super) fn lock_shared(&self) -> Result<SharedLock, ManagerError> {
        let path = self.root.join(SHARED_LOCK);
        make_directory(&self.root)?;
        let lock = open_lock(&path).map_err(state_error(&path))?;
        lock.lock().map_err(state_error(&path))?;
        Ok(SharedLock { _lock: lock })
    }

    /// The journal of a network, whoever holds it.
    pub(super) fn journal(&self, name: &str) -> PathBuf {
        self.network(name).join(JOURNAL)
    }
}

impl Held {
    /// The lock, for what works on the network's behalf and may outlive this process.
    pub(super) fn lock(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.lock)
    }

    /// Where the journal is.
    pub(super) fn journal(&self) -> PathBuf {
        self.directory.join(JOURNAL)
    }

    /// Takes the directory away, if it holds nothing but our own files.
    pub fn remove(self) {
        // What cannot be removed now is removed by whoever starts next; nothing depends on it.
        for file in [JOURNAL, JOURNAL_NEW] {
            let _ = fs::remove_file(self.directory.join(file));
        }
        let _ = fs::remove_file(self.directory.join(LOCK));
        let _ = fs::remove_dir(&self.directory);
    }
}

/// For `map_err`: a file of the state directory could not be used.
pub(super) fn state_error(path: &Path) -> impl FnOnce(io::Error) -> ManagerError {
    let path = path.to_owned();
    move |source| ManagerError::State { path, source }
}

/// Whether a process has ended; one that is only waiting to be waited for has.
fn is_dead(pid: u32) -> bool {
    let Ok(text) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return true;
    };
    // The name, in parentheses, may have anything in it.
    let after_name = text.rsplit_once(')').map(|(_, rest)| rest.trim_start());
    after_name.is_some_and(|rest| rest.starts_with(['Z', 'X']))
}

fn make_directory(path: &Path) -> Result<(), ManagerError> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(err) if err.kind() != ErrorKind::AlreadyExists => Err(state_error(path)(err)),
        _ => Ok(()),
    }
}

fn open_lock(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}

/// Whether `path` is still the file that was opened.
fn is_at(file: &File, path: &Path) -> bool {
    let identity = |data: fs::Metadata| (data.dev(), data.ino());
    match (file.metadata(), fs::metadata(path)) {
        (Ok(opened), Ok(there)) => identity(opened) == identity(there),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_owner_at_a_time() {
        let root = tempfile::tempdir().unwrap();
        let state = StateDir::new(root.path().join("state"));
        assert!(state.networks().unwrap().is_empty());
        let held = state.hold("blue").unwrap();
        let error = state.hold("blue").unwrap_err();
        assert!(
            matches!(error, ManagerError::InUse { pid: Some(pid), .. } if pid == std::process::id()),
            "{error}"
        );
        let other = state.hold("red").unwrap();
        assert_eq!(state.networks().unwrap(), ["blue", "red"]);
        drop(held);
        state.hold("blue").unwrap().remove();
        // The other died while it replaced its journal.
        fs::write(state.network("red").join(JOURNAL_NEW), "{").unwrap();
        other.remove();
        assert!(state.networks().unwrap().is_empty());
        assert!(state.hold("../blue").is_err());
    }

    /// Owners that come and go at once never hold the same network together.
    #[test]
    fn a_directory_that_is_taken_away_is_no_back_door() {
        use std::sync::atomic::{AtomicU32, Ordering};
        let root = tempfile::tempdir().unwrap();
        let state = StateDir::new(root.path());
        let inside = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        let Ok(held) = state.hold("blue") else {
                            continue;
                        };
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        std::thread::yield_now();
                        inside.fetch_sub(1, Ordering::SeqCst);
                        held.remove();
                    }
                });
            }
        });
    }
}
