//! Which guest answers to which address: the ARP table, bounded per port.

use core::hash::BuildHasherDefault;
use core::net::Ipv4Addr;
use core::time::Duration;

use hashbrown::HashMap;
use net_wire::MacAddr;

use crate::PortId;

/// How long an entry is believed after the last sign of its guest.
const LIFETIME: Duration = Duration::from_secs(20 * 60);
/// How often one unknown address is asked for.
const ASK_INTERVAL: Duration = Duration::from_secs(1);
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

/// A hasher for addresses of the network itself: the table holds at most as many entries as the
/// subnet and the quotas allow, and no guest can insert an address that is not inside it.
type AddrHasher = BuildHasherDefault<siphasher::sip::SipHasher13>;

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
pub(crate) struct Neighbours {
    entries: HashMap<Ipv4Addr, Entry, AddrHasher>,
    per_port: HashMap<PortId, usize, AddrHasher>,
    asked: HashMap<Ipv4Addr, Duration, AddrHasher>,
    quota: usize,
}

impl Neighbours {
    /// A table that takes `quota` addresses from each port.
    pub(crate) fn new(quota: usize) -> Self {
        Self {
            entries: HashMap::default(),
            per_port: HashMap::default(),
            asked: HashMap::default(),
            quota,
        }
    }

    /// Notes that `neighbour` sent from `ip`.
    ///
    /// An address moves to another port only once its entry has gone stale or its port has been
    /// closed: a guest cannot take a live neighbour's address by claiming it.
    pub(crate) fn learn(
        &mut self,
        ip: Ipv4Addr,
        neighbour: Neighbour,
        now: Duration,
    ) -> Result<(), Refusal> {
        if let Some(entry) = self.entries.get_mut(&ip) {
            if entry.neighbour.port == neighbour.port {
                entry.neighbour = neighbour;
                entry.seen = now;
                return Ok(());
            }
            if entry.pinned || now.saturating_sub(entry.seen) < LIFETIME {
                return Err(Refusal::Taken);
            }
            self.forget(ip);
        }
        let count = self.per_port.entry(neighbour.port).or_insert(0);
        if *count >= self.quota {
            return Err(Refusal::Quota);
        }
        *count += 1;
        self.entries.insert(
            ip,
            Entry {
                neighbour,
                seen: now,
                pinned: false,
            },
        );
        self.asked.remove(&ip);
        Ok(())
    }

    /// Gives `ip` to `neighbour` whoever had it: the DHCP server or the manager says so.
    pub(crate) fn assign(&mut self, ip: Ipv4Addr, neighbour: Neighbour, now: Duration) {
        self.forget(ip);
        *self.per_port.entry(neighbour.port).or_insert(0) += 1;
        self.entries.insert(
            ip,
            Entry {
                neighbour,
                seen: now,
                pinned: true,
            },
        );
        self.asked.remove(&ip);
    }

    /// Who answers to `ip`.
    pub(crate) fn get(&self, ip: Ipv4Addr) -> Option<Neighbour> {
        self.entries.get(&ip).map(|entry| entry.neighbour)
    }

    /// Whether to send an ARP request for `ip` now: at most one a second for each address.
    pub(crate) fn should_ask(&mut self, ip: Ipv4Addr, now: Duration) -> bool {
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
    pub(crate) fn forget(&mut self, ip: Ipv4Addr) {
        if let Some(entry) = self.entries.remove(&ip)
            && let Some(count) = self.per_port.get_mut(&entry.neighbour.port)
        {
            *count -= 1;
        }
    }

    /// Forgets every address of a port.
    pub(crate) fn forget_port(&mut self, port: PortId) {
        self.entries.retain(|_, entry| entry.neighbour.port != port);
        self.per_port.remove(&port);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 5);

    fn on(port: PortId) -> Neighbour {
        Neighbour {
            mac: MacAddr([2, 0, 0, 0, 0, port as u8]),
            port,
        }
    }

    #[test]
    fn a_live_address_cannot_be_taken() {
        let mut table = Neighbours::new(4);
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
        let mut table = Neighbours::new(4);
        table.assign(IP, on(1), Duration::ZERO);
        assert_eq!(table.learn(IP, on(2), LIFETIME * 2), Err(Refusal::Taken));
        table.forget(IP);
        assert_eq!(table.learn(IP, on(2), LIFETIME * 2), Ok(()));
    }

    #[test]
    fn a_port_fills_its_quota_and_no_more() {
        let mut table = Neighbours::new(2);
        for last in 1..=2 {
            table
                .learn(Ipv4Addr::new(10, 0, 0, last), on(1), Duration::ZERO)
                .unwrap();
        }
        assert_eq!(table.learn(IP, on(1), Duration::ZERO), Err(Refusal::Quota));
        assert_eq!(table.learn(IP, on(2), Duration::ZERO), Ok(()));
        table.forget(Ipv4Addr::new(10, 0, 0, 1));
        assert_eq!(
            table.learn(Ipv4Addr::new(10, 0, 0, 9), on(1), Duration::ZERO),
            Ok(())
        );
    }

    #[test]
    fn an_unknown_address_is_asked_for_once_a_second() {
        let mut table = Neighbours::new(2);
        assert!(table.should_ask(IP, Duration::ZERO));
        assert!(!table.should_ask(IP, Duration::from_millis(999)));
        assert!(table.should_ask(IP, Duration::from_millis(1000)));
        for n in 0..1000u32 {
            table.should_ask(Ipv4Addr::from_bits(n), Duration::from_millis(1500));
        }
        assert!(table.asked.len() <= MAX_ASKED);
    }
}
