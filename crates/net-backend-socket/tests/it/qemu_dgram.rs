//! QEMU's datagram socket.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use net_backend::NetworkBackend;
use net_backend::conformance::{Frame, Harness, Peer, Properties};
use net_backend_socket::QemuDgram;
use net_datapath::VirtioNetHdr;
use tempfile::TempDir;

use crate::far::{FarMessages, fill, is_gone, is_ready, lengths, offer};

/// A QEMU: bound to a path, sending by name, receiving from anybody.
struct FarQemu {
    socket: UnixDatagram,
    to: PathBuf,
}

impl FarQemu {
    fn send_bytes(&self, bytes: &[u8]) -> std::io::Result<usize> {
        self.socket.send_to(bytes, &self.to)
    }
}

impl Peer for FarQemu {
    fn send(&mut self, _: VirtioNetHdr, frame: &[u8]) -> bool {
        match self.send_bytes(frame) {
            Ok(len) => len == frame.len(),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => false,
            Err(error) => panic!("{error}"),
        }
    }

    fn recv(&mut self) -> Option<Frame> {
        let mut bytes = vec![0; 70_000];
        let len = self.socket.recv(&mut bytes).ok()?;
        assert_ne!(len, 0, "an empty datagram stops QEMU");
        bytes.truncate(len);
        Some(Frame::plain(bytes))
    }
}

struct Bound {
    dir: TempDir,
    made: u32,
    /// Whether a VMM that restarts binds the path it had before.
    same_path: bool,
}

impl Bound {
    fn new(same_path: bool) -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            made: 0,
            same_path,
        }
    }

    fn bind(&mut self) -> QemuDgram {
        self.made += 1;
        QemuDgram::bind(self.dir.path().join(format!("net{}", self.made))).unwrap()
    }

    fn qemu(&mut self, backend: &QemuDgram) -> FarQemu {
        self.made += 1;
        let name = if self.same_path { 0 } else { self.made };
        let path = self.dir.path().join(format!("vm{name}"));
        let _ = fs::remove_file(&path);
        let socket = UnixDatagram::bind(path).unwrap();
        socket.set_nonblocking(true).unwrap();
        FarQemu {
            socket,
            to: backend.path().unwrap().into(),
        }
    }

    /// A QEMU that has sent its first frame.
    fn latched(&mut self, backend: &mut QemuDgram) -> FarQemu {
        let mut qemu = self.qemu(backend);
        assert!(qemu.send(VirtioNetHdr::PLAIN, &[1; 15]));
        for _ in 0..3 {
            if let Ok(got) = lengths(backend) {
                assert_eq!(got, [15]);
                return qemu;
            }
        }
        panic!("the first frame never came");
    }
}

impl Harness for Bound {
    type Backend = QemuDgram;
    type Peer = FarQemu;

    fn connect(&mut self) -> (QemuDgram, FarQemu) {
        let mut backend = self.bind();
        let qemu = self.latched(&mut backend);
        (backend, qemu)
    }

    fn reconnect(&mut self, mut backend: QemuDgram) -> (QemuDgram, FarQemu) {
        let qemu = self.latched(&mut backend);
        (backend, qemu)
    }

    fn properties(&self) -> Properties {
        Properties::default().disconnects_on_transmit_only()
    }
}

struct Pair;

impl Harness for Pair {
    type Backend = QemuDgram;
    type Peer = FarMessages;

    fn connect(&mut self) -> (QemuDgram, FarMessages) {
        let (near, far) = UnixDatagram::pair().unwrap();
        (
            QemuDgram::from_socket(near).unwrap(),
            FarMessages::datagram(far),
        )
    }

    fn reconnect(&mut self, _: QemuDgram) -> (QemuDgram, FarMessages) {
        self.connect()
    }

    fn properties(&self) -> Properties {
        Properties::default().disconnects_on_transmit_only()
    }
}

net_backend::conformance_tests!(same_path, Bound::new(true));
net_backend::conformance_tests!(new_path, Bound::new(false));
net_backend::conformance_tests!(pair, Pair);

#[test]
fn strangers_are_ignored_while_the_peer_lives() {
    let mut bound = Bound::new(false);
    let (mut near, mut peer) = bound.connect();
    let mut stranger = bound.qemu(&near);
    for _ in 0..5 {
        assert!(stranger.send(VirtioNetHdr::PLAIN, &[6; 66]));
        assert!(peer.send(VirtioNetHdr::PLAIN, &[1; 60]));
    }
    assert_eq!(lengths(&mut near).unwrap(), [60; 5]);
    let stats = near.statistics();
    assert_eq!((stats.rx_strangers, stats.peers), (5, 1));
    assert_eq!(offer(&mut near, 77).unwrap(), 1);
    assert_eq!(peer.recv().unwrap().bytes.len(), 77);
    assert!(stranger.recv().is_none());
}

#[test]
fn the_next_peer_is_taken_once_the_old_one_is_dead() {
    let mut bound = Bound::new(false);
    let (mut near, peer) = bound.connect();
    let mut next = bound.qemu(&near);
    assert!(next.send(VirtioNetHdr::PLAIN, &[6; 66]));
    assert_eq!(lengths(&mut near).unwrap(), []);
    drop(peer);
    assert!(next.send(VirtioNetHdr::PLAIN, &[6; 67]));
    assert!(next.send(VirtioNetHdr::PLAIN, &[6; 68]));
    // First the disconnect is told, once, then the next peer's frames come.
    assert!(is_gone(&lengths(&mut near)));
    assert_eq!(lengths(&mut near).unwrap(), [67, 68]);
    assert_eq!(offer(&mut near, 77).unwrap(), 1);
    assert_eq!(next.recv().unwrap().bytes.len(), 77);
    let stats = near.statistics();
    assert_eq!((stats.peers, stats.disconnects), (2, 1));
}

