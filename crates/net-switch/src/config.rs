//! What a switch and its ports are told.

use core::time::Duration;

use net_wire::MacAddr;

use crate::{MulticastRouter, SnoopConfig, StormLimits, VlanId};

/// The settings of a [`crate::Switch`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Config {
    /// Secret of the address table's hash: addresses are the guests' to choose.
    pub seed: [u8; 16],
    /// Learned addresses over all ports, beyond the first of each: that one always has room. A
    /// port that learns another when the table is full forgets its own oldest.
    pub addresses: usize,
    /// Learned addresses of one port, at least 1; above that likewise.
    pub addresses_per_port: usize,
    /// How long an address is remembered after its last frame. IEEE 802.1Q, table 8-7, recommends
    /// 300 seconds.
    pub ageing: Duration,
    /// An address that moved to another port stays there at least this long.
    pub move_interval: Duration,
    /// What one port may have flooded, unless its own settings say otherwise.
    pub storm: StormLimits,
    /// IGMP and MLD snooping; without it all multicast is flooded.
    pub snooping: Option<SnoopConfig>,
}

impl Config {
    /// The defaults; `seed` comes from the operating system's random source.
    pub fn new(seed: [u8; 16]) -> Self {
        Self {
            seed,
            addresses: 16_384,
            addresses_per_port: 256,
            ageing: Duration::from_secs(300),
            move_interval: Duration::from_secs(1),
            storm: StormLimits::default(),
            snooping: None,
        }
    }
}

/// What a port may do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PortConfig {
    /// The only hardware address its guest may send from; any when absent.
    pub allowed_mac: Option<MacAddr>,
    /// Reaches uplinks and ports with a static address (the gateway) and nobody else.
    pub isolated: bool,
    /// Leads out of the network: isolated ports reach it, and its floods are not limited. A port
    /// with a static address counts as one.
    pub uplink: bool,
    /// The access VLAN: the port is joined to ports of the same VLAN, and to those with a static
    /// address and no VLAN. Ports without a VLAN are joined to one another.
    pub vlan: Option<VlanId>,
    /// What it may have flooded; as [`Config::storm`] says when absent.
    pub storm: Option<StormLimits>,
    /// Whether there is a multicast router behind it.
    pub multicast_router: MulticastRouter,
    /// Whether the mirror port ([`crate::Switch::set_mirror`]) gets what it sends and is sent.
    pub mirrored: bool,
}

impl PortConfig {
    /// A port whose guest may send from `mac` only.
    pub fn with_mac(mac: MacAddr) -> Self {
        Self {
            allowed_mac: Some(mac),
            ..Self::default()
        }
    }

    /// The same, isolated or not.
    #[must_use]
    pub fn isolated(mut self, isolated: bool) -> Self {
        self.isolated = isolated;
        self
    }

    /// The same, an uplink or not.
    #[must_use]
    pub fn uplink(mut self, uplink: bool) -> Self {
        self.uplink = uplink;
        self
    }

    /// The same, in a VLAN or in none.
    #[must_use]
    pub fn vlan(mut self, vlan: Option<VlanId>) -> Self {
        self.vlan = vlan;
        self
    }

    /// The same with limits of its own.
    #[must_use]
    pub fn storm(mut self, limits: StormLimits) -> Self {
        self.storm = Some(limits);
        self
    }

    /// The same, with or without a multicast router.
    #[must_use]
    pub fn multicast_router(mut self, router: MulticastRouter) -> Self {
        self.multicast_router = router;
        self
    }

    /// The same, mirrored or not.
    #[must_use]
    pub fn mirrored(mut self, mirrored: bool) -> Self {
        self.mirrored = mirrored;
        self
    }
}
