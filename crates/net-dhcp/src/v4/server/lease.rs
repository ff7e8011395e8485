//! What the caller sees of a lease: replies, events, listings.

use std::net::Ipv4Addr;
use std::time::Duration;

/// What to send, and where. Goes to the port the request came from, and to no other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The UDP payload, from port 67 of the server's address; 300 to 1472 bytes (more only where
    /// the configured MTU and the client allow it).
    pub payload: Vec<u8>,
    /// Destination.
    pub dst: ReplyDst,
    /// UDP destination port: 68, or 67 when a relay forwards the reply.
    pub dst_port: u16,
}

/// Destination of a [`Reply`] (RFC 2131 section 4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyDst {
    /// 255.255.255.255 and ff:ff:ff:ff:ff:ff: the client has no address and asked for it.
    Broadcast,
    /// One address. No ARP: a client that is being configured does not answer it yet.
    Unicast {
        /// IP destination.
        ip: Ipv4Addr,
        /// Ethernet destination.
        mac: [u8; 6],
    },
}

/// What happened to a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum LeaseEvent {
    /// A client was told that the address is its own.
    Bound {
        /// The address.
        ip: Ipv4Addr,
        /// The client.
        mac: [u8; 6],
        /// The port it is on.
        port: u32,
        /// Its name, a DNS label no other live lease has.
        hostname: Option<String>,
        /// When the lease ends, on the caller's clock.
        expires: Duration,
        /// The same client already had it.
        renewed: bool,
    },
    /// The client gave the address back, or took another one.
    Released {
        /// The address.
        ip: Ipv4Addr,
        /// The client that had it.
        mac: [u8; 6],
        /// The name it had.
        hostname: Option<String>,
    },
    /// The client found the address in use by someone else; it rests for a while.
    Declined {
        /// The address.
        ip: Ipv4Addr,
        /// The client that refused it.
        mac: [u8; 6],
        /// The port it is on.
        port: u32,
    },
    /// The lease ran out, or the host or a full pool ended it.
    Expired {
        /// The address.
        ip: Ipv4Addr,
        /// The client that had it.
        mac: [u8; 6],
        /// The name it had.
        hostname: Option<String>,
    },
}

/// One live lease, as [`Server::leases`](super::Server::leases) lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lease<'a> {
    /// The address.
    pub ip: Ipv4Addr,
    /// Hardware address of the client.
    pub mac: [u8; 6],
    /// Option 61, if the client sends one.
    pub client_id: Option<&'a [u8]>,
    /// A DNS label no other live lease has.
    pub hostname: Option<&'a str>,
    /// When it ends, on the caller's clock.
    pub expires: Duration,
    /// Where the client is; `None` when that port is gone or the lease was restored.
    pub port: Option<u32>,
}
