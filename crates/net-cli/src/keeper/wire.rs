//! What keeper and server say to each other: one JSON value a packet, with at most a few
//! descriptors beside it.
//!
//! ```text
//! keeper                                  server
//!   news: Setup, descriptors    ────────►   closes every door behind itself, then
//!                               ◄────────   wish: Open a place
//!   answer: Served, descriptor  ────────►
//!                               ◄────────   wish: Ready; answered by Done, as every wish is
//!   news: Resolvers             ────────►
//!   news ends                   ────────►   stops
//! ```
//!
//! Two sockets, so that neither side ever waits for the other while that one waits for it: on one
//! the server asks and the keeper answers, on the other the keeper tells. What users ask at the control
//! socket goes to the server over a third, a stream, in that socket's own words
//! ([`net_manager::control`]). A server that a guest has taken over gets what a user has asked for
//! ([`Permits`](super::permits::Permits)), and nothing else.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use net_manager::kernel::{KernelAttach, KernelForward, KernelPort};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg,
    sendmsg, socketpair,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::file::File;
use crate::host::{Device, Guest};

/// Longest message in bytes.
const MAX_MESSAGE: usize = 64 * 1024;
/// Descriptors beside one message.
const MAX_DESCRIPTORS: usize = 8;

/// What the keeper tells the server.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) enum News {
    /// The first message: everything that is known at the start.
    Setup(Box<Setup>),
    /// The host's resolvers have changed.
    Resolvers(Vec<SocketAddr>),
}

/// What is to be served.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Setup {
    /// The settings.
    pub(super) settings: File,
    /// The network's name.
    pub(super) name: String,
    /// What carries packets, as it was chosen.
    pub(super) engine: String,
    /// Why it was chosen.
    pub(super) why: String,
    /// Why the host is the router of no IPv6 on a network in the kernel, where it is not.
    #[serde(default)]
    pub(super) no_ipv6: Option<String>,
    /// The keeper's process number.
    pub(super) pid: u32,
    /// The host's resolvers.
    pub(super) resolvers: Vec<SocketAddr>,
    /// Whether to say on standard output what is ready.
    pub(super) announce: bool,
    /// Whether to give up privileges and the file system.
    pub(super) confine: bool,
    /// The places, in order.
    pub(super) places: Vec<String>,
    /// What the descriptors beside this message are, in order.
    pub(super) given: Vec<Gift>,
}

/// A descriptor that the keeper has opened before the server began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Gift {
    /// A stream over which the keeper passes on what users ask.
    Control,
    /// The capture file.
    Capture,
    /// Our port of the network's bridge in the kernel.
    ServicePort,
    /// The host's socket for router advertisements, with the number of its interface.
    Router(u32),
    /// The way out of the fast engine, with the largest IP packet of its link in bytes.
    Uplink(u16),
}

/// What the server asks for.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) enum Wish {
    /// [`Host::open`](crate::host::Host::open)
    Open { place: String, guest: Guest },
    /// [`Host::close`](crate::host::Host::close)
    Close { place: String },
    /// [`Host::bind`](crate::host::Host::bind)
    Bind { udp: bool, address: SocketAddr },
    /// [`KernelOps::attach`](net_manager::kernel::KernelOps::attach)
    Attach(KernelAttach),
    /// [`KernelOps::detach`](net_manager::kernel::KernelOps::detach)
    Detach { interface: String },
    /// [`KernelOps::forward`](net_manager::kernel::KernelOps::forward)
    Forward(KernelForward),
    /// [`KernelOps::unforward`](net_manager::kernel::KernelOps::unforward)
    Unforward { udp: bool, address: SocketAddr },
    /// [`Host::ready`](crate::host::Host::ready)
    Ready,
    /// Nothing comes of it, for this reason; the server ends.
    Failed { why: String },
}

/// What the keeper answers.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) enum Answer {
    /// It has been done.
    Done,
    /// Beside this is a descriptor to serve.
    Served(Device),
    /// The kernel carries its frames.
    Port(KernelPort),
    /// The kernel takes connections there.
    Forwarded(SocketAddr),
    /// Beside this is a bound socket.
    Bound,
    /// No, and why.
    Refused(String),
}

/// Two ends of a connection that keeps messages apart.
pub(super) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC;
    Ok(socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        flags,
        None,
    )?)
}

/// Sends a message with descriptors beside it.
///
/// # Errors
/// `BrokenPipe` if the other side has gone; `InvalidInput` for a message that is too long.
pub(super) fn send(
    socket: &impl AsFd,
    message: &impl Serialize,
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    if bytes.len() > MAX_MESSAGE || descriptors.len() > MAX_DESCRIPTORS {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("more settings than {MAX_MESSAGE} bytes hold"),
        ));
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::other("no room for descriptors"));
    }
    loop {
        match sendmsg(
            socket,
            &[IoSlice::new(&bytes)],
            &mut control,
            SendFlags::NOSIGNAL,
        ) {
            Err(rustix::io::Errno::INTR) => {}
            sent => return sent.map(drop).map_err(Into::into),
        }
    }
}

/// Receives a message and the descriptors beside it; `None` where the other side has gone.
///
/// # Errors
/// `InvalidData` for what is no message.
pub(super) fn receive<T: DeserializeOwned>(
    socket: &impl AsFd,
) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut bytes = vec![0; MAX_MESSAGE];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        match recvmsg(
            socket,
            &mut [IoSliceMut::new(&mut bytes)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        ) {
            Err(rustix::io::Errno::INTR) => {}
            // It left without having read everything.
            Err(rustix::io::Errno::CONNRESET) => return Ok(None),
            received => break received?,
        }
    };
    let descriptors: Vec<OwnedFd> = control
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        })
        .flatten()
        .collect();
    if received.bytes == 0 {
        return Ok(None);
    }
    if received
        .flags
        .intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC)
    {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "a message was cut short",
        ));
    }
    Ok(Some((
        serde_json::from_slice(&bytes[..received.bytes])?,
        descriptors,
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Seek, Write};

    #[test]
    fn messages_and_descriptors_arrive_together() {
        let (near, far) = pair().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"it").unwrap();
        send(&near, &Answer::Served(Device::Tap), &[file.as_fd()]).unwrap();
        send(&near, &Answer::Refused("no".into()), &[]).unwrap();
        drop(near);
        let (answer, descriptors) = receive::<Answer>(&far).unwrap().unwrap();
        assert_eq!(answer, Answer::Served(Device::Tap));
        let mut copy = std::fs::File::from(descriptors.into_iter().next().unwrap());
        copy.rewind().unwrap();
        let mut text = String::new();
        copy.read_to_string(&mut text).unwrap();
        assert_eq!(text, "it");
        let (answer, descriptors) = receive::<Answer>(&far).unwrap().unwrap();
        assert_eq!(answer, Answer::Refused("no".into()));
        assert!(descriptors.is_empty());
        assert!(receive::<Answer>(&far).unwrap().is_none());
        assert!(send(&far, &Answer::Done, &[]).is_err());
    }

    #[test]
    fn what_is_no_message_is_an_error() {
        let (near, far) = pair().unwrap();
        send(&near, &"fly", &[]).unwrap();
        assert!(receive::<Wish>(&far).is_err());
        let long = "x".repeat(MAX_MESSAGE);
        assert!(send(&near, &Answer::Refused(long), &[]).is_err());
        rustix::io::write(&near, &vec![b' '; MAX_MESSAGE + 1]).unwrap();
        assert!(receive::<Wish>(&far).is_err());
    }
}
