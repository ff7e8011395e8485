//! Which destinations a guest may reach, and under which address the host is asked for them.
//!
//! A guest reaches what an ordinary program of the host's user reaches, the host's own addresses
//! included, with these exceptions:
//!
//! - **loopback**: 127.0.0.0/8 and ::1 never leave a guest's kernel, so a packet that names them
//!   is an attack. The same holds for 0.0.0.0/8 and ::, which sockets take for "this host", and
//!   for IPv4 addresses dressed as IPv6 (::ffff:0:0/96, ::/96). With
//!   [`crate::Config::host_loopback`] the gateway's address leads to the host's loopback.
//! - **link-local**: 169.254.0.0/16 and fe80::/10 mean the link of whoever sends. They are also
//!   where clouds serve the credentials of a host (169.254.169.254, fd00:ec2::254), which a guest
//!   has no business reading. A resolver of the host that lives there stays usable, because the
//!   host asks it, not the guest.
//! - **reserved**: 240.0.0.0/4, the limited broadcast included.
//! - **multicast**: stays in the guests' network. Directed broadcasts of the host's networks are
//!   refused by the host, as the sockets never ask for `SO_BROADCAST`.
//! - **the guests' own network**: never relayed; the host may have another network with the same
//!   prefix, and its hosts are not the ones the guest means.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::Config;

/// The cloud metadata service over IPv6: a unique local address in place of a link-local one.
const METADATA6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

/// Where a packet of a guest is to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    /// To this address, as the host names it.
    Host(IpAddr),
    /// To the gateway itself, which has no such service.
    Gateway,
    /// Nowhere: multicast or broadcast.
    Multicast,
    /// Nowhere: the destination is off limits.
    Forbidden,
    /// Nowhere: an address of the guests' network that no neighbour has.
    Local,
}

