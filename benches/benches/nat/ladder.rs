//! Known flows from few to many.

use std::cell::RefCell;
use std::time::Duration;

use net_benches::harness::Options;
use net_benches::traffic::{Feed, Flow, Kind, order};
use net_nat::Direction::{Inbound, Outbound};

use crate::buffers::BATCH;
use crate::contend::{PEER, fill, line, packets};
use crate::engines::{Call, Ours, Peer, STEP};

/// Flows: a handful, and up to all ports of 64 outside addresses.
pub(crate) const LADDER: [usize; 7] = [16, 256, 4_096, 64_512, 258_048, 1_032_192, 4_128_768];
/// Some of them, for what differs little from outbound UDP.
pub(crate) const SOME: [usize; 4] = [16, 256, 64_512, 1_032_192];

/// A feed of the first so many flows, in the order of their numbers.
pub(crate) fn in_order<const N: usize>(kind: Kind, flows: usize) -> Feed<N> {
    Feed::new(kind, flows, (0..flows).map(Flow::number))
}

/// A feed of these flows in random order.
pub(crate) fn shuffled<const N: usize>(
    kind: Kind,
    flows: usize,
    flow: impl Fn(usize) -> Flow,
) -> Feed<N> {
    Feed::new(kind, flows, order::uniform(flows).map(flow))
}

/// Such a time between two batches that a second passes before a flow comes again.
fn a_second_a_round(flows: usize) -> Duration {
    Duration::from_secs(1) * BATCH as u32 / flows as u32
}

/// Both engines with UDP sessions of the first so many flows.
pub(crate) fn with_udp(flows: usize) -> (RefCell<Ours>, RefCell<Peer>) {
    let (mut engine, mut arcbox) = (Ours::new(flows, |_| {}), Peer::new());
    let mut feed = in_order::<14>(Kind::Udp, flows);
    engine.open(Kind::Udp, &mut feed, flows);
    arcbox.open(&mut feed, flows);
    (RefCell::new(engine), RefCell::new(arcbox))
}

/// Outbound UDP in random order.
pub(crate) fn udp(options: &Options) {
    for flows in crate::flows(options, &LADDER) {
        let (engine, arcbox) = with_udp(flows);
        let feed = shuffled::<14>(Kind::Udp, flows, Flow::number);
        let (batch, single) = (Call::Batch, Call::Single);
        let ours = |name, how| line(name, &engine, flows, how, feed.clone());
        packets(
            &format!("UDP outbound, {flows} flows, random order, packets"),
            options,
            vec![
                ours("net-nat, batches", (batch, Outbound, STEP)),
                ours(
                    "net-nat, batches, timers all move",
                    (batch, Outbound, a_second_a_round(flows)),
                ),
                ours("net-nat, single", (single, Outbound, STEP)),
                line(
                    PEER,
                    &arcbox,
                    flows,
                    (Call::Single, Outbound, STEP),
                    feed.clone(),
                ),
                fill(flows, feed.clone()),
            ],
        );
    }
}

/// Outbound UDP, few flows having most of the packets.
pub(crate) fn zipf(options: &Options) {
    for flows in crate::flows(options, &SOME) {
        let (engine, arcbox) = with_udp(flows);
        let order: Vec<_> = order::zipf(flows).map(Flow::number).collect();
        let feed = Feed::<14>::new(Kind::Udp, order.len(), order);
        let ours = |name, call| {
            let how = (call, Outbound, STEP);
            line(name, &engine, flows, how, feed.clone())
        };
        packets(
            &format!("UDP outbound, {flows} flows, by Zipf's law, packets"),
            options,
            vec![
                ours("net-nat, batches", Call::Batch),
                ours("net-nat, single", Call::Single),
                line(
                    PEER,
                    &arcbox,
                    flows,
                    (Call::Single, Outbound, STEP),
                    feed.clone(),
                ),
                fill(flows, feed.clone()),
            ],
        );
    }
}

/// The answers of outbound UDP in random order.
pub(crate) fn inbound(options: &Options) {
    for flows in crate::flows(options, &SOME) {
        let (mut engine, mut arcbox) = (Ours::new(flows, |_| {}), Peer::new());
        let mut opening = in_order::<14>(Kind::Udp, flows);
        let outside = engine.open(Kind::Udp, &mut opening, flows);
        let theirs = arcbox.open(&mut opening, flows);
        let (engine, arcbox) = (RefCell::new(engine), RefCell::new(arcbox));
        let answers = |outside: &[(u32, u16)]| {
            shuffled::<14>(Kind::Udp, flows, |i| Flow::number(i).answer(outside[i]))
        };
        let feed = answers(&outside);
        let ours = |name, call| {
            let how = (call, Inbound, STEP);
            line(name, &engine, flows, how, feed.clone())
        };
        packets(
            &format!("UDP inbound, {flows} flows, random order, packets"),
            options,
            vec![
                ours("net-nat, batches", Call::Batch),
                ours("net-nat, single", Call::Single),
                line(
                    PEER,
                    &arcbox,
                    flows,
                    (Call::Single, Inbound, STEP),
                    answers(&theirs),
                ),
                fill(flows, feed.clone()),
            ],
        );
    }
}

/// Outbound UDP over IPv6, which the peer has not.
pub(crate) fn ipv6(options: &Options) {
    for flows in crate::flows(options, &SOME) {
        let mut engine = Ours::new_v6(flows);
        engine.open(Kind::Udp6, &mut in_order::<36>(Kind::Udp6, flows), flows);
        let engine = RefCell::new(engine);
        let feed = shuffled::<36>(Kind::Udp6, flows, Flow::number);
        let ours = |name, call| {
            let how = (call, Outbound, STEP);
            line(name, &engine, flows, how, feed.clone())
        };
        packets(
            &format!("UDP over IPv6 outbound, {flows} flows, random order, packets"),
            options,
            vec![
                ours("net-nat, batches", Call::Batch),
                ours("net-nat, single", Call::Single),
                fill(flows, feed.clone()),
            ],
        );
    }
}
