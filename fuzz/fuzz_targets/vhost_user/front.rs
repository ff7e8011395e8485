//! A front-end's end of a connection, whose messages are carried out on the same thread.

use std::collections::VecDeque;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use net_virtio::vhost_user::{Connection, VhostUserPort};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// Bytes in front of a message's body.
const HEADER: usize = 12;
/// Requests of which the back end reads the body until it is there.
const WAITS: [u32; 5] = [7, 18, 19, 39, 40];
/// The only request whose answer has a descriptor.
const GET_INFLIGHT_FD: u32 = 31;

/// An answer.
pub struct Reply {
    pub request: u32,
    pub body: Vec<u8>,
    pub fds: Vec<OwnedFd>,
}

pub struct Front {
    stream: UnixStream,
    connection: Option<Connection>,
    /// The back end's end, to see how much it has read.
    behind: UnixStream,
    /// Bytes sent and not read.
    sent: VecDeque<u8>,
    ended: bool,
}

impl Front {
    pub fn connect(port: &VhostUserPort) -> Self {
        let (stream, back) = UnixStream::pair().expect("sockets");
        // What the back end does not read shall not hold up this thread.
        stream.set_nonblocking(true).expect("a socket");
        let behind = back.try_clone().expect("a copy");
        Self {
            stream,
            connection: Some(port.connection(back).expect("a connection")),
            behind,
            sent: VecDeque::new(),
            ended: false,
        }
    }

    pub fn is_served(&self) -> bool {
        self.connection.is_some()
    }

    /// Sends bytes, as many as there is room for.
    pub fn send(&mut self, bytes: &[u8], fds: &[BorrowedFd<'_>]) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(48))];
        let mut beside = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            assert!(beside.push(SendAncillaryMessage::ScmRights(fds)));
        }
        let parts = [IoSlice::new(bytes)];
        if !bytes.is_empty()
            && let Ok(len) = sendmsg(&self.stream, &parts, &mut beside, SendFlags::NOSIGNAL)
        {
            self.sent.extend(&bytes[..len]);
        }
    }

    pub fn end(&mut self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Write);
        self.ended = true;
    }

    /// Whether the back end would not have to wait for more of the next message.
    fn is_whole(&self) -> bool {
        let field = |at: usize| {
            let bytes = std::array::from_fn(|n| self.sent[at + n]);
            u32::from_ne_bytes(bytes)
        };
        if self.ended {
            return true;
        }
        if self.sent.len() < HEADER {
            return false;
        }
        let (request, len) = (field(0), field(8));
        let needs = match WAITS.contains(&request) {
            true => len.min(8),
            false => len.min(1),
        };
        self.sent.len() >= HEADER + needs as usize
    }

    /// Has the next message carried out, if it is there; the answer, if there is one.
    pub fn step(&mut self) -> Option<Reply> {
        if !self.is_whole() {
            return None;
        }
        let asked: Vec<u8> = self.sent.iter().take(4).copied().collect();
        if !self.connection.as_mut()?.step() {
            self.connection = None;
        }
        let left = rustix::io::ioctl_fionread(&self.behind).expect("a socket");
        self.sent.drain(..self.sent.len() - left as usize);
        let reply = self.reply()?;
        assert_eq!(reply.request.to_ne_bytes()[..], asked);
        Some(reply)
    }

    /// Has all messages carried out that are there.
    pub fn run(&mut self) -> Option<OwnedFd> {
        let mut kept = None;
        while self.is_served() && self.is_whole() {
            let reply = self.step();
            kept = reply.and_then(|mut reply| reply.fds.pop()).or(kept);
        }
        kept
    }

    /// The answer to one message: whole, and of the protocol.
    fn reply(&self) -> Option<Reply> {
        let mut bytes = vec![0; 8192];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut beside = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let flags = RecvFlags::CMSG_CLOEXEC;
        let len = recvmsg(&self.stream, &mut parts, &mut beside, flags)
            .ok()?
            .bytes;
        let mut fds = Vec::new();
        for message in beside.drain() {
            if let RecvAncillaryMessage::ScmRights(more) = message {
                fds.extend(more);
            }
        }
        if len == 0 {
            return None;
        }
        let body = bytes.split_off(HEADER);
        let (fields, _) = bytes.as_chunks::<4>();
        let [request, flags, size] = [0, 1, 2].map(|at| u32::from_ne_bytes(fields[at]));
        assert_eq!(flags & 7, 5, "an answer of version 1");
        assert_eq!(HEADER + size as usize, len, "one answer, and whole");
        assert_eq!(fds.len(), usize::from(request == GET_INFLIGHT_FD));
        Some(Reply {
            request,
            body: body[..size as usize].to_vec(),
            fds,
        })
    }

    /// Sends a message and has it carried out, which must be; the answer's body.
    pub fn ask(&mut self, request: u32, body: &[u8], fds: &[&dyn AsFd]) -> Vec<u8> {
        let header = [request, 1 | 8, body.len() as u32];
        let mut bytes = header.map(u32::to_ne_bytes).concat();
        bytes.extend(body);
        let fds: Vec<_> = fds.iter().map(|fd| fd.as_fd()).collect();
        self.send(&bytes, &fds);
        let reply = self.step();
        assert!(self.is_served(), "request {request} is refused");
        reply.map(|reply| reply.body).unwrap_or_default()
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.end();
        self.run();
        assert!(!self.is_served(), "a front-end that has gone is noticed");
    }
}
