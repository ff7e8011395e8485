//! Sessions come.

use net_wire::ip_proto;

use super::Nat;
use super::common::Common;
use super::map::{Grant, behaviour};
use crate::address::{Address, Endpoint};
use crate::config::Dependence;
use crate::contacts::Contacts;
use crate::direction::Direction;
use crate::event::Event;
use crate::family::Family;
use crate::hash::Keys;
use crate::mapping::{MappingKey, space};
use crate::ports::SEVERAL;
use crate::rewrite::{Deltas, deltas};
use crate::session::{Session, Timer};
use crate::tcp::{Class, Track};
use crate::verdict::DropReason;

/// What the session of a packet is found by.
#[derive(Clone, Copy)]
pub(super) struct Flow<A> {
    pub(super) direction: Direction,
    pub(super) protocol: u8,
    /// The guest's end for outbound packets, ours for inbound ones.
    pub(super) local: Endpoint<A>,
    pub(super) remote: Endpoint<A>,
    /// Of all that.
    pub(super) hash: u64,
}

impl<A: Address> Flow<A> {
    #[inline]
    pub(super) fn new(
        keys: &Keys,
        direction: Direction,
        protocol: u8,
        local: Endpoint<A>,
        remote: Endpoint<A>,
    ) -> Self {
        Self {
            direction,
            protocol,
            local,
            remote,
            hash: keys.flow(direction as u8, protocol, local, remote),
        }
    }
}

/// The state of TCP after the first segment, of a session of TCP.
pub(super) type First = Option<(Track, Class)>;

/// Sessions that are asked for before the one that is being entered.
const AHEAD: usize = 16;

/// Where a new session has still to be entered: for the outside, which cannot reach it before that if its
/// mapping has several, and for the filter.
///
/// Those places lie anywhere in memory. Those of a batch are asked for and used together when it is done,
/// or when somebody inside calls from without: many of them can be on their way at once, and nothing else
/// waits for them.
pub(super) struct Pending {
    /// What inbound packets find it by, unless its port tells.
    back: Option<u64>,
    number: u32,
    /// What the filter finds the address it speaks to by, unless the mapping says that itself.
    contact: Option<u64>,
}

impl<F: Family> Nat<F> {
    /// The session of a packet, be it over.
    #[inline(always)]
    pub(super) fn known(&self, flow: &Flow<F::Addr>) -> Option<u32> {
        let is = |number| {
            let session = self.sessions.get(number);
            session.is_some_and(|s| s.is(flow.direction, flow.protocol, flow.local, flow.remote))
        };
        if flow.direction == Direction::Outbound {
            return self.index.find(flow.hash, is);
        }
        if let Some(space) = space(flow.protocol) {
            let place = self.externals.place(flow.local)?;
            let number = self.externals.session(space, place);
            if number != SEVERAL {
                return is(number).then_some(number);
            }
        }
        self.shared.find(flow.hash, is)
    }

    /// The session of a packet, if there is one that is alive.
    #[inline(always)]
    pub(super) fn find(&mut self, common: &mut Common, flow: &Flow<F::Addr>) -> Option<u32> {
        let number = self.known(flow)?;
        if self.sessions.get(number)?.expires < common.tick {
            self.close(common, number);
            return None;
        }
        Some(number)
    }

    /// Opens the session of an outbound packet, and its mapping if there is none; `hash` is the
    /// mapping's. With `hairpin`, the other end is an outside address of ours.
    #[inline(always)]
    pub(super) fn open_outbound(
        &mut self,
        common: &mut Common,
        flow: &Flow<F::Addr>,
        hash: u64,
        tcp: &First,
        hairpin: bool,
    ) -> Result<u32, DropReason> {
        // Before anything is looked up: it may take away the very mapping that would be found.
        self.make_room(common);
        if self.sessions.is_full() {
            return Err(DropReason::TableFull);
        }
        let key = self.mapping_key(common, flow.protocol, flow.local, flow.remote);
        let known = self.mappings.find(hash, &key);
        let known = match known {
            None => self.own_mapping(flow.protocol, flow.local),
            known => known,
        };
        let grant = match known {
            Some(mapping) => self.admit(common, mapping)?,
            None => self.map(common, hash, &key, false)?,
        };
        let number = self.open(common, flow, flow.hash, (flow.local, grant), tcp, hairpin)?;
        if tcp.is_some() {
            // The SYN that waited was for this connection: both ends opened at once.
            self.unsolicited.forget(grant.outside, flow.remote);
        }
        Ok(number)
    }

