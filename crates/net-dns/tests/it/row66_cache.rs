//! Row 66, the cache: by TTL and SOA minimum, NODATA apart from NXDOMAIN, nothing planted.

use net_dns::message::{Section, flag};
use net_dns::{ClientId, Transport};

use crate::common::*;

const NXDOMAIN: u16 = 3;

fn ttls(message: &[u8]) -> Vec<u32> {
    records(message)
        .iter()
        .filter(|record| record.rtype != OPT)
        .map(|record| record.ttl)
        .collect()
}

/// Asks again and says whether the answer came from the cache.
fn cached(net: &mut Net, message: &[u8]) -> bool {
    let sent = net.sent.len();
    net.ask_udp(77, message);
    net.sent.len() == sent
}

#[test]
fn row66_positive_answers_live_by_their_shortest_ttl() {
    let mut net = Net::new(config(&[S1]));
    let asked = query(1, "www.example.com", A);
    let alias = [
        rr(CNAME, 300, &wire("web.example.com")),
        owned_rr(&wire("web.example.com"), A, 60, &[192, 0, 2, 1]),
    ];
    let reply = net.exchange(&asked, flag::AA, [&alias, &[], &[]]);
    assert_ne!(flags(&reply) & flag::AA, 0);
    net.now += secs(20);
    let reply = net.reply_to(&asked);
    assert_eq!(ttls(&reply), [280, 40]);
    assert_eq!(flags(&reply) & flag::AA, 0, "a cache is not an authority");
    net.now += secs(39);
    assert_eq!(ttls(&net.reply_to(&asked)), [241, 1]);
    net.now += secs(1);
    assert!(!cached(&mut net, &asked));
    assert_eq!(net.dns.stats().cache_hits, 2);
}

#[test]
fn row66_negative_answers_live_by_the_soa() {
    for (code, ttl, minimum, life) in [
        (NXDOMAIN, 100, 30, 30),
        (NXDOMAIN, 30, 100, 30),
        (0, 100, 30, 30),
        (0, 5000, 5000, 900),
    ] {
        let mut net = Net::new(config(&[S1]));
        let asked = query(1, "no.example.com", AAAA);
        net.exchange(&asked, code, [&[], &[soa(ttl, minimum)], &[]]);
        net.now += secs(life - 1);
        let reply = net.reply_to(&asked);
        // NODATA stays NODATA, NXDOMAIN stays NXDOMAIN.
        assert_eq!(rcode(&reply), code);
        let soa = &records(&reply)[0];
        assert_eq!((soa.section, soa.rtype), (Section::Authority, SOA));
        assert_eq!(u64::from(soa.ttl), u64::from(ttl.min(minimum)) - (life - 1));
        net.now += secs(1);
        assert!(!cached(&mut net, &asked));
        assert_eq!(net.dns.stats().cache_negative_hits, 1);
    }
}

#[test]
fn row66_nodata_for_one_type_says_nothing_about_another() {
    let mut net = Net::new(config(&[S1]));
    net.exchange(
        &query(1, "four.example.com", AAAA),
        0,
        [&[], &[soa(60, 60)], &[]],
    );
    assert!(!cached(&mut net, &query(2, "four.example.com", A)));
}

#[test]
fn row66_an_alias_to_nowhere_is_negative() {
    let mut net = Net::new(config(&[S1]));
    let alias = [rr(CNAME, 300, &wire("web.example.com"))];
    let asked = query(1, "www.example.com", AAAA);
    net.exchange(&asked, 0, [&alias, &[soa(20, 20)], &[]]);
    assert_eq!(ttls(&net.reply_to(&asked)), [300, 20]);
    net.now += secs(20);
    assert!(!cached(&mut net, &asked));
    // Without a SOA it may be half an answer.
    let other = query(1, "w3.example.com", AAAA);
    net.exchange(&other, 0, [&alias, &[], &[]]);
    assert!(!cached(&mut net, &other));
}

#[test]
fn row66_what_must_not_be_kept() {
    let a = |ttl| rr(A, ttl, &[192, 0, 2, 1]);
    let cases: [(&str, u16, Vec<Rr>, Vec<Rr>); 8] = [
        ("no soa", NXDOMAIN, vec![], vec![]),
        ("nodata without soa", 0, vec![], vec![]),
        (
            "referral",
            0,
            vec![],
            vec![rr(2, 60, &wire("ns.example.com"))],
        ),
        ("ttl 0", 0, vec![a(0)], vec![]),
        ("one ttl 0", 0, vec![a(60), a(0)], vec![]),
        ("ttl with the top bit", 0, vec![a(0x8000_0001)], vec![]),
        ("formerr", 1, vec![a(60)], vec![]),
        ("truncated", flag::TC, vec![a(60)], vec![]),
    ];
    for (what, flags, answers, authority) in cases {
        let mut net = Net::new(config(&[S1]));
        let asked = query(1, "www.example.com", A);
        net.exchange(&asked, flags, [&answers, &authority, &[]]);
        assert!(!cached(&mut net, &asked), "{what}");
        assert_eq!(net.dns.stats().cache_stored, 0);
    }
}

