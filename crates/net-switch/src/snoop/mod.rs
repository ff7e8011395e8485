//! IGMP and MLD snooping (RFC 4541): a group's frames go to the ports that listen to it.
//!
//! | part | its job |
//! |---|---|
//! | `message` | what a packet says |
//! | `groups` | which port listens to what, and for how long |
//! | `routers` | where routers are, and whether everybody has been asked |
//!
//! Without a querier on the network nobody renews a membership. Then, and until a new querier's
//! first question has been answered, everything is flooded: snooping never takes away what a guest
//! listens to.

mod groups;
mod message;
mod routers;

use core::net::IpAddr;
use core::time::Duration;

use self::groups::{Groups, Key, Outcome};
use self::message::{Change, Seen};
use self::routers::Routers;
use crate::table::Slot;
use crate::vlan::Domain;

/// What happens to a group's frames while nobody is known to listen, but everybody was asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum UnknownGroups {
    /// They are flooded.
    #[default]
    Flood,
    /// They go to routers only (RFC 4541, section 2.1.2 (3)).
    RoutersOnly,
}

/// The settings of snooping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SnoopConfig {
    /// Groups of one port; a port that joins more is given every group's frames.
    pub groups_per_port: usize,
    /// Memberships of all ports together; who joins when there is no room, likewise.
    pub memberships: usize,
    /// How long a membership lasts without being renewed: the group membership interval of RFC 3376,
    /// section 8.4, 260 seconds with its defaults.
    pub membership: Duration,
    /// How long a membership lasts after a leave, for others on the same port to object: the last
    /// member query time of RFC 3376, section 8.10, 2 seconds with its defaults.
    pub after_leave: Duration,
    /// Groups that nobody listens to.
    pub unknown_groups: UnknownGroups,
}

impl Default for SnoopConfig {
    /// 64 groups a port, 4,096 memberships, the times of RFC 3376; unknown groups are flooded.
    fn default() -> Self {
        Self {
            groups_per_port: 64,
            memberships: 4096,
            membership: Duration::from_secs(260),
            after_leave: Duration::from_secs(2),
            unknown_groups: UnknownGroups::default(),
        }
    }
}

/// Whether there is a multicast router behind a port.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum MulticastRouter {
    /// There is while its queries are heard. An uplink and a port with a static address have one
    /// always.
    #[default]
    Learned,
    /// There is.
    Always,
    /// There is none: who asks there is not believed.
    Never,
}

/// Counters of snooping.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SnoopStatistics {
    /// Queries believed.
    pub queries: u64,
    /// Reports believed, leaves among them.
    pub reports: u64,
    /// Memberships that began.
    pub joins: u64,
    /// Memberships that were left.
    pub leaves: u64,
    /// Memberships there was no room for.
    pub overflows: u64,
    /// Messages that were not believed: broken, or queries of a port that has no router.
    pub refused: u64,
    /// Frames for groups that went to fewer ports than a flood would have.
    pub narrowed: u64,
}

/// Where a multicast frame goes, among the ports that a flood reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// To all.
    All,
    /// To routers of one family.
    Routers { ipv6: bool },
    /// To routers and to who listens.
    Group(IpAddr),
}

/// What a switch knows about groups.
#[derive(Debug)]
pub(crate) struct Snooper {
    config: SnoopConfig,
    groups: Groups,
    routers: Routers,
    pub(crate) statistics: SnoopStatistics,
}

impl Snooper {
    pub(crate) fn new(config: SnoopConfig, seed: &[u8; 16]) -> Self {
        Self {
            groups: Groups::new(seed, config.memberships, config.groups_per_port),
            routers: Routers::default(),
            statistics: SnoopStatistics::default(),
            config,
        }
    }

    /// Learns from an IP packet that came from a port, and says where it goes. The domains are that
    /// of the port, or all there are if it serves them all.
    pub(crate) fn see(
        &mut self,
        (slot, domains): (Slot, &[Domain]),
        router: MulticastRouter,
        packet: &[u8],
        now: Duration,
    ) -> Delivery {
        let ipv6 = packet.first().is_some_and(|byte| byte >> 4 == 6);
        match message::parse(packet) {
            Seen::Data(group) if is_essential(group) => Delivery::All,
            Seen::Data(group) => Delivery::Group(group),
            Seen::Query(query) => {
                if router == MulticastRouter::Never {
                    self.statistics.refused += 1;
                } else {
                    self.statistics.queries += 1;
                    let membership = self.config.membership;
                    self.routers.asked((slot, domains), query, membership, now);
                }
                Delivery::All
            }
            Seen::Report(reports) => {
                self.statistics.reports += 1;
                reports.for_each(|group, change| {
                    if is_essential(group) {
                        return;
                    }
                    for domain in domains {
                        let key = Key {
                            domain: *domain,
                            group,
                        };
                        self.change((slot, key), change, now);
                    }
                });
                Delivery::Routers { ipv6 }
            }
            Seen::Malformed => {
                self.statistics.refused += 1;
                Delivery::Routers { ipv6 }
            }
            Seen::Other => Delivery::All,
        }
    }

    fn change(&mut self, (slot, key): (Slot, Key), change: Change, now: Duration) {
        match change {
            Change::Join => {
                let until = now.saturating_add(self.config.membership);
                match self.groups.join(slot, key, until, now) {
                    Outcome::New => self.statistics.joins += 1,
                    Outcome::Renewed => {}
                    Outcome::Overflow => self.statistics.overflows += 1,
                }
            }
            Change::Leave => {
                self.statistics.leaves += 1;
                let until = now.saturating_add(self.config.after_leave);
                self.groups.leave(slot, key, until);
            }
        }
    }

    /// Whether a port in this domain, which a flood would reach and which has no router always, is
    /// to have a frame.
    pub(crate) fn delivers(
        &self,
        delivery: Delivery,
        (slot, domain): (Slot, Domain),
        now: Duration,
    ) -> bool {
        match delivery {
            Delivery::All => true,
            Delivery::Routers { ipv6 } => self.routers.is_router(slot, ipv6, now),
            Delivery::Group(group) => {
                let (key, ipv6) = (Key { domain, group }, group.is_ipv6());
                self.routers.is_router(slot, ipv6, now)
                    || !self.routers.is_complete(domain, ipv6, now)
                    || self.groups.wants(slot, key, now)
                    || self.config.unknown_groups == UnknownGroups::Flood
                        && !self.groups.is_known(key, now)
            }
        }
    }

    /// Memberships in the table.
    pub(crate) fn memberships(&self) -> usize {
        self.groups.len()
    }

    /// Forgets what was heard on a port.
    pub(crate) fn forget(&mut self, slot: Slot) {
        self.groups.forget(slot);
        self.routers.forget(slot);
    }

    /// Forgets the domains that no port is in any more.
    pub(crate) fn keep(&mut self, there: impl Fn(Domain) -> bool) {
        self.routers.keep(there);
    }
}

/// Groups that hosts listen to without saying so: 224.0.0.0/24 (RFC 4541, section 2.1.2 (2)), and of
/// IPv6 those of the interface and of the link, ff02::1 and the solicited-node ones among them, which
/// would fill the table (RFC 4541, section 3).
fn is_essential(group: IpAddr) -> bool {
    match group {
        IpAddr::V4(group) => group.octets().starts_with(&[224, 0, 0]),
        IpAddr::V6(group) => matches!(group.octets(), [0xff, flags, ..] if flags & 0x0f <= 2),
    }
}
