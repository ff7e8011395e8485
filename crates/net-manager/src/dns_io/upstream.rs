//! One question to one resolver of the host, over UDP or TCP.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use mio::net::{TcpStream, UdpSocket};
use mio::{Interest, Registry, Token};
use net_dns::UpstreamQueryId;
use net_dns::tcp::{Framer, frame};

/// Largest answer over UDP: what an IP packet carries.
const MAX_DATAGRAM: usize = 65_535;

/// What came of a socket's readiness.
#[derive(Debug)]
pub(super) enum UpstreamEvent {
    /// Nothing yet.
    Wait,
    /// A message arrived; there may be more.
    Message(Vec<u8>),
    /// Nothing will come any more.
    Failed,
}

/// A socket with one question on it.
#[derive(Debug)]
pub(super) struct Upstream {
    pub(super) id: UpstreamQueryId,
    pub(super) server: SocketAddr,
    transport: Transport,
}

#[derive(Debug)]
enum Transport {
    Udp(UdpSocket),
    Tcp {
        stream: TcpStream,
        unsent: Vec<u8>,
        framer: Framer,
    },
}

impl Upstream {
    /// Sends a question in a datagram, from a port of the kernel's choice.
    pub(super) fn udp(id: UpstreamQueryId, server: SocketAddr, message: &[u8]) -> io::Result<Self> {
        let any = match server {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(any)?;
        socket.connect(server)?;
        socket.send(message)?;
        Ok(Self {
            id,
            server,
            transport: Transport::Udp(socket),
        })
    }

    /// Starts a connection that will carry a question.
    pub(super) fn tcp(id: UpstreamQueryId, server: SocketAddr, message: &[u8]) -> io::Result<Self> {
        let unsent = frame(message).ok_or(io::ErrorKind::InvalidInput)?;
        let stream = TcpStream::connect(server)?;
        let framer = Framer::new(MAX_DATAGRAM);
        Ok(Self {
            id,
            server,
            transport: Transport::Tcp {
                stream,
                unsent,
                framer,
            },
        })
    }

    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        match &mut self.transport {
            Transport::Udp(socket) => registry.register(socket, token, Interest::READABLE),
            Transport::Tcp { stream, .. } => {
                registry.register(stream, token, Interest::READABLE | Interest::WRITABLE)
            }
        }
    }

    pub(super) fn deregister(&mut self, registry: &Registry) {
        // Closing the descriptor, which follows, ends the registration too.
        let _ = match &mut self.transport {
            Transport::Udp(socket) => registry.deregister(socket),
            Transport::Tcp { stream, .. } => registry.deregister(stream),
        };
    }

    /// Moves bytes until the socket blocks, a message is complete or all is over.
    pub(super) fn advance(&mut self) -> UpstreamEvent {
        match self.try_advance() {
            Ok(Some(message)) => UpstreamEvent::Message(message),
            Ok(None) => UpstreamEvent::Wait,
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => UpstreamEvent::Wait,
            Err(_) => UpstreamEvent::Failed,
        }
    }

    fn try_advance(&mut self) -> io::Result<Option<Vec<u8>>> {
        match &mut self.transport {
            Transport::Udp(socket) => {
                let mut buffer = vec![0; MAX_DATAGRAM];
                let len = socket.recv(&mut buffer)?;
                buffer.truncate(len);
                Ok(Some(buffer))
            }
            Transport::Tcp {
                stream,
                unsent,
                framer,
            } => {
                if let Some(err) = stream.take_error()? {
                    return Err(err);
                }
                while !unsent.is_empty() {
                    match stream.write(unsent) {
                        Ok(sent) => drop(unsent.drain(..sent)),
                        // Before the connection stands, some systems say so in their own way.
                        Err(err) if err.kind() == io::ErrorKind::NotConnected => return Ok(None),
                        Err(err) => return Err(err),
                    }
                }
                let mut buffer = [0; 4096];
                loop {
                    let len = stream.read(&mut buffer)?;
                    if len == 0 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                    let mut input = &buffer[..len];
                    // One question, one answer: what follows it is not ours.
                    if let Some(message) = framer.read(&mut input).map_err(io::Error::other)? {
                        return Ok(Some(message));
                    }
                }
            }
        }
    }
}
