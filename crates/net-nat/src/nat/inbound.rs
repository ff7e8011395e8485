//! Packets from the outside that the quick way does not take: those that open a session, of no
//! session, neither TCP nor UDP.

use net_wire::tcp::TcpFlags;

use super::Nat;
use super::common::Common;
use super::map::behaviour;
use super::open::Flow;
use crate::address::{Address, Endpoint};
use crate::config::Dependence;
use crate::direction::Direction;
use crate::family::{Family, Header, Kind};
use crate::mapping::space;
use crate::packet::{IpPacket, whole};
use crate::verdict::{DropReason, Side, Verdict};

/// Whether TCP flags are those of a first segment.
fn is_syn(flags: u8) -> bool {
    let TcpFlags(syn) = TcpFlags::SYN;
    let others = TcpFlags::ACK.0 | TcpFlags::RST.0 | TcpFlags::FIN.0;
    flags & (syn | others) == syn
}

impl<F: Family> Nat<F> {
    /// A packet from the outside; with `hairpin`, one from the inside of which the first half is done.
    pub(super) fn inbound<P: IpPacket + ?Sized>(
        &mut self,
        common: &mut Common,
        packet: &mut P,
        header: &Header<F::Addr>,
        hairpin: bool,
    ) -> Verdict {
        self.settle();
        let (local, remote) = header.ends(Direction::Inbound);
        let Some(external) = self.externals.number(local.addr) else {
            // What is for a guest by its inside address comes from nobody who should know it.
            return if self.is_inside(local.addr) {
                common.refuse(DropReason::NoMapping)
            } else {
                Verdict::Pass
            };
        };
        let ours = self.is_inside(remote.addr) || self.externals.number(remote.addr).is_some();
        if !remote.addr.is_host() || (ours && !hairpin) {
            return common.refuse(DropReason::Spoofed);
        }
        if self.steering.is_shared()
            && let Some(verdict) = self.steer_inbound(common, packet, header, hairpin)
        {
            return verdict;
        }
        match header.kind {
            Kind::Tail => return self.tail(common, packet, header, Direction::Inbound),
            Kind::Error => return self.error_inbound(common, packet),
            Kind::OtherIcmp => return self.unmatched(common, DropReason::UnrelatedIcmp),
            _ => {}
        }
        let protocol = header.protocol;
        let flow = Flow::new(&common.keys, Direction::Inbound, protocol, local, remote);
        if let Some(number) = self.find(common, &flow) {
            return self.translate(common, packet, header, Direction::Inbound, number, true);
        }
        match self.begin_inbound(common, packet, header, &flow, external) {
            Ok(number) => self.translate(common, packet, header, Direction::Inbound, number, false),
            Err(reason @ (DropReason::NoMapping | DropReason::Filtered)) => {
                self.stranger(common, packet, header, reason)
            }
            Err(reason) => common.refuse(reason),
        }
    }

    /// Where a packet from the outside goes that is another engine's.
    fn steer_inbound<P: IpPacket + ?Sized>(
        &mut self,
        common: &mut Common,
        packet: &P,
        header: &Header<F::Addr>,
        hairpin: bool,
    ) -> Option<Verdict> {
        if matches!(header.kind, Kind::Tail | Kind::Error) {
            return None;
        }
        let shard = self.steering.of_outside(header.protocol, header.dst);
        if shard == self.steering.shard.number {
            return None;
        }
        if hairpin && header.is_fragment {
            // The pieces would need a second record in each of two engines.
            return Some(common.refuse(DropReason::Unsupported));
        }
        if hairpin {
            common.counters.sharded += 1;
            return Some(Verdict::Hairpin(shard));
        }
        if header.is_fragment
            && let Err(reason) = self.head_of_shard(common, &whole(packet), shard)
        {
            return Some(common.refuse(reason));
        }
        Some(common.hand_over(shard))
    }

    /// Opens the session of a packet from the outside, if a mapping admits it.
    fn begin_inbound<P: IpPacket + ?Sized>(
        &mut self,
        common: &mut Common,
        packet: &P,
        header: &Header<F::Addr>,
        flow: &Flow<F::Addr>,
        external: u16,
    ) -> Result<u32, DropReason> {
        // Before anything is looked up: it may take away the very mapping that would be found.
        self.make_room(common);
        let (protocol, local, remote) = (flow.protocol, flow.local, flow.remote);
        let space = space(protocol);
        let mapping = self
            .externals
            .mapping(space, protocol, external, local.port);
        let live = mapping.and_then(|m| {
            let record = self.mappings.slab.get(m).filter(|m| !m.is_resting())?;
            Some((m, Endpoint::new(record.inside, record.inside_port)))
        });
        let inside = match live {
            Some((mapping, inside)) => {
                if !self.admits(common, mapping, protocol, remote) {
                    return Err(DropReason::Filtered);
                }
                inside
            }
            None => {
                // A host with an address of its own may be called at any port.
                let (host, open) = self
                    .externals
                    .owner(external)
                    .ok_or(DropReason::NoMapping)?;
                let filtering = behaviour(common, protocol).filtering;
                if !open && filtering != Dependence::EndpointIndependent {
                    return Err(DropReason::NoMapping);
                }
                if space.is_none() && !self.translates(common, protocol) {
                    return Err(DropReason::Unsupported);
                }
                let inside = Endpoint::new(host, local.port);
                // A port that rests after another host's forward is not yet this one's.
                let resting = mapping.and_then(|m| self.mappings.slab.get(m));
                if resting.is_some_and(|m| (m.inside, m.inside_port) != (inside.addr, inside.port))
                {
                    return Err(DropReason::NoMapping);
                }
                inside
            }
        };
        let tcp = self.first_segment(common, packet.head(), header, Direction::Inbound)?;
        self.open_inbound(common, flow, mapping, inside, &tcp)
    }

