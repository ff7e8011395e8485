//! ICMP errors on the bench.

use std::net::IpAddr;

use crate::lab::{Family, V4, V6, icmp};

/// Types and codes of errors that are translated.
pub(crate) fn kinds(family: Family) -> &'static [(u8, u8)] {
    match family {
        V4 => &[
            (3, 0),
            (3, 1),
            (3, 3),
            (3, 4),
            (3, 13),
            (11, 0),
            (11, 1),
            (12, 0),
        ],
        V6 => &[
            (1, 0),
            (1, 3),
            (1, 4),
            (2, 0),
            (3, 0),
            (3, 1),
            (4, 0),
            (4, 1),
        ],
    }
}

/// The four bytes behind the checksum: an MTU where there is one.
fn second(kind: (u8, u8)) -> [u8; 4] {
    match kind {
        (3, 4) => [0, 0, 5, 0],
        (2, 0) => [0, 0, 5, 0],
        _ => [0; 4],
    }
}

/// An error with these bytes for a quote.
pub(crate) fn error(src: IpAddr, dst: IpAddr, kind: (u8, u8), quoted: &[u8]) -> Vec<u8> {
    icmp(src, dst, kind, second(kind), quoted)
}
