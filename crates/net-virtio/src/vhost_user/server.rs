//! The thread that speaks the protocol: one front-end after the other.

use std::io;
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::connection::Connection;
use super::shared::Shared;

/// How long to wait before trying to connect again, or to accept where the host has no descriptors.
const RETRY: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(1);

/// A socket at which front-ends arrive. Its path is removed when the listener is dropped, or the
/// port that it was given to.
#[derive(Debug)]
pub struct VhostUserListener {
    socket: UnixListener,
    path: Option<PathBuf>,
}

impl VhostUserListener {
    /// Listens at `path`.
    ///
    /// # Errors
    /// Of the host: where the path exists, is too long or cannot be made.
    pub fn bind(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref();
        Ok(Self {
            socket: UnixListener::bind(path)?,
            path: Some(path.to_owned()),
        })
    }
}

impl From<UnixListener> for VhostUserListener {
    /// Takes a socket that somebody else has bound; the path remains theirs.
    fn from(socket: UnixListener) -> Self {
        Self { socket, path: None }
    }
}

impl Drop for VhostUserListener {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // Removed by somebody else: as well.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// What ends the thread, wherever it waits.
#[derive(Default)]
struct Stop {
    state: Mutex<StopState>,
    changed: Condvar,
}

#[derive(Default)]
struct StopState {
    stopped: bool,
    /// The connection that is served, to be shut down.
    connection: Option<UnixStream>,
}

impl Stop {
    fn lock(&self) -> MutexGuard<'_, StopState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what to shut down; whether to go on.
    fn serve(&self, connection: Option<UnixStream>) -> bool {
        let mut state = self.lock();
        state.connection = connection;
        !state.stopped
    }

    /// Sleeps; whether to go on.
    fn sleep(&self, time: Duration) -> bool {
        let state = self.lock();
        let slept = self
            .changed
            .wait_timeout_while(state, time, |state| !state.stopped);
        !slept.unwrap_or_else(PoisonError::into_inner).0.stopped
    }

    fn stop(&self) {
        let mut state = self.lock();
        state.stopped = true;
        if let Some(connection) = state.connection.take() {
            // It has gone by itself: as well.
            let _ = connection.shutdown(Shutdown::Both);
        }
        self.changed.notify_all();
    }
}

/// The thread of a port. Dropped, it ends soon, but is not waited for: a front-end could have it
/// wait in turn.
pub(super) struct Server {
    stop: Arc<Stop>,
    listener: Option<Arc<VhostUserListener>>,
}

impl Server {
    pub(super) fn listen(shared: Arc<Shared>, listener: VhostUserListener) -> io::Result<Self> {
        let stop = Arc::new(Stop::default());
        let listener = Arc::new(listener);
        // One that was bound elsewhere may not wait by itself.
        listener.socket.set_nonblocking(false)?;
        let (its_stop, socket) = (Arc::clone(&stop), listener.socket.try_clone()?);
        spawn(move || {
            loop {
                let go_on = match socket.accept() {
                    Ok((stream, _)) => converse(&shared, &its_stop, stream),
                    Err(_) => its_stop.sleep(RETRY),
                };
                if !go_on {
                    return;
                }
            }
        })?;
        Ok(Self {
            stop,
            listener: Some(listener),
        })
    }

    pub(super) fn connect(shared: Arc<Shared>, path: PathBuf) -> io::Result<Self> {
        let stop = Arc::new(Stop::default());
        let its_stop = Arc::clone(&stop);
        let mut pause = Duration::ZERO;
        Self::take(shared, Arc::clone(&stop), move || {
            loop {
                if !its_stop.sleep(pause) {
                    return None;
                }
                pause = (2 * pause).clamp(RETRY, RETRY_MAX);
                if let Ok(stream) = UnixStream::connect(&path) {
                    pause = RETRY;
                    return Some(stream);
                }
            }
        })
    }

    pub(super) fn connections(
        shared: Arc<Shared>,
        next: impl FnMut() -> Option<UnixStream> + Send + 'static,
    ) -> io::Result<Self> {
        Self::take(shared, Arc::default(), next)
    }

    fn take(
        shared: Arc<Shared>,
        stop: Arc<Stop>,
        mut next: impl FnMut() -> Option<UnixStream> + Send + 'static,
    ) -> io::Result<Self> {
        let its_stop = Arc::clone(&stop);
        spawn(move || {
            while let Some(stream) = next() {
                if !converse(&shared, &its_stop, stream) {
                    return;
                }
            }
        })?;
        Ok(Self {
            stop,
            listener: None,
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.stop();
        if let Some(listener) = &self.listener {
            // Ends `accept`, which closing a copy of the socket would not.
            let _ = rustix::net::shutdown(&listener.socket, rustix::net::Shutdown::Both);
        }
    }
}

fn spawn(what: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let thread = std::thread::Builder::new().name("vhost-user".to_owned());
    thread.spawn(what).map(drop)
}

/// Serves one front-end until it goes or breaks the protocol; whether to go on with another.
fn converse(shared: &Arc<Shared>, stop: &Stop, stream: UnixStream) -> bool {
    let Ok(handle) = stream.try_clone() else {
        return stop.sleep(RETRY);
    };
    if !stop.serve(Some(handle)) {
        return false;
    }
    let Ok(mut connection) = Connection::new(Arc::clone(shared), stream) else {
        return stop.serve(None) && stop.sleep(RETRY);
    };
    while connection.step() {}
    drop(connection);
    stop.serve(None)
}
