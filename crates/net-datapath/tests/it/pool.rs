//! The pool: one buffer's bounds, whole pools against a model, threads.

use net_datapath::pool::{BUFFER_ALIGN, PacketBuf, PacketPool, PoolConfig, PoolError};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

fn pool(buffers: usize) -> PacketPool {
    PacketPool::new(PoolConfig {
        buffers,
        buffer_size: 256,
        headroom: 32,
    })
    .expect("a small pool")
}

#[test]
fn impossible_configurations() {
    let good = PoolConfig {
        buffers: 1,
        buffer_size: 64,
        headroom: 0,
    };
    let no = |c: PoolConfig| PacketPool::new(c).unwrap_err();
    assert_eq!(
        no(PoolConfig { buffers: 0, ..good }),
        PoolError::BufferCount(0)
    );
    assert_eq!(
        no(PoolConfig {
            buffers: 1 << 31,
            ..good
        }),
        PoolError::BufferCount(1 << 31)
    );
    assert_eq!(
        no(PoolConfig {
            buffer_size: 0,
            ..good
        }),
        PoolError::BufferSize(0)
    );
    assert_eq!(
        no(PoolConfig {
            buffer_size: usize::MAX,
            ..good
        }),
        PoolError::BufferSize(usize::MAX)
    );
    assert_eq!(
        no(PoolConfig {
            headroom: 64,
            ..good
        }),
        PoolError::Headroom {
            headroom: 64,
            buffer_size: 64
        }
    );
    let huge = PoolConfig {
        buffers: (1 << 31) - 1,
        buffer_size: (1 << 31) - 1,
        headroom: 0,
    };
    assert!(matches!(
        no(huge),
        PoolError::TooLarge | PoolError::OutOfMemory(_)
    ));
    assert!(PacketPool::new(good).is_ok());
}

#[test]
fn strides_are_aligned_and_do_not_alias() {
    for buffer_size in [1, 64, 128, 129, 1920, 2047, 2048, 4096, 65536, 65600] {
        let config = PoolConfig {
            buffers: 3,
            buffer_size,
            headroom: 0,
        };
        let stride = config.stride().unwrap();
        assert!(stride >= buffer_size);
        assert_eq!(stride % BUFFER_ALIGN, 0);
        assert_ne!(stride % 2048, 0);
        assert_eq!(config.memory_size().unwrap(), 3 * stride);
    }
}

#[test]
fn a_buffer_knows_its_bounds() {
    let pool = pool(1);
    let mut buf = pool.alloc().unwrap();
    assert_eq!((buf.len(), buf.headroom(), buf.tailroom()), (0, 32, 224));
    assert!(buf.is_empty() && buf.spare_mut().iter().all(|&b| b == 0));
    assert!(buf.extend_from_slice(&[7; 225]).is_none());
    assert_eq!(buf.len(), 0);
    buf.extend_from_slice(&[7; 224]).unwrap();
    assert_eq!(buf.tailroom(), 0);
    assert!(buf.extend_from_slice(&[1]).is_none());
    assert!(buf.push_front(33).is_none());
    buf.push_front(32).unwrap().fill(1);
    assert_eq!(
        (buf.len(), buf.headroom(), buf[0], buf[31], buf[32]),
        (256, 0, 1, 1, 7)
    );
    assert!(buf.pull_front(257).is_none());
    buf.pull_front(256).unwrap();
    assert_eq!((buf.len(), buf.headroom(), buf.tailroom()), (0, 256, 0));
    assert!(buf.set_len(1).is_none());
    buf.clear();
    assert_eq!((buf.len(), buf.headroom(), buf.tailroom()), (0, 32, 224));
    assert!(buf.set_len(225).is_none());
    buf.set_len(224).unwrap();
    assert!(buf.iter().all(|&b| b == 7), "what was there before");
    buf.truncate(300);
    assert_eq!(buf.len(), 224);
    buf.truncate(3);
    assert_eq!(&buf[..], [7; 3]);
    assert!(buf.reset(257).is_none());
    assert_eq!(buf.len(), 3);
    buf.reset(256).unwrap();
    assert_eq!((buf.len(), buf.headroom(), buf.tailroom()), (0, 256, 0));
    buf.reset(0).unwrap();
    buf.as_mut_slice().fill(0);
    assert_eq!(
        (buf.headroom(), buf.tailroom(), buf.capacity()),
        (0, 256, 256)
    );
}

