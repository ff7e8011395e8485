//! When the worker asks rings and when it sleeps, in simulated time; and that no frame is left behind
//! whenever it comes.

use std::time::Duration;

use super::spin::{Spin, Step};
use crate::config::Polling;

const MOST: Polling = Polling::UpTo(Duration::from_micros(50));
const NEVER: Polling = Polling::UpTo(Duration::ZERO);

fn us(us: u64) -> Duration {
    Duration::from_micros(us)
}

/// The time from work at `from` until the worker sleeps, where nothing comes any more and each step
/// takes `each`.
fn awake(spin: &mut Spin, from: Duration, each: Duration) -> Duration {
    spin.found(from);
    let mut now = from;
    while spin.step(now) != Step::Wait {
        now += each;
        assert!(now - from < Duration::from_secs(1), "it never sleeps");
    }
    now - from
}

/// Work that comes every `gap`, `times` over; how long it is awake after the last.
fn after(spin: &mut Spin, start: Duration, gap: Duration, times: u32) -> Duration {
    let mut last = Duration::ZERO;
    for n in 0..times {
        last = awake(spin, start + gap * n, us(1));
    }
    last
}

#[test]
fn a_guest_that_sends_once_in_a_while_is_never_asked() {
    let mut spin = Spin::new(MOST, 8);
    for n in 0..100 {
        assert_eq!(awake(&mut spin, us(1000 * n), us(1)), Duration::ZERO);
    }
}

#[test]
fn who_answers_soon_is_waited_for_as_long_as_that_takes_and_no_longer() {
    let mut spin = Spin::new(MOST, 8);
    // Windows of 10, 20 and 40 µs; the last is enough.
    assert_eq!(after(&mut spin, us(0), us(30), 20), us(40) + us(1));
    // Never longer than it may.
    assert_eq!(after(&mut spin, us(10_000), us(49), 20), us(50) + us(1));
    // What comes later than that is not waited for, and soon not looked for.
    assert_eq!(after(&mut spin, us(20_000), us(60), 20), Duration::ZERO);
}

#[test]
fn asking_in_vain_costs_twice_the_longest_time_at_most() {
    let mut spin = Spin::new(MOST, 8);
    after(&mut spin, us(0), us(49), 20);
    let mut vain = Duration::ZERO;
    for n in 1..100 {
        vain += awake(&mut spin, us(10_000 * n), Duration::from_nanos(100));
    }
    assert!(vain <= us(100), "{vain:?}");
    assert!(vain >= us(25), "it gave up at once: {vain:?}");
}

#[test]
fn on_one_processor_and_where_it_is_off_nobody_is_asked() {
    for (polling, processors) in [(MOST, 1), (NEVER, 8)] {
        let mut spin = Spin::new(polling, processors);
        assert_eq!(after(&mut spin, us(0), us(1), 100), Duration::ZERO);
    }
}

#[test]
fn everything_else_has_its_turn_however_much_a_guest_sends() {
    for polling in [MOST, Polling::Always] {
        let mut spin = Spin::new(polling, 8);
        spin.set_peers(true);
        let (mut looked, mut now) = (us(0), us(0));
        for _ in 0..10_000 {
            spin.found(now);
            match spin.step(now) {
                Step::Wait | Step::All => looked = now,
                _ => assert!(now - looked <= us(7), "{now:?}, last {looked:?}"),
            }
            now += us(1);
        }
    }
}

#[test]
fn always_is_as_long_as_there_is_a_guest() {
    let mut spin = Spin::new(Polling::Always, 1);
    assert_eq!(spin.step(us(0)), Step::Wait);
    spin.set_peers(true);
    assert_eq!(spin.step(us(1)), Step::Begin);
    assert_eq!(spin.step(us(2)), Step::Rings);
    assert_eq!(spin.step(us(10)), Step::All);
    assert_eq!(spin.step(Duration::from_secs(3600)), Step::All);
    spin.set_peers(false);
    let now = Duration::from_secs(3601);
    assert!(spin.is_spinning());
    assert_eq!(spin.step(now), Step::End);
    assert_eq!(spin.step(now), Step::Wait);
}

/// A ring and its bell, by the contract of `NetworkBackend::set_polling`; the driver does what it does
/// before the operations of the worker whose numbers are in `sends`.
struct World {
    sends: Vec<usize>,
    operations: usize,
    sent: usize,
    taken: usize,
    polling: bool,
    asked: bool,
    bell: bool,
}

impl World {
    fn new(sends: &[usize]) -> Self {
        Self {
            sends: sends.to_vec(),
            operations: 0,
            sent: 0,
            taken: 0,
            polling: false,
            asked: true,
            bell: false,
        }
    }

    /// Before each thing that worker and driver can see of each other.
    fn operation(&mut self) {
        while self.sends.contains(&self.operations) {
            self.sends.retain(|at| *at != self.operations);
            self.send();
        }
        self.operations += 1;
    }

    fn send(&mut self) {
        self.sent += 1;
        // An event index is passed once.
        self.bell |= std::mem::take(&mut self.asked);
    }

    fn look(&mut self) -> bool {
        self.operation();
        let some = self.sent > self.taken;
        self.taken += usize::from(some);
        some
    }

    fn receive(&mut self) -> bool {
        if self.look() {
            return true;
        }
        if self.polling {
            return false;
        }
        self.operation();
        self.asked = true;
        self.look()
    }

    fn set_polling(&mut self, polling: bool) {
        self.operation();
        self.asked &= !polling;
        self.polling = polling;
    }
}

/// What the worker does at each step, until it sleeps for good.
fn run(world: &mut World, polling: Polling) {
    let mut spin = Spin::new(polling, 8);
    spin.set_peers(true);
    let (mut pending, mut now) = (true, us(1));
    for _ in 0..200 {
        now += us(3);
        match spin.step(now) {
            Step::Wait => {
                world.operation();
                if !pending && !std::mem::take(&mut world.bell) {
                    if world.sends.is_empty() {
                        return;
                    }
                    continue;
                }
            }
            Step::Begin => world.set_polling(true),
            Step::End => world.set_polling(false),
            Step::Rings | Step::All => {}
        }
        pending = world.receive();
        if pending {
            spin.found(now);
        }
    }
}

#[test]
fn no_frame_is_left_behind_whenever_it_comes() {
    for polling in [NEVER, Polling::UpTo(us(12)), MOST, Polling::Always] {
        for first in 0..40 {
            for second in first + 1..60 {
                for third in [second + 1, second + 2, second + 9] {
                    let mut world = World::new(&[first, second, third]);
                    run(&mut world, polling);
                    let order = [first, second, third];
                    assert_eq!(world.sent, 3, "{polling:?} {order:?}");
                    assert_eq!(world.taken, 3, "{polling:?} {order:?}");
                }
            }
        }
    }
}
