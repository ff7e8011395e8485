//! The guest of the demo: a process in a namespace of its own, whose kernel is a real Linux network
//! stack. It reports each step to the demo on standard output as `ok|fail <tab> what <tab> details`.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use net_dhcp::client::{Client, ClientConfig, Event, Lease, Output};
use socket2::{Domain, Protocol, Socket, Type};

use super::servers::{BODY_LEN, MEASURE, OUTSIDE_ADDRESS, OUTSIDE_NAME, body_byte};
use crate::output::say;

/// The port that the demo publishes.
pub(super) const PUBLISHED_PORT: u16 = 8080;
/// The line that says that the published port is served.
pub(super) const LISTENING: &str = "listening";
/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a step says when it held.
type Step = Result<String, String>;

/// Runs every step; the arguments are the interface's hardware address and the servers' ports.
pub(crate) fn guest(arguments: &[OsString]) -> ExitCode {
    let words: Vec<&str> = arguments.iter().filter_map(|word| word.to_str()).collect();
    let [mac, http, bulk] = words[..] else {
        return ExitCode::from(2);
    };
    let (Ok(mac), Ok(http), Ok(bulk)) = (
        mac.parse::<net_wire::MacAddr>(),
        http.parse::<u16>(),
        bulk.parse::<u16>(),
    ) else {
        return ExitCode::from(2);
    };
    let mut held = true;
    let mut report = |what: &str, step: Step| {
        let (verdict, details) = match step {
            Ok(details) => ("ok", details),
            Err(details) => ("fail", details),
        };
        held &= verdict == "ok";
        say(format_args!("{verdict}\t{what}\t{details}"));
        held
    };
    let lease = match lease(mac.0) {
        Ok((lease, took)) => {
            report("DHCP lease", Ok(describe(&lease, took)));
            lease
        }
        Err(why) => {
            report("DHCP lease", Err(why));
            return ExitCode::FAILURE;
        }
    };
    if let Err(why) =
        crate::namespace::configure(lease.ip, lease.prefix_len, lease.routers.first().copied())
    {
        report("interface", Err(why.to_string()));
        return ExitCode::FAILURE;
    }
    let gateway = lease
        .routers
        .first()
        .copied()
        .unwrap_or(Ipv4Addr::UNSPECIFIED);
    report("ping the gateway", ping(gateway));
    report("DNS, local name", resolve("gateway.internal", gateway));
    report("DNS, outside name", resolve(OUTSIDE_NAME, OUTSIDE_ADDRESS));
    report("HTTP transfer", fetch((gateway, http).into()));
    report("TCP host to guest", receive((gateway, bulk).into()));
    report("TCP guest to host", send((gateway, bulk).into()));
    let held = report("published port", published());
    if held {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn said<T>(what: &str) -> impl FnOnce(io::Error) -> Result<T, String> {
    let what = what.to_owned();
    move |err| Err(format!("{what}: {err}"))
}

/// Asks for an address over an interface that has none.
fn lease(mac: [u8; 6]) -> Result<(Lease, Duration), String> {
    let failed = |err: io::Error| format!("socket: {err}");
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).map_err(failed)?;
    socket.set_broadcast(true).map_err(failed)?;
    socket.bind_device(Some(b"eth0")).map_err(failed)?;
    socket
        .bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, 68)).into())
        .map_err(failed)?;
    let socket = UdpSocket::from(socket);

    let mut config = ClientConfig::new(mac);
    config.hostname = Some("demo".to_owned());
    config.initial_retry = Duration::from_millis(250);
    let start = Instant::now();
    let mut client = Client::new(config, u64::from(std::process::id()));
    let mut buffer = [0; 1500];
    while start.elapsed() < PATIENCE {
        while let Some(Output::Send(message)) = client.poll(start.elapsed()) {
            socket
                .send_to(&message.payload, (message.dst, 67))
                .map_err(failed)?;
        }
        let wait = client
            .next_deadline()
            .unwrap_or(PATIENCE)
            .saturating_sub(start.elapsed());
        socket
            .set_read_timeout(Some(wait.max(Duration::from_millis(1))))
            .map_err(failed)?;
        let Ok(len) = socket.recv(&mut buffer) else {
            continue;
        };
        if let Some(Event::Bound(lease)) = client.handle(&buffer[..len], start.elapsed()) {
            return Ok((lease, start.elapsed()));
        }
    }
    Err("no answer".to_owned())
}

fn describe(lease: &Lease, took: Duration) -> String {
    let list = |addresses: &[Ipv4Addr]| {
        addresses
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(" ")
    };
    format!(
        "{}/{} router {} dns {} mtu {} domain {} in {:.1} ms",
        lease.ip,
        lease.prefix_len,
        list(&lease.routers),
        list(&lease.dns),
        lease.mtu.map_or("-".to_owned(), |mtu| mtu.to_string()),
        lease.domain.as_deref().unwrap_or("-"),
        took.as_secs_f64() * 1e3
    )
}

