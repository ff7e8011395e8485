//! Checksums as RFC 1071 writes them down: sixteen bits at a time, the carries folded in the end.
//! Nothing here comes from the crates under test.

use std::net::IpAddr;

use super::parse::see;

/// The ones' complement sum of some bytes, not yet complemented.
pub(crate) fn add(mut sum: u64, bytes: &[u8]) -> u64 {
    for pair in bytes.chunks(2) {
        let low = pair.get(1).copied().unwrap_or(0);
        sum += u64::from(u16::from_be_bytes([pair[0], low]));
    }
    sum
}

/// The carries folded in.
pub(crate) fn fold(mut sum: u64) -> u16 {
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// The sum of the pseudo header (RFC 9293, section 3.1; RFC 8200, section 8.1).
pub(crate) fn pseudo(src: IpAddr, dst: IpAddr, protocol: u8, len: usize) -> u64 {
    let octets = |addr| match addr {
        IpAddr::V4(addr) => addr.octets().to_vec(),
        IpAddr::V6(addr) => addr.octets().to_vec(),
    };
    let sum = add(add(0, &octets(src)), &octets(dst));
    sum + u64::from(protocol) + len as u64
}

/// Where the checksum of a protocol lies in its header.
pub(crate) fn place(protocol: u8) -> Option<usize> {
    match protocol {
        6 => Some(16),
        17 => Some(6),
        1 | 58 => Some(2),
        _ => None,
    }
}

/// The transport checksum of `l4`, whose checksum field counts as zero; as it is stored.
pub(crate) fn transport(src: IpAddr, dst: IpAddr, protocol: u8, l4: &[u8]) -> Option<u16> {
    let at = place(protocol)?;
    let mut copy = l4.to_vec();
    copy.get_mut(at..at + 2)?.fill(0);
    let start = match protocol {
        1 => 0,
        _ => pseudo(src, dst, protocol, l4.len()),
    };
    let sum = !fold(add(start, &copy));
    // RFC 768: zero says that there is none.
    Some(if protocol == 17 && sum == 0 {
        0xffff
    } else {
        sum
    })
}

/// Whether all checksums of a packet hold. Those of fragments cannot be seen from one.
pub(crate) fn check(packet: &[u8]) -> Result<(), String> {
    let seen = see(packet);
    if seen.v4 {
        let header = packet[..seen.l4].to_vec();
        if fold(add(0, &header)) != 0xffff {
            return Err(format!("wrong header checksum: {header:02x?}"));
        }
    }
    if seen.offset != 0 || seen.more {
        return Ok(());
    }
    let l4 = &packet[seen.l4..seen.end];
    let Some(at) = place(seen.protocol) else {
        return Ok(());
    };
    let Some(stored) = l4.get(at..at + 2) else {
        return Err("no room for a checksum".into());
    };
    let stored = u16::from_be_bytes([stored[0], stored[1]]);
    if seen.protocol == 17 && stored == 0 && seen.v4 {
        return Ok(());
    }
    let right = transport(seen.src, seen.dst, seen.protocol, l4);
    // 0 and FFFF are two names of one sum, but only one of them may be sent (RFC 1624, RFC 768).
    if Some(stored) != right {
        return Err(format!(
            "checksum {stored:04x} instead of {right:04x?} in {seen:?}"
        ));
    }
    Ok(())
}
