//! Whom the mappings have talked to: what an address-dependent filter admits.
//!
//! An entry for each mapping and outside address, with the number of sessions between them, so that
//! the filter answers by one look-up however many sessions a mapping has. A mapping that has a single
//! one names that itself ([`Mapping::sole`]) and has no entry here.
//!
//! [`Mapping::sole`]: crate::mapping::Mapping::sole

use core::ops::Range;

use crate::address::{Address, Endpoint};
use crate::hash::Keys;
use crate::table::{Index, Slab, SlabRecord};

/// See [`Keys::flow`].
const KIND: u8 = 3;

#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(crate) struct Contact<A> {
    remote: A,
    /// The mapping, or the next free record.
    mapping: u32,
    sessions: u32,
}

impl<A: Address> SlabRecord for Contact<A> {
    fn next_free(&mut self) -> &mut u32 {
        &mut self.mapping
    }
}

pub(crate) struct Contacts<A: Address> {
    slab: Slab<Contact<A>>,
    index: Index,
}

impl<A: Address> Contacts<A> {
    pub(crate) fn new(capacity: usize) -> Option<Self> {
        Some(Self {
            slab: Slab::new(capacity)?,
            index: Index::new(capacity)?,
        })
    }

    /// What the entry of a mapping and an address is found by.
    #[inline]
    pub(crate) fn hash(keys: &Keys, mapping: u32, remote: A) -> u64 {
        let (low, high) = (mapping as u16, (mapping >> 16) as u16);
        keys.flow(
            KIND,
            0,
            Endpoint::new(A::UNSPECIFIED, low),
            Endpoint::new(remote, high),
        )
    }

    /// Fetches what [`Self::add`] will need.
    #[inline]
    pub(crate) fn prefetch(&self, hash: u64) {
        self.index.prefetch(hash);
    }

    fn find(&self, hash: u64, mapping: u32, remote: A) -> Option<u32> {
        self.index.find(hash, |number| {
            let contact = self.slab.get(number);
            contact.is_some_and(|c| c.mapping == mapping && c.remote == remote)
        })
    }

    /// Whether the mapping has a session with the address.
    pub(crate) fn knows(&self, keys: &Keys, mapping: u32, remote: A) -> bool {
        let hash = Self::hash(keys, mapping, remote);
        self.find(hash, mapping, remote).is_some()
    }

    /// One session more. There is room for as many as there can be sessions.
    pub(crate) fn add(&mut self, hash: u64, mapping: u32, remote: A) {
        if let Some(number) = self.find(hash, mapping, remote) {
            if let Some(contact) = self.slab.get_mut(number) {
                contact.sessions += 1;
            }
            return;
        }
        let Some(number) = self.slab.take() else {
            return;
        };
        if let Some(contact) = self.slab.get_mut(number) {
            *contact = Contact {
                remote,
                mapping,
                sessions: 1,
            };
        }
        self.index.insert(hash, number);
    }

    /// One session less.
    pub(crate) fn remove(&mut self, keys: &Keys, mapping: u32, remote: A) {
        let hash = Self::hash(keys, mapping, remote);
        let Some(number) = self.find(hash, mapping, remote) else {
            return;
        };
        let Some(contact) = self.slab.get_mut(number) else {
            return;
        };
        contact.sessions -= 1;
        if contact.sessions == 0 {
            self.index.remove(hash, number);
            self.slab.give(number);
        }
    }

    pub(crate) fn longest_walk(&self) -> usize {
        self.index.longest_walk()
    }

    pub(crate) fn len(&self) -> usize {
        self.slab.len()
    }

    pub(crate) fn memory(&self) -> [Range<*const u8>; 2] {
        [self.slab.memory(), self.index.memory()]
    }

    pub(crate) fn bytes(&self) -> usize {
        self.slab.bytes() + self.index.bytes()
    }
}
