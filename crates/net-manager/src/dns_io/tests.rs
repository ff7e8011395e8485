//! Real sockets on the host's loopback: a resolver that the test plays, and guests that ask over
//! TCP. Time is simulated.

use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use mio::{Events, Poll};
use net_dns::tcp::{IDLE_TIMEOUT, MAX_CONNECTIONS_PER_CLIENT, PARTIAL_TIMEOUT, frame};

use super::*;

const BASE: usize = 500;

struct World {
    poll: Poll,
    io: DnsIo,
    gateway: Gateway,
    outputs: Vec<Output>,
    now: Duration,
}

impl World {
    fn new(upstream: Option<std::net::SocketAddr>) -> Self {
        let poll = Poll::new().unwrap();
        let mut config = net_gateway::Config::new("10.0.2.0/24".parse().unwrap()).unwrap();
        config.upstreams = upstream.into_iter().collect();
        Self {
            io: DnsIo::new(poll.registry().try_clone().unwrap(), BASE),
            gateway: Gateway::new(config, [3; 16]).unwrap(),
            outputs: Vec::new(),
            now: Duration::ZERO,
            poll,
        }
    }

    /// A guest's end of a new connection; it gives up after ten seconds.
    fn connect(&mut self, port: u32) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        let connection = ServiceConnection {
            local: "10.0.2.1:53".parse().unwrap(),
            peer: "10.0.2.15:4000".parse().unwrap(),
            port,
            stream: theirs,
        };
        self.io.accept(connection, self.now);
        ours
    }

    /// One turn of the loop a worker runs.
    fn turn(&mut self, events: &Events) {
        for event in events {
            assert!(event.token().0 >= BASE);
            self.io
                .ready(event, self.now, (&mut self.gateway, &mut self.outputs));
        }
        if self.io.next_deadline().is_some_and(|at| at <= self.now) {
            self.io
                .on_deadline(self.now, (&mut self.gateway, &mut self.outputs));
        }
        while !self.outputs.is_empty() {
            for output in std::mem::take(&mut self.outputs) {
                let work = (&mut self.gateway, &mut self.outputs);
                match output {
                    Output::Dns(action) => self.io.execute(action, self.now, work),
                    Output::DnsTcp {
                        connection,
                        message,
                    } => {
                        self.io.reply(connection, &message, self.now, work);
                    }
                    Output::Frame { .. } => {}
                }
            }
        }
    }

    fn run_until(&mut self, mut done: impl FnMut(&mut Self) -> bool) {
        let mut events = Events::with_capacity(64);
        let limit = Instant::now() + Duration::from_secs(10);
        loop {
            self.turn(&events);
            if done(self) {
                return;
            }
            assert!(Instant::now() < limit, "nothing came in ten seconds");
            self.poll
                .poll(&mut events, Some(Duration::from_millis(20)))
                .unwrap();
        }
    }

    /// Runs the loop until an answer has come on `stream`.
    fn answer(&mut self, stream: &mut UnixStream) -> Vec<u8> {
        stream.set_nonblocking(true).unwrap();
        let mut bytes = Vec::new();
        self.run_until(|_| {
            let mut buffer = [0; 4096];
            while let Ok(len @ 1..) = stream.read(&mut buffer) {
                bytes.extend_from_slice(&buffer[..len]);
            }
            bytes.len() >= 2
                && bytes.len() == 2 + usize::from(u16::from_be_bytes([bytes[0], bytes[1]]))
        });
        bytes.split_off(2)
    }

    /// Runs the loop until the far end of `stream` is closed.
    fn closed(&mut self, stream: &mut UnixStream) {
        stream.set_nonblocking(true).unwrap();
        self.run_until(|_| match stream.read(&mut [0; 64]) {
            Ok(len) => len == 0,
            Err(err) => err.kind() != io::ErrorKind::WouldBlock,
        });
    }

    /// No socket, and nothing that waits for one.
    fn is_empty(&self) -> bool {
        self.io.sockets.is_empty()
            && self.io.deadlines.is_empty()
            && self.io.by_query.is_empty()
            && self.io.by_connection.is_empty()
    }
}

/// A question for the address of `labels`, framed.
fn question(id: u16, labels: &[&str]) -> Vec<u8> {
    let mut message = id.to_be_bytes().to_vec();
    message.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in labels {
        message.push(label.len() as u8);
        message.extend_from_slice(label.as_bytes());
    }
    message.extend_from_slice(&[0, 0, 1, 0, 1]);
    frame(&message).unwrap()
}

/// The end of the question section of a message with one question.
fn question_end(message: &[u8]) -> usize {
    let mut at = 12;
    while message[at] != 0 {
        at += 1 + usize::from(message[at]);
    }
    at + 5
}