#[test]
fn exhaustion_is_a_value_and_is_counted() {
    let pool = pool(3);
    let bufs: Vec<_> = (0..3).map(|_| pool.alloc().unwrap()).collect();
    assert_eq!((pool.available(), pool.exhausted()), (0, 0));
    assert!(pool.alloc().is_none());
    assert_eq!(pool.exhausted(), 1);
    let mut more: Vec<PacketBuf> = Vec::new();
    assert_eq!(pool.alloc_batch(&mut more, 2), 0);
    assert_eq!(pool.exhausted(), 2);
    pool.free_batch(bufs);
    assert_eq!(pool.alloc_batch(&mut more, 5), 3);
    assert_eq!(pool.exhausted(), 3);
    drop(more);
    assert_eq!((pool.available(), pool.capacity()), (3, 3));
}

#[test]
fn a_batch_may_be_longer_than_a_word() {
    let pool = pool(200);
    let mut bufs: Vec<PacketBuf> = Vec::new();
    assert_eq!(pool.alloc_batch(&mut bufs, 200), 200);
    let indices: BTreeSet<_> = bufs.iter().map(PacketBuf::index).collect();
    assert_eq!(indices, (0..200).collect());
    for buf in &mut bufs {
        let mark = buf.index() as u8;
        buf.extend_from_slice(&[mark; 224]).unwrap();
    }
    assert!(
        bufs.iter().all(|b| b.iter().all(|&x| x == b.index() as u8)),
        "no overlap"
    );
    let other = self::pool(1);
    bufs.push(other.alloc().unwrap());
    pool.free_batch(bufs.drain(..));
    assert_eq!((pool.available(), other.available()), (200, 1));
}

#[test]
fn a_panic_in_the_receiver_of_a_batch_loses_nothing() {
    struct Two(Vec<PacketBuf>);
    impl Extend<PacketBuf> for Two {
        fn extend<I: IntoIterator<Item = PacketBuf>>(&mut self, iter: I) {
            for buf in iter {
                assert!(self.0.len() < 2, "full");
                self.0.push(buf);
            }
        }
    }
    let pool = pool(10);
    let mut two = Two(Vec::new());
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        pool.alloc_batch(&mut two, 8)
    }));
    assert!(result.is_err());
    assert_eq!((two.0.len(), pool.available()), (2, 8));
}

#[test]
fn buffers_outlive_their_pool() {
    let pool = pool(2);
    let clone = pool.clone();
    let mut buf = pool.alloc().unwrap();
    let shared = clone.alloc().unwrap().into_shared();
    drop(pool);
    drop(clone);
    buf.extend_from_slice(b"still here").unwrap();
    assert_eq!(&buf[..], b"still here");
    drop(buf);
    drop(shared.clone());
    drop(shared);
}

#[test]
fn a_shared_buffer_returns_with_its_last_owner() {
    let pool = pool(1);
    let mut buf = pool.alloc().unwrap();
    buf.extend_from_slice(b"flood").unwrap();
    let first = buf.into_shared();
    let second = first.clone();
    let first = first.into_unique().unwrap_err();
    std::thread::spawn(move || assert_eq!(&second[..], b"flood"))
        .join()
        .unwrap();
    assert_eq!(pool.available(), 0);
    let unique = first.into_unique().unwrap();
    assert_eq!(&unique[..], b"flood");
    let shared = unique.into_shared();
    assert_eq!(pool.available(), 0);
    drop(shared);
    assert_eq!(pool.available(), 1);
}

