//! Sessions and mappings go.

use core::time::Duration;

use super::Nat;
use super::common::Common;
use super::map::behaviour;
use crate::address::{Address, Endpoint};
use crate::config::Dependence;
use crate::direction::Direction;
use crate::event::Event;
use crate::family::Family;
use crate::mapping::space;
use crate::session::Timer;
use crate::table::NONE;
use crate::wheel::Due;

impl<F: Family> Nat<F> {
    /// Ends what is over, looking at no more than `budget` records; returns how many it looked at.
    #[inline(never)]
    pub(crate) fn expire_some(&mut self, common: &mut Common, budget: usize) -> usize {
        if self.looked_at == common.tick {
            return 0;
        }
        let mut looked = 0;
        while looked < budget {
            let due = self.wheel.step(&mut self.sessions, common.tick);
            if due == Due::Nothing {
                break;
            }
            self.prefetch_expiring(common);
            if let Due::Expired(number) = due {
                self.remove(common, number);
            }
            looked += 1;
        }
        while looked < budget {
            let due = self.resting.step(&mut self.mappings.slab, common.tick);
            if due == Due::Nothing {
                self.looked_at = common.tick;
                break;
            }
            self.prefetch_resting(common);
            if let Due::Expired(mapping) = due {
                self.unmap(common, mapping);
            }
            looked += 1;
        }
        looked
    }

    /// Asks for what the next step will need, while the work on this one goes on: for the next
    /// session, whose record has been asked for by the step before, the entries it has to be taken out
    /// of; for the one after it, its record.
    #[inline]
    fn prefetch_expiring(&self, common: &Common) {
        let Some(session) = self.wheel.peek(&self.sessions) else {
            return;
        };
        self.sessions.prefetch(session.links.next);
        if session.expires < common.tick {
            self.index
                .prefetch(session.hash(&common.keys, Direction::Outbound));
            if let Some(space) = space(session.protocol)
                && let Some(place) = self.externals.place(session.outside())
            {
                self.externals.prefetch(space, place);
            }
            self.mappings.slab.prefetch(session.mapping);
            if common.hold == 0 {
                // Its mapping goes with it, unless it has other sessions.
                let (local, remote) = (session.inside(), session.remote());
                let hash = self.mapping_hash(common, session.protocol, local, remote);
                self.mappings.prefetch(hash);
            }
        }
    }

    /// The same for mappings.
    #[inline]
    fn prefetch_resting(&self, common: &Common) {
        let Some(mapping) = self.resting.peek(&self.mappings.slab) else {
            return;
        };
        self.mappings.slab.prefetch(mapping.links.next);
        if mapping.expires < common.tick {
            let nobody = Endpoint::new(F::Addr::UNSPECIFIED, 0);
            let local = Endpoint::new(mapping.inside, mapping.inside_port);
            // Another bucket than its own if the mapping depends on the other end: no more than a hint.
            let hash = self.mapping_hash(common, mapping.protocol, local, nobody);
            self.mappings.prefetch(hash);
        }
    }

    /// Gives up fragments whose time is over.
    pub(crate) fn expire_fragments(&mut self, common: &Common) {
        self.fragments.expire(common.now);
    }

    /// When [`Self::expire_some`] or an answer may next be due.
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        let ticks = [self.wheel.next(), self.resting.next()];
        let ticks = ticks.into_iter().flatten();
        let records = ticks.map(|tick| Duration::from_secs(tick.into()));
        records.chain(self.next_answer()).min()
    }

    /// A session keeps another time from now on. One that is not to be refreshed, as after a reset,
    /// may only get a shorter life by that (RFC 7857, section 2.2).
    #[cold]
    pub(super) fn retime(&mut self, common: &Common, number: u32, timer: Timer, refresh: bool) {
        self.wheel.unlink(&mut self.sessions, number);
        if let Some(session) = self.sessions.get_mut(number) {
            session.set_timer(timer);
            let deadline = common.deadline(timer as usize);
            session.expires = if refresh {
                deadline
            } else {
                deadline.min(session.expires)
            };
        }
        self.wheel.link(&mut self.sessions, number);
    }

    /// Ends a session.
    pub(super) fn close(&mut self, common: &mut Common, number: u32) {
        self.wheel.unlink(&mut self.sessions, number);
        self.remove(common, number);
    }

    /// Ends a session that is out of the wheel.
    fn remove(&mut self, common: &mut Common, number: u32) {
        if common.observer.is_some() {
            self.report(common, number, Event::Closed);
        }
        let Some(session) = self.sessions.get_mut(number) else {
            return;
        };
        let (protocol, mapping, remote) = (session.protocol, session.mapping, session.remote());
        let unanswered = session.is_unanswered();
        let out = session.hash(&common.keys, Direction::Outbound);
        let record = self.mappings.slab.get(mapping);
        let back = record
            .is_some_and(|m| m.is_shared())
            .then(|| session.hash(&common.keys, Direction::Inbound));
        session.protocol = 0;
        self.index.remove(out, number);
        self.sessions.give(number);
        common.counters.closed += 1;
        let Some(record) = self.mappings.slab.get_mut(mapping) else {
            return;
        };
        if record.sole() == Some(number) {
            record.clear_sole();
        } else if !unanswered
            && behaviour(common, protocol).filtering == Dependence::AddressDependent
            && let Some(contacts) = &mut self.contacts
        {
            contacts.remove(&common.keys, mapping, remote.addr);
        }
        record.sessions = record.sessions.saturating_sub(1);
        record.expires = record.expires.saturating_sub(unanswered.into());
        if let Some(back) = back {
            self.shared.remove(back, number);
            // The next one is its only session, if it has a port.
            record.set_shared(record.sessions > 0);
        }
        if record.sessions == 0
            && let Some(space) = space(protocol)
        {
            self.externals.set_session(space, record.place(), NONE);
        }
        if let Some(host) = self.hosts.get_mut(record.host) {
            host.sessions = host.sessions.saturating_sub(1);
        }
        self.rest_if_idle(common, mapping);
    }

    /// A mapping without sessions keeps its port for a while, so that nobody else gets what is
    /// still on its way to it (RFC 6888, REQ-8).
    pub(super) fn rest_if_idle(&mut self, common: &mut Common, mapping: u32) {
        let Some(record) = self.mappings.slab.get_mut(mapping) else {
            return;
        };
        if record.sessions > 0 || record.is_forward() || record.is_resting() {
            return;
        }
        if common.hold == 0 {
            self.unmap(common, mapping);
            return;
        }
        record.set_resting(true);
        record.expires = common.tick.saturating_add(common.hold);
        self.resting.link(&mut self.mappings.slab, mapping);
    }

    /// Ends a mapping that has no sessions and is out of the wheel.
    pub(super) fn unmap(&mut self, common: &Common, mapping: u32) {
        let Some(record) = self.mappings.slab.get(mapping).copied() else {
            return;
        };
        self.externals.release(
            space(record.protocol),
            record.protocol,
            record.external,
            record.outside_port,
        );
        self.mappings.remove(mapping, &common.keys);
        if let Some(host) = self.hosts.get_mut(record.host) {
            host.mappings = host.mappings.saturating_sub(1);
            if host.mappings == 0 {
                self.forget(record.host);
            }
        }
    }

    /// Forgets a host without mappings.
    pub(super) fn forget(&mut self, number: u32) {
        if let Some(host) = self.hosts.get(number) {
            self.externals.unassign(host.external);
            self.hosts.remove(number);
        }
    }
}
