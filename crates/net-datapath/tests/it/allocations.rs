//! The allocator is for setting up: nothing that moves a packet calls it.

use net_datapath::pool::{PacketPool, PoolConfig};
use net_datapath::ring::LockFreeRing;
use net_datapath::stats::{DatapathStats, DropReason};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    /// Calls of this thread: other tests run beside this one.
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: passes everything on.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.set(CALLS.get() + 1);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        CALLS.set(CALLS.get() + 1);
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        CALLS.set(CALLS.get() + 1);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(memory, layout) };
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn calls(work: impl FnOnce()) -> u64 {
    let before = CALLS.get();
    work();
    CALLS.get() - before
}

#[test]
fn the_counter_counts() {
    assert_eq!(calls(|| drop(std::hint::black_box(Box::new(1)))), 2);
}

#[test]
fn pool_ring_and_counters_never_allocate() {
    let pool = PacketPool::new(PoolConfig {
        buffers: 300,
        buffer_size: 512,
        headroom: 64,
    })
    .unwrap();
    let cache = pool.cache(32);
    let (mut tx, mut rx) = LockFreeRing::with_capacity(100);
    let (stats, mut workers) = DatapathStats::new(1);
    let mut bufs = Vec::with_capacity(300);
    let allocated = calls(|| {
        for round in 0..1000 {
            let mut buf = pool.alloc().unwrap();
            buf.extend_from_slice(&[1; 60]).unwrap();
            buf.push_front(12).unwrap().fill(0);
            tx.push(buf).unwrap();
            tx.push_lazy(cache.alloc().unwrap()).unwrap();
            tx.flush();
            drop(rx.pop());
            cache.free(rx.pop_lazy().unwrap());
            assert_eq!(pool.alloc_batch(&mut bufs, 80), 80);
            assert_eq!(cache.alloc_batch(&mut bufs, 80), 80);
            tx.push_iter(bufs.drain(..90));
            rx.pop_into(&mut bufs, 40);
            rx.read_chunk(100).consume_all();
            pool.free_batch(bufs.drain(..60));
            cache.enter(|| bufs.clear());
            let shared = pool.alloc().unwrap().into_shared();
            drop(shared.clone());
            drop(shared);
            workers[0].received(1, round);
            workers[0].dropped(DropReason::NoBuffer, 1);
            std::hint::black_box(stats.snapshot());
        }
    });
    assert_eq!(allocated, 0);
}
