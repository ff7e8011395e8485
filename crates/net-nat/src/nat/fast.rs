//! The packets nearly all packets are: TCP and UDP of a session that exists.
//!
//! One packet alone goes from header to hash to session to rewriting. A batch takes these steps in
//! groups of packets that follow each other, so that the memory one group needs for its next step is
//! on its way while another is worked on: with a million flows nothing is in the cache, and a packet
//! that waits for its bucket and then for its session waits ten times as long as the rest of its work
//! takes. Between the second and the third step of a group lies the first step of the next one, and
//! between the first and the second lies the third of the one before.

use alloc::boxed::Box;
use core::ops::Range;

use net_wire::ip_proto;

use super::common::Common;
use super::lookup::{NEW, SKIP, Scratch, by_side};
use super::{BATCH, Nat};
use crate::config::OutOfWindow;
use crate::direction::Direction;
use crate::family::{Family, Usual};
use crate::packet::IpPacket;
use crate::ports::SEVERAL;
use crate::rewrite::{Deltas, End, rewrite};
use crate::session::{Session, Timer, marks};
use crate::tcp::{Effect, Segment};
use crate::verdict::{DropReason, Side, Verdict};

/// Packets that take a step together. Each asks for a line in it: those of the second step nearly at
/// once, those of the first with a hash between two, while the others come. A processor has room for
/// some twenty lines on their way, and what is asked for beyond seems to be lost.
const GROUP: usize = 16;
/// Those that asked last and have to wait longest, and so are left for the next time.
const LAG: usize = 4;

/// Without options.
pub(super) const TCP_HEADER: usize = 20;
pub(super) const UDP_HEADER: usize = 8;

/// The way at compile time: what differs by it costs nothing.
pub(crate) trait Way {
    const DIRECTION: Direction;
    /// The side it leads to.
    const SIDE: Side;
    /// Marks of a session that matter, and how they have to be.
    const MARKS: (u8, u8);
}

/// From the inside to the outside.
pub(crate) struct Out;
/// From the outside to the inside.
pub(crate) struct In;
/// From the inside back to it, the first half.
struct Turning;
/// The second half.
struct Turned;

impl Way for Out {
    const DIRECTION: Direction = Direction::Outbound;
    const SIDE: Side = Side::Outside;
    const MARKS: (u8, u8) = (marks::HAIRPIN | marks::UNANSWERED, 0);
}

impl Way for In {
    const DIRECTION: Direction = Direction::Inbound;
    const SIDE: Side = Side::Inside;
    const MARKS: (u8, u8) = (marks::HAIRPIN, 0);
}

impl Way for Turning {
    const DIRECTION: Direction = Direction::Outbound;
    const SIDE: Side = Side::Inside;
    const MARKS: (u8, u8) = (marks::HAIRPIN | marks::UNANSWERED, marks::HAIRPIN);
}

