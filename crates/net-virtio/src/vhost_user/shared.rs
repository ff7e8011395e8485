//! What the worker and the protocol's thread share.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use net_backend::{NetworkBackend, Presence};

use super::rings::Rings;
use super::sys::Kicks;
use crate::config::DeviceConfig;
use crate::device::{Doorbell, VirtioNet};

/// A device between its worker, which moves frames, and the protocol's thread, which sets it up.
pub(super) struct Shared {
    rings: Mutex<Rings>,
    pub(super) kicks: Arc<Kicks>,
    /// Threads of the protocol that wait for the lock: the worker makes way.
    waiting: AtomicUsize,
    /// A front-end has gone, and the worker does not know yet.
    pub(super) gone: AtomicBool,
    /// A driver has started a ring, as of the last message.
    pub(super) driven: AtomicBool,
    /// What is known of the guest, as of the last message.
    presence: AtomicU8,
    pub(super) connections: AtomicU64,
    pub(super) faults: AtomicU64,
    pub(super) call_failures: Arc<AtomicU64>,
}

/// Makes the kicks of all rings silent, as far as the device is concerned.
struct Silencer(Arc<Kicks>);

impl Doorbell for Silencer {
    fn source(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        Some(self.0.source())
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}

impl Shared {
    pub(super) fn new(config: DeviceConfig) -> io::Result<Self> {
        let kicks = Arc::new(Kicks::new()?);
        let call_failures = Arc::new(AtomicU64::new(0));
        let mut device = VirtioNet::new(config);
        device.set_doorbell(Some(Box::new(Silencer(Arc::clone(&kicks)))));
        let rings = Rings::new(device, Arc::clone(&kicks), Arc::clone(&call_failures));
        Ok(Self {
            rings: Mutex::new(rings),
            kicks,
            waiting: AtomicUsize::new(0),
            gone: AtomicBool::new(false),
            driven: AtomicBool::new(false),
            presence: AtomicU8::new(Presence::Absent as u8),
            connections: AtomicU64::new(0),
            faults: AtomicU64::new(0),
            call_failures,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Rings> {
        // Nothing under the lock leaves a device half changed: a panic elsewhere is not its end.
        self.rings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with the device outside of its worker, which is woken afterwards: what it
    /// left undone meanwhile waits for that, and so may buffers that were there before a ring ran.
    pub(super) fn for_protocol<T>(&self, what: impl FnOnce(&mut Rings) -> T) -> T {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let mut rings = self.lock();
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        let result = what(&mut rings);
        let driven = rings.device().is_driven();
        self.driven.store(driven, Ordering::Relaxed);
        let presence = rings.device().presence();
        self.presence.store(presence as u8, Ordering::Relaxed);
        drop(rings);
        self.kicks.wake();
        result
    }

    /// The device, for its worker: `None` while a message is carried out or about to be, after
    /// which the worker is woken.
    pub(super) fn for_worker(&self) -> Option<MutexGuard<'_, Rings>> {
        // Without this a busy worker could take the lock again and again before a waiter is awake.
        if self.waiting.load(Ordering::Relaxed) > 0 {
            return None;
        }
        match self.rings.try_lock() {
            Ok(rings) => Some(rings),
            Err(TryLockError::Poisoned(rings)) => Some(rings.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    pub(super) fn presence(&self) -> Presence {
        let noted = self.presence.load(Ordering::Relaxed);
        let known = [
            Presence::Absent,
            Presence::Here,
            Presence::Moved,
            Presence::Left,
        ];
        let found = known.into_iter().find(|it| *it as u8 == noted);
        found.unwrap_or_default()
    }

    /// The device, for a question or a setting of its owner.
    pub(super) fn for_owner(&self) -> MutexGuard<'_, Rings> {
        self.lock()
    }
}
