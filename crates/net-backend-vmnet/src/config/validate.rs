//! What can be known to be wrong without asking the system.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{VmnetConfig, VmnetMode};
use crate::ConfigError;

/// Smallest MTU accepted, in bytes: what IPv6 asks of every link (RFC 8200, section 5).
pub const MIN_MTU: u16 = 1280;

/// Longest name of an interface in bytes: `IFNAMSIZ` of macOS without the final zero.
const MAX_NAME: usize = 15;

impl VmnetConfig {
    /// Checks what can be known without asking the system.
    ///
    /// # Errors
    /// The first [`ConfigError`] found.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.check_mode()?;
        match self.mtu {
            Some(mtu) if mtu < MIN_MTU => return Err(ConfigError::Mtu(mtu)),
            _ => {}
        }
        match self.mac {
            Some(mac) if !mac.is_unicast() => return Err(ConfigError::Mac(mac)),
            _ => {}
        }
        self.check_addresses()?;
        self.check_offloads()?;
        match self.forwards.iter().find(|rule| !rule.is_sound()) {
            Some(rule) => Err(ConfigError::Forward(*rule)),
            None => Ok(()),
        }
    }

    /// Options that the mode does not have.
    fn check_mode(&self) -> Result<(), ConfigError> {
        if let VmnetMode::Bridged { interface } = &self.mode {
            check_interface_name(interface)?;
            if self.mtu.is_some() {
                return Err(ConfigError::BridgedMtu);
            }
        }
        let shared = self.mode == VmnetMode::Shared;
        let host_only = self.mode == VmnetMode::HostOnly;
        let network = self.mode == VmnetMode::Network;
        let range = self.dhcp.is_some() || self.mask.is_some();
        let misplaced = [
            (range && !shared && !host_only, "a DHCP range"),
            (self.mtu.is_some() && network, "an MTU"),
            (self.nat66_prefix.is_some() && !shared, "a NAT66 prefix"),
            (self.network_id.is_some() && !host_only, "a network id"),
            (!self.forwards.is_empty() && !shared, "a forwarding rule"),
            // `vmnet.h` allows four options there, and the virtio header by its own description.
            (self.interface_id.is_some() && network, "an interface id"),
        ];
        match misplaced.into_iter().find(|(is, _)| *is) {
            Some((_, option)) => Err(ConfigError::NotInMode {
                option,
                mode: self.mode.name(),
            }),
            None => Ok(()),
        }
    }

    fn check_addresses(&self) -> Result<(), ConfigError> {
        if let (Some(_), Some(_)) = (self.network_id, self.dhcp) {
            return Err(ConfigError::DhcpWithNetworkId);
        }
        match (self.dhcp, self.mask) {
            (None, None) => {}
            (Some((start, end)), Some(mask)) => check_range(start, end, mask)?,
            _ => return Err(ConfigError::RangeIncomplete),
        }
        if let Some(prefix) = self.nat66_prefix {
            let [first, .., fifth, sixth, seventh, eighth] = prefix.segments();
            if first >> 8 != 0xfd || [fifth, sixth, seventh, eighth] != [0; 4] {
                return Err(ConfigError::Nat66Prefix(prefix));
            }
        }
        let host = self.host_address.is_some() || self.host_ipv6.is_some();
        if host && self.network_id.is_none() {
            return Err(ConfigError::HostAddress);
        }
        if let Some((address, mask)) = self.host_address {
            prefix_of(mask)?;
            if address.is_unspecified() || address.is_multicast() || address.is_broadcast() {
                return Err(ConfigError::Address(address.into()));
            }
        }
        match self.host_ipv6 {
            Some(address) if !is_station(address) => Err(ConfigError::Address(address.into())),
            _ => Ok(()),
        }
    }

    fn check_offloads(&self) -> Result<(), ConfigError> {
        if self.virtio_header && self.checksum_offload {
            return Err(ConfigError::HeaderAndChecksum);
        }
        if self.tso && !self.virtio_header && !self.checksum_offload {
            return Err(ConfigError::TsoAlone);
        }
        Ok(())
    }
}

/// A name that an interface can have, and that survives the way into the framework.
pub(crate) fn check_interface_name(name: &str) -> Result<(), ConfigError> {
    let fits = (1..=MAX_NAME).contains(&name.len());
    if fits && name.bytes().all(|c| c.is_ascii_graphic() && c != b'/') {
        Ok(())
    } else {
        Err(ConfigError::InterfaceName(name.to_owned()))
    }
}

/// The length of the prefix that a mask stands for, with room for two hosts at least.
pub(crate) fn prefix_of(mask: Ipv4Addr) -> Result<u32, ConfigError> {
    let bits = mask.to_bits();
    let prefix = bits.leading_ones();
    if bits.count_ones() == prefix && (1..=30).contains(&prefix) {
        Ok(prefix)
    } else {
        Err(ConfigError::Mask(mask))
    }
}

fn check_range(start: Ipv4Addr, end: Ipv4Addr, mask: Ipv4Addr) -> Result<(), ConfigError> {
    prefix_of(mask)?;
    for address in [start, end] {
        if !address.is_private() {
            return Err(ConfigError::NotPrivate(address));
        }
        let host = address.to_bits() & !mask.to_bits();
        if host == 0 || host == !mask.to_bits() {
            return Err(ConfigError::Address(address.into()));
        }
    }
    let net = |address: Ipv4Addr| address.to_bits() & mask.to_bits();
    if start >= end || net(start) != net(end) {
        return Err(ConfigError::Range { start, end });
    }
    Ok(())
}

fn is_station(address: Ipv6Addr) -> bool {
    !address.is_unspecified() && !address.is_multicast() && !address.is_loopback()
}
