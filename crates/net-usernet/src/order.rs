//! Order of last use over the keys of a slab, in constant time.
//!
//! [`Links`] holds one pair of neighbours for every key; each key stands in at most one
//! [`Order`] of a `Links`, and any number of orders share it.

const NONE: u32 = u32::MAX;

#[derive(Debug, Clone, Copy)]
struct Link {
    older: u32,
    newer: u32,
}

/// The neighbours of every key.
#[derive(Debug, Default)]
pub(crate) struct Links(Vec<Link>);

/// One sequence of keys, oldest first.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Order {
    oldest: u32,
    newest: u32,
    len: usize,
}

impl Default for Order {
    fn default() -> Self {
        Self {
            oldest: NONE,
            newest: NONE,
            len: 0,
        }
    }
}

impl Order {
    /// The key that was not used for the longest time.
    pub(crate) fn oldest(&self) -> Option<usize> {
        (self.oldest != NONE).then_some(self.oldest as usize)
    }

    /// How many keys there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

impl Links {
    /// Appends `key`, which is in no order, as the newest.
    pub(crate) fn push(&mut self, order: &mut Order, key: usize) {
        if self.0.len() <= key {
            self.0.resize(
                key + 1,
                Link {
                    older: NONE,
                    newer: NONE,
                },
            );
        }
        let older = order.newest;
        self.0[key] = Link { older, newer: NONE };
        match older {
            NONE => order.oldest = key as u32,
            _ => self.0[older as usize].newer = key as u32,
        }
        order.newest = key as u32;
        order.len += 1;
    }

    /// Takes `key` out of `order`, which it is in.
    pub(crate) fn remove(&mut self, order: &mut Order, key: usize) {
        let Link { older, newer } = self.0[key];
        match older {
            NONE => order.oldest = newer,
            _ => self.0[older as usize].newer = newer,
        }
        match newer {
            NONE => order.newest = older,
            _ => self.0[newer as usize].older = older,
        }
        order.len -= 1;
    }

    /// Makes `key`, which is in `order`, the newest.
    pub(crate) fn touch(&mut self, order: &mut Order, key: usize) {
        if order.newest != key as u32 {
            self.remove(order, key);
            self.push(order, key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    proptest! {
        /// Two orders over one set of links, against two queues.
        #[test]
        fn agrees_with_queues(steps in proptest::collection::vec((0usize..24, 0u8..3), 0..400)) {
            let mut links = Links::default();
            let mut orders = [Order::default(); 2];
            let mut oracle: [VecDeque<usize>; 2] = Default::default();
            for (key, step) in steps {
                let which = key % 2;
                let (order, queue) = (&mut orders[which], &mut oracle[which]);
                let at = queue.iter().position(|k| *k == key);
                match (step, at) {
                    (0, None) => {
                        links.push(order, key);
                        queue.push_back(key);
                    }
                    (1, Some(at)) => {
                        links.remove(order, key);
                        queue.remove(at);
                    }
                    (2, Some(at)) => {
                        links.touch(order, key);
                        queue.remove(at);
                        queue.push_back(key);
                    }
                    _ => {}
                }
                prop_assert_eq!(order.oldest(), queue.front().copied());
                prop_assert_eq!(order.len(), queue.len());
            }
            for (order, queue) in orders.iter_mut().zip(&mut oracle) {
                while let Some(key) = order.oldest() {
                    prop_assert_eq!(queue.pop_front(), Some(key));
                    links.remove(order, key);
                }
                prop_assert!(queue.is_empty());
            }
        }
    }
}
