//! The UDP relay.
//!
//! # Theory of operation
//!
//! **A guest's socket is a host's socket.** The first datagram from an address and port of a guest
//! opens one unconnected socket of the host, and every datagram from there goes through it,
//! wherever it goes: outside, the guest shows one port to all destinations (endpoint-independent
//! mapping, RFC 4787, REQ-1). Whatever arrives at that port goes to the guest with its real
//! source (endpoint-independent filtering, REQ-8), except what comes from addresses that the guest
//! could not have meant: see [`crate::address`].
//!
//! **A client of a published port is an entry in a table**, without a socket of its own. The guest
//! sees the client's address, and answers to it leave through the published socket, from the very
//! address that the client used. A client whose address the guest cannot answer (the host's
//! loopback, the other family) appears as the gateway with a port of its own.
//!
//! **Errors.** ICMP errors for what a socket sent wait in its error queue, and become ICMP errors
//! for the guest that quote the guest's own packet. They never end a flow (REQ-12).
//!
//! **Back-pressure.** A socket whose guest has a full queue is not read: the kernel's receive
//! buffer fills, and the kernel drops, as it does for a slow program.
//!
//! | module | its part |
//! |---|---|
//! | `guest` | datagrams of a guest: find or open the flow, send |
//! | `host` | datagrams and errors of a flow's socket |
//! | `published` | published ports and their clients |

mod guest;
mod host;
mod published;
#[cfg(test)]
mod tests;

use core::time::Duration;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};

use hashbrown::HashMap;
use slab::Slab;
use socket2::Socket;

use crate::deliver::{Deliverer, Delivery};
use crate::hash::KeyedState;
use crate::sys::Batch;
use crate::table::{FlowTable, Removed};
use crate::travel::TravelOptions;
use crate::turn::Turn;
use crate::waiting::Waiting;
use crate::{Config, Forward, PortId, UdpStatistics};

pub(crate) use guest::{answer_to, is_exhausted};

/// Batches that one socket may deliver before others get their turn.
const BATCHES_PER_TURN: usize = 4;

/// Time-out classes of flows.
const CLASS_DNS: usize = 0;
const CLASS_OTHER: usize = 1;

/// A guest's socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct FlowKey {
    port: PortId,
    guest: SocketAddr,
}

/// The host's socket for it, with the options it has now.
#[derive(Debug)]
struct Flow {
    socket: Socket,
    options: TravelOptions,
    /// It has only ever spoken to port 53.
    dns_only: bool,
    /// It stands in `waiting`.
    waiting: bool,
}

/// A client of a published port, as its guest names the two ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct ClientKey {
    port: PortId,
    guest: SocketAddr,
    seen: SocketAddr,
}

/// The same client as the host names it.
#[derive(Debug, Clone, Copy)]
struct Client {
    published: usize,
    addr: SocketAddr,
    /// The address of the host it talks to, where the published socket has several.
    local: Option<IpAddr>,
}

/// The socket of a published port.
#[derive(Debug)]
struct Published {
    socket: Socket,
    forward: Forward,
    /// It has the wildcard address: replies must say which one they come from.
    wildcard: bool,
    waiting: bool,
}

/// A socket to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Readable {
    Flow(usize),
    Published(usize),
}

/// The flows of all guests.
#[derive(Debug)]
pub(crate) struct UdpRelay {
    flows: FlowTable<FlowKey, Flow, 2>,
    clients: FlowTable<ClientKey, Client, 1>,
    by_client: HashMap<(usize, SocketAddr), usize, KeyedState>,
    published: Slab<Published>,
    waiting: Waiting<Readable>,
    batch: Batch,
    deliverer: Deliverer,
    /// Where the search for a client's port starts.
    next_port: u16,
    /// Whether the host cuts large sends into datagrams.
    segmentation: bool,
    stats: UdpStatistics,
}

impl UdpRelay {
    pub(crate) fn new(config: &Config) -> Self {
        let hash = |table| KeyedState::new(&config.seed, table);
        let (limit, timeouts) = (config.limits.udp_flows, &config.timeouts);
        let [a, b, c, d, e, f, ..] = config.seed;
        Self {
            flows: FlowTable::new(hash(1), limit, [timeouts.udp_dns, timeouts.udp]),
            clients: FlowTable::new(hash(2), limit, [timeouts.udp]),
            by_client: HashMap::with_hasher(hash(3)),
            published: Slab::new(),
            waiting: Waiting::new(),
            batch: Batch::new(),
            deliverer: Deliverer::new(u32::from_ne_bytes([a, b, c, d])),
            next_port: u16::from_ne_bytes([e, f]),
            segmentation: cfg!(target_os = "linux"),
            stats: UdpStatistics::default(),
        }
    }

