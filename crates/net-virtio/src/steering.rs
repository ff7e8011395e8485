//! Which receive queue a frame goes to: the one of the pair its flow was last sent on
//! (VIRTIO 1.3, 5.1.6.5.6).

use net_datapath::PacketMeta;

/// Flows that are told apart; more share an entry, and then a queue.
const ENTRIES: usize = 1024;

/// The pair each flow was last seen on.
#[derive(Clone)]
pub(crate) struct Steering {
    pairs: Box<[u8; ENTRIES]>,
}

impl Default for Steering {
    /// Every flow to the first pair, which every driver has.
    fn default() -> Self {
        Self {
            pairs: Box::new([0; ENTRIES]),
        }
    }
}

impl Steering {
    fn entry(meta: &PacketMeta, head: &[u8]) -> usize {
        // No secret: a guest that lets its own flows collide slows itself.
        meta.flow_hash_symmetric(head, 0) as usize % ENTRIES
    }

    /// Notes that a frame came out of `pair`, less than 128.
    pub(crate) fn note(&mut self, meta: &PacketMeta, head: &[u8], pair: u16) {
        let entry = &mut self.pairs[Self::entry(meta, head)];
        // Written only if it changes: the line stays clean.
        if u16::from(*entry) != pair {
            *entry = pair as u8;
        }
    }

    /// The pair for a frame to the guest.
    pub(crate) fn pair(&self, meta: &PacketMeta, head: &[u8]) -> u16 {
        self.pairs[Self::entry(meta, head)].into()
    }
}
