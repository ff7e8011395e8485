//! ICMP errors: translated with the packet they quote, and made.

use super::Nat;
use super::common::Common;
use super::open::Flow;
use crate::address::Endpoint;
use crate::direction::Direction;
use crate::family::Family;
use crate::icmp::ErrorKind;
use crate::icmp::error::{Quote, Reason};
use crate::icmp::rewrite::Rewrite;
use crate::packet::{IpPacket, edit_whole};
use crate::verdict::{DropReason, Side, Verdict};

impl From<Reason> for DropReason {
    fn from(reason: Reason) -> Self {
        match reason {
            Reason::BadChecksum | Reason::BadQuotedChecksum => Self::Checksum,
            Reason::Truncated | Reason::Malformed => Self::Malformed,
            Reason::Fragment | Reason::QuotedFragment => Self::Fragment,
            Reason::NotAnError
            | Reason::QuotedNotQuery
            | Reason::SourceQuench
            | Reason::Redirect => Self::UnrelatedIcmp,
        }
    }
}

impl<F: Family> Nat<F> {
    /// An error from the outside about a packet that left (RFC 5508, REQ-4).
    pub(super) fn error_inbound<P: IpPacket + ?Sized>(
        &mut self,
        common: &mut Common,
        packet: &mut P,
    ) -> Verdict {
        self.error(common, packet, Direction::Inbound)
    }

    /// An error from the inside about a packet that came in (RFC 5508, REQ-5).
    pub(super) fn error_outbound<P: IpPacket + ?Sized>(
        &mut self,
        common: &mut Common,
        packet: &mut P,
    ) -> Verdict {
        self.error(common, packet, Direction::Outbound)
    }

    fn error<P: IpPacket + ?Sized>(
        &mut self,
        common: &mut Common,
        packet: &mut P,
        direction: Direction,
    ) -> Verdict {
        let edited = edit_whole(packet, |whole| self.error_whole(common, whole, direction));
        // Options upon options: a quote that far back is not worth a special way.
        edited.unwrap_or_else(|| common.refuse(DropReason::Unsupported))
    }

    fn error_whole(
        &mut self,
        common: &mut Common,
        packet: &mut [u8],
        direction: Direction,
    ) -> Verdict {
        self.settle();
        let quote = match F::quote(packet) {
            Ok(quote) => quote,
            Err(reason) => return common.refuse(reason.into()),
        };
        // The quoted packet went the other way: its source was on the side the error goes to.
        let Some(number) = self.quoted_session(common, &quote, direction) else {
            let shard = self.steering.of_quote::<F>(&quote, direction);
            if shard != self.steering.shard.number {
                return common.hand_over(shard);
            }
            return match direction {
                Direction::Outbound => common.refuse(DropReason::UnrelatedIcmp),
                // Perhaps about a packet of the host's own.
                Direction::Inbound => self.unmatched(common, DropReason::UnrelatedIcmp),
            };
        };
        let Some(session) = self.sessions.get(number).copied() else {
            return common.refuse(DropReason::UnrelatedIcmp);
        };
        let (inside, outside) = (session.inside(), session.outside());
        // An identifier belongs to the querier, which may be either end of the quoted packet.
        let id_of = |ours: Endpoint<F::Addr>, theirs: Endpoint<F::Addr>| {
            (quote.protocol == F::ICMP).then_some(Endpoint::new(theirs.addr, ours.port))
        };
        let what = match direction {
            Direction::Inbound => Rewrite {
                src: Some(inside),
                dst: id_of(inside, quote.dst),
                outer_src: None,
                outer_dst: Some(inside.addr),
            },
            Direction::Outbound => Rewrite {
                src: id_of(outside, quote.src),
                dst: Some(outside),
                outer_src: Some(outside.addr),
                outer_dst: None,
            },
        };
        F::rewrite_error(packet, &quote, what);
        common.counters.errors += 1;
        if direction == Direction::Outbound && self.externals.number(quote.outer_dst).is_some() {
            // About a packet of another guest's (RFC 5508, REQ-7).
            return match self.error_whole(common, packet, Direction::Inbound) {
                // Translated once, it is nothing that could be left to the host.
                Verdict::Pass => common.refuse(DropReason::UnrelatedIcmp),
                verdict => verdict,
            };
        }
        Verdict::Translated(super::common::towards(direction))
    }

    /// The session the quoted packet was of. Looking it up neither refreshes nor ends it (RFC 5508,
    /// REQ-6).
    fn quoted_session(
        &self,
        common: &Common,
        quote: &Quote<F::Addr>,
        direction: Direction,
    ) -> Option<u32> {
        let (mut local, mut remote) = match direction {
            Direction::Inbound => (quote.src, quote.dst),
            Direction::Outbound => (quote.dst, quote.src),
        };
        if quote.protocol == F::ICMP {
            // The identifier counts as ours, whichever end sent the query.
            local.port = quote.src.port.max(quote.dst.port);
            remote.port = 0;
        }
        let flow = Flow::new(&common.keys, direction, quote.protocol, local, remote);
        let number = self.known(&flow)?;
        let session = self.sessions.get(number)?;
        let to_sender = match direction {
            Direction::Inbound => quote.outer_dst == session.outside,
            Direction::Outbound => quote.outer_dst == session.remote,
        };
        (session.expires >= common.tick && to_sender).then_some(number)
    }

    /// Answers the sender of a packet, which lies in one piece, with an ICMP error. `None` where
    /// none may be sent.
    pub(super) fn complain_about(
        &mut self,
        common: &mut Common,
        packet: &[u8],
        to: Side,
        kind: ErrorKind,
    ) -> Option<Verdict> {
        let header = F::parse(packet, packet.len(), Direction::Outbound).ok()?;
        // To the outside as the address that was called; to the inside as the outside address the
        // guest has or would have, since the engine has no address of its own there.
        let host = match to {
            Side::Outside => None,
            Side::Inside => self.hosts.find(header.src.addr),
        };
        let host = host.and_then(|number| self.hosts.get_mut(number));
        let source = match (to, &host) {
            (Side::Outside, _) => header.dst.addr,
            (Side::Inside, Some(host)) => self.externals.addr(host.external)?,
            (Side::Inside, None) => self.externals.addr(0)?,
        };
        let mut answer = F::error(packet, source, kind)?;
        let errors = host.map_or(&mut common.errors, |host| &mut host.errors);
        if !errors.take(common.now) {
            return None;
        }
        let sent = if to == Side::Outside && self.externals.number(header.src.addr).is_some() {
            // Another guest's packet, half translated: what leaves for us comes in to us.
            match self.error_whole(common, &mut answer, Direction::Inbound) {
                Verdict::Translated(side) => common.send(side, answer),
                Verdict::Shard(shard) => common.send_to_shard(shard, answer),
                _ => false,
            }
        } else {
            common.send(to, answer)
        };
        if !sent {
            return None;
        }
        common.counters.replies += 1;
        Some(Verdict::Reply)
    }
}
