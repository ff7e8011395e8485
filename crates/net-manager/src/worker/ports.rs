//! All ports of a network, and the buffers their frames wait in.

use std::io;
use std::os::fd::AsRawFd;

use mio::unix::SourceFd;
use mio::{Interest, Registry};
use net_backend::{BackendError, NetworkBackend, TxFrame};
use net_datapath::gso::{Checksums, Segmenter};
use net_datapath::packet::ZeroCopyPacket;
use net_datapath::pool::{PacketBuf, PacketPool, PoolConfig, PoolError};
use net_datapath::segment::IoSegment;
use net_datapath::vnet::VirtioNetHdr;
use net_wire::ethernet;
use slab::Slab;

use super::listener::ListenerId;
use super::pcap::Capture;
use super::port::{Port, PortStatistics};
use super::token;

/// Number of a port: 0 is the gateway, guests count from 1.
pub(super) type PortId = u32;
/// The gateway's port.
pub(super) const GATEWAY: PortId = 0;
/// Ports of one network.
pub(super) const MAX_PORTS: usize = 1024;

/// Room in front of a packet for its Ethernet header, a VLAN tag and alignment.
const HEADROOM: usize = 64;
/// Content of a small buffer: a frame of MTU 1500 and some.
const SMALL: usize = 2048 - HEADROOM;
/// Content of a large buffer: the largest IP packet with its Ethernet header.
const LARGE: usize = 65_536 + ethernet::HEADER_LEN + ethernet::VLAN_TAG_LEN;
const SMALL_BUFFERS: usize = 8192;
const LARGE_BUFFERS: usize = 512;
/// Buffers of each pool that a port may hold without being asked whether others have as many left.
const SMALL_OWN: usize = SMALL_BUFFERS / 64;
const LARGE_OWN: usize = LARGE_BUFFERS / 64;

/// The ports.
pub(super) struct Ports {
    slab: Slab<Port>,
    small: PacketPool,
    large: PacketPool,
    dirty: Vec<PortId>,
    /// Ports whose guest's memory is at hand.
    rings: Vec<PortId>,
    /// Ports whose back end failed while it was written to.
    failed: Vec<(PortId, BackendError)>,
    capture: Option<Capture>,
    mtu: u16,
}

impl Ports {
    pub(super) fn new(mtu: u16, capture: Option<Capture>) -> Result<Self, PoolError> {
        let pool = |buffers, content| {
            PacketPool::new(PoolConfig {
                buffers,
                buffer_size: content + HEADROOM,
                headroom: HEADROOM,
            })
        };
        Ok(Self {
            slab: Slab::new(),
            small: pool(SMALL_BUFFERS, SMALL)?,
            large: pool(LARGE_BUFFERS, LARGE)?,
            dirty: Vec::new(),
            rings: Vec::new(),
            failed: Vec::new(),
            capture,
            mtu,
        })
    }

    /// Adds a port and registers it; `None` where there are too many.
    pub(super) fn add(
        &mut self,
        mut backend: Box<dyn NetworkBackend>,
        name: String,
        listener: Option<ListenerId>,
        registry: &Registry,
    ) -> Result<PortId, BackendError> {
        if self.slab.len() >= MAX_PORTS {
            return Err(BackendError::Unsupported(
                "more than 1024 ports on one network",
            ));
        }
        let offloads = backend.capabilities().offloads;
        backend.set_offloads(offloads)?;
        let entry = self.slab.vacant_entry();
        let id = entry.key() as PortId + 1;
        if let Some(fd) = backend.source() {
            registry
                .register(
                    &mut SourceFd(&fd.as_raw_fd()),
                    token::port(id),
                    Interest::READABLE | Interest::WRITABLE,
                )
                .map_err(|err| BackendError::host("register a port for events", &err))?;
        }
        let port = entry.insert(Port::new(backend, name, listener, self.mtu));
        if port.shares_memory {
            self.rings.push(id);
        }
        Ok(id)
    }

