//! Counters of the workers, written by one thread each and read by anybody.
//!
//! | type | is |
//! |---|---|
//! | [`DatapathStats`] | the reader; clone it freely |
//! | [`WorkerStats`] | one worker's counters, to be written by that worker alone |
//! | [`Snapshot`] | the counters as plain numbers at one moment; subtract two for what happened between |
//! | [`DropReason`] | why a packet went no further |
//!
//! A counter has one writer, so counting is a load and a store, not an atomic addition, and each
//! worker's counters have cache lines of their own. A reader only loads. Each number is exact at the
//! moment it is read; numbers read together may be some packets apart.
//!
//! ```
//! use core::time::Duration;
//! use net_datapath::stats::{DatapathStats, DropReason};
//!
//! let (stats, mut workers) = DatapathStats::new(2);
//! let before = stats.snapshot();
//! workers[0].received(32, 48_000);
//! workers[1].dropped(DropReason::RingFull, 2);
//! let delta = stats.snapshot().since(&before);
//! assert_eq!((delta.rx_packets, delta.drops(DropReason::RingFull)), (32, 2));
//! assert_eq!(delta.rates(Duration::from_millis(500)).rx_bits, 768_000.0);
//! ```

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::Cell;
use core::fmt;
use core::marker::PhantomData;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;

use crossbeam_utils::CachePadded;

/// Why a packet went no further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DropReason {
    /// Shorter than its headers say, or otherwise not a packet.
    Malformed,
    /// A checksum that had to hold did not.
    Checksum,
    /// A protocol or an offload that nobody asked for.
    Unsupported,
    /// Longer than the way allows, and not to be cut.
    TooBig,
    /// Its hop count ran out.
    HopLimit,
    /// Nowhere to send it.
    NoRoute,
    /// A rule refused it: spoofed, isolated, filtered.
    Policy,
    /// The sender has used up what it may have.
    Quota,
    /// No room in a table for what it needs.
    TableFull,
    /// No free packet buffer.
    NoBuffer,
    /// The next queue was full.
    RingFull,
    /// The other side has gone.
    Closed,
}

impl DropReason {
    /// All reasons, in the order of their counters.
    pub const ALL: [Self; 12] = [
        Self::Malformed,
        Self::Checksum,
        Self::Unsupported,
        Self::TooBig,
        Self::HopLimit,
        Self::NoRoute,
        Self::Policy,
        Self::Quota,
        Self::TableFull,
        Self::NoBuffer,
        Self::RingFull,
        Self::Closed,
    ];

    /// A short name for logs and metrics: lower case, words joined by `_`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Checksum => "checksum",
            Self::Unsupported => "unsupported",
            Self::TooBig => "too_big",
            Self::HopLimit => "hop_limit",
            Self::NoRoute => "no_route",
            Self::Policy => "policy",
            Self::Quota => "quota",
            Self::TableFull => "table_full",
            Self::NoBuffer => "no_buffer",
            Self::RingFull => "ring_full",
            Self::Closed => "closed",
        }
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Number of drop reasons.
const REASONS: usize = DropReason::ALL.len();

/// Buckets of the batch-size histogram: 0, 1, 2-3, 4-7, ... 128-255, 256 and more.
pub const BATCH_BUCKETS: usize = 10;

/// The bucket that counts batches of `size` packets.
#[inline]
#[must_use]
pub const fn batch_bucket(size: usize) -> usize {
    // 0 has no bits, 1 has one, 2 and 3 have two, and so on.
    let bits = (usize::BITS - size.leading_zeros()) as usize;
    if bits < BATCH_BUCKETS {
        bits
    } else {
        BATCH_BUCKETS - 1
    }
}

/// One worker's counters.
struct Counters {
    rx_packets: AtomicU64,
    rx_bytes: AtomicU64,
    tx_packets: AtomicU64,
    tx_bytes: AtomicU64,
    batches: [AtomicU64; BATCH_BUCKETS],
    drops: [AtomicU64; REASONS],
}

impl Counters {
    fn new() -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            rx_packets: zero(),
            rx_bytes: zero(),
            tx_packets: zero(),
            tx_bytes: zero(),
            batches: core::array::from_fn(|_| zero()),
            drops: core::array::from_fn(|_| zero()),
        }
    }

    fn read(&self) -> Snapshot {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Snapshot {
            rx_packets: get(&self.rx_packets),
            rx_bytes: get(&self.rx_bytes),
            tx_packets: get(&self.tx_packets),
            tx_bytes: get(&self.tx_bytes),
            batches: core::array::from_fn(|i| get(&self.batches[i])),
            drops: core::array::from_fn(|i| get(&self.drops[i])),
        }
    }
}

