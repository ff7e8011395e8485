//! Neighbour solicitations and advertisements (RFC 4861), and where they go.

use core::net::Ipv6Addr;

use crate::bytes::array;
use crate::checksum::Sum;
use crate::icmpv6::{self, HEADER_LEN, NEIGHBOR_ADVERT, NEIGHBOR_SOLICIT};
use crate::{MacAddr, Result, WireError};

/// The hop limit of all neighbour discovery: a lower one has crossed a router (section 3.1).
pub const HOP_LIMIT: u8 = 255;
/// The group of all nodes of a link.
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// Option: the sender's hardware address.
pub const SOURCE_ADDRESS: u8 = 1;
/// Option: the hardware address of the target.
pub const TARGET_ADDRESS: u8 = 2;
/// Flag of an advertisement: the sender is a router (section 4.4).
pub const ROUTER: u32 = 1 << 31;
/// Flag of an advertisement: somebody asked.
pub const SOLICITED: u32 = 1 << 30;
/// Flag of an advertisement: what was known before is to be replaced.
pub const OVERRIDE: u32 = 1 << 29;
/// Length of a message whose only option is a hardware address, in bytes.
pub const LEN: usize = HEADER_LEN + 16 + 8;

/// The group in which the owner of `ip` listens for solicitations (RFC 4291, section 2.7.1).
pub fn solicited_node(ip: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = ip.octets();
    let [a, b] = [0xff00 | u16::from(a), u16::from_be_bytes([b, c])];
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, a, b)
}

/// The hardware address of a multicast group (RFC 2464, section 7).
pub fn group_mac(group: Ipv6Addr) -> MacAddr {
    let [.., a, b, c, d] = group.octets();
    MacAddr([0x33, 0x33, a, b, c, d])
}

/// A solicitation or advertisement of a neighbour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Neighbour {
    /// [`NEIGHBOR_SOLICIT`] or [`NEIGHBOR_ADVERT`].
    pub kind: u8,
    /// [`ROUTER`], [`SOLICITED`] and [`OVERRIDE`] of an advertisement; 0 in a solicitation.
    pub flags: u32,
    /// Whose hardware address is asked for or told.
    pub target: Ipv6Addr,
    /// The hardware address it names: the source's of a solicitation, the target's of an
    /// advertisement.
    pub mac: Option<MacAddr>,
}

impl Neighbour {
    /// Takes a whole ICMPv6 message that came from `src` to `dst` for one, with the checks of
    /// sections 7.1.1 and 7.1.2 but those of hop limit and checksum, which are the caller's.
    ///
    /// # Errors
    /// [`WireError::Truncated`] below 24 bytes, [`WireError::Malformed`] for what fails a check.
    pub fn parse(bytes: &[u8], (src, dst): (Ipv6Addr, Ipv6Addr)) -> Result<Self> {
        let (fixed, options) = bytes.split_at_checked(24).ok_or(WireError::Truncated)?;
        let (kind, code) = (fixed[0], fixed[1]);
        let (asks, target) = (kind == NEIGHBOR_SOLICIT, Ipv6Addr::from(array(fixed, 8)));
        let (wanted, flags) = match kind {
            NEIGHBOR_SOLICIT => (SOURCE_ADDRESS, 0),
            NEIGHBOR_ADVERT => (TARGET_ADDRESS, u32::from_be_bytes(array(fixed, 4))),
            _ => return Err(WireError::Malformed),
        };
        let mac = link_address(options, wanted)?;
        // Duplicate address detection: to the solicited-node group, and with no address to name.
        let group = dst.octets()[..13] == [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff];
        let detects_rightly = !src.is_unspecified() || (asks && group && mac.is_none());
        // What goes to everybody was asked for by nobody.
        let answers_everybody = dst.is_multicast() && flags & SOLICITED != 0;
        if code != 0 || target.is_multicast() || !detects_rightly || answers_everybody {
            return Err(WireError::Malformed);
        }
        Ok(Self {
            kind,
            flags: flags & (ROUTER | SOLICITED | OVERRIDE),
            target,
            mac,
        })
    }

    /// Writes the message to the beginning of `out` and gives its length back, which is [`LEN`] with
    /// a hardware address and 24 without; `pseudo` is the pseudo header's sum for that length.
    ///
    /// # Panics
    /// If `out` is shorter than that.
    pub fn emit(&self, out: &mut [u8], pseudo: Sum) -> usize {
        let len = self.len();
        let out = &mut out[..len];
        out[HEADER_LEN..24].copy_from_slice(&self.target.octets());
        if let Some(mac) = self.mac {
            let asks = self.kind == NEIGHBOR_SOLICIT;
            out[24] = if asks { SOURCE_ADDRESS } else { TARGET_ADDRESS };
            out[25] = 1;
            out[26..].copy_from_slice(&mac.0);
        }
        icmpv6::emit(out, self.kind, 0, self.flags, pseudo);
        len
    }

