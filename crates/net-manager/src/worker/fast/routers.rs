//! The default routers that are heard on the uplink (RFC 4861, sections 6.3.4 to 6.3.7; RFC 4191).
//!
//! The table is small, and who is in it stays: a flood of advertisements from made-up routers
//! displaces none that is as good.

use std::net::Ipv6Addr;
use std::time::Duration;

use net_dhcp::ra::{HeardRouter, Preference};

/// Routers at a time.
const MAX_ROUTERS: usize = 8;
/// Between the first two solicitations, and the most that doubling makes of it (RFC 7559, section 2).
const INTERVAL: Duration = Duration::from_secs(4);
const MAX_INTERVAL: Duration = Duration::from_secs(3600);

#[derive(Debug, Clone, Copy)]
struct Router {
    ip: Ipv6Addr,
    preference: Preference,
    expires: Duration,
    /// It did not answer to neighbour discovery since it was last heard.
    silent: bool,
    mtu: Option<u32>,
}

impl Router {
    /// Whoever answers comes first, then whoever wants to (RFC 4191, section 3.2).
    fn rank(&self) -> (bool, u8) {
        let wants = match self.preference {
            Preference::High => 2,
            Preference::Medium => 1,
            Preference::Low => 0,
        };
        (!self.silent, wants)
    }
}

/// The table, and when to ask for routers.
#[derive(Debug, Default)]
pub(super) struct Routers {
    list: Vec<Router>,
    /// When the next solicitation is due, and how long after it the one behind it.
    soliciting: Option<(Duration, Duration)>,
    /// When the last one was due: a router that comes and goes is no reason for more.
    solicited: Option<Duration>,
}

impl Routers {
    /// Forgets all, and asks for none.
    pub(super) fn clear(&mut self) {
        self.list.clear();
        self.soliciting = None;
    }

    /// Takes what `ip` advertises.
    pub(super) fn hear(&mut self, ip: Ipv6Addr, heard: HeardRouter, now: Duration) {
        if heard.lifetime.is_zero() {
            return self.forget(ip, now);
        }
        self.soliciting = None;
        let router = Router {
            ip,
            preference: heard.preference,
            expires: now + heard.lifetime,
            silent: false,
            mtu: heard.mtu,
        };
        if let Some(known) = self.list.iter_mut().find(|router| router.ip == ip) {
            *known = router;
        } else if self.list.len() < MAX_ROUTERS {
            self.list.push(router);
        } else if let Some(worst) = self
            .list
            .iter_mut()
            .rev()
            .min_by_key(|router| router.rank())
            && worst.rank() < router.rank()
        {
            *worst = router;
        }
    }

    /// The one to send by: of the best, that which was heard first.
    pub(super) fn best(&self) -> Option<Ipv6Addr> {
        Some(self.chosen()?.ip)
    }

    /// The largest packet of the link, in bytes, as that router says.
    pub(super) fn mtu(&self) -> Option<u32> {
        self.chosen()?.mtu
    }

    fn chosen(&self) -> Option<&Router> {
        // `max_by_key` gives the last one of equals.
        self.list.iter().rev().max_by_key(|router| router.rank())
    }

    /// `ip` is no router any more.
    pub(super) fn forget(&mut self, ip: Ipv6Addr, now: Duration) {
        let before = self.list.len();
        self.list.retain(|router| router.ip != ip);
        if self.list.len() < before {
            self.look(now);
        }
    }

    /// Nobody answers to `ip`: others come first until it is heard again.
    pub(super) fn silent(&mut self, ip: Ipv6Addr) {
        self.mark(ip, true);
    }

    /// `ip` answers.
    pub(super) fn speaks(&mut self, ip: Ipv6Addr) {
        self.mark(ip, false);
    }

    fn mark(&mut self, ip: Ipv6Addr, silent: bool) {
        if let Some(router) = self.list.iter_mut().find(|router| router.ip == ip) {
            router.silent = silent;
        }
    }

    /// Asks from `now` on until one is heard, if none is known.
    pub(super) fn look(&mut self, now: Duration) {
        if self.list.is_empty() && self.soliciting.is_none() {
            let earliest = self.solicited.map_or(now, |last| now.max(last + INTERVAL));
            self.soliciting = Some((earliest, INTERVAL));
        }
    }

