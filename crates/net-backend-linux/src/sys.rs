//! System calls that the standard library does not offer, each behind a safe function.

use std::ffi::CString;
use std::io;
use std::mem::MaybeUninit;
use std::net::Ipv6Addr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::ptr;

use libc::{c_int, c_ulong, c_void};
use net_datapath::IoSegment;

/// Most segments that go through the stack; a longer list is copied to the heap first.
const INLINE_SEGMENTS: usize = 32;

fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}

/// Writes `header` (which may be empty) and the segments in one call.
pub(crate) fn writev(
    fd: BorrowedFd<'_>,
    header: &[u8],
    segments: &[IoSegment<'_>],
) -> io::Result<usize> {
    let mut inline = [IoSegment::EMPTY; INLINE_SEGMENTS];
    let heap: Vec<IoSegment<'_>>;
    let head = IoSegment::from(header);
    let skip = usize::from(header.is_empty());
    let list: &[IoSegment<'_>] = if segments.len() < INLINE_SEGMENTS {
        inline[0] = head;
        inline[1..=segments.len()].copy_from_slice(segments);
        &inline[skip..=segments.len()]
    } else {
        heap = std::iter::once(head)
            .chain(segments.iter().copied())
            .collect();
        &heap[skip..]
    };
    let count = c_int::try_from(list.len()).unwrap_or(c_int::MAX);
    // SAFETY: `IoSegment` has the layout of `iovec`, the list lives for the call, and each segment
    // is readable for its length; the kernel only reads.
    let written = unsafe { libc::writev(fd.as_raw_fd(), list.as_ptr().cast(), count) };
    usize::try_from(written).map_err(|_| io::Error::last_os_error())
}

/// Makes reads and writes return instead of waiting.
pub(crate) fn set_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: F_GETFL and F_SETFL take and return numbers.
    unsafe {
        let flags = check(libc::fcntl(fd.as_raw_fd(), libc::F_GETFL))?;
        check(libc::fcntl(
            fd.as_raw_fd(),
            libc::F_SETFL,
            flags | libc::O_NONBLOCK,
        ))?;
    }
    Ok(())
}

/// The descriptor of something that owns one.
pub(crate) fn own(owner: impl IntoRawFd) -> OwnedFd {
    // SAFETY: `into_raw_fd` hands over an open descriptor and its ownership.
    unsafe { OwnedFd::from_raw_fd(owner.into_raw_fd()) }
}

/// Takes the descriptor with this number for our own, and closes it on exec.
///
/// # Errors
/// `EBADF` if it is not open, `ENOTSOCK` if it is no socket.
pub(crate) fn take_socket(number: RawFd) -> io::Result<OwnedFd> {
    let mut kind: c_int = 0;
    let mut len = size_of::<c_int>() as libc::socklen_t;
    // SAFETY: the option is one int, and both pointers live for the call.
    check(unsafe {
        libc::getsockopt(
            number,
            libc::SOL_SOCKET,
            libc::SO_TYPE,
            (&raw mut kind).cast(),
            &raw mut len,
        )
    })?;
    if kind != libc::SOCK_SEQPACKET {
        return Err(io::Error::from_raw_os_error(libc::ENOTSOCK));
    }
    // SAFETY: F_SETFD takes a number.
    check(unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) })?;
    // SAFETY: the number names an open socket that the parent process left to this program for
    // this purpose; nothing else here knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// The error that a socket has met since it was last asked.
pub(crate) fn socket_error(fd: BorrowedFd<'_>) -> io::Result<()> {
    let mut error: c_int = 0;
    let mut len = size_of::<c_int>() as libc::socklen_t;
    // SAFETY: the option is one int, and both pointers live for the call.
    check(unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ERROR,
            (&raw mut error).cast(),
            &raw mut len,
        )
    })?;
    match error {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

/// Keeps `fd` open in the process that `command` starts, under the same number.
pub(crate) fn inherit(command: &mut Command, fd: BorrowedFd<'_>) {
    let number = fd.as_raw_fd();
    // SAFETY: between fork and exec the closure makes one async-signal-safe call and allocates
    // nothing.
    unsafe {
        command.pre_exec(move || check(libc::fcntl(number, libc::F_SETFD, 0)).map(drop));
    }
}

/// Makes `command` fail to start, with the kernel's errno, where a namespace of one's own with
/// mounts of one's own cannot be had.
pub(crate) fn try_namespaces_before_exec(command: &mut Command) {
    // SAFETY: between fork and exec the closure makes async-signal-safe calls on constants and
    // allocates nothing.
    unsafe {
        command.pre_exec(|| {
            check(libc::unshare(
                libc::CLONE_NEWUSER | libc::CLONE_NEWNET | libc::CLONE_NEWNS,
            ))?;
            check(libc::mount(
                ptr::null(),
                c"/".as_ptr(),
                ptr::null(),
                libc::MS_REC | libc::MS_PRIVATE,
                ptr::null(),
            ))
            .map(drop)
        });
    }
}

/// Leaves the namespaces of these kinds for new ones.
pub(crate) fn unshare(flags: c_int) -> io::Result<()> {
    // SAFETY: the argument is a number; what it changes is this process's own.
    check(unsafe { libc::unshare(flags) }).map(drop)
}

/// Joins the namespace behind `fd`, which must be of kind `flags`.
pub(crate) fn setns(fd: BorrowedFd<'_>, flags: c_int) -> io::Result<()> {
    // SAFETY: both arguments are numbers.
    check(unsafe { libc::setns(fd.as_raw_fd(), flags) }).map(drop)
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes())
        .map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
}

