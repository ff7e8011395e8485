//! What the fragments of each datagram become, and those that came before this was known.
//!
//! The caller asks [`check`](FragmentTable::check) what a packet is. A first fragment it translates
//! by its ports and reports to [`first`](FragmentTable::first), which gives back what was held. For
//! any other it asks [`later`](FragmentTable::later).
//!
//! A record ends when every byte of its datagram has passed, or after the timeout. All timeouts are
//! equal, so the records expire in the order of their age: each call looks at the oldest few, and
//! [`expire`](FragmentTable::expire) at all that are due. `now` should not go back; if it does,
//! records expire later, nothing else.

use alloc::vec::Vec;
use core::time::Duration;

use super::config::FragmentConfig;
use super::key::FragmentKey;
use super::piece::{Kind, Piece};
use super::refusal::{FragmentCounters, FragmentRefusal};
use super::store::{State, Store};
use crate::address::Address;

/// Expired datagrams that a call clears away beside its own work. Each call adds one at most, so
/// that a few are enough to keep up.
const EXPIRE_BUDGET: usize = 4;

/// What to do with a fragment that is not the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Later<T> {
    /// Translate it like this and send it.
    Translate(T),
    /// A copy is held until the first fragment comes.
    Held,
    /// It goes no further.
    Dropped(FragmentRefusal),
}

/// The datagrams whose fragments are on the way; `T` is what the caller translates them by.
///
/// `T` must hold all of the translation: whatever it refers to may be gone when it is used.
#[derive(Debug)]
pub(crate) struct FragmentTable<A, T> {
    config: FragmentConfig,
    store: Store<A, T>,
    counters: FragmentCounters,
}

impl<A: Address, T: Copy + PartialEq> FragmentTable<A, T> {
    /// An empty table; `secret` keys its hashes. The index is allocated at once, the rest as needed.
    pub(crate) fn new(config: FragmentConfig, secret: &[u8; 16]) -> Self {
        Self {
            config,
            store: Store::new(config.datagrams, secret),
            counters: FragmentCounters::default(),
        }
    }

    /// What was done so far.
    pub(crate) fn counters(&self) -> &FragmentCounters {
        &self.counters
    }

    /// Datagrams in the table, packets held for them, and the bytes of those.
    pub(crate) fn load(&self) -> (usize, usize, usize) {
        let total = self.store.owners().total();
        (total.datagrams, total.packets, total.bytes)
    }

    /// Tells what a packet is to its datagram, and counts it if it has to be dropped.
    ///
    /// # Errors
    /// As [`Piece::kind`].
    pub(crate) fn check(&mut self, piece: &Piece) -> Result<Kind, FragmentRefusal> {
        piece
            .kind()
            .inspect_err(|&reason| self.counters.refuse(reason))
    }

    /// What a datagram is being translated by, if its first fragment has come.
    ///
    /// A first fragment that comes twice must get the identification it got before; this is where
    /// the caller finds it.
    pub(crate) fn translation(&self, key: &FragmentKey<A>, now: Duration) -> Option<T> {
        let entry = self.store.get(self.store.find(key)?)?;
        match entry.state {
            State::Translated(translation) if entry.deadline > now => Some(translation),
            _ => None,
        }
    }

    /// Records what the first fragment of a datagram is translated by, and passes what was held for
    /// it to `out` in order of arrival. The caller sends the first fragment before those.
    ///
    /// The datagram is from now on `owner`'s, whoever it was charged to before.
    ///
    /// # Errors
    /// The caller drops the packet; the table knows no more than before.
    /// - [`Conflict`](FragmentRefusal::Conflict): the datagram is being translated by something
    ///   else. Of two first fragments, one is meant for whoever saw only the other (RFC 1858,
    ///   section 4); the earlier stays.
    /// - [`TableFull`](FragmentRefusal::TableFull), [`OwnerFull`](FragmentRefusal::OwnerFull).
    pub(crate) fn first(
        &mut self,
        key: FragmentKey<A>,
        piece: &Piece,
        owner: u32,
        translation: T,
        now: Duration,
        out: &mut impl FnMut(Vec<u8>),
    ) -> Result<(), FragmentRefusal> {
        self.expire_some(now, EXPIRE_BUDGET);
        let index = self
            .record(key, owner, translation, now, out)
            .inspect_err(|&reason| self.counters.refuse(reason))?;
        self.store.see(index, piece);
        Ok(())
    }

    /// Decides about a fragment that is not the first; `packet` is what to hold of it.
    ///
    /// A fragment of a datagram that nobody has begun is charged to `owner`.
    pub(crate) fn later(
        &mut self,
        key: FragmentKey<A>,
        piece: &Piece,
        owner: u32,
        packet: &[u8],
        now: Duration,
    ) -> Later<T> {
        self.expire_some(now, EXPIRE_BUDGET);
        let known = self.live(&key, now);
        if let Some((index, entry)) = known.and_then(|index| Some((index, self.store.get(index)?)))
            && let State::Translated(translation) = entry.state
        {
            self.store.see(index, piece);
            self.counters.translated += 1;
            return Later::Translate(translation);
        }
        match self.hold(known, key, piece, owner, packet, now) {
            Ok(()) => {
                self.counters.held += 1;
                Later::Held
            }
            Err(reason) => {
                self.counters.refuse(reason);
                Later::Dropped(reason)
            }
        }
    }

