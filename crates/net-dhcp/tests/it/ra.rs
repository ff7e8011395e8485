//! Router advertisements: what they say, against another implementation, and when they are sent.

use std::net::Ipv6Addr;
use std::time::Duration;

use net_dhcp::ra::{
    ALL_NODES, ALL_ROUTERS, Advertiser, Destination, Preference, Prefix, RaConfig, RaConfigError,
    SolicitationError, State, message,
};
use proptest::prelude::*;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    Icmpv6Packet, Icmpv6Repr, NdiscPrefixInfoFlags, NdiscRepr, NdiscRouterFlags, RawHardwareAddress,
};

const PREFIX: Ipv6Addr = Ipv6Addr::new(0xfd12, 0x3456, 0x789a, 1, 0, 0, 0, 0);
const DNS: Ipv6Addr = Ipv6Addr::new(0xfd12, 0x3456, 0x789a, 1, 0, 0, 0, 1);
const HOST: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);
const SOLICITATION: [u8; 8] = [133, 0, 0, 0, 0, 0, 0, 0];
const START: Duration = Duration::from_secs(100);

fn config() -> RaConfig {
    let mut config = RaConfig::new(Prefix::new(PREFIX, 64));
    config.link_address = Some([2, 0xab, 10, 0, 2, 1]);
    config.mtu = Some(1400);
    config.rdnss = vec![DNS];
    config.dnssl = vec!["internal".into(), "lab.example".into()];
    config
}

fn advertiser(seed: u64) -> Advertiser {
    let mut advertiser = Advertiser::new(config(), seed).unwrap();
    advertiser.start(START);
    advertiser
}

/// Everything that is due up to and at `until`, with its time.
fn run(advertiser: &mut Advertiser, until: Duration) -> Vec<(Duration, Destination)> {
    let mut sent = Vec::new();
    while let Some(due) = advertiser.next_deadline().filter(|due| *due <= until) {
        let advertisement = advertiser
            .poll(due)
            .expect("something is due at a deadline");
        sent.push((due, advertisement.to));
    }
    sent
}

fn parsed(bytes: &[u8]) -> NdiscRepr<'_> {
    let packet = Icmpv6Packet::new_checked(bytes).unwrap();
    let repr = Icmpv6Repr::parse(&HOST, &ALL_NODES, &packet, &ChecksumCapabilities::ignored());
    match repr.unwrap() {
        Icmpv6Repr::Ndisc(repr) => repr,
        other => panic!("{other:?}"),
    }
}

#[test]
fn row62_the_message_says_what_is_configured() {
    let mut config = config();
    config.prefixes[0].address = DNS;
    config.preference = Preference::High;
    let NdiscRepr::RouterAdvert {
        hop_limit,
        flags,
        router_lifetime,
        lladdr,
        mtu,
        prefix_info,
        ..
    } = parsed(&message(&config, State::Advertising))
    else {
        panic!("not an advertisement")
    };
    assert_eq!(hop_limit, 64);
    assert_eq!(flags, NdiscRouterFlags::from_bits_truncate(0));
    assert_eq!(router_lifetime.secs(), 1800);
    assert_eq!(
        lladdr,
        Some(RawHardwareAddress::from_bytes(&[2, 0xab, 10, 0, 2, 1]))
    );
    assert_eq!(mtu, Some(1400));
    let prefix = prefix_info.unwrap();
    assert_eq!((prefix.prefix, prefix.prefix_len), (PREFIX, 64));
    assert_eq!(
        prefix.flags,
        NdiscPrefixInfoFlags::ON_LINK | NdiscPrefixInfoFlags::ADDRCONF
    );
    assert_eq!(prefix.valid_lifetime.secs(), 24 * 3600);
    assert_eq!(prefix.preferred_lifetime.secs(), 4 * 3600);
}

