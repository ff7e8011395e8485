//! A network: an address and the length of its prefix.

use core::fmt;

use crate::address::Address;

/// The addresses that share the first `len` bits of `addr`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Prefix<A> {
    addr: A,
    len: u8,
}

impl<A: Address> Prefix<A> {
    /// `None` when `len` is more than the family has bits.
    #[must_use]
    pub fn new(addr: A, len: u8) -> Option<Self> {
        (usize::from(len) <= size_of::<A>() * 8).then_some(Self { addr, len })
    }

    /// The address given, host bits and all.
    #[must_use]
    pub fn addr(self) -> A {
        self.addr
    }

    /// Length of the prefix, in bits.
    #[must_use]
    pub fn len(self) -> u8 {
        self.len
    }

    /// Whether the prefix has no bits and so holds every address.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.len == 0
    }

    /// Whether `addr` is one of them.
    #[must_use]
    pub fn contains(self, addr: A) -> bool {
        A::common(self.addr, addr) >= u32::from(self.len)
    }
}

impl<A: Address> fmt::Display for Prefix<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.len)
    }
}
