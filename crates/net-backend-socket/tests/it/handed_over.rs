//! Sockets that one process has bound and another serves.

use std::io::Write;
use std::os::unix::net::{UnixDatagram, UnixStream};

use net_backend::NetworkBackend;
use net_backend_socket::BoundPath;
use net_backend_socket::bess::BessListener;
use net_backend_socket::qemu_dgram::QemuDgram;
use net_backend_socket::qemu_stream::QemuStreamListener;
use net_backend_socket::unixgram::Unixgram;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::far::lengths;

#[test]
fn a_stream_listener_serves_and_leaves_the_path() {
    let dir = tempfile::tempdir().unwrap();
    let (socket, owner) = BoundPath::stream(dir.path().join("s")).unwrap();
    let path = owner.path().to_owned();
    let served = QemuStreamListener::from_socket(socket).unwrap();
    assert_eq!(served.path(), None);
    let mut far = UnixStream::connect(&path).unwrap();
    let mut near = served.accept().unwrap().expect("a connection");
    far.write_all(&[&[0, 0, 0, 20][..], &[7; 20]].concat())
        .unwrap();
    assert_eq!(lengths(&mut near).unwrap(), [20]);
    drop(served);
    assert!(path.exists(), "the path is its owner's");
    drop(owner);
    assert!(!path.exists());
}

#[test]
fn a_bess_listener_serves() {
    let dir = tempfile::tempdir().unwrap();
    let (socket, owner) = BoundPath::sequenced(dir.path().join("b")).unwrap();
    let served = BessListener::from_socket(socket).unwrap();
    let far = Socket::new(Domain::UNIX, Type::SEQPACKET, None).unwrap();
    far.connect(&SockAddr::unix(owner.path()).unwrap()).unwrap();
    let mut near = served.accept().unwrap().expect("a connection");
    far.send(&[7; 30]).unwrap();
    assert_eq!(lengths(&mut near).unwrap(), [30]);
}

#[test]
fn another_kind_of_socket_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (stream, _) = BoundPath::stream(dir.path().join("s")).unwrap();
    assert!(BessListener::from_socket(stream).is_err());
    let (datagram, _) = BoundPath::datagram(dir.path().join("d")).unwrap();
    assert!(QemuStreamListener::from_socket(datagram).is_err());
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    assert!(QemuStreamListener::from_socket(tcp.into()).is_err());
}

/// The peer latches, and is replaced, as at a path of one's own.
#[test]
fn datagram_sockets_wait_for_their_peer() {
    fn check(mut served: impl NetworkBackend, owner: &BoundPath) {
        let path = owner.path();
        for name in ["first", "second"] {
            let far = UnixDatagram::bind(path.with_file_name(name)).unwrap();
            far.send_to(&[1; 60], path).unwrap();
            let got = (0..3).find_map(|_| lengths(&mut served).ok().filter(|got| !got.is_empty()));
            assert_eq!(got, Some(vec![60]), "{name}");
        }
        assert!(served.reattaches());
    }
    let dir = tempfile::tempdir().unwrap();
    let (socket, owner) = BoundPath::datagram(dir.path().join("d")).unwrap();
    check(QemuDgram::from_bound(socket.into()).unwrap(), &owner);

    let dir = tempfile::tempdir().unwrap();
    let (socket, owner) = BoundPath::datagram(dir.path().join("u")).unwrap();
    check(Unixgram::from_bound(socket.into()).unwrap(), &owner);
}
