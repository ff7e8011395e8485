//! [`Vmnet`] as a [`NetworkBackend`].

use std::os::fd::BorrowedFd;
use std::time::Duration;

use net_backend::{BackendError, BackendStats, Capabilities, NetworkBackend, Offloads, TxFrame};
use net_datapath::ZeroCopyPacket;

use crate::health::{RECOVERY, Then};
use crate::status::Meaning;
use crate::tx::Sent;
use crate::{Status, Vmnet};

/// How long to wait for room.
const FULL: Duration = Duration::from_micros(200);

impl Vmnet {
    /// Notes what was refused; an error if it is over.
    fn refused(&mut self, what: &'static str, status: Status) -> Result<(), BackendError> {
        match self.health.refused(what, status) {
            Then::Wait => {
                self.rx_pause.start(RECOVERY);
                self.tx_pause.start(RECOVERY);
                Ok(())
            }
            Then::End(error) => {
                self.stats.disconnects += 1;
                Err(error)
            }
        }
    }

    /// Notes that the interface works.
    fn succeeded(&mut self) {
        // What was unwell may have lost its events, and with them those of packets that wait.
        if self.health.succeeded() && self.session.watch() == crate::status::SUCCESS {
            self.session.wake().wake();
        }
    }

    /// Reads up to `most` packets; false if there are none now.
    fn fill(&mut self, most: usize) -> Result<bool, BackendError> {
        const WHAT: &str = "read from the vmnet interface";
        loop {
            let Some(interface) = self.session.interface() else {
                return Err(BackendError::Disconnected);
            };
            let count = most.min(self.read_packets);
            self.receiver.prepare();
            self.stats.rx_calls += 1;
            let moved = interface.read(&mut self.receiver.slots, count);
            let status = match Status::check(moved.status) {
                Ok(()) => {
                    self.receiver.filled(moved.packets.min(count));
                    self.succeeded();
                    return Ok(!self.receiver.is_empty());
                }
                Err(status) => status,
            };
            match status.meaning() {
                Meaning::Fewer if self.read_packets > 1 => self.read_packets /= 2,
                // Nothing of ours is in the way: the packets stay where they are until later.
                Meaning::Full => {
                    self.rx_pause.start(FULL);
                    return Ok(false);
                }
                _ => return self.refused(WHAT, status).map(|()| false),
            }
        }
    }

    fn alive(&self) -> Result<(), BackendError> {
        if self.is_running() {
            Ok(())
        } else {
            Err(BackendError::Disconnected)
        }
    }
}

impl NetworkBackend for Vmnet {
    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn set_offloads(&mut self, want: Offloads) -> Result<Offloads, BackendError> {
        // The framework takes its offloads at the start; what is not agreed to is finished here.
        self.agreed = Offloads::negotiate(want, self.capabilities.offloads);
        Ok(self.agreed)
    }

    fn receive(
        &mut self,
        budget: usize,
        sink: &mut dyn FnMut(&mut [ZeroCopyPacket<'_>]),
    ) -> Result<usize, BackendError> {
        if self.receiver.is_empty() {
            self.alive()?;
        }
        // Before anything is read, so that what comes meanwhile is announced again.
        self.session.wake().drain();
        let mut lent = 0;
        while lent < budget {
            if self.receiver.is_empty() {
                if self.rx_pause.deadline().is_some() {
                    break;
                }
                match self.fill(budget - lent) {
                    Ok(true) => {}
                    Ok(false) => break,
                    // The next call tells.
                    Err(_) if lent > 0 => break,
                    Err(error) => return Err(error),
                }
            }
            lent += self
                .receiver
                .lend(budget - lent, self.agreed, &mut self.stats, sink);
        }
        Ok(lent)
    }

    fn transmit(&mut self, frames: &[TxFrame<'_>]) -> Result<usize, BackendError> {
        self.alive()?;
        if self.tx_pause.deadline().is_some() && !frames.is_empty() {
            self.stats.tx_blocked += 1;
            return Ok(0);
        }
        let Some(interface) = self.session.interface() else {
            return Err(BackendError::Disconnected);
        };
        let before = self.stats.tx_frames;
        let (taken, sent) = self
            .sender
            .send(interface, frames, self.agreed, &mut self.stats);
        match sent {
            Sent::All if self.stats.tx_frames > before => self.succeeded(),
            // Everything there was has been dropped, and the framework not been asked.
            Sent::All => {}
            Sent::Full => {
                self.stats.tx_blocked += 1;
                self.tx_pause.start(FULL);
            }
            Sent::Refused(status) => match self.refused("write to the vmnet interface", status) {
                Ok(()) => self.stats.tx_blocked += 1,
                // The next call tells.
                Err(_) if taken > 0 => {}
                Err(error) => return Err(error),
            },
        }
        Ok(taken)
    }

    fn flush(&mut self) -> Result<bool, BackendError> {
        self.alive()?;
        // A frame is written whole or not at all.
        Ok(true)
    }

    fn wants_write(&self) -> bool {
        // The descriptor is always writable and says nothing; the deadline does.
        false
    }

    fn source(&self) -> Option<BorrowedFd<'_>> {
        Some(self.session.wake().source())
    }

    fn next_deadline(&self) -> Option<Duration> {
        let pauses = [self.rx_pause.deadline(), self.tx_pause.deadline()];
        pauses.into_iter().flatten().min()
    }

    fn on_deadline(&mut self, now: Duration) {
        self.tx_pause.on_deadline(now);
        if self.rx_pause.on_deadline(now) {
            // Whoever waits for the descriptor reads again.
            self.session.wake().wake();
        }
    }

    fn statistics(&self) -> BackendStats {
        self.stats
    }
}
