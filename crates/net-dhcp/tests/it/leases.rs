//! Row 61: offers, reservations, persistence; and who gets which address.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use net_dhcp::v4::codec::{MessageType, option};
use net_dhcp::{LeaseEvent, Owner, PoolError, Refusal, Reservation, Server, Snapshot};

use crate::guest::*;

/// A server with `n` addresses to give: 10.0.0.100 and on.
fn small(n: u8) -> Server {
    server_with(|c| c.pool = ip(100)..=ip(100 + n - 1))
}

#[test]
fn row61_offer_holds_only_briefly() {
    let mut s = small(1);
    assert_eq!(Msg::discover(1).ask(&mut s, 1, at(0)).ip(), ip(100));
    assert_eq!(s.next_deadline(), Some(at(30)));
    assert!(Msg::discover(2).send(&mut s, 2, at(29)).is_none());
    assert_eq!(s.stats().refused(Refusal::PoolExhausted), 1);
    assert_eq!(Msg::discover(2).ask(&mut s, 2, at(30)).ip(), ip(100));
    assert_eq!(s.stats().offers_lapsed, 1);
    // Who comes too late is told so, for the address is offered to another now.
    assert_eq!(
        Msg::select(1, ip(100)).ask(&mut s, 1, at(31)).kind(),
        MessageType::Nak
    );
    assert_eq!(
        Msg::select(2, ip(100)).ask(&mut s, 2, at(31)).kind(),
        MessageType::Ack
    );
}

#[test]
fn row61_late_request_is_granted_while_the_address_is_free() {
    let mut s = small(1);
    Msg::discover(1).ask(&mut s, 1, at(0));
    assert_eq!(
        Msg::select(1, ip(100)).ask(&mut s, 1, at(300)).kind(),
        MessageType::Ack
    );
}

#[test]
fn row61_repeated_discover_keeps_the_offer() {
    let mut s = server();
    let first = Msg::discover(1).ask(&mut s, 1, at(0)).ip();
    for t in 1..20 {
        assert_eq!(Msg::discover(1).ask(&mut s, 1, at(t)).ip(), first);
    }
    assert_eq!(s.blank_addresses(), 252);
}

#[test]
fn row61_same_machine_same_address() {
    // The stable hash: another server, another day, another order of arrival.
    let first: Vec<_> = (1..20).map(|n| dora(&mut server(), 1, n, at(0))).collect();
    let again: Vec<_> = (1..20)
        .map(|n| dora(&mut server(), 9, n, at(999)))
        .collect();
    assert_eq!(first, again);
    let distinct: BTreeSet<_> = first.iter().collect();
    assert!(distinct.len() > 12, "the hash spreads clients: {first:?}");
    // Its own former address beats the hash and the one it asks for.
    let mut s = server();
    let offer = Msg::discover(1).wants(ip(77)).ask(&mut s, 1, at(0));
    assert_eq!(offer.ip(), ip(77));
    Msg::select(1, ip(77)).ask(&mut s, 1, at(0));
    s.expire(at(4000));
    assert_eq!(s.leases().count(), 0);
    assert_eq!(
        Msg::discover(1).wants(ip(78)).ask(&mut s, 1, at(5000)).ip(),
        ip(77)
    );
    // A boot ROM and the system after it differ in the identifier only.
    let mut s = server();
    let rom = dora(&mut s, 1, 5, at(0));
    Msg::release(5, rom).send(&mut s, 1, at(1));
    assert_eq!(
        Msg::discover(5).id(b"\0uuid").ask(&mut s, 1, at(2)).ip(),
        rom
    );
}

