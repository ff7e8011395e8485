//! QEMU's stream socket.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;

use net_backend::conformance::{Harness, Peer, content};
use net_backend::{BackendError, Malformed, NetworkBackend};
use net_backend_socket::{BindError, QemuStream, QemuStreamListener};
use net_datapath::VirtioNetHdr;
use tempfile::TempDir;

use crate::far::{FarStream, fill, is_gone, is_ready, lengths, offer};

struct Listening {
    listener: QemuStreamListener,
    _dir: TempDir,
}

impl Listening {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = QemuStreamListener::bind(dir.path().join("s")).unwrap();
        Self {
            listener,
            _dir: dir,
        }
    }

    fn pair(&mut self) -> (QemuStream, FarStream) {
        let far = UnixStream::connect(self.listener.path().unwrap()).unwrap();
        let near = self.listener.accept().unwrap().expect("a connection");
        (near, FarStream::new(far))
    }
}

impl Harness for Listening {
    type Backend = QemuStream;
    type Peer = FarStream;

    fn connect(&mut self) -> (QemuStream, FarStream) {
        self.pair()
    }

    fn reconnect(&mut self, _: QemuStream) -> (QemuStream, FarStream) {
        self.pair()
    }
}

/// A socket pair, as QEMU inherits it.
struct Pair;

impl Harness for Pair {
    type Backend = QemuStream;
    type Peer = FarStream;

    fn connect(&mut self) -> (QemuStream, FarStream) {
        let (near, far) = UnixStream::pair().unwrap();
        (QemuStream::from_stream(near).unwrap(), FarStream::new(far))
    }

    fn reconnect(&mut self, _: QemuStream) -> (QemuStream, FarStream) {
        self.connect()
    }
}

net_backend::conformance_tests!(listening, Listening::new());
net_backend::conformance_tests!(pair, Pair);

#[test]
fn a_length_out_of_range_closes_the_connection() {
    for len in [0u32, 13, 65_551, u32::MAX, 0x4745_5420] {
        let (mut near, mut far) = Pair.connect();
        assert!(far.send(VirtioNetHdr::PLAIN, &content(1, 64).bytes));
        far.stream.write_all(&len.to_be_bytes()).unwrap();
        far.stream.write_all(&[0; 100]).unwrap();
        assert_eq!(lengths(&mut near).unwrap(), [64]);
        let error = near.receive(8, &mut |_| panic!("a frame")).unwrap_err();
        assert!(
            matches!(error, BackendError::Malformed(Malformed::Length { len: told }) if told == len)
        );
        assert!(is_gone(&lengths(&mut near)) && is_gone(&offer(&mut near, 64)));
        assert!(is_gone(&near.flush().map(|_| 0)) && !near.wants_write());
        let stats = near.statistics();
        assert_eq!((stats.rx_malformed, stats.disconnects), (1, 1));
        // The VMM is told: nothing can be written any more, and there is an end to read.
        assert_eq!(
            far.stream.write(&[0]).unwrap_err().kind(),
            ErrorKind::BrokenPipe
        );
    }
}

#[test]
fn a_writer_of_single_bytes() {
    let (mut near, mut far) = Pair.connect();
    let mut wire = 30u32.to_be_bytes().to_vec();
    wire.extend([1; 30]);
    for (i, byte) in wire.iter().enumerate() {
        far.stream.write_all(&[*byte]).unwrap();
        let got = lengths(&mut near).unwrap();
        assert_eq!(got.len(), usize::from(i + 1 == wire.len()));
    }
}

#[test]
fn the_end_in_the_middle_of_a_frame_is_counted() {
    for cut in 1..34 {
        let (mut near, mut far) = Pair.connect();
        let mut wire = 30u32.to_be_bytes().to_vec();
        wire.extend([1; 30]);
        far.stream.write_all(&wire[..cut]).unwrap();
        drop(far);
        assert!(is_gone(&lengths(&mut near)));
        assert!(is_gone(&lengths(&mut near)));
        let stats = near.statistics();
        assert_eq!(
            (stats.rx_malformed, stats.disconnects),
            (1, 1),
            "cut at {cut}"
        );
    }
}

