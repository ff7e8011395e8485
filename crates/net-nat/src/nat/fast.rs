//! The packets nearly all packets are: TCP and UDP of a session that exists.
//!
//! One packet alone goes from header to hash to session to rewriting. In a batch every packet takes
//! each of these steps before any takes the next, so that the memory one step needs has been asked
//! for while the step before went over the other packets: with a million flows nothing is in the
//! cache, and a packet that waits for its bucket and then for its session waits ten times as long as
//! the rest of its work takes.

use net_wire::ip_proto;

use super::common::{Common, towards};
use super::{BATCH, Nat};
use crate::address::Endpoint;
use crate::config::OutOfWindow;
use crate::direction::Direction;
use crate::family::{Family, Fast};
use crate::packet::IpPacket;
use crate::rewrite::{Deltas, End, rewrite};
use crate::session::Timer;
use crate::table::NONE;
use crate::tcp::{Effect, Segment};
use crate::verdict::{DropReason, Verdict};
use net_datapath::prefetch::prefetch_write;

/// What a batch knows of a packet between two steps.
#[derive(Clone, Copy)]
pub(crate) struct Scratch {
    hash: u64,
    /// The session it is probably of; [`SLOW`] for a packet that takes the slow way, [`SKIP`] for
    /// one of another family.
    guess: u32,
}

const SLOW: u32 = NONE;
const SKIP: u32 = NONE - 1;

impl Scratch {
    pub(crate) const EMPTY: Self = Self {
        hash: 0,
        guess: SLOW,
    };
}

/// The direction at compile time: what differs by it costs nothing.
pub(crate) trait Way {
    const DIRECTION: Direction;
}

pub(crate) struct Out;
pub(crate) struct In;

impl Way for Out {
    const DIRECTION: Direction = Direction::Outbound;
}

impl Way for In {
    const DIRECTION: Direction = Direction::Inbound;
}

impl<A: Copy> Fast<A> {
    #[inline(always)]
    fn ends<W: Way>(&self) -> (Endpoint<A>, Endpoint<A>) {
        match W::DIRECTION {
            Direction::Outbound => (self.src, self.dst),
            Direction::Inbound => (self.dst, self.src),
        }
    }
}

impl<F: Family> Nat<F> {
    /// Translates one packet.
    #[inline]
    pub(crate) fn one<W: Way, P: IpPacket + ?Sized>(
        &mut self,
        common: &mut Common,
        packet: &mut P,
    ) -> Verdict {
        if let Some(fast) = F::fast(packet.head(), packet.total_len()) {
            let hash = Self::hash::<W>(common, &fast);
            if let Some(number) = self.cache.get(hash)
                && let Some(verdict) = self.apply::<W, P>(common, packet, &fast, number)
            {
                return verdict;
            }
            if let Some(number) = self.index.guess(hash)
                && let Some(verdict) = self.apply::<W, P>(common, packet, &fast, number)
            {
                self.cache.put(hash, number);
                return verdict;
            }
        }
        self.slow(common, packet, W::DIRECTION)
    }

    #[inline(always)]
    fn hash<W: Way>(common: &Common, fast: &Fast<F::Addr>) -> u64 {
        let (local, remote) = fast.ends::<W>();
        common
            .keys
            .flow(W::DIRECTION as u8, fast.protocol, local, remote)
    }

    /// Translates the packets of this family among many, at most [`BATCH`] of them; returns how many
    /// were of another.
    pub(crate) fn batch<W: Way, P: IpPacket>(
        &mut self,
        common: &mut Common,
        packets: &mut [P],
        verdicts: &mut [Verdict],
    ) -> usize {
        let mut skipped = 0;
        for (packet, scratch) in packets.iter().zip(self.scratch.iter_mut()) {
            let head = packet.head();
            scratch.guess = SLOW;
            if let Some(fast) = F::fast(head, packet.total_len()) {
                let hash = Self::hash::<W>(common, &fast);
                self.index.prefetch(hash);
                scratch.hash = hash;
                scratch.guess = 0;
            } else if !F::is(head) {
                scratch.guess = SKIP;
                skipped += 1;
            }
        }
        for scratch in self.scratch.iter_mut().take(packets.len()) {
            if scratch.guess != 0 {
                continue;
            }
            scratch.guess = self.index.guess(scratch.hash).unwrap_or(SLOW);
            if let Some(session) = self.sessions.get(scratch.guess) {
                prefetch_write(core::ptr::from_ref(session).cast_mut());
            }
        }
        for (at, (packet, verdict)) in packets.iter_mut().zip(verdicts).enumerate() {
            let guess = self.scratch[at % BATCH].guess;
            if guess == SKIP {
                continue;
            }
            // The headers lie in the cache by now: to read them again costs less than to keep them.
            if guess != SLOW
                && let Some(fast) = F::fast(packet.head(), packet.total_len())
                && let Some(done) = self.apply::<W, P>(common, packet, &fast, guess)
            {
                *verdict = done;
            } else {
                *verdict = self.slow(common, packet, W::DIRECTION);
            }
        }
        skipped
    }

