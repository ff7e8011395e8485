//! Who is told of what.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::queue::Interrupt;
use crate::vhost_user::sys;

/// The call and the error descriptor of a ring, either of which may be replaced while the ring runs.
#[derive(Debug, Default)]
pub(super) struct Calls {
    call: Mutex<Option<OwnedFd>>,
    error: Mutex<Option<OwnedFd>>,
    failures: Arc<AtomicU64>,
}

impl Calls {
    /// Nobody, so far. Whoever cannot be told is counted in `failures`.
    pub(super) fn new(failures: &Arc<AtomicU64>) -> Arc<Self> {
        Arc::new(Self {
            failures: Arc::clone(failures),
            ..Self::default()
        })
    }

    /// Sets who hears of buffers given back, some of which may be unheard.
    pub(super) fn set_call(&self, fd: Option<OwnedFd>) {
        *self.call.lock().unwrap_or_else(PoisonError::into_inner) = fd;
        self.ring(&self.call);
    }

    pub(super) fn set_error(&self, fd: Option<OwnedFd>) {
        *self.error.lock().unwrap_or_else(PoisonError::into_inner) = fd;
    }

    fn ring(&self, which: &Mutex<Option<OwnedFd>>) {
        let fd = which.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(fd) = fd.as_ref()
            && sys::ring(fd).is_err()
        {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
    }
}

pub(super) struct Caller(pub(super) Arc<Calls>);

impl Interrupt for Caller {
    fn signal(&self) {
        self.0.ring(&self.0.call);
    }

    fn broken(&self) {
        self.0.ring(&self.0.error);
    }
}