    /// Removes a port and what waits for it.
    pub(super) fn remove(&mut self, id: PortId, registry: &Registry) -> Option<Port> {
        let mut port = self.slab.try_remove((id as usize).checked_sub(1)?)?;
        port.clear();
        self.rings.retain(|ring| *ring != id);
        if let Some(fd) = port.backend.as_ref().and_then(|backend| backend.source()) {
            // The descriptor is closed right after; a failure changes nothing.
            let _ = registry.deregister(&mut SourceFd(&fd.as_raw_fd()));
        }
        Some(port)
    }

    /// Exchanges the back ends behind two numbers, with all that is theirs; who waits for one of the two
    /// to be ready is told.
    ///
    /// # Errors
    /// Of the host; the back ends are then where they were.
    pub(super) fn exchange(&mut self, a: PortId, b: PortId, registry: &Registry) -> io::Result<()> {
        let keys = |id: PortId| (id as usize).checked_sub(1);
        let both = keys(a).zip(keys(b));
        let Some((one, other)) = both.and_then(|(a, b)| self.slab.get2_mut(a, b)) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        one.watch(b, registry)?;
        if let Err(err) = other.watch(a, registry) {
            one.watch(a, registry)?;
            return Err(err);
        }
        std::mem::swap(one, other);
        // What waits is for a guest that is not there any more, or not yet.
        for port in [one, other] {
            port.clear();
            port.starved = true;
            port.dirty = false;
        }
        for id in [a, b] {
            self.mark_dirty(id);
        }
        let shared = self.iter().filter(|(_, port)| port.shares_memory);
        self.rings = shared.map(|(id, _)| id).collect();
        Ok(())
    }

    pub(super) fn get(&self, id: PortId) -> Option<&Port> {
        self.slab.get((id as usize).checked_sub(1)?)
    }

