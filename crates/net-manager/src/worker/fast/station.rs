//! The station that the uplink is over IPv6, without I/O: its two addresses, which are tried before
//! they are used (RFC 4862, section 5.4), neighbour discovery (RFC 4861) with the table of
//! [`super::neighbours`], and the routers that are heard.
//!
//! What is told without being asked for changes nothing but the entry of somebody who was asked for.
//! Redirects are not followed: the router knows where it forwards to, and a neighbour could say so, too.

use std::net::Ipv6Addr;
use std::time::Duration;

use ipnetwork::Ipv6Network;
use net_dhcp::ra::{ALL_ROUTERS, HeardRouter};
use net_wire::checksum::pseudo_v6;
use net_wire::ipv6::{self, Ipv6Repr};
use net_wire::ndp::{self, ALL_NODES, HOP_LIMIT, Neighbour, OVERRIDE, ROUTER, SOLICITED};
use net_wire::{MacAddr, icmpv6, ip_proto};

use super::PortId;
use super::mld;
use super::neighbours::{Found, Neighbours, Word};
use super::routers::Routers;

/// How long an address is tried: one solicitation, and the time for its answer (RFC 4862, section
/// 5.1; RFC 4861, section 10).
const TRIAL: Duration = Duration::from_secs(1);
/// How long after somebody else was found to have it.
const TRY_AGAIN: Duration = Duration::from_secs(60);
/// Between two defences of an address, as over IPv4.
const DEFENCE: Duration = Duration::from_secs(10);
/// Between two answers to who asks for multicast listeners.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// The least MTU of IPv6 (RFC 8200, section 5).
const MIN_MTU: u32 = 1280;

/// Whether its addresses may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// There is no interface.
    Away,
    /// They are tried until then.
    Tried(Duration),
    Usable,
    /// Somebody else has one; they are tried again then.
    Taken(Duration),
}

/// A message and where it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outgoing {
    pub(super) to: MacAddr,
    /// The IPv6 packet.
    pub(super) packet: Vec<u8>,
}

/// A message of ICMPv6 whose checksum is right.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heard<'a> {
    /// Whose frame it came in.
    pub(super) mac: MacAddr,
    pub(super) src: Ipv6Addr,
    pub(super) dst: Ipv6Addr,
    pub(super) hop_limit: u8,
    pub(super) message: &'a [u8],
}

/// The station.
#[derive(Debug)]
pub(super) struct Station {
    mac: MacAddr,
    outside: Ipv6Network,
    link_local: Ipv6Addr,
    via: Option<Ipv6Addr>,
    link_mtu: u32,
    state: State,
    neighbours: Neighbours<Ipv6Addr>,
    routers: Routers,
    defended: Option<Duration>,
    reported: Option<Duration>,
    /// What is to be sent beside questions.
    outgoing: Vec<Outgoing>,
}

impl Station {
    /// A station without an interface. Without `via` it listens for routers.
    pub(super) fn new(
        mac: MacAddr,
        outside: Ipv6Network,
        via: Option<Ipv6Addr>,
        link_mtu: u16,
    ) -> Self {
        Self {
            mac,
            outside,
            link_local: net_gateway::link_local(mac),
            via,
            link_mtu: link_mtu.into(),
            state: State::Away,
            neighbours: Neighbours::new(),
            routers: Routers::default(),
            defended: None,
            reported: None,
            outgoing: Vec::new(),
        }
    }

    /// The address that guests share.
    pub(super) fn outside(&self) -> Ipv6Addr {
        self.outside.ip()
    }

    /// Whether packets may come to and leave from its address.
    pub(super) fn is_usable(&self) -> bool {
        self.state == State::Usable
    }

    /// Whether `ip` is an address of the station.
    pub(super) fn owns(&self, ip: Ipv6Addr) -> bool {
        ip == self.outside.ip() || ip == self.link_local
    }

    /// The largest packet that leaves, in bytes.
    pub(super) fn mtu(&self) -> usize {
        let told = self.routers.mtu().filter(|mtu| *mtu >= MIN_MTU);
        told.map_or(self.link_mtu, |mtu| mtu.min(self.link_mtu)) as usize
    }

    /// The router that packets for afar go to, if one is known.
    pub(super) fn router(&self) -> Option<Ipv6Addr> {
        self.via.or_else(|| self.routers.best())
    }

