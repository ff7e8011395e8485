//! Telling an interface that is gone from one that is unwell for a while.
//!
//! A Mac that wakes up, a cable that is out, an interface that loses its network: the framework
//! says `VMNET_FAILURE` to all of it, and to what never ends. So a failure makes the interface wait
//! and try again, and only one that has failed [`PATIENCE`] times on end is given up.

use std::time::Duration;

use net_backend::BackendError;
use std::io;

use crate::Status;
use crate::status::Meaning;

/// Between two tries, while it is unwell.
pub(crate) const RECOVERY: Duration = Duration::from_millis(100);
/// Tries on end that may fail: five seconds of them.
pub(crate) const PATIENCE: u32 = 50;

/// How an interface does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Health {
    failures: u32,
    gone: bool,
}

/// What follows from a refusal.
#[derive(Debug)]
pub(crate) enum Then {
    /// Wait for [`RECOVERY`] and try again.
    Wait,
    /// It is over; this is what to say, once.
    End(BackendError),
}

impl Health {
    /// Whether it is over.
    pub(crate) const fn is_gone(self) -> bool {
        self.gone
    }

    /// A call succeeded; whether the interface had been unwell.
    pub(crate) fn succeeded(&mut self) -> bool {
        std::mem::take(&mut self.failures) > 0
    }

    /// A call was refused, and not for want of room or because of a packet.
    pub(crate) fn refused(&mut self, what: &'static str, status: Status) -> Then {
        if status.meaning() != Meaning::Gone && self.failures < PATIENCE {
            self.failures += 1;
            return Then::Wait;
        }
        self.gone = true;
        Then::End(match status {
            // Stopped, or its network is gone: nobody refused anything.
            Status::SetupIncomplete => BackendError::Disconnected,
            other => BackendError::host(what, &io::Error::from_raw_os_error(other.errno())),
        })
    }
}