    pub(super) fn get_mut(&mut self, id: PortId) -> Option<&mut Port> {
        self.slab.get_mut((id as usize).checked_sub(1)?)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (PortId, &mut Port)> {
        self.slab
            .iter_mut()
            .map(|(key, port)| (key as PortId + 1, port))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (PortId, &Port)> {
        self.slab
            .iter()
            .map(|(key, port)| (key as PortId + 1, port))
    }

    /// An empty buffer with room for `len` bytes behind its headroom.
    pub(super) fn buffer(&self, len: usize) -> Option<PacketBuf> {
        if len <= SMALL
            && let Some(buffer) = self.small.alloc()
        {
            return Some(buffer);
        }
        (len <= LARGE).then(|| self.large.alloc())?
    }

    /// Writes a lent frame into the capture, if there is one.
    pub(super) fn capture_lent(&mut self, packet: &ZeroCopyPacket<'_>) {
        if let Some(capture) = &mut self.capture {
            capture.frame(&packet.frame_segments());
        }
    }

    /// Writes a frame into the capture, if there is one.
    pub(super) fn capture(&mut self, segments: &[IoSegment<'_>]) {
        if let Some(capture) = &mut self.capture {
            capture.frame(segments);
        }
    }

    /// Queues a frame for a guest's port, cut or completed where the port cannot take it as it is.
    pub(super) fn send(&mut self, id: PortId, header: VirtioNetHdr, frame: PacketBuf) {
        self.capture(&[IoSegment::from(&frame[..])]);
        self.queue(id, header, frame);
    }

    /// As [`Self::send`], for a port outside of what is captured.
    pub(super) fn queue(&mut self, id: PortId, header: VirtioNetHdr, frame: PacketBuf) {
        let Some(port) = self.get(id) else { return };
        if let Some(mirror) = port.mirror
            && let Ok(packet) = ZeroCopyPacket::from_slice(&frame, header)
        {
            self.copy_to(mirror, &packet);
        }
        let Some(port) = self.get(id) else { return };
        if port.capabilities.offloads.allow_tx(&header) {
            self.enqueue(id, header, frame);
        } else if let Ok(packet) = ZeroCopyPacket::from_slice(&frame, header) {
            self.cut(id, &packet);
        }
    }

    /// Queues a copy of a lent frame for a port, cut or completed where it must be.
    pub(super) fn copy(&mut self, id: PortId, packet: &ZeroCopyPacket<'_>) {
        if let Some(mirror) = self.get(id).and_then(|port| port.mirror) {
            self.copy_to(mirror, packet);
        }
        self.copy_to(id, packet);
    }

    /// As [`Self::copy`], without telling the mirror port.
    pub(super) fn copy_to(&mut self, id: PortId, packet: &ZeroCopyPacket<'_>) {
        let Some(port) = self.get(id) else { return };
        if !port.capabilities.offloads.allow_tx(packet.vnet()) {
            return self.cut(id, packet);
        }
        // Whoever floods a guest that takes nothing has no copy made for it.
        if !self.admits(port, packet.len(), packet.len() > SMALL) {
            return self.count(id, |statistics| &mut statistics.queue_drops);
        }
        match self.duplicate(packet) {
            Some(frame) => self.enqueue(id, *packet.vnet(), frame),
            None => self.count(id, |statistics| &mut statistics.pool_drops),
        }
    }

    /// A copy of a lent frame; `None` where no buffer is free.
    pub(super) fn duplicate(&self, packet: &ZeroCopyPacket<'_>) -> Option<PacketBuf> {
        let mut frame = self.buffer(packet.len())?;
        if let Some(room) = frame.spare_mut().get_mut(..packet.len()) {
            packet.copy_range(0, room);
        }
        frame.set_len(packet.len())?;
        Some(frame)
    }

    /// Makes finished frames of the port's MTU of a packet that it cannot take as it is.
    fn cut(&mut self, id: PortId, packet: &ZeroCopyPacket<'_>) {
        let Some(mtu) = self.get(id).map(|port| usize::from(port.mtu)) else {
            return;
        };
        let Ok(mut segmenter) = Segmenter::new(packet, mtu, Checksums::Complete) else {
            return self.count(id, |statistics| &mut statistics.offload_drops);
        };
        while let Some(len) = segmenter.next_len() {
            let Some(mut frame) = self.buffer(len) else {
                return self.count(id, |statistics| &mut statistics.pool_drops);
            };
            match segmenter.write_next(frame.spare_mut()) {
                Some(Ok((len, header))) if frame.set_len(len).is_some() => {
                    self.enqueue(id, header, frame);
                }
                _ => return self.count(id, |statistics| &mut statistics.offload_drops),
            }
        }
    }

    /// Counts something about a port.
    fn count(&mut self, id: PortId, counter: fn(&mut PortStatistics) -> &mut u64) {
        if let Some(port) = self.get_mut(id) {
            *counter(&mut port.statistics) += 1;
        }
    }

    /// Sends lent frames straight to a port: no copy, unless it cannot take them as they are or
    /// does not take all of them now.
    pub(super) fn forward(&mut self, id: PortId, packets: &mut [ZeroCopyPacket<'_>]) {
        if let Some(mirror) = self.get(id).and_then(|port| port.mirror) {
            for packet in packets.iter() {
                self.copy_to(mirror, packet);
            }
        }
        let direct = self.get(id).is_some_and(|port| {
            port.is_idle()
                && port.backend.is_some()
                && packets
                    .iter()
                    .all(|packet| port.capabilities.offloads.allow_tx(packet.vnet()))
        });
        let mut sent = 0;
        if direct {
            let frames: Vec<_> = packets
                .iter_mut()
                .map(|packet| TxFrame {
                    header: *packet.vnet(),
                    segments: packet.segments(),
                })
                .collect();
            let Some(port) = self.get_mut(id) else { return };
            let Some(backend) = port.backend.as_mut() else {
                return;
            };
            match backend.transmit(&frames) {
                Ok(taken) => {
                    sent = taken;
                    port.statistics.received_frames += taken as u64;
                    port.statistics.received_bytes += packets
                        .iter()
                        .take(taken)
                        .map(|packet| packet.len() as u64)
                        .sum::<u64>();
                }
                Err(err) => {
                    self.failed.push((id, err));
                    return;
                }
            }
        }
        for packet in packets.get(sent..).unwrap_or_default() {
            self.copy_to(id, packet);
        }
    }

    fn enqueue(&mut self, id: PortId, header: VirtioNetHdr, frame: PacketBuf) {
        let Some(port) = self.get_mut(id) else { return };
        let largest = usize::from(port.mtu) + ethernet::HEADER_LEN + ethernet::VLAN_TAG_LEN;
        if !header.is_gso() && frame.len() > largest {
            port.statistics.oversize_drops += 1;
            return;
        }
        let large = frame.capacity() > SMALL + HEADROOM;
        if !self
            .get(id)
            .is_some_and(|port| self.admits(port, frame.len(), large))
        {
            return self.count(id, |statistics| &mut statistics.queue_drops);
        }
        let Some(port) = self.get_mut(id) else { return };
        port.enqueue(header, frame, large);
        if !port.dirty {
            port.dirty = true;
            self.dirty.push(id);
        }
    }

    /// Whether a frame of `len` bytes may wait for a port, in a buffer of the pool of large ones or not.
    fn admits(&self, port: &Port, len: usize, large: bool) -> bool {
        let (pool, own) = match large {
            true => (&self.large, LARGE_OWN),
            false => (&self.small, SMALL_OWN),
        };
        // One port that takes nothing leaves half of a pool to the others, two a third, and so on:
        // the dynamic thresholds of Choudhury and Hahne, as switches with a shared memory have them.
        let held = port.held(large);
        port.has_room(len) && (held < own || held < pool.available())
    }

    /// Marks a port that takes frames again.
    pub(super) fn mark_dirty(&mut self, id: PortId) {
        if let Some(port) = self.get_mut(id)
            && !port.dirty
        {
            port.dirty = true;
            self.dirty.push(id);
        }
    }

    /// Marks a port if it takes frames again, as far as can be known.
    pub(super) fn mark_blocked(&mut self, id: PortId) {
        if self.get(id).is_some_and(Port::is_blocked) {
            self.mark_dirty(id);
        }
    }

    /// The ports whose guest's memory is at hand.
    pub(super) fn rings(&self) -> &[PortId] {
        &self.rings
    }

    /// Says to every guest whose memory is at hand whether it is asked, or has to tell; whether there is
    /// one.
    pub(super) fn set_polling(&mut self, polling: bool) -> bool {
        let mut peers = false;
        for id in &self.rings {
            let port = self.slab.get_mut((*id as usize).saturating_sub(1));
            if let Some(backend) = port.and_then(|port| port.backend.as_mut()) {
                peers |= backend.set_polling(polling);
            }
        }
        peers
    }

    /// Whether a port waits to be flushed.
    pub(super) fn has_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Hands every waiting frame to its back end; gives back the ports that have room again after
    /// somebody was told that they had none.
    pub(super) fn flush(&mut self, ready: &mut Vec<PortId>) {
        while let Some(id) = self.dirty.pop() {
            let Some(port) = self.get_mut(id) else {
                continue;
            };
            port.dirty = false;
            let result = port.flush();
            if port.starved && port.is_ready() {
                port.starved = false;
                ready.push(id);
            }
            if let Err(err) = result {
                self.failed.push((id, err));
            }
        }
    }

    /// The ports whose back end has failed since the last call.
    pub(super) fn take_failed(&mut self) -> Vec<(PortId, BackendError)> {
        std::mem::take(&mut self.failed)
    }

    /// Before the worker sleeps: lets readers of the capture see it.
    pub(super) fn before_sleep(&mut self) {
        if let Some(capture) = &mut self.capture {
            capture.flush();
        }
    }
}
