//! The memory that holds the queues' logs of what is in flight, which the front-end keeps for the next
//! back end.

use std::fs::File;
use std::sync::Arc;

use super::error::ProtocolError;
use super::sys::{self, Mapping};
use crate::ring::InflightLog;

/// Queues' regions begin at multiples of it.
const ALIGN: u64 = 64;
/// The most descriptors of a queue.
const MAX_ENTRIES: u16 = 0x8000;

/// What both sides say of the memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct AreaAt {
    pub(super) size: u64,
    pub(super) offset: u64,
    pub(super) queues: u16,
    /// Descriptors of each queue.
    pub(super) entries: u16,
}

fn stride(packed: bool, entries: u16) -> u64 {
    (InflightLog::len(packed, entries) as u64).next_multiple_of(ALIGN)
}

/// The memory, mapped.
#[derive(Debug)]
pub(super) struct Area {
    mapping: Arc<Mapping>,
    /// Where it begins in the mapping.
    start: usize,
    at: AreaAt,
}

impl Area {
    /// New memory for so many queues, none of which has been used.
    ///
    /// # Errors
    /// [`ProtocolError`] for queues of a length that there is not; of the host, for want of memory.
    pub(super) fn create(
        queues: u16,
        entries: u16,
        packed: bool,
    ) -> Result<(AreaAt, File), ProtocolError> {
        if entries > MAX_ENTRIES {
            return Err(ProtocolError::RingSize(entries.into()));
        }
        let size = u64::from(queues) * stride(packed, entries);
        let file = sys::sealed_file("vhost-user-inflight", size)?;
        let at = AreaAt {
            size,
            offset: 0,
            queues,
            entries,
        };
        Ok((at, file))
    }

    /// Maps what the front-end has kept.
    ///
    /// # Errors
    /// [`ProtocolError::Inflight`] where the file does not have it, or can be shortened: it is ours or
    /// another back end's, and no back end has a reason.
    pub(super) fn map(at: AreaAt, file: &File) -> Result<Self, ProtocolError> {
        let most = u64::from(at.queues) * stride(true, MAX_ENTRIES);
        if at.entries > MAX_ENTRIES || at.size > most || !sys::cannot_shrink(file) {
            return Err(ProtocolError::Inflight);
        }
        let part = Mapping::part(file, at.offset, at.size)?;
        let (mapping, start) = part.ok_or(ProtocolError::Inflight)?;
        Ok(Self {
            mapping: Arc::new(mapping),
            start,
            at,
        })
    }

    /// The log of a queue; `None` for one that the memory is not for.
    ///
    /// # Errors
    /// [`ProtocolError::Inflight`] where the memory is too short for its logs.
    #[allow(unsafe_code)]
    pub(super) fn log(
        &self,
        index: usize,
        packed: bool,
    ) -> Result<Option<InflightLog>, ProtocolError> {
        if index >= self.at.queues.into() {
            return Ok(None);
        }
        // The protocol does not say how far apart they are; all back ends fill the memory.
        let stride = self.at.size / u64::from(self.at.queues);
        if stride < InflightLog::len(packed, self.at.entries) as u64 {
            return Err(ProtocolError::Inflight);
        }
        let start = self.start + index * stride as usize;
        let start = self.mapping.at(start).ok_or(ProtocolError::Inflight)?;
        let owner = Arc::clone(&self.mapping);
        // SAFETY: the memory is `queues` times `stride` bytes of the mapping, which the log owns; no
        // reference into it is ever made.
        let log = unsafe { InflightLog::new(start, packed, self.at.entries, owner) };
        log.map(Some).ok_or(ProtocolError::Inflight)
    }
}
