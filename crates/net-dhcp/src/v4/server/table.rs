//! One binding per address, and the indexes that find it.
//!
//! A binding goes Offered, Bound, Former; or Quarantined after a DECLINE. A *former* binding holds
//! nothing: it only remembers who had the address, so that the same client gets it again. A
//! *detached* binding is one whose port is gone: the lease runs on, and the next port on which
//! the same client appears takes it over.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Who a client is: its client identifier, else its hardware address (RFC 2131 section 4.2).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ClientKey {
    Id(Box<[u8]>),
    Mac([u8; 6]),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Offered,
    Bound,
    Quarantined,
    Former,
}

#[derive(Debug, Clone)]
pub(super) struct Binding {
    pub(super) key: ClientKey,
    pub(super) mac: [u8; 6],
    /// `None`: detached.
    pub(super) port: Option<u32>,
    pub(super) hostname: Option<String>,
    pub(super) state: State,
    /// When the state ends; of a former binding, when it began.
    pub(super) at: Duration,
}

impl Binding {
    /// Nobody on any present port relies on this address.
    pub(super) fn is_loose(&self) -> bool {
        match self.state {
            State::Former => true,
            State::Offered | State::Bound => self.port.is_none(),
            State::Quarantined => false,
        }
    }

    /// Held by this client, seen on this port.
    pub(super) fn is_held_by(&self, key: &ClientKey, port: u32) -> bool {
        matches!(self.state, State::Offered | State::Bound)
            && self.port == Some(port)
            && self.key == *key
    }
}

/// All bindings. `insert` and `remove` are the only ways to change one, and keep every index.
#[derive(Debug, Default)]
pub(super) struct Table {
    by_ip: BTreeMap<u32, Binding>,
    by_client: BTreeMap<ClientKey, Vec<u32>>,
    by_port: BTreeSet<(Option<u32>, u32)>,
    /// Ends of all states but Former.
    deadlines: BTreeSet<(Duration, u32)>,
    /// Former bindings, oldest first.
    formers: BTreeSet<(Duration, u32)>,
    /// Holders of host names; only bound leases hold one.
    names: BTreeMap<String, u32>,
}

impl Table {
    pub(super) fn get(&self, ip: u32) -> Option<&Binding> {
        self.by_ip.get(&ip)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Binding)> {
        self.by_ip.iter().map(|(&ip, binding)| (ip, binding))
    }

    pub(super) fn insert(&mut self, ip: u32, binding: Binding) {
        self.remove(ip);
        self.by_client
            .entry(binding.key.clone())
            .or_default()
            .push(ip);
        self.by_port.insert((binding.port, ip));
        self.ends(binding.state).insert((binding.at, ip));
        if binding.state == State::Bound
            && let Some(name) = &binding.hostname
        {
            self.names.insert(name.clone(), ip);
        }
        self.by_ip.insert(ip, binding);
    }

    pub(super) fn remove(&mut self, ip: u32) -> Option<Binding> {
        let binding = self.by_ip.remove(&ip)?;
        if let Some(ips) = self.by_client.get_mut(&binding.key) {
            ips.retain(|&other| other != ip);
            if ips.is_empty() {
                self.by_client.remove(&binding.key);
            }
        }
        self.by_port.remove(&(binding.port, ip));
        self.ends(binding.state).remove(&(binding.at, ip));
        if let Some(name) = &binding.hostname
            && self.names.get(name) == Some(&ip)
        {
            self.names.remove(name);
        }
        Some(binding)
    }

    fn ends(&mut self, state: State) -> &mut BTreeSet<(Duration, u32)> {
        match state {
            State::Former => &mut self.formers,
            State::Offered | State::Bound | State::Quarantined => &mut self.deadlines,
        }
    }

    /// The address this client has or had: what it holds on this port, else what nobody relies
    /// on, of the same hardware address if there is a choice. What the same client identifier
    /// holds on another present port is another guest's (a clone): never returned.
    pub(super) fn find(&self, key: &ClientKey, port: u32, mac: [u8; 6]) -> Option<u32> {
        let rank = |ip: u32| {
            let binding = self.get(ip)?;
            if binding.is_held_by(key, port) {
                return Some(if binding.state == State::Bound { 0 } else { 1 });
            }
            binding
                .is_loose()
                .then_some(if binding.mac == mac { 2 } else { 3 })
        };
        let candidates = self.by_client.get(key)?;
        let ranked = candidates.iter().filter_map(|&ip| Some((rank(ip)?, ip)));
        ranked.min().map(|(_, ip)| ip)
    }

    /// The addresses this client holds on this port.
    pub(super) fn held(&self, key: &ClientKey, port: u32) -> Vec<u32> {
        let all = self
            .by_client
            .get(key)
            .map(Vec::as_slice)
            .unwrap_or_default();
        let held = |ip: &u32| self.get(*ip).is_some_and(|b| b.is_held_by(key, port));
        all.iter().copied().filter(held).collect()
    }

    /// Everything that belongs to a port, or to no port any more.
    pub(super) fn of_port(&self, port: Option<u32>) -> impl Iterator<Item = (u32, &Binding)> {
        self.by_port
            .range((port, 0)..=(port, u32::MAX))
            .filter_map(|&(_, ip)| Some((ip, self.get(ip)?)))
    }

    /// The binding of a port in this state whose time is the least.
    pub(super) fn oldest(&self, port: Option<u32>, state: State) -> Option<u32> {
        let of_state = self.of_port(port).filter(|(_, b)| b.state == state);
        of_state.map(|(ip, b)| (b.at, ip)).min().map(|(_, ip)| ip)
    }

    /// Former bindings, the one longest out of use first.
    pub(super) fn formers(&self) -> impl Iterator<Item = u32> + '_ {
        self.formers.iter().map(|&(_, ip)| ip)
    }

    pub(super) fn next_deadline(&self) -> Option<Duration> {
        self.deadlines.first().map(|&(at, _)| at)
    }

    /// One address whose state has ended at `now`.
    pub(super) fn due(&self, now: Duration) -> Option<u32> {
        self.deadlines
            .first()
            .filter(|&&(at, _)| at <= now)
            .map(|&(_, ip)| ip)
    }

    pub(super) fn holder_of_name(&self, name: &str) -> Option<u32> {
        self.names.get(name).copied()
    }

    /// Checks every index against the bindings; panics on a difference.
    pub(super) fn check(&self) {
        assert_eq!(self.by_port.len(), self.by_ip.len());
        assert_eq!(self.deadlines.len() + self.formers.len(), self.by_ip.len());
        assert_eq!(
            self.by_client.values().map(Vec::len).sum::<usize>(),
            self.by_ip.len()
        );
        for (ip, binding) in self.iter() {
            assert!(self.by_client[&binding.key].contains(&ip));
            assert!(self.by_port.contains(&(binding.port, ip)));
            let former = binding.state == State::Former;
            assert_eq!(self.formers.contains(&(binding.at, ip)), former);
            assert_eq!(self.deadlines.contains(&(binding.at, ip)), !former);
        }
        for (name, &ip) in &self.names {
            assert_eq!(self.by_ip[&ip].hostname.as_ref(), Some(name));
            assert_eq!(self.by_ip[&ip].state, State::Bound);
        }
    }
}
