//! Guests whose memory is at hand, on a network that polls them, that sleeps, and that does one after
//! the other: the real worker on its own thread, beside drivers that ring when they are asked to.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use net_virtio::driver::{BASE, DriverOptions, DriverQueue, GuestRam};
use net_virtio::{DeviceConfig, Doorbell, VirtioNet, features};
use net_wire::MacAddr;
use rustix::event::{EventfdFlags, eventfd};

use crate::config::{NetworkConfig, Polling};
use crate::{AttachOptions, Engine, Network};

const SIZE: u16 = 32;
const SLOT: u64 = 2048;
/// Experimental (RFC 5342, section 2.3.2): no protocol of the gateway's.
const ETHERTYPE: [u8; 2] = [0x88, 0xb5];
/// What does not come within this does not come.
const PATIENCE: Duration = Duration::from_secs(20);

const ASLEEP: Polling = Polling::UpTo(Duration::ZERO);
const ADAPTIVE: Polling = Polling::UpTo(Duration::from_micros(50));

fn mac(n: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, n])
}

struct Bell(Arc<OwnedFd>);

impl Doorbell for Bell {
    fn source(&self) -> Option<BorrowedFd<'_>> {
        Some(self.0.as_fd())
    }

    fn clear(&mut self) {
        let _ = rustix::io::read(&*self.0, &mut [0; 8]);
    }
}

/// A guest, whose number is the last byte of its address.
struct Guest {
    number: u8,
    ram: GuestRam,
    receive: DriverQueue,
    transmit: DriverQueue,
    bell: Arc<OwnedFd>,
    /// By chain id, the address of its buffer.
    receiving: Vec<u64>,
    free: Vec<u64>,
    /// How often it was asked to ring, for frames and for room.
    rung: usize,
    told: usize,
}

impl Guest {
    fn new(number: u8, options: DriverOptions) -> Self {
        let queue = DriverQueue::footprint(SIZE);
        let buffers = BASE + 2 * queue;
        let ram = GuestRam::new((2 * queue + 2 * u64::from(SIZE) * SLOT) as usize);
        let make = |n: u64| DriverQueue::new(&ram, BASE + n * queue, SIZE, options);
        let bell = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).unwrap();
        let mut guest = Self {
            number,
            receive: make(0),
            transmit: make(1),
            bell: Arc::new(bell),
            receiving: vec![0; SIZE.into()],
            free: (0..2 * u64::from(SIZE))
                .map(|n| buffers + n * SLOT)
                .collect(),
            rung: 0,
            told: 0,
            ram,
        };
        guest.refill();
        guest
    }

    fn device(&self, options: DriverOptions) -> VirtioNet {
        let mut device = VirtioNet::new(DeviceConfig::default());
        let mut wanted = features::VERSION_1 | features::MRG_RXBUF;
        if options.packed {
            wanted |= features::RING_PACKED;
        }
        if options.event_index {
            wanted |= features::EVENT_IDX;
        }
        device.set_features(wanted & device.features()).unwrap();
        device.set_doorbell(Some(Box::new(Bell(Arc::clone(&self.bell)))));
        let memory = self.ram.memory().unwrap();
        for (index, queue) in [&self.receive, &self.transmit].into_iter().enumerate() {
            let memory = Arc::clone(&memory);
            device
                .start_queue(index, &queue.setup(), memory, Box::new(|| {}))
                .unwrap();
        }
        device
    }

    fn ring(&self) {
        rustix::io::write(&*self.bell, &1u64.to_ne_bytes()).unwrap();
    }

    /// Gives the device half of all buffers to receive into.
    fn refill(&mut self) {
        while self.free.len() > usize::from(SIZE) {
            let address = self.free.pop().unwrap();
            let id = self.receive.add(&[], &[(address, SLOT as u32)]).unwrap();
            self.receiving[usize::from(id)] = address;
        }
        if self.receive.publish() {
            self.told += 1;
            self.ring();
        }
    }

    /// Sends a frame to another guest, if the ring has room; rings if that is asked.
    fn try_send(&mut self, to: MacAddr, number: u32) -> bool {
        while self.transmit.take_used().is_some() {}
        // Any place will do: what is sent is read when it is taken, and a frame is all that is in it.
        let address = BASE + 2 * DriverQueue::footprint(SIZE) + u64::from(number % 8) * SLOT;
        if self.transmit.outstanding() >= 8 {
            return false;
        }
        let frame = [
            &[0; 12][..],
            &to.0,
            &mac(self.number).0,
            &ETHERTYPE,
            &number.to_le_bytes(),
        ]
        .concat();
        self.ram.write(address, &frame);
        self.transmit
            .add(&[(address, frame.len() as u32)], &[])
            .unwrap();
        if self.transmit.publish() {
            self.rung += 1;
            self.ring();
        }
        true
    }

    fn send(&mut self, to: MacAddr, number: u32) {
        until("room in the ring", || self.try_send(to, number));
    }

    /// The number in the next frame of the tests'.
    fn recv(&mut self) -> Option<u32> {
        loop {
            let (id, len) = self.receive.take_used()?;
            let address = self.receiving[usize::from(id)];
            let bytes = self.ram.read(address, len as usize);
            self.free.push(address);
            if bytes[24..26] == ETHERTYPE {
                return Some(u32::from_le_bytes(bytes[26..30].try_into().unwrap()));
            }
        }
    }

    fn until_received(&mut self, number: u32) {
        let mut got = None;
        until("a frame", || {
            got = self.recv();
            got.is_some()
        });
        assert_eq!(got, Some(number));
        self.refill();
    }
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let limit = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < limit, "there was no {what}");
        std::thread::yield_now();
    }
}

