//! The IPv6 side of a network's settings: its prefix, and whether the host has a way out.

use std::net::{Ipv6Addr, UdpSocket};
use std::sync::OnceLock;
use std::time::Duration;

use ipnetwork::Ipv6Network;
use net_gateway::eui64;
use net_wire::MacAddr;

use crate::config::{NetworkConfig, NetworkMode};
use crate::engine::Engine;
use crate::mac::fnv1a;

/// The least MTU of IPv6 (RFC 8200, section 5).
pub(crate) const MIN_MTU: u16 = 1280;
/// An address of the global space that is given to nobody: only a default route leads there.
const ELSEWHERE: Ipv6Addr = Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 1);

impl NetworkConfig {
    /// The prefix in which guests form IPv6 addresses, if the network has IPv6: the one that was
    /// asked for, or a unique local one (RFC 4193) that follows from the network's name and subnet.
    ///
    /// `None` where IPv6 is off, the MTU is below 1280, or somebody else is the router: in bridge
    /// mode and without a gateway.
    pub fn prefix6(&self) -> Option<Ipv6Network> {
        match self.no_ipv6() {
            Some(_) => None,
            None => self.subnet6.or_else(|| unique_local(self, machine_id())),
        }
    }

    /// Why this program is the router of no IPv6 on the network, where it is not.
    pub(crate) fn no_ipv6(&self) -> Option<&'static str> {
        if self.mode == NetworkMode::Bridge {
            Some("it is the outside network's, as every address is")
        } else if !self.gateway {
            Some("the network has no gateway of its own")
        } else if !self.ipv6 {
            Some("it is switched off")
        } else if self.subnet6.is_none() && self.mtu < MIN_MTU {
            // What was asked for and cannot work is refused when the network starts.
            Some("the MTU is below 1280, the least of IPv6")
        } else {
            None
        }
    }

    /// Why guests have IPv6 among themselves and nowhere else, where that is not the mode's purpose.
    pub(crate) fn ipv6_stays(&self) -> Option<&'static str> {
        let leaves = self.uplink.as_ref().is_some_and(|it| it.outside6.is_some());
        (self.is_fast() && !leaves)
            .then_some("among guests alone: the uplink has no IPv6 address (--outside6)")
    }

    fn is_fast(&self) -> bool {
        self.mode == NetworkMode::Nat && self.engine == Engine::Fast
    }

    /// The address that a guest with this hardware address forms in [`Self::prefix6`], unless it
    /// hides the one from the other (RFC 7217, RFC 8981).
    pub fn address6(&self, mac: MacAddr) -> Option<Ipv6Network> {
        let prefix = self.prefix6()?;
        Ipv6Network::new(eui64(prefix.network(), mac), prefix.prefix()).ok()
    }
}

/// A unique local prefix: `fd`, 40 bits that no two networks should share, subnet 0.
///
/// RFC 4193, section 3.2.2 takes these bits from the time of day. They come from the machine and the
/// network instead, so that a guest finds its addresses again after a restart; the machine keeps
/// the networks of a guest that runs this program itself apart from the one it is in.
fn unique_local(config: &NetworkConfig, machine: &str) -> Option<Ipv6Network> {
    let place = format!("{machine} {}", config.name);
    let [a, b, c, d, e, ..] = fnv1a(&place, &config.subnet.to_string()).to_be_bytes();
    let pair = |high, low| u16::from_be_bytes([high, low]);
    let prefix = Ipv6Addr::new(pair(0xfd, a), pair(b, c), pair(d, e), 0, 0, 0, 0, 0);
    Ipv6Network::new(prefix, 64).ok()
}

/// What tells this installation from others (`machine-id(5)`), where there is such a thing. It goes
/// into a hash of which a third is seen.
///
/// It is read once: a process that gives up its files still derives the prefix that it derived
/// before, and that another process of the same network has.
fn machine_id() -> &'static str {
    static READ: OnceLock<String> = OnceLock::new();
    READ.get_or_init(|| {
        let read = std::fs::read_to_string("/etc/machine-id");
        read.map(|text| text.trim().to_owned()).unwrap_or_default()
    })
}

/// Whether guests are told to send IPv6 through the gateway.
#[derive(Debug)]
pub(crate) enum Router6 {
    /// As the user asked, whatever the host's routes are.
    Always,
    /// While the uplink knows a router; the host's routes are nothing to it.
    AsUplink {
        /// What was found last.
        routed: Option<bool>,
    },
    /// While the host has a default route.
    AsHost {
        /// What was found last.
        routed: Option<bool>,
        /// When to look again.
        again: Duration,
    },
}

/// How often the host's routes are looked at, while there is something to do.
const LOOK_EVERY: Duration = Duration::from_secs(10);

