//! Every packet that is not of the fast way: the first of a flow, ICMP, fragments, options, what
//! must be refused.

use net_wire::ip_proto;
use net_wire::tcp::TcpFlags;

use super::Nat;
use super::common::{Common, towards};
use super::fast::segment;
use super::fragments::Rewriting;
use super::open::{Opening, behaviour};
use crate::address::{Address, Endpoint};
use crate::config::Dependence;
use crate::direction::Direction;
use crate::event::Event;
use crate::family::{Family, Header, Kind, usual_header};
use crate::icmp::ErrorKind;
use crate::mapping::space;
use crate::packet::{IpPacket, whole};
use crate::rewrite::{Deltas, End, rewrite};
use crate::tcp::Track;
use crate::verdict::{DropReason, Side, Verdict};

/// UDP-Lite and DCCP, whose checksums cover the addresses, each in its own way.
const ADDRESS_BOUND: [u8; 2] = [136, 33];

/// Whether TCP flags are those of a first segment.
fn is_syn(flags: u8) -> bool {
    let TcpFlags(syn) = TcpFlags::SYN;
    let others = TcpFlags::ACK.0 | TcpFlags::RST.0 | TcpFlags::FIN.0;
    flags & (syn | others) == syn
}

impl<F: Family> Nat<F> {
    /// Translates a packet, whatever it is.
    #[inline(never)]
    pub(super) fn slow<P: IpPacket + ?Sized>(
        &mut self,
        common: &mut Common,
        packet: &mut P,
        direction: Direction,
    ) -> Verdict {
        let (head, len) = (packet.head(), packet.total_len());
        let usual = F::usual(head, len).and_then(|usual| usual_header::<F>(head, &usual));
        let parsed = usual.map_or_else(|| F::parse(head, len, direction), Ok);
        let header = match parsed {
            Ok(header) => header,
            Err(reason) => return common.refuse(reason),
        };
        let verdict = match direction {
            Direction::Outbound => self.outbound(common, packet, &header),
            Direction::Inbound => self.inbound(common, packet, &header, false),
        };
        match verdict {
            Verdict::Pass => common.counters.passed += 1,
            Verdict::Translated(_) | Verdict::Fragment(_) => packet.changed(),
            _ => {}
        }
        verdict
    }

    fn outbound<P: IpPacket + ?Sized>(
        &mut self,
        common: &mut Common,
        packet: &mut P,
        header: &Header<F::Addr>,
    ) -> Verdict {
        if !self.is_inside(header.src.addr) {
            return common.refuse(DropReason::Spoofed);
        }
        if self.is_inside(header.dst.addr) {
            return Verdict::Pass;
        }
        if !header.dst.addr.is_host() {
            return common.refuse(DropReason::Spoofed);
        }
        let shard = self.steering.of_header(header, Direction::Outbound);
        if shard != self.steering.shard.number && header.kind != Kind::Error {
            return common.hand_over(shard);
        }
        match header.kind {
            Kind::Tail => return self.tail(common, packet, header, Direction::Outbound),
            Kind::Error => return self.error_outbound(common, packet),
            Kind::OtherIcmp => return common.refuse(DropReason::UnrelatedIcmp),
            Kind::Other if !self.translates(common, header.protocol) => {
                return common.refuse(DropReason::Unsupported);
            }
            _ => {}
        }
        let (local, remote) = header.ends(Direction::Outbound);
        let known = self.find(common, Direction::Outbound, header.protocol, local, remote);
        // A flow that has begun stays what it is: the quick way does not ask either.
        if known.is_none()
            && common.config.pass_unmatched
            && self.is_for_the_host(header.protocol, remote)
        {
            return Verdict::Pass;
        }
        let number = match known {
            Some(number) => number,
            None => match self.begin_outbound(common, packet.head(), header) {
                Ok(number) => number,
                Err(reason) => return self.refuse_outbound(common, packet, header, reason),
            },
        };
        self.translate(
            common,
            packet,
            header,
            Direction::Outbound,
            number,
            known.is_some(),
        )
    }

    /// Whether a guest calls an outside address at a port that no guest has: the host answers, and
    /// sees the guest as it is.
    fn is_for_the_host(&self, protocol: u8, remote: Endpoint<F::Addr>) -> bool {
        let Some(external) = self.externals.number(remote.addr) else {
            return false;
        };
        // The identifier of a query is the caller's own: nobody is called by it.
        let called = (protocol != F::ICMP).then(|| {
            self.externals
                .mapping(space(protocol), protocol, external, remote.port)
        });
        let record = called.flatten().and_then(|m| self.mappings.slab.get(m));
        self.externals.owner(external).is_none() && record.is_none_or(|m| m.is_resting())
    }

