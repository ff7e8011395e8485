//! A guest's connection to port 53 of the gateway (RFC 7766).

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::time::Duration;

use mio::net::UnixStream;
use net_dns::MAX_QUERY;
use net_dns::tcp::{Framer, IDLE_TIMEOUT, MAX_PIPELINED, PARTIAL_TIMEOUT, WRITE_TIMEOUT, frame};
use net_usernet::{PortId, ServiceConnection};

use super::Work;

/// Unsent answers a connection may have, in bytes; past that it is closed.
const MAX_UNSENT: usize = 256 * 1024;

/// The connection.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) stream: UnixStream,
    pub(super) port: PortId,
    /// Its name towards the gateway.
    pub(super) name: u64,
    /// When it is closed unless something happens.
    pub(super) deadline: Duration,
    framer: Framer,
    unsent: VecDeque<u8>,
    /// Questions without an answer.
    waiting: usize,
    /// The guest will ask nothing more.
    ended: bool,
    /// It stopped reading because too many questions wait.
    paused: bool,
}

impl Client {
    pub(super) fn new(connection: ServiceConnection, name: u64, now: Duration) -> io::Result<Self> {
        connection.stream.set_nonblocking(true)?;
        Ok(Self {
            stream: UnixStream::from_std(connection.stream),
            port: connection.port,
            name,
            deadline: now + IDLE_TIMEOUT,
            framer: Framer::new(MAX_QUERY),
            unsent: VecDeque::new(),
            waiting: 0,
            ended: false,
            paused: false,
        })
    }

    /// Whether nothing more can happen on it.
    pub(super) fn is_finished(&self) -> bool {
        self.ended && self.waiting == 0 && self.unsent.is_empty()
    }

    /// Reads questions and writes answers until the socket blocks.
    pub(super) fn serve(&mut self, now: Duration, work: &mut Work<'_>) -> io::Result<()> {
        if self.write()? {
            self.touch(now);
        }
        let mut buffer = [0; 4096];
        while !self.ended {
            if self.waiting >= MAX_PIPELINED {
                self.paused = true;
                break;
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => self.ended = true,
                Ok(len) => {
                    let mut input = &buffer[..len];
                    while let Some(message) =
                        self.framer.read(&mut input).map_err(io::Error::other)?
                    {
                        self.waiting += 1;
                        work.0
                            .dns_query_tcp(self.port, self.name, &message, now, work.1);
                    }
                    self.touch(now);
                }
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => break,
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                Err(err) => return Err(err),
            }
        }
        Ok(())
    }

    /// Sends an answer, as much of it as the guest takes now.
    pub(super) fn reply(
        &mut self,
        message: &[u8],
        now: Duration,
        work: &mut Work<'_>,
    ) -> io::Result<()> {
        self.waiting = self.waiting.saturating_sub(1);
        let framed = frame(message).ok_or(io::ErrorKind::InvalidData)?;
        if self.unsent.len() + framed.len() > MAX_UNSENT {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        self.unsent.extend(framed);
        self.write()?;
        self.touch(now);
        if std::mem::take(&mut self.paused) {
            // Readiness comes as an edge, and that edge is past.
            return self.serve(now, work);
        }
        Ok(())
    }

    /// Sends what the guest takes; true where that was the last of something.
    fn write(&mut self) -> io::Result<bool> {
        let something = !self.unsent.is_empty();
        while !self.unsent.is_empty() {
            match self.stream.write(self.unsent.as_slices().0) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(sent) => drop(self.unsent.drain(..sent)),
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                Err(err) => return Err(err),
            }
        }
        Ok(something)
    }

    /// Something happened: what is awaited next decides how long to wait for it.
    fn touch(&mut self, now: Duration) {
        let patience = if !self.unsent.is_empty() {
            WRITE_TIMEOUT
        } else if self.framer.is_idle() {
            IDLE_TIMEOUT
        } else {
            PARTIAL_TIMEOUT
        };
        self.deadline = now + patience;
    }
}
