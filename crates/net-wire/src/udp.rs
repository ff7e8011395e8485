//! UDP headers (RFC 768).

use crate::bytes::{be16, put16};
use crate::checksum::{self, Sum};
use crate::{Result, WireError};

/// Length of the header, in bytes.
pub const HEADER_LEN: usize = 8;

/// A view on a UDP datagram.
#[derive(Debug, Clone, Copy)]
pub struct UdpDatagram<T> {
    bytes: T,
}

impl<T: AsRef<[u8]>> UdpDatagram<T> {
    /// Takes `bytes` for a datagram; what lies behind its length field is padding.
    ///
    /// # Errors
    /// [`WireError::Truncated`] below 8 bytes or below the length field;
    /// [`WireError::Malformed`] for a length field below 8.
    #[inline]
    pub fn parse(bytes: T) -> Result<Self> {
        let b = bytes.as_ref();
        if b.len() < HEADER_LEN {
            return Err(WireError::Truncated);
        }
        let len = usize::from(be16(b, 4));
        if len < HEADER_LEN {
            return Err(WireError::Malformed);
        }
        if b.len() < len {
            return Err(WireError::Truncated);
        }
        Ok(Self { bytes })
    }

    /// Source port.
    #[inline]
    pub fn src_port(&self) -> u16 {
        be16(self.bytes.as_ref(), 0)
    }

    /// Destination port.
    #[inline]
    pub fn dst_port(&self) -> u16 {
        be16(self.bytes.as_ref(), 2)
    }

    /// Length of header and payload, in bytes.
    #[inline]
    #[allow(clippy::len_without_is_empty)] // It is never below 8.
    pub fn len(&self) -> usize {
        usize::from(be16(self.bytes.as_ref(), 4))
    }

    /// The checksum as it stands; 0 says there is none.
    #[inline]
    pub fn checksum(&self) -> u16 {
        be16(self.bytes.as_ref(), 6)
    }

    /// The payload, without padding.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        &self.bytes.as_ref()[HEADER_LEN..self.len()]
    }

    /// Whether the checksum is right, or absent; `pseudo` is the sum of the pseudo header.
    #[inline]
    pub fn verify_checksum(&self, pseudo: Sum) -> bool {
        let bytes = &self.bytes.as_ref()[..self.len()];
        self.checksum() == 0 || (pseudo + checksum::sum(bytes)).is_valid()
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> UdpDatagram<T> {
    /// Sets the source port; the checksum is the caller's to update.
    #[inline]
    pub fn set_src_port(&mut self, port: u16) {
        put16(self.bytes.as_mut(), 0, port);
    }

    /// Sets the destination port; the checksum is the caller's to update.
    #[inline]
    pub fn set_dst_port(&mut self, port: u16) {
        put16(self.bytes.as_mut(), 2, port);
    }

    /// Sets the checksum.
    #[inline]
    pub fn set_checksum(&mut self, value: u16) {
        put16(self.bytes.as_mut(), 6, value);
    }
}

/// Writes the 8-byte header at the start of `out`, with the given checksum.
///
/// # Panics
/// If `out` is shorter than 8 bytes or `payload_len` above 65,527.
#[inline]
pub fn emit(out: &mut [u8], src_port: u16, dst_port: u16, payload_len: usize, checksum: u16) {
    put16(out, 0, src_port);
    put16(out, 2, dst_port);
    put16(
        out,
        4,
        u16::try_from(HEADER_LEN + payload_len).expect("payload fits UDP"),
    );
    put16(out, 6, checksum);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_checked() {
        let mut bytes = [0u8; 12];
        emit(&mut bytes, 53, 5353, 3, 0);
        let view = UdpDatagram::parse(&bytes[..]).unwrap();
        assert_eq!(
            (view.src_port(), view.dst_port(), view.payload().len()),
            (53, 5353, 3)
        );
        assert!(view.verify_checksum(Sum::ZERO));
        assert!(UdpDatagram::parse(&bytes[..10]).is_err());
        bytes[5] = 7;
        assert_eq!(
            UdpDatagram::parse(&bytes[..]).unwrap_err(),
            WireError::Malformed
        );
    }
}
