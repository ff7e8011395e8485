//! The way out that carries packets: our own translator between the guests and one interface.
//!
//! ```text
//!  guests ─► switch ─► gateway ─► admit ─► NatEngine ─► next hop ─► device ─► outside
//!                         ▲                                           │
//!          guest's port ◄─┴─ neighbour ◄─ NatEngine ◄─ admit ◄────────┘
//! ```
//!
//! Frames are lent by one port and handed to the other without a copy of their payload: what is
//! rewritten is the private copy of their headers. A super-frame stays one, a partial checksum stays
//! partial; a port that cannot take that has it cut or completed at its edge. Only what has to wait
//! for an address, to be cut for a smaller link or to be answered is copied.
//!
//! | module | its job |
//! |---|---|
//! | `outbound`, `inbound` | which packets are carried, and in what order they are asked what |
//! | `deliver` | from a verdict to a port; errors and answers of the router itself |
//! | `answer` | echo |
//! | `neighbours`, `waiting` | who answers to an outside address, and the packets that wait for that |
//! | `arp`; `station`, `routers`, `mld` | what is said for that over IPv4, and over IPv6 |
//! | `device` | the interface: opened, lost, opened again |
//! | `publish` | published ports |

mod answer;
mod arp;
mod deliver;
mod device;
mod inbound;
mod mld;
mod neighbours;
mod outbound;
mod publish;
mod rate;
mod routers;
mod station;
#[cfg(test)]
mod tests;
mod waiting;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ipnetwork::Ipv6Network;
use net_gateway::Gateway;
use net_nat::config::FamilyConfig;
use net_nat::{NatConfig, NatEngine, Prefix};
use net_wire::MacAddr;

pub(crate) use self::device::open;
pub(super) use self::device::{Device, Open, opener};
use self::neighbours::Found;
pub(super) use self::publish::Published;
use self::rate::Rate;
use self::station::Station;
use self::waiting::Waiting;
use super::links::Links;
use super::ports::PortId;
use crate::config::NetworkConfig;
use crate::error::ManagerError;
use crate::uplink::UplinkConfig;

/// Packets translated together.
const BATCH: usize = 64;
/// Errors, and answers to echo requests, that the router itself sends in a second.
const ERRORS_PER_SECOND: u32 = 100;
const ECHOES_PER_SECOND: u32 = 1000;
/// Records of the translator looked at in one go: well below a millisecond.
const EXPIRE_BUDGET: usize = 4096;
/// How often they are looked at, and how soon again when the budget did not suffice.
const EXPIRE_INTERVAL: Duration = Duration::from_secs(1);
const EXPIRE_AGAIN: Duration = Duration::from_millis(10);

/// What the uplink itself has dropped; what the translator dropped is in its own counters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct UplinkDrops {
    /// Frames whose offload fields contradict their headers.
    pub offload: u64,
    /// Packets to or from addresses that no router carries: link-local, broadcast, another family.
    pub address: u64,
    /// Packets without a next hop: no router, nobody who answers, or the interface is away.
    pub unreachable: u64,
    /// Packets that found no room to wait for an address.
    pub waiting: u64,
    /// Packets longer than the link they would leave by, counting the pieces of super-frames.
    pub too_big: u64,
    /// Packets from outside whose time to live or hop limit had run out, or whose header was broken.
    pub malformed: u64,
}

/// The uplink.
pub(super) struct PacketUplink {
    config: UplinkConfig,
    mac: MacAddr,
    gateway: Ipv4Addr,
    nat: NatEngine,
    arp: arp::Resolver,
    /// Its IPv6 side, if it has one.
    six: Option<Station>,
    /// The guests' IPv6 prefix.
    inside6: Option<Ipv6Network>,
    /// Packets of guests, as they came, that wait for the address of a host outside.
    outward: Waiting,
    /// Translated packets that wait for the address of a guest.
    inward: Waiting,
    device: Device,
    /// Largest packets of the guests' network and of the one outside, in bytes.
    mtu_inside: usize,
    mtu_outside: usize,
    expire_at: Duration,
    errors: Rate,
    echoes: Rate,
    drops: UplinkDrops,
}

impl PacketUplink {
    /// An uplink whose interface is open, and to be attached at the first [`Self::reopen`].
    ///
    /// # Errors
    /// Whatever in the configuration cannot work, [`ManagerError::Uplink`].
    pub(super) fn new(
        network: &NetworkConfig,
        gateway: Ipv4Addr,
        seed: [u8; 16],
        mut open: Open,
    ) -> Result<Self, ManagerError> {
        let config = network.uplink.clone().ok_or(ManagerError::NoUplink)?;
        let prefix6 = network.prefix6();
        config.validate(network.subnet, prefix6)?;
        let opened = open(&config.device)?;
        let mtu = opened.1;
        config.validate_mtu(mtu)?;
        let translator = |what: String| ManagerError::Translator(what);
        let inside = Prefix::new(network.subnet.network(), network.subnet.prefix())
            .ok_or_else(|| translator("the prefix is too long".to_owned()))?;
        let mut nat = NatConfig::new(seed, inside, config.outside.ip());
        nat.mtu = [network.mtu.into(), mtu.into()];
        if let (Some(inside), Some(outside)) = (prefix6, config.outside6) {
            let prefix = Prefix::new(inside.network(), inside.prefix());
            nat.ipv6 = Some(FamilyConfig {
                inside: prefix.into_iter().collect(),
                outside: vec![outside.ip()],
                one_to_one: Vec::new(),
            });
        }
        let nat = NatEngine::new(nat).map_err(|err| translator(err.to_string()))?;
        let mac = MacAddr(config.hardware_address());
        let station = |outside| Station::new(mac, outside, config.via6, mtu);
        Ok(Self {
            mac,
            gateway,
            nat,
            arp: arp::Resolver::new(mac, config.outside.ip()),
            six: config.outside6.map(station),
            inside6: prefix6,
            outward: Waiting::default(),
            inward: Waiting::default(),
            device: Device::new(open, opened),
            mtu_inside: network.mtu.into(),
            mtu_outside: mtu.into(),
            expire_at: Duration::ZERO,
            errors: Rate::new(ERRORS_PER_SECOND),
            echoes: Rate::new(ECHOES_PER_SECOND),
            drops: UplinkDrops::default(),
            config,
        })
    }

