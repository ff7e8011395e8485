//! What both families share: configuration, time, randomness, counters, and what is to be sent.

use alloc::collections::VecDeque;
use core::time::Duration;

use crate::config::{NatConfig, NoResources};
use crate::direction::Direction;
use crate::event::Observer;
use crate::fragment::{Ipv4Id, fragments_v4};
use crate::hash::{Keys, Random};
use crate::packet::IpPacket;
use crate::rate::TokenBucket;
use crate::session::{TIMERS, Timer};
use crate::statistics::Counters;
use crate::verdict::{DropReason, Output, Side, Verdict};

/// The latest second there is, 136 years on: what lives for ever lives longer.
const END: u32 = u32::MAX - 1;

/// The part of an engine that is not of one family.
pub(crate) struct Common {
    pub(crate) config: NatConfig,
    pub(crate) keys: Keys,
    pub(crate) random: Random,
    /// By [`Timer`], in seconds.
    timeouts: [u32; TIMERS],
    /// By [`Timer`]: the last second in which something that begins now is alive.
    deadlines: [u32; TIMERS],
    /// How long a port rests, in seconds.
    pub(crate) hold: u32,
    /// Longest packet towards each [`Side`], in bytes.
    pub(crate) mtu: [u32; 2],
    /// The latest time the caller has named, and its whole seconds.
    pub(crate) now: Duration,
    pub(crate) tick: u32,
    pub(crate) counters: Counters,
    pub(crate) outputs: VecDeque<Output>,
    /// ICMP errors to the outside, and to inside hosts without a mapping (RFC 5508, REQ-10d).
    pub(crate) errors: TokenBucket,
    pub(crate) ids: Ipv4Id,
    pub(crate) observer: Option<Observer>,
}

impl Common {
    /// The configuration has been checked.
    pub(crate) fn new(config: NatConfig) -> Self {
        let seconds = |time: Duration| time.as_secs() as u32;
        let t = &config.timeouts;
        let mut timeouts = [0; TIMERS];
        for timer in Timer::ALL {
            timeouts[timer as usize] = seconds(match timer {
                Timer::Udp => t.udp,
                Timer::UdpShort => t.udp_short,
                Timer::TcpOpening => t.tcp_opening,
                Timer::TcpEstablished => t.tcp_established,
                Timer::TcpClosing => t.tcp_closing,
                Timer::Icmp => t.icmp,
                Timer::Other => t.other,
            });
        }
        let rate = config.limits.icmp_per_second;
        Self {
            keys: Keys::new(&config.seed),
            random: Random::new(&config.seed),
            timeouts,
            deadlines: timeouts,
            hold: seconds(t.port_hold),
            mtu: config.mtu.map(|mtu| if mtu == 0 { u32::MAX } else { mtu }),
            now: Duration::ZERO,
            tick: 0,
            counters: Counters::default(),
            outputs: VecDeque::new(),
            errors: TokenBucket::new(rate, rate),
            ids: Ipv4Id::new(&config.seed, config.shard.number, config.shard.count),
            observer: None,
            config,
        }
    }

    /// Time goes on; a step back is ignored.
    #[inline]
    pub(crate) fn advance(&mut self, now: Duration) {
        if now > self.now {
            self.now = now;
            let tick = u32::try_from(now.as_secs()).map_or(END, |tick| tick.min(END));
            if tick != self.tick {
                self.tick = tick;
                self.deadlines = self.timeouts.map(|seconds| tick.saturating_add(seconds));
            }
        }
    }

    /// The last second in which something that begins now and keeps this timer is alive.
    #[inline(always)]
    pub(crate) fn deadline(&self, timer: usize) -> u32 {
        self.deadlines[timer & (TIMERS - 1)]
    }

    /// Counts a packet that goes no further.
    #[cold]
    pub(crate) fn refuse(&mut self, reason: DropReason) -> Verdict {
        self.counters.drops[reason as usize] += 1;
        Verdict::Drop(reason)
    }

    /// Notes what became of a packet that took no quick way.
    #[inline]
    pub(super) fn done<P: IpPacket + ?Sized>(
        &mut self,
        packet: &mut P,
        verdict: Verdict,
    ) -> Verdict {
        match verdict {
            Verdict::Pass => self.counters.passed += 1,
            Verdict::Translated(_) | Verdict::Fragment(_) => packet.changed(),
            _ => {}
        }
        verdict
    }

    /// Puts a packet among those to be fetched; false if there are too many.
    pub(crate) fn send(&mut self, side: Side, packet: alloc::vec::Vec<u8>) -> bool {
        if self.outputs.len() >= self.config.limits.outputs {
            self.counters.outputs_lost += 1;
            return false;
        }
        self.outputs.push_back(Output {
            side,
            shard: None,
            packet,
        });
        true
    }

    /// The same for a packet that may be too long for that side; where it may not be cut it is lost.
    pub(crate) fn send_cut(&mut self, side: Side, packet: alloc::vec::Vec<u8>) {
        let mtu = self.mtu[side as usize] as usize;
        if packet.len() <= mtu {
            self.send(side, packet);
            return;
        }
        match fragments_v4(&packet, mtu) {
            Ok(pieces) => {
                for piece in pieces {
                    self.send(side, piece);
                }
            }
            Err(_) => {
                let _ = self.refuse(DropReason::TooBig);
            }
        }
    }

    /// The same for a packet from the outside that another engine has to translate.
    pub(crate) fn send_to_shard(&mut self, shard: u16, packet: alloc::vec::Vec<u8>) -> bool {
        if self.send(Side::Inside, packet)
            && let Some(output) = self.outputs.back_mut()
        {
            output.shard = Some(shard);
            return true;
        }
        false
    }

    /// The packet is another engine's.
    pub(crate) fn hand_over(&mut self, shard: u16) -> Verdict {
        self.counters.sharded += 1;
        Verdict::Shard(shard)
    }

    /// Which kind of error says that there was no room, if any does.
    pub(crate) fn no_resources(&self) -> Option<crate::icmp::ErrorKind> {
        use crate::icmp::ErrorKind;
        match self.config.no_resources {
            NoResources::Silent => None,
            NoResources::Prohibited => Some(ErrorKind::AdminProhibited),
            NoResources::HostUnreachable => Some(ErrorKind::HostUnreachable),
        }
    }
}

/// The side a packet of this direction goes to.
#[inline(always)]
pub(crate) const fn towards(direction: Direction) -> Side {
    match direction {
        Direction::Outbound => Side::Outside,
        Direction::Inbound => Side::Inside,
    }
}
