//! What a user-mode uplink is told: addresses, limits, time-outs.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::time::Duration;

/// The network's IPv4 prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subnet {
    /// Any address of the network; bits behind the prefix are ignored.
    pub addr: Ipv4Addr,
    /// Length of the prefix in bits, 0 to 32; a larger value means 32.
    pub prefix: u8,
}

impl Subnet {
    /// Whether `addr` lies in the network.
    pub fn contains(self, addr: Ipv4Addr) -> bool {
        (addr.to_bits() ^ self.addr.to_bits()) & self.mask() == 0
    }

    /// The highest address, which broadcasts to the network. `None` for prefixes of 31 and 32
    /// bits, which have none (RFC 3021).
    pub fn broadcast(self) -> Option<Ipv4Addr> {
        (self.prefix < 31).then(|| Ipv4Addr::from_bits(self.addr.to_bits() | !self.mask()))
    }

    fn mask(self) -> u32 {
        match self.prefix {
            0 => 0,
            prefix => u32::MAX << (32 - u32::from(prefix.min(32))),
        }
    }
}

/// The network's IPv6 prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subnet6 {
    /// Any address of the network; bits behind the prefix are ignored.
    pub addr: Ipv6Addr,
    /// Length of the prefix in bits, 0 to 128; a larger value means 128.
    pub prefix: u8,
}

impl Subnet6 {
    /// Whether `addr` lies in the network.
    pub fn contains(self, addr: Ipv6Addr) -> bool {
        let mask = match self.prefix {
            0 => 0,
            prefix => u128::MAX << (128 - u32::from(prefix.min(128))),
        };
        (addr.to_bits() ^ self.addr.to_bits()) & mask == 0
    }
}

/// How a [`crate::UserNet`] is set up; [`Config::new`] fills in limits and time-outs.
#[derive(Debug, Clone)]
pub struct Config {
    /// The gateway's address in the network: source of ICMP errors, and of whatever comes from
    /// the host's own loopback.
    pub gateway: Ipv4Addr,
    /// The gateway's IPv6 address, where the network has IPv6.
    pub gateway6: Option<Ipv6Addr>,
    /// The gateway's link-local address, which leads where the other one does. Guests reach no other
    /// link-local address through the uplink.
    pub gateway6_link_local: Option<Ipv6Addr>,
    /// The network's IPv6 prefix. Its addresses are never relayed.
    pub subnet6: Option<Subnet6>,
    /// The network's prefix. Its broadcast address is never relayed.
    pub subnet: Subnet,
    /// Whether the gateway's address leads to the host's loopback (127.0.0.1 and ::1). Off by
    /// default: nothing a guest sends reaches the host's loopback otherwise.
    pub host_loopback: bool,
    /// Secret of the keyed hashes and of sequence numbers; fresh for every instance.
    pub seed: [u8; 16],
    /// Upper bounds on everything a guest can make grow.
    pub limits: Limits,
    /// When idle state goes.
    pub timeouts: Timeouts,
}

impl Config {
    /// A configuration with the default limits and time-outs, without IPv6 and without access to
    /// the host's loopback.
    pub fn new(gateway: Ipv4Addr, subnet: Subnet, seed: [u8; 16]) -> Self {
        Self {
            gateway,
            gateway6: None,
            gateway6_link_local: None,
            subnet6: None,
            subnet,
            host_loopback: false,
            seed,
            limits: Limits::default(),
            timeouts: Timeouts::default(),
        }
    }

    /// Whether `addr` is the gateway's.
    pub fn is_gateway(&self, addr: IpAddr) -> bool {
        match addr {
            IpAddr::V4(addr) => addr == self.gateway,
            IpAddr::V6(addr) => [self.gateway6, self.gateway6_link_local].contains(&Some(addr)),
        }
    }

