//! Entries in order of age, with removal from anywhere: with one timeout for all, the order of age
//! is the order of expiry.

use alloc::vec::Vec;

/// No slot.
const NONE: u32 = u32::MAX;

/// Entries at stable indices, linked from the oldest to the newest.
///
/// Every operation is O(1); the memory grows to the most entries there ever were at a time.
#[derive(Debug)]
pub(super) struct Slots<E> {
    nodes: Vec<Node<E>>,
    oldest: u32,
    newest: u32,
    /// First free node; they are linked by `newer`.
    free: u32,
}

#[derive(Debug)]
struct Node<E> {
    entry: Option<E>,
    older: u32,
    newer: u32,
}

impl<E> Slots<E> {
    pub(super) fn new() -> Self {
        Self {
            nodes: Vec::new(),
            oldest: NONE,
            newest: NONE,
            free: NONE,
        }
    }

    pub(super) fn get(&self, index: u32) -> Option<&E> {
        self.nodes.get(index as usize)?.entry.as_ref()
    }

    pub(super) fn get_mut(&mut self, index: u32) -> Option<&mut E> {
        self.nodes.get_mut(index as usize)?.entry.as_mut()
    }

    /// The entry that has been there the longest.
    pub(super) fn oldest(&self) -> Option<(u32, &E)> {
        Some((self.oldest, self.get(self.oldest)?))
    }

    /// Adds an entry as the newest and returns its index.
    pub(super) fn push(&mut self, entry: E) -> u32 {
        let index = match self.nodes.get_mut(self.free as usize) {
            Some(node) => {
                node.entry = Some(entry);
                core::mem::replace(&mut self.free, node.newer)
            }
            None => {
                self.nodes.push(Node {
                    entry: Some(entry),
                    older: NONE,
                    newer: NONE,
                });
                (self.nodes.len() - 1) as u32
            }
        };
        self.link(index);
        index
    }

    /// Takes an entry out.
    pub(super) fn remove(&mut self, index: u32) -> Option<E> {
        let entry = self.nodes.get_mut(index as usize)?.entry.take()?;
        self.unlink(index);
        if let Some(node) = self.nodes.get_mut(index as usize) {
            node.newer = self.free;
            self.free = index;
        }
        Some(entry)
    }

    /// Makes an entry the newest again.
    pub(super) fn renew(&mut self, index: u32) {
        if self.get(index).is_some() {
            self.unlink(index);
            self.link(index);
        }
    }

    fn link(&mut self, index: u32) {
        let older = core::mem::replace(&mut self.newest, index);
        if let Some(node) = self.nodes.get_mut(index as usize) {
            node.older = older;
            node.newer = NONE;
        }
        match self.nodes.get_mut(older as usize) {
            Some(node) => node.newer = index,
            None => self.oldest = index,
        }
    }

    fn unlink(&mut self, index: u32) {
        let Some(node) = self.nodes.get(index as usize) else {
            return;
        };
        let (older, newer) = (node.older, node.newer);
        match self.nodes.get_mut(older as usize) {
            Some(node) => node.newer = newer,
            None => self.oldest = newer,
        }
        match self.nodes.get_mut(newer as usize) {
            Some(node) => node.older = older,
            None => self.newest = older,
        }
    }

    /// The entries from the oldest to the newest.
    #[cfg(test)]
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &E)> {
        let mut next = self.oldest;
        core::iter::from_fn(move || {
            let node = self.nodes.get(next as usize)?;
            let index = core::mem::replace(&mut next, node.newer);
            Some((index, node.entry.as_ref()?))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Against a vector in order of age.
        #[test]
        fn behaves_as_a_vector(steps in prop::collection::vec((0u8..4, any::<u16>()), 0..200)) {
            let mut slots = Slots::new();
            let mut model: Vec<(u32, u16)> = Vec::new();
            for (what, value) in steps {
                let at = (!model.is_empty()).then(|| usize::from(value) % model.len());
                match (what, at) {
                    (2, Some(at)) => {
                        let (index, expected) = model.remove(at);
                        prop_assert_eq!(slots.remove(index), Some(expected));
                        prop_assert_eq!(slots.remove(index), None);
                    }
                    (3, Some(at)) => {
                        let entry = model.remove(at);
                        slots.renew(entry.0);
                        model.push(entry);
                    }
                    _ => {
                        let index = slots.push(value);
                        prop_assert!(model.iter().all(|&(taken, _)| taken != index));
                        model.push((index, value));
                    }
                }
                let all: Vec<_> = slots.iter().map(|(index, &value)| (index, value)).collect();
                prop_assert_eq!(&all, &model);
                prop_assert_eq!(slots.oldest().map(|(index, _)| index), model.first().map(|e| e.0));
            }
        }
    }
}