/// An answer to `query`: 192.0.2.7, or truncated.
fn respond(query: &[u8], truncated: bool) -> Vec<u8> {
    let mut message = query[..question_end(query)].to_vec();
    message[2] |= 0x80 | if truncated { 2 } else { 0 };
    message[3] |= 0x80;
    message[6..12].copy_from_slice(&[0, u8::from(!truncated), 0, 0, 0, 0]);
    if !truncated {
        message.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 7]);
    }
    message
}

fn resolver() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

/// Answers one question that has come in.
fn serve(socket: &UdpSocket, truncated: bool) -> Option<u16> {
    let mut buffer = [0; 4096];
    let (len, from) = socket.recv_from(&mut buffer).ok()?;
    socket
        .send_to(&respond(&buffer[..len], truncated), from)
        .unwrap();
    Some(from.port())
}

/// Row 64: a question over TCP goes to the resolver over UDP and comes back.
#[test]
fn a_question_over_tcp_is_answered() {
    let upstream = resolver();
    let mut world = World::new(Some(upstream.local_addr().unwrap()));
    let mut guest = world.connect(1);
    guest
        .write_all(&question(0x1234, &["example", "com"]))
        .unwrap();
    world.run_until(|_| serve(&upstream, false).is_some());
    let answer = world.answer(&mut guest);
    assert_eq!(&answer[..2], [0x12, 0x34]);
    assert!(answer.ends_with(&[192, 0, 2, 7]));
    drop(guest);
    world.run_until(|world| world.is_empty());
}

/// Row 65: every question has a socket of its own, on a port of its own.
#[test]
fn every_question_has_its_own_port() {
    let upstream = resolver();
    let mut world = World::new(Some(upstream.local_addr().unwrap()));
    let mut guest = world.connect(1);
    let names = ["a", "b", "c", "d", "e", "f"];
    for (i, name) in names.into_iter().enumerate() {
        guest
            .write_all(&question(i as u16, &[name, "example"]))
            .unwrap();
    }
    let mut ports = BTreeSet::new();
    world.run_until(|_| {
        ports.extend(serve(&upstream, true));
        ports.len() == names.len()
    });
}

/// A guest that says all it has to say at once, and ends its direction, gets its answer; nothing
/// of the connection stays behind.
#[test]
fn a_half_closed_connection_is_answered_and_forgotten() {
    let upstream = resolver();
    let mut world = World::new(Some(upstream.local_addr().unwrap()));
    let mut guest = world.connect(1);
    world.now = Duration::from_secs(1);
    guest.write_all(&question(7, &["example", "com"])).unwrap();
    guest.shutdown(std::net::Shutdown::Write).unwrap();
    world.run_until(|_| serve(&upstream, false).is_some());
    world.now = Duration::from_secs(2);
    assert_eq!(world.answer(&mut guest)[1], 7);
    world.run_until(|world| world.is_empty());
    // The time at which it would have been idle passes without anything to do.
    world.now = Duration::from_secs(60);
    world.turn(&Events::with_capacity(1));
}

/// The deadline of a connection that failed never closes the next one in its place.
#[test]
fn a_failed_connection_leaves_no_deadline_behind() {
    let mut world = World::new(None);
    let mut first = world.connect(1);
    world.now = Duration::from_secs(1);
    // A whole message, then a length that no message has: one read each, or both in one.
    first
        .write_all(&question(1, &["gateway", "internal"]))
        .unwrap();
    first.write_all(&[0, 3]).unwrap();
    world.closed(&mut first);
    assert!(world.is_empty());
    let mut second = world.connect(1);
    world.now = IDLE_TIMEOUT + Duration::from_millis(500);
    second
        .write_all(&question(2, &["gateway", "internal"]))
        .unwrap();
    assert!(world.answer(&mut second).ends_with(&[10, 0, 2, 1]));
}

/// Row 67: a silent client, and one in the middle of a message, block nobody and go in time.
#[test]
fn slow_and_silent_clients_block_nobody() {
    let mut world = World::new(None);
    let mut silent = world.connect(1);
    let mut slow = world.connect(1);
    slow.write_all(&[0]).unwrap();
    let mut honest = world.connect(1);
    honest
        .write_all(&question(9, &["gateway", "internal"]))
        .unwrap();
    assert!(world.answer(&mut honest).ends_with(&[10, 0, 2, 1]));
    world.now = PARTIAL_TIMEOUT;
    world.closed(&mut slow);
    assert_eq!(world.io.by_connection.len(), 2);
    world.now = IDLE_TIMEOUT;
    world.closed(&mut silent);
    world.closed(&mut honest);
    assert!(world.is_empty());
}

