//! Two workers of a VMM: one receives frames into pool buffers, the other sends them, and a ring
//! carries the buffers from the one to the other. No payload is copied between them, nothing is
//! allocated after the start, and back-pressure is a full ring or an empty pool.
//!
//! `cargo run --release -p net-datapath --example two_workers`

use std::thread;
use std::time::Instant;

use net_datapath::pool::{PacketBuf, PacketPool, PoolConfig, PoolError};
use net_datapath::ring::{Consumer, LockFreeRing, Producer};
use net_datapath::stats::{DatapathStats, DropReason, WorkerStats};

/// Frames to move.
const FRAMES: u64 = 5_000_000;
/// `virtio_net_hdr_v1` in front of every frame.
const VNET_HEADER: usize = 12;

fn main() -> Result<(), PoolError> {
    // What is in flight at most, plus what can rest in the two caches.
    let pool = PacketPool::new(PoolConfig {
        buffers: 1024 + 2 * 64,
        buffer_size: 2048,
        headroom: 128,
    })?;
    let (tx, rx) = LockFreeRing::with_capacity(1024);
    let (stats, workers) = DatapathStats::new(2);
    let [receiver, sender] = <[WorkerStats; 2]>::try_from(workers).expect("two were asked for");

    let start = Instant::now();
    let before = stats.snapshot();
    let threads = [
        thread::spawn({
            let pool = pool.clone();
            // Inside `enter`, the pool's own `alloc` and every drop go through this worker's cache.
            move || pool.cache(64).enter(|| receive(&pool, tx, receiver))
        }),
        thread::spawn({
            let pool = pool.clone();
            move || pool.cache(64).enter(|| send(rx, sender))
        }),
    ];
    for thread in threads {
        thread.join().expect("a worker ends by itself");
    }

    let moved = stats.snapshot().since(&before);
    let rates = moved.rates(start.elapsed());
    println!(
        "{} frames in, {} out, {} dropped; {:.1} M frames/s; {} of {} buffers home",
        moved.rx_packets,
        moved.tx_packets,
        moved.dropped(),
        rates.tx_packets / 1e6,
        pool.available(),
        pool.capacity(),
    );
    Ok(())
}

/// Stands for a worker that reads frames from a device.
fn receive(pool: &PacketPool, mut tx: Producer<PacketBuf>, mut stats: WorkerStats) {
    let mut frames = 0;
    while frames < FRAMES && !tx.is_closed() {
        let mut chunk = tx.write_chunk(32);
        let mut bytes = 0;
        let mut count = 0;
        while !chunk.is_empty() && frames + count < FRAMES {
            let Some(mut buf) = pool.alloc() else {
                // All are in flight: the device keeps the frame, or it is dropped.
                stats.dropped(DropReason::NoBuffer, 1);
                break;
            };
            // A device would write here, into `spare_mut`, and say how long the frame is.
            buf.set_len(64).expect("a buffer is longer");
            bytes += buf.len() as u64;
            count += 1;
            chunk.push(buf).expect("the chunk has a slot left");
        }
        // Shows the whole batch to the other worker.
        drop(chunk);
        stats.batch(count as usize);
        stats.received(count, bytes);
        frames += count;
        if count == 0 {
            thread::yield_now();
        }
    }
}

/// Stands for a worker that writes frames to a port.
fn send(mut rx: Consumer<PacketBuf>, mut stats: WorkerStats) {
    while !rx.is_finished() {
        let chunk = rx.read_chunk(32);
        stats.batch(chunk.len());
        if chunk.is_empty() {
            thread::yield_now();
        }
        for mut buf in chunk {
            // Room for the header was left in front; the payload stays where it is.
            let header = buf.push_front(VNET_HEADER).expect("128 bytes of headroom");
            header.fill(0);
            stats.sent(1, buf.len() as u64);
            // Dropped here: back to this worker's cache.
        }
    }
}
