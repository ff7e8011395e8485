//! The socket calls of the relay that neither `std` nor `socket2` offers in this form.
#![allow(unsafe_code)]

use std::io::{self, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd};

use net_datapath::IoSegment;

/// Pieces a single call takes at most; every Unix allows 1024 (`IOV_MAX`).
const MAX_PIECES: usize = 1024;

#[cfg(any(target_os = "linux", target_os = "android"))]
const SEND_FLAGS: libc::c_int = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
#[cfg(any(target_os = "linux", target_os = "android"))]
const MORE: libc::c_int = libc::MSG_MORE;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const MORE: libc::c_int = 0;
/// Elsewhere `SO_NOSIGPIPE` is set when the socket is made.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const SEND_FLAGS: libc::c_int = libc::MSG_DONTWAIT;

/// Reads without consuming, after skipping `skip` bytes into `scratch`; returns the bytes read, the
/// skipped ones included.
pub(super) fn peek(
    fd: BorrowedFd<'_>,
    skip: usize,
    scratch: &mut [u8],
    out: &mut [IoSliceMut<'_>],
) -> io::Result<usize> {
    const EMPTY: libc::iovec = libc::iovec {
        iov_base: core::ptr::null_mut(),
        iov_len: 0,
    };
    if skip == 0 {
        // `IoSliceMut` has the layout of `iovec` on Unix.
        return receive(fd, out.as_mut_ptr().cast(), out.len(), libc::MSG_PEEK);
    }
    let mut pieces = [EMPTY; 64];
    let (mut left, mut count) = (skip, 0);
    // Skipped bytes overwrite each other: nobody reads them.
    while left > 0 {
        let len = left.min(scratch.len());
        let Some(piece) = pieces.get_mut(count).filter(|_| len > 0) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        *piece = libc::iovec {
            iov_base: scratch.as_mut_ptr().cast(),
            iov_len: len,
        };
        left -= len;
        count += 1;
    }
    for (piece, slice) in pieces[count..].iter_mut().zip(out.iter_mut()) {
        *piece = libc::iovec {
            iov_base: slice.as_mut_ptr().cast(),
            iov_len: slice.len(),
        };
        count += 1;
    }
    receive(fd, pieces.as_mut_ptr(), count, libc::MSG_PEEK)
}

/// `recvmsg`. Every caller passes pieces that point into memory it has borrowed for writing.
fn receive(
    fd: BorrowedFd<'_>,
    pieces: *mut libc::iovec,
    count: usize,
    flags: libc::c_int,
) -> io::Result<usize> {
    // SAFETY: all-zero is a valid `msghdr`: no name, no pieces, no control data.
    let mut message: libc::msghdr = unsafe { core::mem::zeroed() };
    message.msg_iov = pieces;
    message.msg_iovlen = count.min(MAX_PIECES) as _;
    // SAFETY: `msg_iov` points to `count` pieces of memory that this module's callers hold
    // mutably; the kernel writes within them, and keeps nothing after the call.
    let n = unsafe { libc::recvmsg(fd.as_raw_fd(), &mut message, flags | libc::MSG_DONTWAIT) };
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}

/// Writes from the front of `data`; returns how much was taken. `more` follows.
pub(super) fn write(fd: BorrowedFd<'_>, data: &[IoSegment<'_>], more: bool) -> io::Result<usize> {
    // SAFETY: all-zero is a valid `msghdr`: no name, no pieces, no control data.
    let mut message: libc::msghdr = unsafe { core::mem::zeroed() };
    message.msg_iov = data.as_ptr().cast_mut().cast();
    message.msg_iovlen = data.len().min(MAX_PIECES) as _;
    let flags = if more { SEND_FLAGS | MORE } else { SEND_FLAGS };
    // SAFETY: `IoSegment` has the layout of `iovec`, and its makers vouch for memory that may be
    // read for the time of the borrow; the kernel does not write to it.
    let n = unsafe { libc::sendmsg(fd.as_raw_fd(), &message, flags) };
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}

/// Reads and forgets up to `n` bytes, through `scratch`; returns how many.
pub(super) fn discard(fd: BorrowedFd<'_>, n: usize, scratch: &mut [u8]) -> io::Result<usize> {
    let len = n.min(scratch.len());
    // SAFETY: `scratch` is borrowed mutably and holds at least `len` bytes.
    let got = unsafe {
        libc::recv(
            fd.as_raw_fd(),
            scratch.as_mut_ptr().cast(),
            len,
            libc::MSG_DONTWAIT,
        )
    };
    usize::try_from(got).map_err(|_| io::Error::last_os_error())
}

/// Removes up to `n` bytes from a TCP socket's queue without copying them (tcp(7), `MSG_TRUNC`).
#[cfg(target_os = "linux")]
pub(super) fn discard_in_kernel(fd: BorrowedFd<'_>, n: usize) -> io::Result<usize> {
    let flags = libc::MSG_TRUNC | libc::MSG_DONTWAIT;
    // SAFETY: with `MSG_TRUNC` a TCP socket writes nothing, so that no buffer is needed; another
    // kind of socket answers a null buffer with an error.
    let got = unsafe { libc::recv(fd.as_raw_fd(), core::ptr::null_mut(), n, flags) };
    usize::try_from(got).map_err(|_| io::Error::last_os_error())
}

/// Makes every peek start at `offset` (socket(7), `SO_PEEK_OFF`; TCP since Linux 6.9).
#[cfg(target_os = "linux")]
pub(super) fn set_peek_offset(fd: BorrowedFd<'_>, offset: usize) -> io::Result<()> {
    let value = libc::c_int::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the option value is an `int` that lives through the call.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEEK_OFF,
            (&raw const value).cast(),
            size_of_val(&value) as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Size of the send buffer and what is used of it, as the kernel itself counts (overhead
/// included).
#[cfg(target_os = "linux")]
pub(super) fn send_buffer(fd: BorrowedFd<'_>) -> Option<(usize, usize)> {
    /// Indexes of `SO_MEMINFO` (`linux/sock_diag.h`).
    const WMEM_ALLOC: usize = 2;
    const SNDBUF: usize = 3;
    const WMEM_QUEUED: usize = 5;
    let mut values = [0u32; 9];
    let mut len = size_of_val(&values) as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes into `values`, which has that many.
    let result = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            values.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    let used = values[WMEM_QUEUED].max(values[WMEM_ALLOC]);
    (result == 0).then_some((values[SNDBUF] as usize, used as usize))
}

/// Size of the send buffer and the bytes in it.
#[cfg(not(target_os = "linux"))]
pub(super) fn send_buffer(fd: BorrowedFd<'_>) -> Option<(usize, usize)> {
    let int = |option: libc::c_int| {
        let mut value: libc::c_int = 0;
        let mut len = size_of_val(&value) as libc::socklen_t;
        // SAFETY: the kernel writes at most `len` bytes into `value`, which has that many.
        let result = unsafe {
            libc::getsockopt(
                fd.as_raw_fd(),
                libc::SOL_SOCKET,
                option,
                (&raw mut value).cast(),
                &raw mut len,
            )
        };
        (result == 0).then_some(usize::try_from(value).unwrap_or(0))
    };
    #[cfg(target_vendor = "apple")]
    let used = int(libc::SO_NWRITE).unwrap_or(0);
    // Without a count the buffer is taken for empty: a write then takes less than was offered,
    // and the guest sends the rest again.
    #[cfg(not(target_vendor = "apple"))]
    let used = 0;
    Some((int(libc::SO_SNDBUF)?, used))
}
