//! Buffers on their way from thread to thread on trays, which carry two here.

use loom::sync::Arc;
use loom::thread;
use net_datapath::pool::PacketBuf;
use net_datapath::pool::model::List;

use crate::model;
use crate::watched::{Memory, Watched, ending, take_all};

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
        let (watched, bufs) = Watched::taken(2);
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
        let (watched, mut bufs) = Watched::taken(3);
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
        let (watched, bufs) = Watched::taken(2);
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
        let (watched, mut bufs) = Watched::taken(4);
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
        let (watched, mut bufs) = Watched::taken(4);
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
        let mut bufs = take_all(&pool, 6);
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
        let mut bufs = take_all(&pool, 3);
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
