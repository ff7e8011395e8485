//! The way to the guest: an [`Egress`] that keeps what it is given.

use std::collections::VecDeque;
use std::net::IpAddr;

use net_datapath::gso::{Checksums, Segmenter};
use net_datapath::{PacketBuf, PacketPool, PoolConfig, VirtioNetHdr, ZeroCopyPacket};
use net_usernet::{Egress, GuestLink, SendStatus};

pub(crate) const PORT: u32 = 7;
const HEADROOM: usize = 64;

pub(crate) struct Wire {
    pool: PacketPool,
    /// Every guest is behind this link; `None`: no guest is known.
    pub(crate) link: Option<GuestLink>,
    pub(crate) sent: VecDeque<(IpAddr, VirtioNetHdr, Vec<u8>)>,
    /// Packets the guest's queue holds.
    pub(crate) room: usize,
    /// Whether a full queue shows in the link before it shows in a send.
    pub(crate) tells_ready: bool,
    pub(crate) was_full: bool,
}

impl Wire {
    pub(crate) fn new() -> Self {
        let config = PoolConfig {
            buffers: 40,
            buffer_size: HEADROOM + 65_535,
            headroom: HEADROOM,
        };
        Self {
            pool: PacketPool::new(config).unwrap(),
            link: Some(GuestLink {
                port: PORT,
                mtu: 1500,
                tso4: false,
                tso6: false,
                uso: false,
                csum: false,
                ready: true,
            }),
            sent: VecDeque::new(),
            room: usize::MAX,
            tells_ready: true,
            was_full: false,
        }
    }

    pub(crate) fn link_mut(&mut self) -> &mut GuestLink {
        self.link.as_mut().unwrap()
    }

    pub(crate) fn offloads(&mut self, on: bool) {
        let link = self.link_mut();
        (link.csum, link.tso4, link.tso6) = (on, on, on);
    }

    /// What the port would do with the oldest packet for a guest without offloads.
    pub(crate) fn take_frames(&mut self) -> Option<Vec<Vec<u8>>> {
        let (_, header, packet) = self.sent.pop_front()?;
        let mtu = usize::from(self.link.map_or(1500, |link| link.mtu));
        let frame = ethernet(&packet);
        let header = header.shifted(14);
        if !header.is_gso() && !header.needs_csum() {
            assert!(packet.len() <= mtu, "{} bytes", packet.len());
            return Some(vec![packet]);
        }
        let view = ZeroCopyPacket::from_slice(&frame, header).unwrap();
        header.validate(frame.len(), view.meta()).unwrap();
        let mut segmenter = Segmenter::new(&view, mtu, Checksums::Complete).unwrap();
        let mut frames = Vec::new();
        let mut buffer = vec![0u8; mtu + 14];
        while let Some(result) = segmenter.write_next(&mut buffer) {
            let (len, _) = result.unwrap();
            frames.push(buffer[14..len].to_vec());
        }
        Some(frames)
    }
}

/// Puts an Ethernet header in front of an IP packet.
pub(crate) fn ethernet(packet: &[u8]) -> Vec<u8> {
    let kind: u16 = if packet.first().is_some_and(|first| first >> 4 == 6) {
        0x86dd
    } else {
        0x0800
    };
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    frame.extend_from_slice(&kind.to_be_bytes());
    frame.extend_from_slice(packet);
    frame
}

impl Egress for Wire {
    fn link(&self, _guest: IpAddr) -> Option<GuestLink> {
        let mut link = self.link?;
        link.ready &= !self.tells_ready || self.sent.len() < self.room;
        Some(link)
    }

    fn buffer(&mut self, len: usize) -> Option<PacketBuf> {
        self.pool.alloc().filter(|packet| packet.tailroom() >= len)
    }

    fn send(&mut self, guest: IpAddr, header: VirtioNetHdr, packet: PacketBuf) -> SendStatus {
        if self.link.is_none() {
            return SendStatus::NoRoute;
        }
        if self.sent.len() >= self.room {
            self.was_full = true;
            return SendStatus::Busy(packet);
        }
        self.sent.push_back((guest, header, packet.to_vec()));
        SendStatus::Sent
    }
}
