//! Row 59: the exchanges.

use std::net::Ipv4Addr;

use net_dhcp::v4::codec::{MessageType, option};
use net_dhcp::{LeaseEvent, Refusal, ReplyDst, UnknownClient};

use crate::guest::*;

#[test]
fn rfc2131_dora() {
    let mut s = server();
    let offer = Msg::discover(7).ask(&mut s, 3, at(0));
    assert_eq!(offer.kind(), MessageType::Offer);
    let given = offer.ip();
    assert!(offer.header().ciaddr.is_unspecified());
    assert_eq!(offer.opt(option::SERVER_ID), Some(SERVER.octets().to_vec()));
    assert_eq!(
        offer.opt(option::LEASE_TIME),
        Some(3600u32.to_be_bytes().to_vec())
    );
    assert_eq!(s.leases().count(), 0, "an offer is no lease");

    let ack = Msg::select(7, given).name("Web").ask(&mut s, 3, at(1));
    assert_eq!((ack.kind(), ack.ip()), (MessageType::Ack, given));
    let lease = s.leases().next().unwrap();
    assert_eq!((lease.ip, lease.mac, lease.port), (given, mac(7), Some(3)));
    assert_eq!((lease.expires, lease.hostname), (at(3601), Some("web")));
    assert_eq!(
        s.poll_event(),
        Some(LeaseEvent::Bound {
            ip: given,
            mac: mac(7),
            port: 3,
            hostname: Some("web".into()),
            expires: at(3601),
            renewed: false,
        })
    );
    assert_eq!(s.poll_event(), None);
}

#[test]
fn rfc2131_xid_chaddr_flags_giaddr_echoed() {
    let mut s = server();
    for flags in [0u16, 0x8000, 0xffff] {
        let mut msg = Msg::discover(7);
        msg.header.flags = flags;
        msg.header.xid = 0x0bad_cafe;
        msg.header.giaddr = ip(77);
        let header = msg.ask(&mut s, 1, at(0)).header();
        assert_eq!((header.xid, header.chaddr), (0x0bad_cafe, mac(7)));
        assert_eq!((header.flags, header.giaddr), (flags, ip(77)));
        assert_eq!((header.secs, header.siaddr), (0, Ipv4Addr::UNSPECIFIED));
    }
}

#[test]
fn rfc2131_broadcast_flag_decides_the_destination() {
    let mut s = server();
    let mut msg = Msg::discover(7);
    let offer = msg.ask(&mut s, 1, at(0));
    assert_eq!(
        offer.0.dst,
        ReplyDst::Unicast {
            ip: offer.ip(),
            mac: mac(7)
        }
    );
    msg.header.set_broadcast(true);
    let offer = msg.ask(&mut s, 1, at(0));
    assert_eq!((offer.0.dst, offer.0.dst_port), (ReplyDst::Broadcast, 68));

    // With a relay the reply goes to its port 67, whatever the flag.
    msg.header.giaddr = ip(77);
    msg.src_mac = mac(99);
    let offer = msg.ask(&mut s, 1, at(0));
    assert_eq!(
        offer.0.dst,
        ReplyDst::Unicast {
            ip: ip(77),
            mac: mac(99)
        }
    );
    assert_eq!(offer.0.dst_port, 67);

    // A client with an address is answered there.
    let given = dora(&mut s, 1, 7, at(0));
    let ack = Msg::renew(7, given).ask(&mut s, 1, at(10));
    assert_eq!(
        ack.0.dst,
        ReplyDst::Unicast {
            ip: given,
            mac: mac(7)
        }
    );

    // A NAK is broadcast, for the client's address is wrong; a relay is told to broadcast it.
    let nak = Msg::renew(7, ip(200)).ask(&mut s, 1, at(10));
    assert_eq!(
        (nak.kind(), nak.0.dst),
        (MessageType::Nak, ReplyDst::Broadcast)
    );
    let mut msg = Msg::renew(7, ip(200));
    msg.header.giaddr = ip(77);
    let nak = msg.ask(&mut s, 1, at(10));
    assert!(nak.header().broadcast());
    assert_eq!(
        nak.0.dst,
        ReplyDst::Unicast {
            ip: ip(77),
            mac: mac(7)
        }
    );
}

