//! Checksums; what the processor offers under valgrind is AVX2.

use std::hint::black_box;

use net_wire::checksum::{copy_and_sum, sum};

use crate::Operation;

pub(crate) const OPERATIONS: &[Operation] = &[
    ("sum-64", |n| sums(n, 64)),
    ("sum-1500", |n| sums(n, 1500)),
    ("copy-and-sum-1500", |n| {
        let (src, mut dst) = (vec![0x5a; 1500], vec![0; 1500]);
        for _ in 0..n {
            black_box(copy_and_sum(black_box(&mut dst), black_box(&src)).fold());
        }
    }),
];

fn sums(n: u64, len: usize) {
    let bytes = vec![0x5a; len];
    for _ in 0..n {
        black_box(sum(black_box(&bytes)).fold());
    }
}