#[test]
fn row61_discover_changes_no_running_lease() {
    let mut s = server();
    let id = b"\x01one";
    let given = Msg::discover(1).id(id).ask(&mut s, 1, at(0)).ip();
    Msg::select(1, given).id(id).name("a").ask(&mut s, 1, at(0));
    let lease = |s: &Server| {
        let lease = s.leases().next().unwrap();
        (lease.mac, lease.expires, lease.hostname.map(str::to_owned))
    };
    let before = lease(&s);
    // The same identifier behind another MAC: offered the same address, not yet its holder.
    let offer = Msg::discover(2).id(id).name("b").ask(&mut s, 1, at(9));
    assert_eq!((offer.ip(), lease(&s)), (given, before));
    Msg::select(2, given).id(id).name("b").ask(&mut s, 1, at(9));
    assert_eq!(lease(&s), (mac(2), at(3609), Some("b".into())));
}

#[test]
fn row61_lease_expires_and_says_so() {
    let mut s = server();
    let given = dora(&mut s, 1, 1, at(0));
    assert_eq!(s.next_deadline(), Some(at(3600)));
    s.expire(at(3599));
    assert_eq!(s.leases().count(), 1);
    s.expire(at(3600));
    assert_eq!(
        (s.leases().count(), s.stats().expiries, s.next_deadline()),
        (0, 1, None)
    );
    let events: Vec<_> = std::iter::from_fn(|| s.poll_event()).collect();
    let expired = LeaseEvent::Expired {
        ip: given,
        mac: mac(1),
        hostname: None,
    };
    assert_eq!(events.last(), Some(&expired));
    // Time that runs backwards stands still.
    s.expire(at(0));
    let ack = Msg::reboot(1, given).ask(&mut s, 1, at(0));
    assert_eq!(ack.kind(), MessageType::Ack);
    assert_eq!(s.leases().next().unwrap().expires, at(7200));
}

#[test]
fn row61_full_pool_reuses_what_is_over_and_nothing_else() {
    let mut s = small(3);
    let mut given: Vec<_> = (1..=3).map(|n| dora(&mut s, n.into(), n, at(0))).collect();
    given.sort_unstable();
    assert_eq!(given, [ip(100), ip(101), ip(102)]);
    assert!(Msg::discover(4).send(&mut s, 4, at(1)).is_none());
    assert_eq!(s.stats().refused(Refusal::PoolExhausted), 1);
    let second = s.leases().find(|l| l.mac == mac(2)).unwrap().ip;
    Msg::release(2, second).send(&mut s, 2, at(2));
    assert_eq!(dora(&mut s, 4, 4, at(3)), second);
    assert!(
        Msg::discover(2).send(&mut s, 2, at(4)).is_none(),
        "others' leases are not taken"
    );
}

#[test]
fn row61_infrastructure_is_never_given() {
    let mut s = server_with(|c| {
        c.prefix_len = 28;
        c.pool = ip(0)..=ip(15);
        c.router = Some(ip(2));
        c.dns = vec![ip(3), Ipv4Addr::new(9, 9, 9, 9)];
        c.ntp = vec![ip(4)];
        c.exclude = vec![ip(5)];
    });
    let given: BTreeSet<_> = (1..=9).map(|n| dora(&mut s, n.into(), n, at(0))).collect();
    assert_eq!(given, (6..=14).map(ip).collect());
    for taken in [0, 1, 2, 3, 4, 5, 15] {
        let nak = Msg::reboot(50, ip(taken)).ask(&mut s, 50, at(0));
        assert_eq!(nak.kind(), MessageType::Nak);
        assert!(
            s.reserve(Reservation::new(Owner::Mac(mac(60)), ip(taken)))
                .is_err()
        );
    }
    assert!(Msg::discover(51).send(&mut s, 51, at(0)).is_none());
}

