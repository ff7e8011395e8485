//! What a server is told before it starts, and the checks on it.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::time::Duration;

use thiserror::Error;

use crate::v4::Subnet;
use crate::v4::codec::{Route, names};

/// The most addresses a pool may have: a /16.
pub const MAX_POOL: u32 = 1 << 16;
/// The smallest MTU a server may announce: what every IPv4 host takes (RFC 791 section 3.1), and
/// enough for every reply of this server.
pub const MIN_MTU: u16 = 576;
/// Bound of each list in the configuration.
const MAX_LIST: usize = 32;
const MIN_LEASE: Duration = Duration::from_secs(60);
/// `u32::MAX` seconds would mean "for ever".
const MAX_LEASE: Duration = Duration::from_secs(u32::MAX as u64 - 1);

/// What to do with a client that renews or reboots with an address the server has no record of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UnknownClient {
    /// Grant the address when it is free. Right for the only server of a network: guests keep
    /// their addresses over a restart of the server, even when leases were not kept.
    #[default]
    Adopt,
    /// Refuse with NAK, so that the client starts over.
    Nak,
    /// Stay silent, as RFC 2131 section 4.3.2 asks where servers share a network.
    Silent,
}

/// Configuration of a [`Server`](super::Server). [`ServerConfig::new`] fills in defaults; change
/// the fields that differ. Nothing is checked before `Server::new`.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ServerConfig {
    /// The server's own address on the network; also its server identifier.
    pub server_ip: Ipv4Addr,
    /// Length of the network prefix, 1 to 30.
    pub prefix_len: u8,
    /// First and last address to give out, inside the network, at most [`MAX_POOL`] of them.
    /// Default: the whole network. Addresses named in this configuration are never given.
    pub pool: RangeInclusive<Ipv4Addr>,
    /// Further addresses inside the pool that are never given.
    pub exclude: Vec<Ipv4Addr>,
    /// Option 3. Default: the server.
    pub router: Option<Ipv4Addr>,
    /// Option 6, at most 32. Default: the server.
    pub dns: Vec<Ipv4Addr>,
    /// Option 15.
    pub domain: Option<String>,
    /// Option 119, at most 32 names.
    pub search: Vec<String>,
    /// Option 26, at least 576; also bounds the size of replies.
    pub mtu: Option<u16>,
    /// Option 42, at most 32.
    pub ntp: Vec<Ipv4Addr>,
    /// Option 121, at most 32. When not empty, a default route over `router` is added unless
    /// there is one, because clients then ignore option 3 (RFC 3442).
    pub routes: Vec<Route>,
    /// Option 108 (RFC 8925): tells clients that ask for it to do without IPv4 for so long.
    pub v6only_wait: Option<Duration>,
    /// Length of a lease, 60 s or more; a client may ask for less. Default: one hour.
    pub lease_time: Duration,
    /// How long an OFFER keeps its address. Default: 30 s.
    pub offer_hold: Duration,
    /// How long a declined address stays unused. Default: ten minutes.
    pub quarantine: Duration,
    /// The most addresses one port may hold: leases, offers and quarantined ones together.
    /// Addresses reserved by the host are not counted. Default: 16.
    pub max_per_port: usize,
    /// See [`UnknownClient`].
    pub unknown_clients: UnknownClient,
    /// Refuse a message whose `chaddr` is not the frame's source address, unless a relay
    /// forwarded it. Default: on.
    pub check_source_mac: bool,
    /// Host names no guest may take. Default: `gateway`, `localhost`.
    pub reserved_names: Vec<String>,
}

impl ServerConfig {
    /// Defaults for a server at `server_ip`: it is router and resolver, and gives out the rest
    /// of its network (the first [`MAX_POOL`] addresses of a larger one).
    pub fn new(server_ip: Ipv4Addr, prefix_len: u8) -> Self {
        let subnet = Subnet::new(server_ip, prefix_len);
        let first = u32::from(subnet.network()).saturating_add(1);
        let last = u32::from(subnet.broadcast()).saturating_sub(1);
        let last = last.min(first.saturating_add(MAX_POOL - 1));
        Self {
            server_ip,
            prefix_len,
            pool: Ipv4Addr::from(first)..=Ipv4Addr::from(last),
            exclude: Vec::new(),
            router: Some(server_ip),
            dns: vec![server_ip],
            domain: None,
            search: Vec::new(),
            mtu: None,
            ntp: Vec::new(),
            routes: Vec::new(),
            v6only_wait: None,
            lease_time: Duration::from_secs(3600),
            offer_hold: Duration::from_secs(30),
            quarantine: Duration::from_secs(600),
            max_per_port: 16,
            unknown_clients: UnknownClient::default(),
            check_source_mac: true,
            reserved_names: vec!["gateway".into(), "localhost".into()],
        }
    }