#[test]
fn row59_renew_and_rebind_extend_the_lease() {
    let mut s = server();
    let given = dora(&mut s, 1, 7, at(0));
    let ack = Msg::renew(7, given).ask(&mut s, 1, at(1800));
    assert_eq!(
        (ack.kind(), ack.ip(), ack.header().ciaddr),
        (MessageType::Ack, given, given)
    );
    assert_eq!(s.leases().next().unwrap().expires, at(5400));
    // Rebinding is the same message, broadcast. Some clients name the server in it.
    let ack = Msg::renew(7, given).naming(SERVER).ask(&mut s, 1, at(5399));
    assert_eq!(ack.kind(), MessageType::Ack);
    assert_eq!(s.leases().next().unwrap().expires, at(8999));
    let renewed = std::iter::from_fn(|| s.poll_event())
        .filter(|e| matches!(e, LeaseEvent::Bound { renewed: true, .. }));
    assert_eq!(renewed.count(), 2);
}

#[test]
fn row59_init_reboot_confirms_the_lease() {
    let mut s = server();
    let given = dora(&mut s, 1, 7, at(0));
    let ack = Msg::reboot(7, given).ask(&mut s, 1, at(100));
    assert_eq!((ack.kind(), ack.ip()), (MessageType::Ack, given));
    // Another address of the same network is not this client's.
    let nak = Msg::reboot(7, ip(201)).ask(&mut s, 1, at(100));
    assert_eq!(
        (nak.kind(), nak.ip()),
        (MessageType::Nak, Ipv4Addr::UNSPECIFIED)
    );
    assert_eq!(
        s.leases().next().unwrap().ip,
        given,
        "a NAK takes nothing away"
    );
}

#[test]
fn row59_nak_on_the_wrong_network() {
    for policy in [
        UnknownClient::Adopt,
        UnknownClient::Nak,
        UnknownClient::Silent,
    ] {
        let mut s = server_with(|c| c.unknown_clients = policy);
        let foreign = Ipv4Addr::new(192, 168, 1, 5);
        for msg in [
            Msg::reboot(7, foreign),
            Msg::renew(7, foreign),
            Msg::select(7, foreign),
        ] {
            let nak = msg.asks_for(&ALL).id(b"\x01me").ask(&mut s, 1, at(0));
            assert_eq!(nak.kind(), MessageType::Nak);
            // RFC 2131 table 3: nothing but these; RFC 6842 adds the client identifier.
            assert_eq!(nak.codes(), [53, 54, 56, 61]);
            assert!(nak.ip().is_unspecified() && nak.header().ciaddr.is_unspecified());
        }
        assert_eq!(s.stats().naks, 3);
    }
}

#[test]
fn row59_unknown_client_by_policy() {
    let mut adopt = server_with(|c| c.unknown_clients = UnknownClient::Adopt);
    let ack = Msg::renew(7, ip(50)).ask(&mut adopt, 1, at(0));
    assert_eq!((ack.kind(), ack.ip()), (MessageType::Ack, ip(50)));
    assert_eq!(
        Msg::reboot(8, ip(50)).ask(&mut adopt, 2, at(0)).kind(),
        MessageType::Nak
    );

    let mut nak = server_with(|c| c.unknown_clients = UnknownClient::Nak);
    assert_eq!(
        Msg::reboot(7, ip(50)).ask(&mut nak, 1, at(0)).kind(),
        MessageType::Nak
    );

    let mut silent = server_with(|c| c.unknown_clients = UnknownClient::Silent);
    assert!(Msg::reboot(7, ip(50)).send(&mut silent, 1, at(0)).is_none());
    assert!(Msg::reboot(7, SERVER).send(&mut silent, 1, at(0)).is_none());
    assert_eq!(silent.stats().refused(Refusal::UnknownClient), 2);
    let given = dora(&mut silent, 1, 7, at(0));
    assert_eq!(
        Msg::reboot(7, given).ask(&mut silent, 1, at(0)).kind(),
        MessageType::Ack
    );
}

