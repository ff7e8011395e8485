//! Established TCP connections.

use std::cell::RefCell;

use net_benches::harness::{Contender, Options, contender};
use net_benches::traffic::{ACK, Feed, Flow, Kind, PSH, SYN};
use net_nat::Direction::{Inbound, Outbound};

use crate::buffers::{BATCH, Buffers};
use crate::contend::{PEER, fill, line, packets, timed};
use crate::engines::{Call, Ours, Peer, STEP, Translator};
use crate::ladder::{LADDER, in_order, shuffled};

/// First sequence numbers of the inside and of the outside.
const CLIENT: u32 = 0x1000_0000;
const SERVER: u32 = 0x2000_0000;
/// A segment of data of either side, the first one after the handshake.
const REQUEST: Kind = Kind::Tcp(ACK | PSH, CLIENT + 1, SERVER + 1);
const ANSWER: Kind = Kind::Tcp(ACK | PSH, SERVER + 1, CLIENT + 1);
/// With the fewest flows a batch has four segments of each before the first answer comes.
const LAG: i32 = 4;

/// Shakes hands for all flows; what stands for the sources outside.
fn connect(engine: &mut Ours, flows: usize) -> Vec<(u32, u16)> {
    let syn = Kind::Tcp(SYN, CLIENT, 0);
    let outside = engine.open(syn, &mut in_order::<14>(syn, flows), flows);
    let answers = (0..flows).map(|i| Flow::number(i).answer(outside[i]));
    let syn_ack = Kind::Tcp(SYN | ACK, SERVER, CLIENT + 1);
    let mut answers = Feed::<14>::new(syn_ack, flows, answers);
    engine.each(Inbound, &mut answers, flows, |_| {});
    let ack = Kind::Tcp(ACK, CLIENT + 1, SERVER + 1);
    engine.open(ack, &mut in_order::<14>(ack, flows), flows);
    outside
}

/// What both sides send, in the same order.
#[derive(Clone)]
struct Conversation {
    requests: Feed<14>,
    answers: Feed<14>,
}

impl Conversation {
    fn new(flows: usize, outside: &[(u32, u16)]) -> Self {
        let answer = |i| Flow::number(i).answer(outside[i]);
        Self {
            requests: shuffled(REQUEST, flows, Flow::number).moving(LAG),
            // The last request is acknowledged, not the one before it.
            answers: shuffled(ANSWER, flows, answer).moving(-1),
        }
    }
}

/// A batch of requests, a batch of answers, and so on.
fn talk<'a, T: Translator>(
    name: &'static str,
    engine: &'a RefCell<T>,
    flows: usize,
    call: Call,
    conversation: &'a RefCell<Conversation>,
) -> Contender<'a> {
    let mut buffers = Buffers::new();
    contender(name, move || {
        let engine = &mut *engine.borrow_mut();
        let Conversation { requests, answers } = &mut *conversation.borrow_mut();
        timed(flows, T::PART, |n| {
            for _ in 0..n / (2 * BATCH) {
                engine.run((call, Outbound, STEP), requests, &mut buffers, BATCH);
                engine.run((call, Inbound, STEP), answers, &mut buffers, BATCH);
            }
        })
    })
}

pub(crate) fn all(options: &Options) {
    for flows in crate::flows(options, &LADDER) {
        let (mut engine, mut arcbox) = (Ours::new(flows, |_| {}), Peer::new());
        let outside = connect(&mut engine, flows);
        let theirs = arcbox.open(&mut in_order(REQUEST, flows), flows);
        let (engine, arcbox) = (RefCell::new(engine), RefCell::new(arcbox));
        let feed = shuffled::<14>(REQUEST, flows, Flow::number);
        let ours = |name, call| line(name, &engine, flows, (call, Outbound, STEP), feed.clone());
        packets(
            &format!("TCP outbound, {flows} flows, random order, repeated segments, packets"),
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
        drop(feed);

        let ours = RefCell::new(Conversation::new(flows, &outside));
        let peers = RefCell::new(Conversation::new(flows, &theirs));
        packets(
            &format!("TCP both ways, {flows} flows, random order, new data, packets"),
            options,
            vec![
                talk("net-nat, batches", &engine, flows, Call::Batch, &ours),
                talk("net-nat, single", &engine, flows, Call::Single, &ours),
                talk(PEER, &arcbox, flows, Call::Single, &peers),
            ],
        );
    }
}