    /// Opens the session of a packet from the inside.
    fn begin_outbound(
        &mut self,
        common: &mut Common,
        head: &[u8],
        header: &Header<F::Addr>,
    ) -> Result<u32, DropReason> {
        let (local, remote) = header.ends(Direction::Outbound);
        let mapping = self.mapping_key(common, header.protocol, local, remote);
        let tcp = self.first_segment(common, head, header, Direction::Outbound)?;
        self.make_room(common);
        let opening = Opening {
            direction: Direction::Outbound,
            protocol: header.protocol,
            local,
            remote,
            tcp,
        };
        let number = self.open_outbound(common, &opening, &mapping)?;
        if tcp.is_some()
            && let Some(session) = self.sessions.get(number)
        {
            // The SYN that waited was for this connection: both ends opened at once.
            self.unsolicited.forget(session.outside(), remote);
        }
        Ok(number)
    }

    /// The state of TCP after a segment that opens a session.
    fn first_segment(
        &self,
        common: &Common,
        head: &[u8],
        header: &Header<F::Addr>,
        direction: Direction,
    ) -> Result<Option<(Track, crate::tcp::Class)>, DropReason> {
        if header.kind != Kind::Tcp {
            return Ok(None);
        }
        let bytes = head.get(header.l4..).unwrap_or_default();
        let segment = segment(bytes, header.end - header.l4).ok_or(DropReason::Malformed)?;
        let pickup = common.config.tcp_pickup && direction == Direction::Outbound;
        Track::open(direction, &segment, pickup)
            .map(Some)
            .ok_or(DropReason::NotOpening)
    }

    /// No session for a packet from the inside: the sender may hear why.
    fn refuse_outbound<P: IpPacket + ?Sized>(
        &mut self,
        common: &mut Common,
        packet: &P,
        header: &Header<F::Addr>,
        reason: DropReason,
    ) -> Verdict {
        let verdict = common.refuse(reason);
        if let Some(observer) = &mut common.observer {
            observer(&Event::Refused {
                inside: header.src.addr.into(),
                protocol: header.protocol,
                reason,
            });
        }
        let scarce = matches!(
            reason,
            DropReason::TableFull | DropReason::Quota | DropReason::Rate | DropReason::NoPort
        );
        match common.no_resources() {
            Some(kind) if scarce => self.complain(common, packet, Side::Inside, kind, verdict),
            _ => verdict,
        }
    }