    pub(super) fn subnet(&self) -> Subnet {
        Subnet::new(self.server_ip, self.prefix_len)
    }

    /// Addresses that belong to the infrastructure and are never given to a guest.
    pub(super) fn excluded(&self) -> BTreeSet<u32> {
        let subnet = self.subnet();
        [self.server_ip, subnet.network(), subnet.broadcast()]
            .into_iter()
            .chain(self.router)
            .chain(self.dns.iter().copied())
            .chain(self.ntp.iter().copied())
            .chain(self.routes.iter().map(|route| route.gateway))
            .chain(self.exclude.iter().copied())
            .map(u32::from)
            .collect()
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        if !(1..=30).contains(&self.prefix_len) {
            return Err(ConfigError::PrefixLen(self.prefix_len));
        }
        let subnet = self.subnet();
        let ip = self.server_ip;
        if !subnet.is_host(ip) || ip.is_multicast() || ip.is_loopback() || ip.octets()[0] == 0 {
            return Err(ConfigError::ServerAddress(ip));
        }
        let (first, last) = (*self.pool.start(), *self.pool.end());
        if first > last {
            return Err(ConfigError::PoolReversed { first, last });
        }
        if !subnet.contains(first) || !subnet.contains(last) {
            return Err(ConfigError::PoolOutside { first, last });
        }
        let size = u32::from(last) - u32::from(first);
        if size >= MAX_POOL {
            return Err(ConfigError::PoolTooLarge { first, last });
        }
        let excluded = self.excluded();
        if (u32::from(first)..=u32::from(last)).all(|addr| excluded.contains(&addr)) {
            return Err(ConfigError::PoolEmpty { first, last });
        }
        if let Some(router) = self.router
            && !subnet.is_host(router)
        {
            return Err(ConfigError::RouterOutside(router));
        }
        if let Some(mtu) = self.mtu
            && mtu < MIN_MTU
        {
            return Err(ConfigError::Mtu(mtu));
        }
        for name in self.domain.iter().chain(&self.search) {
            if !names::is_domain_name(name) {
                return Err(ConfigError::Name(name.clone()));
            }
        }
        if let Some(route) = self.routes.iter().find(|route| route.prefix_len > 32) {
            return Err(ConfigError::PrefixLen(route.prefix_len));
        }
        for (list, len) in [
            ("dns", self.dns.len()),
            ("search", self.search.len()),
            ("ntp", self.ntp.len()),
            ("routes", self.routes.len()),
        ] {
            if len > MAX_LIST {
                return Err(ConfigError::TooMany {
                    list,
                    max: MAX_LIST,
                });
            }
        }
        if !(MIN_LEASE..=MAX_LEASE).contains(&self.lease_time) {
            return Err(ConfigError::LeaseTime(self.lease_time));
        }
        if self.offer_hold.is_zero() || self.offer_hold > self.lease_time {
            return Err(ConfigError::OfferHold(self.offer_hold));
        }
        if self.max_per_port == 0 {
            return Err(ConfigError::NoLeasesPerPort);
        }
        Ok(())
    }
}