    /// When [`Self::on_deadline`] has something to do.
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        let ends = self.list.iter().map(|router| router.expires);
        ends.chain(self.soliciting.map(|(at, _)| at)).min()
    }

    /// Forgets who has not been heard for too long; says whether to solicit now.
    pub(super) fn on_deadline(&mut self, now: Duration) -> bool {
        let before = self.list.len();
        self.list.retain(|router| router.expires > now);
        if before > 0 {
            self.look(now);
        }
        let Some((at, interval)) = &mut self.soliciting else {
            return false;
        };
        let due = *at <= now;
        if due {
            self.solicited = Some(now);
            *at = now + *interval;
            *interval = (*interval * 2).min(MAX_INTERVAL);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u16) -> Ipv6Addr {
        Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, last)
    }

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn heard(lifetime: u64, preference: Preference) -> HeardRouter {
        HeardRouter {
            lifetime: seconds(lifetime),
            preference,
            link_address: None,
            mtu: None,
        }
    }

    #[test]
    fn the_best_that_answers_is_taken() {
        use Preference::{High, Low, Medium};
        let mut routers = Routers::default();
        for (last, preference) in [(1, Low), (2, Medium), (3, Medium), (4, High)] {
            routers.hear(ip(last), heard(60, preference), seconds(0));
        }
        for next in [4, 2, 3, 1] {
            assert_eq!(routers.best(), Some(ip(next)));
            routers.silent(ip(next));
        }
        // All are silent: it may be the last answer that got lost.
        assert_eq!(routers.best(), Some(ip(4)));
        routers.speaks(ip(3));
        assert_eq!(routers.best(), Some(ip(3)));
        routers.hear(ip(4), heard(60, High), seconds(1));
        assert_eq!(routers.best(), Some(ip(4)));
        routers.hear(ip(4), heard(0, Medium), seconds(2));
        assert_eq!(routers.best(), Some(ip(3)));
    }

    #[test]
    fn who_is_not_heard_again_goes_and_is_asked_for() {
        let mut routers = Routers::default();
        routers.look(seconds(1));
        let mut sent = Vec::new();
        for second in 1..64 {
            if routers.on_deadline(seconds(second)) {
                sent.push(second);
            }
        }
        assert_eq!(sent, [1, 5, 13, 29, 61]);
        routers.hear(ip(1), heard(30, Preference::Medium), seconds(70));
        assert_eq!(routers.next_deadline(), Some(seconds(100)));
        assert!(!routers.on_deadline(seconds(99)));
        assert_eq!(routers.best(), Some(ip(1)));
        assert!(routers.on_deadline(seconds(100)));
        assert_eq!(routers.best(), None);
        assert_eq!(routers.next_deadline(), Some(seconds(104)));
        for hours in 1..10 {
            routers.on_deadline(seconds(hours * 3600));
        }
        let (_, interval) = routers.soliciting.unwrap();
        assert_eq!(interval, MAX_INTERVAL);
    }

    #[test]
    fn a_router_that_comes_and_goes_is_asked_for_every_four_seconds() {
        let mut routers = Routers::default();
        routers.look(seconds(0));
        let sent = (0..400u64).filter(|tenths| {
            let now = Duration::from_millis(tenths * 100);
            routers.hear(ip(1), heard(60, Preference::Medium), now);
            routers.hear(ip(1), heard(0, Preference::Medium), now);
            routers.on_deadline(now)
        });
        assert_eq!(sent.count(), 10);
    }

    #[test]
    fn made_up_routers_displace_none_that_is_as_good() {
        let mut routers = Routers::default();
        for last in 0..1000 {
            routers.hear(ip(last), heard(9000, Preference::Medium), seconds(0));
        }
        assert_eq!(routers.list.len(), MAX_ROUTERS);
        assert_eq!(routers.best(), Some(ip(0)));
        routers.hear(ip(2000), heard(9000, Preference::High), seconds(0));
        assert_eq!(routers.list.len(), MAX_ROUTERS);
        assert_eq!(routers.best(), Some(ip(2000)));
        assert_eq!(routers.list[0].ip, ip(0));
    }
}
