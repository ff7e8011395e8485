//! Rings of u64 between two pinned threads.

use std::hint::{black_box, spin_loop};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_queue::ArrayQueue;
use net_datapath::LockFreeRing;

use net_benches::harness::{Options, Unit, alone, contender, table, together, work};

const BATCH: usize = 64;

/// Batches of 64, by each library's ways.
pub(crate) fn batch(options: &Options) {
    const ITEMS: u64 = 8 << 20;
    for capacity in [256, 1024, 4096, 65536] {
        let contenders = vec![
            contender("net-datapath slices", || ours_slices(capacity, ITEMS)),
            contender("net-datapath chunks in place", || {
                ours_chunks(capacity, ITEMS)
            }),
            contender("rtrb slices", || rtrb_slices(capacity, ITEMS)),
            contender("rtrb chunks in place", || rtrb_chunks(capacity, ITEMS)),
            contender("arcbox-datapath batches", || {
                arcbox_batches(capacity, ITEMS)
            }),
        ];
        let title = format!("ring, u64, batches of {BATCH}, capacity {capacity}");
        table(&title, Unit::Millions, ITEMS, options.rounds, contenders);
    }
}

fn ours_slices(capacity: usize, items: u64) -> Duration {
    let (mut tx, mut rx) = LockFreeRing::with_capacity(capacity);
    together(
        move || {
            let mut batch = [0u64; BATCH];
            let mut sent = 0;
            while sent < items {
                batch[0] = sent;
                let mut rest = &black_box(&batch)[..];
                while !rest.is_empty() {
                    let n = tx.push_slice(rest);
                    if n == 0 {
                        spin_loop();
                    }
                    rest = &rest[n..];
                }
                sent += BATCH as u64;
            }
        },
        move || {
            let mut batch = [0u64; BATCH];
            let mut got = 0;
            while got < items {
                let n = rx.pop_slice(&mut batch);
                if n == 0 {
                    spin_loop();
                }
                black_box(&batch);
                got += n as u64;
            }
        },
    )
}

fn ours_chunks(capacity: usize, items: u64) -> Duration {
    let (mut tx, mut rx) = LockFreeRing::with_capacity(capacity);
    together(
        move || {
            let mut sent = 0;
            while sent < items {
                let mut chunk = tx.write_chunk(BATCH);
                let n = chunk.len();
                if n == 0 {
                    spin_loop();
                }
                let (first, second) = chunk.as_uninit_slices();
                let mut item = sent;
                for slot in first.iter_mut() {
                    slot.write(item);
                    item += 1;
                }
                for slot in second.iter_mut() {
                    slot.write(item);
                    item += 1;
                }
                // SAFETY: both runs have just been filled.
                unsafe { chunk.advance(n) };
                sent += n as u64;
            }
        },
        move || {
            let (mut got, mut sum) = (0, 0u64);
            while got < items {
                let chunk = rx.read_chunk(BATCH);
                let n = chunk.len();
                if n == 0 {
                    spin_loop();
                }
                let (first, second) = chunk.as_slices();
                sum = sum.wrapping_add(first.iter().fold(0, |a, b| a ^ b));
                sum = sum.wrapping_add(second.iter().fold(0, |a, b| a ^ b));
                chunk.consume_all();
                got += n as u64;
            }
            black_box(sum);
        },
    )
}

fn rtrb_slices(capacity: usize, items: u64) -> Duration {
    let (mut tx, mut rx) = rtrb::RingBuffer::new(capacity);
    together(
        move || {
            let mut batch = [0u64; BATCH];
            let mut sent = 0;
            while sent < items {
                batch[0] = sent;
                let mut rest = &black_box(&batch)[..];
                while !rest.is_empty() {
                    let (pushed, left) = tx.push_partial_slice(rest);
                    if pushed.is_empty() {
                        spin_loop();
                    }
                    rest = left;
                }
                sent += BATCH as u64;
            }
        },
        move || {
            let mut batch = [0u64; BATCH];
            let mut got = 0;
            while got < items {
                let n = rx.pop_partial_slice(&mut batch).0.len();
                if n == 0 {
                    spin_loop();
                }
                black_box(&batch);
                got += n as u64;
            }
        },
    )
}

