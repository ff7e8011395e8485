//! A machine in a network namespace of its own, which does what the case tells it by its standard
//! input: one line a request, one line an answer.

mod dhcp;
mod six;

use std::fs::File;
use std::hash::{DefaultHasher, Hasher};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use net_backend_linux::netlink::{Netlink, Route};
use net_wire::icmpv4;
use net_wire::ipv4::Ipv4Packet;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::runner::{PEER, in_namespace};

pub(crate) use six::{router, trust_addresses, usable};

/// The port that every peer serves over TCP and UDP.
pub(crate) const PORT: u16 = 80;
/// How long an answer of the network may take before it counts as lost; that nobody answers to an
/// address is known after three seconds.
const PATIENCE: Duration = Duration::from_secs(6);
/// How long a transfer may stand still, machines with other work being slow.
const STANDSTILL: Duration = Duration::from_secs(30);

/// The process in its namespace; it ends with this.
pub(crate) struct Peer {
    child: Child,
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    namespace: File,
}

impl Peer {
    pub(crate) fn start() -> Self {
        let mut child = in_namespace(&[PEER])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let requests = child.stdin.take();
        let mut answers = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        answers.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        let namespace = File::open(format!("/proc/{}/ns/net", child.id())).unwrap();
        Self {
            child,
            requests,
            answers,
            namespace,
        }
    }

    /// The number of its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn namespace(&self) -> BorrowedFd<'_> {
        self.namespace.as_fd()
    }

    /// Tells it to do something, and waits for the answer.
    pub(crate) fn ask(&mut self, request: &str) -> String {
        self.begin(request);
        self.end()
    }

    /// Tells it to do something.
    pub(crate) fn begin(&mut self, request: &str) {
        writeln!(self.requests.as_mut().unwrap(), "{request}").unwrap();
    }

    /// Waits for the answer to what was begun.
    pub(crate) fn end(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        assert!(line.ends_with('\n'), "the peer has ended");
        line.trim().to_owned()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It ends with its input.
        self.requests = None;
        let _ = self.child.wait();
    }
}

/// The peer's own part.
pub(crate) fn main() {
    let netlink = Netlink::new().unwrap();
    netlink.set_up(netlink.link("lo").unwrap().index).unwrap();
    six::trust_addresses();
    serve();
    println!("ready");
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        let answer = answer(&netlink, &line).unwrap_or_else(|error| format!("error {error}"));
        println!("{answer}");
    }
}

