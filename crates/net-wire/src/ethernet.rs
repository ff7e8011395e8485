//! Ethernet II frames and 802.1Q tags.

use crate::bytes::{array, be16, put16};
use crate::{Result, WireError};

/// Length of the header without a tag, in bytes.
pub const HEADER_LEN: usize = 14;
/// Length one 802.1Q tag adds, in bytes.
pub const VLAN_TAG_LEN: usize = 4;

/// A 48-bit hardware address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// All ones: every station.
    pub const BROADCAST: Self = Self([0xff; 6]);
    /// All zero: no station; never valid as a source.
    pub const ZERO: Self = Self([0; 6]);

    /// Whether the group bit is set (multicast, and broadcast among them).
    pub const fn is_multicast(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// Whether this is the broadcast address.
    pub fn is_broadcast(self) -> bool {
        self == Self::BROADCAST
    }

    /// Whether a station may send from this address: not a group, not all zero.
    pub fn is_unicast(self) -> bool {
        !self.is_multicast() && self != Self::ZERO
    }

    /// Whether the locally-administered bit is set.
    pub const fn is_local(self) -> bool {
        self.0[0] & 2 != 0
    }
}

impl core::fmt::Display for MacAddr {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl core::fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        core::fmt::Display::fmt(self, f)
    }
}

impl core::str::FromStr for MacAddr {
    type Err = WireError;

    /// Reads six hexadecimal pairs separated by `:` or `-`.
    fn from_str(text: &str) -> Result<Self> {
        let mut out = [0u8; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut out {
            let part = parts.next().ok_or(WireError::Truncated)?;
            if part.len() != 2 || !part.bytes().all(|c| c.is_ascii_hexdigit()) {
                return Err(WireError::Malformed);
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| WireError::Malformed)?;
        }
        if parts.next().is_some() {
            return Err(WireError::Malformed);
        }
        Ok(Self(out))
    }
}

/// The protocol an Ethernet frame carries.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct EtherType(pub u16);

impl EtherType {
    /// IPv4.
    pub const IPV4: Self = Self(0x0800);
    /// ARP.
    pub const ARP: Self = Self(0x0806);
    /// RARP (RFC 903), laid out as ARP.
    pub const RARP: Self = Self(0x8035);
    /// IPv6.
    pub const IPV6: Self = Self(0x86dd);
    /// 802.1Q customer tag.
    pub const VLAN: Self = Self(0x8100);
    /// 802.1ad service tag.
    pub const QINQ: Self = Self(0x88a8);
}

/// A view on an Ethernet II frame.
#[derive(Debug, Clone, Copy)]
pub struct EthernetFrame<T> {
    bytes: T,
}

impl<T: AsRef<[u8]>> EthernetFrame<T> {
    /// Takes `bytes` for a frame.
    ///
    /// # Errors
    /// [`WireError::Truncated`] below 14 bytes.
    #[inline]
    pub fn parse(bytes: T) -> Result<Self> {
        if bytes.as_ref().len() < HEADER_LEN {
            return Err(WireError::Truncated);
        }
        Ok(Self { bytes })
    }

    /// The bytes of the whole frame.
    pub fn into_inner(self) -> T {
        self.bytes
    }

    /// Where the frame goes.
    #[inline]
    pub fn dst(&self) -> MacAddr {
        MacAddr(array(self.bytes.as_ref(), 0))
    }

    /// Where it comes from.
    #[inline]
    pub fn src(&self) -> MacAddr {
        MacAddr(array(self.bytes.as_ref(), 6))
    }

    /// The type field as it stands: a tagged frame gives the tag's type.
    #[inline]
    pub fn ethertype(&self) -> EtherType {
        EtherType(be16(self.bytes.as_ref(), 12))
    }

    /// What follows the 14-byte header.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        &self.bytes.as_ref()[HEADER_LEN..]
    }

    /// The 802.1Q tag (priority, drop eligibility and VLAN id as one 16-bit word), the inner
    /// type and the payload behind it; `None` where the frame is untagged or cut short.
    pub fn vlan(&self) -> Option<(u16, EtherType, &[u8])> {
        if !matches!(self.ethertype(), EtherType::VLAN | EtherType::QINQ) {
            return None;
        }
        let rest = self.payload();
        if rest.len() < VLAN_TAG_LEN {
            return None;
        }
        Some((
            be16(rest, 0),
            EtherType(be16(rest, 2)),
            &rest[VLAN_TAG_LEN..],
        ))
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> EthernetFrame<T> {
    /// Sets the destination.
    #[inline]
    pub fn set_dst(&mut self, mac: MacAddr) {
        self.bytes.as_mut()[0..6].copy_from_slice(&mac.0);
    }

    /// Sets the source.
    #[inline]
    pub fn set_src(&mut self, mac: MacAddr) {
        self.bytes.as_mut()[6..12].copy_from_slice(&mac.0);
    }

    /// Sets the type field.
    #[inline]
    pub fn set_ethertype(&mut self, ethertype: EtherType) {
        put16(self.bytes.as_mut(), 12, ethertype.0);
    }

    /// What follows the 14-byte header.
    #[inline]
    pub fn payload_mut(&mut self) -> &mut [u8] {
        &mut self.bytes.as_mut()[HEADER_LEN..]
    }
}

/// Writes a 14-byte header at the start of `out`.
///
/// # Panics
/// If `out` is shorter than 14 bytes.
#[inline]
pub fn emit(out: &mut [u8], dst: MacAddr, src: MacAddr, ethertype: EtherType) {
    out[0..6].copy_from_slice(&dst.0);
    out[6..12].copy_from_slice(&src.0);
    put16(out, 12, ethertype.0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_back_what_they_print() {
        let mac: MacAddr = "52:54:00:12:34:56".parse().unwrap();
        assert_eq!(mac.0, [0x52, 0x54, 0, 0x12, 0x34, 0x56]);
        assert_eq!(mac.to_string().parse::<MacAddr>().unwrap(), mac);
        for bad in [
            "",
            "52:54:00:12:34",
            "52:54:00:12:34:5",
            "52:54:00:12:34:56:78",
            "52:54:00:12:34:+6",
        ] {
            assert!(bad.parse::<MacAddr>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_tag_cut_short_is_no_tag() {
        let mut frame = [0u8; 18];
        emit(
            &mut frame,
            MacAddr::BROADCAST,
            MacAddr([2; 6]),
            EtherType::VLAN,
        );
        frame[14..18].copy_from_slice(&[0x20, 0x05, 0x08, 0x00]);
        let view = EthernetFrame::parse(&frame[..]).unwrap();
        assert_eq!(view.vlan(), Some((0x2005, EtherType::IPV4, &[][..])));
        assert_eq!(EthernetFrame::parse(&frame[..17]).unwrap().vlan(), None);
        assert!(EthernetFrame::parse(&frame[..13]).is_err());
    }
}
