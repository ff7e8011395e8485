//! Ports of the host that are taken, so that nobody else gets what the rules lead to a guest.

use std::io;
use std::net::{Shutdown, SocketAddr};

use net_usernet::Protocol;
use socket2::{Domain, Socket, Type};

use crate::error::ManagerError;

/// Takes a port of the host, the one of the host's choice for port 0. It does not listen: what the
/// rules do not catch is refused at once.
///
/// # Errors
/// [`ManagerError::PortTaken`].
pub(super) fn reserve(
    protocol: Protocol,
    bind: SocketAddr,
) -> Result<(Socket, SocketAddr), ManagerError> {
    let attempt = || {
        let socket = match protocol {
            Protocol::Tcp => tcp(bind)?,
            Protocol::Udp => bound(Type::DGRAM, bind, false)?,
        };
        let address = socket.local_addr()?;
        Ok((socket, address.as_socket().unwrap_or(bind)))
    };
    attempt().map_err(|source| ManagerError::PortTaken {
        address: bind,
        source,
    })
}

/// Connections of an earlier run in TIME-WAIT are no reason to refuse the port, so it is asked for with
/// `SO_REUSEADDR`. Who has that shares a port with everybody who has it too and does not listen; to
/// listen, once, tells whether somebody is there, and without the option from then on nobody comes.
fn tcp(bind: SocketAddr) -> io::Result<Socket> {
    if bind.port() == 0 {
        // The host chooses one that nobody has. It would be given back by `shutdown`.
        return bound(Type::STREAM, bind, false);
    }
    let socket = bound(Type::STREAM, bind, true)?;
    socket.listen(1)?;
    socket.shutdown(Shutdown::Read)?;
    socket.set_reuse_address(false)?;
    Ok(socket)
}

fn bound(kind: Type, bind: SocketAddr, reuse: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(bind), kind, None)?;
    socket.set_reuse_address(reuse)?;
    if bind.is_ipv6() {
        // 0.0.0.0 and [::] are two different forwards.
        socket.set_only_v6(true)?;
    }
    socket.bind(&bind.into())?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{ErrorKind, Read};
    use std::net::{TcpListener, TcpStream, UdpSocket};

    const LOOPBACK: [&str; 2] = ["127.0.0.1:0", "[::1]:0"];

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn is_taken(reserved: &Result<(Socket, SocketAddr), ManagerError>) -> bool {
        matches!(reserved, Err(ManagerError::PortTaken { .. }))
    }

    #[test]
    fn connections_that_have_ended_do_not_hold_a_port() {
        for host in LOOPBACK {
            // The standard library's listeners have `SO_REUSEADDR`, and so have our own.
            let listener = TcpListener::bind(host).unwrap();
            let address = listener.local_addr().unwrap();
            let mut client = TcpStream::connect(address).unwrap();
            assert!(is_taken(&reserve(Protocol::Tcp, address)), "it listens");
            // Who closes first waits.
            drop(listener.accept().unwrap());
            assert_eq!(client.read(&mut [0]).unwrap(), 0);
            drop((client, listener));
            let (_held, taken) = reserve(Protocol::Tcp, address).unwrap();
            assert_eq!(taken, address);
        }
    }

    #[test]
    fn a_port_is_had_by_one_and_refuses() {
        for host in LOOPBACK {
            let (chosen, address) = reserve(Protocol::Tcp, at(host)).unwrap();
            assert_ne!(address.port(), 0);
            assert!(is_taken(&reserve(Protocol::Tcp, address)));
            drop(chosen);
            let (held, _) = reserve(Protocol::Tcp, address).unwrap();
            assert!(is_taken(&reserve(Protocol::Tcp, address)));
            let error = TcpListener::bind(address).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AddrInUse);
            let error = TcpStream::connect(address).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
            drop(held);
            TcpListener::bind(address).unwrap();
        }
    }

    #[test]
    fn a_port_that_somebody_is_bound_to_is_taken() {
        for host in LOOPBACK {
            let other = bound(Type::STREAM, at(host), false).unwrap();
            let address = other.local_addr().unwrap().as_socket().unwrap();
            assert!(is_taken(&reserve(Protocol::Tcp, address)));
            let other = UdpSocket::bind(host).unwrap();
            let address = other.local_addr().unwrap();
            assert!(is_taken(&reserve(Protocol::Udp, address)));
        }
    }
}
