//! What a network is to be in the kernel, worked out and checked before anything is made.

use std::net::IpAddr;

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use net_backend_linux::nftables::{Isolation, Reach, Table};
use net_wire::MacAddr;

use super::names;
use super::system::System;
use crate::addresses::overlap;
use crate::config::{NetworkConfig, NetworkMode};
use crate::error::ManagerError;
use crate::ipv6::MIN_MTU;

/// The most queues of a TAP device.
const MAX_QUEUES: u16 = 256;

/// A network in the kernel.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) network: String,
    pub(super) mode: NetworkMode,
    /// The bridge, and whether it is ours to make.
    pub(super) bridge: String,
    pub(super) owns_bridge: bool,
    pub(super) bridge_mac: MacAddr,
    pub(super) gateway_mac: MacAddr,
    /// The address of the bridge, where the host is the router.
    pub(super) address: Option<Ipv4Network>,
    /// Those of IPv6, where the host is its router.
    pub(super) six: Option<Six>,
    /// Why there are none, where the host is the router of IPv4 alone.
    pub(super) no_ipv6: Option<String>,
    /// The port behind which the network's own process stands.
    pub(super) service: String,
    pub(super) mtu: u16,
    pub(super) queues: u16,
    pub(super) isolated: bool,
    pub(super) take_over: Option<String>,
}

/// The bridge's addresses of IPv6.
#[derive(Debug, Clone, Copy)]
pub(super) struct Six {
    /// The first of the network, with its prefix.
    pub(super) address: Ipv6Network,
    /// The one that guests know the router by.
    pub(super) link_local: Ipv6Network,
}

impl Six {
    fn new(config: &NetworkConfig) -> Result<Option<Self>, ManagerError> {
        let Some(prefix) = config.prefix6() else {
            return Ok(None);
        };
        // The checks of the gateway that will serve it, before anything is made.
        let checked = net_gateway::Ipv6Config::new(prefix)?;
        if config.mtu < MIN_MTU {
            return Err(net_gateway::ConfigError::Mtu6(config.mtu).into());
        }
        let mac = bridge_mac(config.subnet);
        let address = |ip, prefix| {
            Ipv6Network::new(ip, prefix).map_err(|err| ManagerError::Invalid(err.to_string()))
        };
        Ok(Some(Self {
            address: address(checked.ip, checked.prefix.prefix())?,
            link_local: address(net_gateway::link_local(mac), 64)?,
        }))
    }

    pub(super) fn prefix(&self) -> Option<Ipv6Network> {
        Ipv6Network::new(self.address.network(), self.address.prefix()).ok()
    }
}

impl Plan {
    pub(super) fn new(config: &NetworkConfig) -> Result<Self, ManagerError> {
        let gateway = net_gateway::Config::new(config.subnet)?;
        names::check_network(&config.name)?;
        let refuse = |why: &str| Err(ManagerError::Invalid(why.to_owned()));
        let bridged = config.mode == NetworkMode::Bridge;
        if !(1..=MAX_QUEUES).contains(&config.queues) {
            return refuse("a TAP device has 1 to 256 queues");
        }
        if config.bridge.is_some() && !bridged {
            return refuse("only a network in bridge mode joins a bridge of the host");
        }
        if config.take_over.is_some() && !bridged {
            return refuse("only a network in bridge mode takes an interface over");
        }
        for name in config.bridge.iter().chain(&config.take_over) {
            names::check_interface(name)?;
        }
        let router = gateway.ip;
        if !bridged && router.to_bits() + 1 >= config.subnet.broadcast().to_bits() {
            return Err(net_gateway::ConfigError::SubnetTooSmall(config.subnet).into());
        }
        let address = Ipv4Network::new(router, config.subnet.prefix())
            .map_err(|_| net_gateway::ConfigError::SubnetTooSmall(config.subnet))?;
        let gateway_mac = config.mac.map_or(gateway.mac, MacAddr);
        Ok(Self {
            network: config.name.clone(),
            mode: config.mode,
            owns_bridge: config.bridge.is_none(),
            bridge: match &config.bridge {
                Some(name) => name.clone(),
                None => names::bridge(&config.name),
            },
            bridge_mac: bridge_mac(config.subnet),
            gateway_mac,
            address: (!bridged).then_some(address),
            six: Six::new(config)?,
            no_ipv6: config.no_ipv6().map(str::to_owned),
            service: names::service(&config.name),
            mtu: config.mtu,
            queues: config.queues,
            isolated: config.isolated,
            take_over: config.take_over.clone(),
        })
    }

