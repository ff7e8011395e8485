//! The asking side of a control socket.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::ControlError;
use super::lines::Lines;
use super::message::{MAX_REPLY, Reply, Request};

/// How long an answer may take: longer than anything that a network is asked to do.
const PATIENCE: Duration = Duration::from_secs(60);

/// A conversation with a running network.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    lines: Lines,
}

impl Client {
    /// Connects to the network whose control socket is at `path`.
    ///
    /// # Errors
    /// [`ControlError::NotThere`] where nobody listens.
    pub fn connect(path: &Path) -> Result<Self, ControlError> {
        let not_there = |source| ControlError::NotThere {
            path: path.to_owned(),
            source,
        };
        Self::over(UnixStream::connect(path).map_err(not_there)?)
    }

    /// Asks whoever is at the other end of `stream`, by [`answer`](super::answer) for example.
    ///
    /// # Errors
    /// [`ControlError::Broken`] where the host gives the socket no deadline.
    pub fn over(stream: UnixStream) -> Result<Self, ControlError> {
        stream
            .set_read_timeout(Some(PATIENCE))
            .and_then(|()| stream.set_write_timeout(Some(PATIENCE)))
            .map_err(ControlError::Broken)?;
        Ok(Self {
            stream,
            lines: Lines::new(MAX_REPLY),
        })
    }

    /// Asks one thing and waits for the answer, for 60 seconds at most.
    ///
    /// # Errors
    /// [`ControlError::Refused`] with the network's own words where it said no; every other where
    /// there was no answer.
    pub fn ask(&mut self, request: &Request) -> Result<Reply, ControlError> {
        // A network that refuses the connection answers and hangs up without reading: the answer
        // is worth more than the failure to write.
        let written = self.stream.write_all(&request.to_line());
        let line = match (self.read_line(), written) {
            (Ok(line), _) => line,
            (Err(ControlError::HungUp), Err(err)) => return Err(ControlError::Broken(err)),
            (Err(err), _) => return Err(err),
        };
        match Reply::from_line(&line)? {
            Reply::Error(why) => Err(ControlError::Refused(why)),
            reply => Ok(reply),
        }
    }

    fn read_line(&mut self) -> Result<Vec<u8>, ControlError> {
        let mut buffer = [0; 16 * 1024];
        loop {
            if let Some(line) = self.lines.next_line().map_err(|_| ControlError::TooLong)? {
                return Ok(line);
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(ControlError::HungUp),
                Ok(count) => self.lines.extend(&buffer[..count]),
                Err(err) if err.kind() == ErrorKind::Interrupted => {}
                Err(err) if err.kind() == ErrorKind::ConnectionReset => {
                    return Err(ControlError::HungUp);
                }
                Err(err) => return Err(ControlError::Broken(err)),
            }
        }
    }
}
