//! The outside world of the demo: an HTTP server, a bulk-data server and a name server, all on the
//! host's loopback and gone with the process.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

/// Bytes of the HTTP transfer.
pub(super) const BODY_LEN: usize = 64 << 20;
/// How long each direction of the throughput measurement lasts.
pub(super) const MEASURE: Duration = Duration::from_secs(2);
/// A name that only the demo's name server knows.
pub(super) const OUTSIDE_NAME: &str = "server.demo.example";
/// What it stands for: an address of the documentation range.
pub(super) const OUTSIDE_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 80);

/// Where the servers listen.
#[derive(Debug, Clone, Copy)]
pub(super) struct Servers {
    pub(super) http: u16,
    pub(super) bulk: u16,
    pub(super) dns: SocketAddr,
}

/// Byte `n` of the body: a pattern in which no shift, loss or repetition goes unnoticed.
pub(super) fn body_byte(n: usize) -> u8 {
    (n as u32).wrapping_mul(0x9e37_79b1).to_be_bytes()[0]
}

/// Starts them.
pub(super) fn start() -> io::Result<Servers> {
    let http = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let bulk = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let dns = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let servers = Servers {
        http: http.local_addr()?.port(),
        bulk: bulk.local_addr()?.port(),
        dns: dns.local_addr()?,
    };
    serve(http, serve_http);
    serve(bulk, serve_bulk);
    std::thread::spawn(move || serve_dns(&dns));
    Ok(servers)
}

/// Runs `handle` on a thread of its own for every connection.
fn serve(listener: TcpListener, handle: fn(TcpStream) -> io::Result<()>) {
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A client that goes away in the middle is its own affair.
            std::thread::spawn(move || handle(stream));
        }
    });
}

/// One request, one response with the pattern as its body.
fn serve_http(stream: TcpStream) -> io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        line.clear();
    }
    let mut stream = stream;
    write!(
        stream,
        "HTTP/1.0 200 OK\r\nContent-Length: {BODY_LEN}\r\n\r\n"
    )?;
    let body: Vec<u8> = (0..BODY_LEN).map(body_byte).collect();
    stream.write_all(&body)
}

/// `r`: takes bytes until the client ends; `w`: gives bytes for as long as a measurement lasts.
fn serve_bulk(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 20];
    let mut order = [0];
    stream.read_exact(&mut order)?;
    if order == *b"r" {
        while stream.read(&mut buffer)? > 0 {}
        return Ok(());
    }
    let start = Instant::now();
    while start.elapsed() < MEASURE {
        stream.write_all(&buffer)?;
    }
    Ok(())
}

/// Answers A questions for [`OUTSIDE_NAME`] and "no such name" for everything else.
fn serve_dns(socket: &UdpSocket) {
    let mut buffer = [0; 512];
    while let Ok((len, peer)) = socket.recv_from(&mut buffer) {
        if let Some(answer) = dns_answer(&buffer[..len]) {
            // The resolver asks again where a datagram is lost.
            let _ = socket.send_to(&answer, peer);
        }
    }
}

/// The answer to one message (RFC 1035, section 4.1).
fn dns_answer(query: &[u8]) -> Option<Vec<u8>> {
    let mut at = 12;
    let mut name = String::new();
    loop {
        let len = usize::from(*query.get(at)?);
        if len == 0 {
            break;
        }
        name.push_str(std::str::from_utf8(query.get(at + 1..at + 1 + len)?).ok()?);
        name.push('.');
        at += 1 + len;
    }
    let question_end = at + 5;
    let kind = query.get(at + 1..at + 3)?;
    let known = name
        .trim_end_matches('.')
        .eq_ignore_ascii_case(OUTSIDE_NAME);
    let has_address = known && kind == [0, 1];
    let mut answer = query.get(..2)?.to_vec();
    answer.extend([
        0x81,
        if known { 0x80 } else { 0x83 },
        0,
        1,
        0,
        u8::from(has_address),
        0,
        0,
        0,
        0,
    ]);
    answer.extend(query.get(12..question_end)?);
    if has_address {
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        answer.extend(OUTSIDE_ADDRESS.octets());
    }
    Some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_server_knows_one_name() {
        let mut query = vec![7, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in OUTSIDE_NAME.split('.') {
            query.push(label.len() as u8);
            query.extend(label.bytes());
        }
        query.extend([0, 0, 1, 0, 1]);
        let answer = dns_answer(&query).unwrap();
        assert!(answer.ends_with(&OUTSIDE_ADDRESS.octets()));
        for cut in 0..query.len() {
            dns_answer(&query[..cut]);
        }
        query[13] = b'x';
        assert_eq!(dns_answer(&query).unwrap()[3], 0x83);
    }
}
