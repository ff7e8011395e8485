//! Identifications for IPv4 packets that leave under a shared address (RFC 6864).
//!
//! Hosts behind one address choose their identifications without each other. Under the shared
//! address, two of them that send to the same destination would use one identification for two
//! datagrams, and a receiver would put their fragments together (RFC 4963). So the translator
//! chooses, as the source would (RFC 6864, section 5.3), for every packet that is a fragment or may
//! become one; the identification of others, with "don't fragment" set, means nothing (section 4.1).
//!
//! # How they are chosen
//!
//! A counter for each pair of addresses and protocol would be a table that grows with the traffic.
//! Here such a tuple is hashed, under a secret, to one of [`COUNTERS`] counters and to a permutation
//! of the 16-bit numbers; its next identification is what the permutation makes of the counter.
//!
//! - Of one tuple, no identification repeats within 65,536 steps of its counter, divided by the number
//!   of shards. Tuples that share a counter share its steps: with `n` of them sending alike, one of
//!   them gets 65,536 / `n` between two equal ones.
//! - That is what 16 bits can do: RFC 6864 (section 4.3) has a source keep its rate below 65,536
//!   datagrams in a maximum datagram lifetime, and leaves it to the sender to do so.
//! - Nothing is sorted by time: no counter need be expired, and the memory is 4 KiB for ever.
//! - An outsider sees numbers without order, and none of another tuple's. With a plain counter anyone
//!   could send a packet now and then and tell from the gaps how much others sent. Here only who has
//!   seen a whole cycle of 65,536 of their own tuple could, and only for the tuples that share its
//!   counter, without knowing which ones these are. The permutation is quick, not a strong cipher:
//!   nothing is guarded by it but this.

use alloc::boxed::Box;
use core::hash::Hasher;
use core::net::Ipv4Addr;

use siphasher::sip::SipHasher13;

/// Counters of a generator; a power of two.
const COUNTERS: usize = 2048;
/// Numbers there are.
const IDS: u32 = 1 << 16;

/// A generator of identifications.
#[derive(Debug)]
pub(crate) struct Ipv4Id {
    secret: SipHasher13,
    counters: Box<[u16]>,
    /// Steps of a counter before it starts anew.
    steps: u32,
    shard: u32,
    shards: u32,
}

impl Ipv4Id {
    /// A generator for shard number `shard` of `shards` that send under the same addresses.
    ///
    /// With the same secret in each, no two shards give a tuple the same identification: each has
    /// its part of the numbers. A single engine is shard 0 of 1.
    pub(crate) fn new(secret: &[u8; 16], shard: u16, shards: u16) -> Self {
        let secret = SipHasher13::new_with_key(secret);
        let shards = u32::from(shards).max(1);
        let steps = IDS / shards;
        let counters = (0..COUNTERS as u64)
            .map(|index| {
                let mut hasher = secret;
                // Tuples are 9 bytes long, so this is the hash of none.
                hasher.write_u64(index);
                (hasher.finish() % u64::from(steps)) as u16
            })
            .collect();
        Self {
            secret,
            counters,
            steps,
            shard: u32::from(shard) % shards,
            shards,
        }
    }

    /// The next identification from `source`, as it is on the wire, to `destination`.
    #[inline]
    pub(crate) fn next(&mut self, source: Ipv4Addr, destination: Ipv4Addr, protocol: u8) -> u16 {
        let mut hasher = self.secret;
        hasher.write_u64(u64::from(source.to_bits()) << 32 | u64::from(destination.to_bits()));
        hasher.write_u8(protocol);
        let hash = hasher.finish();
        let Some(counter) = self.counters.get_mut(hash as usize % COUNTERS) else {
            return 0;
        };
        let step = u32::from(*counter);
        *counter = if step + 1 < self.steps {
            *counter + 1
        } else {
            0
        };
        // Below 65,536: `step` is below 65,536 / `shards`.
        permute((step * self.shards + self.shard) as u16, hash)
    }
}

