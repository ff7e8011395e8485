//! ARP for IPv4 over Ethernet (RFC 826).

use core::net::Ipv4Addr;

use crate::bytes::{array, be16, put16};
use crate::{MacAddr, Result, WireError};

/// Length of an ARP packet for IPv4 over Ethernet, in bytes.
pub const LEN: usize = 28;
/// Operation: who has this address?
pub const REQUEST: u16 = 1;
/// Operation: I have it.
pub const REPLY: u16 = 2;
/// Operation of RARP (RFC 903): which address has this hardware address?
pub const REVERSE_REQUEST: u16 = 3;

/// The fields of one ARP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArpPacket {
    /// [`REQUEST`], [`REPLY`] or something else.
    pub operation: u16,
    /// Hardware address of the sender.
    pub sender_mac: MacAddr,
    /// Protocol address of the sender; unspecified in a probe (RFC 5227).
    pub sender_ip: Ipv4Addr,
    /// Hardware address asked for or answered to.
    pub target_mac: MacAddr,
    /// Protocol address asked for.
    pub target_ip: Ipv4Addr,
}

impl ArpPacket {
    /// Reads an ARP packet.
    ///
    /// # Errors
    /// [`WireError::Truncated`] below 28 bytes; [`WireError::Malformed`] for any hardware but
    /// Ethernet or any protocol but IPv4.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        if bytes.len() < LEN {
            return Err(WireError::Truncated);
        }
        // Hardware type 1, protocol 0x0800, lengths 6 and 4.
        if bytes[..6] != [0, 1, 8, 0, 6, 4] {
            return Err(WireError::Malformed);
        }
        Ok(Self {
            operation: be16(bytes, 6),
            sender_mac: MacAddr(array(bytes, 8)),
            sender_ip: Ipv4Addr::from(array::<4>(bytes, 14)),
            target_mac: MacAddr(array(bytes, 18)),
            target_ip: Ipv4Addr::from(array::<4>(bytes, 24)),
        })
    }

    /// Writes the packet at the start of `out`.
    ///
    /// # Panics
    /// If `out` is shorter than 28 bytes.
    pub fn emit(&self, out: &mut [u8]) {
        out[..6].copy_from_slice(&[0, 1, 8, 0, 6, 4]);
        put16(out, 6, self.operation);
        out[8..14].copy_from_slice(&self.sender_mac.0);
        out[14..18].copy_from_slice(&self.sender_ip.octets());
        out[18..24].copy_from_slice(&self.target_mac.0);
        out[24..28].copy_from_slice(&self.target_ip.octets());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_what_it_writes_and_refuses_the_rest() {
        let arp = ArpPacket {
            operation: REPLY,
            sender_mac: MacAddr([1, 2, 3, 4, 5, 6]),
            sender_ip: Ipv4Addr::new(10, 0, 0, 1),
            target_mac: MacAddr([6, 5, 4, 3, 2, 1]),
            target_ip: Ipv4Addr::new(10, 0, 0, 2),
        };
        let mut bytes = [0; LEN];
        arp.emit(&mut bytes);
        assert_eq!(ArpPacket::parse(&bytes), Ok(arp));
        assert_eq!(ArpPacket::parse(&bytes[..27]), Err(WireError::Truncated));
        bytes[4] = 8;
        assert_eq!(ArpPacket::parse(&bytes), Err(WireError::Malformed));
    }
}
