//! The messages between the parent and its helper: one packet each on a Unix socket.
//!
//! ```text
//! parent                              helper
//!   spec, one setting a line  ──────►
//!                             ◄──────  device KIND NAME      + descriptor
//!                             ◄──────  ready
//!   go                        ──────►  (a new namespace only: exec of the command)
//!
//! instead of any answer:      ◄──────  error ERRNO, then what was attempted, then advice
//! ```
//!
//! A peer that is gone reads as the end: the helper then exits, so that nothing is left behind.

use std::os::fd::{AsFd, OwnedFd};

use crate::error::Context;
use crate::{LinuxError, Result, sys};

/// Longest message, in bytes: a `resolv.conf` in hexadecimal and some settings.
const MAX_MESSAGE: usize = 48 * 1024;

/// How the descriptor that a helper hands over is to be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum DeviceKind {
    /// A TAP device.
    Tap,
    /// A packet socket on a virtual Ethernet pair.
    Packet,
}

/// What a helper says.
#[derive(Debug)]
pub(crate) enum Answer {
    /// The interface is there.
    Device(DeviceKind, OwnedFd),
    /// Everything is set up.
    Ready,
}

/// Sends a text.
pub(crate) fn send(socket: &OwnedFd, text: &str, pass: Option<&OwnedFd>) -> Result<()> {
    match sys::send_message(socket.as_fd(), text.as_bytes(), pass.map(AsFd::as_fd)) {
        Err(error) if is_gone(&error) => Err(LinuxError::Helper("the other side has gone")),
        other => other.context("send to the namespace helper"),
    }
}

fn is_gone(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EPIPE | libc::ECONNRESET))
}

/// Receives a text; `None`: the other side has gone.
pub(crate) fn receive(socket: &OwnedFd) -> Result<Option<(String, Option<OwnedFd>)>> {
    let mut buffer = vec![0; MAX_MESSAGE];
    let (len, fd) = loop {
        match sys::receive_message(socket.as_fd(), &mut buffer) {
            Err(error) if error.raw_os_error() == Some(libc::EINTR) => continue,
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => {
                return Err(LinuxError::Helper("no answer within 10 seconds"));
            }
            // It left without having read everything.
            Err(error) if is_gone(&error) => return Ok(None),
            other => break other.context("receive from the namespace helper")?,
        }
    };
    if len == 0 {
        return Ok(None);
    }
    buffer.truncate(len);
    let text = String::from_utf8(buffer).map_err(|_| LinuxError::Helper("not a text"))?;
    Ok(Some((text, fd)))
}

/// Tells the parent why it does not get what it asked for.
pub(crate) fn send_error(socket: &OwnedFd, error: &LinuxError) {
    let text = match error {
        LinuxError::Host {
            what,
            errno,
            advice,
        } => format!("error {errno}\n{what}\n{advice}"),
        other => format!("error 0\n{other}\n"),
    };
    // The parent may be gone; then nobody wants to know.
    let _ = send(socket, &text, None);
}

/// Receives what a helper says; its errors become ours.
pub(crate) fn receive_answer(socket: &OwnedFd) -> Result<Answer> {
    let Some((text, fd)) = receive(socket)? else {
        return Err(LinuxError::Helper("ended without an answer"));
    };
    match (&text[..], fd) {
        ("ready", None) => Ok(Answer::Ready),
        ("device tap", Some(fd)) => Ok(Answer::Device(DeviceKind::Tap, fd)),
        ("device packet", Some(fd)) => Ok(Answer::Device(DeviceKind::Packet, fd)),
        (text, _) => Err(parse_error(text)),
    }
}

fn parse_error(text: &str) -> LinuxError {
    let unknown = LinuxError::Helper("an unknown message");
    let Some(rest) = text.strip_prefix("error ") else {
        return unknown;
    };
    let mut lines = rest.splitn(3, '\n').map(str::to_owned);
    let errno = lines.next().and_then(|errno| errno.parse::<i32>().ok());
    match (errno, lines.next(), lines.next()) {
        (Some(0), Some(what), _) => LinuxError::Invalid(what),
        (Some(errno), Some(what), Some(advice)) => LinuxError::Host {
            what: what.into(),
            errno,
            advice: advice.into(),
        },
        _ => unknown,
    }
}

impl DeviceKind {
    /// The message that announces the device.
    pub(crate) const fn announcement(self) -> &'static str {
        match self {
            Self::Tap => "device tap",
            Self::Packet => "device packet",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use socket2::{Domain, Socket, Type};
    use std::io::{Read, Write};

    fn pair() -> (OwnedFd, OwnedFd) {
        let (a, b) = Socket::pair(Domain::UNIX, Type::SEQPACKET, None).unwrap();
        (a.into(), b.into())
    }

    #[test]
    fn a_descriptor_arrives_with_its_message() {
        let (a, b) = pair();
        let (mut reader, writer) = std::io::pipe().unwrap();
        send(&a, DeviceKind::Tap.announcement(), Some(&writer.into())).unwrap();
        send(&a, "ready", None).unwrap();
        let Answer::Device(DeviceKind::Tap, fd) = receive_answer(&b).unwrap() else {
            panic!("no device");
        };
        let mut passed = std::fs::File::from(fd);
        passed.write_all(b"through").unwrap();
        drop(passed);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "through");
        assert!(matches!(receive_answer(&b), Ok(Answer::Ready)));
        drop(a);
        assert!(matches!(receive_answer(&b), Err(LinuxError::Helper(_))));
    }

    #[test]
    fn errors_cross_with_errno_and_advice() {
        let (a, b) = pair();
        let error = LinuxError::Host {
            what: "open a door".into(),
            errno: 13,
            advice: "use the key".into(),
        };
        send_error(&a, &error);
        let got = receive_answer(&b).unwrap_err();
        assert_eq!(
            (got.to_string(), got.errno()),
            (error.to_string(), Some(13))
        );
        send_error(&a, &LinuxError::Invalid("no".into()));
        assert!(matches!(receive_answer(&b), Err(LinuxError::Invalid(text)) if text == "no"));
        for bad in ["device tap", "error", "error x\ny\nz", "hello"] {
            send(&a, bad, None).unwrap();
            assert!(
                matches!(receive_answer(&b), Err(LinuxError::Helper(_))),
                "{bad}"
            );
        }
    }
}
