//! A virtio-net device: its queues, and the back end they make.

mod announce;

#[cfg(unix)]
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use net_backend::{
    BackendError, BackendStats, Capabilities, MAX_FRAME, MIN_FRAME, NetworkBackend, Offloads,
    PacketBatch, Presence, TxFrame,
};
use net_datapath::{PacketMeta, ZeroCopyPacket};
use net_wire::MacAddr;

pub use self::announce::Announcement;
use self::announce::Whereabouts;
use crate::collect::collect;
use crate::config::{DeviceConfig, MAX_PAIRS};
use crate::control::Control;
use crate::deliver::{Outcome, Terms, deliver, deliver_run};
use crate::dirty::{Dirty, DirtyLog, RingMarks};
use crate::error::{QueueError, SetupError};
use crate::features;
use crate::memory::GuestMemory;
use crate::queue::{Interrupt, Logs, Queue};
use crate::ring::{Access, Ahead, QueueSetup, QueueState, RingFeatures};
use crate::steering::Steering;

/// Length of the device's configuration space in bytes.
pub const CONFIG_LEN: usize = 12;

/// What the driver rings when it has made buffers available: the source of a port's readiness.
pub trait Doorbell: Send {
    /// What to wait on.
    #[cfg(unix)]
    fn source(&self) -> Option<BorrowedFd<'_>>;

    /// Makes it silent until it is rung again.
    fn clear(&mut self);
}

/// A virtio-net device.
///
/// Queue `2 n` is the guest's receive queue of pair `n`, `2 n + 1` its transmit queue; the last one
/// is the control queue ([`VirtioNet::queues`] counts it).
///
/// The VMM agrees on offloads with whoever drives the device
/// ([`set_offloads`](NetworkBackend::set_offloads)), then with the driver ([`features`](Self::features), [`set_features`](Self::set_features)), starts
/// queues, and from then on drives the device as a [`NetworkBackend`]: `receive` is what the guest
/// sends. Until the driver is there, frames for it are dropped and counted.
pub struct VirtioNet {
    config: DeviceConfig,
    /// What the holder agreed to carry; more is not offered.
    agreed: Offloads,
    acknowledged: u64,
    /// Receive and transmit by turns, then control.
    queues: Vec<Queue>,
    control: Control,
    doorbell: Option<Box<dyn Doorbell>>,
    dirty: Option<Arc<dyn DirtyLog>>,
    steering: Steering,
    batch: PacketBatch,
    ahead: Ahead,
    lens: Vec<u32>,
    /// The pair to serve next.
    turn: u16,
    /// A frame found no buffer, and nothing has gone since.
    blocked: bool,
    /// A driver has started a queue since the last reset.
    driven: bool,
    whereabouts: Whereabouts,
    /// The hardware address to announce.
    to_announce: Option<MacAddr>,
    /// The caller asks by itself: the driver need not ring.
    polling: bool,
    stats: BackendStats,
}

impl VirtioNet {
    /// A device whose driver has not come yet.
    pub fn new(config: DeviceConfig) -> Self {
        let config = DeviceConfig {
            mtu: config.mtu.max(68),
            pairs: config.pairs.clamp(1, MAX_PAIRS),
            ..config
        };
        let mut queues = Vec::with_capacity(usize::from(config.pairs) * 2 + 1);
        for _ in 0..config.pairs {
            queues.push(Queue::new(Access::Write));
            queues.push(Queue::new(Access::Read));
        }
        queues.push(Queue::new(Access::ReadThenWrite));
        Self {
            agreed: Offloads::NONE,
            acknowledged: 0,
            queues,
            control: Control::default(),
            doorbell: None,
            dirty: None,
            steering: Steering::default(),
            batch: PacketBatch::new(),
            ahead: Ahead::new(),
            lens: Vec::new(),
            turn: 0,
            blocked: false,
            driven: false,
            whereabouts: Whereabouts::default(),
            to_announce: None,
            polling: false,
            stats: BackendStats::default(),
            config,
        }
    }

