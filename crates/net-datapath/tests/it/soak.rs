//! Two threads, a bounded number of steps, and everything accounted for. Run under a sanitizer these
//! are also a race detector.

use net_datapath::pool::{PacketBuf, PacketPool, PoolCache, PoolConfig};
use net_datapath::ring::{Consumer, LockFreeRing, Producer};
use net_datapath::stats::DatapathStats;
use std::sync::Barrier;
use std::thread;

/// Fewer when a sanitizer or an interpreter makes each of them dear.
const STEPS: u64 = if cfg!(miri) { 300 } else { 200_000 };

/// A small generator of its own: the two sides must not share one.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

/// An item on the heap: a torn or repeated read would be noticed by its value or by the allocator.
fn item(n: u64) -> Box<[u64; 3]> {
    Box::new([n, !n, n.rotate_left(7)])
}

fn produce(tx: &mut Producer<Box<[u64; 3]>>, count: u64) {
    let mut random = Random(0x9e37_79b9);
    let mut next = 0;
    while next < count {
        let before = next;
        match random.below(4) {
            0 => next += u64::from(tx.push(item(next)).is_ok()),
            1 => next += u64::from(tx.push_lazy(item(next)).is_ok()),
            2 => {
                let end = (next + random.below(90)).min(count);
                next += tx.push_iter((next..end).map(item)) as u64;
            }
            _ => {
                let mut chunk = tx.write_chunk(random.below(90) as usize);
                while !chunk.is_empty() && next < count {
                    chunk.push(item(next)).expect("a slot is left");
                    next += 1;
                }
            }
        }
        if next == before {
            thread::yield_now();
        }
    }
}

fn consume(rx: &mut Consumer<Box<[u64; 3]>>) -> u64 {
    let mut random = Random(0x1234_5678);
    let mut next = 0;
    let mut expect = |got: &[u64; 3]| {
        assert_eq!(*got, *item(next), "in order, once, whole");
        next += 1;
    };
    let mut out = Vec::new();
    while !rx.is_finished() {
        if rx.is_empty() {
            thread::yield_now();
        }
        match random.below(4) {
            0 => rx.pop().iter().for_each(|i| expect(i)),
            1 => rx.pop_lazy().iter().for_each(|i| expect(i)),
            2 => {
                rx.pop_into(&mut out, random.below(90) as usize);
                out.drain(..).for_each(|i| expect(&i));
            }
            _ => {
                let mut chunk = rx.read_chunk(random.below(90) as usize);
                let (first, second) = chunk.as_slices();
                first.iter().chain(second).for_each(|i| expect(i));
                chunk.consume(chunk.len());
            }
        }
    }
    next
}

#[test]
fn a_ring_between_two_threads() {
    for capacity in [1, 2, 3, 7, 64, 1000] {
        let (mut tx, mut rx) = LockFreeRing::with_capacity(capacity);
        let count = if capacity < 64 { STEPS / 10 } else { STEPS };
        let producer = thread::spawn(move || produce(&mut tx, count));
        assert_eq!(consume(&mut rx), count);
        producer.join().unwrap();
    }
}

#[test]
fn a_half_may_move_between_threads() {
    let (mut tx, mut rx) = LockFreeRing::with_capacity(16);
    for round in 0..20 {
        tx = thread::spawn(move || {
            assert_eq!(tx.push_slice(&[round; 10]), 10);
            tx
        })
        .join()
        .unwrap();
        rx = thread::spawn(move || {
            assert!(rx.read_chunk(16).eq([round; 10]));
            rx
        })
        .join()
        .unwrap();
    }
}

fn pool(buffers: usize) -> PacketPool {
    PacketPool::new(PoolConfig {
        buffers,
        buffer_size: 128,
        headroom: 16,
    })
    .expect("a small pool")
}

/// Writes a mark over the whole content; another owner at the same time would be seen.
fn mark(buf: &mut PacketBuf, with: u8) {
    buf.set_len(64).expect("fits");
    buf.fill(with);
}

#[test]
fn never_a_false_empty() {
    // Four buffers and two threads that have at most one each: two are free at every moment.
    for buffers in [3, 4, 65, 130] {
        let pool = pool(buffers);
        let start = Barrier::new(2);
        thread::scope(|scope| {
            for with in [1, 2] {
                let (pool, start) = (pool.clone(), &start);
                scope.spawn(move || {
                    start.wait();
                    for _ in 0..STEPS {
                        let mut buf = pool.alloc().expect("buffers are free at all times");
                        mark(&mut buf, with);
                        assert!(buf.iter().all(|&b| b == with));
                    }
                });
            }
        });
        assert_eq!((pool.available(), pool.exhausted()), (buffers, 0));
    }
}

#[test]
fn never_a_false_empty_with_caches() {
    // At most 20 in use by each of two threads, and the other's cache holds at most 32.
    const CACHE: usize = 32;
    const HELD: u64 = 20;
    let buffers = CACHE + 2 * HELD as usize;
    let pool = pool(buffers);
    let start = Barrier::new(2);
    thread::scope(|scope| {
        for with in [1u8, 2] {
            let (pool, start) = (pool.clone(), &start);
            scope.spawn(move || {
                let cache = pool.cache(CACHE);
                let mut random = Random(u64::from(with));
                let mut held: Vec<PacketBuf> = Vec::new();
                start.wait();
                for _ in 0..STEPS / 10 {
                    for _ in held.len() as u64..=random.below(HELD) {
                        let mut buf = cache.alloc().expect("enough buffers are free at all times");
                        mark(&mut buf, with);
                        held.push(buf);
                    }
                    assert!(held.iter().all(|buf| buf.iter().all(|&b| b == with)));
                    cache.free_batch(held.drain(random.below(held.len() as u64) as usize..));
                }
            });
        }
    });
    assert_eq!((pool.available(), pool.exhausted()), (buffers, 0));
}

