//! The allocator is for setting up: nothing that moves a packet calls it.

use net_datapath::gro::{GroLimits, merge, run_length};
use net_datapath::gso::{Checksums, Segmenter, complete_checksum};
use net_datapath::pool::{PacketPool, PoolConfig};
use net_datapath::ring::LockFreeRing;
use net_datapath::stats::{DatapathStats, DropReason};
use net_datapath::{IoSegment, PacketMeta, VirtioNetHdr, ZeroCopyPacket};
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

/// A TCP/IPv4 frame of `payload` bytes behind 54 of headers, its checksum the pseudo header's.
fn tcp_frame(payload: usize) -> Vec<u8> {
    let mut frame = vec![0u8; 54 + payload];
    frame[12..16].copy_from_slice(&[8, 0, 0x45, 0]);
    frame[16..18].copy_from_slice(&(40 + payload as u16).to_be_bytes());
    frame[22..24].copy_from_slice(&[64, 6]);
    frame[46..48].copy_from_slice(&[5 << 4, 0x10]);
    let check = net_wire::checksum::sum(&frame[14..34]).finish();
    frame[24..26].copy_from_slice(&check.to_be_bytes());
    let partial = (6 + 20 + payload as u16).to_be_bytes();
    frame[50..52].copy_from_slice(&partial);
    frame
}

#[test]
fn packets_and_offloads_never_allocate() {
    let frame = tcp_frame(20_000);
    let vnet = VirtioNetHdr {
        flags: VirtioNetHdr::NEEDS_CSUM,
        gso_type: VirtioNetHdr::GSO_TCPV4,
        hdr_len: 54,
        gso_size: 1000,
        csum_start: 34,
        csum_offset: 16,
        num_buffers: 0,
    };
    let mut outs = vec![[0u8; 1054]; 20];
    let mut super_frame = vec![0u8; frame.len()];
    let mut small = tcp_frame(100);
    let allocated = calls(|| {
        for round in 0..50 {
            PacketMeta::parse(&frame[..128], frame.len()).unwrap();
            let pieces = [0..700, 700..9000, 9000..20_054].map(|range| &frame[range]);
            let pieces = pieces.map(IoSegment::from);
            let mut packet = ZeroCopyPacket::from_segments(&pieces, vnet).unwrap();
            packet.push_vlan(7).unwrap();
            assert_eq!(packet.pop_vlan(), Some(7));
            packet.push_head(&[0; 50]).unwrap();
            packet.pull_head(50).unwrap();
            packet.pull_head(0).unwrap();
            packet.set_dst_mac(packet.src_mac());
            packet.set_src_mac(packet.dst_mac());
            assert_eq!(packet.decrement_ttl(), Some(63));
            packet.reparse();
            std::hint::black_box(packet.flow_hash(round) ^ packet.flow_hash_symmetric(round));
            assert_eq!(packet.frame_segments().total_len(), frame.len());
            assert_eq!(packet.payload(10, 5000).total_len(), 5000);
            let (front, back) = packet.split_at(7000).unwrap();
            assert_eq!(front.payload_len() + back.payload_len(), 20_000);

            let mut segmenter = Segmenter::new(&packet, 1500, Checksums::Complete).unwrap();
            for out in &mut outs {
                segmenter.write_next(out).unwrap().unwrap();
            }
            assert_eq!(segmenter.remaining(), 0);
            let segment = |i: usize| ZeroCopyPacket::from_slice(&outs[i], VirtioNetHdr::PLAIN);
            let segments: [_; 20] = std::array::from_fn(|i| segment(i).unwrap());
            assert_eq!(run_length(&segments, &GroLimits::default()), 20);
            let merged = merge(&segments).unwrap();
            let pieces = merged.payload(&segments).map(|list| list.total_len());
            assert_eq!(pieces.sum::<usize>(), 20_000);
            assert!(merged.write_into(&segments, &mut super_frame).is_some());
            let vnet = VirtioNetHdr {
                gso_type: 0,
                ..vnet
            };
            complete_checksum(&mut small, &vnet).unwrap();
        }
    });
    assert_eq!(allocated, 0);
}
