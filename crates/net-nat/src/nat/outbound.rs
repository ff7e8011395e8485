//! Packets from the inside that the quick way does not take: first ones of a flow, and all that are
//! neither TCP nor UDP.

use net_wire::ip_proto;

use super::Nat;
use super::common::Common;
use super::fast::{Out, TCP_HEADER, UDP_HEADER, segment};
use super::open::Flow;
use crate::address::{Address, Endpoint};
use crate::direction::Direction;
use crate::event::Event;
use crate::family::{Family, Header, Kind, Usual, usual_header};
use crate::mapping::space;
use crate::packet::IpPacket;
use crate::tcp::{Class, Track};
use crate::verdict::{DropReason, Side, Verdict};

impl<F: Family> Nat<F> {
    /// A usual packet from the inside for which the quick way has found no session: the first one of
    /// a flow, nearly always.
    #[inline(never)]
    pub(super) fn first<P: IpPacket + ?Sized>(
        &mut self,
        common: &mut Common,
        packet: &mut P,
        usual: Usual,
        hash: u64,
    ) -> Verdict {
        if usual.protocol == ip_proto::TCP {
            return self.first_segment_of_flow(common, packet, usual, hash);
        }
        self.first_of::<{ ip_proto::UDP }, P>(common, packet, usual, hash)
    }

    #[inline(never)]
    fn first_segment_of_flow<P: IpPacket + ?Sized>(
        &mut self,
        common: &mut Common,
        packet: &mut P,
        usual: Usual,
        hash: u64,
    ) -> Verdict {
        self.first_of::<{ ip_proto::TCP }, P>(common, packet, usual, hash)
    }

    #[inline(always)]
    fn first_of<const PROTOCOL: u8, P: IpPacket + ?Sized>(
        &mut self,
        common: &mut Common,
        packet: &mut P,
        usual: Usual,
        hash: u64,
    ) -> Verdict {
        match self.open_usual::<PROTOCOL, P>(common, packet, usual, hash) {
            Ok(true) => Verdict::Translated(Side::Outside),
            opened => self.not_opened(common, packet, usual, opened.err()),
        }
    }

    /// Opens the session of a usual packet and translates it; false, and nothing has been done, if
    /// anything about it is out of the ordinary.
    ///
    /// All that this calls is compiled into one function for each protocol, and nothing that it knows
    /// goes by reference to another: what is put together in memory and read back at once would have to
    /// wait until the stores to the tables are done.
    #[inline(always)]
    fn open_usual<const PROTOCOL: u8, P: IpPacket + ?Sized>(
        &mut self,
        common: &mut Common,
        packet: &mut P,
        usual: Usual,
        hash: u64,
    ) -> Result<bool, DropReason> {
        // One for each call in a batch, whatever comes of it.
        let coming = self.coming.pop_front();
        let usual = Usual {
            protocol: PROTOCOL,
            ..usual
        };
        let head = packet.head();
        let Some(header) = usual_header::<F>(head, &usual) else {
            return Ok(false);
        };
        let (local, remote) = (header.src, header.dst);
        let mapping = match coming {
            Some(coming) => {
                self.hosts.expect(coming.host);
                coming.mapping
            }
            None => {
                // Far away, perhaps: on its way while the host is looked for and the packet looked at.
                let hash = self.mapping_hash(common, PROTOCOL, local, remote);
                self.mappings.prefetch(hash);
                self.hosts.find(local.addr);
                hash
            }
        };
        let too_long = u32::from(usual.len) > common.mtu[Side::Outside as usize];
        let ordinary = self.is_inside(local.addr)
            && !self.is_inside(remote.addr)
            && remote.addr.is_host()
            && self.externals.number(remote.addr).is_none()
            && self.steering.of_host(local.addr) == self.steering.shard.number
            && (!too_long || packet.is_super_frame());
        if !ordinary {
            return Ok(false);
        }
        // A packet before this one may have opened it.
        if !self.index.lacks(hash) && self.is_known(PROTOCOL, local, remote, hash) {
            return Ok(false);
        }
        let tcp = if PROTOCOL == ip_proto::TCP {
            let bytes = head.get(F::L4..).unwrap_or_default();
            match segment(bytes, header.end - F::L4).and_then(|s| Track::open_syn(&s)) {
                Some(track) => Some((track, Class::Opening)),
                None => return Ok(false),
            }
        } else {
            None
        };
        let flow = Flow {
            direction: Direction::Outbound,
            protocol: PROTOCOL,
            local,
            remote,
            hash,
        };
        let number = self.open_outbound(common, &flow, mapping, &tcp, false)?;
        let Some(session) = self.sessions.get(number) else {
            return Ok(false);
        };
        let len = match PROTOCOL {
            ip_proto::TCP => TCP_HEADER,
            _ => UDP_HEADER,
        };
        Self::forward::<Out, P>(session, common, packet, PROTOCOL, len);
        if usual.may_fragment {
            F::renumber(packet.head_mut(), &mut common.ids);
        }
        packet.changed();
        Ok(true)
    }

