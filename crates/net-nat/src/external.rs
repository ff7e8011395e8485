//! The outside addresses, and who has which of their ports.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ops::Range;

use hashbrown::HashMap;
use net_datapath::prefetch::prefetch_read;
use siphasher::sip::SipHasher13;

use crate::address::{Address, Endpoint};
use crate::config::{FamilyConfig, Shard};
use crate::hash::{Keyed, Random};
use crate::ports::{PORTS, Port, PortRange, PortTable, SEVERAL};
use crate::table::{NONE, Region};

/// Protocols with a space of ports of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Space {
    Tcp = 0,
    Udp = 1,
    Icmp = 2,
}

/// How many there are of them.
const SPACES: usize = 3;

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
const GROUP: usize = 4;

/// A port of an outside address: the address by number, and the port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place(u32);

impl Place {
    #[inline(always)]
    pub(crate) fn new(external: u16, port: u16) -> Self {
        Self(u32::from(external) << 16 | u32::from(port))
    }

    /// As a word, which [`Self::from_bits`] understands.
    #[inline(always)]
    pub(crate) fn to_bits(self) -> u64 {
        self.0.into()
    }

    #[inline(always)]
    pub(crate) fn from_bits(bits: u64) -> Self {
        Self(bits as u32)
    }

    /// Which list of owners it is in, and where in that.
    #[inline(always)]
    fn split(self, space: Space) -> (usize, usize) {
        let at = self.0 as usize;
        let group = at / (GROUP * PORTS);
        (group * SPACES + space as usize, at % (GROUP * PORTS))
    }
}

/// All outside addresses of a family.
pub(crate) struct Externals<A> {
    list: Vec<External<A>>,
    /// The owners of their ports, for each [`GROUP`] of them three, by [`Space`]; made when the first
    /// port is needed.
    owners: Vec<Option<Region<Port>>>,
    /// The first of them, and how many from there on follow each other: all of most pools, which then
    /// need no hash.
    first: A,
    run: u64,
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
            first: A::UNSPECIFIED,
            run: 0,
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
        if self.list.is_empty() {
            self.first = addr;
        }
        if addr.behind(self.first) == self.run && self.list.len() as u64 == self.run {
            self.run += 1;
        }
        let (low, high) = self.span.unwrap_or((addr, addr));
        self.span = Some((low.min(addr), high.max(addr)));
        self.by_addr.insert(addr, number);
        if self.list.len().is_multiple_of(GROUP) {
            self.owners.extend([const { None }; SPACES]);
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
        let at = addr.behind(self.first);
        if at < self.run {
            return Some(at as u16);
        }
        if self.list.len() as u64 == self.run {
            return None;
        }
        self.by_hash(addr)
    }

    #[inline(never)]
    fn by_hash(&self, addr: A) -> Option<u16> {
        let (low, high) = self.span?;
        if addr < low || addr > high {
            return None;
        }
        self.by_addr.get(&addr).copied()
    }

    /// Where a port of an outside address stands.
    #[inline(always)]
    pub(crate) fn place(&self, outside: Endpoint<A>) -> Option<Place> {
        let number = self.number(outside.addr)?;
        Some(Place::new(number, outside.port))
    }

    /// Asks for what is known of a port.
    #[inline(always)]
    pub(crate) fn prefetch(&self, space: Space, place: Place) {
        let (list, at) = place.split(space);
        if let Some(Some(owners)) = self.owners.get(list) {
            // Any address will do for a hint: no check.
            prefetch_read(owners.as_ptr().wrapping_add(at));
        }
    }

    #[inline(always)]
    fn port(&self, space: Space, place: Place) -> Option<&Port> {
        let (list, at) = place.split(space);
        self.owners.get(list)?.as_ref()?.get(at)
    }

    /// The only session of the mapping that has a port, [`SEVERAL`] or [`NONE`].
    #[inline(always)]
    pub(crate) fn session(&self, space: Space, place: Place) -> u32 {
        self.port(space, place).map_or(NONE, |port| port.session())
    }

    /// Says which one that is; a mapping has the port.
    #[inline(always)]
    pub(crate) fn set_session(&mut self, space: Space, place: Place, session: u32) {
        let (list, at) = place.split(space);
        if let Some(Some(owners)) = self.owners.get_mut(list)
            && let Some(port) = owners.get_mut(at)
        {
            port.set_session(session);
        }
    }

