//! Ring and pool in every interleaving that loom can find:
//! `RUSTFLAGS="--cfg loom" cargo test -p net-datapath --release --test loom`.
//!
//! The slots of a ring are watched by the crate itself in this configuration; the bytes of pool
//! buffers by the cells of [`Watched`], one for each buffer.
#![cfg(loom)]

use loom::cell::UnsafeCell;
use loom::model::Builder;
use loom::sync::Arc;
use loom::thread;
use net_datapath::pool::{PacketBuf, PacketPool, PoolConfig};
use net_datapath::ring::LockFreeRing;

/// Runs the model with at most `preemptions` involuntary switches (three find all known kinds of
/// bug in practice), or in full.
fn model(preemptions: Option<usize>, work: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = preemptions;
    builder.check(work);
}

#[test]
fn ring_scalar() {
    for capacity in [1, 2, 3] {
        model(Some(4), move || {
            let (mut tx, mut rx) = LockFreeRing::with_capacity(capacity);
            let producer = thread::spawn(move || {
                for item in 0..3 {
                    let mut item = Box::new(item);
                    while let Err(full) = tx.push(item) {
                        item = full.into_inner();
                        thread::yield_now();
                    }
                }
            });
            for want in 0..3 {
                let got = loop {
                    if let Some(item) = rx.pop() {
                        break item;
                    }
                    thread::yield_now();
                };
                assert_eq!(*got, want);
            }
            assert!(rx.pop().is_none());
            producer.join().unwrap();
        });
    }
}

#[test]
fn ring_lazy_and_flush() {
    model(Some(4), || {
        // Windows of two.
        let (mut tx, mut rx) = LockFreeRing::with_capacity(8);
        let producer = thread::spawn(move || {
            for item in 0..3 {
                tx.push_lazy(item).unwrap();
            }
            tx.flush();
            tx
        });
        let mut next = 0;
        while next < 3 {
            match rx.pop_lazy() {
                Some(item) => {
                    assert_eq!(item, next);
                    next += 1;
                }
                None => thread::yield_now(),
            }
        }
        rx.flush();
        assert_eq!(producer.join().unwrap().free(), 8);
    });
}

#[test]
fn ring_lazy_goes_on_when_full_and_when_empty() {
    // Nobody flushes by hand: being full and being empty must do.
    model(Some(3), || {
        let (mut tx, mut rx) = LockFreeRing::with_capacity(1);
        let producer = thread::spawn(move || {
            for item in 0..2 {
                while tx.push_lazy(item).is_err() {
                    thread::yield_now();
                }
            }
        });
        for want in 0..2 {
            loop {
                match rx.pop_lazy() {
                    Some(item) => {
                        assert_eq!(item, want);
                        break;
                    }
                    None => thread::yield_now(),
                }
            }
        }
        producer.join().unwrap();
    });
}

#[test]
fn ring_batches_and_chunks() {
    model(Some(3), || {
        let (mut tx, mut rx) = LockFreeRing::with_capacity(3);
        let producer = thread::spawn(move || {
            let mut sent = tx.push_slice(&[0, 1]) as u32;
            while sent < 5 {
                let mut chunk = tx.write_chunk(2);
                if chunk.is_empty() {
                    thread::yield_now();
                }
                while !chunk.is_empty() && sent < 5 {
                    chunk.push(sent).unwrap();
                    sent += 1;
                }
            }
        });
        let mut next = 0;
        while next < 5 {
            let mut out = [9; 2];
            let popped = rx.pop_slice(&mut out);
            for &item in &out[..popped] {
                assert_eq!(item, next);
                next += 1;
            }
            let chunk = rx.read_chunk(2);
            if chunk.is_empty() && popped == 0 {
                thread::yield_now();
            }
            for item in chunk {
                assert_eq!(item, next);
                next += 1;
            }
        }
        producer.join().unwrap();
    });
}

#[test]
fn ring_closing() {
    model(None, || {
        let (mut tx, mut rx) = LockFreeRing::with_capacity(8);
        let producer = thread::spawn(move || {
            // Kept back until the drop shows it.
            tx.push_lazy(Box::new(1)).unwrap();
        });
        let mut got = 0;
        while !rx.is_finished() {
            match rx.pop() {
                Some(_) => got += 1,
                None => thread::yield_now(),
            }
        }
        assert_eq!(got, 1, "finished means that nothing was missed");
        producer.join().unwrap();
    });
}

#[test]
fn ring_dropped_by_either_side_last() {
    model(None, || {
        let token = Arc::new(());
        let (mut tx, rx) = LockFreeRing::with_capacity(2);
        tx.push(token.clone()).unwrap();
        let in_flight = token.clone();
        let producer = thread::spawn(move || {
            tx.push_lazy(in_flight).unwrap();
        });
        drop(rx);
        producer.join().unwrap();
        assert_eq!(Arc::strong_count(&token), 1);
    });
}

/// A pool whose buffers are watched.
struct Watched {
    pool: PacketPool,
    cells: Arc<Vec<UnsafeCell<u32>>>,
}

