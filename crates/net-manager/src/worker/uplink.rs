//! The way out of a network: where a packet goes that no guest and no service of the gateway takes.
//!
//! The relay of `net-usernet` is always there: whatever the way out, the gateway's own TCP services
//! are connections that it accepts. What else a guest sends goes the [`Way`] the network has.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use mio::Registry;
use mio::event::Event;
use net_datapath::packet::ZeroCopyPacket;
use net_usernet::{Forward, ServiceConnection, UserNet};

use super::command::ForwardId;
use super::links::Links;
use super::ports::PortId;
use super::token;
use crate::config::{NetworkConfig, NetworkMode};
use crate::error::ManagerError;

/// How packets leave the network.
enum Way {
    /// By the host's sockets.
    Relay,
    /// Not at all.
    None,
}

/// The way out.
pub(super) struct Uplink {
    relay: UserNet,
    way: Way,
    gateway: Ipv4Addr,
    forwards: BTreeMap<ForwardId, net_usernet::ForwardId>,
    next_forward: u64,
}

impl Uplink {
    /// The way out that `config` asks for. All tokens from [`token::USERNET_BASE`] on are its own.
    ///
    /// # Errors
    /// What the host refuses while it is set up.
    pub(super) fn new(
        config: &NetworkConfig,
        gateway: Ipv4Addr,
        seed: [u8; 16],
        registry: Registry,
    ) -> Result<Self, ManagerError> {
        let subnet = net_usernet::Subnet {
            addr: config.subnet.network(),
            prefix: config.subnet.prefix(),
        };
        let mut relay_config = net_usernet::Config::new(gateway, subnet, seed);
        relay_config.host_loopback = config.host_loopback;
        let mut relay = UserNet::new(relay_config, registry, token::USERNET_BASE)
            .map_err(ManagerError::host("start the user-mode uplink"))?;
        relay.add_tcp_service((gateway, 53).into());
        Ok(Self {
            relay,
            way: match config.mode {
                NetworkMode::Nat => Way::Relay,
                NetworkMode::Bridge | NetworkMode::HostOnly => Way::None,
            },
            gateway,
            forwards: BTreeMap::new(),
            next_forward: 0,
        })
    }

    /// Takes a packet that the gateway does not keep.
    pub(super) fn ingress(
        &mut self,
        from: PortId,
        packet: &ZeroCopyPacket<'_>,
        now: Duration,
        links: &mut Links<'_>,
    ) {
        let for_gateway = packet.ip_dst() == Some(IpAddr::V4(self.gateway));
        match self.way {
            Way::None if !for_gateway => {}
            _ => self.relay.ingress(from, packet, now, links),
        }
    }

    /// Takes the readiness of one of its sockets.
    pub(super) fn ready(&mut self, event: &Event, now: Duration, links: &mut Links<'_>) {
        self.relay.ready(event, now, links);
    }

    /// When [`Self::on_deadline`] has something to do.
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        self.relay.next_deadline()
    }

    /// Does what is due.
    pub(super) fn on_deadline(&mut self, now: Duration, links: &mut Links<'_>) {
        self.relay.on_deadline(now, links);
    }

    /// The guest at `port` takes packets again.
    pub(super) fn guest_writable(&mut self, port: PortId, now: Duration, links: &mut Links<'_>) {
        self.relay.guest_writable(port, now, links);
    }

    /// Ends the flows of the guest at `port`.
    pub(super) fn guest_gone(&mut self, port: PortId) {
        self.relay.guest_gone(port);
    }

    /// The oldest connection to a service of the gateway that has not been taken yet.
    pub(super) fn take_service_connection(&mut self) -> Option<ServiceConnection> {
        self.relay.take_service_connection()
    }

    /// Makes a port lead to a guest; gives its name back, and where it is published.
    ///
    /// # Errors
    /// [`ManagerError::Publish`] where the host refuses.
    pub(super) fn publish(
        &mut self,
        forward: Forward,
    ) -> Result<(ForwardId, SocketAddr), ManagerError> {
        let bind = forward.bind;
        let opened = self.relay.publish(forward)?;
        let id = ForwardId(self.next_forward);
        self.next_forward += 1;
        self.forwards.insert(id, opened);
        Ok((id, self.relay.forward_addr(opened).unwrap_or(bind)))
    }

    /// Takes a published port back; its connections live on.
    pub(super) fn unpublish(&mut self, id: ForwardId) {
        if let Some(opened) = self.forwards.remove(&id) {
            self.relay.unpublish(opened);
        }
    }
}
