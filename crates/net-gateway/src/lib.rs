//! The router as a guest sees it: one address of each family that answers ARP, neighbour discovery,
//! pings, DHCP and DNS, and decides what leaves the network.
//!
//! **What it is for:** the middle of a frame's life. The switch hands it what is addressed to the
//! gateway or to everybody; it answers what it can and says what the uplink must carry. **What it
//! is not:** a NAT (that is the uplink), a switch, or anything with a socket or a clock: time comes
//! in as an argument, and what must be sent comes out as [`Output`]s.
//!
//! | part | its job |
//! |---|---|
//! | [`Gateway`] | dispatch, and the engines it owns: [`net_dhcp::Server`], [`net_dhcp::ra::Advertiser`], [`net_dns::Forwarder`] |
//! | [`Neighbour`] | which port and hardware address an address belongs to; bounded per port |
//! | [`Verdict`] | answered here, for the uplink, or dropped for a counted reason |
//!
//! A guest is held to what it owns: a frame whose source address is another live guest's, or is
//! outside the network, is dropped ([`DropReason::Spoofed`], [`DropReason::Foreign`]).
//!
//! With [`Config::ipv6`] guests form addresses in its prefix, and the gateway advertises itself as
//! their router where there is a way out. [`Gateway::may_pass`] keeps guests from doing the same to
//! one another. Not supported: DHCPv6, multicast listener discovery (reports are ignored, groups
//! flooded by the switch), redirects, proxying, and more than one prefix.
//!
//! ```
//! use net_gateway::{Config, Gateway};
//!
//! let config = Config::new("10.0.2.0/24".parse().unwrap()).unwrap();
//! assert_eq!(config.ip, std::net::Ipv4Addr::new(10, 0, 2, 1));
//! let gateway = Gateway::new(config, [7; 16]).unwrap();
//! assert!(gateway.neighbour(std::net::Ipv4Addr::new(10, 0, 2, 9)).is_none());
//! ```
#![forbid(unsafe_code)]

mod config;
mod frame;
mod frame6;
mod gateway;
mod guard;
mod leases;
mod names;
mod neighbour;
mod outcome;
mod rate;

use core::net::Ipv6Addr;

use net_wire::MacAddr;

pub use config::{Config, ConfigError, Ipv6Config, Router6};
pub use gateway::Gateway;
pub use neighbour::Neighbour;
pub use outcome::{DnsClient, DropReason, Output, Statistics, Target, Verdict};

/// The number of a port of the switch.
pub type PortId = u32;

/// The address that a host with hardware address `mac` forms in a prefix of 64 bits unless it wants
/// to hide the latter (RFC 4291, appendix A; RFC 2464, section 4).
pub fn eui64(prefix: Ipv6Addr, mac: MacAddr) -> Ipv6Addr {
    let MacAddr([a, b, c, d, e, f]) = mac;
    let id = u64::from_be_bytes([a ^ 2, b, c, 0xff, 0xfe, d, e, f]);
    Ipv6Addr::from_bits(prefix.to_bits() & !u128::from(u64::MAX) | u128::from(id))
}

/// The link-local address of a host with hardware address `mac`, unless it wants to hide the latter.
pub fn link_local(mac: MacAddr) -> Ipv6Addr {
    eui64(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 2464, section 5.
    #[test]
    fn rfc2464_interface_identifier() {
        let mac = MacAddr([0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde]);
        let prefix = Ipv6Addr::new(0xfe80, 0, 0, 0, 9, 9, 9, 9);
        let formed = Ipv6Addr::new(0xfe80, 0, 0, 0, 0x3656, 0x78ff, 0xfe9a, 0xbcde);
        assert_eq!(eui64(prefix, mac), formed);
    }
}
