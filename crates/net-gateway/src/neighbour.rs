//! Which guest answers to which address: the tables of ARP and of neighbour discovery, bounded
//! per port.

use core::hash::{BuildHasher, Hash};
use core::time::Duration;

use hashbrown::HashMap;
use net_wire::MacAddr;
use siphasher::sip::SipHasher13;

use crate::PortId;

/// How long an entry is believed after the last sign of its guest.
const LIFETIME: Duration = Duration::from_secs(20 * 60);
/// How often one unknown address is asked for.
const ASK_INTERVAL: Duration = Duration::from_secs(1);
/// Addresses behind a port that has another switch behind it.
const TRUNK_QUOTA: usize = 4096;
/// Addresses asked for at the same time; more are refused until one is answered or forgotten.
const MAX_ASKED: usize = 256;

/// Where a guest is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Neighbour {
    /// Its hardware address.
    pub mac: MacAddr,
    /// The switch port it sits on.
    pub port: PortId,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    neighbour: Neighbour,
    seen: Duration,
    /// Given by the DHCP server or the manager: stays until it is taken back.
    pinned: bool,
}

/// SipHash under the gateway's secret: a guest must not choose its bucket.
#[derive(Debug, Clone, Copy)]
struct Keyed([u8; 16]);

impl BuildHasher for Keyed {
    type Hasher = SipHasher13;

    fn build_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_key(&self.0)
    }
}

/// What becomes of a new address of a port that has as many as it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AtQuota {
    /// It is refused: IPv4 addresses are given out, and a guest that takes more is up to no good.
    Refuse,
    /// The port's own address that was silent for longest goes: IPv6 hosts make new temporary
    /// addresses for ever (RFC 8981) and say nothing when they give an old one up.
    ReplaceOwn,
}

/// Why an address was not taken for a guest's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Another guest that is still there has it.
    Taken,
    /// This port already has as many as it may.
    Quota,
}

/// The table.
#[derive(Debug)]
pub(crate) struct Neighbours<A> {
    entries: HashMap<A, Entry, Keyed>,
    per_port: HashMap<PortId, Vec<A>, Keyed>,
    asked: HashMap<A, Duration, Keyed>,
    quota: usize,
    at_quota: AtQuota,
    /// The port with more than one guest behind it.
    trunk: Option<PortId>,
}

impl<A: Copy + Eq + Hash> Neighbours<A> {
    /// A table that takes `quota` addresses from each port.
    pub(crate) fn new(quota: usize, at_quota: AtQuota, seed: &[u8; 16]) -> Self {
        let keyed = Keyed(*seed);
        Self {
            entries: HashMap::with_hasher(keyed),
            per_port: HashMap::with_hasher(keyed),
            asked: HashMap::with_hasher(keyed),
            quota,
            at_quota,
            trunk: None,
        }
    }

    /// Any number of guests is behind this port.
    pub(crate) fn set_trunk(&mut self, port: PortId) {
        self.trunk = Some(port);
    }

    fn quota_of(&self, port: PortId) -> usize {
        match self.trunk == Some(port) {
            true => TRUNK_QUOTA.max(self.quota),
            false => self.quota,
        }
    }

    /// Notes that `neighbour` sent from `ip`; says whether that is news.
    ///
    /// An address moves to another port only once its entry has gone stale or its port has been
    /// closed: a guest cannot take a live neighbour's address by claiming it.
    pub(crate) fn learn(
        &mut self,
        ip: A,
        neighbour: Neighbour,
        now: Duration,
    ) -> Result<bool, Refusal> {
        if let Some(entry) = self.entries.get_mut(&ip) {
            if entry.neighbour.port == neighbour.port {
                entry.neighbour = neighbour;
                entry.seen = now;
                return Ok(false);
            }
            if entry.pinned || now.saturating_sub(entry.seen) < LIFETIME {
                return Err(Refusal::Taken);
            }
            self.forget(ip);
        }
        let count = self.per_port.get(&neighbour.port).map_or(0, Vec::len);
        if count >= self.quota_of(neighbour.port) {
            let oldest = self
                .oldest(neighbour.port)
                .filter(|_| self.at_quota == AtQuota::ReplaceOwn)
                .ok_or(Refusal::Quota)?;
            self.forget(oldest);
        }
        self.insert(ip, neighbour, false, now);
        Ok(true)
    }

    /// The address of `port` that was silent for longest, of those it may lose.
    fn oldest(&self, port: PortId) -> Option<A> {
        let own = self.per_port.get(&port)?.iter();
        let free = own.filter_map(|ip| Some((self.entries.get(ip)?, *ip)));
        free.filter(|(entry, _)| !entry.pinned)
            .min_by_key(|(entry, _)| entry.seen)
            .map(|(_, ip)| ip)
    }

    fn insert(&mut self, ip: A, neighbour: Neighbour, pinned: bool, now: Duration) {
        self.per_port.entry(neighbour.port).or_default().push(ip);
        let seen = now;
        self.entries.insert(
            ip,
            Entry {
                neighbour,
                seen,
                pinned,
            },
        );
        self.asked.remove(&ip);
    }

    /// Gives `ip` to `neighbour` whoever had it: the DHCP server or the manager says so.
    pub(crate) fn assign(&mut self, ip: A, neighbour: Neighbour, now: Duration) {
        self.forget(ip);
        self.insert(ip, neighbour, true, now);
    }

