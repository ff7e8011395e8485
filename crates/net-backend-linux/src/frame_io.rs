//! Frames through a descriptor: a read gives one, a write takes one, with a virtio header in front.
//!
//! TAP devices and packet sockets share this shape. The batch is read into one arena, small frames
//! close together, and lent from there; a packet socket with a ring lends from the ring. A frame is
//! sent from where it lies, by one `writev` with its header.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use net_backend::{
    BackendError, BackendStats, Capabilities, MAX_FRAME, MIN_FRAME, NetworkBackend, Offloads,
    PacketBatch, TxFrame,
};
use net_datapath::packet::PacketFill;
use net_datapath::{VirtioNetHdr, ZeroCopyPacket};

use crate::error::Context;
use crate::packet_ring::PacketRing;
use crate::{Result, ioctl, sys};

/// Longest frame sent, Ethernet header included: the kernel cuts a longer super-frame into pieces
/// of the MTU again.
pub(crate) const MAX_TX_FRAME: usize = 65_535;
/// Room for one frame and its header.
const SLOT: usize = VirtioNetHdr::LEN + MAX_FRAME;
/// Room for a batch: small frames lie close together, large ones share it.
const ARENA: usize = 4 * SLOT;

/// Who decides about offloads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Device {
    /// A TAP device is told what its reader takes.
    Tap,
    /// So is a macvtap. When its interface is gone it reads as one where nothing arrives.
    Macvtap,
    /// The features of the interface decide what a packet socket receives, or there are no headers.
    Fixed,
}

/// What a constructor knows of its descriptor.
pub(crate) struct Setup {
    pub(crate) fd: OwnedFd,
    pub(crate) name: String,
    pub(crate) device: Device,
    /// Bytes of the virtio header in front of each frame: 0, 10 or 12.
    pub(crate) header_len: usize,
    pub(crate) capabilities: Capabilities,
    /// Offloads that hold before anybody asks for them.
    pub(crate) offloads: Offloads,
    /// Where frames come from, if not by reading.
    pub(crate) ring: Option<PacketRing>,
}

/// A descriptor that gives a frame a read and takes a frame a write.
pub(crate) struct FrameIo {
    file: File,
    name: String,
    device: Device,
    header_len: usize,
    capabilities: Capabilities,
    offloads: Offloads,
    ring: Option<PacketRing>,
    /// Empty with a ring.
    arena: Box<[u8]>,
    /// Where the frames of a batch lie in the arena, header included.
    frames: Vec<(usize, usize)>,
    batch: PacketBatch,
    blocked: bool,
    gone: bool,
    stats: BackendStats,
}