/// How buffers come from the pool and go back to it.
#[derive(Clone, Copy)]
enum Way {
    Singly,
    /// More than half a tray: these go on trays.
    Batches,
    /// Of so many buffers; from 32 on they exchange trays with the pool.
    Cache(usize),
}

impl Way {
    fn cache(self, pool: &PacketPool) -> Option<PoolCache> {
        match self {
            Way::Cache(capacity) => Some(pool.cache(capacity)),
            Way::Singly | Way::Batches => None,
        }
    }
}

fn send(pool: &PacketPool, way: Way, mut tx: Producer<PacketBuf>, count: u64) {
    let cache = way.cache(pool);
    let mut fresh = Vec::new();
    let mut sent = 0u64;
    while sent < count {
        match (way, &cache) {
            (Way::Batches, _) => {
                pool.alloc_batch(&mut fresh, (count - sent).min(32) as usize);
            }
            (_, Some(cache)) => fresh.extend(cache.alloc()),
            (_, None) => fresh.extend(pool.alloc()),
        }
        if fresh.is_empty() {
            thread::yield_now();
        }
        for mut buf in fresh.drain(..) {
            buf.extend_from_slice(&sent.to_le_bytes()).expect("fits");
            while let Err(full) = tx.push_lazy(buf) {
                buf = full.into_inner();
                thread::yield_now();
            }
            sent += 1;
        }
    }
}

/// Returns how many came.
fn receive(pool: &PacketPool, way: Way, mut rx: Consumer<PacketBuf>) -> u64 {
    let cache = way.cache(pool);
    let mut used = Vec::new();
    let mut next = 0u64;
    while !rx.is_finished() {
        let Some(buf) = rx.pop_lazy() else {
            pool.free_batch(used.drain(..));
            thread::yield_now();
            continue;
        };
        assert_eq!(&buf[..], next.to_le_bytes());
        next += 1;
        match (way, &cache) {
            (Way::Batches, _) => used.push(buf),
            (_, Some(cache)) => cache.free(buf),
            (_, None) => drop(buf),
        }
        if used.len() == 32 {
            pool.free_batch(used.drain(..));
        }
    }
    next
}

#[test]
fn some_allocate_and_others_free() {
    const RING: usize = 64;
    for way in [Way::Singly, Way::Batches, Way::Cache(16), Way::Cache(64)] {
        for pairs in [1, 2] {
            // Rings and caches cannot hold all, but all that is on trays goes through few of them.
            let buffers = pairs * (RING + 64 + 32 + 4);
            let pool = pool(buffers);
            let count = STEPS / pairs as u64;
            thread::scope(|scope| {
                let mut threads = Vec::new();
                for _ in 0..pairs {
                    let pool = &pool;
                    let (tx, rx) = LockFreeRing::with_capacity(RING);
                    threads.push(scope.spawn(move || send(pool, way, tx, count)));
                    threads.push(scope.spawn(move || {
                        assert_eq!(receive(pool, way, rx), count);
                    }));
                }
                // One by one: the end of a scope is in the standard library, which the sanitizer
                // does not see into, and the end of a thread is not.
                for thread in threads {
                    thread.join().unwrap();
                }
            });
            assert_eq!(pool.available(), buffers);
        }
    }
}

#[test]
fn a_flooded_buffer_is_read_by_all_and_returns_once() {
    let pool = pool(8);
    let (mut tx, mut rx) = LockFreeRing::with_capacity(4);
    let reader = thread::spawn(move || {
        let mut count = 0u64;
        while !rx.is_finished() {
            for shared in rx.read_chunk(4) {
                let shared: net_datapath::SharedBuf = shared;
                assert!(shared.iter().all(|&b| b == shared[0]));
                count += 1;
            }
            thread::yield_now();
        }
        count
    });
    let mut flooded = 0;
    for n in 0..STEPS / 10 {
        let Some(mut buf) = pool.alloc() else {
            thread::yield_now();
            continue;
        };
        mark(&mut buf, n as u8);
        let shared = buf.into_shared();
        if tx.push(shared.clone()).is_ok() {
            flooded += 1;
        }
        assert!(shared.iter().all(|&b| b == n as u8));
        // Write to it again if the reader has already let go.
        if let Ok(mut again) = shared.into_unique() {
            again.fill(0);
        }
    }
    drop(tx);
    assert_eq!(reader.join().unwrap(), flooded);
    assert_eq!(pool.available(), 8);
}

#[test]
fn a_pool_ends_with_whatever_is_last() {
    for _ in 0..STEPS / 200 {
        let pool = pool(2);
        let buf = pool.alloc().expect("nothing is out");
        let shared = pool.alloc().expect("one is out").into_shared();
        let clone = shared.clone();
        let thread = thread::spawn(move || drop((buf, clone)));
        drop(pool);
        drop(shared);
        thread.join().unwrap();
    }
}

#[test]
fn counters_are_read_while_they_are_written() {
    let (stats, mut workers) = DatapathStats::new(1);
    let mut worker = workers.remove(0);
    let writer = thread::spawn(move || {
        for _ in 0..STEPS {
            worker.received(1, 100);
        }
    });
    let mut last = stats.snapshot();
    while !writer.is_finished() {
        let now = stats.snapshot();
        assert!(now.rx_packets >= last.rx_packets && now.rx_bytes >= last.rx_bytes);
        last = now;
    }
    writer.join().unwrap();
    assert_eq!(stats.snapshot().rx_bytes, STEPS * 100);
}
