//! Initial sequence numbers (RFC 6528) and the keyed hash of flows.

use core::hash::{Hash, Hasher};
use core::time::Duration;

use net_wire::tcp::SeqNumber;
use siphasher::sip::SipHasher13;

use super::flow::FlowKey;

/// The relay's secrets: nobody outside can choose a bucket or guess a sequence number.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    table: SipHasher13,
    sequence: SipHasher13,
}

impl Keys {
    pub(super) fn new(seed: [u8; 16]) -> Self {
        let [a, b] = [&seed[..8], &seed[8..]].map(|half| {
            half.iter()
                .fold(0u64, |word, &byte| word << 8 | u64::from(byte))
        });
        Self {
            table: SipHasher13::new_with_keys(a, b),
            sequence: SipHasher13::new_with_keys(b ^ 0x5eed_0000_0000_0001, a),
        }
    }

    /// Where a flow is in the table.
    pub(super) fn bucket(&self, key: &FlowKey) -> u64 {
        let mut hasher = self.table;
        key.hash(&mut hasher);
        hasher.finish()
    }

    /// ISN = M + F(localip, localport, remoteip, remoteport, secretkey), with M a clock of 4 us
    /// (RFC 6528, section 3).
    pub(super) fn isn(&self, key: &FlowKey, now: Duration) -> SeqNumber {
        let mut hasher = self.sequence;
        key.hash(&mut hasher);
        SeqNumber((hasher.finish() as u32).wrapping_add((now.as_micros() / 4) as u32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc6528_sequence_numbers_rise_per_flow_and_differ_between_flows() {
        let keys = Keys::new([7; 16]);
        let key = |port| FlowKey {
            guest: ([10, 0, 0, 2], port).into(),
            remote: ([192, 0, 2, 1], 80).into(),
        };
        let first = keys.isn(&key(1000), Duration::ZERO);
        assert_eq!(
            keys.isn(&key(1000), Duration::from_micros(400))
                .since(first),
            100
        );
        assert_ne!(keys.isn(&key(1001), Duration::ZERO), first);
        assert_ne!(Keys::new([8; 16]).isn(&key(1000), Duration::ZERO), first);
    }
}
