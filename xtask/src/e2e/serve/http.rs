//! HTTP/1.0 as far as the tests need it: `GET /body/N` gives N bytes, `POST` answers with the
//! digest of what was sent, `GET /who` with the caller's address.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use crate::e2e::body::{Body, sha256};

/// Most lines and bytes that a request's head may have.
const MAX_HEAD: u64 = 16 * 1024;

/// Answers one request and closes.
pub(super) fn serve(stream: TcpStream) -> io::Result<()> {
    let mut out = stream.try_clone()?;
    let who = stream.peer_addr()?.ip();
    let mut reader = BufReader::new(stream);
    let (request, length) = head(&mut reader)?;
    println!("http {who} {request}");
    let mut words = request.split_whitespace();
    match (words.next(), words.next()) {
        (Some("GET"), Some("/who")) => text(&mut out, &format!("you are {who}\n")),
        (Some("GET"), Some(path)) => match path.strip_prefix("/body/").map(str::parse) {
            Some(Ok(len)) => {
                write!(out, "HTTP/1.0 200 OK\r\nContent-Length: {len}\r\n\r\n")?;
                io::copy(&mut Body::new(len), &mut out)?;
                Ok(())
            }
            _ => write!(out, "HTTP/1.0 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
        },
        (Some("POST"), Some(_)) => {
            let body = reader.take(length);
            let (digest, len) = sha256(body).map_err(io::Error::other)?;
            text(&mut out, &format!("{digest} {len}\n"))
        }
        _ => write!(out, "HTTP/1.0 400 Bad Request\r\nContent-Length: 0\r\n\r\n"),
    }
}

fn text(out: &mut TcpStream, body: &str) -> io::Result<()> {
    write!(
        out,
        "HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// The request line and the length of the body.
fn head(reader: &mut BufReader<TcpStream>) -> io::Result<(String, u64)> {
    let mut lines = reader.take(MAX_HEAD);
    let mut request = String::new();
    lines.read_line(&mut request)?;
    let mut length = 0;
    loop {
        let mut line = String::new();
        if lines.read_line(&mut line)? == 0 || line.trim().is_empty() {
            return Ok((request.trim().to_owned(), length));
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().map_err(io::Error::other)?;
        }
    }
}
