//! Tests of prefix translation: of addresses, of packets, and of whatever comes.

mod addresses;
mod any;
mod packets;

use core::net::Ipv6Addr;

use super::*;

fn ip(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

fn nptv6(inside: &str, outside: &str) -> Nptv6 {
    let prefix = |text: &str| {
        let (addr, len) = text.split_once('/').unwrap();
        (ip(addr), len.parse().unwrap())
    };
    Nptv6::new(prefix(inside), prefix(outside)).unwrap()
}

/// The prefixes of RFC 6296, section 3.6.
fn example() -> Nptv6 {
    nptv6("fd01:203:405::/48", "2001:db8:1::/48")
}
