//! The sizes an interface reported, made fit to rely on.

use net_backend::MAX_FRAME;

/// The header in front of each IP packet, in bytes.
const ETHERNET: usize = net_wire::ethernet::HEADER_LEN;
/// The MTU of Ethernet, in bytes; taken if none was reported.
const DEFAULT_MTU: u16 = 1500;

/// Most packets of one call where nothing is reported (Apple's documentation of vmnet).
const DOCUMENTED_PACKETS: u64 = 200;
/// Most bytes of one call, by the same documentation.
pub(crate) const CALL_BYTES: usize = 256 << 10;
/// Most packets of one call that are ever made use of: what a worker has in hand at a time.
pub(crate) const MOST_PACKETS: usize = 64;
/// Longest buffer for one packet, in bytes, whatever is reported.
const MOST_BUFFER: u64 = 128 << 10;

/// Sizes that agree with each other and with what a back end may carry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Limits {
    /// Largest IP packet, in bytes.
    pub(crate) mtu: u16,
    /// Longest frame, in bytes.
    pub(crate) max_packet: usize,
    /// Buffer for one packet, in bytes, without a virtio header: as long as the framework wants
    /// it, even if no back end carries so long a frame.
    pub(crate) buffer: usize,
    /// Packets of one read.
    pub(crate) read: usize,
    /// Packets of one write.
    pub(crate) write: usize,
}

impl Limits {
    /// All of them as reported; `max_packet` counts the Ethernet header.
    pub(crate) fn from_reported(
        mtu: Option<u64>,
        max_packet: Option<u64>,
        read: Option<u64>,
        write: Option<u64>,
    ) -> Self {
        let mtu = mtu
            .and_then(|mtu| u16::try_from(mtu).ok())
            .filter(|&mtu| mtu > 0)
            .unwrap_or(DEFAULT_MTU);
        let buffer = max_packet
            .and_then(|len| usize::try_from(len.min(MOST_BUFFER)).ok())
            .filter(|&len| len > ETHERNET)
            .unwrap_or(usize::from(mtu) + ETHERNET);
        let max_packet = buffer.min(MAX_FRAME);
        let room = u16::try_from(max_packet - ETHERNET).unwrap_or(u16::MAX);
        let packets = |reported: Option<u64>| {
            let most = reported
                .filter(|&most| most > 0)
                .unwrap_or(DOCUMENTED_PACKETS);
            usize::try_from(most)
                .unwrap_or(usize::MAX)
                .min(MOST_PACKETS)
        };
        Self {
            mtu: mtu.min(room),
            max_packet,
            buffer,
            read: packets(read).min(CALL_BYTES / buffer).max(1),
            write: packets(write),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_reported_holds() {
        let limits = |mtu, max_packet| {
            let limits = Limits::from_reported(mtu, max_packet, None, None);
            (limits.mtu, limits.max_packet, limits.buffer)
        };
        assert_eq!(limits(Some(1500), Some(1514)), (1500, 1514, 1514));
        assert_eq!(limits(Some(1500), Some(1518)), (1500, 1518, 1518));
        assert_eq!(limits(Some(9000), Some(9014)), (9000, 9014, 9014));
        // Less than the MTU promises: the buffer decides.
        assert_eq!(limits(Some(9000), Some(1514)), (1500, 1514, 1514));
        // Not reported, or nonsense.
        assert_eq!(limits(None, None), (1500, 1514, 1514));
        assert_eq!(limits(Some(4000), None), (4000, 4014, 4014));
        assert_eq!(limits(Some(0), Some(14)), (1500, 1514, 1514));
        let absurd = limits(Some(1 << 40), Some(u64::MAX));
        assert_eq!(absurd, (1500, MAX_FRAME, 131_072));
        // Super-frames: a little longer than any back end carries, and the buffer still fits.
        let long = limits(Some(1500), Some(65_562));
        assert_eq!(long, (1500, MAX_FRAME, 65_562));
    }

    #[test]
    fn packets_of_one_call() {
        let limits = |max_packet, read, write| {
            let limits = Limits::from_reported(Some(1500), Some(max_packet), read, write);
            (limits.read, limits.write)
        };
        assert_eq!(limits(1514, None, None), (64, 64));
        assert_eq!(limits(1514, Some(256), Some(256)), (64, 64));
        assert_eq!(limits(1514, Some(32), Some(16)), (32, 16));
        assert_eq!(limits(1514, Some(1), Some(1)), (1, 1));
        assert_eq!(limits(1514, Some(0), Some(0)), (64, 64));
        // 256 KiB a call: four super-frames less their headers make three.
        assert_eq!(limits(65_550, Some(256), Some(256)), (3, 64));
        assert_eq!(limits(u64::MAX, Some(u64::MAX), Some(u64::MAX)), (2, 64));
    }
}
