//! ARP (RFC 826) of the uplink, without I/O: our address is answered for, announced and defended, and
//! others are asked for as [`super::neighbours`] says.

use std::net::Ipv4Addr;
use std::time::Duration;

use net_wire::MacAddr;
use net_wire::arp::{self, ArpPacket};

use super::PortId;
use super::neighbours::{Found, Neighbours, Word};

/// Between two defences of our address (RFC 5227, section 2.4).
const DEFENCE: Duration = Duration::from_secs(10);

/// The table, and our own address.
#[derive(Debug)]
pub(super) struct Resolver {
    mac: MacAddr,
    ip: Ipv4Addr,
    neighbours: Neighbours<Ipv4Addr>,
    defended: Option<Duration>,
    /// What is to be sent beside questions: packets, each to its `target_mac`.
    answers: Vec<ArpPacket>,
}

impl Resolver {
    /// An empty table of the station that has `mac` and `ip`.
    pub(super) fn new(mac: MacAddr, ip: Ipv4Addr) -> Self {
        Self {
            mac,
            ip,
            neighbours: Neighbours::new(),
            defended: None,
            answers: Vec::new(),
        }
    }

    /// Who answers to `ip`, for a packet of the guest at `port`.
    pub(super) fn find(&mut self, ip: Ipv4Addr, port: PortId, now: Duration) -> Found {
        self.neighbours.find(ip, port, now)
    }

    /// Who answers to `ip`, as far as is known.
    pub(super) fn known(&self, ip: Ipv4Addr) -> Option<MacAddr> {
        self.neighbours.known(ip)
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
            self.answers.push(ArpPacket {
                operation: arp::REPLY,
                sender_mac: self.mac,
                sender_ip: self.ip,
                target_mac: packet.sender_mac,
                target_ip: sender,
            });
        }
        // Whoever asks or answers speaks to us or to everybody, and is there.
        self.neighbours
            .learn(sender, packet.sender_mac, Word::Confirmed, now)
    }

    /// Says to everybody where our address is (RFC 5227, section 2.3).
    pub(super) fn announce(&mut self) {
        self.answers.push(self.request(self.ip, None));
    }

    /// Forgets everybody: the link was cut, and may lead elsewhere now.
    pub(super) fn clear(&mut self) {
        self.neighbours.clear();
    }

    /// When [`Self::on_deadline`] has something to do.
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        self.neighbours.next_deadline()
    }

    /// Asks again, and gives up those who never answered.
    pub(super) fn on_deadline(&mut self, now: Duration) {
        self.neighbours.on_deadline(now);
    }

    /// What is to be sent, each packet to its `target_mac`.
    pub(super) fn next_packet(&mut self) -> Option<ArpPacket> {
        self.answers.pop().or_else(|| {
            let question = self.neighbours.next_question()?;
            Some(self.request(question.target, question.at))
        })
    }

    /// The addresses that nobody answered to since the last call.
    pub(super) fn take_lost(&mut self) -> Vec<Ipv4Addr> {
        self.neighbours.take_lost()
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

    fn request(&self, ip: Ipv4Addr, at: Option<MacAddr>) -> ArpPacket {
        ArpPacket {
            operation: arp::REQUEST,
            sender_mac: self.mac,
            sender_ip: self.ip,
            target_mac: at.unwrap_or(MacAddr::BROADCAST),
            target_ip: ip,
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
        std::iter::from_fn(|| resolver.next_packet()).collect()
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
}
