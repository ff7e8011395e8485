//! What plays the outside: small servers and clients of our own, started inside the namespace of
//! a test as `xtask e2e-serve ...`. No daemon of the machine takes part.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use crate::Result;
use crate::e2e::body::{Body, sha256};

pub(crate) mod dns;
mod http;

/// Port of the HTTP server outside.
pub(crate) const HTTP_PORT: u16 = 8080;
/// Port of the server outside that digests what it is sent, up to the sender's half-close.
pub(crate) const DIGEST_PORT: u16 = 9000;
/// Port of the server outside that answers with the address it was called from.
pub(crate) const WHO_PORT: u16 = 9001;

const USAGE: &str = "\
xtask e2e-serve outside IPV4 ADDR   DNS, HTTP, digest and who-is-calling servers on both
xtask e2e-serve tcp-who ADDR:PORT   answer each caller with its address
xtask e2e-serve udp-who ADDR:PORT   answer each datagram with its sender and its text
xtask e2e-serve tcp-ask ADDR:PORT   print what a server says
xtask e2e-serve udp-ask ADDR:PORT TEXT
xtask e2e-serve http-get ADDR:PORT PATH
xtask e2e-serve body LEN            the bytes of a transfer, on standard output
xtask e2e-serve dig SERVER NAME TYPE [tcp]";

/// `e2e-serve WHAT ADDRESS...`
pub(crate) fn run(mut args: lexopt::Parser) -> Result<()> {
    let raw = args.raw_args().map_err(|e| e.to_string())?;
    let words: Vec<String> = raw.map(|a| a.to_string_lossy().into_owned()).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["outside", v4, other] => outside(v4, other),
        ["tcp-who", address] => tcp_who(parse(address)?),
        ["udp-who", address] => udp_who(parse(address)?),
        ["tcp-ask", address] => tcp_ask(parse(address)?),
        ["http-get", address, path] => http_get(parse(address)?, path),
        ["body", len] => body(len),
        ["udp-ask", address, text] => udp_ask(parse(address)?, text),
        ["dig", server, name, kind] => dns::ask(server, name, kind, false),
        ["dig", server, name, kind, "tcp"] => dns::ask(server, name, kind, true),
        _ => Err(USAGE.into()),
    }
}

fn parse(address: &str) -> Result<SocketAddr> {
    address
        .parse()
        .map_err(|_| format!("{address} is no ADDR:PORT"))
}

/// Opens every server first, so that `ready` means ready.
fn outside(v4: &str, other: &str) -> Result<()> {
    let zone: Ipv4Addr = v4.parse().map_err(|_| format!("{v4} is no IPv4 address"))?;
    let other = other
        .parse()
        .map_err(|_| format!("{other} is no address"))?;
    let mut threads = Vec::new();
    for ip in [IpAddr::V4(zone), other] {
        let at = |port| SocketAddr::new(ip, port);
        let listen = |port| TcpListener::bind(at(port)).map_err(|e| format!("{}: {e}", at(port)));
        let (http, digest, who) = (listen(HTTP_PORT)?, listen(DIGEST_PORT)?, listen(WHO_PORT)?);
        let dns_tcp = listen(53)?;
        let dns_udp = UdpSocket::bind(at(53)).map_err(|e| format!("{} udp: {e}", at(53)))?;
        threads.extend([
            std::thread::spawn(move || each(&http, http::serve)),
            std::thread::spawn(move || each(&digest, digest_one)),
            std::thread::spawn(move || each(&who, say_who)),
            std::thread::spawn(move || each(&dns_tcp, move |stream| dns::serve_tcp(stream, zone))),
            std::thread::spawn(move || dns::serve_udp(&dns_udp, zone)),
        ]);
    }
    println!("ready");
    for thread in threads {
        let _ = thread.join();
    }
    Err("a server outside came to its end".into())
}

/// Serves every caller in a thread of its own.
fn each(
    listener: &TcpListener,
    serve: impl Fn(TcpStream) -> std::io::Result<()> + Copy + Send + 'static,
) {
    for stream in listener.incoming().flatten() {
        std::thread::spawn(move || {
            let from = stream.peer_addr();
            if let Err(e) = serve(stream) {
                println!("{from:?}: {e}");
            }
        });
    }
}

/// Reads to the end, then answers: only a half-close that passes the relay gets an answer.
fn digest_one(stream: TcpStream) -> std::io::Result<()> {
    let mut answer = stream.try_clone()?;
    let (digest, len) = sha256(stream).map_err(std::io::Error::other)?;
    writeln!(answer, "{digest} {len}")
}

fn say_who(mut stream: TcpStream) -> std::io::Result<()> {
    writeln!(stream, "you are {}", stream.peer_addr()?.ip())
}

fn tcp_who(at: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(at).map_err(|e| format!("{at}: {e}"))?;
    println!("ready");
    each(&listener, say_who);
    Ok(())
}

fn udp_who(at: SocketAddr) -> Result<()> {
    let socket = UdpSocket::bind(at).map_err(|e| format!("{at}: {e}"))?;
    println!("ready");
    let mut buffer = vec![0; 65_536];
    loop {
        let (len, from) = socket
            .recv_from(&mut buffer)
            .map_err(|e| format!("{at}: {e}"))?;
        let text = String::from_utf8_lossy(&buffer[..len]);
        let answer = format!("you are {}, you said {text}", from.ip());
        let _ = socket.send_to(answer.as_bytes(), from);
    }
}

/// How long a client here waits for anything.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where a socket binds that speaks to `at`.
fn any_like(at: SocketAddr) -> SocketAddr {
    match at {
        SocketAddr::V4(_) => SocketAddr::from(([0; 4], 0)),
        SocketAddr::V6(_) => SocketAddr::from(([0u16; 8], 0)),
    }
}

fn tcp_ask(at: SocketAddr) -> Result<()> {
    let why = |e: std::io::Error| format!("{at}: {e}");
    let mut stream = TcpStream::connect_timeout(&at, PATIENCE).map_err(why)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(why)?;
    stream.shutdown(Shutdown::Write).map_err(why)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(why)?;
    print!("{answer}");
    Ok(())
}

/// Prints the whole reply, head and body.
fn http_get(at: SocketAddr, path: &str) -> Result<()> {
    let why = |e: std::io::Error| format!("{at}: {e}");
    let mut stream = TcpStream::connect_timeout(&at, PATIENCE).map_err(why)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(why)?;
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").map_err(why)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(why)?;
    print!("{answer}");
    Ok(())
}

fn body(len: &str) -> Result<()> {
    let len = len.parse().map_err(|_| format!("{len} is no length"))?;
    std::io::copy(&mut Body::new(len), &mut std::io::stdout().lock())
        .map(|_| ())
        .map_err(|e| format!("standard output: {e}"))
}

fn udp_ask(at: SocketAddr, text: &str) -> Result<()> {
    let why = |e: std::io::Error| format!("{at}: {e}");
    let socket = UdpSocket::bind(any_like(at)).map_err(why)?;
    socket.connect(at).map_err(why)?;
    socket.set_read_timeout(Some(PATIENCE)).map_err(why)?;
    socket.send(text.as_bytes()).map_err(why)?;
    let mut buffer = vec![0; 65_536];
    let len = socket.recv(&mut buffer).map_err(why)?;
    println!("{}", String::from_utf8_lossy(&buffer[..len]));
    Ok(())
}
