//! What a network is told at its birth.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnetwork::{Ipv4Network, Ipv6Network};
use net_usernet::Protocol;

use crate::addresses::Reservation;
use crate::engine::Engine;
use crate::error::ManagerError;
use crate::uplink::UplinkConfig;

/// How a network meets the world.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum NetworkMode {
    /// Guests reach the world through the host's address; the world reaches published ports.
    #[default]
    Nat,
    /// Guests are hosts of the physical network, which gives them their addresses. Needs Linux and
    /// CAP_NET_ADMIN.
    Bridge,
    /// Guests and the host reach one another; nothing leaves. Needs Linux and CAP_NET_ADMIN.
    HostOnly,
}

impl std::fmt::Display for NetworkMode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Nat => "nat",
            Self::Bridge => "bridge",
            Self::HostOnly => "host-only",
        })
    }
}

impl std::str::FromStr for NetworkMode {
    type Err = ManagerError;

    fn from_str(text: &str) -> Result<Self, ManagerError> {
        match text {
            "nat" => Ok(Self::Nat),
            "bridge" => Ok(Self::Bridge),
            "host-only" => Ok(Self::HostOnly),
            _ => Err(ManagerError::UnknownMode(text.to_owned())),
        }
    }
}

/// How long a network asks guests' memory by itself before it sleeps until it is told: vhost-user, and
/// virtio-net in the same process. Other guests, and whatever else happens, are always waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Polling {
    /// After a guest has sent something, for so long at most, and less or not at all where that has been
    /// in vain lately. Zero is never; so is any time where the process has one processor, which the guest
    /// needs.
    UpTo(Duration),
    /// As long as a guest's driver is there. Takes the whole of one processor.
    Always,
}

impl Polling {
    /// The longest time: more costs more than any wake-up.
    pub const LONGEST: Duration = Duration::from_millis(1);
}

impl Default for Polling {
    /// Up to 50 µs.
    fn default() -> Self {
        Self::UpTo(Duration::from_micros(50))
    }
}

/// The settings of a network in short; [`NetworkConfig`] has them all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetConfig {
    /// How the network meets the world.
    pub mode: NetworkMode,
    /// The gateway's hardware address; one is derived from the subnet when absent.
    pub mac: Option<[u8; 6]>,
    /// Largest IP packet, in bytes: 576 to 65,520.
    pub mtu: u16,
    /// A bridge of the host that exists, to join in place of one of our own.
    pub bridge: Option<String>,
    /// Whether devices have more than one queue pair.
    pub multiqueue: bool,
    /// Queue pairs of a device, with [`NetConfig::multiqueue`].
    pub num_queues: u16,
}

impl Default for NetConfig {
    fn default() -> Self {
        Self {
            mode: NetworkMode::Nat,
            mac: None,
            mtu: 1500,
            bridge: None,
            multiqueue: false,
            num_queues: 1,
        }
    }
}

/// A port of the host that leads to a guest.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PublishedPort {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Where the host listens; port 0 lets the host choose.
    pub bind: SocketAddr,
    /// Which guest; `None` is the first that is attached.
    pub guest: Option<Ipv4Addr>,
    /// The guest's port.
    pub guest_port: u16,
}

impl std::str::FromStr for PublishedPort {
    type Err = ManagerError;

    /// Reads `[ADDR:]PORT:GUESTPORT[/tcp|/udp]`; an IPv6 `ADDR` stands in brackets. Without `ADDR`
    /// the port is published on every IPv4 address of the host.
    fn from_str(text: &str) -> Result<Self, ManagerError> {
        let bad = || ManagerError::BadPublish(text.to_owned());
        let (rest, protocol) = match text.rsplit_once('/') {
            None => (text, Protocol::Tcp),
            Some((rest, "tcp")) => (rest, Protocol::Tcp),
            Some((rest, "udp")) => (rest, Protocol::Udp),
            Some(_) => return Err(bad()),
        };
        let (host, guest_port) = rest.rsplit_once(':').ok_or_else(bad)?;
        let guest_port = port(guest_port).filter(|port| *port != 0).ok_or_else(bad)?;
        let bind = match host.rsplit_once(':') {
            None => SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port(host).ok_or_else(bad)?),
            Some((addr, host_port)) => {
                let unbracketed = addr
                    .strip_prefix('[')
                    .and_then(|addr| addr.strip_suffix(']'));
                let addr = match unbracketed {
                    Some(v6) => v6.parse::<std::net::Ipv6Addr>().map(Into::into),
                    None => addr.parse::<Ipv4Addr>().map(Into::into),
                };
                SocketAddr::new(addr.map_err(|_| bad())?, port(host_port).ok_or_else(bad)?)
            }
        };
        Ok(Self {
            protocol,
            bind,
            guest: None,
            guest_port,
        })
    }
}

