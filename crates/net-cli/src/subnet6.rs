//! What was asked for about IPv6: `--subnet6 CIDR|off`.

use std::fmt;
use std::str::FromStr;

use ipnetwork::Ipv6Network;
use net_manager::NetworkConfig;

use crate::usage::UsageError;

/// What is to be with IPv6; absent, the network has a prefix of its own choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subnet6 {
    /// None of it.
    Off,
    /// This prefix, and the gateway is the router whatever the host's routes are.
    Prefix(Ipv6Network),
}

impl Subnet6 {
    /// Puts it into the settings of a network.
    pub(crate) fn apply(self, config: &mut NetworkConfig) {
        match self {
            Self::Off => config.ipv6 = false,
            Self::Prefix(prefix) => config.subnet6 = Some(prefix),
        }
    }
}

impl FromStr for Subnet6 {
    type Err = UsageError;

    fn from_str(text: &str) -> Result<Self, UsageError> {
        if text == "off" {
            return Ok(Self::Off);
        }
        let parsed = text.contains('/').then(|| text.parse().ok()).flatten();
        parsed.map(Self::Prefix).ok_or_else(|| {
            UsageError::new(format!(
                "subnet6 `{text}` is neither `off` nor an IPv6 network such as fd00::/64"
            ))
        })
    }
}

impl fmt::Display for Subnet6 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Prefix(prefix) => write!(f, "{prefix}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn off_or_a_prefix() {
        for text in ["off", "fd00::/64", "2001:db8:1:2::/64"] {
            assert_eq!(text.parse::<Subnet6>().unwrap().to_string(), text);
        }
        for bad in ["", "on", "fd00::", "fd00::/129", "10.0.2.0/24", "OFF"] {
            let error = bad.parse::<Subnet6>().unwrap_err().to_string();
            assert!(error.contains("subnet6"), "{error}");
        }
        let mut config = NetworkConfig::default();
        Subnet6::Off.apply(&mut config);
        assert_eq!((config.ipv6, config.prefix6()), (false, None));
    }
}
