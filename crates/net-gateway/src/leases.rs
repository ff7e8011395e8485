//! Addresses and names of guests: the DHCP engine, what the manager set aside, and the names that
//! follow from both.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::time::Duration;
use std::collections::BTreeMap;

use net_dhcp::v4::server::{LeaseEvent, Owner, Reply, Reservation, Server, ServerConfig};
use net_dns::Forwarder;
use net_wire::MacAddr;

use crate::PortId;
use crate::config::{Config, ConfigError};
use crate::names::Names;
use crate::neighbour::{Neighbour, Neighbours};
use crate::outcome::DnsClient;

/// The name server, as far as this module needs it.
type Dns = Forwarder<DnsClient>;

/// What is set aside for the guest of one port.
#[derive(Debug)]
struct Seat {
    address: Ipv4Addr,
    name: Option<String>,
    /// The IPv6 address that its guest keeps.
    address6: Option<Ipv6Addr>,
}

/// Addresses and names.
#[derive(Debug)]
pub(crate) struct Leases {
    server: Server,
    names: Names,
    seats: BTreeMap<PortId, Seat>,
    /// The router, where it is another than the gateway, and the port it may speak from.
    router: Option<Ipv4Addr>,
    trunk: Option<PortId>,
    /// The IPv6 addresses that guests behind the trunk keep.
    behind_trunk: BTreeMap<Ipv4Addr, Ipv6Addr>,
    /// Make the placeholder owners of addresses that were set aside for nobody in particular.
    placeholders: u32,
    secret: [u8; 16],
}

impl Leases {
    pub(crate) fn new(config: &Config, secret: [u8; 16]) -> Result<Self, ConfigError> {
        let mut server = ServerConfig::new(config.ip, config.subnet.prefix());
        server.router = config.routed.then_some(config.router.unwrap_or(config.ip));
        server.exclude.extend(config.router);
        server.dns = match config.dns_servers.is_empty() {
            true => vec![config.ip],
            false => config.dns_servers.clone(),
        };
        server.domain = Some(config.domain.clone());
        server.search = vec![config.domain.clone()];
        server.mtu = Some(config.mtu);
        let server = Server::new(server).map_err(|err| ConfigError::Dhcp(err.to_string()))?;
        Ok(Self {
            server,
            names: Names::default(),
            seats: BTreeMap::new(),
            router: config.router,
            trunk: None,
            behind_trunk: BTreeMap::new(),
            placeholders: 0,
            secret,
        })
    }

    pub(crate) fn server(&self) -> &Server {
        &self.server
    }

    /// Sets the lowest free address aside.
    pub(crate) fn allocate(&mut self) -> Option<Ipv4Addr> {
        let pool = self.server.config().pool.clone();
        let owner = self.placeholder();
        (pool.start().to_bits()..=pool.end().to_bits())
            .map(Ipv4Addr::from_bits)
            .find(|ip| {
                self.server
                    .reserve(Reservation::new(owner.clone(), *ip))
                    .is_ok()
            })
    }

    /// Keeps `ip` for the guest with this hardware address, or for nobody in particular.
    pub(crate) fn reserve(&mut self, mac: Option<MacAddr>, ip: Ipv4Addr) -> bool {
        let owner = match mac {
            Some(mac) => Owner::Mac(mac.0),
            None => self.placeholder(),
        };
        self.server.reserve(Reservation::new(owner, ip)).is_ok()
    }

    /// Another switch is behind `port`, with the router and any number of guests.
    pub(crate) fn trunk_opened(&mut self, port: PortId) {
        self.trunk = Some(port);
        self.server.set_trunk(port);
    }

    /// Whether another switch is behind `port`.
    pub(crate) fn is_trunk(&self, port: PortId) -> bool {
        self.trunk == Some(port)
    }

