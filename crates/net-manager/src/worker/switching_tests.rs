//! VLANs, snooping, the mirror port and ports that take nothing, through the worker over pairs in
//! memory.

use std::sync::mpsc;
use std::time::Duration;

use net_backend::memory::{self, Faults, MemoryBackend};
use net_backend::{Capabilities, NetworkBackend, TxFrame};
use net_datapath::segment::IoSegment;
use net_datapath::vnet::VirtioNetHdr;
use net_wire::MacAddr;

use super::command::{Attach, AttachOptions};
use super::{Command, PortOptions, Worker};
use crate::config::NetworkConfig;
use crate::error::ManagerError;

const BROADCAST: MacAddr = MacAddr::BROADCAST;
/// Experimental (RFC 5342, section 2.3.2): no protocol of the gateway's.
const ETHERTYPE: [u8; 2] = [0x88, 0xb5];

pub(super) fn mac(n: usize) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, n as u8 + 1])
}

fn frame(dst: MacAddr, src: MacAddr, payload: &[u8]) -> Vec<u8> {
    [&dst.0[..], &src.0, &ETHERTYPE, payload].concat()
}

pub(super) struct Bench {
    pub(super) worker: Worker,
    _commands: mpsc::Sender<Command>,
    guests: Vec<MemoryBackend>,
    now: Duration,
}

impl Bench {
    pub(super) fn new(change: impl FnOnce(&mut NetworkConfig)) -> Self {
        let mut config = NetworkConfig {
            dns: vec!["192.0.2.53:53".parse().unwrap()],
            // Advertisements would come between what the tests count.
            ipv6: false,
            mtu: 9000,
            ..NetworkConfig::default()
        };
        change(&mut config);
        let (commands, receiver) = mpsc::channel();
        let (worker, _) = Worker::new(&config, receiver).unwrap();
        Self {
            worker,
            _commands: commands,
            guests: Vec::new(),
            now: Duration::from_secs(1),
        }
    }

    pub(super) fn attach(&mut self, port: PortOptions) -> Result<usize, ManagerError> {
        let (far, near) = memory::pair_with(Capabilities::default(), 4096);
        self.attach_backend(near, port)?;
        self.guests.push(far);
        Ok(self.guests.len() - 1)
    }

    fn attach_backend(
        &mut self,
        near: MemoryBackend,
        port: PortOptions,
    ) -> Result<(), ManagerError> {
        let options = AttachOptions {
            port,
            ..AttachOptions::default()
        };
        self.worker
            .attach(Attach::Backend(Box::new(near)), options, self.now)
            .map(drop)
    }

    /// Sends frames from a guest and lets the worker work.
    pub(super) fn send(&mut self, guest: usize, frames: &[Vec<u8>]) {
        for frame in frames {
            let segments = [IoSegment::from(&frame[..])];
            let frame = TxFrame {
                header: VirtioNetHdr::default(),
                segments: &segments,
            };
            assert_eq!(self.guests[guest].transmit(&[frame]).unwrap(), 1);
        }
        for id in 1..64 {
            self.worker.want_read(id);
        }
        while !self.worker.pending.is_empty() {
            self.worker.read_ports(self.now);
        }
        self.worker.settle(self.now);
    }

    /// What a guest was given, of the tests' kind.
    pub(super) fn received(&mut self, guest: usize) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        let mut take = |packets: &mut [net_datapath::ZeroCopyPacket<'_>]| {
            for packet in packets {
                let mut bytes = vec![0; packet.len()];
                packet.copy_range(0, &mut bytes);
                all.push(bytes);
            }
        };
        while self.guests[guest].receive(1024, &mut take).unwrap() > 0 {}
        all
    }

    pub(super) fn counts(&mut self) -> Vec<usize> {
        (0..self.guests.len())
            .map(|guest| self.received(guest).len())
            .collect()
    }
}

fn in_vlan(vlan: u16) -> PortOptions {
    PortOptions {
        vlan: Some(vlan),
        ..PortOptions::default()
    }
}

#[test]
fn guests_of_other_vlans_are_not_reached() {
    let mut bench = Bench::new(|_| {});
    for port in [in_vlan(7), in_vlan(7), in_vlan(9), PortOptions::default()] {
        bench.attach(port).unwrap();
    }
    bench.send(0, &[frame(BROADCAST, mac(0), b"hello")]);
    assert_eq!(bench.counts(), [0, 1, 0, 0]);
    bench.send(1, &[frame(mac(0), mac(1), b"hello")]);
    assert_eq!(bench.counts(), [1, 0, 0, 0]);
    bench.send(2, &[frame(mac(0), mac(2), b"unknown there")]);
    bench.send(3, &[frame(BROADCAST, mac(3), b"alone")]);
    // A tag does not lead into a VLAN.
    let mut tagged = frame(BROADCAST, mac(2), b"tagged");
    tagged.splice(12..12, [0x81, 0, 0, 7]);
    for guest in [0, 2, 3] {
        tagged[11] = guest as u8 + 1;
        bench.send(guest, std::slice::from_ref(&tagged));
    }
    assert_eq!(bench.counts(), [0, 0, 0, 0]);
    let drops = bench.worker.core.switch.statistics().drops;
    assert_eq!(drops.of(net_switch::DropReason::Tagged), 2);
}

