//! A guest whose driver costs next to nothing: descriptors stay, and only their addresses change.

use std::sync::Arc;

use net_backend::{NetworkBackend, Offloads};
use net_benches::frames::frame;
use net_virtio::driver::{BASE, GuestRam};
use net_virtio::{DeviceConfig, VirtioNet, features};
use net_wire::ip_proto;

pub(crate) use crate::ring::RING;
use crate::ring::{HEADER, Layout, Ring};

/// A guest: memory, a receive and a transmit ring, and buffers for each.
pub(crate) struct Guest {
    pub(crate) ram: GuestRam,
    layout: Layout,
    receive: Ring,
    transmit: Ring,
    /// The buffer of each ring's next chain.
    next: [usize; 2],
    buffers: usize,
    stride: usize,
    len: usize,
    first: u64,
}

impl Guest {
    /// A guest with `buffers` buffers a direction for frames of `len` bytes; `number` is the last
    /// byte of its address, and its frames go to the other of 1 and 2.
    pub(crate) fn new(len: usize, buffers: usize, number: u8) -> Self {
        Self::with_layout(len, buffers, number, Layout::default())
    }

    /// The same with rings and chains of another layout.
    pub(crate) fn with_layout(len: usize, buffers: usize, number: u8, layout: Layout) -> Self {
        let queue = Ring::footprint(layout);
        let stride = (len + HEADER).next_multiple_of(64);
        let first = BASE + 2 * queue;
        let ram = GuestRam::new((2 * queue) as usize + 2 * buffers * stride);
        let receive = Ring::new(&ram, BASE, layout, len, true);
        let transmit = Ring::new(&ram, BASE + queue, layout, len, false);
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
            layout,
            receive,
            transmit,
            next: [0; 2],
            buffers,
            stride,
            len,
            first,
        };
        guest.offer(0, RING);
        guest
    }

    fn ring(&mut self, which: usize) -> &mut Ring {
        match which {
            0 => &mut self.receive,
            _ => &mut self.transmit,
        }
    }

    /// A device with this guest on it, whose driver looks by itself and wants no interrupts.
    pub(crate) fn device(&self) -> VirtioNet {
        self.device_with(false, || {})
    }

    /// The same, which calls `wake` when it has given back what the driver sleeps for.
    pub(crate) fn device_that_wakes(&self, wake: impl Fn() + Send + Clone + 'static) -> VirtioNet {
        self.device_with(true, wake)
    }

    fn device_with(&self, told: bool, wake: impl Fn() + Send + Clone + 'static) -> VirtioNet {
        let mut device = VirtioNet::new(DeviceConfig::default());
        device.set_offloads(Offloads::ALL).expect("offloads");
        let offloads = features::CSUM | features::GUEST_CSUM;
        device
            .set_features(
                features::VERSION_1 | features::MRG_RXBUF | offloads | self.layout.features(),
            )
            .expect("features");
        let memory = self.ram.memory().expect("memory");
        for (index, ring) in [&self.receive, &self.transmit].into_iter().enumerate() {
            ring.want_interrupts(told);
            let interrupt = Box::new(wake.clone());
            device
                .start_queue(index, &ring.setup(), Arc::clone(&memory), interrupt)
                .expect("queue");
        }
        device
    }

    /// Has all its frames go to another address.
    pub(crate) fn address(&self, to: [u8; 6]) {
        for n in 0..self.buffers {
            let frame = ((self.buffers + n) * self.stride + HEADER) as u64;
            self.ram.write(self.first + frame, &to);
        }
    }

    /// Makes `count` more chains of a ring available, each with the next buffer.
    #[inline]
    pub(crate) fn offer(&mut self, which: usize, count: u16) {
        let (first, buffers, stride) = (self.first, self.buffers, self.stride);
        let mut buffer = self.next[which];
        self.ring(which).offer((0..count).map(|_| {
            let address = first + ((which * buffers + buffer) * stride) as u64;
            buffer = if buffer + 1 == buffers { 0 } else { buffer + 1 };
            address
        }));
        self.next[which] = buffer;
    }

    /// Chains of a ring that the device has given back and that were not made available again.
    #[inline]
    pub(crate) fn given_back(&mut self, which: usize) -> u16 {
        self.ring(which).given_back()
    }

    /// Whether the device sleeps and wants to be told of what was made available.
    pub(crate) fn wants_kick(&mut self, which: usize) -> bool {
        self.ring(which).wants_kick()
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
