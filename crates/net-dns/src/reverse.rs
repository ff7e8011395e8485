//! Reverse names: `4.3.2.1.in-addr.arpa` and its IPv6 counterpart (RFC 1035 section 3.5,
//! RFC 3596 section 2.5), read from the right so that partial names and names below an address
//! are understood too.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::name::Name;

/// What a reverse name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reverse {
    /// The address as far as it is given; the rest is zero.
    pub(crate) address: IpAddr,
    /// How many leading bits are given.
    pub(crate) bits: u8,
    /// Labels follow that are no part of an address, as in service discovery
    /// (`lb._dns-sd._udp.0.2.0.10.in-addr.arpa`).
    pub(crate) extra: bool,
}

impl Reverse {
    /// Reads a name below `in-addr.arpa` or `ip6.arpa`; `None` for every other name.
    pub(crate) fn parse(name: &Name) -> Option<Self> {
        let labels: Vec<&[u8]> = name.labels().collect();
        let (labels, family) = match labels.as_slice() {
            [rest @ .., family, b"arpa"] => (rest, *family),
            _ => return None,
        };
        let mut digits = labels.iter().rev().peekable();
        match family {
            b"in-addr" => {
                let mut octets = [0u8; 4];
                let mut bits = 0;
                for octet in &mut octets {
                    let Some(value) = digits.next_if(|l| decimal(l).is_some()) else {
                        break;
                    };
                    *octet = decimal(value)?;
                    bits += 8;
                }
                let extra = digits.next().is_some();
                Some(Self {
                    address: Ipv4Addr::from(octets).into(),
                    bits,
                    extra,
                })
            }
            b"ip6" => {
                let mut address = 0u128;
                let mut bits = 0;
                while bits < 128 {
                    let Some(value) = digits.next_if(|l| nibble(l).is_some()) else {
                        break;
                    };
                    address |= u128::from(nibble(value)?) << (124 - bits);
                    bits += 4;
                }
                let extra = digits.next().is_some();
                Some(Self {
                    address: Ipv6Addr::from(address).into(),
                    bits,
                    extra,
                })
            }
            _ => None,
        }
    }

    /// The full address, when the name is exactly one.
    pub(crate) fn exact(&self) -> Option<IpAddr> {
        let full = if self.address.is_ipv4() { 32 } else { 128 };
        (!self.extra && self.bits == full).then_some(self.address)
    }

    /// True when everything the name covers lies in the prefix.
    pub(crate) fn is_in(&self, (network, length): (IpAddr, u8)) -> bool {
        let differing = match (self.address, network) {
            (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
            (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
            _ => return false,
        };
        self.bits >= length && differing >= u32::from(length)
    }
}

/// A decimal octet without leading zeros.
fn decimal(label: &[u8]) -> Option<u8> {
    match label {
        [b'0', _, ..] | [] => None,
        _ if label.iter().all(u8::is_ascii_digit) => std::str::from_utf8(label).ok()?.parse().ok(),
        _ => None,
    }
}

fn nibble(label: &[u8]) -> Option<u8> {
    match label {
        [digit] => char::from(*digit).to_digit(16).map(|digit| digit as u8),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<Reverse> {
        Reverse::parse(&Name::parse(text).unwrap())
    }

    #[test]
    fn full_partial_and_longer_names() {
        let full = parse("15.2.0.10.in-addr.arpa").unwrap();
        assert_eq!(full.exact(), Some(IpAddr::from([10, 0, 2, 15])));
        let part = parse("2.0.10.IN-ADDR.arpa").unwrap();
        assert_eq!((part.bits, part.exact()), (24, None));
        let longer = parse("lb._dns-sd._udp.0.2.0.10.in-addr.arpa").unwrap();
        assert_eq!(
            (longer.bits, longer.extra, longer.exact()),
            (32, true, None)
        );
        assert_eq!(parse("256.0.0.10.in-addr.arpa").unwrap().bits, 24);
        assert_eq!(parse("01.0.0.10.in-addr.arpa").unwrap().bits, 24);
        assert_eq!(parse("in-addr.arpa").unwrap().bits, 0);
        assert_eq!(parse("example.com"), None);
        assert_eq!(parse("arpa"), None);

        let six = "1.".to_owned() + &"0.".repeat(27) + "0.0.d.f.ip6.arpa";
        let six = parse(&six).unwrap();
        assert_eq!(six.exact(), Some("fd00::1".parse().unwrap()));
    }

    #[test]
    fn containment() {
        let net = (IpAddr::from([10, 0, 2, 0]), 23);
        assert!(parse("1.3.0.10.in-addr.arpa").unwrap().is_in(net));
        assert!(!parse("1.4.0.10.in-addr.arpa").unwrap().is_in(net));
        assert!(parse("2.0.10.in-addr.arpa").unwrap().is_in(net));
        assert!(!parse("0.10.in-addr.arpa").unwrap().is_in(net));
        assert!(!parse("d.f.ip6.arpa").unwrap().is_in(net));
        assert!(
            parse("0.0.d.f.ip6.arpa")
                .unwrap()
                .is_in(("fd00::".parse().unwrap(), 16))
        );
    }
}
