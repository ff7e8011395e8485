//! An event of another thread as a readable descriptor.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

/// A pair of sockets: a byte in it says that there is something to read elsewhere.
///
/// Both ends live in one object, which the event's callback shares: a late event, on another
/// thread, never writes to a socket whose other end is closed, which would raise SIGPIPE.
#[derive(Debug)]
pub(crate) struct Wake {
    rx: UnixStream,
    tx: UnixStream,
}

impl Wake {
    pub(crate) fn new() -> io::Result<Self> {
        let (rx, tx) = UnixStream::pair()?;
        rx.set_nonblocking(true)?;
        tx.set_nonblocking(true)?;
        Ok(Self { rx, tx })
    }

    /// Makes [`Self::source`] readable. Never blocks.
    pub(crate) fn wake(&self) {
        // A full socket is readable already, and no other error can be told from here.
        let _ = (&self.tx).write(&[1]);
    }

    /// Makes the source unreadable until the next [`Self::wake`]. What was announced is looked for
    /// after this, so that no announcement is lost.
    pub(crate) fn drain(&self) {
        let mut bytes = [0; 256];
        loop {
            match (&self.rx).read(&mut bytes) {
                // More may be there only if the buffer was full.
                Ok(len) if len == bytes.len() => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => return,
            }
        }
    }

    pub(crate) fn source(&self) -> BorrowedFd<'_> {
        self.rx.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn readable(wake: &Wake) -> bool {
        let mut source = UnixStream::from(wake.source().try_clone_to_owned().unwrap());
        match source.read(&mut [0]) {
            Ok(len) => len == 1,
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                false
            }
        }
    }

    #[test]
    fn readable_from_wake_to_drain() {
        let wake = Wake::new().unwrap();
        assert!(!readable(&wake));
        wake.drain();
        for times in [1, 2, 255, 256, 257, 1000] {
            (0..times).for_each(|_| wake.wake());
            assert!(readable(&wake), "{times}");
            (0..times).for_each(|_| wake.wake());
            wake.drain();
            assert!(!readable(&wake), "{times}");
        }
    }

    #[test]
    fn a_million_events_that_nobody_reads_block_nobody() {
        let wake = Wake::new().unwrap();
        (0..1_000_000).for_each(|_| wake.wake());
        wake.drain();
        assert!(!readable(&wake));
        wake.wake();
        assert!(readable(&wake));
    }

    #[test]
    fn from_another_thread_and_after_its_owner() {
        let wake = Arc::new(Wake::new().unwrap());
        let callback = Arc::clone(&wake);
        std::thread::spawn(move || callback.wake()).join().unwrap();
        assert!(readable(&wake));
        let late = Arc::clone(&wake);
        drop(wake);
        late.wake();
        assert!(readable(&late));
    }
}
