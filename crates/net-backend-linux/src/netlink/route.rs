//! Routes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures_util::TryStreamExt;
use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteMetric, RouteType, RouteVia,
};
use serde::{Deserialize, Serialize};

use super::Netlink;
use crate::{LinuxError, Result};

/// A route of one next hop through one interface.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Route {
    /// Where it leads: 0.0.0.0/0 or ::/0 for a default route.
    pub destination: IpNetwork,
    /// The router; none where the destination is on the link. That of an IPv4 route may have an
    /// IPv6 address (RFC 8950).
    pub gateway: Option<IpAddr>,
    /// Number of the interface.
    pub interface: u32,
    /// Metric: of two routes to one destination the smaller is taken.
    pub metric: Option<u32>,
    /// Table: 254 is the main one.
    pub table: u32,
    /// How far away the destination is (`rtnetlink(7)`): 0 anywhere, 253 on the link.
    pub scope: u8,
    /// Who made it (`rtnetlink(7)`), such as [`Self::BY_KERNEL`].
    pub protocol: u8,
    /// The source address that it prefers.
    pub source: Option<IpAddr>,
    /// The gateway is on the link even where no address says so.
    pub onlink: bool,
    /// Largest IP packet along it, in bytes.
    pub mtu: Option<u32>,
    /// Largest TCP segment that is announced along it, in bytes.
    pub advmss: Option<u32>,
}

impl Route {
    /// The kernel's, with an address; it comes and goes with that.
    pub const BY_KERNEL: u8 = 2;
    /// That of a router advertisement; the kernel learns it again, and it expires.
    pub const BY_ADVERTISEMENT: u8 = 9;
    /// The administrator's, or a program's like this one.
    pub const STATIC: u8 = 4;
    /// The main table.
    pub const MAIN: u32 = 254;
    /// The table of the host's own addresses, which the kernel keeps.
    const LOCAL: u32 = 255;

    /// A route of the main table.
    pub const fn new(destination: IpNetwork, gateway: Option<IpAddr>, interface: u32) -> Self {
        Self {
            destination,
            gateway,
            interface,
            metric: None,
            table: Self::MAIN,
            scope: match gateway {
                Some(_) => 0,
                None => 253,
            },
            protocol: Self::STATIC,
            source: None,
            onlink: false,
            mtu: None,
            advmss: None,
        }
    }

    /// A default route through `gateway`.
    pub const fn default_via(gateway: IpAddr, interface: u32) -> Self {
        let destination = match gateway {
            IpAddr::V4(_) => EVERY_IPV4,
            IpAddr::V6(_) => EVERY_IPV6,
        };
        Self::new(destination, Some(gateway), interface)
    }

    /// The route, if it is one through `interface` outside of the kernel's own table.
    fn from_message(message: &RouteMessage, interface: u32) -> Result<Option<Self>> {
        let header = &message.header;
        // A message without a destination means every one.
        let everywhere = match header.address_family {
            AddressFamily::Inet6 => EVERY_IPV6,
            _ => EVERY_IPV4,
        };
        let mut this = Self::new(everywhere, None, 0);
        (this.table, this.scope) = (header.table.into(), header.scope.into());
        this.protocol = header.protocol.into();
        this.onlink = header.flags.contains(RouteFlags::Onlink);
        let mut several = false;
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Destination(address) => {
                    let prefix = header.destination_prefix_length;
                    let network = ip(address).and_then(|ip| IpNetwork::new(ip, prefix).ok());
                    let Some(network) = network else {
                        return Ok(None);
                    };
                    this.destination = network;
                }
                RouteAttribute::Gateway(address) => this.gateway = ip(address),
                RouteAttribute::Via(RouteVia::Inet6(address)) => {
                    this.gateway = Some((*address).into());
                }
                RouteAttribute::Oif(index) => this.interface = *index,
                RouteAttribute::Priority(metric) => this.metric = Some(*metric),
                RouteAttribute::Table(table) => this.table = *table,
                RouteAttribute::PrefSource(address) => this.source = ip(address),
                RouteAttribute::Metrics(metrics) => this.read_metrics(metrics),
                RouteAttribute::NhId(_) => several = true,
                RouteAttribute::MultiPath(hops) => {
                    several = true;
                    if hops.iter().any(|hop| hop.interface_index == interface) {
                        this.interface = interface;
                    }
                }
                _ => {}
            }
        }
        if this.interface != interface
            || this.table == Self::LOCAL
            || header.kind != RouteType::Unicast
        {
            return Ok(None);
        }
        if several {
            return Err(LinuxError::Invalid(format!(
                "the route to {} has several next hops or one by number, which cannot be moved",
                this.destination
            )));
        }
        Ok(Some(this))
    }

    fn read_metrics(&mut self, metrics: &[RouteMetric]) {
        for metric in metrics {
            match metric {
                RouteMetric::Mtu(bytes) => self.mtu = Some(*bytes),
                RouteMetric::Advmss(bytes) => self.advmss = Some(*bytes),
                _ => {}
            }
        }
    }

    fn to_message(&self) -> RouteMessage {
        let mut message = match self.destination {
            IpNetwork::V4(network) => RouteMessageBuilder::<Ipv4Addr>::new()
                .destination_prefix(network.network(), network.prefix())
                .build(),
            IpNetwork::V6(network) => RouteMessageBuilder::<Ipv6Addr>::new()
                .destination_prefix(network.network(), network.prefix())
                .build(),
        };
        let header = &mut message.header;
        header.scope = self.scope.into();
        header.protocol = self.protocol.into();
        // A table beyond the byte of the header is told by the attribute alone.
        header.table = u8::try_from(self.table).unwrap_or(0);
        if self.onlink {
            header.flags |= RouteFlags::Onlink;
        }
        let attributes = &mut message.attributes;
        attributes.push(RouteAttribute::Oif(self.interface));
        attributes.push(RouteAttribute::Table(self.table));
        attributes.extend(self.gateway.map(|gateway| match gateway {
            IpAddr::V6(gateway) if self.destination.is_ipv4() => {
                RouteAttribute::Via(RouteVia::Inet6(gateway))
            }
            _ => RouteAttribute::Gateway(gateway.into()),
        }));
        attributes.extend(self.metric.map(RouteAttribute::Priority));
        attributes.extend(self.source.map(|ip| RouteAttribute::PrefSource(ip.into())));
        let metrics: Vec<_> = [
            self.mtu.map(RouteMetric::Mtu),
            self.advmss.map(RouteMetric::Advmss),
        ]
        .into_iter()
        .flatten()
        .collect();
        if !metrics.is_empty() {
            attributes.push(RouteAttribute::Metrics(metrics));
        }
        message
    }
}

