//! The few hosts, remotes and ports that all tests share, so that they meet each other.

use std::net::IpAddr;

/// Whether an address is of the guests' network.
pub(crate) fn is_inside(addr: IpAddr) -> bool {
    match addr {
        IpAddr::V4(addr) => addr.octets()[..3] == [10, 0, 0],
        IpAddr::V6(addr) => addr.segments()[..4] == [0xfd00, 0, 0, 0],
    }
}

/// Whether an address may be one end of a packet.
pub(crate) fn is_host(addr: IpAddr) -> bool {
    match addr {
        IpAddr::V4(addr) => !matches!(addr.octets()[0], 0 | 127 | 224..),
        IpAddr::V6(addr) => {
            !(addr.is_unspecified()
                || addr.is_loopback()
                || addr.is_multicast()
                || addr.segments()[0] & 0xffc0 == 0xfe80)
        }
    }
}

/// A guest.
pub(crate) fn inside(v6: bool, n: u8) -> IpAddr {
    match v6 {
        false => [10, 0, 0, n].into(),
        true => [0xfd00, 0, 0, 0, 0, 0, 0, n.into()].into(),
    }
}

/// An outside address of the translator's.
pub(crate) fn outside(v6: bool, n: u8) -> IpAddr {
    match v6 {
        false => [203, 0, 113, n].into(),
        true => [0x2001, 0xdb8, 0, 1, 0, 0, 0, n.into()].into(),
    }
}

/// Somebody outside.
pub(crate) fn remote(v6: bool, n: u8) -> IpAddr {
    match v6 {
        false => [192, 0, 2, n].into(),
        true => [0x2001, 0xdb8, 0, 2, 0, 0, 0, n.into()].into(),
    }
}

/// An address that is no host's.
pub(crate) fn nobody(v6: bool) -> IpAddr {
    match v6 {
        false => [224, 0, 0, 5].into(),
        true => [0xff02, 0, 0, 0, 0, 0, 0, 5].into(),
    }
}
