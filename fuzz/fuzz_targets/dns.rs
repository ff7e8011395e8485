//! DNS: any bytes as a query, as the answer to a query, as a TCP stream and as a configuration.
//!
//! The first byte chooses; the rest is the input. An answer is given the id and, if the second
//! byte is even, the question that the forwarder waits for, so that the fuzzer need not guess.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use net_dns::message::{Header, Layout, Question};
use net_dns::tcp::{Framer, frame};
use net_dns::{Action, ClientId, Config, Forwarder, MAX_QUERY, Origin, Transport};

const MAX_PAYLOAD: u16 = 1200;

fn forwarder() -> Forwarder {
    let mut config = Config::new([1; 16]);
    config.upstreams = vec![([192, 0, 2, 1], 53).into(), ([192, 0, 2, 2], 53).into()];
    config.local_prefixes = vec![([10, 0, 2, 0].into(), 24)];
    config.cache_bytes = 20_000;
    let mut dns = Forwarder::new(config).expect("a fixed configuration");
    dns.set_gateway(&[[10, 0, 2, 1].into()])
        .expect("an empty table");
    dns
}

/// Gives a query, returns what comes of it at once; lets the rest end.
fn ask(dns: &mut Forwarder, transport: Transport, message: &[u8], now: Duration) -> Vec<Action> {
    let mut out = Vec::new();
    let origin = Origin {
        client: ClientId(1),
        to: 1,
        transport,
    };
    dns.query(origin, message, now, &mut out);
    out
}

fn replies(actions: &[Action]) -> usize {
    actions
        .iter()
        .filter(|action| matches!(action, Action::Reply { .. }))
        .count()
}

fn check_replies(actions: &[Action], limit: usize) {
    for action in actions {
        if let Action::Reply { message, .. } = action {
            let header = Header::read(message).expect("a reply has a header");
            assert!(header.flags & 0x8000 != 0 && message.len() <= limit);
            if header.counts[0] == 1 {
                let question = Question::read(message).expect("a reply's question is readable");
                Layout::read(message, &header, question.end).expect("and so are its records");
            }
        }
    }
}

fn query(message: &[u8], transport: Transport, limit: usize) {
    let mut dns = forwarder();
    let mut now = Duration::from_secs(9);
    let start = now;
    let mut out = ask(&mut dns, transport, message, now);
    while let Some(at) = dns.next_deadline() {
        assert!(at >= now && at <= start + Duration::from_secs(5));
        now = at;
        dns.on_deadline(now, &mut out);
    }
    assert!(replies(&out) <= 1);
    assert_eq!(dns.waiting(), 0);
    check_replies(&out, limit);
}

fn answer(bytes: &[u8]) {
    let Some((&control, rest)) = bytes.split_first() else {
        return;
    };
    let mut dns = forwarder();
    let now = Duration::from_secs(9);
    let mut asked = b"\0\x07\x01\0\0\x01\0\0\0\0\0\x01\x07Example\x03com\0\0\x01\0\x01".to_vec();
    asked.extend(b"\0\0\x29\x10\0\0\0\0\0\0\0");
    let (transport, limit) = match control & 2 {
        0 => (
            Transport::Udp {
                max_payload: MAX_PAYLOAD,
            },
            MAX_PAYLOAD.into(),
        ),
        _ => (Transport::Tcp, 65_535),
    };
    let mut out = ask(&mut dns, transport, &asked, now);
    let Some(Action::QueryUdp {
        id,
        server,
        message,
    }) = out.pop()
    else {
        panic!("a foreign name goes upstream")
    };
    let mut given = message.get(..2).expect("a query has an id").to_vec();
    given.extend(rest.iter().take(10));
    if control & 1 == 0 && given.len() == 12 {
        given.extend(message.get(12..29).unwrap_or_default());
    }
    given.extend(rest.iter().skip(10));
    dns.upstream_answer(id, server, &given, now, &mut out);
    check_replies(&out, limit);
    let answered = replies(&out);
    // From the cache it is one reply too, whenever it is asked.
    for later in [0, 1, 30, 100_000] {
        let again = ask(
            &mut dns,
            Transport::Tcp,
            &asked,
            now + Duration::from_secs(later),
        );
        assert!(replies(&again) <= 1);
        check_replies(&again, 65_535);
    }
    assert!(answered <= 1);
    assert!(dns.cache_use().1 <= 20_000);
}

fn stream(bytes: &[u8]) {
    let Some((&portion, bytes)) = bytes.split_first() else {
        return;
    };
    let mut framer = Framer::new(MAX_QUERY);
    let mut seen = Vec::new();
    for mut input in bytes.chunks(usize::from(portion) + 1) {
        loop {
            match framer.read(&mut input) {
                Ok(Some(message)) => seen.extend(frame(&message).expect("within the limit")),
                Ok(None) => break,
                Err(_) => return,
            }
        }
        assert!(input.is_empty() && framer.buffered() <= MAX_QUERY + 1);
    }
    assert!(bytes.starts_with(&seen));
}

fuzz_target!(|data: &[u8]| {
    let Some((&kind, rest)) = data.split_first() else {
        return;
    };
    match kind % 5 {
        0 => query(
            rest,
            Transport::Udp {
                max_payload: MAX_PAYLOAD,
            },
            MAX_PAYLOAD.into(),
        ),
        1 => query(rest, Transport::Tcp, 65_535),
        2 => answer(rest),
        3 => stream(rest),
        _ => {
            let conf = net_dns::parse_resolv_conf(&String::from_utf8_lossy(rest));
            assert!(conf.nameservers.len() <= net_dns::MAX_NAMESERVERS);
        }
    }
});
