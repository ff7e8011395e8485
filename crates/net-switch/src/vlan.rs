//! VLANs by port (IEEE 802.1Q): which ports are joined at all.
//!
//! Every port is in one *domain*: that of its access VLAN, or the one of all ports without a VLAN.
//! Addresses are learned, looked up and flooded within a domain, so that two guests of different
//! VLANs may have the same address. A port that has a static address and no VLAN (the gateway's)
//! serves every domain, and its addresses are nobody else's in any of them.
//!
//! Ports are access ports: what a guest sends is untagged, and frames never gain or lose a tag. A
//! frame with the tag of a VLAN (802.1Q, 9.6) is refused from a port that is in one; a priority tag
//! (VLAN id 0) says nothing about VLANs. Ports without a VLAN pass tagged frames to one another as
//! they are. There are no trunk ports.

use core::num::NonZeroU16;

/// The number of a VLAN, 1 to 4,094 (IEEE 802.1Q, table 9-2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VlanId(NonZeroU16);

impl VlanId {
    /// The VLAN of this number; `None` for 0, which is no VLAN, and from 4,095 on.
    pub const fn new(number: u16) -> Option<Self> {
        match NonZeroU16::new(number) {
            Some(id) if number < 0x0fff => Some(Self(id)),
            _ => None,
        }
    }

    /// The number.
    pub const fn get(self) -> u16 {
        self.0.get()
    }
}

impl core::fmt::Display for VlanId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0.fmt(f)
    }
}

/// Where a port learns and floods: a VLAN's number, or 0 for ports without one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Domain(u16);

impl Domain {
    /// Of the ports without a VLAN.
    pub(crate) const NONE: Self = Self(0);

    pub(crate) fn of(vlan: Option<VlanId>) -> Self {
        Self(vlan.map_or(0, VlanId::get))
    }

    /// The number.
    pub(crate) const fn number(self) -> u16 {
        self.0
    }
}

/// Whether a tag (priority, drop eligibility, VLAN id) names a VLAN.
#[inline]
pub(crate) const fn names_vlan(tag: u16) -> bool {
    tag & 0x0fff != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_are_vlans() {
        for (number, is) in [(0, false), (1, true), (4094, true), (4095, false)] {
            assert_eq!(VlanId::new(number).map(VlanId::get), is.then_some(number));
        }
        assert_eq!(VlanId::new(u16::MAX), None);
        assert!(!names_vlan(0xf000) && names_vlan(0x0001) && names_vlan(0xffff));
    }
}
