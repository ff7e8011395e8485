//! Row 64: UDP and TCP, every type, EDNS kept, sizes, SERVFAIL within 5 s.

use std::time::Duration;

use net_dns::Transport;
use net_dns::message::flag;

use crate::common::*;

#[test]
fn row64_every_type_is_forwarded_unchanged() {
    for qtype in [
        1, 2, 5, 6, 12, 15, 16, 28, 33, 43, 46, 48, 52, 64, 65, 255, 257, 4711, 65_280,
    ] {
        let mut net = Net::new(config(&[S1]));
        let asked = query(0x1234, "www.example.com", qtype);
        net.ask_udp(5, &asked);
        let sent = net.last_sent();
        assert_eq!(sent.message[2..], asked[2..], "type {qtype}");
        let data: Vec<u8> = (0..qtype as u8).collect();
        let given = answer(
            &sent.message,
            flag::AA,
            [&[rr(qtype, 60, &data)], &[], &[rr(A, 1, &[1, 2, 3, 4])]],
        );
        net.give(&sent, &given);
        let (to, reply) = net.replies.pop().unwrap();
        assert_eq!((to, id(&reply)), (5, 0x1234));
        assert_eq!(reply[2..], given[2..], "type {qtype}");
        net.assert_quiet(0);
    }
}

#[test]
fn row64_other_classes_and_odd_names_are_forwarded() {
    let mut net = Net::new(config(&[S1]));
    let mut hesiod = query(1, "a.example", 16);
    let last = hesiod.len() - 1;
    hesiod[last] = 4;
    net.ask_udp(1, &hesiod);
    // A label may hold any byte (RFC 2181 section 11).
    let mut bytes = query(2, "x", A)[..12].to_vec();
    bytes.extend(b"\x04\x00.\xff \x07example\x00\x00\x01\x00\x01");
    net.ask_udp(2, &bytes);
    net.ask_udp(3, &query(3, "", 2));
    let sent: Vec<_> = net
        .sent
        .iter()
        .map(|sent| sent.message[12..].to_vec())
        .collect();
    assert_eq!(sent, [&hesiod[12..], &bytes[12..], &query(3, "", 2)[12..]]);
}

#[test]
fn row64_unknown_flags_and_options_travel_verbatim() {
    let mut net = Net::new(config(&[S1]));
    let client_subnet = [0, 8, 0, 7, 0, 1, 24, 0, 192, 0, 2];
    let mut odd = with_opt(query(7, "www.example.com", A), 4096, 0x8001, &client_subnet);
    odd[3] |= 0x40; // the reserved flag
    net.ask_udp(1, &odd);
    let sent = net.last_sent();
    assert_eq!(sent.message[2..], odd[2..]);
    let option = [0xff, 0x01, 0, 2, 9, 9];
    let mut given = answer(
        &sent.message,
        0x40,
        [&[rr(A, 60, &[192, 0, 2, 7])], &[], &[]],
    );
    given = with_opt(given, 1400, 0x8000, &option);
    net.give(&sent, &given);
    assert_eq!(net.replies[0].1[2..], given[2..]);
    // What was asked with more than the question is nobody else's answer.
    net.ask_udp(2, &odd);
    assert_eq!(net.sent.len(), 2);
}

#[test]
fn row64_signed_queries_travel_verbatim_and_unshared() {
    let mut net = Net::new(config(&[S1]));
    // A transaction signature (RFC 8945), which covers the whole message.
    let mut signed = query(7, "www.example.com", A);
    signed.extend(owned_rr(&wire("key.example"), 250, 0, &[5; 40]).0);
    signed[11] = 1;
    for n in 1..=2 {
        net.ask_udp(n, &signed);
        assert_eq!(net.sent.len(), n as usize);
        assert_eq!(net.last_sent().message[2..], signed[2..]);
    }
    let sent = net.last_sent();
    let signature = [owned_rr(&wire("key.example"), 250, 0, &[6; 40])];
    let given = answer(
        &sent.message,
        0,
        [&[rr(A, 60, &[1, 2, 3, 4])], &[], &signature],
    );
    net.give(&sent, &given);
    assert_eq!(net.replies[0].1[2..], given[2..]);
    assert_eq!(net.dns.cache_use(), (0, 0));
}

