//! Ring and pool in every interleaving that loom can find:
//! `cargo xtask loom`, which is `cargo test --release --test loom` with `RUSTFLAGS="--cfg loom"`.
//!
//! The slots of a ring are watched by the crate itself in this configuration; the bytes of pool
//! buffers by the cells of [`Watched`], one for each buffer.
#![cfg(loom)]

use loom::cell::UnsafeCell;
use loom::model::Builder;
use loom::sync::Arc;
use loom::thread;
use net_datapath::pool::model::List;
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

/// The owner of a pool's memory: when the pool ends it writes to all cells, so that loom finds any use
/// of the pool that is not ordered before that; and it counts its own end.
struct Ending {
    cells: Arc<Vec<UnsafeCell<u32>>>,
    ended: std::sync::Arc<std::sync::atomic::AtomicU32>,
}

// SAFETY: as for `Watched`.
unsafe impl Send for Ending {}
// SAFETY: as for `Watched`.
unsafe impl Sync for Ending {}

impl Drop for Ending {
    fn drop(&mut self) {
        for cell in self.cells.iter() {
            // SAFETY: the pool has ended; loom checks that nobody else is there.
            cell.with_mut(|n| unsafe { *n = 99 });
        }
        self.ended.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    }
}

#[repr(align(128))]
struct Memory([u8; 1024]);

/// A watched pool whose end is watched too.
fn ending(buffers: usize, memory: &mut Memory) -> (Watched, impl Fn() -> u32 + use<>) {
    let cells: Arc<Vec<_>> = Arc::new((0..buffers).map(|_| UnsafeCell::new(0)).collect());
    let ended = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
    let owner = Ending {
        cells: cells.clone(),
        ended: ended.clone(),
    };
    let config = PoolConfig {
        buffers,
        buffer_size: 1,
        headroom: 0,
    };
    // SAFETY: initialised, and used by nobody else; the caller keeps it until the pool has ended.
    let pool = unsafe { PacketPool::with_memory(config, (&mut memory.0[..]).into(), owner) };
    let watched = Watched {
        pool: pool.unwrap(),
        cells,
    };
    (watched, move || {
        ended.load(std::sync::atomic::Ordering::SeqCst)
    })
}

#[test]
fn pool_ends_after_its_buffers() {
    model(None, || {
        let mut memory = Memory([0; 1024]);
        let (Watched { pool, cells }, ended) = ending(3, &mut memory);
        let one = pool.alloc().unwrap();
        let two = pool.alloc().unwrap();
        let thread = thread::spawn(move || {
            // SAFETY: the owner of the buffer; loom checks it.
            cells[one.index()].with_mut(|n| unsafe { *n += 1 });
            drop(one);
        });
        drop(pool);
        drop(two);
        thread.join().unwrap();
        assert_eq!(ended(), 1);
    });
}

#[test]
fn pool_ends_with_its_handle_or_its_only_buffer() {
    model(None, || {
        let mut memory = Memory([0; 1024]);
        let (Watched { pool, cells }, ended) = ending(1, &mut memory);
        let buf = pool.alloc().unwrap();
        let thread = thread::spawn(move || {
            // SAFETY: the owner of the buffer; loom checks it.
            cells[0].with_mut(|n| unsafe { *n += 1 });
            drop(buf);
        });
        drop(pool);
        thread.join().unwrap();
        assert_eq!(ended(), 1);
    });
}

#[test]
fn pool_ends_after_its_handles() {
    model(None, || {
        let mut memory = Memory([0; 1024]);
        let (watched, ended) = ending(1, &mut memory);
        let Watched { pool, cells } = watched.clone();
        let thread = thread::spawn(move || {
            // No buffer passes: the handles alone must order this before the end.
            // SAFETY: nobody writes but the end; loom checks it.
            cells[0].with(|n| unsafe { *n });
            drop(pool);
        });
        drop(watched);
        thread.join().unwrap();
        assert_eq!(ended(), 1);
    });
}