#[test]
fn options_that_cannot_be_are_refused() {
    let mut bench = Bench::new(|_| {});
    let mut error = |port| bench.attach(port).unwrap_err().to_string();
    for number in [0, 4095] {
        let error = error(in_vlan(number));
        assert!(error.contains("1 to 4094"), "{error}");
    }
    let mirror = PortOptions {
        mirror: true,
        ..PortOptions::default()
    };
    let both = PortOptions {
        mirrored: true,
        ..mirror
    };
    assert!(error(both).contains("mirror"));
    bench.attach(mirror).unwrap();
    let error = bench.attach(mirror).unwrap_err().to_string();
    assert!(error.contains("a second mirror port"), "{error}");
    // What was refused holds no address.
    assert_eq!(bench.worker.attachments.len(), 1);
    let mut alone = Bench::new(|config| config.gateway = false);
    let error = alone.attach(in_vlan(7)).unwrap_err().to_string();
    assert!(error.contains("a VLAN cannot be had"), "{error}");
}

/// The switch knows one port for the host and its guests, which isolated guests reach.
#[test]
fn beside_the_kernels_guests_nobody_is_isolated_alone() {
    let isolated = PortOptions {
        isolated: true,
        ..PortOptions::default()
    };
    for all in [false, true] {
        let mut bench = Bench::new(|config| config.isolated = all);
        bench.attach(PortOptions::default()).unwrap();
        bench.worker.core.trunk = Some(super::data_path::Trunk {
            port: 1,
            router: None,
        });
        assert_eq!(bench.attach(isolated).is_ok(), all);
        assert!(bench.attach(in_vlan(7)).is_err());
    }
}

#[test]
fn an_isolated_guest_reaches_no_other() {
    let mut bench = Bench::new(|_| {});
    let isolated = PortOptions {
        isolated: true,
        ..PortOptions::default()
    };
    for port in [isolated, PortOptions::default(), PortOptions::default()] {
        bench.attach(port).unwrap();
    }
    for guest in 0..3 {
        bench.send(guest, &[frame(BROADCAST, mac(guest), b"hello")]);
    }
    assert_eq!(bench.counts(), [0, 1, 1]);
}

#[test]
fn the_mirror_port_gets_both_directions_and_sends_nothing() {
    let mut bench = Bench::new(|_| {});
    let watched = PortOptions {
        mirrored: true,
        ..PortOptions::default()
    };
    let mirror = PortOptions {
        mirror: true,
        ..PortOptions::default()
    };
    for port in [
        watched,
        PortOptions::default(),
        PortOptions::default(),
        mirror,
    ] {
        bench.attach(port).unwrap();
    }
    for guest in 0..3 {
        bench.send(guest, &[frame(BROADCAST, mac(guest), &[guest as u8; 46])]);
    }
    assert_eq!(bench.counts(), [2, 2, 2, 3], "one sent, two received");
    let from = |guest: usize, to: usize| frame(mac(to), mac(guest), &[guest as u8; 46]);
    bench.send(0, &[from(0, 1)]);
    bench.send(1, &[from(1, 0)]);
    bench.send(1, &[from(1, 2)]);
    // Refused by the switch, and sent all the same.
    bench.send(0, &[frame(mac(1), BROADCAST, b"from nobody")]);
    let copies = bench.received(3);
    let bad = frame(mac(1), BROADCAST, b"from nobody");
    assert_eq!(copies, [from(0, 1), from(1, 0), bad]);
    bench.counts();
    // It speaks to nobody, the gateway included, and is told nothing.
    let gateway = bench.worker.core.gateway.config().mac;
    bench.send(
        3,
        &[frame(BROADCAST, mac(3), b"x"), frame(gateway, mac(3), b"x")],
    );
    bench.send(
        1,
        &[frame(BROADCAST, mac(1), b"x"), frame(mac(3), mac(1), b"x")],
    );
    assert_eq!(bench.counts(), [2, 0, 2, 2]);
    // The gateway's answers are copied, too: an ARP request and its reply.
    let mut arp = [
        &BROADCAST.0[..],
        &mac(0).0,
        &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1],
        &mac(0).0,
    ]
    .concat();
    arp.extend([10, 0, 2, 2, 0, 0, 0, 0, 0, 0, 10, 0, 2, 1]);
    bench.send(0, &[arp]);
    assert_eq!(bench.counts(), [1, 1, 1, 2]);
}

