//! The forwarding decision.

use core::time::Duration;
use std::collections::BTreeMap;

use net_wire::MacAddr;

use crate::bucket::TokenBucket;
use crate::table::{Learnt, Table};
use crate::{Config, PortConfig, PortId};

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

/// Why a frame goes nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DropReason {
    /// It came from a port that does not exist.
    NoPort,
    /// The source is a group address or all zero.
    BadSource,
    /// The source belongs to another port.
    Spoofed,
    /// The destination is on the port it came from.
    SamePort,
    /// The destination is reserved for the link itself (IEEE 802.1Q, table 8-1).
    LinkLocal,
    /// The sender or the receiver is isolated.
    Isolated,
    /// Too many broadcasts of this port.
    BroadcastLimit,
    /// Too many frames of this port to unknown addresses.
    UnknownLimit,
}

/// Counters of a switch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Statistics {
    /// Frames for one port.
    pub unicast: u64,
    /// Frames for every port.
    pub flooded: u64,
    /// Addresses that were not learnt because the port or the table is full.
    pub not_learnt: u64,
    /// Frames dropped, by [`DropReason`] in order of declaration.
    pub drops: [u64; 8],
}

/// A port and what it has left to spend.
#[derive(Debug)]
struct Port {
    config: PortConfig,
    /// A device of the network itself: isolated ports reach it.
    is_static: bool,
    broadcasts: TokenBucket,
    unknown: TokenBucket,
}

/// A learning switch.
#[derive(Debug)]
pub struct Switch {
    table: Table,
    ports: BTreeMap<PortId, Port>,
    config: Config,
    statistics: Statistics,
}

impl Switch {
    /// A switch without ports.
    pub fn new(config: Config) -> Self {
        Self {
            table: Table::new(&config),
            ports: BTreeMap::new(),
            config,
            statistics: Statistics::default(),
        }
    }

    /// Adds a port, or changes what it may do.
    pub fn add_port(&mut self, id: PortId, config: PortConfig) {
        let port = self.ports.entry(id).or_insert_with(|| Port {
            config,
            is_static: false,
            broadcasts: TokenBucket::new(self.config.broadcasts),
            unknown: TokenBucket::new(self.config.unknown_unicasts),
        });
        port.config = config;
        if let Some(mac) = config.allowed_mac {
            self.table.fix(mac, id);
        }
    }

    /// Removes a port and every address on it.
    pub fn remove_port(&mut self, id: PortId) {
        self.ports.remove(&id);
        self.table.remove_port(id);
    }

    /// Forgets what was learnt on a port: its guest has gone, another may come.
    pub fn forget_port(&mut self, id: PortId) {
        self.table.forget_port(id);
    }

    /// Ties an address to a port of the network itself, such as the gateway's: no guest can take
    /// it, and isolated ports reach that port.
    pub fn add_static(&mut self, mac: MacAddr, id: PortId) {
        if let Some(port) = self.ports.get_mut(&id) {
            port.is_static = true;
            self.table.fix(mac, id);
        }
    }

    /// The counters.
    pub fn statistics(&self) -> Statistics {
        self.statistics
    }

    /// Addresses known at the moment.
    pub fn addresses(&self) -> usize {
        self.table.len()
    }

    /// Decides where a frame from port `from` goes, and learns where its sender is.
    pub fn forward(&mut self, from: PortId, dst: MacAddr, src: MacAddr, now: Duration) -> Verdict {
        match self.decide(from, dst, src, now) {
            Ok(verdict) => {
                match verdict {
                    Verdict::Flood => self.statistics.flooded += 1,
                    _ => self.statistics.unicast += 1,
                }
                verdict
            }
            Err(reason) => {
                self.statistics.drops[reason as usize] += 1;
                Verdict::Drop(reason)
            }
        }
    }

    fn decide(
        &mut self,
        from: PortId,
        dst: MacAddr,
        src: MacAddr,
        now: Duration,
    ) -> Result<Verdict, DropReason> {
        let port = self.ports.get_mut(&from).ok_or(DropReason::NoPort)?;
        if !src.is_unicast() {
            return Err(DropReason::BadSource);
        }
        if port.config.allowed_mac.is_some_and(|mac| mac != src) {
            return Err(DropReason::Spoofed);
        }
        match self.table.learn(src, from, now) {
            Learnt::Known => {}
            Learnt::Full => self.statistics.not_learnt += 1,
            Learnt::Elsewhere => return Err(DropReason::Spoofed),
        }
        if is_link_local(dst) {
            return Err(DropReason::LinkLocal);
        }
        if dst.is_multicast() {
            return match port.broadcasts.take(now) {
                true => Ok(Verdict::Flood),
                false => Err(DropReason::BroadcastLimit),
            };
        }
        match self.table.port_of(dst, now) {
            Some((to, _)) if to == from => Err(DropReason::SamePort),
            Some((to, _)) if self.reaches(from, to) => Ok(Verdict::To(to)),
            Some(_) => Err(DropReason::Isolated),
            None => match self
                .ports
                .get_mut(&from)
                .is_some_and(|port| port.unknown.take(now))
            {
                true => Ok(Verdict::Flood),
                false => Err(DropReason::UnknownLimit),
            },
        }
    }

