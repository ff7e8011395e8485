//! Row 66, local names: answered here, never sent upstream, NODATA where only the type is absent.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use net_dns::message::{Section, flag};
use net_dns::{Config, HostError, MAX_ADDRESSES};

use crate::common::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn local_config() -> Config {
    let mut config = config(&[S1]);
    config.local_prefixes = vec![(ip("10.0.2.0"), 24), (ip("fd00:1234::"), 64)];
    config
}

fn net() -> Net {
    let mut net = Net::new(local_config());
    net.dns
        .set_gateway(&[ip("10.0.2.1"), ip("fd00:1234::1")])
        .unwrap();
    net.dns.set_host("web", &[ip("10.0.2.15")]).unwrap();
    net
}

/// The data of the answer section.
fn data(message: &[u8]) -> Vec<Vec<u8>> {
    let records = records(message);
    let answers = records
        .iter()
        .filter(|record| record.section == Section::Answer);
    answers
        .map(|record| message[record.rdata.clone()].to_vec())
        .collect()
}

fn reverse(address: &str) -> String {
    match ip(address) {
        IpAddr::V4(a) => {
            let [a, b, c, d] = a.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(a) => {
            let nibbles = format!("{:032x}", a.to_bits());
            nibbles
                .chars()
                .rev()
                .map(|c| format!("{c}."))
                .collect::<String>()
                + "ip6.arpa"
        }
    }
}

#[track_caller]
fn assert_negative(reply: &[u8], code: u16) {
    assert_eq!(rcode(reply), code);
    assert_ne!(flags(reply) & flag::AA, 0);
    let records = records(reply);
    let kinds: Vec<_> = records
        .iter()
        .map(|record| (record.section, record.rtype))
        .collect();
    assert_eq!(kinds, [(Section::Authority, SOA)]);
    // The zone must contain the name (RFC 2308 section 3).
    let zone = net_dns::Name::read(reply, records[0].start).unwrap().0;
    let asked = net_dns::Name::read(reply, 12).unwrap().0;
    assert!(asked.is_within(&zone), "{asked} in {zone}");
    assert!(code == 0 || asked != zone);
}

#[test]
fn row66_gateway_and_guests_answer_with_authority() {
    let mut net = net();
    for (asked, qtype, expected) in [
        ("gateway.internal", A, ip("10.0.2.1")),
        ("GateWay.Internal", AAAA, ip("fd00:1234::1")),
        ("gateway", A, ip("10.0.2.1")),
        ("web.internal", A, ip("10.0.2.15")),
        ("web", A, ip("10.0.2.15")),
        ("localhost", A, Ipv4Addr::LOCALHOST.into()),
        ("any.localhost", AAAA, Ipv6Addr::LOCALHOST.into()),
    ] {
        let question = query(0xabcd, asked, qtype);
        let reply = net.reply_to(&question);
        let expected = match expected {
            IpAddr::V4(a) => a.octets().to_vec(),
            IpAddr::V6(a) => a.octets().to_vec(),
        };
        assert_eq!(data(&reply), [expected], "{asked}");
        assert_eq!(id(&reply), 0xabcd);
        assert_eq!(flags(&reply), flag::QR | flag::AA | flag::RD | flag::RA);
        assert_eq!(reply[12..question.len()], question[12..], "case kept");
        assert_eq!(records(&reply)[0].ttl, 30);
    }
    assert_eq!(
        data(&net.reply_to(&query(1, "gateway.internal", 255))).len(),
        2
    );
    assert_eq!(net.dns.stats().local, 8);
}

#[test]
fn row66_aaaa_of_an_ipv4_only_local_name_is_nodata() {
    let mut net = net();
    for (asked, qtype) in [
        ("web.internal", AAAA),
        ("web", AAAA),
        ("web.internal", 15),
        ("internal", A),
        ("internal", 2),
        ("localhost", 15),
    ] {
        assert_negative(&net.reply_to(&query(1, asked, qtype)), 0);
    }
    let reply = net.reply_to(&with_opt(query(1, "web.internal", AAAA), 4096, 0x8000, &[]));
    assert_eq!(layout(&reply).opt.unwrap().flags, 0x8000);
}

#[test]
fn row66_unknown_local_names_do_not_exist_and_never_go_upstream() {
    let mut net = net();
    for qtype in [A, AAAA, 16, 33, 43, 255, 65] {
        for asked in [
            "nobody.internal",
            "a.b.c.internal",
            "x.web.internal",
            "example.com.INTERNAL",
            "_x._tcp.internal",
            "a.onion",
            "b.invalid",
        ] {
            assert_negative(&net.reply_to(&query(1, asked, qtype)), 3);
        }
        assert_negative(&net.reply_to(&query(1, "_dns.resolver.arpa", qtype)), 0);
    }
    // A single label is no public host; it may be a top-level domain, so it does exist.
    assert_negative(&net.reply_to(&query(1, "nobody", A)), 0);
    assert_negative(&net.reply_to(&query(1, "nobody", AAAA)), 0);
    assert!(net.sent.is_empty());
    // Which is why other types of it are asked for.
    net.ask_udp(1, &query(1, "com", 43));
    // And neighbours of the domain are not in it.
    net.ask_udp(1, &query(1, "notinternal.example", A));
    net.ask_udp(1, &query(1, "internal.example", A));
    assert_eq!(net.sent.len(), 3);
}

#[test]
fn row66_names_above_a_host_exist() {
    let mut net = net();
    net.dns.set_host("a.b.internal", &[ip("10.0.2.9")]).unwrap();
    assert_negative(&net.reply_to(&query(1, "b.internal", A)), 0);
    assert_negative(&net.reply_to(&query(1, "bb.internal", A)), 3);
    assert_eq!(
        data(&net.reply_to(&query(1, "a.b.internal", A))),
        [[10, 0, 2, 9]]
    );
}

#[test]
fn row66_reverse_names_of_the_network_never_go_upstream() {
    let mut net = net();
    for (address, owner) in [
        ("10.0.2.1", "gateway.internal"),
        ("fd00:1234::1", "gateway.internal"),
        ("10.0.2.15", "web.internal"),
    ] {
        let reply = net.reply_to(&query(1, &reverse(address), PTR));
        assert_eq!(data(&reply), [wire(owner)], "{address}");
        assert_negative(&net.reply_to(&query(1, &reverse(address), 16)), 0);
    }
    for asked in [
        reverse("10.0.2.77"),
        reverse("fd00:1234::77"),
        "lb._dns-sd._udp.0.2.0.10.in-addr.arpa".into(),
        "b._dns-sd._udp.2.0.10.in-addr.arpa".into(),
    ] {
        assert_negative(&net.reply_to(&query(1, &asked, PTR)), 3);
    }
    assert_negative(&net.reply_to(&query(1, "2.0.10.in-addr.arpa", SOA)), 0);
    assert!(net.sent.is_empty());
    for asked in [
        reverse("10.0.3.1"),
        reverse("8.8.8.8"),
        "0.10.in-addr.arpa".into(),
        reverse("fd00:1235::1"),
    ] {
        net.ask_udp(1, &query(1, &asked, PTR));
    }
    assert_eq!(net.sent.len(), 4);
}

#[test]
fn row66_names_come_and_go() {
    let mut net = net();
    net.dns
        .set_host("Web", &[ip("10.0.2.16"), ip("fd00:1234::16")])
        .unwrap();
    assert_eq!(data(&net.reply_to(&query(1, "web", A))), [[10, 0, 2, 16]]);
    assert_negative(&net.reply_to(&query(1, &reverse("10.0.2.15"), PTR)), 3);
    // Two names of one address.
    net.dns.set_host("alias", &[ip("10.0.2.16")]).unwrap();
    assert_eq!(
        data(&net.reply_to(&query(1, &reverse("10.0.2.16"), PTR))),
        [wire("web.internal"), wire("alias.internal")]
    );
    assert!(net.dns.remove_host("web.internal"));
    assert!(!net.dns.remove_host("web"));
    assert_negative(&net.reply_to(&query(1, "web.internal", A)), 3);
    assert_eq!(
        data(&net.reply_to(&query(1, &reverse("10.0.2.16"), PTR))),
        [wire("alias.internal")]
    );
    // A name with nothing behind it exists.
    net.dns.set_host("empty", &[]).unwrap();
    assert_negative(&net.reply_to(&query(1, "empty.internal", A)), 0);
    assert_eq!(net.dns.hosts(), 3);
}

#[test]
fn row66_reserved_names_and_a_full_table_are_refused() {
    let mut config = local_config();
    config.max_hosts = 3;
    let mut net = Net::new(config);
    net.dns.set_gateway(&[ip("10.0.2.1")]).unwrap();
    for name in [
        "gateway",
        "GATEWAY.internal",
        "localhost",
        "x.localhost",
        "localhost.internal",
        "internal.",
        ".",
        "a.invalid",
    ] {
        assert_eq!(
            net.dns.set_host(name, &[ip("10.0.2.66")]),
            Err(HostError::Reserved),
            "{name}"
        );
        assert!(!net.dns.remove_host(name));
    }
    assert!(matches!(
        net.dns.set_host("a b", &[]),
        Err(HostError::Name(_))
    ));
    net.dns.set_host("one", &[ip("10.0.2.5")]).unwrap();
    net.dns.set_host("two", &[ip("10.0.2.6")]).unwrap();
    assert_eq!(net.dns.set_host("three", &[]), Err(HostError::Full));
    net.dns.set_host("two", &[ip("10.0.2.7")]).unwrap();
    let many: Vec<IpAddr> = (0..100).map(|n| IpAddr::from([10, 0, 2, n])).collect();
    net.dns.set_host("two", &many).unwrap();
    net.ask_tcp(1, &query(1, "two", A));
    assert_eq!(data(&net.replies[0].1).len(), MAX_ADDRESSES);
}

#[test]
fn row66_without_a_domain_names_stand_alone() {
    let mut config = local_config();
    config.domain = None;
    config.forward_single_labels = true;
    let mut net = Net::new(config);
    net.dns.set_gateway(&[ip("10.0.2.1")]).unwrap();
    net.dns
        .set_host("db.example.com", &[ip("10.0.2.8")])
        .unwrap();
    assert_eq!(
        data(&net.reply_to(&query(1, "gateway", A))),
        [[10, 0, 2, 1]]
    );
    assert_eq!(
        data(&net.reply_to(&query(1, "db.example.com", A))),
        [[10, 0, 2, 8]]
    );
    for asked in ["nobody", "nobody.internal", "example.com"] {
        net.ask_udp(1, &query(1, asked, A));
    }
    assert_eq!(net.sent.len(), 3);
}
