//! What a gateway is told at its birth.

use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use core::time::Duration;

use ipnetwork::{Ipv4Network, Ipv6Network};
use net_dhcp::ra::{self, RaConfig};
use net_wire::MacAddr;

/// The settings of a [`crate::Gateway`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Config {
    /// The network; its first host address is the gateway's unless [`Config::ip`] says otherwise.
    pub subnet: Ipv4Network,
    /// The gateway's address.
    pub ip: Ipv4Addr,
    /// The gateway's hardware address.
    pub mac: MacAddr,
    /// Largest IP packet of the network, in bytes: 576 to 65,520; told to guests by DHCP.
    pub mtu: u16,
    /// Domain under which guests and the gateway have names.
    pub domain: String,
    /// Resolvers that questions go to.
    pub upstreams: Vec<SocketAddr>,
    /// Name servers that DHCP announces in place of the gateway itself.
    pub dns_servers: Vec<Ipv4Addr>,
    /// Whether DHCP announces a router: false on a network with no way out.
    pub routed: bool,
    /// The router, where that is not the gateway itself but somebody behind a trunk
    /// ([`crate::Gateway::trunk_opened`]). No guest is given its address, nor may speak from it.
    pub router: Option<Ipv4Addr>,
    /// Addresses one port may speak from, of each family.
    pub addresses_per_port: usize,
    /// IPv6, where the network has it.
    pub ipv6: Option<Ipv6Config>,
}

/// What makes a network speak IPv6.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ipv6Config {
    /// The prefix in which guests form their addresses: 64 bits.
    pub prefix: Ipv6Network,
    /// The gateway's address in it; it has a link-local one as well, made from its hardware address.
    pub ip: Ipv6Addr,
    /// Name servers to advertise in place of the gateway itself.
    pub dns_servers: Vec<Ipv6Addr>,
    /// Whether guests are told to send through the gateway what leaves the network. Without a way
    /// out for IPv6 they should not: they would try it before IPv4 and wait in vain.
    pub router: bool,
    /// The router, where that is not the gateway itself but somebody behind a trunk
    /// ([`crate::Gateway::trunk_opened`]). The gateway advertises nothing then; the router does, with
    /// what [`Config::advertisement`] says. No guest may speak from its addresses.
    pub behind_trunk: Option<Router6>,
}

/// A router of IPv6 that is not the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Router6 {
    /// Its address in the network's prefix.
    pub ip: Ipv6Addr,
    /// Its hardware address, of which its link-local one is made (RFC 4291, appendix A).
    pub mac: MacAddr,
}

impl Router6 {
    /// Its link-local address.
    pub fn link_local(&self) -> Ipv6Addr {
        crate::link_local(self.mac)
    }
}

impl Ipv6Config {
    /// The gateway at the first address of `prefix`, a default router.
    ///
    /// # Errors
    /// [`ConfigError::Prefix6`] unless `prefix` has 64 bits, which autoconfiguration needs
    /// (RFC 4862, RFC 7421), and is of global or unique local addresses (2000::/3, fc00::/7).
    pub fn new(prefix: Ipv6Network) -> Result<Self, ConfigError> {
        let network = prefix.network();
        let first = network.octets()[0];
        let global = first & 0xe0 == 0x20 || first & 0xfe == 0xfc;
        let prefix = Ipv6Network::new(network, prefix.prefix())
            .ok()
            .filter(|prefix| prefix.prefix() == 64 && global)
            .ok_or(ConfigError::Prefix6(prefix))?;
        Ok(Self {
            prefix,
            ip: Ipv6Addr::from_bits(network.to_bits() | 1),
            dns_servers: Vec::new(),
            router: true,
            behind_trunk: None,
        })
    }
}