/// Adds to a counter of which the caller is the only writer.
#[inline(always)]
fn add(counter: &AtomicU64, n: u64) {
    counter.store(
        counter.load(Ordering::Relaxed).wrapping_add(n),
        Ordering::Relaxed,
    );
}

/// The counters of one worker, written by whoever holds this. `Send`, not `Clone`, not `Sync`: one
/// writer.
pub struct WorkerStats {
    all: Arc<[CachePadded<Counters>]>,
    worker: usize,
    _one_thread: PhantomData<Cell<()>>,
}

// SAFETY: the counters are atomics; the marker only denies `Sync`.
unsafe impl Send for WorkerStats {}

impl WorkerStats {
    #[inline(always)]
    fn counters(&self) -> &Counters {
        &self.all[self.worker]
    }

    /// Which worker this is, from 0.
    #[must_use]
    pub fn worker(&self) -> usize {
        self.worker
    }

    /// Packets came in, with this many bytes together.
    #[inline]
    pub fn received(&mut self, packets: u64, bytes: u64) {
        let counters = self.counters();
        add(&counters.rx_packets, packets);
        add(&counters.rx_bytes, bytes);
    }

    /// Packets went out, with this many bytes together.
    #[inline]
    pub fn sent(&mut self, packets: u64, bytes: u64) {
        let counters = self.counters();
        add(&counters.tx_packets, packets);
        add(&counters.tx_bytes, bytes);
    }

    /// Packets went no further.
    #[inline]
    pub fn dropped(&mut self, reason: DropReason, packets: u64) {
        add(&self.counters().drops[reason as usize], packets);
    }

    /// A look at a queue gave a batch of this size; 0 for a look in vain.
    #[inline]
    pub fn batch(&mut self, size: usize) {
        add(&self.counters().batches[batch_bucket(size)], 1);
    }
}

impl fmt::Debug for WorkerStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerStats")
            .field("worker", &self.worker)
            .field("counters", &self.counters().read())
            .finish()
    }
}

/// Reads the counters of all workers.
#[derive(Clone)]
pub struct DatapathStats {
    all: Arc<[CachePadded<Counters>]>,
}

impl DatapathStats {
    /// Zeroed counters for `workers` workers: the reader, and one writer each.
    #[must_use]
    pub fn new(workers: usize) -> (Self, Vec<WorkerStats>) {
        let all: Vec<_> = (0..workers)
            .map(|_| CachePadded::new(Counters::new()))
            .collect();
        let all: Arc<[_]> = Arc::from(all);
        let writers = (0..workers)
            .map(|worker| WorkerStats {
                all: all.clone(),
                worker,
                _one_thread: PhantomData,
            })
            .collect();
        (Self { all }, writers)
    }

    /// Number of workers.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.all.len()
    }

    /// The counters of one worker now; `None` when there is no such worker.
    #[must_use]
    pub fn worker(&self, worker: usize) -> Option<Snapshot> {
        self.all.get(worker).map(|counters| counters.read())
    }

    /// The sum over all workers now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.all.iter().fold(Snapshot::default(), |sum, counters| {
            sum.zip(&counters.read(), u64::wrapping_add)
        })
    }
}

impl fmt::Debug for DatapathStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatapathStats")
            .field("workers", &self.workers())
            .field("sum", &self.snapshot())
            .finish()
    }
}

/// Counters as plain numbers: since the start, or between two moments. They wrap at 2^64.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Packets that came in.
    pub rx_packets: u64,
    /// Bytes that came in.
    pub rx_bytes: u64,
    /// Packets that went out.
    pub tx_packets: u64,
    /// Bytes that went out.
    pub tx_bytes: u64,
    /// Batches by size; see [`batch_bucket`].
    pub batches: [u64; BATCH_BUCKETS],
    drops: [u64; REASONS],
}

