//! What the fragments of all and of each owner use of the table.

use super::key::Keyed;

/// What fragments use of the table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Use {
    pub(super) datagrams: usize,
    pub(super) packets: usize,
    pub(super) bytes: usize,
}

impl Use {
    /// Held fragments without their datagram.
    pub(super) const fn held(packets: usize, bytes: usize) -> Self {
        Self {
            datagrams: 0,
            packets,
            bytes,
        }
    }

    fn add(&mut self, more: Self) {
        self.datagrams += more.datagrams;
        self.packets += more.packets;
        self.bytes += more.bytes;
    }

    fn subtract(&mut self, less: Self) {
        self.datagrams -= less.datagrams;
        self.packets -= less.packets;
        self.bytes -= less.bytes;
    }
}

/// The use of all and of each.
#[derive(Debug)]
pub(super) struct Owners {
    total: Use,
    /// Only owners that have something, so there are never more of them than datagrams.
    each: hashbrown::HashMap<u32, Use, Keyed>,
}

impl Owners {
    pub(super) fn new(secret: &[u8; 16]) -> Self {
        Self {
            total: Use::default(),
            each: hashbrown::HashMap::with_hasher(Keyed::new(secret)),
        }
    }

    pub(super) fn total(&self) -> Use {
        self.total
    }

    pub(super) fn of(&self, owner: u32) -> Use {
        self.each.get(&owner).copied().unwrap_or_default()
    }

    pub(super) fn charge(&mut self, owner: u32, what: Use) {
        self.total.add(what);
        self.each.entry(owner).or_default().add(what);
    }

    /// Takes back what was charged before.
    pub(super) fn credit(&mut self, owner: u32, what: Use) {
        self.total.subtract(what);
        if let Some(own) = self.each.get_mut(&owner) {
            own.subtract(what);
            if *own == Use::default() {
                self.each.remove(&owner);
            }
        }
    }

    /// How many owners have something.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.each.len()
    }
}
