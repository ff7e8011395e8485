//! The way out of a network: where a packet goes that no guest and no service of the gateway takes.
//!
//! The relay of `net-usernet` is always there: whatever the way out, the gateway's own TCP services
//! are connections that it accepts, and ports published on the host's loopback are its sockets. What
//! else a guest sends goes the [`Way`] the network has.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use mio::Registry;
use mio::event::Event;
use net_datapath::packet::ZeroCopyPacket;
use net_gateway::Gateway;
use net_usernet::{Forward, ServiceConnection, UserNet};

use super::command::ForwardId;
use super::fast::{self, PacketUplink, Published, UplinkStatus};
use super::links::Links;
use super::ports::PortId;
use super::token;
use crate::config::{NetworkConfig, NetworkMode};
use crate::engine::Engine;
use crate::error::ManagerError;

/// How packets leave the network.
enum Way {
    /// By the host's sockets.
    Relay,
    /// Translated, by an interface.
    Packets(Box<PacketUplink>),
    /// Not at all.
    None,
}

/// A published port in force.
enum Opened {
    Socket(net_usernet::ForwardId),
    Translated(Published),
}

/// The way out.
pub(super) struct Uplink {
    relay: UserNet,
    way: Way,
    /// The gateway's own addresses.
    gateway: Vec<IpAddr>,
    forwards: BTreeMap<ForwardId, Opened>,
    next_forward: u64,
}

impl Uplink {
    /// The way out that `config` asks for. All tokens from [`token::USERNET_BASE`] on are its own.
    ///
    /// # Errors
    /// What the host refuses while it is set up, and what in the configuration cannot work.
    pub(super) fn new(
        config: &NetworkConfig,
        gateway: &Gateway,
        seeds: [[u8; 16]; 2],
        registry: Registry,
        open: fast::Open,
    ) -> Result<Self, ManagerError> {
        let [seed, translator_seed] = seeds;
        let subnet = net_usernet::Subnet {
            addr: config.subnet.network(),
            prefix: config.subnet.prefix(),
        };
        let ip = gateway.config().ip;
        let mut relay_config = net_usernet::Config::new(ip, subnet, seed);
        relay_config.host_loopback = config.host_loopback;
        relay_config.gateway6_link_local = gateway.link_local();
        if let Some(six) = &gateway.config().ipv6 {
            relay_config.gateway6 = Some(six.ip);
            relay_config.subnet6 = Some(net_usernet::Subnet6 {
                addr: six.prefix.network(),
                prefix: six.prefix.prefix(),
            });
        }
        let own: Vec<IpAddr> = [
            Some(IpAddr::V4(ip)),
            relay_config.gateway6.map(IpAddr::V6),
            relay_config.gateway6_link_local.map(IpAddr::V6),
        ]
        .into_iter()
        .flatten()
        .collect();
        let mut relay = UserNet::new(relay_config, registry, token::USERNET_BASE)
            .map_err(ManagerError::host("start the user-mode uplink"))?;
        for ip in &own {
            relay.add_tcp_service((*ip, 53).into());
        }
        Ok(Self {
            relay,
            way: match (config.mode, config.engine) {
                (NetworkMode::Nat, Engine::Fast) => {
                    let uplink = PacketUplink::new(config, ip, translator_seed, open)?;
                    Way::Packets(Box::new(uplink))
                }
                (NetworkMode::Nat, Engine::User | Engine::Auto) => Way::Relay,
                (NetworkMode::Nat, Engine::Kernel) => Way::None,
                (NetworkMode::Bridge | NetworkMode::HostOnly, _) => Way::None,
            },
            gateway: own,
            forwards: BTreeMap::new(),
            next_forward: 0,
        })
    }

    /// The uplink that carries packets, if that is the way.
    pub(super) fn packets(&mut self) -> Option<&mut PacketUplink> {
        match &mut self.way {
            Way::Packets(packets) => Some(packets),
            Way::Relay | Way::None => None,
        }
    }

    /// Whether a port is the interface that packets leave by.
    pub(super) fn is_device(&self, port: PortId) -> bool {
        matches!(&self.way, Way::Packets(packets) if packets.device().port() == Some(port))
    }

    /// Whether guests' IPv6 packets have a way out at this moment, as far as it is this program's.
    pub(super) fn routes6(&self) -> bool {
        match &self.way {
            Way::Relay => true,
            Way::Packets(packets) => packets.routes6(),
            Way::None => false,
        }
    }

