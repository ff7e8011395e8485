//! The system calls that the standard library and `socket2` do not have in this form: gathering
//! from scatter lists, and many datagrams in one call. The only unsafe code of this crate.
//!
//! Linux has `recvmmsg` and `sendmmsg`. Elsewhere the same functions make one call a datagram.

use std::io;
use std::mem::{offset_of, zeroed};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use net_backend::{MAX_FRAME, TxFrame};
use net_datapath::IoSegment;

use crate::peer::PeerAddress;

/// Datagrams received or sent by one system call, at most.
pub(crate) const DATAGRAMS: usize = 32;

/// Most pieces of one frame or of one gathered write (`IOV_MAX` of Linux, macOS and the BSDs).
pub(crate) const IOV_MAX: usize = 1024;

/// Bytes from one slot to the next: the longest frame, rounded up to an odd number of cache lines,
/// so that the beginnings of the slots do not fall into the same cache set.
const STRIDE: usize = 65_600;

// A segment is handed to the kernel as it is.
const _: () = {
    assert!(size_of::<IoSegment<'_>>() == size_of::<libc::iovec>());
    assert!(align_of::<IoSegment<'_>>() == align_of::<libc::iovec>());
    assert!(offset_of!(libc::iovec, iov_base) == 0);
    assert!(offset_of!(libc::iovec, iov_len) == size_of::<usize>());
    assert!(STRIDE >= MAX_FRAME && (STRIDE / 64) % 2 == 1);
};

/// A broken connection is an error number, never a signal. Where the flag is missing the socket
/// option is set ([`quieten`]).
#[cfg(not(target_vendor = "apple"))]
const SEND_FLAGS: libc::c_int = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
#[cfg(target_vendor = "apple")]
const SEND_FLAGS: libc::c_int = libc::MSG_DONTWAIT;

/// Prepares a socket: no signal when its peer is gone.
pub(crate) fn quieten(socket: &socket2::Socket) -> io::Result<()> {
    #[cfg(target_vendor = "apple")]
    socket.set_nosigpipe(true)?;
    let _ = socket;
    Ok(())
}

/// An address with nothing in it.
pub(crate) fn empty_address() -> libc::sockaddr_un {
    // SAFETY: integers and an array of integers, for which all zero is a value.
    unsafe { zeroed() }
}

fn empty_message() -> libc::msghdr {
    // SAFETY: integers and pointers, for which all zero is a value: no name, no data, no control.
    unsafe { zeroed() }
}

/// The number of bytes a call returned, or its error.
fn check(returned: isize) -> io::Result<usize> {
    usize::try_from(returned).map_err(|_| io::Error::last_os_error())
}

/// Writes `segments` to a connected stream in one call; returns the bytes taken.
pub(crate) fn send_stream(fd: BorrowedFd<'_>, segments: &[IoSegment<'_>]) -> io::Result<usize> {
    let mut message = empty_message();
    message.msg_iov = segments.as_ptr().cast_mut().cast();
    message.msg_iovlen = segments.len().min(IOV_MAX) as _;
    // SAFETY: `message` points at `msg_iovlen` segments in the layout of `iovec` (asserted above),
    // each readable for its length while it is borrowed; the call reads and keeps nothing.
    check(unsafe { libc::sendmsg(fd.as_raw_fd(), &message, SEND_FLAGS) })
}

/// Connects a datagram socket to `peer`, or to another one than before.
pub(crate) fn connect(fd: BorrowedFd<'_>, peer: &PeerAddress) -> io::Result<()> {
    let (raw, len) = peer.to_raw();
    // SAFETY: `raw` is an initialised address, of which `len` bytes lie within it.
    let result = unsafe { libc::connect(fd.as_raw_fd(), (&raw const raw).cast(), len) };
    check(result as isize).map(drop)
}

/// Takes the connection of a datagram socket back (POSIX: an address of no family). Systems that
/// report an error have disconnected all the same.
pub(crate) fn disconnect(fd: BorrowedFd<'_>) {
    let mut raw = empty_address();
    raw.sun_family = libc::AF_UNSPEC as libc::sa_family_t;
    let len = size_of::<libc::sa_family_t>() as libc::socklen_t;
    let len = len.max(offset_of!(libc::sockaddr_un, sun_path) as libc::socklen_t);
    // SAFETY: `raw` is initialised and longer than `len` bytes.
    let _ = unsafe { libc::connect(fd.as_raw_fd(), (&raw const raw).cast(), len) };
}

/// A descriptor of our own for what an inherited one refers to.
pub(crate) fn duplicate(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: no memory is involved; a number that is no descriptor is an error.
    let copy = check(unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 0) } as isize)?;
    let copy = RawFd::try_from(copy).map_err(io::Error::other)?;
    // SAFETY: just made, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// Whether nothing waits to be received. On an error it says no.
