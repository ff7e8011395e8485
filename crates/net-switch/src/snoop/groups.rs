//! Who listens to what.
//!
//! Memberships are bounded for each port and over all. A port that has no room for one more is given
//! every multicast frame for as long as that one would have lasted: it loses nothing, and pays for
//! it alone. Nobody's membership makes room for another's.

use core::net::IpAddr;
use core::time::Duration;

use hashbrown::HashMap;

use crate::table::{Keyed, Slot};
use crate::vlan::Domain;

/// A group in a domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) domain: Domain,
    pub(super) group: IpAddr,
}

#[derive(Debug, Clone, Copy)]
struct Member {
    slot: Slot,
    /// When it is none any more.
    until: Duration,
}

/// The memberships of one port.
#[derive(Debug, Clone, Default)]
struct Joined {
    keys: Vec<Key>,
    /// It is given everything until then.
    everything: Duration,
}

/// What became of a membership.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    New,
    Renewed,
    /// No room: the port is given everything.
    Overflow,
}

/// The table.
#[derive(Debug)]
pub(super) struct Groups {
    /// In order of slots: a member is looked up for each port that a frame may go to.
    members: HashMap<Key, Vec<Member>, Keyed>,
    /// By slot.
    joined: Vec<Joined>,
    count: usize,
    limit: usize,
    limit_per_port: usize,
    /// Whose old memberships go next.
    sweep: usize,
}

impl Groups {
    pub(super) fn new(seed: &[u8; 16], limit: usize, limit_per_port: usize) -> Self {
        Self {
            members: HashMap::with_hasher(Keyed::new(seed)),
            joined: Vec::new(),
            count: 0,
            limit,
            limit_per_port,
            sweep: 0,
        }
    }

    /// Notes that a port listens to a group until then.
    pub(super) fn join(&mut self, slot: Slot, key: Key, until: Duration, now: Duration) -> Outcome {
        let at = slot as usize;
        if at >= self.joined.len() {
            self.joined.resize(at + 1, Joined::default());
        }
        if let Some(member) = self.member_mut(slot, key) {
            member.until = member.until.max(until);
            return Outcome::Renewed;
        }
        // A port's turn at each join keeps the table from filling with what has ended.
        self.sweep = (self.sweep + 1) % self.joined.len().max(1);
        self.expire(self.sweep, now);
        self.expire(at, now);
        let Some(joined) = self.joined.get_mut(at) else {
            return Outcome::Overflow;
        };
        if joined.keys.len() >= self.limit_per_port || self.count >= self.limit {
            joined.everything = joined.everything.max(until);
            return Outcome::Overflow;
        }
        joined.keys.push(key);
        self.count += 1;
        let members = self.members.entry(key).or_default();
        // It is none yet.
        let (Ok(place) | Err(place)) = find(members, slot);
        members.insert(place, Member { slot, until });
        Outcome::New
    }

    fn member_mut(&mut self, slot: Slot, key: Key) -> Option<&mut Member> {
        let members = self.members.get_mut(&key)?;
        let at = find(members, slot).ok()?;
        members.get_mut(at)
    }

    /// Lets a membership end then, unless it ends before.
    pub(super) fn leave(&mut self, slot: Slot, key: Key, until: Duration) {
        if let Some(member) = self.member_mut(slot, key) {
            member.until = member.until.min(until);
        }
    }

    /// Whether anybody is known to listen.
    pub(super) fn is_known(&self, key: Key, now: Duration) -> bool {
        let members = self.members.get(&key);
        members.is_some_and(|members| members.iter().any(|member| now < member.until))
    }

    /// Whether this port does, or is given everything.
    pub(super) fn wants(&self, slot: Slot, key: Key, now: Duration) -> bool {
        let members = self.members.get(&key);
        let joined = self.joined.get(slot as usize);
        joined.is_some_and(|joined| now < joined.everything)
            || members.is_some_and(|members| {
                let member = find(members, slot).ok().and_then(|at| members.get(at));
                member.is_some_and(|member| now < member.until)
            })
    }

    /// Memberships, those that have ended and not been swept among them.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Forgets a port.
    pub(super) fn forget(&mut self, slot: Slot) {
        self.retain(slot as usize, |_| false);
        if let Some(joined) = self.joined.get_mut(slot as usize) {
            *joined = Joined::default();
        }
    }

    /// Forgets the memberships of a port that have ended.
    fn expire(&mut self, at: usize, now: Duration) {
        self.retain(at, |member| now < member.until);
    }

    fn retain(&mut self, at: usize, keep: impl Fn(&Member) -> bool) {
        let Some(joined) = self.joined.get_mut(at) else {
            return;
        };
        let before = joined.keys.len();
        joined.keys.retain(|key| {
            let Some(members) = self.members.get_mut(key) else {
                return false;
            };
            let Ok(own) = find(members, at as Slot) else {
                return false;
            };
            if members.get(own).is_some_and(&keep) {
                return true;
            }
            members.remove(own);
            if members.is_empty() {
                self.members.remove(key);
            }
            false
        });
        self.count -= before - joined.keys.len();
    }
}

/// Where a port is among the members of a group, or would be.
fn find(members: &[Member], slot: Slot) -> Result<usize, usize> {
    members.binary_search_by_key(&slot, |member| member.slot)
}
