//! The router over pairs in memory, in simulated time: guests on one side, one interface on the other.

mod frames;
mod hostile;
mod links;
mod packets;
mod published;
mod six;
mod six_frames;
mod six_hostile;
mod six_link;

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use net_backend::memory::{self, MemoryBackend};
use net_backend::{Capabilities, NetworkBackend, TxFrame};
use net_datapath::VirtioNetHdr;
use net_wire::MacAddr;
use net_wire::arp::{self, ArpPacket};

use self::frames::Frame;
use crate::config::NetworkConfig;
use crate::engine::Engine;
use crate::error::ManagerError;
use crate::uplink::{UplinkConfig, UplinkDevice};
use crate::worker::command::{Attach, AttachOptions, AttachmentId};
use crate::worker::{Command, PortOptions, Worker};

const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 1);
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
const ROUTER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const FAR: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);
const OUTSIDE_MAC: MacAddr = MacAddr([0x02, 0xac, 198, 51, 100, 2]);
const GATEWAY_MAC: MacAddr = MacAddr([0x02, 0xab, 10, 0, 2, 1]);
const ROUTER_MAC: MacAddr = MacAddr([2, 0, 0, 0, 1, 1]);

/// The interface's other end, and its MTU when it is opened; absent while the interface is away.
type Cable = Arc<Mutex<Option<(MemoryBackend, u16)>>>;

struct World {
    worker: Worker,
    _commands: mpsc::Sender<Command>,
    guests: Vec<(MemoryBackend, AttachmentId)>,
    outside: MemoryBackend,
    cable: Cable,
    now: Duration,
}

/// The hardware address of the guest with this number, from 0, whose address is 10.0.2.2 + n.
fn guest_mac(n: usize) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, n as u8 + 10])
}

fn guest_ip(n: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 2, n as u8 + 2)
}

fn capabilities() -> Capabilities {
    Capabilities {
        offloads: net_backend::Offloads::ALL,
        ..Capabilities::default()
    }
}

impl World {
    /// A network of `guests` whose addresses are known, behind an interface of this MTU.
    fn new(guests: usize, mtu: u16) -> Self {
        Self::with(guests, mtu, true, |_| {})
    }

    fn with(guests: usize, mtu: u16, known: bool, change: impl FnOnce(&mut NetworkConfig)) -> Self {
        let (near, outside) = memory::pair_with(capabilities(), 1024);
        let cable: Cable = Arc::new(Mutex::new(Some((near, mtu))));
        let mut config = NetworkConfig {
            engine: Engine::Fast,
            uplink: Some(UplinkConfig::new(
                UplinkDevice::Tap("test".to_owned()),
                "198.51.100.2/24".parse().unwrap(),
                Some(ROUTER),
            )),
            dns: vec!["192.0.2.53:53".parse().unwrap()],
            // Advertisements would come between what the tests count.
            ipv6: false,
            ..NetworkConfig::default()
        };
        change(&mut config);
        let plugged = Arc::clone(&cable);
        let open = Box::new(move |device: &UplinkDevice| {
            let end = plugged.lock().unwrap().take();
            end.map(|(end, mtu)| (Box::new(end) as Box<dyn NetworkBackend>, mtu))
                .ok_or_else(|| ManagerError::Uplink {
                    device: device.clone(),
                    why: "it is away".to_owned(),
                })
        });
        let (commands, receiver) = mpsc::channel();
        let (worker, _) = Worker::with_device(&config, receiver, open).unwrap();
        let mut world = Self {
            worker,
            _commands: commands,
            guests: Vec::new(),
            outside,
            cable,
            now: Duration::ZERO,
        };
        for _ in 0..guests {
            world.add_guest(known, PortOptions::default());
        }
        world.turn();
        // The announcement of the outside address.
        let mut announced = world.outside();
        announced.retain(|frame| frame.arp().is_some());
        assert_eq!(announced.len(), 1);
        assert_eq!(announced[0].arp().unwrap().target_ip, OUTSIDE);
        world
    }

    /// The next guest; with `known` its hardware address is.
    fn add_guest(&mut self, known: bool, port: PortOptions) {
        let (far, near) = memory::pair_with(capabilities(), 1024);
        let mac = known.then_some(guest_mac(self.guests.len()).0);
        let options = AttachOptions {
            mac,
            port,
            ..AttachOptions::default()
        };
        let what = Attach::Backend(Box::new(near));
        let attached = self.worker.attach(what, options, self.now).unwrap();
        self.guests.push((far, attached.id));
    }

    /// One turn of the worker's loop, with every port ready.
    fn turn(&mut self) {
        for id in 1..64 {
            self.worker.want_read(id);
        }
        while !self.worker.pending.is_empty() {
            self.worker.read_ports(self.now);
        }
        self.worker.deadlines(self.now);
        self.worker.follow_routes(self.now);
        self.worker.settle(self.now);
    }

    fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.now += Duration::from_secs(1);
            self.turn();
        }
    }

    /// Sends a frame from a guest and has the worker carry it.
    fn guest_sends(&mut self, n: usize, frame: &Frame) {
        transmit(&mut self.guests[n].0, frame);
        self.turn();
    }

    fn outside_sends(&mut self, frame: &Frame) {
        transmit(&mut self.outside, frame);
        self.turn();
    }

    /// What a guest has been sent since the last call; the gateway's ARP is left out.
    fn guest(&mut self, n: usize) -> Vec<Frame> {
        let mut frames = receive(&mut self.guests[n].0);
        frames.retain(|frame| frame.arp().is_none());
        frames
    }

    fn outside(&mut self) -> Vec<Frame> {
        receive(&mut self.outside)
    }

    /// The router outside answers to its address, and for others if it is asked.
    fn router_says(&mut self, ip: Ipv4Addr) {
        let mut body = vec![0; arp::LEN];
        ArpPacket {
            operation: arp::REPLY,
            sender_mac: ROUTER_MAC,
            sender_ip: ip,
            target_mac: OUTSIDE_MAC,
            target_ip: OUTSIDE,
        }
        .emit(&mut body);
        self.outside_sends(&Frame::new(OUTSIDE_MAC, ROUTER_MAC, 0x0806, &body));
    }

    /// A world in which the router outside is known.
    fn connected(guests: usize, mtu: u16) -> Self {
        let mut world = Self::new(guests, mtu);
        world.connect();
        world
    }

    fn connect(&mut self) {
        self.guest_sends(0, &frames::udp_out(0, 9, FAR, 9, b"first"));
        self.router_says(ROUTER);
        let sent = self.outside();
        assert_eq!(sent.len(), 2, "the question, then the packet");
    }

    fn status(&mut self) -> crate::UplinkStatus {
        self.worker.core.uplink.status().unwrap()
    }
}

fn transmit(end: &mut MemoryBackend, frame: &Frame) {
    end.set_offloads(net_backend::Offloads::ALL).unwrap();
    let segments = [frame.bytes[..].into()];
    let sent = end.transmit(&[TxFrame {
        header: frame.header,
        segments: &segments,
    }]);
    assert_eq!(sent.unwrap(), 1);
}

fn receive(end: &mut MemoryBackend) -> Vec<Frame> {
    let mut frames = Vec::new();
    while end
        .receive(64, &mut |batch| {
            for packet in batch {
                let mut bytes = vec![0; packet.len()];
                packet.copy_range(0, &mut bytes);
                frames.push(Frame {
                    header: VirtioNetHdr {
                        num_buffers: 0,
                        ..*packet.vnet()
                    },
                    bytes,
                });
            }
        })
        .is_ok_and(|n| n > 0)
    {}
    frames
}
