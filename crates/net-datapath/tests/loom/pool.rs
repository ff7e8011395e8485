//! The pool's words, its end, its shared buffers and its caches.

use loom::thread;
use net_datapath::pool::{PacketBuf, PacketPool};

use crate::model;
use crate::watched::{Memory, Watched, config, ending, take_all};

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
        let pool = PacketPool::new(config(65)).unwrap();
        let mut all = take_all(&pool, 65);
        // Found empty once, in earnest: what was learnt then must not be believed later.
        assert!(pool.alloc().is_none());
        all.sort_by_key(PacketBuf::index);
        let mut bufs: Vec<_> = all.into_iter().map(Some).collect();
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