/// A frame of which the kernel took a part is completed once there is room, and only then is
/// another taken.
#[test]
fn the_rest_of_a_frame_follows() {
    let (mut near, mut far) = Pair.connect();
    let taken = fill(&mut near, 65_000);
    assert!(near.wants_write());
    assert!(!near.flush().unwrap(), "flushed into a full socket");
    assert!(!is_ready(near.source(), libc::POLLOUT));
    let stats = near.statistics();
    assert!(stats.tx_blocked >= 1);
    for _ in 0..taken {
        loop {
            near.flush().unwrap();
            if let Some(frame) = far.recv() {
                assert_eq!(frame.bytes, vec![0x5a; 65_000]);
                break;
            }
        }
    }
    assert!(near.flush().unwrap() && !near.wants_write());
    assert!(is_ready(near.source(), libc::POLLOUT));
    assert!(far.recv().is_none());
    assert_eq!(near.statistics().tx_frames, taken as u64);
}

/// More pieces than one gathered write takes.
#[test]
fn a_frame_in_a_thousand_pieces() {
    let (mut near, mut far) = Pair.connect();
    let frame = content(5, 3000);
    let segments: Vec<_> = frame.bytes.chunks(3).map(Into::into).collect();
    let whole = [frame.bytes[..].into()];
    let frames = [
        net_backend::TxFrame::plain(&whole),
        net_backend::TxFrame::plain(&segments),
        net_backend::TxFrame::plain(&whole),
    ];
    assert_eq!(near.transmit(&frames).unwrap(), 3);
    for _ in 0..3 {
        assert_eq!(far.recv().unwrap(), frame);
    }
}

#[test]
fn a_peer_that_vanishes_while_it_is_owed_something() {
    let (mut near, far) = Pair.connect();
    fill(&mut near, 65_000);
    drop(far);
    assert!(is_gone(&near.flush().map(|_| 0)));
    assert!(is_gone(&offer(&mut near, 64)));
    assert!(!near.wants_write());
    assert_eq!(near.statistics().disconnects, 1);
}

#[test]
fn many_frames_a_system_call() {
    let (mut near, mut far) = Pair.connect();
    let frame = content(1, 100);
    let segments = [frame.bytes[..].into()];
    let frames = vec![net_backend::TxFrame::plain(&segments); 200];
    assert_eq!(near.transmit(&frames).unwrap(), 200);
    assert_eq!(near.statistics().tx_calls, 1);
    for _ in 0..200 {
        assert_eq!(far.recv().unwrap(), frame);
        assert!(far.send(VirtioNetHdr::PLAIN, &frame.bytes));
    }
    assert_eq!(lengths(&mut near).unwrap().len(), 200);
    assert_eq!(near.statistics().rx_calls, 1);
}

#[test]
fn the_listener_serves_many_and_cleans_up() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let listener = QemuStreamListener::bind(&path).unwrap();
    assert!(listener.accept().unwrap().is_none());
    assert!(matches!(
        QemuStreamListener::bind(&path),
        Err(BindError::Exists { .. })
    ));
    let _guests: Vec<_> = (0..5)
        .map(|_| QemuStream::connect(&path).unwrap())
        .collect();
    assert!(is_ready(Some(listener.source()), libc::POLLIN));
    let ports: Vec<_> = (0..5)
        .map(|_| listener.accept().unwrap().unwrap())
        .collect();
    assert!(listener.accept().unwrap().is_none());
    drop(listener);
    assert!(!path.exists());
    // Connections outlive the listener.
    for mut port in ports {
        assert!(matches!(lengths(&mut port).as_deref(), Ok([])));
    }
    assert!(QemuStream::connect(&path).is_err());
}

/// What is read at the far end after everything was sent and our end dropped is exactly that.
#[test]
fn dropping_our_end_is_the_end_of_the_stream() {
    let (mut near, mut far) = Pair.connect();
    assert_eq!(offer(&mut near, 14).unwrap(), 1);
    drop(near);
    assert_eq!(far.recv().unwrap().bytes.len(), 14);
    assert_eq!(far.stream.read(&mut [0]).unwrap(), 0);
}