    /// Gives up every datagram that is due, at a constant price for each.
    pub(crate) fn expire(&mut self, now: Duration) {
        self.expire_some(now, usize::MAX);
    }

    /// Finds or makes the record of a datagram, and gives up what was held for it.
    fn record(
        &mut self,
        key: FragmentKey<A>,
        owner: u32,
        translation: T,
        now: Duration,
        out: &mut impl FnMut(Vec<u8>),
    ) -> Result<u32, FragmentRefusal> {
        let deadline = now.saturating_add(self.config.timeout);
        let known = self
            .live(&key, now)
            .and_then(|index| Some((index, self.store.get(index)?)));
        let index = match known {
            Some((index, entry)) => {
                if let State::Translated(earlier) = entry.state {
                    // Sent twice: the record's time runs on, or it could be kept for ever.
                    return if earlier == translation {
                        Ok(index)
                    } else {
                        Err(FragmentRefusal::Conflict)
                    };
                }
                if entry.owner != owner {
                    self.admit(now, |table| table.share_of_datagrams(owner))?;
                }
                let held = self.store.translate(index, owner, translation, deadline);
                self.counters.released += held.len() as u64;
                held.into_iter().for_each(out);
                index
            }
            None => {
                self.admit(now, |table| {
                    table.share_of_datagrams(owner)?;
                    table.room_for_datagram()
                })?;
                let state = State::Translated(translation);
                self.store.insert(key, owner, state, deadline)
            }
        };
        self.counters.recorded += 1;
        Ok(index)
    }

    /// Holds a copy of a packet whose datagram is not translated yet, `known` if it has been begun.
    fn hold(
        &mut self,
        known: Option<u32>,
        key: FragmentKey<A>,
        piece: &Piece,
        owner: u32,
        packet: &[u8],
        now: Duration,
    ) -> Result<(), FragmentRefusal> {
        let waiting = known.and_then(|index| self.store.get(index));
        if waiting.is_some_and(|entry| entry.covers(piece)) {
            return Err(FragmentRefusal::Duplicate);
        }
        let held = waiting.map_or(0, |entry| entry.cost().packets);
        if held >= self.config.held_per_datagram {
            return Err(FragmentRefusal::DatagramHeldFull);
        }
        // What is held already is charged to whoever began it, and so is what follows.
        let owner = waiting.map_or(owner, |entry| entry.owner);
        self.admit(now, |table| {
            if known.is_none() {
                table.share_of_datagrams(owner)?;
                table.room_for_datagram()?;
            }
            table.room_to_hold(owner, packet.len())
        })?;
        let index = known.unwrap_or_else(|| {
            let state = State::Waiting {
                held: Vec::new(),
                bytes: 0,
            };
            let deadline = now.saturating_add(self.config.timeout);
            self.store.insert(key, owner, state, deadline)
        });
        self.store.hold(index, piece, packet);
        Ok(())
    }

    /// Tests a bound; if it is reached, once more without all that has expired.
    ///
    /// The budget of the calls before may not have reached those.
    fn admit(
        &mut self,
        now: Duration,
        test: impl Fn(&Self) -> Result<(), FragmentRefusal>,
    ) -> Result<(), FragmentRefusal> {
        test(self).or_else(|_| {
            self.expire(now);
            test(self)
        })
    }

    fn room_for_datagram(&self) -> Result<(), FragmentRefusal> {
        if self.store.owners().total().datagrams >= self.config.datagrams {
            return Err(FragmentRefusal::TableFull);
        }
        Ok(())
    }

    fn share_of_datagrams(&self, owner: u32) -> Result<(), FragmentRefusal> {
        if self.store.owners().of(owner).datagrams >= self.config.datagrams_per_owner {
            return Err(FragmentRefusal::OwnerFull);
        }
        Ok(())
    }

    /// Whether `bytes` more may be held for the owner. Its share comes first: whoever is over it
    /// should not read that the table is full.
    fn room_to_hold(&self, owner: u32, bytes: usize) -> Result<(), FragmentRefusal> {
        let (config, own, total) = (
            &self.config,
            self.store.owners().of(owner),
            self.store.owners().total(),
        );
        if own.packets >= config.held_packets_per_owner
            || own.bytes + bytes > config.held_bytes_per_owner
        {
            return Err(FragmentRefusal::OwnerHeldFull);
        }
        if total.packets >= config.held_packets || total.bytes + bytes > config.held_bytes {
            return Err(FragmentRefusal::HeldFull);
        }
        Ok(())
    }

    /// The entry of a datagram; one that is due is removed instead.
    fn live(&mut self, key: &FragmentKey<A>, now: Duration) -> Option<u32> {
        let index = self.store.find(key)?;
        if self.store.get(index)?.deadline <= now {
            self.give_up(index);
            return None;
        }
        Some(index)
    }

    fn give_up(&mut self, index: u32) {
        if let Some(cost) = self.store.remove(index) {
            self.counters.expired += 1;
            self.counters.expired_packets += cost.packets as u64;
        }
    }

    fn expire_some(&mut self, now: Duration, budget: usize) {
        for _ in 0..budget {
            match self.store.oldest() {
                Some((index, deadline)) if deadline <= now => self.give_up(index),
                _ => break,
            }
        }
    }
}

#[cfg(test)]
mod tests;
