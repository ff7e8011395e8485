//! Who answers to an address of the outside network: ARP (RFC 826), without I/O.
//!
//! An entry begins with a question to everybody, asked again each second and given up after three.
//! It is trusted for a minute; whoever uses it later has its owner asked, it alone, and the entry goes
//! when three such questions stay without an answer. What nobody asked for is not taken in, so that
//! only a guest's traffic makes entries, within its port's share of the open questions.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use net_wire::MacAddr;
use net_wire::arp::{self, ArpPacket};

use super::PortId;

/// How long an entry is used without a question.
const TRUSTED: Duration = Duration::from_secs(60);
/// Between two questions about the same address.
const INTERVAL: Duration = Duration::from_secs(1);
/// Questions until an address is given up.
const QUESTIONS: u8 = 3;
/// Entries at a time; past that the one confirmed longest ago goes.
const MAX_ENTRIES: usize = 1024;
/// Addresses asked for at a time, of all ports together and of one.
const MAX_ASKED: usize = 256;
const MAX_ASKED_BY_PORT: usize = 32;
/// Between two defences of our address (RFC 5227, section 2.4).
const DEFENCE: Duration = Duration::from_secs(10);

/// What is known of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// Its hardware address.
    Mac(MacAddr),
    /// It has been asked for.
    Asked,
    /// It has been asked for in vain just now, or too many others are.
    Refused,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    /// `None` while nobody has answered yet.
    mac: Option<MacAddr>,
    /// When it was last confirmed, or first asked for.
    confirmed: Duration,
    /// Questions since then, and when the next one is due.
    asked: u8,
    next: Duration,
    /// Whose packet it was asked for.
    port: PortId,
}

/// The table, and our own address.
#[derive(Debug)]
pub(super) struct Resolver {
    mac: MacAddr,
    ip: Ipv4Addr,
    entries: BTreeMap<Ipv4Addr, Entry>,
    /// Entries without an answer.
    open: usize,
    /// Not after the earliest `next` of an entry with a question.
    deadline: Option<Duration>,
    defended: Option<Duration>,
    /// What is to be sent: packets, each to one hardware address.
    questions: Vec<ArpPacket>,
    /// Addresses that were given up.
    lost: Vec<Ipv4Addr>,
}

impl Resolver {
    /// An empty table of the station that has `mac` and `ip`.
    pub(super) fn new(mac: MacAddr, ip: Ipv4Addr) -> Self {
        Self {
            mac,
            ip,
            entries: BTreeMap::new(),
            open: 0,
            deadline: None,
            defended: None,
            questions: Vec::new(),
            lost: Vec::new(),
        }
    }

    /// Who answers to `ip`, for a packet of the guest at `port`.
    pub(super) fn find(&mut self, ip: Ipv4Addr, port: PortId, now: Duration) -> Found {
        if let Some(entry) = self.entries.get_mut(&ip) {
            let Some(mac) = entry.mac else {
                return Found::Asked;
            };
            if entry.asked == 0 && now.saturating_sub(entry.confirmed) >= TRUSTED {
                entry.asked = 1;
                entry.next = now + INTERVAL;
                self.wake(now + INTERVAL);
                self.ask(ip, mac);
            }
            return Found::Mac(mac);
        }
        let of_port = |entry: &&Entry| entry.mac.is_none() && entry.port == port;
        if self.open >= MAX_ASKED
            || self.entries.values().filter(of_port).count() >= MAX_ASKED_BY_PORT
        {
            return Found::Refused;
        }
        if self.entries.len() >= MAX_ENTRIES {
            self.forget_oldest();
        }
        let next = now + INTERVAL;
        self.entries.insert(
            ip,
            Entry {
                mac: None,
                confirmed: now,
                asked: 1,
                next,
                port,
            },
        );
        self.open += 1;
        self.wake(next);
        self.ask(ip, MacAddr::BROADCAST);
        Found::Asked
    }

    /// Who answers to `ip`, as far as is known.
    pub(super) fn known(&self, ip: Ipv4Addr) -> Option<MacAddr> {
        self.entries.get(&ip)?.mac
    }

    /// Takes an ARP packet; true where an address that was asked for is known now.
    pub(super) fn take(&mut self, packet: &ArpPacket, now: Duration) -> bool {
        let sender = packet.sender_ip;
        if !packet.sender_mac.is_unicast() || packet.sender_mac == self.mac {
            return false;
        }
        if sender == self.ip {
            self.defend(packet.sender_mac, now);
            return false;
        }
        if packet.operation == arp::REQUEST && packet.target_ip == self.ip {
            self.questions.push(ArpPacket {
                operation: arp::REPLY,
                sender_mac: self.mac,
                sender_ip: self.ip,
                target_mac: packet.sender_mac,
                target_ip: sender,
            });
        }
        let Some(entry) = self.entries.get_mut(&sender) else {
            return false;
        };
        let is_new = entry.mac.replace(packet.sender_mac).is_none();
        self.open -= usize::from(is_new);
        entry.confirmed = now;
        entry.asked = 0;
        is_new
    }