/// What one guest or the mirror port does not take is lost to it alone.
#[test]
fn ports_that_take_nothing_leave_buffers_for_the_others() {
    let mut bench = Bench::new(|_| {});
    let watched = PortOptions {
        mirrored: true,
        ..PortOptions::default()
    };
    bench.attach(watched).unwrap();
    let good = bench.attach(PortOptions::default()).unwrap();
    let mut stuck = Vec::new();
    for n in 0..9 {
        let (far, mut near) = memory::pair_with(Capabilities::default(), 4096);
        near.set_faults(Faults {
            transmit_blocks: u32::MAX,
            ..Faults::default()
        });
        let port = PortOptions {
            mirror: n == 0,
            ..PortOptions::default()
        };
        bench.attach_backend(near, port).unwrap();
        stuck.push(far);
    }
    bench.send(good, &[frame(BROADCAST, mac(good), b"here")]);
    bench.counts();
    // More than all buffers, of either size, in frames that go to everybody.
    for len in [9000, 60] {
        let payload = vec![7; len];
        for turn in 0..40 {
            let frames = vec![frame(BROADCAST, mac(0), &payload); 25];
            bench.send(0, &frames);
            assert_eq!(bench.received(good).len(), 25, "{len} bytes, turn {turn}");
            bench.now += Duration::from_secs(1);
        }
    }
    for (name, statistics) in bench
        .worker
        .core
        .ports
        .iter()
        .map(|(_, p)| (&p.name, p.statistics))
    {
        let is_stuck = statistics.received_frames == 0 && statistics.sent_frames == 0;
        assert_eq!(statistics.queue_drops > 0, is_stuck, "{name}");
        assert_eq!(statistics.pool_drops, 0, "{name}");
    }
}

/// Whoever floods a guest that takes nothing has no copies made beyond what waits.
#[test]
fn so_many_frames_wait_for_a_guest() {
    let mut bench = Bench::new(|_| {});
    bench.attach(PortOptions::default()).unwrap();
    let (far, mut near) = memory::pair_with(Capabilities::default(), 4096);
    near.set_faults(Faults {
        transmit_blocks: u32::MAX,
        ..Faults::default()
    });
    bench.attach_backend(near, PortOptions::default()).unwrap();
    bench.guests.push(far);
    bench.send(1, &[frame(BROADCAST, mac(1), b"here")]);
    let number = |n: u16| frame(mac(1), mac(0), &n.to_be_bytes());
    for turn in 0..3 {
        let frames: Vec<_> = (0..250).map(|n| number(turn * 250 + n)).collect();
        bench.send(0, &frames);
    }
    let ports = &bench.worker.core.ports;
    let statistics = ports.iter().map(|(_, port)| port.statistics);
    let drops: Vec<u64> = statistics.map(|it| it.queue_drops).collect();
    assert_eq!(drops, [0, 750 - 512]);
    assert_eq!(bench.counts()[1], 0);
}

#[test]
fn a_group_is_sent_to_who_listens() {
    let mut bench = Bench::new(|config| config.snooping = true);
    for _ in 0..4 {
        bench.attach(PortOptions::default()).unwrap();
    }
    let group = MacAddr([1, 0, 0x5e, 1, 2, 3]);
    let ip = |src: usize, kind: &[u8], packet: &str| {
        let packet: Vec<u8> = (0..packet.len() / 2)
            .map(|n| u8::from_str_radix(&packet[2 * n..2 * n + 2], 16).unwrap())
            .collect();
        [&group.0[..], &mac(src).0, kind, &packet].concat()
    };
    const IPV4: &[u8] = &[8, 0];
    // A general query of IGMPv2; Linux's report of 239.1.2.3; 8 bytes of UDP to it.
    let query = "46c00020000040000102fa0d0a000009e0000001940400001164ee9b00000000";
    let report = "46c00028000040000102f9f80a000001e0000016940400002200e8f90000000104000000ef010203";
    let data = "4500001c0000400001118dbc0a000009ef01020304d2162e00080000";
    bench.send(3, &[ip(3, IPV4, query)]);
    assert_eq!(bench.counts(), [1, 1, 1, 0]);
    bench.send(0, &[ip(0, IPV4, report)]);
    assert_eq!(bench.counts(), [0, 0, 0, 1], "to the router");
    bench.send(1, &[ip(1, IPV4, data)]);
    assert_eq!(bench.counts(), [1, 0, 1, 1], "others may still answer");
    bench.now += Duration::from_secs(10);
    bench.send(1, &[ip(1, IPV4, data)]);
    assert_eq!(bench.counts(), [1, 0, 0, 1]);
    // Of a frame with a tag the switch knows nothing, and of one to all it asks nothing.
    let tagged = [&[0x81, 0, 0, 7][..], IPV4].concat();
    bench.send(1, &[ip(1, &tagged, data)]);
    assert_eq!(bench.counts(), [1, 0, 1, 1]);
    let mut to_all = ip(1, IPV4, data);
    to_all[..6].fill(0xff);
    bench.send(1, &[to_all]);
    assert_eq!(bench.counts(), [1, 0, 1, 1]);
    let status = bench.worker.core.switch.statistics().snoop;
    assert_eq!((status.queries, status.reports, status.refused), (1, 1, 0));
}
