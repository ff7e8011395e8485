//! What a device is, before it has queues.

use net_backend::Offloads;
use net_wire::MacAddr;

/// The most pairs of queues a device has.
pub const MAX_PAIRS: u16 = 128;
/// What a device is.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct DeviceConfig {
    /// The hardware address it tells its driver.
    pub mac: Option<MacAddr>,
    /// Largest IP packet, in bytes: 68 to 65,535.
    pub mtu: u16,
    /// Pairs of queues, 1 to [`MAX_PAIRS`].
    pub pairs: u16,
    /// The most it offers; "receive" is what comes out of the guest.
    pub offloads: Offloads,
    /// Whether packed rings are offered.
    pub packed: bool,
}

impl Default for DeviceConfig {
    /// One pair, an MTU of 1,500 bytes, every offload, packed rings.
    fn default() -> Self {
        Self {
            mac: None,
            mtu: 1500,
            pairs: 1,
            offloads: Offloads::ALL,
            packed: true,
        }
    }
}

impl DeviceConfig {
    /// The same with a hardware address.
    #[must_use]
    pub fn with_mac(mut self, mac: MacAddr) -> Self {
        self.mac = Some(mac);
        self
    }

    /// The same with so many pairs of queues.
    #[must_use]
    pub fn with_pairs(mut self, pairs: u16) -> Self {
        self.pairs = pairs.clamp(1, MAX_PAIRS);
        self
    }

    /// The same with another MTU.
    #[must_use]
    pub fn with_mtu(mut self, mtu: u16) -> Self {
        self.mtu = mtu.max(68);
        self
    }

    /// The same with other offloads.
    #[must_use]
    pub fn with_offloads(mut self, offloads: Offloads) -> Self {
        self.offloads = offloads;
        self
    }
}