/// Frames of the old peer that are still there come before the disconnect is told.
#[test]
fn frames_of_both_peers_in_one_batch() {
    let mut bound = Bound::new(false);
    let (mut near, mut old) = bound.connect();
    let mut new = bound.qemu(&near);
    assert!(old.send(VirtioNetHdr::PLAIN, &[1; 60]));
    drop(old);
    assert!(new.send(VirtioNetHdr::PLAIN, &[2; 61]));
    assert_eq!(lengths(&mut near).unwrap(), [60]);
    assert!(is_gone(&lengths(&mut near)));
    assert_eq!(lengths(&mut near).unwrap(), [61]);
}

#[test]
fn what_is_no_frame_makes_nobody_the_peer() {
    let mut bound = Bound::new(false);
    let mut near = bound.bind();
    let odd = bound.qemu(&near);
    for len in [0, 1, 13, 65_551, 70_000] {
        odd.send_bytes(&vec![1; len]).unwrap();
    }
    let nameless = UnixDatagram::unbound().unwrap();
    nameless.send_to(&[1; 60], near.path().unwrap()).unwrap();
    assert_eq!(lengths(&mut near).unwrap(), []);
    let stats = near.statistics();
    assert_eq!((stats.rx_malformed, stats.rx_strangers), (5, 1));
    assert_eq!(stats.peers, 0);
    // With nobody there frames are dropped and counted; they must not block their sender.
    assert_eq!(offer(&mut near, 60).unwrap(), 1);
    assert_eq!(near.statistics().tx_no_peer, 1);
    let mut first = bound.latched(&mut near);
    assert_eq!(offer(&mut near, 60).unwrap(), 1);
    assert_eq!(first.recv().unwrap().bytes.len(), 60);
}

#[test]
fn a_full_peer_gives_an_event_when_there_is_room() {
    let mut bound = Bound::new(false);
    let (mut near, mut peer) = bound.connect();
    let taken = fill(&mut near, 1000);
    assert!(near.wants_write());
    assert!(!is_ready(near.source(), libc::POLLOUT));
    for _ in 0..taken {
        assert!(peer.recv().is_some());
    }
    assert!(is_ready(near.source(), libc::POLLOUT));
    assert!(near.flush().unwrap() && !near.wants_write());
}

#[test]
fn a_peer_that_vanishes_while_its_queue_is_full() {
    let mut bound = Bound::new(false);
    let (mut near, peer) = bound.connect();
    fill(&mut near, 1000);
    drop(peer);
    assert!(
        is_ready(near.source(), libc::POLLOUT),
        "no event on its death"
    );
    assert!(is_gone(&offer(&mut near, 1000)));
    assert!(!near.wants_write() && near.next_deadline().is_none());
    // Told once; what is sent to nobody is dropped.
    assert_eq!(offer(&mut near, 1000).unwrap(), 1);
}

#[test]
fn the_socket_file_goes_with_the_back_end() {
    let mut bound = Bound::new(false);
    let near = bound.bind();
    let path = near.path().unwrap().to_owned();
    assert!(path.exists());
    drop(near);
    assert!(!path.exists());
}

/// Elsewhere nobody refuses a sender because the receiver is connected to somebody else.
#[cfg(target_os = "linux")]
mod burst {
    use std::time::Duration;

    use net_backend::TxFrame;

    use super::*;

    /// Lets time pass for the back end, and says whether it still wants to be told of it.
    fn pass(near: &mut QemuDgram, now: &mut Duration, by: Duration) -> bool {
        *now += by;
        near.on_deadline(*now);
        near.next_deadline().is_some()
    }

    /// While much is sent the socket is connected; then Linux refuses everybody else. A quiet moment
    /// ends that, and nothing wakes an idle program.
    #[test]
    fn after_a_burst_the_socket_is_open_to_the_next_peer() {
        let mut bound = Bound::new(false);
        let (mut near, mut peer) = bound.connect();
        assert_eq!(near.next_deadline(), None);
        let frame = [3; 60];
        let segments = [frame[..].into()];
        let burst = vec![TxFrame::plain(&segments); 16];
        let drain = |peer: &mut FarQemu| while peer.recv().is_some() {};
        let mut sent = 0;
        while sent < 16 {
            sent += near.transmit(&burst[sent..]).unwrap();
            drain(&mut peer);
        }
        let next = bound.qemu(&near);
        let refused = next.send_bytes(&[2; 60]).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EPERM));

        let (mut now, tick) = (Duration::from_secs(5), Duration::from_millis(20));
        assert!(pass(&mut near, &mut now, Duration::ZERO));
        assert!(pass(&mut near, &mut now, tick), "busy in the time before");
        assert_eq!(offer(&mut near, 60).unwrap(), 1);
        assert!(pass(&mut near, &mut now, tick), "a frame has passed");
        assert!(peer.send(VirtioNetHdr::PLAIN, &[1; 60]));
        assert!(pass(&mut near, &mut now, tick), "a frame waits");
        assert_eq!(
            lengths(&mut near).unwrap(),
            [60],
            "and has been thrown away"
        );
        assert!(pass(&mut near, &mut now, tick), "a frame has passed");
        assert!(!pass(&mut near, &mut now, tick), "idle, and still waking");

        drop(peer);
        next.send_bytes(&[2; 61]).unwrap();
        assert!(is_gone(&lengths(&mut near)));
        assert_eq!(lengths(&mut near).unwrap(), [61]);
    }
}
