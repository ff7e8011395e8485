//! The datagram socket of vfkit, libkrun and Virtualization.framework.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use net_backend::conformance::{Harness, Peer, Properties};
use net_backend::{NetworkBackend, Offloads, TxFrame};
use net_backend_socket::{SocketConfig, Unixgram};
use net_datapath::VirtioNetHdr;
use tempfile::TempDir;

use crate::far::{FarMessages, is_gone, lengths, offer};

struct Bound {
    dir: TempDir,
    made: u32,
    same_path: bool,
    greets: bool,
    declares: Offloads,
}

impl Bound {
    fn new(same_path: bool, greets: bool) -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            made: 0,
            same_path,
            greets,
            declares: Offloads::NONE,
        }
    }

    fn declaring(mut self, declares: Offloads) -> Self {
        self.declares = declares;
        self
    }

    fn bind(&mut self) -> Unixgram {
        self.made += 1;
        let config = SocketConfig {
            declares: self.declares,
            ..SocketConfig::default()
        };
        Unixgram::bind(self.dir.path().join(format!("net{}", self.made)))
            .unwrap()
            .with_config(config)
    }

    /// A VMM: bound to its own path and connected to ours.
    fn vmm(&mut self, backend: &Unixgram) -> FarMessages {
        self.made += 1;
        let name = if self.same_path { 0 } else { self.made };
        let path = self.dir.path().join(format!("vm{name}"));
        let _ = fs::remove_file(&path);
        let socket = UnixDatagram::bind(path).unwrap();
        socket.connect(backend.path().unwrap()).unwrap();
        FarMessages::datagram(socket)
    }

    fn latched(&mut self, backend: &mut Unixgram) -> FarMessages {
        let mut vmm = self.vmm(backend);
        if self.greets {
            vmm.0.send(b"VFKT").unwrap();
        }
        assert!(vmm.send(VirtioNetHdr::PLAIN, &[1; 15]));
        for _ in 0..3 {
            if let Ok(got) = lengths(backend) {
                assert_eq!(got, [15]);
                return vmm;
            }
        }
        panic!("the first frame never came");
    }
}

impl Harness for Bound {
    type Backend = Unixgram;
    type Peer = FarMessages;

    fn connect(&mut self) -> (Unixgram, FarMessages) {
        let mut backend = self.bind();
        let vmm = self.latched(&mut backend);
        (backend, vmm)
    }

    fn reconnect(&mut self, mut backend: Unixgram) -> (Unixgram, FarMessages) {
        // Whatever burst there was, the time after it has passed.
        for tick in 1..5 {
            backend.on_deadline(Duration::from_secs(tick));
        }
        let vmm = self.latched(&mut backend);
        (backend, vmm)
    }

    fn properties(&self) -> Properties {
        Properties::default().disconnects_on_transmit_only()
    }
}

/// What Virtualization.framework is given.
struct Pair;

impl Harness for Pair {
    type Backend = Unixgram;
    type Peer = FarMessages;

    fn connect(&mut self) -> (Unixgram, FarMessages) {
        let (near, far) = UnixDatagram::pair().unwrap();
        (
            Unixgram::from_socket(near).unwrap(),
            FarMessages::datagram(far),
        )
    }

    fn reconnect(&mut self, _: Unixgram) -> (Unixgram, FarMessages) {
        self.connect()
    }

    fn properties(&self) -> Properties {
        Properties::default().disconnects_on_transmit_only()
    }
}

net_backend::conformance_tests!(vfkit, Bound::new(false, true));
net_backend::conformance_tests!(libkrun, Bound::new(false, false));
net_backend::conformance_tests!(same_path, Bound::new(true, true));
net_backend::conformance_tests!(declaring, Bound::new(false, false).declaring(Offloads::ALL));
net_backend::conformance_tests!(pair, Pair);

#[test]
fn the_greeting_is_no_frame_and_a_second_one_is_a_new_vmm() {
    let mut bound = Bound::new(true, true);
    let mut near = bound.bind();
    let mut vmm = bound.vmm(&near);
    vmm.0.send(b"VFKT").unwrap();
    assert_eq!(lengths(&mut near).unwrap(), []);
    // The greeting alone makes it the peer.
    assert_eq!(offer(&mut near, 60).unwrap(), 1);
    assert_eq!(vmm.recv().unwrap().bytes.len(), 60);
    assert!(vmm.send(VirtioNetHdr::PLAIN, &[1; 70]));
    assert_eq!(lengths(&mut near).unwrap(), [70]);
    drop(vmm);

    // The same path again: nothing but the greeting tells.
    let mut vmm = bound.vmm(&near);
    vmm.0.send(b"VFKT").unwrap();
    assert!(vmm.send(VirtioNetHdr::PLAIN, &[1; 71]));
    assert!(is_gone(&lengths(&mut near)));
    assert_eq!(lengths(&mut near).unwrap(), [71]);
    let stats = near.statistics();
    assert_eq!(
        (stats.peers, stats.disconnects, stats.rx_malformed),
        (2, 1, 0)
    );
}

