//! Patching a checksum instead of computing it again (RFC 1624).

use core::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};

/// The difference that a change of some fields makes to a checksum over them.
///
/// RFC 1624, section 3, equation 3: HC' = ~(~HC + ~m + m'), of which this is ~m + m', folded. Deltas
/// add up ([`Delta::plus`]), so one per flow serves every packet of it.
///
/// **Zeros.** In ones' complement 0x0000 and 0xffff are both zero. The update gives bit for bit what
/// a new computation gives, unless all that is summed becomes zero, where it says 0x0000 and a new
/// computation 0xffff (RFC 1624, section 3, on equation 4 of RFC 1141, which goes wrong more often).
/// No IP header and no pseudo header is all zero.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Delta(u16);

impl Delta {
    /// No change.
    pub const ZERO: Self = Self(0);

    /// The change of one 16-bit word.
    #[inline]
    pub const fn new16(old: u16, new: u16) -> Self {
        Self(fold32(!old as u32 + new as u32))
    }

    /// The change of a 32-bit field at an even offset.
    #[inline]
    pub const fn new32(old: u32, new: u32) -> Self {
        let old = !old;
        Self(fold32(
            (old >> 16) + (old & 0xffff) + (new >> 16) + (new & 0xffff),
        ))
    }

    /// The change of an IPv4 address.
    #[inline]
    pub const fn new_v4(old: Ipv4Addr, new: Ipv4Addr) -> Self {
        Self::new32(old.to_bits(), new.to_bits())
    }

    /// The change of an IPv6 address.
    #[inline]
    pub const fn new_v6(old: Ipv6Addr, new: Ipv6Addr) -> Self {
        let (old, new) = (old.segments(), new.segments());
        let (mut delta, mut i) = (Self::ZERO, 0);
        while i < 8 {
            delta = delta.plus(Self::new16(old[i], new[i]));
            i += 1;
        }
        delta
    }

    /// The change of an IPv4 address and a port: one end of a TCP or UDP flow rewritten.
    ///
    /// For the transport checksum, whose pseudo header has the address (RFC 9293, section 3.1); the
    /// IPv4 header checksum covers only the address and changes by [`Delta::new_v4`].
    #[inline]
    pub const fn new_endpoint_v4(old: SocketAddrV4, new: SocketAddrV4) -> Self {
        Self::new_v4(*old.ip(), *new.ip()).plus(Self::new16(old.port(), new.port()))
    }

    /// The change of an IPv6 address and a port (RFC 8200, section 8.1).
    ///
    /// Flow label and scope are not in the pseudo header and do not count.
    #[inline]
    pub const fn new_endpoint_v6(old: SocketAddrV6, new: SocketAddrV6) -> Self {
        Self::new_v6(*old.ip(), *new.ip()).plus(Self::new16(old.port(), new.port()))
    }

    /// The change of both ends of a flow over IPv4, source and destination: double NAT, hairpinning.
    ///
    /// The sum does not see the order: an end may be named first or second, as long as both tuples
    /// name both.
    #[inline]
    pub const fn new_tuple_v4(old: [SocketAddrV4; 2], new: [SocketAddrV4; 2]) -> Self {
        Self::new_endpoint_v4(old[0], new[0]).plus(Self::new_endpoint_v4(old[1], new[1]))
    }

    /// The change of both ends of a flow over IPv6.
    #[inline]
    pub const fn new_tuple_v6(old: [SocketAddrV6; 2], new: [SocketAddrV6; 2]) -> Self {
        Self::new_endpoint_v6(old[0], new[0]).plus(Self::new_endpoint_v6(old[1], new[1]))
    }

    /// The change back: what a translation does to the other direction of its flow.
    #[inline]
    pub const fn inverse(self) -> Self {
        Self(!self.0)
    }

    /// Two changes at once.
    #[inline]
    pub const fn plus(self, other: Self) -> Self {
        Self(add(self.0, other.0))
    }

    /// The checksum after the change.
    ///
    /// The case of RFC 1624, section 4, is right: HC = 0xDD2F with 0x5555 becoming 0x3285 gives 0x0000,
    /// where equation 2 (RFC 1141) gives 0xFFFF.
    #[inline]
    pub const fn apply(self, checksum: u16) -> u16 {
        !add(!checksum, self.0)
    }

    /// The UDP checksum after the change: a stored 0 says "none" and stays, a computed 0 is
    /// stored as 0xffff (RFC 768).
    #[inline]
    pub const fn apply_udp(self, checksum: u16) -> u16 {
        if checksum == 0 {
            return 0;
        }
        match self.apply(checksum) {
            0 => 0xffff,
            value => value,
        }
    }

    /// A partial checksum (a folded, uncomplemented pseudo-header sum, as an offload leaves in the
    /// field) after the change.
    #[inline]
    pub const fn apply_partial(self, partial: u16) -> u16 {
        add(partial, self.0)
    }
}

/// The ones'-complement sum of two words: the carry comes in again at the other end, and cannot carry
/// once more.
#[inline(always)]
const fn add(a: u16, b: u16) -> u16 {
    let (sum, carry) = a.overflowing_add(b);
    sum + carry as u16
}

/// Folds a sum of at most a few 16-bit words.
#[inline(always)]
const fn fold32(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

#[cfg(test)]
mod tests;
