//! Which port an address was seen on.
//!
//! Ageing is a list in the order of the last look-up that renewed an entry, so that what is old is
//! at its front: learning pops a bounded number of them and nothing ever scans the table. An entry
//! is renewed at most every eighth of the ageing time, which keeps the list short and leaves the
//! path of a known address one hash look-up and one comparison.

use core::hash::BuildHasher;
use core::time::Duration;
use std::collections::VecDeque;

use hashbrown::HashMap;
use net_wire::MacAddr;
use siphasher::sip::SipHasher13;

use crate::{Config, PortId};

/// Old entries looked at per frame that learns something.
const AGEING_STEPS: usize = 4;

/// Keyed SipHash: a guest that does not know the seed cannot choose a bucket.
#[derive(Debug, Clone)]
pub(crate) struct Keyed([u8; 16]);

impl BuildHasher for Keyed {
    type Hasher = SipHasher13;

    fn build_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_key(&self.0)
    }
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    port: PortId,
    /// When its place in the list was taken.
    renewed: Duration,
    /// When it came to this port.
    moved: Duration,
    fixed: bool,
}

/// What became of a sender's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Learnt {
    /// It is known on this port.
    Known,
    /// It cannot be remembered: the port or the table is full.
    Full,
    /// It is another port's, for good or for now.
    Elsewhere,
}

/// The table.
#[derive(Debug)]
pub(crate) struct Table {
    entries: HashMap<MacAddr, Entry, Keyed>,
    by_age: VecDeque<(Duration, MacAddr)>,
    counts: HashMap<PortId, usize, Keyed>,
    limit: usize,
    limit_per_port: usize,
    ageing: Duration,
    move_interval: Duration,
}

impl Table {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            entries: HashMap::with_hasher(Keyed(config.seed)),
            by_age: VecDeque::new(),
            counts: HashMap::with_hasher(Keyed(config.seed)),
            limit: config.addresses,
            limit_per_port: config.addresses_per_port,
            ageing: config.ageing,
            move_interval: config.move_interval,
        }
    }

    /// The port of an address, if it is known and not too old.
    #[inline]
    pub(crate) fn port_of(&self, mac: MacAddr, now: Duration) -> Option<(PortId, bool)> {
        let entry = self.entries.get(&mac)?;
        (!self.is_old(entry, now)).then_some((entry.port, entry.fixed))
    }

    fn is_old(&self, entry: &Entry, now: Duration) -> bool {
        !entry.fixed && now.saturating_sub(entry.renewed) > self.ageing
    }

    /// Ties an address to a port for good; whoever had it loses it.
    pub(crate) fn fix(&mut self, mac: MacAddr, port: PortId) {
        self.remove(mac);
        let entry = Entry {
            port,
            renewed: Duration::ZERO,
            moved: Duration::ZERO,
            fixed: true,
        };
        self.entries.insert(mac, entry);
    }

    /// Notes that `mac` sent from `port`.
    #[inline]
    pub(crate) fn learn(&mut self, mac: MacAddr, port: PortId, now: Duration) -> Learnt {
        match self.entries.get(&mac).copied() {
            Some(entry) if entry.port == port => {
                if !entry.fixed && now.saturating_sub(entry.renewed) > self.ageing / 8 {
                    self.renew(mac, entry, now);
                }
                Learnt::Known
            }
            Some(entry) if entry.fixed => Learnt::Elsewhere,
            Some(entry)
                if !self.is_old(&entry, now)
                    && now.saturating_sub(entry.moved) < self.move_interval =>
            {
                Learnt::Elsewhere
            }
            Some(_) => {
                self.remove(mac);
                self.insert(mac, port, now)
            }
            None => self.insert(mac, port, now),
        }
    }

    fn insert(&mut self, mac: MacAddr, port: PortId, now: Duration) -> Learnt {
        self.age(now);
        let count = self.counts.entry(port).or_insert(0);
        if *count >= self.limit_per_port || self.entries.len() >= self.limit {
            return Learnt::Full;
        }
        *count += 1;
        self.entries.insert(
            mac,
            Entry {
                port,
                renewed: now,
                moved: now,
                fixed: false,
            },
        );
        self.by_age.push_back((now, mac));
        Learnt::Known
    }

    fn renew(&mut self, mac: MacAddr, entry: Entry, now: Duration) {
        self.age(now);
        self.entries.insert(
            mac,
            Entry {
                renewed: now,
                ..entry
            },
        );
        self.by_age.push_back((now, mac));
    }

    /// Drops entries that are too old, a few at a time, and places in the list that are out of date.
    fn age(&mut self, now: Duration) {
        for _ in 0..AGEING_STEPS {
            let Some(&(at, mac)) = self.by_age.front() else {
                return;
            };
            let current = self
                .entries
                .get(&mac)
                .is_some_and(|entry| entry.renewed == at);
            if current && now.saturating_sub(at) <= self.ageing {
                return;
            }
            self.by_age.pop_front();
            if current {
                self.remove(mac);
            }
        }
    }

    fn remove(&mut self, mac: MacAddr) {
        if let Some(entry) = self.entries.remove(&mac)
            && !entry.fixed
            && let Some(count) = self.counts.get_mut(&entry.port)
        {
            *count -= 1;
        }
    }

    /// Forgets what was learnt on a port; static addresses stay.
    pub(crate) fn forget_port(&mut self, port: PortId) {
        self.entries
            .retain(|_, entry| entry.fixed || entry.port != port);
        self.by_age
            .retain(|(_, mac)| self.entries.contains_key(mac));
        self.counts.remove(&port);
    }

    /// Forgets a port altogether, static addresses too.
    pub(crate) fn remove_port(&mut self, port: PortId) {
        self.entries.retain(|_, entry| entry.port != port);
        self.by_age
            .retain(|(_, mac)| self.entries.contains_key(mac));
        self.counts.remove(&port);
    }

    /// Addresses known.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    #[cfg(test)]
    pub(crate) fn list_len(&self) -> usize {
        self.by_age.len()
    }
}
