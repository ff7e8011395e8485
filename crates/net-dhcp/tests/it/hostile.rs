//! Guests that lie, flood and truncate.

use std::collections::BTreeSet;

use net_dhcp::v4::codec::{MessageType, option};
use net_dhcp::{Refusal, Server};

use crate::guest::*;

fn mac32(n: u32) -> [u8; 6] {
    let [a, b, c, d] = n.to_be_bytes();
    [2, 1, a, b, c, d]
}

/// A client of its own for every `n`, from one port.
fn flood(s: &mut Server, port: u32, n: u32, secs: u64) -> Option<Answer> {
    Msg::new(MessageType::Discover, mac32(n)).send(s, port, at(secs))
}

#[test]
fn row61_starvation_by_discover_is_bounded() {
    let mut s = server();
    for n in 0..10_000 {
        flood(&mut s, 1, n, 0);
    }
    assert_eq!(s.blank_addresses(), 253 - 16, "one port, one share");
    assert!(
        Msg::discover(7).send(&mut s, 2, at(0)).is_some(),
        "others are served"
    );
}

#[test]
fn row61_starvation_by_request_is_bounded() {
    let mut s = server();
    let mut bound = 0;
    for n in 0..1000 {
        let Some(offer) = flood(&mut s, 1, n, 0) else {
            continue;
        };
        let request = Msg::new(MessageType::Request, mac32(n))
            .wants(offer.ip())
            .naming(SERVER);
        bound += u32::from(request.ask(&mut s, 1, at(0)).kind() == MessageType::Ack);
    }
    assert_eq!((bound, s.leases().count()), (16, 16));
    assert_eq!(s.stats().refused(Refusal::PortQuota), 1000 - 16);
    // Without a DISCOVER, each for an address of its own choice.
    for n in 0..200u8 {
        Msg::new(MessageType::Request, mac32(n.into()))
            .wants(ip(n))
            .send(&mut s, 1, at(1));
    }
    assert!(s.leases().count() <= 16);
    dora(&mut s, 2, 7, at(2));
}

#[test]
fn row61_starvation_by_decline_is_bounded() {
    let mut s = server();
    for n in 0..1000 {
        let Some(offer) = flood(&mut s, 1, n, 0) else {
            continue;
        };
        let decline = Msg::new(MessageType::Decline, mac32(n))
            .wants(offer.ip())
            .naming(SERVER);
        decline.send(&mut s, 1, at(0));
    }
    assert_eq!(s.stats().declines, 16);
    assert_eq!(s.blank_addresses(), 253 - 16);
    dora(&mut s, 2, 7, at(1));
}

#[test]
fn row61_memory_of_former_clients_is_bounded() {
    let mut s = server();
    let quiet = dora(&mut s, 2, 7, at(0));
    Msg::release(7, quiet).send(&mut s, 2, at(0));
    for n in 0..2000 {
        let ip = flood(&mut s, 1, n, 1).unwrap().ip();
        let msg = |kind| Msg::new(kind, mac32(n)).naming(SERVER);
        msg(MessageType::Request).wants(ip).ask(&mut s, 1, at(1));
        msg(MessageType::Release).ciaddr(ip).send(&mut s, 1, at(1));
    }
    assert!(s.blank_addresses() >= 253 - 17);
    assert_eq!(
        Msg::discover(7).ask(&mut s, 2, at(2)).ip(),
        quiet,
        "its memory was not washed out"
    );
}

#[test]
fn row61_one_port_never_touches_anothers_lease() {
    let mut s = server();
    let id = b"\xff\x01\x02\x03";
    let victim = Msg::discover(1).id(id).ask(&mut s, 1, at(0)).ip();
    Msg::select(1, victim).id(id).ask(&mut s, 1, at(0));
    let before: Vec<_> = s
        .leases()
        .map(|l| (l.ip, l.mac, l.port, l.expires))
        .collect();
    // Port 2 copies everything: MAC, identifier, addresses.
    let forged = |msg: Msg| msg.id(id);
    assert!(
        forged(Msg::release(1, victim))
            .send(&mut s, 2, at(1))
            .is_none()
    );
    assert!(
        forged(Msg::decline(1, victim))
            .send(&mut s, 2, at(1))
            .is_none()
    );
    assert_eq!(s.stats().refused(Refusal::NotHolder), 2);
    for msg in [
        Msg::renew(1, victim),
        Msg::reboot(1, victim),
        Msg::select(1, victim),
    ] {
        assert_eq!(forged(msg).ask(&mut s, 2, at(1)).kind(), MessageType::Nak);
    }
    let offer = forged(Msg::discover(1).wants(victim)).ask(&mut s, 2, at(1));
    assert_ne!(offer.ip(), victim);
    forged(Msg::select(1, offer.ip())).ask(&mut s, 2, at(1));
    let after: Vec<_> = s.leases().filter(|l| l.port == Some(1)).collect();
    let after: Vec<_> = after
        .iter()
        .map(|l| (l.ip, l.mac, l.port, l.expires))
        .collect();
    assert_eq!(before, after);
    // The victim goes on as if nothing had happened.
    assert_eq!(
        Msg::renew(1, victim).id(id).ask(&mut s, 1, at(2)).kind(),
        MessageType::Ack
    );
}