    /// When [`Self::on_deadline`] has something to do.
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        let sessions = self.nat.next_deadline().map(|at| at.max(self.expire_at));
        [
            sessions,
            self.arp.next_deadline(),
            self.six.as_ref().and_then(Station::next_deadline),
            self.outward.next_deadline(),
            self.inward.next_deadline(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Ends sessions that are over, and asks again who has not answered.
    pub(super) fn on_deadline(&mut self, links: &mut Links<'_>) {
        let now = links.now;
        if self.expire_at <= now && self.nat.next_deadline().is_some_and(|at| at <= now) {
            let looked = self.nat.expire_some(now, EXPIRE_BUDGET);
            let again = looked >= EXPIRE_BUDGET;
            self.expire_at = now + if again { EXPIRE_AGAIN } else { EXPIRE_INTERVAL };
            self.send_outputs(links);
        }
        self.arp.on_deadline(now);
        if let Some(six) = &mut self.six {
            six.on_deadline(now);
        }
        self.send_questions(links);
        for hop in self.take_lost() {
            self.give_up(hop, links);
        }
        self.outward.expire(now);
        self.inward.expire(now);
    }

    /// Ends the flows of the guest at `port`, whose addresses `gateway` still knows.
    pub(super) fn guest_gone(&mut self, port: PortId, gateway: &Gateway) {
        self.outward.forget(port);
        let is_there = |ip| gateway.neighbour(ip).is_some_and(|at| at.port == port);
        self.nat
            .close_sessions(|session| is_there(session.inside.addr));
    }

    /// Who answers to an address outside, for a packet of the guest at `port`.
    fn find(&mut self, hop: IpAddr, port: PortId, now: Duration) -> Found {
        match (hop, &mut self.six) {
            (IpAddr::V4(hop), _) => self.arp.find(hop, port, now),
            (IpAddr::V6(hop), Some(six)) => six.find(hop, port, now),
            (IpAddr::V6(_), None) => Found::Refused,
        }
    }

    /// Who answers to an address outside, as far as is known.
    fn known(&self, hop: IpAddr) -> Option<MacAddr> {
        match hop {
            IpAddr::V4(hop) => self.arp.known(hop),
            IpAddr::V6(hop) => self.six.as_ref()?.known(hop),
        }
    }

    /// The addresses outside that nobody answered to since the last call.
    fn take_lost(&mut self) -> Vec<IpAddr> {
        let four = self.arp.take_lost().into_iter().map(IpAddr::V4);
        let six = self.six.as_mut().map(Station::take_lost);
        let six = six.unwrap_or_default().into_iter().map(IpAddr::V6);
        four.chain(six).collect()
    }

    /// Whether guests' IPv6 packets have a way out at this moment.
    pub(in crate::worker) fn routes6(&self) -> bool {
        self.six.as_ref().is_some_and(|six| six.trouble().is_none())
    }

    /// Why IPv6 packets have none, where there should be one.
    pub(in crate::worker) fn trouble6(&self) -> Option<&'static str> {
        self.six.as_ref().and_then(Station::trouble)
    }

    /// What is known of it at this moment.
    pub(super) fn status(&self) -> UplinkStatus {
        UplinkStatus {
            device: self.config.device.to_string(),
            connected: self.device.port().is_some(),
            outside: self.config.outside.ip(),
            outside6: self.six.as_ref().map(Station::outside),
            router6: self.six.as_ref().and_then(Station::router),
            sessions: self.nat.usage().sessions,
            sessions_max: self.nat.usage().sessions_max,
            outbound: self.nat.counters().outbound,
            inbound: self.nat.counters().inbound,
            refused: self.nat.counters().dropped_total(),
            drops: self.drops,
        }
    }
}

/// The packet uplink at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct UplinkStatus {
    /// Its interface, as it was named.
    pub device: String,
    /// Whether the interface is there.
    pub connected: bool,
    /// The address all guests share.
    pub outside: Ipv4Addr,
    /// The same of IPv6, if it has one.
    pub outside6: Option<Ipv6Addr>,
    /// The router that IPv6 packets for afar go to, if one is known.
    pub router6: Option<Ipv6Addr>,
    /// Sessions of the translator, and how many there can be.
    pub sessions: usize,
    /// See [`Self::sessions`].
    pub sessions_max: usize,
    /// Packets translated on their way out.
    pub outbound: u64,
    /// Packets translated on their way in.
    pub inbound: u64,
    /// Packets the translator refused.
    pub refused: u64,
    /// Packets the router around it dropped.
    pub drops: UplinkDrops,
}
