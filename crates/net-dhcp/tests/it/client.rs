//! The client against the server, with loss, and against servers that lie.

use std::net::Ipv4Addr;
use std::time::Duration;

use net_dhcp::client::{Client, ClientConfig, Event, Lease, Output, Transmit};
use net_dhcp::v4::codec::{Header, Message, MessageType, Op, Route, Writer, option};
use net_dhcp::{Owner, Reservation, Server};
use proptest::prelude::*;

use crate::guest::*;

fn client(n: u8) -> Client {
    Client::new(ClientConfig::new(mac(n)), n.into())
}

fn sent(output: Option<Output>) -> Transmit {
    match output {
        Some(Output::Send(out)) => out,
        other => panic!("expected a message, got {other:?}"),
    }
}

fn kind(out: &Transmit) -> MessageType {
    Message::parse(&out.payload)
        .unwrap()
        .message_type()
        .unwrap()
}

fn obtain(client: &mut Client, s: &mut Server, now: Duration) -> Lease {
    loop {
        let out = sent(client.poll(now));
        let Some(reply) = s.handle(1, mac(7), &out.payload, now) else {
            continue;
        };
        if let Some(Event::Bound(lease)) = client.handle(&reply.payload, now) {
            return lease;
        }
    }
}

#[test]
fn client_obtains_everything_it_asked_for() {
    let mut s = server_with(|c| {
        c.domain = Some("internal".into());
        c.search = vec!["internal".into(), "example.org".into()];
        c.mtu = Some(1400);
        c.ntp = vec![ip(4)];
        c.routes = vec![Route {
            destination: [172, 16, 0, 0].into(),
            prefix_len: 12,
            gateway: ip(5),
        }];
    });
    s.reserve(Reservation::new(Owner::Mac(mac(7)), ip(42)))
        .unwrap();
    let lease = obtain(&mut client(7), &mut s, at(0));
    assert_eq!((lease.ip, lease.prefix_len), (ip(42), 24));
    assert_eq!((lease.routers, lease.dns), (vec![SERVER], vec![SERVER]));
    assert_eq!(
        (lease.mtu, lease.domain.as_deref()),
        (Some(1400), Some("internal"))
    );
    assert_eq!(lease.search, ["internal", "example.org"]);
    assert_eq!((lease.ntp, lease.routes.len()), (vec![ip(4)], 2));
    assert_eq!(lease.server_id, SERVER);
    assert_eq!(lease.lease_time, Some(at(3600)));
    assert_eq!(
        (lease.renew_after, lease.rebind_after),
        (Some(at(1800)), Some(at(3150)))
    );
}

#[test]
fn client_retransmits_with_growing_delays() {
    let mut c = client(7);
    let mut now = Duration::ZERO;
    let mut xid = None;
    for attempt in 0..10u32 {
        let out = sent(c.poll(now));
        assert_eq!(kind(&out), MessageType::Discover);
        assert_eq!(
            (out.src, out.dst),
            (Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST)
        );
        let header = Message::parse(&out.payload).unwrap().header;
        assert!(header.broadcast());
        assert_eq!(u64::from(header.secs), now.as_secs());
        assert_eq!(
            *xid.get_or_insert(header.xid),
            header.xid,
            "one exchange, one id"
        );
        assert_eq!(c.poll(now), None);
        let next = c.next_deadline().unwrap();
        let base = Duration::from_secs(4 << attempt.min(4));
        assert!(
            (base * 3 / 4..=base * 5 / 4).contains(&(next - now)),
            "{attempt}: {:?}",
            next - now
        );
        assert_eq!(c.poll(next - Duration::from_nanos(1)), None);
        now = next;
    }
}

#[test]
fn client_gives_up_an_offer_nobody_confirms() {
    let (mut c, mut s) = (client(7), server());
    let discover = sent(c.poll(at(0)));
    let offer = s.handle(1, mac(7), &discover.payload, at(0)).unwrap();
    assert_eq!(c.handle(&offer.payload, at(0)), None);
    for _ in 0..4 {
        let now = c.next_deadline().unwrap();
        assert_eq!(kind(&sent(c.poll(now))), MessageType::Request);
    }
    let now = c.next_deadline().unwrap();
    let again = sent(c.poll(now));
    assert_eq!(kind(&again), MessageType::Discover);
    assert_ne!(
        again.payload[4..8],
        discover.payload[4..8],
        "a new exchange"
    );
}

