//! Counters, and the reasons for refusing a frame.

use crate::SnoopStatistics;

/// Why a frame goes nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(usize)]
#[non_exhaustive]
pub enum DropReason {
    /// It came from a port that does not exist.
    NoPort,
    /// The source is a group address or all zero.
    BadSource,
    /// The source belongs to another port, or is not the one its port is to use.
    Spoofed,
    /// The source was seen on another port a moment ago.
    MoveLimit,
    /// The IP or ARP source is not one of those its port is to use.
    IpSpoofed,
    /// The destination is on the port it came from.
    SamePort,
    /// The destination is reserved for the link itself (IEEE 802.1Q, table 8-1).
    LinkLocal,
    /// The sender or the receiver is isolated.
    Isolated,
    /// Too many broadcasts of this port.
    BroadcastLimit,
    /// Too many multicasts of this port.
    MulticastLimit,
    /// Too many frames of this port to unknown addresses.
    UnknownLimit,
    /// It has the tag of a VLAN and came from a port that is in one.
    Tagged,
    /// It came from the mirror port.
    Mirror,
}

impl DropReason {
    /// Every reason, in order of declaration.
    pub const ALL: [Self; 13] = [
        Self::NoPort,
        Self::BadSource,
        Self::Spoofed,
        Self::MoveLimit,
        Self::IpSpoofed,
        Self::SamePort,
        Self::LinkLocal,
        Self::Isolated,
        Self::BroadcastLimit,
        Self::MulticastLimit,
        Self::UnknownLimit,
        Self::Tagged,
        Self::Mirror,
    ];
}

impl core::fmt::Display for DropReason {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::NoPort => "no-port",
            Self::BadSource => "bad-source",
            Self::Spoofed => "spoofed",
            Self::MoveLimit => "move-limit",
            Self::IpSpoofed => "ip-spoofed",
            Self::SamePort => "same-port",
            Self::LinkLocal => "link-local",
            Self::Isolated => "isolated",
            Self::BroadcastLimit => "broadcast-limit",
            Self::MulticastLimit => "multicast-limit",
            Self::UnknownLimit => "unknown-limit",
            Self::Tagged => "tagged",
            Self::Mirror => "mirror",
        })
    }
}

/// A count for each [`DropReason`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Drops([u64; DropReason::ALL.len()]);

impl Drops {
    /// Frames dropped for this reason.
    pub fn of(&self, reason: DropReason) -> u64 {
        self.0.get(reason as usize).copied().unwrap_or(0)
    }

    /// Frames dropped for any reason.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Every reason with its count.
    pub fn iter(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        DropReason::ALL
            .into_iter()
            .map(|reason| (reason, self.of(reason)))
    }

    pub(crate) fn add(&mut self, reason: DropReason, frames: u64) {
        if let Some(count) = self.0.get_mut(reason as usize) {
            *count += frames;
        }
    }
}

/// Counters of a switch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Statistics {
    /// Frames for one port.
    pub unicast: u64,
    /// Frames for every port, each counted once.
    pub flooded: u64,
    /// Frames dropped.
    pub drops: Drops,
    /// Addresses learned, those that moved among them.
    pub learned: u64,
    /// Addresses that went from one port to another.
    pub moved: u64,
    /// Addresses forgotten after a long silence.
    pub aged: u64,
    /// Addresses that a port forgot because it learned more than it has room for.
    pub evicted: u64,
    /// IGMP and MLD snooping; all zero without it.
    pub snoop: SnoopStatistics,
}

/// Counters of the frames that came from one port.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PortStatistics {
    /// Frames for one port.
    pub unicast: u64,
    /// Frames for every port, each counted once.
    pub flooded: u64,
    /// Frames dropped.
    pub drops: Drops,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_count() {
        for (number, reason) in DropReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, number);
            let mut drops = Drops::default();
            drops.add(reason, 3);
            assert_eq!((drops.of(reason), drops.total()), (3, 3));
            assert!(drops.iter().all(|(r, n)| n == 3 * u64::from(r == reason)));
        }
    }
}
