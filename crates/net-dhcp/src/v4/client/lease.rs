//! What a server granted.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::v4::codec::{Message, Route, decode_routes, names, option};

/// The most addresses kept of one list.
const MAX_LIST: usize = 8;
/// A lease of this many seconds never ends (RFC 2131 section 3.3).
const INFINITE: u32 = u32::MAX;

/// A lease, as read from an ACK. Every list is bounded.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lease {
    /// The address.
    pub ip: Ipv4Addr,
    /// Prefix length of the network; that of the address class if the server names none.
    pub prefix_len: u8,
    /// Option 3, at most 8.
    pub routers: Vec<Ipv4Addr>,
    /// Option 6, at most 8.
    pub dns: Vec<Ipv4Addr>,
    /// Option 42, at most 8.
    pub ntp: Vec<Ipv4Addr>,
    /// Option 26; values below 68, the least of IPv4, count as absent.
    pub mtu: Option<u16>,
    /// Option 12, a DNS label.
    pub hostname: Option<String>,
    /// Option 15, a domain name.
    pub domain: Option<String>,
    /// Option 119, at most 16.
    pub search: Vec<String>,
    /// Option 121, at most 64. When not empty, `routers` is to be ignored (RFC 3442).
    pub routes: Vec<Route>,
    /// The server that granted it.
    pub server_id: Ipv4Addr,
    /// Length of the lease; `None`: for ever.
    pub lease_time: Option<Duration>,
    /// T1: when to ask this server for more.
    pub renew_after: Option<Duration>,
    /// T2: when to ask any server.
    pub rebind_after: Option<Duration>,
}

impl Lease {
    /// Reads an ACK; `None` if it grants nothing usable.
    pub(super) fn from_ack(msg: &Message<'_>) -> Option<Self> {
        let ip = msg.header.yiaddr;
        let opts = &msg.options;
        let server_id = opts.addr(option::SERVER_ID)?;
        if !is_usable(ip) || !is_usable(server_id) {
            return None;
        }
        let prefix_len = match opts.addr(option::SUBNET_MASK) {
            Some(mask) => prefix_of(mask)?,
            None => class_prefix(ip),
        };
        let list = |code| {
            opts.addrs(code)
                .filter(|ip| is_usable(*ip))
                .take(MAX_LIST)
                .collect()
        };
        let text = |code| {
            let text = std::str::from_utf8(opts.get(code)?).ok()?;
            // Some servers end the name with a NUL or a dot.
            let text = text.trim_end_matches(['\0', '.']);
            names::is_domain_name(text).then(|| text.to_owned())
        };
        let secs = opts.u32(option::LEASE_TIME)?;
        let time = (secs != INFINITE).then(|| Duration::from_secs(secs.into()));
        let (t1, t2) = match time {
            None => (None, None),
            Some(time) => {
                let asked = |code| opts.u32(code).map(|secs| Duration::from_secs(secs.into()));
                let t2 = asked(option::REBINDING_TIME).filter(|t2| *t2 < time);
                let t2 = t2.unwrap_or(time / 8 * 7);
                let t1 = asked(option::RENEWAL_TIME).filter(|t1| *t1 < t2);
                (Some(t1.unwrap_or(time / 2).min(t2)), Some(t2))
            }
        };
        Some(Self {
            ip,
            prefix_len,
            routers: list(option::ROUTER),
            dns: list(option::DNS),
            ntp: list(option::NTP),
            mtu: opts.u16(option::MTU).filter(|mtu| *mtu >= 68),
            hostname: opts
                .get(option::HOST_NAME)
                .and_then(names::sanitise_host_name),
            domain: text(option::DOMAIN),
            search: opts
                .get(option::SEARCH)
                .map(names::decode_search)
                .unwrap_or_default(),
            routes: opts
                .get(option::CLASSLESS_ROUTES)
                .and_then(decode_routes)
                .unwrap_or_default(),
            server_id,
            lease_time: time,
            renew_after: t1,
            rebind_after: t2,
        })
    }
}

/// Whether an address can belong to one host.
pub(super) fn is_usable(ip: Ipv4Addr) -> bool {
    !(ip.octets()[0] == 0 || ip.is_loopback() || ip.is_multicast() || ip.octets()[0] >= 240)
}

/// The length of a contiguous mask; `None` for any other.
fn prefix_of(mask: Ipv4Addr) -> Option<u8> {
    let bits = u32::from(mask);
    (bits.leading_ones() + bits.trailing_zeros() == 32 && bits != 0)
        .then_some(bits.leading_ones() as u8)
}

fn class_prefix(ip: Ipv4Addr) -> u8 {
    match ip.octets()[0] {
        0..=127 => 8,
        128..=191 => 16,
        _ => 24,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks() {
        assert_eq!(prefix_of(Ipv4Addr::new(255, 255, 255, 0)), Some(24));
        assert_eq!(prefix_of(Ipv4Addr::BROADCAST), Some(32));
        assert_eq!(prefix_of(Ipv4Addr::new(255, 0, 255, 0)), None);
        assert_eq!(prefix_of(Ipv4Addr::UNSPECIFIED), None);
    }
}
