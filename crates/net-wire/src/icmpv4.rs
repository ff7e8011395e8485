//! ICMP for IPv4 (RFC 792, RFC 1191).

use crate::bytes::{be16, be32, put16, put32};
use crate::{Result, WireError, checksum};

/// Length of the fixed part of every message, in bytes.
pub const HEADER_LEN: usize = 8;
/// Type: echo reply.
pub const ECHO_REPLY: u8 = 0;
/// Type: destination unreachable.
pub const UNREACHABLE: u8 = 3;
/// Type: redirect.
pub const REDIRECT: u8 = 5;
/// Type: echo request.
pub const ECHO_REQUEST: u8 = 8;
/// Type: time exceeded.
pub const TIME_EXCEEDED: u8 = 11;
/// Type: parameter problem.
pub const PARAMETER_PROBLEM: u8 = 12;
/// Code of [`UNREACHABLE`]: network.
pub const CODE_NET: u8 = 0;
/// Code of [`UNREACHABLE`]: host.
pub const CODE_HOST: u8 = 1;
/// Code of [`UNREACHABLE`]: protocol.
pub const CODE_PROTOCOL: u8 = 2;
/// Code of [`UNREACHABLE`]: port.
pub const CODE_PORT: u8 = 3;
/// Code of [`UNREACHABLE`]: fragmentation needed; the low half of the rest of the header is the MTU.
pub const CODE_FRAG_NEEDED: u8 = 4;
/// Code of [`UNREACHABLE`]: administratively prohibited.
pub const CODE_PROHIBITED: u8 = 13;

/// A view on an ICMP message.
#[derive(Debug, Clone, Copy)]
pub struct IcmpMessage<T> {
    bytes: T,
}

impl<T: AsRef<[u8]>> IcmpMessage<T> {
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

    /// Identifier of an echo message.
    #[inline]
    pub fn id(&self) -> u16 {
        be16(self.bytes.as_ref(), 4)
    }

    /// Sequence number of an echo message.
    #[inline]
    pub fn sequence(&self) -> u16 {
        be16(self.bytes.as_ref(), 6)
    }

    /// The four bytes behind the checksum as one word.
    #[inline]
    pub fn rest(&self) -> u32 {
        be32(self.bytes.as_ref(), 4)
    }

    /// What follows the fixed part: echo data, or the packet an error is about.
    #[inline]
    pub fn data(&self) -> &[u8] {
        &self.bytes.as_ref()[HEADER_LEN..]
    }

    /// Whether the message reports an error, so that no error may answer it (RFC 1122, 3.2.2).
    #[inline]
    pub fn is_error(&self) -> bool {
        matches!(
            self.kind(),
            UNREACHABLE | 4 | REDIRECT | TIME_EXCEEDED | PARAMETER_PROBLEM
        )
    }

    /// Whether the checksum is right.
    #[inline]
    pub fn verify_checksum(&self) -> bool {
        checksum::sum(self.bytes.as_ref()).is_valid()
    }
}

/// Writes type, code, checksum and the four bytes behind it over the first 8 bytes of `message`,
/// whose data must already stand in place.
///
/// # Panics
/// If `message` is shorter than 8 bytes.
pub fn emit(message: &mut [u8], kind: u8, code: u8, rest: u32) {
    message[0] = kind;
    message[1] = code;
    put16(message, 2, 0);
    put32(message, 4, rest);
    let value = checksum::sum(message).finish();
    put16(message, 2, value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_what_it_writes() {
        let mut bytes = *b"........data!";
        emit(&mut bytes, ECHO_REQUEST, 0, 0x0102_0304);
        let view = IcmpMessage::parse(&bytes[..]).unwrap();
        assert!(view.verify_checksum() && !view.is_error());
        assert_eq!(
            (view.id(), view.sequence(), view.data()),
            (0x0102, 0x0304, &b"data!"[..])
        );
        assert!(IcmpMessage::parse(&bytes[..7]).is_err());
    }
}
