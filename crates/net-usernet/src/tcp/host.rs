//! Real sockets: a [`TcpHost`] over non-blocking sockets that a [`mio`] poll watches.

use std::collections::VecDeque;
use std::io::{self, IoSliceMut};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use core::time::Duration;

use mio::net::{TcpStream, UnixStream};
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use net_datapath::IoSegment;
use slab::Slab;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::socket::{ConnectError, HostSocket, Readiness, SendSpace, TcpHost, Unreachable};
use super::sys;
use crate::PortId;

/// Where a guest's connection leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// To this address, as the host sees it.
    Host(SocketAddr),
    /// To a service of the gateway: see [`MioTcpHost::take_service_connection`].
    Service,
    /// Nowhere: the guest gets a reset.
    Refused,
    /// Nowhere: the guest gets an ICMP error.
    Unreachable(Unreachable),
}

/// A guest's connection to a service of the gateway.
#[derive(Debug)]
pub struct ServiceConnection {
    /// The address the guest connected to.
    pub local: SocketAddr,
    /// The guest's address.
    pub peer: SocketAddr,
    /// The guest's port.
    pub port: PortId,
    /// The service's end of the connection; blocking, as the standard library makes it.
    pub stream: std::os::unix::net::UnixStream,
}

/// Service connections that nobody has taken yet, at most.
const MAX_WAITING_SERVICES: usize = 1024;
/// How far a peek reaches where the kernel cannot start it at an offset: everything in front is
/// copied and thrown away every time.
const SKIP_LIMIT: usize = 256 * 1024;
const SCRATCH: usize = 64 * 1024;

#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}

#[derive(Debug)]
struct Entry {
    stream: Stream,
    /// Where the kernel starts the next peek; `None` if it always starts at the front.
    peek_at: Option<usize>,
    /// An event has said that the far end sends no more.
    read_closed: bool,
    /// The published port that it came by.
    listener: Option<usize>,
}

impl Entry {
    fn fd(&self) -> RawFd {
        self.stream.as_fd().as_raw_fd()
    }
}

/// The sockets of a [`TcpRelay`](super::TcpRelay).
///
/// The owner of the poll passes each event of a token it got from `token` to [`Self::readiness`],
/// and what comes out to [`TcpRelay::host_ready`](super::TcpRelay::host_ready).
pub struct MioTcpHost {
    registry: Registry,
    entries: Slab<Entry>,
    token: Box<dyn Fn(HostSocket) -> Token + Send>,
    route: Box<dyn Fn(PortId, SocketAddr) -> Destination + Send>,
    services: VecDeque<ServiceConnection>,
    scratch: Box<[u8]>,
    /// Whether sockets are asked to start a peek at an offset.
    peek_offsets: bool,
    /// Some socket's peeks start at the front.
    skips: bool,
}

impl core::fmt::Debug for MioTcpHost {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("MioTcpHost")
            .field("sockets", &self.entries.len())
            .field("waiting_services", &self.services.len())
            .finish_non_exhaustive()
    }
}

impl MioTcpHost {
    /// A host without sockets. `token` numbers them for `registry`; `route` says where the
    /// addresses that guests connect to lead.
    pub fn new(
        registry: Registry,
        token: impl Fn(HostSocket) -> Token + Send + 'static,
        route: impl Fn(PortId, SocketAddr) -> Destination + Send + 'static,
    ) -> Self {
        Self {
            registry,
            entries: Slab::new(),
            token: Box::new(token),
            route: Box::new(route),
            services: VecDeque::new(),
            scratch: vec![0; SCRATCH].into_boxed_slice(),
            peek_offsets: true,
            skips: false,
        }
    }

    /// Peeks sockets to come from the front and skips what is known, as on systems without
    /// `SO_PEEK_OFF` for TCP (Linux before 6.9, everything else): to compare and to test.
    pub fn disable_peek_offsets(&mut self) {
        self.peek_offsets = false;
    }

    /// Replaces the rule that says where addresses lead; connections that exist stay.
    pub fn set_route(
        &mut self,
        route: impl Fn(PortId, SocketAddr) -> Destination + Send + 'static,
    ) {
        self.route = Box::new(route);
    }

    /// Sockets at present.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Takes an accepted connection, for [`TcpRelay::accept`](super::TcpRelay::accept).
    ///
    /// # Errors
    /// Whatever the poll says to one more socket.
    pub fn adopt(&mut self, stream: TcpStream) -> io::Result<HostSocket> {
        prepare(&SockRef::from(&stream))?;
        self.add(Stream::Tcp(stream))
    }

    /// Notes by which published port an adopted connection came.
    pub(crate) fn came_by(&mut self, socket: HostSocket, listener: usize) {
        if let Some(entry) = self.entries.get_mut(socket.0 as usize) {
            entry.listener = Some(listener);
        }
    }

