//! One family's part of a snapshot.

use alloc::vec::Vec;

use super::Nat;
use super::common::Common;
use super::map::behaviour;
use super::open::Flow;
use crate::address::{Address, Endpoint};
use crate::direction::Direction;
use crate::family::Family;
use crate::mapping::{MappingKey, live, space};
use crate::rewrite::{Deltas, deltas};
use crate::session::{Session, Timer};
use crate::snapshot::{Reader, Restored, SnapshotError, Writer};
use crate::tcp::Track;

const FORWARD: u8 = 1;
const RESTING: u8 = 2;
const WITHDRAWN: u8 = 4;

/// A mapping as it was written.
struct SavedMapping<A> {
    protocol: u8,
    flags: u8,
    inside: Endpoint<A>,
    outside: Endpoint<A>,
    remote: Endpoint<A>,
    seconds: u32,
}

/// A session as it was written.
struct SavedSession<A> {
    protocol: u8,
    timer: Timer,
    opener: Direction,
    answered: bool,
    inside: Endpoint<A>,
    outside: Endpoint<A>,
    remote: Endpoint<A>,
    seconds: u32,
    tcp: Track,
}

/// All of a family, read and found sound.
pub(crate) struct Saved<A> {
    mappings: Vec<SavedMapping<A>>,
    sessions: Vec<SavedSession<A>>,
}

impl<A> Saved<A> {
    /// Sessions and mappings.
    pub(crate) fn len(&self) -> usize {
        self.mappings.len() + self.sessions.len()
    }
}

impl<F: Family> Nat<F> {
    pub(crate) fn save(&self, common: &Common, to: &mut Writer) {
        let end = |to: &mut Writer, end: Endpoint<F::Addr>| {
            end.addr.write(|octets| to.bytes(octets));
            to.u16(end.port);
        };
        to.u32(live(&self.mappings.slab).count() as u32);
        for number in live(&self.mappings.slab) {
            let Some(mapping) = self.mappings.slab.get(number) else {
                continue;
            };
            let outside = self.externals.addr(mapping.external);
            let outside = outside.unwrap_or(F::Addr::UNSPECIFIED);
            let forward = u8::from(mapping.is_forward()) * FORWARD;
            to.u8(mapping.protocol);
            let resting = u8::from(mapping.is_resting()) * RESTING;
            let withdrawn = u8::from(mapping.is_withdrawn()) * WITHDRAWN;
            to.u8(forward | resting | withdrawn);
            end(to, Endpoint::new(mapping.inside, mapping.inside_port));
            end(to, Endpoint::new(outside, mapping.outside_port));
            end(to, self.mappings.remote(number));
            to.u32(mapping.expires.saturating_sub(common.tick));
        }
        to.u32(self.sessions.len() as u32);
        let touched = self.sessions.touched() as usize;
        let records = self.sessions.records().iter().take(touched);
        for session in records.filter(|s| s.protocol != 0) {
            to.u8(session.protocol);
            to.u8(session.timer() as u8);
            to.u8(match session.opener() {
                Direction::Outbound => 0,
                Direction::Inbound if session.is_unanswered() => 1,
                Direction::Inbound => 2,
            });
            end(to, session.inside());
            end(to, session.outside());
            end(to, session.remote());
            to.u32(session.expires.saturating_sub(common.tick));
            if session.protocol == net_wire::ip_proto::TCP {
                to.bytes(&session.tcp.to_bytes());
            }
        }
    }

