//! The engine.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;
use core::ops::Range;
use core::time::Duration;

use net_wire::ip_proto;

use crate::address::Endpoint;
use crate::config::{ConfigError, NatConfig};
use crate::direction::Direction;
use crate::event::{Event, SessionView};
use crate::family::{V4, V6};
use crate::forward::{Forward, ForwardError};
use crate::fragment::FragmentCounters;
use crate::nat::common::Common;
use crate::nat::fast::{In, Out, Way};
use crate::nat::{BATCH, Nat};
use crate::packet::IpPacket;
use crate::snapshot::{Reader, Restored, SnapshotError, Writer};
use crate::stateless::Stateless;
use crate::statistics::{Counters, Usage};
use crate::table::LARGE;
use crate::verdict::{DropReason, Output, Verdict};

/// A network address translator.
///
/// It owns its tables and nothing else: packets, time and randomness come in as arguments, and an
/// engine belongs to one thread at a time. Time is a [`Duration`] since some fixed moment; it never
/// goes back (an earlier time than the last counts as the last).
pub struct NatEngine {
    common: Common,
    v4: Option<Box<Nat<V4>>>,
    v6: Option<Box<Nat<V6>>>,
    stateless: Stateless,
}

impl NatEngine {
    /// An engine without sessions.
    ///
    /// # Errors
    /// [`ConfigError`] says what is wrong with the configuration.
    pub fn new(mut config: NatConfig) -> Result<Self, ConfigError> {
        config.check()?;
        let (ipv4, ipv6) = (config.ipv4.take(), config.ipv6.take());
        let stateless = Stateless::new(core::mem::take(&mut config.nptv6));
        let common = Common::new(config);
        let v4 = ipv4.map(|family| Nat::new(&family, &common)).transpose()?;
        let v6 = ipv6.map(|family| Nat::new(&family, &common)).transpose()?;
        Ok(Self {
            v4: v4.map(Box::new),
            v6: v6.map(Box::new),
            common,
            stateless,
        })
    }

    /// Translates one packet where it lies.
    ///
    /// For many packets [`Self::translate_batch`] is faster.
    #[inline]
    pub fn translate<P: IpPacket + ?Sized>(
        &mut self,
        packet: &mut P,
        direction: Direction,
        now: Duration,
    ) -> Verdict {
        self.common.advance(now);
        self.translate_now(packet, direction)
    }

    #[inline]
    fn translate_now<P: IpPacket + ?Sized>(
        &mut self,
        packet: &mut P,
        direction: Direction,
    ) -> Verdict {
        match packet.head().first().map(|b| b >> 4) {
            Some(4) => match &mut self.v4 {
                Some(v4) => match direction {
                    Direction::Outbound => v4.one::<Out, P>(&mut self.common, packet),
                    Direction::Inbound => v4.one::<In, P>(&mut self.common, packet),
                },
                None => self.common.refuse(DropReason::Unsupported),
            },
            Some(6) => self.translate_v6(packet, direction),
            _ => self.common.refuse(DropReason::Malformed),
        }
    }

    fn translate_v6<P: IpPacket + ?Sized>(
        &mut self,
        packet: &mut P,
        direction: Direction,
    ) -> Verdict {
        if !self.stateless.is_empty()
            && let Some(verdict) = self
                .stateless
                .translate(&mut self.common, packet, direction)
        {
            return verdict;
        }
        match &mut self.v6 {
            Some(v6) => match direction {
                Direction::Outbound => v6.one::<Out, P>(&mut self.common, packet),
                Direction::Inbound => v6.one::<In, P>(&mut self.common, packet),
            },
            None if self.stateless.is_empty() => self.common.refuse(DropReason::Unsupported),
            None => self
                .stateless
                .foreign(&mut self.common, packet.head(), direction),
        }
    }

    /// Translates many packets of one direction where they lie, in order; `verdicts` are what becomes
    /// of each.
    ///
    /// # Panics
    /// If there are not as many verdicts as packets.
    pub fn translate_batch<P: IpPacket>(
        &mut self,
        packets: &mut [P],
        direction: Direction,
        now: Duration,
        verdicts: &mut [Verdict],
    ) {
        assert_eq!(packets.len(), verdicts.len(), "one verdict for each packet");
        self.common.advance(now);
        for (packets, verdicts) in packets.chunks_mut(BATCH).zip(verdicts.chunks_mut(BATCH)) {
            match direction {
                Direction::Outbound => self.batch::<Out, P>(packets, verdicts),
                Direction::Inbound => self.batch::<In, P>(packets, verdicts),
            }
        }
    }