/// Why a configuration was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// The subnet has no room for a gateway and a guest.
    SubnetTooSmall(Ipv4Network),
    /// The subnet is one no host can be in: loopback, multicast, link-local or unspecified.
    SubnetReserved(Ipv4Network),
    /// The gateway's address is not a host address of the subnet.
    AddressOutside(Ipv4Addr, Ipv4Network),
    /// The MTU is below 576, what every IPv4 host must accept (RFC 791), or above 65,520.
    Mtu(u16),
    /// The IPv6 prefix is not one of 64 bits of addresses that hosts can have.
    Prefix6(Ipv6Network),
    /// The gateway's IPv6 address is not in the prefix, or is the prefix's anycast address.
    Address6Outside(Ipv6Addr, Ipv6Network),
    /// The MTU is below 1280, what every IPv6 link must carry (RFC 8200, section 5).
    Mtu6(u16),
    /// The domain is not a host name.
    Domain(String),
    /// The advertisement of IPv6 would be wrong or too long.
    Advertisement(String),
    /// The DHCP engine refused its part.
    Dhcp(String),
}

impl core::fmt::Display for ConfigError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::SubnetTooSmall(net) => {
                write!(
                    f,
                    "subnet {net} is too small: a gateway and a guest need at least a /30"
                )
            }
            Self::SubnetReserved(net) => write!(f, "subnet {net} is reserved; hosts cannot use it"),
            Self::AddressOutside(ip, net) => write!(f, "gateway {ip} is not a host of {net}"),
            Self::Mtu(mtu) => write!(f, "MTU {mtu} is not between 576 and 65520"),
            Self::Prefix6(net) => {
                write!(f, "IPv6 prefix {net} is not a /64 of 2000::/3 or fc00::/7")
            }
            Self::Address6Outside(ip, net) => write!(f, "gateway {ip} is not a host of {net}"),
            Self::Mtu6(mtu) => write!(f, "MTU {mtu} is below 1280, the least of IPv6"),
            Self::Domain(name) => write!(f, "domain `{name}` is not a host name"),
            Self::Advertisement(why) => write!(f, "router advertisement: {why}"),
            Self::Dhcp(why) => write!(f, "DHCP: {why}"),
        }
    }
}

impl core::error::Error for ConfigError {}

impl Config {
    /// Defaults for `subnet`: its first host address, MTU 1500, domain `internal`.
    ///
    /// # Errors
    /// [`ConfigError::SubnetTooSmall`] below a /30, [`ConfigError::SubnetReserved`].
    pub fn new(subnet: Ipv4Network) -> Result<Self, ConfigError> {
        let subnet = Ipv4Network::new(subnet.network(), subnet.prefix())
            .map_err(|_| ConfigError::SubnetTooSmall(subnet))?;
        if subnet.prefix() > 30 {
            return Err(ConfigError::SubnetTooSmall(subnet));
        }
        let first = subnet.network();
        let reserved = first.is_loopback()
            || first.is_multicast()
            || first.is_link_local()
            || first.octets()[0] == 0
            || first.octets()[0] >= 240
            || subnet.prefix() < 8;
        if reserved {
            return Err(ConfigError::SubnetReserved(subnet));
        }
        let ip = Ipv4Addr::from_bits(first.to_bits() + 1);
        let [a, b, c, d] = ip.octets();
        Ok(Self {
            subnet,
            ip,
            // Locally administered, and the same for the same network: a guest's ARP entry
            // outlives a restart.
            mac: MacAddr([0x02, 0xab, a, b, c, d]),
            mtu: 1500,
            domain: "internal".to_owned(),
            upstreams: Vec::new(),
            dns_servers: Vec::new(),
            routed: true,
            router: None,
            addresses_per_port: 16,
            ipv6: None,
        })
    }

