//! From the hash of a key to the number of a record.
//!
//! A bucket is one cache line: ten tags of 16 bits, ten record numbers, and a count of the entries
//! that passed it because it was full. Looking up a key that is in its own bucket touches one line
//! of the index and one record; the tag makes a look at a wrong record rare (one in 6,500 look-ups),
//! and whoever looks compares the whole key there. An entry that found its bucket full is in the
//! next one with room, and the count in every bucket it passed says that the search goes on. Removing
//! an entry takes it off those counts, so that there are no tombstones and no rebuilding.
//!
//! The number of buckets is fixed: the table never grows and never pauses.

use core::ops::Range;

use net_datapath::prefetch::prefetch_read;

use super::region::{Region, Zeroable};

/// Entries of a bucket.
const WAYS: usize = 10;
/// Entries per bucket when the table is full: then one bucket in 23 has ten hashes or more.
const LOAD: usize = 6;

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Bucket {
    /// 0 for an empty entry.
    tags: [u16; WAYS],
    /// Entries that belong here or further in front, and are further behind.
    passed: u16,
    unused: u16,
    numbers: [u32; WAYS],
}

const _: () = assert!(size_of::<Bucket>() == 64);

// SAFETY: plain integers.
unsafe impl Zeroable for Bucket {}

impl Bucket {
    /// A bit for each entry with this tag.
    #[inline(always)]
    fn matches(&self, tag: u16) -> u32 {
        #[cfg(target_arch = "x86_64")]
        {
            use core::arch::x86_64::*;
            let line = core::ptr::from_ref(self).cast::<__m128i>();
            // SAFETY: SSE2 belongs to the architecture. The bucket has 64 bytes and is aligned to
            // 64, so its first 32 are two aligned vectors; the tags are the first 20 of them, and
            // what is compared beyond is masked away.
            let bits = unsafe {
                let wanted = _mm_set1_epi16(tag as i16);
                let low = _mm_cmpeq_epi16(_mm_load_si128(line), wanted);
                let high = _mm_cmpeq_epi16(_mm_load_si128(line.add(1)), wanted);
                _mm_movemask_epi8(_mm_packs_epi16(low, high))
            };
            bits as u32 & ((1 << WAYS) - 1)
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            let mut bits = 0;
            for (way, &found) in self.tags.iter().enumerate() {
                bits |= u32::from(found == tag) << way;
            }
            bits
        }
    }

    #[inline(always)]
    fn number(&self, way: u32) -> u32 {
        // The mask tells the compiler that no check is needed; ways are below ten.
        self.numbers[(way as usize).min(WAYS - 1)]
    }

    /// Puts an entry in; false if there is no room.
    #[inline(always)]
    fn put(&mut self, tag: u16, number: u32) -> bool {
        let empty = self.matches(0);
        if empty == 0 {
            return false;
        }
        let way = (empty.trailing_zeros() as usize).min(WAYS - 1);
        self.tags[way] = tag;
        self.numbers[way] = number;
        true
    }
}

/// The index of up to a fixed number of entries.
pub(crate) struct Index {
    buckets: Region<Bucket>,
    len: usize,
    capacity: usize,
}

/// The entries of a bucket that may be meant.
#[derive(Clone, Copy)]
pub(crate) struct Candidates {
    bits: u32,
}

