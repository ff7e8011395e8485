//! The sockets that guests connect to, written down: what a killed process has left of them is taken
//! away by whoever starts its network again, or by `arcbox-net clean`.

use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use net_backend_socket::{Leftover, remove_stale};

/// How long a server whose keeper was killed may take to end, and how often that is looked at.
const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(5);

/// The list of a network: each path, and a zero byte, which no path has.
#[derive(Debug)]
pub(crate) struct Sockets {
    file: PathBuf,
    paths: Vec<PathBuf>,
}

impl Sockets {
    /// An empty list in `file`, once what the last one names has been taken away.
    pub(crate) fn begin(file: PathBuf) -> Self {
        clean(&file);
        Self {
            file,
            paths: Vec::new(),
        }
    }

    /// Writes down that a socket is about to be bound; false for a path where something is, which is
    /// nobody's to take away.
    ///
    /// # Errors
    /// What the host said of the file.
    pub(crate) fn note(&mut self, path: &Path) -> io::Result<bool> {
        if fs::symlink_metadata(path).is_ok() {
            return Ok(false);
        }
        self.paths.push(std::path::absolute(path)?);
        self.write()?;
        Ok(true)
    }

    /// The socket is gone, or was not bound.
    pub(crate) fn strike(&mut self, path: &Path) {
        let Ok(path) = std::path::absolute(path) else {
            return;
        };
        let before = self.paths.len();
        self.paths.retain(|other| *other != path);
        if self.paths.len() < before
            && let Err(err) = self.write()
        {
            log::warn!("{}: {err}", self.file.display());
        }
    }

    /// The old list or the new one, whatever happens meanwhile.
    fn write(&self) -> io::Result<()> {
        let mut bytes = Vec::new();
        for path in &self.paths {
            bytes.extend_from_slice(path.as_os_str().as_bytes());
            bytes.push(0);
        }
        let new = successor(&self.file);
        fs::write(&new, bytes)?;
        fs::rename(new, &self.file)
    }
}

fn successor(file: &Path) -> PathBuf {
    file.with_extension("new")
}

/// Takes away the sockets that the list in `file` names and nobody serves, and the list.
pub(crate) fn clean(file: &Path) {
    let patience = Instant::now() + PATIENCE;
    let list = fs::read(file).unwrap_or_default();
    for bytes in list.split(|byte| *byte == 0).filter(|it| !it.is_empty()) {
        let path = PathBuf::from(std::ffi::OsString::from_vec(bytes.to_vec()));
        loop {
            match remove_stale(&path) {
                Ok(Leftover::Served) if Instant::now() < patience => std::thread::sleep(PAUSE),
                Ok(Leftover::Removed) => {
                    log::info!("removed the socket {} of a dead process", path.display());
                    break;
                }
                Ok(_) => break,
                Err(err) => {
                    log::warn!("{err}");
                    break;
                }
            }
        }
    }
    for file in [successor(file), file.to_owned()] {
        // Most often there is none.
        let _ = fs::remove_file(file);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::{UnixDatagram, UnixListener};

    #[test]
    fn what_is_left_is_taken_away_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let mut sockets = Sockets::begin(at("sockets"));
        fs::write(at("mine"), "x").unwrap();
        drop(UnixListener::bind(at("another's")).unwrap());
        assert!(!sockets.note(&at("mine")).unwrap());
        assert!(!sockets.note(&at("another's")).unwrap());
        for name in ["stream", "datagram", "closed", "never", "new\nline"] {
            assert!(sockets.note(&at(name)).unwrap());
        }
        drop(UnixListener::bind(at("stream")).unwrap());
        drop(UnixDatagram::bind(at("datagram")).unwrap());
        drop(UnixListener::bind(at("new\nline")).unwrap());
        // Somebody else's, who found the path free.
        sockets.strike(&at("closed"));
        drop(UnixListener::bind(at("closed")).unwrap());
        drop(sockets);
        drop(Sockets::begin(at("sockets")));
        let mut left: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, ["another's", "closed", "mine"]);
    }

    #[test]
    fn a_server_that_is_about_to_end_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let (file, path) = (dir.path().join("sockets"), dir.path().join("vm"));
        assert!(Sockets::begin(file.clone()).note(&path).unwrap());
        let server = UnixListener::bind(&path).unwrap();
        let ends = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            drop(server);
        });
        clean(&file);
        assert!(!path.exists() && !file.exists());
        ends.join().unwrap();
    }
}
