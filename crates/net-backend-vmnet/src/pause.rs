//! Waiting without a clock: the framework tells nobody when it has room again, or is well again.

use std::time::Duration;

/// A pause. Whoever starts it does not know what time it is: it first asks to be told, by a
/// deadline that has passed already, and counts from there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Pause {
    #[default]
    Off,
    Ask(Duration),
    At(Duration),
}

impl Pause {
    /// Starts a pause of this length, unless one is running.
    pub(crate) fn start(&mut self, wait: Duration) {
        if *self == Self::Off {
            *self = Self::Ask(wait);
        }
    }

    pub(crate) const fn deadline(self) -> Option<Duration> {
        match self {
            Self::Off => None,
            Self::Ask(_) => Some(Duration::ZERO),
            Self::At(due) => Some(due),
        }
    }

    /// Tells the time; whether the pause has ended with it.
    pub(crate) fn on_deadline(&mut self, now: Duration) -> bool {
        match *self {
            Self::Ask(wait) => *self = Self::At(now.saturating_add(wait)),
            Self::At(due) if now >= due => {
                *self = Self::Off;
                return true;
            }
            Self::Off | Self::At(_) => {}
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_counts_from_when_it_is_told_the_time() {
        const WAIT: Duration = Duration::from_micros(200);
        let mut pause = Pause::default();
        assert_eq!(pause.deadline(), None);
        assert!(!pause.on_deadline(Duration::from_secs(4)));
        assert_eq!(pause.deadline(), None);

        pause.start(WAIT);
        assert_eq!(pause.deadline(), Some(Duration::ZERO));
        let now = Duration::from_secs(5);
        assert!(!pause.on_deadline(now));
        assert_eq!(pause.deadline(), Some(now + WAIT));
        // Refused again meanwhile: the end does not move.
        pause.start(WAIT);
        assert_eq!(pause.deadline(), Some(now + WAIT));
        assert!(!pause.on_deadline(now + WAIT - Duration::from_nanos(1)));
        assert_eq!(pause.deadline(), Some(now + WAIT));
        assert!(pause.on_deadline(now + WAIT));
        assert_eq!(pause.deadline(), None);
    }
}
