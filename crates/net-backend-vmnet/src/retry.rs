//! When to try again after the framework was full: it tells nobody when there is room.

use std::time::Duration;

/// How long to wait.
const WAIT: Duration = Duration::from_micros(200);

/// A pause of [`WAIT`]. Whoever starts it does not know what time it is: it first asks to be told,
/// by a deadline that has passed already, and counts from there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Retry {
    #[default]
    Off,
    Ask,
    At(Duration),
}

impl Retry {
    /// Starts the pause, unless it is running.
    pub(crate) fn start(&mut self) {
        if *self == Self::Off {
            *self = Self::Ask;
        }
    }

    pub(crate) fn deadline(self) -> Option<Duration> {
        match self {
            Self::Off => None,
            Self::Ask => Some(Duration::ZERO),
            Self::At(due) => Some(due),
        }
    }

    pub(crate) fn on_deadline(&mut self, now: Duration) {
        match *self {
            Self::Ask => *self = Self::At(now.saturating_add(WAIT)),
            Self::At(due) if now >= due => *self = Self::Off,
            Self::Off | Self::At(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_counts_from_when_it_is_told_the_time() {
        let mut retry = Retry::default();
        assert_eq!(retry.deadline(), None);
        retry.on_deadline(Duration::from_secs(4));
        assert_eq!(retry.deadline(), None);

        retry.start();
        assert_eq!(retry.deadline(), Some(Duration::ZERO));
        let now = Duration::from_secs(5);
        retry.on_deadline(now);
        assert_eq!(retry.deadline(), Some(now + WAIT));
        // Refused again meanwhile: the end does not move.
        retry.start();
        assert_eq!(retry.deadline(), Some(now + WAIT));
        retry.on_deadline(now + WAIT - Duration::from_nanos(1));
        assert_eq!(retry.deadline(), Some(now + WAIT));
        retry.on_deadline(now + WAIT);
        assert_eq!(retry.deadline(), None);
    }
}
