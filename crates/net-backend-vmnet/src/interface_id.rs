//! Identities of interfaces and networks: UUIDs (RFC 9562).

use std::fmt;
use std::str::FromStr;

use crate::ConfigError;

/// The identity of an interface or of an isolated network.
///
/// macOS gives an interface that comes back with the same identity the same hardware address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct InterfaceId(pub [u8; 16]);

/// Bytes in front of which the text has a hyphen.
const HYPHENS: [usize; 4] = [4, 6, 8, 10];

impl fmt::Display for InterfaceId {
    /// Lower case, with hyphens.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            let hyphen = if HYPHENS.contains(&at) { "-" } else { "" };
            write!(f, "{hyphen}{byte:02x}")?;
        }
        Ok(())
    }
}

impl FromStr for InterfaceId {
    type Err = ConfigError;

    /// Reads 32 hexadecimal digits with hyphens in the usual places.
    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let bad = || ConfigError::InterfaceId(text.to_owned());
        let mut rest = text.as_bytes();
        let mut bytes = [0; 16];
        for (at, byte) in bytes.iter_mut().enumerate() {
            if HYPHENS.contains(&at) {
                rest = rest.strip_prefix(b"-").ok_or_else(bad)?;
            }
            let (digits, tail) = rest.split_at_checked(2).ok_or_else(bad)?;
            // `from_str_radix` would take a sign.
            let digits = std::str::from_utf8(digits).map_err(|_| bad())?;
            if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return Err(bad());
            }
            *byte = u8::from_str_radix(digits, 16).map_err(|_| bad())?;
            rest = tail;
        }
        if rest.is_empty() {
            Ok(Self(bytes))
        } else {
            Err(bad())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_bytes() {
        let text = "2835e074-9892-4a79-affb-7e41d2605678";
        let id: InterfaceId = text.parse().unwrap();
        assert_eq!(id.0[..5], [0x28, 0x35, 0xe0, 0x74, 0x98]);
        assert_eq!(id.0[15], 0x78);
        assert_eq!(id.to_string(), text);
        assert_eq!(text.to_uppercase().parse(), Ok(id));
        for bad in [
            "",
            "2835e074",
            "2835e07498924a79affb7e41d2605678",
            "2835e074-9892-4a79-affb-7e41d260567",
            "2835e074-9892-4a79-affb-7e41d26056789",
            "+835e074-9892-4a79-affb-7e41d2605678",
            "2835e074-9892-4a79-affb-7e41d260\u{e9}78",
        ] {
            let error = bad.parse::<InterfaceId>();
            assert_eq!(error, Err(ConfigError::InterfaceId(bad.into())), "{bad}");
        }
    }
}
