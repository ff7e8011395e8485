//! The ports of one outside address for one protocol: which are free, whose the others are, and the
//! session of each that has only one.
//!
//! Whose they are stands in memory that several tables share, so that it fills large pages.

use alloc::boxed::Box;

use net_datapath::prefetch::{prefetch_read, prefetch_write};

use crate::hash::{Bits, Random};
use crate::table::NONE;

pub(crate) const PORTS: usize = 1 << 16;
/// Words of 64 ports looked into before the search for the next free one: a word without a free port
/// is rare until nearly all are taken.
const TRIES: usize = 8;

/// Owner of a port that no mapping gets: another engine's, or a forward's.
const RESERVED: u32 = u32::MAX;
/// In the place of a session where a mapping has several.
pub(crate) const SEVERAL: u32 = NONE - 1;

/// What is known of a port: a port that nobody has is all zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C, align(8))]
pub(crate) struct Port {
    /// 0 for none, [`RESERVED`], or one more than the number of a mapping.
    owner: u32,
    /// One more than the number of a session, than [`SEVERAL`] or, with wrapping, than [`NONE`].
    session: u32,
}

impl Port {
    pub(crate) const FREE: Self = Self {
        owner: 0,
        session: 0,
    };

    /// The mapping that has it.
    #[inline]
    pub(crate) fn mapping(self) -> Option<u32> {
        match self.owner {
            0 | RESERVED => None,
            owner => Some(owner - 1),
        }
    }

    /// The only session of that mapping, [`SEVERAL`] if it has more, [`NONE`] if it has none.
    #[inline(always)]
    pub(crate) fn session(self) -> u32 {
        self.session.wrapping_sub(1)
    }

