//! The device behind a connection: which rings the front-end has described, and which of them run.

mod calls;
mod marks;
mod status;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use self::calls::{Caller, Calls};
use super::dirty::Bitmap;
use super::error::ProtocolError;
use super::inflight::Area;
use super::memory::MemoryTable;
use super::sys::Kicks;
use crate::device::VirtioNet;
use crate::features;
use crate::queue::Logs;
use crate::ring::{QueueSetup, QueueState};

/// Feature bit of the protocol itself: there are protocol features, and rings start disabled.
pub(super) const PROTOCOL_FEATURES: u64 = 1 << 30;
/// Feature bit of the protocol itself: the pages of buffers that are written are marked.
const LOG_ALL: u64 = 1 << 26;

/// Addresses of a ring's parts in the front-end.
#[derive(Clone, Copy, Debug)]
pub(super) struct RingAt {
    pub(super) descriptors: u64,
    pub(super) driver: u64,
    pub(super) device: u64,
    /// Guest-physical address under which writes to the device area are marked, if they are.
    pub(super) marked: Option<u64>,
}

/// What the front-end has said of a ring.
#[derive(Debug, Default)]
struct Ring {
    size: u16,
    at: Option<RingAt>,
    /// Where to go on, while it does not run.
    state: QueueState,
    kick: Option<OwnedFd>,
    enabled: bool,
    calls: Arc<Calls>,
}

/// A device and its rings.
pub(super) struct Rings {
    device: VirtioNet,
    rings: Vec<Ring>,
    memory: MemoryTable,
    /// Where the rings note what is in flight.
    inflight: Option<Area>,
    /// Where pages that are written are marked, and whom to tell.
    dirty: Option<Arc<Bitmap>>,
    dirty_event: Option<Arc<OwnedFd>>,
    /// [`LOG_ALL`] is agreed on.
    marks_buffers: bool,
    kicks: Arc<Kicks>,
    /// [`PROTOCOL_FEATURES`] is agreed on: rings wait to be enabled.
    gated: bool,
    /// What the driver has said of itself; 0 where the front-end does not tell.
    status: u8,
    /// Features have been taken since the last reset.
    chosen: bool,
    call_failures: Arc<AtomicU64>,
}

impl Rings {
    pub(super) fn new(device: VirtioNet, kicks: Arc<Kicks>, call_failures: Arc<AtomicU64>) -> Self {
        let mut rings = Self {
            device,
            rings: Vec::new(),
            memory: MemoryTable::default(),
            inflight: None,
            dirty: None,
            dirty_event: None,
            marks_buffers: false,
            kicks,
            gated: false,
            status: 0,
            chosen: false,
            call_failures,
        };
        rings.forget_rings();
        rings
    }

    pub(super) fn device(&mut self) -> &mut VirtioNet {
        &mut self.device
    }

    pub(super) fn features(&self) -> u64 {
        self.device.features() | PROTOCOL_FEATURES | LOG_ALL
    }

    /// Takes the driver's choice, and what the front-end adds to it.
    pub(super) fn set_features(&mut self, chosen: u64) -> Result<(), ProtocolError> {
        let driver = chosen & !(PROTOCOL_FEATURES | LOG_ALL);
        // A front-end may say the same twice, at any time.
        if driver != self.device.acknowledged() {
            self.device.set_features(driver)?;
        }
        self.chosen = true;
        self.marks_buffers = chosen & LOG_ALL != 0;
        self.mark_anew()?;
        self.gated = chosen & PROTOCOL_FEATURES != 0;
        if !self.gated {
            for index in 0..self.rings.len() {
                self.rings[index].enabled = true;
                self.start(index)?;
            }
        }
        Ok(())
    }

    /// The number of a ring, checked.
    pub(super) fn index(&self, index: u32) -> Result<usize, ProtocolError> {
        let there = usize::try_from(index).ok();
        there
            .filter(|index| *index < self.rings.len())
            .ok_or(ProtocolError::Ring(index))
    }

    pub(super) fn set_size(&mut self, index: u32, size: u32) -> Result<(), ProtocolError> {
        let size = match u16::try_from(size) {
            Ok(size) if (1..=0x8000).contains(&size) => size,
            _ => return Err(ProtocolError::RingSize(size)),
        };
        self.change(index, |ring| ring.size = size)
    }

