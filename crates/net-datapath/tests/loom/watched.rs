//! Pools whose buffers, and whose end, loom watches.

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use net_datapath::pool::{PacketBuf, PacketPool, PoolConfig};

/// A pool whose buffers are watched.
pub(crate) struct Watched {
    pub(crate) pool: PacketPool,
    pub(crate) cells: Arc<Vec<UnsafeCell<u32>>>,
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

/// A pool as small as it can be.
pub(crate) fn config(buffers: usize) -> PoolConfig {
    PoolConfig {
        buffers,
        buffer_size: 1,
        headroom: 0,
    }
}

fn cells(buffers: usize) -> Arc<Vec<UnsafeCell<u32>>> {
    Arc::new((0..buffers).map(|_| UnsafeCell::new(0)).collect())
}

/// All buffers of a full pool.
pub(crate) fn take_all(pool: &PacketPool, buffers: usize) -> Vec<PacketBuf> {
    let mut bufs = Vec::new();
    assert_eq!(pool.alloc_batch(&mut bufs, buffers), buffers);
    bufs
}

impl Watched {
    pub(crate) fn new(buffers: usize) -> Self {
        Self {
            pool: PacketPool::new(config(buffers)).unwrap(),
            cells: cells(buffers),
        }
    }

    /// A pool, and all its buffers.
    pub(crate) fn taken(buffers: usize) -> (Self, Vec<PacketBuf>) {
        let watched = Self::new(buffers);
        let bufs = take_all(&watched.pool, buffers);
        (watched, bufs)
    }

    /// Writes as the owner of `buf`.
    pub(crate) fn touch(&self, buf: &PacketBuf) {
        // SAFETY: see above; loom checks it.
        self.cells[buf.index()].with_mut(|n| unsafe { *n += 1 });
    }

    /// Reads as an owner of the buffer `index`.
    pub(crate) fn look(&self, index: usize) -> u32 {
        // SAFETY: see above; loom checks it.
        self.cells[index].with(|n| unsafe { *n })
    }
}

/// The owner of a pool's memory: when the pool ends it writes to all cells, so that loom finds any use
/// of the pool that is not ordered before that; and it counts its own end.
pub(crate) struct Ending {
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
pub(crate) struct Memory(pub(crate) [u8; 1024]);

/// A watched pool whose end is watched too.
pub(crate) fn ending(buffers: usize, memory: &mut Memory) -> (Watched, impl Fn() -> u32 + use<>) {
    let cells = cells(buffers);
    let ended = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
    let owner = Ending {
        cells: cells.clone(),
        ended: ended.clone(),
    };
    let config = config(buffers);
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
