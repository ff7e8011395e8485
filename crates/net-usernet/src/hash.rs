//! Keyed hashing: a guest must not be able to choose its bucket.

use core::hash::BuildHasher;

use siphasher::sip::SipHasher13;

/// Builds SipHash-1-3 under a secret key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KeyedState {
    key: [u64; 2],
}

impl KeyedState {
    /// A key derived from the instance's secret; `table` keeps two tables from sharing one.
    pub(crate) fn new(seed: &[u8; 16], table: u64) -> Self {
        let (low, high) = (
            u128::from_ne_bytes(*seed) as u64,
            (u128::from_ne_bytes(*seed) >> 64) as u64,
        );
        Self {
            key: [low ^ table, high],
        }
    }
}

impl BuildHasher for KeyedState {
    type Hasher = SipHasher13;

    fn build_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_keys(self.key[0], self.key[1])
    }
}
