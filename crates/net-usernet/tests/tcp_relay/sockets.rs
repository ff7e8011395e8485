//! Real sockets on the loopback behind the relay, and a guest made of segments in front of it.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};
use net_datapath::{VirtioNetHdr, ZeroCopyPacket};
use net_usernet::tcp::host::{Destination, MioTcpHost};
use net_usernet::tcp::{HostSocket, Readiness, RelayConfig, TcpRelay, Unreachable};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::socket::tcp;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr, Ipv4Address};

use super::lab::config;
use super::line::Card;
use super::rng::Rng;
use super::wire::{PORT, Wire, ethernet};

const REMOTE: Ipv4Address = Ipv4Address::new(192, 0, 2, 80);
const TOKEN_BASE: usize = 100;

/// A guest, a relay and a poll, driven by real time.
struct Rig {
    poll: Poll,
    events: Events,
    host: MioTcpHost,
    relay: TcpRelay<MioTcpHost>,
    wire: Wire,
    started: Instant,
    interface: Interface,
    card: Card,
    sockets: SocketSet<'static>,
}

impl Rig {
    /// All ports of the remote host lead to `server`, except a few.
    fn new(server: SocketAddr, offloads: bool) -> Self {
        let poll = Poll::new().unwrap();
        let registry = poll.registry().try_clone().unwrap();
        let host = MioTcpHost::new(
            registry,
            |socket: HostSocket| Token(TOKEN_BASE + socket.0 as usize),
            move |_, remote| match remote.port() {
                53 => Destination::Service,
                81 => Destination::Refused,
                82 => Destination::Unreachable(Unreachable::Prohibited),
                _ => Destination::Host(server),
            },
        );
        let mut card = Card {
            mtu: 1500,
            ..Card::default()
        };
        let config_ = Config::new(HardwareAddress::Ip);
        let mut interface = Interface::new(config_, &mut card, smoltcp::time::Instant::ZERO);
        interface.update_ip_addrs(|addrs| {
            addrs
                .push(IpCidr::new(IpAddress::v4(10, 0, 2, 15), 24))
                .unwrap();
        });
        interface
            .routes_mut()
            .add_default_ipv4_route(Ipv4Address::new(10, 0, 2, 1))
            .unwrap();
        let mut wire = Wire::new();
        wire.offloads(offloads);
        Self {
            poll,
            events: Events::with_capacity(64),
            host,
            relay: TcpRelay::new(
                RelayConfig {
                    time_wait: Duration::from_millis(10),
                    ..config()
                },
                [1; 16],
            ),
            wire,
            started: Instant::now(),
            interface,
            card,
            sockets: SocketSet::new(Vec::new()),
        }
    }

    fn connect(&mut self, port: u16, local: u16) -> SocketHandle {
        let buffer = || tcp::SocketBuffer::new(vec![0; 200_000]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        socket
            .connect(self.interface.context(), (REMOTE, port), local)
            .unwrap();
        self.sockets.add(socket)
    }

    fn socket(&mut self, handle: SocketHandle) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    /// One round of everything.
    fn turn(&mut self) {
        let timeout = Some(Duration::from_millis(1));
        self.poll.poll(&mut self.events, timeout).unwrap();
        let now = self.started.elapsed();
        for event in &self.events {
            let socket = HostSocket((event.token().0 - TOKEN_BASE) as u32);
            let ready: Readiness = self.host.readiness(socket, event);
            self.relay
                .host_ready(&mut self.host, socket, ready, now, &mut self.wire);
        }
        for packet in core::mem::take(&mut self.card.sent) {
            let frame = ethernet(&packet);
            let view = ZeroCopyPacket::from_slice(&frame, VirtioNetHdr::PLAIN).unwrap();
            self.relay
                .ingress(&mut self.host, PORT, &view, now, &mut self.wire);
        }
        if self.relay.next_deadline().is_some_and(|at| at <= now) {
            self.relay.on_deadline(&mut self.host, now, &mut self.wire);
        }
        while let Some(frames) = self.wire.take_frames() {
            self.card.received.extend(frames);
        }
        let now = smoltcp::time::Instant::from_micros(now.as_micros() as i64);
        self.interface.poll(now, &mut self.card, &mut self.sockets);
    }

    fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        while !done(self) {
            assert!(
                self.started.elapsed() < Duration::from_secs(60),
                "waiting for {what}"
            );
            self.turn();
        }
    }
}

/// Sends `up` and ends, and receives until the end.
fn exchange(rig: &mut Rig, handle: SocketHandle, up: &[u8]) -> Vec<u8> {
    let (mut sent, mut got) = (0, Vec::new());
    rig.until("the exchange", |rig| {
        let socket = rig.socket(handle);
        if sent < up.len() && socket.can_send() {
            sent += socket.send_slice(&up[sent..]).unwrap();
            if sent == up.len() {
                socket.close();
            }
        }
        let mut buffer = [0; 65_536];
        match socket.recv_slice(&mut buffer) {
            Ok(n) => got.extend(&buffer[..n]),
            Err(tcp::RecvError::Finished) => return sent == up.len(),
            Err(tcp::RecvError::InvalidState) => {}
        }
        false
    });
    got
}