/// A configuration no server can run with. Always the host's mistake, never a guest's.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The network must be a /1 to /30, a route at most a /32.
    #[error("prefix length /{0} is out of range: a network needs /1 to /30, a route /0 to /32")]
    PrefixLen(u8),
    /// The server needs a unicast host address of the network.
    #[error("{0} cannot be the server's address: it is not a host address of the network")]
    ServerAddress(Ipv4Addr),
    /// The pool ends before it begins.
    #[error("address pool {first} to {last} ends before it begins")]
    PoolReversed {
        /// First address.
        first: Ipv4Addr,
        /// Last address.
        last: Ipv4Addr,
    },
    /// The pool is not within the network.
    #[error("address pool {first} to {last} is not within the network")]
    PoolOutside {
        /// First address.
        first: Ipv4Addr,
        /// Last address.
        last: Ipv4Addr,
    },
    /// The pool has more than [`MAX_POOL`] addresses.
    #[error("address pool {first} to {last} is larger than {MAX_POOL} addresses")]
    PoolTooLarge {
        /// First address.
        first: Ipv4Addr,
        /// Last address.
        last: Ipv4Addr,
    },
    /// Every address of the pool belongs to the infrastructure or is excluded.
    #[error("address pool {first} to {last} has no address left to give")]
    PoolEmpty {
        /// First address.
        first: Ipv4Addr,
        /// Last address.
        last: Ipv4Addr,
    },
    /// The router must be a host of the network.
    #[error("router {0} is not a host address of the network")]
    RouterOutside(Ipv4Addr),
    /// See [`MIN_MTU`].
    #[error("MTU {0} is below {MIN_MTU}, the least an IPv4 host must accept")]
    Mtu(u16),
    /// Not a domain name.
    #[error("{0:?} is not a domain name")]
    Name(String),
    /// A list is too long for a DHCP reply.
    #[error("more than {max} entries in `{list}`")]
    TooMany {
        /// Which list.
        list: &'static str,
        /// Its bound.
        max: usize,
    },
    /// Lease time outside 60 s to `u32::MAX - 1` s.
    #[error("lease time {0:?} is out of range: 60 s to 4294967294 s")]
    LeaseTime(Duration),
    /// Offer hold of zero or longer than a lease.
    #[error("offer hold time {0:?} must be more than zero and no longer than a lease")]
    OfferHold(Duration),
    /// `max_per_port` is zero.
    #[error("every port must be allowed at least one address")]
    NoLeasesPerPort,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> ServerConfig {
        ServerConfig::new(Ipv4Addr::new(10, 1, 2, 1), 24)
    }

    fn error(change: impl FnOnce(&mut ServerConfig)) -> ConfigError {
        let mut config = config();
        change(&mut config);
        config.validate().unwrap_err()
    }

    #[test]
    fn defaults_are_valid_for_every_prefix() {
        for len in 1..=30 {
            let config = ServerConfig::new(Ipv4Addr::new(10, 1, 2, 1), len);
            config.validate().unwrap_or_else(|e| panic!("/{len}: {e}"));
        }
    }

    #[test]
    fn every_mistake_has_its_error() {
        let ip = Ipv4Addr::new;
        assert_eq!(error(|c| c.prefix_len = 31), ConfigError::PrefixLen(31));
        assert_eq!(error(|c| c.prefix_len = 0), ConfigError::PrefixLen(0));
        for bad in [
            ip(10, 1, 2, 0),
            ip(10, 1, 2, 255),
            ip(127, 0, 0, 1),
            ip(0, 0, 0, 1),
        ] {
            assert_eq!(
                error(|c| c.server_ip = bad),
                ConfigError::ServerAddress(bad)
            );
        }
        let (a, b) = (ip(10, 1, 2, 9), ip(10, 1, 2, 5));
        assert_eq!(
            error(|c| c.pool = a..=b),
            ConfigError::PoolReversed { first: a, last: b }
        );
        let b = ip(10, 1, 3, 5);
        assert_eq!(
            error(|c| c.pool = a..=b),
            ConfigError::PoolOutside { first: a, last: b }
        );
        let a = ip(10, 1, 2, 1);
        assert_eq!(
            error(|c| c.pool = a..=a),
            ConfigError::PoolEmpty { first: a, last: a }
        );
        assert!(matches!(
            error(|c| {
                c.prefix_len = 8;
                c.pool = ip(10, 0, 0, 0)..=ip(10, 1, 0, 0);
            }),
            ConfigError::PoolTooLarge { .. }
        ));
        let r = ip(10, 1, 3, 1);
        assert_eq!(error(|c| c.router = Some(r)), ConfigError::RouterOutside(r));
        assert_eq!(error(|c| c.mtu = Some(575)), ConfigError::Mtu(575));
        assert!(matches!(
            error(|c| c.domain = Some("a..b".into())),
            ConfigError::Name(_)
        ));
        assert!(matches!(
            error(|c| c.search = vec![String::new()]),
            ConfigError::Name(_)
        ));
        assert!(matches!(
            error(|c| c.dns = vec![r; 33]),
            ConfigError::TooMany { .. }
        ));
        assert!(matches!(
            error(|c| c.lease_time = Duration::ZERO),
            ConfigError::LeaseTime(_)
        ));
        assert!(matches!(
            error(|c| c.offer_hold = Duration::ZERO),
            ConfigError::OfferHold(_)
        ));
        assert_eq!(error(|c| c.max_per_port = 0), ConfigError::NoLeasesPerPort);
    }
}
