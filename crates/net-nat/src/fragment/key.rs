//! Which datagram a fragment belongs to.

use core::hash::BuildHasher;
use core::net::{Ipv4Addr, Ipv6Addr};

use net_wire::ip_proto;
use net_wire::ipv4::Ipv4Packet;
use net_wire::ipv6::Ipv6Packet;
use siphasher::sip::SipHasher13;

use crate::address::Address;
use crate::direction::Direction;

/// What the fragments of one datagram have in common, as they arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct FragmentKey<A> {
    direction: Direction,
    source: A,
    destination: A,
    protocol: u8,
    id: u32,
}

impl FragmentKey<Ipv4Addr> {
    /// RFC 791, section 3.2: source, destination, protocol and identification.
    pub(crate) fn v4<T: AsRef<[u8]>>(direction: Direction, packet: &Ipv4Packet<T>) -> Self {
        Self {
            direction,
            source: packet.src(),
            destination: packet.dst(),
            protocol: packet.protocol(),
            id: u32::from(packet.id()),
        }
    }
}

impl FragmentKey<Ipv6Addr> {
    /// RFC 8200, section 4.5: source, destination and identification.
    ///
    /// Not the protocol: where destination options follow the fragment header, only the first
    /// fragment leads to the protocol, and the others would not be found.
    pub(crate) fn v6<T: AsRef<[u8]>>(
        direction: Direction,
        packet: &Ipv6Packet<T>,
        id: u32,
    ) -> Self {
        Self {
            direction,
            source: packet.src(),
            destination: packet.dst(),
            protocol: ip_proto::IPV6_FRAGMENT,
            id,
        }
    }
}

/// SipHash-1-3 under a secret: addresses and identifications are the sender's choice, buckets must
/// not be.
#[derive(Debug, Clone)]
pub(super) struct Keyed(SipHasher13);

impl Keyed {
    pub(super) fn new(secret: &[u8; 16]) -> Self {
        Self(SipHasher13::new_with_key(secret))
    }
}

impl BuildHasher for Keyed {
    type Hasher = SipHasher13;

    fn build_hasher(&self) -> SipHasher13 {
        self.0
    }
}

/// A map from datagrams to `V`.
pub(super) type KeyMap<A, V> = hashbrown::HashMap<FragmentKey<A>, V, Keyed>;

/// A map with `capacity` places.
pub(super) fn key_map<A: Address, V>(capacity: usize, secret: &[u8; 16]) -> KeyMap<A, V> {
    KeyMap::with_capacity_and_hasher(capacity, Keyed::new(secret))
}
