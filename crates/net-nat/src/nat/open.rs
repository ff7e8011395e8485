//! Sessions and mappings come.

use net_wire::ip_proto;

use super::Nat;
use super::common::Common;
use crate::address::{Address, Endpoint};
use crate::config::{Behaviour, Dependence};
use crate::direction::Direction;
use crate::event::Event;
use crate::family::Family;
use crate::mapping::{MappingKey, space};
use crate::rate::TokenBucket;
use crate::rewrite::{Deltas, deltas};
use crate::session::{Session, Timer};
use crate::tcp::{Class, Track};
use crate::verdict::DropReason;

/// A session to be opened.
pub(super) struct Opening<A> {
    pub(super) direction: Direction,
    pub(super) protocol: u8,
    /// The guest's end for outbound packets, ours for inbound ones.
    pub(super) local: Endpoint<A>,
    pub(super) remote: Endpoint<A>,
    /// The state of TCP after its first segment.
    pub(super) tcp: Option<(Track, Class)>,
}

/// A new session that the outside cannot reach yet.
///
/// The places where it is entered for that lie anywhere in memory. Within a batch they are asked for
/// when the session is made and used when the batch is done, or when somebody inside calls from
/// without: by then they are there.
pub(super) struct Pending<A> {
    /// What inbound packets find it by.
    hash: u64,
    number: u32,
    /// Whom its mapping has spoken to.
    spoken: Option<(u32, A)>,
}

/// How a protocol is mapped and filtered.
pub(super) fn behaviour(common: &Common, protocol: u8) -> Behaviour {
    let independent = |filtering| Behaviour {
        mapping: Dependence::EndpointIndependent,
        filtering,
    };
    match protocol {
        ip_proto::TCP => common.config.tcp,
        ip_proto::UDP => common.config.udp,
        // RFC 5508, REQ-1a.
        ip_proto::ICMP | ip_proto::ICMPV6 => independent(common.config.icmp.filtering),
        // One host a protocol and no ports: only the address tells who is admitted.
        _ => independent(Dependence::AddressAndPortDependent),
    }
}

impl<F: Family> Nat<F> {
    /// The session of a packet, if there is one that is alive.
    pub(super) fn find(
        &mut self,
        common: &mut Common,
        direction: Direction,
        protocol: u8,
        local: Endpoint<F::Addr>,
        remote: Endpoint<F::Addr>,
    ) -> Option<u32> {
        let hash = common.keys.flow(direction as u8, protocol, local, remote);
        let number = self.index.find(hash, |number| {
            let session = self.sessions.get(number);
            session.is_some_and(|s| s.is(direction, protocol, local, remote))
        })?;
        if self.sessions.get(number)?.expires < common.tick {
            self.close(common, number);
            return None;
        }
        Some(number)
    }

    /// The key of the mapping of an outbound packet, and its hash; what it stands in is on its way
    /// to the cache.
    pub(super) fn mapping_key(
        &self,
        common: &Common,
        protocol: u8,
        local: Endpoint<F::Addr>,
        remote: Endpoint<F::Addr>,
    ) -> (MappingKey<F::Addr>, u64) {
        // Who has an address of its own keeps its ports, whomever it talks to.
        let dependence = if self.externals.own(local.addr).is_some() {
            Dependence::EndpointIndependent
        } else {
            behaviour(common, protocol).mapping
        };
        let key = MappingKey::new(protocol, local, remote, dependence);
        let hash = key.hash(&common.keys);
        self.mappings.prefetch(hash);
        (key, hash)
    }

    /// Opens the session of an outbound packet, and its mapping if there is none.
    pub(super) fn open_outbound(
        &mut self,
        common: &mut Common,
        opening: &Opening<F::Addr>,
        (key, hash): &(MappingKey<F::Addr>, u64),
    ) -> Result<u32, DropReason> {
        if self.sessions.is_full() {
            return Err(DropReason::TableFull);
        }
        let mapping = match self.mappings.find(*hash, key) {
            Some(mapping) => {
                self.admit(common, mapping)?;
                mapping
            }
            None => match self.own_mapping(opening.protocol, opening.local) {
                Some(mapping) => {
                    self.admit(common, mapping)?;
                    mapping
                }
                None => self.map(common, *hash, key, false)?,
            },
        };
        self.wake(mapping);
        self.open(common, opening, mapping, opening.local)
    }

    /// The mapping of a host with an address of its own that was called there while its packets left
    /// by a forward: the forward has gone, and nothing leads to this one from inside.
    fn own_mapping(&self, protocol: u8, local: Endpoint<F::Addr>) -> Option<u32> {
        let external = self.externals.own(local.addr)?;
        let mapping = self
            .externals
            .mapping(space(protocol), protocol, external, local.port)?;
        let record = self.mappings.slab.get(mapping)?;
        let same = record.inside == local.addr && record.inside_port == local.port;
        same.then_some(mapping)
    }

