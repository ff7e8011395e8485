//! The ports of one outside address for one protocol: which are free, and whose the others are.

use alloc::boxed::Box;

use crate::hash::Random;
use crate::table::Region;

const PORTS: usize = 1 << 16;
/// Random tries before the search for the next free port: while a quarter of the ports is free, nine
/// of ten choices are purely random (RFC 6056, section 3.3.2).
const TRIES: usize = 8;

/// A port that no mapping gets: another engine's, or a forward's.
const RESERVED: u32 = u32::MAX;

/// Ports from `first` to `last`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PortRange {
    pub(crate) first: u16,
    pub(crate) last: u16,
}

impl PortRange {
    /// How many ports it has.
    pub(crate) fn len(self) -> u32 {
        u32::from(self.last - self.first) + 1
    }

    /// The part of it that belongs to `number` of `count` shards.
    pub(crate) fn share(self, number: u16, count: u16) -> Self {
        let all = self.len();
        let at = |n: u16| u32::from(self.first) + all * u32::from(n) / u32::from(count);
        Self {
            first: at(number) as u16,
            last: (at(number + 1) - 1) as u16,
        }
    }

    pub(crate) fn contains(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

/// Ports and their mappings.
pub(crate) struct PortTable {
    /// Number of the mapping plus one; 0 is free.
    owners: Region<u32>,
    /// A bit for each free port.
    free: Box<[u64; PORTS / 64]>,
    /// A bit for each word of `free` that is not zero.
    words: [u64; PORTS / 64 / 64],
}

impl PortTable {
    pub(crate) fn new() -> Option<Self> {
        Some(Self {
            owners: Region::new(PORTS)?,
            free: Box::new([u64::MAX; PORTS / 64]),
            words: [u64::MAX; PORTS / 64 / 64],
        })
    }

    pub(crate) fn bytes(&self) -> usize {
        self.owners.bytes() + PORTS / 8
    }

    /// The mapping a port belongs to.
    #[inline]
    pub(crate) fn owner(&self, port: u16) -> Option<u32> {
        match self.owners.get(usize::from(port)).copied() {
            None | Some(0 | RESERVED) => None,
            Some(owner) => Some(owner - 1),
        }
    }

    #[inline]
    pub(crate) fn is_free(&self, port: u16) -> bool {
        // By the bits, which are 32 times as dense as the owners.
        let word = self.free.get(usize::from(port / 64)).copied();
        word.unwrap_or(0) >> (port % 64) & 1 == 1
    }

    /// A free port of the range, chosen at random; with `parity`, odd or even as that is.
    pub(crate) fn choose(
        &self,
        range: PortRange,
        parity: Option<u16>,
        random: &mut Random,
    ) -> Option<u16> {
        let width = range.len();
        let mut port = range.first;
        for _ in 0..TRIES {
            port = (u32::from(range.first) + random.below(width)) as u16;
            if let Some(odd) = parity {
                port = port & !1 | odd & 1;
            }
            if range.contains(port) && self.is_free(port) {
                return Some(port);
            }
        }
        let mask = match parity {
            None => u64::MAX,
            Some(odd) => 0x5555_5555_5555_5555 << (odd & 1),
        };
        let behind = PortRange {
            first: port.max(range.first),
            ..range
        };
        self.next_free(behind, mask)
            .or_else(|| self.next_free(range, mask))
    }

    /// The first free port of the range among those of `mask` in each word.
    fn next_free(&self, range: PortRange, mask: u64) -> Option<u16> {
        let (first, last) = (usize::from(range.first), usize::from(range.last));
        let mut word = first / 64;
        let mut bits = self.free.get(word)? & mask & u64::MAX << (first % 64);
        loop {
            if bits != 0 {
                let port = word * 64 + bits.trailing_zeros() as usize;
                return (port <= last).then_some(port as u16);
            }
            word = self.next_word(word + 1)?;
            if word * 64 > last {
                return None;
            }
            bits = self.free.get(word)? & mask;
        }
    }

    /// The first word from `word` on that has a free port.
    fn next_word(&self, word: usize) -> Option<usize> {
        let mut at = word / 64;
        let mut bits = self.words.get(at)? & u64::MAX << (word % 64);
        while bits == 0 {
            at += 1;
            bits = *self.words.get(at)?;
        }
        Some(at * 64 + bits.trailing_zeros() as usize)
    }

    /// Gives a port to a mapping.
    pub(crate) fn take(&mut self, port: u16, mapping: u32) {
        self.set(port, mapping + 1);
    }

    /// Keeps a port from being chosen.
    pub(crate) fn reserve(&mut self, port: u16) {
        self.set(port, RESERVED);
    }

    /// Makes a port free again.
    pub(crate) fn release(&mut self, port: u16) {
        self.set(port, 0);
    }

    fn set(&mut self, port: u16, owner: u32) {
        let at = usize::from(port);
        if let Some(slot) = self.owners.get_mut(at) {
            *slot = owner;
        }
        let (word, bit) = (at / 64, 1u64 << (at % 64));
        let Some(free) = self.free.get_mut(word) else {
            return;
        };
        if owner == 0 {
            *free |= bit;
        } else {
            *free &= !bit;
        }
        let empty = *free == 0;
        if let Some(words) = self.words.get_mut(word / 64) {
            let bit = 1u64 << (word % 64);
            if empty {
                *words &= !bit;
            } else {
                *words |= bit;
            }
        }
    }

    /// Whether bits and owners say the same.
    pub(crate) fn is_consistent(&self) -> bool {
        fn bits<T>(of: &[T], is_set: impl Fn(&T) -> bool) -> u64 {
            let from_the_end = of.iter().rev();
            from_the_end.fold(0, |bits, item| bits << 1 | u64::from(is_set(item)))
        }
        let owners = self.owners.chunks(64).map(|o| bits(o, |&owner| owner == 0));
        let words = self.free.chunks(64).map(|w| bits(w, |&word| word != 0));
        owners.eq(self.free.iter().copied()) && words.eq(self.words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HIGH: PortRange = PortRange {
        first: 1024,
        last: 65_535,
    };

    #[test]
    fn every_port_of_a_range_is_handed_out_once_and_then_none() {
        let (mut table, mut random) = (PortTable::new().unwrap(), Random::new(&[1; 16]));
        let range = PortRange {
            first: 1000,
            last: 3000,
        };
        for mapping in 0..2001 {
            let port = table.choose(range, None, &mut random).unwrap();
            assert!(range.contains(port) && table.is_free(port));
            table.take(port, mapping);
            assert_eq!(table.owner(port), Some(mapping));
        }
        assert_eq!(table.choose(range, None, &mut random), None);
        table.release(1500);
        assert_eq!(table.choose(range, None, &mut random), Some(1500));
        assert!(table.is_consistent());
    }

    #[test]
    fn rfc4787_req4_parity_is_kept_to_the_last_port() {
        let (mut table, mut random) = (PortTable::new().unwrap(), Random::new(&[2; 16]));
        let range = PortRange {
            first: 5001,
            last: 5100,
        };
        for _ in 0..50 {
            let port = table.choose(range, Some(7), &mut random).unwrap();
            assert_eq!(port % 2, 1);
            table.take(port, 0);
        }
        assert_eq!(table.choose(range, Some(1), &mut random), None);
        assert!(table.choose(range, Some(0), &mut random).is_some());
    }

    #[test]
    fn shares_cover_the_range_without_overlap() {
        for count in [1, 2, 3, 7, 256] {
            let mut next = u32::from(HIGH.first);
            for number in 0..count {
                let share = HIGH.share(number, count);
                assert_eq!(u32::from(share.first), next);
                assert!(share.last >= share.first);
                next = u32::from(share.last) + 1;
            }
            assert_eq!(next, 1 << 16);
        }
    }

    #[test]
    fn reserved_ports_are_nobodys() {
        let (mut table, mut random) = (PortTable::new().unwrap(), Random::new(&[3; 16]));
        let range = PortRange { first: 9, last: 10 };
        table.reserve(9);
        assert_eq!(table.owner(9), None);
        assert_eq!(table.choose(range, None, &mut random), Some(10));
    }
}