    /// Opens the session of an inbound packet that is for `inside`, by the mapping that admits it or,
    /// for a host with an address of its own, by a new one.
    pub(super) fn open_inbound(
        &mut self,
        common: &mut Common,
        flow: &Flow<F::Addr>,
        mapping: Option<u32>,
        inside: Endpoint<F::Addr>,
        tcp: &First,
    ) -> Result<u32, DropReason> {
        if self.sessions.is_full() {
            return Err(DropReason::TableFull);
        }
        // The same two ends by another outside endpoint: the inside could not tell the two flows
        // apart, nor could we its answers.
        let (protocol, remote) = (flow.protocol, flow.remote);
        let answers = Flow::new(&common.keys, Direction::Outbound, protocol, inside, remote);
        if self.find(common, &answers).is_some() {
            return Err(DropReason::Filtered);
        }
        let grant = match mapping {
            Some(mapping) => self.admit(common, mapping)?,
            None => {
                let anyone = Endpoint::new(F::Addr::UNSPECIFIED, 0);
                let key = MappingKey {
                    protocol,
                    inside,
                    remote: anyone,
                };
                let hash = key.hash(&common.keys);
                // Its own packets may leave by a forward from elsewhere.
                let twice = self.mappings.find(hash, &key).is_some();
                self.map(common, hash, &key, twice)?
            }
        };
        let hairpin = self.externals.number(remote.addr).is_some();
        self.open(common, flow, answers.hash, (inside, grant), tcp, hairpin)
    }

    /// A new mapping gets sessions that have ended out of the way, a few at a time, so that the table
    /// empties as fast as it fills even if nobody calls `expire`.
    #[inline(always)]
    pub(super) fn make_room(&mut self, common: &mut Common) {
        // Once nothing is due, nothing becomes so before the next second.
        if self.looked_at != common.tick {
            self.expire_some(common, 2);
        }
    }

    /// Makes the record of a session and puts it everywhere it belongs; there is room. It is
    /// found from the inside by this hash.
    #[inline(always)]
    fn open(
        &mut self,
        common: &mut Common,
        flow: &Flow<F::Addr>,
        out: u64,
        (inside, grant): (Endpoint<F::Addr>, Grant<F::Addr>),
        tcp: &First,
        hairpin: bool,
    ) -> Result<u32, DropReason> {
        let (protocol, remote) = (flow.protocol, flow.remote);
        let ports = (inside.port, grant.outside.port);
        let Deltas { l3, l4 } = deltas::<F>(protocol, grant.l3, ports);
        let timer = match tcp {
            Some((_, class)) => Timer::of(*class),
            None => self.timer(common, protocol, remote),
        };
        let mut session = Session::new(
            protocol,
            inside,
            grant.outside,
            remote,
            (l3, l4),
            timer,
            flow.direction,
            grant.mapping,
        );
        if let Some((track, _)) = tcp {
            session.tcp = *track;
        }
        session.expires = common.deadline(timer as usize);
        if hairpin {
            session.set_hairpin();
        }
        let Some(number) = self.enter(common, session, out) else {
            self.rest_if_idle(common, grant.mapping);
            return Err(DropReason::TableFull);
        };
        common.counters.opened += 1;
        if common.observer.is_some() {
            self.report(common, number, Event::Opened);
        }
        Ok(number)
    }

    /// Puts a session everywhere it belongs, found from the inside by this hash; `None` if the table is
    /// full.
    #[inline(always)]
    pub(super) fn enter(
        &mut self,
        common: &Common,
        session: Session<F::Addr>,
        out: u64,
    ) -> Option<u32> {
        let (remote, mapping) = (session.remote, session.mapping);
        let unanswered = session.is_unanswered();
        let filtering = behaviour(common, session.protocol).filtering;
        let (mut back, mut contact) = (None, None);
        let number = self.sessions.take()?;
        self.wheel.add(&mut self.sessions, number, session);
        self.index.insert(out, number);
        if let Some(record) = self.mappings.slab.get_mut(mapping) {
            let meets = !unanswered && filtering == Dependence::AddressDependent;
            let is_sole = meets && record.is_forsaken();
            let (place, is_first) = (record.place(), record.sessions == 0);
            record.sessions += 1;
            record.expires += u32::from(unanswered);
            if let Some(host) = self.hosts.get_mut(record.host) {
                host.sessions += 1;
            }
            if is_sole {
                record.set_sole(number);
            } else if meets {
                contact = self.meet(common, mapping, remote);
            }
            match space(session.protocol) {
                // The line has just been written to if the mapping is new.
                Some(space) if is_first => {
                    self.externals.set_session(space, place, number);
                }
                _ => {
                    back = Some(session.hash(&common.keys, Direction::Inbound));
                    self.share(common, mapping);
                }
            }
        }
        if back.is_some() || contact.is_some() {
            let pending = Pending {
                back,
                number,
                contact,
            };
            if self.in_batch {
                self.pending.push(pending);
            } else {
                self.enter_outside(&pending);
            }
        }
        Some(number)
    }