    /// A guest behind the trunk is called `name`; false if another is.
    pub(crate) fn name_guest(
        &mut self,
        name: &str,
        (ip, ip6): (Ipv4Addr, Option<Ipv6Addr>),
        dns: &mut Dns,
    ) -> bool {
        if let Some(ip6) = ip6 {
            self.behind_trunk.insert(ip, ip6);
        }
        self.add_name(name, ip, dns).is_some()
    }

    /// That guest is gone.
    pub(crate) fn forget_names(&mut self, ip: Ipv4Addr, dns: &mut Dns) {
        self.behind_trunk.remove(&ip);
        for name in self.names.of(ip) {
            self.remove_name(&name, ip, dns);
        }
    }

    /// The address kept for the guest on `port`.
    pub(crate) fn seat(&self, port: PortId) -> Option<Ipv4Addr> {
        self.seats.get(&port).map(|seat| seat.address)
    }

    /// An owner that no guest can claim to be: a client identifier that it would have to guess.
    fn placeholder(&mut self) -> Owner {
        self.placeholders = self.placeholders.wrapping_add(1);
        let number = self.placeholders.to_be_bytes();
        Owner::ClientId([&self.secret[..], &number].concat())
    }

    /// Gives an address back.
    pub(crate) fn release(&mut self, ip: Ipv4Addr, dns: &mut Dns) {
        self.server.release(ip);
        self.drain_events(dns, None, Duration::ZERO);
    }

    /// The guest on `port` is to have `address` and `name`.
    pub(crate) fn port_opened(
        &mut self,
        port: PortId,
        address: Ipv4Addr,
        name: &str,
        dns: &mut Dns,
    ) {
        let name = self.add_name(name, address, dns);
        self.seats.insert(
            port,
            Seat {
                address,
                name,
                address6: None,
            },
        );
    }

    /// The guest on `port` keeps `address6`: its names lead there too.
    pub(crate) fn set_address6(&mut self, port: PortId, address6: Ipv6Addr, dns: &mut Dns) {
        let Some(seat) = self.seats.get_mut(&port) else {
            return;
        };
        seat.address6 = Some(address6);
        let address = seat.address;
        for label in self.names.of(address) {
            set_host(dns, &label, address, Some(address6));
        }
    }

    /// The IPv6 address that the guest on `port` keeps.
    pub(crate) fn address6(&self, port: PortId) -> Option<Ipv6Addr> {
        self.seats.get(&port)?.address6
    }

    /// The guest on `port` is gone; its lease runs on for when it comes back.
    pub(crate) fn port_closed(&mut self, port: PortId, dns: &mut Dns) {
        self.server.port_closed(port);
        if let Some(Seat {
            address,
            name: Some(name),
            ..
        }) = self.seats.remove(&port)
        {
            self.remove_name(&name, address, dns);
            // What the lease is called stays, as the lease does; an IPv6 address is the guest's own.
            for label in self.names.of(address) {
                set_host(dns, &label, address, None);
            }
        }
        self.drain_events(dns, None, Duration::ZERO);
    }

    /// Whether the guest of another port keeps `ip`.
    pub(crate) fn is_for_another6(&self, ip: Ipv6Addr, port: PortId) -> bool {
        self.seats
            .iter()
            .any(|(owner, seat)| *owner != port && seat.address6 == Some(ip))
    }

    /// Whether `ip` is set aside for the guest of another port.
    pub(crate) fn is_for_another(&self, ip: Ipv4Addr, port: PortId) -> bool {
        if Some(ip) == self.router {
            return self.trunk != Some(port);
        }
        self.seats
            .iter()
            .any(|(owner, seat)| *owner != port && seat.address == ip)
    }

