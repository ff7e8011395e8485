//! Mappings made by order: published ports.

use super::Nat;
use super::common::Common;
use crate::address::{Address, Endpoint};
use crate::external::Space;
use crate::family::Family;
use crate::forward::ForwardError;
use crate::mapping::{MappingKey, live, space};

impl<F: Family> Nat<F> {
    /// Publishes an inside endpoint at an outside one.
    pub(crate) fn add_forward(
        &mut self,
        common: &mut Common,
        protocol: u8,
        outside: Endpoint<F::Addr>,
        inside: Endpoint<F::Addr>,
    ) -> Result<(), ForwardError> {
        let external = self
            .externals
            .number(outside.addr)
            .ok_or(ForwardError::NotOurs)?;
        if !self.is_inside(inside.addr) {
            return Err(ForwardError::NotInside);
        }
        let space = space(protocol);
        if space == Some(Space::Icmp) || (space.is_none() && !self.translates(common, protocol)) {
            return Err(ForwardError::Protocol);
        }
        if !self
            .externals
            .is_free(space, protocol, external, outside.port)
        {
            self.free_resting(common, protocol, external, outside.port)?;
        }
        let shard = self.steering.add_forward(protocol, outside, inside.addr);
        if shard != self.steering.shard.number {
            if let Some(space) = space {
                self.externals.reserve(space, external, outside.port);
            }
            return Ok(());
        }
        let Ok((host, known)) = self.host(common, inside.addr) else {
            self.steering.remove_forward(protocol, outside);
            return Err(ForwardError::TableFull);
        };
        let key = MappingKey {
            protocol,
            inside,
            remote: Endpoint::new(F::Addr::UNSPECIFIED, 0),
        };
        let hash = key.hash(&common.keys);
        let twice = self.mappings.find(hash, &key).is_some();
        let place = (external, outside.port);
        let Some(mapping) = self.mappings.add(hash, &key, host, twice, place) else {
            if !known {
                self.forget(host);
            }
            self.steering.remove_forward(protocol, outside);
            return Err(ForwardError::TableFull);
        };
        if let Some(record) = self.mappings.slab.get_mut(mapping) {
            record.publish();
        }
        self.externals
            .take(space, protocol, external, outside.port, mapping);
        if let Some(host) = self.hosts.get_mut(host) {
            host.mappings += 1;
        }
        Ok(())
    }

    /// A port that only rests is the operator's to give.
    fn free_resting(
        &mut self,
        common: &mut Common,
        protocol: u8,
        external: u16,
        port: u16,
    ) -> Result<(), ForwardError> {
        let space = space(protocol);
        let mapping = self
            .externals
            .mapping(space, protocol, external, port)
            .ok_or(ForwardError::PortInUse)?;
        let resting = self.mappings.slab.get(mapping);
        if !resting.is_some_and(|m| m.is_resting()) {
            return Err(ForwardError::PortInUse);
        }
        self.resting.unlink(&mut self.mappings.slab, mapping);
        self.unmap(common, mapping);
        Ok(())
    }

    /// Takes a forward back. Nobody new comes in, even if its host goes on using the port; what is open
    /// stays open until it ends.
    pub(crate) fn remove_forward(
        &mut self,
        common: &mut Common,
        protocol: u8,
        outside: Endpoint<F::Addr>,
    ) -> Result<(), ForwardError> {
        let external = self.externals.number(outside.addr);
        let shard = self.steering.forward(protocol, outside);
        self.steering.remove_forward(protocol, outside);
        if let (Some(external), Some(shard)) = (external, shard)
            && shard != self.steering.shard.number
        {
            self.externals
                .release(space(protocol), protocol, external, outside.port);
            return Ok(());
        }
        let mapping = external.and_then(|external| {
            self.externals
                .mapping(space(protocol), protocol, external, outside.port)
        });
        let record = mapping.and_then(|m| self.mappings.slab.get_mut(m));
        match (mapping, record) {
            (Some(mapping), Some(record)) if record.is_forward() => {
                record.withdraw();
                self.rest_if_idle(common, mapping);
                Ok(())
            }
            _ => Err(ForwardError::NotThere),
        }
    }

    /// The forwards: protocol, outside, inside.
    pub(crate) fn forwards(
        &self,
    ) -> impl Iterator<Item = (u8, Endpoint<F::Addr>, Endpoint<F::Addr>)> {
        let slab = &self.mappings.slab;
        live(slab).filter_map(|number| {
            let record = slab.get(number).filter(|m| m.is_forward())?;
            let outside = Endpoint::new(self.externals.addr(record.external)?, record.outside_port);
            let inside = Endpoint::new(record.inside, record.inside_port);
            Some((record.protocol, outside, inside))
        })
    }
}
