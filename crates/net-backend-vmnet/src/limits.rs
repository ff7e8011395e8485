//! The sizes an interface reported, made fit to rely on.

use net_backend::MAX_FRAME;

/// The header in front of each IP packet, in bytes.
const ETHERNET: usize = net_wire::ethernet::HEADER_LEN;
/// The MTU of Ethernet, in bytes; taken if none was reported.
const DEFAULT_MTU: u16 = 1500;

/// Sizes that agree with each other and with what a back end may carry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Limits {
    /// Largest IP packet, in bytes.
    pub(crate) mtu: u16,
    /// Longest frame, in bytes; also the size of the buffers.
    pub(crate) max_packet: usize,
}

impl Limits {
    /// `mtu` and `max_packet` as reported; the latter counts the Ethernet header.
    pub(crate) fn from_reported(mtu: Option<u64>, max_packet: Option<u64>) -> Self {
        let mtu = mtu
            .and_then(|mtu| u16::try_from(mtu).ok())
            .filter(|&mtu| mtu > 0)
            .unwrap_or(DEFAULT_MTU);
        let max_packet = max_packet
            .and_then(|len| usize::try_from(len).ok())
            .filter(|&len| len > ETHERNET)
            .unwrap_or(usize::from(mtu) + ETHERNET)
            .min(MAX_FRAME);
        let room = u16::try_from(max_packet - ETHERNET).unwrap_or(u16::MAX);
        Self {
            mtu: mtu.min(room),
            max_packet,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_reported_holds() {
        let limits = |mtu, max_packet| {
            let limits = Limits::from_reported(mtu, max_packet);
            (limits.mtu, limits.max_packet)
        };
        assert_eq!(limits(Some(1500), Some(1514)), (1500, 1514));
        assert_eq!(limits(Some(1500), Some(1518)), (1500, 1518));
        assert_eq!(limits(Some(9000), Some(9014)), (9000, 9014));
        // Less than the MTU promises: the buffer decides.
        assert_eq!(limits(Some(9000), Some(1514)), (1500, 1514));
        // Not reported, or nonsense.
        assert_eq!(limits(None, None), (1500, 1514));
        assert_eq!(limits(Some(4000), None), (4000, 4014));
        assert_eq!(limits(Some(0), Some(14)), (1500, 1514));
        assert_eq!(limits(Some(1 << 40), Some(u64::MAX)), (1500, MAX_FRAME));
        assert_eq!(limits(Some(65_535), Some(65_550)), (65_535, 65_550));
    }
}
