//! ICMP errors towards the guests, limited in rate.

use core::net::IpAddr;
use core::time::Duration;

use net_datapath::VirtioNetHdr;
use std::collections::BTreeMap;

use crate::compose::{self, IcmpError};
use crate::{Egress, PortId, SendStatus};

/// Sends ICMP errors; remembers how many each guest got (RFC 1812, section 4.3.2.8; RFC 4443,
/// section 2.4 (f)).
#[derive(Debug)]
pub(crate) struct ErrorSender {
    per_second: u32,
    buckets: BTreeMap<PortId, Bucket>,
    /// Errors sent.
    pub(crate) sent: u64,
    /// Errors withheld.
    pub(crate) limited: u64,
}

impl ErrorSender {
    pub(crate) fn new(per_second: u32) -> Self {
        Self {
            per_second,
            buckets: BTreeMap::new(),
            sent: 0,
            limited: 0,
        }
    }

    /// Tells the guest `to` at `port` that the packet which starts with `quote` failed.
    ///
    /// The caller makes sure that the packet was no ICMP error itself, no later fragment, and
    /// neither from nor to a broadcast or multicast address (RFC 1122, section 3.2.2).
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn send(
        &mut self,
        port: PortId,
        from: IpAddr,
        to: IpAddr,
        error: IcmpError,
        quote: &[u8],
        now: Duration,
        out: &mut dyn Egress,
    ) -> bool {
        // The address may have moved to another guest, who must not see this one's packets.
        let Some(link) = out.link(to).filter(|link| link.port == port) else {
            return false;
        };
        let per_second = self.per_second;
        if !self
            .buckets
            .entry(port)
            .or_insert(Bucket::full(per_second, now))
            .take(per_second, now)
        {
            self.limited += 1;
            return false;
        }
        let mtu = usize::from(link.mtu);
        let Some(mut packet) = out.buffer(mtu.min(1280)) else {
            return false;
        };
        let Some(len) = compose::icmp_error(packet.spare_mut(), from, to, error, quote, mtu) else {
            return false;
        };
        if packet.set_len(len).is_none() {
            return false;
        }
        let sent = matches!(
            out.send(to, VirtioNetHdr::default(), packet),
            SendStatus::Sent
        );
        self.sent += u64::from(sent);
        sent
    }

    /// Forgets a guest.
    pub(crate) fn guest_gone(&mut self, port: PortId) {
        self.buckets.remove(&port);
    }
}

/// A token bucket that holds one second's worth.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    /// Thousandths of a token, so that slow rates lose nothing to rounding.
    millitokens: u64,
    filled: Duration,
}

impl Bucket {
    fn full(per_second: u32, now: Duration) -> Self {
        Self {
            millitokens: u64::from(per_second) * 1000,
            filled: now,
        }
    }

    fn take(&mut self, per_second: u32, now: Duration) -> bool {
        let elapsed = now.saturating_sub(self.filled);
        let millis = u64::try_from(elapsed.as_millis())
            .unwrap_or(u64::MAX)
            .min(1000);
        if millis > 0 {
            let full = u64::from(per_second) * 1000;
            self.millitokens = (self.millitokens + millis * u64::from(per_second)).min(full);
            // The part of a millisecond stays for the next time.
            self.filled = match elapsed > Duration::from_secs(1) {
                true => now,
                false => self.filled + Duration::from_millis(millis),
            };
        }
        match self.millitokens.checked_sub(1000) {
            Some(rest) => {
                self.millitokens = rest;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Over any stretch of time, at most a burst plus the rate passes, and no less than the rate.
    #[test]
    fn the_bucket_keeps_its_rate() {
        for step in [1u64, 7, 150, 999, 5000] {
            let mut bucket = Bucket::full(100, Duration::ZERO);
            let (mut passed, mut now) = (0u64, Duration::ZERO);
            while now < Duration::from_secs(20) {
                for _ in 0..200 {
                    passed += u64::from(bucket.take(100, now));
                }
                now += Duration::from_micros(step * 1000 + 300);
            }
            assert!(passed <= 100 + 20 * 100, "{step}: {passed}");
            if step < 1000 {
                assert!(passed >= 19 * 100, "{step}: {passed}");
            }
        }
    }

    #[test]
    fn a_rate_of_zero_sends_nothing() {
        let mut bucket = Bucket::full(0, Duration::ZERO);
        assert!(!bucket.take(0, Duration::from_secs(100)));
    }
}
