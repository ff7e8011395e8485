//! Sequenced packets, which macOS does not have.
#![cfg(target_os = "linux")]

use std::os::fd::OwnedFd;

use net_backend::NetworkBackend;
use net_backend::conformance::{Harness, Peer};
use net_backend_socket::{Bess, BessListener};
use net_datapath::VirtioNetHdr;
use socket2::{Domain, SockAddr, Socket, Type};
use tempfile::TempDir;

use crate::far::{FarMessages, is_gone, lengths, offer};

struct Listening {
    listener: BessListener,
    _dir: TempDir,
}

impl Listening {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self {
            listener: BessListener::bind(dir.path().join("b")).unwrap(),
            _dir: dir,
        }
    }
}

impl Harness for Listening {
    type Backend = Bess;
    type Peer = FarMessages;

    fn connect(&mut self) -> (Bess, FarMessages) {
        let far = Socket::new(Domain::UNIX, Type::SEQPACKET, None).unwrap();
        far.connect(&SockAddr::unix(self.listener.path().unwrap()).unwrap())
            .unwrap();
        let near = self.listener.accept().unwrap().expect("a connection");
        (near, FarMessages::new(far))
    }

    fn reconnect(&mut self, _: Bess) -> (Bess, FarMessages) {
        self.connect()
    }
}

net_backend::conformance_tests!(listening, Listening::new());

fn pair() -> (Bess, FarMessages) {
    let (near, far) = Socket::pair(Domain::UNIX, Type::SEQPACKET, None).unwrap();
    let near = Bess::from_socket(OwnedFd::from(near)).unwrap();
    (near, FarMessages::new(far))
}

#[test]
fn an_empty_message_is_not_the_end() {
    let (mut near, mut far) = pair();
    far.0.send(&[]).unwrap();
    assert_eq!(lengths(&mut near).unwrap(), []);
    far.0.send(&[]).unwrap();
    assert!(far.send(VirtioNetHdr::PLAIN, &[1; 60]));
    far.0.send(&[]).unwrap();
    assert!(far.send(VirtioNetHdr::PLAIN, &[1; 61]));
    assert_eq!(lengths(&mut near).unwrap(), [60, 61]);
    assert_eq!(near.statistics().rx_malformed, 3);
    assert!(far.send(VirtioNetHdr::PLAIN, &[1; 62]));
    drop(far);
    assert_eq!(lengths(&mut near).unwrap(), [62]);
    for _ in 0..3 {
        assert!(is_gone(&lengths(&mut near)));
    }
    assert!(is_gone(&offer(&mut near, 60)));
    assert_eq!(near.statistics().disconnects, 1);
}

#[test]
fn what_is_no_frame_is_counted_and_the_connection_lives() {
    let (mut near, mut far) = pair();
    for len in [1, 13, 65_551, 70_000, 100] {
        assert!(far.send(VirtioNetHdr::PLAIN, &vec![1; len]));
    }
    assert_eq!(lengths(&mut near).unwrap(), [100]);
    assert_eq!(near.statistics().rx_malformed, 4);
    assert!(!near.reattaches());
}

/// What was under way when sending failed can still be received.
#[test]
fn the_last_words_are_heard() {
    let (mut near, mut far) = pair();
    assert!(far.send(VirtioNetHdr::PLAIN, &[1; 99]));
    drop(far);
    assert!(is_gone(&offer(&mut near, 60)));
    assert_eq!(lengths(&mut near).unwrap(), [99]);
    assert!(is_gone(&lengths(&mut near)));
    assert_eq!(near.statistics().disconnects, 1);
}
