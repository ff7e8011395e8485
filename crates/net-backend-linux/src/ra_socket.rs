//! Router advertisements from the host itself: a raw ICMPv6 socket bound to one interface.
//!
//! What is sent has the interface's link-local address as its source and a hop limit of 255, as
//! RFC 4861, 4.2 wants it; the kernel fills in the checksum. The bytes of the message are the
//! caller's. Making one needs CAP_NET_RAW, using one nothing: it can be handed to another process.

use std::io;
use std::net::{Ipv6Addr, SocketAddrV6};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use socket2::{Domain, Protocol, Socket, Type};

use crate::error::Context;
use crate::{LinuxError, Result, sys};

/// All nodes on the link (RFC 4291, 2.7.1).
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// All routers on the link.
pub const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);

/// ICMPv6 type of a router solicitation (RFC 4861, 4.1).
const ROUTER_SOLICITATION: u8 = 133;
/// The hop limit of neighbour discovery: no router has passed it on (RFC 4861, 6.1.1).
const HOP_LIMIT: u32 = 255;

/// A socket for router advertisements on one interface.
#[derive(Debug)]
pub struct RaSocket {
    socket: Socket,
    index: u32,
}

impl RaSocket {
    /// Opens one on the interface `name`, whose number is `index`, and listens to what is sent to all
    /// routers there. It does not wait.
    ///
    /// # Errors
    /// [`LinuxError::Host`]: no CAP_NET_RAW (EPERM), no such interface (ENODEV), no IPv6 in the kernel
    /// (EAFNOSUPPORT).
    pub fn open(name: &str, index: u32) -> Result<Self> {
        let what = || format!("open a socket for router advertisements on {name}");
        let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))
            .context(what())
            .map_err(|error| match error.errno() {
                Some(libc::EPERM) => error.with_advice("needs CAP_NET_RAW"),
                Some(libc::EAFNOSUPPORT) => error.with_advice("this kernel has no IPv6"),
                _ => error,
            })?;
        sys::icmp6_pass_only(socket.as_fd(), ROUTER_SOLICITATION).context(what())?;
        let set_up = || -> io::Result<()> {
            socket.set_nonblocking(true)?;
            socket.bind_device(Some(name.as_bytes()))?;
            socket.set_multicast_if_v6(index)?;
            socket.set_multicast_hops_v6(HOP_LIMIT)?;
            socket.set_unicast_hops_v6(HOP_LIMIT)?;
            // The host is the router here; it needs no advice from itself.
            socket.set_multicast_loop_v6(false)?;
            socket.set_recv_hoplimit_v6(true)?;
            socket.join_multicast_v6(&ALL_ROUTERS, index)
        };
        set_up().context(what())?;
        Ok(Self { socket, index })
    }

    /// Takes over a socket that another process has opened with [`Self::open`] for the interface
    /// `index`.
    ///
    /// # Errors
    /// [`LinuxError::Invalid`] for a descriptor that is no raw ICMPv6 socket.
    pub fn from_fd(fd: OwnedFd, index: u32) -> Result<Self> {
        let socket = Socket::from(fd);
        let fits = socket.r#type().is_ok_and(|kind| kind == Type::RAW)
            && socket.domain().is_ok_and(|domain| domain == Domain::IPV6)
            && socket
                .protocol()
                .is_ok_and(|protocol| protocol == Some(Protocol::ICMPV6));
        if !fits {
            return Err(LinuxError::Invalid(
                "the descriptor is no raw ICMPv6 socket".into(),
            ));
        }
        Ok(Self { socket, index })
    }

    /// Sends an ICMPv6 message, from its type on, to a neighbour or to [`ALL_NODES`].
    ///
    /// # Errors
    /// [`LinuxError::Host`]: EADDRNOTAVAIL while the interface has no link-local address (duplicate
    /// detection takes a second), ENETDOWN while it is down, EAGAIN or ENOBUFS with its queue full.
    pub fn send(&self, to: Ipv6Addr, message: &[u8]) -> Result<()> {
        let address = SocketAddrV6::new(to, 0, 0, self.index);
        self.socket
            .send_to(message, &address.into())
            .context(format!("send a router advertisement to {to}"))
            .map(drop)
    }

    /// The next router solicitation: its source and its length, the message itself in `buffer` from
    /// the type on. None if there is none now; those that a router has passed on, or that do not come
    /// from a neighbour, are dropped (RFC 4861, 6.1.1). The caller checks what is in it.
    ///
    /// # Errors
    /// [`LinuxError::Host`]: ENETDOWN if the interface is gone.
    pub fn receive(&self, buffer: &mut [u8]) -> Result<Option<(Ipv6Addr, usize)>> {
        // One that asks without end is heard once in a while, not for ever.
        for _ in 0..16 {
            match sys::receive_with_hop_limit(self.socket.as_fd(), buffer) {
                Ok((source, length, hop_limit)) => {
                    let neighbour = source.is_unspecified() || source.is_unicast_link_local();
                    if hop_limit == Some(255) && neighbour {
                        return Ok(Some((source, length)));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(LinuxError::host("receive router solicitations", &error)),
            }
        }
        Ok(None)
    }
}

impl AsFd for RaSocket {
    /// Readable when there is a solicitation.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl From<RaSocket> for OwnedFd {
    fn from(socket: RaSocket) -> Self {
        socket.socket.into()
    }
}
