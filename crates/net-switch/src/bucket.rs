//! A token bucket in the caller's time.

use core::time::Duration;

use crate::Limit;

/// What is left of a [`Limit`].
#[derive(Debug, Clone)]
pub(crate) struct TokenBucket {
    limit: Limit,
    /// Tokens times a million, so that a microsecond's refill is not lost.
    level: u64,
    at: Duration,
}

impl TokenBucket {
    /// A full bucket.
    pub(crate) fn new(limit: Limit) -> Self {
        Self {
            limit,
            level: u64::from(limit.burst) * 1_000_000,
            at: Duration::ZERO,
        }
    }

    /// Takes a token if there is one.
    pub(crate) fn take(&mut self, now: Duration) -> bool {
        let passed = u64::try_from(now.saturating_sub(self.at).as_micros()).unwrap_or(u64::MAX);
        self.at = self.at.max(now);
        let full = u64::from(self.limit.burst) * 1_000_000;
        self.level = passed
            .saturating_mul(u64::from(self.limit.rate))
            .saturating_add(self.level)
            .min(full);
        let taken = self.level >= 1_000_000;
        if taken {
            self.level -= 1_000_000;
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_the_rate_and_the_burst() {
        let mut bucket = TokenBucket::new(Limit::per_second(10));
        let mut taken = |range: core::ops::Range<u64>| {
            range
                .filter(|ms| bucket.take(Duration::from_millis(*ms)))
                .count()
        };
        assert_eq!(taken(0..1), 1);
        assert_eq!(taken(1..1001), 19, "nine of the burst and ten more");
        assert_eq!(taken(3_600_000..3_600_001), 1);
        assert!(!TokenBucket::new(Limit::per_second(0)).take(Duration::MAX));
    }

    #[test]
    fn rate_and_burst_are_apart() {
        let limit = Limit { rate: 10, burst: 3 };
        let mut bucket = TokenBucket::new(limit);
        let mut taken = |times: core::ops::Range<u64>| {
            times
                .filter(|ms| bucket.take(Duration::from_millis(*ms)))
                .count()
        };
        assert_eq!(taken(0..100), 3, "the burst");
        assert_eq!(taken(100..1100), 10, "the rate");
        assert_eq!(taken(60_000..60_001), 1);
        let mut off = TokenBucket::new(Limit::OFF);
        assert!((0..10_000).all(|_| off.take(Duration::ZERO)));
    }

    #[test]
    fn time_that_goes_back_is_not_paid_for_twice() {
        let mut bucket = TokenBucket::new(Limit { rate: 10, burst: 1 });
        let mut take = |ms| bucket.take(Duration::from_millis(ms));
        assert_eq!(
            [take(10_000), take(5000), take(10_050)],
            [true, false, false]
        );
        assert!(take(10_100));
    }
}
