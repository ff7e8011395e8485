//! The engine and its peer, filled with sessions and fed with packets.

use std::hint::black_box;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use arcbox_conntrack::{NatDirection, NatEngineConfig, NatResult};
use net_benches::traffic::{Feed, Kind, PORTS, Source, hosts};
use net_nat::config::{FamilyConfig, Limits};
use net_nat::{Direction, NatConfig, NatEngine, Prefix, Verdict};

use crate::buffers::{BATCH, Buffers, ETHERNET};
use crate::huge;

/// The first outside address; the others follow.
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
/// What 64 packets take where 32 million come in a second.
pub(crate) const STEP: Duration = Duration::from_micros(2);

/// How packets are handed over.
#[derive(Clone, Copy)]
pub(crate) enum Call {
    /// 64 at once.
    Batch,
    /// One by one.
    Single,
}

/// How packets are handed over, which way they go, and how much time passes with each batch.
pub(crate) type How = (Call, Direction, Duration);

/// Something that translates packets.
pub(crate) trait Translator: Send {
    /// It translates only one of so many packets in its turn, if it is so slow that those tell as
    /// much.
    const PART: u32;

    /// Has so many packets translated, all of which must be.
    fn run<S: Source>(&mut self, how: How, source: &mut S, buffers: &mut Buffers, count: usize);
}

/// Our engine and its time.
pub(crate) struct Ours {
    pub(crate) engine: NatEngine,
    pub(crate) now: Duration,
}

impl Ours {
    /// An engine with the defaults of the RFCs and room for so many sessions: their outside ports,
    /// their hosts, and no bounds on a host.
    pub(crate) fn new(sessions: usize, change: impl FnOnce(&mut NatConfig)) -> Self {
        let addresses = 0..sessions.div_ceil(PORTS) as u32;
        let mut config = NatConfig::empty([7; 16]);
        config.ipv4 = Some(FamilyConfig {
            inside: vec![Prefix::new([10, 0, 0, 0].into(), 8).expect("8 bits")],
            outside: addresses
                .clone()
                .map(|i| Ipv4Addr::from_bits(OUTSIDE.to_bits() + i))
                .collect(),
            one_to_one: Vec::new(),
        });
        config.limits = Limits {
            sessions,
            hosts: hosts(sessions).max(4096),
            sessions_per_host: u32::MAX,
            mappings_per_host: u32::MAX,
            new_per_second: 0,
            ..Limits::default()
        };
        change(&mut config);
        Self {
            engine: huge::engine(config).expect("a sound configuration"),
            now: Duration::from_secs(1000),
        }
    }

    /// The same for IPv6.
    pub(crate) fn new_v6(sessions: usize) -> Self {
        Self::new(sessions, |config| {
            let outside = config.ipv4.take().map(|v4| v4.outside).unwrap_or_default();
            let network = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0).to_bits();
            config.ipv6 = Some(FamilyConfig {
                inside: vec![Prefix::new([0xfd00, 0, 0, 0, 0, 0, 0, 0].into(), 8).expect("8 bits")],
                outside: outside
                    .iter()
                    .map(|v4| Ipv6Addr::from_bits(network | u128::from(v4.to_bits())))
                    .collect(),
                one_to_one: Vec::new(),
            });
        })
    }

    /// Packets that were not translated, or not as they should have been.
    pub(crate) fn refused(&self) -> u64 {
        let counters = self.engine.counters();
        counters.dropped_total() + counters.passed + counters.out_of_window
    }

    /// Translates the next `count` packets, and shows `seen` each of them.
    pub(crate) fn each<S: Source>(
        &mut self,
        direction: Direction,
        source: &mut S,
        count: usize,
        mut seen: impl FnMut(&[u8]),
    ) {
        let mut buffers = Buffers::new();
        let mut packets = buffers.packets();
        let mut verdicts = [Verdict::Pass; BATCH];
        let before = self.refused();
        for start in (0..count).step_by(BATCH) {
            let n = BATCH.min(count - start);
            source.fill::<0>(&mut packets[..n]);
            let (packets, verdicts) = (&mut packets[..n], &mut verdicts[..n]);
            let engine = &mut self.engine;
            engine.translate_batch(packets, direction, self.now, verdicts);
            packets.iter().for_each(|packet| seen(packet));
        }
        assert_eq!(self.refused(), before, "every packet is translated");
    }

    /// Translates the next `count` packets from the inside, and says what became of their sources.
    pub(crate) fn open<const N: usize>(
        &mut self,
        kind: Kind,
        feed: &mut Feed<N>,
        count: usize,
    ) -> Vec<(u32, u16)> {
        let mut outside = Vec::with_capacity(count);
        self.each(Direction::Outbound, feed, count, |packet| {
            outside.push(kind.source(packet));
        });
        outside
    }
}

