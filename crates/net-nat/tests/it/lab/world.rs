//! The addresses of the tests.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use net_nat::config::FamilyConfig;
use net_nat::{NatConfig, Prefix};

/// IPv4 or IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

pub(crate) use Family::{V4, V6};

/// What holds for NAT44 holds for NAT66 as well.
pub(crate) const BOTH: [Family; 2] = [V4, V6];

impl Family {
    /// Inside host `n`, in 10.0.0.0/16 or fd00::/64.
    pub(crate) fn inside(self, n: u16) -> IpAddr {
        match self {
            V4 => IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + u32::from(n))),
            V6 => IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, n)),
        }
    }

    /// Outside address `n` of the translator; the usual network has one, number 1.
    pub(crate) fn outside(self, n: u8) -> IpAddr {
        match self {
            V4 => IpAddr::V4(Ipv4Addr::new(203, 0, 113, n)),
            V6 => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, n.into())),
        }
    }

    /// Outside host `n`.
    pub(crate) fn remote(self, n: u16) -> IpAddr {
        match self {
            V4 => IpAddr::V4(Ipv4Addr::from_bits(0xc612_0000 + u32::from(n))),
            V6 => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, n)),
        }
    }

    /// The protocol number of ICMP.
    pub(crate) fn icmp(self) -> u8 {
        match self {
            V4 => 1,
            V6 => 58,
        }
    }

    /// Bytes of the IP header without options.
    pub(crate) fn header(self) -> usize {
        match self {
            V4 => 20,
            V6 => 40,
        }
    }

    /// One inside network behind outside address 1, with the defaults of the crate.
    pub(crate) fn config(self) -> NatConfig {
        self.pool(&[1])
    }

    /// The same behind several outside addresses.
    pub(crate) fn pool(self, outside: &[u8]) -> NatConfig {
        let mut config = NatConfig::empty(*b"sixteen secrets!");
        match self {
            V4 => {
                config.ipv4 = Some(FamilyConfig {
                    inside: vec![Prefix::new(Ipv4Addr::new(10, 0, 0, 0), 16).unwrap()],
                    outside: outside.iter().map(|&n| v4(self.outside(n))).collect(),
                    one_to_one: Vec::new(),
                });
            }
            V6 => {
                config.ipv6 = Some(FamilyConfig {
                    inside: vec![Prefix::new(v6(self.inside(0)), 64).unwrap()],
                    outside: outside.iter().map(|&n| v6(self.outside(n))).collect(),
                    one_to_one: Vec::new(),
                });
            }
        }
        config
    }

    /// Gives inside host `inside` the outside address `outside` for itself.
    pub(crate) fn pair(self, config: &mut NatConfig, inside: u16, outside: u8, open: bool) {
        use net_nat::config::OneToOne;
        let (inside, outside) = (self.inside(inside), self.outside(outside));
        match self {
            V4 => config.ipv4.as_mut().unwrap().one_to_one.push(OneToOne {
                inside: v4(inside),
                outside: v4(outside),
                open,
            }),
            V6 => config.ipv6.as_mut().unwrap().one_to_one.push(OneToOne {
                inside: v6(inside),
                outside: v6(outside),
                open,
            }),
        }
    }
}

fn v4(addr: IpAddr) -> Ipv4Addr {
    match addr {
        IpAddr::V4(addr) => addr,
        IpAddr::V6(_) => unreachable!("an IPv4 address was asked for"),
    }
}

fn v6(addr: IpAddr) -> Ipv6Addr {
    match addr {
        IpAddr::V6(addr) => addr,
        IpAddr::V4(_) => unreachable!("an IPv6 address was asked for"),
    }
}

/// An endpoint.
pub(crate) fn at(addr: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(addr, port)
}

pub(crate) const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}
