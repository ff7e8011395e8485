//! Host sockets made of queues. What the far end does, the test does.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;

use net_datapath::IoSegment;
use net_usernet::tcp::{ConnectError, HostSocket, Readiness, SendSpace, TcpHost};

#[derive(Debug, Default)]
pub(crate) struct Far {
    /// How the connect ended; `None` while it has not.
    pub(crate) connected: Option<Result<(), ConnectError>>,
    pub(crate) remote: Option<SocketAddr>,
    /// The receive queue.
    pub(crate) inbox: VecDeque<u8>,
    pub(crate) inbox_ended: bool,
    /// The send buffer.
    pub(crate) outbox: VecDeque<u8>,
    pub(crate) outbox_size: usize,
    /// Bytes at its end that wait for more.
    pub(crate) held: usize,
    /// How much more room than there is the socket claims to have.
    pub(crate) overstates: usize,
    /// The most a single write takes.
    pub(crate) write_at_most: usize,
    /// What has arrived at the far end.
    pub(crate) arrived: Vec<u8>,
    pub(crate) write_ended: bool,
    pub(crate) watched: bool,
    pub(crate) reset: bool,
    pub(crate) closed: bool,
    pub(crate) failed: bool,
    pub(crate) peeked: usize,
}

#[derive(Debug, Default)]
pub(crate) struct Host {
    /// By number; numbers are never used twice, so that a test sees what became of each.
    pub(crate) sockets: BTreeMap<u32, Far>,
    pub(crate) next: u32,
    /// What the next connect says at once.
    pub(crate) refuse: Option<ConnectError>,
    /// Whether connects end at once.
    pub(crate) instant: bool,
    pub(crate) calls: u64,
    pub(crate) peeks: u64,
    pub(crate) peek_limit: Option<usize>,
    pub(crate) events: VecDeque<(HostSocket, Readiness)>,
}

pub(crate) const READABLE: Readiness = Readiness {
    readable: true,
    writable: false,
    closed: false,
};
pub(crate) const WRITABLE: Readiness = Readiness {
    readable: false,
    writable: true,
    closed: false,
};

impl Host {
    pub(crate) fn add(&mut self) -> HostSocket {
        self.next += 1;
        self.sockets.insert(
            self.next,
            Far {
                outbox_size: 64 * 1024,
                write_at_most: usize::MAX,
                ..Far::default()
            },
        );
        HostSocket(self.next)
    }

    pub(crate) fn far(&mut self, socket: HostSocket) -> &mut Far {
        self.sockets.get_mut(&socket.0).unwrap()
    }

    /// The far end has sent `bytes`.
    pub(crate) fn feed(&mut self, socket: HostSocket, bytes: &[u8]) {
        self.far(socket).inbox.extend(bytes);
        self.events.push_back((socket, READABLE));
    }

    /// The far end has ended its direction.
    pub(crate) fn end(&mut self, socket: HostSocket) {
        self.far(socket).inbox_ended = true;
        self.events.push_back((
            socket,
            Readiness {
                closed: true,
                ..READABLE
            },
        ));
    }

    /// The far end takes `n` bytes out of the send buffer.
    pub(crate) fn drain(&mut self, socket: HostSocket, n: usize) {
        let far = self.far(socket);
        let n = n.min(far.outbox.len() - far.held);
        let taken = far.outbox.drain(..n);
        far.arrived.extend(taken);
        self.notice_room(socket);
    }

    /// Like the kernel: a watcher hears of room when a third of the buffer is free.
    pub(crate) fn notice_room(&mut self, socket: HostSocket) {
        let far = self.far(socket);
        let free = far.outbox_size.saturating_sub(far.outbox.len());
        if far.watched && free * 3 >= far.outbox_size {
            far.watched = false;
            self.events.push_back((socket, WRITABLE));
        }
    }

    pub(crate) fn fail(&mut self, socket: HostSocket) {
        self.far(socket).failed = true;
        self.events.push_back((
            socket,
            Readiness {
                closed: true,
                ..READABLE
            },
        ));
    }

    /// Sockets the relay has neither closed nor reset.
    pub(crate) fn open(&self) -> usize {
        let open = |far: &&Far| !far.closed && !far.reset;
        self.sockets.values().filter(open).count()
    }

