//! Frames for tests: every byte is told by a seed, so that a mix-up shows.

use net_datapath::VirtioNetHdr;

/// A frame with the header it came with.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    /// What the offloads left undone.
    pub header: VirtioNetHdr,
    /// The whole Ethernet frame.
    pub bytes: Vec<u8>,
}

impl Frame {
    /// A finished frame.
    pub fn plain(bytes: Vec<u8>) -> Self {
        Self {
            header: VirtioNetHdr::PLAIN,
            bytes,
        }
    }

    /// The same frame on the way back: its two addresses changed places. What lies between looks at
    /// addresses, and has one of them on each side.
    #[must_use]
    pub fn turned(&self) -> Self {
        let mut turned = self.clone();
        if let Some(addresses) = turned.bytes.get_mut(..12) {
            addresses.rotate_left(6);
        }
        turned
    }
}

impl core::fmt::Debug for Frame {
    /// The length and the first bytes: a failed comparison of 65,550 bytes is no help to anybody.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let head = &self.bytes[..self.bytes.len().min(24)];
        write!(f, "Frame({} bytes, {head:02x?}, ", self.bytes.len())?;
        write!(f, "{:?})", self.header)
    }
}

/// A seeded source of numbers (splitmix64); for tests only.
#[derive(Clone, Copy, Debug)]
pub struct Random(pub u64);

impl Random {
    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: usize, high: usize) -> usize {
        low + (self.next_u64() % (high - low + 1) as u64) as usize
    }
}

/// A frame of `len` bytes (14 at least) to the back end, between two locally administered addresses, of the type
/// for local experiments (IEEE 802, 0x88B5), with content that `seed` decides.
pub fn content(seed: u64, len: usize) -> Frame {
    let mut bytes = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5];
    let mut random = Random(seed ^ (len as u64) << 32);
    while bytes.len() < len {
        bytes.extend_from_slice(&random.next_u64().to_le_bytes());
    }
    bytes.truncate(len);
    Frame::plain(bytes)
}