/// Questions that come together are all answered, more of them than may wait at a time.
#[test]
fn pipelined_questions_are_all_answered() {
    let mut world = World::new(None);
    let mut guest = world.connect(1);
    let mut asked = Vec::new();
    for id in 0..200u16 {
        asked.extend(question(id, &["gateway", "internal"]));
    }
    guest.write_all(&asked).unwrap();
    guest.set_nonblocking(true).unwrap();
    let mut framer = net_dns::tcp::Framer::new(65_535);
    let mut ids = BTreeSet::new();
    world.run_until(|_| {
        let mut buffer = [0; 4096];
        while let Ok(len @ 1..) = guest.read(&mut buffer) {
            let mut input = &buffer[..len];
            while let Some(message) = framer.read(&mut input).unwrap() {
                ids.insert(u16::from_be_bytes([message[0], message[1]]));
            }
        }
        ids.len() == 200
    });
}

/// One guest's connections cost only its own.
#[test]
fn connections_are_bounded_per_guest() {
    let mut world = World::new(None);
    let mut other = world.connect(2);
    let mut mine: Vec<UnixStream> = Vec::new();
    for _ in 0..MAX_CONNECTIONS_PER_CLIENT + 3 {
        mine.push(world.connect(1));
    }
    assert_eq!(world.io.by_connection.len(), MAX_CONNECTIONS_PER_CLIENT + 1);
    world.closed(&mut mine[0]);
    other
        .write_all(&question(1, &["gateway", "internal"]))
        .unwrap();
    assert!(world.answer(&mut other).ends_with(&[10, 0, 2, 1]));
    let last = mine.last_mut().unwrap();
    last.write_all(&question(1, &["gateway", "internal"]))
        .unwrap();
    assert!(world.answer(last).ends_with(&[10, 0, 2, 1]));
}

/// Row 64: a truncated answer leads to a question over TCP.
#[test]
fn a_truncated_answer_leads_to_tcp() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    let upstream = UdpSocket::bind(addr).unwrap();
    upstream.set_nonblocking(true).unwrap();
    let mut world = World::new(Some(addr));
    let mut guest = world.connect(1);
    guest.write_all(&question(5, &["example", "com"])).unwrap();
    world.run_until(|_| serve(&upstream, true).is_some());
    let mut stream = None;
    world.run_until(|_| {
        stream = listener.accept().ok();
        stream.is_some()
    });
    let (mut stream, _) = stream.unwrap();
    stream.set_nonblocking(true).unwrap();
    let mut framer = net_dns::tcp::Framer::new(65_535);
    world.run_until(|_| {
        let mut buffer = [0; 4096];
        let Ok(len) = stream.read(&mut buffer) else {
            return false;
        };
        let Some(query) = framer.read(&mut &buffer[..len]).unwrap() else {
            return false;
        };
        stream
            .write_all(&frame(&respond(&query, false)).unwrap())
            .unwrap();
        true
    });
    assert!(world.answer(&mut guest).ends_with(&[192, 0, 2, 7]));
}

/// A resolver whose port is closed is a SERVFAIL at once, not after a time-out.
#[cfg(target_os = "linux")]
#[test]
fn a_resolver_that_is_not_there_fails_at_once() {
    let upstream = resolver();
    let addr = upstream.local_addr().unwrap();
    drop(upstream);
    let mut world = World::new(Some(addr));
    let mut guest = world.connect(1);
    guest.write_all(&question(5, &["example", "com"])).unwrap();
    let mut asked = 0;
    let answer = loop {
        // The engine may ask more than once; time passes only as far as it wants.
        asked += 1;
        assert!(asked < 50);
        let events = Events::with_capacity(1);
        world.turn(&events);
        let mut events = Events::with_capacity(16);
        world
            .poll
            .poll(&mut events, Some(Duration::from_millis(20)))
            .unwrap();
        world.turn(&events);
        if let Some(at) = world
            .gateway
            .next_deadline()
            .filter(|at| *at < Duration::from_secs(5))
        {
            world.now = world.now.max(at);
            world.gateway.on_deadline(world.now, &mut world.outputs);
            world.turn(&Events::with_capacity(1));
        }
        guest.set_nonblocking(true).unwrap();
        let mut buffer = [0; 512];
        if let Ok(len @ 1..) = guest.read(&mut buffer) {
            break buffer[..len].to_vec();
        }
    };
    assert_eq!(answer[2 + 3] & 0x0f, 2, "SERVFAIL");
    assert!(world.now < Duration::from_secs(5));
}