/// RFC 8106, section 5, and the bits of RFC 4191, section 2.2: what the other one does not read.
#[test]
fn row62_name_servers_and_domains_are_in_the_message() {
    let mut config = config();
    config.preference = Preference::Low;
    let bytes = message(&config, State::Advertising);
    assert_eq!(bytes[5], 0b0001_1000);
    let mut options = &bytes[16..];
    let mut kinds = Vec::new();
    while let [kind, words, ..] = *options {
        let option = &options[..usize::from(words) * 8];
        match kind {
            25 => {
                assert_eq!(option[2..8], [0, 0, 0, 0, 7, 8], "1800 s");
                assert_eq!(option[8..], DNS.octets());
            }
            31 => {
                assert_eq!(option[2..8], [0, 0, 0, 0, 7, 8]);
                assert_eq!(option[8..], *b"\x08internal\0\x03lab\x07example\0\0");
            }
            _ => {}
        }
        kinds.push(kind);
        options = &options[usize::from(words) * 8..];
    }
    assert_eq!(kinds, [1, 5, 3, 25, 31]);
}

#[test]
fn row62_lifetimes_are_zero_at_the_end() {
    let mut advertiser = advertiser(1);
    run(&mut advertiser, START + Duration::from_secs(1));
    let last = advertiser.stop().unwrap();
    assert_eq!(last.to, Destination::AllNodes);
    let NdiscRepr::RouterAdvert {
        router_lifetime,
        prefix_info,
        ..
    } = parsed(&last.message)
    else {
        panic!("not an advertisement")
    };
    assert_eq!(router_lifetime.secs(), 0);
    let prefix = prefix_info.unwrap();
    assert_eq!(
        (
            prefix.valid_lifetime.secs(),
            prefix.preferred_lifetime.secs()
        ),
        (0, 0)
    );
    // The servers as well: 4 bytes behind the option's type, length and two reserved bytes.
    let at = last.message.windows(2).position(|w| w == [25, 3]).unwrap();
    assert_eq!(last.message[at + 4..at + 8], [0; 4]);
    assert_eq!(advertiser.next_deadline(), None);
    assert_eq!(advertiser.stop(), None);
}

#[test]
fn row62_unsolicited_advertisements_come_in_irregular_intervals() {
    let mut advertiser = advertiser(5);
    let sent = run(&mut advertiser, START + Duration::from_secs(100_000));
    assert!(sent.iter().all(|(_, to)| *to == Destination::AllNodes));
    let gaps: Vec<u64> = sent
        .windows(2)
        .map(|pair| (pair[1].0 - pair[0].0).as_secs())
        .collect();
    // The first three follow each other within 16 s (RFC 4861, section 6.2.4).
    assert!(gaps[..3].iter().all(|gap| *gap <= 16), "{gaps:?}");
    let later = &gaps[3..];
    assert!(
        later.iter().all(|gap| (200..=600).contains(gap)),
        "{gaps:?}"
    );
    assert!(later.iter().min() < Some(&260) && later.iter().max() > Some(&540));
}

#[test]
fn row62_a_solicitation_is_answered_within_half_a_second() {
    for seed in 0..200 {
        let mut advertiser = advertiser(seed);
        run(&mut advertiser, START + Duration::from_secs(50));
        let now = START + Duration::from_secs(60);
        advertiser
            .solicited(1, Ipv6Addr::UNSPECIFIED, 255, &SOLICITATION, now)
            .unwrap();
        let sent = run(&mut advertiser, now + Duration::from_millis(500));
        assert_eq!(sent.len(), 1);
        assert_eq!(sent[0].1, Destination::AllNodes);
    }
}

