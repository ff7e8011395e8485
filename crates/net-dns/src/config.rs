//! Configuration and its defaults.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::name::NameError;

/// How a [`Forwarder`](crate::Forwarder) behaves. Start from [`Config::new`].
#[derive(Debug, Clone)]
pub struct Config {
    /// Servers asked, in order of preference; more than 16 are ignored. None is allowed: then
    /// every foreign name is SERVFAIL at once.
    pub upstreams: Vec<SocketAddr>,
    /// Servers for the names in a suffix, instead of `upstreams`; the longest suffix wins.
    pub split: Vec<(String, Vec<SocketAddr>)>,
    /// The domain of the network; names in it are answered here or do not exist. Default
    /// `internal`, the name reserved for private use.
    pub domain: Option<String>,
    /// The network's own prefixes: address and prefix length. Reverse look-ups in them are
    /// answered here or do not exist.
    pub local_prefixes: Vec<(IpAddr, u8)>,
    /// Whether A and AAAA queries for a single label that is no local name go upstream. Off by
    /// default: such a name is meant for the local network, and would tell the upstream about it.
    pub forward_single_labels: bool,
    /// TTL of local answers, in seconds. Default 30.
    pub local_ttl: u32,
    /// Local names at most. Default 4096.
    pub max_hosts: usize,
    /// Cached answers at most. Default 4096.
    pub cache_entries: usize,
    /// Bytes of cached answers at most, tables included. Default 4 MiB.
    pub cache_bytes: usize,
    /// Longest time an answer is kept, in seconds. Default one day.
    pub max_ttl: u32,
    /// Longest time a negative answer is kept, in seconds. Default 15 minutes; RFC 2308
    /// section 5 finds up to three hours sensible.
    pub max_negative_ttl: u32,
    /// Questions under way at most; each may hold up to six sockets of the I/O layer, normally
    /// one. Default 256.
    pub in_flight: usize,
    /// Queries waiting for an answer at most, of all clients. Default 1024.
    pub waiting: usize,
    /// Queries waiting for an answer at most, of one client. Default 64.
    pub waiting_per_client: usize,
    /// When to ask the next server. Default 1.5 s.
    pub attempt_timeout: Duration,
    /// When to answer SERVFAIL. Default 4.5 s; values above 5 s count as 5 s.
    pub query_timeout: Duration,
    /// Secret from the operating system's random source: the ids of upstream queries follow from
    /// it, and whoever knows it can forge answers.
    pub seed: [u8; 16],
}

impl Config {
    /// The defaults, with a seed that must come from the operating system's random source.
    #[must_use]
    pub fn new(seed: [u8; 16]) -> Self {
        Self {
            upstreams: Vec::new(),
            split: Vec::new(),
            domain: Some("internal".into()),
            local_prefixes: Vec::new(),
            forward_single_labels: false,
            local_ttl: 30,
            max_hosts: 4096,
            cache_entries: 4096,
            cache_bytes: 4 << 20,
            max_ttl: 86_400,
            max_negative_ttl: 900,
            in_flight: 256,
            waiting: 1024,
            waiting_per_client: 64,
            attempt_timeout: Duration::from_millis(1500),
            query_timeout: Duration::from_millis(4500),
            seed,
        }
    }
}

/// Why a configuration was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The local domain is not a domain name.
    #[error("the domain {name:?} is not usable: {cause}")]
    Domain {
        /// As given.
        name: String,
        /// What is wrong with it.
        cause: NameError,
    },
    /// A split suffix is not a domain name.
    #[error("the suffix {name:?} is not usable: {cause}")]
    Suffix {
        /// As given.
        name: String,
        /// What is wrong with it.
        cause: NameError,
    },
    /// A prefix length is longer than the address.
    #[error("the prefix {0}/{1} is longer than an address")]
    Prefix(IpAddr, u8),
}