// SAFETY: the cells are accessed by the owner of the buffer of the same index only, and loom
// complains if that is not so.
unsafe impl Send for Watched {}
// SAFETY: as above.
unsafe impl Sync for Watched {}

impl Clone for Watched {
    fn clone(&self) -> Self {
        Self {
            pool: self.pool.clone(),
            cells: self.cells.clone(),
        }
    }
}

impl Watched {
    fn new(buffers: usize) -> Self {
        Self {
            pool: PacketPool::new(PoolConfig {
                buffers,
                buffer_size: 1,
                headroom: 0,
            })
            .unwrap(),
            cells: Arc::new((0..buffers).map(|_| UnsafeCell::new(0)).collect()),
        }
    }

    /// Writes as the owner of `buf`.
    fn touch(&self, buf: &PacketBuf) {
        // SAFETY: see above; loom checks it.
        self.cells[buf.index()].with_mut(|n| unsafe { *n += 1 });
    }

    /// Reads as an owner of the buffer `index`.
    fn look(&self, index: usize) -> u32 {
        // SAFETY: see above; loom checks it.
        self.cells[index].with(|n| unsafe { *n })
    }
}

#[test]
fn pool_never_says_empty_while_a_buffer_is_free() {
    model(Some(3), || {
        let watched = Watched::new(3);
        let other = watched.clone();
        let work = |watched: Watched, rounds: u32| {
            for _ in 0..rounds {
                let buf = watched.pool.alloc().expect("one is free at all times");
                watched.touch(&buf);
            }
        };
        let thread = thread::spawn(move || work(other, 2));
        work(watched.clone(), 1);
        thread.join().unwrap();
        assert_eq!(watched.pool.available(), 3);
    });
}

#[test]
fn pool_hands_a_buffer_over() {
    model(None, || {
        let watched = Watched::new(1);
        let buf = watched.pool.alloc().unwrap();
        watched.touch(&buf);
        let other = watched.clone();
        let thread = thread::spawn(move || {
            other.touch(&buf);
            drop(buf);
        });
        // Gone or not yet: both are right. If it came, the other's writes came with it.
        if let Some(buf) = watched.pool.alloc() {
            watched.touch(&buf);
            assert_eq!(watched.look(0), 3);
        }
        thread.join().unwrap();
        assert_eq!(watched.pool.available(), 1);
    });
}

#[test]
fn pool_batches() {
    model(Some(2), || {
        let watched = Watched::new(4);
        let other = watched.clone();
        let work = |watched: &Watched, wanted: usize| {
            let mut bufs: Vec<PacketBuf> = Vec::new();
            let got = watched.pool.alloc_batch(&mut bufs, wanted);
            bufs.iter().for_each(|buf| watched.touch(buf));
            watched.pool.free_batch(bufs);
            got
        };
        let thread = thread::spawn(move || work(&other, 2));
        assert_eq!(work(&watched, 2), 2);
        assert_eq!(thread.join().unwrap(), 2);
        assert_eq!((watched.pool.available(), watched.pool.exhausted()), (4, 0));
    });
}

#[test]
fn pool_ends_once() {
    // Loom reports a leak of the pool's atomics, and a use after the end of them.
    model(None, || {
        let watched = Watched::new(2);
        let one = watched.pool.alloc().unwrap();
        let two = watched.pool.alloc().unwrap();
        let thread = thread::spawn(move || drop(one));
        drop(watched);
        drop(two);
        thread.join().unwrap();
    });
}

#[test]
fn shared_buffer_returns_once() {
    model(None, || {
        let watched = Watched::new(1);
        let buf = watched.pool.alloc().unwrap();
        watched.touch(&buf);
        let shared = buf.into_shared();
        let (other, clone) = (watched.clone(), shared.clone());
        let thread = thread::spawn(move || {
            assert_eq!(other.look(0), 1);
            drop(clone);
        });
        match shared.into_unique() {
            // The other's look happened before this write.
            Ok(buf) => watched.touch(&buf),
            Err(shared) => drop(shared),
        }
        if let Some(buf) = watched.pool.alloc() {
            watched.touch(&buf);
        }
        thread.join().unwrap();
        assert_eq!(watched.pool.available(), 1);
    });
}

#[test]
fn caches_answer_the_hungry() {
    model(Some(2), || {
        let watched = Watched::new(3);
        let other = watched.clone();
        let thread = thread::spawn(move || {
            let cache = other.pool.cache(2);
            for _ in 0..2 {
                // The other holds one and caches at most one.
                let buf = cache
                    .alloc()
                    .expect("fewer than three are out or cached elsewhere");
                other.touch(&buf);
                cache.free(buf);
            }
        });
        let cache = watched.pool.cache(1);
        let buf = cache
            .alloc()
            .expect("fewer than three are out or cached elsewhere");
        watched.touch(&buf);
        cache.free(buf);
        drop(cache);
        thread.join().unwrap();
        assert_eq!(watched.pool.available(), 3);
    });
}