    /// Number of queues: two a pair, and the control queue.
    pub fn queues(&self) -> usize {
        self.queues.len()
    }

    /// The features the device offers. Offloads are among them once they have been agreed on with
    /// [`set_offloads`](NetworkBackend::set_offloads).
    pub fn features(&self) -> u64 {
        let mut bits = features::INDIRECT_DESC
            | features::EVENT_IDX
            | features::VERSION_1
            | features::IN_ORDER
            | features::MRG_RXBUF
            | features::STATUS
            | features::MTU
            | features::CTRL_VQ
            | features::CTRL_RX
            | features::CTRL_VLAN
            | features::CTRL_MAC_ADDR
            | features::GUEST_ANNOUNCE
            | features::of_offloads(self.agreed);
        if self.config.mac.is_some() {
            bits |= features::MAC;
        }
        if self.config.pairs > 1 {
            bits |= features::MQ;
        }
        if self.config.packed {
            bits |= features::RING_PACKED;
        }
        bits
    }

    /// The features the driver has acknowledged.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Takes the driver's choice.
    ///
    /// # Errors
    /// [`SetupError::Features`] for bits that were not offered, [`SetupError::Running`] while a
    /// queue runs.
    pub fn set_features(&mut self, acknowledged: u64) -> Result<(), SetupError> {
        let extra = acknowledged & !self.features();
        if extra != 0 {
            return Err(SetupError::Features(extra));
        }
        if let Some(running) = self.queues.iter().position(Queue::is_running) {
            return Err(SetupError::Running(running));
        }
        self.acknowledged = acknowledged;
        Ok(())
    }

    /// The configuration space (VIRTIO 1.3, 5.1.4) as the driver reads it.
    pub fn config_space(&self) -> [u8; CONFIG_LEN] {
        let mut space = [0; CONFIG_LEN];
        let mac = self.mac().unwrap_or(MacAddr([0; 6]));
        space[..6].copy_from_slice(&mac.0);
        space[6..8].copy_from_slice(&self.link_status().to_le_bytes());
        space[8..10].copy_from_slice(&self.config.pairs.to_le_bytes());
        space[10..].copy_from_slice(&self.config.mtu.to_le_bytes());
        space
    }

    /// The hardware address: the driver's own choice, else the device's.
    pub fn mac(&self) -> Option<MacAddr> {
        self.control.mac.or(self.config.mac)
    }

    /// Starts queue `index`, which lies in `memory`; `interrupt` reaches its driver.
    ///
    /// # Errors
    /// [`SetupError`] says what cannot be; the queue is then as it was.
    pub fn start_queue(
        &mut self,
        index: usize,
        setup: &QueueSetup,
        memory: Arc<GuestMemory>,
        interrupt: Box<dyn Interrupt>,
    ) -> Result<(), SetupError> {
        let dirty = self.dirty.clone().map(|log| Dirty {
            log,
            buffers: true,
            ring: Some(RingMarks {
                descriptors: setup.descriptors,
                device: setup.device,
            }),
        });
        let logs = Logs {
            inflight: None,
            dirty,
        };
        self.start_queue_with(index, setup, memory, interrupt, logs)?;
        if setup.state != QueueState::Fresh {
            self.note_move();
        }
        Ok(())
    }

    /// [`Self::start_queue`] with other logs.
    pub(crate) fn start_queue_with(
        &mut self,
        index: usize,
        setup: &QueueSetup,
        memory: Arc<GuestMemory>,
        interrupt: Box<dyn Interrupt>,
        logs: Logs,
    ) -> Result<(), SetupError> {
        let has = |bit: u64| self.acknowledged & bit != 0;
        let ring = RingFeatures {
            packed: has(features::RING_PACKED),
            event_index: has(features::EVENT_IDX),
            indirect: has(features::INDIRECT_DESC),
        };
        let queue = self
            .queues
            .get_mut(index)
            .ok_or(SetupError::NoQueue(index))?;
        if queue.is_running() {
            return Err(SetupError::Running(index));
        }
        queue.start(setup, ring, memory, interrupt, logs)?;
        self.stats.peers += u64::from(!self.driven);
        self.driven = true;
        self.whereabouts.came = true;
        Ok(())
    }

