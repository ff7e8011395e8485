//! The relay: calls from outside, flows that have work, timers that fire.

use core::marker::PhantomData;
use core::time::Duration;
use std::collections::VecDeque;
use std::net::SocketAddr;

use net_datapath::ZeroCopyPacket;
use net_wire::tcp::{SeqNumber, TcpFlags};

use super::config::RelayConfig;
use super::flow::{Flow, FlowKey, Phase};
use super::isn::Keys;
use super::receive::{Context, Segment, receive};
use super::reorder::Budget;
use super::socket::{HostSocket, Readiness, TcpHost};
use super::table::FlowTable;
use super::timers::{NEVER, Timers};
use super::{open, receive, retransmit, transmit};
use crate::{Egress, PortId, TcpStatistics};

/// Distance of a new sequence number from those of the connection whose addresses it takes over.
const REUSE_DISTANCE: u32 = 1 << 17;

/// Relays TCP between guests and the sockets of a [`TcpHost`].
///
/// It owns no socket and reads no clock: the host is lent to each call, and `now` is the time
/// since any fixed moment. After every call, or batch of calls, [`Self::next_deadline`] says when
/// [`Self::on_deadline`] is due; [`Duration::ZERO`] means at once, and that is how ACKs and data
/// of a whole batch are sent together.
#[derive(Debug)]
pub struct TcpRelay<H> {
    config: RelayConfig,
    table: FlowTable,
    timers: Timers,
    /// Flows with work, each at most once.
    pending: VecDeque<u32>,
    stats: TcpStatistics,
    early: Budget,
    host: PhantomData<fn(&mut H)>,
}

impl<H: TcpHost> TcpRelay<H> {
    /// A relay without flows. `seed` keys the table and the sequence numbers; it must be secret
    /// and fresh.
    pub fn new(config: RelayConfig, seed: [u8; 16]) -> Self {
        Self {
            config,
            table: FlowTable::new(Keys::new(seed)),
            timers: Timers::default(),
            pending: VecDeque::new(),
            stats: TcpStatistics::default(),
            early: Budget::default(),
            host: PhantomData,
        }
    }

    /// Counters since the relay was made.
    pub fn statistics(&self) -> TcpStatistics {
        let mut stats = self.stats;
        stats.flows = self.table.len() as u64;
        stats
    }

    /// Takes a TCP packet of the guest on port `from`.
    pub fn ingress(
        &mut self,
        host: &mut H,
        from: PortId,
        packet: &ZeroCopyPacket<'_>,
        now: Duration,
        out: &mut dyn Egress,
    ) {
        let Some((key, seg)) = Segment::parse(packet) else {
            self.stats.malformed += 1;
            return;
        };
        if !packet.verify_l4_checksum() {
            self.stats.bad_checksum += 1;
            return;
        }
        let mut least_iss = None;
        if let Some(id) = self.table.find(&key) {
            match self.disposition(id, from, &seg, out) {
                Disposition::Take => {
                    self.on_flow(id, host, now, out, |flow, ctx| receive(flow, &seg, ctx));
                    return;
                }
                Disposition::Stray => {
                    self.stats.stray += 1;
                    return;
                }
                Disposition::Replace(iss) => {
                    self.drop_flow(id, host);
                    least_iss = Some(iss);
                }
            }
        }
        if seg.is_opening() {
            self.open(key, from, &seg, least_iss, host, now, out);
        } else {
            self.stats.stray += 1;
            if !seg.has(TcpFlags::RST) {
                // RFC 9293, section 3.10.7.1.
                let mut ctx = self.context(host, now, out);
                if seg.has(TcpFlags::ACK) {
                    transmit::reset_to(&mut ctx, &key, seg.ack, None);
                } else {
                    transmit::reset_to(&mut ctx, &key, SeqNumber(0), Some(seg.seq + seg.len()));
                }
            }
        }
    }

    /// What a segment with the addresses of flow `id` is to that flow.
    fn disposition(
        &self,
        id: u32,
        from: PortId,
        seg: &Segment<'_, '_>,
        out: &dyn Egress,
    ) -> Disposition {
        let Some(flow) = self.table.get(id) else {
            return Disposition::Stray;
        };
        // A guest that borrows another's address does not get near its flows.
        let owner = flow
            .port
            .or_else(|| out.link(flow.key.guest.ip()).map(|link| link.port));
        if owner != Some(from) {
            return Disposition::Stray;
        }
        let least_iss = flow.snd_max + REUSE_DISTANCE;
        match flow.phase {
            // The guest has given up its first attempt and makes another.
            Phase::Connecting if seg.is_opening() && seg.seq != flow.irs => {
                Disposition::Replace(least_iss)
            }
            // RFC 9293, section 3.6.1 and RFC 6191: only a sequence number that lies ahead tells
            // a new connection from an old duplicate.
            Phase::TimeWait if seg.is_opening() && flow.rcv_nxt.before(seg.seq) => {
                Disposition::Replace(least_iss)
            }
            _ => Disposition::Take,
        }
    }

