//! What goes in and out of the engine.

use std::net::SocketAddr;

/// Who is accounted for a query: one value per guest. Quotas and cache shares go by it, so it
/// must not follow from anything the guest can vary, such as a source address that is not
/// checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(pub u64);

/// Names one query to one upstream server. Never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UpstreamQueryId(pub u64);

/// How a query came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// In a datagram.
    Udp {
        /// Longest UDP payload that fits a reply on this link, in bytes: the MTU less the
        /// headers. The client's own limit (512 bytes, or what its EDNS record says) applies as
        /// well.
        max_payload: u16,
    },
    /// On a connection: replies of up to 65,535 bytes, in any order.
    Tcp,
}

/// Where a query comes from and where its reply goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin<T = u64> {
    /// Who is accounted for it.
    pub client: ClientId,
    /// Handed back with the reply.
    pub to: T,
    /// How it came in.
    pub transport: Transport,
}

/// What the I/O layer has to do. TCP messages are without their two-byte length.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Action<T = u64> {
    /// Send a reply.
    Reply {
        /// As in the query's [`Origin`].
        client: ClientId,
        /// As in the query's [`Origin`].
        to: T,
        /// The message.
        message: Vec<u8>,
    },
    /// Send a query from a new UDP socket on a random port, and give what arrives on it to
    /// [`Forwarder::upstream_answer`](crate::Forwarder::upstream_answer) until `Cancel`.
    QueryUdp {
        /// Name of the query and its socket.
        id: UpstreamQueryId,
        /// Where to.
        server: SocketAddr,
        /// The message.
        message: Vec<u8>,
    },
    /// Send a query over a new TCP connection, and give the answer to
    /// [`Forwarder::upstream_answer`](crate::Forwarder::upstream_answer).
    QueryTcp {
        /// Name of the query and its connection.
        id: UpstreamQueryId,
        /// Where to.
        server: SocketAddr,
        /// The message.
        message: Vec<u8>,
    },
    /// Close the socket of this query.
    Cancel {
        /// The query.
        id: UpstreamQueryId,
    },
}