#[test]
fn row66_extended_codes_are_not_kept() {
    let mut net = Net::new(config(&[S1]));
    let asked = with_opt(query(1, "www.example.com", A), 1232, 0, &[]);
    net.ask_udp(1, &asked);
    let sent = net.last_sent();
    let mut given = with_opt(
        answer(&sent.message, 0, [&[rr(A, 60, &[1, 2, 3, 4])], &[], &[]]),
        1232,
        0,
        &[],
    );
    let extended = given.len() - 6;
    given[extended] = 1; // BADVERS
    net.give(&sent, &given);
    assert!(!cached(&mut net, &asked));
}

#[test]
fn row66_a_very_long_ttl_is_cut() {
    let mut net = Net::new(config(&[S1]));
    let asked = query(1, "www.example.com", A);
    net.exchange(&asked, 0, [&[rr(A, 0x7fff_ffff, &[1, 2, 3, 4])], &[], &[]]);
    assert_eq!(ttls(&net.reply_to(&asked)), [86_400]);
}

#[test]
fn row66_nothing_is_planted_through_other_sections() {
    let mut net = Net::new(config(&[S1]));
    let asked = query(1, "www.evil.example", A);
    let bank = wire("www.bank.example");
    let planted = || owned_rr(&bank, A, 3600, &[203, 0, 113, 66]);
    net.exchange(
        &asked,
        0,
        [
            &[rr(A, 60, &[1, 2, 3, 4]), planted()],
            &[planted()],
            &[planted(), planted()],
        ],
    );
    // Not for its own name, and not in the cached answer beyond answer and authority.
    assert!(!cached(&mut net, &query(2, "www.bank.example", A)));
    let reply = net.reply_to(&asked);
    assert!(
        records(&reply)
            .iter()
            .all(|record| record.section != Section::Additional)
    );
}

#[test]
fn row66_edns_of_the_asker_not_of_the_one_before() {
    let mut net = Net::new(config(&[S1]));
    let plain = query(1, "www.example.com", A);
    let edns = with_opt(plain.clone(), 1400, 0, &[]);
    net.ask_udp(1, &edns);
    let sent = net.last_sent();
    let given = with_opt(
        answer(&sent.message, 0, [&[rr(A, 60, &[1, 2, 3, 4])], &[], &[]]),
        4096,
        0,
        &[],
    );
    net.give(&sent, &given);
    assert!(layout(&net.reply_to(&plain)).opt.is_none());
    let opt = layout(&net.reply_to(&edns)).opt.unwrap();
    assert_eq!((opt.payload, opt.extended_rcode, opt.version), (1232, 0, 0));
    // DO asks for more records: another answer.
    assert!(!cached(&mut net, &with_opt(plain, 1400, 0x8000, &[])));
}

#[test]
fn row66_any_serves_only_any() {
    let mut net = Net::new(config(&[S1]));
    net.exchange(
        &query(1, "www.example.com", 255),
        0,
        [&[rr(A, 60, &[1, 2, 3, 4])], &[], &[]],
    );
    assert!(cached(&mut net, &query(2, "www.example.com", 255)));
    assert!(!cached(&mut net, &query(3, "www.example.com", A)));
}

#[test]
fn row66_bounded_in_entries_and_bytes_and_fair() {
    let mut config = config(&[S1]);
    config.cache_entries = 50;
    config.cache_bytes = 100_000;
    let mut net = Net::new(config);
    let udp = Transport::Udp {
        max_payload: 65_507,
    };
    let fill = |net: &mut Net, client: u64, names: std::ops::Range<u32>, size: usize| {
        for n in names {
            let asked = with_opt(query(1, &format!("n{n}.example.com"), 16), 65_535, 0, &[]);
            net.ask(client, 1, udp, &asked);
            let sent = net.last_sent();
            net.give(
                &sent,
                &answer(&sent.message, 0, [&[rr(16, 600, &vec![1; size])], &[], &[]]),
            );
            let (entries, bytes) = net.dns.cache_use();
            assert!(entries <= 50 && bytes <= 100_000, "{entries} {bytes}");
        }
    };
    fill(&mut net, 1, 0..10, 100);
    fill(&mut net, 2, 1000..1500, 100);
    fill(&mut net, 2, 2000..2100, 9000);
    fill(&mut net, 2, 3000..3003, 60_000);
    assert!(net.dns.cache_evicted() > 500);
    for n in 0..10 {
        let asked = with_opt(query(1, &format!("n{n}.example.com"), 16), 65_535, 0, &[]);
        assert!(
            cached(&mut net, &asked),
            "client 2 pushed out client 1's answer {n}"
        );
    }
    let mut out = Vec::new();
    net.dns.client_gone(ClientId(2), &mut out);
    assert!(out.is_empty());
}
