//! The forwarding decision.

use core::hash::{BuildHasherDefault, Hasher};
use core::time::Duration;

use hashbrown::HashMap;
use net_wire::MacAddr;

use crate::port::Port;
use crate::snoop::Snooper;
use crate::table::{Learnt, Slot, Table};
use crate::vlan::{self, Domain};
use crate::{Config, DropReason, PortId, PortStatistics, Statistics, VlanId};

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

/// A multiplication, for port numbers, which are the caller's to choose and no guest's.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct PortHasher(u64);

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
pub(crate) struct Last {
    from: PortId,
    slot: Slot,
    /// Addresses as [`word`]s, which compare in one step.
    dst: u64,
    src: u64,
    now: Duration,
    way: Way,
}

/// Where a frame goes that is refused for nothing but, perhaps, its number.
#[derive(Debug, Clone, Copy)]
enum Way {
    To(PortId),
    /// To every port, as far as its sender may have that many copied.
    Flood,
}

/// An address as one word.
#[inline(always)]
fn word(mac: MacAddr) -> u64 {
    let [a, b, c, d, e, f] = mac.0;
    u64::from_le_bytes([a, b, c, d, e, f, 0, 0])
}

/// A learning switch.
#[derive(Debug)]
pub struct Switch {
    pub(crate) table: Table,
    pub(crate) slots: Vec<Option<Port>>,
    pub(crate) by_id: HashMap<PortId, Slot, BuildHasherDefault<PortHasher>>,
    pub(crate) config: Config,
    pub(crate) statistics: Statistics,
    /// Gone with every change from outside.
    pub(crate) last: Option<Last>,
    /// That of the ports without a VLAN, and behind it those of the VLANs that ports are in.
    pub(crate) domains: Vec<Domain>,
    /// The port that gets copies.
    pub(crate) mirror: Option<PortId>,
    pub(crate) snooper: Option<Snooper>,
}

impl Switch {
    /// A switch without ports.
    pub fn new(config: Config) -> Self {
        Self {
            table: Table::new(&config),
            slots: Vec::new(),
            by_id: HashMap::default(),
            snooper: config
                .snooping
                .map(|snooping| Snooper::new(snooping, &config.seed)),
            config,
            statistics: Statistics::default(),
            last: None,
            domains: vec![Domain::NONE],
            mirror: None,
        }
    }

    /// The port that an address is tied to if that serves every domain.
    fn server_of(&self, mac: MacAddr) -> Option<Slot> {
        let slot = self.table.fixed_at(Domain::NONE, mac)?;
        self.port(slot)?.serves_all().then_some(slot)
    }

    pub(crate) fn is_served_elsewhere(&self, mac: MacAddr, slot: Slot) -> bool {
        self.server_of(mac).is_some_and(|server| server != slot)
    }

    pub(crate) fn port(&self, slot: Slot) -> Option<&Port> {
        self.slots.get(slot as usize)?.as_ref()
    }

    pub(crate) fn port_mut(&mut self, slot: Slot) -> Option<&mut Port> {
        self.slots.get_mut(slot as usize)?.as_mut()
    }

    pub(crate) fn find(&self, id: PortId) -> Option<&Port> {
        self.port(*self.by_id.get(&id)?)
    }