    /// Stops queue `index`; says where to go on if it ran.
    pub fn stop_queue(&mut self, index: usize) -> Option<QueueState> {
        self.queues.get_mut(index)?.stop()
    }

    /// [`Self::stop_queue`], by whoever keeps what it says: a log of what is in flight has nothing to add.
    #[cfg(target_os = "linux")]
    pub(crate) fn end_queue(&mut self, index: usize) -> Option<QueueState> {
        self.queues.get_mut(index)?.end()
    }

    /// Whether queue `index` is served.
    pub fn is_running(&self, index: usize) -> bool {
        self.queues.get(index).is_some_and(Queue::is_running)
    }

    /// Whether a driver has started a queue since the last reset.
    #[cfg(target_os = "linux")]
    pub(crate) fn is_driven(&self) -> bool {
        self.driven
    }

    /// Where the queues that are started from now on mark what they write, buffers and rings.
    pub fn set_dirty_log(&mut self, log: Option<Arc<dyn DirtyLog>>) {
        self.dirty = log;
    }

    /// Changes what a queue that runs marks.
    #[cfg(target_os = "linux")]
    pub(crate) fn mark_queue(&mut self, index: usize, dirty: Option<Dirty>) {
        if let Some(queue) = self.queues.get_mut(index) {
            queue.set_dirty(dirty);
        }
    }

    /// Sets the pairs in use, where somebody else answers the control queue.
    #[cfg(target_os = "linux")]
    pub(crate) fn use_pairs(&mut self, pairs: u16) {
        self.control.pairs = pairs;
    }

    /// How the driver broke queue `index`, if it did.
    pub fn fault(&self, index: usize) -> Option<QueueError> {
        self.queues.get(index)?.fault()
    }

    /// Back to the beginning: queues stopped, nothing acknowledged, filters gone.
    pub fn reset(&mut self) {
        for queue in &mut self.queues {
            queue.reset();
        }
        self.acknowledged = 0;
        self.control = Control::default();
        self.steering = Steering::default();
        self.blocked = false;
        self.to_announce = None;
        self.whereabouts.moved = false;
        self.stats.disconnects += u64::from(self.driven);
        self.driven = false;
    }

    /// What the driver rings; without one the caller asks by itself.
    pub fn set_doorbell(&mut self, doorbell: Option<Box<dyn Doorbell>>) {
        self.doorbell = doorbell;
    }

    /// Length of the header in front of each frame: older drivers leave the last field out.
    fn header_len(&self) -> usize {
        match self.acknowledged & (features::VERSION_1 | features::MRG_RXBUF) {
            0 => 10,
            _ => 12,
        }
    }

    /// Pairs the driver uses.
    fn pairs(&self) -> u16 {
        match self.acknowledged & features::MQ {
            0 => 1,
            _ => self.control.pairs.clamp(1, self.config.pairs),
        }
    }

    fn terms(&self) -> Terms {
        Terms {
            offloads: features::to_offloads(self.acknowledged),
            mergeable: self.acknowledged & features::MRG_RXBUF != 0,
            header_len: self.header_len(),
            mtu: self.config.mtu.into(),
        }
    }

