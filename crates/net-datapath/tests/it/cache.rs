//! Caches in front of the pool: what they hold, when they let go, and what "empty" then means.

use net_datapath::pool::{PacketBuf, PacketPool, PoolConfig};
use proptest::prelude::*;

fn pool(buffers: usize) -> PacketPool {
    PacketPool::new(PoolConfig {
        buffers,
        buffer_size: 128,
        headroom: 0,
    })
    .expect("a small pool")
}

#[test]
fn a_cache_serves_from_its_own_store() {
    let pool = pool(256);
    let cache = pool.cache(64);
    assert!(cache.is_empty() && cache.capacity() == 64);
    let first = cache.alloc().unwrap();
    assert_eq!((cache.len(), pool.available()), (31, 224));
    cache.free(first);
    for _ in 0..1000 {
        cache.free(cache.alloc().unwrap());
    }
    assert_eq!(
        (cache.len(), pool.available()),
        (32, 224),
        "the shared list was not asked"
    );
    let mut bufs = Vec::new();
    assert_eq!(cache.alloc_batch(&mut bufs, 100), 100);
    assert_eq!((cache.len(), pool.available()), (0, 156));
    cache.free_batch(bufs.drain(..65));
    assert_eq!(
        (cache.len(), pool.available()),
        (35, 186),
        "30, what goes at one stroke, went back when the 65th came"
    );
    cache.flush();
    assert_eq!((cache.len(), pool.available()), (0, 221));
    drop(bufs);
    assert_eq!(pool.available(), 256);
}

#[test]
fn a_cache_returns_what_it_holds_when_dropped() {
    let pool = pool(10);
    let cache = pool.cache(8);
    let buf = cache.alloc().unwrap();
    cache.free(buf);
    assert!(pool.available() < 10);
    drop(cache);
    assert_eq!(pool.available(), 10);
}

#[test]
fn capacities_are_held_to_the_possible() {
    let pool = pool(3);
    assert_eq!(
        (pool.cache(0).capacity(), pool.cache(100).capacity()),
        (1, 3)
    );
    let cache = pool.cache(0);
    let bufs: Vec<_> = std::iter::from_fn(|| cache.alloc()).collect();
    assert_eq!((bufs.len(), pool.exhausted()), (3, 1));
    cache.free_batch(bufs);
    assert_eq!(cache.len() + pool.available(), 3);
}

#[test]
fn a_stranger_goes_home() {
    let (mine, other) = (pool(4), pool(4));
    let cache = mine.cache(2);
    cache.free(other.alloc().unwrap());
    assert_eq!((cache.len(), other.available()), (0, 4));
    cache.enter(|| drop(other.alloc()));
    assert_eq!((cache.len(), other.available()), (0, 4));
}

#[test]
fn the_hungry_are_heard() {
    let pool = pool(8);
    let hoarder = pool.cache(8);
    let bufs: Vec<_> = std::iter::from_fn(|| hoarder.alloc()).collect();
    assert_eq!((bufs.len(), pool.exhausted()), (8, 1));
    let keep = hoarder.alloc_batch(&mut Vec::new(), 0);
    assert_eq!(keep, 0);
    let mut bufs = bufs.into_iter();
    // The hoarder's own failure is answered by its first release already; the rest stays with it.
    for buf in bufs.by_ref().take(7) {
        hoarder.free(buf);
    }
    let stuck = hoarder.len();
    assert!(stuck >= 6, "{stuck} in the cache");
    // Somebody else takes what is in the shared list, then goes away empty-handed.
    let taken: Vec<_> = std::iter::from_fn(|| pool.alloc()).collect();
    assert_eq!(taken.len(), 7 - stuck);
    hoarder.free(bufs.next().unwrap());
    assert_eq!(
        (hoarder.len(), pool.available()),
        (1, stuck),
        "all it had went back"
    );
    assert!(pool.alloc().is_some());

    // An allocation answers too, and keeps only what it needs.
    let rest: Vec<_> = std::iter::from_fn(|| pool.alloc()).collect();
    assert_eq!(rest.len(), stuck);
    drop(rest);
    let other = pool.cache(6);
    let one = other.alloc().unwrap();
    other.free(one);
    assert!(!other.is_empty());
    drop(hoarder);
    let all: Vec<_> = std::iter::from_fn(|| pool.alloc()).collect();
    let held = other.len();
    // The first is the one freed last, and is had without a look.
    let bufs = [other.alloc().unwrap(), other.alloc().unwrap()];
    assert_eq!((other.len(), pool.available()), (0, held - 2));
    drop((bufs, all, taken));
}