/// `mount(2)`; an empty `kind` or `data` is no such argument.
pub(crate) fn mount(
    source: &Path,
    target: &Path,
    kind: &str,
    flags: c_ulong,
    data: &str,
) -> io::Result<()> {
    let (source, target) = (c_path(source)?, c_path(target)?);
    let (kind, data) = (c_path(Path::new(kind))?, c_path(Path::new(data))?);
    let optional = |text: &CString| match text.is_empty() {
        true => ptr::null(),
        false => text.as_ptr(),
    };
    // SAFETY: every pointer is null or a C string that lives for the call.
    check(unsafe {
        libc::mount(
            source.as_ptr(),
            target.as_ptr(),
            optional(&kind),
            flags,
            optional(&data).cast::<c_void>(),
        )
    })
    .map(drop)
}

/// Detaches what is mounted on `target`; open files and bind mounts of it stay.
pub(crate) fn unmount_detached(target: &Path) -> io::Result<()> {
    let target = c_path(target)?;
    // SAFETY: the pointer is a C string that lives for the call.
    check(unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) }).map(drop)
}

/// Has the kernel send `signal` to this process when the thread that started it ends.
pub(crate) fn set_parent_death_signal(signal: c_int) -> io::Result<()> {
    // SAFETY: the arguments are numbers.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal as c_ulong, 0, 0, 0) }).map(drop)
}

/// The effective user and group.
pub(crate) fn effective_ids() -> (u32, u32) {
    // SAFETY: both calls take nothing and cannot fail.
    unsafe { (libc::geteuid(), libc::getegid()) }
}

/// Every group of this process.
pub(crate) fn groups() -> Vec<u32> {
    let (_, primary) = effective_ids();
    // SAFETY: with a size of 0 nothing is written.
    let count = unsafe { libc::getgroups(0, ptr::null_mut()) };
    let mut groups = vec![0; usize::try_from(count).unwrap_or(0)];
    // SAFETY: there is room for `count` groups.
    let count = unsafe { libc::getgroups(count.max(0), groups.as_mut_ptr()) };
    groups.truncate(usize::try_from(count).unwrap_or(0));
    groups.push(primary);
    groups
}

/// A descriptor that becomes readable when the process ends (Linux 5.3).
pub(crate) fn pidfd_open(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: the arguments are numbers.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_pidfd_open,
            libc::pid_t::try_from(pid).unwrap_or(-1),
            0,
        )
    };
    let fd = check(c_int::try_from(fd).unwrap_or(-1))?;
    // SAFETY: the kernel returned a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sends a signal to the process behind a pidfd: never to another that got its number since.
pub(crate) fn pidfd_send_signal(fd: BorrowedFd<'_>, signal: c_int) -> io::Result<()> {
    // SAFETY: a null pointer means a plain signal; the rest are numbers.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            fd.as_raw_fd(),
            signal,
            ptr::null::<c_void>(),
            0,
        )
    };
    check(c_int::try_from(result).unwrap_or(-1)).map(drop)
}

/// Sends a signal to a child that has not been waited for, so that its number is still its own.
pub(crate) fn kill(child: &std::process::Child, signal: c_int) -> io::Result<()> {
    let pid = libc::pid_t::try_from(child.id()).map_err(io::Error::other)?;
    // SAFETY: the arguments are numbers.
    check(unsafe { libc::kill(pid, signal) }).map(drop)
}

/// Room for the control message of one descriptor, aligned as the kernel wants it.
#[repr(C, align(8))]
struct Control([u8; 64]);

/// Sends one message, with a descriptor if there is one to pass.
pub(crate) fn send_message(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    pass: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let mut part = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    let mut control = Control([0; 64]);
    // SAFETY: all zero is a valid `msghdr`: no name, no parts, no control data.
    let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    if let Some(fd) = pass {
        // SAFETY: CMSG_SPACE and CMSG_LEN are arithmetic; the control buffer has room for one
        // header with one int (24 bytes of 64), and CMSG_FIRSTHDR points into it.
        unsafe {
            message.msg_control = (&raw mut control).cast();
            message.msg_controllen = libc::CMSG_SPACE(size_of::<c_int>() as u32) as _;
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(size_of::<c_int>() as u32) as _;
            libc::CMSG_DATA(header)
                .cast::<c_int>()
                .write_unaligned(fd.as_raw_fd());
        }
    }
    // SAFETY: everything the message points to lives for the call.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) };
    match usize::try_from(sent) {
        Ok(n) if n == bytes.len() => Ok(()),
        Ok(_) => Err(io::Error::from_raw_os_error(libc::EMSGSIZE)),
        Err(_) => Err(io::Error::last_os_error()),
    }
}

