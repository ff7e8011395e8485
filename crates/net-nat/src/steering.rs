//! Which of several engines a packet belongs to.
//!
//! Engines that share the outside addresses divide the ports between them, and the inside hosts. A host
//! belongs to one engine, by a keyed hash of its address, so that its mappings, its outside address
//! and its quotas are in one place; a port belongs to the engine whose part of the range it is in, so
//! that the answer finds the engine that gave the port away. Exceptions are few and known to all: a
//! forward's port and the address of a host that has one for itself belong to the host's engine, and
//! protocols without ports to the first.
//!
//! | packet | goes to the engine of |
//! |---|---|
//! | outbound | its source |
//! | inbound | its destination port, or the host behind it |
//! | inbound ICMP error | the port the quoted packet came from |
//! | inbound fragment | its source: there the ports of its datagram become known, and [`Verdict::Shard`] says where it goes on |
//! | protocol without ports | the first |
//!
//! [`Verdict::Shard`]: crate::Verdict::Shard

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hashbrown::HashMap;
use siphasher::sip::SipHasher13;

use crate::address::{Address, Endpoint};
use crate::config::{FamilyConfig, NatConfig, Shard};
use crate::direction::Direction;
use crate::external::class;
use crate::family::{Family, Header, Kind, V4, V6};
use crate::forward::Forward;
use crate::hash::{Keyed, Keys};
use crate::icmp::error::Quote;
use crate::mapping::space;

/// See [`Keys::flow`].
const KIND: u8 = 4;

/// Steers packets to engines that share the work. Cheap to clone, one for each thread that reads
/// packets; every one has to be told of forwards.
///
/// All engines have the same configuration but for the number of the shard, the secret included.
#[derive(Clone)]
pub struct Steering {
    v4: FamilySteering<Ipv4Addr>,
    v6: FamilySteering<Ipv6Addr>,
}

impl Steering {
    /// For the engines of this configuration.
    #[must_use]
    pub fn new(config: &NatConfig) -> Self {
        let keys = Keys::new(&config.seed);
        Self {
            v4: FamilySteering::new(config.ipv4.as_ref(), config.shard, keys, &config.seed),
            v6: FamilySteering::new(config.ipv6.as_ref(), config.shard, keys, &config.seed),
        }
    }

    /// The number of the engine that a packet, which begins with its IP header, is given to.
    #[must_use]
    pub fn shard(&self, packet: &[u8], direction: Direction) -> u16 {
        match packet.first().map(|b| b >> 4) {
            Some(4) => self.v4.shard::<V4>(packet, direction),
            Some(6) => self.v6.shard::<V6>(packet, direction),
            _ => 0,
        }
    }

    /// A forward was added to the engines.
    pub fn add_forward(&mut self, forward: &Forward) {
        match (forward.outside.addr, forward.inside.addr) {
            (IpAddr::V4(o), IpAddr::V4(i)) => {
                self.v4
                    .add_forward(forward.protocol, Endpoint::new(o, forward.outside.port), i);
            }
            (IpAddr::V6(o), IpAddr::V6(i)) => {
                self.v6
                    .add_forward(forward.protocol, Endpoint::new(o, forward.outside.port), i);
            }
            _ => {}
        }
    }

    /// A forward was removed from the engines.
    pub fn remove_forward(&mut self, protocol: u8, outside: Endpoint<IpAddr>) {
        match outside.addr {
            IpAddr::V4(addr) => self
                .v4
                .remove_forward(protocol, Endpoint::new(addr, outside.port)),
            IpAddr::V6(addr) => self
                .v6
                .remove_forward(protocol, Endpoint::new(addr, outside.port)),
        }
    }
}

/// The part of one address family.
#[derive(Clone)]
pub(crate) struct FamilySteering<A> {
    keys: Keys,
    pub(crate) shard: Shard,
    /// Outside addresses that one host has for itself.
    own: HashMap<A, A, Keyed>,
    /// Engines of forwards.
    forwards: HashMap<(u8, Endpoint<A>), u16, Keyed>,
}

