//! The outside addresses, and who has which of their ports.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ops::Range;

use hashbrown::HashMap;
use siphasher::sip::SipHasher13;

use crate::address::Address;
use crate::config::{FamilyConfig, Shard};
use crate::hash::{Keyed, Random};
use crate::ports::{PORTS, PortRange, PortTable, mapping_of};
use crate::table::Region;

/// Protocols with a space of ports of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Space {
    Tcp = 0,
    Udp = 1,
    Icmp = 2,
}

/// One outside address.
struct External<A> {
    addr: A,
    /// The inside host that has it for itself, and whether anybody may begin.
    own: Option<(A, bool)>,
    /// Hosts that share it.
    hosts: u32,
    /// By [`Space`]; made when the first port is needed.
    ports: [Option<Box<PortTable>>; 3],
}

/// Addresses the owners of whose ports are kept together: they fill a page of 2 MiB.
const GROUP: usize = 8;

/// The owners of their ports, by [`Space`]; made when the first port is needed.
type Owners = [Option<Region<u32>>; 3];

/// All outside addresses of a family.
pub(crate) struct Externals<A> {
    list: Vec<External<A>>,
    /// For each [`GROUP`] of them.
    owners: Vec<Owners>,
    /// The lowest and the highest of them: most addresses asked about lie outside.
    span: Option<(A, A)>,
    by_addr: HashMap<A, u16, Keyed>,
    /// Shared ones: the first so many of the list.
    shared: u16,
    own_of: HashMap<A, u16, Keyed>,
    /// Mappings of other protocols, by protocol and address.
    other: HashMap<(u8, u16), u32, Keyed>,
    /// The ports of this engine: those below 1024, those from there on, and identifiers.
    ranges: [PortRange; 3],
    parity: bool,
}

impl<A: Address> Externals<A> {
    pub(crate) fn new(
        config: &FamilyConfig<A>,
        shard: Shard,
        parity: bool,
        seed: &[u8; 16],
    ) -> Self {
        let keyed = Keyed(SipHasher13::new_with_key(seed));
        let mut externals = Self {
            list: Vec::new(),
            owners: Vec::new(),
            span: None,
            by_addr: HashMap::with_hasher(keyed.clone()),
            shared: config.outside.len() as u16,
            own_of: HashMap::with_hasher(keyed.clone()),
            other: HashMap::with_hasher(keyed),
            ranges: [(Space::Udp, 1), (Space::Udp, 1024), (Space::Icmp, 0)]
                .map(|(space, port)| class(space, port).share(shard.number, shard.count)),
            parity,
        };
        for &addr in &config.outside {
            externals.add(addr, None);
        }
        for pair in &config.one_to_one {
            let number = externals.add(pair.outside, Some((pair.inside, pair.open)));
            externals.own_of.insert(pair.inside, number);
        }
        externals
    }

    fn add(&mut self, addr: A, own: Option<(A, bool)>) -> u16 {
        // The configuration was checked: there are fewer than 65,536.
        let number = self.list.len() as u16;
        let (low, high) = self.span.unwrap_or((addr, addr));
        self.span = Some((low.min(addr), high.max(addr)));
        self.by_addr.insert(addr, number);
        if self.list.len().is_multiple_of(GROUP) {
            self.owners.push([None, None, None]);
        }
        self.list.push(External {
            addr,
            own,
            hosts: 0,
            ports: [None, None, None],
        });
        number
    }

    #[inline(always)]
    pub(crate) fn number(&self, addr: A) -> Option<u16> {
        let (low, high) = self.span?;
        if addr < low || addr > high {
            return None;
        }
        if low == high {
            return Some(0);
        }
        self.within_span(addr)
    }

    #[inline(never)]
    fn within_span(&self, addr: A) -> Option<u16> {
        self.by_addr.get(&addr).copied()
    }

    pub(crate) fn addr(&self, number: u16) -> Option<A> {
        self.list.get(usize::from(number)).map(|e| e.addr)
    }

    /// The host that has the address for itself.
    pub(crate) fn owner(&self, number: u16) -> Option<(A, bool)> {
        self.list.get(usize::from(number))?.own
    }

    /// The address that the host has for itself.
    pub(crate) fn own(&self, host: A) -> Option<u16> {
        if self.own_of.is_empty() {
            return None;
        }
        self.own_of.get(&host).copied()
    }

    /// The address for a new host: its own, or the shared one with the fewest hosts.
    pub(crate) fn assign(&mut self, host: A) -> Option<u16> {
        let number = match self.own_of.get(&host) {
            Some(&number) => number,
            None => {
                let shared = self.list.iter().take(usize::from(self.shared));
                let least = shared.enumerate().min_by_key(|(_, e)| e.hosts)?;
                least.0 as u16
            }
        };
        self.list.get_mut(usize::from(number))?.hosts += 1;
        Some(number)
    }

    /// One more host for this address.
    pub(crate) fn assign_to(&mut self, number: u16) {
        if let Some(external) = self.list.get_mut(usize::from(number)) {
            external.hosts += 1;
        }
    }

    /// A host has gone.
    pub(crate) fn unassign(&mut self, number: u16) {
        if let Some(external) = self.list.get_mut(usize::from(number)) {
            external.hosts = external.hosts.saturating_sub(1);
        }
    }

    /// The mapping of a port.
    #[inline]
    pub(crate) fn mapping(
        &self,
        space: Option<Space>,
        protocol: u8,
        number: u16,
        port: u16,
    ) -> Option<u32> {
        match space {
            Some(space) => {
                let number = usize::from(number);
                let owners = self.owners.get(number / GROUP)?[space as usize].as_ref()?;
                mapping_of(*owners.get(number % GROUP * PORTS + usize::from(port))?)
            }
            None => self.other.get(&(protocol, number)).copied(),
        }
    }

