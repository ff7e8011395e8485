//! Sockets that have more to give than could be taken.
//!
//! Readiness events are edges: a socket that is left before it is empty must be remembered, or
//! nobody will look at it again.

use std::collections::{BTreeMap, VecDeque};

use crate::PortId;

/// Sockets to come back to: soon, or when a guest has room again.
#[derive(Debug)]
pub(crate) struct Waiting<T> {
    backlog: VecDeque<T>,
    blocked: BTreeMap<PortId, Vec<T>>,
}

impl<T: PartialEq> Waiting<T> {
    pub(crate) fn new() -> Self {
        Self {
            backlog: VecDeque::new(),
            blocked: BTreeMap::new(),
        }
    }

    /// Others come first, then `item` again.
    pub(crate) fn later(&mut self, item: T) {
        self.backlog.push_back(item);
    }

    /// `item` waits for room in the queue of the guest at `port`.
    pub(crate) fn block(&mut self, port: PortId, item: T) {
        self.blocked.entry(port).or_default().push(item);
    }

    /// Whether somebody is to be looked at at once.
    pub(crate) fn has_backlog(&self) -> bool {
        !self.backlog.is_empty()
    }

    /// Everybody that had to wait for others.
    pub(crate) fn take_backlog(&mut self) -> VecDeque<T> {
        core::mem::take(&mut self.backlog)
    }

    /// Everybody that waits for the guest at `port`.
    pub(crate) fn take_blocked(&mut self, port: PortId) -> Vec<T> {
        self.blocked.remove(&port).unwrap_or_default()
    }

    /// `item` is gone.
    pub(crate) fn forget(&mut self, port: PortId, item: &T) {
        self.backlog.retain(|other| other != item);
        if let Some(blocked) = self.blocked.get_mut(&port) {
            blocked.retain(|other| other != item);
        }
    }
}
