//! Several queues: flows keep to theirs. And devices that a user without privileges opens.

use std::net::{Ipv4Addr, UdpSocket};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

use net_backend::{NetworkBackend, TxFrame};
use net_backend_linux::netlink::Netlink;
use net_backend_linux::tap::{TapSpec, create_persistent};
use net_backend_linux::{Tap, TapOptions};

const HOST: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
const GUEST: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 2);
const GUEST_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
const QUEUES: u16 = 4;
const FLOWS: u16 = 32;

fn internet_checksum(bytes: &[u8]) -> [u8; 2] {
    let words = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}

/// A question from the guest's port to the host's, without a UDP checksum (RFC 768).
fn datagram(host_mac: [u8; 6], from: u16, to: u16) -> Vec<u8> {
    let mut ip = vec![0x45, 0, 0, 32, 0, 0, 0x40, 0, 64, 17, 0, 0];
    ip.extend(GUEST.octets());
    ip.extend(HOST.octets());
    let checksum = internet_checksum(&ip);
    ip[10..12].copy_from_slice(&checksum);
    let mut frame = [&host_mac[..], &GUEST_MAC, &[8, 0], &ip].concat();
    for word in [from, to, 12, 0] {
        frame.extend(word.to_be_bytes());
    }
    frame.extend(*b"flow");
    frame
}

/// Who has the host's address? The host learns the guest's by it.
fn arp_request() -> Vec<u8> {
    let mut frame = [&[0xff; 6][..], &GUEST_MAC, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]].concat();
    frame.extend(GUEST_MAC);
    frame.extend(GUEST.octets());
    frame.extend([0; 6]);
    frame.extend(HOST.octets());
    frame
}

fn send(tap: &mut Tap, frame: &[u8]) {
    let segments = [frame.into()];
    assert_eq!(tap.transmit(&[TxFrame::plain(&segments)]).expect("sent"), 1);
}

/// Replies come by the queue that a flow's last packet went into, also after that changed.
pub(crate) fn flows() {
    let netlink = Netlink::new().expect("netlink");
    let mut taps = Tap::open_queues("mq0", QUEUES, TapOptions::default()).expect("queues");
    let link = netlink.link("mq0").expect("mq0");
    netlink
        .add_address(link.index, "10.99.0.1/24".parse().expect("an address"))
        .expect("an address");
    netlink.set_up(link.index).expect("up");
    let mac = link.mac.expect("a MAC").0;
    let server = UdpSocket::bind((HOST, 0)).expect("a server");
    let patience = Some(Duration::from_secs(20));
    server.set_read_timeout(patience).expect("patience");
    let port = server.local_addr().expect("its address").port();
    send(&mut taps[0], &arp_request());

    let mut used = [0; QUEUES as usize];
    for round in 0..3u16 {
        for flow in 0..FLOWS {
            let queue = usize::from((flow + round) % QUEUES);
            send(&mut taps[queue], &datagram(mac, 5000 + flow, port));
            let mut buffer = [0; 100];
            let (n, client) = server.recv_from(&mut buffer).expect("a question");
            assert_eq!(client, (GUEST, 5000 + flow).into());
            server.send_to(&buffer[..n], client).expect("an answer");
            let found = answered(&mut taps, 5000 + flow);
            assert_eq!(found, queue, "flow {flow} of round {round}");
            used[found] += 1;
        }
    }
    assert_eq!(used, [3 * u32::from(FLOWS / QUEUES); QUEUES as usize]);
}

/// The queue by which the answer to this port comes.
fn answered(taps: &mut [Tap], port: u16) -> usize {
    let end = Instant::now() + Duration::from_secs(20);
    while Instant::now() < end {
        for (queue, tap) in taps.iter_mut().enumerate() {
            let mut found = false;
            tap.receive(64, &mut |batch| {
                for packet in batch {
                    let mut head = [0; 38];
                    let whole = packet.copy_range(0, &mut head) == head.len();
                    let is_udp = head[12..14] == [8, 0] && head[23] == 17;
                    found |= whole && is_udp && head[36..38] == port.to_be_bytes();
                }
            })
            .expect("a queue that works");
            if found {
                return queue;
            }
        }
    }
    panic!("no answer to port {port}");
}

/// The user who has nothing.
const NOBODY: u32 = 65534;

/// A user without privileges opens the device that is his, or his group's, and no other.
pub(crate) fn owners() {
    let netlink = Netlink::new().expect("netlink");
    // Only in this namespace, whose mounts are its own.
    let script = "mount -t tmpfs none /dev/net && mknod -m 666 /dev/net/tun c 10 200";
    let _ = Command::new("sh").args(["-c", script]).status();
    for (owner, group, opens) in [
        (Some(NOBODY), None, true),
        (None, Some(NOBODY), true),
        (Some(NOBODY), Some(NOBODY), true),
        (Some(NOBODY - 1), None, false),
        (Some(NOBODY), Some(NOBODY - 1), false),
        (None, None, false),
    ] {
        let spec = TapSpec {
            name: "vm0".into(),
            queues: 2,
            owner,
            group,
            ..TapSpec::default()
        };
        let link = match create_persistent(&netlink, &spec) {
            Ok(link) => link,
            Err(error) if error.errno() == Some(libc::EINVAL) => {
                return println!("skip: needs root: this namespace has no other users: {error}");
            }
            Err(error) => panic!("{error}"),
        };
        let program = std::env::current_exe().expect("this program");
        let mut command = Command::new(program);
        command
            .args(["inside", "open", "vm0"])
            .uid(NOBODY)
            .gid(NOBODY);
        let Ok(status) = command.status() else {
            return println!("skip: needs root: another user cannot run this program");
        };
        match status.code() {
            Some(0) => assert!(opens, "{spec:?}"),
            Some(7) => return println!("skip: /dev/net/tun is for root alone here"),
            _ => assert!(!opens, "{spec:?}"),
        }
        netlink.delete_link(link.index).expect("gone");
    }
}

/// The user's part: 0 opened, 1 not allowed, 7 no way to try.
pub(crate) fn open(name: &str) -> u8 {
    let tun = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/net/tun");
    if tun.is_err() {
        return 7;
    }
    match Tap::open_queues(name, 2, TapOptions::default()) {
        Ok(taps) => {
            assert_eq!(taps.len(), 2);
            0
        }
        Err(error) => {
            assert_eq!(error.errno(), Some(libc::EPERM), "{error}");
            1
        }
    }
}