    /// A mapping has more sessions than one, or no port: the index finds them from now on, also the one
    /// that its port has named so far.
    #[inline(never)]
    fn share(&mut self, common: &Common, mapping: u32) {
        let Some(record) = self.mappings.slab.get_mut(mapping) else {
            return;
        };
        if record.is_shared() {
            return;
        }
        record.set_shared(true);
        let place = record.place();
        let Some(space) = space(record.protocol) else {
            return;
        };
        let number = self.externals.session(space, place);
        if let Some(session) = self.sessions.get(number) {
            let hash = session.hash(&common.keys, Direction::Inbound);
            self.shared.insert(hash, number);
        }
        self.externals.set_session(space, place, SEVERAL);
    }

    /// Enters the new sessions where the outside finds them, the oldest first.
    #[inline]
    pub(super) fn settle(&mut self) {
        if !self.pending.is_empty() {
            self.settle_all();
        }
    }

    fn settle_all(&mut self) {
        let mut pending = core::mem::take(&mut self.pending);
        for hash in pending.iter().take(AHEAD).filter_map(|new| new.back) {
            self.shared.prefetch(hash);
        }
        for (at, new) in pending.iter().enumerate() {
            if let Some(hash) = pending.get(at + AHEAD).and_then(|later| later.back) {
                self.shared.prefetch(hash);
            }
            self.enter_outside(new);
        }
        pending.clear();
        self.pending = pending;
    }

    #[inline(always)]
    fn enter_outside(&mut self, new: &Pending) {
        if let Some(hash) = new.back {
            self.shared.insert(hash, new.number);
        }
        if let Some(hash) = new.contact
            && let Some(contacts) = &mut self.contacts
            && let Some(session) = self.sessions.get(new.number)
        {
            contacts.add(hash, session.mapping, session.remote);
        }
    }

    /// A mapping speaks in one more session than its sole one, perhaps to another address: its contacts
    /// stand in the table from now on. Returns what the new one is entered there by.
    #[inline(never)]
    fn meet(&mut self, common: &Common, mapping: u32, remote: F::Addr) -> Option<u64> {
        let contacts = self.contacts.as_mut()?;
        let record = self.mappings.slab.get_mut(mapping)?;
        if let Some(session) = record.sole().and_then(|sole| self.sessions.get(sole)) {
            record.clear_sole();
            let hash = Contacts::hash(&common.keys, mapping, session.remote);
            contacts.add(hash, mapping, session.remote);
        }
        let hash = Contacts::hash(&common.keys, mapping, remote);
        contacts.prefetch(hash);
        Some(hash)
    }

    /// The inside speaks in a session that the outside began. From now on it counts: what nobody
    /// answers keeps no mapping open (RFC 4787, REQ-6).
    pub(super) fn answer(&mut self, common: &Common, number: u32) {
        let Some(session) = self.sessions.get_mut(number) else {
            return;
        };
        session.set_answered();
        let (protocol, mapping, remote) = (session.protocol, session.mapping, session.remote);
        let Some(record) = self.mappings.slab.get_mut(mapping) else {
            return;
        };
        let is_sole = record.is_forsaken();
        record.expires = record.expires.saturating_sub(1);
        // An address-dependent filter admits whom the inside has spoken to.
        if behaviour(common, protocol).filtering != Dependence::AddressDependent {
            return;
        }
        if is_sole {
            record.set_sole(number);
        } else if let Some(hash) = self.meet(common, mapping, remote)
            && let Some(contacts) = &mut self.contacts
        {
            contacts.add(hash, mapping, remote);
        }
    }

    #[inline(always)]
    fn timer(&self, common: &Common, protocol: u8, remote: Endpoint<F::Addr>) -> Timer {
        match protocol {
            ip_proto::UDP => {
                let short = &common.config.udp_short_ports;
                if !short.is_empty() && short.contains(&remote.port) {
                    Timer::UdpShort
                } else {
                    Timer::Udp
                }
            }
            icmp if icmp == F::ICMP => Timer::Icmp,
            _ => Timer::Other,
        }
    }
}