    /// The gateway's address of the same family as `like`.
    pub fn gateway_like(&self, like: IpAddr) -> Option<IpAddr> {
        match like {
            IpAddr::V4(_) => Some(IpAddr::V4(self.gateway)),
            IpAddr::V6(_) => self.gateway6.map(IpAddr::V6),
        }
    }
}

/// Upper bounds, each for one guest (one [`crate::PortId`]) unless it says otherwise.
///
/// A flow holds one host socket: the process needs a descriptor limit (`RLIMIT_NOFILE`) above the
/// sum over the guests, else new flows are refused and counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// TCP flows in any state. A new one above the bound is refused with a reset.
    pub tcp_flows: usize,
    /// TCP flows still being connected to the host.
    pub tcp_half_open: usize,
    /// UDP flows: sockets of the guest, and clients of its published ports. The oldest idle one
    /// of the same guest makes room.
    pub udp_flows: usize,
    /// Ping flows, one per echo identifier.
    pub ping_flows: usize,
    /// Datagrams being put together from fragments.
    pub reassembly_datagrams: usize,
    /// Bytes held in such datagrams.
    pub reassembly_bytes: usize,
    /// Forwards of all guests together.
    pub forwards: usize,
    /// ICMP errors sent to the guest per second, with bursts of the same size.
    pub icmp_errors_per_second: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            tcp_flows: 8192,
            tcp_half_open: 1024,
            udp_flows: 2048,
            ping_flows: 64,
            reassembly_datagrams: 32,
            reassembly_bytes: 1024 * 1024,
            forwards: 1024,
            icmp_errors_per_second: 100,
        }
    }
}

/// How long state stays without traffic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeouts {
    /// An established TCP connection; RFC 5382, REQ-5 asks for 2 hours 4 minutes or more.
    pub tcp_established: Duration,
    /// A TCP connection being opened or closed; RFC 5382, REQ-5 asks for 4 minutes or more.
    pub tcp_transitory: Duration,
    /// A UDP flow; RFC 4787, REQ-5 recommends 5 minutes and forbids less than 2.
    pub udp: Duration,
    /// A UDP flow that has only ever spoken to port 53.
    pub udp_dns: Duration,
    /// A ping flow; RFC 5508, REQ-2 asks for 60 seconds or more.
    pub ping: Duration,
    /// An incomplete fragmented datagram; RFC 8200, section 4.5 names 60 seconds, what systems
    /// use is 30.
    pub reassembly: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            tcp_established: Duration::from_secs(2 * 3600 + 4 * 60),
            tcp_transitory: Duration::from_secs(4 * 60),
            udp: Duration::from_secs(5 * 60),
            udp_dns: Duration::from_secs(30),
            ping: Duration::from_secs(60),
            reassembly: Duration::from_secs(30),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_of_every_length() {
        for prefix in 0..=32u8 {
            let net = Subnet {
                addr: Ipv4Addr::new(10, 1, 2, 3),
                prefix,
            };
            assert!(net.contains(Ipv4Addr::new(10, 1, 2, 3)));
            let outside = Ipv4Addr::from_bits(
                0x0a01_0203 ^ 1u32.checked_shl(32 - u32::from(prefix)).unwrap_or(0),
            );
            assert_eq!(net.contains(outside), prefix == 0, "{prefix}");
        }
        let net = Subnet {
            addr: Ipv4Addr::new(10, 1, 2, 3),
            prefix: 24,
        };
        for prefix in 0..=128u8 {
            let addr = Ipv6Addr::from_bits(0xfd00_1234_5678_9abc_def0_1234_5678_9abc);
            let net = Subnet6 { addr, prefix };
            let flipped = 1u128.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            assert!(net.contains(addr));
            let outside = Ipv6Addr::from_bits(addr.to_bits() ^ flipped);
            assert_eq!(net.contains(outside), prefix == 0, "{prefix}");
        }
        assert_eq!(net.broadcast(), Some(Ipv4Addr::new(10, 1, 2, 255)));
        assert_eq!(Subnet { prefix: 31, ..net }.broadcast(), None);
    }
}
