//! Hardware addresses for guests that bring none: locally administered and stable for a name.

use net_wire::MacAddr;

/// The address for `name` on `network`: the same every time, so that a guest keeps its lease over
/// a restart. Locally administered unicast (IEEE 802, section 8.4).
pub fn mac_for(network: &str, name: &str) -> MacAddr {
    let mut bytes = [0u8; 6];
    bytes.copy_from_slice(&fnv1a(network, name).to_be_bytes()[..6]);
    bytes[0] = bytes[0] & !0x01 | 0x02;
    MacAddr(bytes)
}

/// FNV-1a over both names: small and stable over releases, which the standard library's hashers
/// do not promise. Nothing hostile chooses these names.
pub(crate) fn fnv1a(network: &str, name: &str) -> u64 {
    let bytes = network.bytes().chain([0xff]).chain(name.bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    // The high bits of FNV change last; mix them.
    (hash ^ hash >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn stable_local_unicast_and_distinct() {
        assert_eq!(mac_for("net", "web"), mac_for("net", "web"));
        assert_ne!(mac_for("net", "web"), mac_for("ne", "tweb"));
        let all: HashSet<_> = (0..10_000)
            .map(|n| mac_for("net", &format!("guest{n}")))
            .collect();
        assert_eq!(all.len(), 10_000);
        assert!(all.iter().all(|mac| mac.is_local() && mac.is_unicast()));
    }
}