/// Decides where `dst` leads.
pub(crate) fn route(config: &Config, dst: IpAddr) -> Route {
    if config.is_gateway(dst) {
        return match (config.host_loopback, dst) {
            (true, IpAddr::V4(_)) => Route::Host(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            (true, IpAddr::V6(_)) => Route::Host(IpAddr::V6(Ipv6Addr::LOCALHOST)),
            (false, _) => Route::Gateway,
        };
    }
    match dst {
        IpAddr::V4(v4) if v4.is_multicast() || v4.is_broadcast() => Route::Multicast,
        IpAddr::V4(v4) if config.subnet.broadcast() == Some(v4) => Route::Multicast,
        IpAddr::V6(v6) if v6.is_multicast() => Route::Multicast,
        IpAddr::V4(v4) if is_forbidden_v4(v4) => Route::Forbidden,
        IpAddr::V6(v6) if is_forbidden_v6(v6) => Route::Forbidden,
        IpAddr::V4(v4) if config.subnet.contains(v4) => Route::Local,
        IpAddr::V6(v6) if config.subnet6.is_some_and(|net| net.contains(v6)) => Route::Local,
        _ => Route::Host(dst),
    }
}

fn is_forbidden_v4(addr: Ipv4Addr) -> bool {
    let first = addr.octets()[0];
    first == 0 || first == 127 || first >= 240 || addr.is_link_local()
}

fn is_forbidden_v6(addr: Ipv6Addr) -> bool {
    // Covers ::, ::1 and IPv4-compatible addresses.
    let compatible = addr.segments()[..6] == [0; 6];
    let mapped = addr.to_ipv4_mapped().is_some();
    compatible || mapped || addr.is_unicast_link_local() || addr == METADATA6
}

/// Whether a guest may send from `src`: a unicast address that is not the gateway's and that no
/// socket would take for the host itself.
pub(crate) fn is_guest_source(config: &Config, src: IpAddr) -> bool {
    !config.is_gateway(src)
        && match src {
            IpAddr::V4(v4) => {
                let first = v4.octets()[0];
                first != 0 && first != 127 && first < 224 && config.subnet.broadcast() != Some(v4)
            }
            IpAddr::V6(v6) => {
                v6.segments()[..6] != [0; 6] && v6.to_ipv4_mapped().is_none() && !v6.is_multicast()
            }
        }
}

/// Whether packets from or to `addr` stay on their link (RFC 3927, section 2.7; RFC 4291, 2.5.6).
pub(crate) fn is_link_local(addr: IpAddr) -> bool {
    match addr {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

/// The address under which the guest knows a peer of the host's: the gateway's for the host's
/// loopback (when guests may reach it), its own otherwise. `None`: not the guest's to see.
pub(crate) fn as_seen_by_guest(config: &Config, peer: SocketAddr) -> Option<SocketAddr> {
    let ip = peer.ip().to_canonical();
    if !ip.is_loopback() {
        return Some(SocketAddr::new(ip, peer.port()));
    }
    if !config.host_loopback {
        return None;
    }
    Some(SocketAddr::new(config.gateway_like(ip)?, peer.port()))
}

/// The address of a peer as the guest sees it; `None` for peers that the guest could never have
/// written to, so that nobody poses as a neighbour or as the host.
pub(crate) fn visible_peer(config: &Config, peer: SocketAddr) -> Option<SocketAddr> {
    let seen = as_seen_by_guest(config, peer)?;
    let from_gateway = config.is_gateway(seen.ip()) && peer.ip().to_canonical().is_loopback();
    let outside = route(config, seen.ip()) == Route::Host(seen.ip());
    (from_gateway || outside).then_some(seen)
}

/// Whether the guest can answer a client at its real address: it must be one that the guest
/// sends through the gateway.
pub(crate) fn can_appear_as_itself(config: &Config, client: IpAddr, guest: IpAddr) -> bool {
    client.is_ipv4() == guest.is_ipv4() && route(config, client) == Route::Host(client)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Subnet, Subnet6};

    fn config(host_loopback: bool) -> Config {
        let subnet = Subnet {
            addr: Ipv4Addr::new(10, 0, 2, 0),
            prefix: 24,
        };
        let mut config = Config::new(Ipv4Addr::new(10, 0, 2, 1), subnet, [0; 16]);
        config.gateway6 = Some("fd00::1".parse().unwrap());
        config.gateway6_link_local = Some("fe80::1:1".parse().unwrap());
        config.subnet6 = Some(Subnet6 {
            addr: "fd00::".parse().unwrap(),
            prefix: 64,
        });
        config.host_loopback = host_loopback;
        config
    }

    fn route_of(text: &str, host_loopback: bool) -> Route {
        route(&config(host_loopback), text.parse().unwrap())
    }

    #[test]
    fn no_trick_reaches_the_host_itself() {
        for text in [
            "127.0.0.1",
            "127.255.255.254",
            "0.0.0.0",
            "0.1.2.3",
            "240.0.0.1",
            "254.1.1.1",
            "169.254.169.254",
            "169.254.0.1",
            "::",
            "::1",
            "::7f00:1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "fe80::1",
            "fd00:ec2::254",
        ] {
            assert_eq!(route_of(text, false), Route::Forbidden, "{text}");
            assert_eq!(route_of(text, true), Route::Forbidden, "{text}");
        }
    }

    #[test]
    fn the_gateway_leads_to_loopback_only_when_asked() {
        assert_eq!(route_of("10.0.2.1", false), Route::Gateway);
        assert_eq!(route_of("fd00::1", false), Route::Gateway);
        assert_eq!(route_of("fe80::1:1", false), Route::Gateway);
        assert_eq!(
            route_of("fe80::1:1", true),
            Route::Host("::1".parse().unwrap())
        );
        assert_eq!(
            route_of("10.0.2.1", true),
            Route::Host("127.0.0.1".parse().unwrap())
        );
        assert_eq!(
            route_of("fd00::1", true),
            Route::Host("::1".parse().unwrap())
        );
    }

    #[test]
    fn the_rest_of_the_world_is_reached_as_it_is() {
        for text in [
            "192.0.2.1",
            "10.0.3.1",
            "223.255.255.255",
            "2001:db8::1",
            "fd12::1",
        ] {
            assert_eq!(
                route_of(text, false),
                Route::Host(text.parse().unwrap()),
                "{text}"
            );
        }
        for text in [
            "224.0.0.251",
            "239.1.1.1",
            "255.255.255.255",
            "10.0.2.255",
            "ff02::fb",
        ] {
            assert_eq!(route_of(text, true), Route::Multicast, "{text}");
        }
        assert_eq!(route_of("10.0.2.77", true), Route::Local);
        assert_eq!(route_of("fd00::77", true), Route::Local);
        assert_eq!(
            route_of("fd00:0:0:1::77", true),
            Route::Host("fd00:0:0:1::77".parse().unwrap())
        );
    }

    #[test]
    fn sources_that_no_guest_may_have() {
        let config = config(false);
        for text in [
            "10.0.2.1",
            "0.0.0.0",
            "127.0.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "10.0.2.255",
            "::",
            "::1",
            "::ffff:1.2.3.4",
            "ff02::1",
            "fd00::1",
            "fe80::1:1",
        ] {
            assert!(!is_guest_source(&config, text.parse().unwrap()), "{text}");
        }
        for text in ["10.0.2.15", "192.0.2.9", "fd00::2", "fe80::2"] {
            assert!(is_guest_source(&config, text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn loopback_peers_show_the_gateway_or_nothing() {
        let peer = "127.0.0.1:53".parse().unwrap();
        assert_eq!(as_seen_by_guest(&config(false), peer), None);
        assert_eq!(
            as_seen_by_guest(&config(true), peer),
            Some("10.0.2.1:53".parse().unwrap())
        );
        let mapped = "[::ffff:192.0.2.1]:53".parse().unwrap();
        assert_eq!(
            as_seen_by_guest(&config(true), mapped),
            Some("192.0.2.1:53".parse().unwrap())
        );
    }

    #[test]
    fn nobody_outside_poses_as_a_neighbour_or_the_host() {
        let visible = |text: &str| visible_peer(&config(false), text.parse().unwrap());
        for text in [
            "127.0.0.1:1",
            "10.0.2.1:53",
            "10.0.2.7:1",
            "169.254.1.1:1",
            "[fe80::1]:1",
            "[fd00::1]:1",
            "[fd00::7]:1",
            "[::1]:1",
        ] {
            assert_eq!(visible(text), None, "{text}");
        }
        assert_eq!(
            visible("192.0.2.1:53"),
            Some("192.0.2.1:53".parse().unwrap())
        );
        // The gateway's own address on the host's network is not the gateway.
        assert_eq!(
            visible_peer(&config(true), "10.0.2.1:53".parse().unwrap()),
            None
        );
    }

    #[test]
    fn clients_that_the_guest_cannot_route_to_need_another_address() {
        let config = config(true);
        let guest = "10.0.2.15".parse().unwrap();
        for (client, own) in [
            ("192.0.2.1", true),
            ("127.0.0.1", false),
            ("10.0.2.7", false),
            ("2001:db8::1", false),
        ] {
            assert_eq!(
                can_appear_as_itself(&config, client.parse().unwrap(), guest),
                own,
                "{client}"
            );
        }
    }
}