    /// The connections that came by a published port.
    pub(crate) fn of_listener(&self, listener: usize) -> Vec<HostSocket> {
        let entries = self.entries.iter();
        entries
            .filter(|(_, entry)| entry.listener == Some(listener))
            .filter_map(|(key, _)| u32::try_from(key).ok().map(HostSocket))
            .collect()
    }

    /// The oldest connection to a service that has not been taken.
    pub fn take_service_connection(&mut self) -> Option<ServiceConnection> {
        self.services.pop_front()
    }

    /// What an event says about `socket`.
    pub fn readiness(&mut self, socket: HostSocket, event: &mio::event::Event) -> Readiness {
        let ready = Readiness::from(event);
        if let Some(entry) = self.entries.get_mut(socket.0 as usize) {
            entry.read_closed |= event.is_read_closed();
        }
        ready
    }

    fn add(&mut self, stream: Stream) -> io::Result<HostSocket> {
        #[cfg(target_os = "linux")]
        let peek_at = self
            .peek_offsets
            .then(|| sys::set_peek_offset(stream.as_fd(), 0).ok().map(|()| 0))
            .flatten();
        #[cfg(not(target_os = "linux"))]
        let peek_at = None;
        self.skips |= peek_at.is_none();
        let slot = self.entries.vacant_entry();
        let socket = HostSocket(u32::try_from(slot.key()).map_err(io::Error::other)?);
        let interest = Interest::READABLE | Interest::WRITABLE;
        let fd = stream.as_fd().as_raw_fd();
        self.registry
            .register(&mut SourceFd(&fd), (self.token)(socket), interest)?;
        slot.insert(Entry {
            stream,
            peek_at,
            read_closed: false,
            listener: None,
        });
        Ok(socket)
    }

