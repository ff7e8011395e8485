//! Which ports there are, what they may do and which addresses are tied to them.

use core::net::IpAddr;

use net_wire::MacAddr;

use crate::port::Port;
use crate::table::Slot;
use crate::vlan::Domain;
use crate::{DropReason, PortConfig, PortId, Switch};

/// IP addresses one port can be bound to ([`Switch::allow_ip`]).
pub const MAX_ADDRESSES: usize = 64;

impl Switch {
    /// Adds a port, or changes what it may do. What it has sent and learned stays, unless it comes to
    /// another VLAN.
    ///
    /// False if its [`PortConfig::allowed_mac`] is tied to another port: that one keeps it, and every
    /// frame of this port is refused.
    pub fn add_port(&mut self, id: PortId, config: PortConfig) -> bool {
        self.last = None;
        let slot = match self.by_id.get(&id) {
            Some(slot) => *slot,
            None => self.make_port(id, config),
        };
        let storm = config.storm.unwrap_or(self.config.storm);
        let Some(port) = self.port_mut(slot) else {
            return false;
        };
        let before = core::mem::replace(&mut port.config, config);
        if before.storm != config.storm {
            port.limit(&storm);
        }
        if before.vlan != config.vlan {
            return self.change_domain(slot);
        }
        let domain = port.domain();
        let untied = before
            .allowed_mac
            .filter(|mac| Some(*mac) != config.allowed_mac && !port.statics.contains(mac));
        if let Some(mac) = untied {
            self.table.unfix(domain, mac, slot);
        }
        config.allowed_mac.is_none_or(|mac| self.tie(mac, slot))
    }

    fn make_port(&mut self, id: PortId, config: PortConfig) -> Slot {
        let storm = config.storm.unwrap_or(self.config.storm);
        let port = Port::new(id, config, &storm);
        let free = self.slots.iter().position(Option::is_none);
        let slot = free.unwrap_or(self.slots.len());
        match self.slots.get_mut(slot) {
            Some(free) => *free = Some(port),
            None => self.slots.push(Some(port)),
        }
        self.by_id.insert(id, slot as Slot);
        self.count_domains();
        slot as Slot
    }

    /// Forgets what a port has learned and was heard to listen to, and ties its addresses in the
    /// domain that it is in now. False if one is tied to another port.
    fn change_domain(&mut self, slot: Slot) -> bool {
        self.table.remove_all(slot);
        if let Some(snooper) = &mut self.snooper {
            snooper.forget(slot);
        }
        self.count_domains();
        let Some(port) = self.port(slot) else {
            return false;
        };
        let tied: Vec<MacAddr> = port
            .statics
            .iter()
            .copied()
            .chain(port.config.allowed_mac)
            .collect();
        let mut all = true;
        for mac in tied {
            all &= self.tie(mac, slot);
        }
        all
    }

    fn count_domains(&mut self) {
        let ports = self.slots.iter().flatten();
        self.domains = ports.map(Port::domain).chain([Domain::NONE]).collect();
        self.domains.sort_unstable();
        self.domains.dedup();
        if let Some(snooper) = &mut self.snooper {
            snooper.keep(|domain| self.domains.binary_search(&domain).is_ok());
        }
    }

    /// Ties an address to a port in its domain. False if it is tied to another port there, or to one
    /// that serves every domain.
    fn tie(&mut self, mac: MacAddr, slot: Slot) -> bool {
        let Some(port) = self.port(slot) else {
            return false;
        };
        let (domain, everywhere) = (port.domain(), port.serves_all());
        let elsewhere = |domain| {
            self.table
                .fixed_at(domain, mac)
                .is_some_and(|it| it != slot)
        };
        if self.is_served_elsewhere(mac, slot)
            || everywhere && self.domains.iter().copied().any(elsewhere)
        {
            return false;
        }
        if everywhere {
            for domain in &self.domains {
                self.table.unlearn(*domain, mac);
            }
        }
        self.table.fix(domain, mac, slot)
    }

    /// Removes a port and every address on it.
    pub fn remove_port(&mut self, id: PortId) {
        self.last = None;
        if let Some(slot) = self.by_id.remove(&id) {
            self.table.remove_all(slot);
            if let Some(snooper) = &mut self.snooper {
                snooper.forget(slot);
            }
            if let Some(port) = self.slots.get_mut(slot as usize) {
                *port = None;
            }
            self.mirror = self.mirror.filter(|mirror| *mirror != id);
            self.count_domains();
        }
    }

    /// What a port may do.
    pub fn port_config(&self, id: PortId) -> Option<PortConfig> {
        Some(self.find(id)?.config)
    }

    /// Forgets what was learned on a port: its guest has gone, another may come.
    pub fn forget_port(&mut self, id: PortId) {
        self.last = None;
        if let Some(slot) = self.by_id.get(&id) {
            self.table.forget(*slot);
            if let Some(snooper) = &mut self.snooper {
                snooper.forget(*slot);
            }
        }
    }

    /// Ties an address to a port of the network itself, such as the gateway's: no guest can take
    /// it, isolated ports reach that port, and its floods are not limited. Without a VLAN it serves
    /// the ports of every VLAN.
    ///
    /// False if there is no such port, if the address is a group's or all zero, or if it is tied to
    /// another port, which keeps it.
    pub fn add_static(&mut self, mac: MacAddr, id: PortId) -> bool {
        self.last = None;
        let slot = self.by_id.get(&id).copied();
        let Some((slot, port)) = slot.and_then(|slot| Some((slot, self.port_mut(slot)?))) else {
            return false;
        };
        if !mac.is_unicast() {
            return false;
        }
        if port.statics.contains(&mac) {
            return true;
        }
        // With it the port may serve every domain, which is what decides who may have it.
        port.statics.push(mac);
        let tied = self.tie(mac, slot);
        if !tied && let Some(port) = self.port_mut(slot) {
            port.statics.retain(|it| *it != mac);
        }
        tied
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
                port.statistics.drops.add(DropReason::IpSpoofed, 1);
                DropReason::IpSpoofed
            }
            Some(_) => return Ok(()),
            None => DropReason::NoPort,
        };
        self.statistics.drops.add(reason, 1);
        Err(reason)
    }
}