/// A decimal port number; signs, which `parse` accepts, are refused.
fn port(text: &str) -> Option<u16> {
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())?
}

/// Every setting of a network.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct NetworkConfig {
    /// A name for messages and for deriving hardware addresses.
    pub name: String,
    /// How the network meets the world.
    pub mode: NetworkMode,
    /// The addresses of the network; the gateway has the first.
    pub subnet: Ipv4Network,
    /// Whether the network has IPv6, where this program is its router.
    pub ipv6: bool,
    /// The IPv6 prefix, a /64, for which guests are told to send through the gateway whatever the
    /// host's routes are. Absent, a unique local one is derived from the name and the subnet, and the
    /// gateway advertises itself as a router only while the host has a default route for IPv6.
    pub subnet6: Option<Ipv6Network>,
    /// The gateway's hardware address; derived from the subnet when absent.
    pub mac: Option<[u8; 6]>,
    /// Largest IP packet, in bytes: 576 to 65,520.
    pub mtu: u16,
    /// Resolvers that questions go to; empty means the host's own, followed as they change.
    pub dns: Vec<SocketAddr>,
    /// Domain under which the gateway and the guests have names.
    pub domain: String,
    /// Whether the gateway's address leads to the host's loopback.
    pub host_loopback: bool,
    /// Ports of the host that lead to guests, from the start.
    pub publish: Vec<PublishedPort>,
    /// A file to capture every frame into.
    pub pcap: Option<PathBuf>,
    /// A file that is open already, in place of [`Self::pcap`].
    pub capture: Option<Arc<File>>,
    /// Whether this network has a gateway of its own, with DHCP, DNS and the way out. Without one
    /// it is a switch, and one of its attachments brings all that: an interface of vmnet.framework.
    pub gateway: bool,
    /// Who translates addresses in NAT mode; the other modes have nothing to translate.
    pub engine: Engine,
    /// What to take where the mode or the engine cannot be had: [`Engine::User`], which is NAT
    /// without privileges. Absent, the network does not start, and the error says why.
    pub fallback: Option<Engine>,
    /// With [`Engine::Fast`], the interface that packets leave by and its addresses.
    pub uplink: Option<UplinkConfig>,
    /// A bridge of the host that exists, to join in place of one of our own.
    pub bridge: Option<String>,
    /// In bridge mode, a physical interface to make a port of the bridge: its addresses and routes
    /// move to the bridge, and back when the network stops.
    pub take_over: Option<String>,
    /// Whether guests reach the host and the way out only, and not one another.
    pub isolated: bool,
    /// What one guest may have flooded, in frames a second for each kind.
    pub storm: net_switch::StormLimits,
    /// Whether the switch watches IGMP and MLD, and sends a group's frames where it is listened to
    /// while there is a querier on the network (RFC 4541).
    pub snooping: bool,
    /// Queue pairs of the TAP devices that are made for guests, unless their attachment says
    /// otherwise: 1 to 256.
    pub queues: u16,
    /// How long guests' memory is asked before the network sleeps.
    pub polling: Polling,
    /// Processors that this process may use, for [`Self::polling`]. Absent, the system is asked, of
    /// which a confined process does not learn what its control group allows.
    pub processors: Option<usize>,
    /// Addresses kept for guests, by hardware address or by name.
    pub reservations: Vec<Reservation>,
    /// Where the journals of what is made in the kernel are kept; `None` is `/run/arcbox-net` for
    /// root and `$XDG_RUNTIME_DIR/arcbox-net` for everybody else.
    pub state_dir: Option<PathBuf>,
}

