//! Row 67: servers change, suffixes have servers of their own, slow clients block nobody.

use std::net::SocketAddr;

use net_dns::tcp::{Framer, frame};
use net_dns::{ConfigError, Forwarder, MAX_QUERY};

use crate::common::*;

fn servers(list: &[&str]) -> Vec<SocketAddr> {
    list.iter().map(|server| server.parse().unwrap()).collect()
}

fn a() -> Rr {
    rr(A, 600, &[192, 0, 2, 80])
}

#[test]
fn row67_new_servers_are_used_and_old_answers_forgotten() {
    let mut net = Net::new(config(&[S1]));
    let asked = query(1, "www.example.com", A);
    net.exchange(&asked, 0, [&[a()], &[], &[]]);
    net.dns.set_upstreams(servers(&[S1]));
    net.reply_to(&asked); // nothing changed: still cached
    net.dns.set_upstreams(servers(&[S2]));
    net.ask_udp(1, &asked);
    assert_eq!(net.last_sent().server, S2.parse().unwrap());
    net.dns.set_upstreams(Vec::new());
    assert_eq!(rcode(&net.reply_to(&query(2, "b.example.com", A))), 2);
}

#[test]
fn row67_a_question_under_way_goes_on_with_the_new_servers() {
    let mut net = Net::new(config(&[S1]));
    let asked = query(1, "www.example.com", A);
    net.ask_udp(1, &asked);
    net.dns.set_upstreams(servers(&[S2]));
    net.pass(secs(2));
    let second = net.last_sent();
    assert_eq!(second.server, S2.parse().unwrap());
    // The old server's late answer is an answer, but not one to remember.
    let first = net.sent[0].clone();
    net.give(&first, &answer(&first.message, 0, [&[a()], &[], &[]]));
    assert_eq!(net.replies.len(), 1);
    assert_eq!(net.dns.cache_use(), (0, 0));
    net.assert_quiet(0);
}

#[test]
fn row67_split_dns_by_the_longest_suffix() {
    let mut config = config(&[S1]);
    config.split = vec![
        ("corp.example".into(), servers(&[S2])),
        (".lab.corp.example".into(), servers(&[S3])),
        ("blocked.example".into(), Vec::new()),
        ("vpn.internal".into(), servers(&[S2])),
        ("intranet".into(), servers(&[S3])),
    ];
    let mut net = Net::new(config);
    for (asked, server) in [
        ("www.example", S1),
        ("corp.example", S2),
        ("a.b.CORP.example", S2),
        ("notcorp.example", S1),
        ("x.lab.corp.example", S3),
        ("lab.corp.example", S3),
        ("x.vpn.internal", S2),
        ("intranet", S3),
    ] {
        net.ask_udp(1, &query(1, asked, A));
        assert_eq!(net.last_sent().server, server.parse().unwrap(), "{asked}");
    }
    assert_eq!(rcode(&net.reply_to(&query(1, "x.blocked.example", A))), 2);
    assert_eq!(rcode(&net.reply_to(&query(1, "x.internal", A))), 3);
    // A silent split server is never replaced by one that must not know.
    net.pass(secs(5));
    for sent in &net.sent {
        let split = name("corp.example");
        let asked = net_dns::Name::read(&sent.message, 12).unwrap().0;
        assert!(!asked.is_within(&split) || sent.server != S1.parse().unwrap());
    }
    net.dns.set_split(Vec::new()).unwrap();
    net.ask_udp(1, &query(1, "corp.example", A));
    assert_eq!(net.last_sent().server, S1.parse().unwrap());
}

#[test]
fn row67_a_silent_server_stands_back_for_a_while() {
    let mut net = Net::new(config(&[S1, S2]));
    net.ask_udp(1, &query(1, "a.example.com", A));
    net.pass(secs(2));
    let sent = net.last_sent();
    assert_eq!(sent.server, S2.parse().unwrap());
    net.give(&sent, &answer(&sent.message, 0, [&[a()], &[], &[]]));
    net.ask_udp(1, &query(2, "b.example.com", A));
    assert_eq!(net.last_sent().server, S2.parse().unwrap());
    let sent = net.last_sent();
    net.give(&sent, &answer(&sent.message, 0, [&[a()], &[], &[]]));
    net.now += secs(31);
    net.ask_udp(1, &query(3, "c.example.com", A));
    assert_eq!(net.last_sent().server, S1.parse().unwrap());
}

#[test]
fn row67_a_slow_tcp_client_blocks_nobody() {
    // Ten connections each send a byte of a query in turn; another client is served meanwhile.
    let mut net = Net::new(config(&[S1]));
    net.dns.set_gateway(&["10.0.2.1".parse().unwrap()]).unwrap();
    let stream = frame(&query(7, "gateway.internal", A)).unwrap();
    let mut framers: Vec<Framer> = (0..10).map(|_| Framer::new(MAX_QUERY)).collect();
    for byte in &stream {
        for (n, framer) in framers.iter_mut().enumerate() {
            let mut input = std::slice::from_ref(byte);
            if let Some(message) = framer.read(&mut input).unwrap() {
                net.ask_tcp(n as u64, &message);
            }
        }
        assert_eq!(rcode(&net.reply_to(&query(1, "gateway", A))), 0);
    }
    assert_eq!(net.replies.len(), 10);
}

#[test]
fn row67_a_connection_that_closes_takes_its_queries_along() {
    let mut net = Net::new(config(&[S1]));
    net.ask_tcp(1, &query(1, "a.example.com", A));
    net.ask_tcp(1, &query(2, "b.example.com", A));
    net.ask_tcp(2, &query(3, "b.example.com", A));
    let mut out = Vec::new();
    net.dns.connection_closed(&1, &mut out);
    // Nobody else waits for the first; the second goes on for the other connection.
    assert_eq!(out, [net_dns::Action::Cancel { id: net.sent[0].id }]);
    assert_eq!((net.dns.in_flight(), net.dns.waiting()), (1, 1));
    let sent = net.last_sent();
    net.give(&sent, &answer(&sent.message, 0, [&[a()], &[], &[]]));
    assert_eq!(net.replies.len(), 1);
    assert_eq!(net.replies[0].0, 2);
    assert_eq!(net.dns.stats().abandoned, 2);
}

#[test]
fn row67_bad_configuration_is_named() {
    let fails = |change: fn(&mut net_dns::Config)| {
        let mut config = config(&[S1]);
        change(&mut config);
        Forwarder::<u64>::new(config).unwrap_err()
    };
    assert!(matches!(
        fails(|c| c.domain = Some("a..b".into())),
        ConfigError::Domain { .. }
    ));
    assert!(matches!(
        fails(|c| c.split = vec![("a b".into(), vec![])]),
        ConfigError::Suffix { .. }
    ));
    assert!(matches!(
        fails(|c| c.domain = Some(".".into())),
        ConfigError::Domain { .. }
    ));
    let bad = fails(|c| c.local_prefixes = vec![([10, 0, 0, 0].into(), 33)]);
    assert_eq!(
        bad.to_string(),
        "the prefix 10.0.0.0/33 is longer than an address"
    );
    let mut config = config(&[S1]);
    config.split = vec![(".".into(), servers(&[S2]))];
    let mut net = Net::new(config);
    net.ask_udp(1, &query(1, "www.example.com", A));
    assert_eq!(net.last_sent().server, S2.parse().unwrap());
    assert_eq!(rcode(&net.reply_to(&query(1, "nobody", A))), 0);
}