#[test]
fn row59_server_id_checked() {
    let mut s = server();
    let offer = Msg::discover(7).ask(&mut s, 1, at(0));
    let other = Ipv4Addr::new(10, 0, 0, 9);
    let chose_other = Msg::new(MessageType::Request, mac(7))
        .wants(offer.ip())
        .naming(other);
    assert!(chose_other.send(&mut s, 1, at(1)).is_none());
    assert_eq!(s.stats().refused(Refusal::OtherServer), 1);
    // The offer was dropped, so another client may have the address at once.
    let next = Msg::discover(8).wants(offer.ip()).ask(&mut s, 2, at(1));
    assert_eq!(next.ip(), offer.ip());

    let given = dora(&mut s, 1, 7, at(2));
    let release = Msg::new(MessageType::Release, mac(7)).ciaddr(given);
    assert!(
        release
            .clone()
            .naming(other)
            .send(&mut s, 1, at(3))
            .is_none()
    );
    assert_eq!(s.stats().refused(Refusal::OtherServer), 2);
    assert!(release.send(&mut s, 1, at(3)).is_none());
    assert_eq!(
        s.stats().refused(Refusal::Malformed),
        1,
        "RELEASE must name the server"
    );
    assert_eq!(s.leases().count(), 1);
}

#[test]
fn row59_decline_quarantines() {
    let mut s = server();
    let given = dora(&mut s, 1, 7, at(0));
    assert!(Msg::decline(7, given).send(&mut s, 1, at(10)).is_none());
    assert_eq!((s.leases().count(), s.stats().declines), (0, 1));
    assert_eq!(
        std::iter::from_fn(|| s.poll_event()).last(),
        Some(LeaseEvent::Declined {
            ip: given,
            mac: mac(7),
            port: 1
        })
    );
    // Nobody gets it for ten minutes, not even who asks for it.
    for n in [7, 8] {
        let offer = Msg::discover(n)
            .wants(given)
            .ask(&mut s, u32::from(n), at(609));
        assert_ne!(offer.ip(), given);
        let nak = Msg::reboot(n + 2, given).ask(&mut s, u32::from(n) + 2, at(609));
        assert_eq!(nak.kind(), MessageType::Nak);
    }
    let offer = Msg::discover(20).wants(given).ask(&mut s, 20, at(610));
    assert_eq!(offer.ip(), given, "free again");
}

#[test]
fn row59_inform_without_a_lease() {
    let mut s = server_with(|c| c.domain = Some("internal".into()));
    let ack = Msg::inform(7, ip(40)).asks_for(&ALL).ask(&mut s, 1, at(0));
    assert_eq!(ack.kind(), MessageType::Ack);
    assert!(ack.ip().is_unspecified(), "yiaddr must not be filled in");
    assert_eq!(ack.header().ciaddr, ip(40));
    assert_eq!(
        ack.codes(),
        [1, 3, 6, 15, 28, 53, 54],
        "no lease time, no T1, no T2"
    );
    assert_eq!(
        ack.0.dst,
        ReplyDst::Unicast {
            ip: ip(40),
            mac: mac(7)
        }
    );
    assert_eq!((s.leases().count(), s.blank_addresses()), (0, 253));

    let ack = Msg::inform(7, Ipv4Addr::UNSPECIFIED).ask(&mut s, 1, at(0));
    assert_eq!(ack.0.dst, ReplyDst::Broadcast);
    let foreign = Msg::inform(7, Ipv4Addr::new(192, 168, 1, 5));
    assert!(foreign.send(&mut s, 1, at(0)).is_none());
    assert_eq!(s.stats().refused(Refusal::WrongNetwork), 1);
}

