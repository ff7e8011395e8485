//! Room for the batch that `receive` lends, kept from call to call.

use net_datapath::ZeroCopyPacket;

/// How many packets a back end lends at a time when nothing tells it otherwise: enough to spread
/// the cost of a call and of a cache miss, few enough to stay in the first-level cache.
pub(crate) const BATCH: usize = 32;

/// The memory of a batch of packets, empty between calls.
///
/// The packets borrow from a buffer of the back end, so they cannot be stored beside it. What is
/// kept is the allocation alone: [`Self::take`] gives it out for packets of any lifetime and
/// [`Self::put_back`] keeps it for the next call.
#[derive(Default)]
pub struct PacketBatch {
    room: Vec<ZeroCopyPacket<'static>>,
}

impl PacketBatch {
    /// The usual number of packets in a batch.
    pub const LEN: usize = BATCH;

    /// Room for [`Self::LEN`] packets.
    pub fn new() -> Self {
        Self {
            room: Vec::with_capacity(Self::LEN),
        }
    }

    /// Gives the room out, empty.
    pub fn take<'a>(&mut self) -> Vec<ZeroCopyPacket<'a>> {
        relabel(core::mem::take(&mut self.room))
    }

    /// Takes the room back; packets still in it are dropped.
    pub fn put_back(&mut self, room: Vec<ZeroCopyPacket<'_>>) {
        self.room = relabel(room);
    }
}

impl core::fmt::Debug for PacketBatch {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "PacketBatch(room for {})", self.room.capacity())
    }
}

/// An empty vector of another lifetime in the same allocation: the standard library collects a
/// vector's own iterator in place when the layouts agree. Should it ever stop doing so, this
/// allocates and stays correct.
fn relabel<'to>(mut room: Vec<ZeroCopyPacket<'_>>) -> Vec<ZeroCopyPacket<'to>> {
    room.clear();
    room.into_iter()
        .map_while(|_| None::<ZeroCopyPacket<'to>>)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use net_datapath::VirtioNetHdr;

    #[test]
    fn the_allocation_survives() {
        let mut batch = PacketBatch::new();
        let mut first = None;
        for _ in 0..3 {
            let frame = [0u8; 60];
            let mut room = batch.take();
            assert!(room.is_empty() && room.capacity() >= PacketBatch::LEN);
            let at = room.as_ptr() as usize;
            assert_eq!(*first.get_or_insert(at), at, "the room moved");
            room.push(ZeroCopyPacket::from_slice(&frame, VirtioNetHdr::PLAIN).unwrap());
            batch.put_back(room);
        }
    }
}
