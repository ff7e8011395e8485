//! Lock-free SPSC ring, packet pool, zero-copy packet, virtio-net header and segmentation.
#![no_std]

extern crate alloc;
#[cfg(any(feature = "std", test))]
extern crate std;

pub mod pool;
mod sync;

pub use pool::{PacketBuf, PacketPool, PoolConfig, PoolError, SharedBuf};