fn answer(netlink: &Netlink, line: &str) -> std::io::Result<String> {
    let words: Vec<&str> = line.split(' ').collect();
    let address = |text: &str| text.parse::<SocketAddr>().unwrap();
    let ip = |text: &str| text.parse::<Ipv4Addr>().unwrap();
    match words[..] {
        ["up", link, network, mtu] => {
            let index = netlink.link(link).unwrap().index;
            netlink.set_mtu(index, mtu.parse().unwrap()).unwrap();
            netlink.set_up(index).unwrap();
            netlink
                .add_address(index, network.parse().unwrap())
                .unwrap();
            Ok("up".into())
        }
        ["route", network, router, link] => {
            let index = netlink.link(link).unwrap().index;
            let router: IpAddr = router.parse().unwrap();
            let route = Route::new(network.parse().unwrap(), Some(router), index);
            netlink.add_route(&route).unwrap();
            Ok("routed".into())
        }
        // A route whose own packets are small, of a host that lets others send it larger ones.
        ["narrow", router, link, mtu] => {
            let index = netlink.link(link).unwrap().index;
            let router: IpAddr = router.parse().unwrap();
            let mut route = Route::default_via(router, index);
            route.mtu = Some(mtu.parse().unwrap());
            route.advmss = Some(if router.is_ipv4() { 1460 } else { 1440 });
            netlink.add_route(&route).unwrap();
            Ok("routed".into())
        }
        ["forward"] => {
            std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")?;
            six::forward()?;
            Ok("forwarding".into())
        }
        // An interface that has an address already keeps it.
        ["dhcp", link] => dhcp::ask(netlink, link).map(|lease| dhcp::describe(&lease)),
        ["lease", link] => dhcp::take(netlink, link),
        ["serve-dhcp", link, from, to] => dhcp::serve(netlink, link, ip(from)..=ip(to)),
        ["global6", link, prefix] => six::global(link, prefix.parse().unwrap()),
        ["routed6", link] => six::routed(netlink, link),
        ["addresses6", link] => Ok(six::addresses(netlink, link)),
        ["mac", link, mac] => {
            let index = netlink.link(link).unwrap().index;
            netlink.set_mac(index, mac.parse().unwrap()).unwrap();
            Ok("set".into())
        }
        ["serve-ra", link, prefix] => six::serve(netlink, link, prefix.parse().unwrap()),
        ["advertise-once", link, prefix] => {
            six::advertise_once(netlink, link, prefix.parse().unwrap())
        }
        ["dns6", server] => six::resolve(server.parse().unwrap()),
        ["tcp", server, bytes] => tcp(address(server), bytes.parse().unwrap()),
        // An interface for the frames of one VLAN, tagged on the wire.
        ["vlan", link, id, network] => {
            let name = format!("{link}.{id}");
            let make = [
                "link", "add", "link", link, "name", &name, "type", "vlan", "id", id,
            ];
            let made = std::process::Command::new("ip").args(make).status()?;
            assert!(made.success());
            let index = netlink.link(&name).unwrap().index;
            netlink.set_up(index).unwrap();
            netlink
                .add_address(index, network.parse().unwrap())
                .unwrap();
            Ok("up".into())
        }
        ["hold", server] => hold(address(server)),
        ["held"] => held(),
        ["udp", server] => udp(address(server), 4),
        ["udp", server, bytes] => udp(address(server), bytes.parse().unwrap()),
        ["ping", host, ttl] => ping(ip(host), ttl.parse().unwrap()),
        ["ping6", host] => six::ping(host.parse().unwrap()),
        _ => panic!("no such request: {line}"),
    }
}

/// Tells everybody who asks which address was seen, and takes and gives what is transferred.
pub(crate) fn serve() {
    serve_at(
        TcpListener::bind(("0.0.0.0", PORT)).unwrap(),
        UdpSocket::bind(("0.0.0.0", PORT)).unwrap(),
    );
    // Kernels without IPv6 have cases without it.
    if let Ok((listener, socket)) = six::sockets() {
        serve_at(listener, socket);
    }
}

fn serve_at(listener: TcpListener, socket: UdpSocket) {
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || serve_tcp(stream));
        }
    });
    std::thread::spawn(move || {
        let mut buffer = vec![0; 65_536];
        while let Ok((len, client)) = socket.recv_from(&mut buffer) {
            let answer = format!("{} {}", client.ip(), hash(&buffer[..len]));
            // As long as the question, so that an answer is cut where the question was.
            let mut answer = answer.into_bytes();
            answer.resize(answer.len().max(len), b' ');
            let _ = socket.send_to(&answer, client);
        }
    });
}

/// So many bytes, of which no two blocks are alike.
fn pattern(bytes: u64) -> impl Iterator<Item = Vec<u8>> {
    const BLOCK: u64 = 64 * 1024;
    (0..bytes.div_ceil(BLOCK)).map(move |n| {
        let len = BLOCK.min(bytes - n * BLOCK);
        (0..len)
            .map(|at| (at.wrapping_mul(31) ^ n.wrapping_mul(0x9e37) ^ (at >> 8)) as u8)
            .collect()
    })
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

/// Reads so many bytes and hashes them as one.
fn read_hash(stream: &mut TcpStream, bytes: u64) -> std::io::Result<u64> {
    let mut hasher = DefaultHasher::new();
    let mut left = bytes;
    let mut buffer = vec![0; 256 * 1024];
    while left > 0 {
        let most = buffer
            .len()
            .min(usize::try_from(left).unwrap_or(usize::MAX));
        let len = stream.read(&mut buffer[..most])?;
        if len == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        hasher.write(&buffer[..len]);
        left -= len as u64;
    }
    Ok(hasher.finish())
}

fn serve_tcp(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(STANDSTILL))?;
    let client = stream.peer_addr()?.ip();
    let mut length = [0; 8];
    stream.read_exact(&mut length)?;
    let bytes = u64::from_be_bytes(length);
    let got = read_hash(&mut stream, bytes)?;
    stream.write_all(&got.to_be_bytes())?;
    for block in pattern(bytes) {
        stream.write_all(&block)?;
    }
    writeln!(stream, "{client}")
}

