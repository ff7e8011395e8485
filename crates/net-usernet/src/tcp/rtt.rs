//! Round-trip time and retransmission time-out (RFC 6298).

use core::time::Duration;

const INITIAL: Duration = Duration::from_secs(1);
/// RFC 6298 says one second; every system in use has 200 ms, which is far above the delay of an
/// ACK from a guest that runs.
const MIN: Duration = Duration::from_millis(200);
const MAX: Duration = Duration::from_secs(60);

/// The estimate of one flow.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct RoundTrip {
    /// Smoothed round-trip time; `None` before the first measurement.
    smoothed: Option<Duration>,
    variation: Duration,
    /// Times the time-out has doubled since the last progress.
    backoff: u8,
}

impl RoundTrip {
    /// Takes one measurement of a segment that was sent once (Karn's rule is the caller's).
    pub(super) fn sample(&mut self, rtt: Duration) {
        match self.smoothed {
            None => {
                self.smoothed = Some(rtt);
                self.variation = rtt / 2;
            }
            Some(smoothed) => {
                self.variation = self.variation * 3 / 4 + smoothed.abs_diff(rtt) / 4;
                self.smoothed = Some(smoothed * 7 / 8 + rtt / 8);
            }
        }
    }

    /// The time-out, with its doublings.
    pub(super) fn timeout(&self) -> Duration {
        let base = match self.smoothed {
            None => INITIAL,
            Some(smoothed) => (smoothed + self.variation * 4).clamp(MIN, MAX),
        };
        base.saturating_mul(1 << self.backoff.min(16)).min(MAX)
    }

    /// Doubles the time-out.
    pub(super) fn back_off(&mut self) {
        self.backoff = self.backoff.saturating_add(1);
    }

    /// Progress was made.
    pub(super) fn reset_backoff(&mut self) {
        self.backoff = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc6298_section_2_example_values() {
        let mut rtt = RoundTrip::default();
        assert_eq!(rtt.timeout(), Duration::from_secs(1));
        rtt.sample(Duration::from_millis(400));
        // SRTT = R, RTTVAR = R/2, RTO = SRTT + 4 * RTTVAR.
        assert_eq!(rtt.timeout(), Duration::from_millis(1200));
        rtt.sample(Duration::from_millis(400));
        assert_eq!(rtt.timeout(), Duration::from_millis(400 + 4 * 150));
    }

    #[test]
    fn doubles_up_to_a_minute_and_comes_back() {
        let mut rtt = RoundTrip::default();
        rtt.sample(Duration::from_micros(50));
        assert_eq!(rtt.timeout(), Duration::from_millis(200));
        rtt.back_off();
        assert_eq!(rtt.timeout(), Duration::from_millis(400));
        for _ in 0..300 {
            rtt.back_off();
        }
        assert_eq!(rtt.timeout(), Duration::from_secs(60));
        rtt.reset_backoff();
        assert_eq!(rtt.timeout(), Duration::from_millis(200));
    }
}
