//! Where a multicast frame goes.

use core::time::Duration;

use net_wire::ip_proto;

use crate::port::Port;
use crate::table::Slot;
use crate::{MulticastRouter, PortId, Switch};

/// Whether an IP packet, of which this is the beginning, may say who listens to a group: then
/// [`Switch::multicast_targets`] has to be shown all of it.
pub fn may_report(packet: &[u8]) -> bool {
    match packet.first().map(|byte| byte >> 4) {
        Some(4) => packet.get(9) == Some(&ip_proto::IGMP),
        Some(6) => packet.get(6) == Some(&ip_proto::HOP_BY_HOP),
        _ => false,
    }
}

impl Switch {
    /// Whether it snoops on IGMP and MLD ([`crate::Config::snooping`]): if not, a multicast frame is
    /// flooded, and [`Self::multicast_targets`] says the same.
    pub fn snoops(&self) -> bool {
        self.snooper.is_some()
    }

    /// The ports that a multicast frame from `from` goes to, which [`Self::forward`] said to flood;
    /// and learns from it who listens to what.
    ///
    /// `packet` is the IP packet in it: all of it if it [may be a report](may_report), else at least
    /// the fixed header. Of a frame that has a tag or no IP packet it is empty, and the frame is
    /// flooded.
    pub fn multicast_targets(&mut self, from: PortId, packet: &[u8], now: Duration) -> Vec<PortId> {
        let slot = self.by_id.get(&from).copied();
        let sender = slot.and_then(|slot| Some((slot, self.slots.get(slot as usize)?.as_ref()?)));
        let (Some((slot, sender)), Some(snooper)) = (sender, &mut self.snooper) else {
            return self.flood_targets(from).collect();
        };
        let own = [sender.domain()];
        let domains = match sender.serves_all() {
            true => &self.domains[..],
            false => &own,
        };
        let router = sender.config.multicast_router;
        let delivery = snooper.see((slot, domains), router, packet, now);
        let wants = |(slot, to): &(Slot, &Port)| {
            to.is_uplink()
                || to.config.multicast_router == MulticastRouter::Always
                || snooper.delivers(delivery, (*slot, to.domain()), now)
        };
        let mirror = self.mirror;
        let reached = (0..).zip(&self.slots).filter_map(|(slot, to)| {
            let to = to.as_ref()?;
            let passes = sender.id != to.id && sender.reaches(to) && mirror != Some(to.id);
            passes.then_some((slot, to))
        });
        let (mut targets, mut skipped) = (Vec::new(), false);
        for port in reached {
            match wants(&port) {
                true => targets.push(port.1.id),
                false => skipped = true,
            }
        }
        snooper.statistics.narrowed += u64::from(skipped);
        targets
    }

    /// Memberships in the table, those among them that have ended and were not swept yet.
    pub fn memberships(&self) -> usize {
        self.snooper
            .as_ref()
            .map_or(0, |snooper| snooper.memberships())
    }
}