    /// Opens the session of an inbound packet that is for `inside`, by the mapping that admits it or,
    /// for a host with an address of its own, by a new one.
    pub(super) fn open_inbound(
        &mut self,
        common: &mut Common,
        opening: &Opening<F::Addr>,
        mapping: Option<u32>,
        inside: Endpoint<F::Addr>,
    ) -> Result<u32, DropReason> {
        if self.sessions.is_full() {
            return Err(DropReason::TableFull);
        }
        // The same two ends by another outside endpoint: the inside could not tell the two flows
        // apart, nor could we its answers.
        let (protocol, remote) = (opening.protocol, opening.remote);
        let other = self.find(common, Direction::Outbound, protocol, inside, remote);
        if other.is_some() {
            return Err(DropReason::Filtered);
        }
        let mapping = match mapping {
            Some(mapping) => {
                self.admit(common, mapping)?;
                mapping
            }
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
        self.wake(mapping);
        self.open(common, opening, mapping, inside)
    }

    /// A new mapping gets sessions that have ended out of the way, a few at a time, so that the table
    /// empties as fast as it fills even if nobody calls `expire`.
    pub(super) fn make_room(&mut self, common: &mut Common) {
        self.expire_some(common, 2);
    }

    /// Whether the host of a mapping may open one more session.
    fn admit(&mut self, common: &mut Common, mapping: u32) -> Result<(), DropReason> {
        let host = self.mappings.slab.get(mapping).map(|m| m.host);
        let host = host.and_then(|h| self.hosts.get_mut(h));
        let host = host.ok_or(DropReason::NoMapping)?;
        let limits = &common.config.limits;
        if host.sessions >= limits.sessions_per_host {
            return Err(DropReason::Quota);
        }
        if limits.new_per_second != 0 && !host.openings.take(common.now) {
            return Err(DropReason::Rate);
        }
        Ok(())
    }

    /// A new mapping for an inside endpoint; its host may open a session.
    pub(super) fn map(
        &mut self,
        common: &mut Common,
        hash: u64,
        key: &MappingKey<F::Addr>,
        twice: bool,
    ) -> Result<u32, DropReason> {
        if self.mappings.slab.is_full() {
            return Err(DropReason::TableFull);
        }
        let (number, known) = self.host(common, key.inside.addr)?;
        let mapping = self.map_of(common, (hash, twice), key, number);
        if mapping.is_err() && !known {
            self.forget(number);
        }
        mapping
    }

    fn map_of(
        &mut self,
        common: &mut Common,
        (hash, twice): (u64, bool),
        key: &MappingKey<F::Addr>,
        number: u32,
    ) -> Result<u32, DropReason> {
        let limits = &common.config.limits;
        let host = self.hosts.get_mut(number).ok_or(DropReason::TableFull)?;
        if host.sessions >= limits.sessions_per_host || host.mappings >= limits.mappings_per_host {
            return Err(DropReason::Quota);
        }
        if limits.new_per_second != 0 && !host.openings.take(common.now) {
            return Err(DropReason::Rate);
        }
        let (external, protocol) = (host.external, key.protocol);
        let (externals, random) = (&mut self.externals, &mut common.random);
        let mapping = self
            .mappings
            .add(hash, key, number, twice, |mapping| {
                let (space, port) = (space(protocol), key.inside.port);
                let port = externals.allocate(space, protocol, external, port, mapping, random);
                Some((external, port?))
            })
            // There was room in the table.
            .ok_or(DropReason::NoPort)?;
        if let Some(host) = self.hosts.get_mut(number) {
            host.mappings += 1;
        }
        Ok(mapping)
    }

    /// The host with this address, known or new; the flag says whether it was known.
    pub(super) fn host(
        &mut self,
        common: &Common,
        addr: F::Addr,
    ) -> Result<(u32, bool), DropReason> {
        if let Some(number) = self.hosts.find(addr) {
            return Ok((number, true));
        }
        if self.hosts.is_full() {
            return Err(DropReason::TableFull);
        }
        let external = self.externals.assign(addr).ok_or(DropReason::NoPort)?;
        Ok((self.add_host(common, addr, external), false))
    }

    /// As [`Self::host`], but a new one keeps to this outside address.
    pub(super) fn host_at(
        &mut self,
        common: &Common,
        addr: F::Addr,
        external: u16,
    ) -> Result<(u32, bool), DropReason> {
        if let Some(number) = self.hosts.find(addr) {
            return Ok((number, true));
        }
        if self.hosts.is_full() {
            return Err(DropReason::TableFull);
        }
        self.externals.assign_to(external);
        Ok((self.add_host(common, addr, external), false))
    }

    fn add_host(&mut self, common: &Common, addr: F::Addr, external: u16) -> u32 {
        let limits = &common.config.limits;
        let openings = TokenBucket::new(limits.new_per_second, limits.new_burst);
        let errors = TokenBucket::new(limits.icmp_per_second, limits.icmp_per_second);
        self.hosts.add(addr, external, openings, errors)
    }

    /// A mapping whose port rested is in use again.
    pub(super) fn wake(&mut self, mapping: u32) {
        if let Some(record) = self.mappings.slab.get_mut(mapping)
            && record.is_resting()
        {
            record.set_resting(false);
            record.set_withdrawn(false);
            record.expires = 0;
            self.resting.unlink(&mut self.mappings.slab, mapping);
        }
    }

    /// Makes the record of a session and puts it everywhere it belongs. There is room.
    fn open(
        &mut self,
        common: &mut Common,
        opening: &Opening<F::Addr>,
        mapping: u32,
        inside: Endpoint<F::Addr>,
    ) -> Result<u32, DropReason> {
        let (protocol, remote) = (opening.protocol, opening.remote);
        let record = self.mappings.slab.get(mapping);
        let (external, port) = record
            .map(|m| (m.external, m.outside_port))
            .ok_or(DropReason::NoMapping)?;
        let outside = self.externals.addr(external).ok_or(DropReason::NoMapping)?;
        let outside = Endpoint::new(outside, port);
        let hashes = self.hashes(common, protocol, inside, outside, remote);
        let timer = match &opening.tcp {
            Some((_, class)) => Timer::of(*class),
            None => self.timer(common, protocol, opening),
        };
        let Deltas { l3, l4 } = deltas::<F>(protocol, inside, outside);
        let mut session = Session::new(
            protocol,
            inside,
            outside,
            remote,
            (l3, l4),
            timer,
            opening.direction,
            mapping,
        );
        if let Some((track, _)) = opening.tcp {
            session.tcp = track;
        }
        session.expires = common.deadline(session.timer());
        let Some(number) = self.enter(common, session, hashes) else {
            self.rest_if_idle(common, mapping);
            return Err(DropReason::TableFull);
        };
        common.counters.opened += 1;
        if common.observer.is_some() {
            self.report(common, number, Event::Opened);
        }
        Ok(number)
    }

    /// What a session is found by, from the inside and from the outside.
    pub(super) fn hashes(
        &self,
        common: &Common,
        protocol: u8,
        inside: Endpoint<F::Addr>,
        outside: Endpoint<F::Addr>,
        remote: Endpoint<F::Addr>,
    ) -> [u64; 2] {
        [(Direction::Outbound, inside), (Direction::Inbound, outside)]
            .map(|(direction, local)| common.keys.flow(direction as u8, protocol, local, remote))
    }

    /// Puts a session everywhere it belongs; `None` if the table is full.
    pub(super) fn enter(
        &mut self,
        common: &Common,
        mut session: Session<F::Addr>,
        hashes: [u64; 2],
    ) -> Option<u32> {
        let (protocol, remote, mapping) = (session.protocol, session.remote, session.mapping);
        if self.externals.number(remote).is_some() {
            session.set_hairpin();
        }
        let unanswered = session.is_unanswered();
        let number = self.sessions.take()?;
        *self.sessions.get_mut(number)? = session;
        self.index.insert(hashes[0], number);
        self.index.prefetch(hashes[1]);
        self.wheel.link(&mut self.sessions, number);
        if let Some(mapping) = self.mappings.slab.get_mut(mapping) {
            mapping.sessions += 1;
            mapping.expires += u32::from(unanswered);
            if let Some(host) = self.hosts.get_mut(mapping.host) {
                host.sessions += 1;
            }
        }
        let filtering = behaviour(common, protocol).filtering;
        let knows = !unanswered && filtering == Dependence::AddressDependent;
        if let Some(contacts) = self.contacts.as_ref().filter(|_| knows) {
            contacts.prefetch(&common.keys, mapping, remote);
        }
        self.pending.push(Pending {
            hash: hashes[1],
            number,
            spoken: knows.then_some((mapping, remote)),
        });
        if !self.in_batch {
            self.settle(common);
        }
        Some(number)
    }

    /// Enters the new sessions where the outside finds them.
    pub(super) fn settle(&mut self, common: &Common) {
        while let Some(pending) = self.pending.pop() {
            self.index.insert(pending.hash, pending.number);
            if let (Some((mapping, remote)), Some(contacts)) = (pending.spoken, &mut self.contacts)
            {
                contacts.add(&common.keys, mapping, remote);
            }
        }
    }

    /// The inside has spoken to an address: an address-dependent filter admits it.
    fn know(&mut self, common: &Common, protocol: u8, mapping: u32, remote: F::Addr) {
        if behaviour(common, protocol).filtering == Dependence::AddressDependent
            && let Some(contacts) = &mut self.contacts
        {
            contacts.add(&common.keys, mapping, remote);
        }
    }

    /// The inside speaks in a session that the outside began. From now on it counts: what nobody
    /// answers keeps no mapping open (RFC 4787, REQ-6).
    pub(super) fn answer(&mut self, common: &Common, number: u32) {
        let Some(session) = self.sessions.get_mut(number) else {
            return;
        };
        session.set_answered();
        let (protocol, mapping, remote) = (session.protocol, session.mapping, session.remote);
        if let Some(record) = self.mappings.slab.get_mut(mapping) {
            record.expires = record.expires.saturating_sub(1);
        }
        self.know(common, protocol, mapping, remote);
    }

    fn timer(&self, common: &Common, protocol: u8, opening: &Opening<F::Addr>) -> Timer {
        match protocol {
            ip_proto::UDP => {
                let short = &common.config.udp_short_ports;
                if !short.is_empty() && short.contains(&opening.remote.port) {
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
