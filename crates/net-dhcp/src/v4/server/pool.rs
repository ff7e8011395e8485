//! Which addresses of the pool are blank: never given, not reserved, not excluded.

use std::net::Ipv4Addr;

/// One bit per address; a set bit is an address that is not blank.
#[derive(Debug)]
pub(super) struct Pool {
    first: u32,
    len: u32,
    words: Vec<u64>,
}

impl Pool {
    /// A blank pool from `first` to `last`, both included. The configuration has checked that
    /// they are in order and at most 65,536 addresses apart.
    pub(super) fn new(first: Ipv4Addr, last: Ipv4Addr) -> Self {
        let first = u32::from(first);
        let len = u32::from(last).saturating_sub(first).saturating_add(1);
        let mut words = vec![0u64; len.div_ceil(64) as usize];
        // Bits past the end are never blank.
        if let (Some(last), tail @ 1..) = (words.last_mut(), len % 64) {
            *last = u64::MAX << tail;
        }
        Self { first, len, words }
    }

    pub(super) fn contains(&self, ip: u32) -> bool {
        self.index(ip).is_some()
    }

    pub(super) fn set_used(&mut self, ip: u32, used: bool) {
        if let Some(i) = self.index(ip)
            && let Some(word) = self.words.get_mut((i / 64) as usize)
        {
            let bit = 1 << (i % 64);
            if used { *word |= bit } else { *word &= !bit }
        }
    }

    pub(super) fn is_blank(&self, ip: u32) -> bool {
        self.index(ip).is_some_and(|i| {
            self.words
                .get((i / 64) as usize)
                .is_some_and(|word| word & (1 << (i % 64)) == 0)
        })
    }

    pub(super) fn blanks(&self) -> u32 {
        self.words.iter().map(|word| word.count_zeros()).sum()
    }

    /// Where in the pool a client with this hash is placed first.
    pub(super) fn slot(&self, hash: u64) -> u32 {
        // The pool is never empty, and the remainder is below 2^16.
        self.first + (hash % u64::from(self.len.max(1))) as u32
    }

    /// The first blank address at or after `from`, going round at the end.
    pub(super) fn next_blank(&self, from: u32) -> Option<u32> {
        let start = self.index(from).unwrap_or(0);
        let first_word = (start / 64) as usize;
        let before = !(u64::MAX << (start % 64));
        let count = self.words.len();
        // The word of `from` is looked at twice: its upper bits first, its lower bits last.
        (0..=count).find_map(|step| {
            let at = (first_word + step) % count.max(1);
            let word = *self.words.get(at)?;
            let word = if step == 0 { word | before } else { word };
            let bit = word.trailing_ones();
            (bit < 64).then(|| self.first + at as u32 * 64 + bit)
        })
    }

    fn index(&self, ip: u32) -> Option<u32> {
        ip.checked_sub(self.first).filter(|&i| i < self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pool(len: u32) -> Pool {
        Pool::new(Ipv4Addr::from(1000), Ipv4Addr::from(1000 + len - 1))
    }

    #[test]
    fn pool_ends_where_it_says() {
        for len in [1, 63, 64, 65, 128, 254, 65_536] {
            let mut p = pool(len);
            assert_eq!(p.blanks(), len);
            assert!(p.contains(1000 + len - 1) && !p.contains(1000 + len) && !p.contains(999));
            for ip in 1000..1000 + len {
                assert_eq!(p.next_blank(1000), Some(ip));
                p.set_used(ip, true);
            }
            assert_eq!(p.next_blank(1000), None);
            p.set_used(1000 + len - 1, false);
            assert_eq!(p.next_blank(1000), Some(1000 + len - 1));
        }
    }

    proptest! {
        #[test]
        fn next_blank_matches_a_scan(
            len in 1u32..200,
            used in proptest::collection::vec(0u32..200, 0..200),
            from in 0u32..200,
        ) {
            let mut p = pool(len);
            for i in &used {
                p.set_used(1000 + i, true);
            }
            let from = from % len;
            let want = (0..len)
                .map(|step| (from + step) % len)
                .find(|i| !used.contains(i))
                .map(|i| 1000 + i);
            prop_assert_eq!(p.next_blank(1000 + from), want);
            prop_assert_eq!(p.blanks(), (0..len).filter(|i| !used.contains(i)).count() as u32);
        }
    }
}