    /// Ties the address of `port` to the hardware address that its guest turned out to have.
    pub(crate) fn bind(&mut self, port: PortId, mac: [u8; 6]) {
        let Some(seat) = self.seats.get_mut(&port) else {
            return;
        };
        let owner = Owner::Mac(mac);
        let reserved = self.server.reservations().find(|held| held.owner == owner);
        if let Some(other) = reserved
            .map(|held| held.ip)
            .filter(|ip| *ip != seat.address)
        {
            // It was not known who sits here: another address is kept for this guest.
            seat.address = other;
            return;
        }
        let held = self
            .server
            .reservations()
            .find(|held| held.ip == seat.address);
        if held.is_some_and(|held| held.owner == owner) {
            return;
        }
        // A guest that restarted with another hardware address, or the first one ever.
        self.server.release(seat.address);
        if let Err(err) = self.server.reserve(Reservation::new(owner, seat.address)) {
            log::debug!(
                "port {port}: {} is not kept for its guest: {err}",
                seat.address
            );
        }
    }

    /// Answers a DHCP message.
    pub(crate) fn handle(
        &mut self,
        port: PortId,
        src_mac: [u8; 6],
        payload: &[u8],
        now: Duration,
    ) -> Option<Reply> {
        if MacAddr(src_mac).is_unicast() {
            self.bind(port, src_mac);
        }
        self.server.handle(port, src_mac, payload, now)
    }

    /// Lets names and neighbours follow what has happened to leases.
    pub(crate) fn settle(
        &mut self,
        dns: &mut Dns,
        neighbours: &mut Neighbours<Ipv4Addr>,
        now: Duration,
    ) {
        self.drain_events(dns, Some(neighbours), now);
    }

    /// Ends leases that are over.
    pub(crate) fn expire(
        &mut self,
        now: Duration,
        dns: &mut Dns,
        neighbours: &mut Neighbours<Ipv4Addr>,
    ) {
        self.server.expire(now);
        self.drain_events(dns, Some(neighbours), now);
    }

    fn drain_events(
        &mut self,
        dns: &mut Dns,
        mut neighbours: Option<&mut Neighbours<Ipv4Addr>>,
        now: Duration,
    ) {
        while let Some(event) = self.server.poll_event() {
            match event {
                LeaseEvent::Bound {
                    ip,
                    mac,
                    port,
                    hostname,
                    ..
                } => {
                    if let Some(neighbours) = neighbours.as_deref_mut() {
                        neighbours.assign(
                            ip,
                            Neighbour {
                                mac: MacAddr(mac),
                                port,
                            },
                            now,
                        );
                    }
                    if let Some(name) = hostname {
                        self.add_name(&name, ip, dns);
                    }
                }
                LeaseEvent::Released { ip, hostname, .. }
                | LeaseEvent::Expired { ip, hostname, .. } => {
                    if let Some(neighbours) = neighbours.as_deref_mut() {
                        neighbours.forget(ip);
                    }
                    if let Some(name) = hostname {
                        self.remove_name(&name, ip, dns);
                    }
                }
                _ => {}
            }
        }
    }

    fn add_name(&mut self, name: &str, ip: Ipv4Addr, dns: &mut Dns) -> Option<String> {
        let label = self.names.claim(name, ip)?;
        let seat = self.seats.values().find(|seat| seat.address == ip);
        let address6 = match seat {
            Some(seat) => seat.address6,
            None => self.behind_trunk.get(&ip).copied(),
        };
        set_host(dns, &label, ip, address6);
        Some(label)
    }

    fn remove_name(&mut self, name: &str, ip: Ipv4Addr, dns: &mut Dns) {
        // The seat's own name outlives the lease.
        let seated = self
            .seats
            .values()
            .any(|seat| seat.address == ip && seat.name.as_deref() == Some(name));
        if !seated && self.names.release(name, ip) {
            dns.remove_host(name);
        }
    }
}

fn set_host(dns: &mut Dns, label: &str, ip: Ipv4Addr, ip6: Option<Ipv6Addr>) {
    let addresses: Vec<IpAddr> = [Some(IpAddr::V4(ip)), ip6.map(IpAddr::V6)]
        .into_iter()
        .flatten()
        .collect();
    if let Err(err) = dns.set_host(label, &addresses) {
        log::debug!("{label}: {err}");
    }
}