    /// Says which one that is.
    #[inline(always)]
    pub(crate) fn set_session(&mut self, session: u32) {
        self.session = session.wrapping_add(1);
    }
}

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

    /// A bit for each of the word's 64 ports that is in it.
    #[inline]
    fn of_word(self, word: u16) -> u64 {
        let start = word * 64;
        let before = self.first.saturating_sub(start);
        let behind = (start + 63).saturating_sub(self.last);
        u64::MAX.unbounded_shl(before.into()) & u64::MAX.unbounded_shr(behind.into())
    }

    pub(crate) fn contains(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

/// Which ports are free.
pub(crate) struct PortTable {
    /// A bit for each free port.
    free: Box<[u64; PORTS / 64]>,
    /// A bit for each word of `free` that is not zero.
    words: [u64; PORTS / 64 / 64],
    /// The port that is chosen next, if it will do: so what it stands in can be asked for.
    next: Option<u16>,
    /// What the port after that is chosen by: so the bits it looks at can be asked for.
    drawn: Option<Bits>,
}

/// The ports of a word that have this parity.
#[inline]
fn mask(parity: Option<u16>) -> u64 {
    match parity {
        None => u64::MAX,
        Some(odd) => 0x5555_5555_5555_5555 << (odd & 1),
    }
}

/// A bit of a word that is not 0, each with the same likelihood.
#[inline]
fn any_bit(word: u64, random: Bits) -> u16 {
    const LOW: u64 = 0x0101_0101_0101_0101;
    // How many there are in each byte, and in all up to each: a loop over them all would turn out another
    // way each time, for which a processor waits longer than for this.
    let pairs = word - (word >> 1 & 0x5555_5555_5555_5555);
    let nibbles = (pairs & 0x3333_3333_3333_3333) + (pairs >> 2 & 0x3333_3333_3333_3333);
    let bytes = (nibbles + (nibbles >> 4)) & 0x0f0f_0f0f_0f0f_0f0f;
    let upto = bytes.wrapping_mul(LOW);
    let rank = u64::from(random.below((upto >> 56) as u32).0);
    // The bytes before the one with that bit: up to each there are `rank` or fewer.
    let before = (((rank * LOW) | (LOW << 7)) - upto) >> 7 & LOW;
    let start = before.wrapping_mul(LOW) >> 56 << 3;
    let skipped = (upto << 8) >> start & 0xff;
    let mut left = word >> start;
    for _ in skipped..rank {
        left &= left - 1;
    }
    start as u16 + left.trailing_zeros() as u16
}

impl PortTable {
    pub(crate) fn new() -> Self {
        Self {
            free: Box::new([u64::MAX; PORTS / 64]),
            words: [u64::MAX; PORTS / 64 / 64],
            next: None,
            drawn: None,
        }
    }

    pub(crate) const BYTES: usize = PORTS / 8;

    #[inline]
    pub(crate) fn is_free(&self, port: u16) -> bool {
        // By the bits, which are 32 times as dense as the owners.
        let word = self.free.get(usize::from(port / 64)).copied();
        word.unwrap_or(0) >> (port % 64) & 1 == 1
    }

    /// A free port of the range, chosen at random (RFC 6056, section 3.3); with `parity`, odd or even
    /// as that is.
    ///
    /// A random number names a port, and where that is taken another one of its word of 64, each
    /// with the same likelihood: one look while a word has a free port, and no port is likelier than
    /// others because its neighbours are taken, as with a search from there on.
    #[inline(always)]
    pub(crate) fn choose(
        &mut self,
        range: PortRange,
        parity: Option<u16>,
        random: &mut Random,
    ) -> Option<u16> {
        if let Some(port) = self.next.take()
            && range.contains(port)
            && parity.is_none_or(|odd| (port ^ odd) & 1 == 0)
            && self.is_free(port)
        {
            return Some(port);
        }
        self.choose_anew(range, parity, random)
    }

    /// Chooses the port that [`Self::choose`] will give if it is asked for the like again, and asks for
    /// where its owner stands: that is cold in a large table, and its place not known from the random
    /// number alone where most ports are taken.
    #[inline(always)]
    pub(crate) fn choose_ahead(
        &mut self,
        owners: &[Port],
        range: PortRange,
        parity: Option<u16>,
        random: &mut Random,
    ) {
        let drawn = random.bits();
        let later = range.first + drawn.below(range.len()).0 as u16;
        if let Some(word) = self.free.get(usize::from(later / 64)) {
            prefetch_read(core::ptr::from_ref(word));
        }
        let bits = self.drawn.replace(drawn).unwrap_or_else(|| random.bits());
        let (port, rest) = bits.below(range.len());
        let port = range.first + port as u16;
        self.next = if parity.is_none() && self.is_free(port) {
            Some(port)
        } else {
            self.near(port, rest, range, mask(parity))
        };
        if let Some(owner) = self.next.and_then(|next| owners.get(usize::from(next))) {
            prefetch_write(core::ptr::from_ref(owner).cast_mut());
        }
    }

    /// A free port of the word that `port` is in: that one, or one at random.
    #[inline(never)]
    fn near(&self, port: u16, rest: Bits, range: PortRange, mask: u64) -> Option<u16> {
        let word = port / 64;
        let free = self.free.get(usize::from(word))? & mask & range.of_word(word);
        if free >> (port % 64) & 1 == 1 {
            return Some(port);
        }
        (free != 0).then(|| word * 64 + any_bit(free, rest))
    }

    /// Chooses where nothing was chosen ahead that will do.
    #[cold]
    #[inline(never)]
    fn choose_anew(
        &self,
        range: PortRange,
        parity: Option<u16>,
        random: &mut Random,
    ) -> Option<u16> {
        let mask = mask(parity);
        let mut first = range.first;
        for _ in 0..TRIES {
            let (port, rest) = random.bits().below(range.len());
            first = range.first + port as u16;
            if let Some(port) = self.near(first, rest, range, mask) {
                return Some(port);
            }
        }
        self.next_free(PortRange { first, ..range }, mask)
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
    #[inline]
    pub(crate) fn take(&mut self, owners: &mut [Port], port: u16, mapping: u32) {
        self.set(owners, port, mapping + 1);
    }

    /// Keeps a port from being chosen.
    pub(crate) fn reserve(&mut self, owners: &mut [Port], port: u16) {
        self.set(owners, port, RESERVED);
    }

    /// `owner` is not 0.
    #[inline]
    fn set(&mut self, owners: &mut [Port], port: u16, owner: u32) {
        let at = usize::from(port);
        if let Some(slot) = owners.get_mut(at) {
            *slot = Port {
                owner,
                ..Port::FREE
            };
        }
        let Some(free) = self.free.get_mut(at / 64) else {
            return;
        };
        *free &= !(1 << (at % 64));
        if *free == 0
            && let Some(words) = self.words.get_mut(at / 64 / 64)
        {
            *words &= !(1 << (at / 64 % 64));
        }
    }

    /// Makes a port free again.
    #[inline]
    pub(crate) fn release(&mut self, owners: &mut [Port], port: u16) {
        let at = usize::from(port);
        if let Some(slot) = owners.get_mut(at) {
            *slot = Port::FREE;
        }
        if let Some(free) = self.free.get_mut(at / 64) {
            *free |= 1 << (at % 64);
        }
        if let Some(words) = self.words.get_mut(at / 64 / 64) {
            *words |= 1 << (at / 64 % 64);
        }
    }

    /// Whether bits and owners say the same.
    pub(crate) fn is_consistent(&self, owners: &[Port]) -> bool {
        fn bits<T>(of: &[T], is_set: impl Fn(&T) -> bool) -> u64 {
            let from_the_end = of.iter().rev();
            from_the_end.fold(0, |bits, item| bits << 1 | u64::from(is_set(item)))
        }
        let no_mapping_no_session = owners
            .iter()
            .all(|o| o.mapping().is_some() || o.session() == NONE);
        let owners = owners.chunks(64).map(|o| bits(o, |o| o.owner == 0));
        let words = self.free.chunks(64).map(|w| bits(w, |&word| word != 0));
        no_mapping_no_session && owners.eq(self.free.iter().copied()) && words.eq(self.words)
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
        let (mut table, mut owners) = (PortTable::new(), [Port::FREE; PORTS]);
        let mut random = Random::new(&[1; 16]);
        let range = PortRange {
            first: 1000,
            last: 3000,
        };
        for mapping in 0..2001 {
            let port = table.choose(range, None, &mut random).unwrap();
            assert!(range.contains(port) && table.is_free(port));
            table.take(&mut owners, port, mapping);
            assert_eq!(owners[usize::from(port)].mapping(), Some(mapping));
        }
        assert_eq!(table.choose(range, None, &mut random), None);
        table.release(&mut owners, 1500);
        assert_eq!(table.choose(range, None, &mut random), Some(1500));
        assert!(table.is_consistent(&owners));
    }

    #[test]
    fn rfc4787_req4_parity_is_kept_to_the_last_port() {
        let (mut table, mut owners) = (PortTable::new(), [Port::FREE; PORTS]);
        let mut random = Random::new(&[2; 16]);
        let range = PortRange {
            first: 5001,
            last: 5100,
        };
        for _ in 0..50 {
            let port = table.choose(range, Some(7), &mut random).unwrap();
            assert_eq!(port % 2, 1);
            table.take(&mut owners, port, 0);
        }
        assert_eq!(table.choose(range, Some(1), &mut random), None);
        assert!(table.choose(range, Some(0), &mut random).is_some());
    }

    #[test]
    fn rfc6056_a_nearly_full_table_still_chooses_among_all_that_is_left() {
        let (mut table, mut owners) = (PortTable::new(), [Port::FREE; PORTS]);
        let mut random = Random::new(&[4; 16]);
        let range = PortRange {
            first: 4096 + 5,
            last: 8192 + 10,
        };
        // One of eight is left, in runs of four with gaps of 28 and in single ones.
        let left = |port: u16| port % 32 < if port & 512 == 0 { 4 } else { 1 };
        for port in range.first..=range.last {
            if !left(port) {
                table.take(&mut owners, port, 1);
            }
        }
        let mut chosen = std::collections::HashMap::new();
        let draws = 400_000;
        for _ in 0..draws {
            let port = table.choose(range, None, &mut random).unwrap();
            assert!(range.contains(port) && left(port));
            *chosen.entry(port).or_insert(0) += 1;
        }
        let words = f64::from(range.len()) / 64.0;
        for port in (range.first..=range.last).filter(|&port| left(port)) {
            let start = port / 64 * 64;
            let in_range = (start..start + 64).filter(|p| range.contains(*p));
            let here = in_range.clone().filter(|&p| left(p)).count() as f64;
            // A word is as likely as it is long, and all of its free ports are alike.
            let share = in_range.count() as f64 / 64.0 / words / here;
            let (expected, got) = (share * f64::from(draws), f64::from(chosen[&port]));
            assert!(
                (got - expected).abs() < 6.0 * expected.sqrt() + 6.0,
                "{port}"
            );
        }
    }

    #[test]
    fn the_bits_of_a_word_are_those_of_its_range() {
        for (first, last) in [
            (0, 0),
            (1, 1023),
            (1024, 65_535),
            (70, 75),
            (63, 64),
            (0, 65_535),
        ] {
            let range = PortRange { first, last };
            for word in 0..1024u16 {
                let bits = (0..64).filter(|bit| range.contains(word * 64 + bit));
                let bits = bits.fold(0, |all, bit| all | 1u64 << bit);
                assert_eq!(range.of_word(word), bits, "{word} of {range:?}");
            }
        }
    }

    #[test]
    fn any_bit_of_a_word_is_chosen_as_often_as_any_other() {
        let mut random = Random::new(&[5; 16]);
        for word in [
            1,
            1 << 63,
            u64::MAX,
            0x8000_0000_0000_0001,
            0x00f0_0100_8000_ff03,
        ] {
            let mut chosen = [0; 64];
            let each = 2_000;
            for _ in 0..each * word.count_ones() {
                chosen[usize::from(any_bit(word, random.bits()))] += 1;
            }
            for (bit, &times) in chosen.iter().enumerate() {
                let wanted = (word >> bit & 1) as i32 * each as i32;
                assert!((times - wanted).abs() < 300, "{bit} of {word:x}: {times}");
            }
        }
    }

    #[test]
    fn what_was_chosen_ahead_is_given_only_if_it_still_will_do() {
        let range = PortRange { first: 9, last: 10 };
        let other = PortRange {
            first: 20,
            last: 29,
        };
        for seed in 0..16 {
            let (mut table, mut owners) = (PortTable::new(), [Port::FREE; PORTS]);
            let mut random = Random::new(&[seed; 16]);
            table.choose_ahead(&owners, range, None, &mut random);
            table.reserve(&mut owners, 9);
            assert_eq!(table.choose(range, None, &mut random), Some(10));
            table.choose_ahead(&owners, range, None, &mut random);
            let port = table.choose(other, None, &mut random).unwrap();
            assert!(other.contains(port));
            table.choose_ahead(&owners, other, Some(0), &mut random);
            let port = table.choose(other, Some(1), &mut random).unwrap();
            assert_eq!(port % 2, 1);
        }
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
        let (mut table, mut owners) = (PortTable::new(), [Port::FREE; PORTS]);
        let mut random = Random::new(&[3; 16]);
        let range = PortRange { first: 9, last: 10 };
        table.reserve(&mut owners, 9);
        assert_eq!(owners[9].mapping(), None);
        assert_eq!(table.choose(range, None, &mut random), Some(10));
    }
}
