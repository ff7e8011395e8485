//! Which mapping a new session uses: hosts, what each may have, and outside ports.

use net_wire::checksum::Delta;
use net_wire::ip_proto;

use super::Nat;
use super::common::Common;
use crate::address::{Address, Endpoint};
use crate::config::{Behaviour, Dependence};
use crate::family::Family;
use crate::hosts::Host;
use crate::mapping::{MappingKey, space};
use crate::rate::TokenBucket;
use crate::verdict::DropReason;

/// A host's leave to open one more session, and the mapping for it.
#[derive(Clone, Copy)]
pub(super) struct Grant<A> {
    pub(super) mapping: u32,
    pub(super) outside: Endpoint<A>,
    /// What this outside address in the place of the inside one changes in a checksum.
    pub(super) l3: Delta,
}

/// How a protocol is mapped and filtered.
#[inline]
pub(super) fn behaviour(common: &Common, protocol: u8) -> Behaviour {
    let independent = |filtering| Behaviour {
        mapping: Dependence::EndpointIndependent,
        filtering,
    };
    match protocol {
        ip_proto::TCP => common.config.tcp,
        ip_proto::UDP => common.config.udp,
        // RFC 5508, REQ-1a.
        ip_proto::ICMP | ip_proto::ICMPV6 => independent(common.config.icmp.filtering),
        // One host a protocol and no ports: only the address tells who is admitted.
        _ => independent(Dependence::AddressAndPortDependent),
    }
}

/// Takes one session off what a host may still open.
#[inline]
fn take_quota<A>(common: &Common, host: &mut Host<A>) -> Result<(), DropReason> {
    let limits = &common.config.limits;
    if host.sessions >= limits.sessions_per_host {
        return Err(DropReason::Quota);
    }
    if limits.new_per_second != 0 && !host.openings.take(common.now) {
        return Err(DropReason::Rate);
    }
    Ok(())
}

impl<F: Family> Nat<F> {
    /// The key of the mapping of an outbound packet.
    #[inline(always)]
    pub(super) fn mapping_key(
        &self,
        common: &Common,
        protocol: u8,
        local: Endpoint<F::Addr>,
        remote: Endpoint<F::Addr>,
    ) -> MappingKey<F::Addr> {
        // Who has an address of its own keeps its ports, whomever it talks to.
        let dependence = if self.externals.own(local.addr).is_some() {
            Dependence::EndpointIndependent
        } else {
            behaviour(common, protocol).mapping
        };
        MappingKey::new(protocol, local, remote, dependence)
    }

    /// The hash of that key.
    #[inline(always)]
    pub(super) fn mapping_hash(
        &self,
        common: &Common,
        protocol: u8,
        local: Endpoint<F::Addr>,
        remote: Endpoint<F::Addr>,
    ) -> u64 {
        let key = self.mapping_key(common, protocol, local, remote);
        key.hash(&common.keys)
    }

    /// The mapping of a host with an address of its own that was called there while its packets
    /// left by a forward: the forward has gone, and nothing leads to this one from inside.
    #[inline(always)]
    pub(super) fn own_mapping(&self, protocol: u8, local: Endpoint<F::Addr>) -> Option<u32> {
        let external = self.externals.own(local.addr)?;
        let mapping = self
            .externals
            .mapping(space(protocol), protocol, external, local.port)?;
        let record = self.mappings.slab.get(mapping)?;
        let same = record.inside == local.addr && record.inside_port == local.port;
        same.then_some(mapping)
    }

    /// One more session by a mapping that is there, if its host may have one.
    #[inline(always)]
    pub(super) fn admit(
        &mut self,
        common: &Common,
        mapping: u32,
    ) -> Result<Grant<F::Addr>, DropReason> {
        let record = self.mappings.slab.get(mapping);
        let record = record.ok_or(DropReason::NoMapping)?;
        let host = self.hosts.get_mut(record.host);
        take_quota(common, host.ok_or(DropReason::NoMapping)?)?;
        // A forward's is not its host's, perhaps.
        let outside = self.externals.addr(record.external);
        let outside = Endpoint::new(outside.ok_or(DropReason::NoMapping)?, record.outside_port);
        let l3 = F::Addr::delta(record.inside, outside.addr);
        if record.is_resting() {
            self.wake(mapping);
        }
        Ok(Grant {
            mapping,
            outside,
            l3,
        })
    }