    fn live(&mut self, socket: HostSocket) -> io::Result<&mut Far> {
        self.calls += 1;
        let far = self
            .sockets
            .get_mut(&socket.0)
            .expect("a socket that was made");
        assert!(
            !far.closed && !far.reset,
            "{socket:?} is used after its end"
        );
        if far.failed {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        Ok(far)
    }
}

impl TcpHost for Host {
    fn connect(
        &mut self,
        _port: u32,
        _guest: SocketAddr,
        remote: SocketAddr,
    ) -> Result<HostSocket, ConnectError> {
        self.calls += 1;
        if let Some(error) = self.refuse {
            return Err(error);
        }
        let instant = self.instant.then_some(Ok(()));
        let socket = self.add();
        self.far(socket).remote = Some(remote);
        self.far(socket).connected = instant;
        Ok(socket)
    }

    fn connect_result(&mut self, socket: HostSocket) -> Option<Result<(), ConnectError>> {
        self.live(socket).unwrap().connected
    }

    fn peek(
        &mut self,
        socket: HostSocket,
        offset: usize,
        out: &mut [IoSliceMut<'_>],
    ) -> io::Result<usize> {
        self.peeks += 1;
        let limit = self.peek_limit.unwrap_or(usize::MAX);
        let far = self.live(socket)?;
        assert!(
            offset <= far.inbox.len(),
            "peek behind the end of the queue"
        );
        assert!(offset <= limit, "peek behind the limit");
        let mut at = offset;
        for slice in out.iter_mut() {
            for (to, from) in slice.iter_mut().zip(far.inbox.range(at..)) {
                *to = *from;
                at += 1;
            }
        }
        far.peeked = far.peeked.max(at);
        match at - offset {
            0 if far.inbox_ended => Ok(0),
            0 => Err(io::ErrorKind::WouldBlock.into()),
            n => Ok(n),
        }
    }

    fn consume(&mut self, socket: HostSocket, n: usize) -> io::Result<()> {
        let far = self.live(socket)?;
        assert!(n <= far.peeked, "{n} bytes consumed, {} peeked", far.peeked);
        far.peeked -= n;
        far.inbox.drain(..n);
        Ok(())
    }

    fn write(
        &mut self,
        socket: HostSocket,
        data: &[IoSegment<'_>],
        more: bool,
    ) -> io::Result<usize> {
        let far = self.live(socket)?;
        assert!(!far.write_ended, "write after the end");
        let total: usize = data.iter().map(IoSegment::len).sum();
        let free = far.outbox_size.saturating_sub(far.outbox.len());
        let take = total.min(free).min(far.write_at_most);
        if take == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut left = take;
        for segment in data {
            let mut bytes = vec![0; segment.len().min(left)];
            assert_eq!(segment.copy_to_slice(0, &mut bytes), bytes.len());
            left -= bytes.len();
            far.outbox.extend(bytes);
        }
        far.held = if more { far.held + take } else { 0 };
        Ok(take)
    }

    fn push(&mut self, socket: HostSocket) {
        if let Ok(far) = self.live(socket) {
            assert!(far.held > 0, "a push for nothing");
            far.held = 0;
        }
    }

    fn send_space(&mut self, socket: HostSocket) -> SendSpace {
        self.calls += 1;
        let far = self.far(socket);
        let free = far.outbox_size.saturating_sub(far.outbox.len());
        SendSpace {
            free: free - free / 8 + far.overstates,
            total: far.outbox_size,
        }
    }

    fn watch_writable(&mut self, socket: HostSocket) {
        self.live(socket).ok();
        self.far(socket).watched = true;
        self.notice_room(socket);
    }

    fn peek_limit(&self) -> usize {
        self.peek_limit.unwrap_or(usize::MAX)
    }

    fn shutdown_write(&mut self, socket: HostSocket) {
        if let Ok(far) = self.live(socket) {
            assert!(!far.write_ended, "ended twice");
            far.write_ended = true;
            far.held = 0;
        }
    }

    fn reset(&mut self, socket: HostSocket) {
        self.live(socket).ok();
        let far = self.far(socket);
        far.reset = true;
        far.held = 0;
        far.outbox.clear();
    }

    fn close(&mut self, socket: HostSocket) {
        self.live(socket).ok();
        self.far(socket).closed = true;
        self.far(socket).held = 0;
    }
}
