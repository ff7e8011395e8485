//! A router in user space: guests behind one TAP, the world behind another, one address between them.
//!
//! As root, with a guest side `10.7.0.0/24` and an outside side `203.0.113.0/24`:
//!
//! ```sh
//! cargo build --release -p net-nat --example router
//! target/release/examples/router tap-in tap-out &
//! ip link set tap-in up   # move each into a namespace of its own, give it 10.7.0.2/24
//! ip link set tap-out up  # and 203.0.113.2/24, and the first a default route by 10.7.0.1
//! ```

use std::error::Error;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use net_nat::{Direction, NatConfig, NatEngine, Prefix, Side, Verdict};
use net_wire::MacAddr;
use net_wire::arp::{self, ArpPacket};
use net_wire::ethernet::{EtherType, EthernetFrame, HEADER_LEN};
#[cfg(target_os = "linux")]
use tun_tap::{Iface, Mode};

#[cfg(not(target_os = "linux"))]
use elsewhere::{Iface, Mode};

/// TAPs are a thing of Linux; on other systems the example says so when it is run.
#[cfg(not(target_os = "linux"))]
mod elsewhere {
    use std::io::{Error, ErrorKind, Result};

    pub(super) enum Mode {
        Tap,
    }

    pub(super) struct Iface;

    impl Iface {
        pub(super) fn without_packet_info(_name: &str, _mode: Mode) -> Result<Self> {
            Err(Error::new(ErrorKind::Unsupported, "a TAP needs Linux"))
        }

        pub(super) fn send(&self, _frame: &[u8]) -> Result<usize> {
            Err(ErrorKind::Unsupported.into())
        }

        pub(super) fn recv(&self, _buffer: &mut [u8]) -> Result<usize> {
            Err(ErrorKind::Unsupported.into())
        }
    }
}

/// One side of the router: its device, its addresses, and who was heard there last.
struct Port {
    tap: Iface,
    mac: MacAddr,
    addr: Ipv4Addr,
    peer: Mutex<Option<MacAddr>>,
}

impl Port {
    fn new(name: &str, addr: Ipv4Addr) -> Result<Self, Box<dyn Error>> {
        let [.., a, b] = addr.octets();
        Ok(Self {
            tap: Iface::without_packet_info(name, Mode::Tap)?,
            mac: MacAddr([0x02, 0, 0, 0, a, b]),
            addr,
            peer: Mutex::new(None),
        })
    }

    /// Sends a frame to `dst`; a device that is full or down loses it, as wires do.
    fn send(&self, dst: MacAddr, ethertype: EtherType, payload: &[u8]) {
        let mut frame = dst.0.to_vec();
        frame.extend(self.mac.0);
        frame.extend(ethertype.0.to_be_bytes());
        frame.extend(payload);
        let _ = self.tap.send(&frame);
    }

    /// Sends a packet to whoever is behind this port, or asks who that is.
    fn forward(&self, packet: &[u8]) {
        if let Some(peer) = *self.peer.lock().expect("no thread panics") {
            return self.send(peer, EtherType::IPV4, packet);
        }
        if let Some(&[a, b, c, d]) = packet.get(16..20).and_then(|dst| dst.first_chunk()) {
            self.arp(arp::REQUEST, MacAddr::BROADCAST, Ipv4Addr::new(a, b, c, d));
        }
    }

    fn arp(&self, operation: u16, target_mac: MacAddr, target: Ipv4Addr) {
        let mut bytes = [0; arp::LEN];
        let packet = ArpPacket {
            operation,
            sender_mac: self.mac,
            sender_ip: self.addr,
            target_mac,
            target_ip: target,
        };
        packet.emit(&mut bytes);
        self.send(target_mac, EtherType::ARP, &bytes);
    }
}

/// Asks for 2 MiB pages under the tables.
#[cfg(target_os = "linux")]
fn with_large_pages(mut nat: NatEngine) -> NatEngine {
    for range in nat.memory() {
        let len = range.end.addr() - range.start.addr();
        // SAFETY: the engine's memory, all of it; the advice changes nothing in it, and one that is
        // not taken costs speed only.
        unsafe { libc::madvise(range.start.cast_mut().cast(), len, libc::MADV_HUGEPAGE) };
    }
    nat
}

#[cfg(not(target_os = "linux"))]
fn with_large_pages(nat: NatEngine) -> NatEngine {
    nat
}

/// Reads one port for ever.
fn run(from: &Port, to: &Port, direction: Direction, nat: &Mutex<NatEngine>, start: Instant) {
    let mut buffer = [0; 2048];
    while let Ok(len) = from.tap.recv(&mut buffer) {
        let Ok(frame) = EthernetFrame::parse(&buffer[..len]) else {
            continue;
        };
        *from.peer.lock().expect("no thread panics") = Some(frame.src());
        if frame.ethertype() == EtherType::ARP {
            if let Ok(asked) = ArpPacket::parse(frame.payload())
                && asked.operation == arp::REQUEST
                && asked.target_ip == from.addr
            {
                from.arp(arp::REPLY, asked.sender_mac, asked.sender_ip);
            }
            continue;
        }
        let packet = &mut buffer[HEADER_LEN..len];
        let mut nat = nat.lock().expect("no thread panics");
        match nat.translate(packet, direction, start.elapsed()) {
            Verdict::Translated(Side::Inside) if direction == Direction::Outbound => {
                from.forward(packet);
            }
            Verdict::Translated(_) => to.forward(packet),
            verdict => eprintln!("{direction:?}: {verdict:?}"),
        }
        while let Some(output) = nat.next_output() {
            let inside = (output.side == Side::Inside) == (direction == Direction::Outbound);
            if inside { from } else { to }.forward(&output.packet);
        }
        nat.expire_some(start.elapsed(), 8);
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut names = std::env::args().skip(1);
    let (Some(inside), Some(outside)) = (names.next(), names.next()) else {
        return Err("usage: router INSIDE-TAP OUTSIDE-TAP".into());
    };
    let (gateway, public) = ([10, 7, 0, 1].into(), [203, 0, 113, 1].into());
    let network = Prefix::new(gateway, 24).ok_or("24 is at most 32")?;
    // In earnest: from the system's random source.
    let config = NatConfig::new([7; 16], network, public);
    let nat = Arc::new(Mutex::new(with_large_pages(NatEngine::new(config)?)));
    let inside = Arc::new(Port::new(&inside, gateway)?);
    let outside = Arc::new(Port::new(&outside, public)?);
    let start = Instant::now();
    let (i, o, n) = (inside.clone(), outside.clone(), nat.clone());
    thread::spawn(move || run(&i, &o, Direction::Outbound, &n, start));
    run(&outside, &inside, Direction::Inbound, &nat, start);
    Ok(())
}
