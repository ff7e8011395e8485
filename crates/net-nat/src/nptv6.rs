//! IPv6 network prefix translation, NPTv6 (RFC 6296): one prefix inside, another outside, one to one.
//!
//! # Theory of operation
//!
//! There are no sessions and no ports. An address keeps everything but its prefix and one word of 16
//! bits, which makes up for what the new prefix does to a ones'-complement sum: the checksum of
//! whatever the packet carries stays right without being touched, and without being known.
//!
//! | prefix | the word that changes | addresses without a translation |
//! |---|---|---|
//! | /48 and shorter | bits 48 to 63, the subnet (section 3.4) | subnet 0xffff |
//! | /49 to /64 | the first of the interface identifier that is not 0xffff (section 3.5) | identifier all ones or all zeros (section 3.7) |
//!
//! Ones' complement has two zeros, 0x0000 and 0xffff. The word is never 0xffff before, and where it
//! would be afterwards it is 0x0000 (section 3.2), which makes the way back unique.
//!
//! Prefixes of two lengths count as the longer one, the shorter extended with zeros (section 3.1):
//! the subnets of the wider side whose further bits are not zero are not translated.
//!
//! ICMPv6 errors have a second packet inside, whose address is translated as well, so that whoever
//! gets the error finds the address it knows. There too the sums stay.
//!
//! ```
//! use net_nat::nptv6::Nptv6;
//!
//! // The example of RFC 6296, section 3.6.
//! let nptv6 = Nptv6::new(
//!     ("fd01:203:405::".parse()?, 48),
//!     ("2001:db8:1::".parse()?, 48),
//! )?;
//! let outside = nptv6.to_outside("fd01:203:405:1::1234".parse()?)?;
//! assert_eq!(outside, Some("2001:db8:1:d550::1234".parse()?));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod packet;
#[cfg(test)]
mod tests;

use core::net::Ipv6Addr;

pub use packet::Outcome;

/// The longest prefix that can be translated, in bits: behind it is the interface identifier, from
/// which the sum is made up.
const MAX_PREFIX: u8 = 64;
/// The longest prefix that leaves the subnet word whole, in bits.
const SUBNET_AT: u8 = 48;

/// Why two prefixes cannot be translated into each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Nptv6Error {
    /// A prefix length outside its range.
    #[error("prefix length {0} is not between 1 and 64")]
    PrefixLength(u8),
    /// Bits behind the prefix are set.
    #[error("{0}/{1} has bits set behind the prefix")]
    HostBits(Ipv6Addr, u8),
    /// A prefix that is not one of global or unique local unicast.
    #[error("{0} is no unicast prefix that is routed")]
    NotRouted(Ipv6Addr),
    /// One prefix is part of the other: it could not be told who is inside.
    #[error("the prefixes overlap")]
    Overlap,
}

/// Why a packet cannot be translated and is to be dropped. It is unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Untranslatable {
    /// The headers do not fit into the packet, or contradict the protocol.
    #[error("the packet is malformed")]
    Malformed,
    /// The subnet is 0xffff. An ICMPv6 "destination unreachable" should answer an outbound packet
    /// (RFC 6296, section 3.2).
    #[error("the subnet has no translation")]
    Subnet,
    /// The interface identifier is all ones or all zeros, here or once translated. An ICMPv6
    /// "parameter problem" should answer (RFC 6296, section 3.7).
    #[error("the interface identifier has no translation")]
    InterfaceId,
    /// It came from outside with a source of the inside (RFC 6092, REC-6).
    #[error("an inside source came from outside")]
    Spoofed,
}

/// A pair of prefixes and the translation between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nptv6 {
    inside: u64,
    outside: u64,
    /// The bits of an address's upper half that are the prefix.
    mask: u64,
    /// What the word gains on the way out: the sum of the inside prefix less that of the outside.
    gain: u16,
    len: u8,
}

impl Nptv6 {
    /// A translation between prefixes, each with its length in bits, 1 to 64.
    ///
    /// # Errors
    /// [`Nptv6Error`] says which prefix is wrong and how.
    pub fn new(inside: (Ipv6Addr, u8), outside: (Ipv6Addr, u8)) -> Result<Self, Nptv6Error> {
        let (inside_bits, outside_bits) = (prefix_bits(inside)?, prefix_bits(outside)?);
        let shorter = mask(inside.1.min(outside.1));
        if inside_bits & shorter == outside_bits & shorter {
            return Err(Nptv6Error::Overlap);
        }
        let len = inside.1.max(outside.1);
        Ok(Self {
            inside: inside_bits,
            outside: outside_bits,
            mask: mask(len),
            gain: add(sum(inside_bits), !sum(outside_bits)),
            len,
        })
    }

