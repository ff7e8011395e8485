//! The device status, where a front-end tells it.

use std::sync::Arc;

use super::{Ring, Rings};
use crate::vhost_user::error::ProtocolError;

/// The device status (VIRTIO 1.3, 2.1): the driver is set up; it has taken features that are served;
/// the device waits for a reset; the driver has given up.
const DRIVER_OK: u8 = 4;
const FEATURES_OK: u8 = 8;
const NEEDS_RESET: u8 = 64;
const FAILED: u8 = 128;

impl Rings {
    /// The device status: what the driver has said, and whether it has broken a ring since.
    pub(in crate::vhost_user) fn status(&self) -> u8 {
        let broken = (0..self.rings.len()).any(|index| self.device.fault(index).is_some());
        match broken && self.status & DRIVER_OK != 0 {
            true => self.status | NEEDS_RESET,
            false => self.status,
        }
    }

    /// Takes the device status. 0 is a reset; where a front-end tells, no ring runs before the driver
    /// is ready.
    pub(in crate::vhost_user) fn set_status(&mut self, status: u8) -> Result<(), ProtocolError> {
        if status == 0 {
            // Whoever is interrupted stays the same: QEMU says so once a connection. With several pairs
            // QEMU 7.2 sends this between asking where the rings of one and of the next stand.
            for index in 0..self.rings.len() {
                self.stop(index);
            }
            let kept = |it: &Ring| (Arc::clone(&it.calls), it.state);
            let kept: Vec<_> = self.rings.iter().map(kept).collect();
            self.reset();
            for (ring, (calls, state)) in self.rings.iter_mut().zip(kept) {
                (ring.calls, ring.state) = (calls, state);
            }
            return Ok(());
        }
        let refused = if self.chosen { 0 } else { FEATURES_OK };
        self.status = status & !(NEEDS_RESET | refused);
        for index in 0..self.rings.len() {
            match self.is_ready() {
                // A queue its driver has broken stays broken.
                true if self.device.fault(index).is_some() => {}
                true => self.start(index)?,
                false => self.stop(index),
            }
        }
        self.follow_pairs();
        Ok(())
    }

    /// Whether rings may run, as far as the driver has said.
    pub(super) fn is_ready(&self) -> bool {
        self.status == 0 || self.status & (DRIVER_OK | FAILED) == DRIVER_OK
    }
}
