//! Networks that are made before their interfaces (macOS 26).
//!
//! On older systems an interface is its own network: the mode and the address range in its
//! configuration decide which others it meets. From macOS 26 on a network is an object with an
//! address range, forwarding rules and reservations of its own, which interfaces join.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use net_wire::MacAddr;

use crate::config::{check_interface_name, prefix_of};
use crate::forwarding::RawRule;
use crate::framework::{Feature, Framework, MODE_HOST, MODE_SHARED, Network};
use crate::{ConfigError, ForwardRule, MIN_MTU, VmnetError, platform};

/// One setting of a network, in the order in which they are made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    ExternalInterface(String),
    Ipv4Subnet(Ipv4Addr, Ipv4Addr),
    Ipv6Prefix(Ipv6Addr, u8),
    Mtu(u32),
    DisableNat44,
    DisableNat66,
    DisableDhcp,
    DisableDnsProxy,
    DisableRouterAdvertisement,
    DhcpReservation(MacAddr, Ipv4Addr),
    Forward(RawRule),
}

/// A network to ask for. What is not set is as macOS has it: NAT, DHCP, DNS and router
/// advertisements on, a /24 of 192.168.0.0/16, a random IPv6 prefix, an MTU of 1,500 bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VmnetNetworkConfig {
    mode: u32,
    steps: Vec<Step>,
}

impl VmnetNetworkConfig {
    const fn new(mode: u32) -> Self {
        Self {
            mode,
            steps: Vec::new(),
        }
    }

    /// A network behind the NAT of macOS.
    pub const fn shared() -> Self {
        Self::new(MODE_SHARED)
    }

    /// A network of guests and the host.
    pub const fn host_only() -> Self {
        Self::new(MODE_HOST)
    }

    fn step(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// The interface of the host through which a shared network reaches the world; the one with the
    /// default route if not set.
    #[must_use]
    pub fn with_external_interface(self, name: impl Into<String>) -> Self {
        self.step(Step::ExternalInterface(name.into()))
    }

    /// The subnet: its first host's address, which becomes the gateway's, and its mask.
    #[must_use]
    pub fn with_subnet(self, address: Ipv4Addr, mask: Ipv4Addr) -> Self {
        self.step(Step::Ipv4Subnet(address, mask))
    }

    /// The IPv6 prefix and its length in bits.
    #[must_use]
    pub fn with_ipv6_prefix(self, prefix: Ipv6Addr, length: u8) -> Self {
        self.step(Step::Ipv6Prefix(prefix, length))
    }

    /// The MTU, in bytes of an IP packet.
    #[must_use]
    pub fn with_mtu(self, mtu: u16) -> Self {
        self.step(Step::Mtu(mtu.into()))
    }

    /// No NAT for IPv4.
    #[must_use]
    pub fn without_nat44(self) -> Self {
        self.step(Step::DisableNat44)
    }

    /// No NAT for IPv6.
    #[must_use]
    pub fn without_nat66(self) -> Self {
        self.step(Step::DisableNat66)
    }

    /// No DHCP server.
    #[must_use]
    pub fn without_dhcp(self) -> Self {
        self.step(Step::DisableDhcp)
    }

    /// No DNS forwarder.
    #[must_use]
    pub fn without_dns_proxy(self) -> Self {
        self.step(Step::DisableDnsProxy)
    }

    /// No router advertisements.
    #[must_use]
    pub fn without_router_advertisement(self) -> Self {
        self.step(Step::DisableRouterAdvertisement)
    }

    /// DHCP gives this address to the guest with this hardware address.
    #[must_use]
    pub fn with_dhcp_reservation(self, mac: MacAddr, address: Ipv4Addr) -> Self {
        self.step(Step::DhcpReservation(mac, address))
    }

    /// A port of the host that leads to a guest. Interfaces on a network have no rules of their
    /// own.
    #[must_use]
    pub fn with_forward(self, rule: ForwardRule) -> Self {
        self.step(Step::Forward(rule.raw()))
    }

    /// Checks what can be known without asking the system.
    ///
    /// # Errors
    /// The first [`ConfigError`] found.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.steps.iter().try_for_each(|step| match step {
            Step::ExternalInterface(_) if self.mode != MODE_SHARED => Err(ConfigError::NotInMode {
                option: "an external interface",
                mode: "host-only",
            }),
            Step::ExternalInterface(name) => check_interface_name(name),
            Step::Ipv4Subnet(address, _) if !address.is_private() => {
                Err(ConfigError::NotPrivate(*address))
            }
            Step::Ipv4Subnet(_, mask) => prefix_of(*mask).map(drop),
            Step::Ipv6Prefix(prefix, length) => {
                let host = u128::MAX.checked_shr((*length).into()).unwrap_or(0);
                if !(1..=127).contains(length) || prefix.to_bits() & host != 0 {
                    return Err(ConfigError::Ipv6Prefix(*prefix, *length));
                }
                Ok(())
            }
            Step::Mtu(mtu) if *mtu < MIN_MTU.into() => {
                Err(ConfigError::Mtu(u16::try_from(*mtu).unwrap_or(u16::MAX)))
            }
            Step::DhcpReservation(mac, _) if !mac.is_unicast() => Err(ConfigError::Mac(*mac)),
            Step::DhcpReservation(_, address) if !address.is_private() => {
                Err(ConfigError::NotPrivate(*address))
            }
            Step::Forward(raw) => match ForwardRule::from_raw(*raw) {
                Some(rule) if !rule.is_sound() => Err(ConfigError::Forward(rule)),
                _ => Ok(()),
            },
            _ => Ok(()),
        })
    }
}