fn rtrb_chunks(capacity: usize, items: u64) -> Duration {
    let (mut tx, mut rx) = rtrb::RingBuffer::<u64>::new(capacity);
    together(
        move || {
            let mut sent = 0;
            while sent < items {
                let Ok(mut chunk) = tx.write_chunk_uninit(BATCH) else {
                    spin_loop();
                    continue;
                };
                let (first, second) = chunk.as_mut_slices();
                let mut item = sent;
                for slot in first.iter_mut() {
                    slot.write(item);
                    item += 1;
                }
                for slot in second.iter_mut() {
                    slot.write(item);
                    item += 1;
                }
                // SAFETY: both runs have just been filled.
                unsafe { chunk.commit_all() };
                sent += BATCH as u64;
            }
        },
        move || {
            let (mut got, mut sum) = (0, 0u64);
            while got < items {
                let Ok(chunk) = rx.read_chunk(BATCH) else {
                    spin_loop();
                    continue;
                };
                let (first, second) = chunk.as_slices();
                sum = sum.wrapping_add(first.iter().fold(0, |a, b| a ^ b));
                sum = sum.wrapping_add(second.iter().fold(0, |a, b| a ^ b));
                chunk.commit_all();
                got += BATCH as u64;
            }
            black_box(sum);
        },
    )
}

fn arcbox_batches(capacity: usize, items: u64) -> Duration {
    let ring = arcbox_datapath::LockFreeRing::new(capacity);
    let (tx, rx) = (&ring, &ring);
    together(
        move || {
            let mut batch = [0u64; BATCH];
            let mut sent = 0;
            while sent < items {
                batch[0] = sent;
                let mut rest = &black_box(&batch)[..];
                while !rest.is_empty() {
                    let n = tx.enqueue_batch(rest);
                    if n == 0 {
                        spin_loop();
                    }
                    rest = &rest[n..];
                }
                sent += BATCH as u64;
            }
        },
        move || {
            let mut batch = [0u64; BATCH];
            let mut got = 0;
            while got < items {
                let n = rx.dequeue_batch(&mut batch);
                if n == 0 {
                    spin_loop();
                }
                black_box(&batch);
                got += n as u64;
            }
        },
    )
}

/// A producer and a consumer of single items with work on either side.
fn singles(
    items: u64,
    work_at: [bool; 2],
    mut push: impl FnMut(u64) -> bool + Send,
    mut pop: impl FnMut() -> Option<u64> + Send,
) -> Duration {
    together(
        move || {
            let mut x = 1;
            for item in 0..items {
                if work_at[0] {
                    x = work(x);
                }
                while !push(item ^ (x & 1)) {
                    spin_loop();
                }
            }
            black_box(x);
        },
        move || {
            let (mut got, mut x) = (0, 1);
            while got < items {
                match pop() {
                    Some(item) => {
                        x ^= item;
                        if work_at[1] {
                            x = work(x);
                        }
                        got += 1;
                    }
                    None => spin_loop(),
                }
            }
            black_box(x);
        },
    )
}

/// Sixteen items in, sixteen out, on one thread: what the calls cost without a second core.
fn one_thread(options: &Options) {
    const ITEMS: u64 = 1 << 20;
    macro_rules! run {
        ($tx:ident, $rx:ident, $push:expr, $pop:expr) => {
            alone(move || {
                for round in 0..ITEMS / 16 {
                    for i in 0..16 {
                        black_box($push(&mut $tx, round ^ i));
                    }
                    for _ in 0..16 {
                        black_box($pop(&mut $rx));
                    }
                }
            })
        };
    }
    let contenders = vec![
        contender("net-datapath push and pop", || {
            let (mut tx, mut rx) = LockFreeRing::with_capacity(64);
            run!(
                tx,
                rx,
                |tx: &mut net_datapath::Producer<u64>, i| tx.push(i).is_ok(),
                |rx: &mut net_datapath::Consumer<u64>| rx.pop()
            )
        }),
        contender("net-datapath lazy", || {
            let (mut tx, mut rx) = LockFreeRing::with_capacity(64);
            run!(
                tx,
                rx,
                |tx: &mut net_datapath::Producer<u64>, i| tx.push_lazy(i).is_ok(),
                |rx: &mut net_datapath::Consumer<u64>| rx.pop_lazy()
            )
        }),
        contender("rtrb push and pop", || {
            let (mut tx, mut rx) = rtrb::RingBuffer::new(64);
            run!(
                tx,
                rx,
                |tx: &mut rtrb::Producer<u64>, i| tx.push(i).is_ok(),
                |rx: &mut rtrb::Consumer<u64>| rx.pop().ok()
            )
        }),
    ];
    let title = "ring, u64, sixteen in and sixteen out, one thread (each pair)";
    table(title, Unit::Nanoseconds, ITEMS, options.rounds, contenders);
}