    /// The ports from which this hardware address has sent.
    pub(crate) fn ports_of(&self, mac: MacAddr) -> impl Iterator<Item = PortId> {
        let known = self.entries.values().map(|entry| entry.neighbour);
        known.filter(move |it| it.mac == mac).map(|it| it.port)
    }

    /// Who answers to `ip`.
    pub(crate) fn get(&self, ip: A) -> Option<Neighbour> {
        self.entries.get(&ip).map(|entry| entry.neighbour)
    }

    /// Whether to ask the network for `ip` now: at most one a second for each address.
    pub(crate) fn should_ask(&mut self, ip: A, now: Duration) -> bool {
        if let Some(last) = self.asked.get_mut(&ip) {
            let due = now.saturating_sub(*last) >= ASK_INTERVAL;
            if due {
                *last = now;
            }
            return due;
        }
        if self.asked.len() >= MAX_ASKED {
            self.asked
                .retain(|_, last| now.saturating_sub(*last) < ASK_INTERVAL);
        }
        self.asked.len() < MAX_ASKED && self.asked.insert(ip, now).is_none()
    }

    /// Forgets one address.
    pub(crate) fn forget(&mut self, ip: A) {
        if let Some(entry) = self.entries.remove(&ip)
            && let Some(own) = self.per_port.get_mut(&entry.neighbour.port)
        {
            own.retain(|other| *other != ip);
        }
    }

    /// Forgets every address of a port.
    pub(crate) fn forget_port(&mut self, port: PortId) {
        for ip in self.per_port.remove(&port).unwrap_or_default() {
            self.entries.remove(&ip);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::Ipv4Addr;

    const IP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 5);

    fn table(quota: usize, at_quota: AtQuota) -> Neighbours<Ipv4Addr> {
        Neighbours::new(quota, at_quota, &[1; 16])
    }

    fn on(port: PortId) -> Neighbour {
        Neighbour {
            mac: MacAddr([2, 0, 0, 0, 0, port as u8]),
            port,
        }
    }

    #[test]
    fn a_live_address_cannot_be_taken() {
        let mut table = table(4, AtQuota::Refuse);
        table.learn(IP, on(1), Duration::ZERO).unwrap();
        assert_eq!(
            table.learn(IP, on(2), Duration::from_secs(60)),
            Err(Refusal::Taken)
        );
        assert_eq!(table.get(IP), Some(on(1)));
        table.forget_port(1);
        table.learn(IP, on(2), Duration::from_secs(61)).unwrap();
        assert_eq!(table.get(IP), Some(on(2)));
    }

    #[test]
    fn a_leased_address_does_not_go_stale() {
        let mut table = table(4, AtQuota::Refuse);
        table.assign(IP, on(1), Duration::ZERO);
        assert_eq!(table.learn(IP, on(2), LIFETIME * 2), Err(Refusal::Taken));
        table.forget(IP);
        assert_eq!(table.learn(IP, on(2), LIFETIME * 2), Ok(true));
    }

    #[test]
    fn a_port_fills_its_quota_and_no_more() {
        let mut table = table(2, AtQuota::Refuse);
        for last in 1..=2 {
            table
                .learn(Ipv4Addr::new(10, 0, 0, last), on(1), Duration::ZERO)
                .unwrap();
        }
        assert_eq!(table.learn(IP, on(1), Duration::ZERO), Err(Refusal::Quota));
        assert_eq!(table.learn(IP, on(2), Duration::ZERO), Ok(true));
        table.forget(Ipv4Addr::new(10, 0, 0, 1));
        assert_eq!(
            table.learn(Ipv4Addr::new(10, 0, 0, 9), on(1), Duration::ZERO),
            Ok(true)
        );
    }

    #[test]
    fn a_port_gives_up_the_address_it_used_least_lately() {
        let mut table = table(3, AtQuota::ReplaceOwn);
        let (ip, at) = (|last| Ipv4Addr::new(10, 0, 0, last), Duration::from_secs);
        table.learn(ip(9), on(2), at(0)).unwrap();
        table.assign(ip(1), on(1), at(0));
        table.learn(ip(2), on(1), at(1)).unwrap();
        table.learn(ip(3), on(1), at(2)).unwrap();
        assert_eq!(table.learn(ip(2), on(1), at(3)), Ok(false));
        assert_eq!(table.learn(ip(4), on(1), at(4)), Ok(true));
        // Not the one it was given, not the one it used again, nobody else's.
        assert_eq!(table.get(ip(3)), None);
        for (last, port) in [(1, 1), (2, 1), (4, 1), (9, 2)] {
            assert_eq!(table.get(ip(last)), Some(on(port)), "{last}");
        }
        table.forget_port(1);
        assert_eq!((table.get(ip(2)), table.get(ip(9))), (None, Some(on(2))));
    }

    #[test]
    fn an_unknown_address_is_asked_for_once_a_second() {
        let mut table = table(2, AtQuota::Refuse);
        assert!(table.should_ask(IP, Duration::ZERO));
        assert!(!table.should_ask(IP, Duration::from_millis(999)));
        assert!(table.should_ask(IP, Duration::from_millis(1000)));
        for n in 0..1000u32 {
            table.should_ask(Ipv4Addr::from_bits(n), Duration::from_millis(1500));
        }
        assert!(table.asked.len() <= MAX_ASKED);
    }
}