impl Translator for Ours {
    const PART: u32 = 1;

    #[inline(never)]
    fn run<S: Source>(
        &mut self,
        (call, direction, step): How,
        source: &mut S,
        buffers: &mut Buffers,
        count: usize,
    ) {
        let mut packets = buffers.packets();
        let before = self.refused();
        match call {
            Call::Batch => {
                let mut verdicts = [Verdict::Pass; BATCH];
                for _ in 0..count / BATCH {
                    source.fill::<0>(&mut packets);
                    self.now += step;
                    self.engine
                        .translate_batch(&mut packets, direction, self.now, &mut verdicts);
                    black_box(&verdicts);
                }
            }
            Call::Single => {
                for _ in 0..count / BATCH {
                    source.fill::<0>(&mut packets);
                    self.now += step;
                    for packet in &mut packets {
                        let _ = black_box(self.engine.translate(*packet, direction, self.now));
                    }
                }
            }
        }
        assert_eq!(self.refused(), before, "every packet is translated");
    }
}

/// The peer.
pub(crate) struct Peer(pub(crate) arcbox_conntrack::NatEngine);

impl Peer {
    pub(crate) fn new() -> Self {
        let config = NatEngineConfig::new(OUTSIDE).with_port_range(1024, 65535);
        let mut engine = arcbox_conntrack::NatEngine::new(&config);
        engine.set_internal_network(Ipv4Addr::new(10, 0, 0, 0), 8);
        Self(engine)
    }

    /// Translates the next `count` packets from the inside, and says what became of their sources.
    pub(crate) fn open(&mut self, feed: &mut Feed<14>, count: usize) -> Vec<(u32, u16)> {
        let mut outside = Vec::with_capacity(count);
        self.each(feed, count, |packet| outside.push(Kind::Udp.source(packet)));
        outside
    }

    /// Translates the next `count` packets from the inside, and shows `seen` each of them.
    pub(crate) fn each(&mut self, feed: &mut Feed<14>, count: usize, mut seen: impl FnMut(&[u8])) {
        let mut buffers = Buffers::new();
        let mut frames = buffers.frames();
        for start in (0..count).step_by(BATCH) {
            let frames = &mut frames[..BATCH.min(count - start)];
            feed.fill::<ETHERNET>(frames);
            for frame in frames {
                let result = self.0.translate(frame, NatDirection::Outbound);
                assert!(matches!(result, Ok(NatResult::Translated)));
                seen(&frame[ETHERNET..]);
            }
        }
    }
}

impl Translator for Peer {
    const PART: u32 = 4;

    #[inline(never)]
    fn run<S: Source>(
        &mut self,
        (_, direction, _): How,
        source: &mut S,
        buffers: &mut Buffers,
        count: usize,
    ) {
        let mut frames = buffers.frames();
        let direction = theirs(direction);
        let mut translated = 0;
        for _ in 0..count / BATCH {
            source.fill::<ETHERNET>(&mut frames);
            for frame in &mut frames {
                let result = self.0.translate(frame, direction);
                translated += usize::from(matches!(result, Ok(NatResult::Translated)));
            }
        }
        assert_eq!(translated, count, "every packet is translated");
    }
}

fn theirs(direction: Direction) -> NatDirection {
    match direction {
        Direction::Outbound => NatDirection::Outbound,
        Direction::Inbound => NatDirection::Inbound,
    }
}
