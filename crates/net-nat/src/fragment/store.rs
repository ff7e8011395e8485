//! The datagrams of a fragment table, found by key, ordered by age, charged to their owners.
//!
//! Keeps index, order and accounts in step with each other; what may be added is the table's to
//! decide.

use alloc::vec::Vec;
use core::mem;
use core::time::Duration;

use super::coverage::Coverage;
use super::key::{FragmentKey, KeyMap, key_map};
use super::owners::{Owners, Use};
use super::piece::Piece;
use super::slots::Slots;
use crate::address::Address;

/// One datagram.
#[derive(Debug)]
pub(super) struct Entry<A, T> {
    pub(super) key: FragmentKey<A>,
    pub(super) owner: u32,
    pub(super) deadline: Duration,
    coverage: Coverage,
    pub(super) state: State<T>,
}

#[derive(Debug)]
pub(super) enum State<T> {
    /// The first fragment has not come: what came instead, in order of arrival.
    Waiting { held: Vec<Vec<u8>>, bytes: usize },
    /// It has, and this is what it was translated by.
    Translated(T),
}

impl<A, T> Entry<A, T> {
    pub(super) fn cost(&self) -> Use {
        let held = match &self.state {
            State::Waiting { held, bytes } => Use::held(held.len(), *bytes),
            State::Translated(_) => Use::default(),
        };
        Use {
            datagrams: 1,
            ..held
        }
    }

    /// Whether all of a fragment has been seen before.
    pub(super) fn covers(&self, piece: &Piece) -> bool {
        self.coverage.covers(piece.offset, piece.len)
    }
}

/// The datagrams.
#[derive(Debug)]
pub(super) struct Store<A, T> {
    index: KeyMap<A, u32>,
    entries: Slots<Entry<A, T>>,
    owners: Owners,
}

impl<A: Address, T: Copy> Store<A, T> {
    pub(super) fn new(datagrams: usize, secret: &[u8; 16]) -> Self {
        Self {
            index: key_map(datagrams, secret),
            entries: Slots::new(),
            owners: Owners::new(secret),
        }
    }

    pub(super) fn owners(&self) -> &Owners {
        &self.owners
    }

    pub(super) fn find(&self, key: &FragmentKey<A>) -> Option<u32> {
        self.index.get(key).copied()
    }

    pub(super) fn get(&self, index: u32) -> Option<&Entry<A, T>> {
        self.entries.get(index)
    }

    /// The datagram that has been there the longest, and when it is due.
    pub(super) fn oldest(&self) -> Option<(u32, Duration)> {
        let (index, entry) = self.entries.oldest()?;
        Some((index, entry.deadline))
    }

    /// Adds a datagram of which no fragment has been seen.
    pub(super) fn insert(
        &mut self,
        key: FragmentKey<A>,
        owner: u32,
        state: State<T>,
        deadline: Duration,
    ) -> u32 {
        let entry = Entry {
            key,
            owner,
            deadline,
            coverage: Coverage::default(),
            state,
        };
        self.owners.charge(owner, entry.cost());
        let index = self.entries.push(entry);
        self.index.insert(key, index);
        index
    }

    /// Notes that a fragment was sent; a translated datagram of which all were is removed.
    pub(super) fn see(&mut self, index: u32, piece: &Piece) {
        let Some(entry) = self.entries.get_mut(index) else {
            return;
        };
        entry.coverage.add(piece.offset, piece.len, !piece.more);
        if matches!(entry.state, State::Translated(_)) && entry.coverage.is_complete() {
            self.remove(index);
        }
    }

    /// Adds a copy of `packet` to a waiting datagram.
    pub(super) fn hold(&mut self, index: u32, piece: &Piece, packet: &[u8]) {
        if let Some(entry) = self.entries.get_mut(index)
            && let State::Waiting { held, bytes } = &mut entry.state
        {
            held.push(packet.to_vec());
            *bytes += packet.len();
            self.owners.charge(entry.owner, Use::held(1, packet.len()));
            entry.coverage.add(piece.offset, piece.len, !piece.more);
        }
    }

    /// Makes a waiting datagram a translated one of `owner`, the youngest of all, and returns what
    /// was held for it.
    pub(super) fn translate(
        &mut self,
        index: u32,
        owner: u32,
        translation: T,
        deadline: Duration,
    ) -> Vec<Vec<u8>> {
        let Some(entry) = self.entries.get_mut(index) else {
            return Vec::new();
        };
        self.owners.credit(entry.owner, entry.cost());
        let before = mem::replace(&mut entry.state, State::Translated(translation));
        entry.owner = owner;
        entry.deadline = deadline;
        self.owners.charge(owner, entry.cost());
        self.entries.renew(index);
        match before {
            State::Waiting { held, .. } => held,
            State::Translated(_) => Vec::new(),
        }
    }

    /// Removes a datagram and returns what it cost.
    pub(super) fn remove(&mut self, index: u32) -> Option<Use> {
        let entry = self.entries.remove(index)?;
        let cost = entry.cost();
        self.index.remove(&entry.key);
        self.owners.credit(entry.owner, cost);
        Some(cost)
    }

    /// Checks that index, order and accounts agree, and returns the datagrams in order of age.
    #[cfg(test)]
    pub(super) fn validate(&self) -> Vec<&Entry<A, T>> {
        let all: Vec<_> = self.entries.iter().collect();
        assert_eq!(all.len(), self.index.len());
        let mut owners = Owners::new(&[0; 16]);
        for (index, entry) in &all {
            assert_eq!(self.index.get(&entry.key), Some(index));
            if let State::Waiting { held, bytes } = &entry.state {
                assert_eq!(held.iter().map(Vec::len).sum::<usize>(), *bytes);
                assert!(!held.is_empty(), "waits for the first, but has none of it");
            }
            owners.charge(entry.owner, entry.cost());
        }
        assert_eq!(owners.total(), self.owners.total());
        assert_eq!(owners.len(), self.owners.len());
        for (_, entry) in &all {
            assert_eq!(owners.of(entry.owner), self.owners.of(entry.owner));
        }
        all.into_iter().map(|(_, entry)| entry).collect()
    }
}
