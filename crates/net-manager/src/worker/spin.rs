//! When the worker asks guests' memory by itself, and when it sleeps.
//!
//! A guest whose queues lie in shared memory can be asked without a system call, which takes some tens of
//! nanoseconds. To be woken by it takes tens of microseconds, and costs the guest a system call of its
//! VMM or an exit from its virtual machine. So after work the worker asks for a while; how long is
//! learned from how long it took until there was work again, as KVM learns how long to poll for a
//! processor that halts: nothing is spent on a guest that sends once in a while.

use std::time::Duration;

use crate::config::Polling;

/// How often everything else is looked at while rings are asked: sockets, commands, deadlines. About ten
/// times what such a look takes.
const LOOK: Duration = Duration::from_micros(5);
/// The shortest window; the first one where asking may be worth it.
const SHORTEST: Duration = Duration::from_micros(10);

/// What the worker does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Everything, once something has happened: rings tell.
    Wait,
    /// Rings need not tell from now on.
    Begin,
    /// Ask rings, and nothing else.
    Rings,
    /// Everything, without waiting.
    All,
    /// Rings have to tell from now on; each is asked once more after it knows.
    End,
}

/// Decides by what was found when.
#[derive(Debug)]
pub(super) struct Spin {
    polling: Polling,
    /// How long to ask after work; zero is not at all.
    window: Duration,
    /// When rings last had something.
    worked: Option<Duration>,
    /// When everything was last looked at.
    looked: Duration,
    /// There is a guest to ask.
    peers: bool,
    is_spinning: bool,
}

impl Spin {
    /// On so many processors. On one whoever asks keeps the guest from answering.
    pub(super) fn new(polling: Polling, processors: usize) -> Self {
        let polling = match polling {
            Polling::UpTo(_) if processors < 2 => Polling::UpTo(Duration::ZERO),
            other => other,
        };
        Self {
            polling,
            window: Duration::ZERO,
            worked: None,
            looked: Duration::ZERO,
            peers: false,
            is_spinning: false,
        }
    }

    /// What to do at `now`.
    pub(super) fn step(&mut self, now: Duration) -> Step {
        let wanted = self.is_wanted(now);
        if wanted != self.is_spinning {
            self.is_spinning = wanted;
            // It came from a look at everything.
            self.looked = now;
            return if wanted { Step::Begin } else { Step::End };
        }
        if !wanted {
            return Step::Wait;
        }
        if now.saturating_sub(self.looked) < LOOK {
            return Step::Rings;
        }
        self.looked = now;
        Step::All
    }

    fn is_wanted(&self, now: Duration) -> bool {
        match (self.polling, self.worked) {
            (Polling::Always, _) => self.peers,
            (_, Some(worked)) => now.saturating_sub(worked) < self.window,
            (_, None) => false,
        }
    }

    /// Rings had something at `now`.
    pub(super) fn found(&mut self, now: Duration) {
        let Polling::UpTo(most) = self.polling else {
            return;
        };
        let gap = self.worked.map(|worked| now.saturating_sub(worked));
        self.worked = Some(now);
        self.window = match gap {
            // Asking as long as that has found it, or would have.
            Some(gap) if gap < self.window => self.window,
            Some(gap) if gap < most => (self.window * 2).max(SHORTEST).min(most),
            // In vain.
            _ if self.window > SHORTEST => self.window / 2,
            _ => Duration::ZERO,
        };
    }

    /// Whether there is a guest to ask.
    pub(super) fn set_peers(&mut self, peers: bool) {
        self.peers = peers;
    }

    /// Whether rings are asked, and do not tell.
    pub(super) fn is_spinning(&self) -> bool {
        self.is_spinning
    }
}