    /// Whether the driver wants a frame, and the receive queue for it.
    fn place(&self, frame: &TxFrame<'_>, pairs: u16) -> Option<usize> {
        let filter = &self.control.filter;
        if pairs == 1 && filter.passes_all() {
            return Some(0);
        }
        let mut head = [0; ZeroCopyPacket::HEAD_MAX];
        let mut copied = 0;
        for segment in frame.segments {
            copied += segment.copy_to_slice(0, head.get_mut(copied..).unwrap_or_default());
        }
        let head = head.get(..copied).unwrap_or_default();
        let meta = PacketMeta::parse(head, frame.len()).ok()?;
        let dst = MacAddr(*head.first_chunk()?);
        if !filter.passes(dst, meta.vlan(), self.mac()) {
            return None;
        }
        Some(2 * usize::from(self.steering.pair(&meta, head).min(pairs - 1)))
    }

    /// Carries out what waits in the control queue; whether some of it may be left.
    fn run_control(&mut self) -> bool {
        if self.acknowledged & features::CTRL_VQ == 0 {
            return false;
        }
        let (acknowledged, pairs) = (self.acknowledged, self.config.pairs);
        let (queue, listen) = (self.queues.last_mut(), !self.polling);
        queue.is_some_and(|queue| self.control.run(queue, acknowledged, pairs, listen))
    }

    /// Silences every transmit queue or asks it to tell; whether one has something already.
    fn want_kicks(&mut self, pairs: u16) -> bool {
        let mut more = false;
        for pair in 0..usize::from(pairs) {
            if let Some((running, ..)) = self.queues[2 * pair + 1].parts() {
                more |= running.enable_kicks();
            }
        }
        more
    }

