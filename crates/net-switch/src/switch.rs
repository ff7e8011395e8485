//! The forwarding decision.

use core::hash::{BuildHasherDefault, Hasher};
use core::net::IpAddr;
use core::time::Duration;

use hashbrown::HashMap;
use net_wire::MacAddr;

use crate::bucket::TokenBucket;
use crate::table::{Learnt, Slot, Table};
use crate::{Config, DropReason, PortConfig, PortId, PortStatistics, Statistics};

/// IP addresses one port can be bound to ([`Switch::allow_ip`]).
pub const MAX_ADDRESSES: usize = 64;

/// Where a frame goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// To one port.
    To(PortId),
    /// To every port that [`Switch::flood_targets`] names.
    Flood,
    /// Nowhere.
    Drop(DropReason),
}

/// A port and what it has left to spend.
#[derive(Debug)]
struct Port {
    id: PortId,
    config: PortConfig,
    /// Addresses tied to it by [`Switch::add_static`].
    statics: Vec<MacAddr>,
    /// IP addresses it is bound to.
    addresses: Vec<IpAddr>,
    broadcasts: TokenBucket,
    unknown: TokenBucket,
    statistics: PortStatistics,
}

impl Port {
    /// Whether isolated ports reach it and its floods are free.
    fn is_uplink(&self) -> bool {
        self.config.uplink || !self.statics.is_empty()
    }

    /// Whether frames may pass between two ports, in either direction.
    fn reaches(&self, other: &Self) -> bool {
        !(self.config.isolated || other.config.isolated) || self.is_uplink() || other.is_uplink()
    }

    /// Whether it is bound to addresses of the family of `ip`, and `ip` is none of them.
    fn forbids(&self, ip: IpAddr) -> bool {
        let free = match ip {
            // DHCP, ARP probes and duplicate address detection have no address yet; a link-local
            // one is made by the guest itself (RFC 4862, section 5.3).
            IpAddr::V4(ip) => ip.is_unspecified(),
            IpAddr::V6(ip) => ip.is_unspecified() || ip.is_unicast_link_local(),
        };
        let mut family = self
            .addresses
            .iter()
            .filter(|allowed| allowed.is_ipv4() == ip.is_ipv4())
            .peekable();
        !free && family.peek().is_some() && !family.any(|allowed| *allowed == ip)
    }
}

/// A multiplication, for port numbers, which are the caller's to choose and no guest's.
#[derive(Debug, Clone, Copy, Default)]
struct PortHasher(u64);

impl Hasher for PortHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    fn write_u32(&mut self, value: u32) {
        // The map looks at both ends of the hash.
        let mixed = (self.0 ^ u64::from(value)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 32);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The last frame, and where it went: frames come in runs, and one like the last, at the same time,
/// changes nothing and goes the same way.
#[derive(Debug, Clone, Copy)]
struct Last {
    from: PortId,
    slot: Slot,
    dst: MacAddr,
    src: MacAddr,
    now: Duration,
    to: PortId,
}

/// A learning switch.
#[derive(Debug)]
pub struct Switch {
    table: Table,
    slots: Vec<Option<Port>>,
    by_id: HashMap<PortId, Slot, BuildHasherDefault<PortHasher>>,
    config: Config,
    statistics: Statistics,
    /// Gone with every change from outside.
    last: Option<Last>,
}

impl Switch {
    /// A switch without ports.
    pub fn new(config: Config) -> Self {
        Self {
            table: Table::new(&config),
            slots: Vec::new(),
            by_id: HashMap::default(),
            config,
            statistics: Statistics::default(),
            last: None,
        }
    }

    /// Adds a port, or changes what it may do. What it has sent and learned stays.
    ///
    /// False if its [`PortConfig::allowed_mac`] is tied to another port: that one keeps it, and every
    /// frame of this port is refused.
    pub fn add_port(&mut self, id: PortId, config: PortConfig) -> bool {
        self.last = None;
        let slot = match self.by_id.get(&id) {
            Some(slot) => *slot,
            None => self.make_port(id, config),
        };
        let Some(port) = self.port_mut(slot) else {
            return false;
        };
        let before = core::mem::replace(&mut port.config, config).allowed_mac;
        let untied =
            before.filter(|mac| Some(*mac) != config.allowed_mac && !port.statics.contains(mac));
        if let Some(mac) = untied {
            self.table.unfix(mac, slot);
        }
        config
            .allowed_mac
            .is_none_or(|mac| self.table.fix(mac, slot))
    }

