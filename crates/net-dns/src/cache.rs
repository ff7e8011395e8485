//! The cache: answers to exact questions, bounded in entries and in bytes, shared fairly.
//!
//! An entry is the answer and authority sections of one message under the question it answered.
//! Nothing in it is ever used for another question, and the additional section is not kept, so
//! an upstream cannot plant records for names nobody asked about.
//!
//! Every entry is charged to the client whose query brought it in. When room is needed, the
//! client that holds the most gives up its oldest entry: one that fills the cache displaces
//! itself, and nobody is pushed below an even share by another.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::message::{
    Header, Layout, Opt, Question, Records, Section, flag, put, rcode, rtype, u32_at,
};
use crate::{ClientId, reply};

/// Question and the flags that change its answer, as bytes.
pub(crate) type Key = Arc<[u8]>;

/// What is charged for an entry beside its bytes: the nodes of the tables.
const OVERHEAD: usize = 256;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) entries: usize,
    pub(crate) bytes: usize,
    /// Longest lifetime of a positive and of a negative answer, in seconds.
    pub(crate) max_ttl: u32,
    pub(crate) max_negative_ttl: u32,
}

/// An answer ready to be kept.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Body {
    message: Vec<u8>,
    /// Offsets of all TTL fields.
    ttls: Vec<u16>,
    /// Seconds.
    lifetime: u32,
    negative: bool,
}

impl Body {
    /// Takes what may be kept of an answer; `None` when that is nothing.
    ///
    /// Positive answers live as long as their shortest TTL; negative ones need a SOA record and
    /// live as long as the smaller of its TTL and its minimum field (RFC 2308 section 5).
    pub(crate) fn of(
        message: &[u8],
        header: &Header,
        question_end: usize,
        qtype: u16,
        layout: &Layout,
        limits: &Limits,
    ) -> Option<Self> {
        let code = full_rcode(header, layout.opt.as_ref());
        if !matches!(code, rcode::NOERROR | rcode::NXDOMAIN) || header.flags & flag::TC != 0 {
            return None;
        }
        let mut body = Self {
            message: message.get(..layout.authority_end)?.to_vec(),
            ttls: Vec::new(),
            lifetime: limits.max_ttl,
            negative: true,
        };
        let mut has_soa = false;
        for record in Records::new(message, header, question_end) {
            let record = record.ok()?;
            let mut ttl = match record.section {
                Section::Additional => break,
                // A TTL with the top bit set counts as 0 (RFC 2181 section 8).
                _ if record.ttl > i32::MAX as u32 => 0,
                _ => record.ttl.min(limits.max_ttl),
            };
            if record.section == Section::Answer {
                body.negative &= record.rtype != qtype && qtype != rtype::ANY;
            } else if record.rtype == rtype::SOA {
                // The minimum field is the last of the five numbers at the end of the data.
                let minimum = u32_at(message, record.rdata.end.checked_sub(4)?)?;
                if record.rdata.len() < 22 {
                    return None;
                }
                has_soa = true;
                ttl = ttl.min(minimum);
            }
            body.lifetime = body.lifetime.min(ttl);
            put(&mut body.message, record.ttl_at(), &ttl.to_be_bytes());
            body.ttls.push(u16::try_from(record.ttl_at()).ok()?);
        }
        body.negative |= code == rcode::NXDOMAIN;
        if body.negative {
            if !has_soa {
                return None;
            }
            body.lifetime = body.lifetime.min(limits.max_negative_ttl);
        }
        if body.lifetime == 0 || body.ttls.is_empty() {
            return None;
        }
        // From a cache nothing is authoritative (RFC 1035 section 4.1.1).
        put(
            &mut body.message,
            2,
            &(header.flags & !flag::AA).to_be_bytes(),
        );
        reply::set_count(&mut body.message, 3, 0);
        Some(body)
    }

    fn cost(&self, key: &Key) -> usize {
        OVERHEAD + key.len() + self.message.len() + 2 * self.ttls.len()
    }
}

/// Whether every record can still be read: a hostile server may let a name point into a TTL, and
/// counted down that is another name, or none.
fn is_readable(message: &[u8]) -> bool {
    let (Some(header), Ok(question)) = (Header::read(message), Question::read(message)) else {
        return false;
    };
    Layout::read(message, &header, question.end).is_ok()
}