    /// Whether an outbound packet has a session, be it over, where one look at one bucket did not say.
    #[cold]
    #[inline(never)]
    fn is_known(
        &self,
        protocol: u8,
        local: Endpoint<F::Addr>,
        remote: Endpoint<F::Addr>,
        hash: u64,
    ) -> bool {
        let is = |number| {
            let session = self.sessions.get(number);
            session.is_some_and(|s| s.is(Direction::Outbound, protocol, local, remote))
        };
        self.index.find(hash, is).is_some()
    }

    /// A usual packet that got no session: not in this way, or for a reason not at all.
    #[cold]
    #[inline(never)]
    fn not_opened<P: IpPacket + ?Sized>(
        &mut self,
        common: &mut Common,
        packet: &mut P,
        usual: Usual,
        reason: Option<DropReason>,
    ) -> Verdict {
        let Some(reason) = reason else {
            return self.slow(common, packet, Direction::Outbound);
        };
        match usual_header::<F>(packet.head(), &usual) {
            Some(header) => self.refuse_outbound(common, packet, &header, reason),
            None => common.refuse(reason),
        }
    }

    /// A packet from the inside.
    pub(super) fn outbound<P: IpPacket + ?Sized>(
        &mut self,
        common: &mut Common,
        packet: &mut P,
        header: &Header<F::Addr>,
    ) -> Verdict {
        if let Err(verdict) = self.way_out(common, header) {
            return verdict;
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
        let protocol = header.protocol;
        let flow = Flow::new(&common.keys, Direction::Outbound, protocol, local, remote);
        self.of_flow(common, packet, header, &flow)
    }

    /// Whether a packet goes from the inside to the outside by this engine, and what becomes of it
    /// if not.
    #[inline(always)]
    fn way_out(&self, common: &mut Common, header: &Header<F::Addr>) -> Result<(), Verdict> {
        if !self.is_inside(header.src.addr) {
            return Err(common.refuse(DropReason::Spoofed));
        }
        if self.is_inside(header.dst.addr) {
            return Err(Verdict::Pass);
        }
        if !header.dst.addr.is_host() {
            return Err(common.refuse(DropReason::Spoofed));
        }
        if self.steering.is_shared() && header.kind != Kind::Error {
            let shard = self.steering.of_header(header, Direction::Outbound);
            if shard != self.steering.shard.number {
                return Err(common.hand_over(shard));
            }
        }
        Ok(())
    }

    /// Translates a packet by the session of its flow, or a new one.
    #[inline(always)]
    fn of_flow<P: IpPacket + ?Sized>(
        &mut self,
        common: &mut Common,
        packet: &mut P,
        header: &Header<F::Addr>,
        flow: &Flow<F::Addr>,
    ) -> Verdict {
        let known = self.find(common, flow);
        // A flow that has begun stays what it is: the quick way does not ask either.
        if known.is_none()
            && common.config.pass_unmatched
            && self.is_for_the_host(flow.protocol, flow.remote)
        {
            return Verdict::Pass;
        }
        let number = match known {
            Some(number) => number,
            None => match self.begin_outbound(common, packet.head(), header, flow) {
                Ok(number) => number,
                Err(reason) => return self.refuse_outbound(common, packet, header, reason),
            },
        };
        let is_known = known.is_some();
        self.translate(
            common,
            packet,
            header,
            Direction::Outbound,
            number,
            is_known,
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
    #[inline(never)]
    fn begin_outbound(
        &mut self,
        common: &mut Common,
        head: &[u8],
        header: &Header<F::Addr>,
        flow: &Flow<F::Addr>,
    ) -> Result<u32, DropReason> {
        let tcp = self.first_segment(common, head, header, Direction::Outbound)?;
        let mapping = self.mapping_hash(common, flow.protocol, flow.local, flow.remote);
        let hairpin = self.externals.number(flow.remote.addr).is_some();
        self.open_outbound(common, flow, mapping, &tcp, hairpin)
    }

    /// No session for a packet from the inside: the sender may hear why.
    #[cold]
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
}
