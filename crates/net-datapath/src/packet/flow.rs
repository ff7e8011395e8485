//! Which flow a packet belongs to, as a number.

use super::{FragmentState, L3, PacketMeta, ZeroCopyPacket};

/// Odd constants without a pattern: the digits of the golden ratio and of pi.
const KEYS: [u64; 3] = [
    0x9e37_79b9_7f4a_7c15,
    0x243f_6a88_85a3_08d3,
    0x1319_8a2e_0370_7345,
];

impl PacketMeta {
    /// A hash of the flow under a secret `seed`, the same for every packet of one direction.
    ///
    /// It spreads flows over queues and workers. Whoever does not know the seed cannot aim at a
    /// queue by the choice of addresses and ports; it is still not a cryptographic hash, which a
    /// table that a guest can fill wants. Fragments hash by address and protocol only, so that all
    /// fragments of a packet meet; without IP the hash is over the hardware addresses. `head` are
    /// the bytes the headers were parsed from.
    #[inline]
    pub fn flow_hash(&self, head: &[u8], seed: u64) -> u64 {
        let (src, dst) = self.ends(head, seed);
        self.mix(src, dst, seed)
    }

    /// As [`Self::flow_hash`], and the same for both directions: whoever keeps state per
    /// connection wants both on one worker.
    #[inline]
    pub fn flow_hash_symmetric(&self, head: &[u8], seed: u64) -> u64 {
        let (src, dst) = self.ends(head, seed);
        self.mix(src.min(dst), src.max(dst), seed)
    }

    /// Source and destination, address and port, each as one number; IPv4 without loss.
    #[inline]
    fn ends(&self, head: &[u8], seed: u64) -> (u64, u64) {
        let (src_port, dst_port) = match self.fragment {
            FragmentState::None => (u64::from(self.src_port), u64::from(self.dst_port)),
            FragmentState::First | FragmentState::Later => (0, 0),
        };
        let at = usize::from(self.l3_offset);
        match self.l3 {
            L3::Ipv4 => {
                let end = |at, port| u64::from(u32::from_be_bytes(load(head, at))) << 16 | port;
                (end(at + 12, src_port), end(at + 16, dst_port))
            }
            L3::Ipv6 => {
                let end = |at, port| {
                    let (high, low) = (load(head, at), load(head, at + 8));
                    let (high, low) = (u64::from_ne_bytes(high), u64::from_ne_bytes(low));
                    // The port joins by an addition of its own: it must not cancel address bits.
                    fold_multiply(high ^ seed, low ^ KEYS[1])
                        .wrapping_add(fold_multiply(port ^ KEYS[2], seed ^ KEYS[0]))
                };
                (end(at + 8, src_port), end(at + 24, dst_port))
            }
            L3::Arp | L3::Other => {
                let mac = |at| {
                    let [a, b, c, d, e, f] = load(head, at);
                    u64::from_be_bytes([0, 0, a, b, c, d, e, f])
                };
                (mac(6), mac(0))
            }
        }
    }

    #[inline]
    fn mix(&self, a: u64, b: u64, seed: u64) -> u64 {
        let key = seed ^ u64::from(self.l4_protocol) << 56;
        let mixed = fold_multiply(a ^ key, b ^ key.rotate_left(32) ^ KEYS[0]);
        fold_multiply(mixed ^ KEYS[1], seed ^ KEYS[2])
    }
}

impl ZeroCopyPacket<'_> {
    /// [`PacketMeta::flow_hash`] of this packet.
    #[inline]
    pub fn flow_hash(&self, seed: u64) -> u64 {
        self.meta().flow_hash(self.head(), seed)
    }

    /// [`PacketMeta::flow_hash_symmetric`] of this packet.
    #[inline]
    pub fn flow_hash_symmetric(&self, seed: u64) -> u64 {
        self.meta().flow_hash_symmetric(self.head(), seed)
    }
}

/// The `N` bytes at `at`; zeros where `head` is not what was parsed.
#[inline(always)]
fn load<const N: usize>(head: &[u8], at: usize) -> [u8; N] {
    let bytes = head.get(at..).and_then(|rest| rest.first_chunk());
    bytes.copied().unwrap_or([0; N])
}

/// Both halves of a 64 x 64 multiplication, folded together.
#[inline(always)]
fn fold_multiply(a: u64, b: u64) -> u64 {
    let wide = u128::from(a) * u128::from(b);
    (wide >> 64) as u64 ^ wide as u64
}