#[test]
fn clones_with_one_identifier_are_two_guests() {
    let mut s = server();
    let id = b"\xff\0\0\0\x01machine-id";
    let given: BTreeSet<_> = (1..=10u8)
        .map(|n| {
            let ip = Msg::discover(n).id(id).ask(&mut s, n.into(), at(0)).ip();
            Msg::select(n, ip).id(id).ask(&mut s, n.into(), at(0)).ip()
        })
        .collect();
    assert_eq!(given.len(), 10);
    // After a restart each gets its own again: the MAC decides among one identifier's leases.
    let before: Vec<_> = s.leases().map(|l| (l.mac, l.ip)).collect();
    let snapshot = s.snapshot(at(0));
    let mut s = server();
    s.restore(&snapshot, at(0), at(0));
    for (mac, ip) in before {
        let offer = Msg::new(MessageType::Discover, mac)
            .id(id)
            .ask(&mut s, mac[5].into(), at(1));
        assert_eq!(offer.ip(), ip);
    }
}

#[test]
fn hardware_address_must_be_the_senders() {
    let mut s = server();
    let mut msg = Msg::discover(1);
    msg.src_mac = mac(2);
    assert!(msg.send(&mut s, 1, at(0)).is_none());
    for bad in [[0; 6], [0xff; 6], [1, 0, 0, 0, 0, 1]] {
        assert!(
            Msg::new(MessageType::Discover, bad)
                .send(&mut s, 1, at(0))
                .is_none()
        );
    }
    assert_eq!(s.stats().refused(Refusal::HardwareAddress), 4);
    let mut lax = server_with(|c| c.check_source_mac = false);
    assert!(msg.send(&mut lax, 1, at(0)).is_some());
    // A relay of another network is not served.
    let mut msg = Msg::discover(1);
    msg.header.giaddr = [192, 168, 9, 9].into();
    assert!(msg.send(&mut s, 1, at(0)).is_none());
    assert_eq!(s.stats().refused(Refusal::Relay), 1);
}

#[test]
fn replies_and_unknown_types_are_refused() {
    let mut s = server();
    let mut reply = Msg::discover(1);
    reply.header.op = net_dhcp::v4::codec::Op::Reply;
    assert!(reply.send(&mut s, 1, at(0)).is_none());
    assert_eq!(s.stats().refused(Refusal::NotRequest), 1);
    for kind in [MessageType::Offer, MessageType::Ack, MessageType::Nak] {
        assert!(Msg::new(kind, mac(1)).send(&mut s, 1, at(0)).is_none());
    }
    for types in [&[][..], &[0], &[9], &[255], &[1, 1]] {
        let mut msg = Msg::discover(1);
        msg.options = vec![(option::MESSAGE_TYPE, types.to_vec())];
        assert!(msg.send(&mut s, 1, at(0)).is_none());
    }
    let mut bootp = Msg::discover(1);
    bootp.options.clear();
    assert!(bootp.send(&mut s, 1, at(0)).is_none());
    assert_eq!(s.stats().refused(Refusal::MessageType), 9);
    // Neither an address to keep nor one to ask for.
    assert!(
        Msg::new(MessageType::Request, mac(1))
            .send(&mut s, 1, at(0))
            .is_none()
    );
    assert_eq!(s.stats().refused(Refusal::Malformed), 1);
    assert_eq!(
        s.stats().refusals().map(|(_, n)| n).sum::<u64>(),
        s.stats().received
    );
}

#[test]
fn truncation_at_every_byte() {
    let messages = [
        Msg::discover(1)
            .wants(ip(9))
            .id(&[7; 40])
            .name("vm")
            .asks_for(&ALL),
        Msg::select(1, ip(9))
            .id(&[7; 40])
            .opt(option::FQDN, b"\x04\0\0\x02vm\0"),
        Msg::decline(1, ip(9)).opt(option::RELAY_INFO, &[1; 60]),
        Msg::inform(1, ip(9)).opt(option::OVERLOAD, &[3]),
    ];
    for msg in messages {
        let bytes = msg.bytes();
        for len in 0..=bytes.len() {
            let mut s = server();
            let reply = s.handle(1, mac(1), &bytes[..len], at(0));
            assert!(
                len >= 243 || reply.is_none(),
                "no message type within {len} bytes"
            );
            s.assert_consistent();
        }
    }
}

#[test]
fn waiting_events_are_bounded() {
    let mut s = server();
    let given = dora(&mut s, 1, 1, at(0));
    for _ in 0..3000 {
        Msg::renew(1, given).ask(&mut s, 1, at(1));
    }
    assert_eq!(std::iter::from_fn(|| s.poll_event()).count(), 1024);
    assert_eq!(s.stats().events_lost, 3001 - 1024);
}
