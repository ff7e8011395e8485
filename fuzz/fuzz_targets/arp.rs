//! ARP: whatever parses is written back unchanged.
#![no_main]

use libfuzzer_sys::fuzz_target;
use net_wire::arp::{ArpPacket, LEN};

fuzz_target!(|bytes: &[u8]| {
    match ArpPacket::parse(bytes) {
        Ok(arp) => {
            let mut again = [0xaa; LEN];
            arp.emit(&mut again);
            assert_eq!(again, bytes[..LEN]);
            assert_eq!(ArpPacket::parse(&again), Ok(arp));
        }
        Err(_) => assert!(bytes.len() < LEN || bytes[..6] != [0, 1, 8, 0, 6, 4]),
    }
});
