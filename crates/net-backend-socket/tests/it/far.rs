//! The far side of each kind of socket, as a VMM would hold it, and small helpers.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};

use net_backend::conformance::{Frame, Peer};
use net_backend::{BackendError, NetworkBackend, TxFrame};
use net_datapath::VirtioNetHdr;
use socket2::Socket;

/// A stream with QEMU's framing, written independently of the crate's decoder.
pub(crate) struct FarStream {
    pub(crate) stream: UnixStream,
    /// Bytes of the frame being sent that have gone.
    gone: usize,
    inbox: Vec<u8>,
    at: usize,
}

impl FarStream {
    pub(crate) fn new(stream: UnixStream) -> Self {
        stream.set_nonblocking(true).unwrap();
        Self {
            stream,
            gone: 0,
            inbox: Vec::new(),
            at: 0,
        }
    }
}

impl Peer for FarStream {
    fn send(&mut self, _: VirtioNetHdr, frame: &[u8]) -> bool {
        let mut wire = (frame.len() as u32).to_be_bytes().to_vec();
        wire.extend_from_slice(frame);
        while self.gone < wire.len() {
            match self.stream.write(&wire[self.gone..]) {
                Ok(len) => self.gone += len,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
                Err(error) => panic!("{error}"),
            }
        }
        self.gone = 0;
        true
    }

    fn recv(&mut self) -> Option<Frame> {
        loop {
            let rest = &self.inbox[self.at..];
            if let Some(prefix) = rest.first_chunk::<4>() {
                let end = 4 + u32::from_be_bytes(*prefix) as usize;
                if rest.len() >= end {
                    let frame = Frame::plain(rest[4..end].to_vec());
                    self.at += end;
                    return Some(frame);
                }
            }
            self.inbox.drain(..self.at);
            self.at = 0;
            // An odd size, so that frames are cut everywhere.
            let mut piece = [0; 10_007];
            match self.stream.read(&mut piece) {
                Ok(0) => return None,
                Ok(len) => self.inbox.extend_from_slice(&piece[..len]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

/// A socket of one frame a message, connected to ours.
pub(crate) struct FarMessages(pub(crate) Socket);

impl FarMessages {
    pub(crate) fn new(socket: impl Into<Socket>) -> Self {
        let socket = socket.into();
        socket.set_nonblocking(true).unwrap();
        socket.set_send_buffer_size(1 << 20).unwrap();
        Self(socket)
    }

    pub(crate) fn datagram(socket: UnixDatagram) -> Self {
        Self::new(std::os::fd::OwnedFd::from(socket))
    }
}

impl Peer for FarMessages {
    fn send(&mut self, _: VirtioNetHdr, frame: &[u8]) -> bool {
        match self.0.send(frame) {
            Ok(len) => len == frame.len(),
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            Err(error) => panic!("{error}"),
        }
    }

    fn recv(&mut self) -> Option<Frame> {
        let mut bytes = vec![0; 70_000];
        match (&self.0).read(&mut bytes) {
            Ok(0) => panic!("an empty message, or the end"),
            Ok(len) => {
                bytes.truncate(len);
                Some(Frame::plain(bytes))
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Receives what is there, in one call; the lengths of the frames.
pub(crate) fn lengths(backend: &mut impl NetworkBackend) -> Result<Vec<usize>, BackendError> {
    let mut lengths = Vec::new();
    backend.receive(1000, &mut |batch| {
        lengths.extend(batch.iter().map(|packet| packet.len()));
    })?;
    Ok(lengths)
}

/// Offers one frame of `len` bytes.
pub(crate) fn offer(backend: &mut impl NetworkBackend, len: usize) -> Result<usize, BackendError> {
    let frame = vec![0x5a; len];
    backend.transmit(&[TxFrame::plain(&[frame[..].into()])])
}

/// Offers frames until one is refused; how many were taken.
pub(crate) fn fill(backend: &mut impl NetworkBackend, len: usize) -> usize {
    let mut taken = 0;
    while offer(backend, len).unwrap() == 1 {
        taken += 1;
        assert!(taken * len < 64 << 20, "no bound");
    }
    taken
}

/// Whether the descriptor reports one of `events` now.
pub(crate) fn is_ready(source: Option<BorrowedFd<'_>>, events: libc::c_short) -> bool {
    let mut poll = libc::pollfd {
        fd: source.expect("a socket").as_raw_fd(),
        events,
        revents: 0,
    };
    // SAFETY: one initialised entry, borrowed for a call that does not wait.
    assert!(unsafe { libc::poll(&mut poll, 1, 0) } >= 0);
    poll.revents & events != 0
}

pub(crate) fn is_gone<T: std::fmt::Debug>(result: &Result<T, BackendError>) -> bool {
    matches!(result, Err(BackendError::Disconnected))
}
