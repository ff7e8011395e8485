//! What guests and forgers send: every row of bytes is answered at most once and bounded.

use net_dns::message::flag;
use net_dns::{ClientId, MAX_QUERY, Transport};

use crate::common::*;

const FORMERR: u16 = 1;
const NOTIMP: u16 = 4;
const REFUSED: u16 = 5;

#[test]
fn queries_cut_at_every_byte() {
    let whole = with_opt(
        query(0x77, "www.example.com", A),
        4096,
        0x8000,
        &[0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8],
    );
    for end in 0..whole.len() {
        let mut net = Net::new(config(&[S1]));
        net.ask_udp(1, &whole[..end]);
        assert!(net.sent.is_empty(), "cut at {end} went upstream");
        if end < 12 {
            assert!(net.replies.is_empty());
            assert_eq!(net.dns.stats().query_too_short, 1);
        } else {
            let reply = &net.replies[0].1;
            assert_eq!((rcode(reply), id(reply)), (FORMERR, 0x77), "cut at {end}");
        }
    }
    let mut net = Net::new(config(&[S1]));
    net.ask_udp(1, &whole);
    assert_eq!(net.sent.len(), 1);
}

#[test]
fn answers_cut_at_every_byte() {
    let sections = || {
        [
            vec![
                rr(CNAME, 60, &wire("web.example")),
                rr(A, 60, &[1, 2, 3, 4]),
            ],
            vec![soa(60, 60)],
            vec![rr(A, 60, &[9; 4])],
        ]
    };
    let mut length = 1;
    let mut end = 0;
    while end < length {
        let mut net = Net::new(config(&[S1]));
        net.ask_udp(1, &query(1, "www.example.com", A));
        let sent = net.last_sent();
        let [a, b, c] = sections();
        let whole = answer(&sent.message, 0, [&a, &b, &c]);
        length = whole.len();
        net.give(&sent, &whole[..end]);
        net.pass(secs(5));
        assert_eq!(net.replies.len(), 1, "cut at {end}");
        assert_eq!(rcode(&net.replies[0].1), 2, "cut at {end}");
        assert_eq!(net.dns.cache_use().0, 0);
        net.assert_quiet(0);
        end += 1;
    }
}

#[test]
fn compression_in_a_question_is_no_question() {
    for pointer in [
        [0xc0, 12],
        [0xc0, 0],
        [0xc0, 14],
        [0xff, 0xff],
        [0x80, 1],
        [0x40, 1],
    ] {
        let mut net = Net::new(config(&[S1]));
        let mut asked = query(1, "", A)[..12].to_vec();
        asked.extend(pointer);
        asked.extend([0, 1, 0, 1]);
        net.ask_udp(1, &asked);
        assert_eq!(rcode(&net.replies[0].1), FORMERR);
        assert!(net.sent.is_empty());
    }
}

#[test]
fn pointer_loops_in_answers_end() {
    // Owners that point at themselves, at each other, forward, and into the header.
    for owners in [
        [[0xc0, 33], [0xc0, 33]],
        [[0xc0, 49], [0xc0, 33]],
        [[0xc0, 0], [0xc0, 11]],
        [[0xff, 0xff], [0xc0, 12]],
    ] {
        let mut net = Net::new(config(&[S1]));
        net.ask_udp(1, &query(1, "www.example.com", A));
        let sent = net.last_sent();
        assert_eq!(sent.message.len(), 33);
        let loops = owners.map(|owner| owned_rr(&owner, A, 60, &[1, 2, 3, 4]));
        net.give(&sent, &answer(&sent.message, 0, [&loops, &[], &[]]));
        assert_eq!(net.dns.stats().upstream_malformed, 1, "{owners:?}");
        assert_eq!(rcode(&net.replies[0].1), 2);
    }
}

#[test]
fn the_number_of_questions_is_one() {
    for count in [0u16, 2, 3, 0xffff] {
        let mut net = Net::new(config(&[S1]));
        let mut asked = query(1, "www.example.com", A);
        asked[4..6].copy_from_slice(&count.to_be_bytes());
        asked.extend_from_slice(&query(1, "www.example.com", A)[12..]);
        net.ask_udp(1, &asked);
        assert_eq!(net.replies[0].1, [0, 1, 0x81, 0x81, 0, 0, 0, 0, 0, 0, 0, 0]);
    }
}

#[test]
fn responses_sent_as_queries_are_dropped() {
    let mut net = Net::new(config(&[S1]));
    let mut response = query(1, "gateway.internal", A);
    response[2] |= 0x80;
    net.ask_udp(1, &response);
    net.ask_udp(1, &response[..12]);
    assert!(net.replies.is_empty() && net.sent.is_empty());
    assert_eq!(net.dns.stats().query_is_response, 2);
}

#[test]
fn other_opcodes_are_not_implemented() {
    for opcode in 1..16u16 {
        let mut net = Net::new(config(&[S1]));
        let mut asked = query(5, "www.example.com", SOA);
        asked[2..4].copy_from_slice(&(opcode << 11).to_be_bytes());
        net.ask_udp(1, &asked);
        let reply = &net.replies[0].1;
        assert_eq!(rcode(reply), NOTIMP);
        assert_eq!(flags(reply) & flag::OPCODE, opcode << 11);
        assert!(net.sent.is_empty());
    }
}

