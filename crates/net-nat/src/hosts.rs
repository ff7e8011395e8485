//! The inside hosts: what each uses, and what each may.

use alloc::vec::Vec;
use core::ops::Range;

use net_datapath::prefetch::prefetch_write;
use net_wire::checksum::Delta;

use crate::address::{Address, Endpoint};
use crate::hash::Keys;
use crate::rate::TokenBucket;
use crate::table::{Index, NONE};

/// See [`Keys::flow`].
const KIND: u8 = 5;

/// One inside host. Over IPv4 it fills one cache line.
#[derive(Debug, Clone)]
#[repr(align(64))]
pub(crate) struct Host<A> {
    pub(crate) addr: A,
    pub(crate) sessions: u32,
    /// Resting ones count: their ports are taken. When it falls to 0, the host is forgotten.
    pub(crate) mappings: u32,
    /// Its outside address, by number.
    pub(crate) external: u16,
    /// What that address in the place of its own changes in a checksum.
    pub(crate) l3: Delta,
    /// Its outside address.
    pub(crate) outside: A,
    pub(crate) openings: TokenBucket,
    /// ICMP errors it may hear from us: what one provokes costs no other one's.
    pub(crate) errors: TokenBucket,
    next_free: u32,
}

const _: () = assert!(size_of::<Host<core::net::Ipv4Addr>>() == 64);

/// All hosts of a family.
pub(crate) struct Hosts<A> {
    list: Vec<Host<A>>,
    index: Index,
    keys: Keys,
    free: u32,
    limit: usize,
    /// The host of the last look-up: packets come in trains.
    last: u32,
}

impl<A: Address> Hosts<A> {
    pub(crate) fn new(limit: usize, keys: Keys) -> Option<Self> {
        Some(Self {
            list: Vec::new(),
            index: Index::new(limit)?,
            keys,
            free: NONE,
            limit,
            last: NONE,
        })
    }

    fn hash(&self, addr: A) -> u64 {
        let nobody = Endpoint::new(A::UNSPECIFIED, 0);
        self.keys.flow(KIND, 0, Endpoint::new(addr, 0), nobody)
    }

    #[inline(always)]
    pub(crate) fn find(&mut self, addr: A) -> Option<u32> {
        let is = |number: u32| {
            let host = self.get(number);
            host.is_some_and(|h| h.addr == addr && h.mappings > 0)
        };
        if is(self.last) {
            return Some(self.last);
        }
        let hash = self.hash(addr);
        // The first one with its tag is it, nearly always.
        let found = match self.index.guess(hash) {
            Some(number) if is(number) => Some(number),
            _ => self.index.find(hash, is),
        };
        self.last = found.unwrap_or(NONE);
        found
    }

    /// Asks for what [`Self::guess`] will read.
    #[inline]
    pub(crate) fn prefetch(&self, addr: A) {
        self.index.prefetch(self.hash(addr));
    }

    /// Asks for the record that [`Self::find`] will read, and says which that probably is.
    #[inline]
    pub(crate) fn guess(&self, addr: A) -> u32 {
        let number = self.index.guess(self.hash(addr)).unwrap_or(NONE);
        if let Some(host) = self.get(number) {
            prefetch_write(core::ptr::from_ref(host).cast_mut());
        }
        number
    }

    /// The next look-up is probably for this one; any number will do.
    #[inline]
    pub(crate) fn expect(&mut self, number: u32) {
        self.last = number;
    }

    pub(crate) fn is_full(&self) -> bool {
        self.index.len() >= self.limit
    }

    /// Adds a host; the caller has seen that there is room, and gives it a mapping at once.
    pub(crate) fn add(
        &mut self,
        addr: A,
        (external, outside): (u16, A),
        openings: TokenBucket,
        errors: TokenBucket,
    ) -> u32 {
        let host = Host {
            addr,
            sessions: 0,
            mappings: 0,
            external,
            l3: A::delta(addr, outside),
            outside,
            openings,
            errors,
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
        self.index.insert(self.hash(addr), number);
        number
    }

    pub(crate) fn remove(&mut self, number: u32) {
        let free = self.free;
        let Some(host) = self.list.get_mut(number as usize) else {
            return;
        };
        host.next_free = free;
        host.mappings = 0;
        self.free = number;
        let addr = host.addr;
        self.index.remove(self.hash(addr), number);
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
        self.index.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &Host<A>)> {
        let hosts = (0..).zip(&self.list);
        hosts.filter(|(_, host)| host.mappings > 0)
    }

    /// Where the index lies; the list moves as it grows.
    pub(crate) fn memory(&self) -> Range<*const u8> {
        self.index.memory()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.list.capacity() * size_of::<Host<A>>() + self.index.bytes()
    }
}