/// Receives one message and the descriptor that came with it; 0 bytes: the peer has gone.
pub(crate) fn receive_message(
    socket: BorrowedFd<'_>,
    bytes: &mut [u8],
) -> io::Result<(usize, Option<OwnedFd>)> {
    let mut part = libc::iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: bytes.len(),
    };
    let mut control = Control([0; 64]);
    // SAFETY: all zero is a valid `msghdr`.
    let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    // SAFETY: arithmetic only.
    message.msg_controllen = unsafe { libc::CMSG_SPACE(size_of::<c_int>() as u32) } as _;
    // SAFETY: everything the message points to lives for the call and may be written.
    let n = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC) };
    let n = usize::try_from(n).map_err(|_| io::Error::last_os_error())?;
    let mut passed = None;
    // SAFETY: CMSG_FIRSTHDR is null or points to a header within the control buffer, which the
    // kernel has filled; there is room for one descriptor only, and it is new and ours.
    unsafe {
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        if !header.is_null()
            && (*header).cmsg_level == libc::SOL_SOCKET
            && (*header).cmsg_type == libc::SCM_RIGHTS
            && (*header).cmsg_len as usize >= libc::CMSG_LEN(size_of::<c_int>() as u32) as usize
        {
            let fd = libc::CMSG_DATA(header).cast::<c_int>().read_unaligned();
            passed = Some(OwnedFd::from_raw_fd(fd));
        }
    }
    if message.msg_flags & libc::MSG_TRUNC != 0 {
        return Err(io::Error::from_raw_os_error(libc::EMSGSIZE));
    }
    Ok((n, passed))
}

/// Has a raw ICMPv6 socket receive messages of one type alone (RFC 3542, 3.2).
pub(crate) fn icmp6_pass_only(socket: BorrowedFd<'_>, kind: u8) -> io::Result<()> {
    /// `ICMP6_FILTER` of `linux/icmpv6.h`, an option of level `IPPROTO_ICMPV6`.
    const ICMP6_FILTER: c_int = 1;
    // A set bit blocks its type.
    let mut filter = [u32::MAX; 8];
    filter[usize::from(kind / 32)] &= !(1 << (kind % 32));
    // SAFETY: the option is `struct icmp6_filter`, 8 words of 32 bits, which live for the call.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_ICMPV6,
            ICMP6_FILTER,
            filter.as_ptr().cast(),
            size_of_val(&filter) as libc::socklen_t,
        )
    })
    .map(drop)
}

/// Receives a message of an IPv6 socket: its source, its length, and its hop limit where the socket
/// was told to say it.
pub(crate) fn receive_with_hop_limit(
    socket: BorrowedFd<'_>,
    bytes: &mut [u8],
) -> io::Result<(Ipv6Addr, usize, Option<i32>)> {
    let mut part = libc::iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: bytes.len(),
    };
    let mut control = Control([0; 64]);
    // SAFETY: all zero is a valid `sockaddr_in6` and a valid `msghdr`.
    let (mut source, mut message): (libc::sockaddr_in6, libc::msghdr) = unsafe {
        (
            MaybeUninit::zeroed().assume_init(),
            MaybeUninit::zeroed().assume_init(),
        )
    };
    message.msg_name = (&raw mut source).cast();
    message.msg_namelen = size_of::<libc::sockaddr_in6>() as libc::socklen_t;
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    message.msg_controllen = size_of::<Control>() as _;
    // SAFETY: everything the message points to lives for the call and may be written.
    let n = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) };
    let n = usize::try_from(n).map_err(|_| io::Error::last_os_error())?;
    let mut hop_limit = None;
    // SAFETY: CMSG_FIRSTHDR is null or points to a header within the control buffer, which the kernel
    // has filled; a header long enough for one int has one behind it.
    unsafe {
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        if !header.is_null()
            && (*header).cmsg_level == libc::IPPROTO_IPV6
            && (*header).cmsg_type == libc::IPV6_HOPLIMIT
            && (*header).cmsg_len as usize >= libc::CMSG_LEN(size_of::<c_int>() as u32) as usize
        {
            hop_limit = Some(libc::CMSG_DATA(header).cast::<c_int>().read_unaligned());
        }
    }
    Ok((Ipv6Addr::from(source.sin6_addr.s6_addr), n, hop_limit))
}

/// Keeps this thread, and all it starts, from getting privileges by `exec`.
pub(crate) fn set_no_new_privileges() -> io::Result<()> {
    // SAFETY: the arguments are numbers.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }).map(drop)
}
