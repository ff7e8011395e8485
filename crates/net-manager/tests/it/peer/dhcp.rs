//! DHCP over sockets of the kernel: a client for an interface that has no address, and the server of
//! an outside network.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use ipnetwork::{IpNetwork, Ipv4Network};
use net_backend_linux::netlink::Netlink;
use net_dhcp::client::{Client, ClientConfig, Event, Lease, Output};
use net_dhcp::v4::codec::Message;
use net_dhcp::{Server, ServerConfig};
use socket2::{Domain, SockAddr, Socket, Type};

use super::PATIENCE;

/// A socket of one interface, at one port of every address, that may broadcast.
fn socket(link: &str, port: u16) -> std::io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    socket.set_broadcast(true)?;
    socket.bind_device(Some(link.as_bytes()))?;
    socket.bind(&SockAddr::from(SocketAddr::from(([0, 0, 0, 0], port))))?;
    Ok(socket)
}

/// Asks for an address, again every second: the first frames behind a new port of a bridge are lost
/// until the kernel has noticed its carrier.
pub(super) fn ask(netlink: &Netlink, link: &str) -> std::io::Result<Lease> {
    let mac = netlink.link(link).unwrap().mac.unwrap();
    let socket = UdpSocket::from(socket(link, 68)?);
    socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    let mut config = ClientConfig::new(mac.0);
    config.initial_retry = Duration::from_secs(1);
    let mut client = Client::new(config, 7);
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        if let Some(Output::Send(message)) = client.poll(begun.elapsed()) {
            socket.send_to(&message.payload, (message.dst, 67))?;
        }
        let mut buffer = [0; 2048];
        if let Ok(len) = socket.recv(&mut buffer)
            && let Some(Event::Bound(lease)) = client.handle(&buffer[..len], begun.elapsed())
        {
            return Ok(lease);
        }
    }
    Err(std::io::ErrorKind::TimedOut.into())
}

/// Address, routers and name servers.
pub(super) fn describe(lease: &Lease) -> String {
    format!("{} {:?} {:?}", lease.ip, lease.routers, lease.dns)
}

/// Takes every IPv4 address from the interface, and gives it the one that is leased.
pub(super) fn take(netlink: &Netlink, link: &str) -> std::io::Result<String> {
    let index = netlink.link(link).unwrap().index;
    for address in netlink.addresses(index).unwrap() {
        if address.network.is_ipv4() {
            netlink.delete_address(index, address.network).unwrap();
        }
    }
    netlink.set_up(index).unwrap();
    let lease = ask(netlink, link)?;
    let network = Ipv4Network::new(lease.ip, lease.prefix_len).map_err(std::io::Error::other)?;
    netlink
        .add_address(index, IpNetwork::V4(network))
        .map_err(std::io::Error::other)?;
    if let Some(router) = lease.routers.first() {
        netlink
            .add_default_route(index, IpAddr::V4(*router))
            .map_err(std::io::Error::other)?;
    }
    Ok(describe(&lease))
}

/// Serves the network of the interface's address, from now on.
pub(super) fn serve(
    netlink: &Netlink,
    link: &str,
    pool: RangeInclusive<Ipv4Addr>,
) -> std::io::Result<String> {
    let index = netlink.link(link).unwrap().index;
    let addresses = netlink.addresses(index).unwrap();
    let own = addresses.iter().find_map(|address| match address.network {
        IpNetwork::V4(own) => Some(own),
        IpNetwork::V6(_) => None,
    });
    let own = own.unwrap();
    let mut config = ServerConfig::new(own.ip(), own.prefix());
    config.pool = pool;
    let mut server = Server::new(config).unwrap();
    let socket = UdpSocket::from(socket(link, 67)?);
    let begun = Instant::now();
    std::thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((len, _)) = socket.recv_from(&mut buffer) {
            let question = &buffer[..len];
            let Ok(message) = Message::parse(question) else {
                continue;
            };
            let mac = message.header.chaddr;
            if let Some(reply) = server.handle(0, mac, question, begun.elapsed()) {
                let to = (Ipv4Addr::BROADCAST, reply.dst_port);
                let _ = socket.send_to(&reply.payload, to);
            }
        }
    });
    Ok("serving".into())
}
