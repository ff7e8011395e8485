//! Router advertisements: any bytes as a solicitation, and any settings that are accepted make a
//! message whose options can be walked from end to end.
#![no_main]

use std::net::Ipv6Addr;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use net_dhcp::ra::{Advertiser, Prefix, RaConfig, Solicitation, State, message};

/// The kinds of the options of a message, every length checked.
fn kinds(message: &[u8]) -> Vec<u8> {
    assert_eq!(message[0], 134);
    let mut rest = &message[16..];
    let mut kinds = Vec::new();
    while let [kind, words, ..] = *rest {
        assert!(words > 0, "an option that never ends");
        kinds.push(kind);
        rest = &rest[usize::from(words) * 8..];
    }
    assert!(rest.is_empty());
    kinds
}

fn config(bytes: &[u8]) -> Option<RaConfig> {
    let (address, rest) = bytes.split_first_chunk::<16>()?;
    let (&[length, mtu, servers, minutes], names) = rest.split_first_chunk::<4>()?;
    let mut config = RaConfig::new(Prefix::new(Ipv6Addr::from(*address), length));
    config.mtu = (mtu > 0).then(|| u32::from(mtu) * 100);
    config.rdnss = vec![Ipv6Addr::from(*address); usize::from(servers)];
    config.router_lifetime = Duration::from_secs(u64::from(minutes) * 60);
    config.dnssl = String::from_utf8_lossy(names)
        .split('/')
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect();
    Some(config)
}

fuzz_target!(|bytes: &[u8]| {
    let host = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);
    let mut advertiser = Advertiser::new(RaConfig::new(Prefix::new(host_prefix(), 64)), 1)
        .expect("a sound configuration");
    advertiser.start(Duration::ZERO);
    for (source, hop_limit) in [(host, 255), (Ipv6Addr::UNSPECIFIED, 255), (host, 64)] {
        let parsed = Solicitation::parse(source, hop_limit, bytes);
        assert!(parsed.is_err() || hop_limit == 255);
        if let Ok(Solicitation {
            link_address: Some(mac),
        }) = parsed
        {
            assert_ne!(source, Ipv6Addr::UNSPECIFIED);
            assert!(bytes.windows(6).any(|window| window == mac));
        }
        let taken = advertiser.solicited(1, source, hop_limit, bytes, Duration::from_secs(9));
        assert_eq!(taken.is_ok(), parsed.is_ok());
    }

    let Some(config) = config(bytes) else { return };
    // Even what is refused makes a message that can be read.
    let kinds = kinds(&message(&config, State::Ceasing));
    if config.validate().is_ok() {
        let message = message(&config, State::Advertising);
        assert!(message.len() <= 1240);
        assert!(kinds.contains(&3));
        assert_eq!(kinds.contains(&25), !config.rdnss.is_empty());
        assert_eq!(kinds.contains(&31), !config.dnssl.is_empty());
    }
});

fn host_prefix() -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0)
}
