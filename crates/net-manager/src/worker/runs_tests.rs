//! Frames that come together: each goes where it would by itself, in the order in which it was sent.

use net_gateway::Gateway;
use net_switch::{Limit, StormLimits};
use net_wire::MacAddr;
use net_wire::ethernet::EtherType;
use proptest::prelude::*;

use super::PortOptions;
use super::switching_tests::{Bench, mac};

const GUESTS: usize = 4;
/// Broadcasts that a guest may send.
const BROADCASTS: u32 = 3;

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
    /// To everybody, and says that its sender is the router.
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
        1 => Just(To::Forged),
    ]
}

fn kind() -> impl Strategy<Value = EtherType> {
    prop_oneof![
        4 => Just(EtherType::IPV4),
        1 => Just(EtherType::ARP),
        // Experimental (RFC 5342, section 2.3.2).
        1 => Just(EtherType(0x88b5)),
        1 => Just(EtherType::VLAN),
    ]
}

/// A frame that says which it is.
fn frame(to: To, kind: EtherType, gateway: MacAddr, number: u16) -> Vec<u8> {
    let dst = match to {
        To::Guest(guest) => mac(guest),
        To::Nobody => mac(99),
        To::Everybody | To::Forged => MacAddr::BROADCAST,
        To::Gateway => gateway,
        To::Link => MacAddr([1, 0x80, 0xc2, 0, 0, 2]),
    };
    // Inside a tag of nobody's VLAN, which hosts strip: the guard refuses it.
    let (kind, rest) = match to {
        To::Forged => (EtherType::VLAN, [0, 0, 0x86, 0xdd]),
        _ if kind == EtherType::VLAN => (kind, [0, 7, 0x88, 0xb5]),
        _ => (kind, [0; 4]),
    };
    let mut bytes = [&dst.0[..], &mac(0).0, &kind.0.to_be_bytes(), &rest].concat();
    bytes.extend(number.to_be_bytes());
    bytes.resize(60, 0);
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn each_goes_where_it_would_by_itself(
        sent in proptest::collection::vec((to(), kind(), 1..12usize), 1..40),
    ) {
        let mut bench = Bench::new(|config| {
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
        for (to, kind, count) in sent {
            for _ in 0..count {
                let bytes = frame(to, kind, gateway, frames.len() as u16);
                frames.push(bytes.clone());
                for_gateway += match to {
                    To::Gateway | To::Nobody => 1,
                    To::Everybody => u64::from(left > 0),
                    _ => 0,
                };
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
        let looked_into = |kind: [u8; 2]| Gateway::looks_into(EtherType(u16::from_be_bytes(kind)));
        let refused = frames.iter().filter(|frame| frame[14..18] == [0, 0, 0x86, 0xdd]);
        prop_assert!(refused.clone().all(|frame| looked_into([frame[12], frame[13]])));
        let after = counts(&bench);
        prop_assert_eq!(after.0 - before.0, refused.count() as u64);
        prop_assert_eq!(after.1 - before.1, for_gateway);
    }
}