pub(crate) fn is_drained(fd: BorrowedFd<'_>) -> bool {
    readiness(fd, libc::POLLIN) == Some(0)
}

/// Whether the peer of a connection has closed it.
pub(crate) fn is_hung_up(fd: BorrowedFd<'_>) -> bool {
    #[cfg(target_os = "linux")]
    const GONE: libc::c_short = libc::POLLHUP | libc::POLLRDHUP;
    #[cfg(not(target_os = "linux"))]
    const GONE: libc::c_short = libc::POLLHUP;
    readiness(fd, GONE).is_some_and(|events| events & GONE != 0)
}

fn readiness(fd: BorrowedFd<'_>, events: libc::c_short) -> Option<libc::c_short> {
    let mut poll = libc::pollfd {
        fd: fd.as_raw_fd(),
        events,
        revents: 0,
    };
    // SAFETY: one initialised entry, borrowed for a call that does not wait.
    let result = unsafe { libc::poll(&mut poll, 1, 0) };
    (result >= 0).then_some(poll.revents)
}

/// Fills in what a message for one frame consists of.
fn address_frame(
    message: &mut libc::msghdr,
    frame: &TxFrame<'_>,
    to: Option<&mut (libc::sockaddr_un, libc::socklen_t)>,
) {
    message.msg_iov = frame.segments.as_ptr().cast_mut().cast();
    message.msg_iovlen = frame.segments.len() as _;
    if let Some((raw, len)) = to {
        message.msg_name = (&raw mut *raw).cast();
        message.msg_namelen = *len;
    }
}