    pub(super) fn set_addresses(&mut self, index: u32, at: RingAt) -> Result<(), ProtocolError> {
        for user in [at.descriptors, at.driver, at.device] {
            self.memory
                .guest_address(user)
                .ok_or(ProtocolError::Address(user))?;
        }
        self.change(index, |ring| ring.at = Some(at))
    }

    pub(super) fn set_base(&mut self, index: u32, base: u32) -> Result<(), ProtocolError> {
        let packed = self.is_packed();
        // Nobody begins anywhere else by himself: the guest's VMM goes on with it.
        if base != encode(QueueState::Fresh, packed) {
            self.device.note_move();
        }
        self.change(index, |ring| ring.state = decode(base, packed))
    }

    /// Stops a ring; says where it stands. It needs a kick to start again.
    pub(super) fn take_base(&mut self, index: u32) -> Result<u32, ProtocolError> {
        let index = self.index(index)?;
        if let Some(state) = self.device.end_queue(index) {
            self.rings[index].state = state;
        }
        self.drop_kick(index);
        self.follow_pairs();
        // Whoever goes on will say so.
        self.device.forget_move();
        Ok(encode(self.rings[index].state, self.is_packed()))
    }

    pub(super) fn set_kick(&mut self, index: u32, kick: OwnedFd) -> Result<(), ProtocolError> {
        let index = self.index(index)?;
        self.stop(index);
        self.drop_kick(index);
        self.kicks.add(&kick)?;
        self.rings[index].kick = Some(kick);
        self.start(index)
    }

    /// Sets who hears of buffers given back. A ring that runs may have given some back unheard.
    pub(super) fn set_call(
        &mut self,
        index: u32,
        fd: Option<OwnedFd>,
    ) -> Result<(), ProtocolError> {
        self.rings[self.index(index)?].calls.set_call(fd);
        Ok(())
    }

    pub(super) fn set_error(
        &mut self,
        index: u32,
        fd: Option<OwnedFd>,
    ) -> Result<(), ProtocolError> {
        self.rings[self.index(index)?].calls.set_error(fd);
        Ok(())
    }

    pub(super) fn enable(&mut self, index: u32, enable: bool) -> Result<(), ProtocolError> {
        let index = self.index(index)?;
        self.rings[index].enabled = enable;
        if enable {
            return self.start(index);
        }
        self.stop(index);
        self.follow_pairs();
        Ok(())
    }

    /// The memory as it is.
    pub(super) fn memory(&self) -> &MemoryTable {
        &self.memory
    }

    /// Puts other memory under the rings, which go on where they were; gives the old one back.
    ///
    /// A ring that does not lie in the new memory waits for the next table: a front-end moves a
    /// region by taking it away and adding it.
    pub(super) fn set_memory(&mut self, memory: MemoryTable) -> MemoryTable {
        for index in 0..self.rings.len() {
            self.stop(index);
        }
        let old = std::mem::replace(&mut self.memory, memory);
        for index in 0..self.rings.len() {
            // A queue its driver has broken stays broken.
            if self.device.fault(index).is_none()
                && let Err(err) = self.start(index)
            {
                log::debug!("vhost-user: ring {index} waits for its memory: {err}");
            }
        }
        self.follow_pairs();
        old
    }

    /// Has the rings note what is in flight, and go on from what the notes say; gives back where they
    /// noted it before.
    pub(super) fn set_inflight(&mut self, area: Area) -> Result<Option<Area>, ProtocolError> {
        for index in 0..self.rings.len() {
            self.stop(index);
        }
        let old = self.inflight.replace(area);
        for index in 0..self.rings.len() {
            if self.device.fault(index).is_none() {
                self.start(index)?;
            }
        }
        self.follow_pairs();
        Ok(old)
    }

    /// Every ring off and forgotten, nothing acknowledged; the memory stays.
    pub(super) fn reset(&mut self) {
        self.reset_driver();
        self.forget_rings();
    }

    fn reset_driver(&mut self) {
        self.device.reset();
        self.inflight = None;
        self.marks_buffers = false;
        self.status = 0;
        self.chosen = false;
    }

    /// The connection is gone, and everything that came over it. The memory is given back, for the
    /// caller to unmap.
    pub(super) fn disconnect(&mut self) -> MemoryTable {
        self.device.note_end();
        self.reset();
        self.gated = false;
        (self.dirty, self.dirty_event) = (None, None);
        std::mem::take(&mut self.memory)
    }