/// A network of macOS 26, for [`Vmnet::on_network`](crate::Vmnet::on_network). It lives as long as
/// an interface is on it or a copy of this handle is held.
#[derive(Clone)]
pub struct VmnetNetwork {
    pub(crate) framework: Arc<dyn Framework>,
    pub(crate) network: Arc<dyn Network>,
}

impl VmnetNetwork {
    /// Makes a network. Needs root or the entitlement `com.apple.vm.networking`.
    ///
    /// # Errors
    /// [`VmnetError::Config`] if the configuration cannot hold, [`VmnetError::TooOld`] before macOS
    /// 26, [`VmnetError::Refused`] if the framework refuses it.
    pub fn new(config: &VmnetNetworkConfig) -> Result<Self, VmnetError> {
        Self::with_framework(platform::framework()?, config)
    }

    pub(crate) fn with_framework(
        framework: Arc<dyn Framework>,
        config: &VmnetNetworkConfig,
    ) -> Result<Self, VmnetError> {
        config.validate()?;
        platform::needs(&*framework, Feature::Networks)?;
        let made = framework.create_network(config.mode, &config.steps);
        let network = made.map_err(|code| {
            // An object that is NULL although nothing failed is a failure all the same.
            let status = crate::Status::check(code).err();
            VmnetError::Refused {
                what: "make a network",
                status: status.unwrap_or(crate::Status::Failure),
            }
        })?;
        Ok(Self {
            framework,
            network: network.into(),
        })
    }

    /// The IPv4 subnet and its mask.
    pub fn ipv4_subnet(&self) -> (Ipv4Addr, Ipv4Addr) {
        self.network.ipv4_subnet()
    }

    /// The IPv6 prefix and its length in bits.
    pub fn ipv6_prefix(&self) -> (Ipv6Addr, u8) {
        self.network.ipv6_prefix()
    }

    /// The gateway's address: the first of the subnet.
    pub fn gateway(&self) -> IpAddr {
        let (subnet, mask) = self.ipv4_subnet();
        Ipv4Addr::from_bits((subnet.to_bits() & mask.to_bits()) | 1).into()
    }
}

impl fmt::Debug for VmnetNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (subnet, mask) = self.ipv4_subnet();
        write!(f, "VmnetNetwork({subnet} mask {mask})")
    }
}
