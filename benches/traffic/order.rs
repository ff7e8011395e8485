//! In which order the packets of flows come.

/// The shortest order, so that no branch predictor learns it.
const LEAST: usize = 1 << 14;

/// A generator that needs no crate (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let a = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let b = (a ^ a >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        b ^ b >> 31
    }

    /// Below `n`, which is at most 2^32.
    fn below(&mut self, n: usize) -> usize {
        (((self.next() >> 32) * n as u64) >> 32) as usize
    }

    fn shuffle(&mut self, numbers: &mut [u32]) {
        for i in (1..numbers.len()).rev() {
            numbers.swap(i, self.below(i + 1));
        }
    }
}

/// Random permutations of the numbers below `flows`, one after the other.
pub fn uniform(flows: usize) -> impl Iterator<Item = usize> {
    let mut random = Random(flows as u64);
    let mut numbers: Vec<u32> = (0..flows as u32).collect();
    let mut all = Vec::new();
    while all.len() < LEAST.max(flows) {
        random.shuffle(&mut numbers);
        all.extend_from_slice(&numbers);
    }
    all.into_iter().map(|n| n as usize)
}

/// Numbers below `flows` by Zipf's law with exponent 1: the k-th most frequent one comes a k-th as
/// often as the most frequent. As many as there are flows, or a few more.
pub fn zipf(flows: usize) -> impl Iterator<Item = usize> {
    let mut random = Random(flows as u64);
    let mut below = 0.0;
    let weights: Vec<f64> = (0..flows)
        .map(|k| {
            below += 1.0 / (k + 1) as f64;
            below
        })
        .collect();
    // Which flow is how frequent has nothing to do with when it was opened.
    let mut numbers: Vec<u32> = (0..flows as u32).collect();
    random.shuffle(&mut numbers);
    (0..LEAST.max(flows)).map(move |_| {
        let at = random.next() as f64 / u64::MAX as f64 * below;
        let rank = weights.partition_point(|&w| w < at);
        numbers[rank.min(flows - 1)] as usize
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flow_comes_once_a_round() {
        let all: Vec<_> = uniform(100).collect();
        assert!(all.len() >= LEAST && all.len().is_multiple_of(100));
        for round in all.chunks(100) {
            let mut round = round.to_vec();
            round.sort_unstable();
            assert!(round.iter().copied().eq(0..100));
        }
    }

    #[test]
    fn the_most_frequent_comes_twice_as_often_as_the_next() {
        let mut counts = [0usize; 64];
        for n in zipf(64) {
            counts[n] += 1;
        }
        counts.sort_unstable();
        let ratio = counts[63] as f64 / counts[62] as f64;
        assert!((1.7..2.3).contains(&ratio), "{ratio}");
    }
}