/// Sends each of `frames` (as many as [`DATAGRAMS`]) as one datagram, `to` an address or to
/// the peer of the connection. Returns how many went; an error belongs to the first.
#[cfg(target_os = "linux")]
pub(crate) fn send_datagrams(
    fd: BorrowedFd<'_>,
    to: Option<&PeerAddress>,
    frames: &[TxFrame<'_>],
) -> io::Result<usize> {
    let mut to = to.map(|peer| peer.to_raw());
    // SAFETY: integers and pointers, for which all zero is a value.
    let mut messages: [libc::mmsghdr; DATAGRAMS] = unsafe { zeroed() };
    let count = frames.len().min(DATAGRAMS);
    for (message, frame) in messages.iter_mut().zip(frames) {
        address_frame(&mut message.msg_hdr, frame, to.as_mut());
    }
    // SAFETY: the first `count` messages point at segments in the layout of `iovec` (asserted
    // above), readable while `frames` is borrowed, and at the address `to`, which lives on this
    // stack. The call writes to `msg_len` of the messages and nothing else.
    check(unsafe {
        libc::sendmmsg(
            fd.as_raw_fd(),
            messages.as_mut_ptr(),
            count as libc::c_uint,
            SEND_FLAGS as _,
        )
    } as isize)
}

/// Sends each of `frames` (as many as [`DATAGRAMS`]) as one datagram, `to` an address or to
/// the peer of the connection. Returns how many went; an error belongs to the first.
#[cfg(not(target_os = "linux"))]
pub(crate) fn send_datagrams(
    fd: BorrowedFd<'_>,
    to: Option<&PeerAddress>,
    frames: &[TxFrame<'_>],
) -> io::Result<usize> {
    let mut to = to.map(|peer| peer.to_raw());
    for (sent, frame) in frames.iter().take(DATAGRAMS).enumerate() {
        let mut message = empty_message();
        address_frame(&mut message, frame, to.as_mut());
        // SAFETY: `message` points at segments in the layout of `iovec` (asserted above),
        // readable while `frames` is borrowed, and at an address that lives on this stack.
        let result = check(unsafe { libc::sendmsg(fd.as_raw_fd(), &message, SEND_FLAGS) });
        match result {
            Ok(_) => {}
            Err(error) if sent == 0 => return Err(error),
            Err(_) => return Ok(sent),
        }
    }
    Ok(frames.len().min(DATAGRAMS))
}

/// What a received datagram was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Length {
    /// Its length in bytes, from 0 to the longest frame.
    Whole(usize),
    /// It was longer than any frame and has been cut.
    Truncated,
}

/// Room for [`DATAGRAMS`] datagrams of the longest frame, and what has been received into it.
/// Only the pages that datagrams have reached take memory.
pub(crate) struct Slots {
    memory: Box<[u8]>,
    lengths: [Length; DATAGRAMS],
    names: Box<[(libc::sockaddr_un, libc::socklen_t); DATAGRAMS]>,
}

impl Slots {
    pub(crate) fn new() -> Self {
        Self {
            memory: vec![0; STRIDE * DATAGRAMS].into_boxed_slice(),
            lengths: [Length::Whole(0); DATAGRAMS],
            names: Box::new([(empty_address(), 0); DATAGRAMS]),
        }
    }

    /// The bytes of datagram `index`, and nothing of one that was truncated.
    pub(crate) fn bytes(&self, index: usize) -> &[u8] {
        match self.length(index) {
            Length::Whole(len) => self
                .memory
                .get(index * STRIDE..index * STRIDE + len)
                .unwrap_or_default(),
            Length::Truncated => &[],
        }
    }

    pub(crate) fn length(&self, index: usize) -> Length {
        self.lengths.get(index).copied().unwrap_or(Length::Whole(0))
    }

    /// The sender of datagram `index`, if it was asked for and has a name.
    pub(crate) fn sender(&self, index: usize) -> Option<PeerAddress> {
        let (raw, len) = self.names.get(index)?;
        PeerAddress::from_raw(raw, *len)
    }

    /// Receives as many datagrams as are there and fit, from the first slot on; returns how many.
    /// With `named` their senders are recorded.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if there is none.
    #[cfg(target_os = "linux")]
    pub(crate) fn receive(&mut self, fd: BorrowedFd<'_>, named: bool) -> io::Result<usize> {
        let nothing = libc::iovec {
            iov_base: std::ptr::null_mut(),
            iov_len: 0,
        };
        let mut segments = [nothing; DATAGRAMS];
        // SAFETY: integers and pointers, for which all zero is a value.
        let mut messages: [libc::mmsghdr; DATAGRAMS] = unsafe { zeroed() };
        for (((message, segment), slot), (name, _)) in messages
            .iter_mut()
            .zip(&mut segments)
            .zip(self.memory.chunks_exact_mut(STRIDE))
            .zip(self.names.iter_mut())
        {
            segment.iov_base = slot.as_mut_ptr().cast();
            segment.iov_len = MAX_FRAME;
            message.msg_hdr.msg_iov = segment;
            message.msg_hdr.msg_iovlen = 1;
            if named {
                message.msg_hdr.msg_name = (&raw mut *name).cast();
                message.msg_hdr.msg_namelen = size_of_val(name) as libc::socklen_t;
            }
        }
        // SAFETY: each of the messages points at one segment, which covers the first `MAX_FRAME`
        // bytes of a slot of its own, and at a name of its own or at none, with their true
        // lengths; all of them outlive the call. No time limit is given.
        let count = check(unsafe {
            libc::recvmmsg(
                fd.as_raw_fd(),
                messages.as_mut_ptr(),
                DATAGRAMS as libc::c_uint,
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            )
        } as isize)?;
        for ((message, length), (_, name_len)) in messages
            .iter()
            .take(count)
            .zip(&mut self.lengths)
            .zip(self.names.iter_mut())
        {
            *length = if message.msg_hdr.msg_flags & libc::MSG_TRUNC == 0 {
                Length::Whole(message.msg_len as usize)
            } else {
                Length::Truncated
            };
            *name_len = if named {
                message.msg_hdr.msg_namelen
            } else {
                0
            };
        }
        Ok(count)
    }

    /// Receives as many datagrams as are there and fit, from the first slot on; returns how many.
    /// With `named` their senders are recorded.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if there is none.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn receive(&mut self, fd: BorrowedFd<'_>, named: bool) -> io::Result<usize> {
        let slots = self.memory.chunks_exact_mut(STRIDE);
        for (count, ((slot, length), (name, name_len))) in slots
            .zip(&mut self.lengths)
            .zip(self.names.iter_mut())
            .enumerate()
        {
            let mut segment = libc::iovec {
                iov_base: slot.as_mut_ptr().cast(),
                iov_len: MAX_FRAME,
            };
            let mut message = empty_message();
            message.msg_iov = &mut segment;
            message.msg_iovlen = 1;
            if named {
                message.msg_name = (&raw mut *name).cast();
                message.msg_namelen = size_of_val(name) as libc::socklen_t;
            }
            // SAFETY: the message points at one segment, which covers the first `MAX_FRAME` bytes
            // of the slot, and at a name or at none, with their true lengths; all of them outlive
            // the call.
            let result =
                check(unsafe { libc::recvmsg(fd.as_raw_fd(), &mut message, libc::MSG_DONTWAIT) });
            match result {
                Ok(len) if message.msg_flags & libc::MSG_TRUNC == 0 => *length = Length::Whole(len),
                Ok(_) => *length = Length::Truncated,
                Err(error) if count == 0 => return Err(error),
                Err(_) => return Ok(count),
            }
            *name_len = if named { message.msg_namelen } else { 0 };
        }
        Ok(DATAGRAMS)
    }
}