#[test]
fn row64_edns_size_and_do_reach_upstream_and_hop_by_hop_options_do_not() {
    let mut net = Net::new(config(&[S1]));
    let cookie = [0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8];
    net.ask_udp(
        1,
        &with_opt(query(1, "www.example.com", A), 1400, 0x8000, &cookie),
    );
    let sent = net.last_sent();
    let opt = layout(&sent.message).opt.unwrap();
    assert_eq!((opt.payload, opt.flags, opt.version), (1400, 0x8000, 0));
    assert!(opt.options.is_empty());
    // An answer to a query with EDNS keeps its OPT; one to a query without has none.
    let given = with_opt(
        answer(&sent.message, 0, [&[rr(A, 60, &[1, 1, 1, 1])], &[], &[]]),
        4096,
        0,
        &[],
    );
    net.give(&sent, &given);
    assert!(layout(&net.replies[0].1).opt.is_some());

    net.ask_udp(2, &query(2, "b.example.com", A));
    let sent = net.last_sent();
    assert!(layout(&sent.message).opt.is_none());
    let glue = [rr(A, 60, &[2, 2, 2, 2])];
    let given = with_opt(answer(&sent.message, 0, [&[], &[], &glue]), 4096, 0, &[]);
    net.give(&sent, &given);
    let reply = &net.replies[1].1;
    assert!(layout(reply).opt.is_none());
    assert_eq!(records(reply).len(), 1);
}

/// An answer of exactly `size` bytes.
fn answer_of(size: usize, query: &[u8]) -> Vec<u8> {
    let mut given = answer(query, 0, [&[], &[], &[]]);
    let mut left = size - given.len();
    let mut count = 0u16;
    while left > 0 {
        // Twelve bytes of record around the data.
        let data = left
            .saturating_sub(12)
            .min(if left < 1024 { left - 12 } else { 500 });
        given.extend(rr(16, 60, &vec![7; data]).0);
        left -= data + 12;
        count += 1;
    }
    given[6..8].copy_from_slice(&count.to_be_bytes());
    assert_eq!(given.len(), size);
    given
}

#[test]
fn row64_4096_bytes_and_more_where_the_client_takes_them() {
    for (size, payload, link, whole) in [
        (512, None, 1472, true),
        (513, None, 1472, false),
        (512, Some(100), 1472, true),
        (1232, Some(1232), 1472, true),
        (1233, Some(1232), 1472, false),
        (4096, Some(4096), 65_507, true),
        (4096, Some(4096), 1472, false),
        (40_000, Some(65_535), 65_507, true),
        (400, None, 300, false),
    ] {
        let mut net = Net::new(config(&[S1]));
        let mut asked = query(3, "big.example.com", 16);
        if let Some(payload) = payload {
            asked = with_opt(asked, payload, 0, &[]);
        }
        net.ask(1, 1, Transport::Udp { max_payload: link }, &asked);
        let sent = net.last_sent();
        let given = answer_of(size, &sent.message);
        net.give(&sent, &given);
        let reply = &net.replies[0].1;
        assert_eq!(
            flags(reply) & flag::TC == 0,
            whole,
            "{size} {payload:?} {link}"
        );
        if whole {
            assert_eq!(reply[2..], given[2..]);
        } else {
            assert!(reply.len() <= link.into());
            assert_eq!(records(reply).len(), usize::from(payload.is_some()));
        }
        // The same from the cache.
        net.ask(1, 2, Transport::Udp { max_payload: link }, &asked);
        let reply = &net.replies[1].1;
        assert_eq!(net.sent.len(), 1);
        let room = size + if payload.is_some() { 11 } else { 0 };
        let limit = usize::from(payload.unwrap_or(0).max(512).min(link));
        assert_eq!(
            flags(reply) & flag::TC == 0,
            room <= limit,
            "{size} {payload:?} {link}"
        );
        assert!(reply.len() <= limit);
    }
}