impl Router6 {
    pub(crate) fn of(config: &NetworkConfig) -> Self {
        match config.subnet6 {
            _ if config.is_fast() => Self::AsUplink { routed: None },
            Some(_) => Self::Always,
            None => Self::AsHost {
                routed: None,
                again: Duration::ZERO,
            },
        }
    }

    /// What guests are to be told from now on, where that is news. `leaves` says whether packets
    /// have a way out of this program at all.
    pub(crate) fn look(&mut self, leaves: bool, now: Duration) -> Option<bool> {
        self.look_with(leaves, now, host_has_route)
    }

    /// When [`Self::look`] looks again.
    #[cfg_attr(not(target_os = "linux"), allow(dead_code))]
    pub(crate) fn next_look(&self) -> Option<Duration> {
        match self {
            Self::Always | Self::AsUplink { .. } => None,
            Self::AsHost { again, .. } => Some(*again),
        }
    }

    fn look_with(
        &mut self,
        leaves: bool,
        now: Duration,
        has_route: impl FnOnce() -> bool,
    ) -> Option<bool> {
        let (routed, again) = match self {
            Self::Always => return (!leaves).then_some(false),
            Self::AsUplink { routed } => {
                return (routed.replace(leaves) != Some(leaves)).then_some(leaves);
            }
            Self::AsHost { routed, again } => (routed, again),
        };
        if now < *again {
            return None;
        }
        *again = now + LOOK_EVERY;
        let found = leaves && has_route();
        (routed.replace(found) != Some(found)).then_some(found)
    }
}

/// Whether the host would send packets for the rest of the IPv6 world somewhere. No packet is sent
/// to find out: connecting a datagram socket only looks at the routes.
fn host_has_route() -> bool {
    UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))
        .and_then(|socket| socket.connect((ELSEWHERE, 9)))
        .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(name: &str, subnet: &str) -> NetworkConfig {
        NetworkConfig {
            name: name.to_owned(),
            subnet: subnet.parse().unwrap(),
            ..NetworkConfig::default()
        }
    }

    #[test]
    fn rfc4193_prefixes_are_local_stable_and_apart() {
        let net = network("blue", "10.0.2.0/24");
        let prefix = unique_local(&net, "m").unwrap();
        assert_eq!(prefix.network().octets()[0], 0xfd);
        assert_eq!(prefix.prefix(), 64);
        assert_eq!(prefix.network().octets()[6..], [0; 10]);
        assert_eq!(unique_local(&net, "m"), Some(prefix));
        let others = [
            (network("green", "10.0.2.0/24"), "m"),
            (network("blue", "10.0.3.0/24"), "m"),
            (network("blue", "10.0.2.0/24"), "n"),
        ];
        for (other, machine) in others {
            assert_ne!(unique_local(&other, machine), Some(prefix));
        }
    }

    #[test]
    fn guests_are_told_when_the_way_out_comes_and_goes() {
        let mut net = network("a", "10.0.2.0/24");
        let mut router = Router6::of(&net);
        let at = Duration::from_secs;
        assert_eq!(router.look_with(true, at(0), || false), Some(false));
        assert_eq!(
            router.look_with(true, at(9), || true),
            None,
            "not yet again"
        );
        assert_eq!(router.look_with(true, at(10), || true), Some(true));
        assert_eq!(router.look_with(true, at(20), || true), None, "no news");
        assert_eq!(router.look_with(true, at(30), || false), Some(false));
        assert_eq!(router.look_with(false, at(40), || true), None);
        // What was asked for holds without looking.
        net.subnet6 = Some("fd77::/64".parse().unwrap());
        let mut router = Router6::of(&net);
        assert_eq!(router.look_with(true, at(0), || unreachable!()), None);
        // An uplink of our own is what it is, whatever was asked for and the host has.
        net.engine = Engine::Fast;
        let mut router = Router6::of(&net);
        let looks = [false, false, true, true, false]
            .map(|leaves| router.look_with(leaves, at(0), || unreachable!()));
        assert_eq!(looks, [Some(false), None, Some(true), None, Some(false)]);
    }

    #[test]
    fn a_network_has_ipv6_unless_something_forbids_it() {
        assert_eq!(
            network("a", "10.0.2.0/24").prefix6().map(|p| p.prefix()),
            Some(64)
        );
        let forbidden: [fn(&mut NetworkConfig); 4] = [
            |net| net.ipv6 = false,
            |net| net.mtu = 1279,
            |net| net.gateway = false,
            |net| net.mode = NetworkMode::Bridge,
        ];
        for forbid in forbidden {
            let mut net = network("a", "10.0.2.0/24");
            forbid(&mut net);
            assert_eq!(net.prefix6(), None);
        }
        let mut asked = network("a", "10.0.2.0/24");
        asked.subnet6 = Some("fd77::/64".parse().unwrap());
        assert_eq!(asked.prefix6(), asked.subnet6);
    }
}
