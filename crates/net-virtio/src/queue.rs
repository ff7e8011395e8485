//! One queue of a device: its ring, the memory it lies in, and what became of it.

use std::sync::Arc;

use crate::dirty::Dirty;
use crate::error::{QueueError, SetupError};
use crate::memory::{GuestMemory, Piece, Window};
use crate::ring::{
    Access, Ahead, Buffers, Chain, InflightLog, QueueSetup, QueueState, Ring, RingFeatures, Single,
};

/// Interrupts the driver of a queue: an eventfd, an MSI, a line.
pub trait Interrupt: Send {
    /// Called once for a batch that the driver wants to hear of. Must not block.
    fn signal(&self);

    /// Called when the driver has broken its queue, which is stopped. Must not block.
    fn broken(&self) {}
}

impl<F: Fn() + Send> Interrupt for F {
    fn signal(&self) {
        self();
    }
}

/// What is noted of a queue, for whoever takes it over.
#[derive(Default)]
pub(crate) struct Logs {
    pub(crate) inflight: Option<InflightLog>,
    pub(crate) dirty: Option<Dirty>,
}

/// A ring and what it needs.
pub(crate) struct Running {
    pub(crate) ring: Ring,
    pub(crate) memory: Arc<GuestMemory>,
    window: Window,
    interrupt: Box<dyn Interrupt>,
    pub(crate) dirty: Option<Box<Dirty>>,
}

impl Running {
    /// The next chain, its pieces behind those in `out`.
    #[inline]
    pub(crate) fn pop(&mut self, out: &mut Buffers) -> Result<Option<Chain>, QueueError> {
        self.ring.pop(&self.memory, out)
    }

    /// The next chains whose frame is one piece, behind a header of `header` bytes; see
    /// [`Ring::look_ahead`].
    #[inline]
    pub(crate) fn look_ahead<'a>(
        &mut self,
        access: Access,
        header: usize,
        most: usize,
        ahead: &'a mut Ahead,
    ) -> &'a mut [Single] {
        let window = &mut self.window;
        self.ring
            .look_ahead(&self.memory, window, (access, header), most, ahead)
    }

    /// Shows the driver what was given back and interrupts it if it wants that.
    #[inline]
    pub(crate) fn publish(&mut self) {
        let told = match &self.dirty {
            None => self.ring.publish(),
            Some(dirty) => {
                let written = self.ring.unpublished();
                let told = self.ring.publish();
                dirty.ring(&written);
                dirty.log.publish();
                told
            }
        };
        if told {
            self.interrupt.signal();
        }
    }

    /// See [`Ring::enable_kicks`].
    pub(crate) fn enable_kicks(&mut self) -> bool {
        let more = self.ring.enable_kicks();
        self.mark_suppression();
        more
    }

    /// See [`Ring::disable_kicks`].
    #[inline]
    pub(crate) fn disable_kicks(&mut self) {
        self.ring.disable_kicks();
        self.mark_suppression();
    }

    #[inline]
    fn mark_suppression(&self) {
        if let Some(dirty) = &self.dirty {
            dirty.ring(&self.ring.suppression());
        }
    }

    /// The pieces, of which `written` bytes were written, are dirty.
    #[inline]
    pub(crate) fn mark(&self, pieces: &[Piece], written: usize) {
        if let Some(dirty) = &self.dirty {
            dirty.pieces(&self.memory, pieces, written);
        }
    }
}

/// A queue, running or not.
pub(crate) struct Queue {
    running: Option<Running>,
    fault: Option<QueueError>,
    pub(crate) buffers: Buffers,
    pub(crate) chains: Vec<Chain>,
}

impl Queue {
    pub(crate) fn new(access: Access) -> Self {
        Self {
            running: None,
            fault: None,
            buffers: Buffers::new(access),
            chains: Vec::new(),
        }
    }

    pub(crate) fn start(
        &mut self,
        setup: &QueueSetup,
        features: RingFeatures,
        memory: Arc<GuestMemory>,
        interrupt: Box<dyn Interrupt>,
        logs: Logs,
    ) -> Result<(), SetupError> {
        let mut ring = Ring::new(setup, features, &memory, logs.inflight)?;
        // Whatever is there already is looked for at the next turn.
        ring.enable_kicks();
        if let Some(dirty) = &logs.dirty {
            // Taking up a log of what was in flight may have written any of it.
            dirty.whole(&ring);
        }
        self.fault = None;
        self.running = Some(Running {
            ring,
            memory,
            window: Window::NONE,
            interrupt,
            dirty: logs.dirty.map(Box::new),
        });
        Ok(())
    }

    /// Marks what it writes from now on, or does no longer.
    #[cfg(target_os = "linux")]
    pub(crate) fn set_dirty(&mut self, dirty: Option<Dirty>) {
        if let Some(running) = &mut self.running {
            running.dirty = dirty.map(Box::new);
        }
    }

    pub(crate) fn stop(&mut self) -> Option<QueueState> {
        self.running.take().map(|running| running.ring.state())
    }

    /// Stops; the log of what was in flight has nothing more to say.
    #[cfg(target_os = "linux")]
    pub(crate) fn end(&mut self) -> Option<QueueState> {
        if let Some(running) = &mut self.running {
            running.ring.end_log();
        }
        self.stop()
    }

    /// Stops, and forgets how it was broken.
    pub(crate) fn reset(&mut self) {
        self.running = None;
        self.fault = None;
    }

    pub(crate) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    pub(crate) fn fault(&self) -> Option<QueueError> {
        self.fault
    }

    /// The driver broke the queue: it serves nothing any more.
    #[cold]
    pub(crate) fn break_with(&mut self, error: QueueError) {
        log::warn!("a guest broke a queue, which is stopped: {error}");
        if let Some(running) = self.running.take() {
            if let Some(dirty) = &running.dirty {
                // Some was given back, and not shown.
                dirty.whole(&running.ring);
            }
            running.interrupt.broken();
        }
        self.fault = Some(error);
    }

    /// The ring with the lists for its chains, emptied.
    #[inline]
    pub(crate) fn parts(&mut self) -> Option<(&mut Running, &mut Buffers, &mut Vec<Chain>)> {
        let running = self.running.as_mut()?;
        self.buffers.clear();
        self.chains.clear();
        Some((running, &mut self.buffers, &mut self.chains))
    }
}
