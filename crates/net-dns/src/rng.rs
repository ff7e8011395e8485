//! Query ids from a seed.

use std::hash::Hasher;

use siphasher::sip::SipHasher24;

/// A keyed function of a counter: who sees any number of ids cannot tell the next one without
/// the seed (RFC 5452 section 9.2).
#[derive(Debug)]
pub(crate) struct Ids {
    key: SipHasher24,
    counter: u64,
}

impl Ids {
    pub(crate) fn new(seed: &[u8; 16]) -> Self {
        Self {
            key: SipHasher24::new_with_key(seed),
            counter: 0,
        }
    }

    pub(crate) fn next_id(&mut self) -> u16 {
        self.counter = self.counter.wrapping_add(1);
        let mut hasher = self.key;
        hasher.write_u64(self.counter);
        hasher.finish() as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row65_ids_follow_the_seed_and_spread() {
        let ids = |seed| {
            let mut ids = Ids::new(&[seed; 16]);
            std::array::from_fn::<u16, 64, _>(|_| ids.next_id())
        };
        assert_eq!(ids(1), ids(1));
        assert_ne!(ids(1), ids(2));
        let distinct: std::collections::BTreeSet<u16> = ids(3).into_iter().collect();
        assert!(distinct.len() > 60, "{}", distinct.len());
    }
}