#[test]
fn row61_reservation_by_mac_id_and_name() {
    let mut s = server();
    s.reserve(Reservation::new(Owner::Mac(mac(1)), ip(11)))
        .unwrap();
    s.reserve(Reservation::new(
        Owner::ClientId(b"\x01two".to_vec()),
        ip(12),
    ))
    .unwrap();
    s.reserve(Reservation::new(Owner::Name("three".into()), ip(13)))
        .unwrap();
    assert_eq!(dora(&mut s, 1, 1, at(0)), ip(11));
    assert_eq!(
        Msg::discover(2).id(b"\x01two").ask(&mut s, 2, at(0)).ip(),
        ip(12)
    );
    assert_eq!(
        Msg::discover(3).name("Three").ask(&mut s, 3, at(0)).ip(),
        ip(13)
    );
    // The identifier comes first, then the MAC, then the name.
    s.reserve(Reservation::new(Owner::Mac(mac(4)), ip(14)))
        .unwrap();
    assert_eq!(
        Msg::discover(4).name("three").ask(&mut s, 4, at(0)).ip(),
        ip(14)
    );
    // Nobody else gets one of them, by asking or by chance.
    for n in 20..250 {
        let offer = Msg::discover(n)
            .wants(ip(11 + n % 4))
            .ask(&mut s, 1000 + u32::from(n), at(0));
        assert!(!(11..=14).contains(&offer.ip().octets()[3]));
    }
}

#[test]
fn row61_reservation_outside_the_pool() {
    let mut s = small(2);
    s.reserve(Reservation::new(Owner::Mac(mac(1)), ip(5)))
        .unwrap();
    assert_eq!(dora(&mut s, 1, 1, at(0)), ip(5));
    assert_eq!(
        Msg::renew(1, ip(5)).ask(&mut s, 1, at(9)).kind(),
        MessageType::Ack
    );
    assert!(s.release(ip(5)));
    assert_eq!(
        Msg::renew(1, ip(5)).ask(&mut s, 1, at(9)).kind(),
        MessageType::Nak
    );
}

#[test]
fn row61_reservation_moves_a_running_guest_at_renewal() {
    let mut s = server();
    let old = dora(&mut s, 1, 1, at(0));
    s.reserve(Reservation::new(Owner::Mac(mac(1)), ip(9)))
        .unwrap();
    assert_eq!(
        Msg::renew(1, old).ask(&mut s, 1, at(10)).kind(),
        MessageType::Nak
    );
    assert_eq!(dora(&mut s, 1, 1, at(11)), ip(9));
    let leases: Vec<_> = s.leases().map(|l| l.ip).collect();
    assert_eq!(leases, [ip(9)], "one client, one lease");
    // Declined, it rests; meanwhile the guest has another, and later it is told to come back.
    Msg::decline(1, ip(9)).send(&mut s, 1, at(12));
    let other = dora(&mut s, 1, 1, at(22));
    assert_ne!(other, ip(9));
    assert_eq!(
        Msg::renew(1, other).ask(&mut s, 1, at(30)).kind(),
        MessageType::Ack
    );
    assert_eq!(
        Msg::renew(1, other).ask(&mut s, 1, at(700)).kind(),
        MessageType::Nak
    );
    assert_eq!(dora(&mut s, 1, 1, at(701)), ip(9));
}

#[test]
fn row61_reservation_mistakes_are_told_apart() {
    let mut s = server();
    let live = dora(&mut s, 1, 1, at(0));
    let by_mac = |n: u8, at: Ipv4Addr| Reservation::new(Owner::Mac(mac(n)), at);
    s.reserve(by_mac(2, ip(20))).unwrap();
    s.reserve(by_mac(2, ip(20))).unwrap();
    let foreign = Ipv4Addr::new(10, 0, 1, 1);
    assert_eq!(
        s.reserve(by_mac(3, foreign)),
        Err(PoolError::Outside(foreign))
    );
    assert_eq!(
        s.reserve(by_mac(3, ip(255))),
        Err(PoolError::Outside(ip(255)))
    );
    assert_eq!(
        s.reserve(by_mac(3, SERVER)),
        Err(PoolError::Infrastructure(SERVER))
    );
    assert_eq!(
        s.reserve(by_mac(3, ip(20))),
        Err(PoolError::Reserved(ip(20)))
    );
    assert_eq!(
        s.reserve(by_mac(2, ip(21))),
        Err(PoolError::HasOther(ip(20)))
    );
    assert_eq!(s.reserve(by_mac(3, live)), Err(PoolError::InUse(live)));
    assert_eq!(
        s.reserve(by_mac(1, live)),
        Ok(()),
        "the guest that has it may keep it"
    );
    for bad in [
        Owner::Mac([0; 6]),
        Owner::Mac([0xff; 6]),
        Owner::ClientId(vec![]),
    ] {
        assert_eq!(
            s.reserve(Reservation::new(bad, ip(30))),
            Err(PoolError::Owner)
        );
    }
    for bad in ["", "Big", "a.b", "gateway", "-x"] {
        let named = by_mac(4, ip(30)).with_hostname(bad);
        assert_eq!(s.reserve(named), Err(PoolError::Name(bad.into())));
    }
    s.assert_consistent();
}

