//! Which port an address was seen on.
//!
//! Every learned address stands in two lists, both with the one that was silent longest in front:
//! one of all, from which learning takes what is too old, a few at a time, so that nothing ever
//! scans the table; and one of its port, from which a port that learns more than its share loses
//! its own oldest. Nobody's address makes room for another port's.
//!
//! An entry takes its new place at most once in a 64th of the ageing time, so that the path of a
//! known address is one hash look-up and one comparison. Times are that exact: an address is
//! forgotten 63/64 to 64/64 of the ageing time after its last frame.

use core::hash::BuildHasher;
use core::time::Duration;

use hashbrown::HashMap;
use net_wire::MacAddr;
use siphasher::sip::SipHasher13;

use crate::Config;
use crate::list::{Links, List};
use crate::vlan::Domain;

/// Old entries that learning one takes away, at most: more than one, so that it catches up.
const AGEING_STEPS: usize = 4;

/// Keyed SipHash: a guest that does not know the seed cannot choose a bucket.
#[derive(Debug, Clone)]
pub(crate) struct Keyed(SipHasher13);

impl Keyed {
    pub(crate) fn new(seed: &[u8; 16]) -> Self {
        Self(SipHasher13::new_with_key(seed))
    }
}

impl BuildHasher for Keyed {
    type Hasher = SipHasher13;

    fn build_hasher(&self) -> SipHasher13 {
        self.0
    }
}

/// An address in its domain as one word, which hashes in one step.
fn key(domain: Domain, mac: MacAddr) -> u64 {
    let [a, b, c, d, e, f] = mac.0;
    u64::from_be_bytes([0, 0, a, b, c, d, e, f]) | u64::from(domain.number()) << 48
}

/// The place of a port in the switch.
pub(crate) type Slot = u32;

#[derive(Debug, Clone, Copy)]
struct Entry {
    mac: MacAddr,
    domain: Domain,
    slot: Slot,
    /// Tied to its port; in no list by age.
    fixed: bool,
    /// When its place in the lists was taken.
    renewed: Duration,
    /// When it came to this port.
    moved: Duration,
    by_age: Links,
    own: Links,
}

/// The addresses of a port.
#[derive(Debug, Clone, Copy)]
struct Owner {
    learned: List,
    count: usize,
    fixed: List,
}

impl Owner {
    const NONE: Self = Self {
        learned: List::EMPTY,
        count: 0,
        fixed: List::EMPTY,
    };
}

/// What became of a sender's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Learnt {
    /// It is known on this port.
    Known,
    /// It is tied to another port.
    Taken,
    /// It came to another port a moment ago.
    TooSoon,
}

/// What has happened to the table.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Changes {
    pub(crate) learned: u64,
    pub(crate) moved: u64,
    pub(crate) aged: u64,
    pub(crate) evicted: u64,
}

/// The table.
#[derive(Debug)]
pub(crate) struct Table {
    index: HashMap<u64, u32, Keyed>,
    entries: Vec<Entry>,
    free: Vec<u32>,
    by_age: List,
    owners: Vec<Owner>,
    /// Learned addresses beyond the first of each port.
    extra: usize,
    limit: usize,
    limit_per_port: usize,
    ageing: Duration,
    move_interval: Duration,
    pub(crate) changes: Changes,
}

