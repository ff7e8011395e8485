//! QEMU `-netdev stream`, and everything that speaks as it does: passt's clients, socket_vmnet,
//! libkrun's `unixstream`. A stream socket; each frame behind its length ([`crate::framing`]).
//!
//! QEMU is the client by default: [`QemuStreamListener`] accepts it, again and again if it
//! reconnects or restarts. With `server=on` it listens: [`QemuStream::connect`]. Started as a
//! child it inherits one end of a socket pair: [`QemuStream::from_stream`].
//!
//! Reading takes whatever has arrived, hundreds of frames at a time, and lends them where they lie.
//! Writing gathers as many frames as one call takes. A frame that the kernel takes in part is
//! completed from a copy of its rest, of which there is at most one: a reader that stands still
//! costs its socket buffer, 256 KiB of receive buffer and one frame.

use std::io::{self, Read};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use net_backend::{
    BackendError, BackendStats, Capabilities, Malformed, NetworkBackend, Offloads, PacketBatch,
    TxFrame, declare,
};
use net_datapath::{VirtioNetHdr, ZeroCopyPacket};
use socket2::{Socket, Type};

use crate::config::SocketConfig;
use crate::framing::FrameDecoder;
use crate::listener::{Listener, prepare};
use crate::path::{BindError, connect};
use crate::stream_writer::StreamWriter;

/// A path that QEMU connects to.
#[derive(Debug)]
pub struct QemuStreamListener {
    listener: Listener,
    config: SocketConfig,
}

impl QemuStreamListener {
    /// Listens at `path`, which must not exist; only this user may connect. The socket file is
    /// removed when the listener is dropped.
    ///
    /// # Errors
    /// [`BindError`] says in one line what is wrong with the path.
    pub fn bind(path: impl AsRef<Path>) -> Result<Self, BindError> {
        Ok(Self {
            listener: Listener::bind(path.as_ref(), Type::STREAM)?,
            config: SocketConfig::default(),
        })
    }

    /// Listens at a bound socket that another process handed over. That process keeps the path, and
    /// removes it.
    ///
    /// # Errors
    /// [`BackendError::Unsupported`] for another kind of socket; [`BackendError::Host`] if the host
    /// refuses to listen.
    pub fn from_socket(socket: OwnedFd) -> Result<Self, BackendError> {
        Ok(Self {
            listener: Listener::inherited(socket, Type::STREAM)?,
            config: SocketConfig::default(),
        })
    }

    /// The configuration of the connections accepted from now on.
    #[must_use]
    pub fn with_config(mut self, config: SocketConfig) -> Self {
        self.config = config;
        self
    }

    /// The next connection; `None` if there is none now.
    ///
    /// # Errors
    /// [`BackendError::Host`], when the limit of open files is reached for example. The
    /// connection stays in the queue and the source stays readable: stop listening for a while.
    pub fn accept(&self) -> Result<Option<QemuStream>, BackendError> {
        let accepted = self.listener.accept()?;
        Ok(accepted.map(|socket| QemuStream::new(socket, self.config)))
    }

    /// Where it listens; `None` for a socket that was bound elsewhere.
    pub fn path(&self) -> Option<&Path> {
        self.listener.path()
    }

    /// Readable when a connection waits to be accepted.
    pub fn source(&self) -> BorrowedFd<'_> {
        self.listener.source()
    }
}

/// What has become of the receiving half.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Inbound {
    Open,
    /// The peer broke the framing behind the frames in the buffer; to be told after those.
    Broken(Malformed),
    Closed,
}

/// One connection.
#[derive(Debug)]
pub struct QemuStream {
    socket: UnixStream,
    config: SocketConfig,
    agreed: Offloads,
    decoder: FrameDecoder,
    inbound: Inbound,
    writer: StreamWriter,
    outbound_closed: bool,
    batch: PacketBatch,
    stats: BackendStats,
}

impl QemuStream {
    fn new(socket: Socket, config: SocketConfig) -> Self {
        let mut stats = BackendStats::default();
        stats.peers = 1;
        Self {
            socket: UnixStream::from(OwnedFd::from(socket)),
            config,
            agreed: Offloads::NONE,
            decoder: FrameDecoder::new(),
            inbound: Inbound::Open,
            writer: StreamWriter::default(),
            outbound_closed: false,
            batch: PacketBatch::new(),
            stats,
        }
    }

    /// Takes a connected stream, one end of a socket pair for example. It becomes non-blocking,
    /// at the other holders of the same descriptor too.
    ///
    /// # Errors
    /// [`BackendError::Host`] if the host refuses the settings it needs.
    pub fn from_stream(stream: UnixStream) -> Result<Self, BackendError> {
        let socket = Socket::from(OwnedFd::from(stream));
        prepare(&socket)?;
        Ok(Self::new(socket, SocketConfig::default()))
    }

    /// Connects to a QEMU that listens at `path` (`server=on`).
    ///
    /// # Errors
    /// [`BindError`] says in one line what is wrong with the path.
    pub fn connect(path: impl AsRef<Path>) -> Result<Self, BindError> {
        let path = path.as_ref();
        let socket = connect(path, Type::STREAM)?;
        prepare(&socket).map_err(|error| BindError::Host {
            path: path.into(),
            what: "prepare the socket",
            source: io::Error::other(error),
        })?;
        Ok(Self::new(socket, SocketConfig::default()))
    }

    /// Sets what cannot be learned from the socket; before the first frame.
    #[must_use]
    pub fn with_config(mut self, config: SocketConfig) -> Self {
        self.config = config;
        self
    }

