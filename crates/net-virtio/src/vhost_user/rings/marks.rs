//! What of rings and buffers is marked as written, and where.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::Rings;
use crate::dirty::{Dirty, RingMarks};
use crate::vhost_user::dirty::{Bitmap, Marker};
use crate::vhost_user::error::ProtocolError;

impl Rings {
    /// Has pages that are written marked in `bitmap`; gives back the one before.
    pub(in crate::vhost_user) fn set_dirty_log(
        &mut self,
        bitmap: Bitmap,
    ) -> Result<Option<Arc<Bitmap>>, ProtocolError> {
        if !bitmap.reaches(self.memory.end()) {
            return Err(ProtocolError::DirtyLog);
        }
        let old = self.dirty.replace(Arc::new(bitmap));
        self.mark_anew()?;
        Ok(old)
    }

    /// Sets who is told that pages were marked.
    pub(in crate::vhost_user) fn set_dirty_event(
        &mut self,
        event: OwnedFd,
    ) -> Result<(), ProtocolError> {
        self.dirty_event = Some(Arc::new(event));
        self.mark_anew()
    }

    pub(super) fn mark_anew(&mut self) -> Result<(), ProtocolError> {
        for index in 0..self.rings.len() {
            let marks = self.marks(index)?;
            self.device.mark_queue(index, marks);
        }
        Ok(())
    }

    /// What of a ring is marked, and where.
    pub(super) fn marks(&self, index: usize) -> Result<Option<Dirty>, ProtocolError> {
        let (Some(bitmap), Some(ring)) = (&self.dirty, self.rings.get(index)) else {
            return Ok(None);
        };
        let marked = ring.at.and_then(|at| Some((at, at.marked?)));
        if !self.marks_buffers && marked.is_none() {
            return Ok(None);
        }
        let ring = match marked {
            Some((at, device)) => {
                let len = if self.is_packed() {
                    4
                } else {
                    6 + 8 * u64::from(ring.size)
                };
                // This address need not be memory, but it has to have its bit.
                if !device
                    .checked_add(len)
                    .is_some_and(|end| bitmap.reaches(end))
                {
                    return Err(ProtocolError::DirtyLog);
                }
                let user = at.descriptors;
                let descriptors = self.memory.guest_address(user);
                Some(RingMarks {
                    descriptors: descriptors.ok_or(ProtocolError::Address(user))?,
                    device,
                })
            }
            None => None,
        };
        let log = Arc::new(Marker {
            bitmap: Arc::clone(bitmap),
            event: self.dirty_event.clone(),
        });
        Ok(Some(Dirty {
            log,
            buffers: self.marks_buffers,
            ring,
        }))
    }
}
