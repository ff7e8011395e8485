//! What the fake is to do, and what has happened to it.

use std::collections::VecDeque;
use std::time::Duration;

use crate::forwarding::RawRule;
use crate::framework::OnEvent;
use crate::key::{Dictionary, Key, MacosRelease, Value};
use crate::network::Step;

/// When a completion is told.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answer {
    /// On the queue, so often.
    Times(u32),
    /// On the queue, so much later.
    After(Duration),
    /// Before the call that asks for it returns.
    Within,
    Never,
    /// Never, and the handler is given up.
    Dropped,
}

/// What the fake is to do.
#[derive(Clone)]
pub(crate) struct Script {
    pub(crate) release: MacosRelease,
    /// The names that can be bridged; `None` is the NULL of a failure.
    pub(crate) bridgeable: Option<Vec<String>>,
    pub(crate) start_status: u32,
    pub(crate) start_answer: Answer,
    pub(crate) reply: Dictionary,
    /// The start returns NULL.
    pub(crate) null_interface: bool,
    pub(crate) events_status: u32,
    /// What the call that asks to stop returns.
    pub(crate) stop_asked: u32,
    /// What its completion is told.
    pub(crate) stop_status: u32,
    pub(crate) stop_answer: Answer,
    pub(crate) rules_asked: u32,
    pub(crate) rules_status: u32,
    pub(crate) rules_answer: Answer,
    pub(crate) network_status: u32,
    /// Packets of one call.
    pub(crate) read_most: usize,
    pub(crate) write_most: usize,
    /// Packets that are held before the interface is full.
    pub(crate) room: usize,
    /// Being full is `VMNET_BUFFER_EXHAUSTED`, not a short count.
    pub(crate) exhausted: bool,
    /// Packets of several pieces are refused.
    pub(crate) one_piece: bool,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            release: MacosRelease(26, 0),
            bridgeable: Some(vec!["en0".to_owned(), "en10".to_owned()]),
            start_status: 1000,
            start_answer: Answer::Times(1),
            reply: reply(1500, 1514),
            null_interface: false,
            events_status: 1000,
            stop_asked: 1000,
            stop_status: 1000,
            stop_answer: Answer::Times(1),
            rules_asked: 1000,
            rules_status: 1000,
            rules_answer: Answer::Times(1),
            network_status: 1000,
            read_most: 256,
            write_most: 256,
            room: 256,
            exhausted: false,
            one_piece: false,
        }
    }
}

/// What the framework says of an interface with these sizes; the rest as a Mac has it.
pub(crate) fn reply(mtu: u64, max_packet: u64) -> Dictionary {
    let mut reply = Dictionary::default();
    let text = |text: &str| Value::Text(text.to_owned());
    reply.set(Key::MacAddress, text("0a:d6:36:c1:ea:f3"));
    reply.set(Key::Mtu, Value::Number(mtu));
    reply.set(Key::MaxPacketSize, Value::Number(max_packet));
    reply.set(Key::StartAddress, text("192.168.105.1"));
    reply.set(Key::EndAddress, text("192.168.105.254"));
    reply.set(Key::SubnetMask, text("255.255.255.0"));
    reply.set(Key::InterfaceId, Value::Uuid([7; 16]));
    reply.set(Key::Nat66Prefix, text("fd2d:1b24:620:47::"));
    reply.set(Key::ReadMaxPackets, Value::Number(256));
    reply.set(Key::WriteMaxPackets, Value::Number(255));
    reply
}

/// What has happened.
pub(crate) struct State {
    pub(crate) script: Script,
    pub(crate) requests: Vec<Dictionary>,
    pub(crate) network_mode: Option<u32>,
    pub(crate) steps: Vec<Step>,
    pub(crate) networks: i32,
    pub(crate) started: u32,
    /// Calls to stop, and interfaces that were dropped here.
    pub(crate) stops: u32,
    pub(crate) dropped: u32,
    pub(crate) on_event: Option<OnEvent>,
    pub(crate) event_masks: Vec<u32>,
    pub(crate) announced: u32,
    pub(crate) inbound: VecDeque<Vec<u8>>,
    pub(crate) outbound: VecDeque<Vec<u8>>,
    /// Statuses of the next reads and writes.
    pub(crate) next_reads: VecDeque<u32>,
    pub(crate) next_writes: VecDeque<u32>,
    pub(crate) reads: u32,
    /// Packets offered by each write, and pieces of its first packet.
    pub(crate) writes: Vec<(usize, usize)>,
    /// The most packets asked for by a read.
    pub(crate) most_read: usize,
    pub(crate) dead: bool,
    /// Packets come, and nobody is told.
    pub(crate) asleep: bool,
    pub(crate) rules: Vec<RawRule>,
}

impl State {
    pub(crate) fn new(script: Script) -> Self {
        Self {
            script,
            requests: Vec::new(),
            network_mode: None,
            steps: Vec::new(),
            networks: 0,
            started: 0,
            stops: 0,
            dropped: 0,
            on_event: None,
            event_masks: Vec::new(),
            announced: 0,
            inbound: VecDeque::new(),
            outbound: VecDeque::new(),
            next_reads: VecDeque::new(),
            next_writes: VecDeque::new(),
            reads: 0,
            writes: Vec::new(),
            most_read: 0,
            dead: false,
            asleep: false,
            rules: Vec::new(),
        }
    }
}
