//! Names of what a network makes in the kernel.

use crate::error::ManagerError;

/// The longest name of an interface, in bytes (`IFNAMSIZ`, less the final zero).
const INTERFACE_MAX: usize = 15;
/// The longest name of a network, in bytes: it is part of a path and of the name of a table.
const NETWORK_MAX: usize = 64;

/// Checks the name of a network: letters, digits, `-` and `_`, the first a letter or a digit.
pub(super) fn check_network(name: &str) -> Result<(), ManagerError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    let fits = (1..=NETWORK_MAX).contains(&name.len());
    if fits && name.bytes().all(plain) && name.as_bytes()[0].is_ascii_alphanumeric() {
        return Ok(());
    }
    Err(ManagerError::BadName(name.to_owned()))
}

/// Checks the name of an interface, as the kernel does, and stricter: no patterns, no whitespace.
pub(super) fn check_interface(name: &str) -> Result<(), ManagerError> {
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"/:%".contains(&byte);
    let fits = (1..=INTERFACE_MAX).contains(&name.len()) && !matches!(name, "." | "..");
    if fits && name.bytes().all(plain) {
        return Ok(());
    }
    Err(ManagerError::BadName(name.to_owned()))
}

/// The text on every interface that belongs to a network.
pub(super) fn mark(network: &str) -> String {
    format!("arcbox-net {network}")
}

/// The bridge of a network.
pub(super) fn bridge(network: &str) -> String {
    interface("ab-", network)
}

/// The TAP device behind which the network's own process stands.
pub(super) fn service(network: &str) -> String {
    interface("as-", network)
}

/// The worker's end of a machine's TAP device.
pub(super) fn served(network: &str, tap: &str) -> String {
    format!("at-{:012x}", hash(&[network, tap]) >> 16)
}

/// The near end of a pair into a namespace.
pub(super) fn veth(network: &str, namespace: &str, inside: &str) -> String {
    format!("av-{:012x}", hash(&[network, namespace, inside]) >> 16)
}

/// A name for an interface of `network`: with the network's own name where that fits, else with a
/// number derived from it.
fn interface(prefix: &str, network: &str) -> String {
    if prefix.len() + network.len() <= INTERFACE_MAX {
        return format!("{prefix}{network}");
    }
    format!("{prefix}{:012x}", hash(&[network]) >> 16)
}

/// FNV-1a over several texts, a separator after each: small, and the same in every release.
fn hash(texts: &[&str]) -> u64 {
    let bytes = texts.iter().flat_map(|text| text.bytes().chain([0xff]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_fit_and_differ() {
        let long = "a-network-with-a-rather-long-name";
        for network in ["a", "twelve-bytes", "thirteen-byte", long] {
            check_network(network).unwrap();
            for name in [bridge(network), service(network), veth(network, "1", "e")] {
                check_interface(&name).unwrap();
            }
            assert_ne!(bridge(network), service(network));
        }
        assert_eq!(bridge("twelve-bytes"), "ab-twelve-bytes");
        assert_ne!(bridge("thirteen-byte"), bridge("thirteen-bytf"));
        assert_ne!(veth("a", "b", "c"), veth("a", "bc", ""));
    }

    #[test]
    fn names_that_would_lead_elsewhere_are_refused() {
        for bad in [
            "",
            ".",
            "..",
            "a/b",
            "-a",
            "a b",
            "a\n",
            &"a".repeat(65),
            "ä",
        ] {
            assert!(check_network(bad).is_err(), "{bad:?}");
        }
        for bad in ["", "..", "a/b", "a b", "tap%d", "sixteen-bytes-xx"] {
            assert!(check_interface(bad).is_err(), "{bad:?}");
        }
    }
}
