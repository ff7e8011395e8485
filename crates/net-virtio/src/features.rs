//! Feature bits (VIRTIO 1.3, sections 5.1.3 and 6), and what they mean for offloads.
//!
//! A device speaks of the *host* where the driver sends and of the *guest* where it receives:
//! `HOST_TSO4` is a super-frame coming out of the guest, [`Offloads::RX_TSO4`] here.

use net_backend::Offloads;

/// Frames from the driver may carry partial checksums.
pub const CSUM: u64 = 1 << 0;
/// Frames to the driver may carry partial checksums.
pub const GUEST_CSUM: u64 = 1 << 1;
/// The device tells the largest IP packet.
pub const MTU: u64 = 1 << 3;
/// The device tells the hardware address.
pub const MAC: u64 = 1 << 5;
/// Frames to the driver may be TCP/IPv4 super-frames.
pub const GUEST_TSO4: u64 = 1 << 7;
/// Frames to the driver may be TCP/IPv6 super-frames.
pub const GUEST_TSO6: u64 = 1 << 8;
/// Super-frames to the driver may carry ECN.
pub const GUEST_ECN: u64 = 1 << 9;
/// Frames from the driver may be TCP/IPv4 super-frames.
pub const HOST_TSO4: u64 = 1 << 11;
/// Frames from the driver may be TCP/IPv6 super-frames.
pub const HOST_TSO6: u64 = 1 << 12;
/// Super-frames from the driver may carry ECN.
pub const HOST_ECN: u64 = 1 << 13;
/// A frame to the driver may fill several of its buffers.
pub const MRG_RXBUF: u64 = 1 << 15;
/// The device tells whether the link is up.
pub const STATUS: u64 = 1 << 16;
/// There is a control queue.
pub const CTRL_VQ: u64 = 1 << 17;
/// The driver can ask for less than every frame.
pub const CTRL_RX: u64 = 1 << 18;
/// The driver can ask for VLANs.
pub const CTRL_VLAN: u64 = 1 << 19;
/// The driver announces itself when asked.
pub const GUEST_ANNOUNCE: u64 = 1 << 21;
/// More than one pair of queues.
pub const MQ: u64 = 1 << 22;
/// The driver can change its hardware address.
pub const CTRL_MAC_ADDR: u64 = 1 << 23;
/// Chains may lie in tables of their own.
pub const INDIRECT_DESC: u64 = 1 << 28;
/// Interrupts and kicks at an index.
pub const EVENT_IDX: u64 = 1 << 29;
/// VIRTIO 1.0 or later.
pub const VERSION_1: u64 = 1 << 32;
/// Packed rings.
pub const RING_PACKED: u64 = 1 << 34;
/// Buffers come back in the order in which they were made available.
pub const IN_ORDER: u64 = 1 << 35;
/// Frames to the driver may be UDP/IPv4 super-frames.
pub const GUEST_USO4: u64 = 1 << 54;
/// Frames to the driver may be UDP/IPv6 super-frames.
pub const GUEST_USO6: u64 = 1 << 55;
/// Frames from the driver may be UDP super-frames.
pub const HOST_USO: u64 = 1 << 56;

/// The bits to offer for offloads.
pub(crate) fn of_offloads(offloads: Offloads) -> u64 {
    let pairs = [
        (Offloads::RX_CSUM, CSUM),
        (Offloads::RX_TSO4, HOST_TSO4 | HOST_ECN),
        (Offloads::RX_TSO6, HOST_TSO6 | HOST_ECN),
        (Offloads::RX_USO, HOST_USO),
        (Offloads::TX_CSUM, GUEST_CSUM),
        (Offloads::TX_TSO4, GUEST_TSO4 | GUEST_ECN),
        (Offloads::TX_TSO6, GUEST_TSO6 | GUEST_ECN),
        (Offloads::TX_USO, GUEST_USO4 | GUEST_USO6),
    ];
    let offered = pairs.iter().filter(|(one, _)| offloads.contains(*one));
    offered.fold(0, |bits, (_, bit)| bits | bit)
}

/// The offloads that hold with these bits acknowledged.
pub(crate) fn to_offloads(features: u64) -> Offloads {
    let has = |bit: u64| features & bit == bit;
    let pairs = [
        (CSUM, Offloads::RX_CSUM),
        (HOST_TSO4, Offloads::RX_TSO4),
        (HOST_TSO6, Offloads::RX_TSO6),
        (HOST_USO, Offloads::RX_USO),
        (GUEST_CSUM, Offloads::TX_CSUM),
        (GUEST_TSO4, Offloads::TX_TSO4),
        (GUEST_TSO6, Offloads::TX_TSO6),
        (GUEST_USO4 | GUEST_USO6, Offloads::TX_USO),
    ];
    let held = pairs.iter().filter(|(bit, _)| has(*bit));
    held.fold(Offloads::NONE, |set, (_, one)| set | *one)
        .consistent()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offloads_come_back_as_they_went() {
        for offloads in [
            Offloads::NONE,
            Offloads::ALL,
            Offloads::RX_ALL,
            Offloads::TX_CSUM | Offloads::TX_TSO6,
        ] {
            assert_eq!(to_offloads(of_offloads(offloads)), offloads);
        }
        assert_eq!(to_offloads(HOST_TSO4), Offloads::NONE);
        assert_eq!(to_offloads(GUEST_CSUM | GUEST_USO4), Offloads::TX_CSUM);
    }
}
