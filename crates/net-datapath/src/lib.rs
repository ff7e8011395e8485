//! What packets are made of and kept in: buffers, rings, the packet itself, offloads.
//!
//! **What it is for:** moving frames between guests and uplinks with at most one copy, and doing
//! in software what a port without offloads cannot. **What it is not:** a protocol stack or a
//! device; it opens no file, reads no clock and starts no thread.
//!
//! | module | what it holds |
//! |---|---|
//! | [`vnet`] | `VirtioNetHdr`: checksum and segmentation state of a frame (VIRTIO 1.3, 5.1.6) |
//! | [`segment`] | `IoSegment`: one piece of a scatter list, perhaps in a guest's memory |
//! | [`packet`] | `ZeroCopyPacket`: private copy of the headers, payload where it lies, parsed once |
//! | [`gso`], [`gro`] | super-frames cut and put together in software; partial checksums completed |
//! | [`pool`] | `PacketPool`: buffers that return by themselves |
//! | [`ring`] | `LockFreeRing`: a bounded queue between two threads |
//! | [`stats`] | `DatapathStats`: counters with one writer each and any number of readers |
//! | [`prefetch`] | hints that memory will be needed soon |
//!
//! Guest memory is hostile: it is read by volatile copies, the headers exactly once, and never
//! seen as a `&[u8]`. No length, offset or flag that a guest writes can cause a panic.
//!
//! ```
//! use net_datapath::{L3, VirtioNetHdr, ZeroCopyPacket};
//!
//! // An ARP request, as a guest's first frame often is.
//! let mut frame = [0u8; 42];
//! frame[..6].fill(0xff);
//! frame[6..12].copy_from_slice(&[0x52, 0x54, 0, 0x12, 0x34, 0x56]);
//! frame[12..14].copy_from_slice(&[0x08, 0x06]);
//!
//! let packet = ZeroCopyPacket::from_slice(&frame, VirtioNetHdr::PLAIN)?;
//! assert_eq!(packet.meta().l3, L3::Arp);
//! assert!(packet.dst_mac().is_broadcast());
//! # Ok::<(), net_datapath::PacketError>(())
//! ```
#![no_std]

extern crate alloc;
#[cfg(any(feature = "std", test))]
extern crate std;

pub mod gro;
pub mod gso;
pub mod packet;
pub mod pool;
pub mod prefetch;
pub mod ring;
pub mod segment;
pub mod stats;
mod sync;
#[cfg(test)]
mod test_frames;
pub mod vnet;

pub use crossbeam_utils::CachePadded;
pub use packet::{FragmentState, L3, MAX_FRAME_LEN, PacketError, PacketMeta, ZeroCopyPacket};
pub use pool::{PacketBuf, PacketPool, PoolCache, PoolConfig, PoolError, SharedBuf};
pub use ring::{Consumer, LockFreeRing, Producer};
pub use segment::{IoSegment, IoSegmentMut, SegmentList, SegmentListFull};
pub use stats::DatapathStats;
pub use vnet::{GsoKind, VirtioNetHdr, VnetError};