    /// Why they have none, where there should be one.
    pub(super) fn trouble6(&self) -> Option<&'static str> {
        match &self.way {
            Way::Packets(packets) => packets.trouble6(),
            Way::Relay | Way::None => None,
        }
    }

    /// Whether a packet that the gateway does not keep is for [`PacketUplink::outbound`]; else it is
    /// for [`Self::ingress`].
    pub(super) fn carries(&self, packet: &ZeroCopyPacket<'_>) -> bool {
        matches!(self.way, Way::Packets(_)) && !self.is_for_gateway(packet)
    }

    fn is_for_gateway(&self, packet: &ZeroCopyPacket<'_>) -> bool {
        packet
            .ip_dst()
            .is_some_and(|dst| self.gateway.contains(&dst))
    }

    /// Takes a packet that the gateway does not keep.
    pub(super) fn ingress(
        &mut self,
        from: PortId,
        packet: &ZeroCopyPacket<'_>,
        now: Duration,
        links: &mut Links<'_>,
    ) {
        if matches!(self.way, Way::Relay) || self.is_for_gateway(packet) {
            self.relay.ingress(from, packet, now, links);
        }
    }

    /// Takes the readiness of one of its sockets.
    pub(super) fn ready(&mut self, event: &Event, now: Duration, links: &mut Links<'_>) {
        self.relay.ready(event, now, links);
    }

    /// When [`Self::on_deadline`] has something to do.
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        let packets = match &self.way {
            Way::Packets(packets) => packets.next_deadline(),
            Way::Relay | Way::None => None,
        };
        [self.relay.next_deadline(), packets]
            .into_iter()
            .flatten()
            .min()
    }

    /// Does what is due.
    pub(super) fn on_deadline(&mut self, now: Duration, links: &mut Links<'_>) {
        if self.relay.next_deadline().is_some_and(|at| at <= now) {
            self.relay.on_deadline(now, links);
        }
        if let Some(packets) = self.packets() {
            packets.on_deadline(links);
        }
    }

    /// The guest at `port` takes packets again.
    pub(super) fn guest_writable(&mut self, port: PortId, now: Duration, links: &mut Links<'_>) {
        self.relay.guest_writable(port, now, links);
    }

    /// Ends the flows of the guest at `port`, whose addresses `gateway` still knows.
    pub(super) fn guest_gone(&mut self, port: PortId, gateway: &Gateway) {
        self.relay.guest_gone(port);
        if let Some(packets) = self.packets() {
            packets.guest_gone(port, gateway);
        }
    }

    /// The oldest connection to a service of the gateway that has not been taken yet.
    pub(super) fn take_service_connection(&mut self) -> Option<ServiceConnection> {
        self.relay.take_service_connection()
    }

    /// Makes a port lead to a guest; gives its name back, and where it is published. The relay takes
    /// `socket` where it is given, and else binds one.
    ///
    /// # Errors
    /// [`ManagerError::Publish`] where the host refuses, [`ManagerError::NotOutside`].
    pub(super) fn publish(
        &mut self,
        forward: Forward,
        socket: Option<OwnedFd>,
    ) -> Result<(ForwardId, SocketAddr), ManagerError> {
        let (opened, address) = match &mut self.way {
            Way::Packets(packets) if !forward.bind.ip().is_loopback() => {
                let (published, address) = packets.publish(&forward)?;
                (Opened::Translated(published), address)
            }
            _ => {
                let id = match socket {
                    Some(socket) => self.relay.publish_bound(forward, socket)?,
                    None => self.relay.publish(forward)?,
                };
                let address = self.relay.forward_addr(id).unwrap_or(forward.bind);
                (Opened::Socket(id), address)
            }
        };
        let id = ForwardId(self.next_forward);
        self.next_forward += 1;
        self.forwards.insert(id, opened);
        Ok((id, address))
    }

    /// Takes a published port back; what came in by it ends.
    pub(super) fn unpublish(&mut self, id: ForwardId) {
        match (self.forwards.remove(&id), &mut self.way) {
            (Some(Opened::Socket(id)), _) => {
                self.relay.unpublish(id);
            }
            (Some(Opened::Translated(published)), Way::Packets(packets)) => {
                packets.unpublish(published);
            }
            _ => {}
        }
    }

    /// What is known of the uplink that carries packets.
    pub(super) fn status(&self) -> Option<UplinkStatus> {
        match &self.way {
            Way::Packets(packets) => Some(packets.status()),
            Way::Relay | Way::None => None,
        }
    }
}
