//! The asking side of a control socket.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

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
    patience: Duration,
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
            .set_write_timeout(Some(PATIENCE))
            .map_err(ControlError::Broken)?;
        Ok(Self {
            stream,
            lines: Lines::new(MAX_REPLY),
            patience: PATIENCE,
        })
    }

    /// The same, for which an answer may take at most `patience` from its question.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Asks one thing and waits for the whole answer, for 60 seconds at most unless
    /// [`Client::with_patience`] says otherwise.
    ///
    /// # Errors
    /// [`ControlError::Refused`] with the network's own words where it said no; every other where
    /// there was no answer.
    pub fn ask(&mut self, request: &Request) -> Result<Reply, ControlError> {
        // A network that refuses the connection answers and hangs up without reading: the answer
        // is worth more than the failure to write.
        let written = self.stream.write_all(&request.to_line());
        let line = match (self.read_line(Instant::now() + self.patience), written) {
            (Ok(line), _) => line,
            (Err(ControlError::HungUp), Err(err)) => return Err(ControlError::Broken(err)),
            (Err(err), _) => return Err(err),
        };
        match Reply::from_line(&line)? {
            Reply::Error(why) => Err(ControlError::Refused(why)),
            reply => Ok(reply),
        }
    }

    /// The deadline is that of the line: a peer that sends it byte by byte has no more time.
    fn read_line(&mut self, deadline: Instant) -> Result<Vec<u8>, ControlError> {
        let mut buffer = [0; 16 * 1024];
        loop {
            if let Some(line) = self.lines.next_line().map_err(|_| ControlError::TooLong)? {
                return Ok(line);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let why = format!("no answer within {:?}", self.patience);
                return Err(ControlError::Broken(io::Error::new(
                    ErrorKind::TimedOut,
                    why,
                )));
            }
            self.stream
                .set_read_timeout(Some(left))
                .map_err(ControlError::Broken)?;
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(ControlError::HungUp),
                Ok(count) => self.lines.extend(&buffer[..count]),
                // The deadline: it is looked at above.
                Err(err)
                    if matches!(err.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {}
                Err(err) if err.kind() == ErrorKind::ConnectionReset => {
                    return Err(ControlError::HungUp);
                }
                Err(err) => return Err(ControlError::Broken(err)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Neither silence nor a byte now and then holds whoever asks up.
    #[test]
    fn an_answer_without_end_is_none() {
        for bytes in [0, 500] {
            let (near, mut far) = UnixStream::pair().unwrap();
            let client = Client::over(near).unwrap();
            let mut client = client.with_patience(Duration::from_millis(100));
            let peer = std::thread::spawn(move || {
                for _ in 0..bytes {
                    if far.write_all(b" ").is_err() {
                        break;
                    }
                    std::thread::sleep(Duration::from_millis(10));
                }
                far
            });
            let error = client.ask(&Request::Status).unwrap_err();
            assert!(
                matches!(&error, ControlError::Broken(why) if why.kind() == ErrorKind::TimedOut),
                "{error}"
            );
            drop(client);
            peer.join().unwrap();
        }
    }
}
