//! Checksums and fused copies beside memcpy and smoltcp, on data in the first-level cache.
//!
//! Two tables per size, one of sums and one of copies, whose first line is memcpy. Source and
//! destination lie where a packet lies in an aligned buffer, behind its virtio and Ethernet headers; a
//! size of 65,536 does not fit the first-level cache.

use std::hint::black_box;

use net_benches::harness::{Contender, Options, Unit, alone, contender, table};
use net_wire::checksum::{Backend, copy_and_sum, sum};

/// Bytes per run, unless that are more than [`OPERATIONS`].
const VOLUME: usize = 64 << 20;
/// At most so many operations per run: short inputs take longer per byte.
const OPERATIONS: usize = 1 << 18;
/// Virtio header and Ethernet header.
const OFFSET: usize = 12 + 14;

pub(crate) fn all(options: &Options) {
    for size in [20, 64, 256, 1500, 9000, 65_536] {
        if options.wants(&format!("checksum-{size}")) {
            sums(options, size);
            copies(options, size);
        }
    }
}

/// Memory for `size` bytes at [`OFFSET`] and `extra` from the start of a page: source and destination
/// of a packet are not to lie alike modulo 4 KiB, where a load waits for a store it has nothing to do
/// with.
struct Buffer {
    memory: Vec<u8>,
    size: usize,
    extra: usize,
}

impl Buffer {
    fn new(size: usize, extra: usize) -> Self {
        let memory = (0..size + extra + 8192).map(|i| (i * 141 + i / 256 * 71 + 7) as u8);
        Self {
            memory: memory.collect(),
            size,
            extra,
        }
    }

    fn bytes(&mut self) -> &mut [u8] {
        let at = self.memory.as_ptr().align_offset(4096) + self.extra + OFFSET;
        &mut self.memory[at..at + self.size]
    }
}

fn operations(size: usize) -> usize {
    (VOLUME / size).min(OPERATIONS)
}

/// Sums the same bytes again and again. The next call does not wait for the result of the last.
fn summing<'a, R>(
    name: &'static str,
    size: usize,
    sum: impl Fn(&[u8]) -> R + Copy + Send + 'a,
) -> Contender<'a> {
    contender(name, move || {
        let mut src = Buffer::new(size, 0);
        alone(move || {
            let src = src.bytes();
            for _ in 0..operations(size) {
                black_box(sum(black_box(src)));
            }
        })
    })
}

fn sums(options: &Options, size: usize) {
    let mut contenders = vec![
        summing("dispatch", size, |b| sum(b).fold()),
        summing("smoltcp", size, smoltcp::wire::checksum::data),
    ];
    for backend in Backend::available() {
        contenders.push(summing(backend.name(), size, move |b| {
            backend.sum(b).fold()
        }));
    }
    let title = format!("sum of {size} bytes");
    show(&title, options, size, contenders);
}

fn copying<'a, R>(
    name: &'static str,
    size: usize,
    copy: impl Fn(&mut [u8], &[u8]) -> R + Copy + Send + 'a,
) -> Contender<'a> {
    contender(name, move || {
        let (mut src, mut dst) = (Buffer::new(size, 0), Buffer::new(size, 2048));
        alone(move || {
            let (src, dst) = (src.bytes(), dst.bytes());
            for _ in 0..operations(size) {
                black_box(copy(black_box(dst), black_box(src)));
            }
        })
    })
}

fn copies(options: &Options, size: usize) {
    let mut contenders = vec![
        copying("memcpy", size, |dst, src| dst.copy_from_slice(src)),
        copying("memcpy, then dispatch", size, |dst, src| {
            dst.copy_from_slice(src);
            sum(src).fold()
        }),
        copying("fused, dispatch", size, |dst, src| {
            copy_and_sum(dst, src).fold()
        }),
    ];
    for backend in Backend::available() {
        let name = match backend.name() {
            "scalar" => "fused, scalar",
            "AVX2" => "fused, AVX2",
            "AVX-512 VNNI" => "fused, AVX-512 VNNI",
            other => other,
        };
        contenders.push(copying(name, size, move |dst, src| {
            backend.copy_and_sum(dst, src).fold()
        }));
    }
    let title = format!("copy of {size} bytes");
    show(&title, options, size, contenders);
}

/// Nanoseconds per operation where that is what counts, throughput where it is not.
fn show(title: &str, options: &Options, size: usize, contenders: Vec<Contender<'_>>) {
    let runs = operations(size) as u64;
    if size <= 64 {
        table(title, Unit::Nanoseconds, runs, options.rounds, contenders);
    } else {
        let bytes = runs * size as u64;
        table(title, Unit::Gigabytes, bytes, options.rounds, contenders);
    }
}