#[test]
fn row61_reserve_any_allocates_and_dhcp_agrees() {
    let mut s = small(3);
    let a = s.reserve_any(mac(1)).unwrap();
    assert_eq!(s.reserve_any(mac(1)), Ok(a), "the same each time");
    assert_eq!(
        dora(&mut s, 1, 1, at(0)),
        a,
        "DHCP gives what was allocated"
    );
    let b = dora(&mut s, 2, 2, at(0));
    assert_eq!(
        s.reserve_any(mac(2)),
        Ok(b),
        "a guest that has one keeps it"
    );
    let c = s.reserve_any(mac(3)).unwrap();
    assert_eq!(BTreeSet::from([a, b, c]).len(), 3);
    assert_eq!(s.reserve_any(mac(4)), Err(PoolError::Exhausted { size: 3 }));
    assert_eq!(s.reserve_any([1; 6]), Err(PoolError::Owner));
    assert!(Msg::discover(4).send(&mut s, 4, at(0)).is_none());
    assert!(s.release(c) && !s.release(c));
    assert_eq!(s.reserve_any(mac(4)), Ok(c));
    s.assert_consistent();
}

#[test]
fn row61_leases_persist_over_a_restart() {
    let mut s = server();
    let id = b"\xff\x01\x02";
    let a = Msg::discover(1).id(id).ask(&mut s, 1, at(0)).ip();
    Msg::select(1, a).id(id).name("db").ask(&mut s, 1, at(0));
    let b = dora(&mut s, 2, 2, at(0));
    let c = s.reserve_any(mac(3)).unwrap();
    let gone = dora(&mut s, 4, 4, at(0));
    Msg::release(4, gone).send(&mut s, 4, at(1));
    let bytes = s.snapshot(at(600)).to_bytes();

    // Ten minutes down; the new process has its own clock.
    let snapshot = Snapshot::from_bytes(&bytes).unwrap();
    let mut s = server();
    assert_eq!(s.restore(&snapshot, at(600), at(50)), 0);
    s.assert_consistent();
    let leases: Vec<_> = s.leases().map(|l| (l.ip, l.expires, l.port)).collect();
    let mut want = vec![(a, at(50 + 2400), None), (b, at(50 + 2400), None)];
    want.sort_unstable();
    assert_eq!(leases, want);
    assert_eq!(s.leases().find(|l| l.ip == a).unwrap().hostname, Some("db"));
    // Others are kept off; the same clients get the same, on whatever port.
    let nak = Msg::reboot(9, b).ask(&mut s, 9, at(51));
    assert_eq!(nak.kind(), MessageType::Nak);
    assert_eq!(
        Msg::renew(2, b).ask(&mut s, 8, at(51)).kind(),
        MessageType::Ack
    );
    assert_eq!(Msg::discover(1).id(id).ask(&mut s, 7, at(51)).ip(), a);
    assert_eq!(s.reserve_any(mac(3)), Ok(c));
    assert_eq!(Msg::discover(4).ask(&mut s, 4, at(51)).ip(), gone);
}