/// Sends so many bytes and gets as many; says which address the server saw if all arrived.
pub(crate) fn tcp(server: SocketAddr, bytes: u64) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&server, PATIENCE)?;
    stream.set_read_timeout(Some(STANDSTILL))?;
    stream.set_write_timeout(Some(STANDSTILL))?;
    stream.write_all(&bytes.to_be_bytes())?;
    let mut expected = DefaultHasher::new();
    for block in pattern(bytes) {
        expected.write(&block);
        stream.write_all(&block)?;
    }
    let expected = expected.finish();
    let mut arrived = [0; 8];
    stream.read_exact(&mut arrived)?;
    let back = read_hash(&mut stream, bytes)?;
    let mut client = String::new();
    BufReader::new(stream).read_line(&mut client)?;
    if u64::from_be_bytes(arrived) != expected || back != expected {
        return Ok("what arrived is not what was sent".into());
    }
    Ok(client.trim().into())
}

/// The connection that was opened and said nothing yet.
static HELD: Mutex<Option<TcpStream>> = Mutex::new(None);

fn hold(server: SocketAddr) -> std::io::Result<String> {
    let stream = TcpStream::connect_timeout(&server, PATIENCE)?;
    *HELD.lock().unwrap() = Some(stream);
    Ok("connected".into())
}

/// Whether the server of the held connection answers.
fn held() -> std::io::Result<String> {
    let mut stream = HELD.lock().unwrap().take().unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.write_all(&0_u64.to_be_bytes())?;
    stream.read_exact(&mut [0; 8])?;
    Ok("answered".into())
}

fn udp(server: SocketAddr, bytes: usize) -> std::io::Result<String> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let data: Vec<u8> = pattern(bytes as u64).flatten().collect();
    socket.send(&data)?;
    let mut buffer = vec![0; 65_536];
    let len = socket.recv(&mut buffer)?;
    let answer = String::from_utf8_lossy(&buffer[..len]);
    match answer.trim().split_once(' ') {
        Some((client, sum)) if sum == hash(&data).to_string() => Ok(client.to_owned()),
        _ => Ok("what arrived is not what was sent".into()),
    }
}

/// An echo request with this time to live; says which ICMP message comes, and from whom.
fn ping(host: Ipv4Addr, ttl: u32) -> std::io::Result<String> {
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4))?;
    socket.set_ttl_v4(ttl)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut message = vec![0; 8];
    message.extend_from_slice(b"how far is it?");
    let id = 0x4000 + ttl as u16;
    let rest = u32::from(id) << 16 | 1;
    icmpv4::emit(&mut message, icmpv4::ECHO_REQUEST, 0, rest);
    socket.send_to(&message, &SockAddr::from(SocketAddr::from((host, 0))))?;
    let mut buffer = [0; 2048];
    loop {
        let len = (&socket).read(&mut buffer)?;
        let Ok(packet) = Ipv4Packet::parse(&buffer[..len]) else {
            continue;
        };
        let Ok(answer) = icmpv4::IcmpMessage::parse(packet.payload()) else {
            continue;
        };
        let quoted = match answer.kind() {
            icmpv4::ECHO_REPLY if answer.id() == id => true,
            // What an error quotes is the request as it was sent, its identifier included.
            _ => answer.data().get(24..26) == Some(&id.to_be_bytes()[..]),
        };
        if quoted {
            return Ok(format!(
                "{}/{} from {}",
                answer.kind(),
                answer.code(),
                packet.src()
            ));
        }
    }
}
