//! IPv4 headers (RFC 791).

use core::net::Ipv4Addr;

use crate::bytes::{array, be16, put16};
use crate::{Result, WireError, checksum};

/// Length of a header without options, in bytes.
pub const MIN_HEADER_LEN: usize = 20;

/// A view on an IPv4 packet.
#[derive(Debug, Clone, Copy)]
pub struct Ipv4Packet<T> {
    bytes: T,
}

impl<T: AsRef<[u8]>> Ipv4Packet<T> {
    /// Takes `bytes` for an IPv4 packet; what lies behind its total length is padding.
    ///
    /// # Errors
    /// [`WireError::Truncated`] where the header or the total length passes the end of `bytes`;
    /// [`WireError::Malformed`] for a wrong version, a header below 20 bytes, or a total length
    /// below the header's.
    #[inline]
    pub fn parse(bytes: T) -> Result<Self> {
        let b = bytes.as_ref();
        if b.len() < MIN_HEADER_LEN {
            return Err(WireError::Truncated);
        }
        let header = usize::from(b[0] & 0x0f) * 4;
        let total = usize::from(be16(b, 2));
        if b[0] >> 4 != 4 || header < MIN_HEADER_LEN || total < header {
            return Err(WireError::Malformed);
        }
        if b.len() < total {
            return Err(WireError::Truncated);
        }
        Ok(Self { bytes })
    }

    /// The bytes the view was made of.
    pub fn into_inner(self) -> T {
        self.bytes
    }

    /// Length of the header with its options, in bytes: 20 to 60.
    #[inline]
    pub fn header_len(&self) -> usize {
        usize::from(self.bytes.as_ref()[0] & 0x0f) * 4
    }

    /// Length of header and payload, in bytes.
    #[inline]
    pub fn total_len(&self) -> usize {
        usize::from(be16(self.bytes.as_ref(), 2))
    }

    /// DSCP and ECN as one byte.
    #[inline]
    pub fn tos(&self) -> u8 {
        self.bytes.as_ref()[1]
    }

    /// The identification field.
    #[inline]
    pub fn id(&self) -> u16 {
        be16(self.bytes.as_ref(), 4)
    }

    /// Whether "don't fragment" is set.
    #[inline]
    pub fn dont_fragment(&self) -> bool {
        self.bytes.as_ref()[6] & 0x40 != 0
    }

    /// Whether more fragments follow.
    #[inline]
    pub fn more_fragments(&self) -> bool {
        self.bytes.as_ref()[6] & 0x20 != 0
    }

    /// Offset of this fragment in the original payload, in bytes.
    #[inline]
    pub fn fragment_offset(&self) -> usize {
        usize::from(be16(self.bytes.as_ref(), 6) & 0x1fff) * 8
    }

    /// Whether this is a fragment, the first one included.
    #[inline]
    pub fn is_fragment(&self) -> bool {
        be16(self.bytes.as_ref(), 6) & 0x3fff != 0
    }

    /// Time to live.
    #[inline]
    pub fn ttl(&self) -> u8 {
        self.bytes.as_ref()[8]
    }

    /// Protocol of the payload ([`crate::ip_proto`]).
    #[inline]
    pub fn protocol(&self) -> u8 {
        self.bytes.as_ref()[9]
    }

    /// The header checksum as it stands.
    #[inline]
    pub fn header_checksum(&self) -> u16 {
        be16(self.bytes.as_ref(), 10)
    }

    /// Source address.
    #[inline]
    pub fn src(&self) -> Ipv4Addr {
        Ipv4Addr::from(array::<4>(self.bytes.as_ref(), 12))
    }

    /// Destination address.
    #[inline]
    pub fn dst(&self) -> Ipv4Addr {
        Ipv4Addr::from(array::<4>(self.bytes.as_ref(), 16))
    }

    /// The options, empty in most packets.
    #[inline]
    pub fn options(&self) -> &[u8] {
        &self.bytes.as_ref()[MIN_HEADER_LEN..self.header_len()]
    }

    /// The header with its options.
    #[inline]
    pub fn header(&self) -> &[u8] {
        &self.bytes.as_ref()[..self.header_len()]
    }