    /// Batches of each pair in turn, until the budget is used up or no pair has anything.
    fn turn_around(
        &mut self,
        pairs: u16,
        budget: usize,
        sink: &mut dyn FnMut(&mut [ZeroCopyPacket<'_>]),
    ) -> usize {
        let mut taken = 0;
        // Queues that had nothing, one after the other.
        let mut idle = 0;
        while taken < budget && idle < pairs {
            let pair = self.turn % pairs;
            self.turn = (pair + 1) % pairs;
            let most = (budget - taken).min(PacketBatch::LEN);
            match self.collect_one(pair, most, sink) {
                0 => idle += 1,
                some => {
                    taken += some;
                    idle = 0;
                }
            }
        }
        taken
    }

    /// One batch of one pair's transmit queue.
    fn collect_one(
        &mut self,
        pair: u16,
        most: usize,
        sink: &mut dyn FnMut(&mut [ZeroCopyPacket<'_>]),
    ) -> usize {
        let header_len = self.header_len();
        let queue = &mut self.queues[2 * usize::from(pair) + 1];
        let (batch, ahead, stats) = (&mut self.batch, &mut self.ahead, &mut self.stats);
        if self.config.pairs == 1 {
            return collect(queue, header_len, most, batch, ahead, stats, sink);
        }
        let steering = &mut self.steering;
        let mut noting = |frames: &mut [ZeroCopyPacket<'_>]| {
            for frame in frames.iter() {
                steering.note(frame.meta(), frame.head(), pair);
            }
            sink(frames);
        };
        collect(queue, header_len, most, batch, ahead, stats, &mut noting)
    }
}

impl NetworkBackend for VirtioNet {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            offloads: self.config.offloads.consistent(),
            mtu: self.config.mtu,
            mac: self.config.mac,
            queue_pairs: self.config.pairs,
            max_frame: MAX_FRAME,
        }
    }

    /// Says what is offered to the driver. What a driver does not take is made up for here: frames
    /// are cut and checksums completed at this port's edge.
    fn set_offloads(&mut self, want: Offloads) -> Result<Offloads, BackendError> {
        self.agreed = Offloads::negotiate(want, self.config.offloads);
        Ok(self.agreed)
    }

    fn receive(
        &mut self,
        budget: usize,
        sink: &mut dyn FnMut(&mut [ZeroCopyPacket<'_>]),
    ) -> Result<usize, BackendError> {
        if budget == 0 {
            return Ok(0);
        }
        if self.to_announce.is_some() {
            return Ok(self.lend_announcement(sink));
        }
        let commands_left = self.run_control();
        let pairs = self.pairs();
        let taken = self.turn_around(pairs, budget, sink);
        if taken > 0 {
            return Ok(taken);
        }
        if self.polling {
            return Ok(0);
        }
        // Commands that are left have rung already: then it stays loud, and there is another turn.
        if !commands_left && let Some(doorbell) = &mut self.doorbell {
            doorbell.clear();
        }
        if !self.want_kicks(pairs) {
            return Ok(0);
        }
        // It came between the last look and the wish to be told. Looked for once: a driver that
        // takes it back again is nobody to wait for.
        Ok(self.turn_around(pairs, budget, sink))
    }

    fn transmit(&mut self, frames: &[TxFrame<'_>]) -> Result<usize, BackendError> {
        let (pairs, terms) = (self.pairs(), self.terms());
        let mut taken = 0;
        let mut touched = 0u128;
        // Every frame goes to the first queue: nobody has to look into it.
        let straight = pairs == 1 && self.control.filter.passes_all();
        while let Some(mut frame) = frames.get(taken) {
            if straight {
                let (queue, rest) = (&mut self.queues[0], frames.get(taken..).unwrap_or_default());
                let (ahead, stats) = (&mut self.ahead, &mut self.stats);
                let done = deliver_run(queue, ahead, terms, self.agreed, rest, stats);
                touched |= u128::from(done > 0);
                taken += done;
                let Some(next) = frames.get(taken) else {
                    break;
                };
                frame = next;
            }
            let len = frame.len();
            let valid =
                (MIN_FRAME..=MAX_FRAME).contains(&len) && self.agreed.allow_tx(&frame.header);
            let queue = match valid {
                true => self.place(frame, pairs),
                false => {
                    self.stats.tx_invalid += 1;
                    None
                }
            };
            let Some(index) = queue else {
                taken += 1;
                continue;
            };
            let queue = &mut self.queues[index];
            let mut outcome = deliver(queue, &mut self.lens, terms, frame, len, &mut self.stats);
            if outcome == Outcome::Full && !self.polling {
                // Told now, it may have buffers already that it did not tell of.
                let there = queue
                    .parts()
                    .is_some_and(|(running, ..)| running.enable_kicks());
                if there {
                    outcome = deliver(queue, &mut self.lens, terms, frame, len, &mut self.stats);
                }
            }
            if outcome == Outcome::Full {
                break;
            }
            touched |= 1 << (index / 2);
            taken += 1;
        }
        while touched != 0 {
            let pair = touched.trailing_zeros() as usize;
            touched &= touched - 1;
            if let Some((running, ..)) = self.queues[2 * pair].parts() {
                running.publish();
            }
        }
        self.blocked = taken < frames.len();
        self.stats.tx_blocked += u64::from(self.blocked);
        Ok(taken)
    }

    fn flush(&mut self) -> Result<bool, BackendError> {
        self.blocked = false;
        Ok(true)
    }

    fn wants_write(&self) -> bool {
        self.blocked
    }

    #[cfg(unix)]
    fn source(&self) -> Option<BorrowedFd<'_>> {
        self.doorbell.as_ref()?.source()
    }

    fn shares_memory(&self) -> bool {
        true
    }

    fn set_polling(&mut self, polling: bool) -> bool {
        if polling && !self.polling {
            for queue in &mut self.queues {
                if let Some((running, ..)) = queue.parts() {
                    running.disable_kicks();
                }
            }
        }
        self.polling = polling;
        self.driven
    }

    fn next_deadline(&self) -> Option<Duration> {
        None
    }

    fn on_deadline(&mut self, _now: Duration) {}

    fn statistics(&self) -> BackendStats {
        self.stats
    }

    fn presence(&self) -> Presence {
        self.guest()
    }

    /// A guest that reboots finds the device it had before.
    fn reattaches(&self) -> bool {
        true
    }
}

impl std::fmt::Debug for VirtioNet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VirtioNet")
            .field("config", &self.config)
            .field("acknowledged", &self.acknowledged)
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}