    fn inbound<P: IpPacket + ?Sized>(
        &mut self,
        common: &mut Common,
        packet: &mut P,
        header: &Header<F::Addr>,
        hairpin: bool,
    ) -> Verdict {
        self.settle(common);
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
        if let Some(number) = self.find(common, Direction::Inbound, header.protocol, local, remote)
        {
            return self.translate(common, packet, header, Direction::Inbound, number, true);
        }
        match self.begin_inbound(common, packet, header, external) {
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

    /// Opens the session of a packet from the outside, if a mapping admits it.
    fn begin_inbound<P: IpPacket + ?Sized>(
        &mut self,
        common: &mut Common,
        packet: &P,
        header: &Header<F::Addr>,
        external: u16,
    ) -> Result<u32, DropReason> {
        // Before anything is looked up: it may take away the very mapping that would be found.
        self.make_room(common);
        let (local, remote) = header.ends(Direction::Inbound);
        let protocol = header.protocol;
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
        self.open_inbound(
            common,
            &Opening {
                direction: Direction::Inbound,
                protocol,
                local,
                remote,
                tcp,
            },
            mapping,
            inside,
        )
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
                Dependence::AddressDependent => self
                    .contacts
                    .as_ref()
                    .is_some_and(|c| c.knows(&common.keys, mapping, remote.addr)),
                // Only a session admits, and there is none.
                Dependence::AddressAndPortDependent => false,
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

    /// Whether a protocol other than TCP, UDP and ICMP is translated.
    pub(super) fn translates(&self, common: &Common, protocol: u8) -> bool {
        common.config.other == crate::config::OtherProtocols::ByAddress
            && !ADDRESS_BOUND.contains(&protocol)
    }

    /// Translates a packet by its session; `track` unless the session was opened by it.
    fn translate<P: IpPacket + ?Sized>(
        &mut self,
        common: &mut Common,
        packet: &mut P,
        header: &Header<F::Addr>,
        direction: Direction,
        number: u32,
        track: bool,
    ) -> Verdict {
        let Some(session) = self.sessions.get(number).copied() else {
            return common.refuse(DropReason::NoMapping);
        };
        let hairpin = direction == Direction::Outbound && session.is_hairpin();
        let side = if hairpin {
            Side::Inside
        } else {
            towards(direction)
        };
        let too_long = !hairpin && self.is_too_long(common, packet, header, side);
        if too_long && !self.may_cut(header) {
            return self.too_big(common, packet, direction, side);
        }
        if track && let Some(reason) = self.track(common, packet.head(), header, direction, number)
        {
            return Verdict::Drop(reason);
        }
        let deltas = Deltas {
            l3: session.l3,
            l4: session.l4,
        };
        let (end, to, deltas) = match direction {
            Direction::Outbound => (End::Source, session.outside(), deltas),
            Direction::Inbound => (End::Destination, session.inside(), deltas.inverse()),
        };
        let rewriting = Rewriting {
            end,
            to: to.addr,
            l3: deltas.l3,
            id: None,
            side,
        };
        if header.is_fragment {
            let owner = self
                .mappings
                .slab
                .get(session.mapping)
                .map_or(0, |m| m.host);
            match self.head_fragment(common, packet, direction, owner, rewriting, hairpin) {
                Ok(()) => {}
                Err(verdict) => return verdict,
            }
        }
        let partial = packet.checksum_is_partial();
        let head = packet.head_mut();
        rewrite::<F>(head, header.l4, header.protocol, end, to, deltas, partial);
        match direction {
            Direction::Outbound => {
                if header.may_fragment && !header.is_fragment {
                    F::renumber(head, &mut common.ids);
                }
                common.counters.outbound += 1;
            }
            Direction::Inbound => common.counters.inbound += 1,
        }
        if hairpin {
            return self.back_inside(common, packet);
        }
        if too_long {
            return Verdict::Fragment(side);
        }
        Verdict::Translated(side)
    }

    /// Whether a packet does not fit its way. A super-frame is cut before it sets out.
    pub(super) fn is_too_long<P: IpPacket + ?Sized>(
        &self,
        common: &Common,
        packet: &P,
        header: &Header<F::Addr>,
        side: Side,
    ) -> bool {
        !packet.is_super_frame() && header.end > common.mtu[side as usize] as usize
    }

    /// Whether a router may cut it: over IPv6 only the sender may.
    pub(super) fn may_cut(&self, header: &Header<F::Addr>) -> bool {
        header.may_fragment && F::ICMP == ip_proto::ICMP
    }

    /// Refuses a packet that does not fit and is not to be cut (RFC 4787, REQ-13).
    pub(super) fn too_big<P: IpPacket + ?Sized>(
        &mut self,
        common: &mut Common,
        packet: &P,
        direction: Direction,
        side: Side,
    ) -> Verdict {
        let mtu = common.mtu[side as usize];
        let verdict = common.refuse(DropReason::TooBig);
        let back = match direction {
            Direction::Outbound => Side::Inside,
            Direction::Inbound => Side::Outside,
        };
        self.complain(common, packet, back, ErrorKind::TooBig { mtu }, verdict)
    }

    /// A packet from the inside, translated, is for an outside address of ours.
    fn back_inside<P: IpPacket + ?Sized>(
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

    /// Keeps the time, and the state of TCP; says why the packet goes no further, if it does not.
    fn track(
        &mut self,
        common: &mut Common,
        head: &[u8],
        header: &Header<F::Addr>,
        direction: Direction,
        number: u32,
    ) -> Option<DropReason> {
        let session = self.sessions.get_mut(number)?;
        let mut refresh = direction == Direction::Outbound || common.config.inbound_refresh;
        if header.kind == Kind::Tcp {
            let bytes = head.get(header.l4..).unwrap_or_default();
            let Some(segment) = segment(bytes, header.end - header.l4) else {
                let _ = common.refuse(DropReason::Malformed);
                return Some(DropReason::Malformed);
            };
            let effect = session.tcp.advance(direction, &segment);
            if header.is_fragment && effect.in_window {
                session.tcp.lose_count();
            }
            if let Some(Verdict::Drop(reason)) = self.unusual(common, number, &effect) {
                return Some(reason);
            }
            refresh = effect.refresh;
        }
        if refresh {
            let session = self.sessions.get_mut(number)?;
            session.expires = common.deadline(session.timer());
            if session.is_unanswered() && direction == Direction::Outbound {
                self.answer(common, number);
            }
        }
        None
    }

    /// Answers the sender of a packet with an ICMP error, if one may be sent.
    pub(super) fn complain<P: IpPacket + ?Sized>(
        &mut self,
        common: &mut Common,
        packet: &P,
        to: Side,
        kind: ErrorKind,
        otherwise: Verdict,
    ) -> Verdict {
        self.complain_about(common, &whole(packet), to, kind)
            .unwrap_or(otherwise)
    }
}