#[test]
fn memory_from_outside() {
    let config = PoolConfig {
        buffers: 4,
        buffer_size: 100,
        headroom: 10,
    };
    let needed = config.memory_size().unwrap();
    assert_eq!(needed, 4 * 128);

    #[repr(align(128))]
    struct Block([u8; 1024]);
    struct Owner(*mut Block, Arc<AtomicBool>);
    // SAFETY: the block is only freed through this, once.
    unsafe impl Send for Owner {}
    // SAFETY: as above.
    unsafe impl Sync for Owner {}
    impl Drop for Owner {
        fn drop(&mut self) {
            self.1.store(true, Ordering::SeqCst);
            // SAFETY: from `Box::into_raw`, freed once.
            drop(unsafe { Box::from_raw(self.0) });
        }
    }

    let attempt = |from: usize, len: usize| {
        let gone = Arc::new(AtomicBool::new(false));
        let block = Box::into_raw(Box::new(Block([0; 1024])));
        // SAFETY: within the block.
        let bytes = unsafe { (&raw mut (*block).0).cast::<u8>().add(from) };
        let bytes = std::ptr::NonNull::new(std::ptr::slice_from_raw_parts_mut(bytes, len)).unwrap();
        // SAFETY: the block is initialised, nobody else uses it, and `Owner` keeps it.
        let pool = unsafe { PacketPool::with_memory(config, bytes, Owner(block, gone.clone())) };
        (pool, gone)
    };
    let (short, gone) = attempt(0, needed - 1);
    assert_eq!(
        short.unwrap_err(),
        PoolError::MemoryTooSmall {
            needed,
            given: needed - 1
        }
    );
    assert!(gone.load(Ordering::SeqCst));
    let (crooked, _) = attempt(64, 960);
    assert_eq!(crooked.unwrap_err(), PoolError::Misaligned);

    let (pool, gone) = attempt(0, 1024);
    let pool = pool.unwrap();
    let mut buf = pool.alloc().unwrap();
    buf.extend_from_slice(&[1; 90]).unwrap();
    drop(pool);
    assert!(!gone.load(Ordering::SeqCst));
    drop(buf);
    assert!(gone.load(Ordering::SeqCst));
}

#[derive(Debug, Clone)]
enum Op {
    Alloc,
    AllocBatch(usize),
    Free(usize),
    FreeBatch(usize),
    Share(usize),
    CloneShared(usize),
    DropShared(usize),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        Just(Op::Alloc),
        (0usize..100).prop_map(Op::AllocBatch),
        any::<usize>().prop_map(Op::Free),
        (0usize..100).prop_map(Op::FreeBatch),
        any::<usize>().prop_map(Op::Share),
        any::<usize>().prop_map(Op::CloneShared),
        any::<usize>().prop_map(Op::DropShared),
    ]
}

proptest! {
    /// No buffer is out twice, none is lost, and "empty" is said exactly when all are out.
    #[test]
    fn a_pool_is_a_set_of_indices(buffers in 1usize..150, ops in prop::collection::vec(op(), 1..80)) {
        let pool = pool(buffers);
        let mut owned: Vec<PacketBuf> = Vec::new();
        let mut shared: Vec<net_datapath::pool::SharedBuf> = Vec::new();
        // Per shared buffer: how many of `shared` are its owners, by the mark in its content.
        let mark = |buf: &mut PacketBuf| {
            buf.clear();
            buf.extend_from_slice(&(buf.index() as u32).to_le_bytes()).unwrap();
        };
        for op in ops {
            let distinct: BTreeSet<Vec<u8>> = shared.iter().map(|s| s.to_vec()).collect();
            let free = buffers - owned.len() - distinct.len();
            prop_assert_eq!(pool.available(), free);
            match op {
                Op::Alloc => {
                    let got = pool.alloc();
                    prop_assert_eq!(got.is_some(), free > 0);
                    owned.extend(got.map(|mut b| { mark(&mut b); b }));
                }
                Op::AllocBatch(n) => {
                    let before = owned.len();
                    prop_assert_eq!(pool.alloc_batch(&mut owned, n), n.min(free));
                    prop_assert_eq!(owned.len() - before, n.min(free));
                    owned[before..].iter_mut().for_each(mark);
                }
                Op::Free(at) if !owned.is_empty() => drop(owned.swap_remove(at % owned.len())),
                Op::FreeBatch(n) => { let n = n.min(owned.len()); pool.free_batch(owned.drain(..n)); }
                Op::Share(at) if !owned.is_empty() => {
                    let buf = owned.swap_remove(at % owned.len());
                    shared.push(buf.into_shared());
                }
                Op::CloneShared(at) if !shared.is_empty() => {
                    let clone = shared[at % shared.len()].clone();
                    shared.push(clone);
                }
                Op::DropShared(at) if !shared.is_empty() => drop(shared.swap_remove(at % shared.len())),
                _ => {}
            }
            for buf in &owned {
                prop_assert_eq!(&buf[..], &(buf.index() as u32).to_le_bytes()[..]);
            }
            let mut out: Vec<u32> = owned.iter().map(|b| b.index() as u32).collect();
            let distinct: BTreeSet<u32> = shared.iter()
                .map(|s| u32::from_le_bytes(s[..].try_into().unwrap())).collect();
            out.extend(distinct);
            let unique: BTreeSet<u32> = out.iter().copied().collect();
            prop_assert_eq!(unique.len(), out.len(), "a buffer has two owners");
        }
        drop(owned);
        drop(shared);
        prop_assert_eq!(pool.available(), buffers);
    }
}
