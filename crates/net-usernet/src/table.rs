//! Flows by key, bounded per guest, forgotten when idle.
//!
//! Every flow belongs to one guest ([`PortId`]) and to one time-out class. A guest at its bound
//! gives up its own oldest flow for a new one, never another guest's. All steps take constant time
//! (hashing apart), whatever the number of flows.

use core::hash::Hash;
use core::time::Duration;
use std::collections::BTreeMap;

use hashbrown::HashMap;
use slab::Slab;

use crate::PortId;
use crate::hash::KeyedState;
use crate::order::{Links, Order};

/// The flows of one relay; `N` is the number of time-out classes.
#[derive(Debug)]
pub(crate) struct FlowTable<K, V, const N: usize> {
    slots: Slab<Slot<K, V>>,
    index: HashMap<K, usize, KeyedState>,
    limit: usize,
    timeouts: [Duration; N],
    by_class: [Order; N],
    class_links: Links,
    by_owner: BTreeMap<PortId, Order>,
    owner_links: Links,
}

#[derive(Debug)]
struct Slot<K, V> {
    key: K,
    owner: PortId,
    class: usize,
    used: Duration,
    value: V,
}

/// A flow that has just been taken out.
#[derive(Debug)]
pub(crate) struct Removed<K, V> {
    pub(crate) slot: usize,
    pub(crate) key: K,
    pub(crate) value: V,
}

impl<K: Hash + Eq + Clone, V, const N: usize> FlowTable<K, V, N> {
    /// An empty table for at most `limit` flows per guest.
    pub(crate) fn new(hash: KeyedState, limit: usize, timeouts: [Duration; N]) -> Self {
        Self {
            slots: Slab::new(),
            index: HashMap::with_hasher(hash),
            limit,
            timeouts,
            by_class: [Order::default(); N],
            class_links: Links::default(),
            by_owner: BTreeMap::new(),
            owner_links: Links::default(),
        }
    }

    /// Flows of all guests.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// The slot of `key`.
    pub(crate) fn find(&self, key: &K) -> Option<usize> {
        if self.slots.is_empty() {
            return None;
        }
        self.index.get(key).copied()
    }

    /// The flow in `slot`.
    pub(crate) fn get(&self, slot: usize) -> Option<&V> {
        self.slots.get(slot).map(|slot| &slot.value)
    }

    /// The flow in `slot`.
    pub(crate) fn get_mut(&mut self, slot: usize) -> Option<&mut V> {
        self.slots.get_mut(slot).map(|slot| &mut slot.value)
    }

    /// Whose flow `slot` holds.
    pub(crate) fn owner(&self, slot: usize) -> Option<PortId> {
        self.slots.get(slot).map(|slot| slot.owner)
    }

    /// The key of the flow in `slot`.
    pub(crate) fn key(&self, slot: usize) -> Option<&K> {
        self.slots.get(slot).map(|slot| &slot.key)
    }

    /// Takes out the oldest flow of `owner` if there is no room for another; call it before
    /// [`Self::insert`] until it returns `None`.
    pub(crate) fn make_room(&mut self, owner: PortId) -> Option<Removed<K, V>> {
        let order = self.by_owner.get(&owner)?;
        if order.len() < self.limit {
            return None;
        }
        let oldest = order.oldest()?;
        self.remove(oldest)
    }

    /// Takes out the oldest flow of `owner`, whatever the room.
    pub(crate) fn evict(&mut self, owner: PortId) -> Option<Removed<K, V>> {
        let oldest = self.by_owner.get(&owner)?.oldest()?;
        self.remove(oldest)
    }

    /// Whether the bound allows any flow at all.
    pub(crate) fn is_closed(&self) -> bool {
        self.limit == 0
    }

    /// The slot that the next [`Self::insert`] will use.
    pub(crate) fn next_slot(&self) -> usize {
        self.slots.vacant_key()
    }

    /// Adds a flow; `key` must not be in the table.
    pub(crate) fn insert(
        &mut self,
        owner: PortId,
        class: usize,
        key: K,
        value: V,
        now: Duration,
    ) -> usize {
        let class = class.min(N - 1);
        let slot = self.slots.insert(Slot {
            key: key.clone(),
            owner,
            class,
            used: now,
            value,
        });
        self.index.insert(key, slot);
        self.class_links.push(&mut self.by_class[class], slot);
        self.owner_links
            .push(self.by_owner.entry(owner).or_default(), slot);
        slot
    }

    /// Notes that the flow in `slot` was used now, and moves it to another time-out class.
    pub(crate) fn touch(&mut self, slot: usize, class: usize, now: Duration) {
        let Some(flow) = self.slots.get_mut(slot) else {
            return;
        };
        // Time that seems to go backwards would break the order of the list.
        flow.used = flow.used.max(now);
        let class = class.min(N - 1);
        if class == flow.class {
            self.class_links.touch(&mut self.by_class[class], slot);
        } else {
            self.class_links
                .remove(&mut self.by_class[flow.class], slot);
            self.class_links.push(&mut self.by_class[class], slot);
            flow.class = class;
        }
        if let Some(order) = self.by_owner.get_mut(&flow.owner) {
            self.owner_links.touch(order, slot);
        }
    }