impl Index {
    /// Room for `capacity` entries.
    pub(crate) fn new(capacity: usize) -> Option<Self> {
        let buckets = capacity.div_ceil(LOAD).max(2);
        u32::try_from(buckets).ok()?;
        Some(Self {
            buckets: Region::new(buckets)?,
            len: 0,
            capacity: capacity.max(1),
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn bytes(&self) -> usize {
        self.buckets.bytes()
    }

    /// Where they lie.
    pub(crate) fn memory(&self) -> Range<*const u8> {
        self.buckets.range()
    }

    /// Entries that the longest look-up there can be goes by.
    pub(crate) fn longest_walk(&self) -> usize {
        let (mut walk, mut longest, mut goes_on) = (0, 0, false);
        // Twice round, for a walk over the end.
        for bucket in self.buckets.iter().chain(self.buckets.iter()) {
            let entries = bucket.tags.iter().filter(|&&tag| tag != 0).count();
            walk = if goes_on { walk + entries } else { entries };
            goes_on = bucket.passed != 0;
            longest = longest.max(walk);
        }
        longest.min(self.len)
    }

    /// The high half of the hash chooses the bucket, the low bits are the tag.
    #[inline(always)]
    fn place(&self, hash: u64) -> (usize, u16) {
        let bucket = ((hash >> 32) * self.buckets.len() as u64) >> 32;
        (bucket as usize, tag(hash))
    }

    /// Fetches the bucket of a hash that will be looked up soon.
    #[inline(always)]
    pub(crate) fn prefetch(&self, hash: u64) {
        let (at, _) = self.place(hash);
        // Any address will do for a hint: no check.
        prefetch_read(self.buckets.as_ptr().wrapping_add(at));
    }

    /// The first record that may be meant, by its tag.
    #[inline(always)]
    pub(crate) fn guess(&self, hash: u64) -> Option<u32> {
        let (at, tag) = self.place(hash);
        let bucket = self.buckets.get(at)?;
        let bits = bucket.matches(tag);
        if bits != 0 {
            return Some(bucket.number(bits.trailing_zeros()));
        }
        if bucket.passed == 0 {
            return None;
        }
        self.guess_behind(at, tag)
    }

    /// The same for one of the few entries that are not in the bucket they belong in.
    #[inline(never)]
    fn guess_behind(&self, mut at: usize, tag: u16) -> Option<u32> {
        // Further than this nearly nothing goes, and whoever has to know looks for it all the same.
        for _ in 0..4 {
            at = self.after(at);
            let bucket = self.buckets.get(at)?;
            let bits = bucket.matches(tag);
            if bits != 0 {
                return Some(bucket.number(bits.trailing_zeros()));
            }
            if bucket.passed == 0 {
                return None;
            }
        }
        None
    }

    /// Whether surely nothing has this hash. False where something may have it, if only by its tag or
    /// behind a full bucket: one look at one bucket.
    #[inline(always)]
    pub(crate) fn lacks(&self, hash: u64) -> bool {
        let (at, tag) = self.place(hash);
        let bucket = self.buckets.get(at);
        bucket.is_some_and(|bucket| bucket.matches(tag) == 0 && bucket.passed == 0)
    }

    /// The record for which `is` says yes.
    #[inline(always)]
    pub(crate) fn find(&self, hash: u64, is: impl FnMut(u32) -> bool) -> Option<u32> {
        if self.lacks(hash) {
            return None;
        }
        self.search(hash, is)
    }

    #[inline(never)]
    fn search(&self, hash: u64, mut is: impl FnMut(u32) -> bool) -> Option<u32> {
        let (mut at, tag) = self.place(hash);
        for _ in 0..self.buckets.len() {
            let bucket = self.buckets.get(at)?;
            let mut candidates = Candidates {
                bits: bucket.matches(tag),
            };
            while let Some(way) = candidates.next() {
                let number = bucket.number(way);
                if is(number) {
                    return Some(number);
                }
            }
            if bucket.passed == 0 {
                return None;
            }
            at = self.after(at);
        }
        None
    }

    #[inline(always)]
    fn after(&self, at: usize) -> usize {
        if at + 1 == self.buckets.len() {
            0
        } else {
            at + 1
        }
    }

    /// Adds an entry; false if the table has as many as it was made for. The same entry must not be
    /// there already.
    #[inline(always)]
    pub(crate) fn insert(&mut self, hash: u64, number: u32) -> bool {
        if self.len >= self.capacity {
            return false;
        }
        let (at, tag) = self.place(hash);
        let bucket = self.buckets.get_mut(at);
        if !bucket.is_some_and(|bucket| bucket.put(tag, number)) {
            return self.insert_behind(at, tag, number);
        }
        self.len += 1;
        true
    }

    /// The same where the bucket `at`, which the entry belongs in, is full.
    #[cold]
    #[inline(never)]
    fn insert_behind(&mut self, mut at: usize, tag: u16, number: u32) -> bool {
        // At most `capacity` entries and six to a bucket: one of them has room.
        for _ in 0..self.buckets.len() {
            let next = self.after(at);
            let Some(bucket) = self.buckets.get_mut(at) else {
                return false;
            };
            if bucket.put(tag, number) {
                self.len += 1;
                return true;
            }
            bucket.passed = bucket.passed.saturating_add(1);
            at = next;
        }
        false
    }

    /// Takes an entry out; false if it is not there.
    pub(crate) fn remove(&mut self, hash: u64, number: u32) -> bool {
        let (home, tag) = self.place(hash);
        let mut at = home;
        for _ in 0..self.buckets.len() {
            let next = self.after(at);
            let Some(bucket) = self.buckets.get_mut(at) else {
                return false;
            };
            let mut candidates = Candidates {
                bits: bucket.matches(tag),
            };
            while let Some(way) = candidates.next() {
                if bucket.number(way) == number {
                    bucket.tags[way as usize] = 0;
                    self.len -= 1;
                    self.unpass(home, at);
                    return true;
                }
            }
            if bucket.passed == 0 {
                return false;
            }
            at = next;
        }
        false
    }

    /// An entry that had passed the buckets from `home` to before `end` is gone.
    fn unpass(&mut self, home: usize, end: usize) {
        let mut at = home;
        while at != end {
            let next = self.after(at);
            if let Some(bucket) = self.buckets.get_mut(at)
                // A count that has reached its end is never believed again.
                && bucket.passed != u16::MAX
            {
                bucket.passed -= 1;
            }
            at = next;
        }
    }
}

/// Not 0, which says that the entry is empty.
#[inline(always)]
fn tag(hash: u64) -> u16 {
    (hash as u16).max(1)
}

impl Candidates {
    #[inline(always)]
    fn next(&mut self) -> Option<u32> {
        if self.bits == 0 {
            return None;
        }
        let way = self.bits.trailing_zeros();
        self.bits &= self.bits - 1;
        Some(way)
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use hashbrown::HashMap;
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Insert(u64),
        Remove(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        // Few buckets and few tags, so that entries pass each other.
        let hash = (0..6u64, 0..4u64).prop_map(|(high, tag)| high << 61 | tag);
        prop_oneof![
            hash.prop_map(Step::Insert),
            any::<usize>().prop_map(Step::Remove)
        ]
    }

    proptest! {
        #[test]
        fn does_what_a_map_does(steps in prop::collection::vec(step(), 1..400)) {
            let mut index = Index::new(60).unwrap();
            let hasher = crate::hash::Keyed(siphasher::sip::SipHasher13::new_with_key(&[0; 16]));
            let mut model: HashMap<u32, u64, crate::hash::Keyed> = HashMap::with_hasher(hasher);
            let mut next = 0;
            for step in steps {
                match step {
                    Step::Insert(hash) => {
                        let inserted = index.insert(hash, next);
                        prop_assert_eq!(inserted, model.len() < 60);
                        if inserted {
                            model.insert(next, hash);
                        }
                        next += 1;
                    }
                    Step::Remove(which) => {
                        let mut numbers: Vec<u32> = model.keys().copied().collect();
                        numbers.sort_unstable();
                        if numbers.is_empty() {
                            continue;
                        }
                        let number = numbers[which % numbers.len()];
                        let hash = model.remove(&number).unwrap();
                        prop_assert!(index.remove(hash, number));
                        prop_assert!(!index.remove(hash, number));
                    }
                }
                prop_assert_eq!(index.len(), model.len());
            }
            for (&number, &hash) in &model {
                prop_assert_eq!(index.find(hash, |n| n == number), Some(number));
            }
            // When all have gone, nothing is left behind.
            for (number, hash) in model {
                index.remove(hash, number);
            }
            for bucket in index.buckets.iter() {
                prop_assert_eq!((bucket.passed, bucket.tags), (0, [0; WAYS]));
            }
        }
    }

    #[test]
    fn a_guess_is_what_is_found_in_the_own_bucket() {
        let mut index = Index::new(100).unwrap();
        assert_eq!(index.guess(7 << 40 | 9), None);
        assert!(index.insert(7 << 40 | 9, 42));
        assert_eq!(index.guess(7 << 40 | 9), Some(42));
        assert_eq!(index.guess(7 << 40 | 8), None);
    }

    #[test]
    fn a_guess_goes_on_behind_a_full_bucket() {
        let mut index = Index::new(100).unwrap();
        let hash = |tag: u64| 7 << 40 | tag;
        for number in 0..25 {
            assert!(index.insert(hash(100 + u64::from(number)), number));
        }
        for number in 0..25 {
            assert_eq!(index.guess(hash(100 + u64::from(number))), Some(number));
        }
        assert_eq!(index.guess(hash(99)), None);
    }

    #[test]
    fn entries_of_one_hash_are_found_and_counted_to_the_last() {
        let mut index = Index::new(1000).unwrap();
        for number in 0..1000 {
            assert!(index.insert(3 << 50, number));
        }
        assert!(!index.insert(3 << 50, 1000));
        for number in 0..1000 {
            assert_eq!(index.find(3 << 50, |n| n == number), Some(number));
        }
    }
}