impl Snapshot {
    /// What happened after `earlier` was taken.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        self.zip(earlier, u64::wrapping_sub)
    }

    /// Packets dropped for this reason.
    #[must_use]
    pub fn drops(&self, reason: DropReason) -> u64 {
        self.drops[reason as usize]
    }

    /// Packets dropped for any reason.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.drops.iter().fold(0, |sum, &n| sum.wrapping_add(n))
    }

    /// These numbers per second, if they happened within `elapsed`; zeros when that is zero.
    #[must_use]
    pub fn rates(&self, elapsed: Duration) -> Rates {
        let seconds = elapsed.as_secs_f64();
        let per_second = |n: u64| {
            if seconds > 0.0 {
                n as f64 / seconds
            } else {
                0.0
            }
        };
        Rates {
            rx_packets: per_second(self.rx_packets),
            rx_bits: per_second(self.rx_bytes) * 8.0,
            tx_packets: per_second(self.tx_packets),
            tx_bits: per_second(self.tx_bytes) * 8.0,
            drops: per_second(self.dropped()),
        }
    }

    fn zip(&self, other: &Self, op: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            rx_packets: op(self.rx_packets, other.rx_packets),
            rx_bytes: op(self.rx_bytes, other.rx_bytes),
            tx_packets: op(self.tx_packets, other.tx_packets),
            tx_bytes: op(self.tx_bytes, other.tx_bytes),
            batches: core::array::from_fn(|i| op(self.batches[i], other.batches[i])),
            drops: core::array::from_fn(|i| op(self.drops[i], other.drops[i])),
        }
    }
}

/// A [`Snapshot`] per second.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Rates {
    /// Packets in.
    pub rx_packets: f64,
    /// Bits in.
    pub rx_bits: f64,
    /// Packets out.
    pub tx_packets: f64,
    /// Bits out.
    pub tx_bits: f64,
    /// Packets dropped.
    pub drops: f64,
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn buckets() {
        let sizes = [0, 1, 2, 3, 4, 7, 8, 127, 128, 255, 256, usize::MAX];
        let buckets = sizes.map(batch_bucket);
        assert_eq!(buckets, [0, 1, 2, 2, 3, 3, 4, 7, 8, 8, 9, 9]);
    }

    #[test]
    fn every_reason_has_its_own_counter_and_name() {
        let (stats, mut workers) = DatapathStats::new(1);
        for (i, reason) in DropReason::ALL.into_iter().enumerate() {
            workers[0].dropped(reason, i as u64 + 1);
        }
        let snapshot = stats.snapshot();
        for (i, reason) in DropReason::ALL.into_iter().enumerate() {
            assert_eq!(snapshot.drops(reason), i as u64 + 1);
            assert_eq!(
                DropReason::ALL
                    .iter()
                    .filter(|r| r.name() == reason.name())
                    .count(),
                1
            );
        }
        assert_eq!(snapshot.dropped(), (REASONS * (REASONS + 1) / 2) as u64);
    }

    #[test]
    fn workers_add_up_and_differences_wrap() {
        let (stats, mut workers) = DatapathStats::new(3);
        for (i, worker) in workers.iter_mut().enumerate() {
            assert_eq!(worker.worker(), i);
            worker.received(1, 60);
            worker.sent(2, 3000);
            worker.batch(5);
        }
        let one = stats.worker(1).unwrap();
        assert_eq!((one.rx_packets, one.tx_bytes, one.batches[3]), (1, 3000, 1));
        assert!(stats.worker(3).is_none());
        let before = stats.snapshot();
        assert_eq!(
            (before.rx_packets, before.rx_bytes, before.batches[3]),
            (3, 180, 3)
        );
        workers[2].received(u64::MAX, 7);
        let delta = stats.snapshot().since(&before);
        assert_eq!(
            (delta.rx_packets, delta.rx_bytes, delta.tx_packets),
            (u64::MAX, 7, 0)
        );
    }

    #[test]
    fn rates_are_per_second() {
        let snapshot = Snapshot {
            rx_packets: 10,
            rx_bytes: 1000,
            tx_packets: 4,
            tx_bytes: 1,
            ..Snapshot::default()
        };
        let rates = snapshot.rates(Duration::from_millis(250));
        assert_eq!(
            (
                rates.rx_packets,
                rates.rx_bits,
                rates.tx_packets,
                rates.tx_bits
            ),
            (40.0, 32_000.0, 16.0, 32.0)
        );
        assert_eq!(snapshot.rates(Duration::ZERO), Rates::default());
    }
}