    /// What the network's router of IPv6 advertises, be it the gateway or somebody behind a trunk:
    /// the prefix, the MTU, and the gateway as the name server. `None` without IPv6.
    pub fn advertisement(&self) -> Option<RaConfig> {
        let six = self.ipv6.as_ref()?;
        let prefix = ra::Prefix::new(six.prefix.network(), six.prefix.prefix());
        let mut config = RaConfig::new(prefix);
        let mac = six.behind_trunk.map_or(self.mac, |router| router.mac);
        config.link_address = Some(mac.0);
        config.mtu = Some(self.mtu.into());
        config.dnssl = vec![self.domain.clone()];
        config.rdnss = match (six.dns_servers.is_empty(), self.dns_servers.is_empty()) {
            (false, _) => six.dns_servers.clone(),
            (true, true) => vec![six.ip],
            // The user named servers, none of which IPv6 reaches.
            (true, false) => Vec::new(),
        };
        if !six.router {
            config.router_lifetime = Duration::ZERO;
        }
        Some(config)
    }

    /// Checks what can be set after [`Config::new`].
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        let host = self.subnet.contains(self.ip)
            && self.ip != self.subnet.network()
            && self.ip != self.subnet.broadcast();
        if !host {
            return Err(ConfigError::AddressOutside(self.ip, self.subnet));
        }
        if let Some(router) = self.router
            && (!self.subnet.contains(router) || router == self.ip)
        {
            return Err(ConfigError::AddressOutside(router, self.subnet));
        }
        if !(576..=65_520).contains(&self.mtu) {
            return Err(ConfigError::Mtu(self.mtu));
        }
        if let Some(six) = &self.ipv6 {
            let host = six.prefix.contains(six.ip) && six.ip != six.prefix.network();
            if !host {
                return Err(ConfigError::Address6Outside(six.ip, six.prefix));
            }
            if let Some(router) = six.behind_trunk
                && (!six.prefix.contains(router.ip) || router.ip == six.ip)
            {
                return Err(ConfigError::Address6Outside(router.ip, six.prefix));
            }
            if self.mtu < 1280 {
                return Err(ConfigError::Mtu6(self.mtu));
            }
        }
        if !crate::names::is_domain(&self.domain) {
            return Err(ConfigError::Domain(self.domain.clone()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subnets_that_cannot_work_are_refused() {
        for (net, ok) in [
            ("10.0.2.0/24", true),
            ("10.0.2.77/24", true),
            ("192.168.1.0/30", true),
            ("192.168.1.0/31", false),
            ("192.168.1.1/32", false),
            ("127.0.0.0/8", false),
            ("224.0.0.0/24", false),
            ("0.0.0.0/0", false),
            ("169.254.0.0/16", false),
        ] {
            assert_eq!(Config::new(net.parse().unwrap()).is_ok(), ok, "{net}");
        }
        let mut config = Config::new("10.0.2.77/24".parse().unwrap()).unwrap();
        assert_eq!(config.ip, Ipv4Addr::new(10, 0, 2, 1));
        config.validate().unwrap();
        config.ip = Ipv4Addr::new(10, 0, 3, 1);
        assert!(config.validate().is_err());
    }

    #[test]
    fn prefixes_in_which_no_guest_can_form_an_address_are_refused() {
        for (net, ok) in [
            ("fd00::/64", true),
            ("fd12:3456:789a:1:2:3:4:5/64", true),
            ("2001:db8::/64", true),
            ("fd00::/63", false),
            ("fd00::/65", false),
            ("fe80::/64", false),
            ("ff02::/64", false),
            ("::/64", false),
            ("::ffff:0:0/64", false),
            ("4000::/64", false),
        ] {
            assert_eq!(Ipv6Config::new(net.parse().unwrap()).is_ok(), ok, "{net}");
        }
        let mut config = Config::new("10.0.2.0/24".parse().unwrap()).unwrap();
        config.ipv6 = Ipv6Config::new("fd00::77/64".parse().unwrap()).ok();
        assert_eq!(
            config.ipv6.as_ref().unwrap().ip,
            "fd00::1".parse::<Ipv6Addr>().unwrap()
        );
        config.validate().unwrap();
        config.mtu = 1279;
        assert_eq!(config.validate(), Err(ConfigError::Mtu6(1279)));
        config.mtu = 1280;
        config.ipv6.as_mut().unwrap().ip = "fd00::".parse().unwrap();
        assert!(config.validate().is_err());
    }
}
