//! The inside hosts: what each uses, and what each may.

use hashbrown::HashMap;
use siphasher::sip::SipHasher13;

use crate::address::Address;
use crate::hash::Keyed;
use crate::rate::TokenBucket;
use crate::table::NONE;

/// One inside host.
#[derive(Debug, Clone)]
pub(crate) struct Host<A> {
    pub(crate) addr: A,
    pub(crate) sessions: u32,
    /// Resting ones count: their ports are taken. When it falls to 0, the host is forgotten.
    pub(crate) mappings: u32,
    /// Its outside address, by number.
    pub(crate) external: u16,
    pub(crate) openings: TokenBucket,
    next_free: u32,
}

/// All hosts of a family.
pub(crate) struct Hosts<A> {
    list: alloc::vec::Vec<Host<A>>,
    by_addr: HashMap<A, u32, Keyed>,
    free: u32,
    limit: usize,
    /// The host of the last look-up: packets come in trains.
    last: u32,
}

impl<A: Address> Hosts<A> {
    pub(crate) fn new(limit: usize, seed: &[u8; 16]) -> Self {
        Self {
            list: alloc::vec::Vec::new(),
            by_addr: HashMap::with_hasher(Keyed(SipHasher13::new_with_key(seed))),
            free: NONE,
            limit,
            last: NONE,
        }
    }

    #[inline]
    pub(crate) fn find(&mut self, addr: A) -> Option<u32> {
        if self
            .get(self.last)
            .is_some_and(|h| h.addr == addr && h.mappings > 0)
        {
            return Some(self.last);
        }
        let found = self.by_addr.get(&addr).copied();
        self.last = found.unwrap_or(NONE);
        found
    }

    pub(crate) fn is_full(&self) -> bool {
        self.by_addr.len() >= self.limit
    }

    /// Adds a host; the caller has seen that there is room, and gives it a mapping at once.
    pub(crate) fn add(&mut self, addr: A, external: u16, openings: TokenBucket) -> u32 {
        let host = Host {
            addr,
            sessions: 0,
            mappings: 0,
            external,
            openings,
            next_free: NONE,
        };
        let number = self.free;
        let number = match self.list.get_mut(number as usize) {
            Some(slot) => {
                self.free = slot.next_free;
                *slot = host;
                number
            }
            None => {
                self.list.push(host);
                self.list.len() as u32 - 1
            }
        };
        self.by_addr.insert(addr, number);
        number
    }

    pub(crate) fn remove(&mut self, number: u32) {
        let free = self.free;
        if let Some(host) = self.list.get_mut(number as usize) {
            host.next_free = free;
            host.mappings = 0;
            self.free = number;
            self.by_addr.remove(&host.addr);
        }
    }

    #[inline]
    pub(crate) fn get(&self, number: u32) -> Option<&Host<A>> {
        self.list.get(number as usize)
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, number: u32) -> Option<&mut Host<A>> {
        self.list.get_mut(number as usize)
    }

    pub(crate) fn len(&self) -> usize {
        self.by_addr.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &Host<A>)> {
        let live = self.by_addr.values().copied();
        live.filter_map(|n| Some((n, self.get(n)?)))
    }

    pub(crate) fn bytes(&self) -> usize {
        self.list.capacity() * size_of::<Host<A>>()
            + self.by_addr.capacity() * (size_of::<(A, u32)>() + 1)
    }
}
