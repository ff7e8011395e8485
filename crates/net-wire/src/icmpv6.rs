//! ICMP for IPv6 (RFC 4443) and neighbour discovery (RFC 4861).

use core::net::Ipv6Addr;

use crate::bytes::{array, be16, be32, put16, put32};
use crate::checksum::{self, Sum};
use crate::{MacAddr, Result, WireError};

/// Length of the fixed part of every message, in bytes.
pub const HEADER_LEN: usize = 8;
/// Type: destination unreachable.
pub const UNREACHABLE: u8 = 1;
/// Type: packet too big; the rest of the header is the MTU.
pub const PACKET_TOO_BIG: u8 = 2;
/// Type: time exceeded.
pub const TIME_EXCEEDED: u8 = 3;
/// Type: parameter problem.
pub const PARAMETER_PROBLEM: u8 = 4;
/// Type: echo request.
pub const ECHO_REQUEST: u8 = 128;
/// Type: echo reply.
pub const ECHO_REPLY: u8 = 129;
/// Type: router solicitation.
pub const ROUTER_SOLICIT: u8 = 133;
/// Type: router advertisement.
pub const ROUTER_ADVERT: u8 = 134;
/// Type: neighbour solicitation.
pub const NEIGHBOR_SOLICIT: u8 = 135;
/// Type: neighbour advertisement.
pub const NEIGHBOR_ADVERT: u8 = 136;
/// Type: redirect.
pub const REDIRECT: u8 = 137;

/// A view on an ICMPv6 message.
#[derive(Debug, Clone, Copy)]
pub struct Icmpv6Message<T> {
    bytes: T,
}

impl<T: AsRef<[u8]>> Icmpv6Message<T> {
    /// Takes `bytes` for a message; its end is the end of the data.
    ///
    /// # Errors
    /// [`WireError::Truncated`] below 8 bytes.
    #[inline]
    pub fn parse(bytes: T) -> Result<Self> {
        if bytes.as_ref().len() < HEADER_LEN {
            return Err(WireError::Truncated);
        }
        Ok(Self { bytes })
    }

    /// Type of the message.
    #[inline]
    pub fn kind(&self) -> u8 {
        self.bytes.as_ref()[0]
    }

    /// Code of the message.
    #[inline]
    pub fn code(&self) -> u8 {
        self.bytes.as_ref()[1]
    }

    /// The checksum as it stands.
    #[inline]
    pub fn checksum(&self) -> u16 {
        be16(self.bytes.as_ref(), 2)
    }

    /// The four bytes behind the checksum as one word.
    #[inline]
    pub fn rest(&self) -> u32 {
        be32(self.bytes.as_ref(), 4)
    }

    /// What follows the fixed part.
    #[inline]
    pub fn data(&self) -> &[u8] {
        &self.bytes.as_ref()[HEADER_LEN..]
    }

    /// Whether the message reports an error (types 0 to 127).
    #[inline]
    pub fn is_error(&self) -> bool {
        self.kind() < 128
    }

    /// Whether the checksum is right; `pseudo` is the sum of the pseudo header.
    #[inline]
    pub fn verify_checksum(&self, pseudo: Sum) -> bool {
        (pseudo + checksum::sum(self.bytes.as_ref())).is_valid()
    }

    /// The target address of a neighbour solicitation or advertisement.
    pub fn ndp_target(&self) -> Option<Ipv6Addr> {
        let fits =
            matches!(self.kind(), NEIGHBOR_SOLICIT | NEIGHBOR_ADVERT) && self.data().len() >= 16;
        fits.then(|| Ipv6Addr::from(array::<16>(self.data(), 0)))
    }

    /// The link-layer address option of a neighbour or router message: kind 1 is the source's,
    /// kind 2 the target's. `None` where it is absent or the options are malformed.
    pub fn ndp_link_address(&self, option: u8) -> Option<MacAddr> {
        let mut rest = match self.kind() {
            ROUTER_SOLICIT => self.data(),
            ROUTER_ADVERT => self.data().get(8..)?,
            NEIGHBOR_SOLICIT | NEIGHBOR_ADVERT => self.data().get(16..)?,
            _ => return None,
        };
        while let [kind, words, ..] = *rest {
            let len = usize::from(words) * 8;
            // A zero length would loop for ever (RFC 4861, section 4.6).
            if len == 0 || len > rest.len() {
                return None;
            }
            if kind == option && len == 8 {
                return Some(MacAddr(array(rest, 2)));
            }
            rest = &rest[len..];
        }
        None
    }
}

/// Writes type, code, checksum and the four bytes behind it over the first 8 bytes of `message`,
/// whose data must already stand in place; `pseudo` is the sum of the pseudo header.
///
/// # Panics
/// If `message` is shorter than 8 bytes.
pub fn emit(message: &mut [u8], kind: u8, code: u8, rest: u32, pseudo: Sum) {
    message[0] = kind;
    message[1] = code;
    put16(message, 2, 0);
    put32(message, 4, rest);
    let value = (pseudo + checksum::sum(message)).finish();
    put16(message, 2, value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_zero_length_end_the_search() {
        let mut bytes = [0u8; 8 + 16 + 16];
        bytes[0] = NEIGHBOR_SOLICIT;
        bytes[24..26].copy_from_slice(&[14, 1]);
        bytes[32..40].copy_from_slice(&[1, 1, 2, 3, 4, 5, 6, 7]);
        let view = Icmpv6Message::parse(&bytes[..]).unwrap();
        assert_eq!(view.ndp_link_address(1), Some(MacAddr([2, 3, 4, 5, 6, 7])));
        assert_eq!(view.ndp_target(), Some(Ipv6Addr::UNSPECIFIED));
        bytes[25] = 0;
        assert_eq!(
            Icmpv6Message::parse(&bytes[..])
                .unwrap()
                .ndp_link_address(1),
            None
        );
    }
}