    /// The inside prefix and its length in bits: the longer of the two that were given.
    pub fn inside(&self) -> (Ipv6Addr, u8) {
        (join(self.inside, 0), self.len)
    }

    /// The outside prefix and its length in bits: the longer of the two that were given.
    pub fn outside(&self) -> (Ipv6Addr, u8) {
        (join(self.outside, 0), self.len)
    }

    /// How the outside sees an inside address; `None` for one that is not of the inside prefix.
    ///
    /// # Errors
    /// [`Untranslatable::Subnet`] and [`Untranslatable::InterfaceId`].
    pub fn to_outside(&self, addr: Ipv6Addr) -> Result<Option<Ipv6Addr>, Untranslatable> {
        self.map(addr, self.inside, self.outside, self.gain)
    }

    /// Whose address an outside one is; `None` for one that is not of the outside prefix.
    ///
    /// # Errors
    /// As [`Nptv6::to_outside`].
    pub fn to_inside(&self, addr: Ipv6Addr) -> Result<Option<Ipv6Addr>, Untranslatable> {
        self.map(addr, self.outside, self.inside, !self.gain)
    }

    pub(crate) fn is_inside(&self, addr: Ipv6Addr) -> bool {
        split(addr).0 & self.mask == self.inside
    }

    fn map(
        &self,
        addr: Ipv6Addr,
        from: u64,
        to: u64,
        gain: u16,
    ) -> Result<Option<Ipv6Addr>, Untranslatable> {
        let (high, low) = split(addr);
        if high & self.mask != from {
            return Ok(None);
        }
        let high = high & !self.mask | to;
        if self.len <= SUBNET_AT {
            let high = adjust(high, 0, gain).ok_or(Untranslatable::Subnet)?;
            return Ok(Some(join(high, low)));
        }
        // The identifier of all zeros is dropped on sight (section 3.7). One that becomes all zeros
        // could go out, but its answers would be dropped; better that nobody waits for them.
        let adjusted = [48, 32, 16, 0]
            .into_iter()
            .find_map(|shift| adjust(low, shift, gain))
            .filter(|adjusted| low != 0 && *adjusted != 0)
            .ok_or(Untranslatable::InterfaceId)?;
        Ok(Some(join(high, adjusted)))
    }
}

/// Adds `gain` to the word of `bits` that stands `shift` bits from the right; `None` if it is 0xffff.
fn adjust(bits: u64, shift: u32, gain: u16) -> Option<u64> {
    let word = (bits >> shift) as u16;
    if word == 0xffff {
        return None;
    }
    let adjusted = match add(word, gain) {
        0xffff => 0,
        adjusted => adjusted,
    };
    Some(bits & !(0xffff << shift) | u64::from(adjusted) << shift)
}

/// Checks a prefix and returns its bits, with zeros behind it.
fn prefix_bits((addr, len): (Ipv6Addr, u8)) -> Result<u64, Nptv6Error> {
    if !(1..=MAX_PREFIX).contains(&len) {
        return Err(Nptv6Error::PrefixLength(len));
    }
    let (high, low) = split(addr);
    if high & !mask(len) != 0 || low != 0 {
        return Err(Nptv6Error::HostBits(addr, len));
    }
    // Loopback, unspecified and mapped IPv4 addresses are of ::/64.
    if high == 0 || addr.is_multicast() || addr.is_unicast_link_local() {
        return Err(Nptv6Error::NotRouted(addr));
    }
    Ok(high)
}

/// The upper `len` bits of 64; `len` is 1 to 64.
const fn mask(len: u8) -> u64 {
    u64::MAX << (64 - len)
}

/// The ones'-complement sum of four words.
fn sum(bits: u64) -> u16 {
    [bits >> 48, bits >> 32, bits >> 16, bits]
        .into_iter()
        .fold(0, |sum, word| add(sum, word as u16))
}

/// Ones'-complement addition: the carry comes round.
const fn add(a: u16, b: u16) -> u16 {
    let (sum, carry) = a.overflowing_add(b);
    sum + carry as u16
}

/// Prefix half and interface identifier.
fn split(addr: Ipv6Addr) -> (u64, u64) {
    let bits = addr.to_bits();
    ((bits >> 64) as u64, bits as u64)
}

fn join(high: u64, low: u64) -> Ipv6Addr {
    Ipv6Addr::from_bits(u128::from(high) << 64 | u128::from(low))
}
