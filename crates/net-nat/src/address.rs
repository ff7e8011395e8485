//! What IPv4 and IPv6 addresses have in common for the tables.

use core::fmt;
use core::hash::Hash;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use net_wire::checksum::Delta;

mod sealed {
    pub trait Sealed {}
    impl Sealed for core::net::Ipv4Addr {}
    impl Sealed for core::net::Ipv6Addr {}
}

/// An address of one family: [`Ipv4Addr`] or [`Ipv6Addr`].
pub trait Address:
    sealed::Sealed
    + Copy
    + Eq
    + Ord
    + Hash
    + Into<IpAddr>
    + fmt::Debug
    + fmt::Display
    + Send
    + Sync
    + 'static
{
    /// All zeros.
    const UNSPECIFIED: Self;
    /// The address as one or two words, for hashing; equal only for equal addresses.
    #[doc(hidden)]
    fn words(self) -> [u64; 2];
    /// The address of these octets, if they are as many as one has.
    #[doc(hidden)]
    fn from_octets(octets: &[u8]) -> Option<Self>;
    /// Gives the octets to `to`.
    #[doc(hidden)]
    fn write(self, to: impl FnOnce(&[u8]));
    /// How many leading bits two addresses share.
    #[doc(hidden)]
    fn common(a: Self, b: Self) -> u32;
    /// How far behind `first` it is, counted in addresses, with wrapping; `u64::MAX` stands for all that is
    /// further.
    #[doc(hidden)]
    fn behind(self, first: Self) -> u64;
    /// What a checksum over the address changes by.
    #[doc(hidden)]
    fn delta(old: Self, new: Self) -> Delta;
    /// Whether a packet may come from or go to it one to one: neither unspecified nor multicast nor
    /// broadcast nor loopback.
    fn is_host(self) -> bool;
}

impl Address for Ipv4Addr {
    const UNSPECIFIED: Self = Self::UNSPECIFIED;

    #[inline(always)]
    fn words(self) -> [u64; 2] {
        [u64::from(u32::from_ne_bytes(self.octets())), 0]
    }

    fn from_octets(octets: &[u8]) -> Option<Self> {
        octets
            .try_into()
            .ok()
            .map(|o: [u8; size_of::<Self>()]| Self::from(o))
    }

    fn write(self, to: impl FnOnce(&[u8])) {
        to(&self.octets());
    }

    fn common(a: Self, b: Self) -> u32 {
        (a.to_bits() ^ b.to_bits()).leading_zeros()
    }

    #[inline]
    fn behind(self, first: Self) -> u64 {
        self.to_bits().wrapping_sub(first.to_bits()).into()
    }

    #[inline]
    fn delta(old: Self, new: Self) -> Delta {
        Delta::new_v4(old, new)
    }

    fn is_host(self) -> bool {
        let [first, ..] = self.octets();
        first != 0 && first != 127 && first < 224
    }
}

impl Address for Ipv6Addr {
    const UNSPECIFIED: Self = Self::UNSPECIFIED;

    #[inline(always)]
    fn words(self) -> [u64; 2] {
        let bits = u128::from_ne_bytes(self.octets());
        [bits as u64, (bits >> 64) as u64]
    }

    fn from_octets(octets: &[u8]) -> Option<Self> {
        octets
            .try_into()
            .ok()
            .map(|o: [u8; size_of::<Self>()]| Self::from(o))
    }

    fn write(self, to: impl FnOnce(&[u8])) {
        to(&self.octets());
    }

    fn common(a: Self, b: Self) -> u32 {
        (a.to_bits() ^ b.to_bits()).leading_zeros()
    }

    #[inline]
    fn behind(self, first: Self) -> u64 {
        let far = self.to_bits().wrapping_sub(first.to_bits());
        u64::try_from(far).unwrap_or(u64::MAX)
    }

    #[inline]
    fn delta(old: Self, new: Self) -> Delta {
        Delta::new_v6(old, new)
    }

    fn is_host(self) -> bool {
        !self.is_unspecified()
            && !self.is_multicast()
            && !self.is_loopback()
            && !self.is_unicast_link_local()
    }
}

/// An address and a port; for ICMP queries the identifier stands in the port's place, and other
/// protocols have port 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint<A> {
    /// The address.
    pub addr: A,
    /// The port, or the identifier of an ICMP query, or 0.
    pub port: u16,
}

impl<A> Endpoint<A> {
    /// An endpoint of both.
    #[inline]
    pub const fn new(addr: A, port: u16) -> Self {
        Self { addr, port }
    }
}
