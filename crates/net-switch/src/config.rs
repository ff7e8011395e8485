//! What a switch and its ports are told.

use core::time::Duration;

use net_wire::MacAddr;

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
    /// Broadcast and multicast frames of one port per second, with bursts of the same number.
    pub broadcasts: u32,
    /// Frames of one port to unknown addresses per second, with bursts of the same number.
    pub unknown_unicasts: u32,
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
            broadcasts: 1000,
            unknown_unicasts: 1000,
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
}
