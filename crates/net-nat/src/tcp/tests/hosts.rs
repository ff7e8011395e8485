//! A correct, simple TCP host for the simulation: handshake, data, FIN; go-back retransmission,
//! receive windows that close and open, zero-window probes, keep-alives.
//!
//! Inside, numbers are 64-bit offsets from the initial sequence number: 0 is the SYN, data begins
//! at 1. Only segments carry them modulo 2^32.

use std::collections::BTreeMap;
use std::vec::Vec;

use super::*;

/// Small deterministic generator (xorshift64*).
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) % n
    }

    pub(super) fn percent(&mut self, n: u64) -> bool {
        self.below(100) < n
    }
}

/// A segment with options of its own.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    seq: u32,
    ack: u32,
    window: u16,
    flags: u8,
    len: u32,
    options: Vec<u8>,
}

impl Sent {
    pub(super) fn view(&self) -> Segment<'_> {
        Segment {
            seq: self.seq,
            ack: self.ack,
            window: self.window,
            flags: self.flags,
            len: self.len,
            options: &self.options,
        }
    }
}

pub(super) struct Host {
    isn: u32,
    /// Bytes to send, and the most in one segment.
    total: u64,
    mss: u64,
    /// Receive buffer, and the part of it the application has not read.
    buffer: u64,
    unread: u64,
    scale: Option<u8>,
    /// Whether both sides scale, and by how much the other one does.
    scaling: bool,
    peer_scale: u8,
    peer_isn: Option<u32>,
    una: u64,
    next: u64,
    /// Right edge of what the peer allows.
    edge: u64,
    expected: u64,
    /// Received out of order: from start to end.
    islands: BTreeMap<u64, u64>,
    peer_fin: Option<u64>,
    answer: bool,
    received: u64,
}

impl Host {
    pub(super) fn new(random: &mut Random, total: u64, mss: u64, buffer: u64) -> Self {
        let scale = random.percent(80).then(|| random.below(9) as u8);
        Self {
            // Often close to where the numbers wrap.
            isn: (random.below(1 << 32) as u32) | if random.percent(50) { 0xffff_0000 } else { 0 },
            total,
            mss,
            buffer,
            unread: 0,
            scale,
            scaling: false,
            peer_scale: 0,
            peer_isn: None,
            una: 0,
            next: 0,
            edge: 0,
            expected: 0,
            islands: BTreeMap::new(),
            peer_fin: None,
            answer: false,
            received: 0,
        }
    }

    /// Whether everything is sent, acknowledged and received.
    pub(super) fn is_done(&self) -> bool {
        self.una == self.total + 2 && self.peer_fin.is_some_and(|fin| self.expected > fin)
    }

    pub(super) fn has_all_of(&self, other: &Self) -> bool {
        self.received == other.total
    }

    pub(super) fn connect(&mut self) -> Sent {
        self.next = 1;
        self.make(0, 0, SYN)
    }

    fn make(&self, offset: u64, len: u64, flags: u8) -> Sent {
        let free = self.buffer - self.unread;
        let shift = if self.scaling && flags & SYN == 0 {
            self.scale.unwrap_or(0)
        } else {
            0
        };
        let mut options = Vec::new();
        if let (true, Some(scale)) = (flags & SYN != 0, self.scale) {
            options = std::vec![1, 3, 3, scale];
        }
        Sent {
            seq: self.isn.wrapping_add(offset as u32),
            ack: self
                .peer_isn
                .unwrap_or(0)
                .wrapping_add(self.expected as u32),
            window: (free >> shift).min(65_535) as u16,
            flags: flags | if self.peer_isn.is_some() { ACK } else { 0 },
            len: len as u32,
            options,
        }
    }