    /// The ports that a flooded frame from `from` goes to: all it reaches, never itself.
    pub fn flood_targets(&self, from: PortId) -> impl Iterator<Item = PortId> {
        self.ports
            .keys()
            .copied()
            .filter(move |to| *to != from && self.reaches(from, *to))
    }

    /// Whether frames may pass between two ports.
    fn reaches(&self, from: PortId, to: PortId) -> bool {
        let free = |id: &PortId| self.ports.get(id).is_some_and(|port| !port.config.isolated);
        let fixed = |id: &PortId| self.ports.get(id).is_some_and(|port| port.is_static);
        free(&from) && free(&to) || fixed(&from) || fixed(&to)
    }
}

/// 01-80-C2-00-00-00 to -0F: spanning tree, pause, link aggregation, LLDP; never forwarded by a
/// bridge (IEEE 802.1Q, 8.6.3).
fn is_link_local(mac: MacAddr) -> bool {
    mac.0[..5] == [0x01, 0x80, 0xc2, 0x00, 0x00] && mac.0[5] < 0x10
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    const GATEWAY: MacAddr = MacAddr([2, 0xff, 0, 0, 0, 1]);
    const NOW: Duration = Duration::from_secs(10);

    fn mac(n: u32) -> MacAddr {
        let [a, b, c, d] = n.to_be_bytes();
        MacAddr([2, 0, a, b, c, d])
    }

    /// A gateway on port 0 and guests on 1 to `guests`.
    fn switch(guests: u32) -> Switch {
        let mut switch = Switch::new(Config::new([3; 16]));
        for id in 0..=guests {
            switch.add_port(id, PortConfig::default());
        }
        switch.add_static(GATEWAY, 0);
        switch
    }

    #[test]
    fn row68_no_guest_takes_the_gateway_s_address() {
        let mut switch = switch(2);
        assert_eq!(
            switch.forward(1, mac(9), GATEWAY, NOW),
            Verdict::Drop(DropReason::Spoofed)
        );
        assert_eq!(switch.forward(2, GATEWAY, mac(2), NOW), Verdict::To(0));
        assert_eq!(switch.statistics().drops[DropReason::Spoofed as usize], 1);
    }

    #[test]
    fn row68_a_port_with_an_address_of_its_own_keeps_to_it_and_keeps_it() {
        let mut switch = switch(1);
        switch.add_port(2, PortConfig::with_mac(mac(2)));
        assert_eq!(
            switch.forward(2, GATEWAY, mac(3), NOW),
            Verdict::Drop(DropReason::Spoofed)
        );
        assert_eq!(
            switch.forward(1, GATEWAY, mac(2), NOW),
            Verdict::Drop(DropReason::Spoofed)
        );
        assert_eq!(switch.forward(2, GATEWAY, mac(2), NOW), Verdict::To(0));
    }

    #[test]
    fn row68_the_table_is_bounded_by_port_and_nobody_is_evicted() {
        let mut switch = switch(2);
        switch.forward(2, GATEWAY, mac(0xffff), NOW);
        for n in 0..10_000 {
            assert_eq!(switch.forward(1, GATEWAY, mac(n), NOW), Verdict::To(0));
        }
        assert!(switch.addresses() <= 256 + 2);
        assert_eq!(switch.statistics().not_learnt, 10_000 - 256);
        assert_eq!(switch.forward(1, mac(0xffff), mac(1), NOW), Verdict::To(2));
    }

    #[test]
    fn row68_moves_are_limited() {
        let mut switch = switch(2);
        let at = |ms| NOW + Duration::from_millis(ms);
        switch.forward(1, GATEWAY, mac(1), at(0));
        assert_eq!(
            switch.forward(2, GATEWAY, mac(1), at(999)),
            Verdict::Drop(DropReason::Spoofed)
        );
        assert_eq!(switch.forward(2, GATEWAY, mac(1), at(1000)), Verdict::To(0));
        assert_eq!(
            switch.forward(1, GATEWAY, mac(1), at(1500)),
            Verdict::Drop(DropReason::Spoofed)
        );
    }

    #[test]
    fn row68_isolated_guests_reach_the_gateway_only() {
        let mut switch = switch(1);
        for id in 2..=3 {
            switch.add_port(id, PortConfig::default().isolated(true));
        }
        for id in 1..=3 {
            switch.forward(id, GATEWAY, mac(id), NOW);
        }
        assert_eq!(
            switch.forward(2, mac(3), mac(2), NOW),
            Verdict::Drop(DropReason::Isolated)
        );
        assert_eq!(
            switch.forward(1, mac(3), mac(1), NOW),
            Verdict::Drop(DropReason::Isolated)
        );
        assert_eq!(switch.forward(2, GATEWAY, mac(2), NOW), Verdict::To(0));
        assert_eq!(switch.forward(0, mac(3), GATEWAY, NOW), Verdict::To(3));
        assert_eq!(switch.flood_targets(2).collect::<Vec<_>>(), [0]);
        assert_eq!(switch.flood_targets(1).collect::<Vec<_>>(), [0]);
        assert_eq!(switch.flood_targets(0).collect::<Vec<_>>(), [1, 2, 3]);
    }

    #[test]
    fn row68_floods_are_limited_and_never_return() {
        let mut switch = switch(2);
        let flood = |switch: &mut Switch, dst| {
            (0..5000)
                .filter(|_| switch.forward(1, dst, mac(1), NOW) == Verdict::Flood)
                .count()
        };
        assert_eq!(flood(&mut switch, MacAddr::BROADCAST), 1000);
        assert_eq!(flood(&mut switch, mac(77)), 1000);
        assert_eq!(switch.flood_targets(1).collect::<Vec<_>>(), [0, 2]);
        assert_eq!(
            switch.forward(2, MacAddr::BROADCAST, mac(2), NOW),
            Verdict::Flood,
            "its own budget"
        );
    }

    #[test]
    fn sources_and_reserved_destinations() {
        let mut switch = switch(1);
        for bad in [
            MacAddr::ZERO,
            MacAddr::BROADCAST,
            MacAddr([1, 0, 0x5e, 0, 0, 1]),
        ] {
            assert_eq!(
                switch.forward(1, GATEWAY, bad, NOW),
                Verdict::Drop(DropReason::BadSource)
            );
        }
        let stp = MacAddr([0x01, 0x80, 0xc2, 0, 0, 0]);
        assert_eq!(
            switch.forward(1, stp, mac(1), NOW),
            Verdict::Drop(DropReason::LinkLocal)
        );
        assert_eq!(
            switch.forward(1, mac(1), mac(1), NOW),
            Verdict::Drop(DropReason::SamePort)
        );
        assert_eq!(
            switch.forward(9, GATEWAY, mac(1), NOW),
            Verdict::Drop(DropReason::NoPort)
        );
    }

    #[test]
    fn what_is_silent_is_forgotten_and_what_speaks_is_not() {
        let mut switch = switch(2);
        let at = |s| NOW + Duration::from_secs(s);
        switch.forward(1, GATEWAY, mac(1), at(0));
        for s in (0..1000).step_by(30) {
            switch.forward(2, GATEWAY, mac(2), at(s));
        }
        assert_eq!(switch.forward(2, mac(1), mac(2), at(1000)), Verdict::Flood);
        switch.forward(1, GATEWAY, mac(3), at(1000));
        assert_eq!(switch.forward(1, mac(2), mac(3), at(1000)), Verdict::To(2));
        assert!(switch.table.list_len() < 20, "renewals do not pile up");
    }

    #[test]
    fn a_removed_port_is_reached_no_more() {
        let mut switch = switch(2);
        switch.forward(1, GATEWAY, mac(1), NOW);
        switch.remove_port(1);
        assert_eq!(switch.forward(2, mac(1), mac(2), NOW), Verdict::Flood);
        assert_eq!(switch.flood_targets(2).collect::<Vec<_>>(), [0]);
        switch.add_port(3, PortConfig::default());
        assert_eq!(switch.forward(3, GATEWAY, mac(1), NOW), Verdict::To(0));
    }

    proptest! {
        /// Against a table without ageing, quotas or limits, on times and rates that never reach
        /// any.
        #[test]
        fn agrees_with_a_plain_table(
            frames in proptest::collection::vec((1u32..5, 0u32..12, 0u32..12), 1..200)
        ) {
            let mut switch = switch(4);
            let mut oracle: HashMap<MacAddr, u32> = HashMap::from([(GATEWAY, 0)]);
            for (n, (from, dst, src)) in frames.into_iter().enumerate() {
                let now = NOW + Duration::from_secs(n as u64);
                let (dst, src) = (mac(dst), mac(src));
                oracle.insert(src, from);
                let expected = match oracle.get(&dst) {
                    Some(to) if *to == from => Verdict::Drop(DropReason::SamePort),
                    Some(to) => Verdict::To(*to),
                    None => Verdict::Flood,
                };
                let got = switch.forward(from, dst, src, now);
                prop_assert_eq!(got, expected);
            }
        }
    }
}
