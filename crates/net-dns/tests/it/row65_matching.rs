//! Row 65: random ids, answers matched, nothing asked twice at the same time, case kept.

use std::collections::BTreeSet;

use net_dns::message::flag;

use crate::common::*;

fn good(sent: &Sent) -> Vec<u8> {
    answer(&sent.message, 0, [&[rr(A, 60, &[192, 0, 2, 80])], &[], &[]])
}

#[test]
fn row65_ids_are_fresh_for_every_query() {
    let mut config = config(&[S1]);
    config.waiting_per_client = 1000;
    let mut net = Net::new(config);
    for n in 0..200 {
        net.ask_udp(n, &query(7, &format!("w{n}.example.com"), A));
    }
    let ids: BTreeSet<u16> = net.sent.iter().map(|sent| id(&sent.message)).collect();
    assert!(ids.len() > 190, "{}", ids.len());
    // Not a sequence either.
    let steps: BTreeSet<u16> = net
        .sent
        .windows(2)
        .map(|w| id(&w[1].message).wrapping_sub(id(&w[0].message)))
        .collect();
    assert!(steps.len() > 150);
    // A retry has an id of its own.
    let before = net.sent.len();
    net.pass(secs(2));
    assert!(net.sent.len() > before);
    assert_ne!(id(&net.sent[0].message), id(&net.sent[before].message));
}

#[test]
fn row65_server_id_and_question_must_match() {
    let mut net = Net::new(config(&[S1, S2]));
    net.ask_udp(1, &query(9, "www.example.com", A));
    let sent = net.last_sent();
    let right = good(&sent);
    let mut wrong_id = right.clone();
    wrong_id[1] ^= 1;
    let mut no_response = right.clone();
    no_response[2] &= 0x7f;
    let mut other_opcode = right.clone();
    other_opcode[2] |= 0x20;
    let mut other_name = right.clone();
    other_name[14] = b'x';
    let mut other_type = right.clone();
    other_type[sent.message.len() - 3] = 28;
    let mut other_class = right.clone();
    other_class[sent.message.len() - 1] = 3;
    let mut no_question = right.clone();
    no_question[5] = 0;
    let mut two_questions = right.clone();
    two_questions[5] = 2;
    let forged = [
        wrong_id,
        no_response,
        other_opcode,
        other_name,
        other_type,
        other_class,
        no_question,
        two_questions,
        Vec::new(),
        right[..11].to_vec(),
        right[..20].to_vec(),
    ];
    for (n, message) in forged.iter().enumerate() {
        net.give(&sent, message);
        assert!(net.replies.is_empty(), "forgery {n} was taken");
    }
    for from in [S2, "192.0.2.1:5353", "[2001:db8::1]:53"] {
        net.give_from(from.parse().unwrap(), &sent, &right);
        assert!(net.replies.is_empty(), "{from}");
    }
    assert_eq!(net.dns.stats().upstream_mismatched, forged.len() as u64 + 3);
    // None of this keeps the genuine answer out.
    net.give(&sent, &right);
    assert_eq!(net.replies.len(), 1);
    net.assert_quiet(0);
    // And once it is there, another one is too late.
    net.give(&sent, &right);
    assert_eq!(net.replies.len(), 1);
    assert_eq!(net.dns.stats().upstream_unsolicited, 1);
}

#[test]
fn row65_an_answer_to_another_question_under_way_is_not_taken() {
    let mut net = Net::new(config(&[S1]));
    net.ask_udp(1, &query(1, "a.example.com", A));
    let first = net.last_sent();
    net.ask_udp(2, &query(2, "b.example.com", A));
    let second = net.last_sent();
    net.give(&first, &good(&second));
    assert!(net.replies.is_empty());
}

#[test]
fn row65_the_server_may_change_the_case_the_client_sees_its_own() {
    let mut net = Net::new(config(&[S1]));
    let asked = query(9, "wWw.ExAmPlE.cOm", A);
    net.ask_udp(1, &asked);
    let sent = net.last_sent();
    assert_eq!(
        sent.message[12..],
        asked[12..],
        "case goes upstream as it came"
    );
    let mut given = good(&sent);
    given[12..sent.message.len() - 4].make_ascii_lowercase();
    net.give(&sent, &given);
    assert_eq!(net.replies[0].1[12..asked.len()], asked[12..]);
    let cached = query(10, "WWW.example.COM", A);
    let reply = net.reply_to(&cached);
    assert_eq!(reply[12..cached.len()], cached[12..]);
    assert_eq!(id(&reply), 10);
}

#[test]
fn row65_no_duplicate_in_flight() {
    let mut net = Net::new(config(&[S1]));
    net.ask_udp(1, &query(1, "www.example.com", A));
    net.ask_udp(2, &query(2, "WWW.example.com", A));
    net.ask(
        2,
        3,
        net_dns::Transport::Tcp,
        &query(3, "www.EXAMPLE.com", A),
    );
    assert_eq!(net.sent.len(), 1);
    assert_eq!(net.dns.stats().coalesced, 2);
    // Sent again by a client that waits: one answer will do.
    net.ask_udp(1, &query(1, "www.example.com", A));
    assert_eq!(net.dns.stats().query_repeated, 1);
    // Another type, class or flag is another question.
    net.ask_udp(4, &query(4, "www.example.com", AAAA));
    assert_eq!(net.sent.len(), 2);
    let sent = net.sent[0].clone();
    net.give(&sent, &good(&sent));
    let got: Vec<(u64, u16)> = net
        .replies
        .iter()
        .map(|(to, reply)| (*to, id(reply)))
        .collect();
    assert_eq!(got, [(1, 1), (2, 2), (3, 3)]);
    for ((_, reply), asked) in
        net.replies
            .iter()
            .zip(["www.example.com", "WWW.example.com", "www.EXAMPLE.com"])
    {
        assert_eq!(reply[12..12 + 17], wire(asked)[..]);
    }
}

#[test]
fn row65_flags_that_change_the_answer_keep_questions_apart() {
    let mut net = Net::new(config(&[S1]));
    let base = query(1, "www.example.com", A);
    let mut variants = vec![base.clone(), with_opt(base.clone(), 1232, 0, &[])];
    variants.push(with_opt(base.clone(), 1232, 0x8000, &[]));
    for flag in [flag::RD, flag::CD, flag::AD] {
        let mut other = base.clone();
        let flags = (flags(&other) ^ flag).to_be_bytes();
        other[2..4].copy_from_slice(&flags);
        variants.push(other);
    }
    for (n, variant) in variants.iter().enumerate() {
        net.ask_udp(n as u64, variant);
        assert_eq!(net.sent.len(), n + 1, "variant {n}");
        assert_eq!(flags(&net.last_sent().message), flags(variant));
    }
}

#[test]
fn row65_a_flood_of_forgeries_moves_the_question_to_tcp() {
    let mut net = Net::new(config(&[S1]));
    net.ask_udp(1, &query(9, "www.example.com", A));
    let udp = net.last_sent();
    let mut forged = good(&udp);
    for guess in 0..64u16 {
        let wrong = id(&udp.message).wrapping_add(1 + guess);
        forged[..2].copy_from_slice(&wrong.to_be_bytes());
        net.give(&udp, &forged);
    }
    assert_eq!(net.sent.len(), 2);
    let tcp = net.last_sent();
    assert!(tcp.tcp);
    assert_eq!(net.cancelled, [udp.id]);
    net.give(&udp, &good(&udp));
    assert!(net.replies.is_empty(), "the flooded socket is closed");
    net.give(&tcp, &good(&tcp));
    assert_eq!(net.replies.len(), 1);
    net.assert_quiet(0);
}