    /// The payload, without padding.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        &self.bytes.as_ref()[self.header_len()..self.total_len()]
    }

    /// Whether the header checksum is right.
    #[inline]
    pub fn verify_header_checksum(&self) -> bool {
        checksum::sum(self.header()).is_valid()
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Ipv4Packet<T> {
    /// Sets the source; the checksum is the caller's to update.
    #[inline]
    pub fn set_src(&mut self, addr: Ipv4Addr) {
        self.bytes.as_mut()[12..16].copy_from_slice(&addr.octets());
    }

    /// Sets the destination; the checksum is the caller's to update.
    #[inline]
    pub fn set_dst(&mut self, addr: Ipv4Addr) {
        self.bytes.as_mut()[16..20].copy_from_slice(&addr.octets());
    }

    /// Sets the time to live; the checksum is the caller's to update.
    #[inline]
    pub fn set_ttl(&mut self, ttl: u8) {
        self.bytes.as_mut()[8] = ttl;
    }

    /// Sets the header checksum.
    #[inline]
    pub fn set_header_checksum(&mut self, value: u16) {
        put16(self.bytes.as_mut(), 10, value);
    }

    /// Computes and stores the header checksum.
    #[inline]
    pub fn fill_header_checksum(&mut self) {
        self.set_header_checksum(0);
        let value = checksum::sum(self.header()).finish();
        self.set_header_checksum(value);
    }

    /// The payload, without padding.
    #[inline]
    pub fn payload_mut(&mut self) -> &mut [u8] {
        let (from, to) = (self.header_len(), self.total_len());
        &mut self.bytes.as_mut()[from..to]
    }
}

/// What a header without options says; the rest is derived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ipv4Repr {
    /// Source address.
    pub src: Ipv4Addr,
    /// Destination address.
    pub dst: Ipv4Addr,
    /// Protocol of the payload ([`crate::ip_proto`]).
    pub protocol: u8,
    /// Time to live.
    pub ttl: u8,
    /// DSCP and ECN as one byte.
    pub tos: u8,
    /// Identification; matters only where the packet may be fragmented (RFC 6864).
    pub id: u16,
    /// Whether to set "don't fragment".
    pub dont_fragment: bool,
    /// Length of the payload, in bytes; at most 65,515.
    pub payload_len: usize,
}

impl Ipv4Repr {
    /// Writes the 20-byte header, checksum included, at the start of `out`.
    ///
    /// # Panics
    /// If `out` is shorter than 20 bytes or the payload length does not fit.
    #[inline]
    pub fn emit(&self, out: &mut [u8]) {
        let total = u16::try_from(MIN_HEADER_LEN + self.payload_len).expect("payload fits IPv4");
        out[0] = 0x45;
        out[1] = self.tos;
        put16(out, 2, total);
        put16(out, 4, self.id);
        put16(out, 6, if self.dont_fragment { 0x4000 } else { 0 });
        out[8] = self.ttl;
        out[9] = self.protocol;
        put16(out, 10, 0);
        out[12..16].copy_from_slice(&self.src.octets());
        out[16..20].copy_from_slice(&self.dst.octets());
        let value = checksum::sum(&out[..MIN_HEADER_LEN]).finish();
        put16(out, 10, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPR: Ipv4Repr = Ipv4Repr {
        src: Ipv4Addr::new(192, 0, 2, 1),
        dst: Ipv4Addr::new(192, 0, 2, 2),
        protocol: 17,
        ttl: 64,
        tos: 0,
        id: 7,
        dont_fragment: true,
        payload_len: 4,
    };

    #[test]
    fn reads_back_what_it_writes() {
        let mut bytes = [0u8; 30];
        REPR.emit(&mut bytes);
        let packet = Ipv4Packet::parse(&bytes[..]).unwrap();
        assert!(packet.verify_header_checksum());
        assert_eq!((packet.src(), packet.dst()), (REPR.src, REPR.dst));
        assert_eq!(packet.payload().len(), 4, "what follows is padding");
        assert!(packet.dont_fragment() && !packet.is_fragment());
    }

    #[test]
    fn every_length_is_checked() {
        let mut bytes = [0u8; 24];
        REPR.emit(&mut bytes);
        for len in 0..24 {
            assert!(Ipv4Packet::parse(&bytes[..len]).is_err(), "{len}");
        }
        bytes[0] = 0x44;
        assert!(Ipv4Packet::parse(&bytes[..]).is_err());
        bytes[0] = 0x4f;
        assert!(Ipv4Packet::parse(&bytes[..]).is_err());
    }
}
