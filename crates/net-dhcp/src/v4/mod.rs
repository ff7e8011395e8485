//! DHCP for IPv4 (RFC 2131): the message format, the server and the client.

pub mod client;
pub mod codec;
pub mod server;

use std::net::Ipv4Addr;

/// UDP port of servers and relays (RFC 2131 section 4.1).
pub const SERVER_PORT: u16 = 67;
/// UDP port of clients (RFC 2131 section 4.1).
pub const CLIENT_PORT: u16 = 68;

/// The IPv4 network one server or one lease belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Subnet {
    network: u32,
    mask: u32,
}

impl Subnet {
    /// The network `addr` is in. `prefix_len` past 32 counts as 32.
    pub(crate) fn new(addr: Ipv4Addr, prefix_len: u8) -> Self {
        let mask = prefix_mask(prefix_len);
        Self {
            network: u32::from(addr) & mask,
            mask,
        }
    }

    pub(crate) fn contains(self, addr: Ipv4Addr) -> bool {
        u32::from(addr) & self.mask == self.network
    }

    /// The first address of the network, which names the network itself.
    pub(crate) fn network(self) -> Ipv4Addr {
        Ipv4Addr::from(self.network)
    }

    pub(crate) fn mask(self) -> Ipv4Addr {
        Ipv4Addr::from(self.mask)
    }

    /// The directed broadcast address.
    pub(crate) fn broadcast(self) -> Ipv4Addr {
        Ipv4Addr::from(self.network | !self.mask)
    }

    /// Whether a host may have this address: inside, and neither first nor last.
    pub(crate) fn is_host(self, addr: Ipv4Addr) -> bool {
        self.contains(addr) && addr != self.network() && addr != self.broadcast()
    }
}

/// The netmask of a prefix length; past 32 counts as 32.
pub(crate) fn prefix_mask(prefix_len: u8) -> u32 {
    match prefix_len {
        0 => 0,
        1..=32 => u32::MAX << (32 - u32::from(prefix_len)),
        _ => u32::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subnet_knows_its_ends() {
        let net = Subnet::new(Ipv4Addr::new(192, 168, 127, 9), 24);
        assert_eq!(net.network(), Ipv4Addr::new(192, 168, 127, 0));
        assert_eq!(net.broadcast(), Ipv4Addr::new(192, 168, 127, 255));
        assert_eq!(net.mask(), Ipv4Addr::new(255, 255, 255, 0));
        assert!(net.is_host(Ipv4Addr::new(192, 168, 127, 254)));
        assert!(!net.is_host(net.network()) && !net.is_host(net.broadcast()));
        assert!(!net.contains(Ipv4Addr::new(192, 168, 128, 1)));
    }

    #[test]
    fn masks_of_the_extreme_prefixes() {
        assert_eq!(prefix_mask(0), 0);
        assert_eq!(prefix_mask(1), 0x8000_0000);
        assert_eq!(prefix_mask(32), u32::MAX);
        assert_eq!(prefix_mask(200), u32::MAX);
    }
}
