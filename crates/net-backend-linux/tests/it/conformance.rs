//! The tests that every back end passes, over TAP devices, macvtaps and packet sockets. The far side
//! is a packet socket of the test's own on the interface, or on the other end of its wire.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use net_backend::conformance::{self, Frame, Harness, Peer, Properties};
use net_backend::{NetworkBackend, Offloads};
use net_backend_linux::netlink::{Netlink, VethEnd};
use net_backend_linux::{LinuxError, PacketSocket, Tap, TapOptions};
use net_datapath::VirtioNetHdr;
use net_wire::MacAddr;

/// The longest frame is then that of a length field.
const MTU: u16 = 65_521;
/// Frames that queues and rings of the kernel hold in any case.
const WINDOW: usize = 64;
/// Bytes of the virtio header of a packet socket.
const HEADER: usize = 10;
/// Bytes of frames that wait to be read on the far side.
const ROOM: i32 = 64 << 20;
/// Where the frames of the cases go: the macvtap's own address.
const NEAR: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);

/// A packet socket on an interface, which goes with it.
struct Far {
    socket: OwnedFd,
    index: u32,
    netlink: Netlink,
}

fn option(socket: &OwnedFd, level: i32, name: i32, value: i32) -> io::Result<()> {
    // SAFETY: the option is one int, which lives for the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of::<i32>() as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

impl Far {
    fn on(name: &str) -> Self {
        const PACKET_IGNORE_OUTGOING: i32 = 23;
        let netlink = Netlink::new().expect("netlink");
        let index = up(&netlink, name);
        let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // SAFETY: the arguments are numbers.
        let fd = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
        assert!(fd >= 0, "a packet socket");
        // SAFETY: the descriptor is new and nobody else's.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        option(&socket, libc::SOL_PACKET, libc::PACKET_VNET_HDR, 1).expect("headers");
        option(&socket, libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, 1).expect("one direction");
        option(&socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, ROOM).expect("room");
        // SAFETY: all zero is a valid `sockaddr_ll`.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
        address.sll_ifindex = index as i32;
        // SAFETY: the address lives for the call and has the length that is given.
        let result = unsafe {
            libc::bind(
                socket.as_raw_fd(),
                (&raw const address).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        };
        assert_eq!(result, 0, "bound");
        Self {
            socket,
            index,
            netlink,
        }
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        let _ = self.netlink.delete_link(self.index);
    }
}

impl Peer for Far {
    fn send(&mut self, header: VirtioNetHdr, frame: &[u8]) -> bool {
        let bytes = [&header.to_bytes()[..HEADER], frame].concat();
        // SAFETY: the buffer lives for the call, and the kernel only reads.
        let sent = unsafe {
            libc::send(
                self.socket.as_raw_fd(),
                bytes.as_ptr().cast(),
                bytes.len(),
                0,
            )
        };
        if sent >= 0 {
            return true;
        }
        let error = io::Error::last_os_error();
        let full = [libc::EAGAIN, libc::ENOBUFS];
        assert!(full.contains(&error.raw_os_error().unwrap_or(0)), "{error}");
        false
    }

    fn recv(&mut self) -> Option<Frame> {
        let mut bytes = vec![0; 70_000];
        // SAFETY: the buffer may be written for its length.
        let n = unsafe {
            libc::recv(
                self.socket.as_raw_fd(),
                bytes.as_mut_ptr().cast(),
                bytes.len(),
                0,
            )
        };
        let n = usize::try_from(n).ok()?;
        let mut header = [0; VirtioNetHdr::LEN];
        header[..HEADER].copy_from_slice(&bytes[..HEADER]);
        Some(Frame {
            header: VirtioNetHdr::from_bytes(&header),
            bytes: bytes[HEADER..n].to_vec(),
        })
    }
}

/// An interface for long frames, up, from which the kernel sends nothing of its own.
fn up(netlink: &Netlink, name: &str) -> u32 {
    let index = netlink.link(name).expect("the interface").index;
    netlink.set_mtu(index, MTU).expect("an MTU");
    netlink.set_no_arp(index).expect("no ARP");
    netlink.set_up(index).expect("up");
    index
}

/// A wire from `near` to `far`, through which frames pass.
fn wire(near: &str, far: &str) {
    let netlink = Netlink::new().expect("netlink");
    netlink
        .create_veth(&VethEnd::named(near), &VethEnd::named(far))
        .expect("a pair");
    for name in [near, far] {
        up(&netlink, name);
    }
    wait_until_running(&netlink, &[near, far]);
}

/// The kernel gives an interface its queue a moment after the wire has two ends; until then it drops
/// what is sent.
fn wait_until_running(netlink: &Netlink, names: &[&str]) {
    let end = Instant::now() + Duration::from_secs(20);
    for name in names {
        while !netlink.link(name).expect("the interface").running {
            assert!(Instant::now() < end, "{name} does not run");
            std::thread::yield_now();
        }
    }
}

fn options() -> TapOptions {
    TapOptions {
        mtu: MTU,
        mac: None,
    }
}

/// A device of one queue.
struct Single;

impl Harness for Single {
    type Backend = Tap;
    type Peer = Far;

    fn connect(&mut self) -> (Tap, Far) {
        let tap = Tap::open("one%d", options()).expect("a device");
        let far = Far::on(tap.name());
        (tap, far)
    }

    fn reconnect(&mut self, _: Tap) -> (Tap, Far) {
        self.connect()
    }

    fn properties(&self) -> Properties {
        Properties::default()
            .with_headers()
            .loses_beyond(WINDOW)
            .purges()
    }
}

/// One queue of a multiqueue device; the others are detached, so that every frame is its own.
struct Queue(usize);

impl Harness for Queue {
    type Backend = Tap;
    type Peer = Far;

    fn connect(&mut self) -> (Tap, Far) {
        let mut taps = Tap::open_queues("many%d", 3, options()).expect("a device");
        let tap = taps.swap_remove(self.0);
        let far = Far::on(tap.name());
        (tap, far)
    }

    fn reconnect(&mut self, _: Tap) -> (Tap, Far) {
        self.connect()
    }

    fn properties(&self) -> Properties {
        Single.properties()
    }
}

/// A macvtap on one end of a wire.
struct Macvtap;

impl Harness for Macvtap {
    type Backend = Tap;
    type Peer = Far;

    fn connect(&mut self) -> (Tap, Far) {
        wire("parent", "wire");
        let netlink = Netlink::new().expect("netlink");
        let parent = netlink.link("parent").expect("the parent").index;
        let link = netlink
            .create_macvtap(parent, "mv0", Some(NEAR))
            .expect("a macvtap");
        up(&netlink, "mv0");
        wait_until_running(&netlink, &["mv0"]);
        let link = netlink.link(&link.name).expect("the macvtap");
        let tap = Tap::open_macvtap(&link).expect("opened");
        assert_eq!(tap.capabilities().mac, Some(NEAR));
        (tap, Far::on("wire"))
    }

    fn reconnect(&mut self, _: Tap) -> (Tap, Far) {
        self.connect()
    }

    fn properties(&self) -> Properties {
        Single.properties()
    }
}

/// A packet socket on one end of a wire.
struct Packet;

impl Harness for Packet {
    type Backend = PacketSocket;
    type Peer = Far;

    fn connect(&mut self) -> (PacketSocket, Far) {
        wire("near", "wire");
        let socket = PacketSocket::open("near").expect("a packet socket");
        (socket, Far::on("wire"))
    }

    fn reconnect(&mut self, _: PacketSocket) -> (PacketSocket, Far) {
        self.connect()
    }

    fn properties(&self) -> Properties {
        Properties::default()
            .with_headers()
            .loses_beyond(WINDOW)
            .always_receives(Offloads::RX_ALL)
    }
}

/// Every back end here with every case.
pub(crate) fn names() -> impl Iterator<Item = (&'static str, &'static str)> {
    let cases = conformance::cases::<Single>();
    let kinds = ["tap", "queue0", "queue2", "packet", "macvtap"];
    kinds
        .into_iter()
        .flat_map(move |kind| cases.into_iter().map(move |(case, _)| (kind, case)))
}

/// Runs one case, or says why it cannot be.
pub(crate) fn inside(kind: &str, case: &str) {
    // The kernel's own frames would be in the way.
    let probe = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
    if option(&probe.into(), libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, ROOM).is_err() {
        return println!("skip: needs root: room for frames beyond net.core.rmem_max");
    }
    let path = "/proc/sys/net/ipv6/conf/default/disable_ipv6";
    fs::write(path, "1").expect("no IPv6");
    match kind {
        "tap" => run(&mut Single, case),
        "queue0" => run(&mut Queue(0), case),
        "queue2" => run(&mut Queue(2), case),
        "packet" => run(&mut Packet, case),
        "macvtap" => match macvtap_is_there() {
            Ok(()) => run(&mut Macvtap, case),
            Err(error) => println!("skip: {error}"),
        },
        _ => panic!("no back end {kind}"),
    }
}

fn run<H: Harness>(harness: &mut H, case: &str) {
    let cases = conformance::cases::<H>();
    let (_, case) = cases
        .iter()
        .find(|(name, _)| *name == case)
        .expect("a case");
    case(harness);
}

/// Whether the kernel has macvtaps, and this `/dev` their files.
fn macvtap_is_there() -> Result<(), LinuxError> {
    wire("probe0", "probe1");
    let netlink = Netlink::new()?;
    let parent = netlink.link("probe0")?.index;
    let result = netlink
        .create_macvtap(parent, "probe2", None)
        .and_then(|link| Tap::open_macvtap(&link).map(drop));
    netlink.delete_link(parent)?;
    result
}