#[test]
fn transfers_and_questions_about_the_server_are_refused() {
    let mut net = Net::new(config(&[S1]));
    for qtype in [251, 252] {
        net.ask_tcp(1, &query(1, "example.com", qtype));
        assert_eq!(rcode(&net.replies.pop().unwrap().1), REFUSED);
    }
    let mut chaos = query(1, "version.bind", 16);
    let last = chaos.len() - 1;
    chaos[last] = 3;
    assert_eq!(rcode(&net.reply_to(&chaos)), REFUSED);
    assert_eq!(rcode(&net.reply_to(&query(1, "example.com", OPT))), FORMERR);
    assert!(net.sent.is_empty());
    assert_eq!(net.dns.stats().query_refused, 3);
}

#[test]
fn edns_is_checked() {
    let mut net = Net::new(config(&[S1]));
    let once = with_opt(query(1, "www.example.com", A), 1232, 0, &[]);
    let twice = with_opt(once.clone(), 1232, 0, &[]);
    assert_eq!(rcode(&net.reply_to(&twice)), FORMERR);
    // In the answer section, and away from the root.
    let mut misplaced = once.clone();
    misplaced.swap(7, 11);
    assert_eq!(rcode(&net.reply_to(&misplaced)), FORMERR);
    let mut named = query(1, "www.example.com", A);
    named.extend(rr(OPT, 0, &[]).0);
    named[11] = 1;
    assert_eq!(rcode(&net.reply_to(&named)), FORMERR);
    let broken = with_opt(query(1, "www.example.com", A), 1232, 0, &[0, 10, 0, 9, 1]);
    assert_eq!(rcode(&net.reply_to(&broken)), FORMERR);
    // Another version: BADVERS, whose upper bits are in our OPT record.
    let mut version = once;
    let at = version.len() - 5;
    version[at] = 1;
    let reply = net.reply_to(&version);
    let opt = layout(&reply).opt.unwrap();
    assert_eq!((rcode(&reply), opt.extended_rcode, opt.version), (0, 1, 0));
    assert!(net.sent.is_empty());
}

#[test]
fn bytes_behind_the_message_are_not_passed_on() {
    let mut net = Net::new(config(&[S1]));
    let asked = query(1, "www.example.com", A);
    let mut longer = asked.clone();
    longer.extend([0xaa; 100]);
    net.ask_udp(1, &longer);
    let sent = net.last_sent();
    assert_eq!(sent.message[2..], asked[2..]);
    let whole = answer(&sent.message, 0, [&[rr(A, 60, &[1, 2, 3, 4])], &[], &[]]);
    let mut given = whole.clone();
    given.extend([0xbb; 100]);
    net.give(&sent, &given);
    assert_eq!(net.replies[0].1[2..], whole[2..]);
    let mut huge = asked;
    huge.resize(MAX_QUERY + 1, 0);
    assert_eq!(rcode(&net.reply_to(&huge)), FORMERR);
}

#[test]
fn one_client_cannot_take_all_places() {
    let mut config = config(&[S1]);
    config.waiting_per_client = 10;
    config.in_flight = 15;
    config.waiting = 18;
    let mut net = Net::new(config);
    let udp = Transport::Udp { max_payload: 1472 };
    for n in 0..100 {
        net.ask(1, n, udp, &query(n as u16, &format!("x{n}.example.com"), A));
    }
    assert_eq!((net.sent.len(), net.dns.waiting()), (10, 10));
    assert_eq!(net.replies.len(), 90);
    assert!(net.replies.iter().all(|(_, reply)| rcode(reply) == 2));
    assert_eq!(net.dns.stats().client_quota, 90);
    // The same for queries that join one question, and for queries that cannot be shared.
    for n in 0..100 {
        net.ask(1, 500 + n, udp, &query(n as u16, "x1.example.com", A));
        net.ask(
            1,
            500 + n,
            udp,
            &with_opt(query(n as u16, "z.example.com", A), 4096, 1, &[]),
        );
    }
    assert_eq!(net.dns.waiting(), 10);
    // Another client is served, until the places of all are taken.
    for n in 0..8 {
        net.ask(2, n, udp, &query(n as u16, &format!("y{n}.example.com"), A));
    }
    assert_eq!(net.dns.in_flight(), 15);
    assert_eq!(net.dns.stats().full, 3);
    for n in 0..5 {
        net.ask(3, n, udp, &query(n as u16, "x1.example.com", A));
    }
    assert_eq!((net.dns.in_flight(), net.dns.waiting()), (15, 18));
    let mut out = Vec::new();
    net.dns.client_gone(ClientId(1), &mut out);
    assert_eq!(net.dns.waiting(), 8);
    net.pass(secs(5));
    assert_eq!((net.dns.in_flight(), net.dns.waiting()), (0, 0));
}

#[test]
fn no_host_address_reaches_a_guest() {
    // Errors made here hold the question and nothing else.
    let mut net = Net::new(config(&["127.0.0.53:53"]));
    let asked = query(1, "www.example.com", A);
    net.ask_udp(1, &asked);
    net.pass(secs(5));
    let mut expected = asked.clone();
    expected[2..4].copy_from_slice(&[0x81, 0x82]);
    assert_eq!(net.replies[0].1, expected);
}
