//! The buffers that packets are copied into.

use net_benches::traffic::LEN;

/// Buffers of a batch.
pub(crate) const BATCH: usize = 64;
/// Bytes of an Ethernet header.
pub(crate) const ETHERNET: usize = 14;
/// Not a multiple of 2,048, by which all packets would share a few sets of the cache.
const STRIDE: usize = 2048 + 64;
/// Where packets begin: at a cache line, with room for an Ethernet header before it.
const START: usize = 64;

#[derive(Clone)]
#[repr(align(64))]
struct Buffer([u8; STRIDE]);

/// Sixty-four of them.
pub(crate) struct Buffers(Vec<Buffer>);

impl Buffers {
    pub(crate) fn new() -> Self {
        let mut buffers = vec![Buffer([0; STRIDE]); BATCH];
        for Buffer(bytes) in &mut buffers {
            // The type of Ethernet frames that carry IPv4.
            bytes[START - 2..START].copy_from_slice(&[8, 0]);
        }
        Self(buffers)
    }

    /// The packets, from the IP header on.
    pub(crate) fn packets(&mut self) -> Vec<&mut [u8]> {
        self.slices(START)
    }

    /// The packets with their Ethernet headers.
    pub(crate) fn frames(&mut self) -> Vec<&mut [u8]> {
        self.slices(START - ETHERNET)
    }

    fn slices(&mut self, start: usize) -> Vec<&mut [u8]> {
        let buffers = self.0.iter_mut();
        buffers.map(|b| &mut b.0[start..START + LEN]).collect()
    }
}
