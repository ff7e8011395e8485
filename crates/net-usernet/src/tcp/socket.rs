//! What the relay asks of the host's sockets: the seam between the engine and the system.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;

use net_datapath::IoSegment;

use crate::PortId;

/// Names a socket of a [`TcpHost`]: a small number, used again after [`TcpHost::close`] or
/// [`TcpHost::reset`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostSocket(pub u32);

/// How a destination cannot be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreachable {
    /// No route to the network.
    Network,
    /// A route, but the host does not answer on its link.
    Host,
    /// Somebody forbids it: the destination is off limits, or a firewall says so.
    Prohibited,
}

/// Why a connection could not be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectError {
    /// The destination answered with a reset.
    Refused,
    /// The destination cannot be reached.
    Unreachable(Unreachable),
    /// The destination did not answer in time; the guest gets no answer either.
    TimedOut,
    /// The host has no socket, port or memory left.
    Resources,
}

impl From<&io::Error> for ConnectError {
    fn from(error: &io::Error) -> Self {
        use io::ErrorKind as Kind;
        match error.kind() {
            Kind::NetworkUnreachable | Kind::NetworkDown => Self::Unreachable(Unreachable::Network),
            Kind::HostUnreachable => Self::Unreachable(Unreachable::Host),
            Kind::PermissionDenied => Self::Unreachable(Unreachable::Prohibited),
            Kind::TimedOut => Self::TimedOut,
            Kind::AddrNotAvailable | Kind::AddrInUse | Kind::OutOfMemory => Self::Resources,
            _ => match error.raw_os_error() {
                Some(libc::EHOSTDOWN) => Self::Unreachable(Unreachable::Host),
                Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => Self::Resources,
                _ => Self::Refused,
            },
        }
    }
}

/// Room in a socket's send buffer, in bytes of payload; an estimate that errs on the small side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SendSpace {
    /// What a write would take now.
    pub free: usize,
    /// What it would take if the buffer were empty.
    pub total: usize,
}

/// What an event said about a socket. Spurious events do no harm.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Readiness {
    /// There is data, an end of data, or an error.
    pub readable: bool,
    /// There is room, or a connect has ended.
    pub writable: bool,
    /// The far end has closed its direction, or the connection is gone.
    pub closed: bool,
}

impl From<&mio::event::Event> for Readiness {
    fn from(event: &mio::event::Event) -> Self {
        let closed = event.is_read_closed() || event.is_error();
        Self {
            readable: event.is_readable() || closed,
            writable: event.is_writable() || event.is_write_closed(),
            closed,
        }
    }
}

/// Non-blocking stream sockets of the host.
///
/// Events are edges: after a call that said [`io::ErrorKind::WouldBlock`], the next event comes when
/// that has changed, and the relay does not ask before. The relay learns of events through
/// [`TcpRelay::host_ready`](super::TcpRelay::host_ready).
pub trait TcpHost {
    /// Starts to connect to what the guest on `port` calls `remote`; `guest` is its own address.
    ///
    /// # Errors
    /// What is known at once; whatever comes later comes from [`connect_result`](Self::connect_result).
    fn connect(
        &mut self,
        port: PortId,
        guest: SocketAddr,
        remote: SocketAddr,
    ) -> Result<HostSocket, ConnectError>;

    /// How the connect ended; `None` while it has not.
    fn connect_result(&mut self, socket: HostSocket) -> Option<Result<(), ConnectError>>;

    /// Copies received bytes from `offset` behind the first unconsumed one into `out`, without
    /// consuming them; returns how many, 0 at the end of the stream.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when there are none yet; whatever ended the connection.
    fn peek(
        &mut self,
        socket: HostSocket,
        offset: usize,
        out: &mut [IoSliceMut<'_>],
    ) -> io::Result<usize>;

    /// Removes the first `n` received bytes, all of which have been peeked.
    ///
    /// # Errors
    /// Whatever ended the connection.
    fn consume(&mut self, socket: HostSocket, n: usize) -> io::Result<()>;

    /// Writes from the front of `data`; returns how many bytes the socket took. With `more` the
    /// socket may wait for the next write, or for [`push`](Self::push), before it sends.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when it takes none now; whatever ended the connection.
    fn write(
        &mut self,
        socket: HostSocket,
        data: &[IoSegment<'_>],
        more: bool,
    ) -> io::Result<usize>;

    /// Sends what a write with `more` has held back.
    fn push(&mut self, socket: HostSocket);

    /// Room in the send buffer.
    fn send_space(&mut self, socket: HostSocket) -> SendSpace;

    /// Asks for a writable event as soon as there is room worth telling the guest about.
    fn watch_writable(&mut self, socket: HostSocket);

    /// How far [`peek`](Self::peek) may reach behind the first unconsumed byte without becoming
    /// slow, in bytes.
    fn peek_limit(&self) -> usize {
        usize::MAX
    }

    /// Ends the direction towards the far end; what was written still arrives.
    fn shutdown_write(&mut self, socket: HostSocket);

    /// Ends the connection with a reset; the name is free afterwards.
    fn reset(&mut self, socket: HostSocket);

    /// Closes the socket; what was written still arrives. The name is free afterwards.
    fn close(&mut self, socket: HostSocket);
}
