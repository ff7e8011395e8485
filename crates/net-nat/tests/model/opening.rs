//! How the reference opens sessions and mappings, and what the operator orders.

use std::collections::VecDeque;

use net_nat::{Direction, DropReason, Event, Forward, ForwardError, SessionView};

use crate::packet::{End, GRE, Packet, TCP, UDP};
use crate::tables::{Mapping, Session, Tables, anyone};
use crate::world::is_inside;

impl Tables {
    /// The mapping that outbound packets of a key find, or may find.
    fn first_with(&self, key: (u8, End, End), indexed: Option<bool>) -> Option<usize> {
        let is = |m: &Mapping| m.indexed == indexed && (m.protocol, m.inside, m.remote) == key;
        self.mappings.iter().position(is)
    }

    /// The mapping of an outbound packet, where the engine used `outside` or refused.
    pub(crate) fn mapping_of(
        &mut self,
        key: (u8, End, End),
        outside: Option<End>,
        refused: Option<DropReason>,
    ) -> Option<usize> {
        if let Some(first) = self.first_with(key, Some(true)) {
            let gone = match outside {
                Some(outside) => outside != self.mappings[first].outside,
                None => refused == Some(DropReason::NoPort),
            };
            if !self.is_overdue(first) || !gone {
                return Some(first);
            }
            self.unmap(first);
        }
        // It was overdue when others of its key came, and it shows now who took its place.
        while let Some(next) = self.first_with(key, None) {
            let found = outside == Some(self.mappings[next].outside);
            self.mappings[next].indexed = Some(found);
            if found {
                return Some(next);
            }
        }
        None
    }

    /// Opens a session by a mapping, or by a new one for an inside endpoint and the other end it is
    /// for. The engine has opened `opened`, or refused.
    pub(crate) fn open(
        &mut self,
        direction: Direction,
        packet: &Packet,
        mapping: Option<usize>,
        (inside, bound): (End, End),
        opened: Option<SessionView>,
    ) -> Result<usize, DropReason> {
        let (protocol, remote) = (packet.protocol(), packet.ends(direction).1);
        let mapping = match mapping {
            Some(mapping) => {
                let host = self.host(inside.addr);
                self.admit(host)?;
                mapping
            }
            None => self.map(protocol, inside, bound, opened)?,
        };
        let mapping = &mut self.mappings[mapping];
        mapping.rests = None;
        let outside = mapping.outside;
        let timeout = self.timeout(protocol, remote);
        self.sessions.push(Session {
            protocol,
            inside,
            outside,
            remote,
            opener: direction,
            answered: Some(direction == Direction::Outbound),
            expires: self.tick() + timeout,
            may_expire: Vec::new(),
            timeout,
            life: Self::begin_life(direction, packet),
        });
        let session = self.sessions.last().expect("just opened");
        let view = opened.unwrap_or_else(|| panic!("not opened: {session:?}"));
        assert!(session.is_seen_as(&view), "{session:?} is {view:?}");
        assert_eq!((view.outside, view.opened_by), (outside, direction));
        Ok(self.sessions.len() - 1)
    }

    fn admit(&mut self, host: usize) -> Result<(), DropReason> {
        let limits = &self.config.limits;
        if self.sessions_of(self.hosts[host].addr) >= limits.sessions_per_host as usize {
            return Err(DropReason::Quota);
        }
        if !self.take_token(host) {
            return Err(DropReason::Rate);
        }
        Ok(())
    }

    fn map(
        &mut self,
        protocol: u8,
        inside: End,
        bound: End,
        opened: Option<SessionView>,
    ) -> Result<usize, DropReason> {
        let known = self.hosts.iter().any(|h| h.addr == inside.addr);
        let limits = &self.config.limits;
        if self.mappings.len() >= limits.mappings || (!known && self.hosts.len() >= limits.hosts) {
            return Err(DropReason::TableFull);
        }
        let host = self.host(inside.addr);
        let mapping = self.map_of(host, protocol, inside, bound, opened);
        self.forget_idle(inside.addr);
        mapping
    }

    fn map_of(
        &mut self,
        host: usize,
        protocol: u8,
        inside: End,
        bound: End,
        opened: Option<SessionView>,
    ) -> Result<usize, DropReason> {
        if self.mappings_of(inside.addr) >= self.config.limits.mappings_per_host as usize {
            return Err(DropReason::Quota);
        }
        self.admit(host)?;
        let Some(view) = opened else {
            // Only where there is no choice can there be no port: those are far more than sessions.
            let wanted = match protocol {
                GRE => 0,
                _ => inside.port,
            };
            let choice = protocol != GRE && self.own_of(inside.addr).is_none();
            let externals = match (self.own_of(inside.addr), self.hosts[host].external) {
                (Some(own), _) => vec![own],
                (_, Some(known)) if !self.may_be_gone(inside.addr) || self.is_certain() => {
                    vec![known]
                }
                _ => self.shared.clone(),
            };
            let taken = |&addr: &_| self.holder(protocol, End::new(addr, wanted)).is_some();
            assert!(
                !choice && externals.iter().any(taken),
                "no port for {inside:?}"
            );
            return Err(DropReason::NoPort);
        };
        let outside = view.outside;
        if let Some(resting) = self.holder(protocol, outside) {
            let late = self.is_overdue(resting);
            assert!(late, "{outside:?} belongs to {:?}", self.mappings[resting]);
            self.unmap(resting);
        }
        self.learn(inside, outside);
        assert!(
            self.may_get(
                protocol,
                inside.port,
                outside.port,
                self.own_of(inside.addr).is_some()
            ),
            "{inside:?} must not get {outside:?}"
        );
        Ok(self.add_mapping(protocol, inside, outside, bound, false))
    }

