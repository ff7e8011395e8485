//! Whether all tables agree. For tests and fuzzing: it looks at everything.

use alloc::format;
use alloc::string::String;

use hashbrown::{HashMap, HashSet};

use super::Nat;
use super::common::Common;
use super::map::behaviour;
use super::open::Flow;
use crate::config::Dependence;
use crate::direction::Direction;
use crate::family::Family;
use crate::hash::Keyed;
use crate::mapping::{live, space};

macro_rules! ensure {
    ($what:expr, $($why:tt)+) => {
        if !$what {
            return Err(format!($($why)+));
        }
    };
}

impl<F: Family> Nat<F> {
    /// Entries that the longest look-up in any index goes by.
    pub(crate) fn longest_walk(&self) -> usize {
        let contacts = self.contacts.as_ref().map_or(0, |c| c.longest_walk());
        let indexes = [
            self.index.longest_walk(),
            self.shared.longest_walk(),
            self.mappings.longest_walk(),
        ];
        indexes.into_iter().fold(contacts, usize::max)
    }

    /// Says what is wrong, if anything is.
    pub(crate) fn validate(&self, common: &Common) -> Result<(), String> {
        let keyed = || Keyed(siphasher::sip::SipHasher13::new_with_key(&[0; 16]));
        let mut of_mapping: HashMap<u32, u32, Keyed> = HashMap::with_hasher(keyed());
        let mut of_host: HashMap<u32, u32, Keyed> = HashMap::with_hasher(keyed());
        let mut unanswered: HashMap<u32, u32, Keyed> = HashMap::with_hasher(keyed());
        let mut contacts = HashSet::with_hasher(keyed());
        let (mut sessions, mut shared) = (0, 0);
        for number in 0..self.sessions.touched() {
            let Some(session) = self.sessions.get(number).filter(|s| s.protocol != 0) else {
                continue;
            };
            sessions += 1;
            for (direction, local) in [
                (Direction::Outbound, session.inside()),
                (Direction::Inbound, session.outside()),
            ] {
                let remote = session.remote();
                let flow = Flow::new(&common.keys, direction, session.protocol, local, remote);
                let found = self.known(&flow);
                ensure!(
                    found == Some(number),
                    "session {number} is found as {found:?}"
                );
            }
            let mapping = self.mappings.slab.get(session.mapping);
            let Some(mapping) = mapping.filter(|m| m.protocol == session.protocol) else {
                return Err(format!("session {number} has no mapping"));
            };
            ensure!(
                mapping.inside == session.inside
                    && mapping.inside_port == session.inside_port
                    && mapping.outside_port == session.outside_port
                    && self.externals.addr(mapping.external) == Some(session.outside),
                "session {number} and its mapping differ"
            );
            shared += usize::from(mapping.is_shared());
            *of_mapping.entry(session.mapping).or_insert(0) += 1;
            *of_host.entry(mapping.host).or_insert(0) += 1;
            let filtering = behaviour(common, session.protocol).filtering;
            if session.is_unanswered() {
                *unanswered.entry(session.mapping).or_insert(0) += 1;
            } else if filtering == Dependence::AddressDependent {
                let sole = mapping.sole();
                ensure!(
                    sole.is_none_or(|sole| sole == number),
                    "session {number} is not the sole one of its mapping: {sole:?}"
                );
                if sole.is_none() {
                    contacts.insert((session.mapping, session.remote));
                }
                ensure!(
                    self.knows(common, session.mapping, session.remote),
                    "the filter does not know the remote of session {number}"
                );
            }
        }
        ensure!(
            sessions == self.sessions.len() && self.index.len() == sessions,
            "{sessions} sessions, {} counted, {} indexed",
            self.sessions.len(),
            self.index.len()
        );
        ensure!(
            self.shared.len() == shared && self.externals.named_sessions() == sessions - shared,
            "{shared} of {sessions} sessions share a mapping, {} indexed, {} named by their port",
            self.shared.len(),
            self.externals.named_sessions()
        );
        if let Some(known) = &self.contacts {
            ensure!(
                known.len() == contacts.len(),
                "{} contacts, {} counted",
                contacts.len(),
                known.len()
            );
        }
        let mut mappings_of: HashMap<u32, u32, Keyed> = HashMap::with_hasher(keyed());
        let (mut mappings, mut indexed) = (0, 0);
        for number in live(&self.mappings.slab) {
            let Some(mapping) = self.mappings.slab.get(number) else {
                continue;
            };
            mappings += 1;
            indexed += usize::from(mapping.is_indexed());
            let counted = of_mapping.get(&number).copied().unwrap_or(0);
            ensure!(
                mapping.sessions == counted,
                "mapping {number} counts {} sessions and has {counted}",
                mapping.sessions
            );
            let calls = unanswered.get(&number).copied().unwrap_or(0);
            ensure!(
                mapping.is_resting() || mapping.expires == calls,
                "mapping {number} counts {} unanswered calls and has {calls}",
                mapping.expires
            );
            ensure!(
                mapping.is_resting() == (counted == 0 && !mapping.is_forward()),
                "mapping {number} rests or does not"
            );
            let sole = mapping.sole().and_then(|sole| self.sessions.get(sole));
            ensure!(
                mapping.sole().is_none()
                    || sole.is_some_and(|s| s.protocol != 0
                        && s.mapping == number
                        && !s.is_unanswered()),
                "the sole session of mapping {number} is {:?}",
                mapping.sole()
            );
            let owner = self.externals.mapping(
                space(mapping.protocol),
                mapping.protocol,
                mapping.external,
                mapping.outside_port,
            );
            ensure!(
                owner == Some(number),
                "the port of mapping {number} is {owner:?}'s"
            );
            let host = self.hosts.get(mapping.host);
            ensure!(
                host.is_some_and(|h| h.addr == mapping.inside),
                "mapping {number} has another host"
            );
            *mappings_of.entry(mapping.host).or_insert(0) += 1;
        }
        ensure!(
            mappings == self.mappings.slab.len() && indexed == self.mappings.indexed(),
            "{mappings} mappings, {} counted; {indexed} indexed, {} counted",
            self.mappings.slab.len(),
            self.mappings.indexed()
        );
        for (number, host) in self.hosts.iter() {
            let sessions = of_host.get(&number).copied().unwrap_or(0);
            let mappings = mappings_of.get(&number).copied().unwrap_or(0);
            ensure!(
                host.sessions == sessions && host.mappings == mappings && mappings > 0,
                "host {number} counts {} and {}, and has {sessions} and {mappings}",
                host.sessions,
                host.mappings
            );
        }
        ensure!(
            self.hosts.len() == mappings_of.len(),
            "{} hosts, {} with mappings",
            self.hosts.len(),
            mappings_of.len()
        );
        ensure!(
            self.externals.is_consistent(),
            "ports and their bits differ"
        );
        Ok(())
    }
}