    /// Whether a mapping lets this stranger in (RFC 4787, section 5).
    fn admits(
        &self,
        common: &Common,
        mapping: u32,
        protocol: u8,
        remote: Endpoint<F::Addr>,
    ) -> bool {
        let Some(record) = self.mappings.slab.get(mapping) else {
            return false;
        };
        if record.is_forward() {
            return true;
        }
        if record.is_withdrawn() {
            return false;
        }
        let owner = self.externals.owner(record.external);
        if let Some((_, true)) = owner {
            return true;
        }
        if owner.is_none() && record.is_forsaken() && !common.config.inbound_refresh {
            return false;
        }
        let behaviour = behaviour(common, protocol);
        let bound = self.mappings.remote(mapping);
        let of_mapping = match behaviour.mapping {
            _ if owner.is_some() => true,
            Dependence::EndpointIndependent => true,
            Dependence::AddressDependent => bound.addr == remote.addr,
            Dependence::AddressAndPortDependent => bound == remote,
        };
        of_mapping
            && match behaviour.filtering {
                Dependence::EndpointIndependent => true,
                Dependence::AddressDependent => self.knows(common, mapping, remote.addr),
                // Only a session admits, and there is none.
                Dependence::AddressAndPortDependent => false,
            }
    }

    /// Whether a mapping has spoken to an address, as far as an address-dependent filter is told.
    pub(super) fn knows(&self, common: &Common, mapping: u32, remote: F::Addr) -> bool {
        match self.mappings.slab.get(mapping).and_then(|m| m.sole()) {
            Some(sole) => self.sessions.get(sole).is_some_and(|s| s.remote == remote),
            None => {
                let contacts = self.contacts.as_ref();
                contacts.is_some_and(|c| c.knows(&common.keys, mapping, remote))
            }
        }
    }

    /// A packet from the outside that nobody inside has asked for.
    fn stranger<P: IpPacket + ?Sized>(
        &mut self,
        common: &mut Common,
        packet: &P,
        header: &Header<F::Addr>,
        reason: DropReason,
    ) -> Verdict {
        if common.config.pass_unmatched && reason == DropReason::NoMapping {
            return Verdict::Pass;
        }
        if header.kind == Kind::Tcp
            && !header.is_fragment
            && common.config.answer_unsolicited
            && is_syn(packet.head().get(header.l4 + 13).copied().unwrap_or(0))
        {
            let (local, remote) = header.ends(Direction::Inbound);
            let due = common
                .now
                .saturating_add(common.config.timeouts.unsolicited_syn);
            self.unsolicited.wait(local, remote, packet, due);
            return common.refuse(DropReason::Unsolicited);
        }
        common.refuse(reason)
    }

    /// A packet from the outside that is of no kind we translate.
    pub(super) fn unmatched(&self, common: &mut Common, reason: DropReason) -> Verdict {
        if common.config.pass_unmatched {
            Verdict::Pass
        } else {
            common.refuse(reason)
        }
    }

    /// The rest of a translation that another engine began: its packet is for a guest of ours.
    pub(crate) fn hairpinned<P: IpPacket + ?Sized>(
        &mut self,
        common: &mut Common,
        packet: &mut P,
    ) -> Verdict {
        let verdict = self.back_inside(common, packet);
        if let Verdict::Translated(_) = verdict {
            packet.changed();
        }
        verdict
    }

    /// A packet from the inside, translated, is for an outside address of ours.
    pub(super) fn back_inside<P: IpPacket + ?Sized>(
        &mut self,
        common: &mut Common,
        packet: &mut P,
    ) -> Verdict {
        let head = packet.head();
        match F::parse(head, packet.total_len(), Direction::Inbound) {
            Ok(header) => {
                let verdict = self.inbound(common, packet, &header, true);
                match verdict {
                    Verdict::Translated(Side::Inside) => common.counters.hairpinned += 1,
                    // It is changed already, and can be left to nobody.
                    Verdict::Pass => return common.refuse(DropReason::NoMapping),
                    _ => {}
                }
                verdict
            }
            Err(reason) => common.refuse(reason),
        }
    }
}