/// The release of the buffer that was handed out last goes a shorter way than others.
#[test]
fn the_hungry_are_heard_by_who_frees_what_it_allocated_last() {
    let pool = pool(8);
    let hoarder = pool.cache(8);
    hoarder.free(hoarder.alloc().unwrap());
    let last = hoarder.alloc().unwrap();
    let held = hoarder.len();
    assert!(held > 0);
    let taken: Vec<_> = std::iter::from_fn(|| pool.alloc()).collect();
    assert_eq!(taken.len(), 7 - held);
    hoarder.free(last);
    assert_eq!((hoarder.len(), pool.available()), (1, held));
}

#[test]
fn entering_a_cache_catches_every_alloc_and_drop_of_the_thread() {
    let pool = pool(64);
    let (outer, inner) = (pool.cache(16), pool.cache(16));
    let kept = outer.enter(|| {
        let buf = pool.alloc().unwrap();
        assert_eq!(outer.len(), 7);
        inner.enter(|| {
            drop(pool.alloc());
            assert_eq!(inner.len(), 8);
        });
        drop(pool.alloc().unwrap().into_shared().clone());
        assert_eq!(outer.len(), 7);
        buf
    });
    assert_eq!(outer.len(), 7);
    drop(kept);
    assert_eq!(outer.len(), 7, "outside, the shared list gets it");
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        inner.enter(|| {
            let _buf = pool.alloc();
            panic!("in the middle");
        })
    }));
    assert!(result.is_err());
    drop(inner);
    // The variable was set back: this does not touch the cache that is gone.
    drop(pool.alloc());
    drop(outer);
    assert_eq!(pool.available(), 64);
}

#[derive(Debug, Clone)]
enum Op {
    Alloc(usize),
    AllocBatch(usize, usize),
    Free(usize, usize),
    FreeBatch(usize, usize),
    Flush(usize),
    Direct,
    DropDirect(usize),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0usize..3).prop_map(Op::Alloc),
        1 => (0usize..3, 0usize..80).prop_map(|(c, n)| Op::AllocBatch(c, n)),
        4 => (0usize..3, any::<usize>()).prop_map(|(c, at)| Op::Free(c, at)),
        1 => (0usize..3, 0usize..80).prop_map(|(c, n)| Op::FreeBatch(c, n)),
        1 => (0usize..3).prop_map(Op::Flush),
        2 => Just(Op::Direct),
        2 => any::<usize>().prop_map(Op::DropDirect),
    ]
}

proptest! {
    /// With three caches: no buffer is lost or doubled, and a failure means that the shared list and
    /// the caller's cache are empty.
    #[test]
    fn caches_keep_the_books(
        buffers in 1usize..200,
        capacities in prop::array::uniform3(1usize..80),
        ops in prop::collection::vec(op(), 1..120),
    ) {
        let pool = pool(buffers);
        let caches = capacities.map(|n| pool.cache(n));
        let mut out: Vec<PacketBuf> = Vec::new();
        for op in ops {
            match op {
                Op::Alloc(c) => {
                    let had = caches[c].len() + pool.available();
                    let got = caches[c].alloc();
                    prop_assert_eq!(got.is_some(), had > 0);
                    out.extend(got);
                }
                Op::AllocBatch(c, n) => {
                    let had = caches[c].len() + pool.available();
                    prop_assert_eq!(caches[c].alloc_batch(&mut out, n), n.min(had));
                }
                Op::Free(c, at) if !out.is_empty() => {
                    let at = at % out.len();
                    caches[c].free(out.swap_remove(at));
                }
                Op::FreeBatch(c, n) => { let n = n.min(out.len()); caches[c].free_batch(out.drain(..n)); }
                Op::Flush(c) => { caches[c].flush(); prop_assert!(caches[c].is_empty()); }
                Op::Direct => {
                    let had = pool.available();
                    let got = pool.alloc();
                    prop_assert_eq!(got.is_some(), had > 0);
                    out.extend(got);
                }
                Op::DropDirect(at) if !out.is_empty() => { let at = at % out.len(); drop(out.swap_remove(at)); }
                _ => {}
            }
            let held: usize = caches.iter().map(|c| c.len()).sum();
            prop_assert_eq!(held + out.len() + pool.available(), buffers);
            prop_assert!(caches.iter().all(|c| c.len() <= c.capacity()));
            let distinct: std::collections::BTreeSet<_> = out.iter().map(PacketBuf::index).collect();
            prop_assert_eq!(distinct.len(), out.len());
        }
        drop(caches);
        drop(out);
        prop_assert_eq!(pool.available(), buffers);
    }
}