    /// The counters.
    pub fn statistics(&self) -> Statistics {
        let changes = self.table.changes;
        Statistics {
            learned: changes.learned,
            moved: changes.moved,
            aged: changes.aged,
            evicted: changes.evicted,
            snoop: self
                .snooper
                .as_ref()
                .map_or_else(Default::default, |snooper| snooper.statistics),
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

    /// The port that an address is known on; in a VLAN, in another, or in none.
    pub fn port_of(&self, vlan: Option<VlanId>, mac: MacAddr, now: Duration) -> Option<PortId> {
        let slot = self.table.slot_of(Domain::of(vlan), mac, now);
        Some(self.port(slot.or_else(|| self.server_of(mac))?)?.id)
    }

    /// [`Self::forward`] for a frame that may have a tag (priority, drop eligibility, VLAN id), which
    /// is asked for only if a port is in a VLAN.
    #[inline]
    pub fn forward_tagged(
        &mut self,
        from: PortId,
        tag: impl FnOnce() -> Option<u16>,
        dst: MacAddr,
        src: MacAddr,
        now: Duration,
    ) -> Verdict {
        if self.has_vlans() && tag().is_some_and(vlan::names_vlan) && self.refuses_tags(from) {
            return self.refuse(from, DropReason::Tagged);
        }
        self.forward(from, dst, src, now)
    }

    /// [`Self::forward_tagged`] for `count` frames, at least one, that came together with the same
    /// addresses and the same tag, or none. Says for how many of them the verdict holds: for all, or
    /// for the first if that is flooded, since each one is paid for.
    #[inline]
    pub fn forward_run(
        &mut self,
        from: PortId,
        tag: impl FnOnce() -> Option<u16>,
        (dst, src): (MacAddr, MacAddr),
        count: usize,
        now: Duration,
    ) -> (Verdict, usize) {
        let verdict = self.forward_tagged(from, tag, dst, src, now);
        let more = count.saturating_sub(1) as u64;
        if more == 0 || verdict == Verdict::Flood {
            return (verdict, 1);
        }
        self.count(from, verdict, more);
        (verdict, count)
    }

    /// Counts more frames that were not flooded.
    fn count(&mut self, from: PortId, verdict: Verdict, more: u64) {
        let slot = match &self.last {
            Some(last) if last.from == from => Some(last.slot),
            _ => self.by_id.get(&from).copied(),
        };
        let port = slot.and_then(|slot| self.slots.get_mut(slot as usize)?.as_mut());
        let mut own = port.map(|port| &mut port.statistics);
        match verdict {
            Verdict::To(_) => {
                self.statistics.unicast += more;
                if let Some(own) = &mut own {
                    own.unicast += more;
                }
            }
            Verdict::Drop(reason) => {
                self.statistics.drops.add(reason, more);
                if let Some(own) = &mut own {
                    own.drops.add(reason, more);
                }
            }
            Verdict::Flood => {}
        }
    }

    /// Whether a port is in a VLAN.
    #[inline(always)]
    fn has_vlans(&self) -> bool {
        self.domains.len() > 1
    }

    /// Whether frames of a VLAN cannot come from a port: it is in one, or reaches ports that are.
    #[cold]
    fn refuses_tags(&self, from: PortId) -> bool {
        let port = self.find(from);
        port.is_some_and(|port| port.config.vlan.is_some() || port.serves_all())
    }

    /// Counts a frame that goes nowhere.
    fn refuse(&mut self, from: PortId, reason: DropReason) -> Verdict {
        let verdict = Verdict::Drop(reason);
        self.count(from, verdict, 1);
        verdict
    }

    /// Decides where a frame from port `from` goes, and learns where its sender is. The frame has no
    /// tag; see [`Self::forward_tagged`].
    #[inline]
    pub fn forward(&mut self, from: PortId, dst: MacAddr, src: MacAddr, now: Duration) -> Verdict {
        if let Some(last) = self.last
            && (last.dst, last.src) == (word(dst), word(src))
            && (last.from, last.now) == (from, now)
        {
            return self.go(last.way, last.slot, dst, now);
        }
        self.forward_anew(from, dst, src, now)
    }

    /// Counts a frame that goes this way, and has it paid for if it is flooded.
    #[inline(always)]
    fn go(&mut self, way: Way, slot: Slot, dst: MacAddr, now: Duration) -> Verdict {
        let Some(port) = self.slots.get_mut(slot as usize).and_then(Option::as_mut) else {
            return Verdict::Drop(DropReason::NoPort);
        };
        let to = match way {
            Way::To(to) => to,
            Way::Flood => return Self::flood(port, &mut self.statistics, dst, now),
        };
        self.statistics.unicast += 1;
        port.statistics.unicast += 1;
        Verdict::To(to)
    }

    #[inline(never)]
    fn flood(port: &mut Port, all: &mut Statistics, dst: MacAddr, now: Duration) -> Verdict {
        if !port.is_uplink()
            && let Err(reason) = port.storm.pay(dst, now)
        {
            all.drops.add(reason, 1);
            port.statistics.drops.add(reason, 1);
            return Verdict::Drop(reason);
        }
        all.flooded += 1;
        port.statistics.flooded += 1;
        Verdict::Flood
    }

    /// [`Self::forward`] for a frame that is not like the last.
    fn forward_anew(&mut self, from: PortId, dst: MacAddr, src: MacAddr, now: Duration) -> Verdict {
        self.last = None;
        let Some(slot) = self.by_id.get(&from).copied() else {
            return self.refuse(from, DropReason::NoPort);
        };
        match self.decide(slot, dst, src, now) {
            Ok(way) => {
                self.last = Some(Last {
                    from,
                    slot,
                    dst: word(dst),
                    src: word(src),
                    now,
                    way,
                });
                self.go(way, slot, dst, now)
            }
            Err(reason) => self.refuse(from, reason),
        }
    }

    fn decide(
        &mut self,
        slot: Slot,
        dst: MacAddr,
        src: MacAddr,
        now: Duration,
    ) -> Result<Way, DropReason> {
        let port = self.port(slot).ok_or(DropReason::NoPort)?;
        let domain = port.domain();
        if self.mirror == Some(port.id) {
            return Err(DropReason::Mirror);
        }
        if !src.is_unicast() {
            return Err(DropReason::BadSource);
        }
        if port.config.allowed_mac.is_some_and(|mac| mac != src) {
            return Err(DropReason::Spoofed);
        }
        if is_link_local(dst) {
            return Err(DropReason::LinkLocal);
        }
        if domain != Domain::NONE && self.is_served_elsewhere(src, slot) {
            return Err(DropReason::Spoofed);
        }
        match self.table.learn(domain, src, slot, now) {
            Learnt::Known => {}
            Learnt::Taken => return Err(DropReason::Spoofed),
            Learnt::TooSoon => return Err(DropReason::MoveLimit),
        }
        let to = if dst.is_multicast() {
            None
        } else {
            self.locate(slot, domain, dst, now)
        };
        if to == Some(slot) {
            return Err(DropReason::SamePort);
        }
        if let Some(to) = to {
            return match (self.port(slot), self.port(to)) {
                (Some(from), Some(to)) if self.passes(from, to) => Ok(Way::To(to.id)),
                _ => Err(DropReason::Isolated),
            };
        }
        Ok(Way::Flood)
    }

    /// The port of an address, as seen from a port.
    #[inline(always)]
    fn locate(&self, from: Slot, domain: Domain, dst: MacAddr, now: Duration) -> Option<Slot> {
        let found = self.table.slot_of(domain, dst, now);
        if found.is_some() || !self.has_vlans() {
            return found;
        }
        self.locate_elsewhere(from, domain, dst, now)
    }

    /// [`Self::locate`] for an address that is not in the port's own domain.
    #[cold]
    fn locate_elsewhere(
        &self,
        from: Slot,
        domain: Domain,
        dst: MacAddr,
        now: Duration,
    ) -> Option<Slot> {
        if domain != Domain::NONE {
            return self.server_of(dst);
        }
        if !self.port(from)?.serves_all() {
            return None;
        }
        // From a port that serves them all, an address that two domains have is in neither.
        let mut found = self
            .domains
            .iter()
            .filter_map(|domain| self.table.slot_of(*domain, dst, now));
        found.next().filter(|_| found.next().is_none())
    }

    /// Whether frames may pass from one port to another.
    #[inline]
    pub(crate) fn passes(&self, from: &Port, to: &Port) -> bool {
        from.reaches(to) && self.mirror != Some(to.id)
    }

    /// The ports that a flooded frame from `from` goes to: all it reaches, never itself. Of a
    /// multicast frame [`Self::multicast_targets`] knows better.
    pub fn flood_targets(&self, from: PortId) -> impl Iterator<Item = PortId> {
        let sender = self.find(from);
        self.slots
            .iter()
            .flatten()
            .filter(move |to| to.id != from && sender.is_some_and(|from| self.passes(from, to)))
            .map(|port| port.id)
    }
}

/// 01-80-C2-00-00-00 to -0F: spanning tree, pause, link aggregation, LLDP; never forwarded by a
/// bridge (IEEE 802.1Q, 8.6.3).
fn is_link_local(mac: MacAddr) -> bool {
    matches!(mac.0, [0x01, 0x80, 0xc2, 0x00, 0x00, 0x00..=0x0f])
}
