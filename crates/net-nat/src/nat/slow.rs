//! What the ways of both directions share: reading any packet, translating one by its session,
//! refusing one that does not fit, complaining.

use net_wire::ip_proto;

use super::Nat;
use super::common::{Common, towards};
use super::fast::segment;
use super::fragments::Rewriting;
use super::open::First;
use crate::direction::Direction;
use crate::family::{Family, Header, Kind, usual_header};
use crate::icmp::ErrorKind;
use crate::packet::{IpPacket, whole};
use crate::rewrite::{Deltas, End, rewrite};
use crate::tcp::Track;
use crate::verdict::{DropReason, Side, Verdict};

/// UDP-Lite and DCCP, whose checksums cover the addresses, each in its own way.
const ADDRESS_BOUND: [u8; 2] = [136, 33];

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
        common.done(packet, verdict)
    }

    /// The state of TCP after a segment that opens a session.
    #[inline]
    pub(super) fn first_segment(
        &self,
        common: &Common,
        head: &[u8],
        header: &Header<F::Addr>,
        direction: Direction,
    ) -> Result<First, DropReason> {
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

    /// Whether a protocol other than TCP, UDP and ICMP is translated.
    pub(super) fn translates(&self, common: &Common, protocol: u8) -> bool {
        common.config.other == crate::config::OtherProtocols::ByAddress
            && !ADDRESS_BOUND.contains(&protocol)
    }

    /// Translates a packet by its session; `track` unless the session was opened by it.
    #[inline]
    pub(super) fn translate<P: IpPacket + ?Sized>(
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
