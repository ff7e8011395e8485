//! What a peer does over IPv6.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener, UdpSocket};
use std::time::{Duration, Instant};

use ipnetwork::{IpNetwork, Ipv6Network};
use net_backend_linux::netlink::{Netlink, Route};
use net_backend_linux::ra_socket::{ALL_NODES, RaSocket};
use net_dhcp::ra::{Advertiser, Destination, Prefix, RaConfig, State, message};
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

/// The address of an interface in a prefix, once packets may leave from it. An address is tentative
/// until nobody else is known to have it, and, where nobody is asked, until the kernel has got round
/// to that: meanwhile they would leave from the link-local one.
pub(crate) fn usable(link: &str, prefix: Ipv6Network) -> Option<Ipv6Addr> {
    // `IFA_F_DADFAILED` and `IFA_F_TENTATIVE`.
    const NOT_YET: u8 = 0x08 | 0x40;
    let table = std::fs::read_to_string("/proc/net/if_inet6").unwrap();
    table.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [address, _, _, _, flags, name] = words[..] else {
            panic!("{line}");
        };
        let address = Ipv6Addr::from_bits(u128::from_str_radix(address, 16).unwrap());
        let flags = u8::from_str_radix(flags, 16).unwrap();
        (name == link && prefix.contains(address) && flags & NOT_YET == 0).then_some(address)
    })
}

/// Waits until the interface has formed an address in a prefix that a router tells, and may use it.
pub(super) fn global(link: &str, prefix: Ipv6Network) -> std::io::Result<String> {
    let begun = Instant::now();
    while begun.elapsed() < STANDSTILL {
        if let Some(own) = usable(link, prefix) {
            return Ok(own.to_string());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Err(std::io::ErrorKind::TimedOut.into())
}

/// The default router that an interface has heard of.
pub(crate) fn router(netlink: &Netlink, link: &str) -> Option<IpAddr> {
    let index = netlink.link(link).unwrap().index;
    let heard = |route: &&Route| {
        route.protocol == Route::BY_ADVERTISEMENT && route.destination.prefix() == 0
    };
    let routes = netlink.routes(index).unwrap();
    routes.iter().find(heard).and_then(|route| route.gateway)
}

/// Waits until the interface has heard of a default router.
pub(super) fn routed(netlink: &Netlink, link: &str) -> std::io::Result<String> {
    let begun = Instant::now();
    while begun.elapsed() < STANDSTILL {
        if let Some(router) = router(netlink, link) {
            return Ok(router.to_string());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Err(std::io::ErrorKind::TimedOut.into())
}

/// The addresses of an interface but the link-local ones.
pub(super) fn addresses(netlink: &Netlink, link: &str) -> String {
    let index = netlink.link(link).unwrap().index;
    let addresses = netlink.addresses(index).unwrap();
    let own = addresses
        .iter()
        .filter_map(|address| match address.network {
            IpNetwork::V6(own) if !own.ip().is_unicast_link_local() => Some(own.ip().to_string()),
            _ => None,
        });
    own.collect::<Vec<_>>().join(" ")
}

/// What a router of `prefix` advertises on an interface: itself.
fn advertisement(netlink: &Netlink, link: &str, prefix: Ipv6Network) -> (RaSocket, RaConfig) {
    let found = netlink.link(link).unwrap();
    let socket = RaSocket::open(link, found.index).unwrap();
    let mut config = RaConfig::new(Prefix::new(prefix.network(), prefix.prefix()));
    config.link_address = found.mac.map(|mac| mac.0);
    (socket, config)
}

/// Is the router of the interface's link from now on.
pub(super) fn serve(netlink: &Netlink, link: &str, prefix: Ipv6Network) -> std::io::Result<String> {
    let (socket, config) = advertisement(netlink, link, prefix);
    let mut advertiser = Advertiser::new(config, 7).unwrap();
    let begun = Instant::now();
    advertiser.start(Duration::ZERO);
    std::thread::spawn(move || {
        let mut buffer = [0; 1500];
        loop {
            let now = begun.elapsed();
            while let Ok(Some((source, len))) = socket.receive(&mut buffer) {
                let _ = advertiser.solicited(0, source, 255, &buffer[..len], now);
            }
            while let Some(due) = advertiser.poll(now) {
                let to = match due.to {
                    Destination::AllNodes => ALL_NODES,
                    Destination::Host { address, .. } => address,
                };
                let _ = socket.send(to, &due.message);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    Ok("serving".into())
}

/// Says once that it is a router.
pub(super) fn advertise_once(
    netlink: &Netlink,
    link: &str,
    prefix: Ipv6Network,
) -> std::io::Result<String> {
    let (socket, config) = advertisement(netlink, link, prefix);
    let said = message(&config, State::Advertising);
    socket
        .send(ALL_NODES, &said)
        .map_err(std::io::Error::other)?;
    Ok("said".into())
}

/// Asks a name server for the IPv6 address of its own name; says how it answers.
pub(super) fn resolve(server: Ipv6Addr) -> std::io::Result<String> {
    // Identifier 7, recursion desired, one question: gateway.internal, AAAA, IN.
    let mut question = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in ["gateway", "internal"] {
        question.push(label.len() as u8);
        question.extend(label.bytes());
    }
    question.extend([0, 0, 28, 0, 1]);
    let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))?;
    socket.connect((server, 53))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.send(&question)?;
    let mut buffer = [0; 512];
    let len = socket.recv(&mut buffer)?;
    // The one answer ends with the address.
    let address = buffer[..len].last_chunk::<16>().copied();
    let address = address.filter(|_| buffer[3] & 15 == 0 && buffer[7] == 1);
    let address = address.ok_or(std::io::ErrorKind::InvalidData)?;
    Ok(Ipv6Addr::from(address).to_string())
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
