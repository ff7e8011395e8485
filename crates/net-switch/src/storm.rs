//! Storm control: what one port may have copied to many.
//!
//! A limit counts the frames that a guest sends, not the copies made of them, and a super-frame
//! once. Each kind has a budget of its own, so that a guest that streams to a group can still
//! resolve addresses.

use core::time::Duration;

use net_wire::MacAddr;

use crate::DropReason;
use crate::bucket::TokenBucket;

/// Frames a second, and how many may come at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Frames a second, in the long run; 0 lets the burst through and then nothing.
    pub rate: u32,
    /// Frames at once after a pause; 0 lets nothing through.
    pub burst: u32,
}

impl Limit {
    /// No limit.
    pub const OFF: Self = Self::per_second(u32::MAX);

    /// This many frames a second, and as many at once.
    pub const fn per_second(rate: u32) -> Self {
        Self { rate, burst: rate }
    }
}

/// The limits of one port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct StormLimits {
    /// Frames to the broadcast address.
    pub broadcast: Limit,
    /// Frames to groups.
    pub multicast: Limit,
    /// Frames to addresses that the switch does not know.
    pub unknown_unicast: Limit,
}

impl Default for StormLimits {
    /// Generous: 1,000 broadcasts, 10,000 multicasts and 1,000 frames to unknown addresses a second,
    /// with bursts of the same numbers.
    fn default() -> Self {
        Self {
            broadcast: Limit::per_second(1000),
            multicast: Limit::per_second(10_000),
            unknown_unicast: Limit::per_second(1000),
        }
    }
}

impl StormLimits {
    /// No limits.
    pub const OFF: Self = Self {
        broadcast: Limit::OFF,
        multicast: Limit::OFF,
        unknown_unicast: Limit::OFF,
    };
}

/// What a port has left of its limits.
#[derive(Debug)]
pub(crate) struct Storm {
    broadcast: TokenBucket,
    multicast: TokenBucket,
    unknown_unicast: TokenBucket,
}

impl Storm {
    pub(crate) fn new(limits: &StormLimits) -> Self {
        Self {
            broadcast: TokenBucket::new(limits.broadcast),
            multicast: TokenBucket::new(limits.multicast),
            unknown_unicast: TokenBucket::new(limits.unknown_unicast),
        }
    }

    /// Pays for flooding a frame to `dst`.
    pub(crate) fn pay(&mut self, dst: MacAddr, now: Duration) -> Result<(), DropReason> {
        let (bucket, reason) = if dst.is_broadcast() {
            (&mut self.broadcast, DropReason::BroadcastLimit)
        } else if dst.is_multicast() {
            (&mut self.multicast, DropReason::MulticastLimit)
        } else {
            (&mut self.unknown_unicast, DropReason::UnknownLimit)
        };
        if bucket.take(now) {
            Ok(())
        } else {
            Err(reason)
        }
    }
}