    fn dial(&mut self, remote: SocketAddr) -> io::Result<HostSocket> {
        let socket = Socket::new(
            Domain::for_address(remote),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        socket.set_nonblocking(true)?;
        prepare(&SockRef::from(&socket))?;
        match socket.connect(&remote.into()) {
            Ok(()) => {}
            Err(error)
                if error.raw_os_error() == Some(libc::EINPROGRESS)
                    || error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        self.add(Stream::Tcp(TcpStream::from_std(socket.into())))
    }

    fn serve(
        &mut self,
        port: PortId,
        guest: SocketAddr,
        remote: SocketAddr,
    ) -> io::Result<HostSocket> {
        if self.services.len() >= MAX_WAITING_SERVICES {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let socket = self.add(Stream::Unix(UnixStream::from_std(ours)))?;
        self.services.push_back(ServiceConnection {
            local: remote,
            peer: guest,
            port,
            stream: theirs,
        });
        Ok(socket)
    }

    fn remove(&mut self, socket: HostSocket) -> Option<Entry> {
        let entry = self.entries.try_remove(socket.0 as usize)?;
        // Closing would do it as well; a failure has no consequence.
        let _ = self.registry.deregister(&mut SourceFd(&entry.fd()));
        Some(entry)
    }
}

/// Options of every socket: the guest's TCP has decided what to send when, urgent bytes stay in
/// the stream, and nothing raises SIGPIPE.
fn prepare(socket: &SockRef<'_>) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    socket.set_out_of_band_inline(true)?;
    socket.set_keepalive(true)?;
    #[cfg(target_vendor = "apple")]
    socket.set_nosigpipe(true)?;
    Ok(())
}

fn gone() -> io::Error {
    io::ErrorKind::NotConnected.into()
}

impl TcpHost for MioTcpHost {
    fn connect(
        &mut self,
        port: PortId,
        guest: SocketAddr,
        remote: SocketAddr,
    ) -> Result<HostSocket, ConnectError> {
        match (self.route)(port, remote) {
            Destination::Host(addr) => self.dial(addr),
            Destination::Service => self.serve(port, guest, remote),
            Destination::Refused => return Err(ConnectError::Refused),
            Destination::Unreachable(why) => return Err(ConnectError::Unreachable(why)),
        }
        .map_err(|error| ConnectError::from(&error))
    }

    fn connect_result(&mut self, socket: HostSocket) -> Option<Result<(), ConnectError>> {
        let Some(entry) = self.entries.get(socket.0 as usize) else {
            return Some(Err(ConnectError::Refused));
        };
        let Stream::Tcp(stream) = &entry.stream else {
            return Some(Ok(()));
        };
        match stream.take_error() {
            Ok(None) => {}
            Ok(Some(error)) | Err(error) => return Some(Err(ConnectError::from(&error))),
        }
        match stream.peer_addr() {
            Ok(_) => Some(Ok(())),
            Err(error)
                if error.kind() == io::ErrorKind::NotConnected
                    || error.raw_os_error() == Some(libc::EINPROGRESS) =>
            {
                None
            }
            Err(error) => Some(Err(ConnectError::from(&error))),
        }
    }

    fn peek(
        &mut self,
        socket: HostSocket,
        offset: usize,
        out: &mut [IoSliceMut<'_>],
    ) -> io::Result<usize> {
        let entry = self.entries.get_mut(socket.0 as usize).ok_or_else(gone)?;
        let fd = entry.stream.as_fd();
        #[cfg(target_os = "linux")]
        if let Some(at) = &mut entry.peek_at {
            if *at != offset {
                sys::set_peek_offset(fd, offset)?;
                *at = offset;
            }
            let n = sys::peek(fd, 0, &mut self.scratch, out)?;
            *at += n;
            return Ok(n);
        }
        let n = sys::peek(fd, offset, &mut self.scratch, out)?;
        match n.checked_sub(offset) {
            Some(0) | None if entry.read_closed || n == 0 => Ok(0),
            Some(0) | None => Err(io::ErrorKind::WouldBlock.into()),
            Some(fresh) => Ok(fresh),
        }
    }

    fn consume(&mut self, socket: HostSocket, n: usize) -> io::Result<()> {
        let entry = self.entries.get_mut(socket.0 as usize).ok_or_else(gone)?;
        let fd = entry.stream.as_fd();
        let mut left = n;
        while left > 0 {
            #[cfg(target_os = "linux")]
            let result = match entry.stream {
                Stream::Tcp(_) => sys::discard_in_kernel(fd, left),
                Stream::Unix(_) => sys::discard(fd, left, &mut self.scratch),
            };
            #[cfg(not(target_os = "linux"))]
            let result = sys::discard(fd, left, &mut self.scratch);
            match result {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(got) => left -= got,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if let Some(at) = &mut entry.peek_at {
            // The kernel moves its offset along with the front of the queue.
            *at = at.saturating_sub(n);
        }
        Ok(())
    }

    fn write(
        &mut self,
        socket: HostSocket,
        data: &[IoSegment<'_>],
        more: bool,
    ) -> io::Result<usize> {
        let entry = self.entries.get(socket.0 as usize).ok_or_else(gone)?;
        loop {
            match sys::write(entry.stream.as_fd(), data, more) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    fn push(&mut self, socket: HostSocket) {
        #[cfg(target_os = "linux")]
        if let Some(entry) = self.entries.get(socket.0 as usize)
            && let Stream::Tcp(stream) = &entry.stream
        {
            // Setting it again sends what `MSG_MORE` holds back (tcp(7)).
            let _ = stream.set_nodelay(true);
        }
        #[cfg(not(target_os = "linux"))]
        let _ = socket;
    }

    fn send_space(&mut self, socket: HostSocket) -> SendSpace {
        let (total, used) = self
            .entries
            .get(socket.0 as usize)
            .and_then(|entry| sys::send_buffer(entry.stream.as_fd()))
            .unwrap_or((0, 0));
        // The kernel charges its own overhead to the buffer: leave an eighth for it.
        let free = total.saturating_sub(used);
        SendSpace {
            free: free - free / 8,
            total,
        }
    }

    fn watch_writable(&mut self, socket: HostSocket) {
        if let Some(entry) = self.entries.get(socket.0 as usize) {
            // Registering again makes the poll look: it reports room that is there already, and
            // makes the kernel remember that somebody waits for room.
            let interest = Interest::READABLE | Interest::WRITABLE;
            let result = self.registry.reregister(
                &mut SourceFd(&entry.fd()),
                (self.token)(socket),
                interest,
            );
            if let Err(error) = result {
                log::warn!("cannot watch a host socket: {error}");
            }
        }
    }

    fn peek_limit(&self) -> usize {
        if self.skips { SKIP_LIMIT } else { usize::MAX }
    }

    fn shutdown_write(&mut self, socket: HostSocket) {
        if let Some(entry) = self.entries.get(socket.0 as usize) {
            // It fails only when the connection is gone, which the next read says as well.
            let _ = match &entry.stream {
                Stream::Tcp(stream) => stream.shutdown(Shutdown::Write),
                Stream::Unix(stream) => stream.shutdown(Shutdown::Write),
            };
        }
    }

    fn reset(&mut self, socket: HostSocket) {
        if let Some(entry) = self.remove(socket)
            && let Stream::Tcp(stream) = &entry.stream
        {
            // Without it the far end gets a FIN for a stream that was cut off.
            let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
        }
    }

    fn close(&mut self, socket: HostSocket) {
        self.remove(socket);
    }
}