    /// A flow's socket has something.
    pub(crate) fn flow_ready(&mut self, turn: &mut Turn<'_>, slot: usize) {
        self.read(turn, Readable::Flow(slot));
    }

    /// A published socket has something.
    pub(crate) fn published_ready(&mut self, turn: &mut Turn<'_>, slot: usize) {
        self.read(turn, Readable::Published(slot));
    }

    /// The guest at `port` has room again.
    pub(crate) fn guest_writable(&mut self, turn: &mut Turn<'_>, port: PortId) {
        for item in self.waiting.take_blocked(port) {
            self.read(turn, item);
        }
    }

    /// When [`Self::on_deadline`] has something to do next.
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        if self.waiting.has_backlog() {
            return Some(Duration::ZERO);
        }
        [self.flows.next_deadline(), self.clients.next_deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Continues what had to wait for others and forgets what is idle.
    pub(crate) fn on_deadline(&mut self, turn: &mut Turn<'_>) {
        for item in self.waiting.take_backlog() {
            self.read(turn, item);
        }
        while let Some(gone) = self.flows.expire(turn.now) {
            self.stats.timed_out += 1;
            self.close_flow(gone);
        }
        while let Some(gone) = self.clients.expire(turn.now) {
            self.stats.timed_out += 1;
            self.forget_client(&gone);
        }
    }

    /// Forgets a guest. Its published ports stay: it may come back under another port.
    pub(crate) fn guest_gone(&mut self, port: PortId) {
        while let Some(gone) = self.flows.evict(port) {
            self.close_flow(gone);
        }
        while let Some(gone) = self.clients.evict(port) {
            self.forget_client(&gone);
        }
        // Published sockets that waited for this guest find the next one, or nobody.
        for item in self.waiting.take_blocked(port) {
            self.waiting.later(item);
        }
    }

    /// The counters.
    pub(crate) fn statistics(&self) -> UdpStatistics {
        let flows = self.flows.len() + self.clients.len();
        UdpStatistics {
            flows: flows as u64,
            ..self.stats
        }
    }

    fn read(&mut self, turn: &mut Turn<'_>, item: Readable) {
        match item {
            Readable::Flow(slot) => {
                if let Some(flow) = self.flows.get_mut(slot) {
                    flow.waiting = false;
                    self.read_flow(turn, slot);
                }
            }
            Readable::Published(slot) => {
                if let Some(published) = self.published.get_mut(slot) {
                    published.waiting = false;
                    self.read_published(turn, slot);
                }
            }
        }
    }

    /// Remembers to read `item`: when the guest at `blocked_by` has room, or after others.
    fn wait(&mut self, item: Readable, blocked_by: Option<PortId>) {
        let waiting = match item {
            Readable::Flow(slot) => self.flows.get_mut(slot).map(|flow| &mut flow.waiting),
            Readable::Published(slot) => self.published.get_mut(slot).map(|one| &mut one.waiting),
        };
        match waiting {
            Some(waiting) if !*waiting => *waiting = true,
            _ => return,
        }
        match blocked_by {
            Some(port) => self.waiting.block(port, item),
            None => self.waiting.later(item),
        }
    }

    /// The last step of a flow: dropping the socket closes it and ends its events.
    fn close_flow(&mut self, gone: Removed<FlowKey, Flow>) {
        if gone.value.waiting {
            self.waiting
                .forget(gone.key.port, &Readable::Flow(gone.slot));
        }
    }

    fn forget_client(&mut self, gone: &Removed<ClientKey, Client>) {
        let key = (gone.value.published, gone.value.addr);
        if self.by_client.get(&key) == Some(&gone.slot) {
            self.by_client.remove(&key);
        }
    }

    fn socket(&self, item: Readable) -> Option<BorrowedFd<'_>> {
        match item {
            Readable::Flow(slot) => self.flows.get(slot).map(|flow| flow.socket.as_fd()),
            Readable::Published(slot) => self.published.get(slot).map(|one| one.socket.as_fd()),
        }
    }
}

/// Counts what became of a datagram towards a guest.
fn count(stats: &mut UdpStatistics, fate: Delivery) {
    match fate {
        Delivery::Sent => stats.to_guest += 1,
        Delivery::Busy => stats.guest_busy += 1,
        Delivery::Gone => stats.guest_gone += 1,
        Delivery::NoBuffer => stats.no_buffer += 1,
        Delivery::TooBig => stats.too_big += 1,
    }
}