    fn make_port(&mut self, id: PortId, config: PortConfig) -> Slot {
        let port = Port {
            id,
            config,
            statics: Vec::new(),
            addresses: Vec::new(),
            broadcasts: TokenBucket::new(self.config.broadcasts),
            unknown: TokenBucket::new(self.config.unknown_unicasts),
            statistics: PortStatistics::default(),
        };
        let free = self.slots.iter().position(Option::is_none);
        let slot = free.unwrap_or(self.slots.len());
        match self.slots.get_mut(slot) {
            Some(free) => *free = Some(port),
            None => self.slots.push(Some(port)),
        }
        self.by_id.insert(id, slot as Slot);
        slot as Slot
    }

    fn port(&self, slot: Slot) -> Option<&Port> {
        self.slots.get(slot as usize)?.as_ref()
    }

    fn port_mut(&mut self, slot: Slot) -> Option<&mut Port> {
        self.slots.get_mut(slot as usize)?.as_mut()
    }

    fn find(&self, id: PortId) -> Option<&Port> {
        self.port(*self.by_id.get(&id)?)
    }

    /// Removes a port and every address on it.
    pub fn remove_port(&mut self, id: PortId) {
        self.last = None;
        if let Some(slot) = self.by_id.remove(&id) {
            self.table.remove_all(slot);
            if let Some(port) = self.slots.get_mut(slot as usize) {
                *port = None;
            }
        }
    }

    /// Forgets what was learned on a port: its guest has gone, another may come.
    pub fn forget_port(&mut self, id: PortId) {
        self.last = None;
        if let Some(slot) = self.by_id.get(&id) {
            self.table.forget(*slot);
        }
    }

    /// Ties an address to a port of the network itself, such as the gateway's: no guest can take
    /// it, isolated ports reach that port, and its floods are not limited.
    ///
    /// False if there is no such port, if the address is a group's or all zero, or if it is tied to
    /// another port, which keeps it.
    pub fn add_static(&mut self, mac: MacAddr, id: PortId) -> bool {
        self.last = None;
        let Some(slot) = self.by_id.get(&id).copied() else {
            return false;
        };
        if !mac.is_unicast() || !self.table.fix(mac, slot) {
            return false;
        }
        if let Some(port) = self.port_mut(slot)
            && !port.statics.contains(&mac)
        {
            port.statics.push(mac);
        }
        true
    }

    /// Binds a port to an IP address, besides those it is bound to already; a port that is bound to
    /// none of a family may use all of it. False if there is no such port, or no room
    /// ([`MAX_ADDRESSES`]).
    pub fn allow_ip(&mut self, id: PortId, ip: IpAddr) -> bool {
        let slot = self.by_id.get(&id).copied();
        let Some(port) = slot.and_then(|slot| self.port_mut(slot)) else {
            return false;
        };
        if port.addresses.contains(&ip) {
            return true;
        }
        let room = port.addresses.len() < MAX_ADDRESSES;
        if room {
            port.addresses.push(ip);
        }
        room
    }

    /// Takes back what [`Self::allow_ip`] allowed.
    pub fn forbid_ip(&mut self, id: PortId, ip: IpAddr) {
        let slot = self.by_id.get(&id).copied();
        if let Some(port) = slot.and_then(|slot| self.port_mut(slot)) {
            port.addresses.retain(|allowed| *allowed != ip);
        }
    }

    /// Whether a port may use `ip` as the source of an IP packet, or claim it in ARP or neighbour
    /// discovery. Unspecified and IPv6 link-local addresses are free. A refusal is counted.
    ///
    /// # Errors
    /// [`DropReason::IpSpoofed`], or [`DropReason::NoPort`].
    pub fn check_ip(&mut self, from: PortId, ip: IpAddr) -> Result<(), DropReason> {
        let slot = self.by_id.get(&from).copied();
        let reason = match slot.and_then(|slot| self.port_mut(slot)) {
            Some(port) if port.forbids(ip) => {
                port.statistics.drops.add(DropReason::IpSpoofed);
                DropReason::IpSpoofed
            }
            Some(_) => return Ok(()),
            None => DropReason::NoPort,
        };
        self.statistics.drops.add(reason);
        Err(reason)
    }

    /// The counters.
    pub fn statistics(&self) -> Statistics {
        let changes = self.table.changes;
        Statistics {
            learned: changes.learned,
            moved: changes.moved,
            aged: changes.aged,
            evicted: changes.evicted,
            ..self.statistics
        }
    }

    /// The counters of the frames that came from a port.
    pub fn port_statistics(&self, id: PortId) -> Option<PortStatistics> {
        Some(self.find(id)?.statistics)
    }

