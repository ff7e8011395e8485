//! Virtqueues, seen from the device.
//!
//! A ring gives *chains*: the buffers that the driver has made available, translated to addresses of
//! this process, each with what is needed to give it back. It does not look into buffers.
//!
//! Everything the driver writes is read once. What a chain says is copied before it is judged, and
//! judged before it is used. A driver that breaks the rules gets a [`QueueError`]; the caller then
//! drops the ring.

mod descriptor;
mod handshake;
mod inflight;
#[cfg(test)]
#[cfg(loom)]
mod models;
mod packed;
mod single;
mod split;

use crate::error::{QueueError, SetupError};
use crate::memory::{GuestMemory, Piece, Window};

use single::Form;

pub(crate) use inflight::InflightLog;
pub(crate) use packed::PackedRing;
pub(crate) use single::{Ahead, Single};
pub(crate) use split::SplitRing;

/// The most descriptors of an indirect table; the limit of QEMU and of Linux's vhost.
const MAX_INDIRECT: u32 = 1024;

/// Where a queue lies in the guest's memory, and where it stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct QueueSetup {
    /// Descriptors: a power of two up to 32,768, or up to 32,768 in a packed ring.
    pub size: u16,
    /// Guest-physical address of the descriptor table or ring.
    pub descriptors: u64,
    /// Guest-physical address of the driver area: available ring, or driver event suppression.
    pub driver: u64,
    /// Guest-physical address of the device area: used ring, or device event suppression.
    pub device: u64,
    /// Where to go on; the default is where a fresh queue begins.
    pub state: QueueState,
}

/// How far a queue has come: what a snapshot keeps and vhost-user calls the ring's base.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum QueueState {
    /// A fresh queue.
    #[default]
    Fresh,
    /// A split ring: the number of chains taken, modulo 65,536. How many were given back stands in
    /// the used ring itself.
    Split {
        /// Chains taken.
        available: u16,
    },
    /// A packed ring: the next slot to take and to give back, each with its wrap counter in bit 15.
    Packed {
        /// Next slot to take.
        available: u16,
        /// Next slot to give back.
        used: u16,
    },
}

/// What was negotiated that changes how rings work.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct RingFeatures {
    pub(crate) packed: bool,
    pub(crate) event_index: bool,
    pub(crate) indirect: bool,
}

/// Who may write the buffers of a queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Access {
    /// The driver has written them, the device reads them.
    Read,
    /// The device writes them.
    Write,
    /// First some to read, then some to write.
    ReadThenWrite,
}

/// The pieces of the chains taken so far.
#[derive(Debug)]
pub(crate) struct Buffers {
    pub(crate) pieces: Vec<Piece>,
    access: Access,
    /// With [`Access::ReadThenWrite`], the first piece to write.
    pub(crate) writable: Option<usize>,
}

impl Buffers {
    pub(crate) fn new(access: Access) -> Self {
        Self {
            pieces: Vec::new(),
            access,
            writable: None,
        }
    }

    /// Forgets all pieces and keeps the room.
    #[inline]
    pub(crate) fn clear(&mut self) {
        self.pieces.clear();
        self.writable = None;
    }
}

/// One chain of buffers: its pieces are `first..end` of the list it was put in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chain {
    /// Names it when it is given back.
    pub(crate) id: u16,
    /// Slots it takes in a packed ring.
    pub(crate) slots: u16,
    pub(crate) first: u32,
    pub(crate) end: u32,
}

impl Chain {
    /// Its pieces, of those its pop appended to.
    #[inline]
    pub(crate) fn pieces<'p>(&self, pieces: &'p [Piece]) -> &'p [Piece] {
        pieces
            .get(self.first as usize..self.end as usize)
            .unwrap_or_default()
    }
}

/// Where in a queue something lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum RingPart {
    Descriptors,
    Device,
}

/// A piece of a ring that the device has written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Written {
    pub(crate) part: RingPart,
    /// From the beginning of the part, in bytes.
    pub(crate) offset: u64,
    pub(crate) len: u64,
}

/// `count` entries of `entry` bytes from number `first` on, in a ring of `size` that lies `before` bytes
/// into its part: in two pieces where they go round.
fn entries(
    part: RingPart,
    before: u64,
    entry: u64,
    size: u16,
    first: u16,
    count: u16,
) -> [Written; 2] {
    let count = count.min(size);
    let straight = count.min(size.saturating_sub(first));
    let piece = |from: u16, count: u16| Written {
        part,
        offset: before + entry * u64::from(from),
        len: entry * u64::from(count),
    };
    [piece(first, straight), piece(0, count - straight)]
}

/// A place in the ring to go back to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark(u16, bool);

/// A ring of either format.
pub(crate) enum Ring {
    Split(SplitRing),
    Packed(PackedRing),
}

/// Calls the same method of either ring.
macro_rules! either {
    ($self:expr, $ring:ident => $call:expr) => {
        match $self {
            Ring::Split($ring) => $call,
            Ring::Packed($ring) => $call,
        }
    };
}

impl Ring {
    /// Finds the parts of the queue in `memory`, which the caller keeps as long as the ring. With a log
    /// that another process has written the queue goes on where that stood, whatever `setup` says.
    ///
    /// # Errors
    /// [`SetupError`] where they are not there, or not aligned, or the length cannot be; or where the
    /// log is no log of this queue.
    pub(crate) fn new(
        setup: &QueueSetup,
        features: RingFeatures,
        memory: &GuestMemory,
        log: Option<InflightLog>,
    ) -> Result<Self, SetupError> {
        Ok(match features.packed {
            false => Self::Split(SplitRing::new(setup, features, memory, log)?),
            true => Self::Packed(PackedRing::new(setup, features, memory, log)?),
        })
    }

