//! What a packet costs in the NAT engine, by criterion: one call for one packet, one call for 64.
//!
//! The time of making the packets does not count.

#[allow(dead_code)]
mod buffers;
#[allow(dead_code)]
mod engines;
#[allow(dead_code)]
mod huge;

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use net_benches::traffic::{Feed, Flow, Kind, Source, order};
use net_nat::{Direction, Verdict};

use buffers::{BATCH, Buffers};
use engines::Ours;

fn udp_outbound(criterion: &mut Criterion) {
    for flows in [256, 64_512] {
        let mut group = criterion.benchmark_group(format!("UDP outbound, {flows} flows"));
        let mut engine = Ours::new(flows, |_| {});
        let in_order = (0..flows).map(Flow::number);
        let mut opening = Feed::<14>::new(Kind::Udp, flows, in_order);
        engine.open(Kind::Udp, &mut opening, flows);
        let random = order::uniform(flows).map(Flow::number);
        let mut feed = Feed::<14>::new(Kind::Udp, flows, random);
        let Ours { engine, now } = &mut engine;

        group.throughput(Throughput::Elements(BATCH as u64));
        let buffers = std::cell::RefCell::new(Buffers::new());
        let fill = |feed: &mut Feed<14>| feed.fill::<0>(&mut buffers.borrow_mut().packets());
        group.bench_function("64 in a batch", |bencher| {
            bencher.iter_batched(
                || fill(&mut feed),
                |()| {
                    let mut buffers = buffers.borrow_mut();
                    let mut verdicts = [Verdict::Pass; BATCH];
                    let packets = &mut buffers.packets();
                    engine.translate_batch(packets, Direction::Outbound, *now, &mut verdicts);
                    verdicts
                },
                BatchSize::PerIteration,
            );
        });
        group.bench_function("64 one by one", |bencher| {
            bencher.iter_batched(
                || fill(&mut feed),
                |()| {
                    for packet in buffers.borrow_mut().packets() {
                        let _ = black_box(engine.translate(packet, Direction::Outbound, *now));
                    }
                },
                BatchSize::PerIteration,
            );
        });
        group.finish();
    }
}

criterion_group!(nat, udp_outbound);
criterion_main!(nat);