    /// Every ring off, as with the deprecated `RESET_OWNER`.
    pub(super) fn disable_all(&mut self) {
        for index in 0..self.rings.len() {
            self.stop(index);
            self.rings[index].enabled = false;
        }
        self.follow_pairs();
    }

    fn forget_rings(&mut self) {
        for index in 0..self.rings.len() {
            self.drop_kick(index);
        }
        let ring = || Ring {
            calls: Calls::new(&self.call_failures),
            ..Ring::default()
        };
        self.rings = (0..self.device.queues()).map(|_| ring()).collect();
    }

    pub(super) fn is_packed(&self) -> bool {
        self.device.acknowledged() & features::RING_PACKED != 0
    }

    fn drop_kick(&mut self, index: usize) {
        if let Some(kick) = self.rings[index].kick.take() {
            self.kicks.remove(&kick);
        }
    }

    /// Changes a ring, which goes on with the change if it ran.
    fn change(&mut self, index: u32, how: impl FnOnce(&mut Ring)) -> Result<(), ProtocolError> {
        let index = self.index(index)?;
        self.stop(index);
        how(&mut self.rings[index]);
        self.start(index)
    }

    fn stop(&mut self, index: usize) {
        if let Some(state) = self.device.stop_queue(index) {
            self.rings[index].state = state;
        }
    }

    /// Starts a ring once everything it needs is there.
    fn start(&mut self, index: usize) -> Result<(), ProtocolError> {
        let ring = &self.rings[index];
        let (Some(at), Some(_), true) = (ring.at, &ring.kick, ring.enabled) else {
            return Ok(());
        };
        if ring.size == 0 || self.device.is_running(index) || !self.is_ready() {
            return Ok(());
        }
        let guest = |user| {
            let address = self.memory.guest_address(user);
            address.ok_or(ProtocolError::Address(user))
        };
        let setup = QueueSetup {
            size: ring.size,
            descriptors: guest(at.descriptors)?,
            driver: guest(at.driver)?,
            device: guest(at.device)?,
            state: ring.state,
        };
        let caller = Box::new(Caller(Arc::clone(&ring.calls)));
        let memory = Arc::clone(self.memory.guest());
        let inflight = match &self.inflight {
            Some(area) => area.log(index, self.is_packed())?,
            None => None,
        };
        let dirty = self.marks(index)?;
        let logs = Logs { inflight, dirty };
        self.device
            .start_queue_with(index, &setup, memory, caller, logs)?;
        self.follow_pairs();
        Ok(())
    }

    /// The pairs in use are those that run, in front: with vhost-user the front-end answers the
    /// control queue and enables rings instead. Where the control queue is ours, it decides.
    fn follow_pairs(&mut self) {
        let control = self.rings.len() - 1;
        if self.device.is_running(control) {
            return;
        }
        let running = (0..control / 2).take_while(|pair| {
            self.device.is_running(2 * pair) && self.device.is_running(2 * pair + 1)
        });
        let pairs = running.count() as u16;
        self.device.use_pairs(pairs);
    }
}

/// A ring's base on the wire: of a split ring the number of chains taken; of a packed one the slot
/// to take next and, in the upper half, the slot to give back next, each with its wrap counter.
fn encode(state: QueueState, packed: bool) -> u32 {
    match state {
        QueueState::Fresh if packed => 0x8000_8000,
        QueueState::Fresh => 0,
        QueueState::Split { available } => available.into(),
        QueueState::Packed { available, used } => u32::from(available) | u32::from(used) << 16,
    }
}

/// The reverse. Bits that a split ring does not have are left out.
fn decode(base: u32, packed: bool) -> QueueState {
    let available = base as u16;
    match packed {
        false => QueueState::Split { available },
        true => QueueState::Packed {
            available,
            used: (base >> 16) as u16,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bases_come_back_as_they_went() {
        for base in [0, 1, 0xffff] {
            assert_eq!(encode(decode(base, false), false), base);
        }
        for base in [0x8000_8000, 0x0005_8003, 0x7fff_ffff] {
            assert_eq!(encode(decode(base, true), true), base);
        }
        assert_eq!(encode(QueueState::Fresh, true), 0x8000_8000);
        assert_eq!(encode(QueueState::Fresh, false), 0);
    }
}
