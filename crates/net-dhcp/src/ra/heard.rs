//! What a host hears from a router (RFC 4861, section 4.2; RFC 4191, section 2.2).

use std::net::Ipv6Addr;
use std::time::Duration;

use super::{ADVERTISEMENT, HOP_LIMIT, MTU, Preference, SOURCE_LINK_ADDRESS, options};

/// An advertisement that has passed every check of RFC 4861, section 6.1.2, but that of the checksum:
/// only who sees the IPv6 header can make it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeardRouter {
    /// How long the sender may be used as a default router, whole seconds up to 65,535; zero where it
    /// may not be used at all.
    pub lifetime: Duration,
    /// How much it wants to be used.
    pub preference: Preference,
    /// Its link-layer address, if it says.
    pub link_address: Option<[u8; 6]>,
    /// Largest packet of the link in bytes, if it says; any number.
    pub mtu: Option<u32>,
}

/// Why a message is no valid advertisement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeardRouterError {
    /// It crossed a router, and so did not come from this link.
    #[error("hop limit below 255")]
    HopLimit,
    /// Shorter than 16 bytes, or another type or code.
    #[error("not a router advertisement")]
    Header,
    /// An option of length zero, or one that passes the end.
    #[error("malformed option")]
    Option,
    /// Not from a link-local address, by which alone hosts tell routers apart.
    #[error("source address is not link-local")]
    Source,
}

impl HeardRouter {
    /// Takes an ICMPv6 message, from its type on, that came from `source` with `hop_limit`.
    ///
    /// # Errors
    /// The first check it fails.
    pub fn parse(
        source: Ipv6Addr,
        hop_limit: u8,
        message: &[u8],
    ) -> Result<Self, HeardRouterError> {
        if hop_limit != HOP_LIMIT {
            return Err(HeardRouterError::HopLimit);
        }
        let Some((&[kind, 0, _, _, _, flags, high, low, ..], list)) =
            message.split_first_chunk::<16>()
        else {
            return Err(HeardRouterError::Header);
        };
        if kind != ADVERTISEMENT {
            return Err(HeardRouterError::Header);
        }
        if !source.is_unicast_link_local() {
            return Err(HeardRouterError::Source);
        }
        let mut heard = Self {
            lifetime: Duration::from_secs(u16::from_be_bytes([high, low]).into()),
            preference: match flags >> 3 & 3 {
                0b01 => Preference::High,
                0b11 => Preference::Low,
                // The fourth value is reserved, and taken for this one (RFC 4191, section 2.2).
                _ => Preference::Medium,
            },
            link_address: None,
            mtu: None,
        };
        let whole = options::visit(list, |kind, option| match kind {
            SOURCE_LINK_ADDRESS => {
                heard.link_address = option.get(2..8).and_then(|mac| mac.try_into().ok());
            }
            MTU => {
                let value = option.get(4..8).and_then(|mtu| mtu.try_into().ok());
                heard.mtu = value.map(u32::from_be_bytes);
            }
            _ => {}
        });
        whole.ok_or(HeardRouterError::Option)?;
        Ok(heard)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Prefix, RaConfig, State, message};
    use super::*;

    const ROUTER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

    fn config() -> RaConfig {
        let mut config = RaConfig::new(Prefix::new("2001:db8::".parse().unwrap(), 64));
        config.link_address = Some([2, 0, 0, 0, 0, 1]);
        config.mtu = Some(1400);
        config
    }

    #[test]
    fn what_is_advertised_is_heard() {
        for preference in [Preference::High, Preference::Medium, Preference::Low] {
            let mut config = config();
            config.preference = preference;
            let sent = message(&config, State::Advertising);
            let heard = HeardRouter::parse(ROUTER, 255, &sent).unwrap();
            assert_eq!(heard.lifetime, config.router_lifetime);
            assert_eq!(heard.preference, preference);
            assert_eq!(heard.link_address, config.link_address);
            assert_eq!(heard.mtu, Some(1400));
        }
        let last = message(&config(), State::Ceasing);
        let heard = HeardRouter::parse(ROUTER, 255, &last).unwrap();
        assert_eq!(heard.lifetime, Duration::ZERO);
        // The reserved preference.
        let mut odd = message(&config(), State::Advertising);
        odd[5] = odd[5] & !0x18 | 0x10;
        let heard = HeardRouter::parse(ROUTER, 255, &odd).unwrap();
        assert_eq!(heard.preference, Preference::Medium);
    }

    #[test]
    fn what_rfc4861_has_ignored_is_refused() {
        let good = message(&config(), State::Advertising);
        let parse = |source, hops, bytes: &[u8]| HeardRouter::parse(source, hops, bytes).err();
        assert_eq!(parse(ROUTER, 254, &good), Some(HeardRouterError::HopLimit));
        let global = "2001:db8::1".parse().unwrap();
        assert_eq!(parse(global, 255, &good), Some(HeardRouterError::Source));
        for (at, byte, error) in [
            (0, 133, HeardRouterError::Header),
            (1, 1, HeardRouterError::Header),
            (17, 0, HeardRouterError::Option),
            (17, 255, HeardRouterError::Option),
        ] {
            let mut bad = good.clone();
            bad[at] = byte;
            assert_eq!(parse(ROUTER, 255, &bad), Some(error), "{at}");
        }
        for len in 0..good.len() {
            // Where an option ends, the message may.
            let short = HeardRouter::parse(ROUTER, 255, &good[..len]);
            assert!(len >= 16 && len % 8 == 0 || short.is_err(), "{len}");
        }
    }
}
