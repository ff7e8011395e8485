//! Views on the headers a virtual machine's network stack meets, and the Internet checksum.
//!
//! **What it is for:** reading and rewriting headers in place, at the speed of a few loads, on
//! bytes that a hostile guest wrote. **What it is not:** a TCP/IP stack, a packet builder for
//! every option, or a copy of the packet; it owns no memory and never allocates.
//!
//! | module | what it views | source |
//! |---|---|---|
//! | [`ethernet`] | Ethernet II header, 802.1Q tags | IEEE 802.3, 802.1Q |
//! | [`arp`] | ARP for IPv4 over Ethernet | RFC 826 |
//! | [`ipv4`] | IPv4 header | RFC 791 |
//! | [`ipv6`] | IPv6 header and its extension chain | RFC 8200 |
//! | [`tcp`] | TCP header and options | RFC 9293, 7323, 2018 |
//! | [`udp`] | UDP header | RFC 768 |
//! | [`icmpv4`], [`icmpv6`] | ICMP | RFC 792, 4443 |
//! | [`ndp`] | who has which hardware address, over IPv6 | RFC 4861 |
//! | [`checksum`] | computing and updating the Internet checksum | RFC 1071, 1624 |
//!
//! A view is made by `parse`, which checks every length the accessors rely on; after that no
//! accessor can fail or panic. Mutating a view through its setters keeps that promise, because
//! no setter changes a length field that `parse` has checked against the buffer.
//!
//! ```
//! use net_wire::{ethernet::{EtherType, EthernetFrame}, ipv4::Ipv4Packet};
//!
//! let bytes = [0u8; 14 + 20];
//! let frame = EthernetFrame::parse(&bytes[..]).unwrap();
//! assert_eq!(frame.ethertype(), EtherType(0));
//! // All zero is not IPv4: the version is wrong, and `parse` says so.
//! assert!(Ipv4Packet::parse(frame.payload()).is_err());
//! ```
#![cfg_attr(not(any(test, feature = "std")), no_std)]
#![deny(unsafe_code)]

pub mod arp;
pub mod checksum;
pub mod ethernet;
pub mod icmpv4;
pub mod icmpv6;
pub mod ipv4;
pub mod ipv6;
pub mod ndp;
pub mod tcp;
pub mod udp;

mod bytes;

pub use ethernet::MacAddr;

/// Why bytes are not the header they were taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WireError {
    /// The buffer ends before the header, or before the length the header claims.
    Truncated,
    /// A field contradicts the protocol: a wrong version, a header length below the minimum.
    Malformed,
}

impl core::fmt::Display for WireError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Truncated => "truncated header",
            Self::Malformed => "malformed header",
        })
    }
}

impl core::error::Error for WireError {}

/// The result of taking bytes for a header.
pub type Result<T> = core::result::Result<T, WireError>;

/// IP protocol numbers this crate knows by name (IANA "Assigned Internet Protocol Numbers").
pub mod ip_proto {
    /// IPv6 hop-by-hop options.
    pub const HOP_BY_HOP: u8 = 0;
    /// ICMP for IPv4.
    pub const ICMP: u8 = 1;
    /// IGMP.
    pub const IGMP: u8 = 2;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// IPv6 routing header.
    pub const IPV6_ROUTE: u8 = 43;
    /// IPv6 fragment header.
    pub const IPV6_FRAGMENT: u8 = 44;
    /// IPv6 authentication header.
    pub const AH: u8 = 51;
    /// ICMP for IPv6.
    pub const ICMPV6: u8 = 58;
    /// IPv6: nothing follows.
    pub const IPV6_NONE: u8 = 59;
    /// IPv6 destination options.
    pub const IPV6_OPTS: u8 = 60;
}
