//! IPv4: lengths stay inside the buffer, a plain header is written back unchanged, and a patched
//! checksum is the recomputed one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use net_wire::checksum::Delta;
use net_wire::ipv4::{Ipv4Packet, Ipv4Repr, MIN_HEADER_LEN};

fuzz_target!(|bytes: &[u8]| {
    let Ok(packet) = Ipv4Packet::parse(bytes) else {
        return;
    };
    let (header, total) = (packet.header_len(), packet.total_len());
    assert!((MIN_HEADER_LEN..=60).contains(&header));
    assert!(header <= total && total <= bytes.len());
    assert_eq!(packet.header(), &bytes[..header]);
    assert_eq!(packet.options(), &bytes[MIN_HEADER_LEN..header]);
    assert_eq!(packet.payload(), &bytes[header..total]);
    assert_eq!(
        packet.is_fragment(),
        packet.more_fragments() || packet.fragment_offset() != 0
    );
    assert!(packet.fragment_offset() <= 65_528);
    // A packet cut anywhere before its end is refused.
    for cut in [0, MIN_HEADER_LEN - 1, header - 1, total - 1] {
        assert!(Ipv4Packet::parse(&bytes[..cut]).is_err());
    }

    let repr = Ipv4Repr {
        src: packet.src(),
        dst: packet.dst(),
        protocol: packet.protocol(),
        ttl: packet.ttl(),
        tos: packet.tos(),
        id: packet.id(),
        dont_fragment: packet.dont_fragment(),
        payload_len: packet.payload().len(),
    };
    let mut again = [0u8; MIN_HEADER_LEN];
    repr.emit(&mut again);
    let plain = header == MIN_HEADER_LEN && bytes[6] & !0x40 == 0 && bytes[7] == 0;
    if plain {
        assert_eq!(again[..10], bytes[..10]);
        assert_eq!(again[12..], bytes[12..MIN_HEADER_LEN]);
        if packet.verify_header_checksum() {
            // The two forms of zero are both right; only one is written.
            let stored = packet.header_checksum();
            let written = u16::from_be_bytes([again[10], again[11]]);
            assert!(stored == written || (stored, written) == (0xffff, 0));
        }
    }

    // Forwarding: fill in the checksum, change what a router changes, patch, compare.
    let mut whole = bytes[..total].to_vec();
    let mut copy = Ipv4Packet::parse(&mut whole[..]).unwrap();
    copy.fill_header_checksum();
    assert!(copy.verify_header_checksum());
    let (old_src, old_ttl, protocol) = (copy.src(), copy.ttl(), copy.protocol());
    let (new_src, new_ttl) = ([203, 0, 113, 9].into(), old_ttl.wrapping_sub(1));
    let delta = Delta::new_v4(old_src, new_src).plus(Delta::new16(
        u16::from_be_bytes([old_ttl, protocol]),
        u16::from_be_bytes([new_ttl, protocol]),
    ));
    let patched = delta.apply(copy.header_checksum());
    copy.set_src(new_src);
    copy.set_ttl(new_ttl);
    copy.fill_header_checksum();
    assert_eq!(patched, copy.header_checksum());
    assert_eq!(
        copy.payload_mut(),
        packet.payload(),
        "a setter wrote past the header"
    );
});