#[test]
fn pool_search_is_not_fooled_by_a_buffer_that_moves() {
    // Three words. One buffer is free, in the first; the other thread has one of the last. It gives
    // that back behind the searcher's eyes and takes the other one from under its nose: there is a
    // free buffer at every moment, yet no word shows one when it is looked at.
    model(Some(3), || {
        let pool = PacketPool::new(PoolConfig {
            buffers: 65,
            buffer_size: 1,
            headroom: 0,
        })
        .unwrap();
        let mut bufs: Vec<Option<PacketBuf>> = Vec::new();
        let mut all: Vec<PacketBuf> = Vec::new();
        assert_eq!(pool.alloc_batch(&mut all, 65), 65);
        // Found empty once, in earnest: what was learnt then must not be believed later.
        assert!(pool.alloc().is_none());
        all.sort_by_key(PacketBuf::index);
        bufs.extend(all.into_iter().map(Some));
        let (searcher, mover) = (pool.cache(1), pool.cache(1));
        // Lets the searcher begin at the second word. One buffer alone does not go on a tray.
        searcher.free(bufs[40].take().unwrap());
        searcher.flush();
        bufs[40] = searcher.alloc();
        // The mover begins at the first.
        drop(bufs[0].take());
        let last = bufs[64].take();
        let thread = thread::spawn(move || {
            drop(last);
            drop(mover.alloc().expect("one is free"));
        });
        drop(searcher.alloc().expect("one is free at every moment"));
        thread.join().unwrap();
        assert_eq!(pool.exhausted(), 1);
    });
}

// In models a tray carries two buffers.

/// Two buffers of a pool, freed into `cache` as a batch that overflows it or is flushed.
fn two_go_on_a_tray(watched: &Watched, bufs: Vec<PacketBuf>) {
    assert_eq!(bufs.len(), 2);
    bufs.iter().for_each(|buf| watched.touch(buf));
    let cache = watched.pool.cache(3);
    cache.free_batch(bufs);
    cache.flush();
}

#[test]
fn a_tray_is_given_by_one_and_taken_by_another() {
    model(None, || {
        let watched = Watched::new(2);
        let mut bufs = Vec::new();
        assert_eq!(watched.pool.alloc_batch(&mut bufs, 2), 2);
        let other = watched.clone();
        let thread = thread::spawn(move || two_go_on_a_tray(&other, bufs));
        let cache = watched.pool.cache(2);
        // Both or none: they come together, and with the other's writes.
        if let Some(buf) = cache.alloc() {
            watched.touch(&buf);
            assert_eq!(watched.look(buf.index()), 2);
            let second = watched.pool.alloc().expect("gave both at once");
            watched.touch(&second);
            assert_eq!(watched.look(second.index()), 2);
            cache.free(second);
        }
        thread.join().unwrap();
        drop(cache);
        assert_eq!(watched.pool.available(), 2);
    });
}

#[test]
fn a_tray_is_filled_again_while_a_taker_reads_it() {
    // One tray. The taker may read entries of the first filling, of the second, or of both mixed; it
    // must not believe a mixture.
    model(Some(3), || {
        let watched = Watched::new(3);
        let mut bufs = Vec::new();
        assert_eq!(watched.pool.alloc_batch(&mut bufs, 3), 3);
        let rest = bufs.split_off(2);
        two_go_on_a_tray(&watched, bufs);
        let other = watched.clone();
        let thread = thread::spawn(move || {
            let mut bufs = rest;
            let got = other.pool.alloc_batch(&mut bufs, 1);
            if got == 1 {
                two_go_on_a_tray(&other, bufs);
            } else {
                drop(bufs);
            }
        });
        // Kept, so that the second comes from the tray again; one is there at least for the first.
        let first = watched.pool.alloc().expect("at most two are elsewhere");
        watched.touch(&first);
        let second = watched.pool.alloc();
        if let Some(second) = &second {
            assert_ne!(first.index(), second.index());
            watched.touch(second);
        }
        thread.join().unwrap();
        drop((first, second));
        assert_eq!(watched.pool.available(), 3);
    });
}

#[test]
fn two_takers_share_a_tray() {
    model(Some(3), || {
        let watched = Watched::new(2);
        let mut bufs = Vec::new();
        assert_eq!(watched.pool.alloc_batch(&mut bufs, 2), 2);
        two_go_on_a_tray(&watched, bufs);
        let other = watched.clone();
        let work = |watched: &Watched| {
            let buf = watched.pool.alloc().expect("the other takes one of two");
            watched.touch(&buf);
        };
        let thread = thread::spawn(move || work(&other));
        work(&watched);
        thread.join().unwrap();
        assert_eq!((watched.pool.available(), watched.pool.exhausted()), (2, 0));
    });
}

#[test]
fn two_givers_want_the_same_tray() {
    model(Some(3), || {
        let watched = Watched::new(4);
        let mut bufs = Vec::new();
        assert_eq!(watched.pool.alloc_batch(&mut bufs, 4), 4);
        let (rest, other) = (bufs.split_off(2), watched.clone());
        let thread = thread::spawn(move || other.pool.free_batch(rest));
        watched.pool.free_batch(bufs);
        thread.join().unwrap();
        bufs = Vec::new();
        assert_eq!(watched.pool.alloc_batch(&mut bufs, 5), 4);
        let mut all: Vec<_> = bufs.iter().map(PacketBuf::index).collect();
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2, 3]);
    });
}

