//! Waiting without a clock: an alarm that learns the time when it is told, and the patience with a
//! host that has no buffer.

use std::time::Duration;

/// An alarm some time after the next [`Timer::on_deadline`].
///
/// Whoever sets it does not know what time it is. So it first asks to be told, by a deadline that
/// has passed already, and counts from there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Timer {
    #[default]
    Off,
    Ask,
    At(Duration),
}

impl Timer {
    pub(crate) fn deadline(self) -> Option<Duration> {
        match self {
            Self::Off => None,
            Self::Ask => Some(Duration::ZERO),
            Self::At(due) => Some(due),
        }
    }

    /// Takes the time; true if the alarm, set `after` the time was first told, has come.
    pub(crate) fn on_deadline(&mut self, now: Duration, after: Duration) -> bool {
        match *self {
            Self::Ask => *self = Self::At(now.saturating_add(after)),
            Self::At(due) if now >= due => {
                *self = Self::Off;
                return true;
            }
            Self::Off | Self::At(_) => {}
        }
        false
    }
}

/// How long a host without buffers (ENOBUFS) is waited for.
const WAIT: Duration = Duration::from_micros(50);

/// How often it is waited for before frames are dropped.
const WAITS: u8 = 10;

/// What to do about a frame that the host has no buffer for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refused {
    /// Try again after the deadline.
    Wait,
    /// Drop it, and those after it, until one is accepted.
    Drop,
}

/// The patience with a host that has no buffer: 50 us, ten times, then frames are dropped until
/// one is accepted. macOS says ENOBUFS where Linux says "would block", and gives no sign when
/// there is room again; waiting forever would let one stuck peer stop everything.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Backoff {
    timer: Timer,
    waited: u8,
}

impl Backoff {
    pub(crate) fn refused(&mut self) -> Refused {
        if self.waited >= WAITS {
            return Refused::Drop;
        }
        self.waited += 1;
        self.timer = Timer::Ask;
        Refused::Wait
    }

    /// A frame was accepted.
    pub(crate) fn accepted(&mut self) {
        *self = Self::default();
    }

    /// Whether it is too early to try again.
    pub(crate) fn is_waiting(&self) -> bool {
        self.timer != Timer::Off
    }

    pub(crate) fn deadline(&self) -> Option<Duration> {
        self.timer.deadline()
    }

    pub(crate) fn on_deadline(&mut self, now: Duration) {
        self.timer.on_deadline(now, WAIT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_waits_of_50_us_then_drops_until_one_is_accepted() {
        let mut backoff = Backoff::default();
        let mut now = Duration::from_secs(1000);
        for _ in 0..3 {
            for wait in 0..10 {
                assert!(!backoff.is_waiting(), "wait {wait}");
                assert_eq!(backoff.refused(), Refused::Wait);
                assert_eq!(backoff.deadline(), Some(Duration::ZERO));
                backoff.on_deadline(now);
                assert_eq!(backoff.deadline(), Some(now + WAIT));
                now += WAIT - Duration::from_nanos(1);
                backoff.on_deadline(now);
                assert!(backoff.is_waiting(), "too early");
                now += Duration::from_nanos(1);
                backoff.on_deadline(now);
            }
            assert_eq!(backoff.refused(), Refused::Drop);
            assert_eq!(backoff.refused(), Refused::Drop);
            assert_eq!(backoff.deadline(), None);
            backoff.accepted();
        }
    }
}
