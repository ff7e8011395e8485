//! SYNs from the outside that nobody inside has asked for (RFC 5382, REQ-4).
//!
//! They are answered by silence for some seconds: if the inside opens the same connection in that
//! time, both ends have opened at once, as peers do to get through their NATs, and the first SYN is
//! as good as lost. Only then does its sender hear that nobody is there.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

use super::Nat;
use super::common::Common;
use crate::address::{Address, Endpoint};
use crate::family::Family;
use crate::icmp::ErrorKind;
use crate::packet::IpPacket;
use crate::verdict::Side;

struct Waiting<A> {
    due: Duration,
    outside: Endpoint<A>,
    remote: Endpoint<A>,
    packet: Vec<u8>,
}

/// SYNs that wait, the oldest first.
pub(crate) struct Unsolicited<A> {
    queue: VecDeque<Waiting<A>>,
    limit: usize,
}

/// A SYN is not longer, but for data that would not be quoted anyway.
const LONGEST: usize = 256;

impl<A: Address> Unsolicited<A> {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            queue: VecDeque::new(),
            limit,
        }
    }

    /// Notes a SYN. When too many wait, it is forgotten: silence is always allowed.
    pub(super) fn wait<P: IpPacket + ?Sized>(
        &mut self,
        outside: Endpoint<A>,
        remote: Endpoint<A>,
        packet: &P,
        due: Duration,
    ) {
        let again = |w: &Waiting<A>| w.outside == outside && w.remote == remote;
        if self.queue.len() >= self.limit
            || packet.total_len() > LONGEST
            || self.queue.iter().any(again)
        {
            return;
        }
        let mut copy = Vec::new();
        packet.copy_to(&mut copy);
        self.queue.push_back(Waiting {
            due,
            outside,
            remote,
            packet: copy,
        });
    }

    /// The inside has opened this connection.
    pub(super) fn forget(&mut self, outside: Endpoint<A>, remote: Endpoint<A>) {
        if !self.queue.is_empty() {
            self.queue
                .retain(|w| w.outside != outside || w.remote != remote);
        }
    }

    fn due(&mut self, now: Duration) -> Option<Vec<u8>> {
        let first = self.queue.front()?;
        if first.due > now {
            return None;
        }
        self.queue.pop_front().map(|w| w.packet)
    }

    /// When the next answer is due.
    pub(crate) fn next(&self) -> Option<Duration> {
        self.queue.front().map(|w| w.due)
    }
}

impl<F: Family> Nat<F> {
    /// Answers the SYNs whose time is over.
    pub(crate) fn answer_unsolicited(&mut self, common: &mut Common) {
        while let Some(packet) = self.unsolicited.due(common.now) {
            // Not answered when errors are being sent too fast: silence is allowed.
            self.complain_about(common, &packet, Side::Outside, ErrorKind::PortUnreachable);
        }
    }

    /// When [`Self::answer_unsolicited`] next has something to do.
    pub(crate) fn next_answer(&self) -> Option<Duration> {
        self.unsolicited.next()
    }
}