#[test]
fn row59_release_frees_and_remembers() {
    let mut s = server();
    let given = dora(&mut s, 1, 7, at(0));
    assert!(Msg::release(7, given).send(&mut s, 1, at(10)).is_none());
    assert_eq!((s.leases().count(), s.stats().releases), (0, 1));
    let event = std::iter::from_fn(|| s.poll_event()).last();
    assert_eq!(
        event,
        Some(LeaseEvent::Released {
            ip: given,
            mac: mac(7),
            hostname: None
        })
    );
    assert!(Msg::release(7, given).send(&mut s, 1, at(10)).is_none());
    assert_eq!(s.stats().refused(Refusal::NotHolder), 1);
    // Nobody else is given it while there are blank ones, and the client gets it back.
    assert_ne!(dora(&mut s, 2, 8, at(11)), given);
    assert_eq!(dora(&mut s, 1, 7, at(12)), given);
}

#[test]
fn rfc6842_client_id_echoed() {
    let mut s = server();
    for id in [&b"\xff\0\0\0\x01\0\x02"[..], &[1; 255]] {
        for msg in [
            Msg::discover(7),
            Msg::inform(7, ip(9)),
            Msg::reboot(7, ip(1)),
        ] {
            assert_eq!(
                msg.id(id).ask(&mut s, 1, at(0)).opt(option::CLIENT_ID),
                Some(id.to_vec())
            );
        }
    }
    assert_eq!(
        Msg::discover(7)
            .ask(&mut s, 1, at(0))
            .opt(option::CLIENT_ID),
        None
    );
    assert!(
        Msg::discover(7)
            .id(&[1; 256])
            .send(&mut s, 1, at(0))
            .is_none()
    );
    assert_eq!(s.stats().refused(Refusal::ClientId), 1);
}

#[test]
fn rfc4361_client_id_is_the_key() {
    let mut s = server();
    let id = b"\xff\0\0\0\x01\0\x02\0\0\xab\x11";
    let offer = Msg::discover(7).id(id).ask(&mut s, 1, at(0));
    Msg::select(7, offer.ip()).id(id).ask(&mut s, 1, at(0));
    // A new network card on the same machine: same identifier, same port, same address.
    let ack = Msg::discover(9).id(id).ask(&mut s, 1, at(1));
    assert_eq!(ack.ip(), offer.ip());
    // The same card with another identifier is another client.
    assert_ne!(Msg::discover(7).ask(&mut s, 1, at(1)).ip(), offer.ip());
}

#[test]
fn rfc3046_option_82_echoed_last() {
    let mut s = server();
    for msg in [
        Msg::discover(7),
        Msg::reboot(7, ip(1)),
        Msg::inform(7, ip(9)),
    ] {
        let msg = msg
            .opt(option::RELAY_INFO, b"\x01\x04port")
            .id(b"\x01id")
            .asks_for(&ALL);
        let answer = msg.ask(&mut s, 1, at(0));
        let bytes = &answer.0.payload;
        let end = bytes.iter().rposition(|&b| b == 255).unwrap();
        assert_eq!(&bytes[end - 8..end], b"\x52\x06\x01\x04port");
    }
    // Two of the longest kind cannot both be echoed within 548 bytes: the identifier wins.
    let big = Msg::discover(7)
        .opt(option::RELAY_INFO, &[9; 255])
        .id(&[1; 255])
        .asks_for(&ALL);
    let offer = big.ask(&mut s, 1, at(0));
    assert_eq!(offer.opt(option::RELAY_INFO), None);
    assert_eq!(offer.opt(option::CLIENT_ID), Some(vec![1; 255]));
}
