//! Connections that the keeper makes for the server, to a path where a VMM listens: it comes and goes,
//! and is called again each time.
//!
//! ```text
//! server                                 keeper, one thread a place
//!   next                        ────────►   connects, until somebody answers
//!                               ◄────────   a descriptor
//!   next, when that has ended   ────────►   and so on
//! ```
//!
//! The place is granted once, as every place is; what is granted is one end of a socket pair. Whatever
//! a server says there that a guest has taken over, it has connections to the path that a user named
//! and to no other, one at a time and with pauses. The thread ends with the place or with the server.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, Shutdown, SocketAddrUnix, SocketFlags, SocketType};

use super::wire;
use crate::usage::UsageError;

/// The pause before a second attempt, and the longest one.
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(1);

/// The keeper's end. Dropped, it gives no more connections.
pub(crate) struct Feed(Arc<OwnedFd>);

impl Feed {
    /// Begins; the other end is the server's.
    ///
    /// # Errors
    /// For a path that is too long, or for want of a descriptor or a thread.
    pub(crate) fn start(path: &Path) -> Result<(Self, OwnedFd), UsageError> {
        let address = SocketAddrUnix::new(path)
            .map_err(|_| UsageError::new("the path is too long for a socket"))?;
        let failed = |err| UsageError::new(format!("cannot prepare to connect: {err}"));
        let (ours, theirs) = wire::pair().map_err(failed)?;
        let ours = Arc::new(ours);
        let (socket, path) = (Arc::clone(&ours), path.to_owned());
        let thread = std::thread::Builder::new().name("feed".to_owned());
        thread
            .spawn(move || serve(&socket, &address, &path))
            .map_err(failed)?;
        Ok((Self(ours), theirs))
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        // The server may have gone first.
        let _ = rustix::net::shutdown(&*self.0, Shutdown::Both);
    }
}

fn serve(socket: &OwnedFd, address: &SocketAddrUnix, path: &Path) {
    let mut pause = Duration::ZERO;
    // What it says is of no matter; that it says something is.
    while let Ok(Some(((), _))) = wire::receive::<()>(socket) {
        let connection = loop {
            if has_gone_within(socket, pause) {
                return;
            }
            let first = pause == Duration::ZERO;
            pause = (2 * pause).clamp(SHORTEST, LONGEST);
            match connect(address) {
                Ok(connection) => break connection,
                Err(err) if first => log::info!("{}: nobody listens yet: {err}", path.display()),
                Err(_) => {}
            }
        };
        if wire::send(socket, &(), &[connection.as_fd()]).is_err() {
            return;
        }
        drop(connection);
        // One that ends at once does not make for haste.
        if !waits(socket, PollFlags::IN, LONGEST) {
            pause = SHORTEST;
        }
    }
}

/// Never waits for whoever listens: one with a full queue is tried again.
fn connect(address: &SocketAddrUnix) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&socket, address)?;
    rustix::io::ioctl_fionbio(&socket, false)?;
    Ok(socket)
}

/// Sleeps so long, unless the other end goes.
fn has_gone_within(socket: &OwnedFd, time: Duration) -> bool {
    waits(socket, PollFlags::empty(), time)
}

/// Waits so long for one of these events or for the end; whether it came.
fn waits(socket: &OwnedFd, events: PollFlags, time: Duration) -> bool {
    let start = Instant::now();
    loop {
        let left = time.saturating_sub(start.elapsed());
        // It is a second at most.
        let left = Timespec {
            tv_sec: left.as_secs().cast_signed(),
            tv_nsec: left.subsec_nanos().into(),
        };
        match poll(&mut [PollFd::new(socket, events)], Some(&left)) {
            Err(rustix::io::Errno::INTR) => {}
            Ok(0) => return false,
            // What cannot be waited for is not there.
            Ok(_) | Err(_) => return true,
        }
    }
}

/// The server's side: the next connection, once there is one; `None` when there are no more.
pub(crate) fn next_connection(feed: &OwnedFd) -> Option<UnixStream> {
    wire::send(feed, &(), &[]).ok()?;
    let ((), descriptors) = wire::receive(feed).ok()??;
    Some(descriptors.into_iter().next()?.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixListener;

    #[test]
    fn whoever_listens_is_called_each_time_it_is_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vmm");
        let (feed, theirs) = Feed::start(&path).unwrap();
        let server = std::thread::spawn(move || {
            let mut served = 0;
            while let Some(mut connection) = next_connection(&theirs) {
                // It blocks, as whoever reads it expects.
                connection.read_exact(&mut [0]).unwrap();
                served += 1;
            }
            served
        });
        for _ in 0..3 {
            // Not there before, and not afterwards.
            let listener = UnixListener::bind(&path).unwrap();
            let (mut connection, _) = listener.accept().unwrap();
            std::fs::remove_file(&path).unwrap();
            drop(listener);
            connection.write_all(&[1]).unwrap();
        }
        drop(feed);
        assert_eq!(server.join().unwrap(), 3);
    }

    #[test]
    fn one_connection_at_a_time_and_none_unasked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vmm");
        let listener = UnixListener::bind(&path).unwrap();
        listener.set_nonblocking(true).unwrap();
        let (_feed, theirs) = Feed::start(&path).unwrap();
        assert!(listener.accept().is_err());
        for _ in 0..2 {
            let connection = next_connection(&theirs).unwrap();
            listener.accept().unwrap();
            assert!(listener.accept().is_err());
            drop(connection);
        }
    }

    #[test]
    fn a_path_that_no_socket_can_have_is_refused_at_once() {
        let long = "x".repeat(200);
        let error = Feed::start(Path::new(&long)).err().unwrap().to_string();
        assert!(error.contains("too long"), "{error}");
    }

    #[test]
    fn the_thread_ends_with_the_server() {
        let (feed, theirs) = Feed::start(Path::new("/nobody/listens/here")).unwrap();
        wire::send(&theirs, &(), &[]).unwrap();
        drop(theirs);
        while Arc::strong_count(&feed.0) > 1 {
            std::thread::yield_now();
        }
    }
}