#[test]
fn a_host_that_comes_just_after_another_is_answered_alone() {
    let mut advertiser = advertiser(2);
    run(&mut advertiser, START + Duration::from_secs(50));
    let now = START + Duration::from_secs(60);
    advertiser
        .solicited(1, HOST, 255, &SOLICITATION, now)
        .unwrap();
    run(&mut advertiser, now + Duration::from_millis(500));
    let now = now + Duration::from_millis(600);
    advertiser
        .solicited(2, HOST, 255, &SOLICITATION, now)
        .unwrap();
    // One that asks without an address has to wait for the next one to all.
    let none = Ipv6Addr::UNSPECIFIED;
    advertiser
        .solicited(3, none, 255, &SOLICITATION, now)
        .unwrap();
    let sent = run(&mut advertiser, now + Duration::from_secs(4));
    let alone = Destination::Host {
        client: 2,
        address: HOST,
    };
    assert_eq!(sent.len(), 2);
    assert_eq!(sent[0].1, alone);
    assert!(sent[0].0 <= now + Duration::from_millis(500));
    assert_eq!(sent[1].1, Destination::AllNodes);
    assert!(sent[1].0 <= now + Duration::from_secs(3));
}

/// RFC 4861, section 6.1.1, check by check.
#[test]
fn row62_what_is_no_valid_solicitation_is_ignored() {
    let mut advertiser = advertiser(3);
    let mut ask = |source: Ipv6Addr, hop_limit, bytes: &[u8]| {
        advertiser
            .solicited(1, source, hop_limit, bytes, START)
            .map(|solicitation| solicitation.link_address)
    };
    let with = |option: &[u8]| [&SOLICITATION[..], option].concat();
    let mac = [1, 1, 2, 0, 0, 0, 0, 9];
    assert_eq!(ask(HOST, 255, &with(&mac)), Ok(Some([2, 0, 0, 0, 0, 9])));
    for hop_limit in 0..255 {
        assert_eq!(
            ask(HOST, hop_limit, &SOLICITATION),
            Err(SolicitationError::HopLimit)
        );
    }
    for cut in 0..8 {
        assert_eq!(
            ask(HOST, 255, &SOLICITATION[..cut]),
            Err(SolicitationError::Header)
        );
    }
    let mut code = SOLICITATION;
    code[1] = 1;
    assert_eq!(ask(HOST, 255, &code), Err(SolicitationError::Header));
    for option in [
        &[1, 0, 0, 0, 0, 0, 0, 0][..],
        &[1, 2, 0, 0, 0, 0, 0, 0],
        &[1],
        &[1, 1, 0],
    ] {
        assert_eq!(
            ask(HOST, 255, &with(option)),
            Err(SolicitationError::Option),
            "{option:?}"
        );
    }
    let nobody = Ipv6Addr::UNSPECIFIED;
    assert_eq!(
        ask(nobody, 255, &with(&mac)),
        Err(SolicitationError::Source)
    );
    assert_eq!(
        ask(ALL_ROUTERS, 255, &SOLICITATION),
        Err(SolicitationError::Source)
    );
    // Unknown options are skipped (RFC 4861, section 4.6).
    assert_eq!(ask(HOST, 255, &with(&[200, 1, 0, 0, 0, 0, 0, 0])), Ok(None));
}

#[test]
fn a_router_that_stops_being_the_default_says_so_soon() {
    let mut advertiser = advertiser(4);
    run(&mut advertiser, START + Duration::from_secs(50));
    let now = START + Duration::from_secs(60);
    assert_eq!(
        advertiser.set_router_lifetime(Duration::from_secs(5), now),
        Err(RaConfigError::RouterLifetime)
    );
    advertiser.set_router_lifetime(Duration::ZERO, now).unwrap();
    let due = advertiser.next_deadline().unwrap();
    assert!(due <= now + Duration::from_millis(500));
    let sent = advertiser.poll(due).unwrap();
    assert_eq!(sent.message[6..8], [0, 0]);
    // The prefix stays: guests still reach one another and the name server.
    let NdiscRepr::RouterAdvert { prefix_info, .. } = parsed(&sent.message) else {
        panic!("not an advertisement")
    };
    assert!(prefix_info.unwrap().valid_lifetime.secs() > 0);
}

