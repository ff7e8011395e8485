//! Frames that come together: each goes where it would by itself, in the order in which it was sent.

use net_switch::{Limit, StormLimits};
use net_wire::ethernet::EtherType;
use net_wire::{MacAddr, icmpv6, ip_proto};
use proptest::prelude::*;

use super::PortOptions;
use super::switching_tests::{Bench, mac};

const GUESTS: usize = 4;
/// Broadcasts that a guest may send.
const BROADCASTS: u32 = 3;
/// Experimental, too: of a frame that is little more than its header.
const SHORT: EtherType = EtherType(0x88b6);
/// Nothing follows the header (RFC 8200, section 4.7).
const NO_NEXT_HEADER: u8 = 59;

/// Where a frame goes.
#[derive(Debug, Clone, Copy)]
enum To {
    Guest(usize),
    /// To an address that nobody has.
    Nobody,
    Everybody,
    Gateway,
    /// To the link itself, which nobody forwards.
    Link,
    /// To the first guest, and says that its sender is the router.
    Forged,
}

fn to() -> impl Strategy<Value = To> {
    // Runs, as guests send them, and everything that ends one.
    prop_oneof![
        8 => (1..GUESTS).prop_map(To::Guest),
        1 => Just(To::Guest(0)),
        1 => Just(To::Nobody),
        1 => Just(To::Everybody),
        1 => Just(To::Gateway),
        1 => Just(To::Link),
        2 => Just(To::Forged),
    ]
}

fn kind() -> impl Strategy<Value = EtherType> {
    prop_oneof![
        4 => Just(EtherType::IPV4),
        4 => Just(EtherType::IPV6),
        1 => Just(EtherType::ARP),
        // Experimental (RFC 5342, section 2.3.2).
        1 => Just(EtherType(0x88b5)),
        1 => Just(EtherType::VLAN),
        2 => Just(SHORT),
    ]
}

/// A frame that says which it is.
fn frame(to: To, kind: EtherType, gateway: MacAddr, number: u16) -> Vec<u8> {
    let dst = match to {
        To::Guest(guest) => mac(guest),
        To::Forged => mac(1),
        To::Nobody => mac(99),
        To::Everybody => MacAddr::BROADCAST,
        To::Gateway => gateway,
        To::Link => MacAddr([1, 0x80, 0xc2, 0, 0, 2]),
    };
    let mut bytes = [&dst.0[..], &mac(0).0, &kind.0.to_be_bytes()].concat();
    let forged = matches!(to, To::Forged);
    match kind {
        // Of any other kind it hides in a tag of nobody's VLAN, which hosts strip.
        _ if forged && kind != EtherType::IPV6 => {
            bytes.splice(12.., [0x81, 0, 0, 0, 0x86, 0xdd]);
        }
        EtherType::VLAN => bytes.extend([0, 7, 0x88, 0xb5]),
        EtherType::IPV6 => {
            let next_header = if forged {
                ip_proto::ICMPV6
            } else {
                NO_NEXT_HEADER
            };
            bytes.extend([0x60, 0, 0, 0, 0, 6, next_header, 255, 0xfe, 0x80]);
            bytes.resize(14 + 40, 1);
            bytes.push(icmpv6::ROUTER_ADVERT);
        }
        _ => {}
    }
    if kind == SHORT && !forged {
        bytes.push(number as u8);
        return bytes;
    }
    bytes.resize(58, 0);
    bytes.extend(number.to_be_bytes());
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn each_goes_where_it_would_by_itself(
        sent in proptest::collection::vec((to(), kind(), 1..12usize), 1..40),
        has_gateway: bool,
    ) {
        let mut bench = Bench::new(|config| {
            config.gateway = has_gateway;
            config.storm = StormLimits::OFF;
            config.storm.broadcast = Limit { rate: 0, burst: BROADCASTS };
        });
        for guest in 0..GUESTS {
            bench.attach(PortOptions::default()).unwrap();
            if guest > 0 {
                // The switch hears of it.
                let hello = [&mac(0).0[..], &mac(guest).0, &[0x88, 0xb5, 0, 0]].concat();
                bench.send(guest, &[hello]);
            }
        }
        bench.counts();
        let gateway: MacAddr = bench.worker.core.gateway.config().mac;
        let mut frames = Vec::new();
        let mut expected = vec![Vec::new(); GUESTS];
        let mut left = BROADCASTS;
        // It can do nothing with any of them, and counts them.
        let mut for_gateway = 0;
        let mut forged = 0;
        for (to, kind, count) in sent {
            for _ in 0..count {
                let bytes = frame(to, kind, gateway, frames.len() as u16);
                frames.push(bytes.clone());
                // Where there is no gateway, nobody has its address, and nobody is forged.
                let to = match to {
                    To::Gateway if !has_gateway => To::Nobody,
                    To::Forged if !has_gateway => To::Guest(1),
                    to => to,
                };
                for_gateway += match to {
                    To::Gateway | To::Nobody => u64::from(has_gateway),
                    To::Everybody => u64::from(has_gateway && left > 0),
                    _ => 0,
                };
                forged += u64::from(matches!(to, To::Forged));
                let targets = match to {
                    To::Guest(0) | To::Gateway | To::Link | To::Forged => 0..0,
                    To::Guest(guest) => guest..guest + 1,
                    To::Everybody if left == 0 => 0..0,
                    To::Everybody => {
                        left -= 1;
                        1..GUESTS
                    }
                    To::Nobody => 1..GUESTS,
                };
                for guest in targets {
                    expected[guest].push(bytes.clone());
                }
            }
        }
        let counts = |bench: &Bench| {
            let statistics = bench.worker.core.gateway.statistics();
            (statistics.forged, statistics.drops.iter().sum::<u64>())
        };
        let before = counts(&bench);
        bench.send(0, &frames);
        for (guest, expected) in expected.iter().enumerate() {
            prop_assert_eq!(&bench.received(guest), expected, "guest {}", guest);
        }
        let after = counts(&bench);
        prop_assert_eq!(after.0 - before.0, forged);
        prop_assert_eq!(after.1 - before.1, for_gateway);
    }
}
