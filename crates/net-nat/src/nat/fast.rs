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
use crate::family::{Family, Usual};
use crate::packet::IpPacket;
use crate::rewrite::{Deltas, End, rewrite};
use crate::session::Timer;
use crate::table::NONE;
use crate::tcp::{Effect, Segment};
use crate::verdict::{DropReason, Side, Verdict};
use net_datapath::prefetch::prefetch_write;

/// What a batch knows of a packet between two steps.
#[derive(Clone, Copy)]
pub(crate) struct Scratch {
    hash: u64,
    /// The session it is probably of; [`SLOW`] for a packet that takes the slow way, [`SKIP`] for
    /// one of another family.
    guess: u32,
    usual: Usual,
}

const SLOW: u32 = NONE;
const SKIP: u32 = NONE - 1;

impl Scratch {
    pub(crate) const EMPTY: Self = Self {
        hash: 0,
        guess: SLOW,
        usual: Usual {
            protocol: 0,
            may_fragment: false,
            len: 0,
        },
    };
}

/// The way at compile time: what differs by it costs nothing.
pub(crate) trait Way {
    const DIRECTION: Direction;
    /// Whether it came from the inside and was turned round.
    const TURNED: bool = false;
}

/// From the inside.
pub(crate) struct Out;
/// From the outside.
pub(crate) struct In;
/// The second half of a hairpin's way.
struct Turned;

impl Way for Turned {
    const DIRECTION: Direction = Direction::Inbound;
    const TURNED: bool = true;
}

impl Way for Out {
    const DIRECTION: Direction = Direction::Outbound;
}

impl Way for In {
    const DIRECTION: Direction = Direction::Inbound;
}

