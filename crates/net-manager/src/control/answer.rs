//! Answering one peer that is no stranger: another process of the same network.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;

use super::lines::Lines;
use super::message::{MAX_REQUEST, Reply, Request};
use super::server::Handler;

/// Answers what comes over `stream`, one request after the other, for as long as the peer is there. It
/// may be silent for as long as it likes.
///
/// # Errors
/// What the host said; `InvalidData` for a line that is longer than [`MAX_REQUEST`]. What is no
/// request is answered by an error, as at the control socket.
pub fn answer(mut stream: UnixStream, handler: &mut impl Handler) -> io::Result<()> {
    let mut lines = Lines::new(MAX_REQUEST);
    let mut buffer = [0; 4096];
    loop {
        let line = lines.next_line();
        let line = line.map_err(|_| io::Error::new(ErrorKind::InvalidData, "a line too long"))?;
        if let Some(line) = line {
            let reply = match Request::from_line(&line) {
                Ok(request) => handler.handle(request),
                Err(err) => Reply::Error(err.to_string()),
            };
            stream.write_all(&reply.to_line())?;
            continue;
        }
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => lines.extend(&buffer[..count]),
            Err(err) if err.kind() == ErrorKind::Interrupted => {}
            Err(err) => return Err(err),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{Client, ControlError};

    struct Echo;

    impl Handler for Echo {
        fn handle(&mut self, request: Request) -> Reply {
            match request {
                Request::Attach { place } => Reply::Error(place),
                _ => Reply::Done,
            }
        }
    }

    #[test]
    fn a_peer_is_answered_until_it_goes() {
        let (near, far) = UnixStream::pair().unwrap();
        let thread = std::thread::spawn(move || answer(far, &mut Echo));
        let mut client = Client::over(near).unwrap();
        assert_eq!(client.ask(&Request::Status).unwrap(), Reply::Done);
        let place = "tap:vm0".to_owned();
        let error = client.ask(&Request::Attach { place }).unwrap_err();
        assert!(matches!(error, ControlError::Refused(why) if why == "tap:vm0"));
        drop(client);
        thread.join().unwrap().unwrap();
    }

    #[test]
    fn nonsense_is_answered_and_a_flood_is_not() {
        let (mut near, far) = UnixStream::pair().unwrap();
        let thread = std::thread::spawn(move || answer(far, &mut Echo));
        near.write_all(b"fly\n").unwrap();
        let mut reply = [0; 4096];
        let count = near.read(&mut reply).unwrap();
        assert!(matches!(
            Reply::from_line(&reply[..count - 1]),
            Ok(Reply::Error(_))
        ));
        near.write_all(&[b'x'; MAX_REQUEST + 4096]).unwrap();
        let error = thread.join().unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData);
    }
}