/// A network with two guests that know each other.
fn network(polling: Polling, options: DriverOptions) -> (Network, Guest, Guest) {
    let network = Network::new(NetworkConfig {
        dns: vec!["192.0.2.53:53".parse().unwrap()],
        engine: Engine::User,
        ipv6: false,
        polling,
        processors: Some(2),
        ..NetworkConfig::default()
    });
    network.start().unwrap();
    let [mut one, mut two] = [1, 2].map(|n| {
        let guest = Guest::new(n, options);
        let device = Box::new(guest.device(options));
        network.attach(device, AttachOptions::default()).unwrap();
        guest
    });
    two.send(MacAddr::BROADCAST, 0);
    one.until_received(0);
    (network, one, two)
}

fn all_options() -> [DriverOptions; 4] {
    [0, 1, 2, 3].map(|bits| DriverOptions {
        packed: bits & 1 != 0,
        event_index: bits & 2 != 0,
        indirect: false,
    })
}

#[test]
fn a_guest_that_is_always_polled_is_not_asked_to_ring() {
    for options in all_options() {
        let (_network, mut one, mut two) = network(Polling::Always, options);
        // From when it knows that it need not.
        until("polling", || !one.transmit.is_awaited());
        until("polling", || !two.receive.is_awaited());
        (one.rung, two.told) = (0, 0);
        for n in 0..1000 {
            one.send(mac(2), n);
            two.until_received(n);
        }
        assert_eq!((one.rung, two.told), (0, 0), "{options:?}");
    }
}

#[test]
fn a_network_that_does_not_poll_sleeps_and_is_rung_for() {
    for options in all_options() {
        let (_network, mut one, mut two) = network(ASLEEP, options);
        for n in 0..300 {
            until("sleep", || one.transmit.is_awaited());
            one.rung = 0;
            one.send(mac(2), n);
            assert_eq!(one.rung, 1, "{options:?}");
            two.until_received(n);
        }
    }
}

/// Whatever it does when a frame comes, none is left behind; and after a burst it sleeps.
#[test]
fn no_frame_is_left_behind_between_polling_and_sleep() {
    for options in all_options() {
        let (_network, mut one, mut two) = network(ADAPTIVE, options);
        for n in 0..3000 {
            one.send(mac(2), n);
            two.until_received(n);
            // From none to some more than it waits.
            let pause = Duration::from_micros(u64::from(n % 80));
            let start = Instant::now();
            while start.elapsed() < pause {
                std::hint::spin_loop();
            }
        }
        for guest in [&one, &two] {
            until("sleep", || guest.transmit.is_awaited());
        }
    }
}

/// Frames that found no room wait for it, and nothing else has to happen for them to go on.
#[test]
fn frames_that_found_no_room_go_on_when_there_is_some() {
    for polling in [ASLEEP, ADAPTIVE, Polling::Always] {
        for options in all_options() {
            let (_network, mut one, mut two) = network(polling, options);
            let frames = 5 * u32::from(SIZE);
            for n in 0..frames {
                one.send(mac(2), n);
            }
            until("end of sending", || {
                while one.transmit.take_used().is_some() {}
                one.transmit.outstanding() == 0
            });
            for n in 0..frames {
                two.until_received(n);
            }
        }
    }
}

#[test]
fn commands_are_heard_however_much_a_guest_sends() {
    for polling in [ASLEEP, ADAPTIVE, Polling::Always] {
        let (network, mut one, mut two) = network(polling, all_options()[2]);
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut number = 0;
                while !done.load(Ordering::Relaxed) {
                    number += u32::from(one.try_send(mac(2), number));
                    while two.recv().is_some() {}
                    two.refill();
                }
            });
            for _ in 0..100 {
                assert_eq!(network.status().unwrap().attachments.len(), 2);
            }
            network.stop();
            done.store(true, Ordering::Relaxed);
        });
    }
}
