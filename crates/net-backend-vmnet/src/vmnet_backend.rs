//! [`Vmnet`]: an interface of vmnet.framework as a back end.

use std::fmt;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use net_backend::{
    BackendError, BackendStats, Capabilities, MIN_FRAME, NetworkBackend, Offloads, TxFrame,
};
use net_datapath::{VirtioNetHdr, ZeroCopyPacket};

use crate::handle::{Handle, Written};
use crate::retry::Retry;
use crate::status::{failure, refusal};
use crate::wake::Wake;
use crate::{VmnetConfig, VmnetError};

/// An interface of vmnet.framework.
///
/// Dropping it stops the interface and waits until the framework says that it has stopped.
pub struct Vmnet {
    handle: Handle,
    wake: Arc<Wake>,
    config: VmnetConfig,
    capabilities: Capabilities,
    /// One packet read.
    packet: Box<[u8]>,
    /// One packet gathered, to be written.
    scratch: Box<[u8]>,
    retry: Retry,
    gone: bool,
    stats: BackendStats,
}

impl Vmnet {
    /// Starts an interface. Waits for the framework to answer, so call it while setting up and not
    /// in a loop of events. Needs root or the entitlement `com.apple.vm.networking`.
    ///
    /// # Errors
    /// [`VmnetError::Config`] if the configuration cannot hold; [`VmnetError::Backend`] if the
    /// system refuses the interface.
    pub fn new(config: VmnetConfig) -> Result<Self, VmnetError> {
        config.validate()?;
        let wake = Wake::new()
            .map(Arc::new)
            .map_err(|error| BackendError::host("make a pair of sockets for events", &error))?;
        let mut handle = Handle::start(&config)
            .map_err(|error| refusal("start an interface of vmnet.framework", &error))?;
        handle
            .watch(Arc::clone(&wake))
            .map_err(|error| refusal("ask vmnet.framework for events", &error))?;
        // Packets from before the callback was set are announced by nobody.
        wake.wake();

        let limits = handle.limits();
        let mut stats = BackendStats::default();
        stats.peers = 1;
        Ok(Self {
            capabilities: Capabilities {
                offloads: Offloads::NONE,
                mtu: limits.mtu,
                mac: config.mac().or_else(|| handle.mac()),
                queue_pairs: 1,
                max_frame: limits.max_packet,
            },
            handle,
            wake,
            config,
            packet: vec![0; limits.max_packet].into_boxed_slice(),
            scratch: vec![0; limits.max_packet].into_boxed_slice(),
            retry: Retry::Off,
            gone: false,
            stats,
        })
    }

    /// What the interface was made from.
    pub const fn config(&self) -> &VmnetConfig {
        &self.config
    }

    /// Longest frame in bytes, Ethernet header included, as the framework reported it.
    pub const fn max_packet_size(&self) -> usize {
        self.capabilities.max_frame
    }

    /// Notes the end, if `error` is one.
    fn ended(&mut self, error: BackendError) -> BackendError {
        if matches!(error, BackendError::Disconnected) && !self.gone {
            self.gone = true;
            self.stats.disconnects += 1;
        }
        error
    }

    /// Offers one frame; `Ok(false)`: the framework is full.
    fn send(&mut self, frame: &TxFrame<'_>) -> Result<bool, BackendError> {
        let len = frame.len();
        if !(MIN_FRAME..=self.capabilities.max_frame).contains(&len)
            || !Offloads::NONE.allow_tx(&frame.header)
        {
            self.stats.tx_invalid += 1;
            return Ok(true);
        }
        let mut at = 0;
        for segment in frame.segments {
            let room = self.scratch.get_mut(at..).unwrap_or_default();
            at += segment.copy_to_slice(0, room);
        }
        self.stats.tx_calls += 1;
        let packet = self.scratch.get(..at).unwrap_or_default();
        match self.handle.write(packet) {
            Ok(Written::Yes) => {
                self.stats.tx_frames += 1;
                self.stats.tx_bytes += len as u64;
                Ok(true)
            }
            Ok(Written::Full) => Ok(false),
            Ok(Written::Refused) => {
                self.stats.tx_invalid += 1;
                Ok(true)
            }
            Err(error) => Err(self.ended(failure("write to the vmnet interface", &error))),
        }
    }
}

impl NetworkBackend for Vmnet {
    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn set_offloads(&mut self, _want: Offloads) -> Result<Offloads, BackendError> {
        Ok(Offloads::NONE)
    }

    fn receive(
        &mut self,
        budget: usize,
        sink: &mut dyn FnMut(&mut [ZeroCopyPacket<'_>]),
    ) -> Result<usize, BackendError> {
        if self.gone {
            return Err(BackendError::Disconnected);
        }
        if budget == 0 {
            return Ok(0);
        }
        self.wake.drain();
        let mut lent = 0;
        while lent < budget {
            self.stats.rx_calls += 1;
            let len = match self.handle.read(&mut self.packet) {
                Ok(Some(len)) => len,
                Ok(None) => break,
                Err(error) => {
                    let error = self.ended(failure("read from the vmnet interface", &error));
                    if lent == 0 {
                        return Err(error);
                    }
                    break;
                }
            };
            let frame = self.packet.get(..len).unwrap_or_default();
            match ZeroCopyPacket::from_slice(frame, VirtioNetHdr::PLAIN) {
                Ok(packet) => {
                    self.stats.rx_frames += 1;
                    self.stats.rx_bytes += len as u64;
                    lent += 1;
                    sink(&mut [packet]);
                }
                Err(_) => self.stats.rx_malformed += 1,
            }
        }
        Ok(lent)
    }

    fn transmit(&mut self, frames: &[TxFrame<'_>]) -> Result<usize, BackendError> {
        if self.gone {
            return Err(BackendError::Disconnected);
        }
        for (taken, frame) in frames.iter().enumerate() {
            if !self.send(frame)? {
                self.stats.tx_blocked += 1;
                self.retry.start();
                return Ok(taken);
            }
        }
        if !frames.is_empty() {
            self.retry = Retry::Off;
        }
        Ok(frames.len())
    }

    fn flush(&mut self) -> Result<bool, BackendError> {
        // A frame is written whole or not at all.
        Ok(true)
    }

    fn wants_write(&self) -> bool {
        // The descriptor is always writable and says nothing; the deadline does.
        false
    }

    fn source(&self) -> Option<BorrowedFd<'_>> {
        Some(self.wake.source())
    }

    fn next_deadline(&self) -> Option<Duration> {
        self.retry.deadline()
    }

    fn on_deadline(&mut self, now: Duration) {
        self.retry.on_deadline(now);
    }

    fn statistics(&self) -> BackendStats {
        self.stats
    }
}

impl Drop for Vmnet {
    fn drop(&mut self) {
        // The interface stops itself, exactly once, when the handle is dropped after this. An event
        // that is under way holds its own reference to the wake-up.
        let _ = self.handle.unwatch();
    }
}

impl fmt::Debug for Vmnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vmnet")
            .field("config", &self.config)
            .field("capabilities", &self.capabilities)
            .finish_non_exhaustive()
    }
}