    /// The same, without IPv6 where this host cannot be its router.
    pub(super) fn on(mut self, system: &dyn System) -> Result<Self, ManagerError> {
        if self.six.is_some()
            && let Some(why) = system.no_ipv6()?
        {
            log::info!("network {} has no IPv6: {why}", self.network);
            (self.six, self.no_ipv6) = (None, Some(why));
        }
        Ok(self)
    }

    /// Refuses what the state of the host forbids: a name that is taken, a bridge that is none, a
    /// network that the host is in already.
    pub(super) fn check(&self, system: &dyn System) -> Result<(), ManagerError> {
        match system.find(&self.bridge)? {
            Some(_) if self.owns_bridge => {
                return Err(ManagerError::Invalid(format!(
                    "there is an interface {} already, which network {} did not make",
                    self.bridge, self.network
                )));
            }
            Some(seen) if seen.kind.as_deref() == Some("bridge") => {}
            None if self.owns_bridge => {}
            _ => {
                return Err(ManagerError::Invalid(format!(
                    "{} is no bridge of this host",
                    self.bridge
                )));
            }
        }
        let Some(address) = self.address else {
            return Ok(());
        };
        for interface in system.interfaces()? {
            for there in system.addresses(&interface.name)? {
                let taken = match (there.network, self.six) {
                    (IpNetwork::V4(there), _) if overlap(there, address) => {
                        (address.network().into(), address.prefix())
                    }
                    (IpNetwork::V6(there), Some(Six { address, .. }))
                        if overlap6(there, address) =>
                    {
                        (address.network().into(), address.prefix())
                    }
                    _ => continue,
                };
                return Err(ManagerError::SubnetTaken {
                    subnet: taken.0,
                    prefix: taken.1,
                    by: format!("{} of the interface {}", there.network, interface.name),
                });
            }
        }
        Ok(())
    }

    /// Whether a published port may lead to an address: to one of the network that is not the host's
    /// own, nor nobody's.
    pub(super) fn is_for_a_guest(&self, ip: IpAddr) -> bool {
        match ip {
            IpAddr::V4(ip) => self.address.is_some_and(|host| {
                let nobodys = [host.ip(), host.network(), host.broadcast()];
                host.contains(ip) && !nobodys.contains(&ip)
            }),
            IpAddr::V6(ip) => self.six.is_some_and(|Six { address: host, .. }| {
                host.contains(ip) && ![host.ip(), host.network()].contains(&ip)
            }),
        }
    }

    /// The rules, without the ports that are published; none for a network that needs none. `guests`
    /// are the ports with a guest each.
    pub(super) fn rules(&self, guests: Vec<String>) -> Option<Table> {
        // In bridge mode the ports of the guests are isolated, and the way out is not: no rule
        // could tell that from a guest.
        self.address.map(|address| Table {
            network: self.network.clone(),
            bridge: self.bridge.clone(),
            reach: match self.mode {
                NetworkMode::Nat => Reach::Nat,
                NetworkMode::HostOnly => Reach::HostOnly,
                NetworkMode::Bridge => Reach::Bridged,
            },
            subnet4: Ipv4Network::new(address.network(), address.prefix()).ok(),
            subnet6: self.six.and_then(|six| six.prefix()),
            isolation: self.isolated.then(|| Isolation {
                ports: guests,
                gateway: Some((self.service.clone(), self.gateway_mac)),
                router: Some(self.bridge_mac),
            }),
            ..Table::default()
        })
    }
}

/// Whether two networks have an address in common.
fn overlap6(one: Ipv6Network, other: Ipv6Network) -> bool {
    one.contains(other.network()) || other.contains(one.network())
}

/// The hardware address of a bridge of our own: the same for the same network, as the gateway's is,
/// so that what guests remember of either outlives a restart.
fn bridge_mac(subnet: Ipv4Network) -> MacAddr {
    let [a, b, c, d] = subnet.network().octets();
    MacAddr([0x02, 0xad, a, b, c, d])
}

/// The hardware address of the host on the network, where it is the router.
pub(crate) fn router_mac(config: &NetworkConfig) -> Option<MacAddr> {
    (config.mode != NetworkMode::Bridge).then(|| bridge_mac(config.subnet))
}