    /// The ring ends here, and its [state](Self::state) is kept by whoever has asked for it: the log of
    /// what is in flight has nothing more to say.
    #[cfg_attr(not(target_os = "linux"), allow(dead_code))]
    pub(crate) fn end_log(&mut self) {
        either!(self, ring => ring.end_log());
    }

    /// Descriptors of the ring.
    #[inline]
    pub(crate) fn size(&self) -> u16 {
        either!(self, ring => ring.size())
    }

    /// Takes the next chain and appends its pieces to `out`; `None` where none is available.
    #[inline]
    pub(crate) fn pop(
        &mut self,
        memory: &GuestMemory,
        out: &mut Buffers,
    ) -> Result<Option<Chain>, QueueError> {
        either!(self, ring => ring.pop(memory, out))
    }

    /// Looks at the next chains, `most` of them and a batch at most, as long as they are what nearly
    /// all chains of frames are: a header of `header` bytes and a frame, in one descriptor or one each,
    /// each in one region, with the right direction. They stay in the ring until they are
    /// [taken](Self::take); the first lines of each are on their way into the cache.
    ///
    /// They end before any other chain, before none, and where the driver has broken the ring:
    /// [`Self::pop`] then looks for itself and trusts nothing that was read here.
    #[inline]
    pub(crate) fn look_ahead<'a>(
        &mut self,
        memory: &GuestMemory,
        window: &mut Window,
        (access, header): (Access, usize),
        most: usize,
        ahead: &'a mut Ahead,
    ) -> &'a mut [Single] {
        let form = Form::new(access, header);
        let most = most.min(Ahead::LEN);
        let places = &mut ahead.0[..most];
        let found = either!(self, ring => ring.look_ahead(memory, window, form, places));
        ahead.0.get_mut(..found).unwrap_or_default()
    }

    /// Takes these chains: the first of those that [`Self::look_ahead`] has found at its last call,
    /// behind which nothing was taken.
    #[inline]
    pub(crate) fn take(&mut self, singles: &[Single]) {
        either!(self, ring => ring.take(singles))
    }

    /// Where [`Self::pop`] stands.
    #[inline]
    pub(crate) fn mark(&self) -> Mark {
        either!(self, ring => ring.mark())
    }

    /// Puts back every chain taken since `mark` and not given back.
    #[inline]
    pub(crate) fn reset(&mut self, mark: Mark) {
        either!(self, ring => ring.reset(mark))
    }

    /// Gives a chain back, with the number of bytes written into it. The driver may see it at once,
    /// and does at the latest after [`Self::publish`].
    #[inline]
    pub(crate) fn push(&mut self, chain: &Chain, written: u32) {
        either!(self, ring => ring.push(chain.id, chain.slots, written))
    }

    /// [`Self::push`] for chains that were looked at ahead and taken.
    #[inline]
    pub(crate) fn push_singles(&mut self, singles: &[Single]) {
        either!(self, ring => ring.push_singles(singles));
    }

    /// What the next [publication](Self::publish) shows, and writes itself.
    pub(crate) fn unpublished(&self) -> [Written; 3] {
        either!(self, ring => ring.unpublished())
    }

    /// Where the device says whether it wants to be told.
    pub(crate) fn suppression(&self) -> [Written; 2] {
        either!(self, ring => ring.suppression())
    }

    /// Everything that the device writes at all.
    pub(crate) fn writable(&self) -> [Written; 2] {
        either!(self, ring => ring.writable())
    }

    /// Shows the driver what was given back; whether it wants to be interrupted for it.
    #[inline]
    pub(crate) fn publish(&mut self) -> bool {
        either!(self, ring => ring.publish())
    }

    /// Asks the driver to tell when it makes chains available; whether some are there already, for
    /// which it may not tell.
    pub(crate) fn enable_kicks(&mut self) -> bool {
        either!(self, ring => ring.enable_kicks())
    }

    /// Tells the driver that it need not tell.
    #[inline]
    pub(crate) fn disable_kicks(&mut self) {
        either!(self, ring => ring.disable_kicks())
    }

    /// Where the ring stands.
    pub(crate) fn state(&self) -> QueueState {
        either!(self, ring => ring.state())
    }
}

/// Whether going from `old` to `new` passes `event` (VIRTIO 1.3, 2.7.10).
#[inline]
fn passes(event: u16, new: u16, old: u16) -> bool {
    new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
}

/// A part of a ring: an address of this process, once range and alignment are checked.
fn part(
    memory: &GuestMemory,
    part: &'static str,
    address: u64,
    len: u64,
    align: u64,
) -> Result<std::ptr::NonNull<u8>, SetupError> {
    let host = memory
        .contiguous(address, len)
        .ok_or(SetupError::OutOfRange { part, address })?;
    // The mapping could shift an aligned guest address; the atomics need the host's aligned.
    if !address.is_multiple_of(align) || !(host.as_ptr() as u64).is_multiple_of(align) {
        return Err(SetupError::Alignment {
            part,
            address,
            align,
        });
    }
    Ok(host)
}

#[cfg(test)]
mod tests {
    use super::passes;

    #[test]
    fn an_event_is_passed_once_and_also_where_indices_wrap() {
        assert!(passes(4, 5, 4));
        assert!(!passes(5, 5, 4));
        assert!(!passes(3, 5, 4));
        assert!(passes(0xffff, 0, 0xffff));
        assert!(passes(0xffff, 3, 0xfffe));
        assert!(!passes(0xfffd, 3, 0xfffe));
        assert!(!passes(7, 7, 7));
    }
}