impl<A: Address> FamilySteering<A> {
    pub(crate) fn new(
        family: Option<&FamilyConfig<A>>,
        shard: Shard,
        keys: Keys,
        seed: &[u8; 16],
    ) -> Self {
        let keyed = Keyed(SipHasher13::new_with_key(seed));
        let mut own = HashMap::with_hasher(keyed.clone());
        for pair in family.iter().flat_map(|f| &f.one_to_one) {
            own.insert(pair.outside, pair.inside);
        }
        Self {
            keys,
            shard,
            own,
            forwards: HashMap::with_hasher(keyed),
        }
    }

    /// Whether there is more than one engine.
    #[inline]
    pub(crate) fn is_shared(&self) -> bool {
        self.shard.count > 1
    }

    fn scale(&self, hash: u64) -> u16 {
        (((hash >> 32) * u64::from(self.shard.count)) >> 32) as u16
    }

    /// The engine of an inside host, and of what is steered by a source.
    #[inline]
    pub(crate) fn of_host(&self, addr: A) -> u16 {
        if !self.is_shared() {
            return self.shard.number;
        }
        let none = Endpoint::new(A::UNSPECIFIED, 0);
        self.scale(self.keys.flow(KIND, 0, Endpoint::new(addr, 0), none))
    }

    /// The engine of an outside endpoint.
    pub(crate) fn of_outside(&self, protocol: u8, outside: Endpoint<A>) -> u16 {
        if !self.is_shared() {
            return self.shard.number;
        }
        if let Some(&host) = self.own.get(&outside.addr) {
            return self.of_host(host);
        }
        if let Some(&shard) = self.forwards.get(&(protocol, outside)) {
            return shard;
        }
        let Some(space) = space(protocol) else {
            return 0;
        };
        let range = class(space, outside.port);
        let (count, all) = (u32::from(self.shard.count), range.len());
        let ahead = u32::from(outside.port.saturating_sub(range.first));
        let guess = (ahead * count / all) as u16;
        // The parts are rounded: the guess is off by one at the most.
        let near = [guess, guess + 1, guess.saturating_sub(1)];
        let found = near.into_iter().find(|&n| {
            n < self.shard.count && range.share(n, self.shard.count).contains(outside.port)
        });
        found.unwrap_or(0)
    }

    /// The engine of a packet whose headers were read.
    pub(crate) fn of_header(&self, header: &Header<A>, direction: Direction) -> u16 {
        let portless = header.kind == Kind::Other && !header.is_fragment;
        match direction {
            Direction::Outbound if portless => 0,
            Direction::Outbound => self.of_host(header.src.addr),
            Direction::Inbound if header.is_fragment => self.of_host(header.src.addr),
            Direction::Inbound => self.of_outside(header.protocol, header.dst),
        }
    }

    fn shard<F: Family<Addr = A>>(&self, packet: &[u8], direction: Direction) -> u16 {
        let Ok(header) = F::parse(packet, packet.len(), direction) else {
            return 0;
        };
        if header.kind == Kind::Error
            && let Ok(quote) = F::quote(packet)
        {
            return self.of_quote::<F>(&quote, direction);
        }
        self.of_header(&header, direction)
    }

    /// The engine of an ICMP error, by the packet it quotes.
    pub(crate) fn of_quote<F: Family<Addr = A>>(
        &self,
        quote: &Quote<A>,
        direction: Direction,
    ) -> u16 {
        match direction {
            Direction::Outbound => self.of_host(quote.dst.addr),
            Direction::Inbound => {
                let port = match quote.protocol {
                    icmp if icmp == F::ICMP => quote.src.port.max(quote.dst.port),
                    _ => quote.src.port,
                };
                self.of_outside(quote.protocol, Endpoint::new(quote.src.addr, port))
            }
        }
    }

    /// Notes whose a forward is; returns that.
    pub(crate) fn add_forward(&mut self, protocol: u8, outside: Endpoint<A>, inside: A) -> u16 {
        let shard = self.of_host(inside);
        self.forwards.insert((protocol, outside), shard);
        shard
    }

    pub(crate) fn remove_forward(&mut self, protocol: u8, outside: Endpoint<A>) {
        self.forwards.remove(&(protocol, outside));
    }

    /// The engine that a forward was noted for.
    pub(crate) fn forward(&self, protocol: u8, outside: Endpoint<A>) -> Option<u16> {
        self.forwards.get(&(protocol, outside)).copied()
    }
}