#[test]
fn row64_replies_fit_every_mtu() {
    // Down to a link where not even the question fits.
    for max_payload in 0..600 {
        let mut net = Net::new(config(&[S1]));
        net.dns
            .set_gateway(&["10.0.2.1".parse().unwrap(); 1])
            .unwrap();
        let link = Transport::Udp { max_payload };
        net.ask(
            1,
            1,
            link,
            &with_opt(query(1, "gateway.internal", A), 4096, 0, &[]),
        );
        net.ask(
            1,
            2,
            link,
            &with_opt(query(2, "nobody.internal", A), 4096, 0, &[]),
        );
        net.ask(1, 3, link, &query(3, "www.example.com", 252));
        net.ask(1, 4, link, &query(4, "www.example.com", A)[..20]);
        for (_, reply) in &net.replies {
            assert!(reply.len() <= max_payload.into());
        }
        assert_eq!(net.replies.len(), if max_payload < 12 { 0 } else { 4 });
        if max_payload < 12 {
            assert_eq!(net.dns.stats().reply_unsendable, 4);
        }
    }
}

#[test]
fn row64_truncated_leads_to_tcp() {
    let mut net = Net::new(config(&[S1]));
    let asked = query(9, "big.example.com", 16);
    net.ask_udp(1, &asked);
    net.ask_tcp(2, &asked);
    assert_eq!(net.sent.len(), 1);
    let udp = net.last_sent();
    net.give(
        &udp,
        &answer(&udp.message, flag::TC, [&[rr(16, 60, b"\x01a")], &[], &[]]),
    );
    // The UDP client hears of it and will come back; the TCP client does not have to.
    assert_eq!(net.replies.len(), 1);
    assert_eq!(net.replies[0].0, 1);
    assert_ne!(flags(&net.replies[0].1) & flag::TC, 0);
    let tcp = net.last_sent();
    assert!(tcp.tcp && tcp.id != udp.id);
    assert_eq!(net.cancelled, [udp.id]);
    let given = answer_of(65_535, &tcp.message);
    net.give(&tcp, &given);
    assert_eq!(net.replies[1].0, 2);
    assert_eq!(net.replies[1].1[2..], given[2..]);
    net.assert_quiet(0);
}

#[test]
fn row64_answers_cut_inside_a_record_still_say_truncated() {
    let mut net = Net::new(config(&[S1]));
    net.ask_udp(1, &query(9, "big.example.com", 16));
    let sent = net.last_sent();
    let given = answer(
        &sent.message,
        flag::TC,
        [&[rr(16, 60, &[3; 100])], &[], &[]],
    );
    net.give(&sent, &given[..given.len() - 50]);
    let reply = &net.replies[0].1;
    assert_ne!(flags(reply) & flag::TC, 0);
    assert!(records(reply).is_empty());
    net.assert_quiet(0);
}

#[test]
fn row64_servfail_within_5_seconds_of_silence() {
    for servers in [&[S1][..], &[S1, S2], &[S1, S2, S3]] {
        for tcp in [false, true] {
            let mut config = config(servers);
            // No setting can stretch it.
            config.query_timeout = secs(60);
            let mut net = Net::new(config);
            let asked = query(9, "www.example.com", A);
            match tcp {
                true => net.ask_tcp(1, &asked),
                false => net.ask_udp(1, &asked),
            }
            if tcp {
                let sent = net.last_sent();
                net.give(&sent, &answer(&sent.message, flag::TC, [&[], &[], &[]]));
            }
            net.pass(secs(5));
            assert_eq!(net.replies.len(), 1);
            assert_eq!(rcode(&net.replies[0].1), 2);
            assert_eq!(net.replies[0].1[12..], asked[12..]);
            // Each server was asked, and the first more than once if there is only one.
            for server in servers {
                assert!(
                    net.sent
                        .iter()
                        .any(|sent| sent.server == server.parse().unwrap())
                );
            }
            assert!(net.sent.len() >= 3 && net.sent.len() <= net_dns::MAX_ATTEMPTS);
            net.assert_quiet(0);
        }
    }
}

