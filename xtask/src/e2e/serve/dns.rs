//! A name server for one zone, and a client that shows an answer.
//!
//! | name | type | answer |
//! |---|---|---|
//! | `outside.test` | A | the servers' IPv4 address |
//! | `outside.test` | any other | none, with the zone's SOA |
//! | `big.outside.test` | TXT | 40 strings of 100 bytes: over UDP truncated unless EDNS allows it |
//! | any other below `outside.test` | any | NXDOMAIN with the zone's SOA |
//! | anything else | any | REFUSED |

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use crate::Result;

/// The zone, which RFC 6761 keeps out of the real DNS.
pub(crate) const ZONE: &str = "outside.test";

const A: u16 = 1;
const SOA: u16 = 6;
const TXT: u16 = 16;
const AAAA: u16 = 28;
const OPT: u16 = 41;
const TTL: u32 = 60;
/// Seconds for which an absence may be kept.
const NEGATIVE_TTL: u32 = 5;

/// Answers datagrams until the socket fails.
pub(super) fn serve_udp(socket: &UdpSocket, zone: Ipv4Addr) {
    let mut buffer = [0; 4096];
    while let Ok((len, from)) = socket.recv_from(&mut buffer) {
        if let Some(answer) = answer(&buffer[..len], zone, true) {
            let _ = socket.send_to(&answer, from);
        }
    }
}

/// Answers the questions of one connection (RFC 7766: one after another).
pub(super) fn serve_tcp(mut stream: TcpStream, zone: Ipv4Addr) -> io::Result<()> {
    loop {
        let mut length = [0; 2];
        if stream.read_exact(&mut length).is_err() {
            return Ok(());
        }
        let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut query)?;
        let Some(answer) = answer(&query, zone, false) else {
            return Ok(());
        };
        let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
        stream.write_all(&[&length.to_be_bytes()[..], &answer].concat())?;
    }
}

/// The answer to a query; `None` where it is too broken to answer.
fn answer(query: &[u8], zone: Ipv4Addr, udp: bool) -> Option<Vec<u8>> {
    let (name, end) = read_name(query, 12)?;
    let kind = u16::from_be_bytes(query.get(end..end + 2)?.try_into().ok()?);
    let question = query.get(12..end + 4)?;
    println!("dns {} {name} {kind}", if udp { "udp" } else { "tcp" });

    let lower = name.to_ascii_lowercase();
    let (rcode, records): (u8, Vec<Vec<u8>>) = match (lower.as_str(), kind) {
        (ZONE, A) => (0, vec![record(A, TTL, &zone.octets())]),
        ("big.outside.test", TXT) => (0, big_records()),
        (ZONE | "big.outside.test", ..) => (0, vec![]),
        _ if lower.ends_with(".outside.test") => (3, vec![]),
        _ => (5, vec![]),
    };
    let absent = records.is_empty() && rcode != 5;
    let build = |truncated: bool, records: &[Vec<u8>]| {
        let mut out = query[..2].to_vec();
        // Response, authoritative; recursion desired is copied, recursion available is claimed.
        out.push(0x84 | u8::from(truncated) << 1 | query[2] & 1);
        out.push(0x80 | rcode);
        let authority = u16::from(absent && !truncated);
        for count in [1, records.len() as u16, authority, 0] {
            out.extend(count.to_be_bytes());
        }
        out.extend(question);
        out.extend(records.concat());
        if authority == 1 {
            // Name server and mailbox are the zone's root, then five numbers (RFC 1035, 3.3.13).
            let mut data = vec![0, 0];
            for number in [1, 3600, 600, 86_400, NEGATIVE_TTL] {
                data.extend(number.to_be_bytes());
            }
            let mut soa = wire_name(ZONE);
            soa.extend(&record(SOA, NEGATIVE_TTL, &data)[2..]);
            out.extend(soa);
        }
        out
    };
    let full = build(false, &records);
    if udp && full.len() > udp_limit(query, end + 4) {
        Some(build(true, &[]))
    } else {
        Some(full)
    }
}

/// What the client can take over UDP: 512 bytes, or what its OPT record says (RFC 6891).
fn udp_limit(query: &[u8], after_question: usize) -> usize {
    match query.get(after_question..after_question + 5) {
        Some([0, a, b, size @ ..]) if u16::from_be_bytes([*a, *b]) == OPT => {
            usize::from(u16::from_be_bytes([size[0], size[1]])).max(512)
        }
        _ => 512,
    }
}

fn big_records() -> Vec<Vec<u8>> {
    (0..40u8)
        .map(|i| {
            let mut data = vec![100];
            data.extend([b'a' + i % 26; 100]);
            record(TXT, TTL, &data)
        })
        .collect()
}