#[test]
fn configurations_out_of_range_are_refused() {
    let secs = Duration::from_secs;
    type Change = fn(&mut RaConfig);
    let refused: [(&str, Change); 14] = [
        ("interval", |c| c.max_interval = Duration::from_secs(3)),
        ("interval", |c| c.max_interval = Duration::from_secs(1801)),
        ("interval", |c| c.min_interval = Duration::from_secs(2)),
        ("interval", |c| c.min_interval = Duration::from_secs(451)),
        ("lifetime", |c| c.router_lifetime = Duration::from_secs(599)),
        ("lifetime", |c| {
            c.router_lifetime = Duration::from_secs(9001)
        }),
        ("lifetime", |c| c.dns_lifetime = Duration::from_secs(599)),
        ("reachable", |c| c.reachable_time = 3_600_001),
        ("1279", |c| c.mtu = Some(1279)),
        ("/129", |c| c.prefixes[0].length = 129),
        ("fe80", |c| c.prefixes[0].address = HOST),
        ("fd12", |c| c.prefixes[0].preferred = Duration::MAX),
        ("ff02", |c| c.rdnss.push(ALL_NODES)),
        ("a..b", |c| c.dnssl.push("a..b".into())),
    ];
    for (says, change) in refused {
        let mut config = config();
        change(&mut config);
        let error = config.validate().expect_err(says).to_string();
        assert!(error.contains(says), "{says}: {error}");
    }
    let mut long = config();
    long.dnssl = vec!["x".repeat(63); 30];
    assert!(matches!(long.validate(), Err(RaConfigError::TooLong(_))));
    let mut fine = config();
    fine.router_lifetime = Duration::ZERO;
    fine.min_interval = secs(450);
    assert_eq!(fine.validate(), Ok(()));
}

proptest! {
    /// Whoever asks, and however often: one to all every three seconds at most, one pending for each
    /// client, and nobody who asks properly waits for longer than the RFC says.
    #[test]
    fn row62_no_number_of_solicitations_makes_a_flood(
        seed: u64,
        asks in proptest::collection::vec((0u64..2000, 0u32..4, any::<bool>()), 1..400),
    ) {
        let mut advertiser = advertiser(seed);
        let mut now = START;
        let mut sent = Vec::new();
        let mut asked = Vec::new();
        for (wait, client, has_address) in asks {
            now += Duration::from_millis(wait);
            sent.extend(run(&mut advertiser, now));
            let source = if has_address { HOST } else { Ipv6Addr::UNSPECIFIED };
            advertiser.solicited(client, source, 255, &SOLICITATION, now).unwrap();
            asked.push((now, client, has_address));
        }
        sent.extend(run(&mut advertiser, now + Duration::from_secs(4)));
        let to_all: Vec<Duration> =
            sent.iter().filter(|s| s.1 == Destination::AllNodes).map(|s| s.0).collect();
        for pair in to_all.windows(2) {
            prop_assert!(pair[1] - pair[0] >= Duration::from_secs(3), "{pair:?}");
        }
        for (at, client, has_address) in asked {
            let limit = Duration::from_millis(if has_address { 500 } else { 3000 });
            let answered = sent.iter().any(|(when, to)| {
                let for_it = match to {
                    Destination::AllNodes => true,
                    Destination::Host { client: to, .. } => has_address && *to == client,
                };
                for_it && *when >= at && *when <= at + limit
            });
            prop_assert!(answered, "{at:?} {client} {has_address}: {sent:?}");
        }
    }

    #[test]
    fn any_bytes_are_a_solicitation_or_are_not(
        bytes in proptest::collection::vec(any::<u8>(), 0..80),
        hop_limit: u8,
        source: u128,
    ) {
        let mut advertiser = advertiser(0);
        let source = Ipv6Addr::from_bits(source);
        let before = advertiser.next_deadline();
        if advertiser.solicited(0, source, hop_limit, &bytes, START).is_err() {
            prop_assert_eq!(advertiser.next_deadline(), before);
        }
    }
}