    #[allow(clippy::too_many_arguments)] // One caller, above.
    fn open(
        &mut self,
        key: FlowKey,
        from: PortId,
        seg: &Segment<'_, '_>,
        least_iss: Option<SeqNumber>,
        host: &mut H,
        now: Duration,
        out: &mut dyn Egress,
    ) {
        let (flows, connecting) = self
            .table
            .account(from)
            .map_or((0, 0), |account| (account.flows, account.connecting));
        if self.table.len() >= self.config.flows
            || flows >= self.config.flows_per_port
            || connecting >= self.config.half_open_per_port
        {
            self.stats.refused_limit += 1;
            let mut ctx = self.context(host, now, out);
            transmit::reset_to(&mut ctx, &key, SeqNumber(0), Some(seg.seq + 1));
            return;
        }
        let iss = self.new_iss(&key, least_iss, now);
        let mut ctx = self.context(host, now, out);
        let Some(flow) = open::guest_opens(key, from, iss, seg, &mut ctx) else {
            return;
        };
        let id = self.table.insert(flow);
        // A local service is connected already.
        self.on_flow(id, host, now, out, open::host_answered);
    }

    fn new_iss(&self, key: &FlowKey, least: Option<SeqNumber>, now: Duration) -> SeqNumber {
        let iss = self.table.keys.isn(key, now);
        match least {
            Some(least) if iss.before(least) => least,
            _ => iss,
        }
    }

    /// Takes a connection that a published port has accepted: the guest at `guest` is asked with a
    /// SYN from `client`. Returns `false` if a limit forbids it; the socket is reset then.
    pub fn accept(
        &mut self,
        host: &mut H,
        socket: HostSocket,
        client: SocketAddr,
        guest: SocketAddr,
        now: Duration,
        out: &mut dyn Egress,
    ) -> bool {
        let key = FlowKey::new(guest, client);
        let mut least_iss = None;
        if let Some(id) = self.table.find(&key)
            && let Some(flow) = self.table.get(id)
            && flow.phase == Phase::TimeWait
        {
            least_iss = Some(flow.snd_max + REUSE_DISTANCE);
            self.drop_flow(id, host);
        }
        let full = out
            .link(guest.ip())
            .and_then(|link| self.table.account(link.port))
            .is_some_and(|account| account.flows >= self.config.flows_per_port);
        let families_differ = guest.is_ipv4() != client.is_ipv4();
        if full
            || families_differ
            || self.table.len() >= self.config.flows
            || self.table.find(&key).is_some()
        {
            self.stats.refused_limit += 1;
            host.reset(socket);
            return false;
        }
        self.stats.accepted += 1;
        let iss = self.new_iss(&key, least_iss, now);
        let id = self.table.insert(open::client_flow(key, socket, iss, now));
        self.on_flow(id, host, now, out, open::send_syn);
        true
    }

    /// An event of a host socket.
    pub fn host_ready(
        &mut self,
        host: &mut H,
        socket: HostSocket,
        ready: Readiness,
        now: Duration,
        out: &mut dyn Egress,
    ) {
        let Some(id) = self.table.by_socket(socket) else {
            return;
        };
        self.on_flow(id, host, now, out, |flow, ctx| {
            if flow.phase == Phase::Connecting {
                open::host_answered(flow, ctx);
                return;
            }
            if ready.readable || ready.closed {
                flow.readable = true;
                flow.again = true;
            }
            if ready.writable && flow.watching {
                flow.watching = false;
                flow.writable = true;
                flow.again = true;
            }
        });
    }

    /// When [`Self::on_deadline`] is due: [`Duration::ZERO`] while there is work at hand, `None` when
    /// there is nothing to wait for. It may be early, never late.
    pub fn next_deadline(&self) -> Option<Duration> {
        if self.pending.is_empty() {
            self.timers.earliest()
        } else {
            Some(Duration::ZERO)
        }
    }

    /// Does what is due at `now`, and one round of the work at hand.
    pub fn on_deadline(&mut self, host: &mut H, now: Duration, out: &mut dyn Egress) {
        while let Some((at, id)) = self.timers.pop_due(now) {
            if !self.table.is_live(at, id) {
                continue;
            }
            if let Some(flow) = self.table.get_mut(id) {
                flow.scheduled = NEVER;
                if flow.due(&self.config) > now {
                    self.settle(id, host);
                    continue;
                }
            }
            self.on_flow(id, host, now, out, retransmit::fire);
        }
        self.flush(host, now, out);
    }