    /// Why nothing leaves, if nothing does.
    pub(super) fn trouble(&self) -> Option<&'static str> {
        match self.state {
            State::Away => Some("the uplink is away"),
            State::Tried(_) => Some("the outside address is being tried"),
            State::Taken(_) => Some("another host has the outside address"),
            State::Usable if self.router().is_none() => Some("no router has been heard"),
            State::Usable => None,
        }
    }

    /// Who takes a packet to `dst` next.
    pub(super) fn next_hop(&self, dst: Ipv6Addr) -> Option<Ipv6Addr> {
        match self.state {
            State::Away | State::Taken(_) => None,
            // What comes this early waits for the end of the trial.
            State::Tried(_) | State::Usable if self.outside.contains(dst) => Some(dst),
            State::Tried(_) | State::Usable => self.router(),
        }
    }

    /// Who answers to `ip`, for a packet of the guest at `port`.
    pub(super) fn find(&mut self, ip: Ipv6Addr, port: PortId, now: Duration) -> Found {
        self.neighbours.find(ip, port, now)
    }

    /// Who answers to `ip`, as far as is known.
    pub(super) fn known(&self, ip: Ipv6Addr) -> Option<MacAddr> {
        self.neighbours.known(ip)
    }

    /// The interface is there: the addresses are tried.
    pub(super) fn attached(&mut self, now: Duration) {
        self.state = State::Tried(now + TRIAL);
        // A switch that snoops sends answers and others' trials to who listens.
        self.report(Ipv6Addr::UNSPECIFIED);
        for ip in [self.link_local, self.outside.ip()] {
            let solicitation = Neighbour {
                kind: icmpv6::NEIGHBOR_SOLICIT,
                flags: 0,
                target: ip,
                mac: None,
            };
            let group = ndp::solicited_node(ip);
            let ends = (Ipv6Addr::UNSPECIFIED, group);
            self.send(ndp::group_mac(group), ends, &solicitation);
        }
    }

    /// The interface has gone, and may lead elsewhere when it comes back.
    pub(super) fn detached(&mut self) {
        self.state = State::Away;
        self.neighbours.clear();
        self.routers.clear();
        self.outgoing.clear();
    }

    /// Takes a message; true where an address that was asked for is known now.
    pub(super) fn take(&mut self, heard: Heard<'_>, now: Duration) -> bool {
        if !heard.mac.is_unicast() || heard.mac == self.mac || self.state == State::Away {
            return false;
        }
        let kind = heard.message.first().copied();
        if kind == Some(mld::QUERY) {
            let lately = |last| now.saturating_sub(last) < REPORT_INTERVAL;
            if self.is_usable()
                && mld::is_query(heard.src, heard.hop_limit, heard.message)
                && !self.reported.is_some_and(lately)
            {
                self.reported = Some(now);
                self.report(self.link_local);
            }
            return false;
        }
        if heard.hop_limit != HOP_LIMIT || !self.listens_to(heard.dst) {
            return false;
        }
        match kind {
            Some(icmpv6::ROUTER_ADVERT) => self.advertisement(heard, now),
            Some(icmpv6::NEIGHBOR_SOLICIT | icmpv6::NEIGHBOR_ADVERT) => {
                let Ok(parsed) = Neighbour::parse(heard.message, (heard.src, heard.dst)) else {
                    return false;
                };
                // As with ARP, a station speaks for itself.
                if parsed.mac.is_some_and(|mac| mac != heard.mac) {
                    return false;
                }
                match parsed.kind {
                    icmpv6::NEIGHBOR_SOLICIT => self.solicited(heard, parsed, now),
                    _ => self.advertised(heard, parsed, now),
                }
            }
            _ => false,
        }
    }

    fn listens_to(&self, dst: Ipv6Addr) -> bool {
        dst == ALL_NODES
            || [self.outside.ip(), self.link_local]
                .into_iter()
                .any(|own| dst == own || dst == ndp::solicited_node(own))
    }

    fn advertisement(&mut self, heard: Heard<'_>, now: Duration) -> bool {
        let Ok(router) = HeardRouter::parse(heard.src, heard.hop_limit, heard.message) else {
            return false;
        };
        let mac = router.link_address.map(MacAddr);
        if self.via.is_some() || mac.is_some_and(|mac| mac != heard.mac) {
            return false;
        }
        self.routers.hear(heard.src, router, now);
        mac.is_some() && self.learn(heard.src, heard.mac, Word::Heard, now)
    }

    fn solicited(&mut self, heard: Heard<'_>, asked: Neighbour, now: Duration) -> bool {
        let detection = heard.src.is_unspecified();
        if self.owns(heard.src) || (detection && self.owns(asked.target) && !self.is_usable()) {
            // Somebody else tries the same address as we do, or uses it.
            self.claimed(heard.mac, now);
            return false;
        }
        if self.is_usable() && self.owns(asked.target) {
            // Who only wants to know whether the address is free has none to be answered at
            // (section 7.2.4).
            let (to, dst, flags) = if detection {
                (ndp::group_mac(ALL_NODES), ALL_NODES, OVERRIDE)
            } else {
                (heard.mac, heard.src, SOLICITED | OVERRIDE)
            };
            self.advertise(to, asked.target, dst, flags);
        }
        asked.mac.is_some() && self.learn(heard.src, heard.mac, Word::Heard, now)
    }

    /// An advertisement, by the table of section 7.2.5.
    fn advertised(&mut self, heard: Heard<'_>, told: Neighbour, now: Duration) -> bool {
        if self.owns(told.target) {
            self.claimed(heard.mac, now);
            return false;
        }
        let solicited = told.flags & SOLICITED != 0;
        let word = if solicited {
            Word::Confirmed
        } else {
            Word::Heard
        };
        let before = self.neighbours.known(told.target);
        match (before, told.mac) {
            // Without an address nothing can be learnt, but the owner may be there still.
            (None, None) => false,
            (Some(before), None) if before != heard.mac => false,
            (Some(before), Some(mac)) if before != mac && told.flags & OVERRIDE == 0 => {
                self.neighbours.doubt(told.target);
                false
            }
            _ => {
                if told.flags & ROUTER == 0 && self.neighbours.has(told.target) {
                    // It says itself that it forwards no more.
                    self.routers.forget(told.target, now);
                }
                self.learn(told.target, heard.mac, word, now)
            }
        }
    }

    fn learn(&mut self, ip: Ipv6Addr, mac: MacAddr, word: Word, now: Duration) -> bool {
        if word == Word::Confirmed && self.neighbours.has(ip) {
            self.routers.speaks(ip);
        }
        self.neighbours.learn(ip, mac, word, now)
    }

    /// Somebody else claims one of our addresses. While they are tried, it is the other's
    /// (RFC 4862, section 5.4.3); later both have it, and neighbours are told of ours.
    fn claimed(&mut self, other: MacAddr, now: Duration) {
        match self.state {
            State::Tried(_) => {
                log::warn!("{other} has the outside address {}", self.outside.ip());
                self.state = State::Taken(now + TRY_AGAIN);
                self.neighbours.clear();
                self.routers.clear();
            }
            State::Usable => {
                let lately = |last| now.saturating_sub(last) < DEFENCE;
                if self.defended.is_some_and(lately) {
                    return;
                }
                if self.defended.replace(now).is_none() {
                    log::warn!("{other} has the outside address {} too", self.outside.ip());
                }
                self.announce();
            }
            State::Away | State::Taken(_) => {}
        }
    }

    /// Says to everybody where our address is (section 7.2.6).
    fn announce(&mut self) {
        let to = ndp::group_mac(ALL_NODES);
        self.advertise(to, self.outside.ip(), ALL_NODES, OVERRIDE);
    }

    fn advertise(&mut self, to: MacAddr, target: Ipv6Addr, dst: Ipv6Addr, flags: u32) {
        let advertisement = Neighbour {
            kind: icmpv6::NEIGHBOR_ADVERT,
            // Outside it is a host: it forwards for nobody there.
            flags: flags & !ROUTER,
            target,
            mac: Some(self.mac),
        };
        self.send(to, (target, dst), &advertisement);
    }

    /// Tells switches which groups the station listens to (RFC 3810, section 6.1).
    fn report(&mut self, src: Ipv6Addr) {
        let groups = [self.link_local, self.outside.ip()].map(ndp::solicited_node);
        self.outgoing.push(Outgoing {
            to: ndp::group_mac(mld::ALL_MLD_ROUTERS),
            packet: mld::report(src, &groups),
        });
    }

    fn send(&mut self, to: MacAddr, ends: (Ipv6Addr, Ipv6Addr), message: &Neighbour) {
        let packet = neighbour_packet(ends, message);
        self.outgoing.push(Outgoing { to, packet });
    }

    /// When [`Self::on_deadline`] has something to do.
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        let state = match self.state {
            State::Tried(at) | State::Taken(at) => Some(at),
            State::Away | State::Usable => None,
        };
        [
            state,
            self.neighbours.next_deadline(),
            self.routers.next_deadline(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Uses addresses that nobody else has, asks for routers, and asks again who has not answered.
    pub(super) fn on_deadline(&mut self, now: Duration) {
        match self.state {
            State::Tried(until) if until <= now => {
                self.state = State::Usable;
                self.announce();
                self.report(self.link_local);
                if self.via.is_none() {
                    self.routers.look(now);
                }
            }
            State::Taken(until) if until <= now => self.attached(now),
            _ => {}
        }
        if self.routers.on_deadline(now) && self.is_usable() {
            self.outgoing.push(Outgoing {
                to: ndp::group_mac(ALL_ROUTERS),
                packet: router_solicitation(self.mac, self.link_local),
            });
        }
        self.neighbours.on_deadline(now);
    }

    /// The addresses that nobody answered to since the last call.
    pub(super) fn take_lost(&mut self) -> Vec<Ipv6Addr> {
        let lost = self.neighbours.take_lost();
        lost.iter().for_each(|ip| self.routers.silent(*ip));
        lost
    }

    /// What is to be sent, in its order; questions come last.
    pub(super) fn take_outgoing(&mut self) -> Vec<Outgoing> {
        while let Some(question) = self.neighbours.next_question() {
            // Nobody could answer to an address that is still tried; it will be asked again.
            if !self.is_usable() {
                continue;
            }
            let target = question.target;
            let src = match target.is_unicast_link_local() {
                true => self.link_local,
                false => self.outside.ip(),
            };
            let group = ndp::solicited_node(target);
            let (to, dst) = question
                .at
                .map_or((ndp::group_mac(group), group), |mac| (mac, target));
            let solicitation = Neighbour {
                kind: icmpv6::NEIGHBOR_SOLICIT,
                flags: 0,
                target,
                mac: Some(self.mac),
            };
            self.send(to, (src, dst), &solicitation);
        }
        std::mem::take(&mut self.outgoing)
    }
}

/// An IPv6 header in front of `len` zero bytes of ICMPv6.
fn header((src, dst): (Ipv6Addr, Ipv6Addr), len: usize) -> Vec<u8> {
    let mut packet = vec![0; ipv6::HEADER_LEN + len];
    Ipv6Repr {
        src,
        dst,
        next_header: ip_proto::ICMPV6,
        hop_limit: HOP_LIMIT,
        traffic_class: 0,
        payload_len: len,
    }
    .emit(&mut packet);
    packet
}

/// A message of neighbour discovery as a packet.
pub(super) fn neighbour_packet(ends: (Ipv6Addr, Ipv6Addr), message: &Neighbour) -> Vec<u8> {
    let mut packet = header(ends, message.len());
    let pseudo = pseudo_v6(ends.0, ends.1, ip_proto::ICMPV6, message.len());
    message.emit(&mut packet[ipv6::HEADER_LEN..], pseudo);
    packet
}

/// The question which routers there are (section 4.1).
fn router_solicitation(mac: MacAddr, src: Ipv6Addr) -> Vec<u8> {
    const LEN: usize = icmpv6::HEADER_LEN + 8;
    let mut packet = header((src, ALL_ROUTERS), LEN);
    let message = &mut packet[ipv6::HEADER_LEN..];
    message[8..10].copy_from_slice(&[ndp::SOURCE_ADDRESS, 1]);
    message[10..].copy_from_slice(&mac.0);
    let pseudo = pseudo_v6(src, ALL_ROUTERS, ip_proto::ICMPV6, LEN);
    icmpv6::emit(message, icmpv6::ROUTER_SOLICIT, 0, 0, pseudo);
    packet
}
