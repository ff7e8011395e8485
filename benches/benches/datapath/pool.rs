//! Pools of 4,096 buffers of 2 KiB: allocate and free, on one thread, on two, and across.

use std::cell::Cell;
use std::hint::{black_box, spin_loop};
use std::num::NonZeroU64;
use std::time::Duration;

use crossbeam_queue::ArrayQueue;
use net_datapath::pool::{PacketPool, PoolConfig};
use net_datapath::{Consumer, LockFreeRing, Producer};

use net_benches::harness::{Options, Unit, alone, contender, table, together};

const BUFFERS: usize = 4096;
const CACHE: usize = 64;
const PAIRS: u64 = 1 << 20;

fn ours() -> PacketPool {
    PacketPool::new(PoolConfig {
        buffers: BUFFERS,
        buffer_size: 2048,
        headroom: 128,
    })
    .expect("8 MiB")
}

fn theirs() -> arcbox_datapath::PacketPool {
    arcbox_datapath::PacketPool::new(BUFFERS).expect("8 MiB")
}

/// A queue of indices is what one would build with crossbeam.
fn queue() -> ArrayQueue<u32> {
    let queue = ArrayQueue::new(BUFFERS);
    for index in 0..BUFFERS as u32 {
        queue.push(index).expect("has room");
    }
    queue
}

/// What takes turns in allocating and freeing.
struct Peers {
    pool: PacketPool,
    arcbox: arcbox_datapath::PacketPool,
    queue: ArrayQueue<u32>,
}

impl Peers {
    fn new() -> Self {
        Self {
            pool: ours(),
            arcbox: theirs(),
            queue: queue(),
        }
    }

    fn with_cache(&self) {
        let cache = self.pool.cache(CACHE);
        for _ in 0..PAIRS {
            if let Some(buf) = cache.alloc() {
                cache.free(black_box(buf));
            }
        }
    }

    fn entered(&self) {
        let cache = self.pool.cache(CACHE);
        cache.enter(|| self.shared());
    }

    fn shared(&self) {
        for _ in 0..PAIRS {
            if let Some(buf) = self.pool.alloc() {
                drop(black_box(buf));
            }
        }
    }

    fn arcbox(&self) {
        for _ in 0..PAIRS {
            if let Some(buf) = self.arcbox.alloc() {
                drop(black_box(buf));
            }
        }
    }

    fn queue(&self) {
        for _ in 0..PAIRS {
            if let Some(index) = self.queue.pop() {
                let _ = self.queue.push(black_box(index));
            }
        }
    }
}

/// What is left without a pool: a place of one handle, emptied and filled, and the handle's way
/// through memory that `black_box` makes it take.
fn kept_handles() {
    let place = Cell::new(Some((NonZeroU64::MIN, 2u64)));
    for _ in 0..PAIRS {
        if let Some(handle) = place.take() {
            place.set(Some(black_box(handle)));
        }
    }
}

pub(crate) fn one(options: &Options) {
    let peers = Peers::new();
    let contenders = vec![
        contender("net-datapath, cache", || alone(|| peers.with_cache())),
        contender("net-datapath, entered cache", || alone(|| peers.entered())),
        contender("net-datapath, shared list", || alone(|| peers.shared())),
        contender("arcbox-datapath", || alone(|| peers.arcbox())),
        contender("crossbeam ArrayQueue", || alone(|| peers.queue())),
        contender("no pool: 16 bytes kept in turn", || alone(kept_handles)),
    ];
    let title = "pool, allocate and free, one thread";
    table(title, Unit::Nanoseconds, PAIRS, options.rounds, contenders);
}

pub(crate) fn two(options: &Options) {
    let peers = Peers::new();
    let both = |work: fn(&Peers)| together(|| work(&peers), || work(&peers));
    let contenders = vec![
        contender("net-datapath, cache", || both(Peers::with_cache)),
        contender("net-datapath, entered cache", || both(Peers::entered)),
        contender("net-datapath, shared list", || both(Peers::shared)),
        contender("arcbox-datapath", || both(Peers::arcbox)),
        contender("crossbeam ArrayQueue", || both(Peers::queue)),
    ];
    let title = "pool, allocate and free, two threads at once (each pair of either)";
    table(title, Unit::Nanoseconds, PAIRS, options.rounds, contenders);
}