    /// Length of the message, in bytes.
    #[allow(clippy::len_without_is_empty)] // A message is never empty.
    pub fn len(&self) -> usize {
        match self.mac {
            Some(_) => LEN,
            None => LEN - 8,
        }
    }
}

/// The hardware address of kind `wanted` in the options, if it is among them.
///
/// # Errors
/// [`WireError::Malformed`] for options that do not end as they should: a zero length, which would
/// loop for ever, or one past the end (section 4.6).
pub fn link_address(mut options: &[u8], wanted: u8) -> Result<Option<MacAddr>> {
    let mut found = None;
    while !options.is_empty() {
        let &[kind, words, ..] = options else {
            return Err(WireError::Malformed);
        };
        let (option, rest) = options
            .split_at_checked(usize::from(words) * 8)
            .filter(|(option, _)| !option.is_empty())
            .ok_or(WireError::Malformed)?;
        if kind == wanted {
            found = found.or(Some(MacAddr(array(option, 2))));
        }
        options = rest;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checksum::{pseudo_v6, sum};
    use crate::ip_proto;

    const A: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0xa);
    const B: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0x2ab, 0xaff, 0xfe00, 0x201);
    const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);

    fn bytes(message: Neighbour, src: Ipv6Addr, dst: Ipv6Addr) -> Vec<u8> {
        let mut out = vec![0; message.len()];
        let pseudo = pseudo_v6(src, dst, ip_proto::ICMPV6, message.len());
        assert_eq!(message.emit(&mut out, pseudo), out.len());
        assert!((pseudo + sum(&out)).is_valid());
        out
    }

    fn message(kind: u8, flags: u32, mac: Option<MacAddr>) -> Neighbour {
        Neighbour {
            kind,
            flags,
            target: B,
            mac,
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        for (kind, flags, mac) in [
            (NEIGHBOR_SOLICIT, 0, Some(MAC)),
            (NEIGHBOR_SOLICIT, 0, None),
            (NEIGHBOR_ADVERT, ROUTER | SOLICITED | OVERRIDE, Some(MAC)),
            (NEIGHBOR_ADVERT, SOLICITED, None),
        ] {
            let sent = message(kind, flags, mac);
            assert_eq!(Neighbour::parse(&bytes(sent, A, B), (A, B)), Ok(sent));
        }
    }

    #[test]
    fn what_rfc4861_has_ignored_is_refused() {
        let none = Ipv6Addr::UNSPECIFIED;
        let group = solicited_node(B);
        let (ask, tell) = (NEIGHBOR_SOLICIT, NEIGHBOR_ADVERT);
        for (kind, flags, mac, src, dst, good) in [
            (ask, 0, None, none, group, true),
            (ask, 0, Some(MAC), none, group, false),
            (ask, 0, None, none, B, false),
            (tell, OVERRIDE, Some(MAC), A, ALL_NODES, true),
            (tell, SOLICITED, Some(MAC), A, ALL_NODES, false),
            (tell, OVERRIDE, Some(MAC), none, ALL_NODES, false),
        ] {
            let sent = bytes(message(kind, flags, mac), src, dst);
            let read = Neighbour::parse(&sent, (src, dst));
            assert_eq!(read.is_ok(), good, "{kind} {flags:x} {src} {dst}");
        }
        let good = bytes(message(ask, 0, Some(MAC)), A, B);
        for (at, byte) in [(0, 137), (1, 1), (8, 0xff), (25, 0), (25, 2)] {
            let mut bad = good.clone();
            bad[at] = byte;
            assert!(Neighbour::parse(&bad, (A, B)).is_err(), "{at}");
        }
        for len in (0..24).chain(25..LEN) {
            assert!(Neighbour::parse(&good[..len], (A, B)).is_err(), "{len}");
        }
    }

    #[test]
    fn groups_of_an_address() {
        let group = solicited_node(B);
        assert_eq!(group, "ff02::1:ff00:201".parse::<Ipv6Addr>().unwrap());
        assert_eq!(group_mac(group), MacAddr([0x33, 0x33, 0xff, 0, 2, 1]));
    }
}
