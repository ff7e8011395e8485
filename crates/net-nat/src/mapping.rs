//! Which outside endpoint stands for an inside one.

use core::ops::Range;

use crate::address::{Address, Endpoint};
use crate::config::Dependence;
use crate::external::{Place, Space};
use crate::hash::Keys;
use crate::table::{Index, Region, Slab, SlabRecord};
use crate::wheel::{Links, Timed};

/// Kinds of keys in the hash (see [`Keys::flow`]); sessions use 0 and 1.
const KIND: u8 = 2;

/// An inside endpoint and its outside one.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(crate) struct Mapping<A> {
    pub(crate) inside: A,
    pub(crate) host: u32,
    /// Sessions that use it.
    pub(crate) sessions: u32,
    /// Without sessions: until when the port rests. With sessions: how many of them the outside
    /// began and the inside has not answered.
    pub(crate) expires: u32,
    /// Its place in the wheel while it rests. See [`Self::sole`] for what it is else.
    pub(crate) links: Links,
    pub(crate) inside_port: u16,
    pub(crate) outside_port: u16,
    /// The outside address, by number.
    pub(crate) external: u16,
    /// 0 when the record is free.
    pub(crate) protocol: u8,
    bits: u8,
}

const _: () = assert!(size_of::<Mapping<core::net::Ipv4Addr>>() == 32);

impl<A> Mapping<A> {
    /// A forward: lives without sessions, and admits everybody.
    const FORWARD: u8 = 1;
    /// Stands in the index of inside endpoints: outbound packets use it.
    const INDEXED: u8 = 2;
    /// Its port rests; it is in the wheel.
    const RESTING: u8 = 4;
    /// Was a forward: keeps its sessions and admits nobody new, even if its host goes on using it.
    const WITHDRAWN: u8 = 8;
    /// Its filter admits one address, that of one session.
    const SOLE: u8 = 16;
    /// It has several sessions, or had them until all were gone: its port does not say which one.
    const SHARED: u8 = 32;

    pub(crate) fn is_forward(&self) -> bool {
        self.bits & Self::FORWARD != 0
    }

    pub(crate) fn is_resting(&self) -> bool {
        self.bits & Self::RESTING != 0
    }

    pub(crate) fn is_indexed(&self) -> bool {
        self.bits & Self::INDEXED != 0
    }

    /// Whether nothing but calls from outside that nobody has answered keeps it alive.
    #[inline]
    pub(crate) fn is_forsaken(&self) -> bool {
        !self.is_resting() && self.sessions == self.expires
    }

    pub(crate) fn publish(&mut self) {
        self.set(Self::FORWARD, true);
    }

    /// Is a forward no longer, and never becomes one again.
    pub(crate) fn withdraw(&mut self) {
        self.set(Self::FORWARD, false);
        self.set(Self::WITHDRAWN, true);
    }

    pub(crate) fn set_resting(&mut self, on: bool) {
        self.set(Self::RESTING, on);
    }

    pub(crate) fn is_withdrawn(&self) -> bool {
        self.bits & Self::WITHDRAWN != 0
    }

    /// The session whose other end is all that an address-dependent filter admits, where that is so:
    /// such a mapping, as most are, needs no entry among the contacts.
    pub(crate) fn sole(&self) -> Option<u32> {
        // With a session it is in no wheel.
        (self.bits & Self::SOLE != 0).then_some(self.links.next)
    }

    #[inline(always)]
    pub(crate) fn set_sole(&mut self, session: u32) {
        self.links.next = session;
        self.set(Self::SOLE, true);
    }

    pub(crate) fn clear_sole(&mut self) {
        self.set(Self::SOLE, false);
    }

    /// Whether its sessions are found from the outside by the index and not by its port.
    #[inline(always)]
    pub(crate) fn is_shared(&self) -> bool {
        self.bits & Self::SHARED != 0
    }

    pub(crate) fn set_shared(&mut self, on: bool) {
        self.set(Self::SHARED, on);
    }

    /// Where its port stands.
    #[inline(always)]
    pub(crate) fn place(&self) -> Place {
        Place::new(self.external, self.outside_port)
    }

    fn set(&mut self, bit: u8, on: bool) {
        self.bits = if on {
            self.bits | bit
        } else {
            self.bits & !bit
        };
    }
}

impl<A: Address> SlabRecord for Mapping<A> {
    fn next_free(&mut self) -> &mut u32 {
        &mut self.links.next
    }
}

impl<A: Address> Timed for Mapping<A> {
    fn links(&mut self) -> &mut Links {
        &mut self.links
    }

    fn deadline(&self) -> u32 {
        self.expires
    }
}

/// All mappings of a family.
pub(crate) struct Mappings<A: Address> {
    pub(crate) slab: Slab<Mapping<A>>,
    index: Index,
    /// The other end a mapping is for, where that matters; made for all mappings if it can.
    remotes: Option<Region<Endpoint<A>>>,
}

/// What an outbound packet looks a mapping up by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MappingKey<A> {
    pub(crate) protocol: u8,
    pub(crate) inside: Endpoint<A>,
    /// The other end as far as the mapping depends on it.
    pub(crate) remote: Endpoint<A>,
}