impl Default for NetworkConfig {
    /// A NAT network 10.0.2.0/24 with MTU 1500, the host's resolvers and domain `internal`.
    fn default() -> Self {
        Self {
            name: "default".to_owned(),
            mode: NetworkMode::Nat,
            subnet: default_subnet(),
            ipv6: true,
            subnet6: None,
            mac: None,
            mtu: 1500,
            dns: Vec::new(),
            domain: "internal".to_owned(),
            host_loopback: false,
            publish: Vec::new(),
            pcap: None,
            capture: None,
            gateway: true,
            engine: Engine::default(),
            fallback: None,
            uplink: None,
            bridge: None,
            take_over: None,
            isolated: false,
            storm: net_switch::StormLimits::default(),
            snooping: false,
            queues: 1,
            polling: Polling::default(),
            processors: None,
            reservations: Vec::new(),
            state_dir: None,
        }
    }
}

impl NetworkConfig {
    /// Whether the kernel carries the frames of this network, and the host is its router.
    pub(crate) fn is_in_kernel(&self) -> bool {
        self.mode != NetworkMode::Nat || self.engine == Engine::Kernel
    }

    /// Whether the network's addresses are its own: in bridge mode they are the outside's.
    pub(crate) fn has_addresses(&self) -> bool {
        self.mode != NetworkMode::Bridge
    }
}

/// The network guests of user-mode stacks have known for twenty years.
fn default_subnet() -> Ipv4Network {
    Ipv4Network::new_checked(Ipv4Addr::new(10, 0, 2, 0), 24)
        .unwrap_or_else(|| Ipv4Network::from(Ipv4Addr::UNSPECIFIED))
}

impl From<NetConfig> for NetworkConfig {
    fn from(short: NetConfig) -> Self {
        Self {
            mode: short.mode,
            mac: short.mac,
            mtu: short.mtu,
            bridge: short.bridge,
            queues: if short.multiqueue {
                short.num_queues
            } else {
                1
            },
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_ports_in_every_spelling() {
        let parse = |text: &str| text.parse::<PublishedPort>();
        let tcp = parse("8080:80").unwrap();
        assert_eq!(
            (tcp.bind, tcp.guest_port),
            ("0.0.0.0:8080".parse().unwrap(), 80)
        );
        assert_eq!(tcp.protocol, Protocol::Tcp);
        let udp = parse("127.0.0.1:5353:53/udp").unwrap();
        assert_eq!(
            (udp.bind, udp.protocol),
            ("127.0.0.1:5353".parse().unwrap(), Protocol::Udp)
        );
        assert_eq!(
            parse("[::1]:1:2/tcp").unwrap().bind,
            "[::1]:1".parse().unwrap()
        );
        for bad in [
            "",
            "80",
            ":80",
            "80:",
            "a:80",
            "80:0",
            "80:80/sctp",
            "65536:1",
            "+80:80",
            "1.2.3:1:2",
            "::1:1:2",
            "1:2:3:4",
            "80:80/",
            "-1:80",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_short_form_loses_nothing() {
        let short = NetConfig {
            mode: NetworkMode::Bridge,
            mac: Some([2, 0, 0, 0, 0, 1]),
            mtu: 9000,
            bridge: Some("br0".to_owned()),
            multiqueue: true,
            num_queues: 4,
        };
        let config = NetworkConfig::from(short.clone());
        assert_eq!((config.mode, config.mtu), (NetworkMode::Bridge, 9000));
        assert_eq!(config.mac, short.mac);
        assert_eq!((config.bridge.as_deref(), config.queues), (Some("br0"), 4));
        let single = NetworkConfig::from(NetConfig {
            multiqueue: false,
            ..short
        });
        assert_eq!(single.queues, 1);
    }

    #[test]
    fn the_default_subnet_is_what_it_says() {
        assert_eq!(NetworkConfig::default().subnet.to_string(), "10.0.2.0/24");
    }
}