#[test]
fn row64_servfail_at_once_without_a_server() {
    let mut net = Net::new(config(&[]));
    let reply = net.reply_to(&with_opt(query(9, "www.example.com", A), 1232, 0x8000, &[]));
    assert_eq!(rcode(&reply), 2);
    assert_eq!(layout(&reply).opt.unwrap().flags, 0x8000);
    assert_eq!(net.dns.stats().no_upstream, 1);
}

#[test]
fn row64_refused_ports_move_on_at_once() {
    let mut net = Net::new(config(&[S1, S2]));
    net.ask_udp(1, &query(9, "www.example.com", A));
    let first = net.last_sent();
    net.fail(&first);
    let second = net.last_sent();
    assert_eq!(second.server, S2.parse().unwrap());
    assert!(net.replies.is_empty());
    net.fail(&second);
    assert_eq!(rcode(&net.replies[0].1), 2);
    net.assert_quiet(2);
}

#[test]
fn row64_a_server_that_fails_gives_way_to_the_next() {
    for code in [2, 4, 5] {
        let mut net = Net::new(config(&[S1, S2]));
        net.ask_udp(1, &query(9, "www.example.com", A));
        let first = net.last_sent();
        net.give(&first, &answer(&first.message, code, [&[], &[], &[]]));
        assert!(net.replies.is_empty());
        let second = net.last_sent();
        assert_eq!(second.server, S2.parse().unwrap());
        net.give(
            &second,
            &answer(&second.message, 0, [&[rr(A, 9, &[1, 2, 3, 4])], &[], &[]]),
        );
        assert_eq!(rcode(&net.replies[0].1), 0);
        net.assert_quiet(0);

        // When all fail, the client hears what the last one said.
        net.ask_udp(1, &query(9, "w3.example.com", A));
        for _ in 0..2 {
            let sent = net.last_sent();
            net.give(&sent, &answer(&sent.message, code, [&[], &[], &[]]));
        }
        assert_eq!(rcode(&net.replies[1].1), code);
        net.assert_quiet(0);
    }
}

#[test]
fn row64_header_only_errors_count_as_failures() {
    let mut net = Net::new(config(&[S1]));
    net.ask_udp(1, &query(9, "www.example.com", A));
    let sent = net.last_sent();
    let mut bare = sent.message[..12].to_vec();
    bare[2..].copy_from_slice(&[0x81, 0x81, 0, 0, 0, 0, 0, 0, 0, 0]);
    net.give(&sent, &bare);
    let reply = &net.replies[0].1;
    assert_eq!((rcode(reply), id(reply)), (1, 9));
    assert_eq!(reply[12..], query(9, "www.example.com", A)[12..]);
    net.assert_quiet(0);
}

#[test]
fn row64_a_slow_answer_is_still_taken_after_the_retry() {
    let mut net = Net::new(config(&[S1, S2]));
    net.ask_udp(1, &query(9, "www.example.com", A));
    let first = net.last_sent();
    net.pass(Duration::from_millis(2000));
    assert_eq!(net.sent.len(), 2);
    net.give(
        &first,
        &answer(&first.message, 0, [&[rr(A, 9, &[1, 2, 3, 4])], &[], &[]]),
    );
    assert_eq!(rcode(&net.replies[0].1), 0);
    net.assert_quiet(0);
}

#[test]
fn row64_malformed_answers_count_as_failures() {
    let mut net = Net::new(config(&[S1]));
    net.ask_udp(1, &query(9, "www.example.com", A));
    let sent = net.last_sent();
    // The owner is a pointer to itself.
    let end = sent.message.len();
    let bad = owned_rr(&[0xc0, end as u8], A, 9, &[1, 2, 3, 4]);
    net.give(&sent, &answer(&sent.message, 0, [&[bad], &[], &[]]));
    assert_eq!(rcode(&net.replies[0].1), 2);
    assert_eq!(net.dns.stats().upstream_malformed, 1);
    net.assert_quiet(0);
}