    /// Each family takes its own packets; what neither takes goes one by one.
    fn batch<W: Way, P: IpPacket>(&mut self, packets: &mut [P], verdicts: &mut [Verdict]) {
        let all = packets.len();
        let common = &mut self.common;
        let after_v4 = match &mut self.v4 {
            Some(v4) => v4.batch::<W, P>(common, packets, verdicts),
            None => all,
        };
        if after_v4 == 0 {
            return;
        }
        let v6 = self.v6.as_mut().filter(|_| self.stateless.is_empty());
        let staged = (self.v4.is_some(), v6.is_some());
        let after_v6 = match v6 {
            Some(v6) => v6.batch::<W, P>(common, packets, verdicts),
            None => all,
        };
        if after_v4 + after_v6 == all {
            return;
        }
        for (packet, verdict) in packets.iter_mut().zip(verdicts) {
            let version = packet.head().first().map(|b| b >> 4);
            let done = match version {
                Some(4) => staged.0,
                Some(6) => staged.1,
                _ => false,
            };
            if !done {
                *verdict = self.translate_now(packet, W::DIRECTION);
            }
        }
    }

    /// Does the rest of a translation that another engine began ([`Verdict::Hairpin`]).
    pub fn translate_hairpinned<P: IpPacket + ?Sized>(
        &mut self,
        packet: &mut P,
        now: Duration,
    ) -> Verdict {
        self.common.advance(now);
        let common = &mut self.common;
        match (
            packet.head().first().map(|b| b >> 4),
            &mut self.v4,
            &mut self.v6,
        ) {
            (Some(4), Some(v4), _) => v4.hairpinned(common, packet),
            (Some(6), _, Some(v6)) => v6.hairpinned(common, packet),
            _ => common.refuse(DropReason::Unsupported),
        }
    }

    /// Ends everything whose time is over and sends what has become due; returns how many records
    /// it looked at.
    ///
    /// Call it, or [`Self::expire_some`], about once a second. New sessions do a part of this work
    /// themselves, so that the tables do not fill up without it; but until it is done, a mapping whose
    /// sessions are over still admits, ports do not come free, and no answer is sent.
    pub fn expire(&mut self, now: Duration) -> usize {
        self.expire_some(now, usize::MAX)
    }

    /// As [`Self::expire`], but looks at `budget` records of each family at the most: about 100 ns
    /// each.
    pub fn expire_some(&mut self, now: Duration, budget: usize) -> usize {
        self.common.advance(now);
        let common = &mut self.common;
        let mut looked = 0;
        if let Some(v4) = &mut self.v4 {
            looked += v4.expire_some(common, budget);
            v4.answer_unsolicited(common);
            v4.expire_fragments(common);
        }
        if let Some(v6) = &mut self.v6 {
            looked += v6.expire_some(common, budget);
            v6.answer_unsolicited(common);
            v6.expire_fragments(common);
        }
        looked
    }