    pub(super) fn receive(&mut self, segment: &Segment<'_>) {
        if segment.has(SYN) && self.peer_isn.is_none() {
            self.peer_isn = Some(segment.seq);
            self.expected = 1;
            if let (Some(_), Some(theirs)) = (self.scale, segment.scale()) {
                (self.scaling, self.peer_scale) = (true, theirs);
            }
            self.next = 1;
        }
        let Some(peer_isn) = self.peer_isn else {
            return;
        };
        if segment.has(ACK) {
            let una = self.isn.wrapping_add(self.una as u32);
            let acked = self.una as i64 + i64::from(segment.ack.wrapping_sub(una) as i32);
            if acked > self.next as i64 {
                return;
            }
            let acked = acked.max(0) as u64;
            self.una = self.una.max(acked);
            let shift = if segment.has(SYN) || !self.scaling {
                0
            } else {
                self.peer_scale
            };
            self.edge = self.edge.max(acked + (u64::from(segment.window) << shift));
        }
        let expected = peer_isn.wrapping_add(self.expected as u32);
        let start = self.expected as i64 + i64::from(segment.seq.wrapping_sub(expected) as i32);
        let end = start + i64::from(segment.space());
        self.answer |= segment.space() > 0 || start < self.expected as i64;
        if segment.has(FIN) {
            self.peer_fin = Some(end as u64 - 1);
        }
        // What does not fit in the buffer is dropped: probes of a closed window do not.
        let room = (self.expected + self.buffer - self.unread) as i64;
        if end <= self.expected as i64 || end - i64::from(segment.has(FIN)) > room {
            return;
        }
        let island = self.islands.entry(start.max(0) as u64).or_default();
        *island = (*island).max(end as u64);
        let before = self.expected;
        while let Some(first) = self.islands.first_entry() {
            if *first.key() > self.expected {
                break;
            }
            self.expected = self.expected.max(first.remove());
        }
        let fin = u64::from(self.peer_fin.is_some_and(|fin| self.expected > fin));
        self.unread += (self.expected - before).saturating_sub(fin);
        self.unread = self.unread.min(self.buffer);
        self.received = self.expected - 1 - fin;
    }

    /// What can be sent now: an answer that is due, data the peer allows, the FIN behind it.
    pub(super) fn transmit(&mut self, out: &mut Vec<Sent>) {
        if self.peer_isn.is_none() {
            return;
        }
        if self.una == 0 {
            if std::mem::take(&mut self.answer) {
                out.push(self.make(0, 0, SYN));
            }
            return;
        }
        let last = self.total + 1;
        let begun = out.len();
        while self.next < last.min(self.edge) {
            let len = self.mss.min(last.min(self.edge) - self.next);
            out.push(self.make(self.next, len, 0));
            self.next += len;
        }
        if self.next == last {
            out.push(self.make(last, 0, FIN));
            self.next += 1;
        }
        if std::mem::take(&mut self.answer) && out.len() == begun {
            out.push(self.make(self.next, 0, 0));
        }
    }

    /// The retransmission timer: repeats the first thing unacknowledged, probes a closed window,
    /// keeps a silent connection alive.
    pub(super) fn timer(&mut self, random: &mut Random, out: &mut Vec<Sent>) {
        let last = self.total + 1;
        match self.una {
            0 if self.next > 0 => out.push(self.make(0, 0, SYN)),
            0 => {}
            una if una < self.next => {
                let len = self.mss.min(self.next.min(last) - una.min(last));
                let fin = if una + len == last && self.next > last {
                    FIN
                } else {
                    0
                };
                out.push(self.make(una, len, fin));
            }
            una if una < last && random.percent(50) => {
                out.push(self.make(una, 1, 0));
                self.next = self.next.max(una + 1);
            }
            _ => out.push(self.make(self.next - 1, 0, 0)),
        }
    }

    /// The application reads some of what has come; a window that opens is announced.
    pub(super) fn read(&mut self, random: &mut Random) {
        let closed = self.unread == self.buffer;
        self.unread -= random.below(self.unread + 1);
        self.answer |= closed && self.unread < self.buffer && self.peer_isn.is_some();
    }
}