/// One item at a time, in the three regimes.
pub(crate) fn scalar(options: &Options) {
    const ITEMS: u64 = 1 << 20;
    one_thread(options);
    for (regime, work_at) in [
        ("both busy", [false, false]),
        ("producer faster", [false, true]),
        ("consumer faster", [true, false]),
    ] {
        for capacity in [1024, 16384] {
            let contenders = vec![
                contender("net-datapath lazy", || {
                    let (tx, mut rx) = LockFreeRing::with_capacity(capacity);
                    lazy(ITEMS, work_at, tx, move || rx.pop_lazy())
                }),
                contender("net-datapath push and pop", || {
                    let (mut tx, mut rx) = LockFreeRing::with_capacity(capacity);
                    singles(
                        ITEMS,
                        work_at,
                        move |i| tx.push(i).is_ok(),
                        move || rx.pop(),
                    )
                }),
                contender("rtrb push and pop", || {
                    let (mut tx, mut rx) = rtrb::RingBuffer::new(capacity);
                    singles(
                        ITEMS,
                        work_at,
                        move |i| tx.push(i).is_ok(),
                        move || rx.pop().ok(),
                    )
                }),
                contender("arcbox-datapath enqueue, dequeue", || {
                    let ring = arcbox_datapath::LockFreeRing::new(capacity);
                    let (tx, rx) = (&ring, &ring);
                    singles(ITEMS, work_at, |i| tx.enqueue(i).is_ok(), || rx.dequeue())
                }),
                contender("crossbeam ArrayQueue", || {
                    let queue = ArrayQueue::new(capacity);
                    let (tx, rx) = (&queue, &queue);
                    singles(ITEMS, work_at, |i| tx.push(i).is_ok(), || rx.pop())
                }),
            ];
            let title = format!("ring, u64, one at a time, {regime}, capacity {capacity}");
            table(&title, Unit::Millions, ITEMS, options.rounds, contenders);
        }
    }
}

/// The lazy calls. The producer's end, and with it what it kept back, goes with the closure.
fn lazy(
    items: u64,
    work_at: [bool; 2],
    mut tx: net_datapath::Producer<u64>,
    pop: impl FnMut() -> Option<u64> + Send,
) -> Duration {
    singles(items, work_at, move |item| tx.push_lazy(item).is_ok(), pop)
}

/// There and back over two rings: the distribution of single trips.
pub(crate) fn roundtrip(options: &Options) {
    const TRIPS: usize = 100_000;
    println!("\nring, u64, round trip over two rings of 64");
    println!("  {:<34} {:>10} {:>10} {:>10}", "ns", "p50", "p99", "p99.9");
    let mut ours = Vec::new();
    let mut theirs = Vec::new();
    let mut queue = Vec::new();
    for _ in 0..options.rounds {
        let (mut out, mut there) = LockFreeRing::with_capacity(64);
        let (mut back, mut home) = LockFreeRing::with_capacity(64);
        trips(
            &mut ours,
            TRIPS,
            move |i| out.push(i).expect("has room"),
            move || home.pop(),
            move || there.pop(),
            move |i| back.push(i).expect("has room"),
        );
        let (mut out, mut there) = rtrb::RingBuffer::new(64);
        let (mut back, mut home) = rtrb::RingBuffer::new(64);
        trips(
            &mut theirs,
            TRIPS,
            move |i| out.push(i).expect("has room"),
            move || home.pop().ok(),
            move || there.pop().ok(),
            move |i| back.push(i).expect("has room"),
        );
        let (to, fro) = (Arc::new(ArrayQueue::new(64)), Arc::new(ArrayQueue::new(64)));
        let (to2, fro2) = (to.clone(), fro.clone());
        trips(
            &mut queue,
            TRIPS,
            move |i| to.push(i).expect("has room"),
            move || fro.pop(),
            move || to2.pop(),
            move |i| fro2.push(i).expect("has room"),
        );
    }
    for (name, rounds) in [
        ("net-datapath", ours),
        ("rtrb", theirs),
        ("crossbeam ArrayQueue", queue),
    ] {
        let median = |of: fn(&[u64; 3]) -> u64| {
            let mut all: Vec<u64> = rounds.iter().map(of).collect();
            all.sort_unstable();
            all[all.len() / 2]
        };
        println!(
            "  {name:<34} {:>10} {:>10} {:>10}",
            median(|r| r[0]),
            median(|r| r[1]),
            median(|r| r[2])
        );
    }
}

fn trips(
    results: &mut Vec<[u64; 3]>,
    count: usize,
    mut send: impl FnMut(u64) + Send,
    mut receive: impl FnMut() -> Option<u64> + Send,
    mut far_receive: impl FnMut() -> Option<u64> + Send,
    mut far_send: impl FnMut(u64) + Send,
) {
    let stop = AtomicBool::new(false);
    let mut times = Vec::with_capacity(count);
    together(
        || {
            for i in 0..count as u64 {
                let start = Instant::now();
                send(i);
                while receive().is_none() {
                    spin_loop();
                }
                times.push(start.elapsed().as_nanos() as u64);
            }
            stop.store(true, Ordering::Relaxed);
        },
        || {
            while !stop.load(Ordering::Relaxed) {
                match far_receive() {
                    Some(item) => far_send(item),
                    None => spin_loop(),
                }
            }
        },
    );
    times.sort_unstable();
    results.push([500, 990, 999].map(|p| times[times.len() * p / 1000]));
}