    /// One round of the work at hand: acknowledgments and data of the flows that the last batch of
    /// packets and events was about. [`Self::on_deadline`] includes it.
    pub fn flush(&mut self, host: &mut H, now: Duration, out: &mut dyn Egress) {
        for _ in 0..self.pending.len() {
            let Some(id) = self.pending.pop_front() else {
                return;
            };
            // The entry may be that of an earlier flow in the same place.
            let queued = self
                .table
                .get_mut(id)
                .is_some_and(|flow| core::mem::take(&mut flow.queued));
            if queued {
                self.on_flow(id, host, now, out, |flow, ctx| match flow.withdrawn {
                    true => receive::host_failed(flow, ctx),
                    false => transmit::work(flow, ctx),
                });
            }
        }
    }

    /// The guest on `port` takes packets again: after [`crate::SendStatus::Busy`], or after
    /// [`crate::GuestLink::ready`] was `false`.
    pub fn guest_writable(&mut self, port: PortId) {
        let Some(account) = self.table.ports.get_mut(&port) else {
            return;
        };
        for id in core::mem::take(&mut account.waiting) {
            if let Some(flow) = self.table.get_mut(id)
                && flow.port == Some(port)
                && core::mem::take(&mut flow.waiting)
                && !core::mem::replace(&mut flow.queued, true)
            {
                self.pending.push_back(id);
            }
        }
    }

    /// Has the connection of a host's socket end: both ends are reset, by the next [`Self::flush`].
    pub fn withdraw(&mut self, socket: HostSocket) {
        if let Some(id) = self.table.by_socket(socket)
            && let Some(flow) = self.table.get_mut(id)
        {
            flow.withdrawn = true;
            if !core::mem::replace(&mut flow.queued, true) {
                self.pending.push_back(id);
            }
        }
    }

    /// The guest on `port` is gone: its flows are reset towards the host. Other guests' flows live on.
    pub fn guest_gone(&mut self, host: &mut H, port: PortId) {
        for id in self.table.of_port(port) {
            self.drop_flow(id, host);
        }
    }

    /// Removes a flow, with a reset towards the host.
    fn drop_flow(&mut self, id: u32, host: &mut H) {
        if let Some(socket) = self.table.remove(id).and_then(|flow| flow.socket) {
            host.reset(socket);
        }
    }

    fn context<'a>(
        &'a mut self,
        host: &'a mut H,
        now: Duration,
        out: &'a mut dyn Egress,
    ) -> Context<'a, H> {
        Context {
            host,
            out,
            config: &self.config,
            stats: &mut self.stats,
            early: &self.early,
            now,
        }
    }

    /// Does something to a flow, then sees to what that has led to.
    fn on_flow(
        &mut self,
        id: u32,
        host: &mut H,
        now: Duration,
        out: &mut dyn Egress,
        act: impl FnOnce(&mut Flow, &mut Context<'_, H>),
    ) {
        let Some(flow) = self.table.get_mut(id) else {
            return;
        };
        let mut ctx = Context {
            host: &mut *host,
            out,
            config: &self.config,
            stats: &mut self.stats,
            early: &self.early,
            now,
        };
        act(flow, &mut ctx);
        self.settle(id, host);
    }

    /// Puts a flow where its state says: out of the table, into the lists, under a timer.
    fn settle(&mut self, id: u32, host: &mut H) {
        // A guest that was found late may have too many flows already.
        if self.table.count(id) > self.config.flows_per_port {
            self.stats.refused_limit += 1;
            self.drop_flow(id, host);
            return;
        }
        let Some(flow) = self.table.get_mut(id) else {
            return;
        };
        if flow.phase == Phase::Closed {
            self.drop_flow(id, host);
            return;
        }
        if flow.again && !flow.queued {
            flow.queued = true;
            self.pending.push_back(id);
        }
        let due = flow.due(&self.config);
        if due < flow.scheduled {
            flow.scheduled = due;
            self.timers.push(due, id);
        }
        let wait = core::mem::take(&mut flow.busy) && !flow.waiting;
        if wait && let Some(port) = flow.port {
            flow.waiting = true;
            if let Some(account) = self.table.ports.get_mut(&port) {
                account.waiting.push(id);
            }
        }
        let table = &self.table;
        self.timers
            .trim(table.len(), |at, id| table.is_live(at, id));
    }
}

/// See [`TcpRelay::disposition`].
enum Disposition {
    /// It belongs to the flow.
    Take,
    /// It comes from a guest whose flow this is not.
    Stray,
    /// It opens a new connection in the flow's place, with at least this sequence number.
    Replace(SeqNumber),
}