/// The twelve-bit response code (RFC 6891 section 6.1.3).
pub(crate) fn full_rcode(header: &Header, opt: Option<&Opt>) -> u16 {
    let upper = opt.map_or(0, |opt| u16::from(opt.extended_rcode) << 4);
    upper | (header.flags & flag::RCODE)
}

#[derive(Debug)]
struct Entry {
    body: Body,
    stored: Duration,
    expires: Duration,
    owner: ClientId,
    serial: u64,
    cost: usize,
}

/// One client's entries, oldest first.
#[derive(Debug, Default)]
struct Share {
    entries: BTreeMap<u64, Key>,
    cost: usize,
}

/// A cached answer as of now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Hit {
    /// With an id and a spelling of the question that are still another client's.
    pub(crate) message: Vec<u8>,
    pub(crate) negative: bool,
}

#[derive(Debug)]
pub(crate) struct Cache {
    limits: Limits,
    entries: BTreeMap<Key, Entry>,
    expiry: BTreeSet<(Duration, u64, Key)>,
    shares: BTreeMap<ClientId, Share>,
    cost: usize,
    serial: u64,
    pub(crate) evicted: u64,
}

impl Cache {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            entries: BTreeMap::new(),
            expiry: BTreeSet::new(),
            shares: BTreeMap::new(),
            cost: 0,
            serial: 0,
            evicted: 0,
        }
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.cost
    }

    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        self.expiry.clear();
        self.shares.clear();
        self.cost = 0;
    }

    /// The answer under `key` with its TTLs counted down to `now`.
    pub(crate) fn get(&mut self, key: &[u8], now: Duration) -> Option<Hit> {
        let entry = self.entries.get(key)?;
        if entry.expires <= now {
            let key = self.key_of(key)?;
            self.remove(&key);
            return None;
        }
        let age = u32::try_from(now.saturating_sub(entry.stored).as_secs()).unwrap_or(u32::MAX);
        let mut message = entry.body.message.clone();
        for &at in &entry.body.ttls {
            let ttl = u32_at(&message, at.into()).unwrap_or(0).saturating_sub(age);
            put(&mut message, at.into(), &ttl.to_be_bytes());
        }
        if !is_readable(&message) {
            let key = self.key_of(key)?;
            self.remove(&key);
            return None;
        }
        Some(Hit {
            message,
            negative: entry.body.negative,
        })
    }

    fn key_of(&self, key: &[u8]) -> Option<Key> {
        self.entries.get_key_value(key).map(|(key, _)| key.clone())
    }

    /// Keeps an answer, replacing the one under the same key.
    pub(crate) fn insert(&mut self, key: Key, owner: ClientId, body: Body, now: Duration) {
        let cost = body.cost(&key);
        if cost > self.limits.bytes || self.limits.entries == 0 {
            return;
        }
        self.remove(&key);
        self.drop_expired(now);
        while self.entries.len() >= self.limits.entries || self.cost + cost > self.limits.bytes {
            if !self.evict(owner) {
                return;
            }
        }
        self.serial += 1;
        let serial = self.serial;
        let expires = now + Duration::from_secs(body.lifetime.into());
        let share = self.shares.entry(owner).or_default();
        share.entries.insert(serial, key.clone());
        share.cost += cost;
        self.cost += cost;
        self.expiry.insert((expires, serial, key.clone()));
        self.entries.insert(
            key,
            Entry {
                body,
                stored: now,
                expires,
                owner,
                serial,
                cost,
            },
        );
    }

    fn drop_expired(&mut self, now: Duration) {
        while let Some((expires, _, key)) = self.expiry.first() {
            if *expires > now {
                return;
            }
            let key = key.clone();
            self.remove(&key);
        }
    }

    /// Removes the oldest entry of the client that holds the most; at a tie of `preferred`.
    fn evict(&mut self, preferred: ClientId) -> bool {
        let largest = self
            .shares
            .iter()
            .max_by_key(|(id, share)| (share.cost, **id == preferred));
        let oldest = largest.and_then(|(_, share)| share.entries.first_key_value());
        let Some(key) = oldest.map(|(_, key)| key.clone()) else {
            return false;
        };
        self.evicted += 1;
        self.remove(&key)
    }

    fn remove(&mut self, key: &Key) -> bool {
        let Some(entry) = self.entries.remove(key) else {
            return false;
        };
        self.cost -= entry.cost;
        self.expiry
            .remove(&(entry.expires, entry.serial, key.clone()));
        if let Some(share) = self.shares.get_mut(&entry.owner) {
            share.entries.remove(&entry.serial);
            share.cost -= entry.cost;
            if share.entries.is_empty() {
                self.shares.remove(&entry.owner);
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::HEADER;
    use proptest::prelude::*;

    const TTL_AT: usize = HEADER + 5 + 5;

    fn body(size: usize, lifetime: u32) -> Body {
        // One question and one record, both at the root, and what follows.
        let mut message = vec![0; TTL_AT + 6 + size];
        put(&mut message, 4, &[0, 1, 0, 1]);
        put(&mut message, TTL_AT, &lifetime.to_be_bytes());
        Body {
            message,
            ttls: vec![TTL_AT as u16],
            lifetime,
            negative: false,
        }
    }

    fn key(n: u16) -> Key {
        n.to_be_bytes().as_slice().into()
    }

    fn cache(entries: usize, bytes: usize) -> Cache {
        Cache::new(Limits {
            entries,
            bytes,
            max_ttl: 100,
            max_negative_ttl: 50,
        })
    }

    #[test]
    fn row66_one_client_never_pushes_another_below_an_even_share() {
        let mut cache = cache(10, 1 << 20);
        for n in 0..5 {
            cache.insert(key(n), ClientId(1), body(8, 100), Duration::ZERO);
        }
        for n in 100..200 {
            cache.insert(key(n), ClientId(2), body(8, 100), Duration::ZERO);
        }
        assert!((0..5).all(|n| cache.get(&key(n), Duration::ZERO).is_some()));
        assert!((195..200).all(|n| cache.get(&key(n), Duration::ZERO).is_some()));
        assert_eq!((cache.len(), cache.evicted), (10, 95));
        // And who holds more than its share gives it back.
        for n in 200..210 {
            cache.insert(key(n), ClientId(3), body(8, 100), Duration::ZERO);
        }
        assert!(cache.shares[&ClientId(1)].entries.len() >= 3);
        assert!(cache.shares[&ClientId(3)].entries.len() >= 3);
    }

    /// A name that points into a TTL is another one, or none, when that has been counted down.
    #[test]
    fn a_name_that_points_into_a_ttl_ends_with_it() {
        let mut body = body(0, 0x0001_0100);
        // The second owner is at the third byte of the first record's TTL: a label of one byte, zero.
        put(&mut body.message, 6, &[0, 2]);
        let pointer = 0xc000 | (TTL_AT + 1) as u16;
        body.message.extend(pointer.to_be_bytes());
        body.message.extend([0; 10]);
        let mut cache = cache(10, 1 << 20);
        cache.insert(key(1), ClientId(1), body, Duration::ZERO);
        assert!(cache.get(&key(1), Duration::ZERO).is_some());
        // 0x0001_0080: the third byte is 1 before and 0 after; then a label longer than there is.
        assert!(cache.get(&key(1), Duration::from_secs(0x80)).is_none());
        assert_eq!(cache.len(), 0);
    }

    proptest! {
        /// Against a plain list: never more than the limits, never an expired answer, and what
        /// is there is what was put there last.
        #[test]
        fn row66_bounds_and_contents(
            steps in prop::collection::vec((0u16..20, 0u64..4, 0usize..600, 1u32..30, 0u64..10), 1..200)
        ) {
            let mut cache = cache(8, 4000);
            let mut model = BTreeMap::new();
            let mut now = Duration::ZERO;
            for (n, client, size, lifetime, pause) in steps {
                now += Duration::from_secs(pause);
                cache.insert(key(n), ClientId(client), body(size, lifetime), now);
                model.insert(n, (now, lifetime));
                prop_assert!(cache.len() <= 8 && cache.bytes() <= 4000);
                prop_assert_eq!(cache.entries.len(), cache.expiry.len());
                let shares: usize = cache.shares.values().map(|share| share.entries.len()).sum();
                prop_assert_eq!(shares, cache.len());
                let cost: usize = cache.shares.values().map(|share| share.cost).sum();
                prop_assert_eq!(cost, cache.bytes());
                for (n, (stored, lifetime)) in &model {
                    if let Some(hit) = cache.get(&key(*n), now) {
                        let left = u64::from(*lifetime) - (now - *stored).as_secs();
                        prop_assert!(left > 0);
                        prop_assert_eq!(u32_at(&hit.message, TTL_AT), Some(left as u32));
                    }
                }
            }
        }
    }
}