    /// Translates the packet by this session, if it is the packet's and nothing out of the ordinary
    /// has to be done.
    #[inline(always)]
    fn apply<W: Way, P: IpPacket + ?Sized>(
        &mut self,
        common: &mut Common,
        packet: &mut P,
        fast: &Fast<F::Addr>,
        number: u32,
    ) -> Option<Verdict> {
        let side = towards(W::DIRECTION);
        let session = self.sessions.get_mut(number)?;
        let (local, remote) = fast.ends::<W>();
        let usual = session.is(W::DIRECTION, fast.protocol, local, remote)
            & (session.expires >= common.tick)
            & !session.is_hairpin();
        if !usual || (u32::from(fast.len) > common.mtu[side as usize] && !packet.is_super_frame()) {
            return None;
        }
        let mut refresh = W::DIRECTION == Direction::Outbound || common.config.inbound_refresh;
        if fast.protocol == ip_proto::TCP {
            let head = packet.head();
            let segment = segment(head.get(F::L4..)?, usize::from(fast.len) - F::L4)?;
            let effect = session.tcp.advance(W::DIRECTION, &segment);
            refresh = effect.refresh;
            let wanted = Timer::of(effect.class);
            if !effect.in_window | (wanted as usize != session.timer())
                && let Some(verdict) = self.unusual(common, number, &effect)
            {
                return Some(verdict);
            }
        }
        let session = self.sessions.get_mut(number)?;
        if refresh {
            let deadline = common.deadline(session.timer());
            // A store into a line that is about to be loaded as a whole would make that wait.
            if session.expires != deadline {
                session.expires = deadline;
            }
        }
        let partial = packet.checksum_is_partial();
        let head = packet.head_mut();
        let deltas = Deltas {
            l3: session.l3,
            l4: session.l4,
        };
        match W::DIRECTION {
            Direction::Outbound => {
                let to = session.outside();
                rewrite::<F>(head, F::L4, fast.protocol, End::Source, to, deltas, partial);
                if fast.may_fragment {
                    F::renumber(head, &mut common.ids);
                }
                common.counters.outbound += 1;
            }
            Direction::Inbound => {
                let to = session.inside();
                let back = deltas.inverse();
                rewrite::<F>(
                    head,
                    F::L4,
                    fast.protocol,
                    End::Destination,
                    to,
                    back,
                    partial,
                );
                common.counters.inbound += 1;
            }
        }
        packet.changed();
        Some(Verdict::Translated(side))
    }

    /// A TCP segment that is outside its window, or after which another time is kept; the verdict if
    /// it goes no further.
    #[cold]
    pub(super) fn unusual(
        &mut self,
        common: &mut Common,
        number: u32,
        effect: &Effect,
    ) -> Option<Verdict> {
        if !effect.in_window {
            common.counters.out_of_window += 1;
            if common.config.out_of_window == OutOfWindow::Drop {
                return Some(common.refuse(DropReason::OutOfWindow));
            }
        }
        let wanted = Timer::of(effect.class);
        if self.sessions.get(number)?.timer() != wanted as usize {
            self.retime(common, number, wanted);
        }
        None
    }
}

/// The TCP segment of `len` bytes that begins with `bytes`, of which the payload need not be there;
/// `None` where the header contradicts itself.
#[inline(always)]
pub(crate) fn segment(bytes: &[u8], len: usize) -> Option<Segment<'_>> {
    let h = bytes.first_chunk::<20>()?;
    let header = usize::from(h[12] >> 4) * 4;
    if header < 20 || header > len {
        return None;
    }
    Some(Segment {
        seq: u32::from_be_bytes([h[4], h[5], h[6], h[7]]),
        ack: u32::from_be_bytes([h[8], h[9], h[10], h[11]]),
        window: u16::from_be_bytes([h[14], h[15]]),
        flags: h[13],
        len: (len - header) as u32,
        options: bytes.get(20..header).unwrap_or_default(),
    })
}
