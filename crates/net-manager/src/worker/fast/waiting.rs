//! Packets that wait until it is known who answers to their next hop: few, and not for long.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use net_datapath::{PacketBuf, VirtioNetHdr};

use super::PortId;

/// Packets that wait at a time, of all ports together and of one, and for one hop.
const MAX: usize = 256;
const MAX_OF_PORT: usize = 64;
const MAX_FOR_HOP: usize = 16;
/// How long one waits: longer than an address is asked for, so that whoever waits in vain is told.
const PATIENCE: Duration = Duration::from_secs(5);

/// A packet.
#[derive(Debug)]
pub(super) struct Waiter {
    /// Whose address is awaited.
    pub(super) hop: IpAddr,
    /// Where it came from.
    pub(super) from: PortId,
    pub(super) header: VirtioNetHdr,
    /// The whole frame.
    pub(super) frame: PacketBuf,
    until: Duration,
}

/// The packets, oldest first.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    queue: VecDeque<Waiter>,
}

impl Waiting {
    /// Whether there is room for one more.
    pub(super) fn has_room(&self, hop: IpAddr, from: PortId) -> bool {
        let count = |of: &dyn Fn(&Waiter) -> bool| self.queue.iter().filter(|it| of(it)).count();
        self.queue.len() < MAX
            && count(&|it| it.from == from) < MAX_OF_PORT
            && count(&|it| it.hop == hop) < MAX_FOR_HOP
    }

    /// Keeps a packet, for which there was room.
    pub(super) fn push(
        &mut self,
        hop: IpAddr,
        from: PortId,
        header: VirtioNetHdr,
        frame: PacketBuf,
        now: Duration,
    ) {
        self.queue.push_back(Waiter {
            hop,
            from,
            header,
            frame,
            until: now + PATIENCE,
        });
    }

    /// Takes those out, in their order, whose hop `is_ready`.
    pub(super) fn take(&mut self, mut is_ready: impl FnMut(IpAddr) -> bool) -> Vec<Waiter> {
        let mut taken = Vec::new();
        for _ in 0..self.queue.len() {
            if let Some(waiter) = self.queue.pop_front() {
                if is_ready(waiter.hop) {
                    taken.push(waiter);
                } else {
                    self.queue.push_back(waiter);
                }
            }
        }
        taken
    }

    /// Drops those that have waited long enough.
    pub(super) fn expire(&mut self, now: Duration) {
        while self.queue.front().is_some_and(|it| it.until <= now) {
            self.queue.pop_front();
        }
    }

    /// When [`Self::expire`] has something to do.
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        self.queue.front().map(|it| it.until)
    }

    /// Whether nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Drops what came from a port.
    pub(super) fn forget(&mut self, from: PortId) {
        self.queue.retain(|it| it.from != from);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use net_datapath::{PacketPool, PoolConfig};

    use super::*;

    fn ip(last: u8) -> IpAddr {
        Ipv4Addr::new(198, 51, 100, last).into()
    }

    #[test]
    fn bounded_by_hop_by_port_and_by_time_and_in_order() {
        let pool = PacketPool::new(PoolConfig {
            buffers: 512,
            buffer_size: 64,
            headroom: 0,
        })
        .unwrap();
        let mut waiting = Waiting::default();
        let put = |waiting: &mut Waiting, hop, from, at| {
            let room = waiting.has_room(hop, from);
            if room {
                let frame = pool.alloc().unwrap();
                waiting.push(hop, from, VirtioNetHdr::PLAIN, frame, at);
            }
            room
        };
        let at = Duration::from_millis;
        let kept = (0..100)
            .filter(|n| put(&mut waiting, ip(1), 1, at(*n)))
            .count();
        assert_eq!(kept, MAX_FOR_HOP);
        let kept = (0..100)
            .filter(|n| put(&mut waiting, ip(*n as u8 + 2), 1, at(100)))
            .count();
        assert_eq!(kept, MAX_OF_PORT - MAX_FOR_HOP);
        let kept = (0..1000u32).filter(|n| put(&mut waiting, ip(*n as u8), n / 8 + 2, at(100)));
        assert_eq!(kept.count(), MAX - MAX_OF_PORT);

        let taken = waiting.take(|hop| hop == ip(1));
        assert!(taken.len() >= MAX_FOR_HOP);
        assert!(taken.windows(2).all(|two| two[0].until <= two[1].until));
        assert_eq!(waiting.next_deadline(), Some(at(100) + PATIENCE));
        waiting.forget(1);
        assert!(waiting.queue.iter().all(|it| it.from != 1));
        waiting.expire(at(99) + PATIENCE);
        assert!(!waiting.is_empty());
        waiting.expire(at(100) + PATIENCE);
        assert!(waiting.is_empty());
    }
}