    /// The outside address of a host stays the same as long as it has a mapping (RFC 4787, REQ-2).
    fn learn(&mut self, inside: End, outside: End) {
        assert!(
            self.may_have(inside.addr, outside.addr),
            "{outside:?} is not for {inside:?}"
        );
        let host = self.host(inside.addr);
        match self.hosts[host].external {
            Some(known) if known != outside.addr => {
                // It was forgotten in the meantime, with all that rested.
                let own = |m: &Mapping| m.inside.addr == inside.addr;
                while let Some(mapping) = self.mappings.iter().position(own) {
                    assert!(
                        self.is_overdue(mapping),
                        "{inside:?} has changed its address"
                    );
                    self.unmap(mapping);
                }
                let host = self.host(inside.addr);
                self.hosts[host].external = Some(outside.addr);
            }
            _ => self.hosts[host].external = Some(outside.addr),
        }
    }

    /// RFC 4787, REQ-3a and REQ-4: the class of the port and, if so configured, its parity.
    fn may_get(&self, protocol: u8, from: u16, to: u16, own: bool) -> bool {
        match protocol {
            GRE => to == 0,
            _ if own => from == to,
            TCP | UDP => {
                let parity = !self.config.port_parity || from % 2 == to % 2;
                parity && to != 0 && (from < 1024) == (to < 1024)
            }
            _ => true,
        }
    }

    fn add_mapping(
        &mut self,
        protocol: u8,
        inside: End,
        outside: End,
        remote: End,
        forward: bool,
    ) -> usize {
        let key = (protocol, inside, remote);
        let indexed = match self.first_with(key, Some(true)) {
            Some(first) if self.is_overdue(first) => None,
            Some(_) => Some(false),
            None => match self.first_with(key, None) {
                Some(_) => None,
                None => Some(true),
            },
        };
        self.mappings.push(Mapping {
            protocol,
            inside,
            outside,
            remote,
            forward,
            withdrawn: false,
            indexed,
            rests: None,
        });
        self.host(inside.addr);
        self.mappings.len() - 1
    }

    pub(crate) fn add_forward(&mut self, forward: &Forward) -> Result<(), ForwardError> {
        let (protocol, outside, inside) = (forward.protocol, forward.outside, forward.inside);
        let ports = matches!(protocol, TCP | UDP);
        if ports != (outside.port != 0) || ports != (inside.port != 0) {
            return Err(ForwardError::Ports);
        }
        if !self.is_ours(outside.addr) {
            return Err(ForwardError::NotOurs);
        }
        if !is_inside(inside.addr) {
            return Err(ForwardError::NotInside);
        }
        if let Some(mapping) = self.holder(protocol, outside) {
            if self.mappings[mapping].rests.is_none() {
                return Err(ForwardError::PortInUse);
            }
            self.unmap(mapping);
        }
        let known = self.hosts.iter().any(|h| h.addr == inside.addr);
        let limits = &self.config.limits;
        if self.mappings.len() >= limits.mappings || (!known && self.hosts.len() >= limits.hosts) {
            return Err(ForwardError::TableFull);
        }
        let host = self.host(inside.addr);
        // It may be a new host by now, with another address.
        if known && self.may_be_gone(inside.addr) {
            self.hosts[host].external = self.own_of(inside.addr);
        }
        let bound = anyone(inside.addr.is_ipv6());
        self.add_mapping(protocol, inside, outside, bound, true);
        Ok(())
    }

    pub(crate) fn remove_forward(
        &mut self,
        protocol: u8,
        outside: End,
    ) -> Result<(), ForwardError> {
        let mapping = self.holder(protocol, outside);
        let mapping = mapping.filter(|&m| self.mappings[m].forward);
        let mapping = mapping.ok_or(ForwardError::NotThere)?;
        self.mappings[mapping].forward = false;
        self.mappings[mapping].withdrawn = true;
        self.rest_if_idle(mapping);
        Ok(())
    }

    /// Ends the sessions that `which` names, all of which the engine must have ended.
    pub(crate) fn close(
        &mut self,
        which: impl Fn(&Session) -> bool,
        events: &mut VecDeque<Event>,
    ) -> usize {
        let mut closed = 0;
        while let Some(Event::Closed(view)) = events.pop_front() {
            let number = self.sessions.iter().position(|s| s.is_seen_as(&view));
            let number = number.unwrap_or_else(|| panic!("{view:?} was not there"));
            assert!(which(&self.sessions[number]), "{view:?} was not meant");
            self.end(number);
            closed += 1;
        }
        assert!(!self.sessions.iter().any(which), "not all were ended");
        closed
    }
}
