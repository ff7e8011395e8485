//! A token bucket in the caller's time.

use core::time::Duration;

/// Lets `rate` frames a second through, and bursts of as many.
#[derive(Debug, Clone)]
pub(crate) struct TokenBucket {
    rate: u32,
    /// Tokens times a million, so that a microsecond's refill is not lost.
    level: u64,
    at: Duration,
}

impl TokenBucket {
    /// A full bucket.
    pub(crate) fn new(rate: u32) -> Self {
        Self {
            rate,
            level: u64::from(rate) * 1_000_000,
            at: Duration::ZERO,
        }
    }

    /// Takes a token if there is one.
    pub(crate) fn take(&mut self, now: Duration) -> bool {
        let passed = u64::try_from(now.saturating_sub(self.at).as_micros()).unwrap_or(u64::MAX);
        self.at = self.at.max(now);
        let full = u64::from(self.rate) * 1_000_000;
        self.level = passed
            .saturating_mul(u64::from(self.rate))
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
        let mut bucket = TokenBucket::new(10);
        let mut taken = |range: core::ops::Range<u64>| {
            range
                .filter(|ms| bucket.take(Duration::from_millis(*ms)))
                .count()
        };
        assert_eq!(taken(0..1), 1);
        assert_eq!(taken(1..1001), 19, "nine of the burst and ten more");
        assert_eq!(taken(3_600_000..3_600_001), 1);
        assert!(!TokenBucket::new(0).take(Duration::MAX));
    }
}
