//! A guest whose driver costs next to nothing: descriptors stay, and only their addresses change.

use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use net_backend::{NetworkBackend, Offloads};
use net_benches::frames::frame;
use net_virtio::driver::{BASE, DriverOptions, DriverQueue, GuestRam};
use net_virtio::{DeviceConfig, VirtioNet, features};
use net_wire::ip_proto;

/// Descriptors of a ring.
pub(crate) const RING: u16 = 256;
/// Length of the header in front of each frame.
const HEADER: usize = 12;

/// One ring whose slot `n` always holds descriptor `n`.
pub(crate) struct Loop {
    queue: DriverQueue,
    /// Chains made available so far, and the buffer of the next one.
    available: u16,
    buffer: usize,
}

/// A guest: memory, a receive and a transmit ring, and buffers for each.
pub(crate) struct Guest {
    pub(crate) ram: GuestRam,
    pub(crate) receive: Loop,
    pub(crate) transmit: Loop,
    buffers: usize,
    stride: usize,
    len: usize,
    first: u64,
}

impl Guest {
    /// A guest with `buffers` buffers a direction for frames of `len` bytes; `number` is the last
    /// byte of its address, and its frames go to the other of 1 and 2.
    pub(crate) fn new(len: usize, buffers: usize, number: u8) -> Self {
        let queue = DriverQueue::footprint(RING);
        let stride = (len + HEADER).next_multiple_of(64);
        let first = BASE + 2 * queue;
        let ram = GuestRam::new((2 * queue) as usize + 2 * buffers * stride);
        let ring = |n: u64| Loop {
            queue: DriverQueue::new(&ram, BASE + n * queue, RING, DriverOptions::default()),
            available: 0,
            buffer: 0,
        };
        let (receive, transmit) = (ring(0), ring(1));
        let payload = len.saturating_sub(14 + 20 + 8);
        let mut bytes = frame(false, ip_proto::UDP, 7, payload);
        bytes.resize(len, 0);
        bytes[5] = 3 - number;
        bytes[11] = number;
        for n in 0..buffers {
            let at = first + ((buffers + n) * stride) as u64;
            ram.write(at, &[&[0; HEADER][..], &bytes].concat());
        }
        let mut guest = Self {
            ram,
            receive,
            transmit,
            buffers,
            stride,
            len,
            first,
        };
        for (which, flags) in [(0, 2u16), (1, 0)] {
            let setup = guest.ring(which).queue.setup();
            for n in 0..RING {
                let at = setup.descriptors + 16 * u64::from(n);
                let len = (guest.len + HEADER) as u32;
                guest.ram.write(at + 8, &len.to_le_bytes());
                guest.ram.write(at + 12, &flags.to_le_bytes());
                guest
                    .ram
                    .write(setup.driver + 4 + 2 * u64::from(n), &n.to_le_bytes());
            }
        }
        guest.offer(0, RING);
        guest
    }

    fn ring(&mut self, which: usize) -> &mut Loop {
        match which {
            0 => &mut self.receive,
            _ => &mut self.transmit,
        }
    }

    /// A device with this guest on it, whose driver looks by itself and wants no interrupts.
    pub(crate) fn device(&self) -> VirtioNet {
        self.device_with(1, || {})
    }

    /// The same, which calls `wake` when it has given back what the driver sleeps for.
    pub(crate) fn device_that_wakes(&self, wake: impl Fn() + Send + Clone + 'static) -> VirtioNet {
        self.device_with(0, wake)
    }

    fn device_with(&self, flags: u16, wake: impl Fn() + Send + Clone + 'static) -> VirtioNet {
        let mut device = VirtioNet::new(DeviceConfig::default());
        device.set_offloads(Offloads::ALL).expect("offloads");
        let offloads = features::CSUM | features::GUEST_CSUM;
        device
            .set_features(features::VERSION_1 | features::MRG_RXBUF | offloads)
            .expect("features");
        let memory = self.ram.memory().expect("memory");
        for (index, ring) in [&self.receive, &self.transmit].into_iter().enumerate() {
            let setup = ring.queue.setup();
            self.ram.write(setup.driver, &flags.to_le_bytes());
            let interrupt = Box::new(wake.clone());
            device
                .start_queue(index, &setup, Arc::clone(&memory), interrupt)
                .expect("queue");
        }
        device
    }

    /// Makes `count` more chains of a ring available, each with the next buffer.
    #[inline]
    pub(crate) fn offer(&mut self, which: usize, count: u16) {
        let (first, buffers, stride) = (self.first, self.buffers, self.stride);
        let ram = self.ram.clone();
        let ring = self.ring(which);
        let setup = ring.queue.setup();
        for _ in 0..count {
            let slot = u64::from(ring.available % RING);
            let address = first + ((which * buffers + ring.buffer) * stride) as u64;
            ram.write(setup.descriptors + 16 * slot, &address.to_le_bytes());
            ring.available = ring.available.wrapping_add(1);
            ring.buffer = if ring.buffer + 1 == buffers {
                0
            } else {
                ring.buffer + 1
            };
        }
        ram.publish(setup.driver + 2, ring.available);
    }

    /// Chains of a ring that the device has given back and that were not made available again.
    #[inline]
    pub(crate) fn given_back(&mut self, which: usize) -> u16 {
        let (device, available) = {
            let ring = self.ring(which);
            (ring.queue.setup().device, ring.available)
        };
        let used = self.ram.index(device + 2);
        // A receive ring starts full, a transmit ring empty: as many are there as have been offered.
        RING - available.wrapping_sub(used)
    }

    /// Whether the device sleeps and wants to be told of what was made available.
    pub(crate) fn wants_kick(&mut self, which: usize) -> bool {
        let device = self.ring(which).queue.setup().device;
        // Shown first, then asked: the device does it the other way round.
        fence(Ordering::SeqCst);
        self.ram.index(device) & 1 == 0
    }

    /// Makes all chains of a ring available that are not.
    pub(crate) fn refill(&mut self, which: usize) {
        let room = self.given_back(which);
        self.offer(which, room);
    }

    /// Copies between the buffers, for the limit.
    pub(crate) fn copy(&self, n: usize) {
        let n = n % self.buffers;
        let to = self.first + (n * self.stride) as u64;
        let from = self.first + ((self.buffers + n) * self.stride) as u64;
        self.ram.copy(from, to, self.len + HEADER);
    }
}
