//! A port, and whom it reaches.

use core::net::IpAddr;

use net_wire::MacAddr;

use crate::storm::Storm;
use crate::vlan::Domain;
use crate::{PortConfig, PortId, PortStatistics, StormLimits};

/// A port and what it has left to spend.
#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) id: PortId,
    pub(crate) config: PortConfig,
    /// Addresses tied to it by [`crate::Switch::add_static`].
    pub(crate) statics: Vec<MacAddr>,
    /// IP addresses it is bound to.
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) storm: Storm,
    pub(crate) statistics: PortStatistics,
}

impl Port {
    pub(crate) fn new(id: PortId, config: PortConfig, storm: &StormLimits) -> Self {
        Self {
            id,
            config,
            statics: Vec::new(),
            addresses: Vec::new(),
            storm: Storm::new(storm),
            statistics: PortStatistics::default(),
        }
    }

    /// Gives it other limits, with full buckets.
    pub(crate) fn limit(&mut self, storm: &StormLimits) {
        self.storm = Storm::new(storm);
    }

    /// Whether isolated ports reach it and its floods are free.
    pub(crate) fn is_uplink(&self) -> bool {
        self.config.uplink || !self.statics.is_empty()
    }

    /// Where it learns and floods.
    pub(crate) fn domain(&self) -> Domain {
        Domain::of(self.config.vlan)
    }

    /// Whether it is joined to the ports of every VLAN.
    pub(crate) fn serves_all(&self) -> bool {
        self.config.vlan.is_none() && !self.statics.is_empty()
    }

    /// Whether frames may pass between two ports, in either direction.
    #[inline]
    pub(crate) fn reaches(&self, other: &Self) -> bool {
        let apart = self.config.isolated || other.config.isolated;
        let joined =
            self.config.vlan == other.config.vlan || self.serves_all() || other.serves_all();
        joined && (!apart || self.is_uplink() || other.is_uplink())
    }

    /// Whether it is bound to addresses of the family of `ip`, and `ip` is none of them.
    pub(crate) fn forbids(&self, ip: IpAddr) -> bool {
        let free = match ip {
            // DHCP, ARP probes and duplicate address detection have no address yet; a link-local
            // one is made by the guest itself (RFC 4862, section 5.3).
            IpAddr::V4(ip) => ip.is_unspecified(),
            IpAddr::V6(ip) => ip.is_unspecified() || ip.is_unicast_link_local(),
        };
        let mut family = self
            .addresses
            .iter()
            .filter(|allowed| allowed.is_ipv4() == ip.is_ipv4())
            .peekable();
        !free && family.peek().is_some() && !family.any(|allowed| *allowed == ip)
    }
}