    /// Ports that name one session.
    pub(crate) fn named_sessions(&self) -> usize {
        let ports = self
            .owners
            .iter()
            .flatten()
            .flat_map(|owners| owners.iter());
        ports.filter(|port| port.session() < SEVERAL).count()
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
            Some(space) => self.port(space, Place::new(number, port))?.mapping(),
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
    fn table(&mut self, space: Space, number: u16) -> Option<(&mut PortTable, &mut [Port])> {
        let table = &mut self.list.get_mut(usize::from(number))?.ports[space as usize];
        let (list, first) = Place::new(number, 0).split(space);
        let owners = self.owners.get_mut(list)?;
        if table.is_none() || owners.is_none() {
            make(table, owners);
        }
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
        let owners = self.owners.iter().flatten();
        tables.count() * PortTable::BYTES + owners.map(Region::bytes).sum::<usize>()
    }

    /// Where the owners of all ports are or will be: those that nobody has needed yet are made.
    pub(crate) fn memory(&mut self) -> impl Iterator<Item = Range<*const u8>> {
        self.owners.iter_mut().filter_map(|owners| {
            if owners.is_none() {
                *owners = Region::new(GROUP * PORTS);
            }
            owners.as_ref().map(Region::range)
        })
    }

    pub(crate) fn is_consistent(&self) -> bool {
        let groups = self.list.chunks(GROUP).zip(self.owners.chunks(SPACES));
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
fn make(table: &mut Option<Box<PortTable>>, owners: &mut Option<Region<Port>>) {
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

#[cfg(test)]
mod tests {
    use core::net::{Ipv4Addr, Ipv6Addr};

    use super::*;
    use crate::config::Shard;

    fn pool<A: Address>(outside: Vec<A>) -> Externals<A> {
        let config = FamilyConfig {
            inside: Vec::new(),
            outside,
            one_to_one: Vec::new(),
        };
        let shard = Shard {
            number: 0,
            count: 1,
        };
        Externals::new(&config, shard, false, &[3; 16])
    }

    #[test]
    fn addresses_are_known_whether_they_follow_each_other_or_not() {
        for last in [
            &[5, 6, 7][..],
            &[5, 6, 9, 7],
            &[7, 6, 5],
            &[200],
            &[0, 255],
            &[255, 0],
            &[],
        ] {
            let v4 = |n| Ipv4Addr::new(192, 0, 2, n);
            let externals = pool(last.iter().map(|&n| v4(n)).collect());
            for n in 0..=255 {
                let wanted = last.iter().position(|&l| l == n).map(|at| at as u16);
                assert_eq!(externals.number(v4(n)), wanted, "{n} of {last:?}");
            }
            assert_eq!(externals.number(Ipv4Addr::UNSPECIFIED), None);
        }
    }

    #[test]
    fn addresses_that_differ_in_their_high_half_only_are_told_apart() {
        let v6 = |net, host| Ipv6Addr::new(0x2001, 0xdb8, net, 0, 0, 0, 0, host);
        let externals = pool([v6(1, 1), v6(1, 2), v6(2, 3)].into());
        assert_eq!(externals.number(v6(1, 2)), Some(1));
        assert_eq!(externals.number(v6(2, 3)), Some(2));
        for other in [v6(2, 1), v6(2, 2), v6(1, 3), v6(0, 1), v6(1, 0)] {
            assert_eq!(externals.number(other), None, "{other}");
        }
    }

    #[test]
    fn a_port_names_its_own_session_and_no_others() {
        let count = 2 * GROUP as u8 + 1;
        let addrs = (0..count).map(|n| Ipv4Addr::new(192, 0, 2, n));
        let mut externals = pool(addrs.collect());
        let spaces = [Space::Tcp, Space::Udp, Space::Icmp];
        let all = || {
            let of_space = move |space| {
                (0..u16::from(count)).flat_map(move |n| [0, 1, 65_535].map(|port| (space, n, port)))
            };
            spaces.into_iter().flat_map(of_space)
        };
        for (mapping, (space, number, port)) in all().enumerate() {
            externals.take(Some(space), 0, number, port, mapping as u32);
            externals.set_session(space, Place::new(number, port), mapping as u32 + 7);
        }
        for (mapping, (space, number, port)) in all().enumerate() {
            let place = Place::new(number, port);
            assert_eq!(Place::from_bits(place.to_bits()), place);
            assert_eq!(externals.session(space, place), mapping as u32 + 7);
            let owner = externals.mapping(Some(space), 0, number, port);
            assert_eq!(owner, Some(mapping as u32));
        }
        assert_eq!(externals.named_sessions(), all().count());
        externals.set_session(Space::Tcp, Place::new(0, 1), SEVERAL);
        externals.set_session(Space::Tcp, Place::new(1, 1), NONE);
        assert_eq!(externals.named_sessions(), all().count() - 2);
        externals.release(Some(Space::Tcp), 0, 0, 1);
        assert_eq!(externals.session(Space::Tcp, Place::new(0, 1)), NONE);
        assert!(externals.is_consistent());
    }
}
