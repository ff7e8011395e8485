//! Models of going to sleep beside a driver, in every interleaving and with every value that the memory
//! model lets a load see: `cargo xtask loom`.
//!
//! The words of a ring are loom's atomics, since those of the real rings lie in a guest's memory; the
//! handshake is the rings' own.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use loom::thread;

use super::handshake::say_then_look;
use super::passes;

/// Chains that the driver makes available, one after the other.
const CHAINS: u16 = 2;

/// What both sides see of a ring of either format, and the bell.
trait Words: Send + Sync + 'static {
    fn new() -> Self;

    /// The driver: shows one chain more than `shown`; whether the device wants to be told.
    fn show(&self, shown: u16) -> bool;

    /// The device: whether there is a chain behind those it has taken.
    fn is_there(&self, taken: u16) -> bool;

    /// The device: asks to be told; whether there is a chain already.
    fn enable(&self, taken: u16) -> bool;

    /// The device: asks not to be told.
    fn disable(&self, taken: u16);
}

struct Split {
    available: AtomicU16,
    event: AtomicU16,
}

impl Words for Split {
    fn new() -> Self {
        Self {
            available: AtomicU16::new(0),
            event: AtomicU16::new(0),
        }
    }

    fn show(&self, shown: u16) -> bool {
        say_then_look(
            || self.available.store(shown + 1, Ordering::Release),
            || passes(self.event.load(Ordering::Relaxed), shown + 1, shown),
        )
    }

    fn is_there(&self, taken: u16) -> bool {
        self.available.load(Ordering::Acquire) != taken
    }

    fn enable(&self, taken: u16) -> bool {
        say_then_look(
            || self.event.store(taken, Ordering::Relaxed),
            || self.is_there(taken),
        )
    }

    fn disable(&self, taken: u16) {
        self.event.store(taken.wrapping_sub(1), Ordering::Relaxed);
    }
}

const OFF: u16 = 1;
const AT: u16 = 2;

/// Without a wrap: the ring is longer than what is sent.
struct Packed {
    slots: [AtomicBool; CHAINS as usize + 1],
    offset: AtomicU16,
    flags: AtomicU16,
}

impl Words for Packed {
    fn new() -> Self {
        Self {
            slots: std::array::from_fn(|_| AtomicBool::new(false)),
            offset: AtomicU16::new(0),
            flags: AtomicU16::new(AT),
        }
    }

    fn show(&self, shown: u16) -> bool {
        say_then_look(
            || self.slots[usize::from(shown)].store(true, Ordering::Release),
            || match self.flags.load(Ordering::Acquire) {
                AT => passes(self.offset.load(Ordering::Relaxed), shown + 1, shown),
                flags => flags != OFF,
            },
        )
    }

    fn is_there(&self, taken: u16) -> bool {
        self.slots[usize::from(taken)].load(Ordering::Acquire)
    }

    fn enable(&self, taken: u16) -> bool {
        self.offset.store(taken, Ordering::Relaxed);
        say_then_look(
            || self.flags.store(AT, Ordering::Release),
            || self.is_there(taken),
        )
    }

    fn disable(&self, _taken: u16) {
        self.flags.store(OFF, Ordering::Relaxed);
    }
}

/// A device that polls `looks` times before each time it sleeps; whatever the driver does meanwhile, it
/// never sleeps over a chain that nobody rings for.
fn model<W: Words>(looks: usize) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(4);
    builder.check(move || {
        let words = Arc::new(W::new());
        let bell = Arc::new(AtomicU16::new(0));
        let driver = {
            let (words, bell) = (Arc::clone(&words), Arc::clone(&bell));
            thread::spawn(move || {
                for shown in 0..CHAINS {
                    if words.show(shown) {
                        bell.fetch_add(1, Ordering::AcqRel);
                    }
                }
            })
        };
        let (mut taken, mut heard) = (0, 0);
        loop {
            words.disable(taken);
            for _ in 0..looks {
                taken += u16::from(words.is_there(taken));
            }
            if words.enable(taken) {
                taken += 1;
                continue;
            }
            // Asleep until the bell has been rung once more than was heard.
            let rung = bell.load(Ordering::Acquire);
            if rung == heard {
                break;
            }
            heard = rung;
        }
        driver.join().unwrap();
        // Nothing more happens: it sleeps for good, unless the bell was rung meanwhile.
        let rung = bell.load(Ordering::Acquire) != heard;
        assert!(
            taken == CHAINS || rung,
            "asleep, with {taken} chains taken of {CHAINS}"
        );
    });
}

#[test]
fn models_of_a_split_ring_that_is_polled_and_sleeps() {
    model::<Split>(0);
    model::<Split>(1);
}

#[test]
fn models_of_a_packed_ring_that_is_polled_and_sleeps() {
    model::<Packed>(0);
    model::<Packed>(1);
}
