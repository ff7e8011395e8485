//! Row 60: what replies say, and how large they are.

use std::net::Ipv4Addr;
use std::time::Duration;

use net_dhcp::Refusal;
use net_dhcp::v4::codec::{MessageType, Route, decode_routes, names, option};

use crate::guest::*;

fn rich() -> net_dhcp::Server {
    server_with(|c| {
        c.dns = vec![SERVER, Ipv4Addr::new(9, 9, 9, 9)];
        c.domain = Some("vm.internal".into());
        c.search = vec!["vm.internal".into(), "internal".into()];
        c.mtu = Some(1400);
        c.ntp = vec![ip(4)];
        c.routes = vec![Route {
            destination: [172, 16, 0, 0].into(),
            prefix_len: 12,
            gateway: ip(5),
        }];
        c.v6only_wait = Some(Duration::from_secs(1800));
        c.lease_time = Duration::from_secs(8000);
    })
}

#[test]
fn row60_options_have_their_values() {
    let offer = Msg::discover(7)
        .name("vm7")
        .asks_for(&ALL)
        .ask(&mut rich(), 1, at(0));
    let opt = |code| {
        offer
            .opt(code)
            .unwrap_or_else(|| panic!("no option {code}"))
    };
    let secs = |n: u32| n.to_be_bytes().to_vec();
    assert_eq!(opt(option::SUBNET_MASK), [255, 255, 255, 0]);
    assert_eq!(opt(option::ROUTER), SERVER.octets());
    assert_eq!(opt(option::DNS), [10, 0, 0, 1, 9, 9, 9, 9]);
    assert_eq!(opt(option::HOST_NAME), b"vm7");
    assert_eq!(opt(option::DOMAIN), b"vm.internal");
    assert_eq!(opt(option::MTU), 1400u16.to_be_bytes());
    assert_eq!(opt(option::BROADCAST), [10, 0, 0, 255]);
    assert_eq!(opt(option::NTP), [10, 0, 0, 4]);
    assert_eq!(opt(option::LEASE_TIME), secs(8000));
    assert_eq!(opt(option::RENEWAL_TIME), secs(4000));
    assert_eq!(opt(option::REBINDING_TIME), secs(7000));
    assert_eq!(opt(option::V6ONLY), secs(1800));
    assert_eq!(
        names::decode_search(&opt(option::SEARCH)),
        ["vm.internal", "internal"]
    );
    let default = Route {
        destination: [0, 0, 0, 0].into(),
        prefix_len: 0,
        gateway: SERVER,
    };
    for code in [option::CLASSLESS_ROUTES, option::CLASSLESS_ROUTES_MS] {
        let routes = decode_routes(&opt(code)).unwrap();
        assert_eq!(
            (routes.len(), routes[1]),
            (2, default),
            "clients ignore option 3 then"
        );
    }
}

#[test]
fn row60_only_those_asked_for() {
    let mut s = rich();
    for code in ALL {
        let offer = Msg::discover(7)
            .name("vm7")
            .asks_for(&[code])
            .ask(&mut s, 1, at(0));
        let mut want = vec![code, 51, 53, 54];
        want.sort_unstable();
        assert_eq!(offer.codes(), want);
    }
    // Codes nobody may ask for, unknown ones and duplicates change nothing.
    let offer = Msg::discover(7)
        .asks_for(&[0, 50, 51, 52, 53, 54, 55, 61, 82, 224, 255, 1, 1, 1])
        .ask(&mut s, 1, at(0));
    assert_eq!(offer.codes(), [1, 51, 53, 54]);
    // Without a list: what a client cannot do without.
    let offer = Msg::discover(7).ask(&mut s, 1, at(0));
    assert_eq!(offer.codes(), [1, 3, 6, 15, 26, 28, 51, 53, 54, 58, 59]);
}

#[test]
fn row60_order_is_the_clients_but_mask_before_router() {
    let offer = Msg::discover(7)
        .asks_for(&[15, 3, 6, 1])
        .ask(&mut rich(), 1, at(0));
    let bytes = &offer.0.payload[240..];
    let mut codes = Vec::new();
    let mut i = 0;
    while bytes[i] != 255 {
        codes.push(bytes[i]);
        i += 2 + usize::from(bytes[i + 1]);
    }
    assert_eq!(codes, [53, 54, 51, 15, 1, 3, 6]);
}

#[test]
fn row60_lease_time_asked_for() {
    let mut s = server();
    for (asked, given) in [
        (0u32, 60u32),
        (59, 60),
        (600, 600),
        (3600, 3600),
        (u32::MAX, 3600),
    ] {
        let msg = Msg::discover(7).opt(option::LEASE_TIME, &asked.to_be_bytes());
        let offer = msg.ask(&mut s, 1, at(0));
        assert_eq!(
            offer.opt(option::LEASE_TIME),
            Some(given.to_be_bytes().to_vec()),
            "{asked}"
        );
    }
    let msg = Msg::select(7, Msg::discover(7).ask(&mut s, 1, at(0)).ip());
    msg.opt(option::LEASE_TIME, &600u32.to_be_bytes())
        .ask(&mut s, 1, at(0));
    assert_eq!(s.leases().next().unwrap().expires, at(600));
}

