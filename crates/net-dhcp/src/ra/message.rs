//! The advertisement as it is sent (RFC 4861, section 4.2).

use std::net::Ipv6Addr;
use std::time::Duration;

use super::{ADVERTISEMENT, MTU, Preference, RaConfig, SOURCE_LINK_ADDRESS};

const PREFIX: u8 = 3;
const RDNSS: u8 = 25;
const DNSSL: u8 = 31;

/// Whether a router goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// As configured.
    Advertising,
    /// It is no router any more: every lifetime is zero (RFC 4861, section 6.2.5), so that hosts
    /// turn to another one at once.
    Ceasing,
}

/// The ICMPv6 message for `config`, from its type on; the checksum is left zero.
///
/// A raw ICMPv6 socket sends it as it is, with a hop limit of 255 set on the socket: the kernel
/// fills in the checksum (RFC 3542, section 3.1).
pub fn message(config: &RaConfig, state: State) -> Vec<u8> {
    let ceasing = state == State::Ceasing;
    let lifetime = |lifetime: Duration| if ceasing { Duration::ZERO } else { lifetime };
    let router_lifetime = lifetime(config.router_lifetime).as_secs().min(9000) as u16;
    let mut out = Vec::with_capacity(128);
    out.extend([ADVERTISEMENT, 0, 0, 0, config.hop_limit]);
    let preference = match config.preference {
        // RFC 4191, section 2.2: without a lifetime it must be the middle one.
        _ if router_lifetime == 0 => 0b00,
        Preference::High => 0b01,
        Preference::Medium => 0b00,
        Preference::Low => 0b11,
    };
    out.push(u8::from(config.managed) << 7 | u8::from(config.other) << 6 | preference << 3);
    out.extend(router_lifetime.to_be_bytes());
    out.extend(config.reachable_time.to_be_bytes());
    out.extend(config.retrans_timer.to_be_bytes());

    if let Some(mac) = config.link_address {
        out.extend([SOURCE_LINK_ADDRESS, 1]);
        out.extend(mac);
    }
    if let Some(mtu) = config.mtu {
        out.extend([MTU, 1, 0, 0]);
        out.extend(mtu.to_be_bytes());
    }
    for prefix in &config.prefixes {
        out.extend([PREFIX, 4, prefix.length]);
        out.push(u8::from(prefix.on_link) << 7 | u8::from(prefix.autonomous) << 6);
        out.extend(seconds(lifetime(prefix.valid)).to_be_bytes());
        out.extend(seconds(lifetime(prefix.preferred)).to_be_bytes());
        out.extend([0; 4]);
        out.extend(first_bits(prefix.address, prefix.length).octets());
    }
    let dns_lifetime = seconds(lifetime(config.dns_lifetime)).to_be_bytes();
    if !config.rdnss.is_empty() {
        option(&mut out, RDNSS, |out| {
            out.extend([0; 2]);
            out.extend(dns_lifetime);
            config
                .rdnss
                .iter()
                .for_each(|server| out.extend(server.octets()));
        });
    }
    if !config.dnssl.is_empty() {
        option(&mut out, DNSSL, |out| {
            out.extend([0; 2]);
            out.extend(dns_lifetime);
            config.dnssl.iter().for_each(|name| domain(out, name));
        });
    }
    out
}

/// An option whose body `fill` writes: padded with zeros to eight bytes, its length filled in.
fn option(out: &mut Vec<u8>, kind: u8, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend([kind, 0]);
    fill(out);
    out.resize(start + (out.len() - start).next_multiple_of(8), 0);
    // What has been validated fits; what has not is cut, never more than a message of options.
    let words = ((out.len() - start) / 8).min(255);
    out.truncate(start + words * 8);
    out[start + 1] = words as u8;
}

/// A name as DNS writes it, uncompressed (RFC 8106, section 5.2).
fn domain(out: &mut Vec<u8>, name: &str) {
    for label in name.split('.') {
        let label = &label.as_bytes()[..label.len().min(63)];
        out.push(label.len() as u8);
        out.extend(label);
    }
    out.push(0);
}

/// A lifetime in the option's 32 bits, of which all ones are for ever.
fn seconds(lifetime: Duration) -> u32 {
    u32::try_from(lifetime.as_secs()).unwrap_or(u32::MAX)
}

fn first_bits(address: Ipv6Addr, length: u8) -> Ipv6Addr {
    let mask = match length {
        0 => 0,
        1..=128 => u128::MAX << (128 - u32::from(length)),
        _ => u128::MAX,
    };
    Ipv6Addr::from_bits(address.to_bits() & mask)
}