/// A permutation of the 16-bit numbers, another one for each `key`.
///
/// Every step can be undone: adding a number, multiplying by an odd one, folding the high bits onto
/// the low ones.
#[inline]
fn permute(mut number: u16, key: u64) -> u16 {
    for part in [key, key >> 16, key >> 32, key >> 48] {
        number = number.wrapping_add(part as u16);
        number ^= number >> 8;
        number = number.wrapping_mul((part.rotate_right(5) as u16) | 1);
        number ^= number >> 7;
        number = number.wrapping_mul(0xa955);
    }
    number ^ (number >> 8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use alloc::vec::Vec;
    use std::collections::{HashMap, HashSet};

    const SECRET: [u8; 16] = *b"not quite secret";
    const US: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

    fn peer(index: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(0xc633_6400 + index)
    }

    fn ids(generator: &mut Ipv4Id, to: Ipv4Addr, protocol: u8, count: usize) -> Vec<u16> {
        (0..count)
            .map(|_| generator.next(US, to, protocol))
            .collect()
    }

    #[test]
    fn rfc6864_no_id_repeats_within_65536() {
        for index in 0..20 {
            let mut generator = Ipv4Id::new(&SECRET, 0, 1);
            let cycle = ids(&mut generator, peer(index), 17, 65_536);
            assert_eq!(cycle.iter().collect::<HashSet<_>>().len(), 65_536);
            // Any 65,536 in a row: the second cycle is in the order of the first.
            assert_eq!(ids(&mut generator, peer(index), 17, 65_536), cycle);
        }
    }

    #[test]
    fn rfc6864_tuples_that_share_a_counter_share_its_steps() {
        // As many tuples as fit in a /20 take turns; a counter gets about two of them.
        let mut generator = Ipv4Id::new(&SECRET, 0, 1);
        let mut seen: HashSet<(u32, u16)> = HashSet::new();
        for _ in 0..256 {
            for index in 0..4096 {
                assert!(seen.insert((index, generator.next(US, peer(index), 17))));
            }
        }
    }

    #[test]
    fn rfc6864_shards_never_give_the_same() {
        for shards in [2u16, 3, 8] {
            let mut seen = HashSet::new();
            let each = 65_536 / usize::from(shards);
            for shard in 0..shards {
                let mut generator = Ipv4Id::new(&SECRET, shard, shards);
                seen.extend(ids(&mut generator, peer(1), 17, each));
            }
            assert_eq!(seen.len(), each * usize::from(shards), "{shards} shards");
        }
    }

    #[test]
    fn tuples_protocols_and_secrets_differ() {
        // From a new generator each, so that they would agree wherever the tuples were one.
        let fresh = |secret, index, protocol| {
            ids(&mut Ipv4Id::new(secret, 0, 1), peer(index), protocol, 64)
        };
        let mut sequences = Vec::new();
        for index in 0..200 {
            sequences.push(fresh(&SECRET, index, 17));
            sequences.push(fresh(&SECRET, index, 1));
            sequences.push(fresh(b"some other words", index, 17));
        }
        // 180,000 pairs of 64: by chance 176 places agree. Alike sequences would agree in 64 each.
        let mut agree = 0;
        for (index, one) in sequences.iter().enumerate() {
            for another in &sequences[..index] {
                let here = one.iter().zip(another).filter(|(a, b)| a == b).count();
                assert!(here < 8, "two tuples follow each other");
                agree += here;
            }
        }
        assert!(agree < 400, "{agree} places agree");
    }

    /// A reply of the peer, or a packet sent now and then, tells nothing about what was sent between.
    #[test]
    fn steps_are_no_measure_of_traffic() {
        for index in 0..50 {
            let cycle = ids(&mut Ipv4Id::new(&SECRET, 0, 1), peer(index), 17, 65_536);
            for gap in [1, 2, 16, 256, 4096] {
                let mut steps: HashMap<u16, u32> = HashMap::new();
                for (at, id) in cycle.iter().enumerate() {
                    let next = cycle[(at + gap) % cycle.len()];
                    *steps.entry(next.wrapping_sub(*id)).or_default() += 1;
                }
                let most = steps.values().max().copied().unwrap_or_default();
                assert!(
                    most < 65_536 / 100,
                    "{most} of 65,536 steps of {gap} are alike for {index}"
                );
            }
        }
    }

    #[test]
    fn permute_is_one_to_one() {
        let mut key = 0x9e37_79b9_7f4a_7c15u64;
        for _ in 0..100 {
            key = key.wrapping_mul(0xd129_42dd_5f4f_8a65).wrapping_add(1);
            let mut hit = vec![false; 65_536];
            for number in 0..=u16::MAX {
                hit[usize::from(permute(number, key))] = true;
            }
            assert!(hit.iter().all(|&hit| hit), "{key:x}");
        }
    }
}