    /// Takes the flow in `slot` out.
    pub(crate) fn remove(&mut self, slot: usize) -> Option<Removed<K, V>> {
        let Slot {
            key,
            owner,
            class,
            value,
            ..
        } = self.slots.try_remove(slot)?;
        self.index.remove(&key);
        self.class_links.remove(&mut self.by_class[class], slot);
        if let Some(order) = self.by_owner.get_mut(&owner) {
            self.owner_links.remove(order, slot);
            if order.len() == 0 {
                self.by_owner.remove(&owner);
            }
        }
        Some(Removed { slot, key, value })
    }

    /// Takes out one flow whose time-out has passed; call it until it returns `None`.
    pub(crate) fn expire(&mut self, now: Duration) -> Option<Removed<K, V>> {
        for class in 0..N {
            let Some(oldest) = self.by_class[class].oldest() else {
                continue;
            };
            if self
                .deadline_of(oldest, class)
                .is_some_and(|deadline| deadline <= now)
            {
                return self.remove(oldest);
            }
        }
        None
    }

    /// When [`Self::expire`] has something to do next.
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        (0..N)
            .filter_map(|class| self.deadline_of(self.by_class[class].oldest()?, class))
            .min()
    }

    fn deadline_of(&self, slot: usize, class: usize) -> Option<Duration> {
        Some(
            self.slots
                .get(slot)?
                .used
                .saturating_add(self.timeouts[class]),
        )
    }

    /// The slots that satisfy a condition: for rare events, it looks at every flow.
    pub(crate) fn slots_where(&self, mut wanted: impl FnMut(&K, &V) -> bool) -> Vec<usize> {
        let matching = self
            .slots
            .iter()
            .filter(|(_, slot)| wanted(&slot.key, &slot.value));
        matching.map(|(slot, _)| slot).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TIMEOUTS: [Duration; 2] = [Duration::from_secs(30), Duration::from_secs(300)];

    fn table(limit: usize) -> FlowTable<u32, u32, 2> {
        FlowTable::new(KeyedState::new(&[7; 16], 0), limit, TIMEOUTS)
    }

    /// Row 58: the oldest idle flow goes, and always one of the same guest.
    #[test]
    fn oldest_idle_first_of_the_same_guest_only() {
        let mut table = table(2);
        let at = Duration::from_secs;
        let a = table.insert(1, 1, 10, 0, at(0));
        table.insert(1, 1, 11, 0, at(1));
        table.insert(2, 1, 20, 0, at(0));
        table.touch(a, 1, at(2));
        assert_eq!(table.make_room(1).map(|gone| gone.key), Some(11));
        table.insert(1, 1, 12, 0, at(3));
        assert_eq!(table.make_room(1).map(|gone| gone.key), Some(10));
        assert!(table.make_room(1).is_none() && table.make_room(2).is_none());
        assert!(table.find(&20).is_some() && table.find(&10).is_none());
    }

    proptest! {
        /// Against a plain list that is searched from end to end.
        #[test]
        fn agrees_with_a_list(
            steps in proptest::collection::vec((0u32..12, 0u32..3, 0usize..2, 0u64..40, 0u8..4), 0..300),
        ) {
            let mut table = table(4);
            // Key, owner, class, last use, in order of last use.
            let mut oracle: Vec<(u32, u32, usize, Duration)> = Vec::new();
            let mut now = Duration::ZERO;
            for (key, owner, class, wait, step) in steps {
                now += Duration::from_secs(wait);
                let mut gone: Vec<u32> = core::iter::from_fn(|| table.expire(now)).map(|r| r.key).collect();
                gone.sort_unstable();
                let dead = |flow: &(u32, u32, usize, Duration)| flow.3 + TIMEOUTS[flow.2] <= now;
                let mut expected: Vec<u32> = oracle.iter().filter(|f| dead(f)).map(|f| f.0).collect();
                expected.sort_unstable();
                prop_assert_eq!(gone, expected);
                oracle.retain(|flow| !dead(flow));
                let at = oracle.iter().position(|flow| flow.0 == key);
                match (table.find(&key), at) {
                    (None, None) if step < 3 => {
                        while table.make_room(owner).is_some() {
                            let oldest = oracle.iter().position(|flow| flow.1 == owner).unwrap();
                            oracle.remove(oldest);
                        }
                        table.insert(owner, class, key, 0, now);
                        oracle.push((key, owner, class, now));
                    }
                    (Some(slot), Some(at)) if step < 3 => {
                        table.touch(slot, class, now);
                        let (key, owner, ..) = oracle.remove(at);
                        oracle.push((key, owner, class, now));
                    }
                    (Some(slot), Some(at)) => {
                        table.remove(slot);
                        oracle.remove(at);
                    }
                    (None, None) => {}
                    other => prop_assert!(false, "{other:?}"),
                }
                prop_assert_eq!(table.len(), oracle.len());
                let next = oracle.iter().map(|f| f.3 + TIMEOUTS[f.2]).min();
                prop_assert_eq!(table.next_deadline(), next);
                for owner in 0..3 {
                    prop_assert!(oracle.iter().filter(|f| f.1 == owner).count() <= 4);
                }
            }
        }
    }
}
