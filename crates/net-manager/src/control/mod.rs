//! The control socket: how a running network is asked and changed from outside its process.
//!
//! A Unix socket that only its owner may open, never a TCP port, and no address of a guest's
//! network leads to it. The conversation is JSON, one value a line ([`Request`], [`Reply`]), so that
//! a shell with `nc -U` is a client.
//!
//! | part | its job |
//! |---|---|
//! | [`Request`], [`Reply`] | what is said |
//! | [`bind`] | the socket, with its mode |
//! | [`ControlServer`] | a thread that answers, with one [`Handler`] for all clients |
//! | [`answer`] | the same for one peer that is of the network itself |
//! | [`Client`] | asks, with a deadline |
//!
//! Whoever may open the socket may end the network and publish any port: that is the protection.
//! What a client can still get wrong is bounded: the length of a line, the number of clients, and
//! the time one may be silent.

mod answer;
mod client;
mod connection;
mod lines;
mod message;
mod server;

use std::io;
use std::path::PathBuf;

pub use answer::answer;
pub use client::Client;
pub use message::{
    AttachmentReport, GuestReport, MAX_REPLY, MAX_REQUEST, NetworkReport, PublishedReport, Reply,
    Request, SwitchReport, UplinkReport, VERSION,
};
pub use server::{ControlServer, Handler, MAX_CLIENTS, bind};

/// Why a conversation over a control socket failed. Every message is one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// The peer is of another version.
    #[error("the other side speaks version {0} of the control protocol, this is version {VERSION}")]
    Version(u32),
    /// What came is no message.
    #[error("this is no message of the control protocol: {0}")]
    Malformed(String),
    /// Nobody answers at the socket.
    #[error("no network answers at {}: {source}", .path.display())]
    NotThere {
        /// The socket.
        path: PathBuf,
        /// What the host said.
        source: io::Error,
    },
    /// The conversation broke off.
    #[error("the control socket: {0}")]
    Broken(#[source] io::Error),
    /// The peer hung up before it had answered.
    #[error("the network ended before it had answered")]
    HungUp,
    /// The peer answered with more than [`MAX_REPLY`] bytes.
    #[error("the answer is longer than {MAX_REPLY} bytes")]
    TooLong,
    /// The request was not carried out; this says why.
    #[error("{0}")]
    Refused(String),
}