/// A VMM that dies and is started again at once, with nothing sent in between: it must be able to
/// connect, and its first frame must arrive.
#[test]
fn a_vmm_restarts_on_another_path_at_once() {
    let mut bound = Bound::new(false, false);
    let (mut near, mut vmm) = bound.connect();
    for len in 80..90 {
        assert_eq!(offer(&mut near, len).unwrap(), 1);
        assert_eq!(vmm.recv().unwrap().bytes.len(), len);
    }
    drop(vmm);
    let mut next = bound.vmm(&near);
    assert!(next.send(VirtioNetHdr::PLAIN, &[1; 91]));
    assert!(is_gone(&lengths(&mut near)));
    assert_eq!(lengths(&mut near).unwrap(), [91]);
    assert_eq!(offer(&mut near, 92).unwrap(), 1);
    assert_eq!(next.recv().unwrap().bytes.len(), 92);
}

/// The same after a burst, once the quiet time has passed.
#[test]
fn a_vmm_restarts_after_a_burst() {
    let mut bound = Bound::new(false, true);
    let (mut near, mut vmm) = bound.connect();
    let frame = [3; 1514];
    let segments = [frame[..].into()];
    let burst = vec![TxFrame::plain(&segments); 64];
    assert_eq!(near.transmit(&burst).unwrap(), 64);
    for _ in 0..64 {
        assert!(vmm.recv().is_some());
    }
    drop(vmm);
    let mut now = Duration::ZERO;
    for _ in 0..4 {
        now = now.max(near.next_deadline().unwrap_or(now));
        near.on_deadline(now);
    }
    assert_eq!(near.next_deadline(), None);
    bound.reconnect(near);
}

#[test]
fn super_frames_without_a_header_get_one_back() {
    let mut bound = Bound::new(false, false).declaring(Offloads::ALL);
    let (mut near, mut vmm) = bound.connect();
    let have = near.capabilities().offloads;
    assert_eq!(
        have,
        Offloads::RX_CSUM | Offloads::RX_TSO4 | Offloads::RX_TSO6
    );
    let mut frame = vec![0; 14 + 9000];
    frame[12..14].copy_from_slice(&[8, 0]);
    frame[14..24].copy_from_slice(&[0x45, 0, 0x23, 0x28, 0, 0, 0x40, 0, 64, 6]);
    frame[46] = 0x50;
    assert!(vmm.send(VirtioNetHdr::PLAIN, &frame));
    let mut header = None;
    near.receive(1, &mut |batch| header = Some(*batch[0].vnet()))
        .unwrap();
    let header = header.unwrap();
    assert!(header.needs_csum() && header.is_gso());
    assert_eq!((header.gso_size, header.hdr_len), (1460, 54));
}

#[test]
fn four_bytes_that_are_not_the_greeting() {
    let mut bound = Bound::new(false, true);
    let (mut near, vmm) = bound.connect();
    vmm.0.send(b"VFKX").unwrap();
    vmm.0.send(&[]).unwrap();
    assert_eq!(lengths(&mut near).unwrap(), []);
    assert_eq!(near.statistics().rx_malformed, 2);
}

/// The other end of a pair that Virtualization.framework has one end of, known by its number.
#[test]
fn an_inherited_descriptor() {
    use std::os::fd::AsRawFd;
    use std::os::unix::net::{UnixDatagram, UnixStream};

    let (ours, machine) = UnixDatagram::pair().unwrap();
    let mut port = Unixgram::from_inherited(ours.as_raw_fd()).unwrap();
    machine.send(&[2; 60]).unwrap();
    let count = port.receive(8, &mut |batch| assert_eq!(batch[0].len(), 60));
    assert_eq!(count.unwrap(), 1);
    let frame = [3; 64];
    let segments = [frame[..].into()];
    let offer = [net_backend::TxFrame::plain(&segments)];
    assert_eq!(port.transmit(&offer).unwrap(), 1);
    let mut buffer = [0; 100];
    assert_eq!(machine.recv(&mut buffer).unwrap(), 64);

    let (stream, _other) = UnixStream::pair().unwrap();
    let error = Unixgram::from_inherited(stream.as_raw_fd()).unwrap_err();
    assert!(
        error.to_string().contains("no Unix datagram socket"),
        "{error}"
    );
    assert!(Unixgram::from_inherited(-1).is_err());
}