    /// Says to everybody where our address is (RFC 5227, section 2.3).
    pub(super) fn announce(&mut self) {
        self.questions.push(ArpPacket {
            operation: arp::REQUEST,
            sender_mac: self.mac,
            sender_ip: self.ip,
            target_mac: MacAddr::BROADCAST,
            target_ip: self.ip,
        });
    }

    /// Forgets everybody: the link was cut, and may lead elsewhere now.
    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.open = 0;
        self.deadline = None;
    }

    /// When [`Self::on_deadline`] has something to do.
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        self.deadline
    }

    /// Asks again, and gives up those who never answered.
    pub(super) fn on_deadline(&mut self, now: Duration) {
        if self.deadline.is_none_or(|at| at > now) {
            return;
        }
        self.deadline = None;
        let (questions, lost) = (&mut self.questions, &mut self.lost);
        let (own_mac, own_ip) = (self.mac, self.ip);
        self.entries.retain(|ip, entry| {
            if entry.asked == 0 || entry.next > now {
                return true;
            }
            if entry.asked >= QUESTIONS {
                self.open -= usize::from(entry.mac.is_none());
                lost.push(*ip);
                return false;
            }
            entry.asked += 1;
            entry.next = now + INTERVAL;
            questions.push(ArpPacket {
                operation: arp::REQUEST,
                sender_mac: own_mac,
                sender_ip: own_ip,
                target_mac: entry.mac.unwrap_or(MacAddr::BROADCAST),
                target_ip: *ip,
            });
            true
        });
        let asked = self.entries.values().filter(|entry| entry.asked > 0);
        self.deadline = asked.map(|entry| entry.next).min();
    }

    /// What is to be sent, each packet to its `target_mac`.
    pub(super) fn next_question(&mut self) -> Option<ArpPacket> {
        self.questions.pop()
    }

    /// The addresses that nobody answered to since the last call.
    pub(super) fn take_lost(&mut self) -> Vec<Ipv4Addr> {
        std::mem::take(&mut self.lost)
    }

    /// Somebody else claims our address.
    fn defend(&mut self, other: MacAddr, now: Duration) {
        if self
            .defended
            .is_some_and(|last| now.saturating_sub(last) < DEFENCE)
        {
            return;
        }
        if self.defended.replace(now).is_none() {
            log::warn!("{other} has the outside address {} too", self.ip);
        }
        self.announce();
    }

    fn ask(&mut self, ip: Ipv4Addr, target_mac: MacAddr) {
        self.questions.push(ArpPacket {
            operation: arp::REQUEST,
            sender_mac: self.mac,
            sender_ip: self.ip,
            target_mac,
            target_ip: ip,
        });
    }

    fn wake(&mut self, at: Duration) {
        self.deadline = Some(self.deadline.map_or(at, |old| old.min(at)));
    }

    /// A cache loses nothing but a question when it forgets.
    fn forget_oldest(&mut self) {
        let known = self.entries.iter().filter(|(_, entry)| entry.mac.is_some());
        let oldest = known.min_by_key(|(_, entry)| entry.confirmed);
        if let Some(ip) = oldest.map(|(ip, _)| *ip) {
            self.entries.remove(&ip);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
    const IP: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
    const PEER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
    const PEER_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn from(ip: Ipv4Addr, mac: MacAddr, operation: u16) -> ArpPacket {
        ArpPacket {
            operation,
            sender_mac: mac,
            sender_ip: ip,
            target_mac: OWN,
            target_ip: IP,
        }
    }

    fn drain(resolver: &mut Resolver) -> Vec<ArpPacket> {
        std::iter::from_fn(|| resolver.next_question()).collect()
    }

    #[test]
    fn an_address_is_asked_for_answered_and_confirmed() {
        let mut resolver = Resolver::new(OWN, IP);
        assert_eq!(resolver.find(PEER, 1, seconds(0)), Found::Asked);
        assert_eq!(resolver.find(PEER, 2, seconds(0)), Found::Asked);
        let asked = drain(&mut resolver);
        assert_eq!(asked.len(), 1);
        assert_eq!(
            (asked[0].target_mac, asked[0].target_ip),
            (MacAddr::BROADCAST, PEER)
        );
        assert!(resolver.take(&from(PEER, PEER_MAC, arp::REPLY), seconds(1)));
        assert_eq!(resolver.find(PEER, 1, seconds(2)), Found::Mac(PEER_MAC));
        resolver.on_deadline(seconds(2));
        assert_eq!(resolver.next_deadline(), None);
        // After a minute its owner is asked, and the entry is used meanwhile.
        assert_eq!(resolver.find(PEER, 1, seconds(60)), Found::Mac(PEER_MAC));
        assert!(drain(&mut resolver).is_empty());
        assert_eq!(resolver.find(PEER, 1, seconds(61)), Found::Mac(PEER_MAC));
        assert_eq!(drain(&mut resolver)[0].target_mac, PEER_MAC);
        assert!(!resolver.take(&from(PEER, PEER_MAC, arp::REPLY), seconds(61)));
        resolver.on_deadline(seconds(62));
        assert!(drain(&mut resolver).is_empty());
        assert_eq!(resolver.find(PEER, 1, seconds(63)), Found::Mac(PEER_MAC));
    }

    #[test]
    fn who_never_answers_is_given_up_and_who_stops_answering_too() {
        let mut resolver = Resolver::new(OWN, IP);
        resolver.find(PEER, 1, seconds(0));
        for second in 1..3 {
            assert_eq!(resolver.next_deadline(), Some(seconds(second)));
            resolver.on_deadline(seconds(second));
        }
        assert_eq!(drain(&mut resolver).len(), 3);
        assert!(resolver.take_lost().is_empty());
        resolver.on_deadline(seconds(3));
        assert_eq!(resolver.take_lost(), [PEER]);
        assert_eq!((resolver.open, resolver.next_deadline()), (0, None));

        resolver.find(PEER, 1, seconds(10));
        resolver.take(&from(PEER, PEER_MAC, arp::REPLY), seconds(10));
        assert_eq!(resolver.find(PEER, 1, seconds(80)), Found::Mac(PEER_MAC));
        for second in 81..84 {
            resolver.on_deadline(seconds(second));
        }
        assert_eq!(resolver.take_lost(), [PEER]);
        assert_eq!(resolver.find(PEER, 1, seconds(84)), Found::Asked);
    }

    #[test]
    fn our_address_is_answered_for_and_defended() {
        let mut resolver = Resolver::new(OWN, IP);
        resolver.take(&from(PEER, PEER_MAC, arp::REQUEST), seconds(0));
        let replies = drain(&mut resolver);
        assert_eq!(
            replies,
            [ArpPacket {
                operation: arp::REPLY,
                sender_mac: OWN,
                sender_ip: IP,
                target_mac: PEER_MAC,
                target_ip: PEER,
            }]
        );
        // Nobody asked for the peer, so nothing was learned.
        assert_eq!(resolver.find(PEER, 1, seconds(0)), Found::Asked);
        drain(&mut resolver);
        for second in 0..10 {
            resolver.take(&from(IP, PEER_MAC, arp::REPLY), seconds(second));
        }
        assert_eq!(drain(&mut resolver).len(), 1);
        resolver.take(&from(IP, PEER_MAC, arp::REPLY), seconds(10));
        assert_eq!(drain(&mut resolver).len(), 1);
        // Our own announcement, heard again.
        resolver.take(&from(IP, OWN, arp::REPLY), seconds(30));
        assert!(drain(&mut resolver).is_empty());
    }

    #[test]
    fn one_guest_cannot_ask_for_everybody() {
        let mut resolver = Resolver::new(OWN, IP);
        let ip = |n: u32| Ipv4Addr::from_bits(IP.to_bits() + 1 + n);
        let found: Vec<Found> = (0..100)
            .map(|n| resolver.find(ip(n), 1, seconds(0)))
            .collect();
        let asked = found.iter().filter(|found| **found == Found::Asked).count();
        assert_eq!(asked, MAX_ASKED_BY_PORT);
        assert_eq!(resolver.find(ip(1000), 2, seconds(0)), Found::Asked);
        for port in 3..100 {
            for n in 0..100 {
                resolver.find(ip(port * 100 + n), port, seconds(0));
            }
        }
        assert_eq!(resolver.open, MAX_ASKED);
    }

    #[test]
    fn the_table_is_bounded() {
        let mut resolver = Resolver::new(OWN, IP);
        for n in 0..2 * MAX_ENTRIES as u32 {
            let ip = Ipv4Addr::from_bits(IP.to_bits() + 1 + n);
            let now = seconds(u64::from(n));
            assert_eq!(resolver.find(ip, 1, now), Found::Asked, "{n}");
            resolver.take(&from(ip, PEER_MAC, arp::REPLY), now);
        }
        assert_eq!(resolver.entries.len(), MAX_ENTRIES);
        let first = Ipv4Addr::from_bits(IP.to_bits() + 1);
        assert_eq!(resolver.find(first, 1, seconds(9999)), Found::Asked);
    }
}
