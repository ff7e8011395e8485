//! What a router advertises.

use std::net::Ipv6Addr;
use std::time::Duration;

/// A prefix of the link (RFC 4861, section 4.6.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Prefix {
    /// Its first bits; those behind `length` are sent as zero.
    pub address: Ipv6Addr,
    /// Length in bits: 0 to 128. Hosts form addresses of their own in a prefix of 64 only.
    pub length: u8,
    /// Whether its addresses are neighbours, reached without the router.
    pub on_link: bool,
    /// Whether hosts form addresses in it (stateless autoconfiguration, RFC 4862).
    pub autonomous: bool,
    /// How long it is on-link and addresses in it stay valid: whole seconds, or [`Duration::MAX`]
    /// for ever.
    pub valid: Duration,
    /// How long addresses in it are used for new connections; not more than `valid`.
    pub preferred: Duration,
}

impl Prefix {
    /// A prefix that is on-link and autonomous, valid for 24 hours and preferred for 4.
    ///
    /// RFC 4861's defaults are 30 and 7 days. Guests of a virtual network that has gone should not
    /// hold on to its addresses for a month, and every advertisement renews both.
    pub const fn new(address: Ipv6Addr, length: u8) -> Self {
        Self {
            address,
            length,
            on_link: true,
            autonomous: true,
            valid: Duration::from_secs(24 * 3600),
            preferred: Duration::from_secs(4 * 3600),
        }
    }
}

/// How much a router wants to be the default one (RFC 4191, section 2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Preference {
    /// Before others.
    High,
    /// As routers do that know nothing of preferences.
    #[default]
    Medium,
    /// After others.
    Low,
}

/// What a router advertises, and how often.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RaConfig {
    /// Hop limit that hosts are to use: 1 to 255; 0 leaves it to them.
    pub hop_limit: u8,
    /// Whether addresses come from DHCPv6.
    pub managed: bool,
    /// Whether other settings come from DHCPv6.
    pub other: bool,
    /// For how long this is a default router: zero if it is none, else from `max_interval` to
    /// 9000 s.
    pub router_lifetime: Duration,
    /// Its preference among default routers; not sent where the lifetime is zero (RFC 4191, 2.2).
    pub preference: Preference,
    /// How long a neighbour counts as reachable, in milliseconds, at most an hour; 0: hosts decide.
    pub reachable_time: u32,
    /// Milliseconds between two solicitations of a neighbour; 0: hosts decide.
    pub retrans_timer: u32,
    /// The router's link-layer address, which saves hosts a question.
    pub link_address: Option<[u8; 6]>,
    /// Largest packet of the link, in bytes: 1280 or more.
    pub mtu: Option<u32>,
    /// Prefixes of the link.
    pub prefixes: Vec<Prefix>,
    /// Recursive name servers (RFC 8106), at most 64.
    pub rdnss: Vec<Ipv6Addr>,
    /// Domains to search (RFC 8106): host names, at most 64.
    pub dnssl: Vec<String>,
    /// How long servers and domains are used; `max_interval` or more.
    pub dns_lifetime: Duration,
    /// Least time between two unsolicited advertisements: 3 s to 3/4 of `max_interval`.
    pub min_interval: Duration,
    /// Most time between two unsolicited advertisements: 4 to 1800 s.
    pub max_interval: Duration,
}

/// Why a configuration was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RaConfigError {
    /// RFC 4861, section 6.2.1.
    #[error("advertisement intervals must be 4 to 1800 s, the least one 3 s to 3/4 of the most")]
    Interval,
    /// RFC 4861, section 6.2.1.
    #[error("the router lifetime must be zero, or from the longest interval to 9000 s")]
    RouterLifetime,
    /// RFC 8106, section 5.1.
    #[error("the lifetime of name servers must not be below the longest interval")]
    DnsLifetime,
    /// RFC 4861, section 6.2.1.
    #[error("the reachable time must not pass an hour")]
    ReachableTime,
    /// RFC 8200, section 5.
    #[error("an MTU of {0} is below 1280, the least of IPv6")]
    Mtu(u32),
    /// Too long, link-local, multicast, or preferred for longer than valid (RFC 4861, 4.6.2).
    #[error("{}/{} cannot be advertised", .0.address, .0.length)]
    Prefix(Prefix),
    /// Not an address that a question can be sent to.
    #[error("{0} is no name server's address")]
    NameServer(Ipv6Addr),
    /// Not a host name (RFC 1035, section 2.3.1).
    #[error("`{0}` is not a domain to search")]
    Domain(String),
    /// The options would not fit into a packet of 1280 bytes, which every link carries.
    #[error("an advertisement of {0} bytes does not fit every link")]
    TooLong(usize),
}

/// Servers or domains of one option, at most; the length field bounds servers at 127.
const MAX_LISTED: usize = 64;
/// IPv6 header taken off the least MTU.
const MAX_MESSAGE: usize = 1280 - 40;

impl RaConfig {
    /// A default router for `prefix`, with RFC 4861's intervals: 200 to 600 s.
    pub fn new(prefix: Prefix) -> Self {
        let max_interval = Duration::from_secs(600);
        Self {
            hop_limit: 64,
            managed: false,
            other: false,
            router_lifetime: 3 * max_interval,
            preference: Preference::Medium,
            reachable_time: 0,
            retrans_timer: 0,
            link_address: None,
            mtu: None,
            prefixes: vec![prefix],
            rdnss: Vec::new(),
            dnssl: Vec::new(),
            dns_lifetime: 3 * max_interval,
            min_interval: max_interval / 3,
            max_interval,
        }
    }

    /// Checks every value against its range.
    ///
    /// # Errors
    /// The first value that is out of it.
    pub fn validate(&self) -> Result<(), RaConfigError> {
        let seconds = Duration::from_secs;
        let intervals = self.max_interval >= seconds(4)
            && self.max_interval <= seconds(1800)
            && self.min_interval >= seconds(3)
            && self.min_interval <= self.max_interval * 3 / 4;
        if !intervals {
            return Err(RaConfigError::Interval);
        }
        let lifetime = self.router_lifetime;
        if !lifetime.is_zero() && (lifetime < self.max_interval || lifetime > seconds(9000)) {
            return Err(RaConfigError::RouterLifetime);
        }
        if self.dns_lifetime < self.max_interval {
            return Err(RaConfigError::DnsLifetime);
        }
        if self.reachable_time > 3_600_000 {
            return Err(RaConfigError::ReachableTime);
        }
        if let Some(mtu) = self.mtu.filter(|mtu| *mtu < 1280) {
            return Err(RaConfigError::Mtu(mtu));
        }
        for prefix in &self.prefixes {
            let address = prefix.address;
            let bad = prefix.length > 128
                || address.is_multicast()
                || address.is_unicast_link_local()
                || prefix.preferred > prefix.valid;
            if bad {
                return Err(RaConfigError::Prefix(*prefix));
            }
        }
        for server in &self.rdnss {
            if server.is_unspecified() || server.is_multicast() || server.is_loopback() {
                return Err(RaConfigError::NameServer(*server));
            }
        }
        for domain in &self.dnssl {
            if !is_domain(domain) {
                return Err(RaConfigError::Domain(domain.clone()));
            }
        }
        let len = super::message(self, super::State::Advertising).len();
        if len > MAX_MESSAGE || self.rdnss.len() > MAX_LISTED || self.dnssl.len() > MAX_LISTED {
            return Err(RaConfigError::TooLong(len));
        }
        Ok(())
    }
}

/// Whether `name` is labels of 1 to 63 letters, digits and inner hyphens, 253 bytes in all.
fn is_domain(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(label)
}