    /// Addresses in the table, static ones too.
    pub fn addresses(&self) -> usize {
        self.table.len()
    }

    /// The port an address is known on.
    pub fn port_of(&self, mac: MacAddr, now: Duration) -> Option<PortId> {
        Some(self.port(self.table.slot_of(mac, now)?)?.id)
    }

    /// Decides where a frame from port `from` goes, and learns where its sender is.
    #[inline]
    pub fn forward(&mut self, from: PortId, dst: MacAddr, src: MacAddr, now: Duration) -> Verdict {
        if let Some(last) = self.last
            && (last.from, last.dst, last.src, last.now) == (from, dst, src, now)
            && let Some(Some(port)) = self.slots.get_mut(last.slot as usize)
        {
            self.statistics.unicast += 1;
            port.statistics.unicast += 1;
            return Verdict::To(last.to);
        }
        self.forward_anew(from, dst, src, now)
    }

    /// [`Self::forward`] for a frame that is not like the last.
    fn forward_anew(&mut self, from: PortId, dst: MacAddr, src: MacAddr, now: Duration) -> Verdict {
        self.last = None;
        let Some(slot) = self.by_id.get(&from).copied() else {
            self.statistics.drops.add(DropReason::NoPort);
            return Verdict::Drop(DropReason::NoPort);
        };
        let verdict = self
            .decide(slot, dst, src, now)
            .unwrap_or_else(Verdict::Drop);
        let Some(port) = self.slots.get_mut(slot as usize).and_then(Option::as_mut) else {
            return verdict;
        };
        match verdict {
            Verdict::To(to) => {
                self.statistics.unicast += 1;
                port.statistics.unicast += 1;
                self.last = Some(Last {
                    from,
                    slot,
                    dst,
                    src,
                    now,
                    to,
                });
            }
            Verdict::Flood => {
                self.statistics.flooded += 1;
                port.statistics.flooded += 1;
            }
            Verdict::Drop(reason) => {
                self.statistics.drops.add(reason);
                port.statistics.drops.add(reason);
            }
        }
        verdict
    }

    fn decide(
        &mut self,
        slot: Slot,
        dst: MacAddr,
        src: MacAddr,
        now: Duration,
    ) -> Result<Verdict, DropReason> {
        let port = self.port(slot).ok_or(DropReason::NoPort)?;
        if !src.is_unicast() {
            return Err(DropReason::BadSource);
        }
        if port.config.allowed_mac.is_some_and(|mac| mac != src) {
            return Err(DropReason::Spoofed);
        }
        if is_link_local(dst) {
            return Err(DropReason::LinkLocal);
        }
        match self.table.learn(src, slot, now) {
            Learnt::Known => {}
            Learnt::Taken => return Err(DropReason::Spoofed),
            Learnt::TooSoon => return Err(DropReason::MoveLimit),
        }
        let to = if dst.is_multicast() {
            None
        } else {
            self.table.slot_of(dst, now)
        };
        if to == Some(slot) {
            return Err(DropReason::SamePort);
        }
        if let Some(to) = to {
            return match (self.port(slot), self.port(to)) {
                (Some(from), Some(to)) if from.reaches(to) => Ok(Verdict::To(to.id)),
                _ => Err(DropReason::Isolated),
            };
        }
        let port = self.port_mut(slot).ok_or(DropReason::NoPort)?;
        let (bucket, reason) = if dst.is_multicast() {
            (&mut port.broadcasts, DropReason::BroadcastLimit)
        } else {
            (&mut port.unknown, DropReason::UnknownLimit)
        };
        if bucket.take(now) || port.is_uplink() {
            Ok(Verdict::Flood)
        } else {
            Err(reason)
        }
    }

    /// The ports that a flooded frame from `from` goes to: all it reaches, never itself.
    pub fn flood_targets(&self, from: PortId) -> impl Iterator<Item = PortId> {
        let sender = self.find(from);
        self.slots
            .iter()
            .flatten()
            .filter(move |to| to.id != from && sender.is_some_and(|from| from.reaches(to)))
            .map(|port| port.id)
    }
}

/// 01-80-C2-00-00-00 to -0F: spanning tree, pause, link aggregation, LLDP; never forwarded by a
/// bridge (IEEE 802.1Q, 8.6.3).
fn is_link_local(mac: MacAddr) -> bool {
    matches!(mac.0, [0x01, 0x80, 0xc2, 0x00, 0x00, 0x00..=0x0f])
}
