//! Parsing, pool and ring.

use std::hint::black_box;

use net_benches::frames::{FRAMES, frames};
use net_datapath::pool::{PacketPool, PoolConfig};
use net_datapath::{LockFreeRing, PacketMeta, VirtioNetHdr, ZeroCopyPacket};
use net_wire::ip_proto::{TCP, UDP};

use crate::Operation;

pub(crate) const OPERATIONS: &[Operation] = &[
    ("parse-tcp4", |n| parse(n, false, TCP)),
    ("parse-tcp6", |n| parse(n, true, TCP)),
    ("parse-udp4", |n| parse(n, false, UDP)),
    ("from-slice-1514", |n| {
        over(n, &frames(false, TCP, 1448), |frame| {
            black_box(&ZeroCopyPacket::from_slice(frame, VirtioNetHdr::PLAIN));
        });
    }),
    ("flow-hash-4", |n| flow_hash(n, false)),
    ("flow-hash-6", |n| flow_hash(n, true)),
    ("pool-cache-pair", |n| {
        let pool = pool();
        let cache = pool.cache(64);
        for _ in 0..n {
            if let Some(buf) = cache.alloc() {
                cache.free(black_box(buf));
            }
        }
    }),
    ("pool-entered-pair", |n| {
        let pool = pool();
        pool.cache(64).enter(|| {
            for _ in 0..n {
                if let Some(buf) = pool.alloc() {
                    drop(black_box(buf));
                }
            }
        });
    }),
    ("pool-shared-pair", |n| {
        let pool = pool();
        for _ in 0..n {
            if let Some(buf) = pool.alloc() {
                drop(black_box(buf));
            }
        }
    }),
    ("ring-push-pop", |n| {
        let (mut tx, mut rx) = LockFreeRing::with_capacity(1024);
        for i in 0..n {
            let _ = black_box(tx.push(black_box(i)));
            black_box(rx.pop());
        }
    }),
    ("ring-push-pop-lazy", |n| {
        // A window at a time: a lazy item is not seen before it is published.
        let (mut tx, mut rx) = LockFreeRing::with_capacity(1024);
        for start in (0..n).step_by(64) {
            for i in start..(start + 64).min(n) {
                let _ = black_box(tx.push_lazy(black_box(i)));
            }
            tx.flush();
            while let Some(item) = rx.pop_lazy() {
                black_box(item);
            }
        }
    }),
];

fn pool() -> PacketPool {
    PacketPool::new(PoolConfig {
        buffers: 256,
        buffer_size: 2048,
        headroom: 128,
    })
    .expect("half a MiB")
}

/// `work` on each of `frames` in turn, `n` times in all.
fn over(n: u64, frames: &[Vec<u8>], work: impl Fn(&[u8])) {
    for i in 0..n as usize {
        work(black_box(&frames[i % FRAMES]));
    }
}

fn parse(n: u64, ipv6: bool, protocol: u8) {
    over(n, &frames(ipv6, protocol, 1000), |frame| {
        black_box(&PacketMeta::parse(frame, frame.len()));
    });
}

fn flow_hash(n: u64, ipv6: bool) {
    let frames = frames(ipv6, TCP, 1000);
    let packet = |frame| ZeroCopyPacket::from_slice(frame, VirtioNetHdr::PLAIN).expect("a frame");
    let packets: Vec<_> = frames.iter().map(|frame| packet(frame)).collect();
    for i in 0..n as usize {
        black_box(black_box(&packets[i % FRAMES]).flow_hash(1));
    }
}
