//! Published ports: what is asked for, and why it may be refused.

use core::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

/// A transport protocol of a published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// A port of the host that leads to a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Forward {
    /// Which protocol.
    pub protocol: Protocol,
    /// Where the host listens. Port 0 lets the host choose; [`crate::UserNet::forward_addr`] says
    /// what it chose.
    pub bind: SocketAddr,
    /// The guest's address and port. Of the same family as `bind`, the guest sees the client's
    /// real address; of the other family, the client appears as the gateway.
    pub guest: SocketAddr,
}

impl fmt::Display for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}/{}", self.bind, self.guest, self.protocol)
    }
}

/// Names a forward until it is unpublished; never used again afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ForwardId(pub(crate) u64);

/// Why a port was not published. Every message is one line and names the port.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// Something on the host already listens there.
    #[error("{protocol} port {bind} is already in use on this host")]
    PortTaken {
        /// Which protocol.
        protocol: Protocol,
        /// The address and port asked for.
        bind: SocketAddr,
    },
    /// The host keeps the port for privileged programs.
    #[error(
        "{protocol} port {bind} is privileged: choose a higher port, or have the administrator \
         lower net.ipv4.ip_unprivileged_port_start"
    )]
    Privileged {
        /// Which protocol.
        protocol: Protocol,
        /// The address and port asked for.
        bind: SocketAddr,
    },
    /// The address belongs to no interface of the host.
    #[error("cannot publish {protocol} port {bind}: the address is not on this host")]
    NotLocal {
        /// Which protocol.
        protocol: Protocol,
        /// The address and port asked for.
        bind: SocketAddr,
    },
    /// The guest's side is no address a packet can be sent to, or its port is 0.
    #[error("cannot publish {protocol} port {}: {guest} is not a guest's address and port", .bind.port())]
    BadGuest {
        /// Which protocol.
        protocol: Protocol,
        /// The address and port asked for.
        bind: SocketAddr,
        /// The guest's side.
        guest: SocketAddr,
    },
    /// The limit on forwards is reached.
    #[error("cannot publish {protocol} port {}: {limit} ports are published already", .bind.port())]
    TooMany {
        /// Which protocol.
        protocol: Protocol,
        /// The address and port asked for.
        bind: SocketAddr,
        /// [`crate::Limits::forwards`].
        limit: usize,
    },
    /// The host refused for another reason.
    #[error("cannot publish {protocol} port {bind}: {source}")]
    Host {
        /// Which protocol.
        protocol: Protocol,
        /// The address and port asked for.
        bind: SocketAddr,
        /// What the host said.
        source: io::Error,
    },
}

impl PublishError {
    /// Classifies what the host said about a socket for `bind`.
    pub(crate) fn from_host(protocol: Protocol, bind: SocketAddr, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::AddrInUse => Self::PortTaken { protocol, bind },
            io::ErrorKind::PermissionDenied => Self::Privileged { protocol, bind },
            io::ErrorKind::AddrNotAvailable => Self::NotLocal { protocol, bind },
            _ => Self::Host {
                protocol,
                bind,
                source,
            },
        }
    }
}

/// Binds the socket of a published port: here, or for a process that may not bind this port and has
/// the socket handed over ([`UserNet::publish_bound`](crate::UserNet::publish_bound)).
///
/// # Errors
/// [`PublishError::PortTaken`], [`PublishError::Privileged`], [`PublishError::NotLocal`], or
/// [`PublishError::Host`] with what the host said.
pub fn bind_published(protocol: Protocol, bind: SocketAddr) -> Result<OwnedFd, PublishError> {
    let socket = match protocol {
        Protocol::Tcp => crate::listen::bind(bind),
        Protocol::Udp => {
            let protocol = socket2::Protocol::UDP;
            crate::sys::datagram_socket(bind, protocol).map(OwnedFd::from)
        }
    };
    socket.map_err(|error| PublishError::from_host(protocol, bind, error))
}

/// Whether packets can be sent to `guest` at all.
pub(crate) fn is_guest_address(guest: SocketAddr) -> bool {
    let ip = guest.ip();
    let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
    guest.port() != 0
        && !(ip.is_unspecified() || ip.is_multicast() || ip.is_loopback() || broadcast)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_port_and_address() {
        let forward = Forward {
            protocol: Protocol::Tcp,
            bind: "127.0.0.1:8080".parse().unwrap(),
            guest: "10.0.2.15:80".parse().unwrap(),
        };
        for (errno, says) in [
            (libc::EADDRINUSE, "in use"),
            (libc::EACCES, "privileged"),
            (libc::EADDRNOTAVAIL, "not on this host"),
            (libc::EMFILE, "cannot publish"),
        ] {
            let text = PublishError::from_host(
                forward.protocol,
                forward.bind,
                io::Error::from_raw_os_error(errno),
            )
            .to_string();
            assert!(
                text.contains("8080") && text.contains("127.0.0.1"),
                "{text}"
            );
            assert!(
                text.contains(says) && text.contains("tcp") && !text.contains('\n'),
                "{text}"
            );
        }
    }

    #[test]
    fn a_guest_is_a_unicast_address_with_a_port() {
        for bad in [
            "10.0.2.15:0",
            "0.0.0.0:1",
            "224.0.0.1:1",
            "127.0.0.1:1",
            "[::]:1",
            "[ff02::1]:1",
        ] {
            assert!(!is_guest_address(bad.parse().unwrap()), "{bad}");
        }
        assert!(is_guest_address("10.0.2.15:80".parse().unwrap()));
    }
}
