//! A guest: memory, a pair of queues and a control queue, and what its network stack would do.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use net_backend::{NetworkBackend, Offloads};
use net_datapath::VirtioNetHdr;
use net_virtio::driver::{BASE, DriverOptions, DriverQueue, GuestRam, Part};
use net_virtio::{DeviceConfig, VirtioNet, features};

/// Bytes set aside for each buffer.
const SLOT: u64 = 80 * 1024;

/// What a guest negotiates and how it lays out its buffers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) options: DriverOptions,
    pub(crate) size: u16,
    pub(crate) mergeable: bool,
    /// Bytes of one receive buffer.
    pub(crate) receive: u32,
    /// Bytes of each piece of a buffer; 0 for one piece.
    pub(crate) cut: u32,
    /// Bits of offloads to take, of those offered.
    pub(crate) offloads: u64,
    /// Whether the driver can announce its guest.
    pub(crate) announces: bool,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            options: DriverOptions::default(),
            size: 64,
            mergeable: true,
            receive: 1600,
            cut: 0,
            offloads: u64::MAX,
            announces: true,
        }
    }
}

impl Shape {
    /// Both formats, with and without the options, and buffers cut in several ways.
    pub(crate) fn all() -> Vec<Self> {
        let mut shapes = Vec::new();
        for bits in 0..8 {
            let has = |bit: u8| bits & (1 << bit) != 0;
            let options = DriverOptions {
                packed: has(0),
                event_index: has(1),
                indirect: has(2),
            };
            for (mergeable, receive, cut) in
                [(true, 1600, 0), (true, 200, 13), (false, 66_000, 4096)]
            {
                // Indirect tables of the test driver have 64 entries, direct chains the ring.
                shapes.push(Self {
                    options,
                    mergeable,
                    receive,
                    cut,
                    size: 128,
                    ..Self::default()
                });
            }
        }
        shapes
    }

    pub(crate) fn features(&self) -> u64 {
        let mut bits = features::VERSION_1 | features::CTRL_VQ | features::CTRL_RX;
        bits |= features::CTRL_VLAN | features::CTRL_MAC_ADDR;
        let offloads = features::CSUM
            | features::GUEST_CSUM
            | features::GUEST_TSO4
            | features::GUEST_TSO6
            | features::HOST_TSO4
            | features::HOST_TSO6
            | features::HOST_USO
            | features::GUEST_USO4
            | features::GUEST_USO6;
        bits |= self.offloads & offloads;
        if self.announces {
            bits |= features::GUEST_ANNOUNCE;
        }
        if self.mergeable {
            bits |= features::MRG_RXBUF;
        }
        if self.options.packed {
            bits |= features::RING_PACKED;
        }
        if self.options.event_index {
            bits |= features::EVENT_IDX;
        }
        if self.options.indirect {
            bits |= features::INDIRECT_DESC;
        }
        bits
    }
}

pub(crate) struct Guest {
    pub(crate) ram: GuestRam,
    pub(crate) shape: Shape,
    pub(crate) receive: DriverQueue,
    pub(crate) transmit: DriverQueue,
    pub(crate) control: DriverQueue,
    /// Addresses of buffers that nobody uses, and by chain id those that somebody does.
    free: Vec<u64>,
    receiving: Vec<u64>,
    sending: Vec<u64>,
    /// Interrupts of receive and transmit queue.
    pub(crate) interrupts: [Arc<AtomicUsize>; 2],
    /// The device wants to hear that receive buffers were added.
    pub(crate) receive_kick: bool,
}

impl Guest {
    pub(crate) fn new(shape: Shape) -> Self {
        Self::over(GuestRam::new(Self::footprint(shape)), shape)
    }

    /// Bytes of memory it needs.
    pub(crate) fn footprint(shape: Shape) -> usize {
        let buffers = 2 * u64::from(shape.size) + 1;
        (3 * DriverQueue::footprint(shape.size) + buffers * SLOT) as usize
    }

    /// A guest in this memory.
    pub(crate) fn over(ram: GuestRam, shape: Shape) -> Self {
        let queue = DriverQueue::footprint(shape.size);
        let buffers = 2 * u64::from(shape.size) + 1;
        let make = |n: u64| DriverQueue::new(&ram, BASE + n * queue, shape.size, shape.options);
        let (receive, transmit, control) = (make(0), make(1), make(2));
        let first = BASE + 3 * queue;
        let mut guest = Self {
            shape,
            receive,
            transmit,
            control,
            free: (0..buffers).map(|n| first + n * SLOT).collect(),
            receiving: vec![0; shape.size.into()],
            sending: vec![0; shape.size.into()],
            interrupts: Default::default(),
            receive_kick: false,
            ram,
        };
        guest.refill();
        guest
    }

    /// A device with this guest's driver on it, and no offloads.
    pub(crate) fn device(&self) -> VirtioNet {
        self.device_with(Offloads::NONE)
    }

    /// The same with those of the offloads that the guest takes.
    pub(crate) fn device_with(&self, offloads: Offloads) -> VirtioNet {
        let mut device = VirtioNet::new(DeviceConfig::default());
        device.set_offloads(offloads).unwrap();
        self.attach(&mut device);
        device
    }