#[test]
fn bytes_pass_both_ways_through_real_sockets() {
    for (offloads, peek_offsets) in [(false, true), (true, true), (true, false)] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = listener.local_addr().unwrap();
        let mut rng = Rng::new(9);
        let (up, down) = (rng.bytes(3_000_000), rng.bytes(2_000_000));
        let reply = down.clone();
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut other = stream.try_clone().unwrap();
            let writer = std::thread::spawn(move || {
                other.write_all(&reply).unwrap();
                other.shutdown(std::net::Shutdown::Write).unwrap();
            });
            let mut got = Vec::new();
            stream.read_to_end(&mut got).unwrap();
            writer.join().unwrap();
            got
        });
        let mut rig = Rig::new(server, offloads);
        if !peek_offsets {
            rig.host.disable_peek_offsets();
        }
        let handle = rig.connect(80, 5000);
        assert!(exchange(&mut rig, handle, &up) == down, "download");
        assert!(thread.join().unwrap() == up, "upload");
        rig.until("the end of the flow", |rig| rig.host.is_empty());
        let stats = rig.relay.statistics();
        assert_eq!(
            (stats.bytes_to_host, stats.bytes_to_guest),
            (3_000_000, 2_000_000)
        );
        assert_eq!(stats.retransmits, 0);
    }
}

#[test]
fn refusals_reach_the_guest() {
    // A port that was open a moment ago and is not any more.
    let server = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let mut rig = Rig::new(server, false);
    for (port, local) in [(80, 5000), (81, 5001)] {
        let handle = rig.connect(port, local);
        rig.until("the reset", |rig| {
            rig.socket(handle).state() == tcp::State::Closed
        });
    }
    assert_eq!(rig.relay.statistics().connect_failed, 2);
    rig.connect(82, 5002);
    rig.until("the refusal", |rig| {
        rig.relay.statistics().refused_destination > 0
    });
    assert!(rig.host.is_empty());
}

#[test]
fn a_reset_of_the_server_reaches_the_guest() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut rig = Rig::new(listener.local_addr().unwrap(), false);
    let handle = rig.connect(80, 5000);
    rig.until("the connection", |rig| rig.socket(handle).may_send());
    let (stream, _) = listener.accept().unwrap();
    socket2::SockRef::from(&stream)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(stream);
    rig.until("the reset", |rig| {
        rig.socket(handle).state() == tcp::State::Closed
    });
    assert!(rig.host.is_empty() && rig.relay.statistics().flows == 0);
}

#[test]
fn a_service_gets_its_connection_over_a_socket_pair() {
    let mut rig = Rig::new("127.0.0.1:1".parse().unwrap(), true);
    let handle = rig.connect(53, 5000);
    rig.until("the connection", |rig| rig.socket(handle).may_send());
    let mut service = rig.host.take_service_connection().unwrap();
    assert_eq!(service.local, "192.0.2.80:53".parse().unwrap());
    assert_eq!(
        (service.peer, service.port),
        ("10.0.2.15:5000".parse().unwrap(), PORT)
    );
    let answer = Rng::new(3).bytes(300_000);
    let expect = answer.clone();
    let thread = std::thread::spawn(move || {
        let mut question = Vec::new();
        service.stream.read_to_end(&mut question).unwrap();
        service.stream.write_all(&answer).unwrap();
        question
    });
    let question = Rng::new(4).bytes(200_000);
    assert!(exchange(&mut rig, handle, &question) == expect);
    assert!(thread.join().unwrap() == question);
    rig.until("the end of the flow", |rig| rig.host.is_empty());
}

#[test]
fn a_published_port_is_accepted_into_the_guest() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut rig = Rig::new(address, false);
    let buffer = || tcp::SocketBuffer::new(vec![0; 10_000]);
    let mut socket = tcp::Socket::new(buffer(), buffer());
    socket.listen(8080).unwrap();
    let handle = rig.sockets.add(socket);
    let mut client = TcpStream::connect(address).unwrap();
    client.write_all(b"who is there?").unwrap();
    let (stream, _) = listener.accept().unwrap();
    stream.set_nonblocking(true).unwrap();
    let socket = rig
        .host
        .adopt(mio::net::TcpStream::from_std(stream))
        .unwrap();
    let now = rig.started.elapsed();
    let (from, to) = (
        "198.51.100.7:1234".parse().unwrap(),
        "10.0.2.15:8080".parse().unwrap(),
    );
    assert!(
        rig.relay
            .accept(&mut rig.host, socket, from, to, now, &mut rig.wire)
    );
    let got = exchange_listening(&mut rig, handle, b"the guest");
    assert_eq!(got, b"who is there?");
    client
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let mut answer: Vec<u8> = Vec::new();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    // The relay runs on this thread: read what is there, turn by turn.
    client.set_nonblocking(true).unwrap();
    rig.until("the answer", |_| {
        let mut buffer = [0; 100];
        match client.read(&mut buffer) {
            Ok(0) => true,
            Ok(n) => {
                answer.extend(&buffer[..n]);
                false
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                false
            }
        }
    });
    assert_eq!(answer, b"the guest");
}

fn exchange_listening(rig: &mut Rig, handle: SocketHandle, answer: &[u8]) -> Vec<u8> {
    let mut got = Vec::new();
    rig.until("the question", |rig| {
        let socket = rig.socket(handle);
        if socket.can_recv() {
            socket
                .recv(|bytes| {
                    got.extend_from_slice(bytes);
                    (bytes.len(), ())
                })
                .unwrap();
        }
        got.len() >= 13
    });
    let remote = rig.socket(handle).remote_endpoint().unwrap();
    assert_eq!(remote.addr, IpAddress::v4(198, 51, 100, 7));
    rig.socket(handle).send_slice(answer).unwrap();
    rig.socket(handle).close();
    got
}
