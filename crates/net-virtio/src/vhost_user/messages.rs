//! Messages that the crate `vhost` does not read, or insists on having at another time.
//!
//! Every message begins with the same twelve bytes. They are looked at before anybody takes them, and
//! decide who does.

use std::io::{self, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use net_wire::MacAddr;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, recvmsg};
use vhost::vhost_user::{Error, Result};

use super::session::Session;

/// Bytes of a message in front of its body: what is asked, flags, length of the body.
const HEADER: usize = 12;
/// The most descriptors beside one: `vhost` has room for as many.
const MOST_FDS: usize = 32;
/// In the flags: the version, an answer, and that one is wanted.
const VERSION: u32 = 1;
const REPLY: u32 = 4;
const NEED_REPLY: u32 = 8;

/// What is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Request {
    SetLogFd = 7,
    /// The protocol has it after `SET_FEATURES`, and `vhost` insists; QEMU enables rings first.
    SetVringEnable = 18,
    SendRarp = 19,
    SetStatus = 39,
    GetStatus = 40,
}

impl Request {
    fn from_number(number: u32) -> Option<Self> {
        let all = [
            Self::SetLogFd,
            Self::SetVringEnable,
            Self::SendRarp,
            Self::SetStatus,
            Self::GetStatus,
        ];
        all.into_iter().find(|one| *one as u32 == number)
    }

    /// Bytes of its body.
    fn body(self) -> u32 {
        match self {
            Self::SetVringEnable | Self::SendRarp | Self::SetStatus => 8,
            Self::SetLogFd | Self::GetStatus => 0,
        }
    }
}

/// The descriptors that came beside a message.
fn rights(beside: &mut RecvAncillaryBuffer<'_>) -> Vec<OwnedFd> {
    let mut files = Vec::new();
    for message in beside.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = message {
            files.extend(fds);
        }
    }
    files
}

/// A message that is next and is ours to read.
pub(super) struct Message {
    request: Request,
    flags: u32,
    size: u32,
}

impl Message {
    /// Looks at the next message without taking it, once there is something of it. `None` for those
    /// that `vhost` reads, and for what is no message.
    ///
    /// # Errors
    /// [`Error::IncorrectFds`] for more descriptors beside it than any message has: `vhost` would lose
    /// the header that they came with, and wait for another.
    pub(super) fn peek(socket: &UnixStream) -> Result<Option<Self>> {
        let mut bytes = [0; HEADER];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FDS + 1))];
        let mut beside = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let flags = RecvFlags::PEEK | RecvFlags::CMSG_CLOEXEC;
        let Ok(got) = recvmsg(socket, &mut parts, &mut beside, flags) else {
            return Ok(None);
        };
        if got.flags.contains(ReturnFlags::CTRUNC) || rights(&mut beside).len() > MOST_FDS {
            return Err(Error::IncorrectFds);
        }
        Ok(Self::parse(bytes.get(..got.bytes).unwrap_or_default()))
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (fields, _) = bytes.as_chunks::<4>();
        let fields: &[[u8; 4]; 3] = fields.first_chunk()?;
        let [request, flags, size] = fields.map(u32::from_ne_bytes);
        Some(Self {
            request: Request::from_number(request)?,
            flags,
            size,
        })
    }

    /// Takes the message, does what it asks, and answers where an answer is due.
    ///
    /// # Errors
    /// Whatever ends the connection.
    pub(super) fn carry_out(&self, session: &Session, mut socket: &UnixStream) -> Result<()> {
        if self.flags & !NEED_REPLY != VERSION || self.size != self.request.body() {
            return Err(Error::InvalidMessage);
        }
        let (body, files) = self.read(socket).map_err(Error::SocketBroken)?;
        let result = self.run(session, body, files);
        let answer = match &result {
            Ok(Some(value)) => Some(*value),
            _ if self.flags & NEED_REPLY == 0 || !session.acknowledges() => None,
            Ok(None) => Some(0),
            Err(_) => Some(1),
        };
        if let Some(answer) = answer {
            let header = [self.request as u32, VERSION | REPLY, 8];
            let mut bytes = header.map(u32::to_ne_bytes).concat();
            bytes.extend(answer.to_ne_bytes());
            socket.write_all(&bytes).map_err(Error::SocketBroken)?;
        }
        result.map(drop)
    }

    /// The body, or zeros for none, and the descriptors beside the message.
    fn read(&self, mut socket: &UnixStream) -> io::Result<([u8; 8], Option<Vec<OwnedFd>>)> {
        let mut header = [0; HEADER];
        // Room for one more than any of these messages has.
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut beside = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut header)];
        let got = recvmsg(socket, &mut parts, &mut beside, RecvFlags::CMSG_CLOEXEC)?;
        let files = rights(&mut beside);
        let mut body = [0; 8];
        // It may come in pieces, and this thread may wait.
        socket.read_exact(body.get_mut(..self.size as usize).unwrap_or_default())?;
        let whole = got.bytes == HEADER && !got.flags.contains(ReturnFlags::CTRUNC);
        Ok((body, whole.then_some(files)))
    }

    /// Carries it out; what it has for an answer of its own.
    fn run(
        &self,
        session: &Session,
        body: [u8; 8],
        files: Option<Vec<OwnedFd>>,
    ) -> Result<Option<u64>> {
        let mut files = files.ok_or(Error::IncorrectFds)?;
        if files.len() != usize::from(self.request == Request::SetLogFd) {
            return Err(Error::IncorrectFds);
        }
        match self.request {
            Request::SetVringEnable => {
                let [a, b, c, d, rest @ ..] = body;
                let index = u32::from_ne_bytes([a, b, c, d]);
                let enable = match u32::from_ne_bytes(rest) {
                    0 => false,
                    1 => true,
                    _ => return Err(Error::InvalidParam),
                };
                session.enable(index, enable)?;
            }
            Request::SendRarp => {
                // The rest of the number is padding.
                let [mac @ .., _, _] = body;
                session.send_rarp(MacAddr(mac))?;
            }
            Request::SetLogFd => {
                let file = files.pop().ok_or(Error::IncorrectFds)?;
                session.set_log_event(file)?;
            }
            Request::SetStatus => session.set_status(u64::from_ne_bytes(body))?,
            Request::GetStatus => return Ok(Some(session.status()?)),
        }
        Ok(None)
    }
}