#[test]
fn client_renews_rebinds_and_lets_go() {
    let (mut c, mut s) = (client(7), server());
    let lease = obtain(&mut c, &mut s, at(0));
    assert_eq!(c.next_deadline(), Some(at(1800)));
    let out = sent(c.poll(at(1800)));
    assert_eq!(
        (kind(&out), out.src, out.dst),
        (MessageType::Request, lease.ip, SERVER)
    );
    let ack = s.handle(1, mac(7), &out.payload, at(1800)).unwrap();
    assert_eq!(c.handle(&ack.payload, at(1801)), Some(Event::Renewed));
    assert_eq!(
        c.next_deadline(),
        Some(at(3600)),
        "counted from the request"
    );

    // The server is gone: unicast until T2, broadcast until the end, then the lease is lost.
    let (mut unicast, mut broadcast) = (0, 0);
    let end = loop {
        let now = c.next_deadline().unwrap();
        match c.poll(now) {
            Some(Output::Send(out)) if out.dst == SERVER => {
                assert!(now < at(1800 + 3150));
                unicast += 1;
            }
            Some(Output::Send(out)) => {
                assert_eq!((out.dst, out.src), (Ipv4Addr::BROADCAST, lease.ip));
                assert!(now >= at(1800 + 3150));
                broadcast += 1;
            }
            Some(Output::Event(event)) => {
                assert_eq!(event, Event::Lost);
                break now;
            }
            None => panic!("a deadline with nothing to do"),
        }
    };
    assert_eq!(end, at(1800 + 3600));
    assert!((2..20).contains(&unicast) && (2..10).contains(&broadcast));
    assert_eq!(c.lease(), None);
    assert_eq!(kind(&sent(c.poll(end))), MessageType::Discover);
}

#[test]
fn client_starts_over_after_a_nak() {
    let (mut c, mut s) = (client(7), server());
    let lease = obtain(&mut c, &mut s, at(0));
    s.reserve(Reservation::new(Owner::Mac(mac(7)), ip(9)))
        .unwrap_or_else(|e| panic!("{e}"));
    assert_ne!(lease.ip, ip(9));
    let out = sent(c.poll(at(1800)));
    let nak = s.handle(1, mac(7), &out.payload, at(1800)).unwrap();
    assert_eq!(c.handle(&nak.payload, at(1800)), Some(Event::Lost));
    assert_eq!(obtain(&mut c, &mut s, at(1800)).ip, ip(9));
}

#[test]
fn client_releases_and_declines() {
    let (mut c, mut s) = (client(7), server());
    let lease = obtain(&mut c, &mut s, at(0));
    let out = c.release(at(1)).unwrap();
    assert_eq!(
        (kind(&out), out.src, out.dst),
        (MessageType::Release, lease.ip, SERVER)
    );
    s.handle(1, mac(7), &out.payload, at(1));
    assert_eq!((s.leases().count(), s.stats().releases), (0, 1));
    assert_eq!(c.release(at(1)), None);

    obtain(&mut c, &mut s, at(1));
    let out = c.decline(at(2)).unwrap();
    s.handle(1, mac(7), &out.payload, at(2));
    assert_eq!(s.stats().declines, 1);
    assert_eq!((c.poll(at(11)), c.next_deadline()), (None, Some(at(12))));
    assert_ne!(obtain(&mut c, &mut s, at(12)).ip, lease.ip);
}

/// A reply with these fields; `None` removes an option.
fn forge(xid: u32, to: [u8; 6], yiaddr: Ipv4Addr, options: &[(u8, &[u8])]) -> Vec<u8> {
    let mut header = Header::new(Op::Reply, xid, to);
    header.yiaddr = yiaddr;
    let mut w = Writer::new(&header, 1472);
    for (code, value) in options {
        w.option(*code, value);
    }
    w.finish(None)
}

