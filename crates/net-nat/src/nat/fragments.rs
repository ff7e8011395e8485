//! Packets in pieces: the first piece is translated as a packet is and says what becomes of the
//! others.

use net_wire::checksum::Delta;

use super::Nat;
use super::common::Common;
use crate::direction::Direction;
use crate::family::{Family, Header};
use crate::fragment::{FragmentKey, Kind, Later, Piece};
use crate::packet::{IpPacket, whole};
use crate::rewrite::{End, rewrite_addr};
use crate::verdict::{DropReason, Side, Verdict};

/// Whoever is outside shares one account of fragments.
const STRANGERS: u32 = u32::MAX;
/// So do inside hosts without a session.
const NEWCOMERS: u32 = u32::MAX - 1;

/// What becomes of the pieces of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Translation<A> {
    /// They are translated.
    Rewrite(Rewriting<A>),
    /// They are another engine's.
    Shard(u16),
}

/// How pieces are translated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rewriting<A> {
    pub(super) end: End,
    pub(super) to: A,
    pub(super) l3: Delta,
    /// The identification under the outside address.
    pub(super) id: Option<u16>,
    pub(super) side: Side,
}

impl<F: Family> Nat<F> {
    fn piece(
        &mut self,
        head: &[u8],
        direction: Direction,
    ) -> Result<(FragmentKey<F::Addr>, Piece, Kind), DropReason> {
        let (key, piece) = F::piece(head, direction).ok_or(DropReason::Malformed)?;
        let kind = self.fragments.check(&piece);
        Ok((key, piece, kind.map_err(|_| DropReason::Fragment)?))
    }

    /// The first piece of a datagram, whose session was found; it is about to be rewritten.
    pub(super) fn head_fragment<P: IpPacket + ?Sized>(
        &mut self,
        common: &mut Common,
        packet: &mut P,
        direction: Direction,
        owner: u32,
        mut rewriting: Rewriting<F::Addr>,
        hairpin: bool,
    ) -> Result<(), Verdict> {
        let (key, piece, _) = self
            .piece(&whole(packet), direction)
            .map_err(|reason| common.refuse(reason))?;
        if direction == Direction::Outbound {
            // Sent twice, it keeps the identification it got.
            let before = self.fragments.translation(&key, common.now);
            rewriting.id = match before {
                Some(Translation::Rewrite(before)) => before.id,
                _ => F::new_id(packet.head(), rewriting.to, &mut common.ids),
            };
        }
        let mut released = alloc::vec::Vec::new();
        let translation = Translation::Rewrite(rewriting);
        self.fragments
            .first(key, &piece, owner, translation, common.now, &mut |held| {
                released.push(held);
            })
            .map_err(|_| common.refuse(DropReason::Fragment))?;
        if let Some(id) = rewriting.id {
            F::set_id(packet.head_mut(), id);
        }
        for mut held in released {
            Self::rewrite_tail(&mut held, &rewriting);
            if hairpin {
                // What waits for its second translation goes the way all packets go.
                if let Ok(header) = F::parse(&held, held.len(), Direction::Inbound)
                    && let Verdict::Translated(side) | Verdict::Fragment(side) =
                        self.tail(common, &mut held, &header, Direction::Inbound)
                {
                    common.send_cut(side, held);
                }
            } else {
                common.send_cut(rewriting.side, held);
            }
        }
        Ok(())
    }

    /// A piece without a transport header.
    pub(super) fn tail<P: IpPacket + ?Sized>(
        &mut self,
        common: &mut Common,
        packet: &mut P,
        header: &Header<F::Addr>,
        direction: Direction,
    ) -> Verdict {
        let bytes = whole(packet);
        let bytes = bytes.get(..header.end).unwrap_or_default();
        let (key, piece, _) = match self.piece(bytes, direction) {
            Ok(piece) => piece,
            Err(reason) => return common.refuse(reason),
        };
        let owner = match direction {
            Direction::Inbound => STRANGERS,
            Direction::Outbound => self.hosts.find(header.src.addr).unwrap_or(NEWCOMERS),
        };
        match self.fragments.later(key, &piece, owner, bytes, common.now) {
            Later::Translate(Translation::Shard(shard)) => common.hand_over(shard),
            Later::Translate(Translation::Rewrite(rewriting)) => {
                let hairpin = direction == Direction::Outbound && rewriting.side == Side::Inside;
                let too_long = !hairpin && self.is_too_long(common, packet, header, rewriting.side);
                if too_long && !self.may_cut(header) {
                    return self.too_big(common, packet, direction, rewriting.side);
                }
                Self::rewrite_tail(packet.head_mut(), &rewriting);
                match direction {
                    Direction::Outbound => common.counters.outbound += 1,
                    Direction::Inbound => common.counters.inbound += 1,
                }
                if hairpin {
                    let head = packet.head();
                    return match F::parse(head, packet.total_len(), Direction::Inbound) {
                        Ok(header) => self.tail(common, packet, &header, Direction::Inbound),
                        Err(reason) => common.refuse(reason),
                    };
                }
                if too_long {
                    return Verdict::Fragment(rewriting.side);
                }
                Verdict::Translated(rewriting.side)
            }
            Later::Held => Verdict::Hold,
            Later::Dropped(_) => common.refuse(DropReason::Fragment),
        }
    }

    /// The first piece of a datagram from the outside, whose port is another engine's.
    pub(super) fn head_of_shard(
        &mut self,
        common: &mut Common,
        head: &[u8],
        shard: u16,
    ) -> Result<(), DropReason> {
        let (key, piece, _) = self.piece(head, Direction::Inbound)?;
        let translation = Translation::Shard(shard);
        let now = common.now;
        self.fragments
            .first(key, &piece, STRANGERS, translation, now, &mut |held| {
                common.send_to_shard(shard, held);
            })
            .map_err(|_| DropReason::Fragment)
    }

    fn rewrite_tail(head: &mut [u8], rewriting: &Rewriting<F::Addr>) {
        rewrite_addr::<F>(head, rewriting.end, rewriting.to, rewriting.l3);
        if let Some(id) = rewriting.id {
            F::set_id(head, id);
        }
    }
}