/// Our end of a packet and the other one.
#[inline(always)]
fn by_side<W: Way, A>((src, dst): (Endpoint<A>, Endpoint<A>)) -> (Endpoint<A>, Endpoint<A>) {
    match W::DIRECTION {
        Direction::Outbound => (src, dst),
        Direction::Inbound => (dst, src),
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
        let mut verdict = Verdict::Pass;
        if let Some((usual, hash)) = Self::look::<W, P>(common, packet) {
            if let Some(number) = self.cache.get(hash)
                && self.apply::<W, P>(common, packet, &usual, number, &mut verdict)
            {
                return verdict;
            }
            if let Some(number) = self.index.guess(hash)
                && self.apply::<W, P>(common, packet, &usual, number, &mut verdict)
            {
                self.cache.put(hash, number);
                return verdict;
            }
        }
        self.slow(common, packet, W::DIRECTION)
    }

    /// A usual packet and its hash.
    #[inline(always)]
    fn look<W: Way, P: IpPacket + ?Sized>(common: &Common, packet: &P) -> Option<(Usual, u64)> {
        let head = packet.head();
        let usual = F::usual(head, packet.total_len())?;
        let (local, remote) = by_side::<W, _>(F::ends(head)?);
        let hash = common
            .keys
            .flow(W::DIRECTION as u8, usual.protocol, local, remote);
        Some((usual, hash))
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
            if let Some((usual, hash)) = Self::look::<W, P>(common, packet) {
                self.index.prefetch(hash);
                *scratch = Scratch {
                    hash,
                    guess: 0,
                    usual,
                };
            } else if F::is(packet.head()) {
                scratch.guess = SLOW;
            } else {
                scratch.guess = SKIP;
                skipped += 1;
            }
        }
        for at in 0..packets.len().min(BATCH) {
            let Scratch {
                hash, guess, usual, ..
            } = self.scratch[at];
            if guess != 0 {
                continue;
            }
            let found = self.index.guess(hash).unwrap_or(SLOW);
            self.scratch[at].guess = found;
            if let Some(session) = self.sessions.get(found) {
                prefetch_write(core::ptr::from_ref(session).cast_mut());
            } else if W::DIRECTION == Direction::Outbound
                && let Some((local, remote)) = packets.get(at).and_then(|p| F::ends(p.head()))
            {
                // Of a new flow: its mapping will be asked for.
                self.mapping_key(common, usual.protocol, local, remote);
            }
        }
        self.in_batch = true;
        for (at, (packet, verdict)) in packets.iter_mut().zip(verdicts).enumerate() {
            let Scratch { guess, usual, .. } = self.scratch[at % BATCH];
            if guess == SKIP {
                continue;
            }
            // The numbers that mean something else are beyond all sessions.
            if !self.apply::<W, P>(common, packet, &usual, guess, verdict) {
                *verdict = self.slow(common, packet, W::DIRECTION);
            }
        }
        self.in_batch = false;
        self.settle(common);
        skipped
    }

    /// Translates a usual packet by this session, if it is the packet's and nothing out of the
    /// ordinary has to be done; the verdict is set then.
    #[inline(always)]
    fn apply<W: Way, P: IpPacket + ?Sized>(
        &mut self,
        common: &mut Common,
        packet: &mut P,
        usual: &Usual,
        number: u32,
        verdict: &mut Verdict,
    ) -> bool {
        let Some(session) = self.sessions.get_mut(number) else {
            return false;
        };
        let Some(ends) = F::ends(packet.head()) else {
            return false;
        };
        let (local, remote) = by_side::<W, _>(ends);
        let outbound = W::DIRECTION == Direction::Outbound;
        let hairpin = session.is_hairpin();
        let good = session.is(W::DIRECTION, usual.protocol, local, remote)
            & (session.expires >= common.tick)
            & (outbound | (hairpin == W::TURNED))
            & !(outbound && session.is_unanswered());
        let side = if outbound && hairpin {
            Side::Inside
        } else {
            towards(W::DIRECTION)
        };
        if !good || (u32::from(usual.len) > common.mtu[side as usize] && !packet.is_super_frame()) {
            return false;
        }
        let mut refresh = W::DIRECTION == Direction::Outbound || common.config.inbound_refresh;
        if usual.protocol == ip_proto::TCP {
            let bytes = packet.head().get(F::L4..).unwrap_or_default();
            let Some(segment) = segment(bytes, usize::from(usual.len) - F::L4) else {
                return false;
            };
            let effect = session.tcp.advance(W::DIRECTION, &segment);
            refresh = effect.refresh;
            let other_time = Timer::of(effect.class) as usize != session.timer();
            if (!effect.in_window | other_time)
                && let Some(refused) = self.unusual(common, number, &effect)
            {
                *verdict = refused;
                return true;
            }
        }
        let Some(session) = self.sessions.get_mut(number) else {
            return false;
        };
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
                rewrite::<F>(
                    head,
                    F::L4,
                    usual.protocol,
                    End::Source,
                    to,
                    deltas,
                    partial,
                );
                if usual.may_fragment {
                    F::renumber(head, &mut common.ids);
                }
                common.counters.outbound += 1;
            }
            Direction::Inbound => {
                let (to, back) = (session.inside(), deltas.inverse());
                rewrite::<F>(
                    head,
                    F::L4,
                    usual.protocol,
                    End::Destination,
                    to,
                    back,
                    partial,
                );
                common.counters.inbound += 1;
            }
        }
        packet.changed();
        *verdict = if outbound && hairpin {
            self.turn(common, packet)
        } else {
            Verdict::Translated(side)
        };
        true
    }

    /// The second half of a hairpin's way.
    #[inline(never)]
    fn turn<P: IpPacket + ?Sized>(&mut self, common: &mut Common, packet: &mut P) -> Verdict {
        self.settle(common);
        let mut verdict = Verdict::Pass;
        if let Some((usual, hash)) = Self::look::<Turned, P>(common, packet)
            && let Some(number) = self.index.guess(hash)
            && self.apply::<Turned, P>(common, packet, &usual, number, &mut verdict)
        {
            common.counters.hairpinned += 1;
            return verdict;
        }
        self.hairpinned(common, packet)
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
            self.retime(common, number, wanted, effect.refresh);
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
