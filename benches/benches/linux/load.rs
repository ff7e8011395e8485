//! What is sent, by plain sockets of the standard library.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::world::{OUTSIDE, World};

/// Bytes that one turn transfers, by all of its connections together.
pub(crate) const STREAM_BYTES: u64 = 512 << 20;
/// Datagrams that one turn sends.
pub(crate) const DATAGRAMS: u64 = 100_000;
/// Bytes of payload in each.
const DATAGRAM_LEN: usize = 64;
/// Bytes of one call of the system.
const CHUNK: usize = 128 << 10;
/// How long nothing may come before a turn has failed, or all datagrams count as here.
const PATIENCE: Duration = Duration::from_secs(20);
const SILENCE: Duration = Duration::from_millis(200);

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Out,
    In,
}

/// Of each contender, how many datagrams came of how many, over all turns.
static ARRIVED: Mutex<Vec<(&str, u64, u64)>> = Mutex::new(Vec::new());

/// The time from the first byte of any of the connections to the last byte of all.
pub(crate) fn tcp(world: &World, connections: u64, direction: Direction) -> Duration {
    let listener = world
        .outside
        .enter(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a port"));
    let port = listener.local_addr().expect("a port").port();
    let server = SocketAddr::from((OUTSIDE, port));
    let share = STREAM_BYTES / connections;
    let pairs: Vec<_> = (0..connections)
        .map(|_| {
            let guest = world
                .guest
                .enter(|| TcpStream::connect_timeout(&server, PATIENCE).expect("a connection"));
            let (outside, _) = listener.accept().expect("a connection");
            for stream in [&guest, &outside] {
                stream.set_read_timeout(Some(PATIENCE)).expect("a time");
                stream.set_write_timeout(Some(PATIENCE)).expect("a time");
            }
            match direction {
                Direction::Out => (guest, outside),
                Direction::In => (outside, guest),
            }
        })
        .collect();
    let begun = Instant::now();
    thread::scope(|scope| {
        for (mut from, mut to) in pairs {
            scope.spawn(move || {
                let chunk = vec![0x5a; CHUNK];
                for _ in 0..share / CHUNK as u64 {
                    from.write_all(&chunk).expect("the connection stands");
                }
                // Until the other side has everything.
                let _ = from.read(&mut [0]);
            });
            scope.spawn(move || {
                let mut buffer = vec![0; CHUNK];
                let mut left = share;
                while left > 0 {
                    let len = to.read(&mut buffer).expect("the connection stands");
                    assert!(len > 0, "the connection has ended");
                    left -= len as u64;
                }
                to.write_all(&[0]).expect("the connection stands");
            });
        }
    });
    begun.elapsed()
}

/// Sends as fast as the socket takes them; the time that as many would have taken to arrive at the
/// rate at which those arrived that did.
pub(crate) fn udp(world: &World) -> Duration {
    let any = (Ipv4Addr::UNSPECIFIED, 0);
    let receiver = world
        .outside
        .enter(|| UdpSocket::bind(any).expect("a port"));
    let port = receiver.local_addr().expect("a port").port();
    let sender = world.guest.enter(|| UdpSocket::bind(any).expect("a port"));
    sender.connect((OUTSIDE, port)).expect("a way");
    // One ahead: addresses are resolved and the session is there.
    sender.send(&[0; DATAGRAM_LEN]).expect("a way");
    receiver.set_read_timeout(Some(PATIENCE)).expect("a time");
    receiver.recv(&mut [0; 2048]).expect("the first datagram");

    receiver.set_read_timeout(Some(SILENCE)).expect("a time");
    let sent = AtomicBool::new(false);
    let (arrived, took) = thread::scope(|scope| {
        let receiving = scope.spawn(|| {
            let begun = Instant::now();
            let (mut arrived, mut last) = (0, begun);
            let mut buffer = [0; 2048];
            while arrived < DATAGRAMS {
                let was_sent = sent.load(Ordering::Acquire);
                match receiver.recv(&mut buffer) {
                    Ok(_) => {
                        arrived += 1;
                        // The clock costs less than the datagram, but not nothing.
                        if arrived % 64 == 0 {
                            last = Instant::now();
                        }
                    }
                    Err(_) if was_sent => break,
                    Err(_) => {}
                }
            }
            (arrived, last - begun)
        });
        for _ in 0..DATAGRAMS {
            // A full queue on the way is a loss like any other.
            let _ = sender.send(&[0; DATAGRAM_LEN]);
        }
        sent.store(true, Ordering::Release);
        receiving.join().expect("runs")
    });
    count(world.name, arrived);
    took.mul_f64(DATAGRAMS as f64 / arrived.max(1) as f64)
}

fn count(name: &'static str, arrived: u64) {
    let mut all = ARRIVED.lock().expect("no panic before");
    match all.iter_mut().find(|line| line.0 == name) {
        Some(line) => {
            line.1 += arrived;
            line.2 += DATAGRAMS;
        }
        None => all.push((name, arrived, DATAGRAMS)),
    }
}

/// How many datagrams got lost, of each contender that sent any.
pub(crate) fn report_loss(worlds: &[World]) {
    let all = ARRIVED.lock().expect("no panic before");
    for world in worlds {
        if let Some((name, arrived, sent)) = all.iter().find(|line| line.0 == world.name) {
            let lost = 100.0 * (sent - arrived) as f64 / *sent as f64;
            println!("  {name:<34} {lost:>9.1} % lost");
        }
    }
}