#[test]
fn row61_restore_takes_only_what_fits() {
    let mut s = server();
    for n in 1..=4 {
        dora(&mut s, n.into(), n, at(0));
    }
    let mut snapshot = s.snapshot(at(0));
    let twice = snapshot.leases[0].clone();
    snapshot.leases.push(twice);
    snapshot.leases[1].ip = SERVER;
    snapshot.leases[2].ip = Ipv4Addr::new(192, 168, 0, 1);
    snapshot.leases[3].mac = [0xff; 6];
    let mut other = server();
    assert_eq!(other.restore(&snapshot, Duration::ZERO, at(0)), 4);
    assert_eq!(other.leases().count(), 1);
    other.assert_consistent();
}

#[test]
fn row61_port_closed_and_the_guest_elsewhere() {
    let mut s = server();
    let given = dora(&mut s, 1, 7, at(0));
    Msg::discover(8).ask(&mut s, 1, at(0));
    // While port 1 is there, the same MAC on port 2 is another guest.
    assert_ne!(Msg::discover(7).ask(&mut s, 2, at(1)).ip(), given);
    assert_eq!(
        Msg::reboot(7, given).ask(&mut s, 2, at(1)).kind(),
        MessageType::Nak
    );
    s.port_closed(1);
    s.assert_consistent();
    assert_eq!(s.leases().next().unwrap().port, None, "the lease runs on");
    assert_eq!(s.stats().offers_lapsed, 1, "the offer does not");
    let ack = Msg::renew(7, given).ask(&mut s, 3, at(2));
    assert_eq!(ack.kind(), MessageType::Ack);
    assert_eq!(s.leases().next().unwrap().port, Some(3));
}

#[test]
fn row61_detached_leases_yield_only_to_a_full_pool() {
    let mut s = small(2);
    let a = dora(&mut s, 1, 1, at(0));
    s.port_closed(1);
    let b = dora(&mut s, 2, 2, at(1));
    assert_ne!(a, b, "a blank one first");
    assert_eq!(dora(&mut s, 3, 3, at(2)), a);
    assert_eq!(s.stats().reclaims, 1);
    let events: Vec<_> = std::iter::from_fn(|| s.poll_event()).collect();
    assert!(events.contains(&LeaseEvent::Expired {
        ip: a,
        mac: mac(1),
        hostname: None
    }));
    assert!(Msg::discover(4).send(&mut s, 4, at(3)).is_none());
}

#[test]
fn names_are_labels_and_unique() {
    let mut s = server();
    s.reserve(Reservation::new(Owner::Mac(mac(9)), ip(9)).with_hostname("db"))
        .unwrap();
    let mut bind = |n: u8, name: &str| {
        let ip = Msg::discover(n).ask(&mut s, n.into(), at(0)).ip();
        Msg::select(n, ip)
            .name(name)
            .asks_for(&[12])
            .ask(&mut s, n.into(), at(0))
    };
    let text = |answer: Answer| {
        answer
            .opt(option::HOST_NAME)
            .map(|v| String::from_utf8(v).unwrap())
    };
    assert_eq!(text(bind(1, "Web_1.example")).as_deref(), Some("web-1"));
    assert_eq!(text(bind(2, "WEB-1")), None, "the first holder keeps it");
    assert_eq!(text(bind(3, "gateway")), None, "the network's own");
    assert_eq!(text(bind(4, "db")), None, "reserved for another");
    assert_eq!(
        text(bind(9, "whatever")).as_deref(),
        Some("db"),
        "the host's choice"
    );
    assert!(s.stats().name_conflicts >= 3);
    // The holder's port is gone: the name goes to a guest that is there.
    s.port_closed(1);
    let ip = s.leases().find(|l| l.mac == mac(2)).unwrap().ip;
    Msg::renew(2, ip).name("web-1").ask(&mut s, 2, at(1));
    let holders: Vec<_> = s.leases().filter(|l| l.hostname == Some("web-1")).collect();
    assert_eq!(holders.len(), 1);
    assert_eq!(holders[0].mac, mac(2));
}
