//! What happens to sessions, for logs and for whoever mirrors them.

use alloc::boxed::Box;
use core::net::IpAddr;
use core::time::Duration;

use crate::address::Endpoint;
use crate::direction::Direction;
use crate::tcp::TcpState;
use crate::verdict::DropReason;

/// Called with every event, on the slow path only.
pub type Observer = Box<dyn FnMut(&Event) + Send>;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A session was opened.
    Opened(SessionView),
    /// A session has ended, by silence or by order.
    Closed(SessionView),
    /// A new session of this inside host was refused.
    Refused {
        /// The inside host.
        inside: IpAddr,
        /// IP protocol number.
        protocol: u8,
        /// Why.
        reason: DropReason,
    },
}

/// A session as the outside of the engine sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionView {
    /// IP protocol number.
    pub protocol: u8,
    /// The guest's end.
    pub inside: Endpoint<IpAddr>,
    /// What the outside sees in its place.
    pub outside: Endpoint<IpAddr>,
    /// The other end.
    pub remote: Endpoint<IpAddr>,
    /// Who began.
    pub opened_by: Direction,
    /// How long it lives on without another packet, to the second.
    pub expires_in: Duration,
    /// The state of its TCP connection.
    pub tcp: Option<TcpState>,
}
