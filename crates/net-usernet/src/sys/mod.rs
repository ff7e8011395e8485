//! The datagram socket calls that neither the standard library nor `socket2` has.
//!
//! | module | its part |
//! |---|---|
//! | `send` | one datagram, or many of one size in one call, from a scatter list |
//! | `receive` | many datagrams in one call, with the address they were sent to |
//! | `errors` | what the network said about datagrams sent earlier (Linux) |
//!
//! What a system lacks degrades: without `recvmmsg` one datagram a call, without an error queue
//! no ICMP errors, without segmentation offload one call a datagram.
#![allow(unsafe_code)]

mod address;
mod errors;
mod receive;
mod send;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

pub(crate) use errors::{ErrorOrigin, SocketError, receive_error};
pub(crate) use receive::{BATCH, Batch};
pub(crate) use send::{SendOptions, send};

/// Room for every control message that is asked for, aligned as `cmsghdr` has to be.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; 256]);

impl Control {
    const EMPTY: Self = Self([0; 256]);
}

/// A non-blocking datagram socket that reports ICMP errors, bound to `bind`.
pub(crate) fn datagram_socket(bind: SocketAddr, protocol: Protocol) -> io::Result<Socket> {
    let v6 = bind.is_ipv6();
    let socket = Socket::new(Domain::for_address(bind), Type::DGRAM, Some(protocol))?;
    socket.set_nonblocking(true)?;
    if v6 {
        // Without this, ::ffff:127.0.0.1 would be a way to the host's loopback.
        socket.set_only_v6(true)?;
    }
    report_errors(&socket, v6)?;
    socket.bind(&SockAddr::from(bind))?;
    Ok(socket)
}

/// The wildcard address of a family, with a port of the host's choice.
pub(crate) fn any_address(v6: bool) -> SocketAddr {
    match v6 {
        false => SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
        true => SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0),
    }
}

/// Whether `addr` belongs to this host: nothing else can be bound to.
pub(crate) fn is_local_address(addr: IpAddr) -> bool {
    let addr = SocketAddr::new(addr, 0);
    Socket::new(Domain::for_address(addr), Type::DGRAM, None)
        .and_then(|socket| socket.bind(&SockAddr::from(addr)))
        .is_ok()
}

#[cfg(target_os = "linux")]
fn report_errors(socket: &Socket, v6: bool) -> io::Result<()> {
    match v6 {
        false => set_option(socket, libc::IPPROTO_IP, libc::IP_RECVERR, 1),
        true => set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVERR, 1),
    }
}

#[cfg(not(target_os = "linux"))]
fn report_errors(_: &Socket, _: bool) -> io::Result<()> {
    Ok(())
}

/// Asks for the address each datagram was sent to.
pub(crate) fn report_destination(socket: &Socket, v6: bool) -> io::Result<()> {
    match v6 {
        false => set_option(socket, libc::IPPROTO_IP, libc::IP_PKTINFO, 1),
        true => set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1),
    }
}

/// Lets the host hand over several datagrams of one size as one; `false` where it cannot.
pub(crate) fn coalesce(socket: &Socket) -> bool {
    #[cfg(target_os = "linux")]
    return set_option(socket, receive::SOL_UDP, receive::UDP_GRO, 1).is_ok();
    #[cfg(not(target_os = "linux"))]
    {
        let _ = socket;
        false
    }
}

/// Sets whether datagrams may be fragmented on their way. A system that cannot say so sends them
/// as it likes.
pub(crate) fn set_dont_fragment(socket: &Socket, v6: bool, dont: bool) {
    #[cfg(target_os = "linux")]
    let (level, name, value) = match v6 {
        false => (
            libc::IPPROTO_IP,
            libc::IP_MTU_DISCOVER,
            if dont {
                libc::IP_PMTUDISC_DO
            } else {
                libc::IP_PMTUDISC_DONT
            },
        ),
        true => (
            libc::IPPROTO_IPV6,
            libc::IPV6_MTU_DISCOVER,
            if dont {
                libc::IPV6_PMTUDISC_DO
            } else {
                libc::IPV6_PMTUDISC_DONT
            },
        ),
    };
    #[cfg(not(target_os = "linux"))]
    let (level, name, value) = match v6 {
        // IP_DONTFRAG of <netinet/in.h>, which the libc crate does not name.
        false => (libc::IPPROTO_IP, 28, i32::from(dont)),
        true => (libc::IPPROTO_IPV6, libc::IPV6_DONTFRAG, i32::from(dont)),
    };
    if let Err(error) = set_option(socket, level, name, value) {
        log::debug!("cannot choose about fragmentation: {error}");
    }
}

/// Sets the time to live of what the socket sends; 1 to 255.
pub(crate) fn set_ttl(socket: &Socket, v6: bool, ttl: u8) -> io::Result<()> {
    match v6 {
        false => socket.set_ttl_v4(ttl.into()),
        true => socket.set_unicast_hops_v6(ttl.into()),
    }
}

fn set_option(socket: &Socket, level: i32, name: i32, value: i32) -> io::Result<()> {
    // SAFETY: the descriptor is open for the borrow of `socket`; the option value is a live int of
    // the length given.
    let status = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of_val(&value) as libc::socklen_t,
        )
    };
    if status == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The control messages of a received message.
///
/// # Safety
/// `message` is as `recvmsg` filled it in, and the buffer its control pointer names is alive for
/// the call.
unsafe fn control_messages(message: &libc::msghdr, mut each: impl FnMut(i32, i32, &[u8])) {
    // SAFETY: by contract, the control buffer holds what the kernel wrote; the macros stay within
    // the length it gave.
    unsafe {
        let mut next = libc::CMSG_FIRSTHDR(message);
        while let Some(header) = next.as_ref() {
            let data = libc::CMSG_DATA(header);
            let skip = data as usize - (header as *const libc::cmsghdr) as usize;
            // The length is a usize on Linux and 32 bits wide on macOS.
            #[allow(clippy::unnecessary_cast)]
            let len = (header.cmsg_len as usize).saturating_sub(skip);
            each(
                header.cmsg_level,
                header.cmsg_type,
                core::slice::from_raw_parts(data, len),
            );
            next = libc::CMSG_NXTHDR(message, header);
        }
    }
}

/// Repeats a call that a signal interrupted.
fn uninterrupted(mut call: impl FnMut() -> isize) -> io::Result<usize> {
    loop {
        if let Ok(done) = usize::try_from(call()) {
            return Ok(done);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Shorthand for the descriptor of a borrowed socket.
fn raw(fd: BorrowedFd<'_>) -> i32 {
    fd.as_raw_fd()
}

#[cfg(test)]
mod tests;
