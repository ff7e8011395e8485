//! A token bucket in simulated time.

use core::time::Duration;

const SECOND: u64 = 1_000_000_000;
/// Time ends here, 292 years after its start: room for a full bucket's worth behind it.
const END: u64 = u64::MAX >> 1;

/// Lets `rate` events a second through, and bursts of `burst`.
///
/// Kept as one instant, the one at which the bucket would be full if nothing more were taken (the
/// "generic cell rate algorithm"): every event moves it on by the time one token takes to drip in.
/// That time is rounded up to whole nanoseconds, so the rate is never exceeded and missed by at
/// most a `rate`/10^9 part of it.
///
/// A step back of the clock costs little and gives nothing: the bucket then counts as no emptier
/// than empty, and fills from the new time on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TokenBucket {
    /// When the bucket is full, in nanoseconds.
    full_at: u64,
    /// Nanoseconds for one token.
    interval: u32,
    /// Tokens of a full bucket.
    burst: u32,
}

const _: () = assert!(size_of::<TokenBucket>() <= 16);

impl TokenBucket {
    /// A full bucket. A rate above 10^9 counts as that; with a rate or a burst of 0 nothing passes.
    pub(crate) const fn new(rate: u32, burst: u32) -> Self {
        let (interval, burst) = match rate {
            0 => (0, 0),
            _ => (SECOND.div_ceil(rate as u64) as u32, burst),
        };
        Self {
            full_at: 0,
            interval,
            burst,
        }
    }

    /// Takes a token if there is one.
    pub(crate) fn take(&mut self, now: Duration) -> bool {
        let seconds = now.as_secs().saturating_mul(SECOND);
        let now = seconds.saturating_add(now.subsec_nanos().into()).min(END);
        // Both factors are below 2^32 and the interval at most 10^9: below 2^62.
        let interval = u64::from(self.interval);
        let capacity = u64::from(self.burst) * interval;
        self.full_at = self.full_at.clamp(now, now + capacity);
        let missing = self.full_at - now;
        if self.burst == 0 || missing > capacity - interval {
            return false;
        }
        self.full_at += interval;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn taken(bucket: &mut TokenBucket, at: impl Iterator<Item = Duration>) -> usize {
        at.filter(|now| bucket.take(*now)).count()
    }

    #[test]
    fn holds_the_rate_and_the_burst() {
        let ms = Duration::from_millis;
        let mut bucket = TokenBucket::new(10, 3);
        assert_eq!(taken(&mut bucket, (0..9).map(|_| ms(0))), 3);
        assert_eq!(taken(&mut bucket, (1..=1000).map(ms)), 10);
        assert_eq!(taken(&mut bucket, (0..9).map(|_| ms(3_600_000))), 3);
    }

    #[test]
    fn a_rate_that_divides_no_second_is_kept_closely() {
        for rate in [3, 7, 999, 300_007] {
            let mut bucket = TokenBucket::new(rate, 1);
            let calls = u64::from(rate) * 20;
            let times = (0..calls).map(|i| Duration::from_nanos(i * 10 * SECOND / calls));
            let got = taken(&mut bucket, times) as u64;
            // Polled twice per token: some fall between, none come early.
            let most = u64::from(rate) * 10 + 1;
            assert!(got <= most && got * 2 >= most, "{got} of {most}");
        }
    }

    #[test]
    fn a_rate_near_one_a_nanosecond_is_not_exceeded() {
        let mut bucket = TokenBucket::new(700_000_000, 1);
        let got = taken(&mut bucket, (0..1000).map(Duration::from_nanos));
        assert!((500..=701).contains(&got), "{got}");
    }

    #[test]
    fn nothing_passes_at_rate_or_burst_zero() {
        for mut bucket in [TokenBucket::new(0, 9), TokenBucket::new(9, 0)] {
            let times = [0, 1, u64::MAX].map(Duration::from_secs);
            assert_eq!(taken(&mut bucket, times.into_iter()), 0);
        }
    }

    #[test]
    fn a_step_back_gives_nothing_and_stalls_nobody() {
        let hour = Duration::from_secs(3600);
        let mut bucket = TokenBucket::new(10, 3);
        assert_eq!(taken(&mut bucket, [hour; 9].into_iter()), 3);
        assert_eq!(taken(&mut bucket, [Duration::ZERO; 9].into_iter()), 0);
        let later = Duration::from_millis(200);
        assert_eq!(taken(&mut bucket, [later; 9].into_iter()), 2);
    }

    proptest! {
        #[test]
        fn never_more_than_the_burst_and_the_rate(
            rate in prop_oneof![any::<u32>(), 1..1000u32],
            burst in prop_oneof![any::<u32>(), 0..20u32],
            steps in proptest::collection::vec(
                prop_oneof![0..SECOND, 0..1000u64, any::<u64>()], 1..200),
        ) {
            let mut bucket = TokenBucket::new(rate, burst);
            let (mut now, mut got) = (Duration::ZERO, 0u128);
            for step in steps {
                now = now.saturating_add(Duration::from_nanos(step));
                got += u128::from(bucket.take(now));
                let most = u128::from(burst) + now.as_nanos() * u128::from(rate) / u128::from(SECOND);
                prop_assert!(got <= most, "{} > {}", got, most);
            }
        }

        #[test]
        fn any_time_in_any_order_is_survived(
            (rate, burst) in (1..=u32::MAX, 1..=u32::MAX),
            times in proptest::collection::vec((any::<u64>(), 0..1_000_000_000u32), 1..50),
        ) {
            let mut bucket = TokenBucket::new(rate, burst);
            for (seconds, nanos) in times {
                bucket.take(Duration::new(seconds, nanos));
            }
            // Whatever went before, the time a whole bucket takes fills it.
            bucket.take(Duration::ZERO);
            let full = Duration::from_nanos(u64::from(bucket.interval) * u64::from(burst));
            let takes = burst.min(9) as usize;
            prop_assert_eq!(taken(&mut bucket, (0..takes).map(|_| full)), takes);
        }
    }
}
