//! What a back end can carry, and the set of offloads in both directions.

use core::fmt;
use core::ops::{BitAnd, BitOr, Sub};

use net_datapath::{GsoKind, VirtioNetHdr};
use net_wire::MacAddr;

/// A set of offloads. "Receive" and "transmit" are seen from the holder of the back end: `RX_`
/// frames may come out of `receive`, `TX_` frames may go into `transmit`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Offloads(u16);

impl Offloads {
    /// Finished, ordinary frames only.
    pub const NONE: Self = Self(0);
    /// Received frames may carry partial checksums (`VIRTIO_NET_HDR_F_NEEDS_CSUM`).
    pub const RX_CSUM: Self = Self(1 << 0);
    /// Received frames may be TCP/IPv4 super-frames.
    pub const RX_TSO4: Self = Self(1 << 1);
    /// Received frames may be TCP/IPv6 super-frames.
    pub const RX_TSO6: Self = Self(1 << 2);
    /// Received frames may be UDP super-frames (segmentation, not fragmentation).
    pub const RX_USO: Self = Self(1 << 3);
    /// Frames to send may carry partial checksums.
    pub const TX_CSUM: Self = Self(1 << 8);
    /// Frames to send may be TCP/IPv4 super-frames.
    pub const TX_TSO4: Self = Self(1 << 9);
    /// Frames to send may be TCP/IPv6 super-frames.
    pub const TX_TSO6: Self = Self(1 << 10);
    /// Frames to send may be UDP super-frames.
    pub const TX_USO: Self = Self(1 << 11);
    /// Everything on receive.
    pub const RX_ALL: Self = Self(0x000f);
    /// Everything on transmit.
    pub const TX_ALL: Self = Self(0x0f00);
    /// Everything in both directions.
    pub const ALL: Self = Self(0x0f0f);

    const NAMES: [(Self, &'static str); 8] = [
        (Self::RX_CSUM, "rx-csum"),
        (Self::RX_TSO4, "rx-tso4"),
        (Self::RX_TSO6, "rx-tso6"),
        (Self::RX_USO, "rx-uso"),
        (Self::TX_CSUM, "tx-csum"),
        (Self::TX_TSO4, "tx-tso4"),
        (Self::TX_TSO6, "tx-tso6"),
        (Self::TX_USO, "tx-uso"),
    ];

    /// Whether every offload of `other` is in the set.
    #[inline]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether nothing is in the set.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The set without super-frames whose checksum offload is missing: a super-frame cannot carry
    /// finished checksums (VIRTIO 1.3, 5.1.3.1 has the same dependency).
    #[must_use]
    pub const fn consistent(self) -> Self {
        let mut bits = self.0;
        if !self.contains(Self::RX_CSUM) {
            bits &= !Self::RX_ALL.0;
        }
        if !self.contains(Self::TX_CSUM) {
            bits &= !Self::TX_ALL.0;
        }
        Self(bits)
    }

    /// What both sides can do: the answer of
    /// [`set_offloads`](crate::NetworkBackend::set_offloads).
    #[must_use]
    pub const fn negotiate(want: Self, have: Self) -> Self {
        Self(want.consistent().0 & have.consistent().0).consistent()
    }

    /// Whether a frame with this header may be transmitted under this agreement.
    #[inline]
    pub const fn allow_tx(self, header: &VirtioNetHdr) -> bool {
        if !header.needs_csum() && !header.is_gso() {
            return true;
        }
        if header.needs_csum() && !self.contains(Self::TX_CSUM) {
            return false;
        }
        match header.gso_kind() {
            GsoKind::None => true,
            GsoKind::TcpV4 => self.contains(Self::TX_TSO4),
            GsoKind::TcpV6 => self.contains(Self::TX_TSO6),
            GsoKind::UdpL4 => self.contains(Self::TX_USO),
            _ => false,
        }
    }
}

impl BitOr for Offloads {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitAnd for Offloads {
    type Output = Self;
    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl Sub for Offloads {
    type Output = Self;
    /// The set without the members of `other`.
    fn sub(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl fmt::Display for Offloads {
    /// The names with commas between them; `none` for the empty set.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut comma = "";
        for (offload, name) in Self::NAMES {
            if self.contains(offload) {
                write!(f, "{comma}{name}")?;
                comma = ",";
            }
        }
        f.write_str(if comma.is_empty() { "none" } else { "" })
    }
}

impl fmt::Debug for Offloads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Offloads({self})")
    }
}

/// What an attachment can carry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Capabilities {
    /// The offloads it could agree to; see
    /// [`set_offloads`](crate::NetworkBackend::set_offloads).
    pub offloads: Offloads,
    /// Largest IP packet of an ordinary frame, in bytes.
    pub mtu: u16,
    /// The hardware address of the guest's end, where the back end knows or prescribes it.
    pub mac: Option<MacAddr>,
    /// Pairs of queues; 1 unless the device is multiqueue. One object drives one pair.
    pub queue_pairs: u16,
    /// Longest frame in bytes, super-frames among them; at most [`MAX_FRAME`](crate::MAX_FRAME).
    pub max_frame: usize,
}

impl Default for Capabilities {
    /// Plain frames of any length, an MTU of 1,500 bytes, one queue pair.
    fn default() -> Self {
        Self {
            offloads: Offloads::NONE,
            mtu: 1500,
            mac: None,
            queue_pairs: 1,
            max_frame: crate::MAX_FRAME,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn negotiation_never_exceeds_either_side() {
        for want in 0..0x1000u16 {
            for have in [0, 0x0f0f, 0x0101, 0x0002, 0x0e00, 0x0703] {
                let (want, have) = (
                    Offloads(want) & Offloads::ALL,
                    Offloads(have) & Offloads::ALL,
                );
                let got = Offloads::negotiate(want, have);
                assert!(want.contains(got) && have.contains(got));
                assert_eq!(got, got.consistent());
            }
        }
        assert_eq!(
            Offloads::negotiate(Offloads::ALL, Offloads::ALL),
            Offloads::ALL
        );
        assert_eq!(
            Offloads::negotiate(Offloads::TX_TSO4, Offloads::ALL),
            Offloads::NONE
        );
    }

    #[test]
    fn a_frame_needs_each_of_its_offloads() {
        let header = VirtioNetHdr {
            flags: VirtioNetHdr::NEEDS_CSUM,
            gso_type: VirtioNetHdr::GSO_TCPV4 | VirtioNetHdr::GSO_ECN,
            gso_size: 1448,
            ..VirtioNetHdr::PLAIN
        };
        assert!((Offloads::TX_CSUM | Offloads::TX_TSO4).allow_tx(&header));
        assert!(!Offloads::TX_TSO4.allow_tx(&header));
        assert!(!(Offloads::ALL - Offloads::TX_TSO4).allow_tx(&header));
        assert!(!Offloads::RX_ALL.allow_tx(&header));
        let fragmented = VirtioNetHdr {
            gso_type: VirtioNetHdr::GSO_UDP,
            ..header
        };
        assert!(!Offloads::ALL.allow_tx(&fragmented));
        assert!(Offloads::NONE.allow_tx(&VirtioNetHdr::PLAIN));
        let verified = VirtioNetHdr {
            flags: VirtioNetHdr::DATA_VALID,
            ..VirtioNetHdr::PLAIN
        };
        assert!(Offloads::NONE.allow_tx(&verified));
    }

    #[test]
    fn names() {
        assert_eq!(Offloads::NONE.to_string(), "none");
        assert_eq!(
            format!("{:?}", Offloads::RX_CSUM | Offloads::TX_USO),
            "Offloads(rx-csum,tx-uso)"
        );
    }
}