#[test]
fn search_is_not_fooled_by_buffers_that_move_to_a_tray() {
    // Two buffers are always free: the mover gives two back on a tray, behind the searcher's eyes or
    // before them, and takes the other two out of the word.
    model(Some(3), || {
        let watched = Watched::new(4);
        let mut bufs = Vec::new();
        assert_eq!(watched.pool.alloc_batch(&mut bufs, 4), 4);
        assert!(watched.pool.alloc().is_none());
        let held = bufs.split_off(2);
        bufs.drain(..).for_each(drop);
        let other = watched.clone();
        let thread = thread::spawn(move || {
            other.pool.free_batch(held);
            let mut bufs = Vec::new();
            other.pool.alloc_batch(&mut bufs, 2);
            bufs
        });
        drop(watched.pool.alloc().expect("one is free at every moment"));
        drop(thread.join().unwrap());
        assert_eq!(watched.pool.exhausted(), 1);
    });
}

#[test]
fn search_is_not_fooled_by_buffers_that_move_from_tray_to_tray() {
    // Three trays. Two buffers lie on the last; the mover puts two others on the second, which the
    // searcher has passed perhaps, and takes away those on the last.
    model(Some(3), || {
        let Watched { pool, .. } = Watched::new(6);
        let mut bufs = Vec::new();
        assert_eq!(pool.alloc_batch(&mut bufs, 6), 6);
        // Found empty once: only the releases on trays tell that this is over.
        assert!(pool.alloc().is_none());
        let (searcher, mover) = (pool.cache(1), pool.cache(3));
        // The mover gives on the first tray, and is to go on at the second.
        mover.free_batch(bufs.drain(..2));
        mover.flush();
        pool.free_batch(bufs.drain(..2));
        pool.free_batch(bufs.drain(..));
        // The first and the second are taken again.
        assert_eq!(pool.alloc_batch(&mut bufs, 2), 2);
        assert_eq!(pool.alloc_batch(&mut bufs, 2), 2);
        let rest = bufs.split_off(2);
        let other = pool.clone();
        let thread = thread::spawn(move || {
            mover.free_batch(bufs);
            mover.flush();
            let mut bufs = Vec::new();
            other.alloc_batch(&mut bufs, 2);
            bufs
        });
        drop(searcher.alloc().expect("two are free at every moment"));
        drop((thread.join().unwrap(), rest));
        assert_eq!(pool.exhausted(), 1);
    });
}

#[test]
fn search_misses_no_tray_that_was_filled_behind_it() {
    // The searcher looks at the trays in the order 0, 1, 2, 0. The last has two buffers until two
    // others lie on the second: had the searcher passed that one, the count of releases that it meets
    // on the last, empty one tells it, and what it sees there it has to have seen all of. The searcher
    // is the spawned thread: the other way round loom leaves out the way on which it is fooled.
    model(Some(3), || {
        let list = Arc::new(List::full(6));
        let all = list.take(6, 0);
        assert_eq!(all.len(), 6);
        // Found empty: from now on one look proves it, as long as there is no release.
        assert!(list.take(1, 0).is_empty());
        assert!(list.put(&all[..2], 2));
        let other = Arc::clone(&list);
        let searcher = thread::spawn(move || other.take(1, 0).len());
        assert!(list.put(&all[2..4], 1));
        list.take(2, 2);
        let found = searcher.join().unwrap();
        assert_eq!(found, 1, "two are free at every moment");
    });
}

#[test]
fn pool_ends_with_buffers_on_trays() {
    model(None, || {
        let mut memory = Memory([0; 1024]);
        let (Watched { pool, cells }, ended) = ending(3, &mut memory);
        let mut bufs = Vec::new();
        assert_eq!(pool.alloc_batch(&mut bufs, 3), 3);
        let last = bufs.pop();
        let cache = pool.cache(3);
        let thread = thread::spawn(move || {
            for buf in &bufs {
                // SAFETY: the owner of the buffer; loom checks it.
                cells[buf.index()].with_mut(|n| unsafe { *n += 1 });
            }
            cache.free_batch(bufs);
        });
        drop(pool);
        drop(last);
        thread.join().unwrap();
        assert_eq!(ended(), 1);
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
