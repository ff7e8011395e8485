//! The last sessions of 256 hashes, in front of the index.
//!
//! For the call with a single packet: a hit spares the bucket, which is one cache line less. It is
//! believed only after the session itself has been compared. Where traffic has too many flows for
//! it, it costs a miss for each packet and wins nothing; then it switches itself off, and looks again
//! from time to time.

const ENTRIES: usize = 256;
/// Look-ups between two looks at the rate of hits.
const WINDOW: u32 = 1024;
/// Below this many hits in a window it goes to sleep.
const LEAST: u32 = WINDOW / 2;
/// Windows it sleeps.
const SLEEP: u32 = 32;

#[derive(Clone, Copy)]
struct Entry {
    /// High half of the hash.
    hash: u32,
    number: u32,
}

/// The cache.
pub(crate) struct Cache {
    entries: [Entry; ENTRIES],
    lookups: u32,
    hits: u32,
    /// Windows left to sleep.
    asleep: u32,
}

impl Cache {
    pub(crate) const fn new() -> Self {
        Self {
            entries: [Entry {
                hash: 0,
                number: u32::MAX,
            }; ENTRIES],
            lookups: 0,
            hits: 0,
            asleep: 0,
        }
    }

    /// The session that had this hash last.
    #[inline(always)]
    pub(crate) fn get(&mut self, hash: u64) -> Option<u32> {
        self.lookups += 1;
        if self.lookups == WINDOW {
            self.end_window();
        }
        if self.asleep != 0 {
            return None;
        }
        let entry = self.entries[hash as usize % ENTRIES];
        if entry.hash != (hash >> 32) as u32 {
            return None;
        }
        self.hits += 1;
        Some(entry.number)
    }

    /// Remembers a session.
    #[inline(always)]
    pub(crate) fn put(&mut self, hash: u64, number: u32) {
        if self.asleep == 0 {
            self.entries[hash as usize % ENTRIES] = Entry {
                hash: (hash >> 32) as u32,
                number,
            };
        }
    }

    #[cold]
    fn end_window(&mut self) {
        if self.asleep > 0 {
            self.asleep -= 1;
        } else if self.hits < LEAST {
            self.asleep = SLEEP;
        }
        self.lookups = 0;
        self.hits = 0;
    }

    /// Whether look-ups go to it at present.
    #[cfg(test)]
    fn is_awake(&self) -> bool {
        self.asleep == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleeps_when_it_does_not_help_and_wakes_again() {
        let mut cache = Cache::new();
        for i in 1..u64::from(WINDOW) * 2 {
            // Every hash is new.
            assert_eq!(cache.get(i << 32 | 1 << 20), None);
            cache.put(i << 32 | 1 << 20, 1);
        }
        assert!(!cache.is_awake());
        let mut asleep = 0;
        while !cache.is_awake() && asleep <= WINDOW * SLEEP {
            cache.get(7 << 32);
            asleep += 1;
        }
        assert!(asleep >= WINDOW * (SLEEP - 1));
        assert!(cache.is_awake());
        cache.put(7 << 32, 9);
        for _ in 0..WINDOW * 3 {
            assert_eq!(cache.get(7 << 32), Some(9));
        }
        assert!(cache.is_awake());
    }
}
