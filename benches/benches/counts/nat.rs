//! Translating packets of 64 flows, and opening sessions.
//!
//! Copying each packet into its buffer counts too: 64 bytes.

use std::hint::black_box;
use std::time::Duration;

use net_benches::traffic::{ACK, Flow, Kind, LEN, PSH, SYN};
use net_nat::{Direction, NatConfig, NatEngine, Prefix, Verdict};

use crate::Operation;

const FLOWS: usize = 64;
const NOW: Duration = Duration::from_secs(10);
const UDP: Kind = Kind::Udp;

type Packets = Vec<[u8; LEN]>;

pub(crate) const OPERATIONS: &[Operation] = &[
    ("nat-batch-udp", |n| {
        let mut engine = engine();
        let (packets, _) = open(&mut engine, UDP);
        batches(n, &mut engine, &packets, Direction::Outbound);
    }),
    ("nat-batch-udp-inbound", |n| {
        let mut engine = engine();
        let (_, answers) = open(&mut engine, UDP);
        let answers = of_flows(UDP, answers);
        batches(n, &mut engine, &answers, Direction::Inbound);
    }),
    ("nat-batch-tcp", |n| {
        let (mut engine, packets) = connected();
        batches(n, &mut engine, &packets, Direction::Outbound);
    }),
    ("nat-single-udp", |n| {
        let mut engine = engine();
        let (packets, _) = open(&mut engine, UDP);
        for i in 0..n as usize {
            let mut packet = packets[i % FLOWS];
            let packet = black_box(packet.as_mut_slice());
            let _ = black_box(engine.translate(packet, Direction::Outbound, NOW));
        }
    }),
    ("nat-open-udp", |n| {
        // Made before it is known how many of them are needed.
        let packets: Packets = (0..1 << 14).map(|i| UDP.packet(Flow::new(i, 16))).collect();
        let mut engine = engine();
        for packet in packets.iter().take(n as usize) {
            let mut packet = *packet;
            let packet = black_box(packet.as_mut_slice());
            let _ = black_box(engine.translate(packet, Direction::Outbound, NOW));
        }
        assert_eq!(engine.counters().opened, n);
    }),
];

fn engine() -> NatEngine {
    let inside = Prefix::new([10, 0, 0, 0].into(), 8).expect("8 bits");
    let mut config = NatConfig::new([7; 16], inside, [203, 0, 113, 1].into());
    config.limits.new_per_second = 0;
    NatEngine::new(config).expect("a sound configuration")
}

/// Translates each packet once.
fn pass(engine: &mut NatEngine, packets: &Packets, direction: Direction) -> Packets {
    let mut translated = packets.clone();
    for packet in &mut translated {
        let verdict = engine.translate(packet, direction, NOW);
        assert!(matches!(verdict, Verdict::Translated(_)), "{verdict:?}");
    }
    translated
}

fn of_flows(kind: Kind, flows: impl IntoIterator<Item = Flow>) -> Packets {
    flows.into_iter().map(|flow| kind.packet(flow)).collect()
}

/// Opens a session for each flow; the packets that did, and where answers to them come from and go.
fn open(engine: &mut NatEngine, kind: Kind) -> (Packets, Vec<Flow>) {
    let packets = of_flows(kind, (0..FLOWS).map(Flow::number));
    let translated = pass(engine, &packets, Direction::Outbound);
    let answers = translated.iter().enumerate();
    let answers = answers.map(|(i, packet)| Flow::number(i).answer(kind.source(packet)));
    (packets, answers.collect())
}

/// An engine with established connections, and a segment of data of each.
fn connected() -> (NatEngine, Packets) {
    let mut engine = engine();
    let (_, answers) = open(&mut engine, Kind::Tcp(SYN, 1000, 0));
    let answers = of_flows(Kind::Tcp(SYN | ACK, 5000, 1001), answers);
    pass(&mut engine, &answers, Direction::Inbound);
    let flows = || (0..FLOWS).map(Flow::number);
    let packets = of_flows(Kind::Tcp(ACK, 1001, 5001), flows());
    pass(&mut engine, &packets, Direction::Outbound);
    (engine, of_flows(Kind::Tcp(ACK | PSH, 1001, 5001), flows()))
}

fn batches(n: u64, engine: &mut NatEngine, packets: &Packets, direction: Direction) {
    let mut buffers = packets.clone();
    let mut batch: Vec<_> = buffers.iter_mut().map(|b| b.as_mut_slice()).collect();
    let mut verdicts = [Verdict::Pass; FLOWS];
    for _ in 0..n / FLOWS as u64 {
        for (buffer, packet) in batch.iter_mut().zip(packets) {
            buffer.copy_from_slice(packet);
        }
        engine.translate_batch(&mut batch, direction, NOW, &mut verdicts);
        black_box(&verdicts);
    }
}
