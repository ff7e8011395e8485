//! Network namespaces, and threads in them.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::mpsc;
use std::thread::JoinHandle;

use net_backend_linux::netlink::Netlink;

/// A network namespace, which lasts as long as its one waiting thread and what is open in it.
pub(crate) struct Namespace {
    file: File,
    thread: u32,
    end: Option<mpsc::Sender<()>>,
    waiting: Option<JoinHandle<()>>,
}

impl Namespace {
    /// An empty one, whose loopback is up and which does not speak IPv6 unasked.
    pub(crate) fn new() -> io::Result<Self> {
        let (made, answer) = mpsc::channel();
        let (end, ended) = mpsc::channel::<()>();
        let waiting = std::thread::spawn(move || {
            let opened = unshare();
            let is_made = opened.is_ok();
            if made.send(opened).is_ok() && is_made {
                // The sender goes with the namespace.
                let _ = ended.recv();
            }
        });
        let (file, thread) = answer.recv().map_err(io::Error::other)??;
        let namespace = Self {
            file,
            thread,
            end: Some(end),
            waiting: Some(waiting),
        };
        namespace.enter(|| -> io::Result<()> {
            std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1").ok();
            let netlink = Netlink::new().map_err(io::Error::other)?;
            let loopback = netlink.link("lo").map_err(io::Error::other)?;
            netlink.set_up(loopback.index).map_err(io::Error::other)
        })?;
        Ok(namespace)
    }

    /// The number of a thread in it, by which others find it below `/proc`.
    pub(crate) fn thread(&self) -> u32 {
        self.thread
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Has a thread do something inside; sockets that it makes stay there, threads that it starts too.
    pub(crate) fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                // SAFETY: the call takes a descriptor, which is open.
                let entered = unsafe { libc::setns(self.file.as_raw_fd(), libc::CLONE_NEWNET) };
                assert_eq!(entered, 0, "{}", io::Error::last_os_error());
                work()
            });
            thread.join().expect("runs")
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        self.end = None;
        if let Some(waiting) = self.waiting.take() {
            let _ = waiting.join();
        }
    }
}

/// Puts the calling thread into a new namespace; says what it is known by, and the thread's number.
pub(crate) fn unshare() -> io::Result<(File, u32)> {
    // SAFETY: the call takes plain flags.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call takes nothing and cannot fail.
    let thread = unsafe { libc::gettid() };
    let file = File::open("/proc/thread-self/ns/net")?;
    Ok((file, thread.unsigned_abs()))
}