    /// When [`Self::expire`] next has something to do, if nothing else happens; it may turn out to
    /// be less than that.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        let v4 = self.v4.as_ref().and_then(|nat| nat.next_deadline());
        let v6 = self.v6.as_ref().and_then(|nat| nat.next_deadline());
        v4.into_iter().chain(v6).min()
    }

    /// The next packet that the engine made or kept, to be sent.
    pub fn next_output(&mut self) -> Option<Output> {
        self.common.outputs.pop_front()
    }

    /// Publishes an inside endpoint at an outside one.
    ///
    /// Of several engines that share the work, each has to be told, and [`Steering`](crate::Steering)
    /// too; only the one that the inside host belongs to carries it out. If one refuses, take it back
    /// from the others.
    ///
    /// # Errors
    /// [`ForwardError`]; nothing has changed then.
    pub fn add_forward(&mut self, forward: Forward) -> Result<(), ForwardError> {
        let Forward {
            protocol,
            outside,
            inside,
        } = forward;
        let with_ports = matches!(protocol, ip_proto::TCP | ip_proto::UDP);
        if with_ports != (outside.port != 0) || with_ports != (inside.port != 0) {
            return Err(ForwardError::Ports);
        }
        let common = &mut self.common;
        match (outside.addr, inside.addr) {
            (IpAddr::V4(o), IpAddr::V4(i)) => {
                let v4 = self.v4.as_mut().ok_or(ForwardError::Family)?;
                let (o, i) = (
                    Endpoint::new(o, outside.port),
                    Endpoint::new(i, inside.port),
                );
                v4.add_forward(common, protocol, o, i)
            }
            (IpAddr::V6(o), IpAddr::V6(i)) => {
                let v6 = self.v6.as_mut().ok_or(ForwardError::Family)?;
                let (o, i) = (
                    Endpoint::new(o, outside.port),
                    Endpoint::new(i, inside.port),
                );
                v6.add_forward(common, protocol, o, i)
            }
            _ => Err(ForwardError::Family),
        }
    }

    /// Takes a forward back: nobody new comes in by its port, even if its host goes on using it for
    /// what the host itself begins. Sessions go on until they end; to end them at once,
    /// [`Self::close_sessions`]. As long as there are some, the port cannot be published again.
    ///
    /// # Errors
    /// [`ForwardError::NotThere`].
    pub fn remove_forward(
        &mut self,
        protocol: u8,
        outside: Endpoint<IpAddr>,
    ) -> Result<(), ForwardError> {
        let common = &mut self.common;
        match outside.addr {
            IpAddr::V4(addr) => {
                let v4 = self.v4.as_mut().ok_or(ForwardError::NotThere)?;
                v4.remove_forward(common, protocol, Endpoint::new(addr, outside.port))
            }
            IpAddr::V6(addr) => {
                let v6 = self.v6.as_mut().ok_or(ForwardError::NotThere)?;
                v6.remove_forward(common, protocol, Endpoint::new(addr, outside.port))
            }
        }
    }

    /// The forwards, in no order.
    pub fn forwards(&self) -> impl Iterator<Item = Forward> {
        fn forward<A: Into<IpAddr>>(
            (protocol, outside, inside): (u8, Endpoint<A>, Endpoint<A>),
        ) -> Forward {
            Forward {
                protocol,
                outside: Endpoint::new(outside.addr.into(), outside.port),
                inside: Endpoint::new(inside.addr.into(), inside.port),
            }
        }
        let v4 = self.v4.iter().flat_map(|nat| nat.forwards().map(forward));
        let v6 = self.v6.iter().flat_map(|nat| nat.forwards().map(forward));
        v4.chain(v6)
    }

    /// The sessions that are alive, in no order. Takes time in proportion to the most there ever
    /// were.
    pub fn sessions(&self) -> impl Iterator<Item = SessionView> {
        let tick = self.common.tick;
        let v4 = self.v4.iter().flat_map(move |nat| nat.sessions(tick));
        let v6 = self.v6.iter().flat_map(move |nat| nat.sessions(tick));
        v4.chain(v6)
    }

    /// Ends the sessions of which `which` says so, and returns how many those were. Takes time in
    /// proportion to the most there ever were.
    pub fn close_sessions(&mut self, mut which: impl FnMut(&SessionView) -> bool) -> usize {
        let common = &mut self.common;
        let v4 = self
            .v4
            .as_mut()
            .map(|nat| nat.close_where(common, &mut which));
        let v6 = self
            .v6
            .as_mut()
            .map(|nat| nat.close_where(common, &mut which));
        v4.unwrap_or(0) + v6.unwrap_or(0)
    }

    /// All sessions, mappings and forwards as bytes, for [`Self::restore`] after a restart or on
    /// another machine. Fragments on their way and packets to be sent are not among them.
    #[must_use]
    pub fn snapshot(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        if let Some(v4) = &self.v4 {
            writer.u8(4);
            v4.save(&self.common, &mut writer);
        }
        if let Some(v6) = &self.v6 {
            writer.u8(6);
            v6.save(&self.common, &mut writer);
        }
        writer.u8(0);
        writer.finish()
    }

    /// Takes in what [`Self::snapshot`] wrote, into an engine that has done nothing yet. What does
    /// not fit its configuration is left out and counted. The secret may be another.
    ///
    /// # Errors
    /// [`SnapshotError`]; the engine is as it was then.
    pub fn restore(&mut self, bytes: &[u8], now: Duration) -> Result<Restored, SnapshotError> {
        let unused = self.v4.as_ref().is_none_or(|nat| nat.is_unused())
            && self.v6.as_ref().is_none_or(|nat| nat.is_unused());
        if !unused {
            return Err(SnapshotError::InUse);
        }
        let mut reader = Reader::new(bytes)?;
        let (mut v4, mut v6) = (None, None);
        loop {
            match reader.u8()? {
                0 if reader.is_empty() => break,
                4 if v4.is_none() => v4 = Some(Nat::<V4>::read(&mut reader)?),
                6 if v6.is_none() => v6 = Some(Nat::<V6>::read(&mut reader)?),
                _ => return Err(SnapshotError::Damaged),
            }
        }
        self.common.advance(now);
        let mut restored = Restored::default();
        if let Some(saved) = v4 {
            match &mut self.v4 {
                Some(nat) => nat.load(&mut self.common, saved, &mut restored),
                None => restored.skipped += saved.len(),
            }
        }
        if let Some(saved) = v6 {
            match &mut self.v6 {
                Some(nat) => nat.load(&mut self.common, saved, &mut restored),
                None => restored.skipped += saved.len(),
            }
        }
        Ok(restored)
    }

    /// Calls `observer` with every event from now on, in place of an earlier one.
    pub fn observe(&mut self, observer: impl FnMut(&Event) + Send + 'static) {
        self.common.observer = Some(Box::new(observer));
    }

    /// What has been done so far.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.common.counters
    }

    /// What has become of fragments.
    #[must_use]
    pub fn fragment_counters(&self) -> FragmentCounters {
        let v4 = self.v4.as_ref().map(|nat| *nat.fragment_counters());
        let v6 = self.v6.as_ref().map(|nat| *nat.fragment_counters());
        v4.unwrap_or_default().plus(&v6.unwrap_or_default())
    }

    /// How full the tables are.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let mut usage = Usage::default();
        if let Some(v4) = &self.v4 {
            v4.usage(&mut usage);
        }
        if let Some(v6) = &self.v6 {
            v6.usage(&mut usage);
        }
        usage
    }

    /// Where the large tables lie, for a caller whose system has large pages and gives them on request:
    /// `madvise(start, len, MADV_HUGEPAGE)` on Linux, before the first packet. With a million sessions
    /// that is worth a tenth of the engine's speed or more. The first packet that touches such a page
    /// waits until the system has found and zeroed it, which can take milliseconds; `MADV_POPULATE_WRITE`
    /// behind the first advice has that done at once, for all the memory there can be.
    ///
    /// Each range begins at a multiple of 2 MiB and is no shorter than that; smaller tables, and those
    /// for fragments, are not among them. The engine owns the memory, writes to it, and keeps it where
    /// it is until it is dropped. What was not used yet has not been touched and takes no memory;
    /// address space for the ports of all outside addresses is reserved by this call, 2 MiB for eight
    /// of them and each of TCP, UDP and ICMP.
    pub fn memory(&mut self) -> impl Iterator<Item = Range<*const u8>> {
        let v4 = self.v4.iter_mut().flat_map(|nat| nat.memory());
        let v6 = self.v6.iter_mut().flat_map(|nat| nat.memory());
        v4.chain(v6)
            .filter(|range| range.end.addr() - range.start.addr() >= LARGE)
    }

    /// How many entries the longest look-up in the tables goes by, ten to a cache line; for tests of
    /// floods. Takes long.
    #[doc(hidden)]
    #[must_use]
    pub fn longest_walk(&self) -> usize {
        let v4 = self.v4.as_ref().map_or(0, |nat| nat.longest_walk());
        v4.max(self.v6.as_ref().map_or(0, |nat| nat.longest_walk()))
    }

    /// Looks whether all tables agree; for tests. Takes long.
    ///
    /// # Errors
    /// What is wrong.
    #[doc(hidden)]
    pub fn validate(&self) -> Result<(), String> {
        if let Some(v4) = &self.v4 {
            v4.validate(&self.common)?;
        }
        if let Some(v6) = &self.v6 {
            v6.validate(&self.common)?;
        }
        Ok(())
    }
}
