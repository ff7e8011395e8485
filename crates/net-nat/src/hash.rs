//! The keyed hash of a flow.
//!
//! Two rounds of a folded 64 x 64 bit multiplication under four secret words. Whoever does not know
//! the words cannot choose addresses and ports that meet in one bucket; the engine never shows a
//! hash, and the quotas of a host bound what could be tried.

use core::hash::Hasher;

use siphasher::sip::SipHasher13;

use crate::address::{Address, Endpoint};

/// The secret words, made of the engine's seed.
#[derive(Clone, Copy)]
pub(crate) struct Keys([u64; 4]);

impl Keys {
    pub(crate) fn new(seed: &[u8; 16]) -> Self {
        Self(core::array::from_fn(|i| derive(seed, i as u64)))
    }

    /// The hash of a flow; `kind` keeps keys of different meaning apart.
    #[inline(always)]
    pub(crate) fn flow<A: Address>(
        &self,
        kind: u8,
        protocol: u8,
        local: Endpoint<A>,
        remote: Endpoint<A>,
    ) -> u64 {
        let [k0, k1, k2, k3] = self.0;
        let (l, r) = (local.addr.words(), remote.addr.words());
        let mut a = l[0] | r[0] << 32;
        let b = u64::from(local.port)
            | u64::from(remote.port) << 16
            | u64::from(protocol) << 32
            | u64::from(kind) << 40;
        if size_of::<A>() > 4 {
            let (l, r) = (fold(l[0] ^ k2, l[1] ^ k3), fold(r[0] ^ k3, r[1] ^ k2));
            a = l ^ r.rotate_left(32);
        }
        fold(fold(a ^ k0, b ^ k1) ^ k2, k3)
    }
}

/// Both halves of a 64 x 64 bit product, folded together.
#[inline(always)]
fn fold(a: u64, b: u64) -> u64 {
    let wide = u128::from(a) * u128::from(b);
    (wide >> 64) as u64 ^ wide as u64
}

/// A secret word for a purpose.
pub(crate) fn derive(seed: &[u8; 16], purpose: u64) -> u64 {
    let mut hasher = SipHasher13::new_with_key(seed);
    hasher.write_u64(purpose);
    // Odd, so that a multiplication by it loses nothing.
    hasher.finish() | 1
}

/// Random numbers that an observer of some of them cannot continue (RFC 6056, section 3.3): SipHash
/// of a counter.
#[derive(Clone)]
pub(crate) struct Random {
    key: SipHasher13,
    counter: u64,
    /// Half of the last hash, if it has not been used.
    half: Option<u32>,
}

impl Random {
    pub(crate) fn new(seed: &[u8; 16]) -> Self {
        Self {
            key: SipHasher13::new_with_key(seed),
            counter: 1 << 32,
            half: None,
        }
    }

    #[inline]
    fn next(&mut self) -> u32 {
        if let Some(half) = self.half.take() {
            return half;
        }
        self.refill()
    }

    #[inline(never)]
    fn refill(&mut self) -> u32 {
        self.counter += 1;
        let mut hasher = self.key;
        hasher.write_u64(self.counter);
        let both = hasher.finish();
        self.half = Some((both >> 32) as u32);
        both as u32
    }

    /// The next 32 of them.
    #[inline]
    pub(crate) fn bits(&mut self) -> Bits {
        Bits(self.next())
    }
}

/// 32 random bits.
#[derive(Clone, Copy)]
pub(crate) struct Bits(u32);

impl Bits {
    /// A number below `n`, which must not be 0, each about as likely (within 2^-16 for a port); and
    /// what is left: as much less random as the number has values.
    #[inline]
    pub(crate) fn below(self, n: u32) -> (u32, Self) {
        // As a fraction they lie behind a multiple of 1/n, by a part of that.
        let wide = u64::from(self.0) * u64::from(n);
        ((wide >> 32) as u32, Self(wide as u32))
    }
}

/// Keyed SipHash for maps whose keys a guest can choose.
#[derive(Debug, Clone)]
pub(crate) struct Keyed(pub(crate) SipHasher13);

impl core::hash::BuildHasher for Keyed {
    type Hasher = SipHasher13;

    fn build_hasher(&self) -> SipHasher13 {
        self.0
    }
}