/// Five echoes (RFC 792), the quickest of which counts.
fn ping(to: Ipv4Addr) -> Step {
    let failed = |err: io::Error| format!("{to}: {err}");
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4)).map_err(failed)?;
    // A socket is a socket: the standard library's type has the safe calls.
    let socket = UdpSocket::from(socket);
    socket.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    let mut best = Duration::MAX;
    for sequence in 0..5u32 {
        let mut message = *b"........arcbox-net demo";
        net_wire::icmpv4::emit(
            &mut message,
            net_wire::icmpv4::ECHO_REQUEST,
            0,
            0xdee0_0000 | sequence,
        );
        let start = Instant::now();
        socket.send_to(&message, (to, 0)).map_err(failed)?;
        loop {
            let mut buffer = [0; 256];
            let len = socket.recv(&mut buffer).map_err(failed)?;
            let reply = buffer.get(20..len).unwrap_or_default();
            if reply.first() == Some(&0) && reply.get(4..) == message.get(4..) {
                best = best.min(start.elapsed());
                break;
            }
        }
    }
    Ok(format!(
        "{to} answered 5 of 5, best {:.0} us",
        best.as_secs_f64() * 1e6
    ))
}

/// Asks the system's own resolver.
fn resolve(name: &str, expected: Ipv4Addr) -> Step {
    let start = Instant::now();
    let found: Vec<IpAddr> = (name, 0)
        .to_socket_addrs()
        .map_err(|err| format!("{name}: {err}"))?
        .map(|address| address.ip())
        .collect();
    if !found.contains(&IpAddr::V4(expected)) {
        return Err(format!("{name} is {found:?}, expected {expected}"));
    }
    Ok(format!(
        "{name} is {expected}, in {:.1} ms",
        start.elapsed().as_secs_f64() * 1e3
    ))
}

fn connect(to: SocketAddr) -> Result<TcpStream, String> {
    let stream =
        TcpStream::connect_timeout(&to, PATIENCE).or_else(said(&format!("connect {to}")))?;
    stream
        .set_read_timeout(Some(PATIENCE))
        .or_else(said("socket"))?;
    stream
        .set_write_timeout(Some(PATIENCE))
        .or_else(said("socket"))?;
    Ok(stream)
}

/// Fetches the body and compares every byte.
fn fetch(from: SocketAddr) -> Step {
    let mut stream = connect(from)?;
    let start = Instant::now();
    stream
        .write_all(b"GET /body HTTP/1.0\r\n\r\n")
        .or_else(said("request"))?;
    let mut response = Vec::with_capacity(BODY_LEN + 256);
    stream
        .read_to_end(&mut response)
        .or_else(said("response"))?;
    let took = start.elapsed();
    let head = response
        .windows(4)
        .take(1024)
        .position(|four| four == b"\r\n\r\n");
    let body = head
        .map(|end| &response[end + 4..])
        .ok_or("no HTTP response")?;
    if body.len() != BODY_LEN {
        return Err(format!("{} of {BODY_LEN} bytes arrived", body.len()));
    }
    if let Some(at) = body
        .iter()
        .enumerate()
        .position(|(n, byte)| *byte != body_byte(n))
    {
        return Err(format!("byte {at} is wrong"));
    }
    Ok(format!(
        "{} MiB intact in {:.2} s",
        BODY_LEN >> 20,
        took.as_secs_f64()
    ))
}

fn rate(bytes: u64, took: Duration) -> String {
    format!(
        "{:.1} Gbit/s",
        bytes as f64 * 8.0 / took.as_secs_f64() / 1e9
    )
}

fn receive(from: SocketAddr) -> Step {
    let mut stream = connect(from)?;
    stream.write_all(b"w").or_else(said("request"))?;
    let (mut buffer, mut bytes) = (vec![0; 1 << 20], 0);
    let start = Instant::now();
    loop {
        match stream.read(&mut buffer).or_else(said("read"))? {
            0 => break,
            len => bytes += len as u64,
        }
    }
    if bytes == 0 {
        return Err("nothing arrived".to_owned());
    }
    Ok(rate(bytes, start.elapsed()))
}

fn send(to: SocketAddr) -> Step {
    let mut stream = connect(to)?;
    stream.write_all(b"r").or_else(said("request"))?;
    let (buffer, mut bytes) = (vec![0; 1 << 20], 0);
    let start = Instant::now();
    while start.elapsed() < MEASURE {
        stream.write_all(&buffer).or_else(said("write"))?;
        bytes += buffer.len() as u64;
    }
    Ok(rate(bytes, start.elapsed()))
}

/// Serves one connection on the published port and says who came.
fn published() -> Step {
    let listener =
        TcpListener::bind((Ipv4Addr::UNSPECIFIED, PUBLISHED_PORT)).or_else(said("listen"))?;
    say(format_args!("{LISTENING}"));
    let (mut stream, peer) = listener.accept().or_else(said("accept"))?;
    stream
        .write_all(b"hello from the guest")
        .or_else(said("write"))?;
    Ok(format!("a client from outside came as {peer}"))
}