#[test]
fn row60_option_overload_is_read() {
    let mut s = server();
    // Requested address in `file`, host name in `sname`.
    let mut bytes = Msg::discover(7).opt(option::OVERLOAD, &[3]).bytes();
    bytes[108..115].copy_from_slice(&[50, 4, 10, 0, 0, 99, 255]);
    bytes[44..50].copy_from_slice(&[12, 3, b'd', b'b', b'1', 255]);
    let offer = Answer(s.handle(1, mac(7), &bytes, at(0)).unwrap());
    assert_eq!(offer.ip(), ip(99));
    let bad = Msg::discover(7).opt(option::OVERLOAD, &[4]).bytes();
    assert!(s.handle(1, mac(7), &bad, at(0)).is_none());
    assert_eq!(s.stats().refused(Refusal::Malformed), 1);
}

#[test]
fn rfc3396_long_options_are_split_and_joined() {
    let mut s = server_with(|c| {
        c.search = (0..24)
            .map(|i| format!("department-{i}.example-{i}.org"))
            .collect();
    });
    let msg = Msg::discover(7)
        .asks_for(&[119])
        .opt(option::MAX_SIZE, &1500u16.to_be_bytes());
    let offer = msg.ask(&mut s, 1, at(0));
    let value = offer.opt(option::SEARCH).unwrap();
    assert!(value.len() > 255);
    let first = offer
        .0
        .payload
        .windows(2)
        .position(|w| w == [119, 255])
        .unwrap();
    assert_eq!(
        offer.0.payload[first + 257],
        119,
        "the second piece follows"
    );
    assert_eq!(
        names::decode_search(&value)[15],
        "department-15.example-15.org"
    );
}

#[test]
fn rfc2132_max_message_size_honoured() {
    let mut s = server_with(|c| {
        c.search = (0..24)
            .map(|i| format!("department-{i}.example-{i}.org"))
            .collect();
        c.domain = Some("vm.internal".into());
        c.mtu = Some(9000);
    });
    for announced in [
        None,
        Some(0u16),
        Some(300),
        Some(576),
        Some(700),
        Some(1500),
        Some(65535),
    ] {
        let mut msg = Msg::discover(7).asks_for(&[119, 15, 1, 3, 6]);
        if let Some(size) = announced {
            msg = msg.opt(option::MAX_SIZE, &size.to_be_bytes());
        }
        let offer = msg.ask(&mut s, 1, at(0));
        let limit = usize::from(announced.unwrap_or(576).clamp(576, 9000)) - 28;
        assert!(offer.0.payload.len() <= limit, "{announced:?}");
        assert!(offer.0.payload.len() >= 300);
        assert!(
            offer.opt(option::ROUTER).is_some(),
            "smaller options still fit"
        );
    }
    assert_eq!(
        s.stats().options_left_out,
        5,
        "the list fits 1500 and 65535 only"
    );
    // A client that claims more than the network carries gets what the network carries.
    let mut s = server_with(|c| {
        c.mtu = Some(576);
        c.search = (0..32)
            .map(|i| format!("department-{i}.example-{i}.org"))
            .collect();
    });
    let msg = Msg::discover(7)
        .asks_for(&ALL)
        .opt(option::MAX_SIZE, &9000u16.to_be_bytes());
    assert!(msg.ask(&mut s, 1, at(0)).0.payload.len() <= 548);
}

#[test]
fn rfc1542_replies_are_at_least_300_bytes() {
    let mut s = server();
    let answers = [
        Msg::discover(7).asks_for(&[]),
        Msg::reboot(7, SERVER),
        Msg::inform(7, ip(9)),
    ];
    for msg in answers {
        assert_eq!(msg.ask(&mut s, 1, at(0)).0.payload.len(), 300);
    }
}

#[test]
fn row60_unknown_options_are_ignored() {
    let mut s = server();
    let mut msg = Msg::discover(7);
    let known = [50, 51, 52, 53, 54, 55, 57, 61, 81, 82];
    for code in (1..=254u8).filter(|code| !known.contains(code)) {
        msg = msg.opt(code, &[code; 3]);
    }
    assert_eq!(msg.ask(&mut s, 1, at(0)).kind(), MessageType::Offer);
}

#[test]
fn rfc8925_v6only_is_for_those_who_ask() {
    let mut s = rich();
    let asked = Msg::discover(7).asks_for(&[108]).ask(&mut s, 1, at(0));
    assert_eq!(
        asked.opt(option::V6ONLY),
        Some(1800u32.to_be_bytes().to_vec())
    );
    assert_eq!(
        Msg::discover(7).ask(&mut s, 1, at(0)).opt(option::V6ONLY),
        None
    );
    let mut least = server_with(|c| c.v6only_wait = Some(Duration::from_secs(1)));
    let asked = Msg::discover(7).asks_for(&[108]).ask(&mut least, 1, at(0));
    assert_eq!(
        asked.opt(option::V6ONLY),
        Some(300u32.to_be_bytes().to_vec())
    );
}
