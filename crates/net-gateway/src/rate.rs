//! A token bucket in simulated time.

use core::time::Duration;

/// Lets `rate` events a second through, and bursts of `burst`.
#[derive(Debug, Clone)]
pub(crate) struct TokenBucket {
    rate: u32,
    burst: u32,
    /// Tokens times a million, so that a microsecond's refill is not lost.
    level: u64,
    at: Duration,
}

impl TokenBucket {
    /// A full bucket.
    pub(crate) fn new(rate: u32, burst: u32) -> Self {
        Self {
            rate,
            burst,
            level: u64::from(burst) * 1_000_000,
            at: Duration::ZERO,
        }
    }

    /// Takes a token if there is one.
    pub(crate) fn take(&mut self, now: Duration) -> bool {
        let passed = now.saturating_sub(self.at).as_micros().min(1 << 40) as u64;
        self.at = self.at.max(now);
        let full = u64::from(self.burst) * 1_000_000;
        self.level = self
            .level
            .saturating_add(passed.saturating_mul(u64::from(self.rate)))
            .min(full);
        if self.level < 1_000_000 {
            return false;
        }
        self.level -= 1_000_000;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_the_rate_and_the_burst() {
        let mut bucket = TokenBucket::new(10, 3);
        let at = |ms| Duration::from_millis(ms);
        assert_eq!((0..9).filter(|_| bucket.take(at(0))).count(), 3);
        assert_eq!((0..1000).filter(|ms| bucket.take(at(*ms))).count(), 9);
        assert_eq!((0..9).filter(|_| bucket.take(at(3_600_000))).count(), 3);
    }
}