impl Way for Turned {
    const DIRECTION: Direction = Direction::Inbound;
    const SIDE: Side = Side::Inside;
    const MARKS: (u8, u8) = (marks::HAIRPIN, marks::HAIRPIN);
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
        let mut scratch = Scratch::EMPTY;
        if let Some((usual, ends)) = Self::look::<W, P>(packet) {
            let mut guess = match W::DIRECTION {
                Direction::Outbound => SEVERAL,
                Direction::Inbound => self.by_port(usual, ends.0),
            };
            let by_hash = guess == SEVERAL;
            if by_hash {
                let hash = Self::hash::<W>(common, usual, ends);
                if let Some(number) = self.cache.get(hash)
                    && self.apply::<W, P>(common, packet, usual, number, &mut verdict)
                {
                    return verdict;
                }
                guess = self.index::<W>().guess(hash).unwrap_or(NEW);
                scratch.key = hash;
            }
            if self.apply::<W, P>(common, packet, usual, guess, &mut verdict) {
                if by_hash {
                    self.cache.put(scratch.key, guess);
                }
                return verdict;
            }
            scratch.guess = guess;
            scratch.usual = usual;
        }
        self.otherwise::<W, P>(common, packet, &scratch)
    }

    /// A packet that the quick way does not take.
    #[inline]
    fn otherwise<W: Way, P: IpPacket + ?Sized>(
        &mut self,
        common: &mut Common,
        packet: &mut P,
        scratch: &Scratch,
    ) -> Verdict {
        if W::DIRECTION == Direction::Inbound {
            return self.slow(common, packet, W::DIRECTION);
        }
        if scratch.guess == NEW {
            return self.first(common, packet, scratch.usual, scratch.key);
        }
        self.turn_or_slow(common, packet, scratch)
    }

    /// A packet from the inside, of a hairpin perhaps.
    #[inline(never)]
    fn turn_or_slow<P: IpPacket + ?Sized>(
        &mut self,
        common: &mut Common,
        packet: &mut P,
        scratch: &Scratch,
    ) -> Verdict {
        let Scratch { usual, guess, .. } = *scratch;
        let mut verdict = Verdict::Pass;
        if self.sessions.get(guess).is_some_and(|s| s.is_hairpin())
            && self.apply::<Turning, P>(common, packet, usual, guess, &mut verdict)
        {
            return self.turn(common, packet, verdict);
        }
        self.slow(common, packet, Direction::Outbound)
    }

    /// Translates the packets of this family among many, at most [`BATCH`] of them; returns how many
    /// were of another.
    pub(crate) fn batch<W: Way, P: IpPacket>(
        &mut self,
        common: &mut Common,
        packets: &mut [P],
        verdicts: &mut [Verdict],
    ) -> usize {
        // Apart from the tables, so that the compiler need not fear for one when it writes to another.
        let empty = || Box::new([Scratch::EMPTY; BATCH]);
        let mut known = self.scratch.take().unwrap_or_else(empty);
        let mut skipped = 0;
        self.in_batch = true;
        let count = packets.len();
        // How many packets have taken each of the three steps.
        let (mut placed, mut found, mut done) = (0, 0, 0);
        let behind = |ahead: usize| {
            let lag = if ahead == count { 0 } else { LAG };
            ahead.saturating_sub(lag)
        };
        while done < count {
            let step = found..behind(placed);
            found = step.end;
            let (group, scratch) = (part(packets, &step), part(&mut known[..], &step));
            let new = self.find_records::<W, P>(common, group, scratch);

            // What these have just asked for is on its way meanwhile.
            let step = placed..count.min(placed + GROUP);
            placed = step.end;
            let (group, scratch) = (part(packets, &step), part(&mut known[..], &step));
            skipped += self.find_places::<W, P>(common, group, scratch);
            self.find_hosts(new);

            let step = done..behind(found);
            done = step.end;
            let (group, scratch) = (part(packets, &step), part(&mut known[..], &step));
            self.translate_known::<W, P>(common, group, scratch, part(verdicts, &step));
        }
        self.in_batch = false;
        debug_assert!(self.coming.is_empty(), "one call for each");
        self.settle();
        self.scratch = Some(known);
        skipped
    }

    /// The third step.
    #[inline(never)]
    fn translate_known<W: Way, P: IpPacket>(
        &mut self,
        common: &mut Common,
        packets: &mut [P],
        known: &[Scratch],
        verdicts: &mut [Verdict],
    ) {
        for ((packet, verdict), scratch) in packets.iter_mut().zip(verdicts).zip(known) {
            let Scratch { guess, usual, .. } = *scratch;
            if guess == SKIP {
                continue;
            }
            // The numbers that mean something else are beyond all sessions.
            if !self.apply::<W, P>(common, packet, usual, guess, verdict) {
                *verdict = self.otherwise::<W, P>(common, packet, scratch);
            }
        }
    }

    /// Translates a usual packet by this session, if it is the packet's and nothing out of the
    /// ordinary has to be done; the verdict is set then.
    #[inline(always)]
    fn apply<W: Way, P: IpPacket + ?Sized>(
        &mut self,
        common: &mut Common,
        packet: &mut P,
        usual: Usual,
        number: u32,
        verdict: &mut Verdict,
    ) -> bool {
        let Some(session) = self.sessions.get_mut(number) else {
            return false;
        };
        let head = packet.head();
        let Some(ends) = F::ends(head) else {
            return false;
        };
        let (local, remote) = by_side::<W, _>(ends);
        let (mask, marks) = W::MARKS;
        let good = session.is(W::DIRECTION, usual.protocol, local, remote)
            && session.expires >= common.tick
            && session.marks(mask) == marks;
        let too_long = u32::from(usual.len) > common.mtu[W::SIDE as usize];
        if !good || (too_long && !packet.is_super_frame()) {
            return false;
        }
        if usual.protocol == ip_proto::TCP {
            let header = head.get(F::L4..F::L4 + TCP_HEADER).unwrap_or_default();
            let Some(segment) = outline(header, usize::from(usual.len) - F::L4) else {
                return false;
            };
            let established = session.timer() == Timer::TcpEstablished as usize;
            if !established || !session.tcp.advance_ordinary(W::DIRECTION, &segment) {
                return self.track_usual::<W, P>(common, packet, usual, number, verdict);
            }
            session.keep(common.deadline(Timer::TcpEstablished as usize));
            Self::forward::<W, P>(session, common, packet, ip_proto::TCP, TCP_HEADER);
        } else {
            if W::DIRECTION == Direction::Outbound || common.config.inbound_refresh {
                session.keep(common.deadline(session.timer()));
            }
            Self::forward::<W, P>(session, common, packet, ip_proto::UDP, UDP_HEADER);
        }
        if W::DIRECTION == Direction::Outbound && usual.may_fragment {
            F::renumber(packet.head_mut(), &mut common.ids);
        }
        packet.changed();
        *verdict = Verdict::Translated(W::SIDE);
        true
    }

    /// The same from there on for a TCP segment that may change more than the numbers.
    #[cold]
    #[inline(never)]
    fn track_usual<W: Way, P: IpPacket + ?Sized>(
        &mut self,
        common: &mut Common,
        packet: &mut P,
        usual: Usual,
        number: u32,
        verdict: &mut Verdict,
    ) -> bool {
        let bytes = packet.head().get(F::L4..).unwrap_or_default();
        let Some(segment) = segment(bytes, usize::from(usual.len) - F::L4) else {
            return false;
        };
        let Some(session) = self.sessions.get_mut(number) else {
            return false;
        };
        let effect = session.tcp.advance(W::DIRECTION, &segment);
        if let Some(refused) = self.unusual(common, number, &effect) {
            *verdict = refused;
            return true;
        }
        let Some(session) = self.sessions.get_mut(number) else {
            return false;
        };
        if effect.refresh {
            session.keep(common.deadline(session.timer()));
        }
        Self::forward::<W, P>(session, common, packet, ip_proto::TCP, TCP_HEADER);
        if W::DIRECTION == Direction::Outbound && usual.may_fragment {
            F::renumber(packet.head_mut(), &mut common.ids);
        }
        packet.changed();
        *verdict = Verdict::Translated(W::SIDE);
        true
    }

    /// Rewrites a usual packet, which has `len` bytes of its transport header at the least.
    #[inline(always)]
    pub(super) fn forward<W: Way, P: IpPacket + ?Sized>(
        session: &Session<F::Addr>,
        common: &mut Common,
        packet: &mut P,
        protocol: u8,
        len: usize,
    ) {
        let partial = packet.checksum_is_partial();
        let deltas = Deltas {
            l3: session.l3,
            l4: session.l4,
        };
        let (end, to, deltas) = match W::DIRECTION {
            Direction::Outbound => (End::Source, session.outside(), deltas),
            Direction::Inbound => (End::Destination, session.inside(), deltas.inverse()),
        };
        // Cut to a length the compiler knows: one check, not one for each field.
        if let Some(head) = packet.head_mut().get_mut(..F::L4 + len) {
            rewrite::<F>(head, F::L4, protocol, end, to, deltas, partial);
        }
        match W::DIRECTION {
            Direction::Outbound => common.counters.outbound += 1,
            Direction::Inbound => common.counters.inbound += 1,
        }
    }

    /// The second half of a hairpin's way, if the first was gone; else that is the end of it.
    fn turn<P: IpPacket + ?Sized>(
        &mut self,
        common: &mut Common,
        packet: &mut P,
        first: Verdict,
    ) -> Verdict {
        if first != Verdict::Translated(Side::Inside) {
            return first;
        }
        self.settle();
        let mut verdict = Verdict::Pass;
        if let Some((usual, ends)) = Self::look::<Turned, P>(packet) {
            let mut number = self.by_port(usual, ends.0);
            if number == SEVERAL {
                let hash = Self::hash::<Turned>(common, usual, ends);
                number = self.shared.guess(hash).unwrap_or(NEW);
            }
            if self.apply::<Turned, P>(common, packet, usual, number, &mut verdict) {
                common.counters.hairpinned += 1;
                return verdict;
            }
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

/// Some of a batch.
#[inline(always)]
fn part<'a, T>(batch: &'a mut [T], range: &Range<usize>) -> &'a mut [T] {
    batch.get_mut(range.clone()).unwrap_or_default()
}

/// The TCP segment of `len` bytes that begins with `bytes`, of which the payload need not be there;
/// `None` where the header contradicts itself.
pub(crate) fn segment(bytes: &[u8], len: usize) -> Option<Segment<'_>> {
    let segment = outline(bytes, len)?;
    let header = len - segment.len as usize;
    Some(Segment {
        options: bytes.get(20..header).unwrap_or_default(),
        ..segment
    })
}

/// The same without the options.
#[inline(always)]
fn outline(bytes: &[u8], len: usize) -> Option<Segment<'static>> {
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
        options: &[],
    })
}