    /// Reads a family's part; nothing is changed yet.
    pub(crate) fn read(from: &mut Reader<'_>) -> Result<Saved<F::Addr>, SnapshotError> {
        let end = |from: &mut Reader<'_>| -> Result<Endpoint<F::Addr>, SnapshotError> {
            let addr = from.addr()?;
            Ok(Endpoint::new(addr, from.u16()?))
        };
        let count = from.u32()? as usize;
        // No more room than the bytes can fill, whatever the count says.
        let mut mappings = Vec::with_capacity(count.min(from.len()));
        for _ in 0..count {
            mappings.push(SavedMapping {
                protocol: from.u8()?,
                flags: from.u8()?,
                inside: end(from)?,
                outside: end(from)?,
                remote: end(from)?,
                seconds: from.u32()?,
            });
        }
        let count = from.u32()? as usize;
        let mut sessions = Vec::with_capacity(count.min(from.len()));
        for _ in 0..count {
            let protocol = from.u8()?;
            let timer = usize::from(from.u8()?);
            let timer = *Timer::ALL.get(timer).ok_or(SnapshotError::Damaged)?;
            let (opener, answered) = match from.u8()? {
                0 => (Direction::Outbound, true),
                1 => (Direction::Inbound, false),
                2 => (Direction::Inbound, true),
                _ => return Err(SnapshotError::Damaged),
            };
            let mut session = SavedSession {
                protocol,
                timer,
                opener,
                answered,
                inside: end(from)?,
                outside: end(from)?,
                remote: end(from)?,
                seconds: from.u32()?,
                tcp: Track::default(),
            };
            if protocol == net_wire::ip_proto::TCP {
                let bytes = from.array::<{ Track::BYTES }>()?;
                session.tcp = Track::from_bytes(&bytes).ok_or(SnapshotError::Damaged)?;
            }
            if protocol == 0 {
                return Err(SnapshotError::Damaged);
            }
            sessions.push(session);
        }
        if mappings.iter().any(|m| m.protocol == 0) {
            return Err(SnapshotError::Damaged);
        }
        Ok(Saved { mappings, sessions })
    }

    /// Whether nothing has happened yet.
    pub(crate) fn is_unused(&self) -> bool {
        self.sessions.len() == 0 && self.mappings.slab.len() == 0
    }

    /// Takes in what was read, as far as it fits.
    pub(crate) fn load(
        &mut self,
        common: &mut Common,
        saved: Saved<F::Addr>,
        restored: &mut Restored,
    ) {
        for mapping in &saved.mappings {
            match self.load_mapping(common, mapping) {
                Some(()) => restored.mappings += 1,
                None => restored.skipped += 1,
            }
        }
        for session in saved.sessions {
            match self.load_session(common, &session) {
                Some(()) => restored.sessions += 1,
                None => restored.skipped += 1,
            }
        }
        // A mapping whose sessions were all skipped must not live for ever.
        let idle: Vec<u32> = live(&self.mappings.slab).collect();
        for mapping in idle {
            self.rest_if_idle(common, mapping);
        }
    }

    fn load_mapping(&mut self, common: &mut Common, saved: &SavedMapping<F::Addr>) -> Option<()> {
        let external = self.externals.number(saved.outside.addr)?;
        let space = space(saved.protocol);
        let port = saved.outside.port;
        if !self.is_inside(saved.inside.addr)
            || !self
                .externals
                .is_free(space, saved.protocol, external, port)
        {
            return None;
        }
        let dependence = behaviour(common, saved.protocol).mapping;
        let key = MappingKey::new(saved.protocol, saved.inside, saved.remote, dependence);
        let (host, known) = self.host_at(common, saved.inside.addr, external).ok()?;
        let hash = key.hash(&common.keys);
        let twice = self.mappings.find(hash, &key).is_some();
        let place = (external, port);
        let Some(number) = self.mappings.add(hash, &key, host, twice, place) else {
            if !known {
                self.forget(host);
            }
            return None;
        };
        self.externals
            .take(space, saved.protocol, external, port, number);
        if let Some(host) = self.hosts.get_mut(host) {
            host.mappings += 1;
        }
        let record = self.mappings.slab.get_mut(number)?;
        if saved.flags & WITHDRAWN != 0 {
            record.withdraw();
        } else if saved.flags & FORWARD != 0 {
            record.publish();
        }
        if !record.is_forward() && saved.flags & RESTING != 0 && saved.seconds > 0 {
            record.set_resting(true);
            record.expires = common.tick.saturating_add(saved.seconds);
            self.resting.link(&mut self.mappings.slab, number);
        }
        Some(())
    }

    fn load_session(&mut self, common: &mut Common, saved: &SavedSession<F::Addr>) -> Option<()> {
        let (protocol, remote) = (saved.protocol, saved.remote);
        let external = self.externals.number(saved.outside.addr)?;
        let mapping =
            self.externals
                .mapping(space(protocol), protocol, external, saved.outside.port)?;
        let record = self.mappings.slab.get(mapping)?;
        let same = record.inside == saved.inside.addr && record.inside_port == saved.inside.port;
        let (keys, inside) = (&common.keys, saved.inside);
        let out = Flow::new(keys, Direction::Outbound, protocol, inside, remote);
        let twice = self.find(common, &out);
        if !same || twice.is_some() || self.sessions.is_full() {
            return None;
        }
        let l3 = F::Addr::delta(saved.inside.addr, saved.outside.addr);
        let ports = (saved.inside.port, saved.outside.port);
        let Deltas { l3, l4 } = deltas::<F>(protocol, l3, ports);
        let mut session = Session::new(
            protocol,
            saved.inside,
            saved.outside,
            remote,
            (l3, l4),
            saved.timer,
            saved.opener,
            mapping,
        );
        session.tcp = saved.tcp;
        if saved.answered {
            session.set_answered();
        }
        session.expires = common.tick.saturating_add(saved.seconds);
        if self.externals.number(remote.addr).is_some() {
            session.set_hairpin();
        }
        self.wake(mapping);
        self.enter(common, session, out.hash).map(|_| ())
    }
}
