//! One client of a control socket: bytes in, requests out, replies back. No I/O.

use std::time::Duration;

use super::lines::{Lines, TooLong};
use super::message::{MAX_REQUEST, Reply, Request};

/// How long a client may be silent, or not take its answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// What a client has sent and what it has yet to get.
///
/// At most one request is in work: the next one is read when the answer to the last has been taken.
/// A client that writes without reading is therefore held by its own socket.
#[derive(Debug)]
pub(super) struct Connection {
    lines: Lines,
    output: Vec<u8>,
    written: usize,
    deadline: Duration,
    /// No more requests: the answer that waits is the last.
    closing: bool,
}

impl Connection {
    pub(super) fn new(now: Duration) -> Self {
        Self {
            lines: Lines::new(MAX_REQUEST),
            output: Vec::new(),
            written: 0,
            deadline: now + PATIENCE,
            closing: false,
        }
    }

    /// Whether to read from the client: not while an answer waits for it.
    pub(super) fn wants_input(&self) -> bool {
        self.output.is_empty() && !self.closing && self.lines.buffered() <= MAX_REQUEST
    }

    /// Takes what the client sent.
    pub(super) fn input(&mut self, bytes: &[u8], now: Duration) {
        self.lines.extend(bytes);
        self.deadline = now + PATIENCE;
    }

    /// The next request to carry out. What is none has been answered already.
    pub(super) fn next_request(&mut self) -> Option<Request> {
        if !self.output.is_empty() || self.closing {
            return None;
        }
        match self.lines.next_line() {
            Ok(None) => None,
            Ok(Some(line)) => match Request::from_line(&line) {
                Ok(request) => Some(request),
                Err(err) => {
                    self.refuse(&err.to_string());
                    None
                }
            },
            Err(TooLong) => {
                self.refuse(&format!("a request is longer than {MAX_REQUEST} bytes"));
                None
            }
        }
    }

    /// Queues the answer to the last request.
    pub(super) fn reply(&mut self, reply: &Reply) {
        self.output.extend_from_slice(&reply.to_line());
    }

    /// Says why, and ends the conversation.
    pub(super) fn refuse(&mut self, why: &str) {
        self.reply(&Reply::Error(why.to_owned()));
        self.closing = true;
    }

    /// What the client is to be sent now.
    pub(super) fn output(&self) -> &[u8] {
        &self.output[self.written..]
    }

    /// That many bytes of it have been sent.
    pub(super) fn sent(&mut self, count: usize, now: Duration) {
        self.written += count;
        if self.written >= self.output.len() {
            self.output.clear();
            self.written = 0;
        }
        self.deadline = now + PATIENCE;
    }

    /// Whether everything has been said.
    pub(super) fn is_over(&self) -> bool {
        self.closing && self.output.is_empty()
    }

    /// When to give the client up.
    pub(super) fn deadline(&self) -> Duration {
        self.deadline
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Duration = Duration::ZERO;

    #[test]
    fn one_request_at_a_time() {
        let mut connection = Connection::new(T0);
        let two = [Request::Status.to_line(), Request::Stop.to_line()].concat();
        connection.input(&two, T0);
        assert_eq!(connection.next_request(), Some(Request::Status));
        connection.reply(&Reply::Done);
        // The answer has not been taken: the second request waits, and nothing more is read.
        assert_eq!(connection.next_request(), None);
        assert!(!connection.wants_input());
        let length = connection.output().len();
        connection.sent(1, T0);
        assert_eq!(connection.output().len(), length - 1);
        assert_eq!(connection.next_request(), None);
        connection.sent(length - 1, T0);
        assert_eq!(connection.next_request(), Some(Request::Stop));
        assert!(connection.wants_input());
    }

    #[test]
    fn nonsense_is_answered_once_and_ends_it() {
        for nonsense in [&b"fly\n"[..], &[b'x'; MAX_REQUEST + 1]] {
            let mut connection = Connection::new(T0);
            connection.input(nonsense, T0);
            connection.input(&Request::Status.to_line(), T0);
            assert_eq!(connection.next_request(), None);
            let answer = Reply::from_line(connection.output()).unwrap();
            assert!(matches!(answer, Reply::Error(_)));
            assert!(!connection.wants_input() && !connection.is_over());
            connection.sent(connection.output().len(), T0);
            assert!(connection.is_over());
            assert_eq!(connection.next_request(), None);
        }
    }

    #[test]
    fn a_silent_client_has_its_time() {
        let mut connection = Connection::new(T0);
        assert_eq!(connection.deadline(), PATIENCE);
        connection.input(b"{", Duration::from_secs(5));
        assert_eq!(connection.deadline(), PATIENCE + Duration::from_secs(5));
    }

    /// A client cannot fill memory, whatever it sends and however little it reads.
    #[test]
    fn what_waits_is_bounded() {
        let mut connection = Connection::new(T0);
        for _ in 0..100 {
            if connection.wants_input() {
                connection.input(&[b'x'; 4096], T0);
            }
        }
        assert!(connection.lines.buffered() <= MAX_REQUEST + 4096);
    }
}