impl Table {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            index: HashMap::with_hasher(Keyed::new(&config.seed)),
            entries: Vec::new(),
            free: Vec::new(),
            by_age: List::EMPTY,
            owners: Vec::new(),
            extra: 0,
            limit: config.addresses,
            limit_per_port: config.addresses_per_port.max(1),
            ageing: config.ageing,
            move_interval: config.move_interval,
            changes: Changes::default(),
        }
    }

    #[inline(always)]
    fn get(&self, domain: Domain, mac: MacAddr) -> Option<&Entry> {
        self.entries
            .get(*self.index.get(&key(domain, mac))? as usize)
    }

    /// The port of an address, if it is known and not too old.
    #[inline]
    pub(crate) fn slot_of(&self, domain: Domain, mac: MacAddr, now: Duration) -> Option<Slot> {
        let entry = self.get(domain, mac)?;
        (!self.is_old(entry, now)).then_some(entry.slot)
    }

    /// The port that an address is tied to.
    pub(crate) fn fixed_at(&self, domain: Domain, mac: MacAddr) -> Option<Slot> {
        self.get(domain, mac)
            .filter(|entry| entry.fixed)
            .map(|entry| entry.slot)
    }

    /// Forgets an address that was learned.
    pub(crate) fn unlearn(&mut self, domain: Domain, mac: MacAddr) {
        if let Some(index) = self.index.get(&key(domain, mac)).copied()
            && self
                .entries
                .get(index as usize)
                .is_some_and(|entry| !entry.fixed)
        {
            self.remove(index);
        }
    }

    fn is_old(&self, entry: &Entry, now: Duration) -> bool {
        !entry.fixed && now.saturating_sub(entry.renewed) > self.ageing
    }

    /// Notes that `mac` sent from the port at `slot`.
    #[inline]
    pub(crate) fn learn(
        &mut self,
        domain: Domain,
        mac: MacAddr,
        slot: Slot,
        now: Duration,
    ) -> Learnt {
        let found = self.index.get(&key(domain, mac)).copied();
        let Some((index, entry)) =
            found.and_then(|index| Some((index, *self.entries.get(index as usize)?)))
        else {
            self.insert((domain, mac), slot, now);
            return Learnt::Known;
        };
        if entry.slot == slot {
            if !entry.fixed && now.saturating_sub(entry.renewed) > self.ageing / 64 {
                self.renew(index, now);
            }
            return Learnt::Known;
        }
        if entry.fixed {
            return Learnt::Taken;
        }
        if !self.is_old(&entry, now) {
            if now.saturating_sub(entry.moved) < self.move_interval {
                return Learnt::TooSoon;
            }
            self.changes.moved += 1;
        }
        self.remove(index);
        self.insert((domain, mac), slot, now);
        Learnt::Known
    }

    fn insert(&mut self, address: (Domain, MacAddr), slot: Slot, now: Duration) {
        self.age(now);
        let owner = self.owner(slot);
        // The first address of a port always has room.
        let full = owner.count > 0 && self.extra >= self.limit;
        if (full || owner.count >= self.limit_per_port)
            && let Some(oldest) = owner.learned.front()
        {
            self.remove(oldest);
            self.changes.evicted += 1;
        }
        self.changes.learned += 1;
        let index = self.add(address, slot, false, now);
        self.by_age
            .push_back(&mut self.entries, index, |e| &mut e.by_age);
        if let Some(owner) = self.owners.get_mut(slot as usize) {
            owner
                .learned
                .push_back(&mut self.entries, index, |e| &mut e.own);
            self.extra += usize::from(owner.count > 0);
            owner.count += 1;
        }
    }

    /// Makes an entry, in no list yet.
    fn add(
        &mut self,
        (domain, mac): (Domain, MacAddr),
        slot: Slot,
        fixed: bool,
        now: Duration,
    ) -> u32 {
        let entry = Entry {
            mac,
            domain,
            slot,
            fixed,
            renewed: now,
            moved: now,
            by_age: Links::LOOSE,
            own: Links::LOOSE,
        };
        let reused = self.free.pop();
        let index = reused.unwrap_or(self.entries.len() as u32);
        match self.entries.get_mut(index as usize) {
            Some(free) => *free = entry,
            None => self.entries.push(entry),
        }
        self.index.insert(key(domain, mac), index);
        index
    }

    fn owner(&mut self, slot: Slot) -> Owner {
        let at = slot as usize;
        if at >= self.owners.len() {
            self.owners.resize(at + 1, Owner::NONE);
        }
        self.owners.get(at).copied().unwrap_or(Owner::NONE)
    }

    fn renew(&mut self, index: u32, now: Duration) {
        let Some(entry) = self.entries.get_mut(index as usize) else {
            return;
        };
        entry.renewed = now;
        let slot = entry.slot;
        self.by_age
            .unlink(&mut self.entries, index, |e| &mut e.by_age);
        self.by_age
            .push_back(&mut self.entries, index, |e| &mut e.by_age);
        if let Some(owner) = self.owners.get_mut(slot as usize) {
            owner
                .learned
                .unlink(&mut self.entries, index, |e| &mut e.own);
            owner
                .learned
                .push_back(&mut self.entries, index, |e| &mut e.own);
        }
    }

    /// Forgets what is too old, a few at a time.
    fn age(&mut self, now: Duration) {
        for _ in 0..AGEING_STEPS {
            let Some(oldest) = self.by_age.front() else {
                return;
            };
            match self.entries.get(oldest as usize) {
                Some(entry) if self.is_old(entry, now) => {}
                _ => return,
            }
            self.remove(oldest);
            self.changes.aged += 1;
        }
    }

    fn remove(&mut self, index: u32) {
        let Some(entry) = self.entries.get(index as usize).copied() else {
            return;
        };
        self.index.remove(&key(entry.domain, entry.mac));
        self.free.push(index);
        let Some(owner) = self.owners.get_mut(entry.slot as usize) else {
            return;
        };
        if entry.fixed {
            owner.fixed.unlink(&mut self.entries, index, |e| &mut e.own);
            return;
        }
        owner
            .learned
            .unlink(&mut self.entries, index, |e| &mut e.own);
        owner.count -= 1;
        self.extra -= usize::from(owner.count > 0);
        self.by_age
            .unlink(&mut self.entries, index, |e| &mut e.by_age);
    }

    /// Ties an address to a port for good; whoever had learned it loses it. False if it is tied to
    /// another port, and stays so.
    pub(crate) fn fix(&mut self, domain: Domain, mac: MacAddr, slot: Slot) -> bool {
        if let Some(index) = self.index.get(&key(domain, mac)).copied() {
            match self.entries.get(index as usize) {
                Some(entry) if entry.fixed => return entry.slot == slot,
                _ => self.remove(index),
            }
        }
        self.owner(slot);
        let index = self.add((domain, mac), slot, true, Duration::ZERO);
        if let Some(owner) = self.owners.get_mut(slot as usize) {
            owner
                .fixed
                .push_back(&mut self.entries, index, |e| &mut e.own);
        }
        true
    }

    /// Unties an address from a port.
    pub(crate) fn unfix(&mut self, domain: Domain, mac: MacAddr, slot: Slot) {
        if let Some(index) = self.index.get(&key(domain, mac)).copied()
            && let Some(entry) = self.entries.get(index as usize)
            && entry.fixed
            && entry.slot == slot
        {
            self.remove(index);
        }
    }

    /// Forgets what was learned on a port; what is tied to it stays.
    pub(crate) fn forget(&mut self, slot: Slot) {
        while let Some(index) = self.owner(slot).learned.front() {
            self.remove(index);
        }
    }

    /// Forgets a port altogether.
    pub(crate) fn remove_all(&mut self, slot: Slot) {
        self.forget(slot);
        while let Some(index) = self.owner(slot).fixed.front() {
            self.remove(index);
        }
    }

    /// Addresses known.
    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }
}