    /// A new mapping for an inside endpoint, whose host may open a session. With `twice`, another has
    /// the key already.
    #[inline(always)]
    pub(super) fn map(
        &mut self,
        common: &mut Common,
        hash: u64,
        key: &MappingKey<F::Addr>,
        twice: bool,
    ) -> Result<Grant<F::Addr>, DropReason> {
        if self.mappings.slab.is_full() {
            return Err(DropReason::TableFull);
        }
        let (number, known) = self.host(common, key.inside.addr)?;
        let grant = self.map_of(common, (hash, twice), key, number);
        if grant.is_err() && !known {
            self.forget(number);
        }
        grant
    }

    #[inline(always)]
    fn map_of(
        &mut self,
        common: &mut Common,
        (hash, twice): (u64, bool),
        key: &MappingKey<F::Addr>,
        number: u32,
    ) -> Result<Grant<F::Addr>, DropReason> {
        let host = self.hosts.get_mut(number).ok_or(DropReason::TableFull)?;
        if host.mappings >= common.config.limits.mappings_per_host {
            return Err(DropReason::Quota);
        }
        take_quota(common, host)?;
        let (external, protocol) = (host.external, key.protocol);
        let next = self.mappings.slab.next().ok_or(DropReason::TableFull)?;
        let (space, port, random) = (space(protocol), key.inside.port, &mut common.random);
        let port = self
            .externals
            .allocate(space, protocol, external, port, next, random)
            .ok_or(DropReason::NoPort)?;
        let mapping = self
            .mappings
            .add(hash, key, number, twice, (external, port))
            .ok_or(DropReason::TableFull)?;
        host.mappings += 1;
        Ok(Grant {
            mapping,
            outside: Endpoint::new(host.outside, port),
            l3: host.l3,
        })
    }

    /// The host with this address, known or new; the flag says whether it was known.
    #[inline(always)]
    pub(super) fn host(
        &mut self,
        common: &Common,
        addr: F::Addr,
    ) -> Result<(u32, bool), DropReason> {
        if let Some(number) = self.hosts.find(addr) {
            return Ok((number, true));
        }
        if self.hosts.is_full() {
            return Err(DropReason::TableFull);
        }
        let external = self.externals.assign(addr).ok_or(DropReason::NoPort)?;
        let number = self.add_host(common, addr, external);
        Ok((number.ok_or(DropReason::NoPort)?, false))
    }

    /// As [`Self::host`], but a new one keeps to this outside address.
    pub(super) fn host_at(
        &mut self,
        common: &Common,
        addr: F::Addr,
        external: u16,
    ) -> Result<(u32, bool), DropReason> {
        if let Some(number) = self.hosts.find(addr) {
            return Ok((number, true));
        }
        if self.hosts.is_full() {
            return Err(DropReason::TableFull);
        }
        self.externals.assign_to(external);
        let number = self.add_host(common, addr, external);
        Ok((number.ok_or(DropReason::NoPort)?, false))
    }

    #[cold]
    fn add_host(&mut self, common: &Common, addr: F::Addr, external: u16) -> Option<u32> {
        let limits = &common.config.limits;
        let openings = TokenBucket::new(limits.new_per_second, limits.new_burst);
        let errors = TokenBucket::new(limits.icmp_per_second, limits.icmp_per_second);
        let outside = (external, self.externals.addr(external)?);
        Some(self.hosts.add(addr, outside, openings, errors))
    }

    /// A mapping whose port rested is in use again.
    pub(super) fn wake(&mut self, mapping: u32) {
        if let Some(record) = self.mappings.slab.get_mut(mapping)
            && record.is_resting()
        {
            record.set_resting(false);
            record.expires = 0;
            self.resting.unlink(&mut self.mappings.slab, mapping);
        }
    }
}