/// A record whose name is the question's.
fn record(kind: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    let mut out = vec![0xc0, 12];
    out.extend(kind.to_be_bytes());
    out.extend(1u16.to_be_bytes());
    out.extend(ttl.to_be_bytes());
    out.extend((data.len() as u16).to_be_bytes());
    out.extend(data);
    out
}

fn wire_name(name: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for label in name.split('.').filter(|l| !l.is_empty()) {
        out.push(label.len() as u8);
        out.extend(label.as_bytes());
    }
    out.push(0);
    out
}

/// Reads an uncompressed name; gives it and where it ends.
fn read_name(message: &[u8], mut at: usize) -> Option<(String, usize)> {
    let mut labels = Vec::new();
    loop {
        let len = usize::from(*message.get(at)?);
        at += 1;
        if len == 0 {
            return Some((labels.join("."), at));
        }
        if len > 63 || labels.len() > 127 {
            return None;
        }
        labels.push(String::from_utf8_lossy(message.get(at..at + len)?).into_owned());
        at += len;
    }
}

/// Asks a server and prints one line: code, truncation, number of answers, length, and the
/// address if the first answer is one.
pub(super) fn ask(server: &str, name: &str, kind: &str, tcp: bool) -> Result<()> {
    let kind = match kind {
        "A" => A,
        "AAAA" => AAAA,
        "TXT" => TXT,
        _ => kind
            .parse()
            .map_err(|_| format!("{kind} is no record type"))?,
    };
    let ip: IpAddr = server
        .parse()
        .map_err(|_| format!("{server} is no address"))?;
    let server = SocketAddr::new(ip, 53);
    let mut query = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    query.extend(wire_name(name));
    query.extend(kind.to_be_bytes());
    query.extend(1u16.to_be_bytes());
    let why = |e: io::Error| format!("{server}: {e}");
    let reply = if tcp {
        exchange_tcp(server, &query)
    } else {
        exchange_udp(server, &query)
    };
    println!("{}", show(&reply.map_err(why)?, query.len()));
    Ok(())
}

const PATIENCE: Duration = Duration::from_secs(6);

fn exchange_udp(server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let socket = UdpSocket::bind(super::any_like(server))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(server)?;
    socket.send(query)?;
    let mut reply = vec![0; 65_536];
    let len = socket.recv(&mut reply)?;
    reply.truncate(len);
    Ok(reply)
}

fn exchange_tcp(server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&server, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let length = u16::try_from(query.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes()[..], query].concat())?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut reply = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut reply)?;
    Ok(reply)
}

fn show(reply: &[u8], query_len: usize) -> String {
    let Some(head) = reply.get(..12) else {
        return "no header".into();
    };
    let (rcode, truncated) = (head[3] & 15, head[2] & 2 != 0);
    let answers = u16::from_be_bytes([head[6], head[7]]);
    let mut line = format!(
        "rcode={rcode} tc={truncated} answers={answers} len={}",
        reply.len()
    );
    // A compressed name is two bytes; type, class, TTL and length are ten.
    if let Some([0xc0, _, 0, 1, _, _, _, _, _, _, 0, 4, a, b, c, d, ..]) = reply.get(query_len..) {
        line.push_str(&format!(" a={a}.{b}.{c}.{d}"));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(name: &str, kind: u16) -> Vec<u8> {
        let mut query = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        query.extend(wire_name(name));
        query.extend(kind.to_be_bytes());
        query.extend([0, 1]);
        query
    }

    fn asked(name: &str, kind: u16, udp: bool) -> String {
        let query = query(name, kind);
        let reply = answer(&query, [203, 0, 113, 2].into(), udp).unwrap();
        show(&reply, query.len())
    }

    #[test]
    fn the_zone_answers_as_its_table_says() {
        assert!(asked("Outside.TEST", A, true).ends_with("a=203.0.113.2"));
        assert!(asked("outside.test", AAAA, true).starts_with("rcode=0 tc=false answers=0"));
        assert!(asked("nothing.outside.test", A, true).starts_with("rcode=3"));
        assert!(asked("example.com", A, true).starts_with("rcode=5"));
        assert!(asked("big.outside.test", TXT, true).starts_with("rcode=0 tc=true answers=0"));
        assert!(asked("big.outside.test", TXT, false).starts_with("rcode=0 tc=false answers=40"));
    }

    #[test]
    fn a_cut_query_gets_no_answer() {
        let whole = query(ZONE, A);
        for cut in 0..whole.len() {
            assert!(
                answer(&whole[..cut], [203, 0, 113, 2].into(), true).is_none(),
                "{cut}"
            );
        }
    }
}