impl<A: Address> MappingKey<A> {
    pub(crate) fn new(
        protocol: u8,
        inside: Endpoint<A>,
        remote: Endpoint<A>,
        dependence: Dependence,
    ) -> Self {
        let remote = match dependence {
            Dependence::EndpointIndependent => Endpoint::new(A::UNSPECIFIED, 0),
            Dependence::AddressDependent => Endpoint::new(remote.addr, 0),
            Dependence::AddressAndPortDependent => remote,
        };
        Self {
            protocol,
            inside,
            remote,
        }
    }

    pub(crate) fn hash(&self, keys: &Keys) -> u64 {
        keys.flow(KIND, self.protocol, self.inside, self.remote)
    }
}

impl<A: Address> Mappings<A> {
    /// Room for `capacity` mappings; `dependent` if some may depend on the other end.
    pub(crate) fn new(capacity: usize, dependent: bool) -> Option<Self> {
        Some(Self {
            slab: Slab::new(capacity)?,
            index: Index::new(capacity)?,
            remotes: if dependent {
                Some(Region::new(capacity)?)
            } else {
                None
            },
        })
    }

    #[inline]
    pub(crate) fn prefetch(&self, hash: u64) {
        self.index.prefetch(hash);
    }

    /// Asks for the record of the mapping that this is the hash of, if there is one.
    #[inline]
    pub(crate) fn prefetch_record(&self, hash: u64) {
        if let Some(number) = self.index.guess(hash) {
            self.slab.prefetch(number);
        }
    }

    /// The mapping of a key.
    #[inline(always)]
    pub(crate) fn find(&self, hash: u64, key: &MappingKey<A>) -> Option<u32> {
        self.index.find(hash, |number| {
            self.slab.get(number).is_some_and(|m| {
                m.inside == key.inside.addr
                    && m.inside_port == key.inside.port
                    && m.protocol == key.protocol
                    && self.remote(number) == key.remote
            })
        })
    }

    /// The other end a mapping is for.
    pub(crate) fn remote(&self, number: u32) -> Endpoint<A> {
        let remotes = self.remotes.as_ref();
        let remote = remotes.and_then(|r| r.get(number as usize)).copied();
        remote.unwrap_or(Endpoint::new(A::UNSPECIFIED, 0))
    }

    /// Adds a mapping without sessions, at an outside port that is its own. With `known`, another has
    /// the key already, and this one is found from the outside only: a second forward to the same
    /// inside endpoint. It gets the number that [`Slab::next`] says.
    #[inline(always)]
    pub(crate) fn add(
        &mut self,
        hash: u64,
        key: &MappingKey<A>,
        host: u32,
        known: bool,
        (external, outside_port): (u16, u16),
    ) -> Option<u32> {
        let number = self.slab.take()?;
        if let Some(remote) = self
            .remotes
            .as_mut()
            .and_then(|r| r.get_mut(number as usize))
        {
            *remote = key.remote;
        }
        let mut record = Mapping {
            inside: key.inside.addr,
            host,
            sessions: 0,
            expires: 0,
            links: Links::default(),
            inside_port: key.inside.port,
            outside_port,
            external,
            protocol: key.protocol,
            bits: 0,
        };
        let indexed = !known && self.index.insert(hash, number);
        record.set(Mapping::<A>::INDEXED, indexed);
        *self.slab.get_mut(number)? = record;
        Some(number)
    }

    /// Takes a mapping out.
    pub(crate) fn remove(&mut self, number: u32, keys: &Keys) {
        let remote = self.remote(number);
        let Some(mapping) = self.slab.get_mut(number) else {
            return;
        };
        let key = MappingKey {
            protocol: mapping.protocol,
            inside: Endpoint::new(mapping.inside, mapping.inside_port),
            remote,
        };
        let indexed = mapping.is_indexed();
        mapping.protocol = 0;
        if indexed {
            self.index.remove(key.hash(keys), number);
        }
        self.slab.give(number);
    }

    pub(crate) fn memory(&self) -> impl Iterator<Item = Range<*const u8>> {
        let remotes = self.remotes.as_ref().map(Region::range);
        [self.slab.memory(), self.index.memory()]
            .into_iter()
            .chain(remotes)
    }

    pub(crate) fn bytes(&self) -> usize {
        let remotes = self.remotes.as_ref().map_or(0, Region::bytes);
        self.slab.bytes() + self.index.bytes() + remotes
    }

    pub(crate) fn longest_walk(&self) -> usize {
        self.index.longest_walk()
    }

    pub(crate) fn indexed(&self) -> usize {
        self.index.len()
    }
}

/// The numbers of mappings in use.
pub(crate) fn live<A: Address>(slab: &Slab<Mapping<A>>) -> impl Iterator<Item = u32> {
    (0..slab.touched()).filter(|&n| slab.get(n).is_some_and(|m| m.protocol != 0))
}

/// The port space of a protocol; `None` for those without ports.
pub(crate) fn space(protocol: u8) -> Option<Space> {
    match protocol {
        net_wire::ip_proto::TCP => Some(Space::Tcp),
        net_wire::ip_proto::UDP => Some(Space::Udp),
        net_wire::ip_proto::ICMP | net_wire::ip_proto::ICMPV6 => Some(Space::Icmp),
        _ => None,
    }
}
