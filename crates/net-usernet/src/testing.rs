//! For unit tests: an [`Egress`] that records, and packets of a guest.

use core::time::Duration;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use mio::{Events, Poll};
use net_datapath::{L3, PacketBuf, PacketPool, PoolConfig, VirtioNetHdr, ZeroCopyPacket};
use net_wire::{ip_proto, udp};

use crate::reassembly::Reassembler;
use crate::{Config, Egress, GuestLink, PortId, SendStatus, Subnet, Subnet6, compose};

/// The port of the only guest.
pub(crate) const PORT: PortId = 7;

/// A packet that was sent to the guest.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) guest: IpAddr,
    pub(crate) header: VirtioNetHdr,
    pub(crate) l3: Vec<u8>,
}

/// Records what is sent; every address is the guest's.
pub(crate) struct Recorder {
    pool: PacketPool,
    pub(crate) link: GuestLink,
    pub(crate) sent: Vec<Sent>,
    /// Packets the guest's queue still takes.
    pub(crate) room: usize,
    /// `false`: no neighbour at all.
    pub(crate) attached: bool,
}

impl Recorder {
    pub(crate) fn new(mtu: u16) -> Self {
        let pool = PoolConfig {
            buffers: 4,
            buffer_size: 66_000,
            headroom: 64,
        };
        let link = GuestLink {
            port: PORT,
            mtu,
            tso4: false,
            tso6: false,
            uso: false,
            csum: false,
            ready: true,
        };
        let pool = PacketPool::new(pool).unwrap();
        Self {
            pool,
            link,
            sent: Vec::new(),
            room: usize::MAX,
            attached: true,
        }
    }
}

impl Egress for Recorder {
    fn link(&self, _: IpAddr) -> Option<GuestLink> {
        self.attached.then_some(GuestLink {
            ready: self.link.ready && self.room > 0,
            ..self.link
        })
    }

    fn buffer(&mut self, len: usize) -> Option<PacketBuf> {
        self.pool.alloc().filter(|buffer| buffer.tailroom() >= len)
    }

    fn send(&mut self, guest: IpAddr, header: VirtioNetHdr, packet: PacketBuf) -> SendStatus {
        if !self.attached {
            return SendStatus::NoRoute;
        }
        if self.room == 0 {
            return SendStatus::Busy(packet);
        }
        self.room -= 1;
        self.sent.push(Sent {
            guest,
            header,
            l3: packet.as_slice().to_vec(),
        });
        SendStatus::Sent
    }
}

/// The gateway is 10.0.2.1 (fd00::1), the guest by habit 10.0.2.15.
pub(crate) fn config(host_loopback: bool) -> Config {
    let subnet = Subnet {
        addr: [10, 0, 2, 0].into(),
        prefix: 24,
    };
    let mut config = Config::new([10, 0, 2, 1].into(), subnet, [5; 16]);
    config.gateway6 = Some("fd00::1".parse().unwrap());
    config.gateway6_link_local = Some("fe80::1:1".parse().unwrap());
    config.subnet6 = Some(Subnet6 {
        addr: "fd00::".parse().unwrap(),
        prefix: 64,
    });
    config.host_loopback = host_loopback;
    config
}

/// An L3 packet as an Ethernet frame.
pub(crate) fn frame(l3: &[u8]) -> Vec<u8> {
    let ethertype: [u8; 2] = if l3[0] >> 4 == 6 {
        [0x86, 0xdd]
    } else {
        [8, 0]
    };
    let mut frame = vec![2; 12];
    frame.extend_from_slice(&ethertype);
    frame.extend_from_slice(l3);
    frame
}

/// A UDP packet as an Ethernet frame.
pub(crate) fn udp_frame(src: &str, dst: &str, ttl: u8, payload: &[u8]) -> Vec<u8> {
    let mut l3 = vec![0; 48 + payload.len()];
    let (src, dst) = (src.parse().unwrap(), dst.parse().unwrap());
    let len = compose::udp(&mut l3, src, dst, ttl, payload, false).unwrap();
    frame(&l3[..len])
}

/// The datagrams that a guest would read out of what was sent to it, fragments put together.
/// Every checksum is verified.
pub(crate) fn from_frames(sent: &[Sent]) -> Vec<(SocketAddr, SocketAddr, Vec<u8>)> {
    let mut reassembler = Reassembler::new(&config(false));
    let mut all = Vec::new();
    for one in sent {
        let bytes = frame(&one.l3);
        let header = one.header.shifted(14);
        let packet = ZeroCopyPacket::from_slice(&bytes, header).unwrap();
        let whole;
        let packet = if packet.fragment().is_some() {
            let Some(frame) = reassembler.push(PORT, &packet, Duration::ZERO) else {
                continue;
            };
            whole = frame;
            ZeroCopyPacket::from_slice(&whole, VirtioNetHdr::PLAIN).unwrap()
        } else {
            packet
        };
        if packet.meta().l4_protocol != ip_proto::UDP {
            continue;
        }
        assert!(packet.meta().has_transport(ip_proto::UDP));
        assert!(packet.verify_ip_checksum() && packet.verify_l4_checksum());
        assert!(matches!(packet.meta().l3, L3::Ipv4 | L3::Ipv6));
        let (src, dst) = (packet.ip_src().unwrap(), packet.ip_dst().unwrap());
        assert_eq!(dst, one.guest);
        let mut payload = vec![0; packet.payload_len()];
        packet.copy_range(packet.meta().payload_offset.into(), &mut payload);
        let meta = packet.meta();
        all.push((
            SocketAddr::new(src, meta.src_port),
            SocketAddr::new(dst, meta.dst_port),
            payload,
        ));
    }
    all
}

/// Length of the headers in front of a UDP payload in an IPv4 frame.
pub(crate) const UDP4_HEADERS: usize = 14 + 20 + udp::HEADER_LEN;

/// Runs `step` on every readiness event until it says that it is done; fails after ten seconds.
pub(crate) fn run_until(poll: &mut Poll, mut step: impl FnMut(&Events) -> bool) {
    let mut events = Events::with_capacity(64);
    let limit = Instant::now() + Duration::from_secs(10);
    while !step(&events) {
        assert!(Instant::now() < limit, "nothing came in ten seconds");
        poll.poll(&mut events, Some(Duration::from_millis(50)))
            .unwrap();
    }
}