/// 0.0.0.0/0; checked when this is compiled.
const EVERY_IPV4: IpNetwork = match Ipv4Network::new_checked(Ipv4Addr::UNSPECIFIED, 0) {
    Some(network) => IpNetwork::V4(network),
    None => panic!("a prefix of 0 bits is one"),
};

/// ::/0; checked when this is compiled.
const EVERY_IPV6: IpNetwork = match Ipv6Network::new_checked(Ipv6Addr::UNSPECIFIED, 0) {
    Some(network) => IpNetwork::V6(network),
    None => panic!("a prefix of 0 bits is one"),
};

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some((*ip).into()),
        RouteAddress::Inet6(ip) => Some((*ip).into()),
        _ => None,
    }
}

impl Netlink {
    /// The routes through an interface, IPv4 and IPv6, of every table but the kernel's own of local
    /// addresses. Congestion windows and other metrics of TCP are not listed.
    ///
    /// To give them back: the addresses first, which bring the kernel's routes; then those without a
    /// gateway, then the rest. Routes of IPv6 stay when an address goes and have to be deleted.
    ///
    /// # Errors
    /// As for every method; [`LinuxError::Invalid`] if one of them shares its traffic with another
    /// interface or names its next hop by number: such a route cannot be moved.
    pub fn routes(&self, index: u32) -> Result<Vec<Route>> {
        let mut routes = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut question = RouteMessage::default();
            question.header.address_family = family;
            let request = self.handle.route().get(question).execute();
            let what = || format!("list the routes of interface {index}");
            let messages: Vec<RouteMessage> = self.wait(what, request.try_collect())?;
            for message in &messages {
                routes.extend(Route::from_message(message, index)?);
            }
        }
        Ok(routes)
    }

    /// Adds a route; the gateway has to be on the link, unless the route says so itself.
    ///
    /// # Errors
    /// As for every method; EEXIST if there is one to the same destination with the same metric, of
    /// IPv6 even through another interface; ENETUNREACH or EINVAL if no address of the
    /// interface covers the gateway, ENETDOWN if the interface is down.
    pub fn add_route(&self, route: &Route) -> Result<()> {
        let request = self.handle.route().add(route.to_message()).execute();
        self.wait(
            || format!("add the route to {}", route.destination),
            request,
        )
    }

    /// Takes a route away.
    ///
    /// # Errors
    /// As for every method; ESRCH if it is not there.
    pub fn delete_route(&self, route: &Route) -> Result<()> {
        let request = self.handle.route().del(route.to_message()).execute();
        self.wait(
            || format!("take away the route to {}", route.destination),
            request,
        )
    }

    /// Adds a default route through `gateway`, which has to be on the link.
    ///
    /// # Errors
    /// As [`Self::add_route`].
    pub fn add_default_route(&self, index: u32, gateway: IpAddr) -> Result<()> {
        self.add_route(&Route::default_via(gateway, index))
    }
}