pub(crate) fn handed_over(options: &Options) {
    let Peers {
        pool,
        arcbox,
        queue,
    } = &Peers::new();
    let contenders = vec![
        contender("net-datapath, caches", || {
            let (tx, rx) = LockFreeRing::with_capacity(1024);
            let (alloc, free) = (pool.cache(CACHE), pool.cache(CACHE));
            across(
                PAIRS,
                tx,
                rx,
                move || alloc.alloc(),
                move |buf| free.free(buf),
            )
        }),
        contender("net-datapath, shared list", || {
            let (tx, rx) = LockFreeRing::with_capacity(1024);
            across(PAIRS, tx, rx, || pool.alloc(), drop)
        }),
        contender("net-datapath, batches of 32", || batches(PAIRS, pool)),
        contender("arcbox-datapath", || {
            let (tx, rx) = LockFreeRing::with_capacity(1024);
            across(
                PAIRS,
                tx,
                rx,
                || arcbox.alloc_index(),
                |index| {
                    // SAFETY: the index was allocated by the other thread and is freed once.
                    unsafe { arcbox.free_by_index(index) };
                },
            )
        }),
        contender("crossbeam ArrayQueue", || {
            let (tx, rx) = LockFreeRing::with_capacity(1024);
            across(
                PAIRS,
                tx,
                rx,
                || queue.pop(),
                |index| {
                    let _ = queue.push(index);
                },
            )
        }),
        contender("the ring alone, 4 bytes", || only_the_ring(1u32)),
        contender("the ring alone, 16 bytes", || only_the_ring([1u64; 2])),
        contender("the ring alone, 32 bytes", || only_the_ring([1u64; 4])),
    ];
    let title = "pool, one thread allocates, the other frees (with the ring between them)";
    table(title, Unit::Nanoseconds, PAIRS, options.rounds, contenders);
}

/// What it costs to hear that there is no buffer.
pub(crate) fn empty(options: &Options) {
    const TRIES: u64 = 1 << 14;
    let drained = |buffers| {
        let pool = PacketPool::new(PoolConfig {
            buffers,
            buffer_size: 64,
            headroom: 0,
        })
        .expect("a few MiB");
        let mut all = Vec::new();
        pool.alloc_batch(&mut all, buffers);
        (pool, all)
    };
    let (small, large) = (drained(BUFFERS), drained(16 * BUFFERS));
    let tries = |pool: &PacketPool| {
        alone(|| {
            for _ in 0..TRIES {
                black_box(pool.alloc());
            }
        })
    };
    let contenders = vec![
        contender("net-datapath, 4,096 buffers", || tries(&small.0)),
        contender("net-datapath, 65,536 buffers", || tries(&large.0)),
    ];
    let title = "pool, an allocation that fails, one thread";
    table(title, Unit::Nanoseconds, TRIES, options.rounds, contenders);
}

/// One thread allocates and sends, the other receives and frees.
fn across<T: Send>(
    count: u64,
    mut tx: Producer<T>,
    mut rx: Consumer<T>,
    alloc: impl Fn() -> Option<T> + Send,
    free: impl Fn(T) + Send,
) -> Duration {
    together(
        move || {
            for _ in 0..count {
                let mut item = loop {
                    match alloc() {
                        Some(item) => break item,
                        None => {
                            tx.flush();
                            spin_loop();
                        }
                    }
                };
                while let Err(full) = tx.push_lazy(item) {
                    item = full.into_inner();
                    spin_loop();
                }
            }
        },
        move || {
            let mut got = 0;
            while got < count {
                match rx.pop_lazy() {
                    Some(item) => {
                        free(item);
                        got += 1;
                    }
                    None => spin_loop(),
                }
            }
        },
    )
}

/// What the ring costs for items of this size.
fn only_the_ring<T: Copy + Send + Sync>(item: T) -> Duration {
    let (tx, rx) = LockFreeRing::with_capacity(1024);
    let take = move || Some(black_box(item));
    across(PAIRS, tx, rx, take, |item| {
        black_box(item);
    })
}

/// The same in batches.
fn batches(count: u64, pool: &PacketPool) -> Duration {
    let (mut tx, mut rx) = LockFreeRing::with_capacity(1024);
    together(
        move || {
            let mut bufs = Vec::with_capacity(32);
            let mut sent = 0;
            while sent < count {
                let wanted = (32 - bufs.len()).min((count - sent) as usize);
                pool.alloc_batch(&mut bufs, wanted);
                let n = tx.push_iter(bufs.drain(..));
                if n == 0 {
                    spin_loop();
                }
                sent += n as u64;
            }
        },
        move || {
            let mut got = 0;
            while got < count {
                let chunk = rx.read_chunk(32);
                let n = chunk.len();
                if n == 0 {
                    spin_loop();
                }
                pool.free_batch(chunk);
                got += n as u64;
            }
        },
    )
}