    /// Gives a new mapping of `inside_port` a port.
    ///
    /// A host with an address of its own keeps its port. Otherwise the port is random, within the
    /// class (RFC 4787, REQ-3a) and the shard.
    #[inline(always)]
    pub(crate) fn allocate(
        &mut self,
        space: Option<Space>,
        protocol: u8,
        number: u16,
        inside_port: u16,
        mapping: u32,
        random: &mut Random,
    ) -> Option<u16> {
        let Some(space) = space else {
            let free = self.is_free(None, protocol, number, 0);
            return free.then(|| {
                self.take(None, protocol, number, 0, mapping);
                0
            });
        };
        let range = match space {
            Space::Icmp => self.ranges[2],
            Space::Tcp | Space::Udp => self.ranges[usize::from(inside_port >= 1024)],
        };
        let parity = (self.parity && space != Space::Icmp).then_some(inside_port);
        let own = self.list.get(usize::from(number))?.own.is_some();
        let (ports, owners) = self.table(space, number)?;
        let port = if own {
            ports.is_free(inside_port).then_some(inside_port)?
        } else {
            ports.choose(range, parity, random)?
        };
        ports.take(owners, port, mapping);
        if !own {
            ports.choose_ahead(owners, range, parity, random);
        }
        Some(port)
    }

    /// The table of an address, and its part of the owners.
    #[inline(always)]
    fn table(&mut self, space: Space, number: u16) -> Option<(&mut PortTable, &mut [u32])> {
        let number = usize::from(number);
        let table = &mut self.list.get_mut(number)?.ports[space as usize];
        let owners = &mut self.owners.get_mut(number / GROUP)?[space as usize];
        if table.is_none() || owners.is_none() {
            make(table, owners);
        }
        let first = number % GROUP * PORTS;
        let owners = owners.as_mut()?.get_mut(first..first + PORTS)?;
        Some((table.as_deref_mut()?, owners))
    }

    /// Whether the port can be had for a forward.
    pub(crate) fn is_free(
        &mut self,
        space: Option<Space>,
        protocol: u8,
        number: u16,
        port: u16,
    ) -> bool {
        match space {
            Some(space) => self
                .table(space, number)
                .is_some_and(|(t, _)| t.is_free(port)),
            None => !self.other.contains_key(&(protocol, number)),
        }
    }

    /// Gives a port to a mapping.
    pub(crate) fn take(
        &mut self,
        space: Option<Space>,
        protocol: u8,
        number: u16,
        port: u16,
        mapping: u32,
    ) {
        match space {
            Some(space) => {
                if let Some((ports, owners)) = self.table(space, number) {
                    ports.take(owners, port, mapping);
                }
            }
            None => {
                self.other.insert((protocol, number), mapping);
            }
        }
    }

    /// Keeps a port for another shard's forward.
    pub(crate) fn reserve(&mut self, space: Space, number: u16, port: u16) {
        if let Some((ports, owners)) = self.table(space, number) {
            ports.reserve(owners, port);
        }
    }

    /// Takes a port back.
    pub(crate) fn release(&mut self, space: Option<Space>, protocol: u8, number: u16, port: u16) {
        match space {
            Some(space) => {
                if let Some((ports, owners)) = self.table(space, number) {
                    ports.release(owners, port);
                }
            }
            None => {
                self.other.remove(&(protocol, number));
            }
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        let tables = self.list.iter().flat_map(|e| e.ports.iter().flatten());
        let owners = self.owners.iter().flatten().flatten();
        tables.count() * PortTable::BYTES + owners.map(Region::bytes).sum::<usize>()
    }

    /// Where the owners of all ports are or will be: those that nobody has needed yet are made.
    pub(crate) fn memory(&mut self) -> impl Iterator<Item = Range<*const u8>> {
        let owners = self.owners.iter_mut().flatten();
        owners.filter_map(|owners| {
            if owners.is_none() {
                *owners = Region::new(GROUP * PORTS);
            }
            owners.as_ref().map(Region::range)
        })
    }

    pub(crate) fn is_consistent(&self) -> bool {
        let groups = self.list.chunks(GROUP).zip(&self.owners);
        let mut tables = groups.flat_map(|(list, owners)| {
            let tables = list.iter().map(|external| &external.ports);
            tables.enumerate().flat_map(move |(at, ports)| {
                let pairs = ports.iter().zip(owners);
                pairs.filter_map(move |(ports, owners)| {
                    let owners = owners.as_ref()?.get(at * PORTS..(at + 1) * PORTS)?;
                    Some((ports.as_ref()?, owners))
                })
            })
        });
        tables.all(|(ports, owners)| ports.is_consistent(owners))
    }
}

#[cold]
fn make(table: &mut Option<Box<PortTable>>, owners: &mut Option<Region<u32>>) {
    if owners.is_none() {
        *owners = Region::new(GROUP * PORTS);
    }
    table.get_or_insert_with(|| Box::new(PortTable::new()));
}

/// The ports an inside port may be mapped to: those of its class (RFC 4787, REQ-3a). Identifiers of
/// queries have no classes.
pub(crate) fn class(space: Space, inside_port: u16) -> PortRange {
    let (first, last) = match space {
        Space::Icmp => (0, u16::MAX),
        Space::Tcp | Space::Udp if inside_port < 1024 => (1, 1023),
        Space::Tcp | Space::Udp => (1024, u16::MAX),
    };
    PortRange { first, last }
}