#[test]
fn client_takes_only_what_is_for_it_and_makes_sense() {
    let mut c = client(7);
    let discover = sent(c.poll(at(0)));
    let xid = Message::parse(&discover.payload).unwrap().header.xid;
    let server = SERVER.octets();
    let good: &[(u8, &[u8])] = &[
        (53, &[2]),
        (54, &server),
        (51, &[0, 0, 14, 16]),
        (1, &[255, 255, 255, 0]),
    ];
    let waits = c.next_deadline();
    let mut refuse = |bytes: &[u8]| {
        assert_eq!(c.handle(bytes, at(0)), None);
        assert_eq!(c.next_deadline(), waits, "taken although it should not be");
    };
    refuse(&forge(xid ^ 1, mac(7), ip(9), good));
    refuse(&forge(xid, mac(8), ip(9), good));
    refuse(&discover.payload);
    for bad in [
        Ipv4Addr::UNSPECIFIED,
        Ipv4Addr::BROADCAST,
        Ipv4Addr::LOCALHOST,
        [224, 0, 0, 1].into(),
    ] {
        refuse(&forge(xid, mac(7), bad, good));
    }
    for missing in [53, 54, 51] {
        let options: Vec<_> = good
            .iter()
            .copied()
            .filter(|(code, _)| *code != missing)
            .collect();
        refuse(&forge(xid, mac(7), ip(9), &options));
    }
    let holes: Vec<_> = good
        .iter()
        .map(|&(c, v)| {
            if c == 1 {
                (c, &[255u8, 0, 255, 0][..])
            } else {
                (c, v)
            }
        })
        .collect();
    refuse(&forge(xid, mac(7), ip(9), &holes));
    // An ACK or a NAK out of turn.
    for kind in [5u8, 6] {
        let value = [kind];
        let options: Vec<_> = good
            .iter()
            .map(|&(c, v)| if c == 53 { (c, &value[..]) } else { (c, v) })
            .collect();
        refuse(&forge(xid, mac(7), ip(9), &options));
    }
    assert_eq!(c.handle(&forge(xid, mac(7), ip(9), good), at(0)), None);
    let request = sent(c.poll(at(0)));
    let request = Message::parse(&request.payload).unwrap();
    assert_eq!(request.options.addr(option::REQUESTED_IP), Some(ip(9)));
    // Another server's ACK, and ours for another address.
    let ack = |server: Ipv4Addr, given| {
        let server = server.octets();
        forge(
            xid,
            mac(7),
            given,
            &[(53, &[5]), (54, &server), (51, &[0, 0, 14, 16])],
        )
    };
    assert_eq!(c.handle(&ack(ip(2), ip(9)), at(0)), None);
    assert_eq!(c.handle(&ack(SERVER, ip(10)), at(0)), None);
    let Some(Event::Bound(lease)) = c.handle(&ack(SERVER, ip(9)), at(0)) else {
        panic!("no lease")
    };
    assert_eq!(
        (lease.ip, lease.prefix_len),
        (ip(9), 8),
        "no mask: that of the class"
    );
}

proptest! {
    /// Whatever is lost, the client has a lease within ten minutes and keeps it for a day.
    #[test]
    fn client_survives_loss(seed: u64, loss in proptest::collection::vec(any::<bool>(), 64)) {
        let mut c = Client::new(ClientConfig::new(mac(7)), seed);
        let mut s = server();
        let mut packets = 0;
        let mut lost = move || {
            packets += 1;
            // One of every four is delivered for certain.
            loss[packets % loss.len()] && packets % 4 != 0
        };
        let (mut bound_at, mut now) = (None, Duration::ZERO);
        while now < at(86_400) {
            match c.poll(now) {
                Some(Output::Send(out)) => {
                    if lost() { continue }
                    let Some(reply) = s.handle(1, mac(7), &out.payload, now) else { continue };
                    if lost() { continue }
                    if let Some(Event::Bound(_)) = c.handle(&reply.payload, now) {
                        bound_at.get_or_insert(now);
                    }
                }
                Some(Output::Event(_)) => {}
                None => now = c.next_deadline().unwrap(),
            }
            s.assert_consistent();
        }
        prop_assert!(bound_at.is_some_and(|t| t < at(3600)), "{:?}", bound_at);
        prop_assert!(s.leases().count() <= 1);
    }

    #[test]
    fn client_survives_any_bytes(
        bytes in proptest::collection::vec(any::<u8>(), 0..700),
        keep_header: bool,
    ) {
        let mut c = client(7);
        let out = sent(c.poll(at(0)));
        let mut bytes = bytes;
        if keep_header && bytes.len() >= 240 {
            bytes[..240].copy_from_slice(&out.payload[..240]);
            bytes[0] = 2;
        }
        c.handle(&bytes, at(0));
        while c.poll(at(100)).is_some_and(|o| matches!(o, Output::Event(_))) {}
    }
}
