//! Which servers to ask, in which order.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::name::Name;

/// Servers used per list; the rest of a longer one is ignored.
pub const MAX_UPSTREAMS: usize = 16;
/// A server that did not answer stands behind the others for this long.
const DEMOTED: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(crate) struct Upstreams {
    default: Vec<SocketAddr>,
    /// Longest suffix first.
    split: Vec<(Name, Vec<SocketAddr>)>,
    demoted: BTreeMap<SocketAddr, Duration>,
}

impl Upstreams {
    pub(crate) fn new(default: Vec<SocketAddr>, split: Vec<(Name, Vec<SocketAddr>)>) -> Self {
        let mut upstreams = Self {
            default: Vec::new(),
            split: Vec::new(),
            demoted: BTreeMap::new(),
        };
        upstreams.set_default(default);
        upstreams.set_split(split);
        upstreams
    }

    /// Returns whether anything changed.
    pub(crate) fn set_default(&mut self, mut servers: Vec<SocketAddr>) -> bool {
        servers.truncate(MAX_UPSTREAMS);
        if servers == self.default {
            return false;
        }
        self.default = servers;
        self.demoted.clear();
        true
    }

    pub(crate) fn set_split(&mut self, mut split: Vec<(Name, Vec<SocketAddr>)>) -> bool {
        for (_, servers) in &mut split {
            servers.truncate(MAX_UPSTREAMS);
        }
        split.sort_by_key(|(suffix, _)| std::cmp::Reverse(suffix.labels().count()));
        if split == self.split {
            return false;
        }
        self.split = split;
        self.demoted.clear();
        true
    }

    /// The longest split suffix that `name` lies in.
    pub(crate) fn split_of(&self, name: &Name) -> Option<&Name> {
        self.split
            .iter()
            .map(|(suffix, _)| suffix)
            .find(|suffix| name.is_within(suffix))
    }

    /// The servers for `name`: as configured, those that failed of late last.
    pub(crate) fn order(&self, name: &Name, now: Duration) -> Vec<SocketAddr> {
        let split = self.split.iter().find(|(suffix, _)| name.is_within(suffix));
        let mut servers = split.map_or(&self.default, |(_, servers)| servers).clone();
        servers.sort_by_key(|server| self.demoted.get(server).is_some_and(|until| *until > now));
        servers
    }

    /// `server` did not answer in time, or could not be reached.
    pub(crate) fn demote(&mut self, server: SocketAddr, now: Duration) {
        let lists = self
            .split
            .iter()
            .map(|(_, servers)| servers)
            .chain([&self.default]);
        // Only servers in use, so that the table is bounded by the configuration.
        if lists.flatten().any(|known| *known == server) {
            self.demoted.insert(server, now + DEMOTED);
        }
    }

    /// `server` answered.
    pub(crate) fn promote(&mut self, server: SocketAddr) {
        self.demoted.remove(&server);
    }
}
