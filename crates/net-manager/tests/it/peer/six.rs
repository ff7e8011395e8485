//! What a peer does over IPv6.

use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener, UdpSocket};
use std::time::{Duration, Instant};

use ipnetwork::{IpNetwork, Ipv6Network};
use net_backend_linux::netlink::Netlink;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::{PATIENCE, PORT, STANDSTILL};

const ECHO_REQUEST: u8 = 128;
const ECHO_REPLY: u8 = 129;

/// Interfaces that come later use their addresses at once: nobody here has the same.
pub(crate) fn trust_addresses() {
    let _ = std::fs::write("/proc/sys/net/ipv6/conf/default/accept_dad", "0");
}

pub(super) fn forward() -> std::io::Result<()> {
    match std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1") {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// The sockets of what every peer serves.
pub(super) fn sockets() -> std::io::Result<(TcpListener, UdpSocket)> {
    let bound = |kind| {
        let socket = Socket::new(Domain::IPV6, kind, None)?;
        socket.set_only_v6(true)?;
        let any = SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, PORT, 0, 0);
        socket.bind(&SockAddr::from(SocketAddr::V6(any)))?;
        std::io::Result::Ok(socket)
    };
    let listener = bound(Type::STREAM)?;
    listener.listen(128)?;
    Ok((listener.into(), bound(Type::DGRAM)?.into()))
}

/// Waits until the interface has formed an address in a prefix that a router tells.
pub(super) fn global(
    netlink: &Netlink,
    link: &str,
    prefix: Ipv6Network,
) -> std::io::Result<String> {
    let index = netlink.link(link).unwrap().index;
    let begun = Instant::now();
    while begun.elapsed() < STANDSTILL {
        for address in netlink.addresses(index).unwrap() {
            if let IpNetwork::V6(own) = address.network
                && prefix.contains(own.ip())
            {
                return Ok(own.ip().to_string());
            }
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Err(std::io::ErrorKind::TimedOut.into())
}

/// An echo request; says who answers it.
pub(super) fn ping(host: Ipv6Addr) -> std::io::Result<String> {
    let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let socket = UdpSocket::from(socket);
    // The kernel fills the checksum in.
    let request = [ECHO_REQUEST, 0, 0, 0, 0x40, 0x06, 0, 1, b'6'];
    socket.send_to(&request, SocketAddr::from((host, 0)))?;
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        let mut buffer = [0; 2048];
        let (len, from) = socket.recv_from(&mut buffer)?;
        if buffer[0] == ECHO_REPLY && buffer[4..len] == request[4..] {
            return Ok(format!("echo from {}", from.ip()));
        }
    }
    Err(std::io::ErrorKind::TimedOut.into())
}