    pub(crate) fn attach(&self, device: &mut VirtioNet) {
        let wanted = self.shape.features() & device.features();
        device.set_features(wanted).unwrap();
        let memory = self.ram.memory().unwrap();
        let last = device.queues() - 1;
        for (index, queue) in [
            (0, &self.receive),
            (1, &self.transmit),
            (last, &self.control),
        ] {
            let count = self.interrupts.get(index).cloned().unwrap_or_default();
            let interrupt = move || {
                count.fetch_add(1, Ordering::Relaxed);
            };
            device
                .start_queue(
                    index,
                    &queue.setup(),
                    Arc::clone(&memory),
                    Box::new(interrupt),
                )
                .unwrap();
        }
    }

    fn parts(&self, address: u64, len: usize) -> Vec<Part> {
        // A chain holds no more descriptors than a table.
        let cut = match self.shape.cut as usize {
            0 => len.max(1),
            cut => cut.max(len.div_ceil(60)),
        };
        (0..len)
            .step_by(cut)
            .map(|at| (address + at as u64, cut.min(len - at) as u32))
            .collect()
    }

    /// Gives the device every receive buffer there is room for.
    pub(crate) fn refill(&mut self) {
        while self.free.len() > usize::from(self.shape.size) {
            let Some(address) = self.free.pop() else {
                break;
            };
            let parts = self.parts(address, self.shape.receive as usize);
            let Some(id) = self.receive.add(&[], &parts) else {
                self.free.push(address);
                break;
            };
            self.receiving[usize::from(id)] = address;
        }
        self.receive_kick |= self.receive.publish();
    }

    /// The 64 bytes behind each buffer that waits for a frame: nobody's.
    pub(crate) fn behind_receive_buffers(&self) -> Vec<u8> {
        let ends = self.receiving.iter().filter(|&&address| address != 0);
        ends.flat_map(|address| self.ram.read(address + u64::from(self.shape.receive), 64))
            .collect()
    }

    /// Every buffer is free or with the device, and none is twice.
    pub(crate) fn assert_all_buffers(&self) {
        let with_device = self.receiving.iter().chain(&self.sending);
        let all = self
            .free
            .iter()
            .chain(with_device.filter(|address| **address != 0));
        let all: std::collections::BTreeSet<_> = all.collect();
        let outstanding = self.receive.outstanding() + self.transmit.outstanding();
        assert_eq!(all.len(), 2 * usize::from(self.shape.size) + 1);
        assert_eq!(self.free.len() + outstanding, all.len());
    }

    /// Sends a frame; false where the queue is full.
    pub(crate) fn send(&mut self, header: VirtioNetHdr, frame: &[u8]) -> bool {
        self.send_kicking(header, frame).is_some()
    }

    /// The same; whether the device wants to hear of it.
    pub(crate) fn send_kicking(&mut self, header: VirtioNetHdr, frame: &[u8]) -> Option<bool> {
        self.reclaim();
        let address = self.free.pop()?;
        let mut bytes = header.to_bytes().to_vec();
        bytes.extend_from_slice(frame);
        self.ram.write(address, &bytes);
        let parts = self.parts(address, bytes.len());
        let Some(id) = self.transmit.add(&parts, &[]) else {
            self.free.push(address);
            return None;
        };
        self.sending[usize::from(id)] = address;
        Some(self.transmit.publish())
    }

    /// Takes back the buffers of frames that are sent.
    pub(crate) fn reclaim(&mut self) {
        while let Some((id, len)) = self.transmit.take_used() {
            assert_eq!(len, 0, "nothing is written into what is sent");
            let address = std::mem::take(&mut self.sending[usize::from(id)]);
            assert_ne!(address, 0, "it comes back once");
            self.free.push(address);
        }
    }

    /// The next frame the device has delivered.
    pub(crate) fn recv(&mut self) -> Option<(VirtioNetHdr, Vec<u8>)> {
        let (id, len) = self.receive.take_used()?;
        let mut bytes = self.take(id, len);
        let header = VirtioNetHdr::from_bytes(bytes[..12].try_into().unwrap());
        assert!(header.num_buffers >= 1);
        assert!(self.shape.mergeable || header.num_buffers == 1);
        for _ in 1..header.num_buffers {
            let (id, len) = self.receive.take_used().expect("all buffers of a frame");
            bytes.extend(self.take(id, len));
        }
        self.refill();
        let header = VirtioNetHdr {
            num_buffers: 0,
            ..header
        };
        Some((header, bytes[12..].to_vec()))
    }

    fn take(&mut self, id: u16, len: u32) -> Vec<u8> {
        let address = std::mem::take(&mut self.receiving[usize::from(id)]);
        assert_ne!(address, 0, "it comes back once");
        self.free.push(address);
        assert!(len <= self.shape.receive);
        self.ram.read(address, len as usize)
    }

    /// Runs a command; its answer.
    pub(crate) fn command(&mut self, device: &mut VirtioNet, bytes: &[u8]) -> u8 {
        let address = self.free[0];
        self.ram.write(address, bytes);
        self.ram.write(address + 4096, &[0xee]);
        let parts = self.parts(address, bytes.len());
        self.control.add(&parts, &[(address + 4096, 1)]).unwrap();
        self.control.publish();
        device.receive(1, &mut |_| {}).unwrap();
        assert_eq!(self.control.take_used().map(|(_, len)| len), Some(1));
        self.ram.read(address + 4096, 1)[0]
    }
}
