use super::*;
use net_datapath::IoSegment;
use std::net::UdpSocket;
use std::os::fd::AsFd;

fn pair() -> (Socket, SocketAddr, UdpSocket) {
    let socket = datagram_socket("127.0.0.1:0".parse().unwrap(), Protocol::UDP).unwrap();
    let addr = socket.local_addr().unwrap().as_socket().unwrap();
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    (socket, addr, peer)
}

fn receive_all(batch: &mut Batch, socket: &Socket) -> Vec<(SocketAddr, Option<IpAddr>, Vec<u8>)> {
    let mut all = Vec::new();
    while let Ok(count) = batch.receive(socket.as_fd()) {
        for i in 0..count {
            let datagram = batch.datagram(i).unwrap();
            let size = if datagram.segment_size == 0 {
                usize::MAX
            } else {
                datagram.segment_size
            };
            let mut parts = datagram.payload.chunks(size);
            // An empty datagram has no chunk.
            let first = parts.next().unwrap_or_default();
            for part in core::iter::once(first).chain(parts) {
                all.push((datagram.from, datagram.to, part.to_vec()));
            }
        }
    }
    all
}

#[test]
fn scattered_bytes_arrive_as_one_datagram() {
    let (socket, addr, peer) = pair();
    let (a, b) = ([1u8, 2], [3u8]);
    let segments = [IoSegment::from(&a[..]), IoSegment::from(&b[..])];
    let to = peer.local_addr().unwrap();
    let sent = send(socket.as_fd(), to, &[9], &segments, SendOptions::default()).unwrap();
    let mut buffer = [0; 10];
    let (len, from) = peer.recv_from(&mut buffer).unwrap();
    assert_eq!((sent, &buffer[..len], from), (4, &[9u8, 1, 2, 3][..], addr));
}

#[test]
fn a_batch_reports_sender_destination_and_every_length() {
    let socket = datagram_socket(any_address(false), Protocol::UDP).unwrap();
    report_destination(&socket, false).unwrap();
    let port = socket.local_addr().unwrap().as_socket().unwrap().port();
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    let payloads: Vec<Vec<u8>> = (0..40u8).map(|i| vec![i; usize::from(i) * 37]).collect();
    for payload in &payloads {
        peer.send_to(payload, ("127.0.0.2", port)).unwrap();
    }
    let got = receive_all(&mut Batch::new(), &socket);
    assert_eq!(got.len(), payloads.len());
    for ((from, to, payload), expected) in got.iter().zip(&payloads) {
        assert_eq!(payload, expected);
        assert_eq!(*from, peer.local_addr().unwrap());
        assert_eq!(*to, Some("127.0.0.2".parse().unwrap()));
    }
}

#[test]
fn the_source_of_a_reply_can_be_chosen() {
    let socket = datagram_socket(any_address(false), Protocol::UDP).unwrap();
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    let source = Some("127.0.0.3".parse().unwrap());
    let options = SendOptions {
        source,
        segment_size: None,
    };
    send(
        socket.as_fd(),
        peer.local_addr().unwrap(),
        b"hi",
        &[],
        options,
    )
    .unwrap();
    let (_, from) = peer.recv_from(&mut [0; 2]).unwrap();
    assert_eq!(Some(from.ip()), source);
}

#[cfg(target_os = "linux")]
#[test]
fn segmentation_and_coalescing_keep_the_boundaries() {
    let (socket, addr, _) = pair();
    assert!(coalesce(&socket));
    let sender = datagram_socket("127.0.0.1:0".parse().unwrap(), Protocol::UDP).unwrap();
    let payload: Vec<u8> = (0..3500u32).map(|i| i as u8).collect();
    let options = SendOptions {
        source: None,
        segment_size: Some(1000),
    };
    send(
        sender.as_fd(),
        addr,
        &[],
        &[IoSegment::from(&payload[..])],
        options,
    )
    .unwrap();
    let got = receive_all(&mut Batch::new(), &socket);
    let lens: Vec<usize> = got.iter().map(|(_, _, part)| part.len()).collect();
    assert_eq!(lens, [1000, 1000, 1000, 500]);
    assert_eq!(
        got.into_iter()
            .flat_map(|(_, _, part)| part)
            .collect::<Vec<u8>>(),
        payload
    );
}

#[cfg(target_os = "linux")]
#[test]
fn a_closed_port_comes_back_through_the_error_queue() {
    let (socket, _, peer) = pair();
    let closed = peer.local_addr().unwrap();
    drop(peer);
    send(
        socket.as_fd(),
        closed,
        b"payload",
        &[],
        SendOptions::default(),
    )
    .unwrap();
    let mut quote = [0; 64];
    let error = receive_error(socket.as_fd(), &mut quote).unwrap();
    assert_eq!(
        (error.origin, error.kind, error.code),
        (ErrorOrigin::Icmp, 3, 3)
    );
    assert_eq!((error.errno, error.to), (libc::ECONNREFUSED, Some(closed)));
    assert_eq!(error.offender, Some("127.0.0.1".parse().unwrap()));
    assert_eq!(&quote[..error.len], b"payload");
    let again = receive_error(socket.as_fd(), &mut quote).unwrap_err();
    assert_eq!(again.kind(), io::ErrorKind::WouldBlock);
}

#[test]
fn local_addresses_are_known() {
    assert!(is_local_address("127.0.0.1".parse().unwrap()));
    assert!(!is_local_address("192.0.2.77".parse().unwrap()));
}
