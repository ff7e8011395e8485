//! The same two guests on a whole network: its worker on core 0, with gateway, switch and bells, and both
//! drivers on core 1.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use net_benches::harness::{Unit, contender, pin, pin_thread, table};
use net_manager::{AttachOptions, Engine, Network, NetworkConfig, Polling};
use net_virtio::{Doorbell, VirtioNet};
use rustix::event::{EventfdFlags, eventfd};

use crate::guest::{Guest, RING};
use crate::latency::show;

/// The network's name, by which its thread is found.
const NAME: &str = "bench";
/// Frames of a turn of the flood.
const FRAMES: usize = 1 << 20;

const ASLEEP: Polling = Polling::UpTo(Duration::ZERO);

/// What a driver rings.
#[derive(Clone)]
struct Bell(Arc<OwnedFd>);

impl Bell {
    fn new() -> Self {
        let fd = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).expect("an eventfd");
        Self(Arc::new(fd))
    }

    fn ring(&self) {
        rustix::io::write(&*self.0, &1u64.to_ne_bytes()).expect("rings");
    }
}

impl Doorbell for Bell {
    fn source(&self) -> Option<BorrowedFd<'_>> {
        Some(self.0.as_fd())
    }

    fn clear(&mut self) {
        let _ = rustix::io::read(&*self.0, &mut [0; 8]);
    }
}

/// A network with two guests that know each other.
struct Lab {
    _network: Network,
    from: Guest,
    to: Guest,
    bells: [Bell; 2],
}

impl Lab {
    /// `wake` is called when the receiver is given a frame, if it is there; otherwise its driver polls.
    fn new(polling: Polling, wake: Option<Thread>) -> Self {
        let mut config = NetworkConfig::default();
        config.name = NAME.to_owned();
        config.engine = Engine::User;
        // Advertisements would come between what is counted.
        config.ipv6 = false;
        config.dns = vec!["192.0.2.53:53".parse().expect("an address")];
        config.polling = polling;
        // This thread has one of its own.
        config.processors = Some(2);
        let network = Network::new(config);
        network.start().expect("starts");
        // It gives itself its name.
        while !pin_thread(&format!("net-{NAME}"), 0) {
            thread::yield_now();
        }
        let buffers = RING.into();
        let (from, to) = (Guest::new(64, buffers, 1), Guest::new(64, buffers, 2));
        let receiver = match wake {
            Some(thread) => to.device_that_wakes(move || thread.unpark()),
            None => to.device(),
        };
        let bells = [(); 2].map(|()| Bell::new());
        let attach = |mut device: VirtioNet, bell: &Bell| {
            device.set_doorbell(Some(Box::new(bell.clone())));
            let options = AttachOptions::default();
            network.attach(Box::new(device), options).expect("attaches");
        };
        attach(from.device(), &bells[0]);
        attach(receiver, &bells[1]);
        let mut lab = Self {
            _network: network,
            from,
            to,
            bells,
        };
        // The switch hears of the receiver.
        lab.to.offer(1, 1);
        lab.bells[1].ring();
        while lab.from.given_back(0) == 0 {
            thread::yield_now();
        }
        lab
    }

    /// Sends frames when `pause` is over since the last arrived; `wait` is what the receiver does
    /// meanwhile.
    fn latencies(
        &mut self,
        frames: usize,
        pause: impl Fn(Instant),
        wait: impl Fn(),
    ) -> Vec<Duration> {
        let mut times = Vec::with_capacity(frames);
        for _ in 0..frames {
            self.to.refill(0);
            let start = Instant::now();
            self.from.offer(1, 1);
            if self.from.wants_kick(1) {
                self.bells[0].ring();
            }
            while self.to.given_back(0) == 0 {
                wait();
            }
            times.push(start.elapsed());
            pause(start);
        }
        times
    }

    /// The time for so many frames, sent as fast as they are taken; nobody receives.
    fn send(&mut self, frames: usize) -> Duration {
        let start = Instant::now();
        let mut sent = 0;
        while sent < frames {
            let some = self.from.given_back(1);
            if some >= RING / 4 {
                sent += usize::from(some);
                self.from.refill(1);
                if self.from.wants_kick(1) {
                    self.bells[0].ring();
                }
            }
        }
        start.elapsed()
    }

    /// The time for so many frames, sent and received as fast as can be.
    fn flood(&mut self, frames: usize) -> Duration {
        let start = Instant::now();
        let mut received = 0;
        while received < frames {
            if self.from.given_back(1) >= RING / 4 {
                self.from.refill(1);
                if self.from.wants_kick(1) {
                    self.bells[0].ring();
                }
            }
            let some = self.to.given_back(0);
            if some >= RING / 8 {
                received += usize::from(some);
                self.to.refill(0);
                if self.to.wants_kick(0) {
                    self.bells[1].ring();
                }
            }
        }
        start.elapsed()
    }
}

/// Runs `work` on core 1.
fn on_the_other_core<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            pin(1);
            work()
        });
        thread.join().expect("runs")
    })
}

/// Prints how long single frames take.
pub(crate) fn latency() {
    let polled = |polling, frames, gap: Duration| {
        on_the_other_core(move || {
            let mut lab = Lab::new(polling, None);
            let pause = |start: Instant| {
                while start.elapsed() < gap {
                    std::hint::spin_loop();
                }
            };
            lab.latencies(frames, pause, std::hint::spin_loop)
        })
    };
    let sleep = |_| thread::sleep(Duration::from_micros(50));
    show(
        "network: polled",
        polled(Polling::Always, 1 << 20, Duration::ZERO),
    );
    show(
        "network: as by default, each 20 us",
        polled(Polling::default(), 1 << 17, Duration::from_micros(20)),
    );
    show(
        "network: asleep, drivers poll",
        on_the_other_core(|| {
            let mut lab = Lab::new(ASLEEP, None);
            lab.latencies(1 << 14, sleep, std::hint::spin_loop)
        }),
    );
    show(
        "network: asleep, drivers too",
        on_the_other_core(|| {
            let mut lab = Lab::new(ASLEEP, Some(thread::current()));
            lab.latencies(1 << 14, sleep, thread::park)
        }),
    );
}

/// Prints how many frames a second pass.
pub(crate) fn flood(rounds: usize) {
    let turn = |polling| on_the_other_core(|| Lab::new(polling, None).flood(FRAMES));
    let contenders = vec![
        contender("never polled", || turn(ASLEEP)),
        contender("as by default", || turn(Polling::default())),
        contender("always polled", || turn(Polling::Always)),
    ];
    let title = "network-64: 64-byte frames from guest to guest through a network's worker";
    table(title, Unit::Millions, FRAMES as u64, rounds, contenders);
}

/// Prints how many frames a second are taken from a guest that does nothing but send.
pub(crate) fn send(rounds: usize) {
    let turn = |to| {
        on_the_other_core(move || {
            let mut lab = Lab::new(Polling::default(), None);
            lab.from.address(to);
            lab.send(FRAMES)
        })
    };
    let contenders = vec![
        contender("a guest that takes nothing", || turn([2, 0, 0, 0, 0, 2])),
        contender("everybody (broadcast)", || turn([0xff; 6])),
        contender("an address nobody has", || turn([2, 0, 0, 0, 0, 3])),
        contender("a link-local group", || turn([1, 0x80, 0xc2, 0, 0, 0])),
    ];
    let title = "network-send-64: 64-byte frames from a guest that does nothing but send, to";
    table(title, Unit::Millions, FRAMES as u64, rounds, contenders);
}