impl FrameIo {
    pub(crate) fn new(setup: Setup) -> Result<Self> {
        sys::set_nonblocking(setup.fd.as_fd()).context("make the device non-blocking")?;
        let mut stats = BackendStats::default();
        stats.peers = 1;
        Ok(Self {
            file: File::from(setup.fd),
            name: setup.name,
            device: setup.device,
            header_len: setup.header_len,
            capabilities: setup.capabilities,
            offloads: setup.offloads,
            arena: vec![0; if setup.ring.is_some() { 0 } else { ARENA }].into_boxed_slice(),
            ring: setup.ring,
            frames: Vec::with_capacity(PacketBatch::LEN),
            batch: PacketBatch::new(),
            blocked: false,
            gone: false,
            stats,
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn into_file(self) -> File {
        self.file
    }

    /// Reads up to `most` frames into the arena, as far as there is room.
    fn fill(&mut self, most: usize) -> std::result::Result<(), BackendError> {
        self.frames.clear();
        let mut at = 0;
        while self.frames.len() < most {
            let Some(room) = self.arena.get_mut(at..at + SLOT) else {
                break;
            };
            self.stats.rx_calls += 1;
            match self.file.read(room) {
                Ok(0) => return self.disconnected(),
                Ok(len) => {
                    self.frames.push((at, len));
                    // The next header is aligned, and so are the words of the payload.
                    at += len.next_multiple_of(64);
                }
                Err(error) => match error.raw_os_error() {
                    Some(libc::EAGAIN) if self.frames.is_empty() && self.is_orphan() => {
                        return self.disconnected();
                    }
                    Some(libc::EAGAIN) => break,
                    Some(libc::EINTR) => {}
                    // The device was deleted.
                    Some(
                        libc::EBADFD | libc::EIO | libc::ENODEV | libc::ENXIO | libc::ENETDOWN,
                    ) => {
                        return self.disconnected();
                    }
                    _ => return Err(BackendError::host("read from the interface", &error)),
                },
            }
        }
        Ok(())
    }

    /// Whether the interface has gone without a word.
    fn is_orphan(&self) -> bool {
        self.device == Device::Macvtap && ioctl::tun_get_iff(self.file.as_fd()).is_err()
    }

    /// Frames that have been read are still lent before the end is told.
    fn disconnected(&mut self) -> std::result::Result<(), BackendError> {
        if !self.gone {
            self.gone = true;
            self.stats.disconnects += 1;
        }
        if self.frames.is_empty() {
            return Err(BackendError::Disconnected);
        }
        Ok(())
    }

    /// As `receive`, from the ring.
    fn receive_ring(
        &mut self,
        budget: usize,
        sink: &mut dyn FnMut(&mut [ZeroCopyPacket<'_>]),
    ) -> std::result::Result<usize, BackendError> {
        let (mut lent, mut seen) = (0, 0);
        while seen < budget {
            let Some(ring) = &mut self.ring else { break };
            let most = (budget - seen).min(PacketBatch::LEN);
            let mut count = 0;
            let mut batch = self.batch.fill();
            while let Some(bytes) = ring.frame(count).filter(|_| count < most) {
                count += 1;
                match push(&mut batch, bytes, self.header_len) {
                    Some(packet) => {
                        self.stats.rx_frames += 1;
                        self.stats.rx_bytes += packet.len() as u64;
                    }
                    None => self.stats.rx_malformed += 1,
                }
            }
            if !batch.is_empty() {
                sink(batch.packets());
            }
            lent += batch.len();
            seen += count;
            ring.release(count);
            if count < most {
                break;
            }
        }
        if seen == 0 && budget > 0 {
            self.frames.clear();
            // Nothing to read may mean that there is nothing to read from any more.
            self.stats.rx_calls += 1;
            match sys::socket_error(self.file.as_fd()) {
                Ok(()) if self.gone => self.disconnected()?,
                Ok(()) => {}
                Err(_) => self.disconnected()?,
            }
        }
        Ok(lent)
    }

    /// Writes one frame; `Ok(false)`: it would block.
    fn write(&mut self, frame: &TxFrame<'_>) -> std::result::Result<bool, BackendError> {
        let len = frame.len();
        if !(MIN_FRAME..=self.capabilities.max_frame).contains(&len)
            || !self.offloads.allow_tx(&frame.header)
        {
            self.stats.tx_invalid += 1;
            return Ok(true);
        }
        let header = VirtioNetHdr {
            num_buffers: 0,
            ..frame.header
        }
        .to_bytes();
        let header = header.get(..self.header_len).unwrap_or_default();
        loop {
            self.stats.tx_calls += 1;
            let Err(error) = sys::writev(self.file.as_fd(), header, frame.segments) else {
                self.stats.tx_frames += 1;
                self.stats.tx_bytes += len as u64;
                return Ok(true);
            };
            match error.raw_os_error() {
                Some(libc::EINTR) => continue,
                Some(libc::EAGAIN) => return Ok(false),
                // The kernel found the header to contradict the frame.
                Some(libc::EINVAL | libc::EMSGSIZE | libc::EFAULT) => self.stats.tx_invalid += 1,
                Some(libc::ENOBUFS | libc::ENOMEM) => self.stats.tx_no_buffer += 1,
                // The interface is down: nobody is there.
                Some(libc::EIO | libc::ENETDOWN) => self.stats.tx_no_peer += 1,
                Some(libc::EBADFD | libc::ENODEV | libc::ENXIO) => {
                    self.disconnected()?;
                    return Err(BackendError::Disconnected);
                }
                _ => return Err(BackendError::host("write to the interface", &error)),
            }
            return Ok(true);
        }
    }
}

impl NetworkBackend for FrameIo {
    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn set_offloads(&mut self, want: Offloads) -> std::result::Result<Offloads, BackendError> {
        let agreed = Offloads::negotiate(want, self.capabilities.offloads);
        if self.device == Device::Fixed {
            // Receiving cannot be narrowed here: say what holds instead of what was asked.
            self.offloads = agreed | (self.capabilities.offloads & Offloads::RX_ALL);
            return Ok(self.offloads);
        }
        ioctl::tun_set_offload(self.file.as_fd(), receive_flags(agreed))
            .map_err(|error| BackendError::host("set the TAP device's offloads", &error))?;
        self.offloads = agreed;
        Ok(agreed)
    }

    fn receive(
        &mut self,
        budget: usize,
        sink: &mut dyn FnMut(&mut [ZeroCopyPacket<'_>]),
    ) -> std::result::Result<usize, BackendError> {
        if self.ring.is_some() {
            return self.receive_ring(budget, sink);
        }
        let (mut lent, mut read) = (0, 0);
        while read < budget {
            let most = (budget - read).min(PacketBatch::LEN);
            let filled = self.fill(most);
            read += self.frames.len();
            if lent == 0 {
                filled?;
            }
            if self.frames.is_empty() {
                break;
            }
            let header_len = self.header_len;
            let mut batch = self.batch.fill();
            for &(at, len) in &self.frames {
                let bytes = self.arena.get(at..at + len).unwrap_or_default();
                match push(&mut batch, bytes, header_len) {
                    Some(packet) => {
                        self.stats.rx_frames += 1;
                        self.stats.rx_bytes += packet.len() as u64;
                    }
                    None => self.stats.rx_malformed += 1,
                }
            }
            if !batch.is_empty() {
                sink(batch.packets());
            }
            lent += batch.len();
        }
        Ok(lent)
    }

    fn transmit(&mut self, frames: &[TxFrame<'_>]) -> std::result::Result<usize, BackendError> {
        for (taken, frame) in frames.iter().enumerate() {
            if !self.write(frame)? {
                self.blocked = true;
                self.stats.tx_blocked += 1;
                return Ok(taken);
            }
        }
        self.blocked = false;
        Ok(frames.len())
    }

    fn flush(&mut self) -> std::result::Result<bool, BackendError> {
        // A frame is written whole or not at all.
        self.blocked = false;
        Ok(true)
    }

    fn wants_write(&self) -> bool {
        self.blocked
    }

    fn source(&self) -> Option<BorrowedFd<'_>> {
        Some(self.file.as_fd())
    }

    fn next_deadline(&self) -> Option<Duration> {
        None
    }

    fn on_deadline(&mut self, _now: Duration) {}

    fn statistics(&self) -> BackendStats {
        self.stats
    }
}

/// A frame as it was read.
fn push<'p, 'a>(
    batch: &'p mut PacketFill<'_, 'a>,
    bytes: &'a [u8],
    header_len: usize,
) -> Option<&'p mut ZeroCopyPacket<'a>> {
    let (header, frame) = bytes.split_at_checked(header_len)?;
    let mut bytes = [0; VirtioNetHdr::LEN];
    bytes.get_mut(..header_len)?.copy_from_slice(header);
    let header = VirtioNetHdr::from_bytes(&bytes);
    batch.push_slice(frame, header).ok()
}

/// The `TUN_F_` bits of what may be received.
pub(crate) fn receive_flags(offloads: Offloads) -> libc::c_uint {
    let pairs = [
        (Offloads::RX_CSUM, ioctl::TUN_F_CSUM),
        (Offloads::RX_TSO4, ioctl::TUN_F_TSO4),
        (Offloads::RX_TSO6, ioctl::TUN_F_TSO6),
        (Offloads::RX_USO, ioctl::TUN_F_USO4 | ioctl::TUN_F_USO6),
    ];
    let set = pairs
        .iter()
        .filter(|(offload, _)| offloads.contains(*offload));
    set.fold(0, |flags, (_, bits)| flags | bits)
}

/// Implements the back end for a type whose first field is a [`FrameIo`].
macro_rules! delegate_backend {
    ($name:ident) => {
        impl net_backend::NetworkBackend for $name {
            fn capabilities(&self) -> net_backend::Capabilities {
                self.0.capabilities()
            }
            fn set_offloads(
                &mut self,
                want: net_backend::Offloads,
            ) -> Result<net_backend::Offloads, net_backend::BackendError> {
                self.0.set_offloads(want)
            }
            fn receive(
                &mut self,
                budget: usize,
                sink: &mut dyn FnMut(&mut [net_datapath::ZeroCopyPacket<'_>]),
            ) -> Result<usize, net_backend::BackendError> {
                self.0.receive(budget, sink)
            }
            fn transmit(
                &mut self,
                frames: &[net_backend::TxFrame<'_>],
            ) -> Result<usize, net_backend::BackendError> {
                self.0.transmit(frames)
            }
            fn flush(&mut self) -> Result<bool, net_backend::BackendError> {
                self.0.flush()
            }
            fn wants_write(&self) -> bool {
                self.0.wants_write()
            }
            fn source(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
                self.0.source()
            }
            fn next_deadline(&self) -> Option<std::time::Duration> {
                None
            }
            fn on_deadline(&mut self, _now: std::time::Duration) {}
            fn statistics(&self) -> net_backend::BackendStats {
                self.0.statistics()
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0.name())
            }
        }
    };
}
pub(crate) use delegate_backend;
