//! What the network said about datagrams sent earlier.
//!
//! Linux keeps ICMP errors for a socket in a queue beside its data (`IP_RECVERR`, `ip(7)`). Other
//! systems report at most an errno without saying about which datagram, so there the queue is
//! always empty.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::BorrowedFd;

#[cfg(target_os = "linux")]
use super::{Control, address::RawAddress, control_messages, raw, uninterrupted};

/// Who reports an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ErrorOrigin {
    /// This host, before the datagram left.
    Local,
    /// A host or router, by ICMP.
    Icmp,
    /// A host or router, by ICMPv6.
    Icmpv6,
}

/// One entry of the error queue.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SocketError {
    pub(crate) origin: ErrorOrigin,
    /// Which `errno` it stands for.
    pub(crate) errno: i32,
    /// Type and code of the ICMP message.
    pub(crate) kind: u8,
    pub(crate) code: u8,
    /// The MTU, for a datagram that was too big.
    pub(crate) info: u32,
    /// Where the datagram was going.
    pub(crate) to: Option<SocketAddr>,
    /// Who sent the ICMP message.
    pub(crate) offender: Option<IpAddr>,
    /// How many bytes of the datagram came back with it.
    pub(crate) len: usize,
}

/// Takes one error out of the queue; bytes of the datagram it is about go to `quote`.
///
/// # Errors
/// [`io::ErrorKind::WouldBlock`] when there is none.
#[cfg(target_os = "linux")]
pub(crate) fn receive_error(fd: BorrowedFd<'_>, quote: &mut [u8]) -> io::Result<SocketError> {
    let mut name = RawAddress::empty();
    let mut control = Control::EMPTY;
    let mut piece = libc::iovec {
        iov_base: quote.as_mut_ptr().cast(),
        iov_len: quote.len(),
    };
    // SAFETY: all members are integers and pointers, for which zero is a value.
    let mut message: libc::msghdr = unsafe { core::mem::zeroed() };
    message.msg_name = name.as_mut_ptr();
    message.msg_namelen = RawAddress::LEN;
    message.msg_iov = &raw mut piece;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = control.0.len() as _;
    let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
    // SAFETY: the descriptor is open for the borrow; name, piece and control buffer outlive the
    // call and the lengths are theirs.
    let len = uninterrupted(|| unsafe { libc::recvmsg(raw(fd), &raw mut message, flags) })?;
    let mut found = SocketError {
        origin: ErrorOrigin::Local,
        errno: 0,
        kind: 0,
        code: 0,
        info: 0,
        to: name.get(),
        offender: None,
        len: len.min(quote.len()),
    };
    // SAFETY: the kernel has filled in `message`, whose control buffer is alive.
    unsafe {
        control_messages(&message, |level, kind, data| {
            let relevant = matches!(
                (level, kind),
                (libc::IPPROTO_IP, libc::IP_RECVERR) | (libc::IPPROTO_IPV6, libc::IPV6_RECVERR)
            );
            if relevant {
                read_extended(data, &mut found);
            }
        });
    }
    Ok(found)
}

/// Reads `struct sock_extended_err` and the address behind it.
#[cfg(target_os = "linux")]
fn read_extended(data: &[u8], found: &mut SocketError) {
    const LEN: usize = size_of::<libc::sock_extended_err>();
    let Some((fixed, rest)) = data.split_at_checked(LEN) else {
        return;
    };
    // SAFETY: `fixed` has the length of the structure, whose members are all integers.
    let error = unsafe {
        fixed
            .as_ptr()
            .cast::<libc::sock_extended_err>()
            .read_unaligned()
    };
    found.origin = match error.ee_origin {
        libc::SO_EE_ORIGIN_ICMP => ErrorOrigin::Icmp,
        libc::SO_EE_ORIGIN_ICMP6 => ErrorOrigin::Icmpv6,
        _ => ErrorOrigin::Local,
    };
    found.errno = error.ee_errno as i32;
    (found.kind, found.code, found.info) = (error.ee_type, error.ee_code, error.ee_info);
    found.offender = RawAddress::from_bytes(rest).get().map(|addr| addr.ip());
}

/// There is no queue to take from.
///
/// # Errors
/// Always [`io::ErrorKind::WouldBlock`].
#[cfg(not(target_os = "linux"))]
pub(crate) fn receive_error(_: BorrowedFd<'_>, _: &mut [u8]) -> io::Result<SocketError> {
    Err(io::ErrorKind::WouldBlock.into())
}