    /// Lends whole frames from the buffer.
    fn lend(&mut self, budget: usize, sink: &mut dyn FnMut(&mut [ZeroCopyPacket<'_>])) -> usize {
        let mut lent = 0;
        if matches!(self.inbound, Inbound::Broken(_)) {
            return 0;
        }
        let mut frames = self.decoder.frames();
        while lent < budget {
            let mut batch = self.batch.fill();
            let most = PacketBatch::LEN.min(budget - lent);
            for frame in frames.by_ref().take(most) {
                match frame.map(|frame| batch.push_slice(frame, VirtioNetHdr::PLAIN)) {
                    Ok(Ok(packet)) => {
                        declare(packet, self.config.declared(), self.config.mtu);
                        self.stats.rx_frames += 1;
                        self.stats.rx_bytes += packet.len() as u64;
                    }
                    // Lengths have been checked; only a change of the packet's limits leads here.
                    Ok(Err(_)) => self.stats.rx_malformed += 1,
                    Err(malformed) => {
                        self.stats.rx_malformed += 1;
                        self.inbound = Inbound::Broken(malformed);
                    }
                }
            }
            let count = batch.len();
            if count > 0 {
                sink(batch.packets());
            }
            lent += count;
            if count < most {
                break;
            }
        }
        let consumed = frames.consumed();
        self.decoder.consume(consumed);
        lent
    }

    /// Reads once; `Ok(None)` if it would block, else whether the buffer was filled.
    fn fill(&mut self) -> Result<Option<bool>, BackendError> {
        let room = self.decoder.spare_mut();
        let asked = room.len();
        self.stats.rx_calls += 1;
        match (&self.socket).read(room) {
            Ok(0) => self.close_inbound(),
            Ok(len) => {
                self.decoder.filled(len);
                return Ok(Some(len == asked));
            }
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock => return Ok(None),
                io::ErrorKind::Interrupted => {}
                io::ErrorKind::ConnectionReset | io::ErrorKind::NotConnected => {
                    self.close_inbound();
                }
                _ => return Err(BackendError::host("read from a stream socket", &error)),
            },
        }
        Ok(Some(true))
    }

    fn close_inbound(&mut self) {
        if self.inbound == Inbound::Open && self.decoder.is_mid_frame() {
            self.stats.rx_malformed += 1;
        }
        self.inbound = Inbound::Closed;
        self.stats.disconnects = 1;
    }

    /// Translates an error of the sending half.
    fn outbound_error(&mut self, what: &'static str, error: &io::Error) -> BackendError {
        match error.kind() {
            io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::NotConnected => {
                self.outbound_closed = true;
                self.writer.clear();
                self.stats.disconnects = 1;
                BackendError::Disconnected
            }
            _ => BackendError::host(what, error),
        }
    }
}

impl NetworkBackend for QemuStream {
    fn capabilities(&self) -> Capabilities {
        self.config.capabilities()
    }

    fn set_offloads(&mut self, want: Offloads) -> Result<Offloads, BackendError> {
        self.agreed = Offloads::negotiate(want, self.capabilities().offloads);
        Ok(self.agreed)
    }

    fn receive(
        &mut self,
        budget: usize,
        sink: &mut dyn FnMut(&mut [ZeroCopyPacket<'_>]),
    ) -> Result<usize, BackendError> {
        let mut lent = 0;
        loop {
            lent += self.lend(budget - lent, sink);
            if lent == budget {
                return Ok(lent);
            }
            let filled = match self.inbound {
                Inbound::Open => self.fill(),
                _ if lent > 0 => return Ok(lent),
                Inbound::Closed => return Err(BackendError::Disconnected),
                Inbound::Broken(malformed) => {
                    // Neither side can make sense of this stream again.
                    let _ = self.socket.shutdown(Shutdown::Both);
                    self.outbound_closed = true;
                    self.writer.clear();
                    self.decoder.consume(usize::MAX);
                    self.close_inbound();
                    return Err(malformed.into());
                }
            };
            match filled {
                Ok(Some(full)) => {
                    let more = self.lend(budget - lent, sink);
                    lent += more;
                    // A short read is most likely the last: the caller asks again anyway.
                    if more > 0 && !full {
                        return Ok(lent);
                    }
                }
                Ok(None) => return Ok(lent),
                Err(_) if lent > 0 => return Ok(lent),
                Err(error) => return Err(error),
            }
        }
    }

    fn transmit(&mut self, frames: &[TxFrame<'_>]) -> Result<usize, BackendError> {
        if self.outbound_closed {
            return Err(BackendError::Disconnected);
        }
        let fd = self.socket.as_fd();
        self.writer
            .write(fd, frames, self.agreed, &mut self.stats)
            .map_err(|error| self.outbound_error("write to a stream socket", &error))
    }

    fn flush(&mut self) -> Result<bool, BackendError> {
        if self.outbound_closed {
            return Err(BackendError::Disconnected);
        }
        self.writer
            .flush(self.socket.as_fd(), &mut self.stats)
            .map_err(|error| self.outbound_error("write to a stream socket", &error))
    }

    fn wants_write(&self) -> bool {
        self.writer.wants_write()
    }

    fn source(&self) -> Option<BorrowedFd<'_>> {
        Some(self.socket.as_fd())
    }

    fn next_deadline(&self) -> Option<Duration> {
        None
    }

    fn on_deadline(&mut self, _now: Duration) {}

    fn statistics(&self) -> BackendStats {
        self.stats
    }
}
